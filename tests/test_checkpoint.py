"""Checkpoints: whatever interrupts a job, it resumes to the same bits or says why it cannot."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascjax import CascjaxError, RunOptions, Study, Table, compare, synthetic
from cascjax.comparison import compare_job
from cascjax.data import write_table
from cascjax.data.source import Files, open_files
from cascjax.data.table import Chunk
from cascjax.engine import jobs
from cascjax.engine.checkpoint import Checkpoint, discard, pack, unpack
from cascjax.engine.passes import Sample
from cascjax.engine.processes import Processes
from cascjax.engine.run import Run

N, CUTS = 2048, (0, 600, 1300, 2048)


@pytest.fixture(scope="module")
def table() -> Table:
    return synthetic.sample(synthetic.make_dataset(3, seed=1), 0, N)


def write(folder: Path, table: Table) -> Path:
    folder.mkdir()
    for i in range(3):
        write_table(folder / f"{i}.arrow", table.take(np.arange(CUTS[i], CUTS[i + 1])))
    return folder


@dataclass(frozen=True)
class Watched(Files):
    """Files that note which chunks are read, and can interrupt a job."""

    log: list[int] = field(default_factory=list)
    stop: float = np.inf

    def read(
        self, chunks: Iterable[Chunk], columns: Iterable[str]
    ) -> Generator[tuple[Chunk, Table], None, None]:
        for chunk in chunks:
            if len(self.log) >= self.stop:
                raise KeyboardInterrupt
            self.log.append(chunk.index)
            yield from super().read([chunk], columns)


def watched(folder: Path, stop: float = np.inf) -> Watched:
    """Two chunks per file."""
    files = open_files(folder, chunk_rows=400)
    return Watched(**{f.name: getattr(files, f.name) for f in fields(files)}, stop=stop)


def run(source: Any, checkpoint: Path | None, resume: bool = False, **more: Any) -> Study:
    options = RunOptions(checkpoint, resume, more.pop("force", False), sample=100)
    return compare(source, ["mixing", "routing"], budgets=3, options=options, **more)


def bits(study: Study) -> list[Any]:
    names = ("cost", "quality", "fit_cost", "gamma", "parameters", "ran", "auc", "auc_samples")
    return [
        *(np.asarray(getattr(f, n), float).tobytes() for f in study.frontiers for n in names),
        *(f.scores for f in study.frontiers),
    ]


def npz(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npz"))


# What a part can hold.


def test_parts_come_back_to_the_bit(table: Table, tmp_path: Path) -> None:
    value = {
        "sample": Sample(np.arange(3), table.take(np.arange(3))),
        3: (None, True, 2, 0.1, np.nan, -np.inf, "words"),
        "arrays": [np.array([0.1], np.float32), np.zeros((0, 2)), np.array(1.5), np.array([True])],
    }
    digest, same = unpack(pack(value, "job"))
    assert digest == "job"
    assert same["sample"].table == value["sample"].table  # pyright: ignore[reportAttributeAccessIssue]
    assert repr(same[3]) == repr(value[3])
    for one, other in zip(same["arrays"], value["arrays"], strict=True):  # pyright: ignore[reportArgumentType]
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    with pytest.raises(TypeError, match="cannot hold PosixPath"):
        pack(tmp_path)
    content = pack(Sample()).replace(b"c\0\0\0a\0\0\0s\0\0\0c", b"o\0\0\0s\0\0\0s\0\0\0c")
    with pytest.raises((ValueError, zipfile.BadZipFile)):
        unpack(content)


def test_damaged_parts_and_parts_of_other_jobs_are_refused(tmp_path: Path) -> None:
    mine, other = (Checkpoint(tmp_path / "kept", {"seed": seed}) for seed in (0, 1))
    mine.open(resume=False)
    assert mine.get("a") is None
    mine.put("a", np.arange(100))
    np.testing.assert_array_equal(mine.get("a"), np.arange(100))
    with pytest.raises(CascjaxError, match=r"a\.npz belongs to another run; remove it"):
        other.get("a")
    path = tmp_path / "kept" / "a.npz"
    content = path.read_bytes()
    for damaged in (b"", content[:50], content[:-200], b"x" * len(content)):
        path.write_bytes(damaged)
        with pytest.raises(CascjaxError, match=r"a\.npz is damaged; remove it"):
            mine.get("a")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    mine = Checkpoint(folder, {"seed": 0})
    mine.open(resume=False)
    mine.put("a", 1)
    for content, words in ((b"{", "a damaged run.json"), (None, "parts of an unknown run")):
        (folder / "run.json").unlink(missing_ok=True)
        if content is not None:
            (folder / "run.json").write_bytes(content)
        with pytest.raises(CascjaxError, match=f"{words}: use another, or start over with force"):
            mine.open(resume=True)
    mine.open(resume=False, force=True)
    assert mine.keys == []


# Interrupts.


@pytest.mark.parametrize("in_memory", [False, True])
def test_interrupts_between_any_two_parts(table: Table, tmp_path: Path, in_memory: bool) -> None:
    source = table if in_memory else watched(write(tmp_path / "parts", table))
    folder = tmp_path / "kept"
    more: dict[str, Any] = {"resamples": 40}
    if in_memory:
        more |= {"scores": ["rci", "nauc"]}
    whole = bits(run(source, None, **more))
    assert bits(run(source, folder, **more)) == whole
    with pytest.raises(CascjaxError, match="an unfinished run: resume it with resume=True"):
        run(source, folder, **more)
    for path in npz(folder):
        path.unlink()
        assert bits(run(source, folder, True, **more)) == whole
        assert path.exists()
    assert run(source, folder, force=True).n_fit == N // 2
    discard(folder)
    assert not folder.exists()


CODE = """
import sys
from pathlib import Path
import test_checkpoint as t
source = t.watched(Path(sys.argv[1]))
t.run(source, Path(sys.argv[2]), len(sys.argv) > 3)
"""


@pytest.mark.slow
def test_a_run_killed_anywhere_resumes_to_the_same_bits(table: Table, tmp_path: Path) -> None:
    parts = write(tmp_path / "parts", table)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    whole = bits(run(watched(parts), None))
    for wanted in random.sample(range(1, 14), 2):
        folder = tmp_path / f"killed-{wanted}"
        words = [sys.executable, "-c", CODE, str(parts), str(folder)]
        with subprocess.Popen(words, env=env) as process:
            while process.poll() is None and len(npz(folder)) < wanted:
                time.sleep(0.001)
            time.sleep(random.random() * 0.02)
            process.send_signal(signal.SIGKILL)
        assert bits(run(watched(parts), folder, True)) == whole


def test_a_full_disk_can_be_resumed_from(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder = watched(write(tmp_path / "parts", table)), tmp_path / "kept"
    real = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if len(npz(folder)) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(CascjaxError, match=r"^cannot write .*No space left on device$"):
            run(source, folder)
    assert len(npz(folder)) == 5
    assert bits(run(source, folder, True)) == bits(run(source, None))


def test_other_files_and_settings_are_noticed(table: Table, tmp_path: Path) -> None:
    parts, folder = write(tmp_path / "parts", table), tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        run(watched(parts, stop=8), folder)
    with pytest.raises(CascjaxError, match="other settings, seed 0 and not 5: use another, or"):
        run(watched(parts), folder, True, seed=5)
    write_table(parts / "1.arrow", table.take(np.arange(CUTS[1], CUTS[2])))
    with pytest.raises(CascjaxError, match=r"1\.arrow has changed"):
        run(watched(parts), folder, True)
    assert bits(run(watched(parts), folder, force=True)) == bits(run(watched(parts), None))
    other = replace(table, quality=1 - table.quality)
    kept = tmp_path / "memory"
    run(table, kept)
    with pytest.raises(CascjaxError, match="the table has changed"):
        run(other, kept, True)


def bad(table: Table, row: int) -> Table:
    cost = table.cost.copy()
    cost[row, 1] = -1
    return replace(table, cost=cost)


def test_an_invalid_file_can_be_fixed_and_the_run_resumed(table: Table, tmp_path: Path) -> None:
    parts, folder = write(tmp_path / "parts", bad(table, 1200)), tmp_path / "kept"

    def fails(words: str, **more: Any) -> None:
        with pytest.raises(CascjaxError, match=words):
            run(watched(parts), folder, **more)

    fails(r"1\.arrow: column 'cost', row 600")
    kept = [path.stem for path in npz(folder)]
    assert kept == ["read-00", "read-01"]  # of the first file; of the second nothing is kept
    write_table(parts / "0.arrow", table.take(np.arange(*CUTS[:2])))
    fails(r"0\.arrow has changed", resume=True)
    # With another number of rows all chunks after it are others.
    write_table(parts / "1.arrow", table.take(np.arange(CUTS[1], CUTS[2] - 1)))
    fails("other settings, chunks", resume=True)
    write_table(parts / "1.arrow", bad(table, 1200).take(np.arange(CUTS[1], CUTS[2])))
    fails(r"row 600", force=True)
    write_table(parts / "1.arrow", table.take(np.arange(CUTS[1], CUTS[2])))
    source = watched(parts)
    whole = bits(run(source, None))
    source.log.clear()
    assert bits(run(source, folder, True)) == whole
    assert source.log[:4] == [2, 3, 4, 5]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_another_process_kept_of_an_invalid_file_is_computed_again(
    table: Table, tmp_path: Path, elsewhere: bool
) -> None:
    """It keeps a part in the same folder after the file was noted, or in a folder of its own."""
    quality, folder = table.quality.copy(), tmp_path / "kept"
    quality[CUTS[1] : CUTS[1] + 100] = 0  # in the first chunk of the file; the second is refused
    parts = write(tmp_path / "parts", bad(replace(table, quality=quality), 1200))
    with pytest.raises(KeyboardInterrupt):
        run(watched(parts, stop=3), folder)
    assert [path.stem for path in npz(folder)] == ["read-00", "read-01", "read-02"]
    stale = folder / "read-02.npz"
    fixed = table.take(np.arange(CUTS[1], CUTS[2]))
    if not elsewhere:
        shutil.copy(stale, tmp_path / "stale")
        with pytest.raises(CascjaxError, match="row 600"):
            run(watched(parts), folder, True)
        assert not stale.exists()
        shutil.copy(tmp_path / "stale", stale)
        write_table(parts / "1.arrow", fixed)
    else:

        class Two(Processes):
            def gather(self, mine: np.ndarray) -> np.ndarray:
                return np.stack([mine, mine])

            def broadcast(self, sender: int, content: bytes | None) -> bytes:
                assert content == b"[]"
                return f'["{parts}/1.arrow"]'.encode() if sender else content

        write_table(parts / "1.arrow", fixed)
        job = compare_job(watched(parts), ["mixing", "routing"], budgets=3, sample=100)
        options = RunOptions(folder, True)
        jobs.start_run(job, options, {"scores": []}, processes=Two(0, 2))
        assert not stale.exists()
    assert bits(run(watched(parts), folder, True)) == bits(run(watched(parts), None))


# Sharing.


def test_parts_come_in_order_whoever_did_them() -> None:
    done: list[int] = []

    def do(places: Sequence[int]) -> Generator[tuple[int, np.ndarray], None, None]:
        for part in places[::-1]:
            done.append(part)
            yield part, np.array([part, 0.1 + part])

    results = [part[0] for part in Run().each("x", list("abcd"), [1, 1, 1, 1], do)]
    assert results == [0, 1, 2, 3]
    assert done == [3, 2, 1, 0]


def test_processes_of_different_jobs_are_refused(table: Table, tmp_path: Path) -> None:
    """They would wait for each other for ever: a checkpoint in one of them, other chunks."""
    heard: list[list[bytes]] = []

    class Heard(Processes):
        def check_same(self, what: str, digest: bytes) -> None:
            heard[-1].append(digest)

        def broadcast(self, sender: int, content: bytes | None) -> bytes:
            return content or b""

        def agree(self, do: Any) -> Any:
            return do()

    parts, plain = write(tmp_path / "parts", table), RunOptions()
    for options, rows in (
        (plain, 400),
        (plain, 400),
        (RunOptions(tmp_path / "kept"), 400),
        (plain, 9),
    ):
        heard.append([])
        source = open_files(parts, chunk_rows=rows)
        Run.start(options, source, {}, {}, processes=Heard(0, 2))
    assert heard[0] == heard[1]
    for other in heard[2:]:
        assert other != heard[0]
