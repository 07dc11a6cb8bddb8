"""How much of each kind CPS leaves, on counts written by hand."""

import numpy as np
import pandas as pd
import pytest

from sshsnet_core.anatomy import ARCHES, by_name
from sshsnet_core.evaluation.kept import kept, kept_markdown
from sshsnet_core.evaluation.transfer import VOXELS, voxels


def line(case: str, network: str, kind: str, value: float, seed: int = 0, names: str = "column") -> dict[str, object]:
    row = {"seed": seed, "network": network, "names": names, "slices": "all"}
    return {**row, "case": case, "structure": kind, "metric": VOXELS, "value": value}


@pytest.fixture
def results() -> pd.DataFrame:
    lines = [
        line("a", "before", "arches", 100), line("a", "after", "arches", 50),
        line("a", "before", "arches", 100, 1), line("a", "after", "arches", 100, 1),
        line("a", "before", "arches", 7, names="own"), line("a", "after", "arches", 0, names="own"),
        line("b", "before", "arches", 200), line("b", "after", "arches", 250),
        line("a", "before", "discs", 0), line("a", "after", "discs", 3),
        line("chosen", "before", "discs", 10), line("chosen", "after", "discs", 9),
    ]  # fmt: skip
    return pd.DataFrame(lines)


def test_voxels_are_counted_by_kind_and_the_sacrum_is_left_out() -> None:
    labels = np.zeros((2, 3, 4), np.uint8)
    labels[0, 0, :3], labels[0, 1, :2] = by_name("L5").label, by_name("L5/S").label
    labels[1, 0, :4], labels[1, 1, 0] = by_name("S").label, ARCHES[-1].label
    assert {score["structure"]: score["value"] for score in voxels(labels)} == {"bodies": 3, "discs": 2, "arches": 1}


def test_each_seed_is_held_against_its_own_start(results: pd.DataFrame) -> None:
    percent = kept(results, "before", "after", "column").loc["all"]
    assert percent.loc["a", "arches"] == pytest.approx((50 + 100) / 2)
    assert percent.loc["b", "arches"] == pytest.approx(125)
    assert np.isnan(percent.loc["a", "discs"])
    assert percent.loc["chosen", "discs"] == pytest.approx(90)


def test_the_cases_that_settings_were_chosen_on_have_a_line_of_their_own(results: pd.DataFrame) -> None:
    text = kept_markdown(kept(results, "before", "after", "column"), ["chosen"])
    held_back, chosen = (next(row for row in text.splitlines() if part in row) for part in ("held back", "chosen on"))
    assert "100 [75, 125] (2)" in held_back
    assert "90 [90, 90] (1)" in chosen
