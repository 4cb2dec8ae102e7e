"""What a run over a stream keeps of its work, so that it can be gone on with: see `streamed`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from cascjax import __version__
from cascjax.estimators.pieces import SUPPLIED_COLUMNS, Moments, Spread
from cascjax.io.arrow import MORE_COST
from cascjax.io.parts import Parts
from cascjax.io.stream import Piece, Stream
from cascjax.search.budget import Fit
from cascjax.search.streamed import Choice, Glance, Job, Looked, Sample, Summed
from cascjax.simulate import Totals
from cascjax.table import Table

_MATRICES = ("quality", "cost", *SUPPLIED_COLUMNS)
_SUMS = ("moved", "qualities", "costs")
_TOTALS = ("cost", "quality", "ran", "answered", "depth", "count")
_FIT = tuple(f.name for f in fields(Fit))


@dataclass(frozen=True)
class Ledger:
    """Where a run keeps what it has done, so that it can be gone on with after an interrupt.

    Attributes:
        folder: made where it is not there yet; its parent exists. See `cascjax.io.parts`.
        resume: go on with what an earlier run of the same job left there.
        force: begin anew whatever an earlier run left.
    """

    folder: Path
    resume: bool = False
    force: bool = False

    def opened(self, job: Job) -> Parts:
        """The parts of a job that are done.

        Raises:
            CascjaxError: another run left some, or this one did and is not to be gone on with; or
                the folder cannot be written.
        """
        return self.of(job.stream, job.settings())

    def of(self, stream: Stream, settings: Mapping[str, Any]) -> Parts:
        """The same of any work on a stream that these settings tell from others."""
        run = {"version": __version__, "files": stream.identity(), **settings}
        parts = Parts(self.folder, run)
        parts.open(force=self.force, resume=self.resume)
        return parts


def write_looked(looked: Looked, parts: Parts) -> None:
    """Keeps what the first reading found."""
    table = looked.sample.table
    if table is not None:
        columns = {name: getattr(table, name) for name in _MATRICES}
        columns |= {MORE_COST + name: of for name, of in table.more_costs.items()}
        given = {name: of for name, of in columns.items() if of is not None}
        parts.write_arrays("look-sample", {"rows": looked.sample.rows, **given})
    index = sorted(looked.glances)
    glances = [looked.glances[i] for i in index]
    packed = {"index": np.array(index)}
    for name in ("count", "cost", "quality"):
        packed[name] = np.stack([getattr(glance, name) for glance in glances])
    for name in _SUMS:
        if (first := getattr(glances[0], name)) is not None:
            for f in fields(first):
                of = [getattr(getattr(glance, name), f.name) for glance in glances]
                packed[f"{name}.{f.name}"] = np.stack(of)
    # Last: once it is there, all is.
    parts.write_arrays("look", packed)


def read_looked(job: Job, parts: Parts) -> Looked | None:
    """What the first reading found, or None where it was not kept."""
    packed = parts.read_arrays("look")
    sample = parts.read_arrays("look-sample")
    if packed is None or sample is None:
        return None
    kinds = {"moved": Spread, "qualities": Moments, "costs": Moments}
    glances: dict[int, Glance] = {}
    for place, index in enumerate(packed["index"].tolist()):
        more: dict[str, Any] = {
            name: kind(**{f.name: packed[f"{name}.{f.name}"][place, ...] for f in fields(kind)})
            for name, kind in kinds.items()
            if f"{name}.count" in packed
        }
        first = (packed[name][place] for name in ("count", "cost", "quality"))
        glances[index] = Glance(*first, **more)
    rows = sample.pop("rows")
    columns: dict[str, Any] = {n: of for n, of in sample.items() if not n.startswith(MORE_COST)}
    columns["more_costs"] = {
        name.removeprefix(MORE_COST): of
        for name, of in sample.items()
        if name.startswith(MORE_COST)
    }
    table = Table(**columns, models=job.stream.models, cost_unit=job.stream.cost_unit)
    return Looked(glances, Sample(rows, table))


def write_choice(key: str, choice: Choice, parts: Parts) -> None:
    """Keeps what a strategy was fitted to."""
    packed = {
        "settings": choice.settings,
        "panels": np.array(-1 if choice.panels is None else choice.panels),
        "numbers": np.array([choice.cost_error, choice.quality_error, choice.seconds]),
    }
    if choice.fit is not None:
        packed |= {f"fit.{name}": np.asarray(getattr(choice.fit, name)) for name in _FIT}
    parts.write_arrays(key, packed)


def read_choice(key: str, parts: Parts) -> Choice | None:
    """What a strategy was fitted to, or None."""
    packed = parts.read_arrays(key)
    if packed is None:
        return None
    fit = None
    if "fit.gamma" in packed:
        found: dict[str, Any] = {name: packed[f"fit.{name}"] for name in _FIT}
        found |= {name: float(of) for name, of in found.items() if not of.ndim}
        fit = Fit(**found)
    panels = int(packed["panels"])
    return Choice(packed["settings"], None if panels < 0 else panels, fit, *packed["numbers"])


def write_sums(piece: Piece, summed: Sequence[Summed], parts: Parts) -> None:
    """Keeps the sums of a piece."""
    packed = {"seconds": np.array([one.seconds for one in summed])}
    for place, one in enumerate(summed):
        for side in ("evaluate", "fit"):
            if (found := getattr(one, side)) is not None:
                for name in _TOTALS:
                    packed[f"{place}.{side}.{name}"] = np.asarray(getattr(found, name), np.float64)
    parts.write_arrays(f"sums-{piece.index:06d}", packed)


def read_sums(
    job: Job, choices: Sequence[Choice], piece: Piece, parts: Parts
) -> tuple[Summed, ...] | None:
    """The sums of a piece, or None."""
    packed = parts.read_arrays(f"sums-{piece.index:06d}")
    if packed is None:
        return None

    def side(place: int, name: str) -> Totals:
        found: dict[str, Any] = {total: packed[f"{place}.{name}.{total}"] for total in _TOTALS}
        found["count"] = float(found["count"])
        return Totals(**found)

    return tuple(
        Summed(
            side(place, "evaluate"),
            None if choices[place].fit is not None else side(place, "fit"),
            float(packed["seconds"][place]),
        )
        for place in range(len(job.strategies))
    )


def write_resamples(piece: Piece, found: Sequence[np.ndarray], parts: Parts) -> None:
    """Keeps the resamples' sums of a piece."""
    packed = {str(place): sums for place, sums in enumerate(found)}
    parts.write_arrays(f"resamples-{piece.index:06d}", packed)


def read_resamples(job: Job, piece: Piece, parts: Parts) -> tuple[np.ndarray, ...] | None:
    """The resamples' sums of a piece, or None."""
    packed = parts.read_arrays(f"resamples-{piece.index:06d}")
    if packed is None:
        return None
    return tuple(packed[str(place)] for place in range(len(job.strategies)))
