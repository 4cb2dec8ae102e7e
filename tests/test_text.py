"""Features of prompts, signals of responses, and which responses are one answer."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from cascjax.data import from_arrow
from cascjax.errors import CascjaxError
from cascjax.estimators import design
from cascjax.features import (
    TextModel,
    fit_text_model,
    read_text_model,
    response_answers,
    response_signals,
    text_features,
    write_text_model,
)
from cascjax.features.prompts import COMPONENTS, FACTS, VERSION, options, question, text_model_of
from cascjax.features.responses import SIGNALS, ResponseReader
from cascjax.importers import import_long

WORDS = ("sun", "moon", "tide", "river", "stone", "iron", "light", "heat", "cold", "wind", "rain")
CHOICE = "Which is a metal?\nA) stone\nB) iron, a metal\nC) rain\nAnswer:"


def some_prompts(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(n)]


@pytest.fixture(scope="module")
def model() -> TextModel:
    return fit_text_model(some_prompts(200), 6)


# Features of prompts


def test_words_are_reduced_as_by_scikit_learn(model: TextModel) -> None:
    prompts = some_prompts(200)
    counts = HashingVectorizer(
        n_features=2**15,
        ngram_range=(1, 2),
        alternate_sign=False,
        norm=None,  # pyright: ignore[reportArgumentType]
    )
    weights = TfidfTransformer(sublinear_tf=True).fit_transform(counts.transform(prompts))
    found = text_features(prompts, model)[:, len(FACTS) :]
    np.testing.assert_allclose(found, weights @ model.directions, atol=1e-6)  # float32 of size 1
    # Directions of nearly equal weight are free to turn; what they hold is not: by Lanczos, which
    # is exact, it is the most there is, and power iterations come within a hundredth of it.
    most = TruncatedSVD(6, algorithm="arpack", random_state=0).fit_transform(weights)
    assert 0.99 * np.sum(most**2) < np.sum(found**2) < np.sum(most**2) * (1 + 1e-6)
    np.testing.assert_allclose(model.directions.T @ model.directions, np.eye(6), atol=1e-5)


def test_the_same_prompts_give_the_same_model_and_a_prompt_alone_the_same_features(
    model: TextModel,
) -> None:
    again = fit_text_model(some_prompts(200), 6)
    np.testing.assert_array_equal(again.directions, model.directions)
    other = some_prompts(30, seed=1)
    batch = text_features(other, model)
    assert batch.shape == (30, len(model.feature_names)) == (30, 14)
    alone = np.concatenate([text_features([prompt], model) for prompt in other])
    np.testing.assert_array_equal(batch, alone)
    assert text_features([], model).shape == (0, 14)


def test_facts() -> None:
    prompt = "Add 12 and 3?\n\nx"
    facts = text_features([prompt, CHOICE, "", "?"], fit_text_model(["a word"], 1))
    named = [dict(zip(FACTS, row, strict=False)) for row in facts]
    assert named[0]["log_chars"] == pytest.approx(np.log1p(16))
    assert named[0]["log_words"] == pytest.approx(np.log1p(5))
    assert named[0]["log_lines"] == pytest.approx(np.log1p(3))
    assert named[0]["digit_share"] == pytest.approx(3 / 16)
    assert [row["options"] for row in named] == [0, 3, 0, 0]
    assert [row["asks"] for row in named] == [0, 0, 0, 1]
    assert np.isfinite(facts).all()


def test_an_example_before_the_question_is_not_the_question() -> None:
    example = "Solved: one and one is two. " * 8
    asked = "What is two and two, and why would it be so, if numbers were taken to wrap at three?"
    asked += " Answer in one word."
    assert len(asked) > 100
    assert question(f"{example}\n\n{asked}\n") == asked
    assert question(f"{example}\r\n\r\n{asked}") == asked
    # Too short to stand alone: the paragraph before goes with it.
    assert question(f"{example}\n\n{asked}\n\nAnswer:") == f"{asked}\n\nAnswer:"
    assert question("short\n\nshorter") == "short\n\nshorter"


@pytest.mark.parametrize(
    ("lines", "texts"),
    [
        ("A) one\nB) two", ("one", "two")),
        ("(A) one \n(B) two\n(C) x", ("one", "two", "x")),
        ("  A. one\n  B. two", ("one", "two")),
        ("A: one\nB: two\nD: four", ("one", "two")),
        ("A) one", ()),
        ("B) one\nC) two", ()),
        ("A)one\nB)two", ()),
        ("see A) one B) two", ()),
    ],
)
def test_options(lines: str, texts: tuple[str, ...]) -> None:
    assert options(f"Which?\n{lines}\nAnswer:") == texts


def test_fewer_prompts_than_components_and_none_with_words() -> None:
    few = fit_text_model(["one prompt here", "another one"])
    assert few.directions.shape == (2**15, 2)
    for prompts in ([], ["", "?!"]):
        with pytest.raises(CascjaxError, match="no prompt has a word"):
            fit_text_model(prompts)
    for count in (0, 1025):
        with pytest.raises(CascjaxError, match="from 1 to 1,024"):
            fit_text_model(["a word"], count)
    assert fit_text_model(some_prompts(100), COMPONENTS).directions.shape[1] == COMPONENTS


def test_a_model_is_written_and_read(tmp_path: Path, model: TextModel) -> None:
    path = tmp_path / "model.npz"
    write_text_model(path, model)
    found = read_text_model(path)
    prompts = some_prompts(5, seed=2)
    np.testing.assert_array_equal(text_features(prompts, found), text_features(prompts, model))
    again, fitted = text_model_of(["other words"], path, None)
    assert not fitted
    np.testing.assert_array_equal(again.idf, model.idf)
    with pytest.raises(CascjaxError, match="has 6 components, but n_components is 7"):
        text_model_of(["other words"], path, 7)
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def cut(content: bytes, path: Path) -> None:
    path.write_bytes(content[: len(content) // 2])


def flipped(content: bytes, path: Path) -> None:
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])


def an_array(_: bytes, path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, np.ones(3))


def saved(**replaced: object) -> Callable[[bytes, Path], None]:
    def write(_: bytes, path: Path) -> None:
        hashing = {"bits": 15, "ngrams": [1, 2], "question": 100}
        head = {"format": "cascjax text model", "version": VERSION, "hash": hashing}
        head |= replaced.pop("head", {})  # pyright: ignore
        arrays = {
            "head": np.frombuffer(json.dumps(head).encode(), np.uint8),
            "idf": np.ones(2**15, np.float32),
            "directions": np.ones((2**15, 2), np.float32),
        }
        with open(path, "wb") as file:
            np.savez(file, **(arrays | replaced))  # pyright: ignore

    return write


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "damaged, or not a text model"),
        (flipped, "damaged, or not a text model"),
        (lambda _, path: path.write_bytes(b""), "damaged, or not a text model"),
        (lambda _, path: path.write_bytes(b"PK\x03\x04 and so on"), "damaged, or not a text model"),
        (an_array, "damaged, or not a text model"),
        (lambda _, path: path.mkdir(), "Is a directory"),
        (lambda *_: None, "No such file"),
        (saved(head={"format": "policy"}), "damaged, or not a text model"),
        (saved(head={"version": 2}), "has version 2 and this cascjax reads 1"),
        (saved(head={"hash": {"bits": 9}}), "use the cascjax that wrote it"),
        (saved(idf=np.ones(3, np.float32)), "damaged, or not a text model"),
        (saved(idf=np.full(2**15, np.nan, np.float32)), "damaged, or not a text model"),
        (saved(directions=np.ones((2**15, 0), np.float32)), "damaged, or not a text model"),
        (saved(directions=np.ones((2**15, 2))), "damaged, or not a text model"),
        (saved(idf=np.array([print], object)), "damaged, or not a text model"),
    ],
)
def test_other_models_are_refused_in_one_line(
    tmp_path: Path, model: TextModel, damage: Callable[[bytes, Path], object], message: str
) -> None:
    write_text_model(tmp_path / "whole.npz", model)
    path = tmp_path / "model.npz"
    damage((tmp_path / "whole.npz").read_bytes(), path)
    with pytest.raises(CascjaxError, match=message) as caught:
        read_text_model(path)
    assert "\n" not in str(caught.value)
    assert "model.npz" in str(caught.value)


# Answers


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("B", "choice B"),
        (" B\n", "choice B"),
        ("(B)", "choice B"),
        ("**B**", "choice B"),
        ("B) iron, a metal", "choice B"),
        ("B. Because it conducts. A is a rock.", "choice B"),
        ("A because stones are", "choice A"),
        ("C (", "choice C"),
        ("A\nStone it is", "choice A"),
        ("The answer is B.", "choice B"),
        ("It rains, so the correct answer is: (C).", "choice C"),
        ("Answer: **B**", "choice B"),
        ("The correct option would be B", "choice B"),
        ("The answer is option C", "choice C"),
        ("Iron, a metal.", "choice B"),
        ("stone", "choice A"),
        ("A hypothesis", "text A hypothesis"),
        ("The answer is A hypothesis", "text The answer is A hypothesis"),
        ("I do", "text I do"),
        ("D", "text D"),
        ("b", "text b"),
        ("The answer is A. No: the answer is B.", "text The answer is A. No: the answer is B."),
        ("Answering A", "text Answering A"),
        ("The answer is 7", "number 7"),
        ("", None),
        (" \n", None),
        (None, None),
    ],
)
def test_choices(response: str | None, answer: str | None) -> None:
    assert response_answers([CHOICE], [response]) == (answer,)


def test_a_letter_without_options_is_text() -> None:
    assert response_answers(["Grade it.", CHOICE], ["A", "A"]) == ("text A", "choice A")


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("So #### 1,200", "number 1200"),
        (r"Hence \boxed{-3.50}", "number -3.5"),
        ("The answer is 4. No, the answer is $12.", "number 12"),
        ("Answer: -$5", "number -5"),
        ("About 12", "text About 12"),
    ],
)
def test_numbers(response: str, answer: str) -> None:
    assert response_answers(["How many?"], [response]) == (answer,)


ADD = "def add(a, b):\n    total = a + b\n    return total"


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (f"Here it is:\n```python\n{ADD}\n```\nIt adds.", True),
        (f"[PYTHON]\n{ADD}\n[/PYTHON]\n[TESTS]\nassert add(1, 2) == 3\n[/TESTS]", True),
        (f"```\n{ADD}", True),  # cut off
        ("```py\ndef plus(x, y):\n  # of two\n\n  z = (x +  y)\n  return z\n```", True),
        (
            '```py\ndef plus(x: int, y: int) -> int:\n  """Add."""\n  z = x + y\n  return z\n```',
            True,
        ),
        (f"```python\n>>> add(1, 2)\n3\n```\nwith\n```python\n{ADD}\nprint(add(1, 2))\n```", True),
        (f"    {ADD}".replace("\n", "\n    ").join(["```\n", "\n```"]), True),  # indented
        (f"```\r\n{ADD}\r\n```".replace("\n", "\r\n").replace("\r\r", "\r"), True),
        ("```\ndef add(a, b):\n    total = b + a\n    return total\n```", False),
        ("```\ndef add(a, b=1):\n    total = a + b\n    return total\n```", False),
        ("```\n@cache\ndef add(a, b):\n    total = a + b\n    return total\n```", False),
        ("```\ndef add(a, b):\n    total = a - b\n    return total\n```", False),
        ("```\ndef add(a, b):\n    total = a + b + 1\n    return total\n```", False),
        ("```js\nfunction add(a, b) { return a + b; }\n```", False),
        ("It adds.", False),
    ],
)
def test_programs(other: str, same: bool) -> None:
    one, two = response_answers(["Write a function to add."] * 2, [ADD, other])
    assert (one == two) == same


def test_programs_that_call_themselves_and_one_another_agree_under_other_names() -> None:
    program = (
        "```\nimport math\ndef f(n):\n    return 1 if n < 2 else n * f(n - 1)\n"
        "def g(n):\n    return f(n) + math.floor(n) + sum(i for i in {1, 2, 3} if i in {4, 5})\n```"
    )
    renamed = program.replace("f(", "factorial(").replace("g(", "main(").replace("(n", "(number")
    renamed = renamed.replace(" n ", " number ")
    assert renamed != program
    one, two, three = response_answers(
        ["Write it."] * 3, [program, renamed, program.replace("floor", "ceil")]
    )
    assert one == two != three


def test_code_that_does_not_parse_agrees_by_its_words() -> None:
    one, two, three = response_answers(
        ["Write it."] * 3,
        ["```c\nint x  = 1;\n```", "So:\n```\nint x =\n 1;\n```", "```\nint y\n```"],
    )
    assert one == two != three


@pytest.mark.parametrize(
    "code",
    [
        "(" * 5000,
        "def f():\n return " + "-" * 15000 + "1",
        "def f():\n" + " return [" * 900,
        "def f(): \0",
        "a" * 10**6,
        "def f(x):\n  return x is 'a' or '\\d'",
        "def f():\n  return 9**9**9",
        "\ud800",
    ],
)
def test_no_code_crashes_or_warns(code: str) -> None:
    assert response_answers(["Write it."], [f"```\n{code}\n```"])[0] is not None


# Signals


def signal_of(response: str | None, prompt: str = CHOICE) -> dict[str, float]:
    return dict(zip(SIGNALS, response_signals([prompt], [response])[0].tolist(), strict=True))


def test_signals_of_a_choice() -> None:
    bare, wordy = signal_of("B"), signal_of("The answer is B.")
    assert bare["choice"] == bare["bare_choice"] == bare["choice_b"] == 1
    assert bare["choice_a"] == bare["code"] == bare["refusal"] == bare["finished"] == 0
    assert (wordy["choice"], wordy["bare_choice"], wordy["finished"]) == (1, 0, 1)
    # The options have 5, 13 and 4 characters; of "iron, a metal" the question has one word of two.
    lengths = np.log1p([5, 13, 4])
    assert bare["choice_length"] == pytest.approx(lengths[1] - lengths.mean(), rel=1e-6)
    assert bare["choice_in_question"] == 0.5
    assert bare["log_chars"] == pytest.approx(np.log(2))


@pytest.mark.parametrize("response", [None, "", "  \n"])
def test_signals_of_no_response(response: str | None) -> None:
    found = signal_of(response)
    assert found.pop("empty") == 1
    assert set(found.values()) == {0}


@pytest.mark.parametrize(
    ("response", "refuses"),
    [
        ("I'm sorry, but I can't.", True),
        ("Unfortunately I", True),
        ("I do", True),
        ("As an AI language model", True),
        ("I apologize", True),
        ("I do think it is B", False),
        ("It is B, I cannot see why not", False),
        ("There is", True),
        ("There is one: B", False),
    ],
)
def test_refusals(response: str, refuses: bool) -> None:
    assert signal_of(response)["refusal"] == refuses


def test_signals_of_code() -> None:
    good = signal_of(f"Sure!\n```python\n{ADD}\n```", "Write a function.")
    bad = signal_of("```js\nfunction add(a) {}\n```", "Write a function.")
    assert (good["code"], good["code_parses"]) == (1, 1)
    assert (bad["code"], bad["code_parses"]) == (1, 0)
    assert good["code_log_lines"] == pytest.approx(np.log1p(3))
    assert bad["code_log_tokens"] == pytest.approx(np.log1p(7))


def test_a_response_alone_has_the_signals_it_has_among_others() -> None:
    prompts = [CHOICE, "Write it.", CHOICE, "How many?"]
    responses = ["A) stone", f"```\n{ADD}\n```", None, "#### 4"]
    whole = ResponseReader(prompts).read(responses)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        np.testing.assert_array_equal(response_signals([prompt], [response])[0], whole.signals[row])
        assert response_answers([prompt], [response])[0] == whole.answers[row]


def test_the_readme_makes_of_a_live_query_what_the_import_makes_of_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines are run as they stand there."""
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(features = text_features.*?)```", readme, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    rng, models, n = np.random.default_rng(0), ("a", "b", "c"), 60
    prompts = some_prompts(n)
    responses = [[f"The answer is {rng.integers(2)}" for _ in models] for _ in prompts]
    responses[0][1] = ""
    rows = [(i, k) for i in range(n) for k in range(len(models))]
    log = {
        "id": [f"q{i}" for i, _ in rows],
        "model": [models[k] for _, k in rows],
        "score": rng.integers(0, 2, len(rows)).astype(float),
        "usd": rng.random(len(rows)) + 0.1,
        "ask": [prompts[i] for i, _ in rows],
        "say": [responses[i][k] for i, k in rows],
    }
    pq.write_table(pa.table(log), "log.parquet")
    made = import_long(
        "log.parquet", "id", "model", "score", "usd",
        prompt="ask", response="say", features="text", text_model="words.npz",
    )  # fmt: skip
    table = from_arrow(made.arrow, "log")
    feature_spec = design(table, np.arange(n)).feature_spec
    assert feature_spec is not None
    functions = (read_text_model, text_features, response_signals, response_answers)
    for i in range(2):
        live: dict[str, Any] = {of.__name__: of for of in functions} | {
            "prompt": prompts[i],
            "signals": np.full((len(models), len(SIGNALS)), np.nan),
            "said": [None] * len(models),
        }
        for k, response in enumerate(responses[i]):
            exec(lines, live | {"k": k, "response": response}, live)
        told = {name: live[name] for name in ("features", "signals", "answers")}
        row = feature_spec.row(**told, costs=table.cost[i])
        # float32 either way; the import multiplies all rows at once.
        np.testing.assert_allclose(row, feature_spec.seen(table)[i], atol=1e-5)
