"""`make study`, killed in the middle of a training, goes on from the last checkpoint when it is called again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from sshsnet_core.settings import PROFILES
from sshsnet_core.study import REPOSITORY

ROW, EPOCHS = "2d-wo-pre-cps", 12

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A study at smoke size, except that stage 1 has many epochs, in a folder of its own."""
    smoke = yaml.safe_load((REPOSITORY / "sshsnet_core" / "profiles" / "smoke.yaml").read_text(encoding="utf-8"))
    longer = {**smoke, "name": "longer", "train_2d": {**smoke["train_2d"], "epochs": EPOCHS}}
    assert longer["name"] not in PROFILES
    profile = tmp_path / "longer.yaml"
    profile.write_text(yaml.safe_dump(longer), encoding="utf-8")
    own = {"SSHSNET_RUNS": str(tmp_path / "runs"), "SSHSNET_FIGURES": str(tmp_path / "figures")}
    return {**os.environ, **own, "SSHSNET_PROFILE": str(profile)}


def test_killed_study_goes_on(environment: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sshsnet_core", "study", ROW, "--profile", environment["SSHSNET_PROFILE"]]
    work = tmp_path / "runs" / "longer" / "effort1-seed0"
    page = work / "2d-scratch" / "fold0" / "history.csv"
    scores, of_test_images = (work / "results" / f"{ROW}-{split}.csv" for split in ("fold0-validation", "test"))
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as first:
        while first.poll() is None and not page.exists():
            time.sleep(0.02)
        assert first.poll() is None
        os.killpg(first.pid, signal.SIGKILL)
    interrupted = pd.read_csv(page)
    assert 0 < len(interrupted) < EPOCHS
    assert not scores.exists()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    history = pd.read_csv(page)
    assert list(history["epoch"]) == list(range(1, EPOCHS + 1))
    # Their seconds, too: these epochs were trained once.
    pd.testing.assert_frame_equal(history.head(len(interrupted)), interrupted)
    assert scores.exists()
    assert of_test_images.exists()
