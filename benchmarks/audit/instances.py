"""Random and degenerate inputs, all in float32, models in rising mean cost."""

from dataclasses import dataclass, replace

import numpy as np

import cascjax as cj

KINDS = (
    "random", "ties", "identical models", "zero cost", "equal quality", "sigma 0", "wide costs",
    "percent", "negative",
)  # fmt: skip


def float32(values):
    """Return an array of float32."""
    return np.asarray(values, np.float32)


@dataclass(frozen=True, eq=False)
class Instance:
    """Truth and estimates of N queries and K models, each `[N, K]`; hashed by identity."""

    name: str
    quality: np.ndarray
    cost: np.ndarray
    ante: np.ndarray
    post: np.ndarray
    sigma: np.ndarray
    cost_ante: np.ndarray

    @property
    def span(self):
        """Scale of quality that deviations are relative to."""
        return float(np.ptp(self.quality) or abs(self.quality).max())

    def map(self, change):
        """Return the instance with all arrays changed alike."""
        arrays = {name: value for name, value in vars(self).items() if name != "name"}
        return replace(self, **{name: change(value) for name, value in arrays.items()})

    def exact(self):
        """Return the instance with estimates that are the truth."""
        truth = {"ante": self.quality, "post": self.quality, "cost_ante": self.cost}
        return replace(self, sigma=np.zeros_like(self.sigma), **truth)

    def table(self, fit=None):
        """Return a table that is fitted on its first rows; with all rows twice by default."""
        whole = self if fit is not None else self.map(lambda x: np.concatenate([x, x]))
        n, k = whole.quality.shape
        split = (np.arange(n) >= (n // 2 if fit is None else fit)).astype(np.int8)
        return cj.Table(
            whole.quality, whole.cost, whole.ante, whole.post, whole.sigma, whole.cost_ante,
            whole.cost, split=split, models=tuple(f"m{i}" for i in range(k)), cost_unit="USD",
        )  # fmt: skip


def instance(kind, n, k, seed):
    """Return an instance of a kind in `KINDS`."""
    rng = np.random.default_rng([KINDS.index(kind), n, k, seed])
    ease, skill = rng.normal(0, 0.25, (n, 1)), np.linspace(0.3, 0.7, k)
    quality = np.clip(skill + ease + rng.normal(0, 0.2, (n, k)), 0, 1)
    sigma = np.broadcast_to(rng.uniform(0.05, 0.3, k), (n, k)).copy()
    post = quality + rng.normal(0, 0.05, (n, k))
    ante = post + sigma * rng.normal(size=(n, k))
    cost = 0.001 * 4.0 ** np.arange(k) * rng.lognormal(0, 0.4, (n, k))
    cost_ante = cost * rng.lognormal(0, 0.2, (n, k))
    if kind == "ties":
        quality, ante, post = (np.round(2 * x) / 2 for x in (quality, ante, post))
        cost = cost_ante = np.broadcast_to(2.0 ** np.arange(k), (n, k))
    elif kind == "identical models":
        for x in (quality, ante, post, sigma, cost, cost_ante):
            x[:, -2] = x[:, 0] if k > 2 else x[:, -2]
    elif kind == "zero cost":
        cost[:, 0] = cost_ante[:, 0] = 0
    elif kind == "equal quality":
        quality = ante = post = np.full((n, k), 0.5)
    elif kind == "sigma 0":
        sigma[:, ::2], ante[:, ::2] = 0, post[:, ::2]
    elif kind == "wide costs":
        wide = 10.0 ** np.linspace(-7, 3, k) / (0.001 * 4.0 ** np.arange(k))
        cost, cost_ante = cost * wide, cost_ante * wide
    elif kind == "percent":
        quality, ante, post, sigma = (100 * x for x in (quality, ante, post, sigma))
    elif kind == "negative":
        quality, ante, post = (x - 2 for x in (quality, ante, post))
    arrays = [float32(x) for x in (quality, cost, ante, post, sigma, cost_ante)]
    built = Instance(f"{kind}, N = {n}, K = {k}, seed {seed}", *arrays)
    order = np.argsort(built.cost.mean(0, dtype=np.float64), kind="stable")
    return built.map(lambda x: np.ascontiguousarray(x[:, order]))
