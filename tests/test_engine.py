"""Frontiers over streams: those of the table in memory, whatever the pieces and interrupts."""

import functools
import itertools
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cascjax
from cascjax import (
    CascjaxError,
    Learned,
    Noisy,
    RunOptions,
    Study,
    compare,
    evaluate,
    fit,
    synthetic,
)
from cascjax.comparison import compare_job
from cascjax.data import to_arrow, write_table
from cascjax.data.source import Files, open_files
from cascjax.data.table import Table, concatenate, mean_rows, rows_per_chunk, split_rows
from cascjax.engine import jobs
from cascjax.engine.passes import (
    Candidates,
    ChunkInputs,
    Job,
    Sample,
    chunk_totals,
    collect_statistics,
    fit_totals,
    make_setup,
    merge_statistics,
)
from cascjax.engine.run import Run
from cascjax.errors import RefusedError
from cascjax.estimators import Estimates, Independent, learned, noisy, supplied
from cascjax.estimators.joint import Joint
from cascjax.estimators.specs import ChunkEstimates, as_estimates
from cascjax.estimators.statistics import Moments, fit_lines, noise_keys, normals
from cascjax.estimators.training import fold_numbers
from cascjax.evaluation import Mean
from cascjax.metrics.bootstrap import Bootstrap

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
        # Without the groups that only other files have.
        part = concatenate([table.take(np.arange(start, stop))])
        write_table(folder / f"{i}.{suffix}", part)
    return folder


