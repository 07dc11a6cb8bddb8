"""The spinal column of a volume as a line: its axis, and what the networks see along it, step by step.

Everything is told of class probabilities (C, Z, H, W), C = 20 or 29, on a grid with spacing (z, row, column) in mm.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter1d, label
from scipy.spatial import cKDTree

from sshsnet_core.decision import DISC, VERTEBRA, kind_sums

Array = npt.NDArray[np.floating]

#: Distance between two steps along the axis, in mm.
STEP_MM = 2.0
#: Half the width in mm of what is looked at across the axis: bodies, but not arches, which 20 classes call vertebra.
TUBE_MM = 15.0
#: How far from the axis a body may reach, in mm: beyond the canal there are arches.
_BODY_MM = 24.0
#: Smoothing of the axis in mm: less than a level, so that it follows lordosis, and more than a tilted endplate.
_SMOOTH_MM = 14.0
#: Slices that show so much of the column, beside the one that shows most, go through its middle.
_MIDDLE = 0.7
#: Pieces of the column smaller than this share of the largest are strays, such as bowel that was taken for a sacrum.
_STRAY = 0.1


@dataclass(frozen=True, eq=False)
class Column:
    """The axis from its lower end upwards, in steps of 2 mm, and the profiles along it."""

    #: Position of the axis in mm in the sagittal plane, (S, 2): row downwards, column backwards.
    axis: Array
    #: Degrees by which the axis leans forwards going up, (S,).
    tilt: Array
    #: How far vertebrae and discs reach from front to back, arches aside, in mm, (S,).
    depth: Array
    #: Share of the tube at every step that each class has, (S, C); it sums to 1.
    shares: Array
    #: Step along the axis and distance behind it (mm) of every pixel, (H, W).
    along: Array
    behind: Array

    @classmethod
    def of(cls, probabilities: npt.NDArray, spacing_mm: tuple[float, float, float]) -> "Column | None":
        """The column in a volume; None where no network saw one that is longer than two steps."""
        kinds = kind_sums(torch.from_numpy(np.ascontiguousarray(probabilities[None, ..., ::2, ::2])).float())[0].numpy()
        spine = _without_strays(kinds[VERTEBRA] + kinds[DISC] > 0.5)
        if spine is None:
            return None
        rows_mm, columns_mm = 2 * spacing_mm[1], 2 * spacing_mm[2]
        # Discs have no arches: where 20 classes call an arch vertebra, they hold the axis in its place.
        weight = (spine * (0.15 * kinds[VERTEBRA] + kinds[DISC])).sum(axis=0)
        axis = _axis(weight, rows_mm, columns_mm)
        if len(axis) < 2:  # a speck has no direction
            return None
        h, w = probabilities.shape[-2:]
        pixels = np.stack(np.meshgrid(np.arange(h) * spacing_mm[1], np.arange(w) * spacing_mm[2], indexing="ij"), -1)
        _, along = cKDTree(axis).query(pixels.reshape(-1, 2))
        steps = np.gradient(axis, axis=0)
        steps /= np.linalg.norm(steps, axis=1, keepdims=True)
        offset = pixels.reshape(-1, 2) - axis[along]
        # Upwards is (-1, 0) in (row, column); to the right of it, looking up, is posterior.
        behind = -steps[along, 0] * offset[:, 1] + steps[along, 1] * offset[:, 0]
        reach = np.abs((offset * steps[along]).sum(axis=1))
        tilt = gaussian_filter1d(np.degrees(np.arctan2(-steps[:, 1], -steps[:, 0])), _SMOOTH_MM / STEP_MM)
        along, behind = along.reshape(h, w), behind.reshape(h, w)
        beside = reach.reshape(h, w) < STEP_MM
        tube = (np.abs(behind) < TUBE_MM) & beside
        body = spine & ((np.abs(behind) < _BODY_MM) & beside)[::2, ::2]
        depth = _depth(body, along[::2, ::2], len(axis)) * rows_mm * columns_mm / STEP_MM
        return cls(axis, tilt, depth, _shares(probabilities, along, tube, len(axis)), along, behind)


def _without_strays(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
    """The largest piece (Z, H, W) and those that are no strays beside it; None where there is nothing."""
    pieces, count = label(mask)
    if not count:
        return None
    sizes = np.bincount(pieces.ravel())[1:]
    return np.isin(pieces, 1 + np.flatnonzero(sizes >= _STRAY * sizes.max()))


def _axis(weight: Array, row_mm: float, column_mm: float) -> Array:
    """The smooth line through a weight (H, W), from its lower end up, in steps of 2 mm: (S, 2)."""
    mass = weight.sum(axis=1)
    rows = np.flatnonzero(mass > 0.02 * mass.max())
    centre = (weight[rows] @ np.arange(weight.shape[1])) / mass[rows]
    every = np.arange(rows[0], rows[-1] + 1)
    # Rows with little of it count little.
    smooth = _SMOOTH_MM / row_mm
    heavy = np.interp(every, rows, mass[rows])
    line = gaussian_filter1d(np.interp(every, rows, centre) * heavy, smooth, mode="nearest")
    line = line / gaussian_filter1d(heavy, smooth, mode="nearest")
    points = np.stack([every * row_mm, line * column_mm], axis=1)[::-1]
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    steps = np.arange(0, length[-1], STEP_MM)
    return np.stack([np.interp(steps, length, points[:, axis]) for axis in (0, 1)], axis=1)


def _depth(body: npt.NDArray[np.bool_], along: npt.NDArray, steps: int) -> Array:
    """Pixels of a body (Z, H, W) at every step, (S,): the median over the slices through its middle."""
    counts = np.stack([np.bincount(along[plane], minlength=steps) for plane in body]).astype(float)
    whole = counts.sum(axis=1)
    middle = counts[whole > _MIDDLE * whole.max()]
    # A step that meets the pixels' grid aslant counts more of them than the next.
    return gaussian_filter1d(np.median(middle, axis=0), 3.0 / STEP_MM)


def _shares(probabilities: npt.NDArray, along: npt.NDArray, tube: npt.NDArray[np.bool_], steps: int) -> Array:
    """Shares of the classes (S, C) over the slices in which there is a column at all."""
    inside = probabilities[:, :, tube].astype(np.float32)  # (C, Z, pixels)
    spine = 1 - inside[0].mean(axis=1)
    inside = inside[:, spine > 0.4 * spine.max()].sum(axis=1)
    where = along[tube]
    profile = np.stack([np.bincount(where, values, steps) for values in inside], axis=1)
    profile = gaussian_filter1d(profile, 0.4, axis=0)
    return profile / np.maximum(profile.sum(axis=1, keepdims=True), 1e-6)
