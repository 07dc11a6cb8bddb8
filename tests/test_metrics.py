import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics.utils import get_code_to_measure_table

from sshsnet_core.anatomy import STRUCTURES
from sshsnet_core.evaluation.identification import identify
from sshsnet_core.evaluation.metrics import SEGMENTATION, TOLERANCE_MM, score_case

SPACING = (2.0, 0.7, 0.5)
label_volumes = arrays(np.uint8, (3, 5, 6), elements=st.sampled_from([0, 0, 0, 1, 2, 13]))


def table(prediction, truth, spacing=SPACING):
    """How well it is outlined; what is named has tests of its own."""
    scores = score_case(prediction, truth, spacing)
    return {(s["structure"], s["metric"]): s["value"] for s in scores if s["metric"] in SEGMENTATION}


def distances_to_nearest(points, others):
    """Plain loops: from every point (in mm) to the nearest of the others."""
    return [min(math.dist(p, q) for q in others) for p in points]


def surface_voxels(mask):
    """Voxels of the mask with a face neighbour outside it, in mm."""
    points = []
    for z, y, x in np.argwhere(mask):
        for step in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
            n = (z + step[0], y + step[1], x + step[2])
            outside = any(i < 0 or i >= size for i, size in zip(n, mask.shape, strict=True))
            if outside or not mask[n]:
                points.append(tuple(float(i) * s for i, s in zip((z, y, x), SPACING, strict=True)))
                break
    return points


def hd95_in_loops(prediction, truth):
    p, t = surface_voxels(prediction), surface_voxels(truth)
    return max(np.percentile(distances_to_nearest(a, b), 95) for a, b in ((p, t), (t, p)))


def surface_elements(mask):
    """Corners between voxels through which the surface passes, in mm, with the surface's area there."""
    padded = np.pad(mask, 1)
    areas, _ = get_code_to_measure_table(SPACING)
    elements = {}
    for z, y, x in itertools.product(*(range(n - 1) for n in padded.shape)):
        corner = padded[z : z + 2, y : y + 2, x : x + 2].ravel()
        code = sum(int(bit) << (7 - i) for i, bit in enumerate(corner))
        if 0 < code < 255:
            elements[z * SPACING[0], y * SPACING[1], x * SPACING[2]] = float(areas[code])
    return elements


def nsd_in_loops(prediction, truth):
    p, t = surface_elements(prediction), surface_elements(truth)
    near = total = 0.0
    for a, b in ((p, t), (t, p)):
        for area, distance in zip(a.values(), distances_to_nearest(a, b), strict=True):
            total += area
            near += area * (distance <= TOLERANCE_MM)
    return near / total


@settings(max_examples=25, deadline=None)
@given(label_volumes, label_volumes)
def test_scores_equal_the_definitions_written_out(prediction, truth):
    expected = {}
    for structure in STRUCTURES:
        p, t = prediction == structure.label, truth == structure.label
        if not p.any() and not t.any():
            continue
        expected[structure.name, "dsc"] = 2 * (p & t).sum() / (p.sum() + t.sum())
        if p.any() and t.any():
            expected[structure.name, "hd95"] = hd95_in_loops(p, t)
            expected[structure.name, "nsd"] = nsd_in_loops(p, t)
        else:
            expected[structure.name, "nsd"] = 0.0
    assert table(prediction, truth) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@settings(max_examples=10, deadline=None)
@given(label_volumes)
def test_a_perfect_prediction_scores_perfectly(truth):
    perfect = {"dsc": 1, "nsd": 1, "hd95": 0}
    assert all(value == perfect[metric] for (_, metric), value in table(truth, truth).items())


def test_absent_structures():
    empty, l5 = np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4), np.uint8)
    l5[0, 1:3, 1:3] = 2
    assert table(empty, empty) == {}
    # Missed, and seen where there is none: both are 0, and no distance exists.
    assert table(empty, l5) == table(l5, empty) == {("L5", "dsc"): 0, ("L5", "nsd"): 0}


@settings(max_examples=25, deadline=None)
@given(label_volumes, label_volumes)
def test_the_verdicts_of_identification_come_with_the_scores(prediction, truth):
    verdicts: dict[str, dict[str, float]] = {}
    for score in score_case(prediction, truth, SPACING):
        if score["metric"] not in SEGMENTATION:
            verdicts.setdefault(score["structure"], {})[score["metric"]] = score["value"]
    assert verdicts == identify(prediction, truth, SPACING)


def test_distances_are_in_mm_along_each_axis():
    truth = np.zeros((6, 12, 12), np.uint8)
    truth[1:3, 2:6, 2:6] = 4
    for axis, spacing in enumerate(SPACING):
        assert table(np.roll(truth, 2, axis), truth)["L3", "hd95"] == pytest.approx(2 * spacing)


def test_the_flat_ends_of_a_structure_do_not_hide_an_error_of_its_outline():
    # Two slices of 30 x 30 voxels against 24 x 30: most surface voxels lie on the ends, most of the area at the edge.
    truth = np.zeros((4, 40, 40), np.uint8)
    truth[1:3, 5:35, 5:35] = 3
    prediction = truth.copy()
    prediction[:, 29:] = 0
    assert 0.5 < table(prediction, truth, (4.4, 0.34, 0.34))["L4", "nsd"] < 0.9


@pytest.mark.parametrize(
    ("prediction", "truth", "spacing", "message"),
    [
        (np.zeros((2, 3, 4), int), np.zeros((2, 4, 3), int), SPACING, "native grid"),
        (np.zeros((3, 4), int), np.zeros((3, 4), int), SPACING, "native grid"),
        (np.zeros((2, 3, 4)), np.zeros((2, 3, 4), int), SPACING, "prediction holds float64"),
        (np.zeros((2, 3, 4), int), np.full((2, 3, 4), 20), SPACING, "truth must hold labels from 0 to 19"),
        (np.full((2, 3, 4), -1), np.zeros((2, 3, 4), int), SPACING, "prediction must hold"),
        (np.zeros((2, 3, 4), int), np.zeros((2, 3, 4), int), (4.4, 0.0, 0.3), "positive"),
    ],
)
def test_input_that_cannot_be_scored_is_refused(prediction, truth, spacing, message):
    with pytest.raises(ValueError, match=message):
        score_case(prediction, truth, spacing)
