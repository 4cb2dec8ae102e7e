"""Make the pickled RouterBench-shaped frames that tests/test_io_pickles.py reads.

Pickle is tied to the versions that wrote it, so each file comes from a virtual environment of its
own. `python make_pickles.py NAME` writes routerbench-NAME-protocolP.pkl beside this script, for
protocols 2, 4 and 5. Made with:

    NAME               Python  packages
    pandas1.2          3.8     pandas==1.2.5  numpy==1.19.5
    pandas1            3.10    pandas==1.5.3  numpy==1.26.4
    pandas2-numpy1     3.11    pandas==2.2.3  numpy==1.26.4
    pandas2            3.11    pandas==2.3.3  numpy==2.4.6
    pandas3            3.11    pandas==3.1.1  numpy==2.4.6   pyarrow
    pandas3-no-arrow   3.11    pandas==3.1.1  numpy==2.4.6

The frame has three models and six rows: one row without scores and with a response
missing, one id twice. All of its text is made up for these tests.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

MODELS = ["acme/small", "acme/medium", "acme/large"]


def frame() -> pd.DataFrame:
    """The frame every file holds, whatever the version of pandas."""
    responses = [
        ["A", "A", "B"],
        ["the sky is blue", "blue", " blue\n"],
        ["4", "4", "4"],
        ["return x + 1", "return x + 2", "return x + 2"],
        ["no", "yes", None],
        ["A", "A", "B"],
    ]
    scores = np.array(
        [[0, 0, 1], [1, 0.5, 0.5], [1, 1, 1], [0, 1, 1], [np.nan] * 3, [0, 0, 1]], np.float64
    )
    table: dict[str, Any] = {
        "sample_id": ["quiz.1", "quiz.2", "sums.1", "code.1", "quiz.3", "quiz.1"],
        "prompt": [
            "Which letter comes after A?",
            "What colour is a clear sky at noon? “One word.”",
            "2 + 2 =",
            "def add_two(x):",
            "Is ice warm?",
            "Which letter comes after A?",
        ],
        "eval_name": ["quiz", "quiz", "sums", "code", "quiz", "quiz"],
    }
    for k, model in enumerate(MODELS):
        table[model] = scores[:, k]
    for k, model in reversed(list(enumerate(MODELS))):
        table[f"{model}|model_response"] = [row[k] for row in responses]
    for k, model in enumerate(MODELS):
        table[f"{model}|total_cost"] = 10.0 ** (k - 5) * np.arange(1, 7)
    table["oracle_model_to_route_to"] = [
        "acme/large", "acme/small", "acme/small", "acme/medium", "no_model_correct", "acme/large",
    ]  # fmt: skip
    return pd.DataFrame(table)


def main() -> None:
    """Write the files of the environment this runs in."""
    name = sys.argv[1]
    for protocol in (2, 4, 5):
        path = Path(__file__).with_name(f"routerbench-{name}-protocol{protocol}.pkl")
        # Protocol 2 with rows left from a larger frame: an index of integers, and not a range.
        rows = [0, 1, 2, 5, 8, 9] if protocol == 2 else range(6)
        frame().set_index(pd.Index(rows)).to_pickle(path, protocol=protocol)


if __name__ == "__main__":
    main()
