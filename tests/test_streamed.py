"""Frontiers over streams: those of the table in memory, whatever the pieces and interrupts."""

import errno
import functools
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from cascjax import (
    CascjaxError,
    Study,
    compare,
    compare_stream,
    evaluate,
    fit,
    open_stream,
    synthetic,
)
from cascjax.cli.main import main
from cascjax.comparison_stream import asked, begun, draw, settled_by
from cascjax.data import to_arrow, write_table
from cascjax.data.source import Piece, Stream
from cascjax.data.table import Table, concatenate, mean_rows, split_rows
from cascjax.engine import passes as streamed
from cascjax.engine.cases import Case, add_up, choose_cases
from cascjax.engine.parts import discard, packed
from cascjax.engine.passes import (
    Choice,
    Job,
    Looked,
    finish,
    look,
    merge,
    piece_sums,
    settle,
    shown,
)
from cascjax.engine.processes import Processes
from cascjax.engine.run import Ledger, Run
from cascjax.estimators import Joint, noisy, supplied
from cascjax.estimators.pieces import Moments, Spread, lines, noise_keys, normals
from cascjax.evaluation import Mean
from cascjax.evaluation_stream import evaluate_stream
from cascjax.fitting_stream import fit_stream
from cascjax.policy import load_policy

K, N = 3, 4096
CUTS = (0, 1150, 2600, N)
"""Of each piece 513 to 1,024 rows are to fit on, and as many to evaluate on: few programs."""

NOISE = (0.4, 0.2, 0.0002, 0.00005)


@pytest.fixture(scope="module")
def table() -> Table:
    made = synthetic.sample(synthetic.make_dataset(K, seed=1), 0, N)
    # Not in the order of cost: the noise goes by that order, which is not known at first.
    return made.select_models([made.models[i] for i in (2, 0, 1)])


def write(folder: Path, table: Table) -> Path:
    folder.mkdir()
    for i, (start, stop) in enumerate(itertools.pairwise(CUTS)):
        suffix = "arrow" if i % 2 else "parquet"
        write_table(folder / f"{i}.{suffix}", table.take(np.arange(start, stop)))
    return folder


