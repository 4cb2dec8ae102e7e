"""What a frontier run leaves in its folder."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cascjax.io.files import atomic_write
from cascjax.report.html import write_report
from cascjax.search.frontier import Study


def write_study(study: Study, directory: Path, command: str) -> Path:
    """Writes frontier.parquet, summary.json and report.html, each whole or not at all.

    Args:
        study: what to write.
        directory: a folder that exists.
        command: the command line that made it.

    Returns:
        The path of the report.

    Raises:
        CascjaxError: the folder cannot be written.
    """
    with atomic_write(directory / "frontier.parquet") as path:
        pq.write_table(to_arrow(study), path)
    with atomic_write(directory / "summary.json") as path:
        path.write_text(json.dumps(summary(study), indent=2) + "\n", encoding="utf-8")
    report = directory / "report.html"
    write_report(study, report, command)
    return report


def to_arrow(study: Study) -> pa.Table:
    """A row a strategy and budget; parameters are the cheap neighbour, then the dear one."""
    names = ("budget", "cost", "quality", "fit_cost", "fit_quality", "gamma")
    parts = [
        pa.table(
            {"strategy": [f.strategy] * len(f.budget)}
            | {name: getattr(f, name) for name in names}
            | {"parameters": pa.array(f.parameters.tolist(), pa.list_(pa.float64()))}
        )
        for f in study.frontiers
    ]
    return pa.concat_tables(parts)


def summary(study: Study) -> dict[str, object]:
    """What one wants to know without opening the rest."""
    return {
        "models": list(study.models),
        "n_fit": study.n_fit,
        "n_evaluate": study.n_evaluate,
        "strategies": {
            f.strategy: {"auc": f.area, "seconds": round(f.seconds, 3)} for f in study.frontiers
        },
        "settings": study.settings,
    }
