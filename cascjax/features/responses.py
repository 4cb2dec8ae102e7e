"""Signals of responses, and which responses give the same answer.

Every signal is a function of the prompt and the response alone, so that a live system gets what an
estimator was fitted on. `cascjax.features.answers` says how the answer of a response is identified.
Code is compared by the compiled form of its definitions: white space, comments, docstrings,
asserts, annotations, statements beside the definitions, and names of functions, arguments and
variables make no difference. A block that does not parse counts by its words.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import CodeType
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float32, Int
from scipy.special import xlogy

from cascjax.data.schema import refuse_rows
from cascjax.errors import check_name
from cascjax.features.answers import (
    CONVENTIONS,
    asks_number,
    boxed,
    identity,
    json_answer,
    last_line,
    last_number,
    plain_text,
    stated,
)
from cascjax.features.answers import letter as stated_letter
from cascjax.features.prompts import options, question

LETTERS = "ABCDE"
SIGNALS = (
    *("log_chars", "log_words", "empty", "refusal", "finished", "distinct_words"),
    *("choice", "bare_choice", *(f"choice_{letter.lower()}" for letter in LETTERS)),
    *("choice_length", "choice_in_question"),
    *("code", "code_parses", "code_log_lines", "code_log_tokens"),
)
"""Names of the signals of a response; a signal that does not apply is 0.

log_chars, log_words: log(1 + count). empty: the response is empty or white space. refusal: it
begins as an apology or refusal does. finished: it ends with a mark that ends sentences, brackets or
code. distinct_words: share of distinct words. choice: it names an option; bare_choice: and nothing
else; choice_a to choice_e: which. choice_length: log(1 + characters) of the option, minus the mean
over options. choice_in_question: share of the option's words of 3 letters or more that the question
has before its options. code: it has a block of code; code_parses: which Python parses and which
defines something; code_log_lines, code_log_tokens: log(1 + count) of that block.
"""

LOGPROB_SIGNALS = ("logprob_mean", "logprob_last")
"""Mean and last of the log-probabilities of an answer's tokens."""

CLASS_SIGNALS = ("class_entropy", "class_margin")
"""Entropy in nats of an answer's class distribution, and its highest probability minus the next."""

_TOLERANCE = 1e-3
"""Deviation of a sum of probabilities from 1, which are often written with few digits."""

_REFUSAL = re.compile(
    r"unfortunately|sorry|apologies|as an ai\b"
    r"|i(?: am|['’]m)(?: very| so)? (?:sorry|unable|afraid|not able|not sure)|i apologi[sz]e"
    r"|i (?:cannot|can['’]t|can not|could not|couldn['’]t|do not|don['’]t|will not|won['’]t)\b"
    r"|there is (?:not|no)\b"
    r"|(?:i do|there is)$",  # cut off after two words, as where one letter was asked for
    re.IGNORECASE,
)
_FENCED = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)|\[PYTHON\](.*?)(?:\[/PYTHON\]|\Z)", re.DOTALL)
_BEGINS_AS_CODE = re.compile(r"(?:def|class|import|from \w+ import|#include|function)\b")
_WORD = re.compile(r"[^\W\d_]{3,}")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_LONGEST_CODE = 20_000  # Characters beyond which code is not parsed


@dataclass(frozen=True, eq=False)
class Responses:
    """Signals and answers of N responses, each to its own prompt."""

    signals: Float32[np.ndarray, "N P"]  # in the order of `SIGNALS`
    answers: tuple[str | None, ...]  # equal strings are the same answer, None is none
    conventions: tuple[str, ...]  # what found each answer; "text" for a whole text, "" for none


def response_signals(
    prompts: Sequence[str], responses: Sequence[str | None]
) -> Float32[np.ndarray, "N P"]:
    r"""Return the signals of N responses, each to its own prompt.

    Args:
      prompts: N prompts.
      responses: N responses; None is a missing response.

    Returns:
      `[N, P]` signals, in the order of `SIGNALS`.

    Example:
      >>> signals = response_signals(["Which?\nA) iron\nB) rain"], ["A"])
      >>> dict(zip(SIGNALS, signals[0].tolist()))["choice_a"]
      1.0
    """
    return ResponseReader(prompts).read(responses).signals


