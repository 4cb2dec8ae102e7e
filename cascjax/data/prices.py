"""Prices of tokens: cost from counts of tokens, at the prices in force when a call was made.

A price file is YAML, or LiteLLM's map of prices. In YAML, prices are per million tokens, unless
`per` says otherwise, and `unit` is their currency [default: USD]:

    unit: USD
    per: 1000000
    models:
      gpt-4o: {input: 2.5, cached: 1.25, output: 10}
      deepseek-chat:
        - {input: 0.14, output: 0.28}
        - {from: 2025-02-08, input: 0.27, cached: 0.07, output: 1.1,
           discount: {start: "16:30", end: "00:30", factor: 0.5}}

A list has the prices of a model over time: each holds `from` a date on (UTC). A discount multiplies
all prices between two times of day (UTC). `call` is a price per call, beside or without tokens. A
kind of input without a price of its own costs what input costs, reasoning what output costs.

LiteLLM's map, model_prices_and_context_window.json of https://github.com/BerriAI/litellm, has
prices per token in USD, such as input_cost_per_token; prices of long contexts are not read.
"""

import datetime
import difflib
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Bool, Float, Int

from cascjax.data.table import Table
from cascjax.errors import CascjaxError, one_line
from cascjax.words import counted

TOKENS = ("input", "output", "cached", "cache_write", "reasoning")
"""Kinds of tokens; each counts tokens of one price, so that none is counted twice."""
SUFFIX = "_tokens"  # of the names of the extra costs that count tokens

CALL = "call"  # Price of a call, whatever its tokens
_INSTEAD = {"cached": "input", "cache_write": "input", "reasoning": "output"}
_LITELLM = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
}
_NOT_MODELS = ("sample_spec", "fallback_generalizations")
_DRAW = re.compile(r"#\d+$")  # of a draw that is a model of its own
_PROVIDER = re.compile(r"[/:]")
_MINUTES = 24 * 60


@dataclass(frozen=True)
class Price:
    """Prices of a model from a date on.

    Attributes:
      per_token: Price of one token by kind of `TOKENS`, and of one "call"; kinds without a price
        are left out.
      start: First moment, UTC; None for the beginning.
      discount: Minutes of the day, UTC, at which a discount starts and ends, and its factor.
    """

    per_token: Mapping[str, float]
    start: np.datetime64 | None = None
    discount: tuple[int, int, float] | None = None

    def per(self, kind: str) -> float | None:
        """Return the price of a token; None if it is unknown."""
        return self.per_token.get(kind, self.per_token.get(_INSTEAD.get(kind, kind)))

    def factor(self, time: np.ndarray) -> Float[np.ndarray, " R"]:
        """Return the factor of the prices at each time."""
        if self.discount is None:
            return np.ones(len(time))
        start, end, factor = self.discount
        minute = (time - time.astype("datetime64[D]")).astype("timedelta64[m]").astype(np.int64)
        low = (minute - start) % _MINUTES < (end - start) % _MINUTES
        return np.where(low, factor, 1.0)


