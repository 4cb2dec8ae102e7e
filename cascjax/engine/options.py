"""How a job runs, as opposed to what it computes."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from cascjax.errors import CascjaxError, print_note

SAMPLE = 1 << 18  # Default number of fit rows that parameters are searched on

Progress: TypeAlias = Callable[[str, int], None]
"""Called with a description of the current work and the number of rows just completed."""


def no_progress(work: str, rows: int) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class RunOptions:
    """How a job runs: where it keeps partial results, on how many rows it searches, who is told.

    Processes are shared automatically: every process of `jax.distributed` makes the same call.

    Args:
        checkpoint: folder for partial results, from which an interrupted job resumes; its parent
            must exist. By default nothing is kept. Delete the folder once its job has succeeded.
        resume: whether to resume the interrupted job that the folder belongs to.
        force: whether to discard what an earlier job left in the folder.
        sample: largest number of fit rows that parameters are searched on and estimates are
            learned from. With at least as many as there are fit rows, the search is exact.
        progress: called with a description of the work and the number of rows just completed. A
            KeyboardInterrupt that it raises ends the job between two parts.
        note: called with one line for each damaged file of the checkpoint, whose content is
            computed again, and for what a default leaves out; by default the line is printed on
            standard error.

    Raises:
        CascjaxError: `sample` is less than 1, or `resume` or `force` is given without a folder.

    Example:
        >>> RunOptions(sample=100_000).resume
        False
    """

    checkpoint: str | os.PathLike[str] | None = None
    resume: bool = False
    force: bool = False
    sample: int = SAMPLE
    progress: Progress = field(default=no_progress, repr=False)
    note: Callable[[str], None] = field(default=print_note, repr=False)

    def __post_init__(self) -> None:
        """Check the values."""
        if self.sample < 1:
            raise CascjaxError(f"sample must be at least 1 row, not {self.sample}")
        if self.checkpoint is None and (self.resume or self.force):
            name = "resume" if self.resume else "force"
            raise CascjaxError(f"{name} needs a checkpoint folder: give checkpoint=...")
