"""One headless Chromium for all tests."""

from collections.abc import Iterator
from typing import Any

import pytest

from chromium import start
from debian import needs


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The browser; it takes seconds to start."""
    binary, driver = needs("chromium", program="chromium"), needs("chromium-driver", program="chromedriver")
    browser = start(binary, driver, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.quit()


@pytest.fixture
def browser(chromium: Any) -> Any:
    """The browser in its initial state: a light system theme, a wide window, empty logs."""
    chromium.set_window_size(1280, 900)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    for log in ("browser", "performance"):
        chromium.get_log(log)
    return chromium
