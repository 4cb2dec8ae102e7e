"""The page, its pictures and the terminal's tables: whole, safe, and true to the study."""

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cascjax import words
from cascjax.comparison import Frontier, Study
from cascjax.data.table import Table
from cascjax.errors import CascjaxError
from cascjax.metrics import SCORES, upper_hull
from cascjax.report import facts, pictures
from cascjax.report.console import (
    areas_table,
    print_study,
    scores_tables,
)
from cascjax.report.contents import contents_of, described, print_contents
from cascjax.report.html import render, write_report
from cascjax.report.points import points_data
from cascjax.report.write import to_arrow, write_study

STRATEGIES = (
    "mixing",
    "routing",
    "thresholding",
    "cascading",
    "cascade-routing",
    "pandora",
    "oracle",
    "some-new-one",
)
ONE_MODEL = ("mixing", "routing", "oracle")
HOSTILE = (
    "<script>alert(1)</script>",
    "a$x^2$ & \"quoted\" 'names'",
    "模型 😀 [bold]x[/bold] {{ 7 * 7 }}",
    "esc\x1b[31m nul\x00 line\nfeed ]]> <!--",
    "-->" + "very-long/" * 20 + "end",
)
ROUTERBENCH = {  # mean quality and cost of the 11 models of Hu et al. (2024), on a sample
    "mistralai/mistral-7b-chat": (0.584, 0.0000819),
    "WizardLM/WizardLM-13B-V1.2": (0.568, 0.000124),
    "mistralai/mixtral-8x7b-chat": (0.742, 0.000249),
    "meta/code-llama-instruct-34b-chat": (0.611, 0.000313),
    "zero-one-ai/Yi-34B-Chat": (0.774, 0.000331),
    "claude-instant-v1": (0.674, 0.000367),
    "meta/llama-2-70b-chat": (0.619, 0.000379),
    "gpt-3.5-turbo-1106": (0.732, 0.000422),
    "claude-v1": (0.728, 0.0036),
    "claude-v2": (0.551, 0.00381),
    "gpt-4-1106-preview": (0.880, 0.00504),
}


def make_study(names: tuple[str, ...], points: int = 12, seed: int = 0) -> Study:
    """A study of random but well-formed frontiers; RouterBench's models keep their own means."""
    rng, K = np.random.default_rng(seed), len(names)
    if set(names) <= set(ROUTERBENCH):
        quality, cost = np.array([ROUTERBENCH[name] for name in names]).T
    else:
        quality, cost = np.sort(rng.random(K)), np.linspace(0.5, 2.5, K)
    budget = np.linspace(cost[0], cost[-1], points)

    def shares(rows: int) -> np.ndarray:
        return rng.dirichlet(np.full(K, 0.4), rows)

    frontiers = []
    for i, name in enumerate(STRATEGIES):
        depth, ran = shares(points), shares(points)
        if name in ONE_MODEL:
            depth = np.eye(K)[np.zeros(points, int)]
        frontiers.append(
            Frontier(
                strategy=name,
                budget=budget,
                cost=budget * (1 + 0.01 * rng.random(points)),
                quality=np.sort(rng.random(points)),
                fit_cost=budget,
                fit_quality=np.sort(rng.random(points)),
                gamma=rng.random(points),
                parameters=rng.random((points, 2)),
                reach=np.zeros(points, int),
                ran=ran,
                answered=ran if name in ONE_MODEL else shares(points),
                depth=depth,
                reachable=(float(cost[0]), float(cost[-1])),
                auc=0.5 + 0.0123 * i,
                seconds=0.5 + i,
            )
        )
    return Study(
        frontiers=tuple(frontiers),
        models=names,
        cost_unit="USD",
        single_cost=cost,
        single_quality=quality,
        n_fit=1000,
        n_evaluate=2345,
        settings={"estimates": "noisy", "seed": 7},
    )