@pytest.fixture(scope="module")
def stream(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return open_files(write(tmp_path_factory.mktemp("s") / "parts", table), chunk_rows=1500)


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


@pytest.mark.parametrize("estimates", ["supplied", Noisy(NOISE)], ids=["supplied", "noisy"])
@pytest.mark.parametrize("names", [QUICK, pytest.param(COMPILED_LONG, marks=pytest.mark.slow)])
def test_frontiers_are_those_of_the_table(
    table: Table, stream: Files, estimates: Any, names: tuple[str, ...]
) -> None:
    depth = {name: {"max_depth": 2} for name in ("frugal", "cascade-routing")}
    kinds = [cascjax.strategy(name, **depth.get(name, {})) for name in names]
    one, other = (compare(source, kinds, estimates, budgets=5) for source in (table, stream))
    check_same(one, other)


def test_frontiers_with_a_split_and_sigmas_of_the_files(table: Table, tmp_path: Path) -> None:
    split = (np.arange(N) % 3 == 0).astype(np.int8)
    sigma = np.random.default_rng(0).uniform(0.1, 0.4, (N, K)).astype(np.float32)
    table = replace(table, split=split, quality_sigma=sigma, cost_ante=None, cost_post=None)
    folder = write(tmp_path / "parts", table)
    write_table(folder / "1.arrow", table.take(np.arange(CUTS[1], CUTS[2] - 1)))
    write_table(folder / "1one.parquet", table.take(np.arange(CUTS[2] - 1, CUTS[2])))
    names = ["routing", "pandora"]
    asked: dict[str, Any] = {"budgets": 4, "resamples": 100}
    one, other = compare(table, names, **asked), compare(folder, names, **asked)
    check_same(one, other)
    for mine, yours in zip(one.frontiers, other.frontiers, strict=True):
        # Weights go by the row among all rows, and their sums are of float32.
        for name in ("cost_interval", "auc_samples"):
            np.testing.assert_allclose(getattr(mine, name), getattr(yours, name), rtol=1e-5)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Plain:
    """An estimator that is called, as it offers nothing faster."""

    inner: Independent

    def __call__(self, run: Any) -> Estimates:
        return self.inner(run)

    def take(self, rows: Any) -> "Plain":
        return Plain(self.inner.take(rows))


@pytest.mark.parametrize("kind", [lambda inner: inner, Plain], ids=["fast", "plain"])
def test_an_estimator_of_all_rows_is_taken_in_the_order_of_the_models(
    table: Table, stream: Files, kind: Any
) -> None:
    own = kind(supplied(table, split_rows(table)[0]))
    whole = compare(table, "routing", "supplied", budgets=3)
    for source in (table, stream):
        study = compare(source, "routing", own, budgets=3)
        assert study.models == whole.models != source.models
        # Searched setting by setting, a plain one brackets the budgets less closely.
        assert study["routing"].auc == pytest.approx(whole["routing"].auc, rel=1e-3)
        np.testing.assert_allclose(study["routing"].fit_cost, whole["routing"].fit_cost, rtol=1e-6)
    with pytest.raises(CascjaxError, match="the estimator is not one of 10 queries x 3 models"):
        compare(table.take(np.arange(10)), "routing", own)
    with pytest.raises(CascjaxError, match="cannot be written as JSON"):
        as_estimates(own, table).to_json()


def test_a_sample_meets_budgets_on_all_rows(table: Table, stream: Files) -> None:
    names = ["mixing", "routing", cascjax.Frugal(max_depth=2), "pandora"]
    whole = compare(table, names, budgets=6)
    found = compare(stream, names, budgets=6, options=RunOptions(sample=300))
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


def test_what_is_said_of_intervals_is_what_was_done_where_a_sample_was_searched(
    stream: Files,
) -> None:
    spans = []
    for refit in (True, False):
        found = compare(
            stream, ["routing"], budgets=4, options=RunOptions(sample=300),
            resamples=Bootstrap(100, refit=refit),
        )  # fmt: skip
        assert found.settings["sample"] == 300
        assert found.settings["refit"] == refit
        spans.append(np.ptp(np.asarray(found["routing"].cost_interval), 1))
    assert (spans[0] != spans[1])[1:-1].all()  # the ends are models alone


@pytest.mark.parametrize("sample", [100, 1 << 18])
def test_shared_out_chunks_give_the_same_to_the_bit(stream: Files, sample: int) -> None:
    job = compare_job(
        stream, ["mixing", "routing"], Noisy(NOISE), budgets=4, sample=sample, grid="full"
    )
    options = RunOptions(sample=sample)
    alone = compare(stream, job.strategies, Noisy(NOISE), budgets=4, options=options)
    for processes in (2, 3):
        shares = [stream.chunks[i::processes][::-1] for i in range(processes)]
        parts = [
            collect_statistics(job, job.source.read(share, job.all_columns), other=Sample())
            for share in shares
        ]
        one = merge_statistics(job, *parts)
        other = merge_statistics(job, parts[-1], merge_statistics(job, *parts[:-1]))
        np.testing.assert_array_equal(one.sample.rows, other.sample.rows)
        setup = make_setup(job, other)
        candidates = jobs.find_candidates(job, setup, Run())
        sums = {}
        for share in shares[::-1]:
            for chunk, rows in stream.read(share, job.all_columns):
                inputs = ChunkInputs.from_chunk(job, setup, chunk, rows)
                sums[chunk.index] = chunk_totals(inputs, job.strategies, candidates)
        totals = functools.reduce(
            lambda total, part: jax.tree.map(np.add, total, part), [sums[i] for i in sorted(sums)]
        )
        parts = zip(job.strategies, candidates, totals, alone.frontiers, strict=True)
        for strategy, these, sums, frontier in parts:
            mixture = fit_totals(strategy, these, sums, setup.budgets)
            for name in ("parameters", "gamma", "fit_cost", "fit_quality"):
                expected = getattr(mixture, name.removeprefix("fit_"))
                np.testing.assert_array_equal(getattr(frontier, name), expected)


def test_the_sample_does_not_depend_on_chunks(table: Table, stream: Files) -> None:
    rows = []
    for chunk_rows in (137, 1100, 100_000):
        source = open_files(Path(stream.name), chunk_rows=chunk_rows)
        job = compare_job(source, ["routing"], sample=50)
        sample = collect_statistics(
            job, source.read(source.chunks, job.all_columns), other=Sample()
        ).sample
        rows.append(sample.rows)
        np.testing.assert_array_equal(sample.table.cost, table.cost[rows[0]])
    assert all((of == rows[0]).all() for of in rows)
    fit, _ = split_rows(table)
    assert np.isin(rows[0], fit).all()


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
        parts = [Moments.of_noise(*(of[a:b] for of in (truth, noise[at], noise[at + 1])))
                 for a, b in itertools.pairwise(CUTS)]  # fmt: skip
        joined = parts[2].merge(parts[0].merge(parts[1]))
        *found, sigma = fit_lines(joined, (level[at], level[at + 1]), order)
        for line, of, side in zip(found, noise[at : at + 2], sides, strict=True):
            # Costs of 1e-3 under a noise of 100 keep 11 digits in float64, float32 has 7.
            np.testing.assert_allclose(line.predict(truth[:, order], of), side, rtol=2e-7)
        if not at:
            np.testing.assert_allclose(sigma, whole.sigma[0], rtol=1e-6)


def test_a_spread_far_from_zero_keeps_its_digits() -> None:
    draw = np.random.default_rng(0)
    before = (1e4 + draw.normal(size=(999, 2))).astype(np.float32)
    after, rows = np.zeros_like(before), np.arange(999)
    spread = Moments.of_difference(before, after, rows[:400]).merge(
        Moments.of_difference(before, after, rows[400:])
    )
    np.testing.assert_allclose(spread.sigma, before.astype(np.float64).std(0), rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "sample", "words"),
    [
        ({"estimator": "logistics"}, 100, "did you mean 'logistic'"),
        ({"cost_model": "seen", "estimator": "joint-mlp"}, 100, "no cost model 'seen'"),
        ({"ridge": -1.0}, 100, "ridge"),
        ({"sigma_scale": 11.0}, 100, "sigma_scale"),
        ({}, 9, "a sample of 9 rows is too small for 5 folds; use sample=10 or more"),
        ({}, 0, "sample must be at least 1"),
    ],
)
def test_learned_estimates_that_cannot_be(
    stream: Files, options: dict[str, Any], sample: int, words: str
) -> None:
    with pytest.raises(CascjaxError, match=words):
        compare(stream, "routing", Learned(**options), options=RunOptions(sample=sample))


