"""What notebooks/Snakefile would run, told by Snakemake without running it."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sshsnet_core.study import REPOSITORY


def jobs_to_run(directory: Path, environment: Mapping[str, str], *targets: str, folds: int = 1) -> set[str]:
    """The names of a dry run's jobs at smoke size; in ``directory`` Snakemake keeps its records."""
    command = [sys.executable, "-m", "snakemake", "-s", str(REPOSITORY / "notebooks" / "Snakefile"), *targets]
    command += ["--cores", "2", "--dry-run", "--quiet", "rules", "--nolock", "--rerun-triggers", "input", "params"]
    command += ["--directory", str(directory), "--config", "profile=smoke", f"folds={folds}", "effort=1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return set(re.findall(r"^([\w.]+) +\d+$", done.stdout + done.stderr, re.MULTILINE)) - {"total"}
