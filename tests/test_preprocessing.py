"""Section 4.2 against its formulas in plain loops, and the way back on any grid."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter

from sshsnet_core.data.preprocessing import Preprocessing, Restoration
from sshsnet_core.data.volumes import Geometry, Volume, VolumeError, read_image, read_labels, write_labels

REAL = Path(os.environ.get("SSHSNET_REAL_DATA", Path(__file__).parents[2] / "shared" / "data" / "real"))
RNG = np.random.default_rng(0)

#: File axes as (right to left, superior to inferior, anterior to posterior), and three others, one of them oblique.
OBLIQUE = np.array([[-0.98, 0.17, 0.1], [0.17, 0.98, 0.02], [-0.1, 0.03, 0.99]])
DIRECTIONS = [
    np.array([[-1, 0, 0], [0, 0, -1], [0, -1, 0]]),
    np.eye(3),
    np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]),
    np.linalg.qr(OBLIQUE)[0],
]


def geometry(shape: tuple[int, ...], spacing: tuple[float, ...], direction: int = 0) -> Geometry:
    """``shape`` and ``spacing`` in file order."""
    affine = np.eye(4)
    affine[:3, :3] = DIRECTIONS[direction] * spacing
    affine[:3, 3] = (12.3, -45.6, 78.9)
    made = Geometry((shape[0], shape[1], shape[2]), affine)
    return made


def volume(array: np.ndarray, spacing: tuple[float, float, float] = (4.4, 0.7, 0.7)) -> Volume:
    return Volume(array, geometry(array.shape, spacing), Path("Case7.nii.gz"))


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return RNG.uniform(100, 2000, shape).astype(np.float32)


@st.composite
def volumes_with_margins(draw: st.DrawFn) -> tuple[Volume, Volume]:
    """An image with a zero margin of odd widths in plane, and labels where it is not zero."""
    direction = draw(st.integers(0, len(DIRECTIONS) - 1))
    grid = geometry(draw(st.tuples(*[st.integers(7, 23)] * 3)), draw(st.tuples(*[st.floats(0.6, 1.7)] * 3)), direction)
    z, h, w = grid.internal_shape
    top, bottom = draw(st.integers(0, h // 3)), draw(st.integers(0, h // 3))
    left, right = draw(st.integers(0, w // 3)), draw(st.integers(0, w // 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inside = np.zeros((z, h, w), bool)
    inside[:, top : h - bottom, left : w - right] = True
    image = np.where(inside, rng.uniform(100, 2000, (z, h, w)), 0).astype(np.float32)
    labels = np.where(inside, rng.integers(0, 20, (z, h, w)), 0).astype(np.uint8)
    return Volume(image, grid), Volume(labels, grid)


@settings(max_examples=60, deadline=None)
@given(volumes_with_margins(), st.tuples(*[st.floats(0.6, 1.7)] * 3))
def test_labels_come_back_within_half_a_voxel(pair: tuple[Volume, Volume], target: tuple[float, float, float]) -> None:
    """Every restored label is one that the truth has within half a voxel of the common grid, along every axis."""
    image, labels = pair
    preprocessed = Preprocessing(target)(image, labels)
    restoration = preprocessed.restoration
    assert preprocessed.labels is not None
    assert preprocessed.image.shape == preprocessed.labels.shape == restoration.shape
    restored = restoration.labels(preprocessed.labels)
    assert restored.shape == labels.array.shape
    native, coarse = restoration.native_spacing, restoration.spacing
    # So many voxels away lies the last one that begins within half a coarse voxel of a centre; none on a finer grid.
    reach = [int(np.ceil((c / n + 1) / 2 - 1e-9)) - 1 for n, c in zip(native, coarse, strict=True)]
    sizes = [2 * r + 1 for r in reach]
    for label in np.unique(restored):
        near = maximum_filter(labels.array == label, sizes)
        if label == 0:
            # The crop may begin anywhere within the voxels that touch the zero margin.
            near |= maximum_filter(image.array == 0, [size + 2 for size in sizes])
        assert near[restored == label].all()


@settings(max_examples=25, deadline=None)
@given(volumes_with_margins())
def test_a_restored_label_map_has_the_files_shape_and_affine(
    tmp_path_factory: pytest.TempPathFactory, pair: tuple[Volume, Volume]
) -> None:
    image, labels = pair
    preprocessed = Preprocessing((1.1, 0.9, 0.8))(image, labels)
    restoration = Restoration.from_dict(json.loads(json.dumps(preprocessed.restoration.to_dict())))
    assert restoration == preprocessed.restoration
    path = tmp_path_factory.mktemp("restored") / "labels.nii.gz"
    assert preprocessed.labels is not None
    write_labels(path, restoration.labels(preprocessed.labels), image.geometry)
    again = read_labels(path)
    assert again.geometry.shape == image.geometry.shape
    np.testing.assert_allclose(again.geometry.affine, image.geometry.affine, atol=1e-4)


def test_finer_common_grid_restores_labels_exactly() -> None:
    labels = RNG.integers(0, 20, (5, 31, 27)).astype(np.uint8)
    preprocessed = Preprocessing((3.1, 0.34, 0.34))(volume(noise(labels.shape)), volume(labels))
    assert preprocessed.restoration.resampled_shape == (7, 64, 56)
    np.testing.assert_array_equal(preprocessed.restoration.labels(preprocessed.labels), labels)


def linear(values: np.ndarray, m: int) -> np.ndarray:
    """The formula of linear interpolation at voxel centres that keep the extent, one axis, in plain loops."""
    n = len(values)
    result = []
    for j in range(m):
        x = (j + 0.5) * n / m - 0.5
        support = max(1.0, n / m)
        weights = [max(0.0, 1 - abs(i - x) / support) for i in range(n)]
        result.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
    return np.array(result)


@pytest.mark.parametrize("target", [(4.4, 0.34, 0.5), (2.9, 0.7, 1.7), (9.1, 1.3, 0.7)])
def test_the_image_is_resampled_linearly_and_smoothed_where_it_gets_coarser(target: tuple[float, float, float]) -> None:
    image = volume(noise((7, 12, 15)))
    preprocessed = Preprocessing(target)(image)
    expected = image.array.astype(np.float64)
    for axis, length in enumerate(preprocessed.restoration.resampled_shape):
        if length != expected.shape[axis]:
            expected = np.apply_along_axis(linear, axis, expected, length)
    low, high = np.percentile(expected, (0.5, 99.5))
    expected = expected.clip(low, high)
    np.testing.assert_allclose(preprocessed.image, (expected - expected.mean()) / expected.std(), atol=1e-3)


def test_image_and_labels_stay_on_top_of_each_other() -> None:
    """A bright ball and its mask have one centre of mass after resampling, whichever way (P15, P20 of such code)."""
    z, h, w = np.ogrid[:9, :60, :50]
    ball = ((z - 3.5) * 4.4) ** 2 + ((h - 33) * 0.7) ** 2 + ((w - 20) * 0.7) ** 2 < 9**2
    image = np.where(ball, 1000.0, 10.0).astype(np.float32)
    for target in ((4.4, 0.34, 0.34), (3.0, 0.9, 1.3)):
        preprocessed = Preprocessing(target)(volume(image), volume(ball.astype(np.uint8)))
        weights = (preprocessed.image - preprocessed.image.min()).astype(np.float64)
        grids = np.indices(weights.shape)
        bright = (grids * weights).sum(axis=(1, 2, 3)) / weights.sum()
        marked = np.argwhere(preprocessed.labels).mean(axis=0)
        np.testing.assert_allclose(bright, marked, atol=0.3)


def test_the_z_score_is_taken_within_non_zero_voxels_after_clipping() -> None:
    array = np.zeros((4, 20, 30), np.float32)
    array[:, 3:18, 5:26] = noise((4, 15, 21))
    array[1, 6, 7] = 1e6
    array[2, 9, 11] = 0
    scored = Preprocessing((4.4, 0.7, 0.7))(volume(array)).image
    inside = array[:, 3:18, 5:26]
    values = inside[inside != 0].astype(np.float64)
    values = values.clip(*np.percentile(values, (0.5, 99.5)))
    np.testing.assert_allclose(scored[inside != 0], (values - values.mean()) / values.std(), atol=1e-4)
    assert scored.dtype == np.float32
    assert (scored[inside == 0] == 0).all()
    assert scored.shape == (4, 15, 21)


def test_background_is_cropped_in_plane_and_never_a_slice() -> None:
    array = np.zeros((4, 20, 30), np.float32)
    array[1, 3, 5:26] = noise((21,))
    array[2, 17, 9] = 50
    restoration = Preprocessing((4.4, 0.7, 0.7))(volume(array)).restoration
    assert restoration.crop == (3, 18, 5, 26)
    assert restoration.shape == (4, 15, 21)
    labels = np.ones(restoration.shape, np.uint8)
    outside = restoration.labels(labels) == 0
    assert not outside[:, 3:18, 5:26].any()
    assert outside.sum() == 4 * (20 * 30 - 15 * 21)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ((4.4, 0.3448, 0.3448), (15, 88, 88)),  # MRSpineSeg's median is the paper's 0.34
        ((4.45, 0.3448, 0.3448), (15, 88, 88)),
        ((5.5, 0.3448, 0.3448), (19, 88, 88)),
        ((4.4, 0.3448, 0.296), (15, 88, 77)),
        ((2.3, 0.68, 0.68), (8, 176, 176)),
    ],
)
def test_only_axes_whose_spacing_differs_are_resampled(
    spacing: tuple[float, float, float], expected: tuple[int, int, int]
) -> None:
    restoration = Preprocessing((4.4, 0.34, 0.34))(
        Volume(array := noise((15, 88, 88)), geometry(array.shape, (spacing[0], spacing[1], spacing[2])))
    ).restoration
    assert restoration.resampled_shape == expected
    np.testing.assert_allclose(
        np.multiply(restoration.spacing, expected), np.multiply(spacing, (15, 88, 88)), err_msg="extent is kept"
    )


def test_an_image_that_hardly_varies_is_refused_by_name() -> None:
    array = np.full((4, 100, 100), 5, np.float32)
    array[1, 1, 1] = 9
    with pytest.raises(VolumeError, match=r"Case7\.nii\.gz.*same intensity"):
        Preprocessing((4.4, 0.7, 0.7))(volume(array))


def test_labels_of_another_grid_are_refused() -> None:
    array = noise((4, 10, 10))
    with pytest.raises(ValueError, match="does not lie on the grid"):
        Preprocessing((4.4, 0.7, 0.7))(volume(array), volume(np.ones(array.shape, np.uint8), (4.4, 0.7, 0.8)))
    restoration = Preprocessing((4.4, 0.7, 0.7))(volume(array)).restoration
    with pytest.raises(ValueError, match="preprocessed grid"):
        restoration.labels(np.ones((4, 10, 11), np.uint8))


def test_the_key_tells_settings_apart() -> None:
    assert Preprocessing((4.4, 0.34, 0.34)).key() == Preprocessing((4.4, 0.34, 0.34)).key()
    assert Preprocessing((4.4, 0.34, 0.34)).key() != Preprocessing((4.4, 0.34, 0.35)).key()


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real volumes in {REAL} (set SSHSNET_REAL_DATA)")
def test_real_labels_survive_the_way_to_thick_slices_and_back() -> None:
    """1 mm labels through the paper's grid: only slices get coarser, so every body keeps nearly all of itself."""
    mask_path = sorted((REAL / "vertebrae_labelled").glob("*_mask.nii.gz"))[0]
    image = read_image(mask_path.with_name(mask_path.name.replace("_mask", "_T2w")))
    labels = read_labels(mask_path, image.geometry)
    preprocessed = Preprocessing((4.4, 0.69, 0.69))(image, labels)
    assert preprocessed.labels is not None
    restored = preprocessed.restoration.labels(preprocessed.labels)
    for label in np.unique(labels.array)[1:]:
        truth, found = labels.array == label, restored == label
        assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.9
