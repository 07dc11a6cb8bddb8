"""What real scans show and a tidy phantom does not: bowel and bladder, the front of the belly, diseases, implants."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from sshsnet_core.anatomy import DISCS
from sshsnet_core.data.cohorts.phantom_anatomy import Usual
from sshsnet_core.data.cohorts.phantom_column import SacrumShape, usual_sacrum
from sshsnet_core.data.cohorts.phantom_noise import Array, smooth_noise
from sshsnet_core.data.cohorts.phantom_spine import SACRUM_DEPTH, Plane, Spine
from sshsnet_core.data.cohorts.phantom_tissues import Tissue

_FIRST_DISC = DISCS[0].label


class Blob(NamedTuple):
    """An ellipsoid of one tissue: centre (row, column, x) and half axes in mm."""

    tissue: Tissue
    centre: tuple[float, float, float]
    half: tuple[float, float, float]


class Screw(NamedTuple):
    """A pedicle screw: from (s, r) to (s, r) at the side x, in mm."""

    start: tuple[float, float]
    end: tuple[float, float]
    x: float


class Varied(Usual):
    """One patient's surroundings and diseases. Probabilities are guesses at what a clinic sees, on the high side."""

    def __init__(self, rng: Generator, spine: Spine, plane: Plane) -> None:
        self.spine, self.plane = spine, plane
        self.thickness = float(rng.uniform(0.3, 1.0))
        self.front = _front(rng, plane)
        self.wall_fat = float(rng.uniform(6, 40))
        self.organs = [_bowel(rng, spine) for _ in range(rng.integers(3, 16))] + _bladder(rng, spine)
        levels = range(1, len(spine.height))
        self.haemangiomas = [_haemangioma(rng, spine, level) for level in levels if rng.random() < 0.05]
        self.changes = [(level, rng.uniform(2, 7), rng.choice([-1, 1, 0])) for level in levels if rng.random() < 0.06]
        self.hernias = [(level, rng.uniform(2, 6), rng.normal(0, 4)) for level in (1, 2, 3) if rng.random() < 0.15]
        self.screws = _screws(rng, spine) if rng.random() < 0.06 else []

    def sacrum(self, rng: Generator, spine: Spine) -> SacrumShape:
        """S1 from a wedge to a square block, its remnant from a line to a disc: where names go wrong in people."""
        usual = usual_sacrum(rng, spine)
        bottoms, gaps = usual.bottoms * rng.normal(1, 0.06), usual.gaps.copy()
        bottoms[1:] += np.cumsum(rng.normal(0, 1.2, len(bottoms) - 1))
        if spine.variant == "usual":
            gaps[0] = rng.choice([rng.uniform(1, 3), rng.uniform(3, 7)])
        square = 1 + rng.uniform(-0.05, 0.3) * np.array([0.0, 0.3, 0.6, 1.0, 1.0, 0.2])
        depth = SACRUM_DEPTH * square * rng.normal(1, 0.06) * spine.size
        return SacrumShape(bottoms, gaps, rng.uniform(0.0, 0.95), depth, usual.ala * rng.uniform(0.85, 1.25))

    def surround(self, x: Array, grain: Array, tissue: Array) -> None:
        """The belly's front, bowel and bladder."""
        rows, columns = self.plane.rows[:, None], self.plane.columns[None, :]
        for blob in self.organs:
            (row, column, side), half = blob.centre, blob.half
            box = tuple(
                slice(*np.searchsorted(axis.ravel(), (middle - 1.2 * reach, middle + 1.2 * reach)))
                for axis, middle, reach in ((rows, row, half[0]), (columns, column, half[1]))
            )
            offsets = (rows[box[0]] - row) / half[0], (columns[:, box[1]] - column) / half[1], (x[box] - side) / half[2]
            q = sum(np.square(offset) for offset in offsets) + 0.12 * grain[box]
            soft = (tissue[box] == Tissue.ABDOMEN) | (tissue[box] == Tissue.BOWEL)
            tissue[box][soft & (q < 1)] = blob.tissue
        front = self.front[:, None] + 2 * grain
        tissue[columns < front + self.wall_fat] = Tissue.SUBCUTANEOUS_FAT
        tissue[columns < front + 1.6] = Tissue.SKIN
        tissue[columns < front] = Tissue.AIR

    def afflict(self, x: Array, grain: Array, tissue: Array, label: Array) -> None:
        """Herniated discs, endplates that degenerate, haemangiomas, screws."""
        s, r, spine = self.plane.s, self.plane.r, self.spine
        for level, reach, side in self.hernias:
            middle, wall = float(spine.lower[level] - spine.disc[level] / 2), float(spine.depth[level] / 2)
            q = np.square((s - middle) / (spine.disc[level] / 2 + 2)) + np.square((r - wall) / reach)
            bulge = (q + np.square((x - side) / 9) < 1) & (r > wall - 2) & (label == 0)
            tissue[bulge] = Tissue.ANNULUS
            label[bulge] = _FIRST_DISC + level - 1 if spine.disc_labels[level] else 0
        marrow = tissue == Tissue.MARROW
        for level, reach, side in self.changes:
            away = s - float(spine.lower[level] - spine.disc[level] / 2)
            near = np.abs(away) < spine.disc[level] / 2 + reach + grain
            tissue[marrow & near & (away * side >= 0)] = Tissue.ENDPLATE_CHANGE
        for middle, across, side, radius in self.haemangiomas:
            q = np.square(s - middle) + np.square(r - across) + np.square(x - side)
            tissue[marrow & (q < np.square(radius + grain))] = Tissue.HAEMANGIOMA
        for screw in self.screws:
            tissue[_near_segment(s, r, screw) + np.square(x - screw.x) < 9] = Tissue.METAL


