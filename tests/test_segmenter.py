"""Networks applied to volumes: thick ones as one, thin slices interleaved, and the way back to the scan's own grid."""

from pathlib import Path

import numpy as np
import pytest

from sshsnet_core.anatomy import N_CLASSES
from sshsnet_core.data.preprocessing import Preprocessed, Preprocessing, Restoration
from sshsnet_core.data.thin_slices import interleaves, preprocess_scan
from sshsnet_core.data.volumes import Geometry, Volume
from sshsnet_core.methods.segmenter import Segmenter, in_native_space
from sshsnet_core.methods.specks import smallest_mm3

LEARNT = Preprocessing((4.4, 1.0, 1.0))


def scan(slices, slice_mm, seed=0):
    """A volume of noise, (slices, 16, 12), pixels of 1 mm, whose every voxel is above 0."""
    array = np.random.default_rng(seed).uniform(1, 2, (slices, 16, 12)).astype(np.float32)
    affine = np.array([[-slice_mm, 0, 0, 0], [0, 0, -1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])
    return Volume(array, Geometry(array.shape, affine), Path("scan.nii.gz"))


def one_hot(labels):
    return (np.arange(N_CLASSES)[:, None, None, None] == labels).astype(np.float32)


@pytest.mark.parametrize(
    ("slice_mm", "expected"),
    [(0.5, 9), (1.0, 4), (1.2, 4), (2.2, 2), (2.5, 2), (3.0, 1), (4.0, 1), (4.4, 1), (6.0, 1)],
)
def test_a_thin_volume_is_so_many_of_about_the_learnt_spacing(slice_mm, expected):
    assert interleaves(slice_mm, 4.4, 60) == expected
    assert interleaves(slice_mm, 4.4, 2) == min(expected, 2)


def test_a_thick_volume_is_segmented_at_once_slice_by_slice():
    seen = []

    def network(image):
        seen.append(image)
        return one_hot((image > 0).astype(int))

    segmenter, image = Segmenter(LEARNT, [network]), scan(6, 4.0)
    prepared = segmenter.prepare(image)
    assert prepared.image.shape == image.array.shape
    np.testing.assert_array_equal(prepared.image, Preprocessing((4.0, 1.0, 1.0))(image).image)
    probabilities = segmenter.probabilities(prepared)
    assert len(seen) == 1
    assert probabilities.dtype == np.float32
    np.testing.assert_array_equal(probabilities.argmax(axis=0), segmenter.labels(probabilities, (4.0, 1.0, 1.0)))


def test_a_name_that_holds_less_than_any_mask_showed_is_dropped(make_case):
    """By volume, not by voxels; what no mask showed stays, and so does what is as large as the smallest."""
    labels = np.zeros((2, 10, 10), np.uint8)
    labels[:, :4], labels[0, 9, :6], labels[0, 8, :3] = 1, 2, 3
    masks = [np.where(labels == 3, 0, labels), np.where(labels == 1, 1, 0)]
    least = smallest_mm3([make_case(f"case{n}", np.ones(mask.shape), mask) for n, mask in enumerate(masks)])
    voxel_mm3 = 4.4 * 0.7 * 0.7
    np.testing.assert_allclose(least[:4], np.array([0, 80, 6, 0]) * voxel_mm3)
    found = labels.copy()
    found[0, 9, 5] = 0  # five of the six voxels are left
    segmenter = Segmenter(LEARNT, [], least)
    assert set(np.unique(segmenter.labels(one_hot(found), (4.4, 0.7, 0.7)))) == {0, 1, 3}
    # Twice as thick, they are as much as was seen; half of what was seen is enough for a share of a half.
    assert set(np.unique(segmenter.labels(one_hot(found), (8.8, 0.7, 0.7)))) == {0, 1, 2, 3}
    half = Segmenter(LEARNT, [], least / 2)
    np.testing.assert_array_equal(half.labels(one_hot(found), (4.4, 0.7, 0.7)), found)


def test_thin_slices_stay_where_they_are_and_are_scored_as_one():
    image = scan(13, 1.0)
    prepared = preprocess_scan(LEARNT, image)
    assert prepared.image.shape == (13, 16, 12)
    assert prepared.restoration.spacing == (1.0, 1.0, 1.0)
    # One z-score for all: the slices keep their contrast against one another.
    assert prepared.image.mean() == pytest.approx(0, abs=1e-5)
    assert np.abs(prepared.image.mean(axis=(1, 2))).max() > 0.01


def test_every_slice_comes_back_in_its_place():
    """13 slices of 1 mm are four volumes of 4, 3, 3 and 3; the network labels a voxel by its slice's number."""
    numbered = np.repeat(np.arange(13.0), 16 * 12).reshape(13, 16, 12).astype(np.float32)
    volumes = []

    def network(image):
        volumes.append(image[:, 0, 0].astype(int).tolist())
        return one_hot(image.astype(int))

    restoration = Restoration((13, 16, 12), (1.0, 1.0, 1.0), (13, 16, 12), (0, 16, 0, 12))
    case = Preprocessed(numbered, None, restoration)
    probabilities = Segmenter(LEARNT, [network]).probabilities(case)
    assert volumes == [[0, 4, 8, 12], [1, 5, 9], [2, 6, 10], [3, 7, 11]]
    assert probabilities.shape == (N_CLASSES, 13, 16, 12)
    np.testing.assert_array_equal(probabilities.argmax(axis=0), numbered)


def test_what_is_the_same_in_every_slice_stays_the_same():
    plane = np.random.default_rng(1).standard_normal((16, 12)).astype(np.float32)
    restoration = Restoration((9, 16, 12), (1.0, 1.0, 1.0), (9, 16, 12), (0, 16, 0, 12))
    case = Preprocessed(np.repeat(plane[None], 9, axis=0), None, restoration)
    probabilities = Segmenter(LEARNT, [lambda image: one_hot((image > 0) + 1)]).probabilities(case)
    np.testing.assert_array_equal(probabilities, np.repeat(probabilities[:, :1], 9, axis=1))
    np.testing.assert_array_equal(probabilities[:, 0].argmax(axis=0), (plane > 0) + 1)


def test_several_networks_are_averaged_over_thin_slices_too(capsys):
    networks = [lambda image: _constant(image, 3, 0.8), lambda image: _constant(image, 3, 0.4)]
    segmenter = Segmenter(LEARNT, networks)
    probabilities = segmenter.probabilities(segmenter.prepare(scan(8, 1.1)))
    assert probabilities.dtype == np.float16
    np.testing.assert_allclose(probabilities[3], 0.6, atol=1e-3)
    assert "thin slices, 4 interleaved volumes: volume 4/4" in capsys.readouterr().out


def test_labels_and_confidence_come_back_to_the_scans_own_grid():
    restoration = Restoration((2, 8, 8), (4.0, 1.0, 1.0), (2, 4, 4), (1, 4, 0, 4))
    labels, confidence = np.full(restoration.shape, 3, np.uint8), np.full(restoration.shape, 0.6, np.float32)
    segmented = in_native_space(restoration, labels, confidence)
    assert segmented.confidence.shape == segmented.labels.shape == (2, 8, 8)
    # The first row of the resampled grid was cropped: two rows of the file's.
    assert (segmented.labels[:, :2] == 0).all()
    assert (segmented.confidence[:, :2] == 0).all()
    assert (segmented.labels[:, 2:] == 3).all()
    np.testing.assert_allclose(segmented.confidence[:, 2:], 0.6, atol=0.5 / 255 + 1e-6)


def _constant(image, label, probability):
    probabilities = np.zeros((N_CLASSES, *image.shape), np.float32)
    probabilities[label], probabilities[0] = probability, 1 - probability
    return probabilities
