"""The spine of a phantom: level sizes, the curved axis, and which structures are in view.

Everything is told in curvilinear coordinates in mm: ``s`` upwards along the axis through the vertebral bodies, 0 at the
upper endplate of the sacrum; ``r`` across it, positive to posterior; ``x`` from the midline, positive to the left.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from sshsnet_core.anatomy import COLUMN
from sshsnet_core.data.cohorts.phantom_noise import Array, smooth_noise, stretch

Variant = Literal["usual", "lumbarised", "sacralised"]

# Rows: sacrum, L5 ... L1, T12 ... T4. Columns in mm: height of the body and of the disc below it, depth and width.
_SIZES_MM = np.array(
    [
        (0.0, 0.0, 32.0, 50.0),
        (27.0, 9.0, 35.0, 50.0),
        (28.0, 10.4, 35.0, 48.0),
        (28.5, 9.9, 34.5, 45.5),
        (28.0, 9.0, 33.5, 43.5),
        (27.0, 8.1, 32.0, 42.0),
        (25.5, 6.8, 30.5, 40.5),
        (23.5, 5.4, 30.0, 38.0),
        (22.5, 4.5, 29.0, 36.0),
        (21.5, 4.2, 28.0, 34.0),
        (20.5, 3.8, 27.0, 32.0),
        (20.0, 3.6, 26.0, 31.0),
        (19.5, 3.5, 25.0, 30.0),
        (19.0, 3.4, 24.0, 29.0),
        (18.5, 3.3, 23.0, 28.0),
    ]
)
#: Levels that a usual field of view needs: up to T7. A large one needs all.
_USUAL_LEVELS, ALL_LEVELS = 12, len(_SIZES_MM)
# The sacrum's outline, from its tip at S5 to its upper endplate (mm, at unit size).
SACRUM_ARC = np.array([-135.0, -110.0, -85.0, -60.0, -32.0, 0.0])
SACRUM_DEPTH = np.array([5.0, 8.0, 11.0, 15.5, 22.5, 32.5])
SACRUM_WIDTH = np.array([14.0, 40.0, 62.0, 84.0, 100.0, 104.0])
#: How much of S1 downwards must stay inside the field of view, at unit size (mm): about S1 and S2.
_SACRUM_IN_VIEW = -52.0
_STEP = 0.5


@dataclass(frozen=True)
class Spine:
    """One spine in its field of view. Arrays per level run from the sacrum up, curves run along ``arc``; all in mm."""

    size: float
    age: float
    variant: Variant
    height: Array
    disc: Array
    depth: Array
    width: Array
    lower: Array
    upper: Array
    degeneration: Array
    arc: Array
    row: Array
    column: Array
    tilt: Array
    sideways: Array
    wall: Array
    canal_radius: Array
    canal_centre: Array
    conus: float
    vertebra_labels: Array
    arch_labels: Array
    disc_labels: Array
    #: How far (mm) everything above a disc has slipped forwards.
    slip: Array

    @property
    def middle(self) -> Array:
        """Mid-height of every body; the sacrum counts with the middle of S1."""
        return np.concatenate([[-15 * self.size], (self.lower + self.upper)[1:] / 2])

    def along(self, curve: Array, s: Array) -> Array:
        """A curve of the spine at the coordinates ``s``."""
        return np.interp(s, self.arc, curve).astype(np.float32)

    def place(self, s: float, r: float) -> tuple[float, float]:
        """Row and column in mm of a point given by its coordinates along and across the spine."""
        row, column, tilt = (np.interp(s, self.arc, curve) for curve in (self.row, self.column, self.tilt))
        return float(row - r * np.sin(tilt)), float(column + r * np.cos(tilt))


@dataclass(frozen=True)
class Plane:
    """The pixels of a sagittal plane and where each lies along the spine; arrays (H, W) in mm."""

    rows: Array
    columns: Array
    s: Array
    r: Array
    #: Column of the axis at the same height, from which soft tissues are measured, (H,).
    axis: Array


class Column(NamedTuple):
    """A spine at unit size, before anybody has laid a field of view over it; arrays as in ``Spine``."""

    age: float
    variant: Variant
    degeneration: Array
    height: Array
    disc: Array
    depth: Array
    width: Array
    lower: Array
    upper: Array
    arc: Array
    tilt: Array
    row: Array
    column: Array


class Framing(NamedTuple):
    """A field of view laid over a column: see ``draw_spine`` for the usual one."""

    #: What the column is enlarged by, and the row and column (mm) that its point at ``row`` and ``column`` 0 falls on.
    size: float
    row: float
    column: float
    vertebra_labels: Array
    arch_labels: Array
    disc_labels: Array
    slip: Array


def draw_spine(rng: Generator, top: int, variant: Variant, window_mm: tuple[float, float]) -> Spine:
    """A spine whose topmost labelled structure is ``COLUMN[top]``, placed in a window of so many mm (rows, columns).

    Annotators label a vertebra of which about 60 % is seen and a disc of which half is seen. A spine too long to keep
    the sacrum inside is made smaller: whoever shows T9 in a usual field of view is small.
    """
    spine = draw_column(rng, variant, _USUAL_LEVELS)
    cut = np.interp(_draw_cut(rng, top, spine.lower, spine.upper, spine.disc), spine.arc, spine.row)
    length = np.interp(_SACRUM_IN_VIEW, spine.arc, spine.row - cut)
    size = float(min(np.clip(rng.normal(1, 0.055), 0.87, 1.13), window_mm[0] / length))
    row, column = size * (spine.row - cut), size * spine.column
    seen = column[(row > 0) & (row < window_mm[0])]
    levels = range(_USUAL_LEVELS)
    vertebrae = np.array([1 + i if 2 * i <= top else 0 for i in levels], np.uint8)
    framing = Framing(
        size=size,
        row=-size * cut,
        column=-(seen.min() + seen.max()) / 2 + rng.uniform(0.47, 0.56) * window_mm[1],
        vertebra_labels=vertebrae,
        arch_labels=vertebrae,
        disc_labels=np.array([10 + i if 0 < 2 * i <= top + 1 else 0 for i in levels], np.uint8),
        slip=np.zeros(_USUAL_LEVELS),
    )
    return frame_spine(rng, spine, framing)


def draw_column(rng: Generator, variant: Variant, levels: int) -> Column:
    """Level sizes and the curved axis of a spine of so many levels, at unit size."""
    age = float(rng.beta(1.6, 1.8))
    degeneration = _draw_degeneration(rng, age, levels)
    height, disc, depth, width = (_SIZES_MM[:levels] * _individual(rng, levels)).T
    disc = disc * (1 - 0.7 * np.clip(degeneration - 0.45, 0, 1) * rng.uniform(0.3, 1.3, levels))
    if variant == "sacralised":
        disc[1], height[1] = rng.uniform(2.5, 4), 0.93 * height[1]
    return curve_column(rng, age, variant, degeneration, (height, disc, depth, width))


def curve_column(
    rng: Generator, age: float, variant: Variant, degeneration: Array, sizes: tuple[Array, Array, Array, Array]
) -> Column:
    """Stack levels of these heights, disc heights, depths and widths along a drawn axis."""
    height, disc, depth, width = sizes
    upper = np.cumsum(height + disc)  # on top of the sacrum at 0
    lower = upper - height
    arc = np.arange(-135, upper[-1], _STEP)
    tilt = _draw_tilt(rng, arc, ((lower + upper) / 2)[1:])
    row, column = np.cumsum(-np.cos(tilt)) * _STEP, np.cumsum(-np.sin(tilt)) * _STEP
    return Column(age, variant, degeneration, height, disc, depth, width, lower, upper, arc, tilt, row, column)


def frame_spine(rng: Generator, spine: Column, framing: Framing) -> Spine:
    """The column in its field of view, with what goes along it: canal, scoliosis, the end of the cord."""
    size, arc, middle = framing.size, spine.arc, ((spine.lower + spine.upper) / 2)[1:]
    wall = gaussian_filter1d(np.interp(arc, [*SACRUM_ARC, *middle], [*SACRUM_DEPTH, *spine.depth[1:]]), 14) / 2
    radius = np.interp(arc, [-95, -60, -25, 0, middle[1], middle[5], middle[10]], [1.2, 3.0, 5.5, 7.4, 8.0, 7.3, 6.8])
    radius = radius * rng.normal(1, 0.07)
    return Spine(
        size=size,
        age=spine.age,
        variant=spine.variant,
        height=size * spine.height,
        disc=size * spine.disc,
        depth=size * spine.depth,
        width=size * spine.width,
        lower=size * spine.lower,
        upper=size * spine.upper,
        degeneration=spine.degeneration,
        arc=size * arc,
        row=size * spine.row + framing.row,
        column=size * spine.column + framing.column,
        tilt=spine.tilt,
        sideways=_draw_scoliosis(rng, arc),
        wall=size * wall,
        canal_radius=size * radius,
        canal_centre=size * (wall + radius + np.interp(arc, [-95, -30, 0, middle[2]], [1.5, 3.0, 2.6, 1.0])),
        conus=float(size * rng.uniform(middle[3], middle[5])),
        vertebra_labels=framing.vertebra_labels,
        arch_labels=framing.arch_labels,
        disc_labels=framing.disc_labels,
        slip=size * framing.slip,
    )


def _draw_degeneration(rng: Generator, age: float, levels: int) -> Array:
    """Per disc, 0 (bright nucleus) to 1 (dark and thin); the lowest three wear most."""
    lowest = np.where(np.arange(levels) < 4, 0.12, -0.05)
    return np.clip(rng.beta(1 + 2.5 * age, 3.5 - 2.5 * age, levels) + lowest, 0, 1)


def _individual(rng: Generator, levels: int) -> Array:
    """What a person's level sizes are multiplied by: each kind of measure as a whole, and each level a little."""
    whole = rng.normal(1, (0.02, 0.08, 0.05, 0.05))
    return np.clip(whole * rng.normal(1, (0.03, 0.10, 0.02, 0.02), (levels, 4)), 0.7, 1.35)


