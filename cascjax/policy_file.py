"""The file format of policies.

JSON with the fields `format`, `version`, `checksum` (SHA-256 of the canonical JSON of all other
fields), `library` (the version that wrote the file), `strategy` (name and options) and the fields
of `cascjax.policy.Policy`, arrays as lists. Numbers have all their digits, so that a loaded policy
decides like the saved one.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from cascjax import __version__
from cascjax.data.codec import from_json, to_json
from cascjax.data.files import one_line
from cascjax.errors import CascjaxError, unknown_name
from cascjax.estimators.registry import load_model
from cascjax.search.rules import LARGEST, Fitted, Rule
from cascjax.strategies import STRATEGIES, Strategy

FORMAT, VERSION = "cascjax-policy", 1

_OLD_NAMES = {"recipe": "feature_spec", "trust": "sigma_scale"}
"""Fields of the objects `learned` and `record`, as earlier versions named them."""

_WAY_OUT = "bring a file that cascjax.fit wrote, or refit the policy"


@dataclass(frozen=True)
class Source:
    """Where the estimates of a table's queries come from.

    Attributes:
        kind: "supplied" by the table; "noisy", the truth under noise; the "truth" itself; or
            "learned" from a table, see `cascjax.policy.Policy`.
        noise: the four sigmas of noisy estimates, see `cascjax.estimators.noisy`.
        seed: of the noise or the folds, and of the split where the table has none.
    """

    kind: Literal["supplied", "noisy", "truth", "learned"] = "supplied"
    noise: tuple[float, float, float, float] | None = None
    seed: int = 0

    def __post_init__(self):
        if self.noise is not None and not (len(self.noise) == 4 and min(self.noise) >= 0):
            raise CascjaxError("'noise' must be four non-negative numbers; refit the policy")
        if not 0 <= self.seed < 2**32:
            raise CascjaxError(f"'seed' must be from 0 to 4294967295, not {self.seed}")


class _StrategyContent(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    options: dict[str, Any]


class _RuleContent(msgspec.Struct, forbid_unknown_fields=True):
    parameters: np.ndarray
    weights: np.ndarray
    prices: np.ndarray | None
    fitted: Fitted | None


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    """The fields of a policy file, as JSON has them."""

    library: str
    strategy: _StrategyContent
    models: tuple[str, ...]
    costs: tuple[str, ...]
    cost_units: tuple[str, ...]
    rule: _RuleContent
    group_rules: dict[str, _RuleContent]
    source: Source
    sigma: np.ndarray
    mean_costs: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    fingerprint: str
    record: dict[str, Any]
    learned: dict[str, Any] | None = None


def text(policy: Mapping[str, Any]) -> str:
    """Return the content of the file of a policy, given its fields by name."""
    strategy, learned = policy["strategy"], policy["learned"]
    content = {"format": FORMAT, "version": VERSION, "library": policy["version"]}
    content |= {"strategy": {"name": strategy.name, "options": to_json(strategy)}}
    rest = _Content.__struct_fields__[2:]
    content |= {name: to_json(policy[name]) for name in rest if name != "learned"}
    if learned is not None:
        content["learned"] = learned.to_json()
    content["checksum"] = checksum(content)
    learned = content.pop("learned", None)
    found = json.dumps(content, indent=1, allow_nan=False)
    if learned is not None:
        # Weights are many: not one line each.
        line = json.dumps(learned, separators=(",", ":"), allow_nan=False)
        found = found.removesuffix("\n}") + f',\n "learned": {line}\n}}'
    return found + "\n"


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the fields of the policy in a file, by name.

    Raises:
        CascjaxError: the file is missing or damaged, is not a policy, has another version of the
            format, or a field is missing, unknown or of the wrong type.
    """
    if Path(path).is_dir():
        raise CascjaxError(f"cannot read {path}: it is a folder; name a file")
    with one_line(f"cannot read {path}"):
        data = Path(path).read_bytes()
    try:
        content = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise CascjaxError(f"{path} is not a policy: it is not valid JSON; {_WAY_OUT}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CascjaxError(f"{path} is not a policy; {_WAY_OUT}")
    version, library = content.get("version"), str(content.get("library"))[:20]
    if type(version) is not int or version != VERSION:
        raise CascjaxError(
            f"{path} has version {version!r:.20} of the policy format, and cascjax {__version__}"
            f" reads version {VERSION}: refit the policy, or use cascjax {library}, which wrote it"
        )
    if content.pop("checksum", None) != checksum(content):
        raise CascjaxError(
            f"{path} is damaged: its checksum does not match its content; restore the file, or"
            " refit the policy"
        )
    try:
        return _fields(content)
    except CascjaxError as error:
        raise CascjaxError(f"{path}: {error}") from error


def _fields(content: dict[str, Any]) -> dict[str, Any]:
    del content["format"], content["version"]
    for name in ("learned", "record"):
        if isinstance(held := content.get(name), dict):
            content[name] = {_OLD_NAMES.get(key, key): value for key, value in held.items()}
    checked = from_json(content, _Content, "policy")
    found = {name: getattr(checked, name) for name in _Content.__struct_fields__}
    found["version"] = found.pop("library")
    found["strategy"] = _strategy(checked.strategy)
    found["rule"] = _rule(checked.rule)
    found["group_rules"] = {name: _rule(rule) for name, rule in checked.group_rules.items()}
    if (learned := checked.learned) is not None:
        found["learned"] = load_model(learned)
    return found


def _rule(content: _RuleContent) -> Rule:
    arrays = (content.parameters, content.weights, content.prices)
    if len({len(array) for array in arrays if array is not None}) > 1:
        raise CascjaxError("parameters, weights and prices of a rule must have one row per setting")
    return Rule(content.parameters, content.weights, content.prices, content.fitted)


def _strategy(content: _StrategyContent) -> Strategy:
    name, options = content.name, content.options
    if name not in STRATEGIES:
        raise unknown_name("strategy", name[:40], STRATEGIES)
    if any(isinstance(value, int) and value > LARGEST for value in options.values()):
        raise CascjaxError(f"an option of strategy {name!r} is above {LARGEST}; refit the policy")
    return from_json(options, STRATEGIES[name], f"strategy {name}")


def checksum(content: dict[str, Any]) -> str:
    """Return the checksum of a policy file's other fields."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
