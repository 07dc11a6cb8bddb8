"""Verdicts on hand-made columns: blocks on top of each other, sacrum at the bottom, discs between vertebrae."""

import math

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sshsnet_core.anatomy import COLUMN, STRUCTURES, by_name
from sshsnet_core.evaluation.identification import CENTROID_LIMIT_MM, FOUND_SHARE, identify, name_counts

SPACING = (4.0, 1.0, 1.0)
RIGHT = {"id_centroid": 1, "id_overlap": 1, "missed": 0, "shifted": 0}
SHIFTED = {"id_centroid": 0, "id_overlap": 0, "missed": 0, "shifted": 1}
MISSED = {"id_centroid": 0, "id_overlap": 0, "missed": 1, "shifted": 0}
#: From the sacrum to L2: four levels and the discs between them.
SHOWN = COLUMN[:9]


def column(names=None):
    """(2, 160, 20): vertebrae 20 rows high, discs 6, two rows of background between; ``names`` are their labels."""
    labels = np.zeros((2, 160, 20), np.uint8)
    names = [s.label for s in SHOWN] if names is None else names
    bottom = 158
    for structure, name in zip(SHOWN, names, strict=True):
        height = 20 if structure.kind == "vertebra" else 6
        labels[:, bottom - height : bottom, 4:16] = name
        bottom -= height + 2
    return labels


def renamed(labels, **names):
    """Names in place of others, 0 for none; all at once."""
    table = np.arange(20, dtype=np.uint8)
    for old, new in names.items():
        table[by_name(old.replace("_", "/")).label] = by_name(new.replace("_", "/")).label if new else 0
    return table[labels]


def test_a_perfect_column_is_named_right_throughout():
    assert identify(column(), column(), SPACING) == {s.name: RIGHT for s in SHOWN}


def test_a_column_shifted_by_one_level_is_shifted_throughout_and_invents_nothing():
    higher = column([COLUMN[COLUMN.index(s) + 2].label for s in SHOWN])
    verdicts = identify(higher, column(), SPACING)
    assert {s.name: verdicts.pop(s.name) for s in SHOWN} == {s.name: SHIFTED for s in SHOWN}
    # The two topmost names are none of the truth's, but they lie on its structures: shifts, counted already.
    assert verdicts == {name: {"invented": 0} for name in ("L1", "L1/L2")}


def test_a_missed_level_leaves_its_neighbours_right():
    verdicts = identify(renamed(column(), L4=None), column(), SPACING)
    assert verdicts == {s.name: MISSED if s.name == "L4" else RIGHT for s in SHOWN}


def test_an_invented_level_lies_on_no_structure_of_its_kind():
    prediction = column()
    prediction[:, :8, 4:16] = by_name("L1").label
    assert identify(prediction, column(), SPACING) == {s.name: RIGHT for s in SHOWN} | {"L1": {"invented": 1}}
    # On a disc, a vertebra's name is invented as well, and the disc is missed.
    verdicts = identify(renamed(column(), L3_L4="L1"), column(), SPACING)
    assert verdicts["L1"] == {"invented": 1}
    assert verdicts["L3/L4"] == MISSED


def test_most_of_an_invented_name_decides_and_half_is_not_most():
    truth = column()
    for rows_off, invented in ((9, 0), (10, 1), (11, 1)):
        prediction = truth.copy()
        top = np.flatnonzero((truth == by_name("L2").label).any(axis=(0, 2)))[0]
        prediction[:, top - rows_off : top - rows_off + 20, 4:16] = by_name("L1").label
        assert identify(prediction, truth, SPACING)["L1"] == {"invented": invented}


def test_touching_structures_and_a_blurred_border_are_named_right():
    # Each name spills three rows over the structures above it, discs over vertebrae and the other way round.
    prediction = column()
    for structure in reversed(SHOWN):
        prediction[np.roll(column() == structure.label, -3, axis=1)] = structure.label
    assert identify(prediction, column(), SPACING) == {s.name: RIGHT for s in SHOWN}


def test_a_stray_island_misleads_the_centroid_but_not_the_overlap():
    prediction = column()
    # A quarter of the voxels of L5, 100 mm higher: the centroid moves by a fifth of that.
    prediction[:, :5, 4:16] = by_name("L5").label
    verdicts = identify(prediction, column(), SPACING)
    assert verdicts["L5"] == RIGHT | {"id_centroid": 0}
    assert {name for name, verdict in verdicts.items() if verdict != RIGHT} == {"L5"}
    # A name that the truth lacks is invented, however small its island.
    prediction[0, 0, 0] = by_name("T9").label
    assert identify(prediction, column(), SPACING)["T9"] == {"invented": 1}


