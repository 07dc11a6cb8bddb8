"""Section 4.2: resample, crop the zero background, z-score; and the exact way back to the file's own voxels.

Resampling keeps the volume's extent: n voxels of spacing s become round(n s / target) voxels that fill the same box, so
that voxel centres map half-voxel-correctly and every step has an exact inverse per axis. The image goes through
torch's ``interpolate(antialias=True)``, which is linear when refining and widens its triangle when coarsening; unlike a
cubic spline it does not ring, into the zero background reaches by a voxel at most, and takes a tenth of the time.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from sshsnet_core.data.volumes import Volume, VolumeError

Shape = tuple[int, int, int]

#: Spacings that differ by less count as equal, and the axis is left alone: interpolating would blur every voxel to gain
#: a quarter of a slice over twelve. MRSpineSeg's median of 0.3448 mm, which the paper prints as 0.34, stays 880 pixels
#: (440 once downsampled, as in section 4.3), and slices of 4.4 mm stay what was measured.
SAME_SPACING = 0.02
CLIP_PERCENTILES = (0.5, 99.5)
#: Part of a store's key: raise it with any change to what the steps compute.
VERSION = 1


@dataclass(frozen=True)
class Restoration:
    """The way back from the preprocessed grid to the file's voxels, in internal order (Z, H, W), spacings in mm."""

    native_shape: Shape
    native_spacing: tuple[float, float, float]
    resampled_shape: Shape
    #: First row, end row, first column, end column of what was kept of the resampled grid; slices are all kept.
    crop: tuple[int, int, int, int]

    @property
    def shape(self) -> Shape:
        """(Z, H, W) of the preprocessed grid."""
        top, bottom, left, right = self.crop
        return self.resampled_shape[0], bottom - top, right - left

    @property
    def kept(self) -> tuple[slice, slice, slice]:
        """Where the crop lies in the resampled grid."""
        top, bottom, left, right = self.crop
        return slice(None), slice(top, bottom), slice(left, right)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Of the preprocessed grid: the common spacing up to rounding to whole voxels, or the file's where kept."""
        z, rows, columns = (
            s * n / m for s, n, m in zip(self.native_spacing, self.native_shape, self.resampled_shape, strict=True)
        )
        return z, rows, columns

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """Labels (Z, H, W) on the preprocessed grid, as uint8 on the file's grid: the nearest, 0 outside the crop.

        ``ValueError`` where the shape is not the preprocessed one.
        """
        if labels.shape != self.shape:
            raise ValueError(f"Labels of shape {labels.shape} are not on the preprocessed grid of {self.shape}.")
        restored = np.zeros(self.native_shape, np.uint8)
        target, source = [], []
        starts = (0, self.crop[0], self.crop[2])
        for axis, start in enumerate(starts):
            index = nearest(self.resampled_shape[axis], self.native_shape[axis]) - start
            first, end = np.searchsorted(index, (0, labels.shape[axis]))
            target.append(slice(int(first), int(end)))
            source.append(index[first:end])
        restored[tuple(target)] = _take(labels, source)
        return restored

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Restoration":
        """The inverse of ``to_dict``, also after a turn through JSON, which knows no tuples."""
        return cls(**{name: tuple(value) for name, value in values.items()})


@dataclass(frozen=True, eq=False)
class Preprocessed:
    """``image`` float32 (Z, H, W), z-scored with background 0; ``labels`` uint8 on the same grid; the way back."""

    image: np.ndarray
    labels: np.ndarray | None
    restoration: Restoration


@dataclass(frozen=True, eq=False)
class Steps:
    """An image, float32 (Z, H, W), after each step of section 4.2, and the way back from the last to the file."""

    resampled: np.ndarray
    cropped: np.ndarray
    scored: np.ndarray
    restoration: Restoration


