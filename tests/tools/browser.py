"""A real Chromium without a window, as wide as a phone or a screen; without one, tests skip."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PHONE = (390, 844)
SCREEN = (1280, 900)

#: Elements that reach beyond the right edge of the page, or whose text is cut.
CUT = """
const wide = document.documentElement.clientWidth;
return [...document.querySelectorAll("body *")].filter(element => {
  const box = element.getBoundingClientRect();
  return box.width > 0 && (box.right > wide + 1 || box.left < -1);
}).map(element => `${element.tagName} ${element.className} ${element.textContent.slice(0, 40)}`);
"""


@contextmanager
def chromium(profile: Path, size: tuple[int, int] = SCREEN) -> Iterator[Any]:
    """A browser with an empty profile, that talks to nobody by itself."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no chromium and chromedriver on this machine")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        browser.set_page_load_timeout(60)
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1}
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {**metrics, "mobile": size == PHONE}
        )
        yield browser
    finally:
        browser.quit()


def is_dark(browser: Any, scheme: str) -> bool:
    """Whether the page is dark to a reader who likes `scheme`, light or dark."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    color = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    levels = [int(part) for part in color[4:-1].split(",")[:3]]
    return sum(levels) < 3 * 128


def errors(browser: Any) -> list[str]:
    """What the page has complained of on the console."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
