"""What commands do with a folder, a pattern or several files: they read them as a stream."""

import glob
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascjax.cli.legacy import arguments
from cascjax.cli.terminal import keep_compiled, make_console, uninterrupted
from cascjax.errors import CascjaxError, RefusedError

# Everything that needs JAX is imported inside the commands: the first words come at once.
if TYPE_CHECKING:
    from cascjax.engine.options import Progress
    from cascjax.engine.processes import Processes

JOURNAL = "journal"
"""The folder in --out that what is done is kept in until the end."""

LEARNED_OPTIONS = ("learner", "folds", "cost_model", "ridge", "sigma_scale")
"""Options of learned estimates, see `arguments.learning`."""


def journal_of(out: Path) -> Path:
    """The folder that what is done is kept in, where --out is a file."""
    return out.with_name(f"{out.name}.journal")


def is_stream(tables: Sequence[Path]) -> bool:
    """Whether these words are to be read as a stream and not as one table."""
    if len(tables) != 1:
        return True
    return tables[0].is_dir() or (not tables[0].exists() and glob.has_magic(str(tables[0])))


def check_table_options(table: Path, **given: Any) -> None:
    """Refuses, for a single table, options that are of a stream.

    Raises:
        CascjaxError: one is given.
    """
    for name, value in given.items():
        if value is not None and value is not False:
            if not table.exists():
                raise CascjaxError(
                    f"cannot read {table}: there is no such file or folder; name another"
                )
            raise CascjaxError(
                f"--{name} is of a folder, a pattern or several files: leave it out, or name such"
            )


def fit(
    tables: Sequence[Path],
    out: Path,
    speaks: bool,
    *,
    strategy: str,
    estimates: str | None,
    noise: str | None,
    models: str | None,
    max_depth: int,
    search: str,
    sample: int | None,
    resume: bool,
    force: bool,
    learning: dict[str, Any],
    **wanted: Any,
) -> None:
    """The command fit of a stream; `wanted` are arguments of `fit`, `speaks` as above.

    Raises:
        CascjaxError: what `cascjax.fit` refuses.
    """
    chosen = arguments.strategies(strategy, max_depth, search)
    if len(chosen) > 1:
        raise CascjaxError(f"--strategy {strategy!r}: fit one at a time")
    _say(speaks, f"Reading {_named(tables)}")
    with uninterrupted():
        from cascjax.data.files import atomic_write
        from cascjax.data.source import open_files
        from cascjax.engine.checkpoint import discard
        from cascjax.engine.options import SAMPLE, RunOptions
        from cascjax.engine.processes import all_processes
        from cascjax.fitting import Confidence
        from cascjax.fitting import fit as fit_policy
        from cascjax.report.policy import print_policy

    source = open_files(tables)
    if models is not None:
        source = source.select_models(arguments.models(models, source.models))
    new_queries = wanted.pop("new_queries")
    if wanted["confidence"] is not None:
        wanted["confidence"] = Confidence(wanted["confidence"], new_queries)
    arguments.check_sizes(chosen, source.n_models)
    keep_compiled()
    journal, processes = journal_of(out), all_processes()
    # The file is there before anything is computed for it: what cannot be written fails now.
    with _kept(journal), atomic_write(out) if speaks else nullcontext() as temporary:
        with _progress(source.n_rows, speaks) as progress:
            policy = fit_policy(
                source, chosen[0], arguments.spec(estimates, noise, learning),
                options=RunOptions(journal, resume, force, sample or SAMPLE, progress), **wanted,
            )  # fmt: skip
        if temporary is not None:
            temporary.write_text(policy.text(), encoding="utf-8")
    processes.agree(lambda: discard(journal))
    if not speaks:
        return
    for note in policy.record.get("notes", ()):
        click.echo(f"note: {note}.")
    print_policy(policy, make_console())
    click.echo(f"Wrote {out}")


