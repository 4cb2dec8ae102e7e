"""The paper's experiments on many files: what they find of the table in memory, however cut."""

import functools
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from cascjax import experiments, synthetic
from cascjax.cli.main import main
from cascjax.data import write_table
from cascjax.data.source import Stream, open_stream
from cascjax.data.table import Table
from cascjax.engine import passes as streaming
from cascjax.engine.parts import Parts
from cascjax.engine.passes import is_fit, look, merge, settle
from cascjax.engine.run import Ledger
from cascjax.errors import CascjaxError
from cascjax.experiments import (
    EXPERIMENTS,
    Job,
    ablation,
    base,
    noise_grid,
    protocol,
    streams,
    table1,
    table4,
)
from cascjax.experiments.cells import Row, run_cells
from cascjax.experiments.protocol import check_stream, setup, split, streamed
from cascjax.experiments.published import CHOICES
from cascjax.strategies import CascadeRouting, Pandora, Routing, Strategy

N = 1581
CUTS = (0, 780, 781, N)
"""Of each piece of 400 rows at most 257 to 512 are to evaluate on: few programs; of one but one."""

COLUMNS = ((3, "low"), (3, "high"))
QUICK = ("mixing", "routing")


@pytest.fixture(scope="module")
def twin() -> Table:
    return synthetic.sample(synthetic.make_dataset(11, kind="routerbench"), 0, N)


def write(folder: Path, table: Table, cuts: tuple[int, ...] = CUTS) -> Path:
    folder.mkdir()
    for i, (start, stop) in enumerate(itertools.pairwise(cuts)):
        suffix = "arrow" if i % 2 else "parquet"
        write_table(folder / f"{i}.{suffix}", table.take(np.arange(start, stop)))
    return folder


@pytest.fixture(scope="module")
def folder(twin: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("twin") / "parts", twin)