def _draw_tilt(rng: Generator, arc: Array, middle: Array) -> Array:
    """Tilt of the axis (radians, positive where it leans forward going up): sacral slope, lordosis, kyphosis."""
    slope, lordosis, lean = rng.normal(40, 7), rng.normal(0.72, 0.22), rng.normal(0.5, 2.5)
    sacral = [(-135, -35), (-105, -14), (-70, 0.55 * slope), (-35, 0.97 * slope), (-10, 1.05 * slope)]
    lumbar = [(middle[0], 0.55 * slope), (middle[1], 0.25 * slope)]
    upwards = [(2, 9), (3, 17), (4, 24), (5, 27), (7, 24), (9, 17), (10, 12)]  # L3 and up: degrees leaning back
    thoracic = [(middle[level], 0.22 * slope - degrees * lordosis + lean) for level, degrees in upwards]
    position, degrees = np.array(sacral + lumbar + thoracic).T
    degrees = degrees + rng.normal(0, 1.3, len(degrees))
    curve = PchipInterpolator(position, degrees)(np.minimum(arc, position[-1]))
    return np.deg2rad(gaussian_filter1d(curve, 5 / _STEP))


def _draw_cut(rng: Generator, top: int, lower: Array, upper: Array, disc: Array) -> float:
    """Where along the axis the field of view ends, so that ``COLUMN[top]`` is the last structure labelled."""
    level = (top + 1) // 2
    if COLUMN[top].kind == "vertebra":
        low, high = lower[level] + 0.63 * (upper[level] - lower[level]), upper[level] + 0.42 * disc[level + 1]
    else:
        low, high = lower[level] - 0.42 * disc[level], lower[level] + 0.57 * (upper[level] - lower[level])
    return float(rng.uniform(low, high))


