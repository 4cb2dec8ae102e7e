# type: ignore
# This is written against the code of commit 4552c74, and does not run with later code.
"""Golden numbers: what the code of commit 4552c74 says, call by call.

    JAX_PLATFORMS=cpu python tests/golden/record.py [NAME ...]

Each case says in words of JSON what was called on what (see `dataset` and `call`), so that a test
can make the same call of later code and hold its numbers to those in golden.json. A name is a case
or the beginning of one's name; by default all are recorded. What was recorded before and is not
named stays. `seconds` is the wall time of a case, most of it compilation, on two shared cores.

Cases "tables" and "policies" write the files of tests/golden/tables and tests/golden/policies.
Nothing of the shared data is kept here but numbers worked out from it.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from cascjax.estimators.pieces import noise_keys, normals
from cascjax.expected_max import expected_max, supermodel_gains, supermodel_values
from cascjax.io import from_arrow
from cascjax.io.stream import write_parts
from cascjax.resampling import key_of, weights
from cascjax.table import Table

import cascjax
from cascjax import worlds
from cascjax.evaluation import Mean
from cascjax.metrics import area, calibration, scores
from cascjax.metrics import budgets as default_budgets
from cascjax.strategies import reservation_value

HERE = Path(__file__).parent
OUT, TABLES, POLICIES = HERE / "golden.json", HERE / "tables", HERE / "policies"
DATA = next(
    (up / "shared" / "data" for up in HERE.parents if (up / "shared" / "data").is_dir()), HERE
)

Spec = dict[str, Any]


def plain(of: Any) -> Any:
    """As JSON can hold it; float32 in as few digits as tell it from other float32."""
    if isinstance(of, np.ndarray | np.generic | jax.Array):
        array = np.asarray(of)
        if array.dtype == np.float32:
            array = np.array([float(str(x)) for x in array.ravel()]).reshape(array.shape)
        return array.tolist()
    if isinstance(of, Mean):
        return [of.value, of.low, of.high]
    if is_dataclass(of) and not isinstance(of, type):
        return {f.name: plain(getattr(of, f.name)) for f in fields(of)}
    if isinstance(of, Mapping):
        return {str(name): plain(value) for name, value in of.items()}
    if isinstance(of, tuple | list):
        return [plain(value) for value in of]
    return of


# What a call is made on.


def dataset(spec: Spec) -> Table:
    """The table that a case's "dataset" says.

    One of:
        shared: a table of the shared data, by its file name.
        routerbench: an import of a file of the shared data (bad rows dropped), with `features` or
            without; `without` leaves columns out afterwards.
        world: a synthetic world of a kind and n_models, seed 0 both times, n rows, with features
            and seconds; `without` leaves columns out, `split` k puts row i in the fit split where
            i % k > 0 (by default there is none).
        golden: a table of tests/golden/tables.
    `models` picks some, by name or by place.
    """
    if "shared" in spec:
        table = cascjax.read_table(DATA / spec["shared"])
    elif "routerbench" in spec:
        path = DATA / spec["routerbench"]
        found = cascjax.import_routerbench(path, on_bad="drop", features=spec["features"])
        table = from_arrow(found.arrow, str(path))
    elif "golden" in spec:
        table = cascjax.read_table(TABLES / spec["golden"])
    else:
        table = worlds.sample(
            worlds.make_world(spec["n_models"], seed=0, kind=spec["world"]),
            0, spec["n"], features=True, seconds=True,
        )  # fmt: skip
    empty: dict[str, Any] = {
        "features": {"features": None, "feature_names": ()},
        "signals": {"signals": None, "signal_names": ()},
        "more_costs": {"more_costs": {}, "more_cost_units": ()},
    }
    for name in spec.get("without", ()):
        table = replace(table, **empty.get(name, {name: None}))
    if "split" in spec:
        split = (np.arange(table.n_queries) % spec["split"] == 0).astype(np.int8)
        table = replace(table, split=split)
    if "models" in spec:
        names = [m if isinstance(m, str) else table.models[m] for m in spec["models"]]
        table = table.select_models(names)
    return table


def strategies(of: Any) -> Any:
    """Names as they are; [name, options] as that strategy with these options."""
    if isinstance(of, list):
        if len(of) == 2 and isinstance(of[1], dict):
            return cascjax.strategy(of[0], **of[1])
        return [strategies(one) for one in of]
    return of


# What is kept of what a call gives.


def of_study(study: cascjax.Study, points: bool = False) -> Any:
    """Ran and answered are kept of the second and the last but one budget.

    With `points` so are the intervals. Reach is kept where it is not 0 throughout, and trust where
    it is not 1.
    """
    kept = {}
    for f in study.frontiers:
        at = [1, len(f.budget) - 2]
        kept[f.strategy] = {
            "area": f.area, "cost": f.cost, "quality": f.quality, "gamma": f.gamma,
            "parameters": f.parameters, "ran": f.ran[at], "answered": f.answered[at],
        }  # fmt: skip
        if f.reach.any():
            kept[f.strategy]["reach"] = f.reach
        if f.trust != 1:
            kept[f.strategy]["trust"] = f.trust
        if f.scores:
            kept[f.strategy]["scores"] = f.scores
        if f.area_interval is not None:
            assert f.cost_interval is not None
            assert f.quality_interval is not None
            kept[f.strategy]["area_interval"] = f.area_interval
        if f.area_interval is not None and points:
            kept[f.strategy]["quality_interval"] = f.quality_interval[at]
            kept[f.strategy]["cost_interval"] = f.cost_interval[at]
    found = {
        "models": study.models, "n_fit": study.n_fit, "n_evaluate": study.n_evaluate,
        "budget": study.frontiers[0].budget, "single_cost": study.single_cost,
        "single_quality": study.single_quality, "strategies": kept,
    }  # fmt: skip
    if study.difference is not None:
        assert study.difference_interval is not None
        # The first row of the matrix is of the first strategy above each; the rest follows.
        found["difference_first_row"] = study.difference[0]
        above = np.triu_indices(len(study.frontiers), 1)
        found["difference_interval_upper"] = study.difference_interval[above]
    return plain(found)


def of_policy(policy: cascjax.Policy) -> Any:
    found = {
        "strategy": policy.strategy.name, "sigma": policy.sigma, "rule": policy.rule,
    }  # fmt: skip
    if len(policy.costs) > 1:
        found["mean_costs"] = policy.mean_costs
    if policy.group_rules:
        found["group_rules"] = policy.group_rules
    if policy.corrected:
        found |= {"scale": policy.scale, "offset": policy.offset}
    if "trust" in policy.record:
        found["trust"] = policy.record["trust"]
    return plain(found)


def of_evaluation(found: cascjax.Evaluation, rows: int) -> Any:
    """Queries by themselves are kept of the first `rows`, and the sums of all.

    A mean is [value, low, high]; groups, where some have rules of their own, [n, quality, costs].
    """
    kept = {
        "total": found.total, "ran": found.ran, "answered": found.answered, "depth": found.depth,
        "costs": found.costs, "hull_quality": found.hull_quality, "met": found.met(),
    }  # fmt: skip
    if len(found.rules) > 1:
        kept["rules"] = found.rules
        kept["groups"] = {
            name: [of.n, of.quality.value, *(c.value for c in of.cost)]
            for name, of in found.groups.items()
        }
    if len(found.rows):
        kept["first"] = {
            "rows": found.rows[:rows], "quality": found.quality[:rows],
            "cost": found.cost[:, :rows], "steps": found.steps[:rows],
            "answer": found.answer[:rows],
        }  # fmt: skip
        kept["steps_mean"] = found.steps.mean()
        kept["answer_counts"] = np.bincount(found.answer, minlength=len(found.models))
    return plain(kept)


def of_diagnosis(found: cascjax.Diagnosis) -> Any:
    kept = plain(replace(found, settings={}))
    del kept["settings"], kept["notes"]
    for seen in ("ante", "post"):
        for one in kept[seen]["reliability"]:
            for name in ("estimate", "quality", "low", "high", "count"):
                del one[name]
    return kept


def of_tuning(found: cascjax.Tuning) -> Any:
    tuned = found.tuned
    return plain({
        "budgets": found.budgets, "multiplier": tuned.multiplier, "settings": tuned.settings,
        "scale": tuned.scale, "offset": tuned.offset, "candidates": tuned.candidates,
        "chosen": tuned.chosen, "folds": tuned.folds, "n_queries": tuned.n_queries,
        "area": {f.strategy: f.area for f in found.study.frontiers},
        "area_interval": {f.strategy: f.area_interval for f in found.study.frontiers},
        "cost": found.study.frontiers[-1].cost, "quality": found.study.frontiers[-1].quality,
        "difference_interval": found.study.difference_interval,
        "policy": of_policy(found.policies[len(found.policies) // 2]),
    })  # fmt: skip


# Calls.


def call(case: Spec) -> Any:
    """Makes the call that a case says, and gives what is kept of it."""
    options = dict(case.get("options", {}))
    if isinstance(options.get("noise"), list):
        options["noise"] = tuple(options["noise"])
    if "strategies" in options:
        options["strategies"] = strategies(options["strategies"])
    return CALLS[case["call"]](case | {"options": options})


def compare(case: Spec) -> Any:
    return of_study(
        cascjax.compare(
            dataset(case["dataset"]), strategies(case.get("strategies")), **case["options"]
        ),
        points=case.get("points", False),
    )


def fit(case: Spec) -> Any:
    """A fit, then `evaluate` of its policy on the same table."""
    table = dataset(case["dataset"])
    policy = cascjax.fit(table, strategies(case["strategy"]), **case["options"])
    found = cascjax.evaluate(policy, table, **case["evaluate"])
    return {"policy": of_policy(policy), "evaluation": of_evaluation(found, case["rows"])}


def tune(case: Spec) -> Any:
    table = dataset(case["dataset"])
    return of_tuning(cascjax.tune(table, strategies(case["strategy"]), **case["options"]))


def diagnose(case: Spec) -> Any:
    return of_diagnosis(cascjax.diagnose(dataset(case["dataset"]), **case["options"]))


def columns(case: Spec) -> Any:
    """Mean, sum of squares, first row and a weighted sum of every column of a synthetic table."""
    table = dataset(case["dataset"])
    found: Spec = {"models": table.models, "groups": table.groups, "cost_unit": table.cost_unit}
    found |= {"feature_names": table.feature_names, "signal_names": table.signal_names}
    found |= {"more_cost_units": table.more_cost_units}
    named = {name: getattr(table, name) for name in (
        "quality", "cost", "quality_ante", "quality_post", "quality_sigma", "cost_ante",
        "cost_post", "features", "signals", "answer", "group",
    )} | {f"cost.{name}": of for name, of in table.more_costs.items()}  # fmt: skip
    for name, of in named.items():
        if of is None:
            found[name] = None
            continue
        wide = of.astype(np.float64)
        place = np.arange(len(wide)).reshape(-1, *[1] * (wide.ndim - 1)) % 97
        found[name] = {
            "dtype": str(of.dtype), "shape": of.shape, "mean": np.nanmean(wide, axis=0),
            "by_place": np.nansum(wide * place, axis=0),
            "first": of[0, :4] if of.ndim > 1 else of[:4],
        }  # fmt: skip
    return plain(found)


def stream(case: Spec) -> Any:
    """The same call over files and in memory; `apart` is the largest relative difference."""
    table, options = dataset(case["dataset"]), case["options"]
    with tempfile.TemporaryDirectory() as folder:
        parts = Path(folder) / "parts"
        write_parts(parts, [table], table.n_queries, case["files"])
        opened = cascjax.open_stream(parts, piece_rows=case["piece_rows"])
        if case["what"] == "compare":
            asked = strategies(case["strategies"])
            one = of_study(cascjax.compare_stream(opened, asked, **options))
            other = of_study(cascjax.compare(table, asked, **options))
        else:
            asked = strategies(case["strategy"])
            of_files = cascjax.fit_stream(opened, asked, **options)
            of_table = cascjax.fit(table, asked, **options)
            one = {"policy": of_policy(of_files)}
            other = {"policy": of_policy(of_table)}
            replayed = cascjax.evaluate_stream(of_files, opened, **case["evaluate"])
            one["evaluation"] = of_evaluation(replayed, 0)
            again = cascjax.evaluate(of_files, table, **case["evaluate"])
            other["evaluation"] = of_evaluation(again, 0)
            for name in ("first", "steps_mean", "answer_counts"):
                other["evaluation"].pop(name, None)
    return {"stream": one, "apart": apart(one, other)}


def apart(one: Any, other: Any, at: str = "") -> dict[str, float]:
    """Where two JSON values lie more than 1e-9 apart, by how much; the ten that most do."""
    found: dict[str, float] = {}
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {**one, **other}:
            if name in one and name in other:
                found |= apart(one[name], other[name], f"{at}.{name}")
            else:
                found[f"{at}.{name} (only one has it)"] = np.inf
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            found |= apart(a, b, f"{at}[{i}]")
    elif isinstance(one, int | float) and isinstance(other, int | float):
        if not (one == other or (np.isnan(one) and np.isnan(other))):
            off = abs(one - other) / max(abs(one), abs(other))
            if off > 1e-9:
                found[at] = off
    elif one != other:
        found[at] = np.inf
    return dict(sorted(found.items(), key=lambda of: -of[1])[:10])


def functions(case: Spec) -> Any:
    return FUNCTIONS[case["what"]]()


def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, sigmas and costs of 6 queries x 4 models, made without a generator."""
    i, k = np.meshgrid(np.arange(6), np.arange(4), indexing="ij")
    mean = 0.5 + 0.3 * np.sin(1.7 * i + 0.9 * k)
    sigma = 0.05 + 0.25 * (1 + np.cos(0.8 * i - 1.3 * k)) / 2
    sigma[0, 0] = sigma[3, 2] = 0
    cost = 0.01 * (1 + k) * (1 + 0.3 * np.sin(i))
    return mean.astype(np.float32), sigma.astype(np.float32), cost.astype(np.float32)


