r"""What can be seen of a model's response once it has run: signals, and which responses agree.

Every number is a function of the prompt and the response alone, so that a live system sees what
an estimator was fitted on. What two responses answer is one identity, the first of these:

    choice   where the prompt letters options (`text.options`) and the response plainly gives one:
             it is a capital letter and punctuation ("(A)."); or begins with a letter that a
             bracket, period, colon, quote, line end, dash or "because", "since", "is" follows ("A.
             As ..."); or states one letter in a form such as "The answer is B", "Answer: (C)", "the
             correct option is D", and no other; or is the text of an option. "A hypothesis", "I
             do" and letters without an option are none.
    code     where the response has a block of code, fenced or in [PYTHON] tags, or begins as code.
             The first block that Python parses and that defines a function or class counts, by
             what these compile to: white space, comments, docstrings, asserts, annotations, what
             stands beside the definitions, and the names of functions, arguments and variables
             make no difference. A block that does not parse counts by its words.
    number   the last number stated as in "The answer is 1,200", "#### 1200" or "\boxed{1200}".
    text     the response without surrounding white space; an empty or missing one is no answer.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float32, Int
from scipy.special import xlogy

from cascjax.data.schema import refuse_rows
from cascjax.features.prompts import options, question

LETTERS = "ABCDE"
SIGNALS = (
    "log_chars",
    "log_words",
    "empty",
    "refusal",
    "finished",
    "distinct_words",
    "choice",
    "bare_choice",
    *(f"choice_{letter.lower()}" for letter in LETTERS),
    "choice_length",
    "choice_in_question",
    "code",
    "code_parses",
    "code_log_lines",
    "code_log_tokens",
)
"""What is seen of a response, in this order; all is 0 where it does not apply.

log_chars, log_words: log(1 + count). empty: no response, or only white space. refusal: it begins
as an apology or refusal does. finished: it ends in a mark that ends sentences, brackets or code.
distinct_words: distinct words by words. choice: it plainly gives an option; bare_choice: and
nothing else; choice_a to choice_e: which. choice_length: log(1 + characters) of the option, less
the mean over options. choice_in_question: share of the option's words of 3 letters or more that
the question has before its options. code: it has a block of code; code_parses: that Python parses
and that defines something; code_log_lines, code_log_tokens: log(1 + count) of that block.
"""

LOGPROB_SIGNALS = ("logprob_mean", "logprob_last")
"""Mean and last of the log-probabilities of an answer's tokens."""

CLASS_SIGNALS = ("class_entropy", "class_margin")
"""Entropy in nats of an answer's class distribution, and its highest probability minus the next."""

_TOLERANCE = 1e-3
"""Deviation of a sum of probabilities from 1, which are often written with few digits."""

_OPEN, _CLOSE = r"[\s\"'(\[*]*", r"[\s\"')\].:*]*"
_END = r"(?=[)\].:;\"'*\n]|\s*$|\s+(?:because|since|is)\b|\s+[-–—(])"
_BARE = re.compile(rf"{_OPEN}([A-Z]){_CLOSE}")
_LEADING = re.compile(rf"{_OPEN}([A-Z]){_END}")
_STATED = re.compile(
    r"\b(?i:answer|correct (?:option|choice))(?i:\s+is|\s+would be|\s+should be)?\s*[:=]?"
    rf"(?i:\s*(?:the\s+)?(?:option|choice|letter)\b)?{_OPEN}\b([A-Z]){_END}"
)
_NUMBER = re.compile(
    r"(?:####\s*|\\boxed\{|\b(?i:answer)(?i:\s+is|\s*[:=])[\s*]*)(-?)\$?(-?\d[\d,]*(?:\.\d+)?)"
)
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
_LONGEST_CODE = 20_000
"""Characters beyond which code is not parsed."""