@pytest.fixture(scope="module")
def stream(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Stream:
    return open_stream(write(tmp_path_factory.mktemp("s") / "parts", table), piece_rows=1500)


def check_same(one: Study, other: Study, parameters: float = 0) -> None:
    assert one.models == other.models
    assert (one.n_fit, one.n_evaluate) == (other.n_fit, other.n_evaluate)
    np.testing.assert_allclose(one.single_cost, other.single_cost, rtol=1e-12)
    for mine, yours in zip(one.frontiers, other.frontiers, strict=True):
        assert mine.strategy == yours.strategy
        # Settings are found on the same rows in the same blocks.
        np.testing.assert_allclose(mine.parameters, yours.parameters, rtol=parameters)
        np.testing.assert_array_equal(mine.reach, yours.reach)
        for name in ("budget", "cost", "quality", "fit_cost", "fit_quality", "ran", "depth"):
            # Sums over other blocks: float32 over a few dozen rows, then float64.
            np.testing.assert_allclose(
                getattr(mine, name), getattr(yours, name), rtol=1e-6, atol=1e-9, err_msg=name
            )
        assert mine.auc == pytest.approx(yours.auc, rel=1e-6)


def bits(study: Study) -> list[bytes]:
    return [
        np.asarray(getattr(f, name)).tobytes()
        for f in study.frontiers
        for name in ("cost", "quality", "fit_cost", "gamma", "parameters", "ran", "auc")
    ]


QUICK = ("mixing", "routing", "thresholding", "frugal", "pandora", "oracle")
COMPILED_LONG = ("cascading", "cascade-routing")


@pytest.mark.parametrize("kind", ["supplied", "noisy"])
@pytest.mark.parametrize("names", [QUICK, pytest.param(COMPILED_LONG, marks=pytest.mark.slow)])
def test_frontiers_are_those_of_the_table(
    table: Table, stream: Stream, kind: str, names: tuple[str, ...]
) -> None:
    asked: dict[str, Any] = {"estimates": kind, "noise": NOISE, "budgets": 5, "max_depth": 2}
    check_same(compare(table, names, **asked), compare_stream(stream, names, **asked))


def test_frontiers_with_a_split_and_sigmas_of_the_files(table: Table, tmp_path: Path) -> None:
    split = (np.arange(N) % 3 == 0).astype(np.int8)
    sigma = np.random.default_rng(0).uniform(0.1, 0.4, (N, K)).astype(np.float32)
    table = replace(table, split=split, quality_sigma=sigma, cost_ante=None, cost_post=None)
    folder = write(tmp_path / "parts", table)
    write_table(folder / "1.arrow", table.take(np.arange(CUTS[1], CUTS[2] - 1)))
    write_table(folder / "1one.parquet", table.take(np.arange(CUTS[2] - 1, CUTS[2])))
    names = ["routing", "pandora"]
    asked: dict[str, Any] = {"budgets": 4, "resamples": 100}
    one, other = compare(table, names, **asked), compare_stream(folder, names, **asked)
    check_same(one, other)
    for mine, yours in zip(one.frontiers, other.frontiers, strict=True):
        # Weights go by the row among all rows, and sums of them are of float32 again.
        assert mine.cost_interval is not None
        assert mine.auc_samples is not None
        assert yours.cost_interval is not None
        assert yours.auc_samples is not None
        np.testing.assert_allclose(mine.cost_interval, yours.cost_interval, rtol=1e-5)
        np.testing.assert_allclose(mine.auc_samples, yours.auc_samples, rtol=1e-5)


def test_a_sample_meets_budgets_on_all_rows(table: Table, stream: Stream) -> None:
    names = ["mixing", "routing", "frugal", "pandora"]
    whole = compare(table, names, budgets=6, max_depth=2)
    found = compare_stream(stream, names, budgets=6, max_depth=2, sample=300)
    assert found.settings["sample"] == 300
    for mine, yours in zip(found.frontiers, whole.frontiers, strict=True):
        np.testing.assert_array_equal(mine.reach, yours.reach)
        met = mine.reach == 0
        np.testing.assert_allclose(mine.fit_cost[met], mine.budget[met], rtol=1e-12)
        # Closer than a standard error of the sample (0.02): it only chose where to look.
        assert mine.auc == pytest.approx(yours.auc, abs=2e-3)
    # Of all rows, that of routing is the mean over rows, simulated by themselves.
    routing = found.frontiers[1]
    fit, _ = split_rows(table)
    sorted_ = table.sort_models(mean_rows(table.cost, fit))
    estimates = supplied(sorted_, fit)
    for p in np.flatnonzero(routing.reach == 0):
        price = routing.parameters[p].astype(np.float32)[:, None, None]
        picked = (estimates.quality_ante - price * estimates.cost_ante)[:, fit].argmax(2)
        spent = np.take_along_axis(sorted_.cost[fit], picked.T, 1).mean(0, dtype=np.float64)
        mixed = (1 - routing.gamma[p]) * spent[0] + routing.gamma[p] * spent[1]
        assert mixed == pytest.approx(routing.budget[p], rel=1e-6)


@pytest.mark.parametrize("sample", [100, 1 << 18])
def test_shared_out_pieces_give_the_same_to_the_bit(stream: Stream, sample: int) -> None:
    job = asked(stream, ["mixing", "routing"], estimates="noisy", noise=NOISE, budgets=4,
                sample=sample)  # fmt: skip
    alone = bits(draw(job))
    for processes in (2, 3):
        shares = [stream.pieces[i::processes][::-1] for i in range(processes)]
        looked = [look(job, share) for share in shares]
        one = merge(job, *looked)
        other = merge(job, looked[-1], merge(job, *looked[:-1]))
        np.testing.assert_array_equal(one.sample.rows, other.sample.rows)
        settled = settle(job, other)
        (choices,) = choose_cases([Case(job, settled)], Run())
        in_order, found = stream.select_models(settled.models), {}
        for share in shares[::-1]:
            for piece, rows in in_order.tables(share, job.columns):
                found[piece.index] = piece_sums(job, settled, choices, piece, rows)
        (whole,) = add_up((found[index] for index in sorted(found)), 1)
        study = Study(tuple(finish(job, settled, choices, whole)), (), "", np.zeros(0),
                      np.zeros(0), 0, 0)  # fmt: skip
        assert bits(study) == alone


def test_the_sample_does_not_depend_on_pieces(table: Table, stream: Stream) -> None:
    folder = Path(stream.name)
    rows = []
    for piece_rows in (137, 1100, 100_000):
        job = asked(open_stream(folder, piece_rows=piece_rows), ["routing"], sample=50)
        looked = look(job, job.stream.pieces)
        rows.append(looked.sample.rows)
        assert looked.sample.table is not None
        np.testing.assert_array_equal(looked.sample.table.cost, table.cost[rows[0]])
    assert all((of == rows[0]).all() for of in rows)
    fit, _ = split_rows(table)
    assert np.isin(rows[0], fit).all()
    assert isinstance(looked, Looked)


@pytest.mark.parametrize(("seed", "n", "k"), [(0, 70_000, 2), (7, 100, 11), (2**32 - 1, 33, 3)])
def test_noise_is_that_of_jax_to_the_bit(seed: int, n: int, k: int) -> None:
    keys = jax.random.split(jax.random.key(seed), 4)
    every = np.stack([np.asarray(jax.random.normal(key, (n, k))) for key in keys])
    for rows in (np.arange(n), np.arange(n // 3, n // 2), np.arange(n)[::-7]):
        found = normals(noise_keys(seed), rows, k)
        np.testing.assert_array_equal(found.view(np.int32), every[:, rows].view(np.int32))


def test_regressions_of_pieces_are_those_of_all_rows(table: Table) -> None:
    level = (0.6, 0.3, 100.0, 50.0)
    order = np.argsort(table.cost.mean(0))
    whole = noisy(table.select_models([table.models[i] for i in order]), jax.random.key(5), level)
    noise = normals(noise_keys(5), np.arange(N), K)
    for truth, at, sides in (
        (table.quality, 0, (whole.quality_ante, whole.quality_post)),
        (table.cost, 2, (whole.cost_ante, whole.cost_post)),
    ):
        parts = [Moments.of(*(of[a:b] for of in (truth, noise[at], noise[at + 1])))
                 for a, b in itertools.pairwise(CUTS)]  # fmt: skip
        joined = parts[2].joined(parts[0].joined(parts[1])).in_order(order)
        *found, sigma = lines(joined, (level[at], level[at + 1]))
        for line, of, side in zip(found, noise[at : at + 2], sides, strict=True):
            # Costs of 1e-3 under a noise of 100 keep 11 digits in float64, float32 has 7.
            np.testing.assert_allclose(line.predicted(truth[:, order], of), side, rtol=2e-7)
        if not at:
            np.testing.assert_allclose(sigma, whole.sigma[0], rtol=1e-6)


def test_a_spread_far_from_zero_keeps_its_digits() -> None:
    draw = np.random.default_rng(0)
    before = (1e4 + draw.normal(size=(999, 2))).astype(np.float32)
    after, rows = np.zeros_like(before), np.arange(999)
    spread = Spread.of(before, after, rows[:400]).joined(Spread.of(before, after, rows[400:]))
    np.testing.assert_allclose(spread.sigma, before.astype(np.float64).std(0), rtol=1e-9)


def test_what_a_stream_cannot_do_is_said(table: Table, stream: Stream, tmp_path: Path) -> None:
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"learner": "logistics"}, "did you mean 'logistic'"),
        ({"cost_model": "free"}, "cost model 'free'"),
        ({"cost_model": "seen", "learner": "joint-mlp"}, "no cost model 'seen'"),
        ({"ridge": 3.0, "learner": "joint"}, "no use for ridge 3"),
        ({"ridge": -1.0}, "ridge"),
        ({"sigma_scale": 11.0}, "sigma_scale"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"sample": 9}, r"9 rows \(--sample\) is too small for 5 folds: take at least 10"),
    )
    for changed, said in wrong:
        with pytest.raises(CascjaxError, match=said):
            asked(stream, ["routing"], estimates="learned", **changed)
    many = synthetic.sample(synthetic.make_dataset(9, seed=1), 0, 40)
    (tmp_path / "many").mkdir()
    write_table(tmp_path / "many" / "0.arrow", many)
    with pytest.raises(CascjaxError, match="at most 8 models, not 9"):
        asked(open_stream(tmp_path / "many"), ["routing"], estimates="learned")
    with pytest.raises(CascjaxError, match="out of reach"):
        compare_stream(stream, ["routing"], budgets=[1e9])
    one = replace(table, split=np.zeros(N, np.int8))
    with pytest.raises(CascjaxError, match="0 to evaluate"):
        compare_stream(write(tmp_path / "one", one), ["routing"])
    bare = replace(table, quality_ante=None)
    with pytest.raises(CascjaxError, match="'quality_ante'"):
        compare_stream(write(tmp_path / "bare", bare), ["routing"], estimates="supplied")