def of_expected_max() -> Any:
    mean, sigma, _ = arrays()
    turn = np.array(
        [[np.cos(0.5 * (a - b)) * 0.9 ** abs(a - b) for a in range(4)] for b in range(4)]
    )
    matrix = (sigma[:, :, None] * sigma[:, None, :] * turn).astype(np.float32)
    matrix += 1e-3 * np.eye(4, dtype=np.float32)
    floor = np.float32([0.2, 0.5, 0.8]) * np.ones((6, 3), np.float32)
    m, v, c = (jax.numpy.asarray(of) for of in (mean, sigma**2, matrix))
    return plain({
        "mean": mean, "variance": sigma**2, "matrix": matrix, "floor": floor,
        "variances": expected_max(m, v),
        "variances_qmc_256": expected_max(m, v, method="qmc", samples=256),
        "matrix_1024": expected_max(m, c),
        "matrix_64": expected_max(m, c, samples=64),
        "wide": expected_max(m * 1000, v * 1e6),
        "supermodel_values_variances": supermodel_values(m, v)[:, 1:],
        "supermodel_values_matrix_max_size_2": supermodel_values(m, c, max_size=2)[:, 1:],
        "supermodel_gains_max_size_2": supermodel_gains(
            jax.numpy.asarray(floor), m, jax.numpy.asarray(sigma), max_size=2
        )[:2],
    })  # fmt: skip


