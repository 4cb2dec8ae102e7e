"""The command line: one file per command, which parses, calls the public function, and prints."""

import click

from cascjax import __version__
from cascjax.cli.terminal import Program


class Cascjax(Program):
    """The program `cascjax`."""

    summaries = {  # noqa: RUF012
        "demo": "Run the full pipeline on synthetic data and write an HTML report.",
        "import": "Convert a log of another format into an evaluation table.",
        "reprice": "Write a table with costs at other prices of tokens.",
        "synthesize": "Write a synthetic dataset of any size.",
        "inspect": "Show the models, columns and mean scores of a source.",
        "compare": "Compare strategies: their frontiers of cost and quality, and a report.",
        "fit": "Fit a strategy to a budget or a quality, and write it as a policy.",
        "evaluate": "Evaluate policies on a source: quality and costs, and whether budgets hold.",
        "tune": "Tune the parameters of a strategy for all budgets at once.",
        "diagnose": "Measure whether estimates are good enough to route or cascade on.",
    }


@click.group(
    name="cascjax",
    cls=Cascjax,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__)
def main() -> None:
    """Simulate routing, cascading and cascade routing of language models.

    From a log of the quality and cost of several models on your queries, cascjax computes what
    every strategy would reach at every budget.
    """
