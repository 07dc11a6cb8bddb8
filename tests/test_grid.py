"""notebooks/Snakefile: what the grids would run, told by Snakemake without running it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sshsnet_core.methods import rows
from sshsnet_core.study import REPOSITORY

GRIDS = ("all", "cps", "released", "switches")


def test_the_grids_train_every_row_of_their_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSHSNET_RUNS", str(tmp_path / "runs"))
    command = [sys.executable, "-m", "snakemake", "-s", str(REPOSITORY / "notebooks" / "Snakefile"), *GRIDS]
    command += ["--cores", "2", "--dry-run", "--quiet", "rules", "--directory", str(tmp_path)]
    done = subprocess.run([*command, "--config", "profile=smoke"], capture_output=True, text=True, check=True)
    told = set(re.findall(r"[\w.]+", done.stdout + done.stderr))
    methods = [*rows.TABLE_1, *rows.TABLE_2, *rows.BASELINES, *rows.AS_RELEASED]
    methods += [method for switch in rows.SWITCHES for method in (switch.base, switch.turned)]
    methods += [method for method in rows.METHODS.values() if method.title in rows.CPS_COMPARISON]
    jobs = {f"{method.key}_fold0_seed0".replace("-", "_") for method in methods}
    assert jobs - told == set()
    # It only tells: nothing is made.
    assert not (tmp_path / "runs").exists()