def of_reservation() -> Any:
    mean, sigma, cost = arrays()
    prices = np.float32([0, 1e-3, 0.3, 1, 10, 1000])
    z = [
        reservation_value(*(jax.numpy.asarray(x) for x in (mean, sigma, p * cost))) for p in prices
    ]
    return plain({"mean": mean, "sigma": sigma, "cost": cost, "price": prices, "z": np.stack(z)})


def of_area() -> Any:
    single = np.array([1.0, 2.0, 5.0, 9.0]), np.array([0.4, 0.55, 0.5, 0.8])
    points = {
        "inside": ([1.5, 3.0, 4.0, 7.0], [0.5, 0.7, 0.65, 0.82]),
        "from below": ([0.5, 0.9, 3.0, 12.0], [0.3, 0.41, 0.7, 0.9]),
        "one": ([4.0], [0.7]),
        "ties": ([2.0, 2.0, 5.0, 5.0], [0.5, 0.6, 0.7, 0.65]),
    }
    found: Spec = {"single_cost": single[0], "single_quality": single[1], "of": {}}
    for name, (c, q) in points.items():
        cost, quality = np.array(c), np.array(q)
        ran = np.linspace(0.1, 0.9, 4 * len(c)).reshape(len(c), 4)
        answer = np.arange(12) % 4
        of_query = 0.5 + 0.5 * np.sin(np.arange(48.0)).reshape(12, 4).round(1)
        evidence = scores.Evidence(
            cost, quality, ran, *single, floor=(0.8, 0.45), ceiling=9.5,
            collapsed=scores.rci(answer, of_query, single[0]), oracle=0.85,
        )  # fmt: skip
        found["of"][name] = {
            "cost": cost, "quality": quality, "ran": ran, "area": area(cost, quality, *single),
            "scores": {n: of.of(evidence) for n, of in scores.SCORES.items()},
        }  # fmt: skip
    found["floor"], found["ceiling"], found["oracle"] = (0.8, 0.45), 9.5, 0.85
    found["rci_answer"], found["rci_quality"] = answer, of_query
    found["budgets_5"] = default_budgets(*single, 5)
    found["budgets"] = default_budgets(*single)
    return plain(found)