@pytest.fixture
def unpictured(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of a page's words: its pictures, which take most of the time, are left out."""

    def blank(study: Study) -> list[pictures.Picture]:
        places = (np.zeros((1000, 3)),) * (len(study.frontiers) + 2)
        return [pictures.Picture("<svg/>", False, False, 0.0, (0.0, 1.0), places)]

    monkeypatch.setattr("cascjax.report.html.frontier_pictures", blank)
    monkeypatch.setattr("cascjax.report.html.runs_svgs", lambda *_: {})


def with_intervals(study: Study) -> Study:
    """The same with intervals of 0.01 to either side; differences of 0.03 and less are noise."""
    side = np.array([-0.01, 0.01])
    auc = np.array([f.auc for f in study.frontiers])
    difference = auc[:, None] - auc
    return replace(
        study,
        frontiers=tuple(
            replace(
                f,
                cost_interval=f.cost[:, None] * (1 + side),
                quality_interval=f.quality[:, None] + side,
                auc_interval=(f.auc - 0.01, f.auc + 0.01),
            )
            for f in study.frontiers
        ),
        resamples=1000,
        confidence=0.9,
        difference=difference,
        difference_interval=difference[..., None] + 3 * side,
    )


SETS = {
    "3": tuple(ROUTERBENCH)[::5],
    "5": HOSTILE,
    "11": tuple(ROUTERBENCH),
}


@pytest.fixture(params=SETS, scope="module")
def study(request: pytest.FixtureRequest) -> Study:
    return make_study(SETS[request.param])


class Page(HTMLParser):
    """Reads a page strictly: every element closed in turn, every attribute and text kept."""

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
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.rows and "tr" in self.open:
            self.rows[-1][-1:] = [self.rows[-1][-1] + data] if self.rows[-1] else []


@pytest.fixture(scope="module")
def html(study: Study) -> str:
    return render(study, "cascjax frontier <t> --out 'a & b'")


class TestPictures:
    def test_well_formed_titled_and_self_contained(self, html: str) -> None:
        ids: list[str] = []
        svgs = re.findall("<svg.*?</svg>", html, re.DOTALL)
        assert len(svgs) == 4 + 3 * 5 + 3
        for svg in svgs:
            root = ET.fromstring(svg)
            assert root.find("{*}title") is not None
            own = [e.get("id") for e in root.iter() if e.get("id")]
            ids += [i for i in own if i]
            targets = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)|labelledby="([^"]+)"', svg)
            assert {"".join(t) for t in targets} <= set(own)
            assert set(re.findall(r"https?://[^\"]*", svg)) == {"http://www.w3.org/2000/svg"}
            assert not root.findall(".//{*}script")
        assert len(set(ids)) == len(ids)

    def test_every_model_is_labelled_with_its_text(self, study: Study) -> None:
        for narrow in (False, True):
            root = ET.fromstring(pictures.frontier_picture(study, narrow).svg)
            texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
            assert {*words.short_names(study.models), *STRATEGIES} <= set(texts)

    def test_of_very_many_models_some_are_labelled(self) -> None:
        study = make_study(tuple(f"model-{i}" for i in range(60)), points=3)
        figure = pictures._frontier(replace(study, frontiers=study.frontiers[:1])).figure
        texts = {text.get_text() for text in figure.axes[0].texts}
        assert len(texts) == 40
        hull = upper_hull(study.single_cost, study.single_quality)
        assert {f"model-{i}" for i in hull} <= texts

    def test_same_picture_twice(self) -> None:
        study = make_study(SETS["5"])
        assert pictures.frontier_picture(study).svg == pictures.frontier_picture(study).svg

    @pytest.mark.parametrize("narrow", [False, True])
    def test_labels_of_eleven_models_keep_apart(self, narrow: bool) -> None:
        figure = pictures._frontier(make_study(SETS["11"]), narrow=narrow).figure
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
        assert len(boxes) == 11
        for i, a in enumerate(boxes):
            assert not any(a.overlaps(b) for b in boxes[:i])

    def test_cost_axis_is_logarithmic_where_costs_span_widely(self) -> None:
        for key, scale in (("11", "log"), ("5", "linear")):
            figure = pictures._frontier(make_study(SETS[key])).figure
            assert figure.axes[0].get_xscale() == scale

    def test_both_cost_axes_where_every_cost_is_positive(self) -> None:
        for key, first in (("11", True), ("5", False)):
            drawn = pictures.frontier_pictures(make_study(SETS[key]))
            assert [p.log for p in drawn] == [first, first, not first, not first]
            assert [p.narrow for p in drawn] == [False, True, False, True]
        free = make_study(SETS["3"])
        free = replace(free, single_cost=free.single_cost * [0, 1, 1])
        assert [p.log for p in pictures.frontier_pictures(free)] == [False, False]

    @pytest.mark.parametrize("log", [False, True])
    def test_points_are_where_the_markers_are(self, log: bool) -> None:
        study = make_study(SETS["3"], points=9)  # few enough that each has its marker
        picture = pictures.frontier_picture(study, log=log)
        root = ET.fromstring(picture.svg)
        K, S = len(study.models), len(study.frontiers)
        for series in [*range(6), S + 1]:
            groups = root.findall(f".//{{*}}g[@data-series='{series}']")
            uses = [[(float(u.get("x", 0)), float(u.get("y", 0))) for u in g.iter(
                "{http://www.w3.org/2000/svg}use")] for g in groups]  # fmt: skip
            expected = picture.points[series]
            if series == S + 1:
                places = [use for one in uses for use in one]
                assert len(places) == K
                assert np.isnan(expected[:, 2]).all()
            else:
                places, expected = uses[0], expected[np.lexsort(expected[:, 1::-1].T)]
                expected = expected[np.argsort(expected[:, 0], kind="stable")]
            # Both are rounded, to 0.01 and not at all.
            np.testing.assert_allclose(places, expected[:, :2], atol=0.006)
            if series in range(1, 6):
                seen = expected[np.isfinite(expected[:, 2])]
                for x, _, y in seen:
                    assert min(np.hypot(x - a, y - b) for a, b in uses[1]) < 0.01

    def test_points_are_joined_linearly_in_cost_on_a_log_axis(self) -> None:
        x, y, knots = pictures._joined(np.array([1.0, 100.0]), np.array([0.0, 1.0]), log=True)
        np.testing.assert_allclose(y, (x - 1) / 99, atol=1e-12)
        assert knots == [0, len(x) - 1]

    def test_stack_adds_up_to_the_shares(self) -> None:
        study = make_study(SETS["3"], points=3)
        f = study.frontiers[4]
        root = ET.fromstring(pictures.runs_svgs(study, f, "p")["Whose answer is returned"])
        titles = [t.text for t in root.iter("{http://www.w3.org/2000/svg}title")][1:]
        assert titles == [m for k, m in enumerate(study.models) if np.any(f.answered[:, k] > 0)]

    def test_png(self, tmp_path: Path) -> None:
        pictures.save_png(make_study(SETS["5"]), tmp_path / "a.png", dpi=50)
        data = (tmp_path / "a.png").read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(data[16:20]) == 550
        assert [p.name for p in tmp_path.iterdir()] == ["a.png"]

    def test_global_settings_are_left_alone(self) -> None:
        import matplotlib

        before = matplotlib.rcParams.copy()
        with pictures.picture_style():
            assert matplotlib.rcParams.copy() != before
        assert matplotlib.rcParams.copy() == before

    def test_matplotlib_is_not_imported_until_it_draws(self) -> None:
        code = "import sys, cascjax.report.html, cascjax.report.console as c;"
        code += "sys.exit('matplotlib' in sys.modules or 'jinja2' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)


