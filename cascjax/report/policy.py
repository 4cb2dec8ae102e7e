"""A policy: its settings and what they gave when they were fitted."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.text import Text

from cascjax.core.sweep import single_model
from cascjax.evaluation import estimates_record, target_of
from cascjax.policy import Policy
from cascjax.report.tables import Listing, simulated, simulation_note
from cascjax.search.rules import Fitted, Rule
from cascjax.words import counted, plain, quality_text, short_names, unit_text

# pandas takes long to import, and is wanted only where a table is made.
if TYPE_CHECKING:
    from pandas import DataFrame


def rules(policy: Policy) -> Iterator[tuple[str, Rule]]:
    """Return the rules of a policy, each with the queries it is for."""
    names = ["all queries" if len(policy.rules) == 1 else "all other queries"]
    names += [f"group {plain(name)}" for name in policy.groups]
    return zip(names, policy.rules, strict=True)


def settings_listing(policy: Policy, rule: Rule) -> Listing:
    """Return the table of the settings that a rule mixes, with their shares of queries."""
    import pandas as pd

    settings = [setting.reshape(-1) for setting in rule.parameters]
    names, columns = short_names(policy.models), {}
    for digits in (6, 9):  # settings may be closer than six digits; nine tell any two float32 apart
        if rule.prices is None:
            texts = [policy.strategy.text(s, names, digits) for s in settings]
            columns = {policy.strategy.parameter_name: texts}
        else:
            prices = np.array([setting[0] for setting in settings])[:, None] * rule.prices
            alone = single_model(rule.parameters)
            columns = {
                f"price of {plain(name)}": [
                    f"{price:.{digits}g}" if model < 0 else f"{names[model]} alone"
                    for price, model in zip(column, alone.tolist(), strict=True)
                ]
                for name, column in zip(policy.costs, prices.T, strict=True)
            }
        if len(set(zip(*columns.values(), strict=True))) == len(settings):
            break
    shares = [f"{weight:.2%}" for weight in rule.weights]
    index = pd.Index(shares, name="share of queries")
    return Listing(pd.DataFrame(columns, index=index))


def summary(policy: Policy) -> Listing:
    """Return the table that a policy prints as: one row per rule and setting."""
    import pandas as pd

    frames = {name: settings_listing(policy, rule).frame for name, rule in rules(policy)}
    settings = pd.concat([f.reset_index().assign(rule=name) for name, f in frames.items()])
    title = f"Policy of {policy.strategy.name} for {counted(len(policy.models), 'model')}"
    title = ", ".join(filter(None, [title, simulated(estimates_record(policy))]))
    return Listing(settings.set_index("rule"), title=title)


def frame(policy: Policy) -> "DataFrame":
    """Return one row per rule and setting: its share of queries, parameters, and prices if any."""
    import pandas as pd

    rows = []
    for name, rule in rules(policy):
        for m, weight in enumerate(rule.weights.tolist()):
            row = {"rule": name, "share": weight, "parameters": rule.parameters[m].reshape(-1)}
            if rule.prices is not None:
                prices = zip(policy.costs, rule.prices[m].tolist(), strict=True)
                row |= {f"price of {cost}": price for cost, price in prices}
            rows.append(row)
    return pd.DataFrame(rows)


def print_policy(policy: Policy, console: Console) -> None:
    """Print the settings that each rule mixes, and what they gave on the fit queries."""
    if note := simulation_note(estimates_record(policy)):
        console.print(Text(note))
    for name, rule in rules(policy):
        if len(policy.rules) > 1:
            console.print(Text(name, "bold"))
        console.print(*settings_listing(policy, rule).grids(console.width))
        if rule.fitted is not None:
            for line in _fitted(policy, rule.fitted):
                console.print(Text(line))


def _fitted(policy: Policy, fitted: Fitted) -> Iterator[str]:
    queries = counted(fitted.n_fit, "fit query", "fit queries")
    text, target = f"mean quality {quality_text(fitted.quality)}", target_of(policy)
    if target is not None:
        text += f", target {target:g}"
        if fitted.quality > target * (1 + 1e-4):
            text += "; no cheaper setting exists"
    yield f"On {queries}: {text}."
    names = zip(policy.costs, policy.cost_units, strict=True)
    means = zip(fitted.cost, fitted.budget, fitted.margin, strict=True)
    for (name, unit), (cost, budget, margin) in zip(names, means, strict=True):
        text = f"Mean {plain(name)} {cost:.6g} {unit_text(unit)}".rstrip()
        if budget is None:
            text += ", not limited" if len(policy.costs) > 1 else ""
        else:
            text += f", budget {budget:.6g}"
            text += f" less a margin of {margin:.3g}" if margin else ""
            if cost < (budget - margin) * (1 - 1e-4):
                text += "; the budget is not the bottleneck"
        yield f"{text}."
