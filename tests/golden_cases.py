"""Golden numbers of the code before its redesign, and the calls that they belong to.

golden.json was written by a script that runs on that code only: `git show d48beb6:` and
`tests/golden/record.py`. It keeps old terms: "area" is the AUC, "trust" the sigma scale,
"learner" the estimator, a "world" a synthetic dataset.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cascjax
from cascjax import synthetic
from cascjax.data import from_arrow
from cascjax.data.table import Table

HERE = Path(__file__).parent / "golden"
DATA = Path(__file__).parents[2] / "shared" / "data"

CASES: dict[str, Any] = json.loads((HERE / "golden.json").read_text())["cases"]
"""Inputs and outputs by name."""


def named(call: str, slow: Any = lambda name: False) -> list[Any]:
    """Return the names of the cases of a call as test parameters, some of them marked slow."""
    names = [name for name, case in CASES.items() if case["input"]["call"] == call]
    return [pytest.param(n, marks=pytest.mark.slow) if slow(n) else n for n in names]


def dataset(spec: Mapping[str, Any]) -> Table:
    """Return the table of a case."""
    return _dataset(json.dumps(spec))


@functools.cache
def _dataset(text: str) -> Table:
    spec = json.loads(text)
    if ("shared" in spec or "routerbench" in spec) and not DATA.is_dir():
        pytest.skip("the data folder ../shared/data is absent")
    if "shared" in spec:
        table = cascjax.read_table(DATA / spec["shared"])
    elif "routerbench" in spec:
        path = DATA / spec["routerbench"]
        result = cascjax.import_routerbench(path, invalid="drop", features=spec["features"])
        table = from_arrow(result.arrow, str(path))
    elif "golden" in spec:
        table = cascjax.read_table(HERE / "tables" / spec["golden"])
    else:
        made = synthetic.make_dataset(spec["n_models"], seed=0, kind=spec["world"])
        table = synthetic.sample(made, 0, spec["n"], features=True, seconds=True)
    dropped: dict[str, dict[str, Any]] = {
        "features": {"features": None, "feature_names": ()},
        "signals": {"signals": None, "signal_names": ()},
        "more_costs": {"extra_costs": {}, "extra_cost_units": ()},
    }
    for name in spec.get("without", ()):
        table = replace(table, **dropped.get(name, {name: None}))
    if "split" in spec:
        split = (np.arange(table.n_queries) % spec["split"] == 0).astype(np.int8)
        table = replace(table, split=split)
    if "models" in spec:
        names = [m if isinstance(m, str) else table.models[m] for m in spec["models"]]
        table = table.select_models(names)
    return table


def strategy(value: Any, max_depth: int | None = None) -> cascjax.Strategy:
    """Return the strategy of a name, or of [name, options]."""
    name, options = value if isinstance(value, list) else (value, {})
    if max_depth is not None and name in ("cascade-routing", "frugal"):
        options = {"max_depth": max_depth} | options
    return cascjax.strategy(name, **options)


def estimates(options: dict[str, Any], table: Table) -> Any:
    """Remove the options of estimates from those of a call, and return the estimates they mean."""
    names = {"learner": "estimator", "trust": "sigma_scale"}
    kind = options.pop("estimates", None) or ("noisy" if table.quality_ante is None else "supplied")
    noise = options.pop("noise", "low")
    learned = {
        names.get(key, key): options.pop(key)
        for key in ("learner", "folds", "cost_model", "ridge", "trust")
        if key in options
    }
    if kind == "learned":
        return cascjax.Learned(**learned)
    if kind == "noisy":
        return cascjax.Noisy(tuple(noise) if isinstance(noise, list) else noise)
    return cascjax.Supplied()


def check(value: Any, golden: Any, name: str, rtol: float = 1e-6) -> None:
    """Check numbers, or nested numbers, against golden ones."""
    np.testing.assert_allclose(
        np.asarray(value, float), np.asarray(golden, float), rtol, atol=1e-9, err_msg=name
    )
