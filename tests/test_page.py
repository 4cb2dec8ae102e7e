"""The pages in a real browser: what a reader points at, clicks and prints."""

import base64
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from studies import HOSTILE, SETS, make_evaluation, make_study, with_intervals

import cascjax as cj
from cascjax import synthetic
from cascjax.comparison import Study
from cascjax.report.diagnosis import save as save_diagnosis
from cascjax.report.evaluation import save as save_evaluation
from cascjax.report.study import save

SWITCHES = """
--headless --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run
--disable-background-networking --disable-component-update --disable-sync
--force-device-scale-factor=1 --force-color-profile=srgb --window-size=1200,1300
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Debian's chromium under its own driver, with an empty profile."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        reason = "chromium and chromedriver are absent; `make browser` installs Debian's as root"
        if os.environ.get("CI", "").lower() in ("", "0", "false"):
            pytest.skip(reason)
        pytest.fail(reason)
    options = ChromeOptions()
    options.binary_location = chromium
    for switch in (*SWITCHES.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=Service(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


@pytest.fixture(scope="module")
def study() -> Study:
    """Intervals, and costs that span widely enough for a logarithmic axis."""
    return with_intervals(make_study(SETS["3"]))


@pytest.fixture(scope="module")
def pages(study: Study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = {name: tmp_path_factory.mktemp(name) for name in ("compare", "diagnose", "evaluate")}
    save(study, out["compare"], "cascjax compare")
    table = synthetic.sample(synthetic.make_dataset(3), 0, 400)
    diagnosis = cj.diagnose(table, strategies=["routing"], budgets=4, resamples=50, target=0)
    save_diagnosis(diagnosis, out["diagnose"])
    save_evaluation(make_evaluation(), out["evaluate"])
    return {name: folder / "report.html" for name, folder in out.items()}


def opened(browser: Chrome, path: Path) -> None:
    """Open a page, its charts drawn; it fetches nothing."""
    browser.get(path.as_uri())
    figures = len(browser.find_elements(By.CSS_SELECTOR, "figure[data-spec]"))
    WebDriverWait(browser, 20).until(
        lambda page: len(page.find_elements(By.CSS_SELECTOR, ".chart svg.marks")) == figures > 0
    )
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


@pytest.fixture
def page(browser: Chrome, pages: dict[str, Path]) -> Iterator[Chrome]:
    """The report just opened; whatever the browser logs in the meantime fails."""
    opened(browser, pages["compare"])
    yield browser
    assert browser.get_log("browser") == []


def points(page: Chrome, strategy: str) -> list[WebElement]:
    """The markers of a strategy's budgets in the upper panel, in rising cost."""
    marks = page.find_elements(
        By.CSS_SELECTOR, "[data-spec=chart-0] .mark-symbol.role-mark path[aria-label]"
    )
    own = [m for m in marks if f"strategy: {strategy};" in f"{m.get_attribute('aria-label')};"]
    return [m for m in own if "mean quality:" in str(m.get_attribute("aria-label"))]


def hovered(page: Chrome, mark: WebElement) -> dict[str, str]:
    """What the tooltip of a marker says."""
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
    ActionChains(page).move_to_element(mark).perform()
    tip = page.find_element(By.ID, "vg-tooltip-element")
    WebDriverWait(page, 5).until(lambda _: "visible" in str(tip.get_attribute("class")))
    keys, values = (tip.find_elements(By.CSS_SELECTOR, f"td.{c}") for c in ("key", "value"))
    return {k.text.rstrip(":"): v.text for k, v in zip(keys, values, strict=True)}


def opacity(mark: WebElement) -> float:
    return float(mark.get_attribute("opacity") or 1)


@pytest.mark.parametrize("i", [3, 11])
def test_a_point_says_what_the_parquet_says(
    page: Chrome, pages: dict[str, Path], study: Study, i: int
) -> None:
    rows = pq.read_table(pages["compare"].parent / "frontier.parquet").to_pylist()
    rows = [row for row in rows if row["strategy"] == "cascade-routing"]
    row = sorted(rows, key=lambda row: row["cost"])[i]
    # The last curve lies on top of the others, whose markers may be covered: highlight this one.
    page.find_element(By.XPATH, "//*[local-name()='text'][.='cascade-routing']").click()
    said = hovered(page, points(page, "cascade-routing")[i])
    assert said["strategy"] == "cascade-routing"
    for name, key in (("budget (USD)", "budget"), ("cost (USD)", "cost"), ("quality", "quality")):
        digits = len(said[name].split(".")[1])
        assert digits >= 4
        assert said[name] == f"{row[key]:.{digits}f}"
    assert said["90% interval"] == f"{row['quality_low']:.4f} to {row['quality_high']:.4f}"
    (cheap, expensive), gamma = row["parameters"], row["gamma"]
    mixed = f"price λ {cheap:.4g} ({1 - gamma:.0%}), {expensive:.4g} ({gamma:.0%})"
    assert said["parameters"] == mixed
    f = study["cascade-routing"]
    p, lines = int(np.argsort(f.cost)[i]), said["queries it runs on"].splitlines()
    for k, name in enumerate(("mistral-7b-chat", "claude-instant-v1", "gpt-4-1106-preview")):
        (text,) = [line.removeprefix(name) for line in lines if line.startswith(name)]
        ran, answers = (part.strip("<> %") for part in text.split(", answers "))
        # Whole percents, or "<1%", ">99%" at the ends.
        assert float(ran) == pytest.approx(100 * f.ran[p, k], abs=1)
        assert float(answers.replace("none", "0")) == pytest.approx(100 * f.answered[p, k], abs=1)