class TestPage:
    def test_well_formed_and_self_contained(self, html: str) -> None:
        page = Page(html)
        assert page.open == []
        links = [v for _, name, v in page.attributes if name in ("href", "src", "xlink:href")]
        assert all(link.startswith("#") for link in links)
        assert not page.tags & {"link", "img", "iframe", "object", "embed"}
        scripts = [(name, value) for tag, name, value in page.attributes if tag == "script"]
        assert scripts == [("type", "application/json"), ("id", "points")]
        assert html.count("<script") == 2
        assert not any(name.startswith("on") for _, name, _ in page.attributes)
        assert set(re.findall(r"\w+://[^\s\"<]*", html)) == {"http://www.w3.org/2000/svg"}
        assert not re.search(r"@import|url\((?!#)", html)
        ids = [v for _, name, v in page.attributes if name == "id"]
        assert len(ids) == len(set(ids))

    def test_only_the_pages_own_script_may_run(self, html: str) -> None:
        policy = next(v for t, n, v in Page(html).attributes if n == "content" and "default" in v)
        rules = dict(rule.split(maxsplit=1) for rule in policy.split(";"))
        script = html[html.rindex("<script>") + len("<script>") : html.rindex("</script>")]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert rules == {
            "default-src": "'none'",
            "style-src": "'unsafe-inline'",
            "script-src": f"'sha256-{digest}'",
            "require-trusted-types-for": "'script'",
            "base-uri": "'none'",
            "form-action": "'none'",
        }
        for unsafe in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
            assert unsafe not in script

    def test_every_colour_variable_has_a_value_in_both_themes(self, html: str) -> None:
        used = set(re.findall(r"var\((--[\w-]+)", html))
        light, dark = html.split("@media screen and (prefers-color-scheme: dark)")
        for theme in (light, dark[: dark.index("}\n}")]):
            assert used <= set(re.findall(r"(--[\w-]+):", theme))

    def test_names_are_shown_and_never_obeyed(self) -> None:
        study = make_study(HOSTILE)
        few = replace(study, frontiers=study.frontiers[3:5], cost_unit="<script>")
        html = render(few, "cascjax <script>")
        assert html.count("<script") == 2
        assert "alert(1)</script" not in html
        start = html.index('id="points">') + len('id="points">')
        block = html[start : html.index("</script>", start)]
        assert not set(block) & set("<>&\x00\x1b")
        data = json.loads(block)
        assert data["series"][-1]["titles"] == [words.plain(name) for name in HOSTILE]
        assert data["series"][0]["rows"][0] == "budget (<script>)"
        page = Page(html)
        first = [row[0].strip() for row in page.rows]
        for name in HOSTILE:
            assert words.plain(name) in first
        assert "{{ 7 * 7 }}" in html
        assert not set(html) & {"\x00", "\x1b"}

    def test_points_tell_of_the_study(self) -> None:
        study = with_intervals(make_study(SETS["11"]))
        f = replace(
            study.frontiers[3],
            gamma=np.array([0.0, 1.0, 0.25] + [0.5] * 9),
            parameters=np.array([[1.0, 2.0]] * 3 + [[3.0, 3.0]] * 9),
        )
        mixing = replace(study.frontiers[0], parameters=np.array([[1.0, 4.0]] * 12))
        study = replace(study, frontiers=(f, mixing))
        told = points_data(study, pictures.frontier_pictures(study))
        assert [s["name"] for s in told["series"]] == [
            "cascading", "mixing", "hull of single models", "single model",
        ]  # fmt: skip
        order = np.argsort(f.cost)
        points = told["series"][0]["points"]
        rows = told["series"][0]["rows"]
        for p, (numbers, models, rest) in zip(order, points, strict=True):
            said = dict(zip(rows, numbers, strict=True))
            assert said["quality"] == f"{f.quality[p]:.4f}"
            assert said["its 90% interval"] == (
                f"{f.quality[p] - 0.01:.4f} to {f.quality[p] + 0.01:.4f}"
            )
            assert float(said["budget (USD)"]) == pytest.approx(f.budget[p], abs=5e-8)
            assert float(said["models a query"]) == pytest.approx(
                sum((d + 1) * share for d, share in enumerate(f.depth[p])), abs=0.005
            )
            assert len(models) + rest == np.sum(f.ran[p] > 0)
            least = min(f.ran[p, k] for k, *_ in models)
            assert sum(share > least for share in f.ran[p]) == len(models) - 1 == 7
            for k, percent, ran, answered in models:
                assert percent == pytest.approx(100 * f.ran[p, k], abs=0.05)
                assert ran == words.share_text(float(f.ran[p, k]))
                assert answered == words.share_text(float(f.answered[p, k]))
        said = [dict(zip(rows, points[i][0], strict=True))["price λ"] for i in range(4)]
        by_budget = dict(zip(order[:4].tolist(), said, strict=True))
        assert by_budget == {0: "1", 1: "2", 2: "1 (75%), 2 (25%)", 3: "3"}
        names = words.short_names(study.models)
        said = dict(zip(told["series"][1]["rows"], told["series"][1]["points"][0][0], strict=True))
        assert said["models mixed"].startswith(f"{names[1]} (")
        assert f", {names[4]} (" in said["models mixed"]

    def test_of_many_budgets_some_points_are_told_of(self) -> None:
        study = make_study(SETS["3"], points=1001)
        f = study.frontiers[1]
        one = replace(study, frontiers=(f,))
        told = points_data(one, pictures.frontier_pictures(one))
        assert len(told["series"][0]["points"]) == 200
        assert len(told["pictures"][0]["points"][0]) == 200
        ends = [told["series"][0]["points"][i][0][1] for i in (0, -1)]
        costs = words.cost_texts(f.cost)
        assert ends == [costs[int(f.cost.argmin())], costs[int(f.cost.argmax())]]

    def test_areas_are_the_studys(self, study: Study, html: str) -> None:
        rows = {row[0].split()[0]: row[1:] for row in Page(html).rows if len(row) == 4}
        mixing = study.frontiers[0].auc
        for f in study.frontiers:
            expected = [f"{f.auc:.4f}", f"{f.auc - mixing:+.4f}", f"{f.seconds:.2f}"]
            expected[1] = expected[1].replace("+0.0000", "0.0000")
            assert [cell.strip() for cell in rows[f.strategy]] == expected

    def test_single_models_are_the_studys(self, study: Study, html: str) -> None:
        rows = {tuple(cell.strip() for cell in row) for row in Page(html).rows}
        hull = upper_hull(study.single_cost, study.single_quality)
        costs = words.cost_texts(study.single_cost)
        for i, name in enumerate(study.models):
            on = "yes" if i in hull else "no"
            row = (words.plain(name), f"{study.single_quality[i]:.4f}", costs[i], on)
            assert row in rows

    def test_shares_at_budgets_are_the_studys(self) -> None:
        study = make_study(SETS["3"], points=2)
        f = study.frontiers[1]
        ran = np.array([[0.25, 0.745, 0.005], [0.0, 0.003, 0.997]])
        f = replace(f, ran=ran, answered=ran)
        rows = Page(render(replace(study, frontiers=(f,)), "")).rows
        names = words.short_names(study.models)
        assert [names[0], "25%", "–"] in rows
        assert [names[1], "74%", "<1%"] in rows
        assert [names[2], "<1%", ">99%"] in rows or [names[2], "0%", ">99%"] in rows

    def test_record_of_how_it_was_made(self, html: str) -> None:
        text = " ".join(Page(html).texts)
        for part in ("cascjax frontier <t> --out 'a & b'", "2,345", "1,000", "noisy", "UTC"):
            assert part in text

    @pytest.mark.usefixtures("unpictured")
    def test_budgets_out_of_reach(self) -> None:
        study = make_study(SETS["5"])
        assert facts.out_of_reach(study) == []
        f = replace(
            study.frontiers[2], reach=np.array([-1, -1] + [0] * 9 + [1]), reachable=(0.75, 2.4)
        )
        study = replace(study, frontiers=(f,))
        assert facts.out_of_reach(study) == [
            "thresholding: 2 of 12 budgets (0.500, 0.682) lie below its cheapest reachable cost,"
            " 0.750 USD.",
            "thresholding: 1 of 12 budgets (2.50) lies above its most expensive reachable cost,"
            " 2.40 USD.",
        ]
        assert all(note in render(study, "") for note in facts.out_of_reach(study))
        assert "Budgets out of reach" not in render(replace(study, frontiers=()), "")

    @pytest.mark.parametrize("points", [1, 2])
    def test_few_budgets(self, points: int) -> None:
        study = make_study(SETS["3"], points=points)
        Page(render(replace(study, frontiers=study.frontiers[2:4]), ""))

    def test_one_model_and_no_strategy(self) -> None:
        alone = make_study(SETS["3"][:1], points=1)
        assert "–" in render(replace(alone, frontiers=alone.frontiers[1:3]), "")
        Page(render(replace(alone, frontiers=()), ""))


