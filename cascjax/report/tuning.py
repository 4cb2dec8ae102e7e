"""What tuning found: for the terminal, and as files."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from cascjax.report.study import finite, save
from cascjax.report.tables import grid_of
from cascjax.tuning import Tuning


@contextmanager
def step_progress() -> Iterator[Callable[[int, int], None]]:
    """A bar over the steps of a search on a terminal's stderr, and what moves it."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("tuning"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("tuning", total=None)
        yield lambda step, steps: bar.update(task, completed=step, total=steps)


def print_tuning(tuning: Tuning, console: Console) -> None:
    """Prints what cross-validation says of every candidate, and which one the policies hold."""
    grid = grid_of("candidate", "gain at equal cost", "standard error", "")
    for name, *cells in candidates(tuning):
        grid.add_row(Text(name), *cells)
    console.print(grid)
    console.print(Text(verdict(tuning)))


def candidates(tuning: Tuning) -> list[tuple[str, str, str, str]]:
    """A row a candidate: its name, its gain and the gain's standard error, and what was chosen."""
    rows = []
    for i, of in enumerate(tuning.tuned.candidates):
        gain = ("0", "") if i == 0 else (f"{of.gain:+.4f}", f"{of.error:.4f}")
        rows.append((of.name, *gain, "chosen" if i == tuning.tuned.chosen else ""))
    return rows


def verdict(tuning: Tuning) -> str:
    """One sentence: whether tuned parameters replace the plain ones, and what that is worth."""
    tuned, study = tuning.tuned, tuning.study
    best = tuned.candidates[tuned.chosen]
    if not tuned.replaces:
        return (
            "Cross-validated on the queries to fit, nothing did better than the plain parameters:"
            " the policies hold these."
        )
    plain, new = study.frontiers[-2:]
    text = (
        f"Cross-validated on the queries to fit, {best.name} gains {best.gain:.4f} of quality at"
        f" equal cost (standard error {best.error:.4f}"
        f"{', which may be chance' if best.gain < best.error else ''}): the policies hold the tuned"
        " parameters."
        f" On the queries to evaluate the AUC changes by {new.auc - plain.auc:+.4f}"
    )
    if study.difference_interval is not None:
        low, high = study.difference_interval[-1, -2].tolist()
        text += f" [{low:+.4f}, {high:+.4f}]"
        if low <= 0 <= high:
            text += ", which is within noise"
        elif new.auc < plain.auc:
            text += ": there tuning lost"
    return text + "."


def write_tuning(
    tuning: Tuning, directory: Path, command: str, settings: Mapping[str, object]
) -> Path:
    """Write what `cascjax.report.study.save` does, and policy-01.json and so on, in rising budget.

    Args:
        tuning: what to write.
        directory: a folder that exists; policies of an earlier and larger run in it are removed.
        command: the command line that made it.
        settings: what was asked for, for the record.

    Returns:
        The path of the report.

    Raises:
        CascjaxError: the folder cannot be written.
    """
    tuned = tuning.tuned
    digits = max(2, len(str(len(tuning.policies))))
    texts = {
        f"policy-{i:0{digits}}.json": policy.text() for i, policy in enumerate(tuning.policies, 1)
    }
    earlier = _policies_of(directory)
    report = save(
        tuning.study, directory, command,
        more={
            "settings": {**tuning.study.settings, **settings},
            "tuned": {
                "replaces": tuned.replaces,
                "verdict": verdict(tuning),
                "candidates": [
                    {"name": c.name, "gain": finite(c.gain), "error": finite(c.error)}
                    for c in tuned.candidates
                ],
                "chosen": tuned.candidates[tuned.chosen].name,
                "scale": dict(zip(tuned.models, tuned.scale.tolist(), strict=True)),
                "offset": dict(zip(tuned.models, tuned.offset.tolist(), strict=True)),
                "seconds": round(tuned.seconds, 3),
            },
            "policies": dict(zip(texts, tuning.budgets.tolist(), strict=True)),
        },
        texts=texts,
        tuning={"candidates": candidates(tuning), "verdict": verdict(tuning)},
    )  # fmt: skip
    for name in earlier - set(texts):
        (directory / name).unlink(missing_ok=True)
    return report


def _policies_of(directory: Path) -> set[str]:
    """The policies that an earlier run says it left there; a file of anyone else's is not."""
    try:
        found = json.loads((directory / "summary.json").read_text(encoding="utf-8"))["policies"]
        return {name for name in found if re.fullmatch(r"policy-\d+\.json", name)}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
