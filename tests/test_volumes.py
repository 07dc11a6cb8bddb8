"""Reading and writing: every orientation ends up the same way round, and nothing unusable gets through."""

import gzip
import itertools
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sshsnet_core.data.volumes import Geometry, VolumeError, read_image, read_labels, write_image, write_labels

REAL = Path(os.environ.get("SSHSNET_REAL_DATA", Path(__file__).parents[2] / "shared" / "data" / "real"))
RNG = np.random.default_rng(0)
SAGITTAL = np.array([[-4.4, 0, 0, 30], [0, 0, -0.7, 50], [0, -0.6, 0, 90], [0, 0, 0, 1.0]])
SHAPE = (3, 7, 5)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Any order and direction of the axes, tilted by less than the 45 degrees at which an axis changes its name."""
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from((-1, 1))] * 3))
    spacing = draw(st.tuples(*[st.floats(0.3, 6)] * 3))
    tilt = Rotation.from_rotvec(np.array(draw(st.tuples(*[st.floats(-0.35, 0.35)] * 3)))).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = tilt @ np.eye(3)[:, list(order)] * (np.array(signs) * spacing)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return Geometry(draw(st.tuples(*[st.integers(2, 9)] * 3)), affine)


@given(geometries())
def test_internal_axes_run_from_right_to_left_superior_to_inferior_and_anterior_to_posterior(
    geometry: Geometry,
) -> None:
    left, inferior, posterior = geometry.internal_affine[:3, :3].T
    assert np.abs(left).argmax() == 0
    assert left[0] < 0
    assert np.abs(inferior).argmax() == 2
    assert inferior[2] < 0
    assert np.abs(posterior).argmax() == 1
    assert posterior[1] < 0
    np.testing.assert_allclose(geometry.spacing, [np.linalg.norm(axis) for axis in (left, inferior, posterior)])


@given(geometries())
def test_every_voxel_keeps_its_place_in_the_body(geometry: Geometry) -> None:
    native = np.arange(np.prod(geometry.shape)).reshape(geometry.shape)
    internal = geometry.to_internal(native)
    assert internal.shape == geometry.internal_shape
    indices = np.array(list(np.ndindex(internal.shape)))
    native_indices = np.stack(np.unravel_index(internal.ravel(), geometry.shape), axis=1)
    np.testing.assert_allclose(
        nib.affines.apply_affine(geometry.internal_affine, indices),
        nib.affines.apply_affine(geometry.affine, native_indices),
        atol=1e-6,
    )
    np.testing.assert_array_equal(geometry.to_native(internal), native)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha"])
@settings(max_examples=15, deadline=None)
@given(geometry=geometries())
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, suffix: str, geometry: Geometry) -> None:
    folder = tmp_path_factory.mktemp("written")
    image = RNG.normal(size=geometry.internal_shape).astype(np.float32)
    labels = RNG.integers(0, 20, geometry.internal_shape).astype(np.uint8)
    write_image(folder / f"image{suffix}", image, geometry)
    write_labels(folder / f"labels{suffix}", labels, geometry)
    again = read_image(folder / f"image{suffix}")
    np.testing.assert_array_equal(again.array, image)
    assert again.geometry.shape == geometry.shape
    np.testing.assert_allclose(again.geometry.affine, geometry.affine, atol=1e-4)
    np.testing.assert_array_equal(read_labels(folder / f"labels{suffix}", again.geometry).array, labels)
    assert len(list(folder.iterdir())) == 2, "no temporary file is left"


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_files_mean_the_same_to_itk(tmp_path: Path, suffix: str) -> None:
    geometry = Geometry((3, 5, 7), SAGITTAL)
    image = RNG.normal(size=geometry.internal_shape).astype(np.float32)
    write_image(tmp_path / f"a{suffix}", image, geometry)
    read = sitk.ReadImage(tmp_path / f"a{suffix}")
    for index in itertools.product(*map(range, geometry.shape)):
        left, posterior, superior = read.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(
            nib.affines.apply_affine(SAGITTAL, index), (-left, -posterior, superior), rtol=0, atol=1e-4
        )
        assert read[index] == geometry.to_native(image)[index]


def test_a_mask_with_other_axes_on_the_same_grid_is_turned_to_its_image(tmp_path: Path) -> None:
    image = Geometry((3, 5, 7), SAGITTAL)
    turned = Geometry((7, 3, 5), SAGITTAL[:, [2, 0, 1, 3]])
    labels = RNG.integers(0, 20, image.internal_shape).astype(np.uint8)
    write_labels(tmp_path / "mask.nii", labels, turned)
    np.testing.assert_array_equal(read_labels(tmp_path / "mask.nii", image).array, labels)


def test_headers_that_round_match_and_a_shift_by_half_a_voxel_does_not() -> None:
    geometry = Geometry((3, 5, 7), SAGITTAL)
    for shift, same in ((0.01, True), (0.35, False)):
        moved = SAGITTAL.copy()
        moved[2, 3] += shift
        assert geometry.matches(Geometry((3, 5, 7), moved)) is same
    assert not geometry.matches(Geometry((3, 5, 8), SAGITTAL))


def nifti(array: np.ndarray, affine: np.ndarray = SAGITTAL) -> nib.Nifti1Image:
    return nib.Nifti1Image(array, affine)


def good() -> np.ndarray:
    return RNG.integers(1, 2000, SHAPE).astype(np.int16)


def with_value(value: float) -> np.ndarray:
    array = good().astype(np.float32)
    array[1, 2, 3] = value
    return array


def without_orientation() -> nib.Nifti1Image:
    image = nifti(good())
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    return image


def singular() -> nib.Nifti1Image:
    affine = SAGITTAL.copy()
    affine[:, 1] = affine[:, 0]
    image = nifti(good())
    image.set_sform(affine, code=1)
    return image


RGB = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
BAD_IMAGES = {
    "2D": (lambda: nifti(good()[0]), "2 dimensions"),
    "one slice": (lambda: nifti(good()[:1]), "2D"),
    "4D": (lambda: nifti(np.stack([good(), good()], axis=-1)), "4 dimensions"),
    "RGB": (lambda: nifti(RGB), "colour"),
    "complex": (lambda: nifti(good().astype(np.complex64)), "complex64"),
    "NaN": (lambda: nifti(with_value(np.nan)), "NaN"),
    "infinite": (lambda: nifti(with_value(np.inf)), "infinite"),
    "constant": (lambda: nifti(np.full(SHAPE, 7, np.int16)), "same intensity"),
    "no orientation": (without_orientation, "oriented"),
    "singular": (singular, "affine"),
    "metres": (lambda: nifti(good(), np.diag([0.0044, 0.0003, 0.0003, 1])), "millimetres"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_unusable_images_are_refused_in_one_sentence_that_names_the_file(tmp_path: Path, kind: str) -> None:
    make, reason = BAD_IMAGES[kind]
    path = tmp_path / "Case7.nii.gz"
    nib.save(make(), path)
    refuses(read_image, path, reason)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha"])
@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.9])
def test_truncated_and_empty_files_are_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"Case7{suffix}"
    geometry = Geometry((13, 15, 17), SAGITTAL)
    write_image(path, RNG.normal(size=geometry.internal_shape), geometry)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    refuses(read_image, path, "")


@pytest.mark.parametrize(
    "content",
    [b"not a volume", gzip.compress(b"not a volume"), b"\x1f\x8b" + bytes(400)],
    ids=["text", "packed text", "packed zeros"],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd"])
def test_other_content_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"Case7{suffix}"
    path.write_bytes(content)
    refuses(read_image, path, "")


def test_missing_files_and_other_kinds_are_refused(tmp_path: Path) -> None:
    refuses(read_image, tmp_path / "Case7.nii.gz", "does not exist")
    refuses(read_image, tmp_path / "Case7.dcm", "convert")


@pytest.mark.parametrize("kind", ["2D", "4D", "RGB", "unoriented", "no data"])
def test_unusable_meta_images_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "Case7.mhd"
    shape = {"2D": (5, 7), "4D": (2, 3, 5, 7)}.get(kind, SHAPE)
    array = RNG.integers(1, 99, (*shape, 3) if kind == "RGB" else shape).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=kind == "RGB"), path)
    if kind == "unoriented":
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.startswith("TransformMatrix")))
    if kind == "no data":
        path.with_suffix(".raw").unlink()
    reasons = {"2D": "2 dimensions", "4D": "4 dimensions", "RGB": "colour", "unoriented": "oriented", "no data": ""}
    refuses(read_image, path, reasons[kind])


def test_a_fourth_dimension_of_one_is_a_volume(tmp_path: Path) -> None:
    array = good()
    nib.save(nifti(array[..., None]), tmp_path / "a.nii.gz")
    assert read_image(tmp_path / "a.nii.gz").geometry.shape == SHAPE


BAD_MASKS = {
    "too large": (np.full(SHAPE, 20, np.uint8), SAGITTAL, "0-19"),
    "negative": (np.full(SHAPE, -1, np.int16), SAGITTAL, "0-19"),
    "fractions": (np.full(SHAPE, 2.5, np.float32), SAGITTAL, "whole numbers"),
    "NaN": (with_value(np.nan), SAGITTAL, "whole numbers"),
    "other shape": (np.ones((3, 7, 6), np.uint8), SAGITTAL, "grid"),
    "other spacing": (np.ones(SHAPE, np.uint8), SAGITTAL * [[1.1], [1], [1], [1]], "grid"),
    "mirrored": (np.ones(SHAPE, np.uint8), SAGITTAL * [1, -1, 1, 1], "grid"),
}


@pytest.mark.parametrize("kind", BAD_MASKS)
def test_unusable_masks_are_refused_in_one_sentence_that_names_the_file(tmp_path: Path, kind: str) -> None:
    array, affine, reason = BAD_MASKS[kind]
    path = tmp_path / "mask_case7.nii.gz"
    nib.save(nifti(array, affine), path)
    refuses(lambda path: read_labels(path, Geometry(SHAPE, SAGITTAL)), path, reason)


def test_masks_with_arches_apart_use_more_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mask.nii.gz"
    nib.save(nifti(np.full(SHAPE, 28, np.uint8)), path)
    assert (read_labels(path, classes=29).array == 28).all()
    refuses(read_labels, path, "0-19")
    nib.save(nifti(np.full(SHAPE, 29, np.uint8)), path)
    refuses(lambda path: read_labels(path, classes=29), path, "0-28")


def test_labels_stored_as_scaled_floats_are_whole_numbers(tmp_path: Path) -> None:
    labels = RNG.integers(0, 20, SHAPE)
    nib.save(nifti((labels + 1e-5).astype(np.float32)), tmp_path / "mask.nii.gz")
    read = read_labels(tmp_path / "mask.nii.gz")
    assert read.array.dtype == np.uint8
    np.testing.assert_array_equal(read.geometry.to_native(read.array), labels)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = Geometry(SHAPE, SAGITTAL)
    path = tmp_path / "labels.nii.gz"
    write_labels(path, np.ones(geometry.internal_shape), geometry)
    before = path.read_bytes()

    def disk_full(image: nib.Nifti1Image, where: Path) -> None:
        where.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(nib, "save", disk_full)
    with pytest.raises(OSError, match="No space"):
        write_labels(path, np.zeros(geometry.internal_shape), geometry)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_only_kinds_that_can_be_read_are_written(tmp_path: Path) -> None:
    geometry = Geometry(SHAPE, SAGITTAL)
    with pytest.raises(VolumeError, match="written as"):
        write_labels(tmp_path / "labels.mhd", np.ones(geometry.internal_shape), geometry)
    with pytest.raises(ValueError, match="does not fill"):
        write_labels(tmp_path / "labels.nii", np.ones((2, 2, 2)), geometry)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real volumes in {REAL} (set SSHSNET_REAL_DATA)")
def test_real_vertebrae_lie_in_order_from_top_to_bottom_with_discs_in_between() -> None:
    """L5 is the lowest and T12 the highest; an upside-down or sideways reading would break the order of the rows."""
    for kind, down in (("vertebrae", (7, 6, 5, 4, 3, 2)), ("discs", (15, 14, 13, 12, 11))):
        mask_path = sorted((REAL / f"{kind}_labelled").glob("*_mask.nii.gz"))[0]
        image = read_image(mask_path.with_name(mask_path.name.replace("_mask", "_T2w")))
        labels = read_labels(mask_path, image.geometry).array
        centres = np.array([np.argwhere(labels == label).mean(axis=0) for label in down])
        assert (np.diff(centres[:, 1]) > 0).all()
        assert np.ptp(centres[:, 1]) > 2 * np.ptp(centres[:, 0])


def refuses(read: object, path: Path, reason: str) -> None:
    """``read`` raises one sentence that names the file and the reason."""
    with pytest.raises(VolumeError) as refused:
        read(path)  # type: ignore[operator]
    message = str(refused.value)
    assert path.name in message
    assert reason in message
    assert "\n" not in message
