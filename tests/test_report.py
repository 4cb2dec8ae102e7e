"""The page, its pictures, the terminal's tables and the files of a study."""

import base64
import functools
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len
from rich.console import Console
from studies import HOSTILE, SETS, make_evaluation, make_study, with_intervals

from cascjax import plots, words
from cascjax.comparison import Study
from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.metrics import SCORES, upper_hull
from cascjax.policy import Policy
from cascjax.report import findings as report
from cascjax.report import study as study_view
from cascjax.report.charts import (
    coincidences,
    frontier_chart,
    parameters_text,
    usage_chart,
    usage_text,
)
from cascjax.report.contents import Contents, contents_of, print_contents, to_json
from cascjax.report.evaluation import print_evaluation
from cascjax.report.study import render
from cascjax.report.tables import Listing, each
from cascjax.search.rules import Rule
from cascjax.strategies import strategy


@pytest.fixture(params=["5", "11"], scope="module")
def study(request: pytest.FixtureRequest) -> Study:
    return make_study(SETS[request.param])


@pytest.fixture(scope="module")
def html(study: Study) -> str:
    return render(study, "cascjax compare <t> --out 'a & b'")


def few(study: Study, *which: int) -> Study:
    """The study with these frontiers alone: pictures of all of them take seconds."""
    return replace(study, frontiers=tuple(study.frontiers[i] for i in which))


def printed(*renderables: object, width: int = 80, show: Callable | None = None) -> str:
    """What a terminal of this width shows, of these or by a function that prints them."""
    console = Console(width=width, file=io.StringIO())
    if show is not None:
        show(*renderables, console)
    else:
        console.print(*renderables, sep="\n")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in text
    assert max(map(cell_len, text.splitlines()), default=0) <= width
    return text


def told(study: Study, width: int = 80) -> str:
    return printed(study, width=width, show=report.print_study)


def inspected(table: Table | Contents, **more: int) -> str:
    contents = contents_of(table) if isinstance(table, Table) else table
    return printed(contents, "t", show=functools.partial(print_contents, **more))


def flat(text: str) -> str:
    return " ".join(text.split())