@dataclass(frozen=True)
class Prices:
    """Prices of models over time, read by `read_prices`.

    Attributes:
      source: Name of the file.
      unit: Currency.
      models: Prices of each model, in order of time.

    Example:
      >>> prices = Prices("p.yaml", "USD", {"a": (Price({"input": 1e-6, "output": 4e-6}),)})
      >>> tokens = {"input": np.array([1000.0]), "output": np.array([500.0])}
      >>> prices.cost(["a"], np.array([0]), tokens).tolist()
      [0.003]
    """

    source: str
    unit: str
    models: Mapping[str, tuple[Price, ...]]

    def find(self, models: Sequence[str]) -> list[tuple[Price, ...]]:
        """Return the prices of models; providers before a name and draws after it may be left out.

        Raises:
          CascjaxError: A model has no prices; the nearest names of the file are named.
        """
        entries, lacking = [], []
        for model in models:
            parts = _PROVIDER.split(_DRAW.sub("", model))
            names = [model, *("/".join(parts[i:]) for i in range(len(parts)))]
            match = next((name for name in names if name in self.models), None)
            entries.append(self.models.get(match or "", ()))
            if match is None:
                near = difflib.get_close_matches(names[-1], list(self.models), n=3)
                hint = f" (nearest: {', '.join(map(repr, near))})" if near else ""
                lacking.append(f"{model!r}{hint}")
        if lacking:
            more = f" and {len(lacking) - 4} more" if len(lacking) > 4 else ""
            raise CascjaxError(
                f"{self.source}: no prices of {', '.join(lacking[:4])}{more}; add them under the"
                " names of the log"
            )
        return entries

    def cost(
        self,
        models: Sequence[str],
        model: Int[np.ndarray, " R"],
        tokens: Mapping[str, Float[np.ndarray, " R"]],
        time: np.ndarray | None = None,
    ) -> Float[np.ndarray, " R"]:
        """Return the cost of R calls.

        Args:
          models: Names of the models.
          model: `[R]` index of the model of each call.
          tokens: Counts of tokens by kind, each `[R]`; missing input or output makes a cost NaN,
            other missing counts are 0.
          time: `[R]` times of the calls, UTC. [default: the latest prices, without discounts]

        Raises:
          CascjaxError: A model has no prices, or not for a kind of its tokens or for a time.
        """
        cost = np.zeros(len(model))
        for k, prices in enumerate(self.find(models)):
            rows = np.flatnonzero(model == k)
            if time is None:
                cost[rows] = self._at(prices[-1], models[k], tokens, rows)
                continue
            for i, price in enumerate(prices):
                used = (
                    np.ones(len(rows), bool) if price.start is None else time[rows] >= price.start
                )
                if i + 1 < len(prices):
                    used &= time[rows] < prices[i + 1].start
                chosen = rows[used]
                if len(chosen):
                    each = self._at(price, models[k], tokens, chosen)
                    cost[chosen] = each * price.factor(time[chosen])
            first = prices[0].start
            if first is not None and (early := time[rows] < first).any():
                day = first.astype("datetime64[D]")
                raise CascjaxError(
                    f"{self.source}: prices of {models[k]!r} start on {day},"
                    f" and {counted(int(early.sum()), 'call')} came before; add earlier prices"
                )
        return cost

    def _at(
        self, price: Price, model: str, tokens: Mapping[str, np.ndarray], rows: np.ndarray
    ) -> np.ndarray:
        cost = np.full(len(rows), price.per_token.get(CALL, 0.0))
        if not tokens and CALL not in price.per_token:
            raise CascjaxError(
                f"{self.source}: {model!r} has no price per call, and there are no counts of"
                " tokens; give tokens, such as tokens={'input': COLUMN, 'output': COLUMN}"
            )
        for kind, counts in tokens.items():
            count = counts[rows]
            if kind not in ("input", "output"):
                count = np.nan_to_num(count)
            each = price.per(kind)
            if each is None:
                if not np.any(count > 0):
                    continue
                raise CascjaxError(
                    f"{self.source}: {model!r} has no price of {kind} tokens; add it"
                )
            cost = cost + each * count
        return cost


def read_prices(path: str | os.PathLike[str]) -> Prices:
    """Read a price file, YAML or LiteLLM's JSON.

    Raises:
      CascjaxError: The file cannot be read, or an entry is wrong; the message names it.
    """
    import yaml

    source = os.fspath(path)
    with one_line(f"cannot read {source}"), open(source, encoding="utf-8") as file:
        text = file.read()
    try:
        content = msgspec.json.decode(text)
    except msgspec.DecodeError:
        try:
            content = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            problem = " ".join(str(error).split())
            raise CascjaxError(f"cannot read {source}: it is not YAML ({problem[:200]})") from None
    if not isinstance(content, dict):
        raise CascjaxError(
            f"{source}: prices must be a mapping with 'models'; see the documentation"
        )
    if "models" not in content:
        return _litellm(content, source)
    if unknown := set(content) - {"models", "unit", "per"}:
        raise CascjaxError(
            f"{source}: unknown key {min(map(str, unknown))!r}; known: models, unit, per"
        )
    unit, per = content.get("unit", "USD"), content.get("per", 1_000_000)
    if not isinstance(unit, str):
        raise CascjaxError(f"{source}: unit must be text, not {unit!r}")
    per = _number(per, f"{source}: per")
    if not per:
        raise CascjaxError(f"{source}: per must be above 0")
    if not isinstance(content["models"], dict) or not content["models"]:
        raise CascjaxError(f"{source}: models must map names to prices")
    models = {
        str(name): _over_time(entry, per, f"{source}: model {str(name)!r}")
        for name, entry in content["models"].items()
    }
    return Prices(source, unit, models)


def _litellm(content: Mapping[str, Any], source: str) -> Prices:
    models = {}
    for name, entry in content.items():
        if name in _NOT_MODELS or not isinstance(entry, dict):
            continue
        prices = {
            kind: _number(entry[field], f"{source}: model {name!r}: {field}")
            for kind, field in _LITELLM.items()
            if isinstance(entry.get(field), int | float | str)
        }
        if {"input", "output"} & set(prices):
            models[name] = (Price(prices),)
    if not models:
        raise CascjaxError(
            f"{source}: no prices: neither 'models', as in a YAML price file, nor models with"
            " input_cost_per_token, as in LiteLLM's"
        )
    return Prices(source, "USD", models)


def _over_time(entry: Any, per: float, where: str) -> tuple[Price, ...]:
    entries = entry if isinstance(entry, list) else [entry]
    prices = [_price(each, per, where) for each in entries]
    if not prices:
        raise CascjaxError(f"{where}: the list of prices is empty")
    starts = [price.start for price in prices]
    if len(set(starts)) < len(starts):
        raise CascjaxError(f"{where}: every price but one needs a date of its own, 'from'")
    return tuple(sorted(prices, key=lambda p: p.start or np.datetime64("0001-01-01", "us")))


