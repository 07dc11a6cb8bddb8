"""Measures of hand-made structures, written out plainly, and the doubts that each kind of mistake must raise."""

from dataclasses import replace

import numpy as np
import pytest

from sshsnet_core.anatomy import COLUMN, by_name
from sshsnet_core.data.volumes import Geometry
from sshsnet_core.evaluation.structures import UNSURE, Measures, disc_height, doubts, measure

#: (Z, H, W) as the library has them: slices to the left, rows down, columns back; the first voxel at (10, 20, 30).
AFFINE = np.array([[-4.0, 0, 0, 10], [0, 0, -0.5, 20], [0, -0.5, 0, 30], [0, 0, 0, 1]])


def grid(spacing):
    """An affine without tilt whose voxels have these sides (z, row, column)."""
    z, row, column = spacing
    return np.array([[-z, 0, 0, 0], [0, 0, -column, 0], [0, -row, 0, 0], [0, 0, 0, 1.0]])


def slab(spacing, height, degrees, plane="sagittal"):
    """A slab 36 mm wide, 30 mm deep and ``height`` mm high, tilted, drawn on a grid of these spacings."""
    shape = tuple(int(n) for n in np.ceil(60 / np.array(spacing)))
    # A quarter of a voxel off the middle: no face runs exactly through voxel centres.
    places = (np.moveaxis(np.indices(shape), 0, -1) - np.array(shape) / 2 + 0.25) * spacing
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    if plane == "coronal":
        turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return np.all(np.abs(places @ turn.T) < np.array([36, height, 30]) / 2, axis=-1)


def column(missing=(), spacing=(4.0, 1.0, 1.0)):
    """Blocks on top of each other from the sacrum to L3, vertebrae 20 rows high and discs 6, without ``missing``."""
    labels, bottom = np.zeros((4, 120, 30), np.uint8), 118
    for structure in COLUMN[:7]:
        height = 20 if structure.kind == "vertebra" else 6
        if structure.name not in missing:
            labels[:, bottom - height : bottom, 5:25] = structure.label
        bottom -= height
    return labels, Geometry(labels.shape, grid(spacing))


def measured(labels, geometry, probability=0.9):
    return measure(labels, np.full(labels.shape, probability, np.float32), geometry)


def test_a_block_is_measured_by_hand():
    labels = np.zeros((3, 40, 50), np.uint8)
    labels[0:2, 10:20, 30:50] = by_name("L3").label
    confidence = np.zeros(labels.shape, np.float32)
    confidence[0], confidence[1] = 1.0, 0.5
    (block,) = measure(labels, confidence, Geometry(labels.shape, AFFINE))
    assert (block.name, block.label, block.parts, block.parts_apart_mm) == ("L3", 4, 1, 0.0)
    assert block.volume_mm3 == pytest.approx(400 * 4.0 * 0.5 * 0.5)
    assert block.volume_ml == pytest.approx(0.4)
    # Slices 0 and 1, rows 10 to 19, columns 30 to 49, each counted at the middle of a voxel.
    assert block.centroid_mm == pytest.approx((10 - 0.5 * 4, 20 - 39.5 * 0.5, 30 - 14.5 * 0.5))
    assert block.probability == pytest.approx(0.75)
    assert block.height_mm is None
    assert block.between is None


def test_a_disc_knows_its_neighbours_and_the_order_is_that_of_the_column():
    found = measured(*column())
    assert [s.name for s in found] == ["S", "L5/S", "L5", "L4/L5", "L4", "L3/L4", "L3"]
    assert {s.name: s.between for s in found if s.between} == {
        "L5/S": ("S", "L5"),
        "L4/L5": ("L5", "L4"),
        "L3/L4": ("L4", "L3"),
    }
    assert found[1].height_mm == pytest.approx(6, abs=0.3)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.0, 0.7, 0.7), (4.4, 0.34, 0.34), (4.0, 0.5, 1.0)])
@pytest.mark.parametrize(("degrees", "plane"), [(0, "sagittal"), (20, "sagittal"), (-40, "sagittal"), (20, "coronal")])
def test_a_slabs_height_is_its_own_however_it_is_tilted_and_sampled(spacing, degrees, plane):
    disc = slab(spacing, 9.0, degrees, plane)
    # Across thick slices the ends of a slab that is tilted sideways are steps, which widen its footprint.
    assert disc_height(disc, grid(spacing)) == pytest.approx(9.0, abs=0.9 if plane == "coronal" else 0.5)


