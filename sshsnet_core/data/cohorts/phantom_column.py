"""Vertebral bodies, discs and sacrum as inequalities in (s, r, x)."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from sshsnet_core.data.cohorts.phantom_noise import Array
from sshsnet_core.data.cohorts.phantom_spine import (
    SACRUM_ARC,
    SACRUM_DEPTH,
    SACRUM_WIDTH,
    Plane,
    Spine,
)
from sshsnet_core.data.cohorts.phantom_tissues import Tissue


def _root(values: Array) -> Array:
    """|v|^2.5, the superellipse that bodies and discs have for a cross-section."""
    return values * values * np.sqrt(np.abs(values))


def _eighth(values: Array) -> Array:
    """v^8, which keeps the corners of a body nearly square; clipped so that float32 holds it."""
    square = np.square(np.minimum(values, 4))
    return np.square(np.square(square))


class Bodies:
    """L5 and up: bodies with concave endplates, waist and osteophytes; discs are what is left between the endplates."""

    def __init__(self, rng: Generator, spine: Spine, plane: Plane) -> None:
        levels = len(spine.height)
        s, r = plane.s.ravel(), plane.r.ravel()
        self.near = np.flatnonzero((np.abs(r) < 32 * spine.size) & (s > -6 * spine.size))
        self.s, self.r = s[self.near], r[self.near]
        disc_middle = spine.lower - spine.disc / 2
        level = np.clip(np.searchsorted(disc_middle[1:], self.s), 1, levels - 1)
        disc = np.clip(np.searchsorted(spine.middle, self.s), 1, levels - 1)

        def of(values: Array, index: Array) -> Array:
            return values.astype(np.float32)[index]

        lumbar = np.where(np.arange(levels) < 6, 1.15, 0.8)
        concavity = spine.size * np.clip(rng.normal(1.6, 0.45, levels) * lumbar, 0.4, 3)
        self.v = self.s - of(spine.middle, level)
        self.half_height, self.half_width = of(spine.height / 2, level), of(spine.width / 2, level)
        self.half_depth = of(spine.depth / 2, level)
        self.concavity = of(concavity, level)
        self.waist = of(np.clip(rng.normal(0.085, 0.025, levels), 0.02, 0.16), level)
        osteophyte = of(np.clip(rng.normal(0.02 + 0.07 * spine.age, 0.04, levels), -0.02, 0.18), level)
        self.osteophyte = osteophyte * np.where(self.r < 0, 1.6, 0.5).astype(np.float32)
        self.gap = np.abs(self.s - of(disc_middle, disc)) - of(spine.disc / 2, disc)
        self.disc_half = of(spine.disc / 2, disc)
        self.disc_concavity = of(concavity, disc)
        bulge = np.clip(rng.normal(0.05 * spine.degeneration, 0.03), -0.02, 0.16)
        self.bulge = of(bulge, disc) * np.where(self.r > 0, 1.3, 0.6).astype(np.float32)
        self.vertebra_label, self.disc_label = spine.vertebra_labels[level], spine.disc_labels[disc]
        self.nucleus_size = of(0.86 - 0.2 * spine.degeneration, disc)

    def paint(self, x: Array, grain: Array, tissue: Array, label: Array) -> None:
        """Draw the plane whose pixels lie at ``x`` (H, W) into ``tissue`` and ``label`` (H, W), in place."""
        x, grain = x.ravel()[self.near], grain.ravel()[self.near]
        # The posterior face of a body is a little hollow.
        r = self.r + np.where(self.r > 0, 1.3, 0) * np.exp(-np.square(x / 10)).astype(np.float32)
        rho = np.power(_root(r / self.half_depth) + _root(x / self.half_width), np.float32(0.4))
        inside = np.clip(1 - rho * rho, 0, 1)
        materials, labels = tissue.ravel(), label.ravel()

        reach = self.disc_half + self.disc_concavity * inside
        depth = self.gap - self.disc_concavity * inside  # < 0 within the disc
        disc = (depth < 0.3) & (rho < 1 + self.bulge)
        flat = np.minimum(1 + depth / np.maximum(reach, 0.5), 1)  # 0 in the mid-plane, 1 at the endplates
        lens = np.square(rho / self.nucleus_size) + np.square(flat * (1.4 + 0.6 * rho)) + 0.12 * grain
        core = np.select([lens < 0.62, lens < 1.45], [Tissue.NUCLEUS, Tissue.INNER_ANNULUS], Tissue.ANNULUS)
        at = self.near[disc]
        materials[at], labels[at] = core[disc], self.disc_label[disc]

        half = np.maximum(self.half_height - self.concavity * inside, 1)
        v = np.abs(self.v) / half
        outline = 1 - self.waist * (1 - np.square(np.minimum(v, 1))) + self.osteophyte * np.clip(v - 0.7, 0, 1)
        edge = _eighth(v) + _eighth(rho / outline)
        at = self.near[edge < 1]
        marrow = np.where(edge < 0.942**8, Tissue.MARROW, Tissue.CORTEX)
        slit = np.clip((r - 0.1 * self.half_depth) / self.half_depth, 0, 1)
        vein = (np.abs(self.v) < 0.5 + 2.4 * slit) & (slit > 0.15 + 0.05 * grain) & (np.abs(x) < 6)
        marrow[vein & (edge < 0.8)] = Tissue.BASIVERTEBRAL_VEIN
        materials[at], labels[at] = marrow[edge < 1], self.vertebra_label[edge < 1]

        ligament = (edge >= 1) & (rho < 1.07) & (rho > 0.9) & (labels[self.near] == 0)
        ligament &= (np.abs(x) < 15) & (self.s > 0)
        materials[self.near[ligament]] = Tissue.LIGAMENT


class SacrumShape(NamedTuple):
    """What differs between sacra, in mm."""

    #: Upper endplate of S1 and lower ends of S1 to S5, along the axis.
    bottoms: Array
    #: Heights of the remnants of the discs S1/S2 to S5/coccyx.
    gaps: Array
    #: How far across the two uppermost remnants are bright.
    bright_reach: float
    #: Depth at ``SACRUM_ARC`` and half the sides' distance from the midline at which the alae begin.
    depth: Array
    ala: float


_BOTTOMS = np.array([0.0, -30, -56, -77, -95, -112])


def usual_sacrum(rng: Generator, spine: Spine) -> SacrumShape:
    """A sacrum with a remnant of S1/S2, which is a disc nearly where S1 is lumbarised."""
    bottoms = _BOTTOMS * spine.size * rng.normal(1, 0.05)
    first = float(np.clip(rng.lognormal(1.15, 0.4), 2, 6)) if spine.variant != "lumbarised" else rng.uniform(5.5, 9)
    gaps = np.array([first, np.clip(rng.lognormal(0.7, 0.35), 1, 4), 1.4, 1.0, 0.8])
    return SacrumShape(bottoms, gaps, rng.uniform(0.35, 0.85), SACRUM_DEPTH * spine.size, 20 * spine.size)


class Sacrum:
    """The tapering wedge of S1-S5 with remnants of its discs; the alae are fused to the sides."""

    def __init__(self, shape: SacrumShape, spine: Spine, plane: Plane) -> None:
        size, bottoms, gaps = spine.size, shape.bottoms, shape.gaps
        s, r = plane.s.ravel(), plane.r.ravel()
        self.near = np.flatnonzero((s <= 1.5) & (s > bottoms[-1]) & (np.abs(r) < 32 * size))
        self.s, self.r = s[self.near], r[self.near]
        segment = np.clip(np.searchsorted(-bottoms, -self.s) - 1, 0, 4)
        # Half a gap at each end of a segment, none on top of S1, whose own disc is L5/S.
        top = bottoms[:-1] - np.array([0, *gaps[:-1]]) / 2
        bottom = bottoms[1:] + gaps / 2
        middle, half = ((top + bottom) / 2).astype(np.float32), ((top - bottom) / 2).astype(np.float32)
        self.v, self.half_height = np.abs(self.s - middle[segment]), half[segment]
        self.dish = np.where((segment == 0) & (self.s > middle[0]), 1.5 * size, 0.6 * size).astype(np.float32)
        joint = np.clip(np.searchsorted(-middle, -self.s) - 1, 0, 3)  # the remnant next to a pixel
        self.to_joint = np.abs(self.s - bottoms[1:].astype(np.float32)[joint])
        self.bright_height = (0.4 * gaps)[joint].astype(np.float32)
        self.bright_reach = np.where(joint < 2, shape.bright_reach, 0.01).astype(np.float32)
        self.half_depth = np.interp(self.s, SACRUM_ARC * size, shape.depth / 2).astype(np.float32)
        self.half_width = np.interp(self.s, SACRUM_ARC * size, SACRUM_WIDTH * size / 2).astype(np.float32)
        self.body_half_width = shape.ala + 0.12 * np.maximum(self.s, -90) * size

    def paint(self, x: Array, grain: Array, tissue: Array, label: Array) -> None:
        """Draw the plane at ``x`` (H, W) into ``tissue`` and ``label`` (H, W), in place."""
        x, grain = np.abs(x.ravel()[self.near]), grain.ravel()[self.near]
        rho = np.power(_root(self.r / self.half_depth) + _root(x / self.half_width), np.float32(0.4))
        inside = np.clip(1 - rho * rho, 0, 1)
        v = self.v / np.maximum(self.half_height - self.dish * inside, 0.5)
        ala = (x > self.body_half_width) & (self.s < -1)
        edge = np.where(ala, _eighth(rho), _eighth(v) + _eighth(rho))
        bone = edge < 1
        remnant = ~bone & (rho < 0.92) & (self.s < -4)
        foramen = ala & (x < self.body_half_width + 7) & (np.square(self.to_joint / 5) + np.square(self.r / 7) < 1)
        materials, labels = tissue.ravel(), label.ravel()
        at = self.near[bone | remnant]
        material = np.where(edge < 0.935**8, Tissue.MARROW, Tissue.CORTEX)
        material[remnant] = Tissue.ANNULUS
        lens = np.square(rho / self.bright_reach) + np.square(self.to_joint / self.bright_height) + 0.15 * grain
        bright = remnant & (lens < 1)
        material[bright] = Tissue.REMNANT_DISC
        materials[at], labels[at] = material[bone | remnant], 1
        at = self.near[foramen & bone]
        materials[at], labels[at] = Tissue.FORAMEN, 0