class TestWriting:
    def test_whole_file_or_the_old_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = tmp_path / "report.html"
        target.write_text("old")
        small = replace(make_study(SETS["3"]), frontiers=())

        def full(self: Path, text: str, **_: object) -> int:
            with open(self, "w") as file:
                file.write(text[:100])
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_text", full)
            with pytest.raises(CascjaxError, match="No space left"):
                write_report(small, target, "")
        assert target.read_text() == "old"
        assert list(tmp_path.iterdir()) == [target]
        write_report(small, target, "")
        assert target.read_text(encoding="utf-8").endswith("</html>")

    def test_study_leaves_three_files_or_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        study = replace(make_study(SETS["3"]), frontiers=make_study(SETS["3"]).frontiers[:1])

        def interrupted(*_: object) -> str:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("cascjax.report.write.render", interrupted)
            with pytest.raises(KeyboardInterrupt):
                write_study(study, tmp_path, "")
        assert list(tmp_path.iterdir()) == []
        assert write_study(study, tmp_path, "") == tmp_path / "report.html"
        names = ["frontier.parquet", "report.html", "summary.json"]
        assert sorted(path.name for path in tmp_path.iterdir()) == names

    def test_summary_is_json_also_without_an_area(self, tmp_path: Path) -> None:
        study = make_study(SETS["3"])
        study = replace(study, frontiers=(replace(study.frontiers[1], auc=float("nan")),))
        write_study(study, tmp_path, "")
        found = json.loads((tmp_path / "summary.json").read_text())
        assert found["strategies"] == {"routing": {"auc": None, "seconds": 1.5}}

    def test_intervals_are_written_or_null(self, tmp_path: Path) -> None:
        plain = make_study(SETS["3"])
        for made, null in ((with_intervals(plain), False), (plain, True)):
            table = to_arrow(made)
            ends = ["cost_low", "cost_high", "quality_low", "quality_high"]
            assert table.column_names[-4:] == ends
            assert all((table[name].null_count == len(table)) == null for name in ends)
        made = with_intervals(plain)
        write_study(made, tmp_path, "")
        found = json.loads((tmp_path / "summary.json").read_text())
        ends = found["strategies"]["routing"]["auc_interval"]
        assert ends == pytest.approx(made.frontiers[1].auc_interval)
        ends = found["differences"][0]["auc_interval"]
        assert ends == pytest.approx(np.asarray(made.difference_interval)[0, 1].tolist())

    def test_missing_folder_is_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(CascjaxError, match="no folder"):
            write_report(
                replace(make_study(SETS["3"]), frontiers=()), tmp_path / "none" / "report.html", ""
            )
        with pytest.raises(CascjaxError, match="no folder"):
            pictures.save_png(make_study(SETS["3"]), tmp_path / "none" / "a.png")


