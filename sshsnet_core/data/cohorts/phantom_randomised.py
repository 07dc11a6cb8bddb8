"""Phantoms for scans that nobody has labelled: every draw wider than any one cohort, labels with arches apart.

What a domain-randomised phantom teaches is what does not vary: that a column is a chain with the sacrum at its lower
end. So the field of view runs from a few lumbar levels to the lower thorax, with the sacrum whole, cut or out of view.
"""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from sshsnet_core.anatomy import ARCH_OFFSET, DISCS, VERTEBRAE
from sshsnet_core.data.cohorts.phantom_anatomy import build_anatomy
from sshsnet_core.data.cohorts.phantom_noise import Array
from sshsnet_core.data.cohorts.phantom_scanner import render_randomised
from sshsnet_core.data.cohorts.phantom_spine import (
    ALL_LEVELS,
    Column,
    Framing,
    Spine,
    Variant,
    curve_column,
    draw_column,
    frame_spine,
)
from sshsnet_core.data.cohorts.phantom_variety import Varied

# Annotators' rule: a vertebra of which so much is seen is labelled, a disc likewise; the sacrum always.
_VERTEBRA_SEEN, _DISC_SEEN = 0.6, 0.5
#: The shortest field of view from head to foot: a few lumbar levels.
_SHORTEST_MM = 200


class View(NamedTuple):
    """The stack of slices: (Z, H, W) and its spacing in mm."""

    shape: tuple[int, int, int]
    slice_mm: float
    pixel_mm: float


def randomised_case(rng: Generator, scale: float) -> tuple[Array, Array, tuple[float, float, float]]:
    """Image (Z, H, W) float32 from 0 to 1, labels uint8 0-28, and the spacing in mm.

    ``scale`` is relative to clinical pixels of about 0.4 mm, as for MRSpineSeg's phantoms.
    """
    variant = draw_variant(rng)
    view = _draw_view(rng, scale)
    spine = _draw_spine(rng, variant, view)
    anatomy = build_anatomy(rng, spine, view.shape, view.slice_mm, view.pixel_mm, Varied)
    image = render_randomised(rng, anatomy, view.pixel_mm)
    return image, anatomy.labels, (view.slice_mm, view.pixel_mm, view.pixel_mm)


def draw_variant(rng: Generator) -> Variant:
    """How the lumbosacral junction is built: the first that is drawn of a case."""
    return rng.choice(np.array(["usual", "lumbarised", "sacralised"]), p=[0.84, 0.08, 0.08])


def _draw_view(rng: Generator, scale: float) -> View:
    """Fields of view of 20 to 41 cm, as wide as high or half of it; slices 3 to 5.5 mm apart."""
    pixel_mm = rng.uniform(0.3, 0.6) / scale
    height = rng.uniform(_SHORTEST_MM, 410)
    width = height * rng.choice([rng.uniform(0.45, 0.6), rng.uniform(0.6, 1.0)])
    width = max(width, 130)
    slice_mm = rng.uniform(3.0, 5.5)
    n_slices = round(rng.uniform(48, 80) / slice_mm)
    return View((n_slices, round(height / pixel_mm), round(width / pixel_mm)), slice_mm, pixel_mm)


def _draw_spine(rng: Generator, variant: Variant, view: View) -> Spine:
    column = _diseased(rng, draw_column(rng, variant, ALL_LEVELS))
    height, width = (n * view.pixel_mm for n in view.shape[1:])
    size = float(np.clip(rng.normal(1, 0.08), 0.8, 1.2))
    # Where along the axis the lower edge lies: below the sacrum, within it, at S1, or above the sacrum.
    bottom = rng.choice(
        [rng.uniform(-135, -95), rng.uniform(-95, -45), rng.uniform(-45, -10), 45], p=[0.5, 0.3, 0.15, 0.05]
    )
    rows = size * column.row
    row = height - float(np.interp(bottom, column.arc, rows)) - (rng.uniform(0, 45) if bottom < -95 else 0)
    # There is no column above T4: a view that would reach beyond looks further down instead.
    row = min(row, -float(rows[-1]) - 1)
    seen = size * column.column[(rows + row > 0) & (rows + row < height)]
    behind = min(rng.uniform(72, 125), width - 60)
    vertebrae, discs = _in_view(column, rows + row, height)
    return frame_spine(
        rng,
        column,
        Framing(
            size=size,
            row=row,
            column=width - behind - (seen.min() + seen.max()) / 2,
            vertebra_labels=vertebrae,
            arch_labels=np.where(vertebrae > VERTEBRAE[0].label, vertebrae + ARCH_OFFSET, vertebrae),
            disc_labels=discs,
            slip=_draw_slip(rng),
        ),
    )


def _in_view(column: Column, rows: Array, height: float) -> tuple[Array, Array]:
    """Labels per level of vertebrae and of the discs below them: 0 where too little is seen, and above T9."""
    seen = column.arc[(rows > 0) & (rows < height)]
    low, high = seen.min(), seen.max()

    def share(bottom: Array, top: Array) -> Array:
        return (np.minimum(top, high) - np.maximum(bottom, low)) / (top - bottom)

    levels = np.arange(len(column.height))
    vertebrae = np.where(
        share(column.lower, np.maximum(column.upper, column.lower + 1)) >= _VERTEBRA_SEEN, 1 + levels, 0
    )
    vertebrae[len(VERTEBRAE) :] = 0
    below = column.lower - column.disc
    discs = np.where(share(below, np.maximum(column.lower, below + 1)) >= _DISC_SEEN, DISCS[0].label + levels - 1, 0)
    discs[0] = 0
    discs[len(DISCS) + 1 :] = 0
    return vertebrae.astype(np.uint8), discs.astype(np.uint8)


def _diseased(rng: Generator, column: Column) -> Column:
    """Fractured bodies, in one patient of six, stacked anew."""
    if rng.random() > 1 / 6:
        return column
    height = column.height.copy()
    for level in rng.integers(1, len(height) - 4, rng.integers(1, 3)):
        height[level] *= rng.uniform(0.45, 0.85)
    sizes = (height, column.disc, column.depth, column.width)
    return curve_column(rng, column.age, column.variant, column.degeneration, sizes)


def _draw_slip(rng: Generator) -> Array:
    """One patient in eight has a vertebra that has slipped forwards (or, rarely, back), at one of the lowest discs."""
    slip = np.zeros(ALL_LEVELS)
    if rng.random() < 1 / 8:
        slip[rng.integers(1, 4)] = rng.choice([rng.uniform(3, 12), rng.uniform(-5, -2)], p=[0.8, 0.2])
    return slip
