"""Posterior elements: pedicles, articular processes, laminae, transverse and spinous processes as tapered capsules."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from sshsnet_core.data.cohorts.phantom_noise import Array
from sshsnet_core.data.cohorts.phantom_spine import Plane, Spine
from sshsnet_core.data.cohorts.phantom_tissues import Tissue

Point = tuple[float, float, float]


class Capsule(NamedTuple):
    """The points near a segment: (s, r, x) of its ends and the radius at each in mm; drawn out along s."""

    label: int
    start: Point
    end: Point
    radii: tuple[float, float]
    stretch: float = 1.0


def _vertebra(rng: Generator, spine: Spine, level: int) -> list[Capsule]:
    """The arch of one vertebra."""
    size, h, width = spine.size, float(spine.height[level]), float(spine.width[level])
    middle, wall = float(spine.middle[level]), float(spine.depth[level] / 2)
    label = int(spine.arch_labels[level])
    thoracic = float(np.clip((level - 4.5) / 3, 0, 1))
    back = wall + 2 * float(np.interp(middle, spine.arc, spine.canal_radius)) + 3 * size  # where the laminae meet

    def about(value: float, spread: float = 0.8) -> float:
        return value + rng.normal(0, spread)

    def part(start: Point, end: Point, radii: tuple[float, float], stretch: float = 1.0) -> Capsule:
        return Capsule(label, start, end, (size * radii[0], size * radii[1]), stretch)

    capsules = []
    for side in (-1, 1):
        x, tip = side * width * 0.335, side * width * 0.885
        pedicle = about(middle + 0.16 * h), wall + 11 * size, x + side
        joint = middle + 0.10 * h, wall + 11 * size, x
        upper = about(middle + 0.62 * h), about(wall + 13 * size), x + side * 3
        isthmus = middle - 0.40 * h, about(back - 3 * size, 0.5), x - side * 2
        lower = middle - (0.98 - 0.2 * thoracic) * h, about(back - 5 * size), x - side * 0.5
        transverse = about(middle + 0.12 * h, 2), wall + (14 + 6 * thoracic) * size, tip
        capsules += [
            part((pedicle[0], wall - 4, x), pedicle, (4.6, 4.8), 1.45),
            part(joint, upper, (5.2, 3.6)),
            part(joint, isthmus, (4.4, 4.0)),
            part(isthmus, lower, (4.2, 3.6)),
            part(
                (middle - 0.05 * h, back - 4 * size, 0.85 * x), (middle - 0.38 * h, back + 2 * size, 0), (3.0, 3.2), 1.9
            ),
            part(joint, transverse, (4.0, 3.4), 1.2),
        ]
    return capsules + _spinous_process(rng, spine, level, thoracic, back)


def _spinous_process(rng: Generator, spine: Spine, level: int, thoracic: float, back: float) -> list[Capsule]:
    """Thoracic ones slant down over the next level; lumbar ones are hatchets, deeper at the tip."""
    size, h, label = spine.size, float(spine.height[level]), int(spine.arch_labels[level])
    root = float(spine.middle[level]) - 0.36 * h, back + 2 * size, 0
    reach = (27 - 3 * thoracic - {1: 5, 2: 2}.get(level, 0)) * size * rng.normal(1, 0.08)
    drop = (0.30 + 0.75 * thoracic) * h + rng.normal(0, 1.5)
    tall = (2.7 - 1.25 * thoracic) * (0.8 if level == 1 else 1.0) * rng.normal(1, 0.1)
    tip = root[0] - drop, root[1] + reach, rng.normal(0, 1.2)
    capsules = [Capsule(label, root, tip, (3.1 * size, 3.7 * size), tall)]
    if thoracic < 0.7:
        heel = root[0] - 0.14 * h - 0.6 * drop, back + 0.5 * reach, 0
        end = root[0] - 0.16 * h - drop, back + reach, 0
        capsules.append(Capsule(label, heel, end, (3.6 * size, 3.9 * size), 2.2))
    return capsules


def _sacral_crest(spine: Spine) -> list[Capsule]:
    """The median crest and the roof of the sacral canal."""
    size, capsules = spine.size, []
    for s, reach in ((-14 * size, 12 * size), (-42 * size, 9 * size), (-66 * size, 6 * size)):
        wall, radius = (float(np.interp(s, spine.arc, curve)) for curve in (spine.wall, spine.canal_radius))
        back = wall + 2 * radius + 4 * size
        capsules.append(Capsule(1, (s, back, 0), (s - 8 * size, back + reach, 0), (3.1 * size, 2.8 * size), 2.4))
        for side in (-1, 1):
            roof = (s + 2, back - 3, side * 18), (s - 16, back + 1, side * 8)
            flank = (s - 2, wall + 2, side * 24), (s - 2, back, side * 21)
            capsules.append(Capsule(1, *roof, (3.8 * size, 3.4 * size), 1.6))
            capsules.append(Capsule(1, *flank, (6 * size, 5 * size), 1.5))
    return capsules


class PosteriorElements:
    """All capsules of a spine, each with the box of pixels that it can touch."""

    def __init__(self, rng: Generator, spine: Spine, plane: Plane) -> None:
        capsules = _sacral_crest(spine)
        for level in range(1, len(spine.height)):
            capsules += _vertebra(rng, spine, level)
        self.plane = plane
        boxed = [(capsule, _box(capsule, spine, plane)) for capsule in capsules]
        self.capsules = [(capsule, box) for capsule, box in boxed if all(span.start < span.stop for span in box)]

    def paint(self, x: Array, grain: Array, canal: Array, tissue: Array, label: Array) -> None:
        """Draw the plane at ``x`` (H, W), outside ``canal`` (bool), into ``tissue`` and ``label`` (H, W), in place."""
        for (code, start, end, radii, stretch), box in self.capsules:
            across = x[box]
            if across.min() > max(start[2], end[2]) + max(radii) or across.max() < min(start[2], end[2]) - max(radii):
                continue
            from_start = (self.plane.s[box] - start[0]) / stretch, self.plane.r[box] - start[1], across - start[2]
            axis = (end[0] - start[0]) / stretch, end[1] - start[1], end[2] - start[2]
            dot = sum(p * a for p, a in zip(from_start, axis, strict=True))
            share = np.clip(dot / sum(a * a for a in axis), 0, 1)
            distance = np.sqrt(sum(np.square(p - share * a) for p, a in zip(from_start, axis, strict=True)))
            depth = radii[0] + (radii[1] - radii[0]) * share + 0.3 * grain[box] - distance
            bone = (depth > 0) & ~canal[box]
            # Parts of one vertebra grow into each other without a cortex between them.
            joined = (tissue[box] == Tissue.ARCH_MARROW) & (label[box] == code)
            tissue[box][bone] = np.where((depth > 0.7) | joined, Tissue.ARCH_MARROW, Tissue.CORTEX)[bone]
            label[box][bone] = code


def _box(capsule: Capsule, spine: Spine, plane: Plane) -> tuple[slice, slice]:
    """The pixels within reach of a capsule, empty where it is out of view."""
    ends = np.array([spine.place(*point[:2]) for point in (capsule.start, capsule.end)])
    reach = max(capsule.radii) * capsule.stretch + 4
    low, high = ends.min(0) - reach, ends.max(0) + reach
    return (
        slice(*np.searchsorted(plane.rows, (low[0], high[0]))),
        slice(*np.searchsorted(plane.columns, (low[1], high[1]))),
    )
