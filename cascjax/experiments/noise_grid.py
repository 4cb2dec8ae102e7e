"""What cascade routing gains over others as noise grows: 136 levels beforehand and afterwards."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from cascjax.estimators import NOISE_LEVELS
from cascjax.experiments.base import Experiment, Findings, Job
from cascjax.experiments.batched import (
    Fits,
    NoiseStack,
    areas,
    areas_of,
    by_panels,
    fits,
    sized_for,
    sums,
)
from cascjax.experiments.cells import Cell, Row
from cascjax.experiments.protocol import Setup, check_stream, setup, streamed
from cascjax.experiments.published import GOALS
from cascjax.experiments.streams import begun
from cascjax.experiments.table1 import named
from cascjax.experiments.tables import Grid, signed, times
from cascjax.io.parts import packed, unpacked
from cascjax.io.stream import Piece
from cascjax.report.pictures import INK
from cascjax.search.cases import add_up, over_pieces
from cascjax.search.compare_stream import looked_at
from cascjax.search.run import Done
from cascjax.search.streamed import is_fit, settle
from cascjax.strategies import Strategy
from cascjax.table import Table

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
    """Places in `PAIRS` at which a strategy's areas differ: what it does not read is left out."""
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
            f"{kind.name}-{start:03d}",
            f"{kind.name}: levels {start + 1} to {start + len(part)}",
            _work(kind, given, stack, part),
            _WEIGHTS.get(kind.name, 1.0),
        )
        for kind, start, part in _sweeps()
    ]


def _sweeps() -> list[tuple[Strategy, int, Int[np.ndarray, " G"]]]:
    """What is worked out together: a strategy, and places in `PAIRS` from that one of its own."""
    found = []
    for kind in map(named, _DRAWN):
        levels = np.array(levels_of(kind))
        found += [
            (kind, start, levels[start : start + _TOGETHER])
            for start in range(0, len(levels), _TOGETHER)
        ]
    return found


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
    kind: Strategy, given: Setup, stack: _Lazy, part: Int[np.ndarray, " G"]
) -> Callable[[Callable[[float], None]], list[Row]]:
    def work(progress: Callable[[float], None]) -> list[Row]:
        return _rows(kind, part, areas(kind, given, stack(given), part, progress))

    return work


def _rows(kind: Strategy, part: Int[np.ndarray, " G"], found: Float[np.ndarray, " G"]) -> list[Row]:
    return [
        {
            "strategy": kind.name,
            "noise_ante": LEVELS[PAIRS[g][0]],
            "noise_post": LEVELS[PAIRS[g][1]],
            "area": float(of),
        }
        for g, of in zip(part, found, strict=True)
    ]


def _stream_work(job: Job) -> Callable[[Callable[[float], None]], list[Row]]:
    """All levels and strategies of a stream, over two readings of its files."""

    def work(progress: Callable[[float], None]) -> list[Row]:
        assert job.stream is not None
        sweeps, which, costs = _sweeps(), np.array(PAIRS), NOISE_LEVELS["low"][2:]
        asked = replace(
            streamed(job.stream, N_MODELS, [named("cascade-routing")], "low", job.seed),
            noise=(0.0, 0.0, *costs),
        )
        more = {"sweeps": [[kind.name, part.tolist()] for kind, _, part in sweeps]}
        run = begun(job, "all", asked, len(sweeps), progress, more)
        settled = settle(asked, looked_at(asked, run))
        table, none = settled.table, np.zeros(0, int)
        given = Setup(table, np.arange(table.n_queries), none, settled.budgets)
        stack = NoiseStack.of_rows(settled, table, settled.sample, LEVELS, which)
        groups = [by_panels(kind, stack, part) for kind, _, part in sweeps]

        def fit(places: Sequence[int]) -> Done:
            for place in places:
                start = time.perf_counter()
                found = fits(groups[place], given, stack, sweeps[place][2])
                run.progress("fitting", len(settled.sample))
                took = np.array(time.perf_counter() - start)
                yield place, packed(vars(found) | {"seconds": took})

        keys = [f"fit-{kind.name}-{start:03d}" for kind, start, _ in sweeps]
        fitted = [unpacked(of) for of in run.each("fitting", keys, [0] * len(keys), fit)]
        mixes = [Fits(of["settings"], of["gamma"]) for of in fitted]
        del stack
        read: tuple[int, NoiseStack] | None = None

        def add(place: int, piece: Piece, table: Table) -> pa.Table:
            nonlocal read
            start, part = time.perf_counter(), sweeps[place][2]
            if read is None or read[0] != piece.index:
                rows = np.arange(piece.first, piece.first + piece.n_rows)
                read = piece.index, NoiseStack.of_rows(settled, table, rows, LEVELS, which)
            others, found = np.flatnonzero(~is_fit(asked, piece, table)), None
            if len(others):
                sized = sized_for(groups[place], read[1], part)
                found = sums(sized, mixes[place], table, others, read[1], part)
            else:
                found = np.zeros((2, *mixes[place].settings.shape))
            return packed({"sums": found, "seconds": np.array(time.perf_counter() - start)})

        stream = asked.stream.select_models(settled.models)
        tables = over_pieces(
            "sums", "summing", stream, asked.columns, len(sweeps), add, run
        )  # fmt: skip
        of_all = add_up((unpacked(of) for of in tables), len(sweeps))
        single, rows = (settled.cost[1], settled.quality[1]), []
        counts: Row = {"fit": int(settled.count[0]), "evaluate": int(settled.count[1])}
        if not settled.exact:
            counts |= {"sample": len(settled.sample), "met_on_sample": True}
        for (kind, _, part), mix, of, fit_of in zip(sweeps, mixes, of_all, fitted, strict=True):
            found = areas_of(mix, of["sums"] / settled.count[1], *single)
            took = float(of["seconds"] + fit_of["seconds"]) / len(part)
            rows += [row | counts | {"seconds": took} for row in _rows(kind, part, found)]
        return rows

    return work


def gains(rows: Sequence[Row]) -> dict[str, Float[np.ndarray, "A A"]]:
    """Area of cascade routing above each other strategy's, by noise afterwards and beforehand.

    Rows and columns are places in `LEVELS`; nan where afterwards is noisier.
    """
    area = {(row["strategy"], row["noise_ante"], row["noise_post"]): row["area"] for row in rows}

    def grid(name: str) -> Float[np.ndarray, "A A"]:
        found, kind = np.full((len(LEVELS), len(LEVELS)), np.nan), named(name)
        seen = {_seen(kind, *PAIRS[g]): PAIRS[g] for g in levels_of(kind)}
        for a, p in PAIRS:
            ante, post = seen[_seen(kind, a, p)]
            found[p, a] = area[name, LEVELS[ante], LEVELS[post]]
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
        "Area of cascade routing above that of others, in points, at 136 levels of noise",
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
        axes.set_title(f"points of area above {name}", fontsize=11)
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
