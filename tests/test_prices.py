"""Costs from counts of tokens: price files, dates, discounts, and what if prices change."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import cascjax as cj
from cascjax.cli import main
from cascjax.data.prices import Price, disjoint, read_prices
from cascjax.errors import CascjaxError
from cascjax.importers import import_long

YAML = """
models:
  small: {input: 1, output: 2}
  org/large:
    - {from: 2025-02-08, input: 20, cached: 5, output: 40, reasoning: 80,
       discount: {start: "16:30", end: "00:30", factor: 0.25}}
    - {input: 10, output: 30}
"""
TOKENS = {"input": "in", "output": "out", "cached": "hit", "reasoning": "think"}
NAMES = ("id", "llm", "score")
TIMES = ["2025-02-07T23:00:00Z", "2025-02-08 12:00:00", "2025-02-09T01:00:00+05:00", "2025-03-01"]


def log(n: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    cells = [(f"q{i}", model) for i in range(n) for model in ("small", "org/large")]
    frame = pd.DataFrame(cells, columns=["id", "llm"])
    frame["score"] = rng.integers(2, size=len(frame))
    frame["in"] = rng.integers(500, 900, size=len(frame))
    frame["out"] = rng.integers(300, 400, size=len(frame))
    frame["hit"] = rng.integers(100, size=len(frame)).astype(float)
    frame["think"] = np.where(frame["llm"] == "small", np.nan, 100)
    frame["when"] = [TIMES[i % 4] for i in range(n) for _ in range(2)]
    return frame


def write(folder: Path, text: str = YAML, name: str = "prices.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def read(frame: Any, prices: Path | None, **options: Any) -> cj.Table:
    return import_long(frame, *NAMES, **{"tokens": TOKENS, "prices": prices} | options).table


def refusal(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(CascjaxError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def by_hand(frame: pd.DataFrame, times: bool) -> np.ndarray:
    """Cost in USD, from the definition."""
    costs = []
    for row in frame.itertuples():
        t: Any = row
        think = 0 if np.isnan(t.think) else t.think
        fresh, said = frame.loc[t.Index, "in"] - t.hit, t.out - think
        if t.llm == "small":
            costs.append((fresh + t.hit) * 1 + (said + think) * 2)
            continue
        if times and t.when == TIMES[0]:  # the day before
            costs.append((fresh + t.hit) * 10 + (said + think) * 30)
            continue
        cost = fresh * 20 + t.hit * 5 + said * 40 + think * 80
        cheap = times and t.when in TIMES[2:]  # 20:00 and midnight, UTC
        costs.append(cost * (0.25 if cheap else 1))
    return np.array(costs).reshape(-1, 2) / 1e6


def test_cost_by_hand_with_dates_and_discounts(tmp_path: Path) -> None:
    frame, prices = log(), write(tmp_path)
    table = read(frame, prices)
    np.testing.assert_allclose(table.cost, by_hand(frame, times=False), rtol=1e-6)
    assert table.cost_unit == "USD"
    assert table.extra_cost_units == tuple((f"{kind}_tokens", "tokens") for kind in sorted(TOKENS))
    whole = sum(table.extra_costs[f"{kind}_tokens"] for kind in ("input", "cached"))
    np.testing.assert_array_equal(whole, frame["in"].to_numpy().reshape(-1, 2))
    timed = read(frame, prices, time="when")
    np.testing.assert_allclose(timed.cost, by_hand(frame, times=True), rtol=1e-6)
    stamps = frame.assign(when=pd.to_datetime(frame["when"], utc=True, format="ISO8601"))
    np.testing.assert_array_equal(read(stamps, prices, time="when").cost, timed.cost)
    seconds = stamps.assign(when=[stamp.timestamp() for stamp in stamps["when"]])
    np.testing.assert_array_equal(read(seconds, prices, time="when").cost, timed.cost)
    notes = import_long(frame, *NAMES, tokens=TOKENS, prices=prices).notes
    assert any("the latest prices, without discounts; name the time" in note for note in notes)


def test_tokens_counted_apart(tmp_path: Path) -> None:
    frame, prices = log(), write(tmp_path)
    apart = frame.assign(**{"in": frame["in"] - frame["hit"],
                            "out": frame["out"] - frame["think"].fillna(0)})  # fmt: skip
    separate = read(apart, prices, token_counts="separate")
    np.testing.assert_allclose(separate.cost, read(frame, prices).cost, rtol=1e-6)
    message = refusal(read, frame.assign(hit=frame["in"] + 1), prices)
    assert "column 'in', row 0 (and 7 more): fewer input or output tokens than cached" in message
    counts, wrong = disjoint({"input": np.array([5.0]), "cached": np.array([np.nan])}, True)
    assert (counts["input"].tolist(), wrong.tolist()) == ([5.0], [False])


def test_litellm(tmp_path: Path) -> None:
    entry = {"litellm_provider": "x", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    content = {
        "sample_spec": {"input_cost_per_token": 0.0, "max_tokens": "text"},
        "small": entry,
        "large": {"input_cost_per_token": 2e-5, "output_cost_per_token": "4e-05",
                  "cache_read_input_token_cost": 5e-6, "output_cost_per_reasoning_token": 8e-5,
                  "supports_vision": True, "tiers": [1]},
        "picture": {"output_cost_per_image": 0.06},
    }  # fmt: skip
    prices = write(tmp_path, json.dumps(content), "litellm.json")
    frame = log()
    # The provider before a name may be left out in the file.
    np.testing.assert_allclose(read(frame, prices).cost, by_hand(frame, times=False), rtol=1e-6)
    assert set(read_prices(prices).models) == {"small", "large"}
    write(tmp_path, json.dumps({"small": entry, "larger": entry}), "litellm.json")
    message = refusal(read, frame, prices)
    assert f"{prices}: no prices of 'org/large' (nearest: 'larger')" in message


def test_a_price_per_call_and_other_units(tmp_path: Path) -> None:
    prices = write(tmp_path, "unit: EUR\nper: 1000\nmodels:\n  small: {call: 0.5}\n"
                             "  org/large: {call: 1, input: 3, output: 6}\n")  # fmt: skip
    frame = log()
    message = refusal(read, frame, prices)
    assert "'small' has no price of input tokens" in message
    write(tmp_path, "unit: EUR\nmodels: {small: {call: 0.5}, org/large: {call: 1}}")
    table = read(frame, prices, tokens={})
    assert table.cost_unit == "EUR"
    np.testing.assert_array_equal(table.cost, [[0.5, 1]] * 4)
    assert read(frame, prices, tokens={}, cost_unit="credits").cost_unit == "credits"
    write(tmp_path, "models: {small: {input: 1, output: 1}, org/large: {input: 1, output: 1}}")
    assert "no price per call, and there are no counts of tokens" in refusal(
        read, frame, prices, tokens={}
    )


BAD = [
    ("- 1", "prices must be a mapping"),
    ("models: {", "it is not YAML"),
    ("models: {}", "models must map names to prices"),
    ("models: {a: 3}", "model 'a': prices must be a mapping such as"),
    ("models: {a: {inputs: 3}}", "model 'a': unknown key 'inputs'; known: input, output, cached"),
    ("models: {a: {input: -3}}", "model 'a': input must be a number of at least 0, not '-3'"),
    ("models: {a: {input: free}}", "input must be a number of at least 0, not 'free'"),
    ("models: {a: {from: 2025-01-01}}", "model 'a': no price; give input and output"),
    ("models: {a: []}", "the list of prices is empty"),
    ("models: {a: [{input: 1}, {input: 2}]}", "every price but one needs a date"),
    ("models: {a: {input: 1, from: soon}}", "from must be a date such as 2025-02-08, not 'soon'"),
    ("models: {a: {input: 1, discount: 0.5}}", "a discount needs start, end and factor"),
    ('models: {a: {input: 1, discount: {start: "25:70", end: "1:00", factor: 1}}}',
     "discount: start must be a time of day"),
    ("unit: 3\nmodels: {a: {input: 1}}", "unit must be text"),
    ("per: 0\nmodels: {a: {input: 1}}", "per must be above 0"),
    ("modles: {a: {input: 1}}", "no prices: neither 'models', as in a YAML price file, nor"),
    ("models: {a: {input: 1}}\nper_token: 1", "unknown key 'per_token'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD)
def test_price_files_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(read_prices, write(tmp_path, text))
    assert "No such file" in refusal(read_prices, tmp_path / "none.yaml")


def test_calls_before_the_first_price(tmp_path: Path) -> None:
    prices = write(tmp_path, YAML.replace("    - {input: 10, output: 30}\n", ""))
    message = refusal(read, log(), prices, time="when")
    assert "prices of 'org/large' start on 2025-02-08, and 1 call came before" in message
    assert "'when', row 0: 'x' is not a time" in refusal(
        read, log().assign(when=["x", *log()["when"][1:]]), prices, time="when"
    )


def test_draws_of_a_model_have_its_prices(tmp_path: Path) -> None:
    frame, prices = pd.concat([log(), log().assign(score=0.5)]), write(tmp_path)
    table = read(frame, prices, draws="arms")
    assert table.models == ("small#1", "small#2", "org/large#1", "org/large#2")
    again: Any = cj.reprice(table, prices)
    np.testing.assert_allclose(again.cost, table.cost, rtol=1e-6)
    names = ["openai:chat:gpt", "openai/gpt#3", "gpt"]
    write(tmp_path, "models: {gpt: {input: 1}}")
    assert len(read_prices(prices).find(names)) == 3


def test_a_discount_inside_a_day() -> None:
    price = Price({}, discount=(60, 120, 0.5))
    times = np.array(["2025-01-01T00:59", "2025-01-01T01:00", "2025-01-01T02:00"], "datetime64[us]")
    assert price.factor(times).tolist() == [1, 0.5, 1]


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    frame, prices = log().assign(usd=1.0), write(tmp_path)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"cost": "usd"}, "cost and prices exclude each other"),
        ({"free": True}, "tokens without prices: costs need cost"),
        ({"free": True, "cost": "usd", "time": "when"}, "time needs prices"),
        ({"tokens": {"outputs": "out"}}, "unknown kind of tokens 'outputs' (did you mean 'output'"),
        ({"extra_costs": {"input_tokens": "usd"}}, "'input_tokens' is listed twice"),
    ]
    for options, message in cases:
        paid = None if options.pop("free", False) else prices
        assert message in refusal(read, frame, paid, **options)
    kept = read(frame, None, cost="usd")
    assert "reasoning_tokens" in kept.extra_costs  # tokens beside logged costs
    assert kept.cost_unit == ""


# What if prices change


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_reprice_agrees_with_an_import_at_the_new_prices(tmp_path: Path) -> None:
    frame, old = log(40), write(tmp_path)
    new = write(tmp_path, YAML.replace("input: 20", "input: 2"), "new.yaml")
    frame.to_csv(tmp_path / "log.csv", index=False)
    words = ["--query=id", "--model=llm", "--quality=score", f"--prices={old}"]
    words += [f"--tokens={kind}={column}" for kind, column in TOKENS.items()]
    result = run("import", "long", tmp_path / "log.csv", tmp_path / "t.parquet", *words)
    assert result.exit_code == 0, result.output
    result = run("reprice", tmp_path / "t.parquet", "--prices", new, "--out", tmp_path / "n.arrow",
                 "--json", "--quiet")  # fmt: skip
    assert result.exit_code == 0, result.output
    after, expected = cj.read_table(tmp_path / "n.arrow"), read(frame, new)
    assert after == expected
    means = json.loads(result.output)["mean_cost"]["org/large"]
    assert means["after"] == pytest.approx(expected.cost[:, 1].mean(), rel=1e-5)
    assert means["before"] == pytest.approx(read(frame, old).cost[:, 1].mean(), rel=1e-5)
    table = cj.reprice(cj.read_table(tmp_path / "t.parquet"), new)
    np.testing.assert_allclose(table.cost, expected.cost, rtol=1e-6)  # pyright: ignore
    early = cj.reprice(cj.open(tmp_path / "t.parquet"), new, "2025-01-01")
    (_, chunk), *_ = early.read(early.chunks, ())
    spent = frame["in"].to_numpy() * 10 + frame["out"].to_numpy() * 30
    np.testing.assert_allclose(chunk.cost[:, 1], spent.reshape(-1, 2)[:, 1] / 1e6, rtol=1e-6)


def test_compare_at_other_prices(tmp_path: Path) -> None:
    frame, prices = log(60), write(tmp_path)
    table = read(frame, prices)
    cj.write_table(tmp_path / "t.arrow", table)
    words = ["--strategies", "mixing,oracle", "--estimates", "noisy"]
    other = write(tmp_path, YAML.replace("input: 20", "input: 60"), "new.yaml")
    results = []
    for name, more in (("a", ["--prices", other]), ("b", ["--prices", prices]), ("c", [])):
        result = run("compare", tmp_path / "t.arrow", *words, *more, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        frontier = pd.read_parquet(tmp_path / name / "frontier.parquet")
        results.append(frontier.drop(columns="seconds", errors="ignore"))
    pd.testing.assert_frame_equal(results[1], results[2], rtol=1e-5)
    assert results[0]["cost"].max() > 1.5 * results[1]["cost"].max()


def test_prices_are_part_of_what_identifies_a_source(tmp_path: Path) -> None:
    cj.write_table(tmp_path / "t.arrow", read(log(), write(tmp_path)))
    source = cj.open(tmp_path / "t.arrow")
    other = write(tmp_path, YAML.replace("input: 20", "input: 60"), "new.yaml")
    priced = [source, *(cj.reprice(source, path) for path in (tmp_path / "prices.yaml", other))]
    assert len({each.fingerprint() for each in priced}) == 3
    assert len({repr(each.identity()) for each in priced}) == 3
    again = cj.reprice(source, other)
    assert (again.fingerprint(), again.identity()) == (
        *(priced[2].fingerprint(), priced[2].identity()),
    )


def test_sources_that_cannot_be_priced(tmp_path: Path) -> None:
    prices = write(tmp_path)
    table = read(log(), prices)
    bare = cj.Table(table.quality, table.cost, models=table.models)
    assert "has no counts of tokens to price" in refusal(cj.reprice, bare, prices)
    write(tmp_path, "models: {small: {input: 1, output: 1}}", "few.yaml")
    cj.write_table(tmp_path / "t.arrow", table)
    result = run("compare", tmp_path / "t.arrow", "--prices", tmp_path / "few.yaml", "--out",
                 tmp_path / "out")  # fmt: skip
    assert result.exit_code == 2
    assert "no prices of 'org/large'" in result.output.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    result = run("reprice", tmp_path / "t.arrow", "--prices", prices, "--out", tmp_path / "t.arrow")
    assert result.exit_code == 2
    assert "is the source" in result.output
