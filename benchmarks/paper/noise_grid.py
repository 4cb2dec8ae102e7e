"""The noise grid: what cascade routing gains at 136 levels of noise before and after a model runs.

Levels of noise are one more axis of the functional core: `core.frontier` and `core.totals` are
mapped over them with vmap.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float

import cascjax as cj
from benchmarks.paper.base import Cell, Experiment, Findings, Frame, Job, Row, signed, times
from benchmarks.paper.protocol import choose, noisy_estimates, paper_strategy
from cascjax import core
from cascjax.data.table import mean_rows, split_rows
from cascjax.metrics import auc
from cascjax.metrics import budgets as hull_budgets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_MODELS = 5

LEVELS = tuple(round(0.2 * i, 1) for i in range(16))
"""Standard deviations of noise on quality."""

PAIRS = tuple((ante, post) for ante in LEVELS for post in LEVELS if post <= ante)
"""Noise before and after a model runs; an answer never makes an estimate noisier."""

OTHERS = ("routing", "thresholding", "cascading", "pandora")

TOGETHER = 4
"""Levels in one program: what still fits a cache."""

BLOCK = 1 << 12
"""Evaluation rows in one program; sums of blocks are float64."""


def cells(job: Job) -> Iterator[Cell]:
    """Yield one cell per strategy and level of noise before a model runs."""
    table = choose(job.data, N_MODELS)
    for name in ("cascade-routing", *OTHERS):
        for ante in LEVELS:
            # Some strategies read only one of the two estimates: their AUC is computed once.
            pairs = [pair for pair in PAIRS if pair[0] == ante and first(name, pair) == pair]
            if pairs:
                yield (
                    f"{name}-{ante:.1f}",
                    lambda name=name, pairs=pairs: grid_rows(table, name, pairs, job.seed),
                )


def first(name: str, pair: tuple[float, float]) -> tuple[float, float]:
    """Return the first pair of noise levels at which a strategy has the same AUC as at this one."""
    reads = paper_strategy(name).reads
    alike = [
        other
        for other in PAIRS
        if ("quality_ante" not in reads or other[0] == pair[0])
        and ("quality_post" not in reads or other[1] == pair[1])
    ]
    return alike[0]


def grid_rows(table: cj.Table, name: str, pairs: list[tuple[float, float]], seed: int) -> list[Row]:
    """Return the AUC of a strategy at some levels of noise."""
    strategy = paper_strategy(name)
    fit, evaluate = split_rows(table)
    single = mean_rows(table.cost, evaluate), mean_rows(table.quality, evaluate)
    budgets = hull_budgets(*single, grid="paper")
    made = [level_estimates(table, ante, post, seed) for ante, post in pairs]
    rows = []
    for start in range(0, len(pairs), TOGETHER):
        some = made[start : start + TOGETHER]
        # Always as many levels, so that there is one program.
        stack = jax.tree.map(lambda *x: np.stack(x), *(some + some[:1] * (TOGETHER - len(some))))
        curves = fit_levels(
            strategy, take(stack, fit), table.quality[fit], table.cost[fit], budgets
        )
        settings = jnp.concatenate([curves.parameters[:, :, side] for side in (0, 1)], axis=1)
        sums = np.zeros((2, *settings.shape[:2]))
        for block in np.array_split(evaluate, -(-len(evaluate) // BLOCK)):
            totals = level_totals(
                strategy, settings, take(stack, block), table.quality[block], table.cost[block]
            )
            sums += np.stack([totals.cost, totals.quality]).astype(np.float64)
        cheap, expensive = np.split(sums / len(evaluate), 2, axis=2)
        gamma = np.asarray(curves.gamma, np.float64)
        points = (1 - gamma) * cheap + gamma * expensive
        for i, (ante, post) in enumerate(pairs[start : start + TOGETHER]):
            rows.append(
                {
                    "strategy": name,
                    "ante": ante,
                    "post": post,
                    "auc": float(auc(points[0, i], points[1, i], *single)),
                }
            )
    return rows


def level_estimates(table: cj.Table, ante: float, post: float, seed: int) -> core.Independent:
    """Return noisy estimates with the same draws at every level, cost noise as at level low."""
    return noisy_estimates(table, (ante, post, 0.0002, 0.00005), seed)


def take(stack: core.Independent, rows: Float[np.ndarray, " n"]) -> core.Independent:
    """Return some rows of estimates stacked along a first axis of levels."""
    return jax.tree.map(lambda x: x if x.shape[1] == 1 else x[:, rows], stack)


@functools.partial(jax.jit, static_argnums=0)
def fit_levels(strategy, estimates, quality, cost, budgets):
    """Return the frontier of a strategy at every level."""
    frontier = functools.partial(core.frontier, strategy, singles=False)
    return jax.vmap(frontier, in_axes=(0, None, None, None))(estimates, quality, cost, budgets)


@functools.partial(jax.jit, static_argnums=0)
def level_totals(strategy, parameters, estimates, quality, cost):
    """Return the totals of every level's own settings."""
    totals = functools.partial(core.totals, strategy)
    return jax.vmap(totals, in_axes=(0, 0, None, None))(parameters, estimates, quality, cost)


