"""JupyterLab on a copy of the notebooks, with settings and a study of its own."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
#: Every cell in the page, seen or not, so that a test can look at it; and no question about news at the first start.
SETTINGS = {
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}
THEMES = ("JupyterLab Light", "JupyterLab Dark")
TOKEN = "browser-test"
SECONDS_TO_START = 120


@dataclass(frozen=True)
class Lab:
    """A JupyterLab that runs at ``address``; all that it reads and writes lies under ``root``."""

    address: str
    root: Path

    def page_of(self, notebook: str) -> str:
        """The address at which JupyterLab opens a notebook; ``reset`` forgets the tabs of the test before."""
        return f"{self.address}/lab/tree/{notebook}?token={TOKEN}&reset"

    def saved(self, notebook: str) -> Path:
        """Where JupyterLab saves a notebook."""
        return self.root / "notebooks" / notebook

    def choose_theme(self, theme: str) -> None:
        """One of ``THEMES``, from the next page on."""
        _write_setting(self.root, "apputils-extension/themes", f'{{"theme": "{theme}"}}')


@contextmanager
def running_lab(root: Path) -> Iterator[Lab]:
    """JupyterLab in the empty folder ``root``, until the context is left. Fails the test where it does not start."""
    notebooks = root / "notebooks"
    notebooks.mkdir()
    for notebook in NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(notebook, notebooks)
    for name, text in SETTINGS.items():
        _write_setting(root, name, text)
    port, log = _free_port(), root / "jupyterlab.log"
    command = [sys.executable, "-m", "jupyterlab", str(notebooks), "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}"]
    with log.open("w") as stream:
        server = subprocess.Popen(command, env=_environment(root), stdout=stream, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(f"{address}/api/status?token={TOKEN}", server, log)
            yield Lab(address, root)
        finally:
            server.terminate()
            server.wait(timeout=30)


def _write_setting(root: Path, name: str, text: str) -> None:
    path = root / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _environment(root: Path) -> dict[str, str]:
    """What JupyterLab and its kernels see: nobody's configuration, and a study at smoke size under ``root``."""
    folders = (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
        "IPYTHONDIR",
    )
    ours = {name: str(root / name.lower()) for name in folders}
    ours |= {"JUPYTERLAB_SETTINGS_DIR": str(root / "settings"), "SSHSNET_PROFILE": "smoke"}
    ours |= {"SSHSNET_RUNS": str(root / "runs"), "SSHSNET_FIGURES": str(root / "figures")}
    return {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")} | ours


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server answers; what it said, where it does not."""
    end = time.monotonic() + SECONDS_TO_START
    while server.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"JupyterLab did not start. It said:\n{log.read_text()[-3000:]}", pytrace=False)