class TestWords:
    def example(self) -> Study:
        """Two models and two strategies, small enough to check by hand."""
        base = make_study(SETS["3"][:2], points=3)
        routing, cascading = base.frontiers[1], base.frontiers[3]
        cost = np.array([1.0, 2.0, 3.0])
        routing = replace(
            routing, budget=cost, cost=cost, quality=np.array([0.5, 0.6, 0.7]), auc=0.6
        )
        cascading = replace(
            cascading, budget=cost, cost=cost, quality=np.array([0.5, 0.65, 0.85]), auc=0.6625
        )
        return replace(
            base,
            frontiers=(routing, cascading),
            models=("small", "org/large"),
            single_cost=np.array([1.0, 3.0]),
            single_quality=np.array([0.5, 0.75]),
            settings={"estimates": "supplied"},
        )

    def test_summary_by_hand(self) -> None:
        assert facts.summary(self.example()) == [
            # Mixing goes straight from 0.5 to 0.75, so its AUC is 0.625.
            "On 2,345 held-out queries and 2 models, cascading does best of 2 strategies: its"
            " frontier has an AUC of 0.6625, 0.0375 above mixing single models at random.",
            "At the middle budget, 2.00 USD per query, it reaches quality 0.6500, 0.0500 above"
            " routing.",
            # Half way from 0.65 at 2 to 0.85 at 3: 2.5 of 3.
            "It matches the best single model, large (quality 0.7500), at 83% of that model's"
            " cost.",
        ]

    def test_summary_where_nothing_helps(self) -> None:
        study = self.example()
        text = " ".join(facts.summary(replace(study, frontiers=study.frontiers[:1])))
        assert "the routing frontier has an AUC of 0.6000, 0.0250 below mixing" in text
        assert "It stays 0.0500 short of the best single model, large (quality 0.7500)." in text

    def test_simulated_estimates_are_called_simulated(self) -> None:
        study = replace(self.example(), settings={"estimates": "noisy", "noise": "high"})
        assert "under simulated noise (high)" in facts.summary(study)[-1]

    def test_level_strategies_are_called_level(self) -> None:
        study = self.example()
        twin = replace(study.frontiers[0], auc=study.frontiers[1].auc - 1e-6)
        text = facts.summary(replace(study, frontiers=(twin, study.frontiers[1])))[0]
        assert "level with routing to the digits shown" in text
        sure = replace(
            study,
            frontiers=(twin, study.frontiers[1]),
            resamples=100,
            difference=np.zeros((2, 2)),
            difference_interval=np.full((2, 2, 2), [-0.1, 0.1]),
        )
        assert "within noise" not in facts.summary(sure)[0]  # it is said once
        flat = replace(study.frontiers[0], auc=0.625 - 1e-6)
        text = facts.summary(replace(study, frontiers=(flat,)))[0]
        assert text.endswith("an AUC of 0.6250, level with mixing single models at random.")

    @pytest.mark.parametrize(
        ("names", "labels"),
        [
            (["a/b", "c/d"], ["b", "d"]),
            (["a/b", "c/b", "d"], ["a/b", "c/b", "d"]),
            (["org/", "", "x\ny"], ["org", "(unnamed)", "x\N{REPLACEMENT CHARACTER}y"]),
            (["m" * 30], ["m" * 11 + "…" + "m" * 12]),
        ],
    )
    def test_short_names(self, names: list[str], labels: list[str]) -> None:
        assert words.short_names(names) == labels

    def test_short_names_stay_distinct(self) -> None:
        labels = words.short_names([f"{'x' * 20}{i}{'y' * 20}" for i in range(11)])
        assert len(set(labels)) == 11
        assert max(map(len, labels)) <= 24

    @pytest.mark.parametrize(
        ("costs", "texts"),
        [
            ([0.0000819, 0.005036], ["0.0000819", "0.0050360"]),
            ([0.0, 1.5], ["0.00", "1.50"]),
            ([1234.5, 99999.0], ["1,234", "99,999"]),
            ([1e-12, 1.0], ["1e-12", "1"]),
            ([], []),
        ],
    )
    def test_costs_line_up(self, costs: list[float], texts: list[str]) -> None:
        assert words.cost_texts(costs) == texts

    def test_numbers_read_well(self) -> None:
        assert words.gain_text(-1e-9) == words.gain_text(1e-9) == "0.0000"
        assert words.gain_text(float("nan")) == "–"
        assert words.quality_text(87.654) == "87.65"
        assert words.quality_text(1e30) == "1e+30"
        assert [words.share_text(s) for s in (0.0, 1e-4, 0.5, 0.999, 1.0)] == [
            "–", "<1%", "50%", ">99%", "100%",
        ]  # fmt: skip