def gains(rows: Frame) -> dict[str, Frame]:
    """Return the AUC of cascade routing minus the others', by noise after and before."""
    aucs = rows.set_index(["strategy", "ante", "post"])["auc"]

    def grid(name: str) -> Frame:
        frame = pd.DataFrame(np.nan, index=LEVELS, columns=LEVELS)
        for ante, post in PAIRS:
            frame.loc[post, ante] = aucs[(name, *first(name, (ante, post)))]
        return frame

    ours = grid("cascade-routing")
    return {name: ours - grid(name) for name in OTHERS}


def findings(job: Job, rows: Frame) -> Findings:
    """Return the gains over each other strategy."""
    found = gains(rows)
    summary, corners = {}, {}
    for name, gain in found.items():
        inside = 100 * gain.stack()
        post, ante = inside.idxmax()
        summary[name] = {
            "mean": signed(inside.mean()),
            "least": signed(inside.min()),
            "most": signed(inside.max()),
            "most at noise before, after": f"{ante:g}, {post:g}",
            "above 0": f"{(inside > 0).sum()} of {len(inside)}",
        }
        corners[f"above {name}"] = {
            f"{ante:g}, {post:g}": signed(100 * gain.loc[post, ante])
            for ante, post in itertools.product((0.0, 0.6, 1.6, 3.0), repeat=2)
            if post <= ante
        }
    tables = {
        "AUC of cascade routing above the others, in points, at 136 levels of noise": (
            pd.DataFrame(summary).T.rename_axis("above")
        ),
        "The same at some levels": pd.DataFrame(corners).rename_axis("noise before, after"),
        "Time": times(rows, ["strategy"]),
    }
    notes = [
        f"{N_MODELS} models; noise of seed {job.seed} on quality, same draws at every level, and"
        " on costs as at level low. The paper shows this as a picture, without numbers."
    ]
    return Findings(tables, notes, lambda figure: draw(figure, found), (11.0, 9.5))


def draw(figure: "Figure", found: dict[str, Frame]) -> None:
    """Draw one heat map per strategy: blue where cascade routing is above."""
    panels = figure.subplots(2, 2, squeeze=False)
    ends = (LEVELS[0] - 0.1, LEVELS[-1] + 0.1)
    for (name, gain), axes in zip(found.items(), panels.flat, strict=True):
        most = 100 * float(np.nanmax(np.abs(gain.values)))
        image = axes.imshow(
            100 * gain.values, origin="lower", extent=(*ends, *ends), cmap="RdBu", vmin=-most,
            vmax=most, interpolation="nearest",
        )  # fmt: skip
        axes.grid(False)
        axes.set_title(f"points of AUC above {name}", fontsize=11)
        figure.colorbar(image, ax=axes, fraction=0.045)
    figure.supxlabel("noise before a model runs")
    figure.supylabel("noise after it has run")


NOISE_GRID = Experiment(
    "what cascade routing gains over other strategies at 136 levels of noise", cells, findings
)
