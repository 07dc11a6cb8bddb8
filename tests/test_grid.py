"""notebooks/Snakefile: the grids hold every row of their tables."""

import os
from collections.abc import Iterable
from pathlib import Path

from grid import jobs_to_run

from sshsnet_core.methods import rows
from sshsnet_core.methods.rows import Method
from sshsnet_core.settings import load_settings

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
    tests = {name for name in told if name.endswith("_test")}
    assert tests == {f"{method.key}_test".replace("-", "_") for method in rows.TABLE_1}
    assert {"test_set_table1", "tables_and_figures_table1"} <= told


def test_pages_that_notebooks_have_written_stand_for_no_row(tmp_path: Path) -> None:
    """`make table1` and whoever steps through notebook 06 write table2.csv: `make study` has its work to do yet."""
    figures = tmp_path / "figures" / "smoke"
    figures.mkdir(parents=True)
    for page in ("table1", "table2", *GRIDS[1:]):
        (figures / f"{page}.csv").touch()
    own = {"SSHSNET_RUNS": str(tmp_path / "runs"), "SSHSNET_FIGURES": str(tmp_path / "figures")}
    told = jobs_to_run(tmp_path, {**os.environ, **own}, *GRIDS)
    assert told >= jobs((*rows.TABLE_1, *rows.TABLE_2, *rows.AS_RELEASED))
    assert told >= {"tables_and_figures_all", "cps_at_equal_steps_and_time", "cps_where_labels_are_few"}
    assert told >= {"baselines_as_released", "switches_turned"}


def test_a_switch_that_a_profile_has_turned_already_is_not_trained() -> None:
    """`real` labels what augmentation has cut off: the row that does so would be its base once more."""
    turned = {switch.turned.key: switch.turns(load_settings("real")) for switch in rows.SWITCHES}
    assert [key for key, turns in turned.items() if not turns] == ["cut-off-labelled"]
    assert all(switch.turns(load_settings("mini")) for switch in rows.SWITCHES)
