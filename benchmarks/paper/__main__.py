"""Run an experiment of the paper: python -m benchmarks.paper NAME [TABLE] --out DIR."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.paper.ablation import ABLATION_EXPERIMENT
from benchmarks.paper.areas import TABLE1, TABLE4, TUNABLE
from benchmarks.paper.base import Experiment, Job, run
from benchmarks.paper.noise_grid import NOISE_GRID
from benchmarks.paper.protocol import twin
from benchmarks.paper.published import QUERIES
from benchmarks.paper.runtime import RUNTIME
from benchmarks.paper.settings import SETTINGS
from benchmarks.paper.uncertainty import UNCERTAINTY
from cascjax import CascjaxError, read_table

EXPERIMENTS: dict[str, Experiment] = {
    "table1": TABLE1,
    "table4": TABLE4,
    "noise-grid": NOISE_GRID,
    "ablation": ABLATION_EXPERIMENT,
    "runtime": RUNTIME,
    "settings": SETTINGS,
    "uncertainty": UNCERTAINTY,
}

PAGE = Path(__file__).parents[1] / "PAPER.md"
MARK = "<!-- pages: written by python -m benchmarks.paper -->"


@click.command(context_settings={"max_content_width": 100})
@click.argument("name", type=click.Choice([*EXPERIMENTS, "pages"]))
@click.argument("table", type=click.Path(path_type=Path), required=False)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the results."
)
@click.option("--synthetic", is_flag=True, help="Use a synthetic dataset shaped like RouterBench.")
@click.option("--queries", type=click.IntRange(min=1), help="Number of synthetic queries.")
@click.option(
    "--tuned", type=click.Choice([*TUNABLE]), help="Strategies of table1, table4 to tune."
)
@click.option(
    "--resamples", type=click.IntRange(40, 100_000), help="Number of bootstrap resamples."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed.")
@click.option("--force", is_flag=True, help="Start over if the folder holds another run.")
def main(
    name: str, table: Path | None, out: Path, synthetic: bool, seed: int, force: bool, **given: Any
) -> None:
    """Run an experiment of the paper and write its tables next to the published numbers.

    TABLE is RouterBench as cascjax import routerbench writes it. The same command resumes an
    interrupted run. NAME pages copies the pages in --out into PAPER.md.
    """
    try:
        if name == "pages":
            copy_pages(out)
            return
        experiment = EXPERIMENTS[name]
        asked = {key: value for key, value in given.items() if value is not None}
        queries = asked.pop("queries", None) if experiment.needs_table else None
        for key in asked.keys() - experiment.defaults.keys():
            raise CascjaxError(f"{name} has no --{key}; leave it out")
        if experiment.needs_table and (table is None) != synthetic:
            raise CascjaxError(f"{name} needs either a TABLE or --synthetic")
        if not experiment.needs_table and (table or synthetic):
            raise CascjaxError(f"{name} draws its own data; leave out TABLE and --synthetic")
        data, source = None, ""
        if synthetic:
            data, source = twin(queries or QUERIES, seed), f"Synthetic RouterBench (seed {seed})"
        elif table is not None:
            data, source = read_table(table), table.name
        out.mkdir(parents=True, exist_ok=True)
        job = Job(data, source, seed, dict(experiment.defaults) | asked)
        command = shlex.join(["python", "-m", "benchmarks.paper", *sys.argv[1:]])
        run(name, experiment, job, out, command, force=force)
        click.echo((out / f"{name}.md").read_text(encoding="utf-8"))
    except CascjaxError as error:
        raise click.ClickException(str(error)) from error


def copy_pages(folder: Path) -> None:
    """Replace everything below the mark of PAPER.md by the pages in a folder."""
    pages = [path for name in EXPERIMENTS if (path := folder / f"{name}.md").exists()]
    head, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    if not pages or not mark:
        raise CascjaxError(f"{folder} holds no page, or {PAGE} has no line {MARK!r}")
    text = "\n\n".join([head + MARK, *(page.read_text(encoding="utf-8").strip() for page in pages)])
    PAGE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