def response_answers(
    prompts: Sequence[str], responses: Sequence[str | None], convention: str = "auto"
) -> tuple[str | None, ...]:
    r"""Return the answers of N responses, each to its own prompt.

    Args:
      prompts: N prompts.
      responses: N responses; None is a missing response.
      convention: how answers are marked, one of `cascjax.features.CONVENTIONS`: "boxed", "number",
        "choice", "code", "json" or "last-line", under which a response without such an answer has
        none; or "auto" for the first that finds an answer, and else the whole text.

    Returns:
      N identities; equal strings are the same answer, None is no answer.

    Raises:
      CascjaxError: an unknown convention.

    Example:
      >>> response_answers(["How many?"] * 3, ["It is 1,200.", "#### 1200", r"\boxed{1200.0}"])
      ('number 1200', 'number 1200', 'number 1200')
    """
    return ResponseReader(prompts, convention).read(responses).answers


class ResponseReader:
    """Reads the responses of several models to the same N prompts."""

    def __init__(self, prompts: Sequence[str], convention: str = "auto") -> None:
        """Read the options of the prompts once, for all models."""
        check_name("convention of answers", convention, CONVENTIONS)
        self._finders = _AUTO if convention == "auto" else (convention,)
        self._whole = convention == "auto"
        self._prompts = [_prompt(prompt) for prompt in prompts]
        self._known: dict[str, _Response] = {}

    def read(self, responses: Sequence[str | None]) -> Responses:
        """Return signals and answers of N responses, one per prompt; equal texts are read once."""
        signals = np.zeros((len(self._prompts), len(SIGNALS)), np.float32)
        answers: list[tuple[str | None, str]] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, about the code that is parsed
            for row, (prompt, text) in enumerate(zip(self._prompts, responses, strict=True)):
                text = (text or "").strip()
                if (response := self._known.get(text)) is None:
                    response = self._known[text] = _read(text)
                letter = _letter_of(prompt, response)
                choice = _choice_signals(prompt, response, letter)
                signals[row] = (*response.facts, *choice, *response.code_facts)
                answers.append(self._answer(prompt, response))
        return Responses(
            signals, tuple(answer for answer, _ in answers), tuple(name for _, name in answers)
        )

    def _answer(self, prompt: "_Prompt", response: "_Response") -> tuple[str | None, str]:
        """Return the identity of an answer, and the convention that found it."""
        for name in self._finders:
            # A last number means something only where a number is asked for.
            if name == "number" and self._whole and not prompt.asks_number:
                continue
            if answer := _FINDERS[name](prompt, response):
                return answer, _LABELS.get(name, name)
        whole = identity(response.text, prompt.letters) if self._whole else None
        kind = (whole or "").partition(" ")[0]
        return whole, kind


@dataclass(frozen=True)
class _Prompt:
    """Options of a prompt: their letters by text, lengths, and shares of shared words."""

    letters: dict[str, str]
    lengths: tuple[float, ...]
    shared: tuple[float, ...]
    asks_number: bool


@dataclass(frozen=True)
class _Response:
    """Facts of a response that do not depend on its prompt; `letter` may be no option."""

    text: str
    facts: tuple[float, ...]
    letter: str
    bare: bool
    code_facts: tuple[float, ...]
    program: str | None

    @cached_property
    def boxed(self) -> str | None:
        return boxed(self.text)

    @cached_property
    def json(self) -> str | None:
        return json_answer(self.text)

    @cached_property
    def stated(self) -> str | None:
        return stated(self.text)

    @cached_property
    def number(self) -> str:
        return last_number(self.text)


def _marked(name: str) -> "_Finder":
    """Return the finder of an answer that is marked in the text."""

    def find(prompt: _Prompt, response: _Response) -> str | None:
        content = getattr(response, name)
        if content is None:
            return None
        return identity(content, prompt.letters)

    return find


_Finder: TypeAlias = Callable[[_Prompt, _Response], str | None]
_boxed, _json, _text = map(_marked, ("boxed", "json", "stated"))


def _stated(prompt: _Prompt, response: _Response) -> str | None:
    answer = _text(prompt, response)
    if answer and answer.startswith("text") and prompt.asks_number and not prompt.letters:
        number = last_number(answer)
        return f"number {number}" if number else answer
    return answer


def _last_line(prompt: _Prompt, response: _Response) -> str | None:
    line = last_line(response.text)
    return identity(boxed(line) or line, prompt.letters)


def _number_answer(prompt: _Prompt, response: _Response) -> str | None:
    for find in (_boxed, _json, _stated):
        if (answer := find(prompt, response)) and answer.startswith("number"):
            return answer
    return f"number {response.number}" if response.number else None


