"""Policy files whose content was changed and signed again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cascjax.errors import CascjaxError
from cascjax.policy import load_policy
from cascjax.policy_file import checksum

Change = Callable[[dict[str, Any]], Any]


def put(*place: str | int, value: Any) -> Change:
    """Return the change of one value of a file's content."""

    def change(content: Any) -> None:
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    return change


def assert_refused(path: Path, text: str, change: Change, words: str) -> None:
    """Assert that the text of a policy is read, and after a change refused in one line."""
    for each in (lambda content: None, change):
        content = json.loads(text)
        del content["checksum"]
        each(content)
        # An infinite number is written as one beyond all floats.
        signed = json.dumps(content | {"checksum": checksum(content)}).replace("Infinity", "1e999")
        path.write_text(signed)
        if each is not change:
            load_policy(path)
    with pytest.raises(CascjaxError, match=words) as error:
        load_policy(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
