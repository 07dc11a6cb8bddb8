"""notebooks/Snakefile: the grids hold every row of their tables."""

import os
from pathlib import Path

from grid import jobs_to_run

from sshsnet_core.methods import rows

GRIDS = ("all", "cps", "released", "switches")


def test_the_grids_train_every_row_of_their_tables(tmp_path: Path) -> None:
    told = jobs_to_run(tmp_path, {**os.environ, "SSHSNET_RUNS": str(tmp_path / "runs")}, *GRIDS)
    methods = [*rows.TABLE_1, *rows.TABLE_2, *rows.BASELINES, *rows.AS_RELEASED]
    methods += [method for switch in rows.SWITCHES for method in (switch.base, switch.turned)]
    methods += [method for method in rows.METHODS.values() if method.title in rows.CPS_COMPARISON]
    jobs = {f"{method.key}_fold0_seed0".replace("-", "_") for method in methods}
    assert jobs - told == set()
    # It only tells: nothing is made.
    assert not (tmp_path / "runs").exists()