@dataclass(frozen=True)
class Responses:
    """What was seen of N responses, each to its own prompt.

    Attributes:
        signals: `[N, P]` in the order of `SIGNALS`.
        answers: N identities: equal strings are the same answer, None is no answer.
    """

    signals: Float32[np.ndarray, "N P"]
    answers: tuple[str | None, ...]


def response_signals(
    prompts: Sequence[str], responses: Sequence[str | None]
) -> Float32[np.ndarray, "N P"]:
    """`[N, P]` signals of N responses, each to its prompt, in the order of `SIGNALS`."""
    return ResponseReader(prompts).read(responses).signals


def response_answers(
    prompts: Sequence[str], responses: Sequence[str | None]
) -> tuple[str | None, ...]:
    """What N responses answer, each its prompt: equal strings agree, None is no answer."""
    return ResponseReader(prompts).read(responses).answers


class ResponseReader:
    """Reads the responses of several models to the same N prompts."""

    def __init__(self, prompts: Sequence[str]) -> None:
        """Look at what the prompts ask once, for all models."""
        self._asked = [_asked(prompt) for prompt in prompts]
        self._known: dict[str, _Seen] = {}

    def read(self, responses: Sequence[str | None]) -> Responses:
        """Signals and answers of N responses, one a prompt; equal texts are looked at once."""
        signals = np.zeros((len(self._asked), len(SIGNALS)), np.float32)
        answers: list[str | None] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, of the code that is parsed
            for row, (asked, response) in enumerate(zip(self._asked, responses, strict=True)):
                response = (response or "").strip()
                if (seen := self._known.get(response)) is None:
                    seen = self._known[response] = _look_at(response)
                letter = _letter_of(asked, seen)
                signals[row] = (*seen.facts, *_choice(asked, seen, letter), *seen.code_facts)
                answers.append(f"choice {letter}" if letter else seen.answer)
        return Responses(signals, tuple(answers))


@dataclass(frozen=True)
class _Asked:
    """What a prompt's options tell: their letters by text, their lengths, their shared words."""

    letters: dict[str, str]
    lengths: tuple[float, ...]
    shared: tuple[float, ...]


@dataclass(frozen=True)
class _Seen:
    """What a response shows whatever its prompt: `letter` may not be among the options."""

    text: str
    facts: tuple[float, ...]
    letter: str
    bare: bool
    code_facts: tuple[float, ...]
    answer: str | None


def _asked(prompt: str) -> _Asked:
    texts = options(prompt)
    if not texts:
        return _Asked({}, (), ())
    letters = {_bare_text(option): chr(ord("A") + i) for i, option in enumerate(texts)}
    logs = np.log1p([len(option) for option in texts])
    before = question(prompt).partition(texts[0])[0]
    words = set(_WORD.findall(before.lower()))
    shared = []
    for option in texts:
        own = _WORD.findall(option.lower())
        shared.append(sum(word in words for word in own) / max(len(own), 1))
    return _Asked(letters, tuple((logs - logs.mean()).tolist()), tuple(shared))


def _bare_text(option: str) -> str:
    return option.strip(" .\t\n").lower()


def _look_at(response: str) -> _Seen:
    words = response.split()
    facts = (
        float(np.log1p(len(response))),
        float(np.log1p(len(words))),
        float(not response),
        float(_REFUSAL.match(response) is not None),
        float(response.endswith((".", "!", "?", "```", "]", "}", ")"))),
        len(set(words)) / max(len(words), 1),
    )
    letter, bare = _letter(response)
    program, code_facts = _code(response)
    if program is not None:
        answer = f"code {program}"
    elif number := _number(response):
        answer = f"number {number}"
    else:
        answer = f"text {response}" if response else None
    return _Seen(response, facts, letter, bare, code_facts, answer)


def _letter(response: str) -> tuple[str, bool]:
    """The one letter a response plainly gives, or nothing; and whether it gives nothing else."""
    if found := _BARE.fullmatch(response):
        return found[1], True
    if found := _LEADING.match(response):
        return found[1], False
    stated = set(_STATED.findall(response))
    return (stated.pop(), False) if len(stated) == 1 else ("", False)


