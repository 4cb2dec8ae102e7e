"""The report in a real browser: what a reader points at, clicks and types."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from selenium.webdriver import Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from studies import HOSTILE, SETS, STRATEGIES, make_study, with_intervals

from cascjax.comparison import Study
from cascjax.report.study import save

SWITCHES = """
--headless --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run
--disable-background-networking --disable-component-update --disable-sync
--force-device-scale-factor=1 --force-color-profile=srgb --window-size=1200,1300
"""
CASCADE_ROUTING, ROUTING, SINGLES = 4, 1, len(STRATEGIES) + 1
BLUE = np.array([0x00, 0x72, 0xB2]) / 255
"""The colour of cascade routing on white."""


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
def folder(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    save(study, out, "cascjax compare")
    return out


@pytest.fixture
def page(browser: Chrome, folder: Path) -> Iterator[Chrome]:
    """The page just opened, the mouse away from it; whatever it logs in the meantime fails."""
    browser.get((folder / "report.html").as_uri())
    ActionChains(browser).move_by_offset(0, 0).perform()
    yield browser
    assert browser.get_log("browser") == []


def one(page: Chrome, css: str) -> WebElement:
    """The one element of these that is displayed."""
    (found,) = [e for e in page.find_elements(By.CSS_SELECTOR, css) if e.is_displayed()]
    return found


def point(page: Chrome, series: int, i: int) -> WebElement:
    return one(page, f".points [data-series='{series}'] [data-point='{i}']")


def hover(page: Chrome, series: int, i: int) -> None:
    ActionChains(page).move_to_element(point(page, series, i)).perform()


def numbers(page: Chrome) -> dict[str, str]:
    """What the tooltip says: its heading, its rows, and a text for each model."""
    tip = one(page, ".tip")
    names, values, models = (
        [e.text for e in tip.find_elements(By.CSS_SELECTOR, css)]
        for css in ("dt", "dd", ".ran > span:not(.share)")
    )
    width = 3 if "answered" in models else 2
    # The heading has one more cell, empty, above the bars.
    cells = models[width + 1 :]
    shares = {cells[i]: " ".join(cells[i + 1 : i + width]) for i in range(0, len(cells), width)}
    heading = tip.find_element(By.TAG_NAME, "strong").text
    return {"": heading} | dict(zip(names, values, strict=True)) | shares


def toggle(page: Chrome, name: str) -> None:
    (label,) = [e for e in page.find_elements(By.CSS_SELECTOR, ".controls label") if e.text == name]
    label.click()


def pixels(page: Chrome, path: Path, color: np.ndarray) -> int:
    """How many pixels of a picture of the chart have the colour, give or take a rounding."""
    from matplotlib.image import imread

    svg = one(page, "#frontier-figure > div > svg")
    page.execute_script("arguments[0].scrollIntoView({block: 'end'})", svg)
    assert svg.screenshot(str(path))
    return int(np.sum(np.abs(imread(path)[..., :3] - color).max(axis=-1) < 2 / 255))


@pytest.mark.parametrize("i", [0, 5, 11])
def test_a_point_says_what_the_parquet_says(
    page: Chrome, folder: Path, study: Study, i: int
) -> None:
    rows = pq.read_table(folder / "frontier.parquet").to_pylist()
    rows = [row for row in rows if row["strategy"] == "cascade-routing"]
    hover(page, CASCADE_ROUTING, i)
    said, row = numbers(page), sorted(rows, key=lambda row: row["cost"])[i]
    assert said[""] == "cascade-routing"
    for name, key in (("budget (USD)", "budget"), ("cost (USD)", "cost"), ("quality", "quality")):
        digits = len(said[name].split(".")[1])
        assert digits >= 4
        assert said[name] == f"{row[key]:.{digits}f}"
    assert said["90% interval"] == f"{row['quality_low']:.4f} to {row['quality_high']:.4f}"
    (cheap, expensive), gamma = row["parameters"], row["gamma"]
    assert said["price λ"] == f"{cheap:.4g} ({1 - gamma:.0%}), {expensive:.4g} ({gamma:.0%})"
    f = study.frontiers[CASCADE_ROUTING]
    p = int(np.argsort(f.cost)[i])
    for k, name in enumerate(("mistral-7b-chat", "claude-instant-v1", "gpt-4-1106-preview")):
        for text, share in zip(said[name].split(), (f.ran[p, k], f.answered[p, k]), strict=True):
            # Whole percents, or "<1%", ">99%" at the ends.
            assert float(text.strip("<>%")) == pytest.approx(100 * share, abs=1)


def test_the_tooltip_goes_with_the_pointer(page: Chrome) -> None:
    hover(page, ROUTING, 6)
    assert numbers(page)[""] == "routing"
    ActionChains(page).move_to_element(page.find_element(By.TAG_NAME, "h1")).perform()
    assert not page.find_element(By.CSS_SELECTOR, ".tip").is_displayed()
    hover(page, SINGLES, 1)
    assert numbers(page) == {
        "": "claude-instant-v1", "mean quality": "0.6740", "mean cost (USD)": "0.0003670",
        "on the hull": "yes",
    }  # fmt: skip


def test_a_strategy_goes_and_comes_back(page: Chrome, tmp_path: Path) -> None:
    shown = pixels(page, tmp_path / "all.png", BLUE)
    assert shown > 500
    toggle(page, "cascade-routing")
    assert pixels(page, tmp_path / "without.png", BLUE) == 0
    css = f"[data-series='{CASCADE_ROUTING}']"
    assert not any(e.is_displayed() for e in page.find_elements(By.CSS_SELECTOR, css))
    toggle(page, "cascade-routing")
    assert pixels(page, tmp_path / "again.png", BLUE) == pytest.approx(shown, rel=0.1)


def test_the_cost_axis_switches(page: Chrome, study: Study, tmp_path: Path) -> None:
    """Points stand evenly in log cost on the one axis, in cost on the other."""
    toggle(page, "routing")
    for scale in (np.log, np.asarray, np.log):
        x = [float(point(page, CASCADE_ROUTING, i).get_attribute("cx") or 0) for i in range(12)]
        at = scale(np.sort(study.frontiers[CASCADE_ROUTING].cost))
        # Places are rounded to a tenth of a unit.
        np.testing.assert_allclose(x, np.interp(at, at[[0, -1]], [x[0], x[-1]]), atol=0.16)
        hover(page, CASCADE_ROUTING, 7)
        assert numbers(page)[""] == "cascade-routing"
        # What was switched off stays off.
        routing = page.find_elements(By.CSS_SELECTOR, f"svg [data-series='{ROUTING}']")
        assert not any(e.is_displayed() for e in routing)
        toggle(page, "logarithmic cost axis")
    path = tmp_path / "page.png"
    assert page.save_screenshot(str(path))
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_by_keyboard_alone(page: Chrome) -> None:
    def press(*keys: str) -> None:
        ActionChains(page).send_keys(*keys).perform()

    def label() -> str:
        return page.switch_to.active_element.get_attribute("aria-label") or ""

    press(Keys.TAB)
    first = page.switch_to.active_element
    assert first.tag_name == "input"
    press(Keys.SPACE)
    assert not first.is_selected()  # mixing, the first in the legend
    switches = len(page.find_elements(By.CSS_SELECTOR, ".controls input"))
    press(*[Keys.TAB] * switches)
    assert label().startswith("routing: budget (USD) ")
    assert numbers(page)[""] == "routing"
    start = numbers(page)["cost (USD)"]
    press(Keys.ARROW_RIGHT)
    assert float(numbers(page)["cost (USD)"]) > float(start)
    assert f"cost (USD) {numbers(page)['cost (USD)']}," in label()
    press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert numbers(page)["cost (USD)"] == start
    press(Keys.END, Keys.ARROW_DOWN)
    assert label().startswith("thresholding: ")
    press(Keys.TAB)
    assert label().startswith("cascading: ")
    press(Keys.ESCAPE)
    assert not page.find_element(By.CSS_SELECTOR, ".tip").is_displayed()
    press(Keys.ARROW_RIGHT)
    assert numbers(page)[""] == "cascading"


def test_a_click_keeps_the_numbers(page: Chrome) -> None:
    ActionChains(page).click(point(page, SINGLES, 0)).perform()
    ActionChains(page).move_to_element(page.find_element(By.TAG_NAME, "h1")).perform()
    assert numbers(page)[""] == "mistralai/mistral-7b-chat"


@pytest.mark.parametrize("width", [1200, 360])
def test_nothing_sticks_out_of_the_window(page: Chrome, width: int) -> None:
    size = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for series, i in ((CASCADE_ROUTING, 0), (CASCADE_ROUTING, 11), (SINGLES, 2)):
            at = point(page, series, i)
            page.execute_script("arguments[0].scrollIntoView({block: 'center'})", at)
            hover(page, series, i)
            box = page.execute_script(
                "const b = document.querySelector('.tip').getBoundingClientRect();"
                "return [b.left, b.top, b.right, b.bottom]"
            )
            assert min(box[:2]) >= 0
            assert box[2] <= width
            assert box[3] <= 740
            x, y = page.execute_script(
                "const b = arguments[0].getBoundingClientRect();"
                "return [(b.left + b.right) / 2, (b.top + b.bottom) / 2]", at,
            )  # fmt: skip
            assert not (box[0] <= x <= box[2] and box[1] <= y <= box[3])
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_without_javascript_the_picture_keeps_its_legend(page: Chrome) -> None:
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.refresh()
        assert page.find_elements(By.CSS_SELECTOR, ".controls, .points, .tip") == []
        shown = page.find_elements(By.CSS_SELECTOR, "#frontier-figure > div")
        assert [e.get_attribute("hidden") is None for e in shown] == [True, True, False, False]
        svg = one(page, "#frontier-figure > div > svg")
        assert (svg.get_dom_attribute("viewBox") or "").startswith("0 0 ")
        assert svg.find_elements(By.CSS_SELECTOR, f"[data-legend='{CASCADE_ROUTING}']")
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes(page: Chrome, theme: str, tmp_path: Path) -> None:
    feature = {"name": "prefers-color-scheme", "value": theme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        hover(page, CASCADE_ROUTING, 6)
        color = one(page, ".tip").value_of_css_property("background-color")
        red = int((re.search(r"\d+", color) or [""])[0])
        assert (red > 200) == (theme == "light")
        assert (pixels(page, tmp_path / "a.png", BLUE) > 500) == (theme == "light")
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_names_from_the_table_stay_text(browser: Chrome, tmp_path: Path) -> None:
    study = make_study(HOSTILE)
    browser.get(save(study, tmp_path, "<script>alert(2)</script>").as_uri())
    hover(browser, SINGLES, 0)
    assert numbers(browser)[""] == "<script>alert(1)</script>"
    assert browser.find_elements(By.CSS_SELECTOR, "#frontier-figure script, .tip script") == []
    assert browser.get_log("browser") == []
