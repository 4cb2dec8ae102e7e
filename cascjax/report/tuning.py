"""Views of a tuning: as a table, in words, and as files."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from cascjax.report import findings, study
from cascjax.report.findings import finite
from cascjax.report.tables import Listing, each, simulated, simulation_note
from cascjax.tuning import Tuning
from cascjax.words import gain_text

# pandas takes long to import, and is wanted only where a table is made.
if TYPE_CHECKING:
    from pandas import DataFrame


def frame(tuning: Tuning) -> "DataFrame":
    """Return one row per candidate: its cross-validated gain, and which one was chosen."""
    import pandas as pd

    candidates = tuning.tuned.candidates
    columns = {
        "gain": [c.gain for c in candidates],
        "standard error": [c.error for c in candidates],
        "chosen": [i == tuning.tuned.chosen for i in range(len(candidates))],
    }
    return pd.DataFrame(columns, index=pd.Index([c.name for c in candidates], name="candidate"))


def summary(tuning: Tuning) -> Listing:
    """Return the table of candidates under the verdict."""
    formats = {
        "gain at equal cost": each(lambda gain: f"{gain:+.4f}" if gain else "0"),
        "standard error": each(lambda error: f"{error:.4f}" if error else ""),
        "": each(lambda chosen: "chosen" if chosen else ""),
    }
    shown = frame(tuning).set_axis(list(formats), axis="columns")
    words = simulated(tuning.study.settings)
    title = f"{words.capitalize()}. {verdict(tuning)}" if words else verdict(tuning)
    return Listing(shown, formats, title=title)


def print_tuning(tuning: Tuning, console: Console) -> None:
    """Print the candidates, and which of them the policies hold."""
    if note := simulation_note(tuning.study.settings):
        console.print(Text(note))
    console.print(*summary(tuning).grids(console.width))
    console.print(Text(verdict(tuning)))


def verdict(tuning: Tuning) -> str:
    """Return whether tuned parameters replace the plain ones, and the gain, in a sentence."""
    tuned, study = tuning.tuned, tuning.study
    best = tuned.candidates[tuned.chosen]
    if not tuned.replaces:
        return (
            "Cross-validated on the fit split, nothing gains more than a standard error over the"
            " plain parameters: the policies hold these."
        )
    plain, new = study.frontiers[-2:]
    text = (
        f"Cross-validated on the fit split, {best.name} gains {best.gain:.4f} of quality at"
        f" equal cost (standard error {best.error:.4f}): the policies hold the tuned"
        f" parameters. On the evaluation split the AUC changes by {new.auc - plain.auc:+.4f}"
    )
    if study.difference_interval is not None:
        low, high = study.difference_interval[-1, -2].tolist()
        text += f" [{low:+.4f}, {high:+.4f}]"
        if low <= 0 <= high:
            text += ", which is within noise"
        elif new.auc < plain.auc:
            text += ": there tuning lost"
    return text + "."


def save(
    tuning: Tuning, folder: Path, command: str = "", settings: Mapping[str, Any] | None = None
) -> Path:
    """Write what a study writes, and policy-01.json and so on, in rising budget.

    The folder must exist; policies of an earlier and larger run in it are removed. `settings` are
    further arguments, for the record; returns the path of the report.
    """
    digits = max(2, len(str(len(tuning.policies))))
    names = [f"policy-{i:0{digits}}.json" for i in range(1, len(tuning.policies) + 1)]
    texts = {name: policy.text() for name, policy in zip(names, tuning.policies, strict=True)}
    earlier, numbers = _earlier_policies(folder), to_json(tuning)
    numbers["settings"] |= settings or {}
    title = "Cross-validated on the fit queries: quality gained over the plain parameters."
    best = tuning.tuned.candidates[tuning.tuned.chosen]
    gain = gain_text(best.gain, 3) if tuning.tuned.replaces else "no gain"
    table = replace(summary(tuning), title=title)
    report = study.save(
        tuning.study, folder, command,
        more=numbers | {"policies": dict(zip(names, tuning.budgets.tolist(), strict=True))},
        texts=texts,
        tiles=[("tuning", gain, "of quality at equal cost, cross-validated")],
        sections=[("Does tuning pay?", [("text", verdict(tuning)), ("table", table)])],
    )  # fmt: skip
    for name in earlier - set(names):
        (folder / name).unlink(missing_ok=True)
    return report


def to_json(tuning: Tuning) -> dict[str, Any]:
    """Return the numbers of summary.json but the names of the policies."""
    tuned = tuning.tuned
    numbers: dict[str, Any] = findings.to_json(tuning.study)
    return numbers | {
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
        "budgets": tuning.budgets.tolist(),
    }


def _earlier_policies(folder: Path) -> set[str]:
    """Return the policies that an earlier run wrote there, and not a file of anyone else's."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        return {name for name in summary["policies"] if re.fullmatch(r"policy-\d+\.json", name)}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