def test_a_click_in_the_legend_highlights_a_strategy(page: Chrome) -> None:
    routing, pandora = points(page, "routing")[3], points(page, "pandora")[3]
    assert opacity(routing) == opacity(pandora) == 1
    entry = page.find_element(By.XPATH, "//*[local-name()='text'][.='routing']")
    entry.click()
    WebDriverWait(page, 5).until(lambda _: opacity(pandora) < 0.2)
    assert opacity(routing) == 1


def test_the_cost_axis_switches(page: Chrome, study: Study) -> None:
    """Points stand evenly in log cost on the one axis, in cost on the other."""
    for scale in (np.log, np.asarray, np.log):
        x = [m.rect["x"] + m.rect["width"] / 2 for m in points(page, "cascade-routing")]
        at = scale(np.sort(study["cascade-routing"].cost))
        np.testing.assert_allclose(x, np.interp(at, at[[0, -1]], [x[0], x[-1]]), atol=1)
        before = points(page, "cascade-routing")[5]
        page.find_element(By.CSS_SELECTOR, "label.axis").click()
        WebDriverWait(page, 5).until(lambda p, old=before: points(p, "cascade-routing")[5] != old)


@pytest.mark.parametrize("name", ["compare", "diagnose", "evaluate"])
@pytest.mark.parametrize(("width", "medium"), [(1200, ""), (390, ""), (718, "print")])
def test_nothing_sticks_out(
    browser: Chrome, pages: dict[str, Path], name: str, width: int, medium: str
) -> None:
    """718 pixels are the width of A4 paper between margins of a centimetre."""
    size = {"width": width, "height": 840, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        opened(browser, pages[name])
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium})
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        # Tables that hold more than the main ones may scroll on a phone, never on paper.
        wide = browser.execute_script(
            "return [...document.querySelectorAll('.scroll')]"
            ".filter((table) => table.scrollWidth > table.clientWidth)"
            ".map((table) => table.getAttribute('aria-label'))"
        )
        if width == 390:
            wide = [label for label in wide if label.startswith(("AUC", "gain", "Means"))]
        assert wide == []
        assert browser.get_log("browser") == []
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes(page: Chrome, theme: str) -> None:
    """Charts follow the page, while their attributes, which are saved, keep the light colours."""
    feature = {"name": "prefers-color-scheme", "value": theme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        mark = points(page, "cascade-routing")[3]
        assert mark.get_attribute("fill") == "#0072b2"
        fill = {"light": "rgb(0, 114, 178)", "dark": "rgb(86, 180, 233)"}[theme]
        assert mark.value_of_css_property("fill") == fill
        svg = page.find_element(By.CSS_SELECTOR, ".chart svg")
        paper = {"light": "rgba(255, 255, 255, 1)", "dark": "rgba(22, 27, 34, 1)"}[theme]
        assert svg.value_of_css_property("background-color") == paper
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_charts_and_numbers_can_be_saved(page: Chrome, study: Study) -> None:
    page.find_element(By.CSS_SELECTOR, ".chart summary").click()
    links = page.find_elements(By.CSS_SELECTOR, "[data-spec=chart-0] .vega-actions a")
    assert [link.get_attribute("download") for link in links] == [
        "frontier-0.svg",
        "frontier-0.png",
    ]
    for link, start in zip(links, ("blob:", "data:image/png;base64,"), strict=True):
        page.execute_script("arguments[0].dispatchEvent(new Event('mousedown'))", link)
        WebDriverWait(page, 5).until(
            lambda _, a=link, s=start: str(a.get_attribute("href")).startswith(s)
        )
    href = str(page.find_element(By.CSS_SELECTOR, "a[download$='.csv']").get_attribute("href"))
    numbers = pd.read_csv(io.BytesIO(base64.b64decode(href.split(",", 1)[1])))
    np.testing.assert_allclose(numbers["cost"], study.to_pandas()["cost"], rtol=1e-5)


def test_names_from_the_table_stay_text(browser: Chrome, tmp_path: Path) -> None:
    opened(browser, save(make_study(HOSTILE), tmp_path, "<script>alert(2)</script>"))
    for k, mark in enumerate(points(browser, "single models")[:2]):
        assert hovered(browser, mark)["model"] in HOSTILE, k
    assert browser.find_elements(By.CSS_SELECTOR, "figure script, td script") == []
    assert browser.get_log("browser") == []
