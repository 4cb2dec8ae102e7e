"""What can be seen of a query, as columns of numbers, and what must have run to see each."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Design:
    """All that is ever seen of N queries: D columns for regressions.

    Attributes:
        seen: `[N, D]` the columns, float32; the first is 1, the others have mean 0 and spread 1 on
            the rows fitted on.
        needs: `[D, K]` the models that must have run for a column to be seen: none of them for a
            feature, one for a signal, two for the agreement of two answers.
        names: D names, for messages.
        notes: what was left out or filled in, and why, a line each.
    """

    seen: Float[np.ndarray, "N D"]
    needs: Bool[np.ndarray, "D K"]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def shown(self) -> Bool[np.ndarray, "S D"]:
        """Which columns each of the 2**K run sets shows; bit i of a run set is model i."""
        k = self.needs.shape[1]
        runs = (np.arange(2**k)[:, None] >> np.arange(k)) & 1 == 1
        return ~(self.needs[None] & ~runs[:, None]).any(-1)
