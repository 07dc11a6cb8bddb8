"""figures/reference and figures/gpu: the tables in git follow from the scores beside them, case by case."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from sshsnet_core.evaluation.comparison import (
    compare_partitions,
    compare_released,
    compare_seeds,
    compare_switches,
    write_comparison,
    write_parts,
)
from sshsnet_core.evaluation.results import read_provenance, read_results
from sshsnet_core.evaluation.tables import write_table
from sshsnet_core.methods.rows import AS_RELEASED, CPS_COMPARISON, PARTITIONS, PARTS, SWITCHES, TITLES, method_by_key
from sshsnet_core.study import REPOSITORY

REFERENCE = REPOSITORY / "figures" / "reference"
#: The same commands, run where arithmetic differs in the last digits.
OTHER_MACHINE = REFERENCE / "other_machine"


@pytest.mark.parametrize(
    ("kept", "number"),
    [
        *(("reference", 1), ("reference", 2), ("reference/other_machine", 1), ("reference/other_machine", 2)),
        *(
            ("reference/folds5", 1),
            ("reference/folds5", 2),
            ("reference/effort4", 1),
            ("reference/effort4", 2),
            ("gpu", 1),
            ("gpu", 2),
        ),
    ],
)
def test_the_tables_follow_from_the_scores(kept: str, number: int, tmp_path: Path) -> None:
    folder = REPOSITORY / "figures" / kept
    scores = folder / "results"
    write_table(tmp_path, number, TITLES[number], read_results(scores), read_provenance(scores))
    pages = {page.name: page.read_text(encoding="utf-8") for page in tmp_path.iterdir()}
    assert f"table{number}.md" in pages
    assert pages == {page.name: page.read_text(encoding="utf-8") for page in folder.glob(f"table{number}*")}


@pytest.mark.parametrize(
    "kept", ["reference", "reference/other_machine", "reference/folds5", "reference/effort4", "gpu"]
)
def test_what_each_part_is_worth_follows_from_the_scores(kept: str, tmp_path: Path) -> None:
    folder = REPOSITORY / "figures" / kept
    parts = [(part.choice, part.turned.title, part.base.title) for part in PARTS]
    write_parts(tmp_path, read_results(folder / "results"), read_provenance(folder / "results"), parts)
    for page in ("parts.md", "parts.csv"):
        assert (tmp_path / page).read_text(encoding="utf-8") == (folder / page).read_text(encoding="utf-8")


def seeds(folder: Path) -> pd.DataFrame:
    """The second seed's scores have a folder of their own."""
    folders = {0: folder / "results", 1: folder / "seed1"}
    return compare_seeds({seed: read_results(of_seed) for seed, of_seed in folders.items()}, CPS_COMPARISON)


def labels(folder: Path) -> pd.DataFrame:
    """Of all 64 labelled cases of fold 0 one in so many is labelled."""
    partitions = {
        f"{64 // one_in} (1 in {one_in})": {name: row.title for name, row in rows.items()}
        for one_in, rows in PARTITIONS.items()
    }
    return compare_partitions(read_results(folder / "results"), partitions)


def released(folder: Path) -> pd.DataFrame:
    pairs = [(row.title, method_by_key(row.key.removesuffix("-released")).title) for row in AS_RELEASED]
    return compare_released(read_results(folder / "results"), pairs)


def switches(folder: Path) -> pd.DataFrame:
    turned = [(switch.choice, switch.turned.title, switch.base.title) for switch in SWITCHES]
    return compare_switches(read_results(folder / "results"), turned)


@pytest.mark.parametrize(
    ("folder", "name", "compare"),
    [
        (REFERENCE, "cps", seeds),
        (OTHER_MACHINE, "cps", seeds),
        (REFERENCE, "labels", labels),
        (REFERENCE, "released", released),
        (REFERENCE, "switches", switches),
    ],
    ids=["cps", "cps on another machine", "labels", "released", "switches"],
)
def test_what_else_is_compared_follows_from_the_scores(
    folder: Path, name: str, compare: Callable[[Path], pd.DataFrame], tmp_path: Path
) -> None:
    write_comparison(tmp_path, name, "", compare(folder), "", make="")
    page = f"{name}.csv"
    assert (tmp_path / page).read_text(encoding="utf-8") == (folder / page).read_text(encoding="utf-8")