def of_weights() -> Any:
    rows = np.uint32([0, 1, 2, 3, 4, 1000, 123456])
    found = {f"seed {s}": np.asarray(weights(key_of(s), rows, 9)) for s in (0, 7, 1 << 40)}
    total = np.asarray(weights(key_of(0), np.arange(2048, dtype=np.uint32), 10)).sum(1)
    return plain({"rows": rows, "weights": found, "sums of rows 0 to 2047, seed 0": total})


def of_noise() -> Any:
    rows = np.array([0, 1, 2, 3, 4, 1999])
    return plain({
        "keys_seed_0": noise_keys(0), "keys_seed_5": noise_keys(5), "rows": rows,
        "normals_seed_0_k_4": normals(noise_keys(0), rows, 4),
        "normals_seed_5_k_3": normals(noise_keys(5), rows, 3),
    })  # fmt: skip


def of_calibration() -> Any:
    n = 120
    i, k = np.meshgrid(np.arange(n), np.arange(3), indexing="ij")
    estimate = (0.5 + 0.4 * np.sin(0.37 * i + k)).astype(np.float32)
    binary = ((i * 7 + k * 3) % 11 / 10 < estimate).astype(np.float32)
    real = (0.2 + 0.6 * estimate + 0.1 * np.cos(1.3 * i * (k + 1))).astype(np.float32)
    found: Spec = {"estimate": "0.5 + 0.4 sin(0.37 i + k), i < 120, k < 3, in float32"}
    found["binary"] = "((7 i + 3 k) mod 11) / 10 < estimate"
    found["real"] = "0.2 + 0.6 estimate + 0.1 cos(1.3 i (k + 1))"
    for name, quality in (("of binary", binary), ("of real", real)):
        prior = np.array([0.4, 0.5, 0.6])
        sure: Spec = {"resamples": 100, "seed": 0}
        found[name] = {
            "accuracy": calibration.accuracy(estimate, quality, prior, **sure),
            "differences_r2": calibration.differences_r2(estimate, quality),
            "pooled": calibration.pooled_differences_r2(estimate, quality, **sure),
            "correlation": calibration.correlation(estimate - quality),
            "reliability": calibration.reliability(estimate[:, 0], quality[:, 0], bins=5),
        }
    return plain(found)