@pytest.fixture(scope="module")
def stream(folder: Path) -> Stream:
    return open_stream(folder, piece_rows=400)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few columns, strategies and levels: the rest is the same, and compiles for minutes."""
    for module in (table1, table4):
        monkeypatch.setattr(module, "COLUMNS", COLUMNS)
    monkeypatch.setattr(table1, "CHOICES", {3: CHOICES[3]})
    monkeypatch.setattr(table1, "PLAIN", QUICK)
    monkeypatch.setattr(table1, "STRATEGIES", QUICK)
    monkeypatch.setattr(noise_grid, "N_MODELS", 3)
    monkeypatch.setattr(noise_grid, "LEVELS", (0.0, 0.6, 1.2))
    monkeypatch.setattr(noise_grid, "PAIRS", ((0, 0), (1, 0), (1, 1), (2, 1)))
    monkeypatch.setattr(noise_grid, "_DRAWN", ("routing", "thresholding", "pandora"))
    monkeypatch.setattr(noise_grid, "_TOGETHER", 3)
    monkeypatch.setattr(ablation, "N_MODELS", 3)
    monkeypatch.setattr(ablation, "LEVELS", ("low", "high"))
    monkeypatch.setattr(ablation, "VARIANTS", {"pandora": Pandora(), ablation.SQUARED: Pandora()})
    monkeypatch.setattr(ablation, "_LIVE", 4)
    monkeypatch.setattr(experiments, "PIECE_ROWS", 400)
    monkeypatch.setattr("cascjax.cli.experiments.keep_compiled", lambda: None)


def rows_of(name: str, job: Job, folder: Path) -> list[Row]:
    parts = Parts(folder / "cells", {})
    parts.open()
    return run_cells(EXPERIMENTS[name].cells(job), parts)


_KEYS = ("models", "noise", "strategy", "variant", "noise_ante", "noise_post")


def by_key(rows: list[Row]) -> dict[tuple[Any, ...], Row]:
    found = {tuple(row.get(key) for key in _KEYS): row for row in rows}
    assert len(found) == len(rows)
    return found


def check_areas(name: str, twin: Table, stream: Stream, tmp_path: Path, **settings: Any) -> None:
    for place in ("table", "stream"):
        (tmp_path / place).mkdir()
    table = by_key(rows_of(name, Job(twin, "", 3, settings), tmp_path / "table"))
    found = by_key(rows_of(name, Job(None, "", 3, settings, stream), tmp_path / "stream"))
    assert found.keys() == table.keys()
    for key, row in found.items():
        # Sums over other blocks: float32 over a few dozen rows, then float64.
        assert row["auc"] == pytest.approx(table[key]["auc"], abs=1e-6, nan_ok=True), key
        if row.get("auc_samples"):
            # Of the same weights, whose sums are of float32 over other blocks.
            np.testing.assert_allclose(row["auc_samples"], table[key]["auc_samples"], rtol=1e-5)
        if "fit" in row:
            assert (row["fit"], row["evaluate"]) == (79, N - 79)


# The split.


def fit_rows(job: streaming.Job) -> np.ndarray:
    return np.concatenate(
        [is_fit(job, piece, table) for piece, table in job.stream.tables(job.stream.pieces, [])]
    )


def test_the_split_is_the_papers_whatever_the_files_have(twin: Table, tmp_path: Path) -> None:
    halves = np.arange(N) % 2
    with_split = Table(twin.quality, twin.cost, split=halves.astype(np.int8), models=twin.models)
    stream = open_stream(write(tmp_path / "parts", with_split), piece_rows=300)
    for seed in (0, 9):
        job = streamed(stream, 3, [Routing()], "low", seed)
        np.testing.assert_array_equal(np.flatnonzero(fit_rows(job)), split(N)[0])
    settled = settle(job, look(job, stream.pieces))
    np.testing.assert_array_equal(settled.sample, split(N)[0])
    assert settled.exact


def test_budgets_are_those_of_the_table(twin: Table, stream: Stream) -> None:
    job = streamed(stream, 3, [Routing()], "low", 0)
    settled, given = settle(job, look(job, job.stream.pieces)), setup(twin, 3)
    assert settled.models == given.table.models
    # Sums in float64 in another order.
    np.testing.assert_allclose(settled.budgets, given.budgets, rtol=1e-12)


def test_of_many_rows_5_percent_are_drawn_row_by_row(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "PERMUTED", 1000)
    found = []
    for piece_rows, seed in ((400, 0), (77, 0), (400, 5)):
        job = streamed(open_stream(folder, piece_rows=piece_rows), 3, [Routing()], "low", seed)
        found.append(fit_rows(job))
    # Neither the pieces nor the seed of the noise count.
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    # 79 are expected of 1,581, with a standard deviation of 8.7.
    assert 45 < found[0].sum() < 115
    looked = [look(job, [piece]) for piece in job.stream.pieces[::-1]]
    settled = settle(job, merge(job, *looked))
    np.testing.assert_array_equal(settled.sample, np.flatnonzero(found[0]))


# AUCs.


@pytest.mark.parametrize(
    "strategies",
    [QUICK, pytest.param(table1.PLAIN, marks=pytest.mark.slow)],
    ids=["some", "all"],
)
def test_tables_1_and_4_are_those_of_the_table(
    strategies: tuple[str, ...], twin: Table, stream: Stream, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(table1, "PLAIN", strategies)
    check_areas("table4", twin, stream, tmp_path, tuned="none", resamples=100)


@pytest.mark.parametrize(
    "strategies",
    [
        ("routing", "thresholding", "pandora"),
        pytest.param(("cascading", "cascade-routing"), marks=pytest.mark.slow),
    ],
    ids=["some", "others"],
)
def test_the_noise_grid_is_that_of_the_table(
    strategies: tuple[str, ...], twin: Table, stream: Stream, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(noise_grid, "_DRAWN", strategies)
    check_areas("noise-grid", twin, stream, tmp_path)


@pytest.mark.parametrize(
    "kinds",
    [
        {"pandora": Pandora(), ablation.SQUARED: Pandora()},
        pytest.param(
            {
                "cascade-routing": CascadeRouting(max_depth=2),
                "slow": ablation.Slow(max_depth=2),
                "greedy": CascadeRouting(max_depth=2, search="greedy"),
                ablation.SQUARED: CascadeRouting(max_depth=2),
                "max depth 1": CascadeRouting(max_depth=1),
            },
            marks=pytest.mark.slow,
        ),
    ],
    ids=["some", "more"],
)
def test_the_ablation_has_the_areas_of_the_table(
    kinds: dict[str, Strategy], twin: Table, stream: Stream, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(ablation, "VARIANTS", kinds)
    check_areas("ablation", twin, stream, tmp_path, resamples=40)
    rows = by_key(
        rows_of("ablation", Job(None, "", 3, {"resamples": 40}, stream), tmp_path / "stream")
    )
    assert all(row["timed_on"] == 39 and row["live"] > 0 for row in rows.values())
    if "slow" in kinds:
        slow = [row for row in rows.values() if row["variant"] == "slow"]
        assert [row["alike"] for row in slow] == [1.0, 1.0]


def test_of_a_sample_areas_are_nearly_the_same(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are more rows to fit on than a sample holds; of one piece none are."""
    found = {}
    monkeypatch.setattr(noise_grid, "_DRAWN", ("routing",))
    for most in (streaming.SAMPLE, 60):
        limited = functools.partial(streaming.Job, sample=most)
        monkeypatch.setattr(protocol, "Job", limited)
        for name in ("table1", "noise-grid"):
            place = tmp_path / f"{name}-{most}"
            place.mkdir()
            job = Job(None, "", 3, {"tuned": "none"}, stream)
            found[name, most] = by_key(rows_of(name, job, place))
    for name in ("table1", "noise-grid"):
        for key, row in found[name, 60].items():
            assert row["sample"] == 60
            # Budgets move along the frontier, and its AUC hardly with them: the sample's mean
            # costs are off by a standard error of about 5% of their range.
            whole = found[name, streaming.SAMPLE][key]
            assert "sample" not in whole
            assert row["auc"] == pytest.approx(whole["auc"], abs=0.02)


