"""notebooks/Snakefile: the grids hold every row of their tables."""

import os
from collections.abc import Iterable
from pathlib import Path

from grid import jobs_to_run

from sshsnet_core.methods import rows
from sshsnet_core.methods.rows import Method

GRIDS = ("all", "cps", "labels", "released", "switches")


def jobs(methods: Iterable[Method], folds: int = 1) -> set[str]:
    """What the Snakefile calls the trainings of these rows."""
    return {f"{method.key}_fold{fold}_seed0".replace("-", "_") for method in methods for fold in range(folds)}


def test_the_grids_train_every_row_of_their_tables(tmp_path: Path) -> None:
    told = jobs_to_run(tmp_path, {**os.environ, "SSHSNET_RUNS": str(tmp_path / "runs")}, *GRIDS)
    methods = [*rows.TABLE_1, *rows.TABLE_2, *rows.BASELINES, *rows.AS_RELEASED]
    methods += [method for switch in rows.SWITCHES for method in (switch.base, switch.turned)]
    methods += [method for method in rows.METHODS.values() if method.title in rows.CPS_COMPARISON]
    methods += [method for partition in rows.PARTITIONS.values() for method in partition.values()]
    assert jobs(methods) - told == set()
    # It only tells: nothing is made.
    assert not (tmp_path / "runs").exists()


def test_table_1_alone_trains_its_rows_and_no_others(tmp_path: Path) -> None:
    told = jobs_to_run(tmp_path, {**os.environ, "SSHSNET_RUNS": str(tmp_path / "runs")}, "table1", folds=2)
    assert told & jobs(rows.METHODS.values(), folds=5) == jobs(rows.TABLE_1, folds=2)
    assert {"test_set_table1", "tables_and_figures_table1"} <= told
