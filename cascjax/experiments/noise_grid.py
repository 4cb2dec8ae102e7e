"""What cascade routing gains over others as noise grows: 136 levels beforehand and afterwards."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from cascjax.data.table import Table
from cascjax.engine.parts import packed, unpacked
from cascjax.estimators import NOISE_LEVELS
from cascjax.experiments.base import Experiment, Findings, Job
from cascjax.experiments.batched import (
    Fits,
    Groups,
    NoiseStack,
    areas_of,
    aucs,
    by_panels,
    fits,
    sized_for,
    sums,
)
from cascjax.experiments.cells import Cell, Row
from cascjax.experiments.legacy import (
    Case,
    Done,
    Piece,
    Run,
    Settled,
    add_up,
    is_fit,
    looked_at,
    over_pieces,
    settle,
)
from cascjax.experiments.legacy import Job as StreamJob
from cascjax.experiments.protocol import Setup, check_stream, setup, streamed
from cascjax.experiments.published import GOALS
from cascjax.experiments.streams import begun
from cascjax.experiments.table1 import named
from cascjax.experiments.tables import Grid, signed, times
from cascjax.report.pictures import INK
from cascjax.strategies import Strategy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_MODELS = 5
"""Of the paper's grid."""

LEVELS = tuple(round(0.2 * i, 1) for i in range(16))
"""Standard deviations of noise on quality: 0 to 3 in steps of 0.2."""

PAIRS = tuple((a, p) for a in range(len(LEVELS)) for p in range(a + 1))
"""Places in `LEVELS` beforehand and afterwards: what is seen is no noisier than what is guessed."""

_TOGETHER = 34
"""Levels in one sweep: a quarter of all, so that an interrupt loses little."""

_BASELINES = ("routing", "thresholding", "cascading", "pandora")
"""What cascade routing is set against; thresholding is the paper's baseline cascade."""

_DRAWN = (*_BASELINES, "cascade-routing")
"""All that is drawn."""

_WEIGHTS = {"cascade-routing": 8.0}
"""How long a sweep takes beside one of routing."""


def levels_of(strategy: Strategy) -> list[int]:
    """Places in `PAIRS` at which a strategy's AUCs differ: what it does not read is left out."""
    first: dict[tuple[int, int], int] = {}
    for g, (a, p) in enumerate(PAIRS):
        seen = _seen(strategy, a, p)
        first.setdefault(seen, g)
    return list(first.values())


def _seen(strategy: Strategy, a: int, p: int) -> tuple[int, int]:
    return (
        a if "quality_ante" in strategy.reads else -1,
        p if "quality_post" in strategy.reads else -1,
    )


def _cells(job: Job) -> list[Cell]:
    if job.stream is not None:
        check_stream(job.stream)
        return [Cell("all", f"{N_MODELS} models", _stream_work(job))]
    given, stack = setup(job.data, N_MODELS), _Lazy(job)
    return [
        Cell(
            one.key,
            f"{one.kind.name}: levels {one.start + 1} to {one.start + len(one.levels)}",
            _work(one, given, stack),
            _WEIGHTS.get(one.kind.name, 1.0),
        )
        for one in _sweeps()
    ]


@dataclass(frozen=True)
class _Sweep:
    """What is worked out together.

    Attributes:
        kind: a strategy.
        start: the place of the first among the levels at which its AUCs differ.
        levels: `[G]` places in `PAIRS`.
    """

    kind: Strategy
    start: int
    levels: Int[np.ndarray, " G"]

    @property
    def key(self) -> str:
        """What it is kept as."""
        return f"{self.kind.name}-{self.start:03d}"

    def rows(self, found: Float[np.ndarray, " G"]) -> list[Row]:
        """A row for each level, of its AUC."""
        return [
            {
                "strategy": self.kind.name,
                "noise_ante": LEVELS[PAIRS[g][0]],
                "noise_post": LEVELS[PAIRS[g][1]],
                "auc": float(of),
            }
            for g, of in zip(self.levels, found, strict=True)
        ]


def _sweeps() -> list[_Sweep]:
    return [
        _Sweep(kind, start, np.array(levels[start : start + _TOGETHER]))
        for kind in map(named, _DRAWN)
        for levels in [levels_of(kind)]
        for start in range(0, len(levels), _TOGETHER)
    ]


class _Lazy:
    """The estimates, made once, when the first cell that is not done asks for them."""

    def __init__(self, job: Job) -> None:
        self._job, self._made = job, None

    def __call__(self, given: Setup) -> NoiseStack:
        if self._made is None:
            which, costs = np.array(PAIRS), NOISE_LEVELS["low"][2:]
            self._made = NoiseStack.of(given, LEVELS, which, costs, self._job.seed)
        return self._made


