"""Checkpoints: whatever interrupts a job, it resumes to the same bits or says why it cannot."""

import contextlib
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
from cascjax.data.files import atomic_write
from cascjax.data.source import Files, open_files
from cascjax.data.table import Chunk
from cascjax.engine import jobs
from cascjax.engine.checkpoint import Checkpoint, discard, pack, unpack
from cascjax.engine.passes import Sample
from cascjax.engine.processes import Processes
from cascjax.engine.run import Run

from commands import refused  # isort: skip

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


def watched(folder: Path, stop: float = np.inf, chunk_rows: int = 400) -> Watched:
    """Two chunks per file."""
    files = open_files(folder, chunk_rows=chunk_rows)
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
    same = unpack(pack(value))
    assert same["sample"].table == value["sample"].table  # pyright: ignore[reportAttributeAccessIssue]
    assert repr(same[3]) == repr(value[3])
    for one, other in zip(same["arrays"], value["arrays"], strict=True):  # pyright: ignore[reportArgumentType]
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    with pytest.raises(TypeError, match="cannot hold PosixPath"):
        pack(tmp_path)
    content = pack(Sample()).replace(b"c\0\0\0a\0\0\0s\0\0\0c", b"o\0\0\0s\0\0\0s\0\0\0c")
    with pytest.raises((ValueError, zipfile.BadZipFile)):
        unpack(content)


class Notes(list[str]):
    """What a checkpoint says of damaged files, as `RunOptions.note`."""

    def __call__(self, text: str) -> None:
        self.append(text)


def test_damaged_parts_and_parts_of_other_jobs_are_forgotten_with_a_note(tmp_path: Path) -> None:
    notes = Notes()
    mine, other = (Checkpoint(tmp_path / "kept", {"seed": seed}, notes) for seed in (0, 1))
    mine.open(resume=False)
    assert mine.get("a") is None
    mine.put("a", np.arange(100))
    np.testing.assert_array_equal(mine.get("a"), np.arange(100))
    path = tmp_path / "kept" / "a.npz"
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[60] ^= 1
    for damaged in (b"", content[:50], content[:-200], b"x" * len(content), bytes(flipped)):
        path.write_bytes(damaged)
        assert mine.get("a") is None
        assert not path.exists()
    path.write_bytes(content)
    assert other.get("a") is None  # of another job
    path.with_name("b.npz").write_bytes(content)
    assert mine.get("b") is None  # under another name
    assert len(notes) == 7
    assert all(
        note.endswith("npz is damaged, or of another run: it is computed again") for note in notes
    )


NOT_OURS = (
    b"{", b"", b"\xff\xfe", b"[1]", b"null", b"3", b"[" * 5000, b'{"seed": 0}',
    b'{"seed": 0, "files": []}', b'{"seed": 0, "files": {"a": 1}, "checksum": 5}',
    b'{"seed": 0, "files": null, "checksum": "00"}', b'{"version": {}, "chunks": "x"}',
)  # fmt: skip
"""Contents of run.json that no run has written."""


@pytest.mark.parametrize("content", NOT_OURS)
def test_a_damaged_description_starts_the_run_over_with_a_note(
    content: bytes, tmp_path: Path
) -> None:
    folder, notes = tmp_path / "kept", Notes()
    mine = Checkpoint(folder, {"seed": 0, "files": {"a": [1]}}, notes)
    mine.open(resume=False)
    mine.put("a", 1)
    (folder / "run.json").write_bytes(content)
    assert mine.bad_files == set()
    with pytest.raises(CascjaxError, match=r"a damaged run\.json: use another, or start over"):
        mine.open(resume=False)
    assert mine.keys == ["a"]
    mine.open(resume=True)
    assert mine.keys == []
    assert notes == [f"{folder / 'run.json'} is damaged: the run starts over"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    mine = Checkpoint(folder, {"seed": 0})
    mine.open(resume=False)
    mine.put("a", 1)
    (folder / "run.json").unlink()
    with pytest.raises(CascjaxError, match="parts of an unknown run: use another, or start over"):
        mine.open(resume=True)
    assert [path.name for path in folder.iterdir()] == ["a.npz"]
    mine.open(resume=False, force=True)
    assert mine.keys == []


@pytest.mark.parametrize(
    ("trials", "in_memory"),
    [(6, True), pytest.param(90, False, marks=pytest.mark.slow)],
)
def test_a_flipped_bit_changes_no_number(
    table: Table, tmp_path: Path, trials: int, in_memory: bool
) -> None:
    """One bit at a random place of a random file of the checkpoint, or a file cut short or gone."""
    small, chance, notes = table.take(np.arange(400)), random.Random(11), Notes()
    write_table(tmp_path / "small.arrow", small)
    source = small if in_memory else open_files(tmp_path / "small.arrow", chunk_rows=150)
    kept, folder = tmp_path / "kept", tmp_path / "damaged"
    whole = bits(run(source, kept))
    for trial in range(trials):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept, folder)
        victim = chance.choice([*npz(folder), folder / "run.json"])
        content = bytearray(victim.read_bytes())
        if trial % 6 == 4:
            victim.write_bytes(content[: chance.randrange(len(content))])
        elif trial % 6 == 5 and victim.suffix == ".npz":
            victim.unlink()
        else:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            victim.write_bytes(content)
        missing = not victim.exists()
        notes.clear()
        options = RunOptions(folder, True, sample=100, note=notes)
        again = compare(source, ["mixing", "routing"], budgets=3, options=options)
        assert bits(again) == whole
        assert missing or [victim.name in note for note in notes] == [True]