def _draw_scoliosis(rng: Generator, arc: Array) -> Array:
    """Lateral offset of the axis (mm): a little off the middle slice, a mild curve, a slant of the stack."""
    curve = rng.normal(0, 2) * np.sin((arc - rng.uniform(0, 150)) / rng.uniform(60, 110))
    return rng.normal(0, 2) + curve + rng.normal(0, 0.015) * (arc - 100)


def project(rng: Generator, spine: Spine, shape: tuple[int, int], spacing_mm: float) -> Plane:
    """Where every pixel of a window (H, W) lies along the spine.

    The nearest point of the axis is found on a coarse grid: between its nodes the coordinates are all but linear.
    """
    rows, columns = ((np.arange(n, dtype=np.float32) + 0.5) * spacing_mm for n in shape)
    nodes = [np.linspace(p[0], p[-1], int(np.ptp(p) / 3) + 2, dtype=np.float32) for p in (rows, columns)]
    y, x = (grid.ravel() for grid in np.meshgrid(*nodes, indexing="ij"))
    _, nearest = cKDTree(np.stack([spine.row, spine.column], 1)).query(np.stack([y, x], 1))
    up, back = np.cos(spine.tilt[nearest]), np.sin(spine.tilt[nearest])
    dy, dx = y - spine.row[nearest], x - spine.column[nearest]
    s = spine.arc[nearest] - np.clip(dx * back + dy * up, -_STEP, _STEP)
    r = dx * up - dy * back
    s, r = (field.reshape(len(nodes[0]), len(nodes[1])).astype(np.float32) for field in (s, r))
    for size, amplitude in ((rng.uniform(14, 22), 0.5), (rng.uniform(7, 11), 0.25)):  # no outline is a formula
        s += 0.7 * amplitude * smooth_noise(rng, nodes, (size, size))
        r += amplitude * smooth_noise(rng, nodes, (size, size))
    for disc, slip in zip(spine.lower - spine.disc / 2, spine.slip, strict=True):
        if slip:
            r += slip / (1 + np.exp(np.clip((disc - s) / 1.2, -30, 30)))
    indices = [np.interp(p, n, np.arange(len(n))) for p, n in zip((rows, columns), nodes, strict=True)]
    order = np.argsort(spine.row)
    axis = np.interp(rows, spine.row[order], spine.column[order]).astype(np.float32)
    return Plane(rows=rows, columns=columns, s=stretch(s, indices), r=stretch(r, indices), axis=axis)
