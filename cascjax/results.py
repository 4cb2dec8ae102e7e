"""The methods that every result has: how it prints, its table, its picture, its files."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cascjax.errors import CascjaxError, one_line

# Both take long to import, and a result may never be shown.
if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


class Result:
    """Base class of results, for dataclasses declared with `repr=False, eq=False`.

    How a result looks is up to the module of `cascjax.report` that `view` names. It is imported at
    first use, because the layer of reports lies above that of results. It defines

        summary(result) -> cascjax.report.tables.Listing     the short table, with a title
        frame(result) -> pandas.DataFrame                    all numbers
        plot(result, ax) -> matplotlib Axes                  where there is a picture
        save(result, folder)                                 where there are files
    """

    view: ClassVar[str]

    def _view(self, how: str, *args: Any) -> Any:
        function = getattr(import_module(f"cascjax.report.{self.view}"), how, None)
        if function is None:
            raise CascjaxError(f"a {type(self).__name__} has nothing to {how}")
        return function(self, *args)

    def __repr__(self) -> str:
        return self._view("summary").text()

    def _repr_html_(self) -> str:
        return self._view("summary").html()

    def to_pandas(self) -> "DataFrame":
        """Return the numbers of the result as a data frame."""
        return self._view("frame")

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the result with matplotlib.

        Args:
            ax: axes to draw on; by default those of a new figure.

        Returns:
            The axes.

        Raises:
            CascjaxError: results of this kind have no picture.
        """
        return self._view("plot", ax)

    def save(self, folder: str | Path) -> None:
        """Write the files that the command of the same name writes; the folder is made if missing.

        Raises:
            CascjaxError: the folder cannot be written.
        """
        with one_line(f"cannot write to the folder {folder}"):
            Path(folder).mkdir(parents=True, exist_ok=True)
        self._view("save", Path(folder))
