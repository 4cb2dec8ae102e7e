"""Running commands in tests: what they print, and that a refusal is one line and leaves nothing."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from cascjax.cli import main

DATA = ["--queries", "400", "--models", "3", "--seconds", "--seed", "1"]
"""Options of the dataset of `here`; one shape for all commands, since compiling takes longest."""


@pytest.fixture(autouse=True, scope="module")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for the tests; that of the user is left alone."""
    before = jax.config.values["jax_compilation_cache_dir"]
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        patch.setenv("JAX_PLATFORMS", "cpu")
        # pytest-xdist tells its workers how wide the terminal is, and lines would be broken to fit.
        patch.delenv("COLUMNS", raising=False)
        yield home
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic dataset of 400 queries x 3 models with seconds."""
    path = tmp_path_factory.mktemp("made") / "data.arrow"
    succeeds("synthesize", str(path), *DATA)
    return path


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a copy of the dataset in it, `data.arrow`."""
    shutil.copy(made, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def heeded_interrupts() -> Iterator[None]:
    """Python's own handler, also in processes started; a background job ignores interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it
    yield
    signal.signal(signal.SIGINT, before)
    signal.signal(signal.SIGHUP, hangup)


def run(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def succeeds(*args: str) -> str:
    """Run a command; return what it prints on standard output."""
    result = run(*args)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "cascjax:" not in result.stderr
    return result.stdout


def refused(*args: str) -> str:
    """Run a command that must fail with one line and change no file; return that line."""
    before = files(Path.cwd())
    result = run(*args)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    assert result.stdout == ""
    assert files(Path.cwd()) == before
    return error_line(result.stderr)


def error_line(text: str) -> str:
    """Return the last line of standard error, the only one that is an error."""
    *notes, line = text.splitlines()
    assert line.startswith("cascjax: ")
    assert line.isprintable()
    assert not any("cascjax: " in note or "Traceback" in note for note in notes)
    return line


def files(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def rows(folder: str | os.PathLike[str]) -> list[dict]:
    return pq.read_table(Path(folder, "frontier.parquet")).to_pylist()
