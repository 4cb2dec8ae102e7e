"""Features of prompts, signals of responses, and which responses are the same answer."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

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


def random_prompts(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(n)]


@pytest.fixture(scope="module")
def model() -> TextModel:
    return fit_text_model(random_prompts(200), 6)


def test_words_are_reduced_as_by_scikit_learn(model: TextModel) -> None:
    prompts = random_prompts(200)
    make: Any = HashingVectorizer
    counts = make(n_features=2**15, ngram_range=(1, 2), alternate_sign=False, norm=None)
    weights = TfidfTransformer(sublinear_tf=True).fit_transform(counts.transform(prompts))
    words = text_features(prompts, model)[:, len(FACTS) :]
    np.testing.assert_allclose(words, weights @ model.directions, atol=1e-6)  # float32 of size 1
    # Directions of nearly equal weight are free to turn, but not what they hold: Lanczos is exact,
    # and power iterations come within a hundredth of it.
    exact = TruncatedSVD(6, algorithm="arpack", random_state=0).fit_transform(weights)
    assert 0.99 * np.sum(exact**2) < np.sum(words**2) < np.sum(exact**2) * (1 + 1e-6)
    np.testing.assert_allclose(model.directions.T @ model.directions, np.eye(6), atol=1e-5)


def test_fitting_is_deterministic_and_features_do_not_depend_on_other_prompts(
    model: TextModel,
) -> None:
    again = fit_text_model(random_prompts(200), 6)
    np.testing.assert_array_equal(again.directions, model.directions)
    prompts = random_prompts(30, seed=1)
    batch = text_features(prompts, model)
    assert batch.shape == (30, len(model.feature_names)) == (30, 14)
    alone = np.concatenate([text_features([prompt], model) for prompt in prompts])
    np.testing.assert_array_equal(batch, alone)
    assert text_features([], model).shape == (0, 14)


def test_facts() -> None:
    facts = text_features(["Add 12 and 3?\n\nx", CHOICE, "", "?"], fit_text_model(["a word"], 1))
    rows = [dict(zip(FACTS, row, strict=False)) for row in facts]
    assert rows[0]["log_chars"] == pytest.approx(np.log1p(16))
    assert rows[0]["log_words"] == pytest.approx(np.log1p(5))
    assert rows[0]["log_lines"] == pytest.approx(np.log1p(3))
    assert rows[0]["digit_share"] == pytest.approx(3 / 16)
    assert [row["options"] for row in rows] == [0, 3, 0, 0]
    assert [row["asks"] for row in rows] == [0, 0, 0, 1]
    assert np.isfinite(facts).all()


def test_an_example_before_the_question_is_not_the_question() -> None:
    example = "Solved: one and one is two. " * 8
    asked = "What is two and two, and why would it be so, if numbers were taken to wrap at three?"
    asked += " Answer in one word."
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


def test_numbers_of_components_and_of_prompts() -> None:
    assert fit_text_model(["one prompt here", "another one"]).directions.shape == (2**15, 2)
    assert fit_text_model(random_prompts(100), COMPONENTS).directions.shape[1] == COMPONENTS
    for prompts in ([], ["", "?!"]):
        with pytest.raises(CascjaxError, match="no prompt has a word"):
            fit_text_model(prompts)
    for count in (0, 1025):
        with pytest.raises(CascjaxError, match="from 1 to 1,024"):
            fit_text_model(["a word"], count)


def test_a_model_is_written_and_read(tmp_path: Path, model: TextModel) -> None:
    path = tmp_path / "model.npz"
    write_text_model(path, model)
    prompts = random_prompts(5, seed=2)
    again = text_features(prompts, read_text_model(path))
    np.testing.assert_array_equal(again, text_features(prompts, model))
    present, fitted = text_model_of(["other words"], path, None)
    assert not fitted
    np.testing.assert_array_equal(present.idf, model.idf)
    with pytest.raises(CascjaxError, match="has 6 components, but n_components is 7"):
        text_model_of(["other words"], path, 7)
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


ONES = np.ones(2**15, np.float32)


@pytest.mark.parametrize(
    ("head", "arrays", "message"),
    [
        ({"format": "policy"}, {}, "damaged, or not a text model"),
        ({"version": 2}, {}, "has version 2 and this cascjax reads 1"),
        ({"hash": {"bits": 9}}, {}, "use the cascjax that wrote it"),
        ({}, {"idf": ONES[:3]}, "damaged, or not a text model"),
        ({}, {"idf": ONES * np.nan}, "damaged, or not a text model"),
        ({}, {"directions": np.ones((2**15, 0), np.float32)}, "damaged, or not a text model"),
        ({}, {"directions": np.ones((2**15, 2))}, "damaged, or not a text model"),
        ({}, {"idf": np.array([print], object)}, "damaged, or not a text model"),
    ],
)
def test_other_models_are_refused(
    tmp_path: Path, head: dict[str, Any], arrays: dict[str, Any], message: str
) -> None:
    hashing = {"bits": 15, "ngrams": [1, 2], "question": 100}
    head = {"format": "cascjax text model", "version": VERSION, "hash": hashing} | head
    content = np.frombuffer(json.dumps(head).encode(), np.uint8)
    arrays = {"head": content, "idf": ONES, "directions": np.stack([ONES, ONES], 1)} | arrays
    np.savez(tmp_path / "model.npz", **arrays)
    with pytest.raises(CascjaxError, match=rf"model\.npz.*{message}"):
        read_text_model(tmp_path / "model.npz")


def test_damaged_and_missing_models_are_refused_in_one_line(
    tmp_path: Path, model: TextModel
) -> None:
    path = tmp_path / "model.npz"
    write_text_model(path, model)
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    np.save(tmp_path / "array.npy", np.ones(3))
    others = [b"", b"PK\x03\x04 and so on", (tmp_path / "array.npy").read_bytes()]
    for damaged in (content[:middle], flipped, *others):
        path.write_bytes(damaged)
        with pytest.raises(
            CascjaxError, match=r"model\.npz.*damaged, or not a text model"
        ) as caught:
            read_text_model(path)
        assert "\n" not in str(caught.value)
    for missing, message in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file")):
        with pytest.raises(CascjaxError, match=message):
            read_text_model(missing)


ADD = "def add(a, b):\n    total = a + b\n    return total"
SAME = [
    f"Here it is:\n```python\n{ADD}\n```\nIt adds.",
    f"[PYTHON]\n{ADD}\n[/PYTHON]\n[TESTS]\nassert add(1, 2) == 3\n[/TESTS]",
    f"```\n{ADD}",  # cut off
    "```py\ndef plus(x, y):\n  # of two\n\n  z = (x +  y)\n  return z\n```",
    '```py\ndef plus(x: int, y: int) -> int:\n  """Add."""\n  z = x + y\n  return z\n```',
    f"```python\n>>> add(1, 2)\n3\n```\nwith\n```python\n{ADD}\nprint(add(1, 2))\n```",
    f"    {ADD}".replace("\n", "\n    ").join(["```\n", "\n```"]),  # indented
    f"```\r\n{ADD}\r\n```".replace("\n", "\r\n").replace("\r\r", "\r"),
]
OTHER = [
    "```\ndef add(a, b):\n    total = b + a\n    return total\n```",
    "```\ndef add(a, b=1):\n    total = a + b\n    return total\n```",
    "```\n@cache\ndef add(a, b):\n    total = a + b\n    return total\n```",
    "```\ndef add(a, b):\n    total = a - b\n    return total\n```",
    "```\ndef add(a, b):\n    total = a + b + 1\n    return total\n```",
    "```js\nfunction add(a, b) { return a + b; }\n```",
    "It adds.",
]
CALLS = (
    "```\nimport math\ndef f(n):\n    return 1 if n < 2 else n * f(n - 1)\n"
    "def g(n):\n    return f(n) + math.floor(n) + sum(i for i in {1, 2, 3} if i in {4, 5})\n```"
)
RENAMED = (
    CALLS.replace("f(", "factorial(").replace("g(", "main(").replace("(n", "(number")
).replace(" n ", " number ")


def test_programs() -> None:
    first, *answers = response_answers(["Write it."] * 16, [ADD, *SAME, *OTHER])
    assert [answer == first for answer in answers] == [True] * len(SAME) + [False] * len(OTHER)
    # Programs that call themselves and each other, under other names.
    one, two, three = response_answers(
        ["Write it."] * 3, [CALLS, RENAMED, CALLS.replace("floor", "ceil")]
    )
    assert one == two != three
    # Code that does not parse agrees by its words.
    code = ["```c\nint x  = 1;\n```", "So:\n```\nint x =\n 1;\n```", "```\nint y\n```"]
    one, two, three = response_answers(["Write it."] * 3, code)
    assert one == two != three


@pytest.mark.parametrize(
    "code",
    [
        "(" * 5000, "def f():\n return " + "-" * 15000 + "1", "def f():\n" + " return [" * 900,
        "def f(): \0", "a" * 10**6, "def f(x):\n  return x is 'a' or '\\d'",
        "def f():\n  return 9**9**9", "\ud800",
    ],
)  # fmt: skip
def test_no_code_crashes_or_warns(code: str) -> None:
    assert response_answers(["Write it."], [f"```\n{code}\n```"])[0] is not None


def signals_of(response: str | None, prompt: str = CHOICE) -> dict[str, float]:
    return dict(zip(SIGNALS, response_signals([prompt], [response])[0].tolist(), strict=True))


def test_signals_of_a_choice() -> None:
    bare, wordy = signals_of("B"), signals_of("The answer is B.")
    assert bare["choice"] == bare["bare_choice"] == bare["choice_b"] == 1
    assert bare["choice_a"] == bare["code"] == bare["refusal"] == bare["finished"] == 0
    assert (wordy["choice"], wordy["bare_choice"], wordy["finished"]) == (1, 0, 1)
    # The options have 5, 13 and 4 characters; of "iron, a metal" the question has one word of two.
    lengths = np.log1p([5, 13, 4])
    assert bare["choice_length"] == pytest.approx(lengths[1] - lengths.mean(), rel=1e-6)
    assert bare["choice_in_question"] == 0.5
    assert bare["log_chars"] == pytest.approx(np.log(2))
    for response in (None, "", "  \n"):
        assert {name for name, value in signals_of(response).items() if value} == {"empty"}


def test_refusals() -> None:
    refusals = ["I'm sorry, but I can't.", "Unfortunately I", "I do", "As an AI language model"]
    refusals += ["I apologize", "There is"]
    others = ["I do think it is B", "It is B, I cannot see why not", "There is one: B"]
    assert [signals_of(text)["refusal"] for text in refusals + others] == [1] * 6 + [0] * 3


def test_signals_of_code() -> None:
    good = signals_of(f"Sure!\n```python\n{ADD}\n```", "Write a function.")
    bad = signals_of("```js\nfunction add(a) {}\n```", "Write a function.")
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
    prompts = random_prompts(n)
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
    table = made.table
    feature_spec = design(table, np.arange(n)).feature_spec
    functions = (read_text_model, text_features, response_signals, response_answers)
    for i in range(2):
        live: dict[str, Any] = {of.__name__: of for of in functions} | {
            "prompt": prompts[i],
            "signals": np.full((len(models), len(SIGNALS)), np.nan),
            "said": [None] * len(models),
        }
        for k, response in enumerate(responses[i]):
            exec(lines, live | {"k": k, "response": response}, live)
        given = {name: live[name] for name in ("features", "signals", "answers")}
        row = feature_spec.row(**given, costs=table.cost[i])
        # float32 either way; the import multiplies all rows at once.
        np.testing.assert_allclose(row, feature_spec.seen(table)[i], atol=1e-5)