def cells(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


class Page(HTMLParser):
    """A page read strictly: every element closed in turn, every attribute and text kept."""

    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == []
        self.rows = [[flat(cell) for cell in row] for row in self.rows]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.rows and "tr" in self.open and self.rows[-1]:
            self.rows[-1][-1] += data


class TestListing:
    frame = pd.DataFrame({"mean cost": [0.001, 2.0], "n": [1, 2]}, index=["a", "[b]<i>"])
    listing = Listing(frame.rename_axis("model"), {"mean cost": words.cost_texts}, "Two models")

    def test_one_description_three_renderings(self) -> None:
        rows = [["a", "0.00100", "1"], ["[b]<i>", "2.00000", "2"]]
        title, _, *lines = self.listing.text().splitlines()
        assert title == "Two models"
        assert [line.split() for line in lines] == rows
        assert cells(printed(*self.listing.grids()))[3:5] == rows
        assert Page(self.listing.html()).rows == [["model", "mean cost", "n"], *rows]

    @pytest.mark.parametrize("width", [40, 60, 80])
    def test_long_labels_stay_on_one_line_and_distinct(self, width: int) -> None:
        names = [f"{subject}/reading-comprehension-{end}" for subject in "ab" for end in "xyz"]
        frame = pd.DataFrame({"quality": ["0.89 [0.88, 0.90]"] * 6}, index=[*names])
        lines = printed(*Listing(frame).grids(width), width=width).splitlines()
        labels = [line.split()[0] for line in lines if "0.89" in line]
        assert len(set(labels)) == len(labels) == 6
        assert min(map(len, labels)) >= 12
        assert labels == names or width < 80

    def test_wide_tables_are_cut_and_long_ones_shortened(self) -> None:
        frame = pd.DataFrame(np.eye(9), columns=[f"number {i} of nine" for i in range(9)])
        grids = Listing(frame, dict.fromkeys(frame, each("{:.12f}".format))).grids(80)
        assert len(grids) > 1
        assert printed(*grids).count(f"{1:.12f}") == 9
        assert len(Listing(pd.DataFrame({"x": range(1000)})).text().splitlines()) < 30


class TestCharts:
    def test_curves_are_whole_frontiers(self) -> None:
        """Vertices of the whole frontier, joined straight in cost; points of the budgets."""
        study = make_study(SETS["3"], points=5)
        cost = np.geomspace(1e-4, 5e-3, 40)
        f = replace(
            study.frontiers[1],
            curve_cost=cost,
            curve_quality=np.sqrt(cost),
            curve_ran=np.zeros((40, 3)),
        )
        spec = frontier_chart(replace(study, frontiers=(f,))).spec
        rows = [row for rows in spec["datasets"].values() for row in rows if "c" in row]
        curve = [row for row in rows if row["strategy"] == "routing" and "budget" not in row]
        x, y = (np.array([row[name] for row in curve]) for name in "cq")
        assert {*x} >= {float(f"{c:.6g}") for c in cost}
        np.testing.assert_allclose(y, np.interp(x, cost, np.sqrt(cost)), rtol=1e-4)
        gain = y - np.interp(x, study.single_cost, study.single_quality)
        np.testing.assert_allclose([row["g"] for row in curve], gain, atol=1e-5)
        assert len([row for row in rows if "budget" in row]) == 5

    def test_points_say_what_the_study_says(self) -> None:
        study = with_intervals(make_study(SETS["11"]))
        f = replace(
            study.frontiers[3],
            gamma=np.array([0.0, 1.0, 0.25] + [0.5] * 9),
            parameters=np.array([[1.0, 2.0]] * 3 + [[3.0, 3.0]] * 9),
        )
        names = words.short_names(study.models)
        texts = [parameters_text(f, p, names) for p in range(4)]
        prices = ["1", "2", "1 (75%), 2 (25%)", "3"]
        assert texts == [f"price λ {price}" for price in prices]
        chain = np.array([[[0b10, 0.5], [0b11, 0.25]]] * 12)
        frugal = replace(f, strategy="frugal", parameters=chain)
        assert parameters_text(frugal, 3, names) == (
            f"models, threshold τ {names[1]} (50%), {names[0]} → {names[1]}, τ 0.25 (50%)"
        )
        # The eight models that run most, and the number of the others.
        *lines, rest = usage_text(f, 0, names).splitlines()
        used = np.sum(f.ran[0] > 0)
        assert rest == f"and {used - 8} more"
        most = {names[k] for k in np.argsort(-f.ran[0])[:8]}
        assert {line.split(" ")[0] for line in lines} == most

    def test_of_many_budgets_some_have_points(self) -> None:
        study = few(make_study(SETS["3"], points=1001), 1)
        spec = frontier_chart(study).spec
        rows = [row for rows in spec["datasets"].values() for row in rows if "budget" in row]
        assert len(rows) == 200

    def test_curves_that_coincide_are_named(self) -> None:
        study = few(make_study(SETS["3"]), 1, 2, 3)
        a, b, c = study.frontiers
        same = replace(b, cost=a.cost, quality=a.quality + 1e-5)
        near = replace(c, cost=a.cost, quality=a.quality + 0.01)
        notes = coincidences(replace(study, frontiers=(a, same, near)))
        assert notes == ["thresholding coincides with routing."]
        assert coincidences(study) == []

    def test_stacks_have_a_layer_for_each_model_that_answers(self) -> None:
        study = make_study(SETS["3"], points=3)
        f = study.frontiers[4]
        spec = usage_chart(study, f).spec
        titles = [panel["title"] for panel in spec["concat"]]
        assert titles == ["How many models run", "Which models run", "Whose answer is returned"]
        domain = spec["concat"][2]["encoding"]["color"]["scale"]["domain"]
        names = words.short_names(study.models, 20)
        assert domain == [name for k, name in enumerate(names) if np.any(f.answered[:, k] > 0)]

    def test_a_switch_where_every_cost_is_positive(self) -> None:
        """Costs that span widely come on a logarithmic axis first."""
        study = few(make_study(SETS["11"]), 1)
        assert frontier_chart(study).scale == "log"
        assert frontier_chart(few(make_study(SETS["5"]), 1)).scale == "linear"
        free = replace(study, single_cost=study.single_cost * (np.arange(11) > 0))
        assert frontier_chart(free).scale == ""

    def test_plots(self) -> None:
        """A strategy has one colour in every plot; a line is straight in cost on a log axis."""
        study = few(make_study(SETS["3"], points=2), 1)
        line = plots.plot_frontier(study).lines[0]
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        assert len(x) > 50
        np.testing.assert_allclose(y, np.interp(x, x[[0, -1]], y[[0, -1]]), atol=1e-12)
        assert line.get_color() == plots.plot_gain(study).lines[0].get_color()
        assert plots.plot_usage(study, "routing").get_ylabel() == "models run per query"
        with pytest.raises(CascjaxError, match="unknown strategy 'x'"):
            plots.plot_usage(study, "x")

    def test_libraries_are_not_imported_until_they_are_used(self) -> None:
        code = "import sys, cascjax.report.study, cascjax.report.policy, cascjax.report.evaluation;"
        code += "sys.exit(any(name in sys.modules for name in ('matplotlib', 'jinja2', 'altair')))"
        subprocess.run([sys.executable, "-c", code], check=True)


class TestPage:
    def test_well_formed_and_self_contained(self, html: str) -> None:
        page = Page(html)
        links = [v for _, name, v in page.attributes if name in ("href", "src", "xlink:href")]
        assert all(link.startswith(("#", "data:text/csv;")) for link in links)
        assert not page.tags & {"link", "img", "iframe", "object", "embed"}
        assert not any(name.startswith("on") for _, name, _ in page.attributes)
        assert "schema/vega-lite" not in html
        ids = [v for _, name, v in page.attributes if name == "id"]
        assert len(ids) == len(set(ids))

    def test_only_the_pages_own_scripts_may_run(self, html: str) -> None:
        policy = next(v for t, n, v in Page(html).attributes if n == "content" and "default" in v)
        rules = dict(rule.split(maxsplit=1) for rule in policy.split(";"))
        scripts = re.findall("<script>(.*?)</script>", html, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
        assert len(digests) == 2
        assert rules == {
            "default-src": "'none'",
            "style-src": "'unsafe-inline'",
            "script-src": " ".join(f"'sha256-{digest}'" for digest in digests),
            "base-uri": "'none'",
            "form-action": "'none'",
        }

    def test_names_are_shown_and_never_obeyed(self) -> None:
        study = replace(few(make_study(HOSTILE), 3, 4), cost_unit="<script>")
        html = render(study, "cascjax <script>")
        blocks = re.findall('<script type="application/json" id="(.*?)">(.*?)</script>', html)
        assert [name for name, _ in blocks] == ["config", "chart-0", "chart-1", "chart-2"]
        assert html.count("<script") == 2 + len(blocks)
        assert "alert(1)</script" not in html
        for _, block in blocks:
            assert not set(block) & set("<>&\x00\x1b")
        rows = [row for rows in json.loads(blocks[1][1])["datasets"].values() for row in rows]
        models = [row["model"] for row in rows if "model" in row]
        assert models == [words.plain(name) for name in HOSTILE]
        first = [row[0] for row in Page(html).rows]
        assert {words.plain(name) for name in HOSTILE} <= set(first)
        assert "{{ 7 * 7 }}" in html
        assert not set(html) & {"\x00", "\x1b"}

    def test_tiles_come_first(self, html: str, study: Study) -> None:
        choices = [f for f in study.frontiers if f.strategy not in ("oracle", "mixing")]
        best = max(choices, key=lambda f: f.auc)
        text = flat(
            " ".join(
                Page(html[html.index("<main>") : html.index("</header>") + 9] + "</main>").texts
            )
        )
        assert "Simulation: the estimates are the true values" in text
        assert f"best strategy {best.strategy} AUC {best.auc:.3f}" in text
        assert f"gain of AUC +{best.auc - study['mixing'].auc:.3f}" in text

    def test_settings_are_words(self) -> None:
        settings = {"noise": (0.6, 0.3), "split": None, "options": {"a_b": [1, 2.5]}, "own": True}
        study = replace(few(make_study(SETS["3"]), 1), settings=settings)
        text = " ".join(flat(" ".join(Page(render(study)).texts)).split())
        for part in ("noise 0.6, 0.3", "split none", "options a_b 1, 2.5", "own yes"):
            assert part in text

    def test_tables_are_the_studys(self, study: Study, html: str) -> None:
        page = Page(html)
        hull = upper_hull(study.single_cost, study.single_quality)
        costs = words.cost_texts(study.single_cost)
        for i, name in enumerate(study.models):
            on = "yes" if i in hull else "no"
            row = [flat(words.plain(name)), f"{study.single_quality[i]:.4f}", costs[i], on]
            assert row in page.rows
        text = " ".join(page.texts)
        for part in ("cascjax compare <t> --out 'a & b'", "2,345", "1,000", "noisy", "UTC"):
            assert part in text

    def test_shares_at_budgets_are_the_studys(self) -> None:
        study = make_study(SETS["3"], points=2)
        ran = np.array([[0.25, 0.745, 0.005], [0.0, 0.003, 0.997]])
        f = replace(study.frontiers[1], ran=ran, answered=ran)
        rows = Page(render(replace(study, frontiers=(f,)))).rows
        names = words.short_names(study.models)
        assert [names[0], "25%", "–"] in rows
        assert [names[1], "74%", "<1%"] in rows
        assert [names[2], "<1%", ">99%"] in rows

    @pytest.mark.parametrize(
        ("models", "points", "which"),
        [(3, 1, (2, 3)), (3, 2, (2, 3)), (1, 1, (1, 2))],
    )
    def test_few_models_budgets_and_strategies(
        self, models: int, points: int, which: tuple[int, ...]
    ) -> None:
        text = render(few(make_study(SETS["3"][:models], points=points), *which))
        assert any("–" in row for row in Page(text).rows) == (models == 1)
        assert "Budgets out of reach" not in text


class TestFiles:
    def test_a_study_leaves_its_files_or_none(self, tmp_path: Path) -> None:
        study = few(make_study(SETS["3"]), 0)
        (tmp_path / "report.html").write_text("old")
        with pytest.raises(CascjaxError, match="no folder"):
            study_view.save(study, tmp_path, texts={"none/a.txt": "a"})
        assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
        assert (tmp_path / "report.html").read_text() == "old"
        assert study_view.save(study, tmp_path) == tmp_path / "report.html"
        names = ["frontier.parquet", "report.html", "summary.json"]
        assert sorted(path.name for path in tmp_path.iterdir()) == names

    def test_what_the_files_say(self, tmp_path: Path) -> None:
        study = few(make_study(SETS["3"]), 0, 1)
        sure = with_intervals(study)
        for made, null in ((sure, False), (study, True)):
            study_view.save(made, tmp_path)
            table = pq.read_table(tmp_path / "frontier.parquet")
            ends = ["cost_low", "cost_high", "quality_low", "quality_high"]
            assert table.column_names[-5:] == ["parameters", *ends]
            assert all((table[name].null_count == len(table)) == null for name in ends)
            for name in ("cost", "quality", "gamma"):
                np.testing.assert_array_equal(table[name], report.frame(study)[name])
        numbers: dict = report.to_json(sure)
        auc = numbers["strategies"]["routing"]["auc_interval"]
        assert auc == pytest.approx(sure.frontiers[1].auc_interval)
        (pair,) = numbers["differences"]
        assert pair["auc_interval"] == pytest.approx(
            np.array(sure.difference_interval)[0, 1].tolist()
        )
        missing = replace(study, frontiers=(replace(study.frontiers[1], auc=np.nan),))
        assert report.to_json(missing)["strategies"] == {"routing": {"auc": None, "seconds": 1.5}}


class TestResult:
    def test_a_study_prints_draws_and_saves(self, tmp_path: Path) -> None:
        study = make_study(SETS["11"])
        text = repr(study)
        assert len(text) < 1000
        assert text.startswith("Study of 11 models, fitted on 1,000 and evaluated on 2,345 queries")
        for f in study.frontiers:
            assert f"{f.auc:.4f}" in text
            assert study[f.strategy] is f
        assert [row[0] for row in Page(study._repr_html_()).rows[1:]] == [
            f.strategy for f in sorted(study.frontiers, key=lambda f: -f.auc)
        ]
        frame = study.to_pandas()
        assert len(frame) == 8 * 12
        cost = frame.loc[frame["strategy"] == "routing", "cost"].to_numpy()
        np.testing.assert_array_equal(cost, study["routing"].cost)
        ax = study.plot()
        assert study.plot(ax) is ax
        few(study, 0).save(tmp_path / "new" / "folder")
        assert (tmp_path / "new" / "folder" / "summary.json").exists()
        assert "AUC 0.5123, mean quality 0." in repr(study["routing"])
        assert study == study
        assert len({study, few(study, 0)}) == 2
        with pytest.raises(CascjaxError, match="unknown strategy 'x'"):
            study["x"]

    def test_a_policy_and_its_evaluation(self, tmp_path: Path) -> None:
        rule = Rule(np.array([[0b01, 0.5], [0b11, 0.25]]), np.array([0.25, 0.75]))
        names = ("org/small", "org/large")
        policy = Policy(strategy("frugal"), names, rule, np.full(2, 0.1), np.array([[1.0, 2.0]]))
        assert [line.split() for line in repr(policy).splitlines()[2:]] == [
            ["all", "queries", "25.00%", "small"],
            ["all", "queries", "75.00%", "small", "→", "large,", "τ", "0.25"],
        ]
        assert policy.to_pandas()["share"].tolist() == [0.25, 0.75]
        with pytest.raises(CascjaxError, match="a Policy has nothing to plot"):
            policy.plot()
        evaluation = make_evaluation()
        row = "8 0.6250 [0.5000, 0.7500] 1.50"
        assert flat(repr(evaluation).splitlines()[2]) == f"all {row}"
        assert flat(" ".join(Page(evaluation._repr_html_()).rows[2])) == f"g {row}"
        assert evaluation.to_pandas()["answer"].tolist() == list(names) * 4
        legend = evaluation.plot().get_legend()
        labels = [text.get_text() for text in legend.texts]
        assert labels == ["policy (frugal)", "hull of single models", "single model"]
        evaluation.save(tmp_path)
        assert pq.read_table(tmp_path / "evaluation.parquet")["row"].to_pylist() == list(range(8))
        assert json.loads((tmp_path / "summary.json").read_text())["total"]["n"] == 8
        Page((tmp_path / "report.html").read_text())
        text = flat(printed(evaluation, show=print_evaluation))
        assert "above the budget" in text
        assert "0.6250, against 0.5000 for picking models at random at the same cost." in text


class TestSentences:
    def example(self, **changes: float) -> Study:
        """Two models and two strategies, small enough to check by hand."""
        base = make_study(SETS["3"][:2], points=3)
        cost = np.array([1.0, 2.0, 3.0])
        drawn = {1: ([0.5, 0.6, 0.7], 0.6), 3: ([0.5, 0.65, 0.85], 0.6625)}
        frontiers = [
            replace(base.frontiers[i], budget=cost, cost=cost, quality=np.array(q), auc=area)
            for i, (q, area) in drawn.items()
        ]
        return replace(
            base,
            frontiers=tuple(replace(f, auc=changes.get(f.strategy, f.auc)) for f in frontiers),
            models=("small", "org/large"),
            single_cost=np.array([1.0, 3.0]),
            single_quality=np.array([0.5, 0.75]),
            settings={"estimates": "supplied"},
        )

    def test_by_hand(self) -> None:
        assert report.findings(self.example()) == [
            # Mixing goes straight from 0.5 to 0.75, so its AUC is 0.625.
            "On 2,345 evaluation queries and 2 models, cascading has the highest AUC of 2"
            " strategies: 0.662, against 0.625 for picking models at random at the same cost.",
            "At the middle budget, $2.00 per query, its quality is 0.650, against 0.600 for"
            " routing.",
            # Half way from 0.65 at 2 to 0.85 at 3: 2.5 of 3.
            "It reaches the quality of the best single model, large (0.750), at 83% of its cost.",
        ]
        text = " ".join(report.findings(few(self.example(), 0)))
        assert "routing has an AUC of 0.600, against 0.625 for picking models at random" in text
        assert "Its quality stays 0.050 below the best single model, large (0.750)." in text

    def test_a_simulation_says_so_before_its_numbers(self) -> None:
        settings = {"estimates": "noisy", "noise": "high"}
        study = replace(few(self.example(), 1), settings=settings)
        note = "Simulation: the estimates are the true values with added noise (high)."
        assert told(study).startswith(note)
        assert note in flat(render(study))
        assert "simulated estimates" in report.summary(study).title

    def test_level_and_noise_are_said_once(self) -> None:
        study = self.example(routing=0.6625 - 1e-6)
        level = "routing has the same AUC to four digits."
        assert level in report.findings(study)
        interval = np.full((2, 2, 2), [-0.1, 0.1])
        sure = {"resamples": 9, "difference": np.zeros((2, 2)), "difference_interval": interval}
        assert not any("noise" in s for s in report.findings(replace(study, **sure)))
        text = " ".join(report.findings(replace(self.example(), **sure)))
        assert "The difference to routing is within sampling noise." in text

    def test_budgets_out_of_reach(self, study: Study) -> None:
        assert report.reach_notes(study) == []
        ends = {"reach": np.array([-1] + [0] * 9 + [1, 1]), "reachable": (0.75, 2.4)}
        study = few(study, 1, 2)
        study = replace(study, frontiers=tuple(replace(f, **ends) for f in study.frontiers))
        notes = [
            "routing and thresholding cannot spend less than $0.750 per query; 1 of 12 budgets was"
            " raised to that.",
            "routing and thresholding cannot use more than $2.40 per query; 2 of 12 budgets were"
            " lowered to that.",
        ]
        assert report.reach_notes(study) == notes
        assert all(f"note: {note}" in flat(told(study)) for note in notes)
        page = unescape(render(few(study, 1)))
        assert "Budgets out of reach" in page
        many = [
            replace(study.frontiers[0], strategy=f"s{i}", reachable=(1.0 * i, 3.0))
            for i in range(9)
        ]
        text = flat(told(replace(study, frontiers=tuple(many))))
        assert text.count("note:") == 3
        assert "note: the report lists 8 more limits of this kind." in text


class TestTerminal:
    @pytest.mark.parametrize("sure", [False, True])
    def test_aucs(self, study: Study, html: str, sure: bool) -> None:
        asked = with_intervals(study) if sure else study
        text, rows = told(asked), Page(html).rows
        # The oracle and mixing are not there to be chosen.
        choices = [f for f in study.frontiers if f.strategy not in ("oracle", "mixing")]
        best = max(choices, key=lambda f: f.auc)
        for f in study.frontiers:
            ends = [f"{f.auc - 0.01:.4f}–{f.auc + 0.01:.4f}"]
            ends += [words.gain_text(f.auc - best.auc)] if f is not best else ["–"]
            ends += ["(noise)"] if f is not best and abs(f.auc - best.auc) < 0.03 else []
            gain = words.gain_text(f.auc - study.frontiers[0].auc)
            row = [f"{f.auc:.4f}", *(ends if sure else []), gain, f"{f.seconds:.2f}"]
            assert [f.strategy, *row] in cells(text)
            # On the page with a description after the name.
            assert sure or [f.strategy, *row[:-1]] in [[*r[0].split()[:1], *r[1:]] for r in rows]
        note = "90% bootstrap intervals from 1,000 resamples of the 2,345 evaluation queries"
        assert (note in flat(text)) == sure
        assert ("The difference to pandora is within sampling noise." in flat(text)) == sure

    def test_scores(self, study: Study, html: str) -> None:
        assert 'id="scores"' not in html
        assert report.scores_listing(study) is None
        rng = np.random.default_rng(0)
        scored = [
            replace(f, scores=dict(zip(SCORES, rng.random(len(SCORES)), strict=True)))
            for f in study.frontiers[:2]
        ]
        scored[0].scores["qnc"] = np.nan
        asked = replace(study, frontiers=tuple(scored))
        text, page = told(asked), render(asked)
        table = Page(page)
        for f in scored:
            values = [f"{v:.4f}" if np.isfinite(v) else "n/a" for v in f.scores.values()]
            numbers = [x for row in cells(text) if row[:1] == [f.strategy] for x in row[1:]]
            assert numbers[3:] == values
            assert [f.strategy, *values] in table.rows
        # A wide terminal has them all in one table.
        assert ["strategy", *SCORES] in cells(told(asked, 160))
        for name, score in SCORES.items():
            better = "higher" if score.higher else "lower"
            assert f"{name} {score.meaning}; {better} is better" in flat(text)
        note = f"no qnc for {scored[0].strategy}: {SCORES['qnc'].undefined}"
        assert f"note: {note}" in flat(text)
        assert note in unescape(page)


class TestContents:
    def table(self, names: tuple[str, ...]) -> Table:
        rng, K = np.random.default_rng(0), len(names)
        return Table(
            quality=rng.random((90, K)),
            cost=rng.random((90, K)) * np.geomspace(1e-4, 1, K)[::-1],
            quality_ante=rng.random((90, K)),
            features=rng.random((90, 6)),
            split=(np.arange(90) < 30).astype(np.int8),
            group=np.arange(90) % 20,
            groups=tuple(f"mmlu-[red]{i}" for i in range(20)),
            models=names,
            cost_unit="[red]USD",
        )

    def test_inspect(self, study: Study) -> None:
        table = self.table(study.models)
        K, path = table.n_models, "/".join(["[red]folder"] * 12)
        console = Console(width=80, file=io.StringIO())
        print_contents(contents_of(table), path, console)
        assert console.file.getvalue().split("\n")[0] == path  # type: ignore[attr-defined]
        text = inspected(table)
        for part in (
            f"90 rows, {K} models, cost in [red]USD",
            "60 rows to fit, 30 to evaluate",
            f"quality_ante [90, {K}], features [90, 6]",
            "mmlu-[red]11",
            "and 8 more groups, 32 rows in all",
        ):
            assert part in text
        assert "mmlu-[red]12" not in text
        for k in range(K):
            assert f"{table.quality[:, k].mean():.4f}" in text
        numbers = json.loads(json.dumps(to_json(contents_of(table))))
        assert numbers["splits"] == {"fit": 60, "evaluate": 30}
        assert numbers["groups"] == {f"mmlu-[red]{i}": 4 + (i < 10) for i in range(20)}
        assert list(numbers["means"]["cost"]) == numbers["models"] == list(table.models)
        assert text.count(" yes") == len(upper_hull(table.cost.mean(0), table.quality.mean(0)))

    def test_models_are_listed_cheapest_first(self) -> None:
        text = inspected(self.table(("expensive", "middle", "cheap")))
        assert text.index("cheap") < text.index("middle") < text.index("expensive")
        # Their numbers, as --models takes them, are places in the table.
        for number, name in enumerate(("expensive", "middle", "cheap")):
            assert next(row for row in cells(text) if row[:1] == [name])[-1] == str(number)

    def test_extra_costs(self) -> None:
        rng, table = np.random.default_rng(1), self.table(("expensive", "middle", "cheap"))
        names = ("seconds", "[red]energy", "calls to other services", "grams of CO2", "x" * 70)
        more = {name: rng.random((90, 3)) + 1 for name in names}
        units = (("[red]energy", "kWh"), ("seconds", "[bold]s"))
        table = replace(table, extra_costs=more, extra_cost_units=units)
        text = inspected(table)
        for heading in ("mean seconds ([bold]s)", "mean [red]energy (kWh)", "mean grams of CO2 "):
            assert all(word in text for word in heading.split())
        assert text.count("x") > 70
        assert "cost.[red]energy [90, 3]" in flat(text)
        # The models in the order of the table's first cost.
        for k, model in enumerate(table.models):
            numbers = [f"{more[name][:, k].mean():.2f}" for name in sorted(names)]
            rows = [row[1:] for row in cells(text) if row[:1] == [model]][1:]
            assert [text for row in rows for text in row] == numbers

    def test_chunks_add_up(self) -> None:
        rng, table = np.random.default_rng(2), self.table(("expensive", "middle", "cheap"))
        features, signals = rng.random((2, 90, 6))
        features[rng.random(features.shape) < 0.3] = np.nan
        signals[rng.random(signals.shape) < 0.3] = np.nan
        table = replace(
            table,
            features=features,
            signals=signals,
            answer=rng.integers(-1, 3, (90, 3)),
            extra_costs={"seconds": rng.random((90, 3))},
        )
        whole = inspected(table)
        for part in ("features", "signals", "agree on", "mean", "missing values: number 1"):
            assert part in whole
        # Some groups are in some chunks alone, and counted in another order.
        chunks = [table.take(np.arange(*ends)) for ends in ((0, 5), (5, 17), (17, 90))]
        first, *others = map(contents_of, chunks)
        assert inspected(sum(others, first)) == whole
        assert "90 rows in 3 files, 3 models" in inspected(table, files=3)

    def test_a_bare_table(self) -> None:
        table = replace(self.table(("a", "b")), split=None, group=None, groups=(), features=None)
        table = replace(table, quality_ante=None, cost_unit="")
        text = inspected(table)
        for part in ("an unnamed unit", "drawn by seed", "none but quality and cost"):
            assert part in text
