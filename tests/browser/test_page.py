"""Pages in a browser: they open from disk, make no requests, and support mouse, keys, themes and printing."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from chromium import open_page
from distdl.cli.report import write_report
from run_folders import write_run

EVIL = "</script><script>window.hurt=1</script><img src=x onerror=window.hurt=2> {{7*7}} \"'"


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of one run."""
    return write_report([write_run(tmp_path_factory.mktemp("page") / "run")])


def requests(browser: Any) -> list[str]:
    """URLs that the browser has requested since the log was last read."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def column(browser: Any, table: str, index: int) -> list[str]:
    cells = browser.find_elements(By.CSS_SELECTOR, f"#table-{table} tbody td:nth-child({index})")
    return [cell.text for cell in cells]


def test_a_page_opens_from_disk_and_makes_no_requests(browser, page):
    open_page(browser, page)
    charts = browser.find_elements(By.CSS_SELECTOR, ".chart")
    assert len(charts) > 10
    for chart in charts:
        assert chart.find_element(By.CSS_SELECTOR, "svg").size["width"] > 200, chart.get_attribute("data-chart")
        assert chart.find_elements(By.CSS_SELECTOR, "svg .mark-line path, svg .mark-rect path, svg .mark-symbol path")
    assert browser.get_log("browser") == []
    assert {url.partition(":")[0] for url in requests(browser)} <= {"file", "data"}
    assert len([url for url in requests(browser) if url.startswith("file")]) <= 1
    for link in browser.find_elements(By.CSS_SELECTOR, "a.tool"):
        assert (page.parent / link.get_dom_attribute("href")).is_file()


def test_only_the_scripts_of_the_page_can_run(browser, page):
    open_page(browser, page)
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.hurt = 1'; document.body.append(s)"
    )
    browser.execute_script("document.body.insertAdjacentHTML('beforeend', '<img src=\"http://127.0.0.1:9/x.png\">')")
    assert browser.execute_script("return window.hurt") is None
    blocked = " ".join(entry["message"] for entry in browser.get_log("browser"))
    assert "Content Security Policy" in blocked and "127.0.0.1:9" in blocked


def test_text_of_a_run_is_escaped(browser, tmp_path):
    run = write_run(tmp_path / "run", name=EVIL, gpu=False)
    row = {"time_s": 1.0, "step": 61, "epoch": 10, "kind": "warning", "message": EVIL}
    with (run / "metrics.jsonl").open("a") as sink:
        sink.write(json.dumps(row) + "\n")
    sample = {"time_s": 1.7e9, "step": 1, "epoch": 0, "kind": "host", "cpu_percent": 50.0}
    with (run / "telemetry.jsonl").open("a") as sink:
        sink.writelines(
            json.dumps(sample | {"host": host, "time_s": 1.7e9 + n}) + "\n" for n in range(3) for host in (EVIL, "b")
        )
    open_page(browser, write_report([run], tmp_path / "evil.html"))
    assert browser.find_element(By.TAG_NAME, "h1").text.startswith(EVIL)
    assert EVIL in browser.find_element(By.CSS_SELECTOR, ".notes").text
    legend = browser.find_element(By.CSS_SELECTOR, "#figure-host-cpu .role-legend").get_attribute("textContent")
    assert EVIL[:40] in legend  # long names are truncated
    assert browser.execute_script("return window.hurt") is None
    assert browser.get_log("browser") == []


def test_a_table_is_sorted_by_mouse_and_by_keys(browser, page):
    open_page(browser, page)
    header = browser.find_element(By.CSS_SELECTOR, "#table-phases-table th:nth-child(2)")
    button = header.find_element(By.TAG_NAME, "button")
    values = column(browser, "phases-table", 2)
    ActionChains(browser).scroll_to_element(button).click(button).perform()
    assert header.get_attribute("aria-sort") == "ascending"
    assert column(browser, "phases-table", 2) == sorted(values, key=float)
    button.send_keys(Keys.ENTER)
    assert header.get_attribute("aria-sort") == "descending"
    assert column(browser, "phases-table", 2) == sorted(values, key=float, reverse=True)
    names = browser.find_element(By.CSS_SELECTOR, "#table-phases-table th:nth-child(1) button")
    names.send_keys(Keys.SPACE)
    assert header.get_attribute("aria-sort") == "none"
    assert column(browser, "phases-table", 1) == sorted(column(browser, "phases-table", 1))


def test_the_point_nearest_to_the_pointer_is_described(browser, page):
    open_page(browser, page)
    chart = browser.find_element(By.CSS_SELECTOR, '[data-chart="loss"]')
    ActionChains(browser).scroll_to_element(chart).perform()
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    ActionChains(browser).move_to_element(chart).perform()
    tip = browser.find_element(By.ID, "tip")
    tips = []
    for x in range(-150, 151, 30):  # across the figure; some positions are near a curve
        ActionChains(browser).move_to_element_with_offset(chart, x, 0).perform()
        tips.append(tip.text if tip.is_displayed() else "")
    assert any("epoch" in text and "loss" in text for text in tips)
    ActionChains(browser).move_to_element(browser.find_element(By.TAG_NAME, "nav")).perform()
    assert not tip.is_displayed()


def test_a_bar_is_described(browser, page):
    open_page(browser, page)
    bar = browser.find_element(By.CSS_SELECTOR, '[data-chart="phases"] .mark-rect path')
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", bar)
    ActionChains(browser).move_to_element(bar).perform()
    tip = browser.find_element(By.ID, "tip")
    WebDriverWait(browser, 60).until(lambda _: tip.is_displayed())
    assert "ms per step" in tip.text and "share (%)" in tip.text


def test_keys_move_between_points_and_zoom(browser, page):
    open_page(browser, page)
    chart = browser.find_element(By.CSS_SELECTOR, '[data-chart="throughput"]')
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()", chart)
    announcement = browser.find_element(By.ID, "announcement")
    texts = []
    for _ in range(3):
        ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
        texts.append(announcement.get_attribute("textContent"))
    assert len(set(texts)) == 3 and all("images/s 9,00" in text for text in texts)

    def labels() -> list[str]:
        script = "return [...arguments[0].querySelectorAll('.role-axis-label text')].map(text => text.textContent)"
        return sorted(browser.execute_script(script, chart))

    initial = labels()
    ActionChains(browser).send_keys("+").perform()
    WebDriverWait(browser, 60).until(lambda _: labels() != initial)
    ActionChains(browser).send_keys("0").perform()
    WebDriverWait(browser, 60).until(lambda _: labels() == initial)


def test_the_dot_is_on_the_point(browser, page):
    open_page(browser, page)
    chart = browser.find_element(By.CSS_SELECTOR, '[data-chart="accuracy"]')
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()", chart)
    middle = "const box = arguments[0].getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]"
    for symbol in chart.find_elements(By.CSS_SELECTOR, ".mark-symbol.role-mark path")[:3]:
        ActionChains(browser).send_keys(Keys.ARROW_RIGHT).perform()
        dot = browser.execute_script(middle, chart.find_element(By.CLASS_NAME, "dot"))
        assert dot == pytest.approx(browser.execute_script(middle, symbol), abs=1.5)


def test_buttons_zoom_and_show_all_again(browser, page):
    open_page(browser, page)
    figure = browser.find_element(By.ID, "figure-throughput")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", figure)
    path = figure.find_element(By.CSS_SELECTOR, ".mark-line path")
    initial = path.get_attribute("d")
    closer, _, everything = figure.find_elements(By.CSS_SELECTOR, "button.tool")
    closer.click()
    WebDriverWait(browser, 60).until(lambda _: path.get_attribute("d") != initial)
    nearer = path.get_attribute("d")
    closer.click()
    WebDriverWait(browser, 60).until(lambda _: path.get_attribute("d") not in (initial, nearer))
    everything.click()
    WebDriverWait(browser, 60).until(lambda _: path.get_attribute("d") == initial)


def test_the_dark_theme_follows_the_system_and_the_button(browser, page):
    paper = "return getComputedStyle(document.body).backgroundColor"
    ink = "return getComputedStyle(document.querySelector('.chart svg text')).fill"
    open_page(browser, page)
    browser.execute_script("localStorage.clear()")
    light = browser.execute_script(paper), browser.execute_script(ink)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    dark = browser.execute_script(paper), browser.execute_script(ink)
    assert light[0] == "rgb(255, 255, 255)"
    assert max(map(int, dark[0][4:-1].split(","))) < 60
    assert dark[1] != light[1]  # text in figures has the color of the page's text
    browser.find_element(By.ID, "theme").click()
    assert (browser.execute_script(paper), browser.execute_script(ink)) == light
    browser.execute_script("localStorage.clear()")


def test_a_page_is_printed_on_white_without_buttons(browser, page):
    open_page(browser, page)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": dark})
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not browser.find_element(By.TAG_NAME, "nav").is_displayed()
    assert not any(tool.is_displayed() for tool in browser.find_elements(By.CSS_SELECTOR, ".tool"))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    assert printed.startswith(b"%PDF") and 2 <= printed.count(b"/Type /Page\n") <= 12


@pytest.mark.parametrize("width", [390, 768, 1600])
def test_no_element_is_wider_than_the_window(browser, page, width):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        open_page(browser, page)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        for chart in browser.find_elements(By.CSS_SELECTOR, ".chart"):
            svg = chart.find_element(By.CSS_SELECTOR, "svg")
            assert svg.size["width"] <= chart.size["width"] + 1
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