def _choice_answer(prompt: _Prompt, response: _Response) -> str | None:
    if letter := _letter_of(prompt, response):
        return f"choice {letter}"
    return f"choice {response.letter}" if response.bare and not prompt.letters else None


def _named_choice(prompt: _Prompt, response: _Response) -> str | None:
    for find in (_boxed, _json, _choice_answer, _stated):
        if (answer := find(prompt, response)) and answer.startswith("choice"):
            return answer
    return f"choice {response.letter}" if response.letter and not prompt.letters else None


_FINDERS: dict[str, _Finder] = {
    "boxed": _boxed,
    "json": _json,
    "letter": _choice_answer,
    "code": lambda _, response: response.program and f"code {response.program}",
    "stated": _stated,
    "number": _number_answer,
    "choice": _named_choice,
    "last-line": _last_line,
}
_LABELS = {"letter": "choice"}
_AUTO = ("boxed", "json", "letter", "code", "stated", "number")


def _prompt(prompt: str) -> _Prompt:
    texts, asks = options(prompt), asks_number(prompt)
    if not texts:
        return _Prompt({}, (), (), asks)
    letters = {plain_text(option): chr(ord("A") + i) for i, option in enumerate(texts)}
    logs = np.log1p([len(option) for option in texts])
    before = question(prompt).partition(texts[0])[0]
    words = set(_WORD.findall(before.lower()))
    own = [_WORD.findall(option.lower()) for option in texts]
    shared = (sum(word in words for word in each) / max(len(each), 1) for each in own)
    return _Prompt(letters, tuple((logs - logs.mean()).tolist()), tuple(shared), asks)


def _read(response: str) -> _Response:
    words = response.split()
    facts = (
        float(np.log1p(len(response))),
        float(np.log1p(len(words))),
        float(not response),
        float(_REFUSAL.match(response) is not None),
        float(response.endswith((".", "!", "?", "```", "]", "}", ")"))),
        len(set(words)) / max(len(words), 1),
    )
    letter, bare = stated_letter(response)
    program, code_facts = _code(response)
    return _Response(response, facts, letter, bare, code_facts, program)


def _letter_of(prompt: _Prompt, response: _Response) -> str:
    """Return the letter of the option that a response names by letter or by text, if any."""
    if response.letter and ord(response.letter) - ord("A") < len(prompt.lengths):
        return response.letter
    return prompt.letters.get(plain_text(response.text), "") if prompt.letters else ""


def _choice_signals(prompt: _Prompt, response: _Response, letter: str) -> tuple[float, ...]:
    """Return the signals from choice to choice_in_question."""
    if not letter:
        return (0.0,) * (4 + len(LETTERS))
    place = ord(letter) - ord("A")
    which = (float(letter == other) for other in LETTERS)
    bare = float(response.bare or response.letter != letter)
    return (1.0, bare, *which, prompt.lengths[place], prompt.shared[place])


def _code(response: str) -> tuple[str | None, tuple[float, ...]]:
    """Return the canonical program of a response, if any, and the four signals of code."""
    blocks = [fenced or tagged for fenced, tagged in _FENCED.findall(response)]
    if not blocks and _BEGINS_AS_CODE.match(response):
        blocks = [response]
    if not blocks:
        return None, (0.0,) * 4
    for block in blocks:
        if program := _program(block):
            return program, (1.0, 1.0, *_sizes(block))
    return " ".join(blocks[0].split()), (1.0, 0.0, *_sizes(blocks[0]))


def _sizes(block: str) -> tuple[float, float]:
    lines = sum(bool(line.strip()) for line in block.splitlines())
    return float(np.log1p(lines)), float(np.log1p(len(_TOKEN.findall(block))))


def _program(block: str) -> str | None:
    """Return the canonical form of the definitions in a block of Python; nothing is run."""
    if len(block) > _LONGEST_CODE:
        return None
    try:
        tree = ast.parse(textwrap.dedent(block.replace("\r\n", "\n")))
        defined = [node for node in tree.body if isinstance(node, _DEFINITIONS)]
        if not defined:
            return None
        module = ast.Module([_without_docstrings(node) for node in defined], [])
        # Bytecode has no local names: the same steps on variables of any names are the same.
        code = compile(module, "", "exec", dont_inherit=True, optimize=1)
        names = {node.name: f"definition {i}" for i, node in enumerate(defined)}
        forms = [
            _form(const, names)
            for const in code.co_consts
            if isinstance(const, CodeType) and const.co_name != "__annotate__"
        ]
        # Defaults and decorators are in the module's code, which is left out for its annotations.
        forms += [ast.dump(part) for node in defined for part in _outside(node)]
        return "\n".join(forms)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return None


