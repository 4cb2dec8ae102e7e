r"""Answers of responses: what each convention finds, and which answers are the same."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cascjax.errors import CascjaxError
from cascjax.features import CONVENTIONS, response_answers

LINES = "Which one conducts?\nA) stone\nB) iron\nC) 12 volts\nD) rain"
CHOICE = "Which is a metal?\nA) stone\nB) iron, a metal\nC) rain\nAnswer:"
INLINE = "Which one conducts? (A) stone (B) iron"
MATHS = "How many apples does she have?"
PLAIN = "Who painted it?"
CODE = "Write a python function add of two numbers, so that add(1, 2) == 3."


@pytest.mark.parametrize(
    ("prompt", "answer", "responses"),
    [
        (
            MATHS,
            "number 42",
            [
                r"First. \boxed{42}", r"So $\boxed{{42}}$.", r"\boxed{ 42.0 \text{ apples}}",
                r"\[\boxed{x = 42}\]", r"\boxed{\$42}", r"\boxed{7} or rather \boxed{42}",
                r"\fbox{42}", r"\boxed{\frac{84}{2}}", r"\boxed{42} \boxed{}", "#### 42",
                "The answer is: **42**", "Answer: 42 apples", "**Final answer:** 42",
                "**Answer**: $42.00", "The answer is 40 + 2 = 42.", "She has 42 apples.",
                "40 + 2 = 42 apples.", "It is 42", "1. She has 40.\n2. She gets 2.\nShe has 42.\n",
                '{"answer": 42}', '{"reason": "40 {and} 2", "final_answer": "42"}',
                'So:\n```json\n{"steps": {"n": 2}, "answer": {"value": 42.0}}\n```',
                "<answer>42</answer>", "Answer:\n42", "That makes 4.2e1.", "Answer: she has 42",
            ],
        ),
        (
            MATHS,
            "number 1200.5",
            [
                "1,200.50", r"\boxed{1{,}200.5}", "It makes $1,200.50 per year.", "€1,200.5",
                "Answer: 1200.50 dollars", r"\boxed{1\,200.5}", r"It is \$1,200.50.", "2401/2",
                r"\boxed{1200\frac{1}{2}}", "1200 1/2 cups", r"\boxed{\dfrac{2401}{2}}",
            ],
        ),
        (
            MATHS,
            "number -0.5",
            ["-1/2", r"\boxed{-\frac{1}{2}}", r"\boxed{-\frac12}", "The answer is −0.50", "-$.5"],
        ),
        (
            MATHS,
            "number 50",
            ["50%", r"\boxed{50\%}", "It rises by 50 percent.", "Answer: 50.00 %", "50cm", "50 m"],
        ),
        (MATHS, "number 1200000", ["1.2 million", "$1,200,000", r"\boxed{1200000}"]),
        (
            LINES,
            "choice B",
            [
                "B", "(B)", "b", "**B**", "B. It is iron.", "Answer: B", "Answer: **B**",
                "The correct answer is (B) iron.", r"\boxed{B}", r"\boxed{\text{(B)}}",
                r"$\boxed{\mathrm{B}}$", "iron", "Iron.", r"\boxed{iron}", "Stone does not.\n\nB",
                "Stone does not.\n**(B)**", '{"answer": "B"}', '{"Choice": "b"}',
                "I choose B.", "So option (B) is right.", "<answer>B</answer>", "Answer: iron",
                "The answer is A. No: the answer is B.",
            ],
        ),
        (LINES, "choice C", [r"\boxed{12 volts}", "C) 12 volts", "12 volts"]),
        (INLINE, "choice B", ["B", "(B)", r"\boxed{B}", "Answer: B", "The answer is B."]),
        (PLAIN, "text frida kahlo", ["Frida Kahlo", "**Frida Kahlo.**", "Answer: Frida Kahlo"]),
        (PLAIN, r"text \pi^{2}", [r"\boxed{\pi^{2}}", r"\boxed{ \pi ^ {2} }"]),
        (PLAIN, None, ["", "  \n", None]),
        (CHOICE, None, ["", " \n", None]),
        (CHOICE, "choice A", ["A because stones are", "A\nStone it is", "stone"]),
        (
            CHOICE,
            "choice B",
            [
                " B\n", "B) iron, a metal", "Iron, a metal.", "The correct option would be B",
                "B. Because it conducts. A is a rock.",
            ],
        ),
        (CHOICE, "choice C", ["C (", "It rains, so the correct answer is: (C).",
                              "The answer is option C"]),
        (CHOICE, "number 7", ["The answer is 7"]),
        *(
            (CHOICE, f"text {text.lower()}", [text])
            for text in ("A hypothesis", "The answer is A hypothesis", "I do", "D", "Answering A")
        ),
        (MATHS, "number -3.5", [r"Hence \boxed{-3.50}"]),
        (MATHS, "number 12", ["The answer is 4. No, the answer is $12.", "About 12"]),
        (MATHS, "number -5", ["Answer: -$5"]),
        (MATHS, "number 1200", ["So #### 1,200"]),
    ],
)  # fmt: skip
def test_equal_answers(prompt: str, answer: str | None, responses: list[str | None]) -> None:
    found = response_answers([prompt] * len(responses), responses)
    assert dict(zip(responses, found, strict=True)) == dict.fromkeys(responses, answer)


@pytest.mark.parametrize("word", ["yes", "No", "TRUE", "false"])
def test_yes_and_no_are_answers(word: str) -> None:
    forms = [word, f"{word}, because it is.", f"The answer is {word}.", f"**{word}**", f"{word}!"]
    asked = ["Is it so?"] * len(forms)
    assert set(response_answers(asked, forms)) == {f"text {word.lower()}"}
    # "No" and a number is a number.
    assert response_answers([MATHS], [f"{word}, it is 42."]) == ("number 42",)


@pytest.mark.parametrize(
    ("prompt", "first", "second"),
    [
        (MATHS, r"\boxed{42}", r"\boxed{43}"),
        (MATHS, "It is 3.14", "It is 3.1"),
        (MATHS, "1/3", "0.33"),
        (MATHS, r"\boxed{3 or 4}", r"\boxed{3}"),
        (MATHS, r"\boxed{3x}", r"\boxed{3}"),
        (MATHS, "-5", "5"),
        (MATHS, "5:30", "5:45"),
        (LINES, r"\boxed{A}", r"\boxed{B}"),
        (LINES, "Options A and B both conduct.", "B"),
        # Prose that happens to end with the same number is no answer of that number.
        ("Write a poem about autumn.", "Leaves fall in 1999.", "Rain comes in 1999."),
        ("Who painted it?", "She did, in 1940.", "He did, in 1940."),
    ],
)
def test_different_answers(prompt: str, first: str, second: str) -> None:
    one, two = response_answers([prompt] * 2, [first, second])
    assert one != two


def test_a_number_in_prose_about_code_is_no_answer() -> None:
    assert response_answers([CODE], ["It cannot be done in 3 lines."])[0] != "number 3"


@pytest.mark.parametrize(
    ("convention", "answers"),
    [
        ("boxed", ("number 3", None, None, None, None)),
        ("number", ("number 3", "number 7", "number 2", "number 5", None)),
        ("choice", (None, None, None, None, "choice B")),
        ("json", (None, None, None, "number 5", None)),
        ("last-line", ("number 3", "number 7", "text or 2", 'text {"answer": 5}', "choice B")),
        ("code", (None,) * 5),
    ],
)
def test_a_named_convention_finds_nothing_else(
    convention: str, answers: tuple[str | None, ...]
) -> None:
    responses = [r"\boxed{3}", "#### 7", "It is 1\nor 2", '{"answer": 5}', "Answer: B"]
    assert response_answers([PLAIN] * 5, responses, convention) == answers


def test_every_named_convention_is_known_and_no_other() -> None:
    for convention in CONVENTIONS:
        assert len(response_answers([MATHS], ["2"], convention)) == 1
    with pytest.raises(CascjaxError, match=r"unknown convention of answers 'box'.*known: auto"):
        response_answers([MATHS], ["2"], "box")


@pytest.mark.parametrize(
    "response",
    [
        r"\boxed{" * 500, r"\boxed{{{{}}}}", "{" * 5000 + "}", '{"answer": ' * 300 + "}" * 300,
        "1/0", "9" * 10_000, "1e99", r"\frac{1}{0}", "1." * 1000, "#### ", "answer is " * 1000,
        r"\boxed{\frac{a}{b}}", "{}", "[]", '{"answer": null}', '{"answer": [1, 2]}',
        "\u0661\u0662",
    ],
)  # fmt: skip
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_odd_texts_are_read(response: str, convention: str) -> None:
    first, second = response_answers([MATHS] * 2, [response] * 2, convention)
    assert first == second


def test_grade_school_maths(shared_data: Path) -> None:
    # Where last numbers agree the weak model is right 97% of the time, else 13%.
    log = pd.read_csv(shared_data / "routellm-gsm8k.csv")
    weak, strong = log.columns[1:3]
    texts = {model: log[f"{model}_response"].fillna("").tolist() for model in (weak, strong)}
    right = log[weak].to_numpy()
    for convention in ("auto", "number"):
        first, second = (response_answers(log.prompt.tolist(), texts[m], convention) for m in texts)
        agree = np.array([a is not None and a == b for a, b in zip(first, second, strict=True)])
        assert abs(agree.mean() - 0.60) < 0.005
        assert abs(right[agree].mean() - 0.97) < 0.005
        assert abs(right[~agree].mean() - 0.135) < 0.005