# The command.


def reproduced(name: str, *arguments: str, out: Path) -> Result:
    return CliRunner().invoke(main, ["reproduce", name, *arguments, "--out", str(out)])


def test_the_command_takes_folders_patterns_and_files(folder: Path, tmp_path: Path) -> None:
    found = []
    files = [str(path) for path in sorted(folder.iterdir())]
    for i, words in enumerate(([str(folder)], [str(folder / "*")], files)):
        out = tmp_path / f"{i}"
        result = reproduced("table1", *words, out=out)
        assert result.exit_code == 0, result.output
        assert sorted(p.name for p in out.iterdir()) == sorted(
            ["table1.cells", *(f"table1{suffix}" for suffix in base.SUFFIXES)]
        )
        assert sorted(p.name for p in (out / "table1.cells").iterdir()) == [
            "3.parquet", "run.json",
        ]  # fmt: skip
        page = (out / "table1.md").read_text()
        assert "1,581 queries in 3 files, of which 79 to fit on and 1,502 to evaluate on" in page
        assert "The files are read 6 times over." in page
        found.append([row["auc"] for row in pq.read_table(out / "table1.parquet").to_pylist()])
    assert found[0] == found[1] == found[2]
    again = reproduced("table1", str(folder), out=tmp_path / "0")
    assert "1 of 1 parts were done before" in again.output


