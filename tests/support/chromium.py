"""Debian's headless Chromium, controlled by selenium."""

from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.support.ui import WebDriverWait

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


def start(binary: str, driver: str, profile: Path) -> Any:
    """Start the browser, with logs of its console and network requests."""
    options = ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options=options, service=ChromeService(driver))
    browser.set_page_load_timeout(120)
    return browser


def open_page(browser: Any, file: Path) -> None:
    """Open a page from disk and wait until its figures are drawn."""
    browser.get(file.resolve().as_uri())
    ready = "return document.documentElement.dataset.ready"
    WebDriverWait(browser, 90).until(lambda driver: driver.execute_script(ready) == "yes")
