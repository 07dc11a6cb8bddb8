"""Scores of partly annotated volumes, and the table that they make, on numbers written by hand."""

import numpy as np
import pandas as pd
import pytest

from sshsnet_core.anatomy import ARCHES, by_name
from sshsnet_core.annotation import Annotation
from sshsnet_core.evaluation.transfer import outline_dsc, transfer_scores
from sshsnet_core.evaluation.transfer_table import (
    ALL_OUTLINES,
    BODIES,
    CENTROID,
    CHOSEN,
    DISCS_DSC,
    HELD_BACK,
    subject_scores,
    transfer_cells,
    transfer_markdown,
    transfer_table,
)

S, L5, L4, L3 = (by_name(name).label for name in ("S", "L5", "L4", "L3"))
SPACING = (1.0, 1.0, 1.0)


def column(*blocks: tuple[int, int]) -> np.ndarray:
    """(2, 40, 10) with bodies of six rows, given as label and first row."""
    labels = np.zeros((2, 40, 10), np.uint8)
    for label, row in blocks:
        labels[:, row : row + 6] = label
    return labels


TRUTH = column((L4, 10), (L5, 20))


def test_outline_asks_for_no_name() -> None:
    assert outline_dsc(TRUTH, TRUTH, SPACING) == 1
    assert outline_dsc(column((L5, 10), (S, 20)), TRUTH, SPACING) == 1
    assert outline_dsc(column((L4, 10)), TRUTH, SPACING) == pytest.approx(2 * 120 / (120 + 240))


def test_outline_leaves_out_bodies_that_nobody_has_annotated() -> None:
    assert outline_dsc(column((L3, 0), (L4, 10), (L5, 20), (S, 30)), TRUTH, SPACING) == 1
    # Between the annotated ones every body counts.
    between = column((L4, 10), (L5, 20), (L3, 16))
    assert outline_dsc(between, TRUTH, SPACING) == pytest.approx(2 * 200 / (320 + 240), abs=0.2)
    assert outline_dsc(between, TRUTH, SPACING) < 1


def test_outline_counts_what_runs_over_the_outer_end_plates() -> None:
    over = TRUTH.copy()
    over[:, 26:28] = L5
    assert outline_dsc(over, TRUTH, SPACING) == pytest.approx(2 * 240 / (280 + 240))


def test_outline_leaves_out_arches_and_needs_two_bodies() -> None:
    behind = TRUTH.copy()
    behind[:, 10:16, 8:] = ARCHES[1].label
    front = TRUTH.copy()
    front[:, 10:16, 8:] = 0
    assert outline_dsc(behind, front, SPACING) == 1
    assert np.isnan(outline_dsc(TRUTH, column((L5, 20)), SPACING))


def test_scores_are_of_what_is_annotated_alone() -> None:
    scores = transfer_scores(column((L3, 0), (L4, 10), (S, 20)), TRUTH, Annotation(("L5", "L4"), "absent"), SPACING)
    dsc = {score["structure"]: score["value"] for score in scores if score["metric"] in ("dsc", "outline")}
    assert dsc == {"L4": 1, "L5": 0, "all bodies": 1}


def line(case: str, structure: str, metric: str, value: float, seed: int = 0, network: str = "before CPS") -> dict:
    row = {"seed": seed, "network": network, "names": "own", "slices": "as they are"}
    return {**row, "case": case, "structure": structure, "metric": metric, "value": value}


@pytest.fixture
def results() -> pd.DataFrame:
    lines = [
        line("a", "L5", "dsc", 0.8), line("a", "L4", "dsc", 0.6), line("a", "L5", "dsc", 1.0, seed=1),
        line("a", "L4", "dsc", 0.8, seed=1), line("b", "L5", "dsc", 0.4), line("b", "L5", "dsc", 0.6, seed=1),
        line("a", "all bodies", "outline", 0.9), line("a", "L5", "id_centroid", 1), line("a", "L4", "id_centroid", 0),
        line("c", "L5/S", "dsc", 0.3), line("c", "L5/S", "id_centroid", 1), line("chosen", "L5", "dsc", 0.1),
    ]  # fmt: skip
    return pd.DataFrame(lines)


def test_subjects_mean_over_their_structures(results: pd.DataFrame) -> None:
    scores = subject_scores(results).set_index(["case", "seed"])
    assert scores.loc[("a", 0), [BODIES, ALL_OUTLINES, CENTROID]].tolist() == pytest.approx([70, 90, 50])
    assert scores.loc[("c", 0), DISCS_DSC] == pytest.approx(30)
    assert np.isnan(scores.loc[("c", 0), BODIES])


def test_seeds_are_averaged_within_a_subject_first(results: pd.DataFrame) -> None:
    table = transfer_table(results, ["chosen"]).set_index(["part", "quantity"])
    bodies = table.loc[(HELD_BACK, BODIES)]
    # a: 70 and 90; b: 40 and 60; over seeds the means are 55 and 75.
    assert (bodies["value"], bodies["low"], bodies["high"], bodies["subjects"]) == pytest.approx((65, 50, 80, 2))
    assert bodies["sd_of_seeds"] == pytest.approx(200**0.5)
    assert table.loc[(CHOSEN, BODIES), "value"] == pytest.approx(10)
    assert table.loc[(HELD_BACK, CENTROID), "value"] == pytest.approx(75)
    assert np.isnan(table.loc[(HELD_BACK, DISCS_DSC), "sd_of_seeds"])


def test_from_six_subjects_on_the_range_is_an_interval() -> None:
    values = [0.1, 0.5, 0.5, 0.5, 0.5, 0.9]
    few, many = (
        transfer_table(pd.DataFrame([line(str(i), "L5", "dsc", v) for i, v in enumerate(chosen)]), []).iloc[0]
        for chosen in (values[1:], values)
    )
    assert (few["low"], few["high"]) == pytest.approx((50, 90))
    assert 10 < many["low"] < 50 < many["high"] < 90


def test_table_tells_held_back_cases_from_those_that_settings_were_chosen_on(results: pd.DataFrame) -> None:
    table = transfer_table(results, ["chosen"])
    cells = transfer_cells(table, HELD_BACK, "as they are")
    assert cells.loc[("before CPS", "own"), BODIES] == "65.0 [50.0, 80.0] ± 14.1 (2)"
    text = transfer_markdown(table, "What it is.")
    assert text.index("What it is.") < text.index("## Held back, as they are") < text.index("## Settings chosen on")
    assert "10.0 [10.0, 10.0] (1)" in text