# Inputs.


def change(path: Path, value: float) -> None:
    """Change a number in the middle of an Arrow file, but neither its size, footer nor time."""
    before, content = path.stat(), bytearray(path.read_bytes())
    at = content.index(np.float32(value).tobytes())
    content[at : at + 4] = np.float32(value / 2).tobytes()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("file", "stop"), [(0, 0), (0, 1), (0, 8), (2, 4), (2, 5), (2, 11), (2, 99)]
)
def test_content_that_changed_unnoticed_is_refused(tmp_path: Path, file: int, stop: int) -> None:
    """Wherever the run was interrupted, if the file was read before."""
    rows = 4000  # of each file, in two chunks: more than the bytes at its end that identify it
    table = synthetic.sample(synthetic.make_dataset(3, seed=1), 0, 3 * rows)
    parts, folder = tmp_path / "parts", tmp_path / "kept"
    parts.mkdir()
    for i in range(3):
        write_table(parts / f"{i}.arrow", table.take(np.arange(i * rows, (i + 1) * rows)))
    with contextlib.suppress(KeyboardInterrupt):
        run(watched(parts, stop, rows // 2), folder)
    change(parts / f"{file}.arrow", float(table.cost[file * rows + 90, 1]))
    source = watched(parts, chunk_rows=rows // 2)
    whole = bits(run(source, None))
    if stop > 2 * file:
        with pytest.raises(CascjaxError, match=rf"{file}\.arrow has changed, though not in size"):
            run(source, folder, True)
        assert bits(run(source, folder, force=True)) == whole
    else:  # nothing of the file was used
        assert bits(run(source, folder, True)) == whole


def test_columns_of_a_table_in_memory_are_compared(table: Table, tmp_path: Path) -> None:
    """Also those that its fingerprint leaves out."""
    options = {"checkpoint": tmp_path / "kept", "resume": True}
    compare(table, ["routing"], "supplied", budgets=3, options=RunOptions(**options))
    other = replace(table, quality_ante=table.quality_ante[::-1].copy())
    with pytest.raises(CascjaxError, match="the table has changed, though not in size and time"):
        compare(other, ["routing"], "supplied", budgets=3, options=RunOptions(**options))


# Locks and temporary files.

HOLD = """
import sys, time
from pathlib import Path
from cascjax.data.files import atomic_write, temporary_path
from cascjax.engine.checkpoint import Checkpoint
folder = Path(sys.argv[1])
mine = Checkpoint(folder, {"seed": 0})
mine.open(resume=False)
with (
    atomic_write(folder.parent / "table.arrow") as file,
    atomic_write(folder / "part.npz"),
    temporary_path(folder.parent / "tables", folder=True) as inner,
):
    (inner / "part-0").write_text("half")
    file.write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_leaves_no_lock_and_its_temporary_files_are_removed(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "kept"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        mine = Checkpoint(folder, {"seed": 0})
        for force in (False, True):
            with pytest.raises(CascjaxError, match="kept is in use by another run: wait until"):
                mine.open(resume=not force, force=force)
        with pytest.raises(CascjaxError, match="in use by another run"):
            discard(folder)
        with atomic_write(tmp_path / "other.arrow"):
            pass
        living = {path for path in tmp_path.rglob(".cascjax-*.tmp")}
        assert len(living) == 3
        process.kill()
    mine.open(resume=True)
    assert not list(folder.glob(".cascjax-*"))
    with atomic_write(tmp_path / "table.arrow"):
        pass
    assert not list(tmp_path.rglob(".cascjax-*"))
    discard(folder)
    assert not folder.exists()


@pytest.mark.parametrize("words", [["compare", "--budgets", "3"], ["fit", "--budget", "0.001"]])
@pytest.mark.parametrize("more", [[], ["--resume"], ["--force"]])
def test_a_second_command_into_one_out_is_refused(
    words: list[str], more: list[str], table: Table, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table("table.arrow", table)
    folder = Path("out/checkpoint" if words[0] == "compare" else "out.checkpoint")
    folder.parent.mkdir(exist_ok=True)
    chosen = ["--strategies" if words[0] == "compare" else "--strategy", "routing"]
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        line = refused(*words, *chosen, "table.arrow", "--out", "out", *more)
        assert line == (
            f"cascjax: {folder} is in use by another run: wait until it ends, or use another folder"
        )
        process.kill()


def test_one_process_may_use_its_folder_again(table: Table, tmp_path: Path) -> None:
    first, second = (Checkpoint(tmp_path / "kept", {"seed": 0}) for _ in range(2))
    first.open(resume=True)
    second.open(resume=True)
    first.put("a", 1)
    assert second.get("a") == 1


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
    assert source.log[:6] == [0, 1, 2, 3, 4, 5]  # the first two are only compared


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
        job = compare_job(watched(parts), ["mixing", "routing"], budgets=3, sample=100, grid="full")
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

    results = [part[0] for part in Run().each("x", list("abcd"), [()] * 4, do)]
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