def test_what_a_source_cannot_do_is_said(table: Table, stream: Files, tmp_path: Path) -> None:
    many = synthetic.sample(synthetic.make_dataset(9, seed=1), 0, 40)
    with pytest.raises(CascjaxError, match=r"9 models are too many .*at most 8"):
        compare(many, "routing", "learned")
    with pytest.raises(CascjaxError, match="out of reach"):
        compare(stream, "routing", budgets=[1e9])
    one = replace(table, split=np.zeros(N, np.int8))
    for of in (one, write(tmp_path / "one", one)):
        with pytest.raises(CascjaxError, match="0 to evaluate"):
            compare(of, "routing")
    bare = replace(table, quality_ante=None)
    for of in (bare, write(tmp_path / "bare", bare)):
        with pytest.raises(CascjaxError, match="has no column 'quality_ante'"):
            compare(of, "routing", "supplied")
    with pytest.raises(CascjaxError, match="resume needs a checkpoint folder"):
        RunOptions(resume=True)


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
def logged(log: Table, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return open_files(write(tmp_path_factory.mktemp("log") / "parts", log), chunk_rows=1500)


LEARNERS = (
    "logistic",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("joint", "joint-knn")),
)


@pytest.mark.parametrize("learner", LEARNERS)
def test_learned_frontiers_are_those_of_the_table(log: Table, logged: Files, learner: str) -> None:
    one, other = (
        compare(of, ["routing", "pandora"], Learned(learner), budgets=4) for of in (log, logged)
    )
    # The same weights, but a product of matrices in blocks of another size rounds otherwise.
    check_same(one, other, parameters=1e-5)
    assert [f.sigma_scale for f in one.frontiers] == [f.sigma_scale for f in other.frontiers]
    other.settings.pop("files")
    assert one.settings == other.settings


def setup_of(source: Any, estimator: str, sample: int) -> tuple[Job, Any, ChunkEstimates]:
    job = compare_job(source, ["pandora"], Learned(estimator), sample=sample)
    setup = jobs.prepare(job, Run(source=source))
    assert len(setup.rows) == sample
    return job, setup, setup.estimates