def test_what_a_stream_cannot_do_is_said_in_a_line(
    twin: Table, folder: Path, tmp_path: Path
) -> None:
    few = write(tmp_path / "few", twin.take(np.arange(399)), (0, 200, 399))
    judged = synthetic.sample(synthetic.make_dataset(5), 0, 600)
    other = write(tmp_path / "other", judged, (0, 200, 600))
    mixed = write(tmp_path / "mixed", twin)
    write_table(mixed / "2.parquet", judged)
    for words, says in (
        (["table1", str(folder), "--tuned", "cheap"], "--tuned cheap needs the table in memory"),
        (["table4", str(folder), "--tuned", "all"], "leave it out, or name a single file"),
        (["noise-grid", str(few)], f"{few}: 399 rows leave 19 to fit on"),
        (["ablation", str(other)], f"{other / '0.parquet'}: the table has 5 models"),
        (["table1", str(mixed)], f"{mixed / '2.parquet'}: "),
        (["table1", str(tmp_path / "no*")], "no file has such a name; fix the pattern"),
        (["runtime", str(folder)], f"needs no table: leave out {folder}"),
        (["table1", str(folder), "--synthetic"], "one of them"),
    ):
        result = reproduced(*words, out=tmp_path / "out")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
        assert says in result.stderr
        assert not (tmp_path / "out").exists()
    inside = reproduced("table1", str(folder), out=folder)
    assert inside.exit_code == 2
    assert "is the folder of the tables: name another" in inside.stderr


def test_a_changed_file_is_refused(twin: Table, tmp_path: Path) -> None:
    parts, out = write(tmp_path / "parts", twin), tmp_path / "out"
    assert reproduced("table1", str(parts), out=out).exit_code == 0
    write_table(parts / "1.arrow", twin.take(np.array([7])))
    refused = reproduced("table1", str(parts), out=out)
    assert refused.exit_code == 2
    assert "1.arrow has changed, come or gone" in refused.stderr
    assert reproduced("table1", str(parts), "--force", out=out).exit_code == 0


def test_a_bad_row_is_named_and_mended(twin: Table, tmp_path: Path) -> None:
    parts, out = write(tmp_path / "parts", twin), tmp_path / "out"
    bad = np.array(twin.cost)
    bad[1000, 2] = np.nan
    spoiled = Table(twin.quality, bad, models=twin.models).take(np.arange(781, N))
    write_table(parts / "2.parquet", spoiled)
    whole = Table(twin.quality, twin.cost, models=twin.models)
    for i, (start, stop) in enumerate(itertools.pairwise(CUTS)):
        if i != 2:
            suffix = "arrow" if i % 2 else "parquet"
            write_table(parts / f"{i}.{suffix}", whole.take(np.arange(start, stop)))
    result = reproduced("table1", str(parts), out=out)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert f"{parts / '2.parquet'}: column 'cost', row 219" in result.stderr
    # What was done of the other files stays, and the same command goes on.
    inside = out / "table1.cells" / f"3{base.INSIDE}"
    assert [path.name for path in inside.glob("*.parquet")] != []
    write_table(parts / "2.parquet", whole.take(np.arange(781, N)))
    assert reproduced("table1", str(parts), out=out).exit_code == 0
    alone = reproduced("table1", str(parts), out=tmp_path / "alone")
    assert alone.exit_code == 0
    mended, at_once = (
        pq.read_table(place / "table1.parquet").column("auc").to_pylist()
        for place in (out, tmp_path / "alone")
    )
    assert mended == at_once


# Interrupts.

CODE = """
import sys
import cascjax.experiments as e
from cascjax.cli.main import main
from cascjax.experiments import noise_grid, table1, table4
from cascjax.experiments.published import CHOICES
for module in (table1, table4):
    module.COLUMNS = ((3, "low"), (3, "high"))
table1.CHOICES, table1.PLAIN = {3: CHOICES[3]}, ("mixing", "cascade-routing")
table4._draw = lambda *_: None
e.PIECE_ROWS = 200
main(sys.argv[1:])
"""


def kept(out: Path) -> list[Row]:
    rows = pq.read_table(out / "table4.parquet").to_pylist()
    return [{k: of for k, of in row.items() if k not in ("wall", "cpu", "seconds")} for row in rows]


