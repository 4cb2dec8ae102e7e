"""What came of the parts of a job over a stream, as tables that can be kept and told: see `run`."""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa

from cascjax.data.schema import EXTRA_COST
from cascjax.data.table import Table
from cascjax.engine.parts import packed, unpacked
from cascjax.engine.passes import (
    LEARNED_COLUMNS,
    NO_SAMPLE,
    Choice,
    Glance,
    Job,
    Looked,
    Sample,
    Summed,
)
from cascjax.engine.simulate import Totals
from cascjax.estimators.pieces import SUPPLIED_COLUMNS, Moments, Spread
from cascjax.search.budgets import Fit

_COLUMNS = ("quality", "cost", *SUPPLIED_COLUMNS, *LEARNED_COLUMNS)
_SUMS = ("moved", "qualities", "costs")
_TOTALS = ("cost", "quality", "ran", "answered", "depth", "count")
_FIT = tuple(f.name for f in fields(Fit))
_SAMPLE = "sample."
_GROUPS = _SAMPLE + "groups"


def looked_table(looked: Looked) -> pa.Table:
    """What a first reading of some pieces found."""
    index = sorted(looked.glances)
    glances = [looked.glances[i] for i in index]
    arrays = {"index": np.array(index)}
    for name in ("count", "cost", "quality"):
        arrays[name] = np.stack([getattr(glance, name) for glance in glances])
    for name in _SUMS:
        if (first := getattr(glances[0], name)) is not None:
            for f in fields(first):
                of = [getattr(getattr(glance, name), f.name) for glance in glances]
                arrays[f"{name}.{f.name}"] = np.stack(of)
    if (table := looked.sample.table) is not None:
        columns = {name: getattr(table, name) for name in _COLUMNS}
        columns |= {EXTRA_COST + name: of for name, of in table.extra_costs.items()}
        given = {_SAMPLE + name: of for name, of in columns.items() if of is not None}
        arrays |= {_SAMPLE + "rows": looked.sample.rows, **given}
        # Numbers are all that is kept: names as the bytes of a list.
        arrays[_GROUPS] = np.frombuffer(json.dumps(table.groups).encode(), np.uint8)
    return packed(arrays)


def looked_of(job: Job, found: pa.Table) -> Looked:
    """The same, of its table."""
    arrays = unpacked(found)
    kinds = {"moved": Spread, "qualities": Moments, "costs": Moments}
    glances: dict[int, Glance] = {}
    for place, index in enumerate(arrays["index"].tolist()):
        more: dict[str, Any] = {
            name: kind(**{f.name: arrays[f"{name}.{f.name}"][place, ...] for f in fields(kind)})
            for name, kind in kinds.items()
            if f"{name}.count" in arrays
        }
        first = (arrays[name][place] for name in ("count", "cost", "quality"))
        glances[index] = Glance(*first, **more)
    sample = {n.removeprefix(_SAMPLE): of for n, of in arrays.items() if n.startswith(_SAMPLE)}
    if not sample:
        return Looked(glances, NO_SAMPLE)
    rows = sample.pop("rows")
    columns: dict[str, Any] = {n: of for n, of in sample.items() if not n.startswith(EXTRA_COST)}
    columns["extra_costs"] = {
        name.removeprefix(EXTRA_COST): of
        for name, of in sample.items()
        if name.startswith(EXTRA_COST)
    }
    columns["groups"] = tuple(json.loads(columns["groups"].tobytes()))
    for name, names in (
        ("feature", job.stream.metadata.features),
        ("signal", job.stream.metadata.signals),
    ):
        if f"{name}s" in columns:
            columns[f"{name}_names"] = names
    units = job.stream.metadata.cost_units
    columns["extra_cost_units"] = tuple(of for of in units if of[0] in columns["extra_costs"])
    table = Table(**columns, models=job.stream.models, cost_unit=job.stream.cost_unit)
    return Looked(glances, Sample(rows, table))


def choice_table(choice: Choice) -> pa.Table:
    """What a strategy was fitted to."""
    arrays = {
        "settings": choice.settings,
        "panels": np.array(-1 if choice.panels is None else choice.panels),
        "numbers": np.array(
            [choice.cost_error, choice.quality_error, choice.seconds, choice.sigma_scale]
        ),
    }
    if choice.fit is not None:
        arrays |= {f"fit.{name}": np.asarray(getattr(choice.fit, name)) for name in _FIT}
    return packed(arrays)


def choice_of(table: pa.Table) -> Choice:
    """The same, of its table."""
    arrays, fit = unpacked(table), None
    if "fit.gamma" in arrays:
        found: dict[str, Any] = {name: arrays[f"fit.{name}"] for name in _FIT}
        found |= {name: float(of) for name, of in found.items() if not of.ndim}
        fit = Fit(**found)
    panels = int(arrays["panels"])
    numbers = arrays["numbers"].tolist()
    return Choice(arrays["settings"], None if panels < 0 else panels, fit, *numbers)


def sums_table(summed: Sequence[Summed]) -> pa.Table:
    """The sums of a piece, of every strategy."""
    arrays = {"seconds": np.array([one.seconds for one in summed])}
    for place, one in enumerate(summed):
        for side in ("evaluate", "fit"):
            if (found := getattr(one, side)) is not None:
                for name in _TOTALS:
                    arrays[f"{place}.{side}.{name}"] = np.asarray(getattr(found, name), np.float64)
    return packed(arrays)


def sums_of(table: pa.Table) -> tuple[Summed, ...]:
    """The same, of their table."""
    arrays = unpacked(table)

    def side(place: int, name: str) -> Totals:
        found: dict[str, Any] = {total: arrays[f"{place}.{name}.{total}"] for total in _TOTALS}
        found["count"] = float(found["count"])
        return Totals(**found)

    return tuple(
        Summed(
            side(place, "evaluate"),
            side(place, "fit") if f"{place}.fit.cost" in arrays else None,
            seconds,
        )
        for place, seconds in enumerate(arrays["seconds"].tolist())
    )


def resamples_table(found: Sequence[np.ndarray]) -> pa.Table:
    """The resamples' sums of a piece, of every strategy."""
    return packed({str(place): sums for place, sums in enumerate(found)})


def resamples_of(table: pa.Table) -> tuple[np.ndarray, ...]:
    """The same, of their table."""
    arrays = unpacked(table)
    return tuple(arrays[str(place)] for place in range(len(arrays)))