# Learned estimates.


@pytest.fixture(scope="module")
def log() -> Table:
    """With all that can be learned from, and a group that only the last file has."""
    made = synthetic.sample(synthetic.make_dataset(K, seed=1), 0, N, features=True)
    assert made.group is not None
    answer = np.random.default_rng(3).integers(-1, 4, (N, K))
    late = np.where(np.arange(N) % 7 == 0, len(made.groups), made.group)
    group = np.where(np.arange(N) < CUTS[2], made.group, late)
    made = replace(made, answer=answer, group=group, groups=(*made.groups, "algebra"))
    return made.select_models([made.models[i] for i in (2, 0, 1)])


@pytest.fixture(scope="module")
def logged(log: Table, tmp_path_factory: pytest.TempPathFactory) -> Stream:
    folder = tmp_path_factory.mktemp("log") / "parts"
    folder.mkdir()
    for i, (start, stop) in enumerate(itertools.pairwise(CUTS)):
        suffix = "arrow" if i % 2 else "parquet"
        part = concatenate([log.take(np.arange(start, stop))])
        assert ("algebra" in part.groups) == (i == 2)
        write_table(folder / f"{i}.{suffix}", part)
    return open_stream(folder, piece_rows=1500)


LEARNERS = (
    "logistic",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("joint", "joint-knn")),
)


@pytest.mark.parametrize("learner", LEARNERS)
def test_learned_frontiers_are_those_of_the_table(log: Table, logged: Stream, learner: str) -> None:
    names = ["routing", "pandora"]
    asked: dict[str, Any] = {"estimates": "learned", "learner": learner, "budgets": 4}
    one, other = compare(log, names, **asked), compare_stream(logged, names, **asked)
    # The same weights, but a product of matrices in blocks of another size rounds otherwise.
    check_same(one, other, parameters=1e-5)
    assert [f.sigma_scale for f in one.frontiers] == [f.sigma_scale for f in other.frontiers]
    assert one.settings["notes"] == other.settings["notes"]
    assert {k: other.settings[k] for k in ("estimator", "folds", "ridge", "cost_model")} == {
        k: one.settings[k] for k in ("estimator", "folds", "ridge", "cost_model")
    }