def _front(rng: Generator, plane: Plane) -> Array:
    """Column (mm) of the belly's skin at every row (H,): near or far, or out of view."""
    bulge = 10 * smooth_noise(rng, (plane.rows,), (rng.uniform(60, 160),))
    return (plane.axis.mean() - rng.uniform(85, 190) + bulge).astype(np.float32)


def _bowel(rng: Generator, spine: Spine) -> Blob:
    """A loop with gas or contents, in front of the column; at the sacrum it is the rectum."""
    s = float(rng.uniform(-125, 200) * spine.size)
    ahead = rng.uniform(28, 45) if s < 0 and rng.random() < 0.5 else rng.uniform(35, 130)
    row, column = spine.place(s, -ahead * spine.size)
    half = rng.uniform(6, 20, 3) * (1, 1, 2)
    tissue = Tissue(rng.choice([Tissue.GAS, Tissue.BOWEL, Tissue.FLUID], p=[0.45, 0.45, 0.1]))
    return Blob(tissue, (row, column, rng.normal(0, 18)), tuple(half))


def _bladder(rng: Generator, spine: Spine) -> list[Blob]:
    """Full in half of the patients."""
    if rng.random() < 0.5:
        return []
    row, column = spine.place(-90 * spine.size, -rng.uniform(55, 95) * spine.size)
    return [Blob(Tissue.FLUID, (row + rng.uniform(-15, 15), column, 0), tuple(rng.uniform(18, 42, 3)))]


def _haemangioma(rng: Generator, spine: Spine, level: int) -> tuple[float, float, float, float]:
    """(s, r, x) and radius in mm."""
    offsets = rng.uniform(-0.6, 0.6, 3) * (spine.height[level] / 2, spine.depth[level] / 2, spine.width[level] / 2)
    return float(spine.middle[level] + offsets[0]), float(offsets[1]), float(offsets[2]), float(rng.uniform(3, 9))


def _screws(rng: Generator, spine: Spine) -> list[Screw]:
    """Pairs at two or three neighbouring lumbar levels."""
    lowest = int(rng.integers(1, 4))
    screws = []
    for level in range(lowest, lowest + int(rng.integers(2, 4))):
        middle, wall = float(spine.middle[level]), float(spine.depth[level] / 2)
        for side in (-1, 1):
            x = float(side * 0.3 * spine.width[level])
            screws.append(Screw((middle + 4, wall + 30), (middle, -0.5 * wall), x))
    return screws


def _near_segment(s: Array, r: Array, screw: Screw) -> Array:
    """Squared distance in mm from the screw's axis in its own sagittal plane, (H, W)."""
    (s0, r0), (s1, r1) = screw.start, screw.end
    along_s, along_r = s1 - s0, r1 - r0
    share = np.clip(((s - s0) * along_s + (r - r0) * along_r) / (along_s**2 + along_r**2), 0, 1)
    return np.square(s - s0 - share * along_s) + np.square(r - r0 - share * along_r)
