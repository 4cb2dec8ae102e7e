"""Tables from and to pandas, polars and Arrow."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import cascjax as cj
from cascjax import synthetic


def table() -> cj.Table:
    sampled = synthetic.sample(synthetic.make_dataset(n_models=3), seed=0, n=20)
    return cj.Table(
        sampled.quality, sampled.cost, models=("a", "b/1", "c"), cost_unit="EUR",
        extra_costs={"seconds": sampled.cost * 2}, quality_ante=sampled.quality_ante,
        answer=np.arange(60, dtype=np.int32).reshape(20, 3) % 4,
        split=np.arange(20, dtype=np.int8) % 2, group=np.arange(20, dtype=np.int32) % 2,
        groups=("x", "y"),
    )  # fmt: skip


def test_pandas_and_back() -> None:
    before = table()
    frame = before.to_pandas()
    assert list(frame.columns) == [
        *("query", "model", "quality", "cost", "quality_ante", "answer", "cost.seconds"),
        *("split", "group"),
    ]
    assert frame.loc[4, ["query", "model"]].tolist() == [1, "b/1"]
    assert frame.loc[4, "cost"] == before.cost[1, 1]
    assert cj.Table.from_pandas(frame, "EUR") == before
    shuffled: Any = frame.sample(len(frame), random_state=0)
    again = cj.Table.from_pandas(shuffled, "EUR")
    means = dict(zip(again.models, again.quality.mean(axis=0), strict=True))
    assert means == pytest.approx(
        dict(zip(before.models, before.quality.mean(axis=0), strict=True))
    )


def test_arrow_and_polars() -> None:
    before = table()
    assert cj.Table.from_arrow(before.to_arrow()) == before
    pl = pytest.importorskip("polars")
    frame = pl.from_arrow(before.to_arrow().select(["query_id", "quality", "cost"]))
    np.testing.assert_array_equal(cj.Table.from_arrow(frame).quality, before.quality)


def test_frames_that_are_no_table() -> None:
    frame = table().to_pandas()
    for wrong, message in (
        (frame.drop(columns="cost"), "the data frame: unknown column 'cost'"),
        (pd.concat([frame, frame[:1]]), "query '0' and model 'a' have several rows"),
        (frame[1:], "column 'quality', row 0: null"),
        (frame.assign(cost=-1.0), "column 'cost', row 0 (and 19 more): -1 for model 'a'"),
    ):
        with pytest.raises(cj.CascjaxError) as caught:
            cj.Table.from_pandas(wrong)
        assert message in str(caught.value)