def test_rows_learned_from_are_estimated_without_themselves(log: Table, logged: Files) -> None:
    job, setup, fitted = setup_of(logged, "linear", 700)
    none = functools.partial(jnp.zeros, dtype=bool)
    taught = learned(setup.table, np.arange(700), estimator="linear")
    sample = np.asarray(taught.estimator(none((700, K))).quality)
    rows, told = [], []
    for chunk, table in logged.read(logged.chunks, job.all_columns):
        numbers, table = chunk.rows, setup.sort(table)
        rows.append(numbers)
        told.append(np.asarray(fitted.estimator(table, numbers)(none((chunk.n_rows, K))).quality))
        # All others by what a policy keeps: the weights of a fold, by their numbers.
        fold = fold_numbers(numbers, 5)
        kept = fitted.model.estimator_for(table, fold)(none((chunk.n_rows, K)))
        others = ~np.isin(numbers, setup.rows)
        np.testing.assert_allclose(told[-1][others], np.asarray(kept.quality)[others], rtol=1e-5)
        assert np.abs(told[-1] - np.asarray(kept.quality))[~others].max() > 1e-3
    np.testing.assert_array_equal(np.concatenate(rows), np.arange(N))
    np.testing.assert_allclose(np.concatenate(told)[setup.rows], sample, rtol=1e-5, atol=1e-6)


def test_what_was_learned_of_a_sample_meets_budgets_on_all_rows(
    logged: Files, tmp_path: Path
) -> None:
    folder, spec = tmp_path / "kept", Learned("linear", sigma_scale=0.5)

    def run(estimates: Any = spec, **options: Any) -> Study:
        how = RunOptions(folder, sample=700, **options)
        return compare(logged, ["routing", "pandora"], estimates, budgets=4, options=how)

    found = run()
    assert [drawn.sigma_scale for drawn in found.frontiers] == [1.0, 0.5]
    for drawn in found.frontiers:
        met = drawn.reach == 0
        assert met.sum() >= 3
        np.testing.assert_allclose(drawn.fit_cost[met], drawn.budget[met], rtol=1e-12)
    # Resumed after pass 1, whose sample has features, signals, answers and groups.
    for part in folder.glob("*.npz"):
        if not part.name.startswith("read-") and part.stem != "learned":
            part.unlink()
    assert bits(run(resume=True)) == bits(found)
    with pytest.raises(CascjaxError, match=r"other settings, estimates .*ridge=1.0.* not .*2.0"):
        run(replace(spec, ridge=2.0), resume=True)
    # As on a machine that rounds otherwise.
    for part in folder.glob("candidates-*.npz"):
        part.unlink()
    job = compare_job(logged, ["routing", "pandora"], spec, budgets=4, sample=700, grid="full")
    going_on = jobs.start_run(job, RunOptions(folder, resume=True), {"scores": []})
    going_on.checkpoint.put("learned", {"inputs": {}, "result": np.zeros(64, np.uint8)})
    with pytest.raises(CascjaxError, match="learned estimates differ between processes"):
        run(resume=True)


@pytest.mark.slow
def test_more_models_than_a_table_has_run_sets_for(tmp_path: Path) -> None:
    k, table = 12, synthetic.sample(synthetic.make_dataset(12, seed=2), 0, 400, features=True)
    (tmp_path / "parts").mkdir()
    for i, (start, stop) in enumerate(itertools.pairwise((0, 150, 400))):
        write_table(tmp_path / "parts" / f"{i}.arrow", table.take(np.arange(start, stop)))
    files = open_files(tmp_path / "parts")
    job, setup, _ = setup_of(files, "joint", 120)
    taught = learned(setup.table, np.arange(120), estimator="joint").estimator
    assert isinstance(taught, Joint)
    for chunk, rows in files.read(files.chunks, job.all_columns):
        inputs = ChunkInputs.from_chunk(job, setup, chunk, rows)
        told = inputs.estimator
        assert isinstance(told, Joint)
        own = np.flatnonzero(np.isin(chunk.rows, setup.rows))
        place = np.searchsorted(setup.rows, chunk.rows[own])
        none = jnp.zeros((len(own), k), bool)
        mine, yours = told.take(own)(none), taught.take(place)(none)
        np.testing.assert_allclose(mine.quality, yours.quality, atol=1e-6)
        np.testing.assert_array_equal(told.fold[own], taught.fold[place])
        half = inputs.estimator_for(job.strategies[0], Candidates(np.zeros(1), sigma_scale=0.5))
        assert isinstance(half, Joint)
        assert half.sigma_scale == 0.5


