"""Names from the whole column, on columns drawn as boxes and blurred, without any network."""

import numpy as np
import pytest
from columns import COLUMNS, DEPTH_MM, ROWS, SLICES, SPACING, drawn, voted

from sshsnet_core.anatomy import COLUMN, N_APART, N_CLASSES, VERTEBRAE, by_name
from sshsnet_core.decision import KIND, volume_kind_first
from sshsnet_core.evaluation.chain import alternatives, promontory
from sshsnet_core.evaluation.column import Column
from sshsnet_core.evaluation.naming import Naming, name_column


def right(naming: Naming, labels: np.ndarray) -> float:
    """Share of the column's voxels that have their own name."""
    return float((naming.labels[labels > 0] == labels[labels > 0]).mean())


@pytest.mark.parametrize("classes", [N_CLASSES, N_APART])
def test_labels_are_the_names_of_their_kind_where_they_are(classes: int) -> None:
    probabilities = voted(drawn(), classes=classes)
    naming = name_column(probabilities, SPACING)
    kinds = np.array(KIND)[volume_kind_first(probabilities)]
    for z, row, column in np.argwhere(kinds)[::97]:
        assert naming.labels[z, row, column] == naming.names[kinds[z, row, column], row, column]
    assert (naming.names[0] == 0).all()
    assert (naming.labels[kinds == 0] == 0).all()


@pytest.mark.parametrize("certainty", [0.9, 0.5])
def test_right_names_stay(certainty: float) -> None:
    labels = drawn()
    naming = name_column(voted(labels, certainty), SPACING)
    assert right(naming, labels) > 0.97
    assert naming.levels == tuple(s.name for s in COLUMN[: 2 * 8 - 1])
    assert not (naming.labels[labels == 0] > 0).any()


def test_names_that_are_wrong_in_a_part_of_the_column_are_mended() -> None:
    """L2 and L1 are called by their upper neighbours; the rest of the column says what they are."""
    labels = drawn()
    probabilities = voted(labels, 0.7)
    wrong = voted(labels, 0.7, shift=1)
    part = np.isin(labels, [by_name(name).label for name in ("L2", "L1/L2", "L1")])
    probabilities[:, part] = wrong[:, part]
    assert right(name_column(probabilities, SPACING), labels) > 0.97


def test_names_that_are_wrong_in_some_slices_are_mended() -> None:
    labels = drawn()
    probabilities = voted(labels, 0.7)
    probabilities[:, 5:] = voted(labels, 0.7, shift=1)[:, 5:]
    assert right(name_column(probabilities, SPACING), labels) > 0.97


def test_a_square_s1_that_is_called_l5_is_mended() -> None:
    """What networks that know phantoms alone do on real scans: every name is one level too high, from S1 up."""
    labels = drawn()
    seen = np.where(labels > 0, voted(labels, shift=1).argmax(axis=0), 0)
    rows = np.arange(ROWS)[:, None] * SPACING[1]
    sacrum = labels == by_name("S").label
    seen[sacrum] = by_name("S").label
    seen[sacrum & (rows < 240 + 27)] = by_name("L5").label
    seen[sacrum & (rows > 240 + 24) & (rows < 240 + 28)] = by_name("L5/S").label
    naming = name_column(voted(seen), SPACING)
    bodies = np.isin(labels, [v.label for v in VERTEBRAE[1:]])
    assert (naming.labels[bodies] == labels[bodies]).mean() > 0.95


def test_a_sacrum_in_view_is_not_passed_over() -> None:
    """The chain that calls S1 L5, and what is below it nothing, is charged for the promontory that it ignores."""
    column = Column.of(voted(drawn()), SPACING)
    assert column is not None
    as_promontory, passed_over = promontory(column)
    top = column.axis[np.argmax(as_promontory), 0]
    assert top == pytest.approx(240, abs=8)
    assert passed_over < 0
    assert alternatives(column)[0].segments[0].structure.name == "S"


def test_nobody_pays_for_a_sacrum_that_is_out_of_view() -> None:
    column = Column.of(voted(drawn(lowest="L4")), SPACING)
    assert column is not None
    assert promontory(column)[1] == 0


def test_the_depth_of_the_column() -> None:
    """As drawn, once seen along the axis: the median over slices does not mind one slice that sees nothing."""
    labels = drawn()
    labels[3] = 0
    column = Column.of(voted(labels, 0.9), SPACING)
    assert column is not None
    straight = column.axis[:, 0] < 220
    assert column.depth[straight][4:-4] == pytest.approx(DEPTH_MM, abs=3)