FUNCTIONS: dict[str, Callable[[], Any]] = {
    "expected_max": of_expected_max,
    "reservation_value": of_reservation,
    "area and scores": of_area,
    "bootstrap weights": of_weights,
    "noise": of_noise,
    "calibration": of_calibration,
}


# Files.

SMALL: Spec = {"world": "classification", "n_models": 3, "n": 1000, "split": 3}


def tables(case: Spec) -> Any:
    """Writes the first 200 rows of `SMALL` in both formats."""
    TABLES.mkdir(exist_ok=True)
    table = dataset(case["dataset"]).take(np.arange(case["rows"]))
    for name in case["files"]:
        cascjax.write_table(TABLES / name, table)
    summary = columns({"dataset": {"golden": case["files"][0]}})
    fingerprints = {name: cascjax.policy.fingerprint(cascjax.read_table(TABLES / name))
                    for name in case["files"]}  # fmt: skip
    return {"fingerprint": fingerprints, "columns": summary}


def policies(case: Spec) -> Any:
    """Writes a policy, then replays what was read back on a table of this folder."""
    POLICIES.mkdir(exist_ok=True)
    table, options = dataset(case["dataset"]), dict(case["options"])
    if case.get("tuned"):
        found = cascjax.tune(table, case["strategy"], **options)
        policy = found.policies[len(found.policies) // 2]
    else:
        policy = cascjax.fit(table, strategies(case["strategy"]), **options)
    path = POLICIES / case["file"]
    policy.save(path)
    read, rows = cascjax.load_policy(path), dataset(case["evaluate_on"])
    again = cascjax.evaluate(read, rows, **case["evaluate"])
    kept: Spec = {"policy": of_policy(read), "evaluation": of_evaluation(again, case["rows"])}
    # What a live system is told, of the queries 0 to 7: at first, and with the cheapest run.
    rows, live = read.matched(rows), []
    for ran in (0, 1):
        run = np.zeros((8, len(read.models)), bool)
        run[:, :ran] = True
        if read.learned is None:
            believed = np.asarray(rows.quality_ante[:8]).copy()
            believed[run] = np.asarray(rows.quality_post[:8])[run]
            estimates = read.estimates(believed, run)
        else:
            estimates = read.learned_estimates(
                run, features=rows.features[:8],
                group=[rows.groups[g] for g in rows.group[:8]],
                signals=rows.signals[:8].reshape(8, len(read.models), -1),
                answers=rows.answer[:8], costs=rows.cost[:8],
            )  # fmt: skip
        more = {name: rows.more_costs[name][:8] for name in read.costs[1:]}
        group = [rows.groups[g] for g in rows.group[:8]] if read.groups else None
        chosen = read.next_model(
            estimates, run, key=np.arange(8), group=group, more_costs=more or None
        )
        live.append({"quality": estimates.quality, "next_model": np.asarray(chosen)})
    return kept | {"live": plain(live)}


CALLS: dict[str, Callable[[Spec], Any]] = {
    "compare": compare,
    "fit, evaluate": fit,
    "tune": tune,
    "diagnose": diagnose,
    "columns": columns,
    "stream": stream,
    "functions": functions,
    "tables": tables,
    "policies": policies,
}


# The cases.

FOUR = [
    "mistralai/mistral-7b-chat", "zero-one-ai/Yi-34B-Chat",
    "gpt-3.5-turbo-1106", "gpt-4-1106-preview",
]  # fmt: skip
SAMPLE = "routerbench-sample.parquet"
LEARNABLE = [
    "mixing",
    "routing",
    "thresholding",
    "frugal",
    "cascading",
    "cascade-routing",
    "pandora",
]
SIX = ["routing", "thresholding", "cascading", "cascade-routing", "pandora", "frugal"]
PRICED = ["routing", "cascading", "cascade-routing", "pandora"]
QUICK = ["mixing", "routing", "thresholding", "pandora"]


def world(kind: str, n_models: int = 4, n: int = 2000, **more: Any) -> Spec:
    return {"world": kind, "n_models": n_models, "n": n, **more}


def cases() -> dict[str, Spec]:
    """Every case by name."""
    found: dict[str, Spec] = {}

    # H. Functions.
    for what in FUNCTIONS:
        found[f"functions/{what}"] = {"call": "functions", "what": what}

    # A. The paper's implementation's tables: supplied estimates, all strategies.
    for name in ("k3-low", "k3-medium", "k3-high", "k5-low"):
        options: Spec = {"estimates": "supplied", "budgets": 8, "resamples": 100, "seed": 0}
        if name in ("k3-low", "k5-low"):
            options["scores"] = list(scores.SCORES)
        found[f"reference/{name}"] = {
            "call": "compare", "dataset": {"shared": f"reference-{name}.parquet"},
            "strategies": None, "points": True, "options": options,
        }  # fmt: skip

    # B. RouterBench.
    for level in ("low", "medium"):
        found[f"routerbench/noisy-3-{level}"] = {
            "call": "compare",
            "dataset": {"routerbench": SAMPLE, "features": None, "models": [9, 4, 5]},
            "strategies": None,
            "options": {"estimates": "noisy", "noise": level, "budgets": 6, "resamples": 100},
        }
        found[f"routerbench/noisy-11-{level}"] = {
            "call": "compare", "dataset": {"routerbench": SAMPLE, "features": None},
            "strategies": ["routing", "pandora", ["cascade-routing", {"search": "greedy"}]],
            "options": {"estimates": "noisy", "noise": level, "budgets": 6, "resamples": 100},
        }  # fmt: skip
    for text in (None, "text"):
        for learner in ("logistic", "linear", "joint"):
            ridge = 1.0 if learner == "joint" else None
            few = LEARNABLE if learner != "linear" else ["routing", "cascade-routing", "pandora"]
            found[f"routerbench/{learner}{'-text' if text else ''}"] = {
                "call": "compare",
                "dataset": {"routerbench": SAMPLE, "features": text, "models": FOUR},
                "strategies": few,
                "options": {
                    "estimates": "learned", "learner": learner, "ridge": ridge, "trust": "auto",
                    "budgets": 6, "resamples": 100,
                },
            }  # fmt: skip
    for learner in ("logistic", "joint"):
        found[f"routerbench/{learner}-trust-0.5"] = {
            "call": "compare",
            "dataset": {"routerbench": SAMPLE, "features": None, "models": FOUR},
            "strategies": ["routing", "cascade-routing", "pandora"],
            "options": {
                "estimates": "learned", "learner": learner, "trust": 0.5, "budgets": 6,
                "resamples": 100,
            },
        }  # fmt: skip

    # C. Synthetic worlds: their columns, then frontiers.
    for kind in ("judged", "routerbench", "swebench", "code-math", "classification", "open-form"):
        found[f"columns/{kind}"] = {"call": "columns", "dataset": world(kind)}
    found["columns/judged-5"] = {"call": "columns", "dataset": world("judged", 5)}
    small: Spec = {"budgets": 5, "resamples": 100, "seed": 0}
    for kind in ("judged", "code-math", "classification"):
        found[f"world/{kind}-supplied"] = {
            "call": "compare", "dataset": world(kind), "strategies": LEARNABLE,
            "options": {"estimates": "supplied", **small},
        }  # fmt: skip
        found[f"world/{kind}-noisy"] = {
            "call": "compare", "dataset": world(kind), "strategies": QUICK,
            "options": {"estimates": "noisy", "noise": [0.4, 0.2, 0.0002, 0.00005], **small},
        }  # fmt: skip
        found[f"world/{kind}-logistic"] = {
            "call": "compare", "dataset": world(kind),
            "strategies": ["routing", "cascade-routing", "pandora"],
            "options": {"estimates": "learned", "learner": "logistic", **small},
        }  # fmt: skip
    found["world/judged-5-supplied"] = {
        "call": "compare", "dataset": world("judged", 5, split=2),
        "strategies": ["routing", "cascading", ["cascade-routing", {"max_depth": 2}],
                       "pandora", "oracle"],
        "options": {"estimates": "supplied", "budgets": [0.0005, 0.001, 0.002, 0.003], "seed": 3},
    }  # fmt: skip
    for learner in ("joint", "joint-knn"):
        found[f"world/classification-{learner}"] = {
            "call": "compare", "dataset": world("classification"),
            "strategies": ["routing", "cascade-routing", "pandora"],
            "options": {"estimates": "learned", "learner": learner, **small},
        }  # fmt: skip
    for search in ("beam", "greedy"):
        found[f"world/judged-{search}"] = {
            "call": "compare", "dataset": world("judged"),
            "strategies": [
                ["cascade-routing", {"search": search, "max_depth": 3, "beam_width": 3}]
            ],
            "options": {"estimates": "supplied", **small},
        }  # fmt: skip

    # D. Policies: fitted, then replayed.
    judged, sure = world("judged"), {"resamples": 100, "seed": 0}

    def fitted(name: str, kind: Any, dataset: Spec = judged, rows: int = 4, **options: Any) -> None:
        options = {"estimates": "supplied", "seed": 0} | options
        found[f"fit/{name}"] = {
            "call": "fit, evaluate", "dataset": dataset, "strategy": kind, "options": options,
            "evaluate": sure, "rows": rows,
        }  # fmt: skip

    for kind in SIX:
        fitted(f"budget-{kind}", kind, rows=20, budget=0.001)
        fitted(f"quality-{kind}", kind, quality=0.75)
        fitted(f"confidence-{kind}", kind, budget=0.001, confidence=0.95)
    for kind in PRICED:
        # The cheapest model, which a cascade begins with, is a slow one.
        seconds = 4.6 if kind == "cascading" else 3.2
        fitted(f"costs-{kind}", kind, budget={"cost": 0.001, "seconds": seconds})
    fitted("costs-confidence-pandora", "pandora", budget={"cost": 0.001, "seconds": 3.2},
           confidence=0.95, new_queries=5000)  # fmt: skip
    fitted("seconds-routing", "routing", budget={"seconds": 2.6})
    for kind in ("routing", "pandora", "thresholding"):
        fitted(f"groups-{kind}", kind, budget=0.0008, group_budgets={"law": 0.0015, "math": 0.001})
    fitted("groups-confidence-pandora", "pandora", budget=0.0008, confidence=0.9,
           group_budgets={"law": 0.0015})  # fmt: skip
    fitted("parameter-routing", "routing", parameter=100.0)
    fitted("parameter-cascading", "cascading", parameter=[50.0, 100.0, 200.0, 400.0])
    fitted("oracle", "oracle", budget=0.001)
    fitted("mixing", "mixing", budget=0.001)
    for kind in ("pandora", "thresholding"):
        fitted(f"noisy-{kind}", kind, budget=0.001, estimates="noisy",
               noise=[0.4, 0.2, 0.0002, 0.00005])  # fmt: skip
    classes = world("classification")
    for learner in ("logistic", "joint"):
        for kind in ("routing", "cascade-routing", "pandora"):
            fitted(f"{learner}-{kind}", kind, classes, rows=20 if kind == "pandora" else 4,
                   budget=0.0002, estimates="learned", learner=learner)  # fmt: skip
    fitted("linear-pandora-confidence", "pandora", classes, budget=0.0002, confidence=0.95,
           estimates="learned", learner="linear", trust=0.5)  # fmt: skip
    fitted("logistic-costs-pandora", "pandora", budget={"cost": 0.001, "seconds": 4.0},
           estimates="learned", learner="logistic")  # fmt: skip
    fitted("joint-quality-pandora", "pandora", classes, quality=0.8, estimates="learned",
           learner="joint")  # fmt: skip

    # G. Streams beside memory.
    streamed = {"files": 4, "piece_rows": 300}
    of: dict[str, Spec] = {
        "supplied": {"estimates": "supplied"},
        "noisy": {"estimates": "noisy", "noise": [0.4, 0.2, 0.0002, 0.00005]},
        "linear": {"estimates": "learned", "learner": "linear"},
    }
    for name, estimates in of.items():
        asked = ["mixing", "routing", "cascade-routing", "pandora"]
        asked = [*asked[:2], "thresholding", "frugal", "pandora"] if name == "supplied" else asked
        found[f"stream/compare-{name}"] = {
            "call": "stream", "what": "compare", "dataset": world("judged"), **streamed,
            "strategies": asked, "options": {**estimates, **small},
        }  # fmt: skip
        # Without a split in its files, a policy of a stream is foreign to the same rows in memory.
        cut: Spec = {} if name == "supplied" else {"split": 2}
        found[f"stream/fit-{name}"] = {
            "call": "stream", "what": "fit", "dataset": world("judged", **cut), **streamed,
            "strategy": "pandora", "options": {**estimates, "budget": 0.001, "seed": 0},
            "evaluate": sure,
        }  # fmt: skip
    found["stream/fit-costs"] = {
        "call": "stream", "what": "fit", "dataset": world("judged", split=2), **streamed,
        "strategy": "routing", "evaluate": sure,
        "options": {"estimates": "supplied", "budget": {"cost": 0.001, "seconds": 3.2},
                    "confidence": 0.9},
    }  # fmt: skip

    # E. Tuning.
    for kind in ("pandora", "thresholding", "cascading"):
        found[f"tune/{kind}"] = {
            "call": "tune", "dataset": world("judged", 3, 1000), "strategy": kind,
            "options": {"estimates": "supplied", "budgets": 4, "folds": 3, "resamples": 100},
        }  # fmt: skip

    # F. Diagnosis.
    options = {"budgets": 6, "resamples": 100, "confidence": 0.9, "seed": 0}
    short = ["routing", "thresholding", "pandora"]
    found["diagnose/supplied"] = {
        "call": "diagnose", "dataset": world("classification", 3, 1000),
        "options": {"strategies": short, "estimates": "supplied", **options},
    }  # fmt: skip
    found["diagnose/logistic"] = {
        "call": "diagnose", "dataset": world("classification", 3, 1000),
        "options": {"strategies": short, "estimates": "learned", "target": 0.0, **options},
    }  # fmt: skip
    found["diagnose/joint"] = {
        "call": "diagnose", "dataset": world("classification", 3, 1000),
        "options": {"strategies": ["routing", "cascade-routing"], "estimates": "learned",
                    "learner": "joint", "target": 0.0, **options},
    }  # fmt: skip

    # Files that are to stay readable.
    files = ["small.arrow", "small.parquet"]
    found["tables"] = {"call": "tables", "dataset": SMALL, "rows": 200, "files": files}
    learned: Spec = {"estimates": "learned", "budget": 0.00008}
    noise = [0.4, 0.2, 0.0002, 0.00005]
    kept: dict[str, Spec] = {
        "supplied": {"strategy": "pandora",
                     "options": {"estimates": "supplied", "budget": 0.00008, "confidence": 0.95}},
        "noisy": {"strategy": "thresholding",
                  "options": {"estimates": "noisy", "noise": noise, "budget": 0.00008}},
        "logistic": {"strategy": "cascade-routing", "options": {**learned, "learner": "logistic"}},
        "joint": {"strategy": "pandora", "options": {**learned, "learner": "joint"}},
        "groups": {"strategy": "routing",
                   "options": {"estimates": "supplied", "budget": 0.00008,
                               "group_budgets": {"arc": 0.00006}}},
        "costs": {"strategy": "cascade-routing",
                  "options": {"estimates": "supplied",
                              "budget": {"cost": 0.00008, "seconds": 0.65}}},
        "tuned": {"strategy": "pandora", "tuned": True,
                  "options": {"estimates": "supplied", "budgets": 4, "folds": 3}},
        "frugal": {"strategy": "frugal",
                   "options": {"estimates": "supplied", "quality": 0.7}},
    }  # fmt: skip
    for name, case in kept.items():
        found[f"policies/{name}"] = {
            "call": "policies", "file": f"{name}.json", "dataset": SMALL, **case,
            "evaluate_on": {"golden": files[len(name) % 2]}, "evaluate": sure, "rows": 20,
        }  # fmt: skip
    return found


def rounded(of: Any) -> Any:
    """To 10 digits: what is held to 1e-6 needs no more, and the file is a third smaller."""
    if isinstance(of, float):
        return float(f"{of:.10g}")
    if isinstance(of, list):
        return [rounded(one) for one in of]
    return {name: rounded(one) for name, one in of.items()} if isinstance(of, dict) else of


def write(golden: Spec, out: Path) -> None:
    """A line a case; floats as in `rounded`."""
    lines = []
    for name, case in golden["cases"].items():
        case = case | {"output": rounded(case["output"])}
        lines.append(f"{json.dumps(name)}: {json.dumps(case, separators=(',', ':'))}")
    head = {name: of for name, of in golden.items() if name != "cases"}
    text = (
        json.dumps(head, indent=1).rstrip("}\n") + ',\n "cases": {\n' + ",\n".join(lines) + "\n}}\n"
    )
    json.loads(text)
    out.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--check", action="store_true", help="compare instead of recording")
    parser.add_argument("--trace", action="store_true", help="stop at a case that fails")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    out = asked.out
    every = cases()
    if asked.list:
        return print("\n".join(every))
    golden = json.loads(out.read_text()) if out.exists() else {"cases": {}}
    golden |= {
        "commit": "4552c74", "version": cascjax.__version__, "jax": jax.__version__,
        "numpy": np.__version__, "platform": jax.default_backend(),
    }  # fmt: skip
    for name, case in every.items():
        if asked.names and not any(name.startswith(of) for of in asked.names):
            continue
        start = time.perf_counter()
        try:
            given = json.loads(json.dumps(case))
            output = json.loads(json.dumps(call(given)))
        except Exception as error:  # a case that fails is said, and the others go on
            print(f"{name}: FAILED {type(error).__name__}: {error}", flush=True)
            if asked.trace:
                raise
            continue
        seconds = round(time.perf_counter() - start, 2)
        old = golden["cases"].get(name, {}).get("output")
        off = "" if old is None else f" against before: {apart(old, rounded(output))}"
        said = f" apart {output['apart']}" if case["call"] == "stream" else ""
        print(f"{name}: {seconds} s{said}{off}", flush=True)
        if asked.check:
            continue
        golden["cases"][name] = {"input": given, "seconds": seconds, "output": output}
        golden["cases"] = {n: golden["cases"][n] for n in every if n in golden["cases"]}
        write(golden, out)
    print(f"{out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