def test_refusals_and_notes_of_learned_estimates(log: Table, tmp_path: Path) -> None:
    # Of a row to fit on that may be in no sample.
    split = (np.arange(N) % 2).astype(np.int8)
    quality = log.quality.copy()
    quality[CUTS[1] + 100, 1] = 7
    changed = replace(log, quality=quality, split=split)
    folder, few = write(tmp_path / "parts", changed), RunOptions(sample=50)
    for source, row in ((changed, CUTS[1] + 100), (folder, 100)):
        with pytest.raises(RefusedError, match=rf"row {row}: quality of model 'model-1' is 7, not"):
            compare(source, "mixing", Learned("logistic"), options=few)
    study = compare(folder, "mixing", Learned("linear"), options=few)
    assert study.settings["estimator"] == "linear"
    assert "learned from a sample of 50 of 2,048 fit rows" in study.settings["notes"][-1]
    # What keeps the rows it was fitted on is refused before anything is read.
    with pytest.raises(CascjaxError, match="cannot be kept in a policy"):
        fit(folder, "routing", Learned("joint-knn"), budget=0.001)
    # What sees the truth is shown no estimates, so that none are learned.
    assert fit(folder, "oracle", "learned", budget=0.001).estimates_spec is None


def test_further_costs_keep_their_units(table: Table, tmp_path: Path) -> None:
    more: dict[str, Any] = {"extra_costs": {"seconds": 1 + table.cost}}
    timed = replace(table, extra_cost_units=(("seconds", "s"),), **more)
    folder = write(tmp_path / "parts", timed)
    budget = {"cost": 0.002, "seconds": 1.5}
    assert fit(folder, "routing", budget=budget).cost_units == (table.cost_unit, "s")