def printed(*renderables: object, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO())
    for item in renderables:
        console.print(item)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("unpictured")
class TestConsole:
    def said(self, study: Study) -> str:
        console = Console(width=80, file=io.StringIO())
        print_study(study, console)
        return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]

    def legible(self, text: str) -> None:
        from rich.cells import cell_len

        assert "\x1b" not in text
        assert max(cell_len(line) for line in text.splitlines()) <= 80

    def test_study(self, study: Study) -> None:
        study = replace(study, frontiers=(replace(study.frontiers[2], reach=-np.ones(12, int)),))
        console = Console(width=80, file=io.StringIO())
        print_study(study, console)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        self.legible(text)
        note = "note: budgets below the cheapest cost a strategy reaches: thresholding 12 of 12."
        assert note in " ".join(text.split())

    def test_notes_are_two_at_most_however_many_strategies(self, study: Study) -> None:
        assert facts.reach_notes(study) == []
        reach = np.array([-1] + [0] * 9 + [1, 1])
        frontiers = tuple(replace(f, reach=reach) for f in study.frontiers[1:3])
        assert facts.reach_notes(replace(study, frontiers=frontiers)) == [
            "budgets below the cheapest cost a strategy reaches: routing 1 of 12, thresholding 1"
            " of 12.",
            "budgets above the most expensive cost a strategy reaches: routing 2 of 12,"
            " thresholding 2"
            " of 12.",
        ]

    def test_a_long_path_stays_whole(self, study: Study) -> None:
        path = "/".join(["[red]folder"] * 12)
        console = Console(width=80, file=io.StringIO())
        print_contents(contents_of(self.table(study.models)), path, console)
        assert console.file.getvalue().splitlines()[0] == path  # type: ignore[attr-defined]

    def test_areas(self, study: Study) -> None:
        text = printed(areas_table(study))
        self.legible(text)
        lines = [line.split() for line in text.splitlines()]
        for f in study.frontiers:
            gain = words.gain_text(f.auc - study.frontiers[0].auc)
            assert [f.strategy, f"{f.auc:.4f}", gain, f"{f.seconds:.2f}"] in lines

    def test_areas_with_intervals(self, study: Study) -> None:
        sure = with_intervals(study)
        text = printed(areas_table(sure))
        self.legible(text)
        lines = [line.split() for line in text.splitlines()]
        heads = "over strategy AUC 90% interval to the best mixing seconds"
        assert " ".join(word for line in lines[:3] for word in line) == heads
        # The oracle and mixing are not there to be chosen.
        choices = [f for f in sure.frontiers if f.strategy not in ("oracle", "mixing")]
        best = max(choices, key=lambda f: f.auc)
        for f in sure.frontiers:
            gain = words.gain_text(f.auc - study.frontiers[0].auc)
            apart = [words.gain_text(f.auc - best.auc)] if f is not best else ["–"]
            apart += ["(noise)"] if f is not best and abs(f.auc - best.auc) < 0.03 else []
            ends = f"{f.auc - 0.01:.4f}–{f.auc + 0.01:.4f}"
            row = [f.strategy, f"{f.auc:.4f}", ends, *apart, gain, f"{f.seconds:.2f}"]
            assert row in lines
        note = "Intervals hold 90% of 1,000 resamples of the 2,345 held-out queries"
        assert note in self.said(sure)
        assert "resamples" not in self.said(study)
        assert "does best of 6 strategies, within noise of pandora: its" in self.said(sure)
        assert note in " ".join(render(sure, "").split())

    def test_scores(self, study: Study) -> None:
        assert scores_tables(study) == []
        rng = np.random.default_rng(0)
        scored = [
            replace(f, scores=dict(zip(SCORES, rng.random(len(SCORES)), strict=True)))
            for f in study.frontiers
        ]
        scored[0].scores["qnc"] = np.nan
        asked = replace(study, frontiers=tuple(scored))
        text = printed(*scores_tables(asked))
        self.legible(text)
        rows = [line.split() for line in text.splitlines()]
        for f in scored:
            numbers = [word for row in rows if row[:1] == [f.strategy] for word in row[1:]]
            values = f.scores.values()
            assert numbers == [f"{v:.4f}" if np.isfinite(v) else "n/a" for v in values]
        # A wide terminal has them all in one table.
        (header,) = [
            line.split()
            for line in printed(*scores_tables(asked, 120), width=120).splitlines()
            if line.split()[:1] == ["strategy"]
        ]
        assert header == ["strategy", *SCORES]
        said = " ".join(text.split())
        for name, score in SCORES.items():
            better = "higher" if score.higher else "lower"
            assert f"{name} {score.meaning}; {better} is better" in said
        assert f"note: no qnc for {scored[0].strategy}: {SCORES['qnc'].undefined}" in said
        # The page has the same table, and none where no scores were asked for.
        assert 'id="scores"' not in render(study, "cascjax frontier")
        page = unescape(render(replace(study, frontiers=tuple(scored)), "cascjax frontier"))
        table = page[page.index('id="scores"') :].split("</section>")[0]
        for f in scored:
            row = table[table.index(f'row">{f.strategy}<') :].split("</tr>")[0]
            values = [f"{v:.4f}" if np.isfinite(v) else "n/a" for v in f.scores.values()]
            assert re.findall("<td>(.*?)</td>", row) == values
        assert f"no qnc for {scored[0].strategy}: {SCORES['qnc'].undefined}" in table

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
        text = printed(*described(contents_of(table), "in/[bold]t.arrow"))
        self.legible(text)
        K = table.n_models
        for part in (
            "in/[bold]t.arrow",
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
        assert text.count(" yes") == len(upper_hull(table.cost.mean(0), table.quality.mean(0)))

    def test_inspect_lists_models_cheapest_first(self) -> None:
        text = printed(*described(contents_of(self.table(("expensive", "middle", "cheap"))), "t"))
        assert text.index("cheap") < text.index("middle") < text.index("expensive")
        # Their numbers, as --models takes them, are places in the table.
        lines = [line.split() for line in text.splitlines()]
        for number, name in enumerate(("expensive", "middle", "cheap")):
            assert next(line for line in lines if line[:1] == [name])[-1] == str(number)

    def test_inspect_further_costs(self) -> None:
        rng, table = np.random.default_rng(1), self.table(("expensive", "middle", "cheap"))
        names = ("seconds", "[red]energy", "calls to other services", "grams of CO2")
        more = {name: rng.random((90, 3)) + 1 for name in names}
        units = (("[red]energy", "kWh"), ("seconds", "[bold]s"))
        text = printed(
            *described(contents_of(replace(table, extra_costs=more, extra_cost_units=units)), "t")
        )
        self.legible(text)
        for heading in ("mean seconds ([bold]s)", "mean [red]energy (kWh)", "mean grams of CO2 "):
            assert all(word in text for word in heading.split())
        assert "cost.[red]energy [90, 3]" in " ".join(text.split())
        # Three to a grid, by name; the models in the order of the table's first cost.
        lines = [line.split() for line in text.splitlines()]
        for shown in (sorted(names)[:3], sorted(names)[3:]):
            rows = [
                [model, *(f"{more[name][:, k].mean():.2f}" for name in shown)]
                for k, model in enumerate(table.models)
            ]
            first = lines.index(rows[-1])
            assert lines[first : first + 3] == rows[::-1]

    def test_inspect_pieces(self) -> None:
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
        whole = printed(*described(contents_of(table), "t"))
        for part in ("features", "signals", "agree on", "mean seconds", "missing values: number 1"):
            assert part in whole
        # Some groups are in some pieces alone, and counted in another order.
        pieces = [table.take(np.arange(*ends)) for ends in ((0, 5), (5, 17), (17, 90))]
        first, *others = map(contents_of, pieces)
        assert printed(*described(sum(others, first), "t")) == whole
        assert "90 rows in 3 files, 3 models" in printed(*described(contents_of(table), "t", 3))

    def test_inspect_a_bare_table(self) -> None:
        table = replace(self.table(("a", "b")), split=None, group=None, groups=(), features=None)
        text = printed(
            *described(contents_of(replace(table, quality_ante=None, cost_unit="")), "t")
        )
        assert "an unnamed unit" in text
        assert "drawn by seed" in text
        assert "none but quality and cost" in text
