"""figures/reference and figures/gpu: the tables in git follow from the scores beside them, case by case."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from sshsnet_core.evaluation.comparison import (
    compare_released,
    compare_seeds,
    write_comparison,
    write_parts,
)
from sshsnet_core.evaluation.results import read_provenance, read_results
from sshsnet_core.evaluation.tables import write_table
from sshsnet_core.methods.rows import AS_RELEASED, CPS_COMPARISON, PARTS, method_by_key
from sshsnet_core.study import REPOSITORY

REFERENCE = REPOSITORY / "figures" / "reference"


@pytest.mark.parametrize(
    ("kept", "number"),
    [("reference", 1), ("reference", 2), ("reference/effort4", 1), ("gpu", 1), ("gpu", 2)],
)
def test_the_tables_follow_from_the_scores(kept: str, number: int, tmp_path: Path) -> None:
    folder = REPOSITORY / "figures" / kept
    scores = folder / "results"
    write_table(tmp_path, number, read_results(scores), read_provenance(scores))
    pages = {page.name: page.read_text(encoding="utf-8") for page in tmp_path.iterdir()}
    assert f"table{number}.md" in pages
    assert pages == {page.name: page.read_text(encoding="utf-8") for page in folder.glob(f"table{number}*")}


@pytest.mark.parametrize("kept", ["reference", "reference/effort4", "gpu"])
def test_what_each_part_is_worth_follows_from_the_scores(kept: str, tmp_path: Path) -> None:
    folder = REPOSITORY / "figures" / kept
    parts = [(part.choice, part.turned.title, part.base.title) for part in PARTS]
    write_parts(tmp_path, read_results(folder / "results"), read_provenance(folder / "results"), parts)
    for page in ("parts.md", "parts.csv"):
        assert (tmp_path / page).read_text(encoding="utf-8") == (folder / page).read_text(encoding="utf-8")


def scores() -> pd.DataFrame:
    return read_results(REFERENCE / "results")


def seeds() -> pd.DataFrame:
    """The second seed's scores have a folder of their own."""
    return compare_seeds({0: scores(), 1: read_results(REFERENCE / "seed1")}, CPS_COMPARISON)


def released() -> pd.DataFrame:
    pairs = [(row.title, method_by_key(row.key.removesuffix("-released")).title) for row in AS_RELEASED]
    return compare_released(scores(), pairs)


@pytest.mark.parametrize(("name", "compare"), [("cps", seeds), ("released", released)])
def test_what_else_is_compared_follows_from_the_scores(
    name: str, compare: Callable[[], pd.DataFrame], tmp_path: Path
) -> None:
    write_comparison(tmp_path, name, "", compare(), "", make="")
    page = f"{name}.csv"
    assert (tmp_path / page).read_text(encoding="utf-8") == (REFERENCE / page).read_text(encoding="utf-8")