def test_rows_that_were_fitted_on_are_known_by_their_source(table: Table, stream: Files) -> None:
    """The rows are the same in files and in memory; others are evaluated on whole."""
    other = table.take(np.arange(N)[::-1])
    for fitted in (stream, table):
        policy = fit(fitted, "routing", budget=0.002)
        for source, n in ((stream, N // 2), (table, N // 2), (other, N)):
            assert evaluate(policy, source, resamples=0).total.n == n


@pytest.mark.parametrize("files", [1, 2])
def test_features_of_a_varying_number(tmp_path: Path, files: int) -> None:
    made = synthetic.sample(synthetic.make_dataset(2, seed=1), 0, 20)
    for i, rows in enumerate(np.split(np.arange(20), files)):
        values = [[1.0] * (3 + (row >= 10)) for row in rows]
        part = to_arrow(made.take(rows))
        part = part.append_column("features", pa.array(values, pa.list_(pa.float32())))
        pq.write_table(part, tmp_path / f"{i}.parquet")
    stream = open_files(tmp_path, chunk_rows=10)
    assert stream.widths == {"features": 3}
    with pytest.raises(CascjaxError, match=rf"{files - 1}.parquet: column 'features' has 4 values"):
        compare(stream, "routing", Learned("linear", folds=2))


def test_chunks_of_wide_rows_are_smaller(logged: Files) -> None:
    assert logged.widths == {"features": 6, "signals": 2 * K}
    assert rows_per_chunk(11) == 1 << 20
    assert rows_per_chunk(256) == 1 << 16
    assert rows_per_chunk(16, answers=True) == 1 << 16
    assert rows_per_chunk(16, 1 << 24) == 1 << 14


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["logistic", "joint"])
def test_learned_policies_are_those_of_the_table(log: Table, logged: Files, learner: str) -> None:
    spec = Learned(learner)
    one, other = (fit(source, "pandora", spec, budget=0.001) for source in (log, logged))
    np.testing.assert_allclose(one.rule.parameters, other.rule.parameters, rtol=1e-5)
    np.testing.assert_allclose(one.rule.weights, other.rule.weights, rtol=1e-3)
    np.testing.assert_allclose(one.sigma, other.sigma, rtol=1e-5)
    assert {**one.record, "split": ""} == {**other.record, "split": ""}
    mine, yours = (evaluate(p, s, resamples=0).total for p, s in ((one, log), (other, logged)))
    assert mine.quality.value == pytest.approx(yours.quality.value, rel=1e-6)
    assert mine.cost[0].value == pytest.approx(yours.cost[0].value, rel=1e-6)
    sampled = fit(logged, "pandora", spec, budget=0.001, options=RunOptions(sample=700))
    assert sampled.rule.fitted.n_fit == N // 2
    assert sampled.rule.fitted.cost[0] == pytest.approx(0.001, rel=1e-12)


# Policies.


def check_mean(mine: Mean, yours: Mean) -> None:
    for name in ("value", "low", "high"):
        one, other = getattr(mine, name), getattr(yours, name)
        # Sums of the bootstrap are of float32 over a block, and blocks are others.
        assert one == (None if other is None else pytest.approx(other, rel=1e-5))


@pytest.mark.parametrize("estimates", ["supplied", Noisy(NOISE)], ids=["supplied", "noisy"])
def test_policies_are_those_of_the_table(table: Table, stream: Files, estimates: Any) -> None:
    budget = float(table.cost.mean())
    one, other = (fit(source, "routing", estimates, budget=budget) for source in (table, stream))
    np.testing.assert_array_equal(one.rule.parameters, other.rule.parameters)
    np.testing.assert_allclose(one.rule.weights, other.rule.weights, rtol=1e-6)
    for name in ("sigma", "mean_costs"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-6)
    mine = evaluate(one, table, resamples=100)
    yours = evaluate(other, stream, resamples=100)
    assert mine.total.n == yours.total.n == N // 2  # the half that the policy was not fitted on
    assert list(mine.groups) != []
    for name, part in {"": mine.total, **mine.groups}.items():
        other = yours.groups[name] if name else yours.total
        assert (part.n, part.budget, part.rule) == (other.n, other.budget, other.rule)
        check_mean(part.quality, other.quality)
        check_mean(part.cost[0], other.cost[0])
    for name in ("ran", "answered", "depth", "single_cost", "single_quality", "hull_quality"):
        np.testing.assert_allclose(getattr(mine, name), getattr(yours, name), rtol=1e-6)
    assert mine.verdicts() == yours.verdicts()


def test_a_budget_is_met_on_all_rows_though_a_sample_is_fitted_on(
    table: Table, stream: Files
) -> None:
    budget, options = float(table.cost.mean()) / 2, RunOptions(sample=200)
    policy = fit(stream, "routing", budget=budget, options=options)
    assert policy.rule.fitted.cost[0] == pytest.approx(budget, rel=1e-12)
    assert policy.rule.fitted.n_fit == N // 2
    assert "notes" not in policy.record
    # Replayed on the rows fitted on, as the table in memory has them.
    fit_rows, _ = split_rows(table)
    total = evaluate(policy, table, rows=fit_rows, resamples=0).total
    assert total.cost[0].value == pytest.approx(budget, rel=1e-6)
    other = fit(stream, "routing", quality=float(table.quality.mean()), options=options)
    assert "a sample of 200 of 2,048 fit rows" in other.record["notes"][0]
    with pytest.raises(CascjaxError, match="out of reach of routing"):
        fit(stream, "routing", budget=1e-9, options=options)


LET_GO = """
import gc, sys, weakref
import numpy as np
from cascjax import synthetic
from cascjax.estimators import supplied
from cascjax.search.budgets import sum_settings
from cascjax.strategies import Mixing, Routing
table = synthetic.sample(synthetic.make_dataset(3, seed=1), 0, 1000)
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