def test_a_disc_seen_in_two_slices_is_not_taken_for_one_that_lies_on_its_side():
    disc = slab((4.4, 0.7, 0.7), 12.0, 0)
    middle = len(disc) // 2
    disc[: middle - 1], disc[middle + 1 :] = False, False
    assert disc_height(disc, grid((4.4, 0.7, 0.7))) == pytest.approx(12.0, abs=0.75)


def test_one_voxel_is_as_high_as_itself():
    assert disc_height(np.ones((1, 1, 1), bool), grid((4.0, 1.0, 1.0))) == pytest.approx(1.0, abs=0.1)


def test_a_wedge_has_its_mean_height():
    rows, columns = np.indices((40, 60))
    wedge = np.repeat((np.abs(rows - 20) < 3 + columns / 15)[None], 9, axis=0)
    # 6 to 14 rows of 1 mm; the normal lies within a few degrees of the rows' own direction.
    assert disc_height(wedge, grid((4.0, 1.0, 1.0))) == pytest.approx(wedge[0].sum() / 60, abs=0.5)


def test_labels_off_their_grid_are_refused():
    labels, geometry = column()
    with pytest.raises(ValueError, match="grid"):
        measure(labels[1:], labels[1:].astype(np.float32), geometry)


def test_a_whole_column_raises_no_doubt():
    assert doubts(measured(*column())) == []


def test_nothing_found_is_said():
    labels, geometry = column(missing=[s.name for s in COLUMN])
    assert doubts(measured(labels, geometry)) == ["No structure was found in this scan."]


def test_a_column_without_its_sacrum_rests_on_nothing():
    assert doubts(measured(*column(missing=["S", "L5/S"]))) == [
        "The sacrum is not in view or was not found: level names may be shifted."
    ]


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (["L4"], "L4 was not found between L4/L5 and L3/L4"),
        (["L4/L5", "L4"], "L4/L5 and L4 were not found between L5 and L3/L4"),
        (["L5/S", "L5", "L4/L5"], "L5/S, L5 and L4/L5 were not found between S and L4"),
    ],
)
def test_a_gap_in_the_chain_of_names_is_told(missing, said):
    assert doubts(measured(*column(missing))) == [f"{said}: a level may carry its neighbour's name."]


def test_two_gaps_are_told_one_by_one():
    assert len(doubts(measured(*column(["L5/S", "L4"])))) == 2


def test_names_out_of_order_along_the_column_are_told():
    labels, geometry = column()
    l4, l5 = labels == by_name("L4").label, labels == by_name("L5").label
    labels[l4], labels[l5] = by_name("L5").label, by_name("L4").label
    assert "L4 lies below L4/L5, which cannot be: at least one of the two is misplaced." in doubts(
        measured(labels, geometry)
    )


def test_one_name_on_two_levels_is_told_and_a_crumb_is_not():
    labels, geometry = column()
    labels[labels == by_name("L3").label] = by_name("L4").label
    (sentence,) = [s for s in doubts(measured(labels, geometry)) if "Two parts" in s]
    # Two vertebrae of 20 rows with a disc of 6 between them.
    assert sentence == "Two parts of comparable size under one name may be two levels: L4 26 mm apart."
    labels, geometry = column()
    labels[0, 0:3, 5:9] = by_name("L5").label
    assert measured(labels, geometry)[2].parts == 2
    assert doubts(measured(labels, geometry)) == []


def test_an_arch_that_is_cut_off_its_body_is_no_second_level():
    labels, geometry = column()
    body = np.argwhere(labels == by_name("L5").label)
    rows = slice(body[:, 1].min(), body[:, 1].max() + 1)
    labels[:, rows, 14:17] = 0
    (l5,) = [s for s in measured(labels, geometry) if s.name == "L5"]
    assert (l5.parts, l5.parts_apart_mm) == (2, 0.0)
    assert doubts(measured(labels, geometry)) == []


def test_low_probability_is_told_with_its_number():
    found = measured(*column())
    found[2] = replace(found[2], probability=UNSURE - 0.11)
    found[4] = replace(found[4], probability=UNSURE)
    assert doubts(found) == ["The networks are unsure, with a mean probability below 0.8, of L5 0.69."]


def test_a_doubtful_sacrum_is_told_as_one_that_is_missing():
    found = measured(*column())
    found[0] = replace(found[0], probability=0.2)
    assert doubts(found)[0].startswith("The networks are unsure of the sacrum, from which levels are counted")


def test_measures_are_plain_numbers():
    for structure in measured(*column()):
        assert isinstance(structure, Measures)
        assert {type(value) for value in vars(structure).values()} <= {str, int, float, tuple, type(None)}
        assert {type(x) for x in structure.centroid_mm} == {float}
