"""The file format of policies.

JSON with the fields `format`, `version`, `checksum` (SHA-256 of the canonical JSON of all other
fields), `library` (the version that wrote the file), `strategy` (name and options) and the fields
of `cascjax.policy.Policy`, arrays as lists; a rule's setting that stands for model k alone, from 0,
begins with -1e30 (k + 1). Numbers have all their digits, so that a loaded policy
decides like the saved one.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cascjax import __version__
from cascjax.data.codec import from_json, to_json
from cascjax.data.files import one_line
from cascjax.errors import CascjaxError, check_name
from cascjax.estimators.registry import load_model
from cascjax.estimators.specs import ESTIMATES, EstimatesSpec
from cascjax.search.rules import LARGEST, Fitted, Rule
from cascjax.strategies import STRATEGIES, Strategy

FORMAT, VERSION = "cascjax-policy", 3

_OLD_NAMES = {"recipe": "feature_spec", "trust": "sigma_scale", "learner": "estimator"}
"""Fields of the objects `learned` and `record`, by their names in version 1 of the format."""

_WAY_OUT = "bring a file that cascjax.fit wrote, or refit the policy"


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
    estimates: dict[str, Any] | None
    seed: int
    sigma: np.ndarray
    mean_costs: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    fingerprint: str
    record: dict[str, Any]
    learned: dict[str, Any] | None = None


def to_content(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of the file of a policy, given its fields by name."""
    strategy, learned, spec = policy["strategy"], policy["learned"], policy["estimates_spec"]
    # An estimator of the caller's own has no JSON: the policy decides without it.
    written = {
        "library": policy["version"],
        "strategy": {"name": strategy.name, "options": to_json(strategy)},
        "estimates": spec.to_json() if spec is not None and spec.kind in ESTIMATES else None,
        "learned": None if learned is None else learned.to_json(),
    }
    content: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    for name in _Content.__struct_fields__:
        content[name] = written[name] if name in written else to_json(policy[name])
    if learned is None:
        del content["learned"]
    return content | {"checksum": checksum(content)}


def to_text(content: dict[str, Any]) -> str:
    """Return the text of a policy's file, one line per number except for learned weights."""
    head = {name: value for name, value in content.items() if name != "learned"}
    text = json.dumps(head, indent=1, allow_nan=False)
    if "learned" in content:
        line = json.dumps(content["learned"], separators=(",", ":"), allow_nan=False)
        text = text.removesuffix("\n}") + f',\n "learned": {line}\n}}'
    return text + "\n"


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the fields of the policy in a file, by name."""
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
    if type(version) is not int or not 1 <= version <= VERSION:
        raise CascjaxError(
            f"{path} has version {version!r:.20} of the policy format, and cascjax {__version__}"
            f" reads versions up to {VERSION}: refit the policy, or use cascjax {library}, which"
            " wrote it"
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
    del content["format"]
    if content.pop("version") == 1:
        content = _from_version_1(content)
    checked = from_json(content, _Content, "policy")
    policy = {name: getattr(checked, name) for name in _Content.__struct_fields__}
    policy["version"] = policy.pop("library")
    policy["estimates_spec"] = _spec(policy.pop("estimates"))
    policy["strategy"] = _strategy(checked.strategy)
    policy["rule"] = _rule(checked.rule)
    policy["group_rules"] = {name: _rule(rule) for name, rule in checked.group_rules.items()}
    if (learned := checked.learned) is not None:
        policy["learned"] = load_model(learned)
    return policy


def _from_version_1(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a file of version 1 as version 2 has it."""
    for name in ("learned", "record"):
        if isinstance(held := content.get(name), dict):
            content[name] = {_OLD_NAMES.get(key, key): value for key, value in held.items()}
    source, record = content.pop("source", None), content.get("record")
    if not isinstance(source, dict) or not isinstance(record, dict):
        raise CascjaxError("'source' and 'record' must be objects; refit the policy")
    kind, estimates = source.get("kind"), {"kind": source.get("kind")}
    if kind == "noisy":
        estimates["level"] = source.get("noise") or "low"
    if kind == "learned":
        names = ("estimator", "folds", "cost_model", "ridge", "sigma_scale")
        estimates |= {name: record[name] for name in names if name in record}
    oracle = kind == "truth"  # the oracle's strategy says so itself
    return content | {"estimates": None if oracle else estimates, "seed": source.get("seed")}


def _spec(content: dict[str, Any] | None) -> EstimatesSpec | None:
    if content is None:
        return None
    values = dict(content)
    kind = values.pop("kind", None)
    check_name("kind of estimates", kind, ESTIMATES)
    return from_json(values, ESTIMATES[kind], "estimates")


def _rule(content: _RuleContent) -> Rule:
    arrays = (content.parameters, content.weights, content.prices)
    if len({len(array) for array in arrays if array is not None}) > 1:
        raise CascjaxError("parameters, weights and prices of a rule must have one row per setting")
    return Rule(content.parameters, content.weights, content.prices, content.fitted)


def _strategy(content: _StrategyContent) -> Strategy:
    name, options = content.name, content.options
    check_name("strategy", name, STRATEGIES)
    if any(isinstance(value, int) and value > LARGEST for value in options.values()):
        raise CascjaxError(f"an option of strategy {name!r} is above {LARGEST}; refit the policy")
    return from_json(options, STRATEGIES[name], f"strategy {name}")


def checksum(content: dict[str, Any]) -> str:
    """Return the checksum of a policy file's other fields."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
