"""Features of prompts: numbers that are known before any model has run.

Every feature is a function of the prompt and of a `TextModel`: weights of words and the directions
they are reduced to, fitted once on the prompts of a log and kept in a file, so that another log or
a live system gets the same features.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float32

from cascjax.data.files import atomic_write
from cascjax.errors import CascjaxError, one_line
from cascjax.words import counted

VERSION = 1
COMPONENTS = 32  # Default number of directions; more fit a few thousand rows less well

FACTS = (
    "log_chars",
    "log_words",
    "log_lines",
    "question_log_words",
    "options",
    "digit_share",
    "code_share",
    "asks",
)
"""Counts of a prompt, in this order, before the directions of its words.

log_chars, log_words and log_lines are log(1 + count) over the whole prompt. The others describe its
`question`: log(1 + words), number of lettered options, share of digits and of code characters, and
1 if it ends with a question mark.
"""

_BITS = 15
_HASH: dict[str, Any] = {"bits": _BITS, "ngrams": [1, 2], "question": 100}
"""Meaning of the columns of a text model; a file with another meaning is refused."""
_OPTION = re.compile(r"^[ \t]*\(?([A-Z])[).:][ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
_CODE = re.compile(r"[{}\[\]();=<>_+*/\\|&^%#]")
_ROWS = 1 << 12  # Prompts vectorised at once


@dataclass(frozen=True, eq=False, repr=False)
class TextModel:
    """Weights of hashed words and word pairs, and the directions they are reduced to.

    Attributes:
      idf: `[H]` inverse document frequency of each hash; H is 2**15.
      directions: `[H, C]` orthonormal directions that hold most of the weight of the prompts the
        model was fitted on.
    """

    idf: Float32[np.ndarray, " H"]
    directions: Float32[np.ndarray, "H C"]

    def __repr__(self) -> str:
        """Return the number of components."""
        return f"TextModel: {counted(self.directions.shape[1], 'component')}"

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the F = 8 + C features that `text_features` returns."""
        return (*FACTS, *(f"text_{c}" for c in range(self.directions.shape[1])))


def fit_text_model(prompts: Sequence[str], n_components: int = COMPONENTS) -> TextModel:
    """Fit the weights of words (TF-IDF) and their directions (truncated SVD) on N prompts.

    Fitting sees no score, and is deterministic.

    Args:
      prompts: N prompts.
      n_components: Number of directions C, from 1 to 1,024; fewer where N is smaller.

    Returns:
      The text model.

    Raises:
      CascjaxError: `n_components` is out of range, or no prompt has a word.

    Example:
      >>> model = fit_text_model(["Add two numbers.", "Sort a list.", "Add a list."], 2)
      >>> text_features(["Add four numbers."], model).shape
      (1, 10)
    """
    from sklearn.feature_extraction.text import TfidfTransformer  # takes long to import
    from sklearn.utils import extmath

    if not 1 <= n_components <= 1024:
        raise CascjaxError(f"n_components must be from 1 to 1,024, not {n_components}")
    counts = _counts(prompts) if len(prompts) else None
    if counts is None or not counts.nnz:
        raise CascjaxError(
            "no prompt has a word of two letters or more; name the column with the prompts"
        )
    idf = np.asarray(TfidfTransformer().fit(counts).idf_, np.float32)
    weights = _weights(counts, idf)
    randomized_svd: Any = extmath.randomized_svd  # its defaults have narrower types than it takes
    size = min(n_components, *weights.shape)
    _, _, directions = randomized_svd(weights, size, n_iter=4, random_state=0)
    return TextModel(idf, np.ascontiguousarray(directions.T.astype(np.float32)))


def text_features(prompts: Sequence[str], model: TextModel) -> Float32[np.ndarray, "N F"]:
    """Return the features of N prompts.

    Args:
      prompts: N prompts.
      model: Text model, as `fit_text_model` or `read_text_model` returns it.

    Returns:
      `[N, F]` features, in the order of `model.feature_names`.

    Example:
      >>> model = fit_text_model(["Add two numbers.", "Sort a list."], 1)
      >>> features = text_features(["Is it 12?"], model)
      >>> dict(zip(model.feature_names, features[0].tolist()))["asks"]
      1.0
    """
    facts = np.array([_facts(prompt) for prompt in prompts], np.float32).reshape(-1, len(FACTS))
    words = np.zeros((len(prompts), model.directions.shape[1]), np.float32)
    for start in range(0, len(prompts), _ROWS):
        weights = _weights(_counts(prompts[start : start + _ROWS]), model.idf)
        words[start : start + _ROWS] = weights @ model.directions
    return np.hstack([facts, words])


def question(prompt: str, min_chars: int = _HASH["question"]) -> str:
    """Return the last paragraphs of a prompt: as few as have `min_chars` characters, or all.

    Prompts with solved examples share everything else.
    """
    prompt = prompt.strip().replace("\r\n", "\n")
    start = len(prompt)
    while (start := prompt.rfind("\n\n", 0, start)) >= 0:
        if len(prompt) - start >= min_chars:
            return prompt[start:].strip()
    return prompt


