"""What a frontier run leaves in its folder."""

import itertools
import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from cascjax.comparison import Study
from cascjax.data.files import atomic_write
from cascjax.report.html import render


def write_study(
    study: Study,
    directory: Path,
    command: str,
    more: Mapping[str, object] | None = None,
    texts: Mapping[str, str] | None = None,
    tuning: Mapping[str, Any] | None = None,
) -> Path:
    """Writes frontier.parquet, summary.json and report.html; an error or interrupt leaves none.

    Args:
        study: what to write.
        directory: a folder that exists.
        command: the command line that made it.
        more: what else to say in summary.json.
        texts: further files, by name.
        tuning: see `cascjax.report.html.render`.

    Returns:
        The path of the report.

    Raises:
        CascjaxError: the folder cannot be written.
    """
    report = directory / "report.html"
    # All are finished before the first of them is moved into place.
    with ExitStack() as files:
        frontier, numbers, page = (
            files.enter_context(atomic_write(path))
            for path in (directory / "frontier.parquet", directory / "summary.json", report)
        )
        pq.write_table(to_arrow(study), frontier)
        text = json.dumps(summary(study) | dict(more or {}), indent=2, allow_nan=False)
        numbers.write_text(text + "\n", encoding="utf-8")
        page.write_text(render(study, command, tuning), encoding="utf-8")
        for name, content in (texts or {}).items():
            file = files.enter_context(atomic_write(directory / name))
            file.write_text(content, encoding="utf-8")
    return report


def to_arrow(study: Study) -> pa.Table:
    """A row a strategy and budget; parameters are the cheap neighbour's, then the expensive one's.

    The ends of the intervals are null where nothing was resampled.
    """
    names = ("budget", "cost", "quality", "fit_cost", "fit_quality", "gamma")
    parts = [
        pa.table(
            {"strategy": [f.strategy] * len(f.budget)}
            | {name: getattr(f, name) for name in names}
            | {
                "parameters": pa.array(
                    f.parameters.reshape(len(f.budget), -1).tolist(), pa.list_(pa.float64())
                )
            }
            | _ends("cost", f.cost_interval, len(f.budget))
            | _ends("quality", f.quality_interval, len(f.budget))
        )
        for f in study.frontiers
    ]
    return pa.concat_tables(parts)


def _ends(name: str, ends: Float[np.ndarray, "P 2"] | None, count: int) -> dict[str, pa.Array]:
    low, high = [[None] * count] * 2 if ends is None else ends.T
    parts = {f"{name}_low": low, f"{name}_high": high}
    return {column: pa.array(part, pa.float64()) for column, part in parts.items()}


def summary(study: Study) -> dict[str, object]:
    """What one wants to know without opening the rest."""
    return {
        "models": list(study.models),
        "n_fit": study.n_fit,
        "n_evaluate": study.n_evaluate,
        "strategies": {
            f.strategy: {
                "auc": finite(f.auc),
                **({"sigma_scale": f.sigma_scale} if f.sigma_scale != 1 else {}),
                "seconds": round(f.seconds, 3),
            }
            | ({"auc_interval": [finite(x) for x in f.auc_interval]} if f.auc_interval else {})
            | ({"scores": {name: finite(x) for name, x in f.scores.items()}} if f.scores else {})
            for f in study.frontiers
        },
        "settings": study.settings,
    } | _sigma_scale(study)


def _sigma_scale(study: Study) -> dict[str, object]:
    """The intervals' making, and by how much each AUC is above each one that comes after."""
    if study.difference is None or study.difference_interval is None:
        return {}
    names = [f.strategy for f in study.frontiers]
    return {
        "resamples": study.resamples,
        "confidence": study.confidence,
        "differences": [
            {
                "strategies": [names[i], names[j]],
                "auc": finite(float(study.difference[i, j])),
                "auc_interval": [finite(x) for x in study.difference_interval[i, j].tolist()],
            }
            for i, j in itertools.combinations(range(len(names)), 2)
        ],
    }


def finite(value: float) -> float | None:
    """The number, or None where JSON has none for it."""
    return value if math.isfinite(value) else None