def evaluate(
    policy: Path,
    tables: Sequence[Path],
    out: Path,
    speaks: bool,
    *,
    resamples: int,
    confidence: float,
    seed: int,
    resume: bool,
    force: bool,
) -> None:
    """The command evaluate of a stream; `speaks` as above.

    Raises:
        CascjaxError: what `cascjax.evaluate` refuses.
    """
    _say(speaks, f"Reading {policy} and {_named(tables)}")
    with uninterrupted():
        from cascjax.data.source import open_files
        from cascjax.engine.checkpoint import discard
        from cascjax.engine.options import RunOptions
        from cascjax.engine.processes import all_processes
        from cascjax.evaluation import evaluate as evaluate_policy
        from cascjax.policy import load_policy
        from cascjax.report.evaluation import print_evaluation, rows_note, to_json

    loaded, stream = load_policy(policy), open_files(tables)
    keep_compiled()
    processes = all_processes()
    settings = {"policy": str(policy), "table": _named(tables), "seed": seed}
    with _kept(out / JOURNAL), _progress(stream.n_rows, speaks) as progress:
        found = evaluate_policy(
            loaded, stream, resamples=resamples, confidence=confidence, seed=seed,
            options=RunOptions(out / JOURNAL, resume, force, progress=progress),
        )  # fmt: skip
        content = to_json(found) | {"settings": settings | {"resamples": resamples}}
        processes.agree(lambda: _write(out / "summary.json", content) if speaks else None)
    processes.agree(lambda: discard(out / JOURNAL))
    if speaks:
        print_evaluation(found, make_console())
        if note := rows_note(found, stream.n_rows, split="split" in stream.columns):
            click.echo(f"note: {note}.")
        click.echo(f"Wrote {out / 'summary.json'}")


def _write(path: Path, content: dict[str, Any]) -> None:
    from cascjax.data.files import atomic_write

    with atomic_write(path) as temporary:
        text = json.dumps(content, indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _say(speaks: bool, words: str) -> None:
    if speaks:
        click.echo(words)


def _shared(processes: "Processes") -> str:
    return f" Shared by {processes.count} processes." if processes.count > 1 else ""


@contextmanager
def _progress(n_rows: int, speaks: bool) -> Iterator["Progress"]:
    """A bar of the process that speaks: each does about as much as it does."""
    from cascjax.engine.processes import all_processes
    from cascjax.report.console import stream_progress

    if not speaks:
        yield lambda doing, rows: None
        return
    count = all_processes().count
    with stream_progress(n_rows) as advance:
        yield lambda doing, rows: advance(doing, rows * count)


@contextmanager
def _kept(folder: Path | None) -> Iterator[None]:
    """Add to an interrupt or a full disk what is kept in the folder and how to resume."""
    try:
        yield
    except BaseException as error:
        if folder is None:
            raise
        from cascjax.data.source import BadFileError
        from cascjax.engine.checkpoint import discard
        from cascjax.engine.processes import GONE, all_processes

        if isinstance(error, RefusedError):
            # Refused again if asked again: what is kept would stand in the way of another command.
            with suppress(CascjaxError):
                discard(folder)
            raise
        way_out = f"what is done is kept in {folder}: go on with --resume"
        if not any(folder.glob("*.npz")):
            # Of several processes another may be about to keep something there.
            if all_processes().count == 1:
                with suppress(CascjaxError):
                    discard(folder)
            elif str(error) == GONE:
                raise CascjaxError(f"{error}; start all of them again with --resume") from error
            raise
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(way_out) from error
        if isinstance(error, CascjaxError):
            words = str(error)
            for argument, option in (("resume=True", "--resume"), ("force=True", "--force")):
                words = words.replace(argument, option)
            if words.startswith("cannot write"):
                raise CascjaxError(f"{error}; {way_out} once there is room") from error
            if isinstance(error, BadFileError):
                raise CascjaxError(f"{error}; {way_out} once that is fixed") from error
            if words == GONE:
                raise CascjaxError(f"{error}; {way_out}, all of them") from error
            if words != str(error):
                raise CascjaxError(words) from error
        raise


def _named(tables: Sequence[Path]) -> str:
    more = f" and {len(tables) - 1} more" if len(tables) > 1 else ""
    return f"{tables[0]}{more}"
