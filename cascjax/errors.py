"""The one error a user can fix, and the nearest-name hint its messages share."""

import difflib
from collections.abc import Iterable

from cascjax.words import counted


class CascjaxError(ValueError):
    """Bad input: one line that names the file, row, column or argument, and the way out.

    The command line prints it without a traceback and exits with code 2.
    """


class RefusedError(CascjaxError):
    """What was asked cannot be had of these rows: asked again, it would be refused again."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> CascjaxError:
    """Error for a `name` not among the `known` ones, suggesting the nearest."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return CascjaxError(f"unknown {kind} {name!r}{hint}; known: {', '.join(names)}")


def too_few(n_queries: int) -> str:
    """The words "2 queries are too few", of any number."""
    return f"{counted(n_queries, 'query is', 'queries are')} too few"
