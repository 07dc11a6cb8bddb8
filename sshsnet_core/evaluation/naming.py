"""Names for the levels from the whole column: a step of its own, outside the paper's rows.

A network that knows vertebrae from discs at every voxel may still be off by one level, or name the two halves of one
vertebra apart. But levels follow one another without a gap, the sacrum is at the bottom, and each has about its height.
So one chain of names is chosen for the whole column (``chain``), with how sure it is, and which other one comes next.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from sshsnet_core.anatomy import ARCH_OFFSET, DISCS, N_CLASSES, VERTEBRAE
from sshsnet_core.decision import ARCH, DISC, KIND, N_KINDS, VERTEBRA, volume_kind_first
from sshsnet_core.evaluation.chain import Segment, alternatives
from sshsnet_core.evaluation.column import STEP_MM, Column

#: Fits of chains are divided by this before they become probabilities: a step is no witness of its own, its neighbours
#: say the same. Honest on phantoms whose views and noise make them hard (``benchmarks.confidence`` fits and judges it);
#: of real scans too few bear names to fit it to.
TEMPERATURE = 10.0
#: A disc below the lowest vertebra that is so much lower than the next one speaks of a transitional vertebra.
_MUCH_LOWER = 0.5
#: The word by which that flag is known.
TRANSITIONAL = "transitional"
_UNSURE = 0.8
# Behind the axis by more than this (mm) there are arches. They hang down, the more the further behind, to this limit.
_BEHIND_MM, _HANGING, _LOWEST_MM = 25.0, 0.35, 22.0


@dataclass(frozen=True, eq=False)
class Naming:
    """The labels with names from the whole column, and how far they can be relied on."""

    #: uint8 (Z, H, W), numbers as the network's classes.
    labels: npt.NDArray[np.uint8]
    #: What a structure of each kind (``decision.KIND``) is called at a pixel, in any slice: uint8 (4, H, W).
    names: npt.NDArray[np.uint8]
    #: The names found along the column, from below.
    levels: tuple[str, ...]
    #: Probability that the names are not all shifted by a level or two, and the chain that comes next: in words, with
    #: its own probability.
    confidence: float
    runner_up: tuple[str, float] | None
    #: Plain sentences about what makes the names doubtful.
    flags: tuple[str, ...]


def name_column(probabilities: npt.NDArray, spacing_mm: tuple[float, float, float]) -> Naming:
    """Name the levels of a volume from class probabilities (C, Z, H, W), C = 20 or 29; spacing (z, row, column)."""
    kinds = volume_kind_first(probabilities)
    column = Column.of(probabilities, spacing_mm)
    if column is None:
        nameless = np.zeros((N_KINDS, *kinds.shape[1:]), np.uint8)
        return Naming(np.zeros_like(kinds), nameless, (), 0.0, None, ("No spinal column was found.",))
    chains = alternatives(column)
    chances = softmax(np.array([chain.fit for chain in chains]) / TEMPERATURE)
    # Without a vertebra to count from there is nothing to compare with, and so nothing to be sure of.
    confidence, runner_up = 0.0, None
    if len(chains) > 1:
        next_best = 1 + int(chances[1:].argmax())
        confidence = float(chances[0])
        runner_up = _in_words(chains[next_best].shift), float(chances[next_best])
    segments = chains[0].segments
    names = _names(column, segments, arches_apart=len(probabilities) > N_CLASSES)
    labels = np.take_along_axis(names, np.array(KIND)[kinds], axis=0)
    levels = tuple(segment.structure.name for segment in segments)
    return Naming(labels, names, levels, confidence, runner_up, _flags(column, segments, confidence))


def _names(column: Column, segments: list[Segment], arches_apart: bool) -> npt.NDArray[np.uint8]:
    """For each kind the name of its segment that lies nearest along the axis, (4, H, W); 0 above the last of them."""
    inside = column.along <= segments[-1].end + 1
    hanging = np.clip(_HANGING * (column.behind - _BEHIND_MM), 0, _LOWEST_MM) / STEP_MM
    body = _names_at(segments, "vertebra", column.along)
    arch = _names_at(segments, "vertebra", column.along + hanging)
    disc = _names_at(segments, "disc", column.along)
    if arches_apart:
        arch = np.where(arch > VERTEBRAE[0].label, arch + ARCH_OFFSET, arch)
    else:
        body = np.where(column.behind > _BEHIND_MM, arch, body)
    of_kind = {VERTEBRA: body, DISC: disc, ARCH: arch}
    named = np.stack([of_kind.get(kind, np.zeros_like(body)) for kind in range(N_KINDS)])
    return np.where(inside, named, 0).astype(np.uint8)


def _names_at(segments: list[Segment], kind: str, along: npt.NDArray) -> npt.NDArray[np.integer]:
    """Which structure of a kind is nearest to each position along the axis; 0 where the chain has none of it."""
    found = [segment for segment in segments if segment.structure.kind == kind]
    if not found:
        return np.zeros(along.shape, int)
    borders = [(low.end + high.start) / 2 for low, high in pairwise(found)]
    return np.array([segment.structure.label for segment in found])[np.searchsorted(borders, along)]


def _in_words(shift: int) -> str:
    which = "one level" if abs(shift) == 1 else f"{abs(shift)} levels"
    return f"every name {which} {'higher' if shift > 0 else 'lower'}"


def _flags(column: Column, segments: list[Segment], confidence: float) -> tuple[str, ...]:
    flags = []
    found = {segment.structure.name: segment for segment in segments}
    if VERTEBRAE[0].name not in found:
        flags.append("The sacrum is not in view: names rest on heights and looks alone.")
    lowest, above = (DISCS[i].name for i in (0, 1))
    if lowest in found and above in found:
        heights = [_disc_mass(column, found[name]) for name in (lowest, above)]
        if heights[0] < _MUCH_LOWER * heights[1]:
            flags.append(f"{lowest} is much lower than {above}: the lowest vertebra may be {TRANSITIONAL}.")
    if confidence < _UNSURE:
        flags.append(f"The names are unsure (probability {confidence:.2f}): count from a level that is certain.")
    return tuple(flags)


def _disc_mass(column: Column, disc: Segment) -> float:
    """How much disc the networks see there: finer than the whole steps of a segment."""
    shares = column.shares[max(0, disc.start - 2) : disc.end + 2]
    return float(shares[:, np.array(KIND[: shares.shape[1]]) == DISC].sum())