def _work(
    one: _Sweep, given: Setup, stack: _Lazy
) -> Callable[[Callable[[float], None]], list[Row]]:
    def work(progress: Callable[[float], None]) -> list[Row]:
        return one.rows(aucs(one.kind, given, stack(given), one.levels, progress))

    return work


def _stream_work(job: Job) -> Callable[[Callable[[float], None]], list[Row]]:
    """All levels and strategies of a stream, over two readings of its files."""

    def work(progress: Callable[[float], None]) -> list[Row]:
        assert job.stream is not None
        sweeps = _sweeps()
        asked = streamed(job.stream, N_MODELS, [named("cascade-routing")], "low", job.seed)
        asked = replace(asked, noise=(0.0, 0.0, *NOISE_LEVELS["low"][2:]))
        more = {"sweeps": [[one.key, one.levels.tolist()] for one in sweeps], "levels": LEVELS}
        run = begun(job, "all", asked, len(sweeps), progress, more)
        settled = settle(asked, looked_at(asked, run))
        fitted = _fitted(sweeps, settled, run)
        summed = _summed(sweeps, asked, settled, fitted, run)
        of_all: Row = {"fit": int(settled.count[0]), "evaluate": int(settled.count[1])}
        if not settled.exact:
            of_all |= {"sample": len(settled.sample), "met_on_sample": True}
        rows = []
        for one, fit, of in zip(sweeps, fitted, summed, strict=True):
            means, single = of["sums"] / settled.count[1], (settled.cost[1], settled.quality[1])
            of_all["seconds"] = (fit.seconds + float(of["seconds"])) / len(one.levels)
            rows += [row | of_all for row in one.rows(areas_of(fit.fits, means, *single))]
        return rows

    return work


@dataclass(frozen=True)
class _Fitted:
    """What a sweep is fitted to on a stream's sample.

    Attributes:
        groups: its levels, by how the strategy is sized for them.
        fits: the settings.
        seconds: that it took.
    """

    groups: Groups
    fits: Fits
    seconds: float


def _fitted(sweeps: Sequence[_Sweep], settled: Settled, run: Run) -> list[_Fitted]:
    rows = np.arange(len(settled.sample))
    given = Setup(settled.table, rows, rows[:0], settled.budgets)
    stack = NoiseStack.of_rows(settled, given.table, settled.sample, LEVELS, np.array(PAIRS))
    groups = [by_panels(one.kind, stack, one.levels) for one in sweeps]

    def do(places: Sequence[int]) -> Done:
        for place in places:
            start = time.perf_counter()
            found = fits(groups[place], given, stack, sweeps[place].levels)
            run.progress("fitting", len(rows))
            took = {"seconds": np.array(time.perf_counter() - start)}
            yield place, packed({"settings": found.settings, "gamma": found.gamma} | took)

    keys = [f"fit-{one.key}" for one in sweeps]
    kept = map(unpacked, run.each("fitting", keys, [0] * len(keys), do))
    return [
        _Fitted(group, Fits(of["settings"], of["gamma"]), float(of["seconds"]))
        for group, of in zip(groups, kept, strict=True)
    ]


def _summed(
    sweeps: Sequence[_Sweep],
    asked: StreamJob,
    settled: Settled,
    fitted: Sequence[_Fitted],
    run: Run,
) -> list[dict[str, Any]]:
    """Of each sweep, sums of costs and qualities over all rows to evaluate, and seconds."""
    made: dict[int, NoiseStack] = {}

    def stack_of(piece: Piece, table: Table) -> NoiseStack:
        # All sweeps of a piece come one after the other.
        if piece.index not in made:
            rows = piece.rows
            made.clear()
            made[piece.index] = NoiseStack.of_rows(settled, table, rows, LEVELS, np.array(PAIRS))
        return made[piece.index]

    def add(place: int, piece: Piece, table: Table) -> pa.Table:
        start, levels, fit = time.perf_counter(), sweeps[place].levels, fitted[place]
        rows = np.flatnonzero(~is_fit(asked, piece, table))
        if len(rows):
            stack = stack_of(piece, table)
            groups = sized_for(fit.groups, stack, levels)
            found = sums(groups, fit.fits, table, rows, stack, levels)
        else:
            found = np.zeros((2, *fit.fits.settings.shape))
        return packed({"sums": found, "seconds": np.array(time.perf_counter() - start)})

    tables = over_pieces("sums", "summing", Case(asked, settled), len(sweeps), add, run)
    return add_up(map(unpacked, tables), len(sweeps))


