"""A page: one HTML file that opens anywhere, offline, with charts that Vega-Lite draws."""

import base64
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata, resources
from typing import TYPE_CHECKING, Any

from cascjax import __version__
from cascjax.caches import private_folder
from cascjax.comparison import Study
from cascjax.data.files import atomic_write
from cascjax.diagnosis import Diagnosis
from cascjax.errors import CascjaxError
from cascjax.plots import INK, OTHERS
from cascjax.report.charts import Chart
from cascjax.report.tables import template
from cascjax.strategies import STRATEGIES
from cascjax.words import plain

# pandas takes long to import, and is wanted only where a table is made.
if TYPE_CHECKING:
    from pandas import DataFrame

Part = tuple[str, Any]
"""Kind and content of a part of a section: see the macro in page.html."""

Section = tuple[str, Sequence[Part]]
"""Heading and parts; a section without parts is left out."""

Tile = tuple[str, str, str]
"""What a key number is, the number, and a note on it."""

GLOSSARY = {
    "AUC": "area under the frontier between the mean costs of the cheapest and the most expensive"
    " single model, divided by that width: the mean quality over all costs.",
    "budget": "mean cost per query that a strategy may spend.",
    "estimates": "beliefs about the quality and cost of a model's answer: ex-ante before the model"
    " runs, post-hoc once its answer has been seen.",
    "frontier": "the curve of mean cost and mean quality that a strategy reaches as its budget"
    " grows.",
    "hull": "the best that mixing single models at random reaches, without looking at a query.",
    "λ (lambda)": "the price of cost in units of quality: the higher, the cheaper the models that a"
    " strategy runs.",
    "mixture": "two settings, each used on a share of the queries, so that the budget is met.",
    "oracle": "routing with the true quality and cost of every answer known: a bound that no"
    " strategy reaches.",
}


def render(
    title: str,
    *,
    tiles: Sequence[Tile],
    lead: str,
    sections: Sequence[Section],
    warning: str = "",
    file: str = "chart",
    command: str = "",
    record: Mapping[str, str],
) -> str:
    """Return a page: key numbers, a sentence, sections, a glossary, and how it was made.

    `file` names what a reader downloads.
    """
    from markupsafe import Markup

    made: list[Part] = [("code", plain(command))] if command else []
    sections = [
        *sections,
        ("Glossary", [("terms", GLOSSARY)]),
        ("How this was made", [*made, ("terms", record)]),
    ]
    script = resources.files("cascjax.report").joinpath("page.js").read_text("utf-8")
    charts = [chart for _, parts in sections for chart in _charts(parts)]
    scripts = [vega(), script] if charts else []
    digests = [hashlib.sha256(text.encode()).digest() for text in scripts]
    hashes = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    return template("page.html").render(
        title=plain(title),
        warning=warning,
        tiles=tiles,
        lead=lead,
        sections=sections,
        charts=charts,
        file=file,
        json=lambda data: Markup(script_json(data)),
        config=Markup(script_json(_config())),
        scripts=[Markup(text) for text in scripts],
        # Only these scripts may run.
        hashes=Markup(" ".join(hashes) or "'none'"),
        palette=_palette(),
    )


def _charts(parts: Sequence[Part]) -> Iterator[Chart]:
    for kind, value in parts:
        if kind == "chart":
            yield value
        elif kind == "more":
            for *_, inner in value:
                yield from _charts(inner)


@functools.cache
def vega() -> str:
    """Return the JavaScript of Vega, Vega-Lite and Vega-Embed; to bundle it takes seconds."""
    import vl_convert

    folder = private_folder("vega")
    kept = folder and folder / f"{metadata.version('vl-convert-python')}.js"
    if kept and kept.exists():
        return kept.read_text("utf-8")
    # The stub has no None, which is the default.
    text = vl_convert.javascript_bundle(None)  # pyright: ignore[reportArgumentType]
    if kept:
        with suppress(CascjaxError), atomic_write(kept) as part:  # a full disk costs no report
            part.write_text(text, "utf-8")
    return text


def script_json(data: object) -> str:
    """Return JSON for a script element: nothing in it opens or closes a tag."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def csv(numbers: "DataFrame") -> str:
    """Return a data frame as the base64 text of a CSV file, with six significant digits."""
    return base64.b64encode(numbers.to_csv(float_format="%.6g").encode()).decode()


def record(result: Study | Diagnosis) -> dict[str, str]:
    """Return how a result was made."""
    return {
        "fit queries": f"{result.n_fit:,}",
        "evaluation queries": f"{result.n_evaluate:,}",
        **setting_texts(result.settings),
    }


def setting_texts(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings as texts, followed by versions and the date."""

    def text(value: Any) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{plain(name)} {text(item)}" for name, item in value.items())
        if isinstance(value, list | tuple):
            return ", ".join(map(text, value)) or "none"
        if isinstance(value, bool) or value is None:
            return {True: "yes", False: "no", None: "none"}[value]
        return f"{value:.6g}" if isinstance(value, float) else plain(value)

    return {
        **{plain(name).replace("_", " "): text(value) for name, value in settings.items()},
        "cascjax version": __version__,
        "jax version": metadata.version("jax"),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _palette() -> dict[str, tuple[str, str]]:
    """Return the dark colour and the CSS variable of every light colour that changes."""
    styles = [kind.style for kind in STRATEGIES.values() if kind.style is not None]
    pairs = {style.light: style.dark for style in (*styles, *OTHERS)}
    return {f"c{light[1:]}": (light, dark) for light, dark in pairs.items()} | INK


def _config() -> dict[str, Any]:
    """Return how charts look: in light colours, which style.css changes in a dark theme."""
    ink, soft, grid, paper = (INK[name][0] for name in ("ink", "soft", "grid", "paper"))
    text = {"labelColor": soft, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12}
    axis = {"gridColor": grid, "domainColor": soft, "tickColor": soft, "titleFontWeight": "normal"}
    return {
        "background": paper,
        "numberFormat": ".4~g",
        "font": "system-ui, 'Liberation Sans', sans-serif",
        "view": {"stroke": None},
        "axis": {**text, **axis},
        "legend": {**text, "labelLimit": 150},
        "title": {"color": ink, "fontSize": 13, "anchor": "start"},
        "header": text,
        "rule": {"color": soft},
    }
