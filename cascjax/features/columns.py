"""What an import adds to a table beside scores and costs: features, signals and answers."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int32

from cascjax.data.arrow import list_column
from cascjax.errors import CascjaxError, unknown_name
from cascjax.features import answers
from cascjax.features import prompts as text
from cascjax.words import counted

FEATURES = ("text",)
"""What features an import can make."""


@dataclass(frozen=True)
class TextOptions:
    """How an import makes features and signals of prompts and responses.

    Attributes:
        features: "text", or None for none.
        text_model: the file of the text model, read where it exists, else written; or None.
        n_components: directions of words; None is the file's number, or else 32.
    """

    features: str | None = None
    text_model: str | os.PathLike[str] | None = None
    n_components: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            CascjaxError: the features are unknown, or left out where the rest is given.
        """
        if self.features is not None and self.features not in FEATURES:
            raise unknown_name("features", self.features, FEATURES)
        if self.features is None and (self.text_model, self.n_components) != (None, None):
            raise CascjaxError("a text model is of text features: ask for features 'text' too")


@dataclass
class Gathered:
    """Features and signals of N queries and K models, gathered one after another.

    Attributes:
        features: `[N, f]` arrays, side by side.
        feature_names: a name for each column of them.
        signals: `[N, K, p]` arrays, side by side.
        signal_names: a name for each last index of them.
        answer: `[N, K]` identities, -1 where there is none, or None.
        notes: what there is to know of them, a line each.
    """

    features: list[Float[np.ndarray, "N f"]] = field(default_factory=list)
    feature_names: list[str] = field(default_factory=list)
    signals: list[Float[np.ndarray, "N K p"]] = field(default_factory=list)
    signal_names: list[str] = field(default_factory=list)
    answer: Int32[np.ndarray, "N K"] | None = None
    notes: list[str] = field(default_factory=list)

    def columns(self, source: str) -> dict[str, pa.Array]:
        """The table's columns of all that was gathered.

        Raises:
            CascjaxError: two features, or two signals, have one name.
        """
        for what, names in (("feature", self.feature_names), ("signal", self.signal_names)):
            if repeated := [name for i, name in enumerate(names) if name in names[:i]]:
                raise CascjaxError(
                    f"{source}: two {what}s are named {repeated[0]!r}; name one otherwise"
                )
        found = {}
        if self.features:
            found["features"] = list_column(np.hstack(self.features).astype(np.float32))
        if self.signals:
            signals = np.concatenate(self.signals, axis=2).astype(np.float32)
            found["signals"] = list_column(signals.reshape(len(signals), -1))
        if self.answer is not None:
            found["answer"] = list_column(self.answer)
        return found


def text_of(column: pa.ChunkedArray) -> list[str]:
    """The strings of a column, "" where there is none."""
    return column.fill_null("").to_pylist()


def gather_text(
    gathered: Gathered,
    prompts: Sequence[str],
    responses: Sequence[Sequence[str]],
    fit_on: Sequence[str],
    options: TextOptions,
    source: str,
) -> text.TextModel | None:
    """Add the features of N prompts, and signals and answers of K models' responses to them.

    Args:
        gathered: what to add to.
        prompts: N of them.
        responses: N of each of K models; none of them for features alone.
        fit_on: prompts to fit the text model on, where there is none yet.
        options: where that model may be.
        source: the file, for messages.

    Returns:
        The text model where it was fitted and is to be written, else None.

    Raises:
        CascjaxError: the text model cannot be read or fitted.
    """
    try:
        model, fitted = text.text_model_of(fit_on, options.text_model, options.n_components)
    except CascjaxError as error:
        if options.text_model is not None and str(options.text_model) in str(error):
            raise
        raise CascjaxError(f"{source}: {error}") from error
    gathered.features.append(text.text_features(prompts, model))
    gathered.feature_names += model.feature_names
    if responses:
        reader = answers.ResponseReader(prompts)
        read = [reader.read(of) for of in responses]
        gathered.signals.append(np.stack([found.signals for found in read], axis=1))
        gathered.signal_names += answers.SIGNALS
        codes: dict[str | None, int] = {None: -1}
        gathered.answer = np.array(
            [[codes.setdefault(a, len(codes) - 1) for a in found.answers] for found in read],
            np.int32,
        ).T.copy()
    if options.text_model is not None:
        what = f"fitted on the {counted(len(fit_on), 'prompt')} of the file, written to" * fitted
        gathered.notes.append(f"Text model: {what or 'read from'} {os.fspath(options.text_model)}")
    return model if fitted and options.text_model is not None else None