def test_rows_learned_from_are_estimated_without_themselves(log: Table, logged: Stream) -> None:
    job = asked(logged, ["routing"], estimates="learned", learner="linear", sample=700)
    settled = settled_by(job, Run())
    found = settled.known.learned
    assert found is not None
    assert len(settled.sample) == 700
    none = functools.partial(jnp.zeros, dtype=bool)
    sample = np.asarray(found.estimator(none((700, K))).quality)
    rows, told = [], []
    for piece, table in logged.select_models(settled.models).tables(logged.pieces, job.columns):
        numbers = np.arange(piece.first, piece.first + piece.n_rows)
        estimates = settled.known.estimates(table, numbers)
        rows.append(numbers)
        told.append(np.asarray(estimates(none((piece.n_rows, K))).quality))
        # All others by what a policy keeps: weights fitted on the whole sample.
        kept = found.model.estimator(table)(none((piece.n_rows, K)))
        others = ~np.isin(numbers, settled.sample)
        np.testing.assert_allclose(told[-1][others], np.asarray(kept.quality)[others], rtol=1e-5)
        assert np.abs(told[-1] - np.asarray(kept.quality))[~others].max() > 1e-3
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(N))
    np.testing.assert_allclose(np.concatenate(told)[settled.sample], sample, rtol=1e-5, atol=1e-6)


def test_what_was_learned_of_a_sample_meets_budgets_on_all_rows(
    logged: Stream, tmp_path: Path
) -> None:
    kinds: dict[str, Any] = {"estimates": "learned", "learner": "linear", "sample": 700}
    kinds["sigma_scale"] = 0.5
    job = asked(logged, ["routing", "pandora"], budgets=4, **kinds)
    quiet = lambda doing, rows: None  # noqa: E731
    found = draw(job, begun(job, Ledger(tmp_path / "kept"), quiet))
    assert [drawn.sigma_scale for drawn in found.frontiers] == [1.0, 0.5]
    for drawn in found.frontiers:
        met = drawn.reach == 0
        assert met.sum() >= 3
        np.testing.assert_allclose(drawn.fit_cost[met], drawn.budget[met], rtol=1e-12)
    # Gone on with after the first reading, whose sample has features, signals, answers and groups.
    for part in (tmp_path / "kept").glob("*.parquet"):
        if not part.name.startswith("look-") and part.stem != "learned":
            part.unlink()
    again = draw(job, begun(job, Ledger(tmp_path / "kept", resume=True), quiet))
    assert bits(again) == bits(found)
    other: dict[str, Any] = {"ridge": 2.0}
    changed = asked(logged, ["routing", "pandora"], budgets=4, **(kinds | other))
    with pytest.raises(CascjaxError, match="learning: ridge has changed"):
        begun(changed, Ledger(tmp_path / "kept", resume=True), quiet)
    # As on a machine that rounds otherwise.
    run = begun(job, Ledger(tmp_path / "kept", resume=True), quiet)
    assert run.parts is not None
    run.parts.write_table("learned", packed({"digest": np.zeros(64, np.uint8)}))
    with pytest.raises(CascjaxError, match="learned otherwise"):
        draw(job, run)


@pytest.mark.slow
def test_more_models_than_a_table_has_run_sets_for(tmp_path: Path) -> None:
    k, table = 12, synthetic.sample(synthetic.make_dataset(12, seed=2), 0, 400, features=True)
    (tmp_path / "parts").mkdir()
    for i, (start, stop) in enumerate(itertools.pairwise((0, 150, 400))):
        write_table(tmp_path / "parts" / f"{i}.arrow", table.take(np.arange(start, stop)))
    job = asked(tmp_path / "parts", ["pandora"], estimates="learned", learner="joint", sample=120)
    settled = settled_by(job, Run())
    found = settled.known.learned
    assert found is not None
    taught = found.estimator
    assert isinstance(taught, Joint)
    choice = Choice(np.zeros(1), sigma_scale=0.5)
    for piece, rows in job.stream.select_models(settled.models).tables(
        job.stream.pieces, job.columns
    ):
        numbers = np.arange(piece.first, piece.first + piece.n_rows)
        told = settled.known.estimates(rows, numbers)
        assert isinstance(told, Joint)
        own = np.flatnonzero(np.isin(numbers, settled.sample))
        place = np.searchsorted(settled.sample, numbers[own])
        none = jnp.zeros((len(own), k), bool)
        mine, yours = told.take(own)(none), taught.take(place)(none)
        np.testing.assert_allclose(mine.quality, yours.quality, atol=1e-6)
        np.testing.assert_array_equal(told.fold[own], taught.fold[place])
        half = shown(job.strategies[0], choice, rows, told)
        assert isinstance(half, Joint)
        assert half.sigma_scale == 0.5