def _letter_of(asked: _Asked, seen: _Seen) -> str:
    """The option that a response gives, by its letter or else its text; or nothing."""
    if seen.letter and ord(seen.letter) - ord("A") < len(asked.lengths):
        return seen.letter
    return asked.letters.get(_bare_text(seen.text), "") if asked.letters else ""


def _choice(asked: _Asked, seen: _Seen, letter: str) -> tuple[float, ...]:
    """The signals of `SIGNALS` from choice to choice_in_question."""
    if not letter:
        return (0.0,) * (4 + len(LETTERS))
    at = ord(letter) - ord("A")
    which = (float(letter == other) for other in LETTERS)
    bare = float(seen.bare or seen.letter != letter)
    return (1.0, bare, *which, asked.lengths[at], asked.shared[at])


def _number(response: str) -> str:
    """The number that a response states last as its answer, or nothing."""
    found = _NUMBER.findall(response)
    if not found:
        return ""
    sign, digits = found[-1]
    return f"{float(sign + digits.lstrip('-' if sign else '').replace(',', '')):.12g}"


def _code(response: str) -> tuple[str | None, tuple[float, ...]]:
    """The program of a response in its one form, or None, and the four signals of code."""
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
    """The one form of what a block of Python defines, or None where it is none; nothing is run."""
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
        forms = [*_forms(code, names)]
        # Defaults and decorators are of the module's code, which is left out for its annotations.
        forms += [ast.dump(part) for node in defined for part in _beside(node)]
        return "\n".join(forms)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return None


def _without_docstrings(definition: ast.stmt) -> ast.stmt:
    # In place, and not by the compiler, which leaves a trace of where one was.
    for node in ast.walk(definition):
        if isinstance(node, _DEFINITIONS) and ast.get_docstring(node, clean=False) is not None:
            node.body[:1] = [] if len(node.body) > 1 else [ast.Pass(lineno=1, col_offset=0)]
    return definition


def _beside(node: ast.stmt) -> Iterator[ast.expr]:
    """What a definition has that its own code does not hold."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from node.args.defaults
        yield from (default for default in node.args.kw_defaults if default is not None)
    if isinstance(node, ast.ClassDef):
        yield from node.bases
    if isinstance(node, _DEFINITIONS):
        yield from node.decorator_list


def _forms(module: CodeType, names: dict[str, str]) -> Iterator[str]:
    """The definitions of a module, each as a text without the names it gives."""
    for const in module.co_consts:
        if isinstance(const, CodeType) and const.co_name != "__annotate__":
            yield _form(const, names)


def _form(code: CodeType, names: dict[str, str]) -> str:
    consts = [
        _form(const, names)
        if isinstance(const, CodeType)
        # The text of a set hangs on the process, and the name of a scope on nothing that is run.
        else repr(sorted(map(repr, const)) if isinstance(const, frozenset) else const)
        for const in code.co_consts
        if const not in (code.co_qualname, code.co_name)
    ]
    used = [names.get(name, name) for name in code.co_names]
    shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return f"{shape} {code.co_code.hex()} {code.co_exceptiontable.hex()} {used} {consts}"


# Signals of lists


def logprob_signals(column: pa.ChunkedArray, source: str, name: str) -> Float[np.ndarray, "R 2"]:
    """Return `LOGPROB_SIGNALS` of R lists of log-probabilities, NaN for missing or empty lists.

    Raises:
      CascjaxError: A number is not finite, or above 0.
    """
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
    """Return `CLASS_SIGNALS` of R lists of probabilities, NaN for missing or empty lists.

    Raises:
      CascjaxError: A number is not finite or is negative, or a list has only one class or does
        not sum to 1.
    """
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
    """Return all numbers, the row of each, and where the list of each non-empty row begins.

    Raises:
      CascjaxError: A number is missing or not finite.
    """
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