@pytest.mark.slow
def test_a_run_killed_anywhere_goes_on_to_the_same_bits(folder: Path, tmp_path: Path) -> None:
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}

    def run(out: Path) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", CODE, "reproduce", "table4", str(folder)]
        words += ["--resamples", "40", "--out", str(out)]
        return subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)  # fmt: skip

    assert run(tmp_path / "whole").wait() == 0
    for wanted in random.sample(range(1, 40), 3):
        out = tmp_path / f"killed-{wanted}"
        process = run(out)
        inside = f"table4.cells/*{base.INSIDE}/*.parquet"
        while process.poll() is None and len(list(out.glob(inside))) < wanted:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert run(out).wait() == 0
        assert kept(out) == kept(tmp_path / "whole")


@pytest.mark.parametrize(
    "name", ["table4", "noise-grid", pytest.param("ablation", marks=pytest.mark.slow)]
)
def test_what_is_missing_of_a_cell_is_done_again_to_the_same_bits(
    name: str, stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_in = tmp_path / "kept"
    kept_in.mkdir()
    ledger = Ledger(kept_in, resume=True)
    job = Job(None, "", 3, {"tuned": "none", "resamples": 40}, stream, ledger)

    def work() -> list[Row]:
        (cell,) = EXPERIMENTS[name].cells(job)
        timed = ("seconds", "batch", "live", "live_median")
        return [{k: of for k, of in row.items() if k not in timed} for row in
                cell.work(lambda share: None)]  # fmt: skip

    whole = json.dumps(work())
    (inside,) = kept_in.iterdir()
    parts = sorted(inside.glob("*.parquet"))
    assert len(parts) > 4 * 2
    for path in random.sample(parts, 3):
        path.unlink()
        assert json.dumps(work()) == whole
        assert path.exists()

    # Nothing is read again where all is kept.
    def refuse(_: Stream, pieces: Any, columns: Any) -> Any:
        assert not list(pieces), columns
        return iter(())

    monkeypatch.setattr(Stream, "tables", refuse)
    assert json.dumps(work()) == whole


def test_another_run_that_was_cut_off_is_not_gone_on_with(stream: Stream, tmp_path: Path) -> None:
    def aucs(seed: int, force: bool = False) -> list[float]:
        ledger = Ledger(tmp_path, resume=True, force=force)
        job = Job(None, "", seed, {"tuned": "none"}, stream, ledger)
        (cell,) = EXPERIMENTS["table1"].cells(job)
        return [row["auc"] for row in cell.work(lambda share: None)]

    one = aucs(3)
    with pytest.raises(CascjaxError, match=r"3\.parts holds a run of other settings, seed 3"):
        aucs(4)
    assert aucs(3) == one
    assert aucs(4, force=True) != one


def test_every_piece_is_read_once_a_reading(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = Stream.tables
    read: list[int] = []

    def counted(self: Stream, pieces: Any, columns: Any) -> Any:
        for piece, table in real(self, pieces, columns):
            read.append(piece.index)
            yield piece, table

    monkeypatch.setattr(Stream, "tables", counted)
    for name in ("table1", "table4", "noise-grid", "ablation"):
        read.clear()
        place = tmp_path / name
        place.mkdir()
        rows_of(name, Job(None, "", 3, {"tuned": "none", "resamples": 40}, stream), place)
        # Of three choices of models in tables 1 and 4, which here have one.
        choices = 3 if name.startswith("table") else 1
        times = EXPERIMENTS[name].readings // choices
        assert sorted(read) == sorted(times * list(range(len(stream.pieces))))


def test_shares_rise_to_the_end(stream: Stream) -> None:
    shares: list[float] = []
    (cell,) = EXPERIMENTS["table1"].cells(Job(None, "", 3, {"tuned": "none"}, stream))
    cell.work(shares.append)
    assert shares == sorted(shares)
    assert 0.5 < shares[-1] <= 1


def test_streams_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    judged = synthetic.sample(synthetic.make_dataset(5), 0, 600)
    stream = open_stream(write(tmp_path / "other", judged, (0, 200, 600)))
    with pytest.raises(CascjaxError, match=r"0\.parquet: the table has 5 models"):
        check_stream(stream)
    assert streams.PIECE_ROWS < 1 << 20