def test_a_refusal_does_not_stand_in_the_way(log: Table, tmp_path: Path) -> None:
    # Of a row to fit on that may be in no sample.
    split = (np.arange(N) % 2).astype(np.int8)
    quality = log.quality.copy()
    quality[CUTS[1] + 100, 1] = 7
    folder = write(tmp_path / "parts", replace(log, quality=quality, split=split))
    out = str(tmp_path / "out")
    words = ["frontier", str(folder), "--strategies", "mixing", "--out", out, "--sample", "50"]
    ran = CliRunner().invoke(main, [*words, "--learner", "logistic"])
    assert ran.exit_code == 2
    said = ran.output.splitlines()[-1]
    assert f"{folder}/1.arrow: row 100: quality of model 'model-1' is 7, not between" in said
    assert "estimator 'linear'" in said
    assert not Path(out, "journal").exists()
    ran = CliRunner().invoke(main, [*words, "--learner", "linear"])
    assert ran.exit_code == 0, ran.output
    assert "note: estimates were learned from 50 of 2,048 rows to fit on" in ran.output
    ran = CliRunner().invoke(main, [*words, "--budgets", "1e-9"])
    assert ran.exit_code == 2
    assert "out of reach" in ran.output
    assert not Path(out, "journal").exists()
    # What keeps the rows it was fitted on is refused before anything is read.
    with pytest.raises(CascjaxError, match="cannot be kept in a policy"):
        fit_stream(folder, "routing", budget=0.001, estimates="learned", learner="joint-knn")
    # What sees the truth is shown no estimates, so that none are learned.
    asked: dict[str, Any] = {"budget": 0.001, "estimates": "learned"}
    assert fit_stream(folder, "oracle", **asked).source.kind == "truth"


def test_further_costs_keep_their_units(table: Table, tmp_path: Path) -> None:
    more: dict[str, Any] = {"extra_costs": {"seconds": 1 + table.cost}}
    timed = replace(table, extra_cost_units=(("seconds", "s"),), **more)
    folder = write(tmp_path / "parts", timed)
    budget = {"cost": 0.002, "seconds": 1.5}
    assert fit_stream(folder, "routing", budget=budget).cost_units == (table.cost_unit, "s")


def test_rows_that_may_have_been_fitted_on_are_spoken_of(
    table: Table, stream: Stream, tmp_path: Path
) -> None:
    policy, alone = tmp_path / "policy.json", tmp_path / "alone.arrow"
    write_table(alone, table)

    def said(*words: str) -> str:
        ran = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "out")])
        assert ran.exit_code == 0, ran.output
        return ran.output

    note = f"note: all {N:,} rows are evaluated."
    fit_stream(stream, "routing", budget=0.002).save(policy)
    assert note not in said("evaluate", str(policy), stream.name)
    assert note in said("evaluate", str(policy), str(alone))
    fit(table, "routing", budget=0.002).save(policy)
    assert note in said("evaluate", str(policy), stream.name)


