"""Which temperature makes naming's confidence honest: the views it is fitted to, the fit, and what is told of it."""

from types import SimpleNamespace

import numpy as np
import pytest
from columns import SPACING, drawn, voted

from sshsnet_core.anatomy import by_name
from sshsnet_core.benchmarks.confidence import (
    Named,
    by_confidence,
    by_view,
    confidence,
    fields_of_view,
    fit_temperature,
    named,
    names_right,
)
from sshsnet_core.evaluation.chain import alternatives
from sshsnet_core.evaluation.column import Column
from sshsnet_core.evaluation.naming import TEMPERATURE


def column(margin: float, right: bool, view: str = "whole") -> Named:
    return Named(view, np.array([0.0, -margin]), right)


def test_the_temperature_is_that_under_which_confidence_is_honest() -> None:
    """Two chains, 10 apart, the better one right in 80 % of the cases: the odds 4 are exp(10 / T)."""
    columns = [column(10, True)] * 80 + [column(10, False)] * 20
    assert fit_temperature(columns) == pytest.approx(10 / np.log(4), rel=0.03)
    assert confidence(column(10, True), fit_temperature(columns)) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("seed", range(20))
def test_views_are_cut_off_from_the_sacrum_to_l3(seed: int) -> None:
    labels = drawn()
    middle = {name: np.argwhere(labels == by_name(name).label)[:, 1].mean() for name in ("L3", "S")}
    views = fields_of_view(labels, SPACING[1], np.random.default_rng(seed))
    assert views["whole"] == slice(0, labels.shape[1])
    for view in ("cut off below", "short"):
        assert middle["L3"] - 1 <= views[view].stop <= middle["S"] + 1
    assert views["cut off below"].start == 0
    length = (views["short"].stop - views["short"].start) * SPACING[1]
    assert 109 <= length <= 161 or views["short"].start == 0


def test_without_a_sacrum_a_phantom_is_shown_whole_alone() -> None:
    assert list(fields_of_view(drawn(lowest="L4"), SPACING[1], np.random.default_rng(0))) == ["whole"]


def test_names_are_right_where_they_hold_their_structures_middle() -> None:
    labels = drawn()
    found = Column.of(voted(labels), SPACING)
    assert found is not None
    best, *others = alternatives(found)
    assert names_right(best, found, labels) == len(best.segments)
    for chain in others:
        assert names_right(chain, found, labels) < len(best.segments) / 2


@pytest.mark.parametrize("shift", [0, 1])
def test_a_phantom_is_named_in_all_its_views(shift: int) -> None:
    """By a network that sees through the noise, and calls every level its own name or the next one."""
    labels = drawn()
    case = SimpleNamespace(
        name="Case1", image=100 * labels.astype(np.float32), labels=labels, restoration=SimpleNamespace(spacing=SPACING)
    )
    seen: list[np.ndarray] = []

    def network(image: np.ndarray) -> np.ndarray:
        seen.append(image)
        return voted(np.rint(image / 100).astype(np.uint8), 0.9, shift)

    found = named(case, network)  # type: ignore[arg-type]
    assert [column.view for column in found] == ["whole", "cut off below", "short"]
    assert all(len(column.fits) > 1 and column.fits.argmax() == 0 for column in found)
    assert all(0 < np.abs(image - 100 * np.rint(image / 100)).max() < 10 for image in seen)
    # A short view has nothing but the networks' names to go by.
    assert found[2].right == (shift == 0)


def test_what_is_told() -> None:
    sure, unsure = 10 * TEMPERATURE, 0.1 * TEMPERATURE
    columns = [column(sure, True), column(unsure, True, "short"), column(unsure, False, "short")]
    views = by_view(columns)
    assert views.loc["short", ["named right", "columns"]].to_list() == [0.5, 2]
    assert views.loc["short", "says"] == pytest.approx(1 / (1 + np.exp(-0.1)))
    assert views.loc["all", ["named right", "columns"]].to_list() == [pytest.approx(2 / 3), 3]
    bands = by_confidence(columns)
    assert bands["columns"].to_list() == [2, 1]
    assert bands["named right"].to_list() == [0.5, 1.0]
