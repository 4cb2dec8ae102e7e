"""Errors a user can fix, and the translation of other errors into one line."""

import difflib
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from cascjax.words import counted, plain


class CascjaxError(ValueError):
    """Invalid input; the message is one line that says what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 2.

    Example:
      >>> try:
      ...     raise CascjaxError("logs.arrow: column 'cost' is missing")
      ... except ValueError as error:
      ...     print(error)
      logs.arrow: column 'cost' is missing
    """


class RefusedError(CascjaxError):
    """A request that these rows cannot answer; repeating it is refused again."""


_WIDTH = 60  # Characters of a known name in a message
_LISTED = 600  # Characters of all of them


def unknown_name(kind: str, name: str, known: Iterable[str]) -> CascjaxError:
    """Return the error for a `name` that is not among the `known` ones, suggesting the nearest.

    Names from files may be whole lines: long names are cut, and of many only the first are listed.
    """
    names = [plain(each if len(each) <= _WIDTH else f"{each[:_WIDTH]}...") for each in known]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    listed = ", ".join(names)
    if len(listed) > _LISTED:
        count = listed[:_LISTED].count(", ")
        listed = f"{', '.join(names[:count])} and {len(names) - count:,} more"
    return CascjaxError(f"unknown {kind} {name!r}{hint}; known: {listed}")


def check_name(kind: str, name: Any, known: Collection[str]) -> None:
    """Refuse a name that is not among the known ones, or is no string."""
    if not isinstance(name, str) or name not in known:
        raise unknown_name(kind, f"{name!s:.40}", known)


def too_few(n_queries: int) -> str:
    """Return the words "2 queries are too few", for any number of queries."""
    return f"{counted(n_queries, 'query is', 'queries are')} too few"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without errno and file name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.splitlines()[0]
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def one_line(action: str) -> Iterator[None]:
    """Turn errors of the system and of pyarrow into one line: `action`, then the reason."""
    try:
        yield
    except CascjaxError:
        raise
    except Exception as error:
        system = isinstance(error, OSError | UnicodeError | OverflowError | MemoryError)
        if not system and type(error).__module__ != "pyarrow.lib":  # importing it takes long
            raise
        raise CascjaxError(f"{action}: {first_line(error)}") from error


def print_note(text: str) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr)