def _price(entry: Any, per: float, where: str) -> Price:
    if not isinstance(entry, dict):
        raise CascjaxError(f"{where}: prices must be a mapping such as {{input: 2.5, output: 10}}")
    if unknown := set(entry) - {*TOKENS, CALL, "from", "discount"}:
        known = ", ".join((*TOKENS, CALL, "from", "discount"))
        raise CascjaxError(f"{where}: unknown key {min(map(str, unknown))!r}; known: {known}")
    prices = {k: _number(entry[k], f"{where}: {k}") / per for k in TOKENS if k in entry}
    if CALL in entry:
        prices[CALL] = _number(entry[CALL], f"{where}: {CALL}")
    if not prices:
        raise CascjaxError(f"{where}: no price; give input and output")
    start = None if "from" not in entry else _date(entry["from"], where, "from")
    discount = entry.get("discount")
    if discount is None:
        return Price(prices, start)
    if not isinstance(discount, dict) or set(discount) != {"start", "end", "factor"}:
        raise CascjaxError(
            f"{where}: a discount needs start, end and factor, as in"
            ' {start: "16:30", end: "00:30", factor: 0.5}'
        )
    minutes = [_minute(discount[name], f"{where}: discount: {name}") for name in ("start", "end")]
    factor = _number(discount["factor"], f"{where}: discount: factor")
    return Price(prices, start, (minutes[0], minutes[1], factor))


def _number(value: Any, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise CascjaxError(f"{where} must be a number of at least 0, not {str(value)[:40]!r}")
    return number


def _date(value: Any, where: str, name: str) -> np.datetime64:
    try:
        if isinstance(value, str):
            value = datetime.datetime.fromisoformat(value)
        if isinstance(value, datetime.datetime):
            if value.tzinfo is not None:
                value = value.astimezone(datetime.UTC).replace(tzinfo=None)
            return np.datetime64(value, "us")
        if isinstance(value, datetime.date):
            return np.datetime64(value, "us")
    except ValueError:
        pass
    raise CascjaxError(
        f"{where}: {name} must be a date such as 2025-02-08, not {str(value)[:40]!r}"
    )


def _minute(value: Any, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):  # YAML reads 16:30 as 16 * 60 + 30
        minute = value
    else:
        match = re.fullmatch(r"(\d{1,2}):(\d{2})", str(value))
        minute = int(match[1]) * 60 + int(match[2]) if match and int(match[2]) < 60 else -1
    if not 0 <= minute <= _MINUTES:
        raise CascjaxError(
            f'{where} must be a time of day such as "16:30", not {str(value)[:40]!r}'
        )
    return minute % _MINUTES


def at_date(prices: Prices, date: str | None = None) -> Prices:
    """Return the prices in force on a day, by default the latest, without discounts.

    Models whose prices start later are left out.

    Raises:
      CascjaxError: The date is no date.
    """
    day = None if date is None else _date(date, "prices", "date")
    models = {}
    for name, each in prices.models.items():
        known = [p for p in each if day is None or p.start is None or p.start <= day]
        if known:
            models[name] = (replace(known[-1], discount=None),)
    return replace(prices, models=models)


def counted_tokens(source: str, names: Collection[str]) -> dict[str, str]:
    """Return the extra costs that count tokens, by kind of token; refuse a source without them."""
    tokens = {kind: kind + SUFFIX for kind in TOKENS if kind + SUFFIX in names}
    if not {"input", "output"} <= set(tokens):
        raise CascjaxError(
            f"{source} has no counts of tokens to price; import the log again with tokens, such as"
            " tokens={'input': COLUMN, 'output': COLUMN}"
        )
    return tokens


def priced(table: Table, prices: Prices) -> Table:
    """Return a table whose costs are those of its tokens at the first prices of each model."""
    tokens = counted_tokens(table.name, table.extra_costs)
    if table.cost_ante is not None or table.cost_post is not None:
        raise CascjaxError(
            f"{table.name} has estimates of costs, which are at the old prices; leave them out"
        )
    N, K = table.cost.shape
    counts = {
        kind: np.asarray(table.extra_costs[name], np.float64).reshape(-1)
        for kind, name in tokens.items()
    }
    cost = prices.cost(table.models, np.tile(np.arange(K), N), counts)
    return replace(table, cost=cost.reshape(N, K).astype(np.float32), cost_unit=prices.unit)


def disjoint(
    tokens: Mapping[str, Float[np.ndarray, " R"]], nested: bool
) -> tuple[dict[str, Float[np.ndarray, " R"]], Bool[np.ndarray, " R"]]:
    """Return counts of tokens of which none is counted twice, and the rows that are impossible.

    If counts are `nested`, as OpenAI's are, cached tokens and cache writes are among the input
    tokens, and reasoning tokens among the output tokens.
    """
    counts = {kind: values.copy() for kind, values in tokens.items()}
    wrong = np.zeros(len(next(iter(counts.values()))), bool)
    for kind, whole in _INSTEAD.items() if nested else ():
        if kind in counts and whole in counts:
            counts[whole] = counts[whole] - np.nan_to_num(counts[kind])
            wrong |= counts[whole] < 0
    return counts, wrong
