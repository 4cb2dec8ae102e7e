"""Translation of library errors, which name arguments, into options of the command line."""

import re
from typing import Any

import click

from cascjax.errors import CascjaxError

OPTIONS = {"checkpoint": "--out", "level": "--noise"}
"""Options by name of the argument, where the names differ."""

_VALUE = r"(?P<value>'[^']*'|\"[^\"]*\"|[\w.,+-]*\w|\.\.\.)"


class Command(click.Command):
    """A command whose errors name options."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise
        except CascjaxError as error:
            raise CascjaxError(translate(str(error), self)) from error


def translate(message: str, command: click.Command) -> str:
    """Return a message in which arguments are replaced by the options of a command.

    `name=value` becomes `--name value`, and `name=True` `--name`. A name alone is replaced if
    it has an underscore, starts the message before a verb, or follows "needs".

    Example:
      >>> command = click.Command("compare", params=[click.Option(["--resume"], is_flag=True)])
      >>> translate("out holds an unfinished run: resume it with resume=True", command)
      'out holds an unfinished run: resume it with --resume'
    """
    options = dict(OPTIONS)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name:
            options[parameter.name] = parameter.opts[-1]
    names = "|".join(sorted(options, key=len, reverse=True))

    def with_value(match: re.Match[str]) -> str:
        option, value = options[match["name"]], match["value"].strip("'\"")
        return option if value == "True" else f"{option} {value}"

    message = re.sub(rf"(?<![\w'-])(?P<name>{names})={_VALUE}", with_value, message)
    plain = "|".join(name for name in options if "_" in name)
    if plain:
        message = re.sub(rf"(?<![\w'-])({plain})(?![\w'=])", lambda m: options[m[1]], message)
    message = re.sub(rf"(?<= needs )({names})(?=,|$)", lambda m: options[m[1]], message)
    return re.sub(rf"^({names})(?= (must|needs?|cannot)\b)", lambda m: options[m[1]], message)
