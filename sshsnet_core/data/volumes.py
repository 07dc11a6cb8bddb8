"""Volumes in files: NIfTI and MetaImage to and from the library's one axis order, with every check that reading needs.

Inside the library a volume is (Z, H, W): sagittal slices right to left, rows superior to inferior, columns anterior
to posterior. This module alone knows how a file is oriented.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from sshsnet_core.anatomy import N_CLASSES
from sshsnet_core.errors import StudyError

NIFTI = (".nii", ".nii.gz")
META_IMAGE = (".mha", ".mhd")
#: Voxel sides in mm, well beyond clinical use on either side: outside, a header is in other units or broken.
PLAUSIBLE_SPACING_MM = (0.02, 50.0)

_INTERNAL_ORIENTATION = axcodes2ornt(("L", "I", "P"))
#: ITK's world points left and posterior where NIfTI's points right and anterior.
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class VolumeError(StudyError, ValueError):
    """A file that is not a usable volume or mask: the message names the file and says what is wrong."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where a file's voxels lie: ``shape`` in file order and ``affine`` (4, 4) from voxel indices to RAS mm."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def _to_internal(self) -> np.ndarray:
        return ornt_transform(io_orientation(self.affine), _INTERNAL_ORIENTATION)

    @property
    def internal_shape(self) -> tuple[int, int, int]:
        """(Z, H, W)."""
        target_axes = self._to_internal[:, 0].astype(int)
        z, rows, columns = (self.shape[axis] for axis in np.argsort(target_axes))
        return z, rows, columns

    @property
    def internal_affine(self) -> np.ndarray:
        """From (z, row, column) indices to RAS mm."""
        return self.affine @ inv_ornt_aff(self._to_internal, self.shape)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distances (z, row, column) between voxel centres in mm."""
        z, rows, columns = nib.affines.voxel_sizes(self.internal_affine)
        return float(z), float(rows), float(columns)

    def to_internal(self, native: np.ndarray) -> np.ndarray:
        """An array in file order, turned to (Z, H, W)."""
        return np.ascontiguousarray(apply_orientation(native, self._to_internal))

    def to_native(self, internal: np.ndarray) -> np.ndarray:
        """An array (Z, H, W), turned back to file order. ``ValueError`` where its shape is not ``internal_shape``."""
        if internal.shape != self.internal_shape:
            raise ValueError(f"An array of shape {internal.shape} does not fill a grid of {self.internal_shape}.")
        back = ornt_transform(_INTERNAL_ORIENTATION, io_orientation(self.affine))
        return np.ascontiguousarray(apply_orientation(internal, back))

    def matches(self, other: "Geometry") -> bool:
        """Whether both describe the same voxels in the same places, whatever the order of the files' axes.

        Every corner of the two grids has to agree within a quarter of the smallest voxel side: headers round,
        but no voxel may take its neighbour's place.
        """
        if self.internal_shape != other.internal_shape:
            return False
        corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(self.internal_shape) - 1)
        distances = nib.affines.apply_affine(self.internal_affine, corners) - nib.affines.apply_affine(
            other.internal_affine, corners
        )
        return bool(np.linalg.norm(distances, axis=1).max() <= 0.25 * min(self.spacing))


@dataclass(frozen=True, eq=False)
class Volume:
    """``array`` (Z, H, W): float32 intensities or uint8 labels; ``geometry`` of the file that it came from."""

    array: np.ndarray
    geometry: Geometry
    path: Path | None = None


def stem(path: Path) -> str:
    """The file's name without .nii, .nii.gz, .mha or .mhd. ``VolumeError`` for any other kind of file."""
    for suffix in sorted(NIFTI + META_IMAGE, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    raise VolumeError(f"{path} is neither NIfTI (.nii, .nii.gz) nor MetaImage (.mha, .mhd): convert it first.")


def is_volume(path: Path) -> bool:
    """Whether the name is that of a NIfTI or MetaImage file."""
    return path.name.lower().endswith(NIFTI + META_IMAGE) and not path.name.startswith(".")


def read_image(path: Path) -> Volume:
    """The intensities as float32 (Z, H, W).

    Raises ``VolumeError`` for a file that is missing, unreadable, truncated, empty, 2D, 4D or in colour, whose header
    does not say how it is oriented, or whose intensities are constant, infinite or not numbers.
    """
    native, geometry = _read(path)
    # Overflow of a wider type shows as infinity, which is refused below.
    with np.errstate(over="ignore"):
        array = geometry.to_internal(native.astype(np.float32))
    if not np.isfinite(array).all():
        raise VolumeError(f"{path} holds intensities that are infinite or not numbers (NaN): repair or leave it out.")
    if array.min() == array.max():
        raise VolumeError(f"{path} holds the same intensity everywhere, {array.flat[0]:g}: it is not a picture.")
    return Volume(array, geometry, path)


def read_labels(path: Path, image: Geometry | None = None, classes: int = N_CLASSES) -> Volume:
    """A mask as uint8 (Z, H, W), of classes 0-19 (anatomy.py) or as many as ``classes`` says.

    With ``image``, it has to lie on that image's grid. Raises ``VolumeError`` as ``read_image`` does, for values other
    than whole numbers below ``classes``, and for another grid.
    """
    native, geometry = _read(path)
    if image is not None and not geometry.matches(image):
        raise VolumeError(
            f"{path} does not lie on its image's grid: {_describe(geometry)} against {_describe(image)}. "
            "Resample the mask onto its image (nearest neighbour) or pair it with the right one."
        )
    labels = native
    if native.dtype.kind == "f":
        # Headers that scale stored integers give 2.9999998 for 3.
        labels = np.rint(native)
        if not np.isfinite(native).all() or np.abs(native - labels).max() > 1e-3:
            raise VolumeError(f"{path} holds values that are not whole numbers: it is not a mask, or was interpolated.")
    if labels.min() < 0 or labels.max() >= classes:
        raise VolumeError(
            f"{path} holds labels from {labels.min():g} to {labels.max():g}, but classes are 0-{classes - 1}: "
            "renumber it as in anatomy.py."
        )
    return Volume(geometry.to_internal(labels.astype(np.uint8)), image or geometry, path)


def write_image(path: Path, array: np.ndarray, geometry: Geometry) -> None:
    """Writes (Z, H, W) as float32 in the file order of ``geometry``, NIfTI or .mha by the name; all or nothing."""
    _write(path, geometry.to_native(array).astype(np.float32), geometry)


def write_labels(path: Path, labels: np.ndarray, geometry: Geometry) -> None:
    """Writes a mask (Z, H, W) as uint8 in the file order of ``geometry``, NIfTI or .mha by the name; all or nothing."""
    _write(path, geometry.to_native(labels).astype(np.uint8), geometry)


def _read(path: Path) -> tuple[np.ndarray, Geometry]:
    """The array in file order and its checked geometry."""
    path = Path(path)
    stem(path)
    if not path.is_file():
        raise VolumeError(f"{path} does not exist.")
    if path.stat().st_size == 0:
        raise VolumeError(f"{path} is an empty file: copy it again.")
    try:
        native, affine = (_read_nifti if path.name.lower().endswith(NIFTI) else _read_meta_image)(path)
    except VolumeError:
        raise
    except Exception as error:  # nibabel and ITK raise a dozen kinds, zlib.error and MemoryError among them
        reason = " ".join(str(error).split())
        raise VolumeError(f"{path} is unreadable, truncated or no volume: copy it again ({reason}).") from error
    if native.ndim == 4 and native.shape[3] == 1:
        native = native[..., 0]
    if native.ndim != 3:
        raise VolumeError(f"{path} has {native.ndim} dimensions, {native.shape}: one 3D volume is needed.")
    if min(native.shape) < 2:
        raise VolumeError(f"{path} is a 2D picture, {native.shape}: a volume of several slices is needed.")
    if native.dtype.kind not in "biuf":
        raise VolumeError(f"{path} holds {native.dtype} voxels: one plain number a voxel is needed.")
    geometry = Geometry(native.shape, np.asarray(affine, dtype=np.float64))
    _check_affine(path, geometry.affine)
    return native, geometry


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    if not isinstance(image, nib.Nifti1Pair):
        raise VolumeError(f"{path} is named NIfTI, but holds {type(image).__name__}: convert it first.")
    if image.get_data_dtype().fields is not None:
        raise VolumeError(f"{path} is in colour: one grey value a voxel is needed.")
    if image.header["sform_code"] == 0 and image.header["qform_code"] == 0:
        raise VolumeError(
            f"{path} does not say how it is oriented (sform and qform codes are 0): "
            "convert it again from DICOM, or set its affine after checking its orientation in a viewer."
        )
    return np.asanyarray(image.dataobj), image.affine


def _read_meta_image(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with path.open("rb") as file:
        if b"TransformMatrix" not in file.read(4096):
            raise VolumeError(
                f"{path} does not say how it is oriented (no TransformMatrix): convert it again from DICOM."
            )
    image = sitk.ReadImage(path, imageIO="MetaImageIO")
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise VolumeError(f"{path} is in colour or holds vectors: one grey value a voxel is needed.")
    native = sitk.GetArrayFromImage(image).T
    if image.GetDimension() < 3:
        return native, np.eye(4)
    affine = np.eye(4)
    dimension = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (dimension, dimension))[:3, :3]
    affine[:3, :3] = direction * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return native, _LPS_TO_RAS @ affine


def _check_affine(path: Path, affine: np.ndarray) -> None:
    sides = nib.affines.voxel_sizes(affine)
    if not np.isfinite(affine).all() or not sides.all() or abs(np.linalg.det(affine[:3, :3] / sides)) < 0.1:
        raise VolumeError(f"{path} has a broken affine, its axes do not span a volume: convert it again from DICOM.")
    low, high = PLAUSIBLE_SPACING_MM
    if sides.min() < low or sides.max() > high:
        raise VolumeError(f"{path} has a voxel of {sides.round(4)}, which cannot be millimetres: correct its header.")


def _describe(geometry: Geometry) -> str:
    """Shape, spacing and the first voxel's place, for messages."""
    spacing = " x ".join(f"{side:.4g}" for side in geometry.spacing)
    origin = ", ".join(f"{x:.1f}" for x in geometry.internal_affine[:3, 3])
    return f"{geometry.internal_shape} voxels of {spacing} mm from ({origin})"


def _write(path: Path, native: np.ndarray, geometry: Geometry) -> None:
    path = Path(path)
    suffix = path.name[len(stem(path)) :]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{stem(path)}.{os.getpid()}{suffix}")
    try:
        if suffix.lower() in NIFTI:
            image = nib.Nifti1Image(native, geometry.affine)
            image.header.set_xyzt_units("mm")
            image.set_sform(geometry.affine, code="scanner")
            image.set_qform(geometry.affine, code="scanner")
            nib.save(image, temporary)
        elif suffix.lower() == ".mha":
            sitk.WriteImage(_itk_image(native, geometry), temporary, useCompression=True)
        else:
            raise VolumeError(f"{path}: volumes are written as .nii, .nii.gz or .mha.")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _itk_image(native: np.ndarray, geometry: Geometry) -> sitk.Image:
    image = sitk.GetImageFromArray(native.T)
    affine = _LPS_TO_RAS @ geometry.affine
    spacing = nib.affines.voxel_sizes(affine)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image