@dataclass(frozen=True)
class Preprocessing:
    """Section 4.2 with a common spacing (z, row, column) in mm."""

    spacing_mm: tuple[float, float, float]

    def __call__(self, image: Volume, labels: Volume | None = None) -> Preprocessed:
        """All ``steps`` of section 4.2; ``labels`` follow by nearest neighbour.

        Raises ``VolumeError`` where next to nothing varies, ``ValueError`` where labels lie on another grid.
        """
        if labels is not None and not labels.geometry.matches(image.geometry):
            raise ValueError(f"{labels.path} does not lie on the grid of {image.path}.")
        steps = self.steps(image)
        scored, restoration = steps.scored, steps.restoration
        if labels is None:
            return Preprocessed(scored, None, restoration)
        pairs = zip(restoration.native_shape, restoration.resampled_shape, strict=True)
        moved = _take(labels.array, [nearest(n, m) for n, m in pairs])
        return Preprocessed(scored, np.ascontiguousarray(moved[restoration.kept]), restoration)

    def steps(self, image: Volume) -> Steps:
        """Resample, crop the zero background in plane, clip to percentiles and z-score within the non-zero voxels.

        The paper names resampling, cropping and z-scoring; clipping and the restriction to non-zero voxels are the
        released code's. Raises ``VolumeError`` where next to nothing varies.
        """
        shape = self._resampled_shape(image)
        resampled = _resample(image.array, shape)
        restoration = Restoration(image.array.shape, image.geometry.spacing, shape, _non_zero_box(resampled))
        cropped = resampled[restoration.kept]
        scored = _z_score(cropped)
        if scored is None:
            raise VolumeError(f"{image.path} holds almost the same intensity everywhere: it is not a picture.")
        return Steps(resampled, cropped, scored, restoration)

    def key(self) -> str:
        """Eight hexadecimal digits that change with the settings and with ``VERSION``."""
        settings = {"version": VERSION, **asdict(self)}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]

    def _resampled_shape(self, image: Volume) -> Shape:
        shape = []
        for n, spacing, target in zip(image.array.shape, image.geometry.spacing, self.spacing_mm, strict=True):
            same = abs(spacing / target - 1) < SAME_SPACING
            shape.append(n if same else max(1, round(n * spacing / target)))
        return shape[0], shape[1], shape[2]


def nearest(n: int, m: int) -> np.ndarray:
    """For each of m voxels, which of n voxels that fill the same length holds its centre. In whole numbers: exact."""
    return (2 * np.arange(m) + 1) * n // (2 * m)


def _take(array: np.ndarray, indices: list[np.ndarray]) -> np.ndarray:
    """One index list an axis; the slowest axis first, so that what the next ones copy is in one piece."""
    for axis, index in enumerate(indices):
        if not np.array_equal(index, np.arange(array.shape[axis])):
            array = array.take(index, axis=axis)
    return array


def _resample(array: np.ndarray, shape: Shape) -> np.ndarray:
    """(Z, H, W) to ``shape``; in plane first and across slices after, each only where the length changes."""
    tensor = torch.from_numpy(array)
    if tuple(array.shape[1:]) != shape[1:]:
        tensor = interpolate(tensor[:, None], shape[1:], mode="bilinear", antialias=True)[:, 0]
    if array.shape[0] != shape[0]:
        columns = tensor.reshape(1, 1, array.shape[0], -1)
        tensor = interpolate(columns, (shape[0], columns.shape[-1]), mode="bilinear", antialias=True).reshape(shape)
    return tensor.numpy()


def _non_zero_box(array: np.ndarray) -> tuple[int, int, int, int]:
    """First row, end row, first column, end column of what is not zero in any slice."""
    occupied = np.any(array, axis=0)
    rows, columns = (np.flatnonzero(np.any(occupied, axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _z_score(array: np.ndarray) -> np.ndarray | None:
    """Mean 0 and standard deviation 1 within the non-zero voxels once clipped; ``None`` where these do not vary."""
    inside = array != 0
    values = array[inside]
    values = values.clip(*np.percentile(values, CLIP_PERCENTILES).astype(np.float32))
    mean, deviation = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    if deviation <= 1e-6 * abs(mean):
        return None
    scored = np.zeros(array.shape, np.float32)
    scored[inside] = (values - mean) / deviation
    return scored