@pytest.mark.parametrize("files", [1, 2])
def test_features_of_a_varying_number(tmp_path: Path, files: int) -> None:
    made = synthetic.sample(synthetic.make_dataset(2, seed=1), 0, 20, features=True)
    (tmp_path / "parts").mkdir()
    for i, start in enumerate(range(0, 20, 20 // files)):
        rows = to_arrow(made.take(np.arange(start, start + 20 // files))).drop_columns("signals")
        values = [[1.0] * (3 + (start + j >= 10)) for j in range(rows.num_rows)]
        features = pa.array(values, pa.list_(pa.float32()))
        rows = rows.set_column(rows.schema.get_field_index("features"), "features", features)
        meta = json.loads(rows.schema.metadata[b"cascjax"]) | {"features": [], "signals": []}
        rows = rows.replace_schema_metadata({"cascjax": json.dumps(meta)})
        pq.write_table(rows, tmp_path / "parts" / f"{i}.parquet")
    stream = open_stream(tmp_path / "parts", piece_rows=10)
    assert stream.seen == {"features": 3}
    with pytest.raises(CascjaxError, match=rf"{files - 1}.parquet: column 'features' has 4 values"):
        compare_stream(stream, "routing", estimates="learned", learner="linear", folds=2)


def test_pieces_have_room_for_what_is_learned_from(logged: Stream) -> None:
    assert logged.seen == {"features": 6, "signals": 2 * K}
    file = replace(logged.files[0], n_rows=1 << 20, starts=())
    wide = replace(logged, files=(file,), pieces=(Piece(0, 0, 0, 1 << 20, 0),))
    assert wide.with_room_for(1) is wide
    narrow = wide.with_room_for(1 << 8)
    assert [piece.n_rows for piece in narrow.pieces] == [1 << 16] * 16
    assert [piece.first for piece in narrow.pieces] == [i << 16 for i in range(16)]
    assert narrow.with_room_for(2) is narrow


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["logistic", "joint"])
def test_learned_policies_are_those_of_the_table(log: Table, logged: Stream, learner: str) -> None:
    asked: dict[str, Any] = {"budget": 0.001, "estimates": "learned", "learner": learner}
    one, other = fit(log, "pandora", **asked), fit_stream(logged, "pandora", **asked)
    np.testing.assert_allclose(one.rule.parameters, other.rule.parameters, rtol=1e-5)
    np.testing.assert_allclose(one.rule.weights, other.rule.weights, rtol=1e-3)
    np.testing.assert_allclose(one.sigma, other.sigma, rtol=1e-5)
    assert {k: v for k, v in one.record.items() if k != "split"} == {
        k: v for k, v in other.record.items() if k != "split"
    }
    mine, yours = evaluate(one, log, resamples=0).total, evaluate_stream(other, logged).total
    assert mine.quality.value == pytest.approx(yours.quality.value, rel=1e-6)
    assert mine.cost[0].value == pytest.approx(yours.cost[0].value, rel=1e-6)
    sampled = fit_stream(logged, "pandora", sample=700, **asked)
    assert sampled.rule.fitted is not None
    assert sampled.rule.fitted.n_fit == N // 2
    assert sampled.rule.fitted.cost[0] == pytest.approx(0.001, rel=1e-12)


def test_learned_frontiers_and_policies_by_the_command_line(logged: Stream, tmp_path: Path) -> None:
    words = [logged.name, "--learner", "linear"]
    ran = CliRunner().invoke(
        main,
        ["frontier", *words, "--strategies", "routing", "--budgets", "4", "--out",
         str(tmp_path / "out")],
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    assert "learned estimates" in ran.output
    assert "note: costs are estimated from" in ran.output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["settings"]["estimator"] == "linear"
    policy = tmp_path / "policy.json"
    ran = CliRunner().invoke(
        main, ["fit", *words, "--strategy", "routing", "--budget", "0.001", "--out", str(policy)]
    )
    assert ran.exit_code == 0, ran.output
    assert load_policy(policy).source.kind == "learned"


# Interrupts.


def command(folder: Path, out: Path, *more: str) -> list[str]:
    return [
        "frontier", str(folder), "--strategies", "mixing,routing", "--budgets", "4",
        "--sample", "200", "--out", str(out), *more,
    ]  # fmt: skip


CODE = """
import sys
from cascjax.data import source as stream
stream._LEAST_ROWS = stream.PIECE_ROWS = 400
from cascjax.cli.main import main
main(sys.argv[1:])
"""


def points(out: Path) -> list[dict]:
    return pq.read_table(out / "frontier.parquet").to_pylist()


@pytest.mark.slow
def test_a_run_killed_anywhere_goes_on_to_the_same_bits(stream: Stream, tmp_path: Path) -> None:
    folder = Path(stream.name)
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}

    def run(out: Path, *more: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", CODE, *command(folder, out, *more)]
        return subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)  # fmt: skip

    assert run(tmp_path / "whole").wait() == 0
    assert not (tmp_path / "whole" / "journal").exists()
    # Killed once so many files are in the journal, at a moment of chance after that.
    for wanted in random.sample(range(1, 12), 2):
        out = tmp_path / f"killed-{wanted}"
        process = run(out)
        while process.poll() is None and len(list(out.glob("journal/*.parquet"))) < wanted:
            time.sleep(0.001)
        time.sleep(random.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (out / "frontier.parquet").exists():
            continue  # it was faster
        assert run(out, "--resume").wait() == 0
        assert points(out) == points(tmp_path / "whole")
        assert sorted(p.name for p in out.iterdir() if p.suffix != ".tmp") == [
            "frontier.parquet", "report.html", "summary.json",
        ]  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cascjax.data.source.PIECE_ROWS", 700)
    monkeypatch.setattr("cascjax.data.source._LEAST_ROWS", 700)
    monkeypatch.setattr("cascjax.cli.stream.keep_compiled", lambda: None)


def invoke(words: list[str]) -> tuple[int, str]:
    found = CliRunner().invoke(main, words)
    return found.exit_code, found.stderr


@pytest.mark.usefixtures("small")
def test_a_full_disk_is_one_line_and_can_be_gone_on_from(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = Path(stream.name), tmp_path / "out"
    assert invoke(command(folder, tmp_path / "whole"))[0] == 0
    real, left = pq.write_table, 6

    def full(*given: Any, **named: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*given, **named)

    monkeypatch.setattr(pq, "write_table", full)
    code, error = invoke(command(folder, out))
    assert code == 2
    assert "No space left on device" in error
    assert "--resume once there is room" in error
    assert error.count("\n") == 1
    monkeypatch.setattr(pq, "write_table", real)
    assert invoke(command(folder, out, "--resume"))[0] == 0
    assert points(out) == points(tmp_path / "whole")


@pytest.mark.usefixtures("small")
def test_other_files_and_settings_are_noticed(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = write(tmp_path / "parts", table), tmp_path / "out"

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cascjax.engine.cases.finish", stop)
        code, error = invoke(command(folder, out))
    assert code == 130
    assert "go on with --resume" in error
    code, error = invoke(command(folder, out, "--resume", "--seed", "5"))
    assert code == 2
    assert "other settings, seed 0 and not 5" in error
    write_table(folder / "1.arrow", table.take(np.arange(CUTS[1], CUTS[2])))
    code, error = invoke(command(folder, out, "--resume"))
    assert code == 2
    assert "1.arrow has changed" in error
    assert error.count("\n") == 1
    assert invoke(command(folder, out, "--force"))[0] == 0
    assert not (out / "journal").exists()


@pytest.mark.usefixtures("small")
def test_bad_input_in_the_first_piece_leaves_nothing(table: Table, tmp_path: Path) -> None:
    cost = table.cost.copy()
    cost[100, 1] = -1
    folder, out = write(tmp_path / "parts", replace(table, cost=cost)), tmp_path / "out"
    code, error = invoke(command(folder, out))
    assert code == 2
    assert "0.parquet: column 'cost', row 100" in error
    assert "--resume" not in error
    assert not out.exists()


@pytest.mark.usefixtures("small")
def test_a_bad_file_can_be_mended_and_gone_on_from(table: Table, tmp_path: Path) -> None:
    cost = table.cost.copy()
    cost[2000, 1] = -1
    folder, out = write(tmp_path / "parts", replace(table, cost=cost)), tmp_path / "out"
    code, error = invoke(command(folder, out))
    assert code == 2
    assert "1.arrow: column 'cost', row 850" in error
    assert "--resume once that is fixed" in error
    first = out / "journal" / "look-00.parquet"
    before = first.stat().st_mtime_ns
    # Not the bad file but one of which something is kept.
    write_table(folder / "0.parquet", table.take(np.arange(CUTS[0], CUTS[1])))
    code, error = invoke(command(folder, out, "--resume"))
    assert code == 2
    assert "0.parquet has changed" in error
    # The bad one, with another number of rows, so that all that follow are others.
    write_table(folder / "1.arrow", table.take(np.arange(CUTS[1], CUTS[2] - 1)))
    assert invoke(command(folder, out, "--resume"))[0] == 2
    # Begun again, and the bad one fixed.
    write_table(folder / "1.arrow", replace(table, cost=cost).take(np.arange(CUTS[1], CUTS[2])))
    assert invoke(command(folder, out, "--force"))[0] == 2
    assert first.stat().st_mtime_ns > before
    before = first.stat().st_mtime_ns
    write_table(folder / "1.arrow", table.take(np.arange(CUTS[1], CUTS[2])))
    read: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        real = streamed.look

        def look_and_note(job: Job, pieces: Sequence[Piece], *rest: Any, **more: Any) -> Looked:
            read.extend(piece.index for piece in pieces)
            return real(job, pieces, *rest, **more)

        patch.setattr("cascjax.comparison_stream.look", look_and_note)
        assert invoke(command(folder, out, "--resume"))[0] == 0
    assert 0 not in read
    assert 2 in read
    assert invoke(command(folder, tmp_path / "whole"))[0] == 0
    assert points(out) == points(tmp_path / "whole")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_another_process_kept_of_a_bad_file_is_done_again(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    """It keeps some in the same folder after the file was named, or in a folder of its own."""
    quality, cost = table.quality.copy(), table.cost.copy()
    # The second piece of the file is refused; the first is not, and is fixed as well.
    cost[2000, 1], quality[CUTS[1] : CUTS[1] + 100] = -1, 0
    bad = replace(table, quality=quality, cost=cost)
    folder = write(tmp_path / "parts", bad)

    def run(resume: bool) -> list[Any]:
        job = asked(open_stream(folder), ["routing"], budgets=3, sample=100)
        ledger = Ledger(tmp_path / "kept", resume)
        return bits(draw(job, begun(job, ledger, lambda doing, rows: None)))

    with monkeypatch.context() as patch:
        patch.setattr("cascjax.engine.parts.Parts.remove", lambda parts, key: None)
        if elsewhere:
            patch.setattr("cascjax.engine.parts.Parts.note_bad", lambda parts, file: None)
        with pytest.raises(CascjaxError, match="column 'cost', row 850"):
            run(False)
    write_table(folder / "1.arrow", table.take(np.arange(CUTS[1], CUTS[2])))
    if elsewhere:

        class Two(Processes):
            def gather(self, mine: np.ndarray) -> np.ndarray:
                return np.stack([mine, mine])

            def tell(self, teller: int, words: bytes | None) -> bytes:
                assert words == b"[]"
                return json.dumps([str(folder / "1.arrow")] * teller).encode()

        with monkeypatch.context() as patch:
            patch.setattr("cascjax.engine.run.all_processes", lambda: Two(0, 2))
            job = asked(open_stream(folder), ["routing"], budgets=3, sample=100)
            begun(job, Ledger(tmp_path / "kept", True), lambda doing, rows: None)
    else:
        with pytest.raises(CascjaxError, match="an unfinished run: go on with --resume"):
            run(False)
    whole = asked(open_stream(folder), ["routing"], budgets=3, sample=100)
    assert run(True) == bits(draw(whole))


@pytest.mark.usefixtures("small")
def test_interrupts_between_any_two_parts(stream: Stream, tmp_path: Path) -> None:
    """Whatever is missing of a journal is done again, to the same bits."""
    job = asked(stream, ["mixing", "routing"], budgets=3, sample=100)
    folder = tmp_path / "journal"

    def run(resume: bool = False) -> Run:
        return begun(job, Ledger(folder, resume), lambda doing, rows: None)

    whole = bits(draw(job))
    assert bits(draw(job, run())) == whole
    with pytest.raises(CascjaxError, match="--resume"):
        run()
    going_on = run(resume=True)
    for path in sorted(folder.glob("*.parquet")):
        path.unlink()
        assert bits(draw(job, going_on)) == whole
        assert path.exists()
    assert len(json.loads((folder / "run.json").read_text())["files"]) == 3
    discard(folder)
    assert not folder.exists()


# Policies.


def check_mean(mine: Mean, yours: Mean) -> None:
    for name in ("value", "low", "high"):
        one, other = getattr(mine, name), getattr(yours, name)
        # Sums of the bootstrap are of float32 over a block, and blocks are others.
        assert one == (None if other is None else pytest.approx(other, rel=1e-5))


@pytest.mark.parametrize("kind", ["supplied", "noisy"])
def test_policies_are_those_of_the_table(table: Table, stream: Stream, kind: str) -> None:
    asked: dict[str, Any] = {"estimates": kind, "noise": NOISE, "budget": float(table.cost.mean())}
    one, other = fit(table, "routing", **asked), fit_stream(stream, "routing", **asked)
    np.testing.assert_array_equal(one.rule.parameters, other.rule.parameters)
    np.testing.assert_allclose(one.rule.weights, other.rule.weights, rtol=1e-6)
    np.testing.assert_allclose(one.sigma, other.sigma, rtol=1e-6)
    np.testing.assert_allclose(one.mean_costs, other.mean_costs, rtol=1e-6)
    mine = evaluate(one, table, resamples=100)
    yours = evaluate_stream(other, stream, resamples=100)
    assert mine.total.n == yours.total.n == N // 2  # the half that the policy was not fitted on
    assert list(mine.groups) != []
    for name, part in {"": mine.total, **mine.groups}.items():
        of = yours.groups[name] if name else yours.total
        assert (part.n, part.budget, part.rule) == (of.n, of.budget, of.rule)
        check_mean(part.quality, of.quality)
        check_mean(part.cost[0], of.cost[0])
    for name in ("ran", "answered", "depth", "single_cost", "single_quality", "hull_quality"):
        np.testing.assert_allclose(getattr(mine, name), getattr(yours, name), rtol=1e-6)
    assert mine.verdicts() == yours.verdicts()
    # Another table: all of its rows.
    assert evaluate_stream(one, stream).total.n == N


def test_a_budget_is_met_on_all_rows_though_a_sample_is_fitted_on(
    table: Table, stream: Stream
) -> None:
    budget = float(table.cost.mean()) / 2
    policy = fit_stream(stream, "routing", budget=budget, sample=200)
    assert policy.rule.fitted is not None
    assert policy.rule.fitted.cost[0] == pytest.approx(budget, rel=1e-12)
    assert policy.rule.fitted.n_fit == N // 2
    assert "notes" not in policy.record
    # Replayed on the rows fitted on, as the table in memory has them.
    fit_rows, _ = split_rows(table)
    assert evaluate(policy, table, rows=fit_rows, resamples=0).total.cost[0].value == pytest.approx(
        budget, rel=1e-6
    )
    other = fit_stream(stream, "routing", quality=float(table.quality.mean()), sample=200)
    assert "a sample of 200 of 2,048 rows" in other.record["notes"][0]
    with pytest.raises(CascjaxError, match="out of reach of routing"):
        fit_stream(stream, "routing", budget=1e-9, sample=200)


@pytest.mark.usefixtures("small")
def test_commands_of_policies_take_folders(stream: Stream, tmp_path: Path) -> None:
    folder, policy, out = stream.name, str(tmp_path / "p.json"), tmp_path / "out"
    words = ["fit", folder, "--strategy", "routing", "--budget", "0.001", "--out", policy]
    assert invoke([*words, "--sample", "200"]) == (0, "")
    assert invoke(["evaluate", policy, folder, "--out", str(out)]) == (0, "")
    found = json.loads((out / "summary.json").read_text())
    assert found["total"]["n"] == N // 2
    assert [p.name for p in out.iterdir()] == ["summary.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "p.json"]
    code, error = invoke([*words, "--group-budget", "x=1"])
    assert code == 2
    assert "--group-budget is of one table" in error


def test_a_ledger_of_other_columns_is_refused(table: Table, tmp_path: Path) -> None:
    """A sample that was kept without extra costs cannot be gone on with by one that has them."""
    seconds = np.full_like(table.cost, 0.5)
    stream = open_stream(
        write(tmp_path / "parts", replace(table, extra_costs={"seconds": seconds}))
    )
    kept = tmp_path / "kept"
    fit_stream(stream, "routing", quality=float(table.quality.mean()), ledger=Ledger(kept))
    with pytest.raises(CascjaxError, match="other settings, columns"):
        fit_stream(stream, "routing", budget={"seconds": 1.0}, ledger=Ledger(kept, resume=True))


LET_GO = """
import gc, sys, weakref
import numpy as np
from cascjax import synthetic
from cascjax.estimators import supplied
from cascjax.search.budgets import sum_settings
from cascjax.strategies import Mixing, Routing
table = synthetic.sample(synthetic.make_world(3, seed=1), 0, 1000)
estimates, kept = supplied(table, np.arange(1000)), weakref.ref(table.quality)
for again in range(2):
    gc.collect()
    gc.disable()  # what is compiled, at first, leaves circles of its own
    for kind in (Routing(), Mixing()):
        sum_settings(kind, np.arange(3.0), estimates, table, rows=np.arange(0, 1000, 2))
    if not again:
        gc.enable()
del table, estimates
sys.exit(kept() is not None)
"""


def test_pieces_are_let_go_of_at_once() -> None:
    """Memory stays as it is without the help of the garbage collector, which comes late."""
    # A process of its own: what checks types in these tests holds on to arguments.
    assert subprocess.run([sys.executable, "-c", LET_GO], check=False).returncode == 0
