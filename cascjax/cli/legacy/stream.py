"""What commands do with a folder, a pattern or several files: they read them as a stream."""

import glob
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascjax.cli.legacy import arguments
from cascjax.cli.terminal import keep_compiled, make_console, naming, uninterrupted
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


def inspect(tables: Sequence[Path]) -> None:
    """The command inspect of a stream, in one reading of all its columns.

    Raises:
        CascjaxError: what `cascjax.data.source` refuses.
    """
    with uninterrupted():
        from cascjax.data.source import open_files
        from cascjax.report.console import stream_progress
        from cascjax.report.contents import Contents, contents_of, print_contents

    source, found = open_files(tables), None
    with stream_progress(source.n_rows) as advance:
        for chunk, table in source.read(source.chunks, source.columns):
            part: Contents = contents_of(table)
            found = part if found is None else found + part
            advance("reading", chunk.n_rows)
    assert found is not None
    print_contents(found, _named(tables), make_console(), len(source.files))


def frontier(
    tables: Sequence[Path],
    out: Path,
    command: str,
    speaks: bool = True,
    *,
    budgets: int | list[float] | None,
    strategies: str | None,
    estimates: str | None,
    noise: str | None,
    models: str | None,
    seed: int,
    scores: str | None,
    resamples: int | None,
    confidence: float | None,
    max_depth: int = 5,
    search: str = "exact",
    sample: int | None = None,
    resume: bool = False,
    force: bool = False,
    **learned: Any,
) -> None:
    """Run the command frontier; `speaks` where this process writes for all.

    Raises:
        CascjaxError: what `cascjax.compare` refuses.
    """
    several = is_stream(tables)
    estimates, learning = arguments.learning(
        estimates, noise, **(dict.fromkeys(LEARNED_OPTIONS) | learned)
    )
    chosen = arguments.strategies(strategies, max_depth, search)
    if any(table.is_dir() and table.resolve() == out.resolve() for table in tables):
        raise CascjaxError(f"--out {out} is the folder of the tables: name another")
    _say(speaks, f"Reading {_named(tables)}")
    with uninterrupted():
        from cascjax.comparison import compare
        from cascjax.data import read_table
        from cascjax.data.source import open_files
        from cascjax.data.table import split_rows
        from cascjax.engine.checkpoint import discard
        from cascjax.engine.options import SAMPLE, RunOptions
        from cascjax.engine.passes import describe_split
        from cascjax.engine.processes import all_processes
        from cascjax.estimators.specs import as_estimates
        from cascjax.metrics import SCORES, check_scores
        from cascjax.report.study import print_study, save

    wanted = [] if scores is None else arguments.names("--scores", scores)
    wanted = list(SCORES) if wanted == ["all"] else check_scores(wanted)
    spec = arguments.spec(estimates, noise, learning)
    source = open_files(tables) if several else read_table(tables[0])
    with nullcontext() if several else naming(tables[0]):
        if models is not None:
            source = source.select_models(arguments.models(models, source.models))
        arguments.check_sizes(chosen, source.n_models)
        spec = as_estimates(spec, source)
        n_rows, size = source.n_rows, f"{source.n_rows:,} queries x {source.n_models} models"
        at, processes = 0.95 if confidence is None else confidence, all_processes()
        if several:
            resamples, files = resamples or 0, len(source.files)  # pyright: ignore[reportAttributeAccessIssue]
            say = (
                f"{size} in {files:,} file{'s' * (files > 1)}; {spec.kind} estimates; split"
                f" {describe_split(source)}.{_shared(processes)}"
            )
        else:
            fit, evaluate = (len(rows) for rows in split_rows(source, seed))  # pyright: ignore[reportArgumentType]
            say = f"{size}, {fit:,} to fit, {evaluate:,} to evaluate; {spec.kind} estimates."
            resamples = resampling(resamples, confidence, evaluate)["resamples"]
        keep_compiled()
        checkpoint = out / JOURNAL if several else None
        with _kept(checkpoint), _progress(n_rows, speaks) as progress:
            _say(speaks, say)
            study = compare(
                source, chosen, spec, budgets=budgets, scores=wanted, resamples=resamples,  # pyright: ignore[reportArgumentType]
                confidence=at, seed=seed,
                options=RunOptions(checkpoint, resume, force, sample or SAMPLE, progress),
            )  # fmt: skip
            asked = {"table": _named(tables), "max_depth": max_depth, "search": search}
            study = replace(study, settings=asked | study.settings)
            report = processes.agree(lambda: save(study, out, command) if speaks else out)
    if checkpoint is not None:
        processes.agree(lambda: discard(checkpoint))
    if not speaks:
        return
    for note in notes(study.settings, study.n_fit, study.cost_unit):
        click.echo(f"note: {note}.")
    print_study(study, make_console())
    if not study.resamples and several:
        click.echo("note: no intervals were asked for: --resamples 1000 takes a third reading.")
    click.echo(f"Report: {report}")


def resampling(resamples: int | None, confidence: float | None, n_evaluate: int) -> dict[str, Any]:
    """Return the options of intervals; by default 1,000 resamples where that takes seconds."""
    from cascjax.metrics.bootstrap import DEFAULT_RESAMPLES, default_resamples

    at = 0.95 if confidence is None else confidence
    if resamples is None:
        asked = confidence is not None
        resamples = DEFAULT_RESAMPLES if asked else default_resamples(n_evaluate, at)
    return {"resamples": resamples, "confidence": at}


def notes(settings: dict[str, Any], n_fit: int, unit: str) -> list[str]:
    """What is to be said of what was learned, and of settings looked for on a sample."""
    of_learning = list(settings.get("notes", ()))
    if "sample" not in settings:
        return of_learning
    return [
        *of_learning,
        f"settings were looked for on {settings['sample']:,} of {n_fit:,} rows to fit on, whose"
        f" mean cost has a standard error of {settings['sample_cost_error']:.2g}"
        f"{unit and ' ' + unit} and mean quality of {settings['sample_quality_error']:.2g} at most;"
        " budgets are met on all rows to fit on",
    ]


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
