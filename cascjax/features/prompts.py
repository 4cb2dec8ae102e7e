"""Features of prompts: what a quality estimator can know before any model has run.

Every number is a function of the prompt alone, and of a `TextModel`: the weights of the words and
the directions they are reduced to, fitted once on a log's prompts and kept in a file, so that
another log or a live system gets the same features.
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
COMPONENTS = 32
"""Directions words are reduced to by default: more fit a few thousand rows less well."""

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
"""What is counted in a prompt, in this order, before the directions of its words.

log_chars, log_words and log_lines are log(1 + count) over the whole prompt; the others are of its
`question`: log(1 + words), the number of lettered options, the share of digits and of the signs
code has among its characters, and whether it ends in a question mark.
"""

_BITS = 15
_HASH: dict[str, Any] = {"bits": _BITS, "ngrams": [1, 2], "question": 100}
"""What the columns of a model mean: another cascjax must not read them otherwise."""
_OPTION = re.compile(r"^[ \t]*\(?([A-Z])[).:][ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
_CODE = re.compile(r"[{}\[\]();=<>_+*/\\|&^%#]")
_ROWS = 1 << 12
"""Prompts vectorised at once."""


@dataclass(frozen=True)
class TextModel:
    """The weights of hashed words and word pairs, and the directions they are reduced to.

    Attributes:
        idf: `[H]` inverse document frequency of each of the hashes, H = 2**15.
        directions: `[H, C]` orthonormal directions of most of the fitted prompts' weight.
    """

    idf: Float32[np.ndarray, " H"]
    directions: Float32[np.ndarray, "H C"]

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """The names of what `text_features` gives, F = 8 + C of them."""
        return (*FACTS, *(f"text_{c}" for c in range(self.directions.shape[1])))


def fit_text_model(prompts: Sequence[str], n_components: int = COMPONENTS) -> TextModel:
    """Fit the weights of words (TF-IDF) and their directions (truncated SVD) on N prompts.

    It sees prompts alone, no score. The same prompts give the same model. There are fewer
    directions where there are fewer prompts.

    Raises:
        CascjaxError: `n_components` is not in 1 to 1,024, or no prompt has a word.
    """
    from sklearn.utils import extmath  # takes long to import

    if not 1 <= n_components <= 1024:
        raise CascjaxError(f"{n_components} components are asked for; take 1 to 1,024 of them")
    counts = _counts(prompts) if len(prompts) else None
    if counts is None or not counts.nnz:
        raise CascjaxError(
            "no prompt has a word of two letters or more; name the column with the prompts"
        )
    seen_in = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = (np.log((1 + len(prompts)) / (1 + seen_in)) + 1).astype(np.float32)
    weights = _weights(counts, idf)
    # The smaller side bounds the rank.
    size = min(n_components, *weights.shape)
    randomized_svd: Any = extmath.randomized_svd  # its defaults are of types narrower than it takes
    _, _, directions = randomized_svd(weights, size, n_iter=4, random_state=0)
    return TextModel(idf, np.ascontiguousarray(directions.T.astype(np.float32)))


def text_features(prompts: Sequence[str], model: TextModel) -> Float32[np.ndarray, "N F"]:
    """`[N, F]` features of N prompts, in the order of `model.feature_names`."""
    facts = np.array([_facts(prompt) for prompt in prompts], np.float32).reshape(-1, len(FACTS))
    words = [
        _weights(_counts(prompts[start : start + _ROWS]), model.idf) @ model.directions
        for start in range(0, len(prompts), _ROWS)
    ]
    return np.hstack([facts, np.concatenate(words)]) if words else _no_features(model)


def question(prompt: str, least: int = _HASH["question"]) -> str:
    """The last paragraphs of a prompt, as few as have `least` characters, or all of it.

    Prompts with solved examples share all but this, which would drown what sets them apart.
    """
    prompt = prompt.strip().replace("\r\n", "\n")
    start = len(prompt)
    while (start := prompt.rfind("\n\n", 0, start)) >= 0:
        if len(prompt) - start >= least:
            return prompt[start:].strip()
    return prompt


def options(prompt: str) -> tuple[str, ...]:
    """The texts of the options that a prompt's question letters from A on, one a line; or none.

    Such lines begin with "A)", "(A)", "A." or "A:" and a space; one option is none.
    """
    found: list[str] = []
    for letter, text in _OPTION.findall(question(prompt)):
        if letter == chr(ord("A") + len(found)):
            found.append(text)
    return tuple(found) if len(found) > 1 else ()


def write_text_model(path: str | os.PathLike[str], model: TextModel) -> None:
    """Write a model as an npz of arrays and a head of JSON, whole or not at all.

    Raises:
        CascjaxError: the file cannot be written.
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
    """Read a model that `write_text_model` wrote; nothing in the file is run.

    Raises:
        CascjaxError: the file is missing, damaged, of another kind or of another version.
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
        # numpy, zipfile and zlib raise a dozen kinds of errors on bytes that are no such file.
        except Exception as error:
            raise damaged from error
    if kind != "cascjax text model":
        raise damaged
    if version != VERSION or hashing != _HASH:
        raise CascjaxError(
            f"{source}: the text model is of version {str(version)[:20]} and this cascjax reads"
            f" {VERSION}; use the cascjax that wrote it, or name another file to fit one again"
        )
    shaped = idf.shape == (1 << _BITS,) and directions.ndim == 2 and len(directions) == 1 << _BITS
    if not shaped or idf.dtype != np.float32 or directions.dtype != np.float32:
        raise damaged
    if not directions.shape[1] or not np.isfinite(idf).all() or not np.isfinite(directions).all():
        raise damaged
    return TextModel(idf, directions)


def text_model_of(
    prompts: Sequence[str], path: str | os.PathLike[str] | None, n_components: int | None
) -> tuple[TextModel, bool]:
    """The model in the file where it exists, else one fitted on the prompts; and whether it was.

    Args:
        prompts: what to fit on.
        path: where a model may be; None is nowhere.
        n_components: how many directions; by default 32, or what the file has.

    Raises:
        CascjaxError: the file is no model, or has another number of directions; or none can be
            fitted.
    """
    if path is None or not os.path.lexists(path):
        return fit_text_model(prompts, n_components or COMPONENTS), True
    model = read_text_model(path)
    found = model.directions.shape[1]
    if n_components not in (None, found):
        raise CascjaxError(
            f"{os.fspath(path)}: the text model has {counted(found, 'component')} and not"
            f" {n_components}; leave the number out, or name another file to fit one again"
        )
    return model, False


def _no_features(model: TextModel) -> Float32[np.ndarray, "0 F"]:
    return np.zeros((0, len(model.feature_names)), np.float32)


def _counts(prompts: Sequence[str]) -> Any:
    """`[N, H]` sparse: how often each hashed word or word pair stands in each prompt's question."""
    from sklearn.feature_extraction import text  # takes long to import

    # Counts alone: signs would not let a hash have a document frequency.
    make: Any = text.HashingVectorizer  # its defaults are of types narrower than what it takes
    vectorizer = make(
        n_features=1 << _BITS,
        ngram_range=tuple(_HASH["ngrams"]),
        alternate_sign=False,
        norm=None,
        dtype=np.float32,
    )
    return vectorizer.transform([question(prompt) for prompt in prompts])


def _weights(counts: Any, idf: Float32[np.ndarray, " H"]) -> Any:
    """`[N, H]` sparse TF-IDF of length 1, or 0 without words; term frequencies as 1 + log."""
    weights = counts.copy()
    weights.data = (1 + np.log(weights.data)) * idf[weights.indices]
    squares = np.asarray(weights.multiply(weights).sum(axis=1)).ravel()
    length = np.sqrt(np.where(squares > 0, squares, 1), dtype=np.float32)
    weights.data /= np.repeat(length, np.diff(weights.indptr))
    return weights


def _facts(prompt: str) -> list[float]:
    """`FACTS` of a prompt."""
    asked = question(prompt)
    n = max(len(asked), 1)
    return [
        float(np.log1p(len(prompt))),
        float(np.log1p(len(prompt.split()))),
        float(np.log1p(prompt.count("\n") + 1)),
        float(np.log1p(len(asked.split()))),
        float(len(options(prompt))),
        sum(map(str.isdecimal, asked)) / n,
        len(_CODE.findall(asked)) / n,
        float(asked.endswith("?")),
    ]