def options(prompt: str) -> tuple[str, ...]:
    """Return the texts of the options that a prompt's question letters from A on, if two or more.

    Each option is a line that begins with "A)", "(A)", "A." or "A:" and a space.
    """
    texts: list[str] = []
    for letter, text in _OPTION.findall(question(prompt)):
        if letter == chr(ord("A") + len(texts)):
            texts.append(text)
    return tuple(texts) if len(texts) > 1 else ()


def write_text_model(path: str | os.PathLike[str], model: TextModel) -> None:
    """Write a text model to an npz file, atomically.

    Args:
      path: File to write.
      model: Text model.

    Raises:
      CascjaxError: The file cannot be written.
    """
    head = {"format": "cascjax text model", "version": VERSION, "hash": _HASH}
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            head=np.frombuffer(json.dumps(head).encode(), np.uint8),
            idf=model.idf,
            directions=model.directions,
        )


def read_text_model(path: str | os.PathLike[str]) -> TextModel:
    """Read a text model that `write_text_model` wrote; nothing in the file is run.

    Args:
      path: File to read.

    Returns:
      The text model.

    Raises:
      CascjaxError: The file is missing, damaged, of another kind or of another version.

    Example:
      >>> import tempfile
      >>> path = os.path.join(tempfile.mkdtemp(), "words.npz")
      >>> write_text_model(path, fit_text_model(["Add two numbers.", "Sort a list."], 2))
      >>> read_text_model(path).directions.shape
      (32768, 2)
    """
    source = os.fspath(path)
    damaged = CascjaxError(
        f"cannot read {source}: it is damaged, or not a text model; name another file to fit a"
        " new one"
    )
    with one_line(f"cannot read {source}"):
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                head = json.loads(arrays["head"].tobytes())
                kind, version, hashing = head["format"], head["version"], head["hash"]
                idf, directions = arrays["idf"], arrays["directions"]
        except OSError:
            raise
        # numpy, zipfile and zlib raise a dozen kinds of errors on other bytes.
        except Exception as error:
            raise damaged from error
    if kind != "cascjax text model":
        raise damaged
    if version != VERSION or hashing != _HASH:
        raise CascjaxError(
            f"{source}: the text model has version {str(version)[:20]} and this cascjax reads"
            f" {VERSION}; use the cascjax that wrote it, or name another file to fit a new one"
        )
    if idf.shape != (1 << _BITS,) or directions.shape[:-1] != idf.shape or not directions.size:
        raise damaged
    for array in (idf, directions):
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise damaged
    return TextModel(idf, directions)


def text_model_of(
    prompts: Sequence[str], path: str | os.PathLike[str] | None, n_components: int | None
) -> tuple[TextModel, bool]:
    """Return the text model of a file if it exists, else fit one; and whether it was fitted."""
    if path is None or not os.path.lexists(path):
        return fit_text_model(prompts, n_components or COMPONENTS), True
    model = read_text_model(path)
    present = model.directions.shape[1]
    if n_components not in (None, present):
        raise CascjaxError(
            f"{os.fspath(path)}: the text model has {counted(present, 'component')}, but"
            f" n_components is {n_components}; leave it out, or name another file"
        )
    return model, False


def _counts(prompts: Sequence[str]) -> Any:
    """Return `[N, H]` sparse counts of the hashed words and word pairs of each question."""
    from sklearn.feature_extraction import text  # takes long to import

    # Counts without signs, because with signs a hash has no document frequency.
    make: Any = text.HashingVectorizer  # its defaults have narrower types than it takes
    vectorizer = make(
        n_features=1 << _BITS,
        ngram_range=tuple(_HASH["ngrams"]),
        alternate_sign=False,
        norm=None,
        dtype=np.float32,
    )
    return vectorizer.transform([question(prompt) for prompt in prompts])


def _weights(counts: Any, idf: Float32[np.ndarray, " H"]) -> Any:
    """Return `[N, H]` sparse TF-IDF of norm 1, or 0 without words; counts enter as 1 + log."""
    from sklearn.feature_extraction.text import TfidfTransformer  # takes long to import

    transformer = TfidfTransformer(sublinear_tf=True)
    transformer.idf_ = idf
    return transformer.transform(counts)


def _facts(prompt: str) -> list[float]:
    asked = question(prompt)
    n_chars = max(len(asked), 1)
    return [
        float(np.log1p(len(prompt))),
        float(np.log1p(len(prompt.split()))),
        float(np.log1p(prompt.count("\n") + 1)),
        float(np.log1p(len(asked.split()))),
        float(len(options(prompt))),
        sum(map(str.isdecimal, asked)) / n_chars,
        len(_CODE.findall(asked)) / n_chars,
        float(asked.endswith("?")),
    ]
