"""One headless Chromium for all tests of a session: Debian's, driven by selenium."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The browser, with a log of its console and of all that it asks the network for."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no chromium and chromium-driver: apt-get install them (tests/debian-packages.txt)")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options=options, service=ChromeService(driver))
    browser.set_page_load_timeout(120)
    yield browser
    browser.quit()


@pytest.fixture
def browser(chromium: Any) -> Any:
    """The browser as a person finds it: a light system, a wide window, empty logs."""
    chromium.set_window_size(1280, 900)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    for log in ("browser", "performance"):
        chromium.get_log(log)
    return chromium


def open_page(browser: Any, file: Path) -> None:
    """Open a page from the disk and wait until its figures are drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(file.resolve().as_uri())
    WebDriverWait(browser, 90).until(
        lambda driver: driver.execute_script("return document.documentElement.dataset.ready") == "yes"
    )