def test_a_missed_disc_does_not_join_two_vertebrae() -> None:
    labels = drawn()
    seen = labels.copy()
    seen[labels == by_name("L2/L3").label] = by_name("L3").label
    naming = name_column(voted(seen), SPACING)
    bodies = np.isin(labels, [v.label for v in VERTEBRAE])
    assert (naming.labels[bodies] == labels[bodies]).mean() > 0.95


def test_without_a_sacrum_names_rest_on_the_networks_and_that_is_said() -> None:
    labels = drawn(lowest="L4")
    naming = name_column(voted(labels), SPACING)
    assert right(naming, labels) > 0.95
    assert any("sacrum is not in view" in flag for flag in naming.flags)


def test_confidence_falls_where_the_networks_are_torn_between_two_chains() -> None:
    labels = drawn(top="L1", lowest="L4")
    sure = name_column(voted(labels, 0.8), SPACING)
    torn = name_column((voted(labels, 0.8) + voted(labels, 0.8, shift=1)) / 2, SPACING)
    assert name_column(voted(drawn(), 0.8), SPACING).confidence > 0.9
    # Four levels without a sacrum are less to go by.
    assert torn.confidence < sure.confidence - 0.05 < 0.9
    assert torn.runner_up is not None
    assert torn.runner_up[0] in ("every name one level higher", "every name one level lower")
    assert torn.confidence + torn.runner_up[1] <= 1 + 1e-6


def test_without_a_vertebra_to_count_from_nothing_is_sure() -> None:
    naming = name_column(voted(drawn(top="L5/S"), 0.9), SPACING)
    assert (naming.confidence, naming.runner_up) == (0.0, None)
    assert any("unsure" in flag for flag in naming.flags)


def test_a_flat_lowest_disc_is_flagged() -> None:
    labels = drawn()
    flat = labels.copy()
    rows = np.flatnonzero((labels == by_name("L5/S").label).any(axis=(0, 2)))
    flat[:, rows[:4]] = np.where(labels[:, rows[:4]] > 0, by_name("L5").label, 0)
    assert any("transitional" in flag for flag in name_column(voted(flat), SPACING).flags)
    assert not any("transitional" in flag for flag in name_column(voted(labels), SPACING).flags)


def test_strays_are_no_part_of_the_column() -> None:
    labels = drawn()
    probabilities = voted(labels)
    bowel = np.s_[2:4, 150:156, 2:8]
    probabilities[:, *bowel] = voted(np.full_like(labels, by_name("S").label))[:, *bowel]
    assert right(name_column(probabilities, SPACING), labels) > 0.97


def test_nothing_there_is_said() -> None:
    naming = name_column(voted(np.zeros((SLICES, ROWS, COLUMNS), np.uint8)), SPACING)
    assert not naming.labels.any()
    assert naming.levels == ()
    assert naming.confidence == 0
    assert naming.flags == ("No spinal column was found.",)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_speck_is_no_column(rows: int) -> None:
    labels = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
    labels[2:4, 60 : 60 + rows, 20:40] = by_name("L3").label
    naming = name_column(voted(labels), SPACING)
    assert naming.flags == ("No spinal column was found.",)


@pytest.mark.parametrize("seed", range(8))
def test_names_are_always_consecutive(seed: int) -> None:
    """Whatever the networks say: a chain without a gap, from below."""
    rng = np.random.default_rng(seed)
    labels = drawn()
    noise = rng.dirichlet(np.ones(N_CLASSES), labels.shape).transpose(3, 0, 1, 2).astype(np.float32)
    probabilities = 0.5 * voted(labels, 0.6, shift=int(rng.integers(-1, 2))) + 0.5 * noise
    levels = name_column(probabilities, SPACING).levels
    names = [structure.name for structure in COLUMN]
    places = [names.index(level) for level in levels]
    assert places == list(range(places[0], places[0] + len(places)))


def test_alternatives_are_worse_than_the_best() -> None:
    column = Column.of(voted(drawn()), SPACING)
    assert column is not None
    chains = alternatives(column)
    by_shift = {chain.shift: chain.fit for chain in chains}
    assert max(by_shift, key=lambda shift: by_shift[shift]) == 0
    assert by_shift[0] > by_shift[1]