def test_a_structure_is_found_from_a_quarter_of_its_voxels_on():
    truth = column()
    rows = np.flatnonzero((truth == by_name("L4").label).any(axis=(0, 2)))
    assert len(rows) * FOUND_SHARE == 5
    for kept, expected in ((5, 0), (4, 1)):
        prediction = truth.copy()
        prediction[:, rows[kept:]] = 0
        assert identify(prediction, truth, SPACING)["L4"]["missed"] == expected


def test_a_tie_of_two_names_is_no_identification():
    truth = column()
    prediction = truth.copy()
    half = (truth == by_name("L4").label) & (np.arange(20) < 10)
    prediction[half] = by_name("L3").label
    assert identify(prediction, truth, SPACING)["L4"]["shifted"] == 1
    prediction[0, np.argwhere(half)[0, 1], 9] = by_name("L4").label
    assert identify(prediction, truth, SPACING)["L4"]["id_overlap"] == 1


def test_the_centroid_counts_in_mm_along_each_axis():
    truth = np.zeros((24, 50, 50), np.uint8)
    truth[1:3, 2:6, 2:6] = by_name("L3").label
    for axis, spacing in enumerate(SPACING):
        steps = int(CENTROID_LIMIT_MM / spacing)
        assert identify(np.roll(truth, steps, axis), truth, SPACING)["L3"]["id_centroid"] == 1
        assert identify(np.roll(truth, steps + 1, axis), truth, SPACING)["L3"]["id_centroid"] == 0


def test_a_centroid_nearer_to_another_of_its_kind_is_wrong_although_within_reach():
    # Levels 12 mm apart: half-way and beyond, the neighbour is as near.
    truth = np.zeros((1, 40, 4), np.uint8)
    for level, label in enumerate((by_name("L5").label, by_name("L4").label)):
        truth[:, 30 - 12 * level : 34 - 12 * level] = label
    near = [identify(np.roll(truth, -up, 1), truth, SPACING)["L5"]["id_centroid"] for up in (5, 6, 7)]
    assert near == [1, 0, 0]


def test_nothing_predicted_and_nothing_true():
    empty = np.zeros_like(column())
    assert identify(empty, column(), SPACING) == {s.name: MISSED for s in SHOWN}
    assert identify(column(), empty, SPACING) == {s.name: {"invented": 1} for s in SHOWN}
    assert identify(empty, empty, SPACING) == {}


label_volumes = arrays(np.uint8, (2, 4, 5), elements=st.sampled_from([0, 1, 2, 3, 11, 12]))


@settings(max_examples=50, deadline=None)
@given(label_volumes, label_volumes)
def test_verdicts_equal_the_definitions_written_out(prediction, truth):
    expected = {}
    for structure in STRUCTURES:
        kin = [s.label for s in STRUCTURES if s.kind == structure.kind]
        true, named = truth == structure.label, prediction == structure.label
        if true.any():
            votes = [int((prediction[true] == k).sum()) for k in kin]
            own = int((prediction[true] == structure.label).sum())
            missed = sum(votes) / true.sum() < FOUND_SHARE
            right = not missed and own == max(votes) and votes.count(own) == 1
            near = False
            if named.any():
                away = {k: math.dist(centre(named), centre(truth == k)) for k in kin if (truth == k).any()}
                own_distance = away.pop(structure.label)
                assume(all(abs(own_distance - other) > 1e-9 for other in away.values()))  # a tie is decided by rounding
                near = own_distance <= CENTROID_LIMIT_MM and all(own_distance < other for other in away.values())
            verdict = {"id_centroid": near, "id_overlap": right, "missed": missed, "shifted": not missed and not right}
            assert verdict["id_overlap"] + verdict["missed"] + verdict["shifted"] == 1
            expected[structure.name] = verdict
        elif named.any():
            expected[structure.name] = {"invented": np.isin(truth[named], kin).mean() <= 0.5}
    assert identify(prediction, truth, SPACING) == expected


def centre(mask):
    return tuple(mean * spacing for mean, spacing in zip(np.argwhere(mask).mean(axis=0), SPACING, strict=True))


def test_counts_are_of_true_lines_and_predicted_columns():
    counts = name_counts(np.array([[[0, 2, 2]]], np.uint8), np.array([[[0, 2, 3]]], np.uint8))
    assert counts.shape == (20, 20)
    assert counts.sum() == 3
    assert counts[0, 0] == counts[2, 2] == counts[3, 2] == 1
