"""A phantom's anatomy: labels and tissues of a sagittal stack, before anything has a brightness."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from sshsnet_core.data.cohorts.phantom_column import Bodies, Sacrum, SacrumShape, usual_sacrum
from sshsnet_core.data.cohorts.phantom_noise import Array, noise_along, smooth_noise
from sshsnet_core.data.cohorts.phantom_posterior import PosteriorElements
from sshsnet_core.data.cohorts.phantom_soft_tissue import Canal, SoftTissue
from sshsnet_core.data.cohorts.phantom_spine import Plane, Spine, project
from sshsnet_core.data.cohorts.phantom_tissues import Tissue

#: Thin sheets that a thick slice is the mean of.
SUB_SLICES = 3


@dataclass(frozen=True)
class Anatomy:
    """Labels and tissues of one stack, with what appearance needs to know of them."""

    spine: Spine
    plane: Plane
    #: (Z, H, W) uint8, class numbers of ``anatomy``.
    labels: Array
    #: (Z * SUB_SLICES, H, W) uint8, numbers of ``Tissue``.
    tissues: Array
    #: Textures of mean 0 and variance 1, (Z, H, W): blobs, streaks along the spine, fibres aslant to it.
    blobs: Array
    streaks: Array
    fibres: Array
    #: The vertebra and the disc that a pixel belongs to or is nearest to, (H, W) levels from the sacrum up.
    vertebra: Array
    disc: Array
    #: Column of the skin of the back at every row, (H, 1) mm.
    skin: Array


class Usual:
    """What the cohort with MRSpineSeg's make-up shows beside spine and soft tissue: nothing."""

    #: Share of the distance between slices that a slice is thick.
    thickness = 1.0

    def sacrum(self, rng: Generator, spine: Spine) -> SacrumShape:
        """The shape of the sacrum."""
        return usual_sacrum(rng, spine)

    def surround(self, x: Array, grain: Array, tissue: Array) -> None:
        """Draw what lies in the abdomen at ``x`` (H, W) into ``tissue`` (H, W), in place, before the spine."""

    def afflict(self, x: Array, grain: Array, tissue: Array, label: Array) -> None:
        """Draw diseases of the spine at ``x`` (H, W) into ``tissue`` and ``label`` (H, W), in place, on top of it."""


def build_anatomy(
    rng: Generator,
    spine: Spine,
    shape: tuple[int, int, int],
    slice_mm: float,
    pixel_mm: float,
    variety: Callable[[Generator, Spine, Plane], Usual] = lambda rng, spine, plane: Usual(),
) -> Anatomy:
    """The anatomy round ``spine`` in a stack (Z, H, W), with what ``variety`` adds to it.

    The label of a thick slice is what most of its thin sheets show.
    """
    n_slices, *window = shape
    plane = project(rng, spine, (window[0], window[1]), pixel_mm)
    varied = variety(rng, spine, plane)
    within = ((np.arange(SUB_SLICES) + 0.5) / SUB_SLICES - 0.5) * varied.thickness
    sheets = (np.arange(n_slices)[:, None] + 0.5 + within).ravel() - n_slices / 2
    sheets = (sheets * slice_mm).astype(np.float32)
    slices = sheets.reshape(n_slices, SUB_SLICES).mean(1)
    grid = slices, plane.rows, plane.columns
    blobs = 0.7 * smooth_noise(rng, grid, (11, 10, 9)) + 0.7 * smooth_noise(rng, grid, (25, 45, 32))
    behind = plane.r > 0
    streaks = noise_along(rng, slices, plane.s, plane.r, behind, (7, 24, 3.4))
    along, across = 0.8 * plane.s - 0.6 * plane.r, 0.8 * plane.r + 0.6 * plane.s
    fibres = noise_along(rng, slices, along, across, behind, (7, 10, 4.2))
    sideways = spine.along(spine.sideways, plane.s)

    soft_tissue, canal = SoftTissue(rng, spine, plane), Canal(rng, spine, plane)
    posterior, bodies, sacrum = (
        PosteriorElements(rng, spine, plane),
        Bodies(rng, spine, plane),
        Sacrum(varied.sacrum(rng, spine), spine, plane),
    )
    tissues = np.empty((len(sheets), *plane.s.shape), np.uint8)
    labels = np.zeros_like(tissues)
    for sheet, position in enumerate(sheets):
        x, grain, streak = position - sideways, blobs[sheet // SUB_SLICES], streaks[sheet // SUB_SLICES]
        tissue, label = tissues[sheet], labels[sheet]
        soft_tissue.paint(x, grain, tissue)
        varied.surround(x, grain, tissue)
        in_canal = canal.paint(x, grain, streak, tissue)
        posterior.paint(x, grain, in_canal, tissue, label)
        bodies.paint(x, grain, tissue, label)
        sacrum.paint(x, grain, tissue, label)
        varied.afflict(x, grain, tissue, label)
        tissue[soft_tissue.outside], label[soft_tissue.outside] = Tissue.AIR, 0
    first, middle, last = (labels[i::SUB_SLICES] for i in range(SUB_SLICES))
    disc_middle = spine.lower - spine.disc / 2
    return Anatomy(
        spine=spine,
        plane=plane,
        labels=np.where(first == last, first, middle),
        tissues=tissues,
        blobs=blobs,
        streaks=streaks,
        fibres=fibres,
        vertebra=np.clip(np.searchsorted(disc_middle[1:], plane.s), 0, len(spine.height) - 1),
        disc=np.clip(np.searchsorted(spine.middle, plane.s), 0, len(spine.height) - 1),
        skin=soft_tissue.skin,
    )