def gains(rows: Sequence[Row]) -> dict[str, Float[np.ndarray, "A A"]]:
    """AUC of cascade routing above each other strategy's, by noise afterwards and beforehand.

    Rows and columns are places in `LEVELS`; nan where afterwards is noisier.
    """
    auc = {(row["strategy"], row["noise_ante"], row["noise_post"]): row["auc"] for row in rows}

    def grid(name: str) -> Float[np.ndarray, "A A"]:
        found, kind = np.full((len(LEVELS), len(LEVELS)), np.nan), named(name)
        seen = {_seen(kind, *PAIRS[g]): PAIRS[g] for g in levels_of(kind)}
        for a, p in PAIRS:
            ante, post = seen[_seen(kind, a, p)]
            found[p, a] = auc[name, LEVELS[ante], LEVELS[post]]
        return found

    ours = grid("cascade-routing")
    return {name: ours - grid(name) for name in _BASELINES}


def _findings(job: Job, rows: Sequence[Row]) -> Findings:
    found = gains(rows)
    body = []
    for name, gain in found.items():
        inside = 100 * gain[np.isfinite(gain)]
        post, ante = np.unravel_index(np.nanargmax(gain), gain.shape)
        body.append(
            [name, signed(float(inside.mean())), signed(float(inside.min())),
             signed(float(inside.max())),
             f"{LEVELS[ante]:g}, {LEVELS[post]:g}", f"{(inside > 0).sum()} of {len(inside)}"]
        )  # fmt: skip
    grid = Grid(
        "AUC of cascade routing above that of others, in points, at 136 levels of noise",
        ["above", "mean", "least", "most", "most at noise before, after", "above 0"],
        body,
        (
            f"{N_MODELS} models; noise of seed {job.seed} on quality, 0 to 3 in steps of 0.2 before"
            " a model runs and no more than that afterwards, the same draws at every level; on"
            " costs that of level low. The paper prints this as a picture, without numbers.",
        ),
    )
    corners = Grid(
        "The same at some levels",
        ["noise before, after", *(f"above {name}" for name in _BASELINES)],
        [
            [f"{LEVELS[a]:g}, {LEVELS[p]:g}",
             *(signed(100 * float(found[name][p, a])) for name in _BASELINES)]
            for a, p in ((0, 0), (3, 0), (3, 1), (3, 3), (8, 0), (8, 4), (8, 8), (15, 0), (15, 7),
                         (15, 15))
        ],
    )  # fmt: skip
    clock = times(
        [
            ("all", rows, "300 s"),
            *((f"{name}'s share", [r for r in rows if r["strategy"] == name],
               "10 s" if name == "pandora" else "")
              for name in (*_BASELINES, "cascade-routing")),
        ],
        GOALS,
    )  # fmt: skip
    return Findings([grid, corners, clock], [], lambda figure: _draw(figure, found), (11.0, 9.5))


def _draw(figure: "Figure", found: dict[str, Float[np.ndarray, "A A"]]) -> None:
    """A heat map for each strategy that cascade routing is set against, each on its own scale."""
    panels = figure.subplots(2, 2, squeeze=False)
    for (name, gain), axes in zip(found.items(), panels.flat, strict=True):
        image = _heat(axes, 100 * gain, 100 * float(np.nanmax(np.abs(gain))))
        axes.set_title(f"points of AUC above {name}", fontsize=11)
        bar = figure.colorbar(image, ax=axes, fraction=0.045)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    for axes in panels[-1]:
        axes.set_xlabel("noise before a model runs")
    for axes in panels[:, 0]:
        axes.set_ylabel("noise afterwards")
    figure.tight_layout()


def _heat(axes: "Axes", gain: Float[np.ndarray, "A A"], most: float):
    step = LEVELS[1] / 2
    ends = (LEVELS[0] - step, LEVELS[-1] + step)
    axes.grid(False)
    axes.set_facecolor(INK["paper"][0])
    # Blue where cascade routing is above, red where it is below; white at no difference.
    return axes.imshow(
        gain, origin="lower", extent=(*ends, *ends), cmap="RdBu", vmin=-most, vmax=most,
        interpolation="nearest",
    )  # fmt: skip


NOISE_GRID = Experiment(
    "noise-grid",
    "what cascade routing gains over other strategies at 136 levels of noise",
    _cells,
    _findings,
    readings=2,
)
