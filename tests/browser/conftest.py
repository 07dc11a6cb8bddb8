"""A JupyterLab and a real browser that all tests here share, and a page that hears every error."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, running_lab
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: No sandbox: in a container there is none. The rest keeps a browser that nobody watches off the network.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``SSHSNET_SCREENSHOTS`` names, else a temporary one."""
    folder = Path(os.environ.get("SSHSNET_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The machine's own Chromium or Chrome, headless."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.fail(
            "There is no Chromium on this machine. Install one (Debian, Ubuntu: apt install chromium; Fedora: dnf "
            "install chromium) or Google Chrome, so that its command is found on the PATH.",
            pytrace=False,
        )
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Lab]:
    """JupyterLab on a copy of the notebooks; not started where there is no browser to look at it."""
    with running_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page with room for a notebook; the test fails where it reports an error."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    reports: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            reports.append(f"{message.text} ({message.location['url']})")

    page.on("console", hear)
    page.on("pageerror", lambda error: reports.append(str(error)))
    yield page
    context.close()
    assert reports == []