def _without_docstrings(definition: ast.stmt) -> ast.stmt:
    # In place, and not by the compiler, which leaves a trace of a removed docstring.
    for node in ast.walk(definition):
        if isinstance(node, _DEFINITIONS) and ast.get_docstring(node, clean=False) is not None:
            node.body[:1] = [] if len(node.body) > 1 else [ast.Pass(lineno=1, col_offset=0)]
    return definition


def _outside(node: ast.stmt) -> Iterator[ast.expr]:
    """Yield the parts of a definition that its own code does not hold."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from node.args.defaults
        yield from (default for default in node.args.kw_defaults if default is not None)
    if isinstance(node, ast.ClassDef):
        yield from node.bases
    if isinstance(node, _DEFINITIONS):
        yield from node.decorator_list


def _form(code: CodeType, names: dict[str, str]) -> str:
    """Return compiled code as text, without the names it defines."""
    consts = [
        _form(const, names)
        if isinstance(const, CodeType)
        # The text of a set depends on the process, and no step depends on the name of a scope.
        else repr(sorted(map(repr, const)) if isinstance(const, frozenset) else const)
        for const in code.co_consts
        if const not in (code.co_qualname, code.co_name)
    ]
    used = [names.get(name, name) for name in code.co_names]
    shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return f"{shape} {code.co_code.hex()} {code.co_exceptiontable.hex()} {used} {consts}"


def logprob_signals(column: pa.ChunkedArray, source: str, name: str) -> Float[np.ndarray, "R 2"]:
    """Return `LOGPROB_SIGNALS` of R lists of log-probabilities, NaN for missing or empty lists."""
    values, row, starts = _flat(column, source, name)
    fix = "give natural logarithms of probabilities, or leave it empty"
    refuse_rows(source, name, _rows(values > 0, row, len(column)), "a log-probability above 0", fix)
    signals = np.full((len(column), 2), np.nan)
    if len(starts):
        ends = np.append(starts[1:], len(values))
        signals[row[starts], 0] = np.add.reduceat(values, starts) / (ends - starts)
        signals[row[starts], 1] = values[ends - 1]
    return signals


def class_signals(column: pa.ChunkedArray, source: str, name: str) -> Float[np.ndarray, "R 2"]:
    """Return `CLASS_SIGNALS` of R lists of probabilities, NaN for missing or empty lists."""
    values, row, starts = _flat(column, source, name)
    N, fix = len(column), "give the probability of each class, or leave it empty"
    refuse_rows(source, name, _rows(values < 0, row, N), "a negative probability", fix)
    signals = np.full((N, 2), np.nan)
    if not len(starts):
        return signals
    counts, total = np.diff(np.append(starts, len(values))), np.add.reduceat(values, starts)
    single = _rows(counts < 2, row[starts], N)
    refuse_rows(source, name, single, "a distribution with one class", fix)
    off = _rows(np.abs(total - 1) > _TOLERANCE, row[starts], N)
    refuse_rows(source, name, off, "probabilities that do not sum to 1", fix)
    share = values / np.repeat(total, counts)
    signals[row[starts], 0] = -np.add.reduceat(xlogy(share, share), starts)
    # Ascending within each list, so that the two highest are the last two.
    ascending = share[np.lexsort((share, row))]
    ends = starts + counts
    signals[row[starts], 1] = ascending[ends - 1] - ascending[ends - 2]
    return signals


def _flat(
    column: pa.ChunkedArray, source: str, name: str
) -> tuple[Float[np.ndarray, " V"], Int[np.ndarray, " V"], Int[np.ndarray, " s"]]:
    """Return all numbers, the row of each, and where the list of each non-empty row begins."""
    lists = column.combine_chunks()
    lists = lists if isinstance(lists, pa.ListArray) else pa.concat_arrays(lists.chunks)
    sizes = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    values = lists.flatten().fill_null(float("nan")).to_numpy(zero_copy_only=False)
    row = np.repeat(np.arange(len(sizes)), sizes)
    bad = _rows(~np.isfinite(values), row, len(sizes))
    problem = "a number that is missing or infinite"
    refuse_rows(source, name, bad, problem, "correct it or leave it empty")
    return values, row, (np.cumsum(sizes) - sizes)[sizes > 0]


def _rows(bad: np.ndarray, row: np.ndarray, count: int) -> np.ndarray:
    """Return a mask of the rows with any bad number."""
    return np.bincount(row[bad], minlength=count) > 0
