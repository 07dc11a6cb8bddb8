"""Smooth random fields: what keeps the phantoms' outlines and tissues from being formulas."""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter, map_coordinates

Array = np.ndarray


def _lattice(rng: Generator, nodes: Sequence[int]) -> Array:
    """White noise at so many nodes per axis, smoothed so that linear interpolation shows no lattice; variance 1."""
    lattice = gaussian_filter(rng.standard_normal(nodes, dtype=np.float32), 1.0, mode="wrap")
    return lattice / lattice.std()


def stretch(field: Array, positions: Sequence[Array]) -> Array:
    """Linear interpolation of ``field`` (float32) on the grid of ``positions``: an array of indices per axis."""
    for axis, position in enumerate(positions):
        lower = np.clip(position.astype(np.intp), 0, field.shape[axis] - 2)
        shape = [1] * field.ndim
        shape[axis] = -1
        weight = (position - lower).astype(np.float32).reshape(shape)
        field = field.take(lower, axis) * (1 - weight) + field.take(lower + 1, axis) * weight
    return field


def smooth_noise(rng: Generator, positions_mm: Sequence[Array], sizes_mm: Sequence[float]) -> Array:
    """A field of mean 0 and variance 1 on the grid of ``positions_mm``, with blobs of about ``sizes_mm`` per axis."""
    positions = [2 * (p - p[0]) / size for p, size in zip(positions_mm, sizes_mm, strict=True)]
    return stretch(_lattice(rng, [int(p[-1]) + 3 for p in positions]), positions)


def noise_along(rng: Generator, x_mm: Array, a: Array, b: Array, where: Array, sizes_mm: Sequence[float]) -> Array:
    """Like ``smooth_noise``, but in coordinates a, b (H, W) that follow the spine: (Z, H, W) for slices at ``x_mm``.

    All in mm; 0 outside ``where`` (bool, H, W).
    """
    axes = [values - values.min() for values in (x_mm, a[where], b[where])]
    indices = [2 * values / size for values, size in zip(axes, sizes_mm, strict=True)]
    lattice = _lattice(rng, [int(values.max()) + 3 for values in indices])
    sheets = stretch(lattice, [indices[0], *map(np.arange, lattice.shape[1:])])
    field = np.zeros((len(x_mm), *a.shape), np.float32)
    for values, sheet in zip(field, sheets, strict=True):
        values[where] = map_coordinates(sheet, np.stack(indices[1:]), output=np.float32, order=1, mode="nearest")
    return field
