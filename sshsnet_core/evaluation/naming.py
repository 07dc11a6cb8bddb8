"""Names for the levels from the whole column: a step of its own, outside the paper's rows.

A network that knows vertebrae from discs at every voxel may still be off by one level, or name the two halves of one
vertebra apart. But levels follow one another without a gap, the sacrum is at the bottom, and each has about its height.
A dynamic programme over the column, step by step, finds the one chain of names that fits everything best,
how sure it is, and which other chain comes next. Touching bodies and a disc that was missed do not break it: heights
carry the chain across.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from sshsnet_core.anatomy import COLUMN, DISCS, N_CLASSES, VERTEBRAE, Structure
from sshsnet_core.decision import KIND, kind_first
from sshsnet_core.evaluation.column import STEP_MM, Column

Array = npt.NDArray[np.floating]

# Heights in mm of L5 ... T9 and of the discs L5/S ... T9/T10, of an average adult.
_BODY_MM = (27.0, 28.0, 28.5, 28.0, 27.0, 25.5, 23.5, 22.5, 21.5)
_DISC_MM = (9.0, 10.4, 9.9, 9.0, 8.1, 6.8, 5.4, 4.5, 4.2)
#: Spread of the logarithm of a height: people differ, bodies fracture, discs collapse.
_BODY_SPREAD, _DISC_SPREAD = 0.22, 0.5
_LONGEST_MM = 60
# What the networks say of a voxel of the tube, by what is there: of a vertebra or disc its own name, the names next to
# it, any other name of its kind, the other kind, background. Arches count as vertebrae. Names are in doubt, kinds not.
_OWN, _NEXT, _SAME, _OTHER, _NOTHING = 0.2, 0.15, 0.2, 0.1, 0.2
# Beyond the names: below the sacrum there is nothing; above T9 the column goes on, and may be called its topmost names.
_BELOW, _ABOVE = 0.97, 0.85
# Degrees by which the axis leans forwards at the middle of S1, of L5 and of L4, and their spread: the promontory.
_TILT = ((-14, 40, 12), (22, 22, 11), (58, 10, 11))
#: Logarithms of the chains' fits are divided by this before they become probabilities. A millimetre is no witness of
#: its own: its neighbours say the same. Fitted by ``fit_temperature``; see the model card.
TEMPERATURE = 20.0
#: How much heights and the promontory count beside what the networks see, in the same units.
_SHAPE = 15.0
_LONGEST = round(_LONGEST_MM / STEP_MM)
_VERTEBRA, _DISC, _ARCH = 1, 2, 3
#: Chains shifted by so many levels are compared.
_SHIFTS = (-2, -1, 0, 1, 2)
#: A disc below the lowest vertebra that is so much lower than the next one speaks of a transitional vertebra.
_TRANSITIONAL = 0.5
_UNSURE = 0.8


@dataclass(frozen=True, eq=False)
class Naming:
    """The labels with names from the whole column, and how far they can be relied on."""

    #: uint8 (Z, H, W), numbers as the network's classes.
    labels: npt.NDArray[np.uint8]
    #: The names found along the column, from below.
    levels: tuple[str, ...]
    #: Probability that the names are right, and the chain that comes next: in words, with its own probability.
    confidence: float
    runner_up: tuple[str, float] | None
    #: Plain sentences about what makes the names doubtful.
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Segment:
    """A stretch of the column under one name: place in ``COLUMN``, first and end step along the axis."""

    place: int
    start: int
    end: int

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


def name_column(probabilities: npt.NDArray, spacing_mm: tuple[float, float, float]) -> Naming:
    """Name the levels of a volume from class probabilities (C, Z, H, W), C = 20 or 29."""
    kinds = np.stack(
        [
            kind_first(torch.from_numpy(np.ascontiguousarray(plane[None])).float())[0].numpy()
            for plane in np.moveaxis(probabilities, 1, 0)
        ]
    ).astype(np.uint8)
    column = Column.of(probabilities, spacing_mm)
    if column is None:
        return Naming(np.zeros_like(kinds), (), 0.0, None, ("No spinal column was found.",))
    chains = alternatives(column)
    scores = np.array([score for _, score, _ in chains])
    chances = softmax(scores / TEMPERATURE)
    best = int(chances.argmax())
    segments = chains[best][2]
    rest = [i for i in np.argsort(-chances) if i != best]
    runner_up = None
    if rest:
        runner_up = (_in_words(chains[rest[0]][0] - chains[best][0]), float(chances[rest[0]]))
    levels = tuple(COLUMN[segment.place].name for segment in segments)
    labels = _relabelled(kinds, column, segments)
    return Naming(labels, levels, float(chances[best]), runner_up, _flags(column, segments, float(chances[best])))


def alternatives(column: Column) -> list[tuple[int, float, list[Segment]]]:
    """The best chain of names, and the best ones shifted by whole levels: (shift, fit, segments) each."""
    emissions, start = _emissions(column), _promontory(column)
    fit, segments = _best_chain(emissions, start, {})
    bodies = [segment for segment in segments if COLUMN[segment.place].kind == "vertebra" and segment.place > 0]
    if not bodies:
        return [(0, fit, segments)]
    # All chains have to explain the same vertebra, in the middle of what is seen, under one name or another.
    anchor = bodies[len(bodies) // 2]
    found = []
    for shift in _SHIFTS:
        place = anchor.place + 2 * shift
        if 0 < place < len(COLUMN):
            found.append((shift, *_best_chain(emissions, start, {int(anchor.middle): place})))
    return found


def _emissions(column: Column) -> tuple[Array, Array, Array]:
    """How well each step (S) fits each place of the chain, and what lies below and above it.

    Logarithms (S, 19), (S,) and (S,): the shares are taken for what many voxels of one place were called.
    """
    shares = column.shares
    kinds = np.array(KIND[: shares.shape[1]])
    kinds[kinds == _ARCH] = _VERTEBRA
    expected = np.stack([_called(structure, kinds) for structure in COLUMN])
    below, above = _outside(kinds, _BELOW, 0), _outside(kinds, _ABOVE, len(COLUMN))
    within, under, over = (STEP_MM * (shares @ np.log(called).T) for called in (expected, below, above))
    return within, under, over


def _called(structure: Structure, kinds: npt.NDArray[np.integer]) -> Array:
    """How often each class is said of a voxel of ``structure``: (C,), summing to 1."""
    kind = _VERTEBRA if structure.kind == "vertebra" else _DISC
    same, other = kinds == kind, (kinds != kind) & (kinds > 0)
    called = np.where(same, _SAME / same.sum(), 0) + np.where(other, _OTHER / other.sum(), 0)
    called[0] = _NOTHING
    called[structure.label] += _OWN
    for neighbour in (structure.label - 1, structure.label + 1):
        if neighbour < len(kinds) and kinds[neighbour] == kind:
            called[neighbour] += _NEXT
    return called / called.sum()


def _outside(kinds: npt.NDArray[np.integer], nothing: float, nearest: int) -> Array:
    """The same of a voxel beyond the names, which may be called by the names nearest to it: (C,)."""
    called = np.full(len(kinds), 0.02)
    for place, structure in enumerate(COLUMN):
        called[structure.label] += np.exp(-abs(place - nearest) / 3)
    called *= (1 - nothing) / called[1:].sum()
    called[0] = nothing
    return called


def _promontory(column: Column) -> Array:
    """How well each step (S) would do as the top of the sacrum, by the axis' lean below and above it."""
    steps = np.arange(len(column.axis))
    fit = np.zeros(len(steps))
    for offset, mean, spread in _TILT:
        at = steps + round(offset / STEP_MM)
        inside = (at >= 0) & (at < len(steps))
        tilt = column.tilt[np.clip(at, 0, len(steps) - 1)]
        fit -= np.where(inside, 0.5 * np.square((tilt - mean) / spread), 0.5)
    # The best place costs nothing, or a sacrum in view would be passed over.
    return _SHAPE * (fit - fit.max())


def _best_chain(
    emissions: tuple[Array, Array, Array], promontory: Array, fixed: dict[int, int]
) -> tuple[float, list[Segment]]:
    """The chain of consecutive places with the best fit; ``fixed`` steps have to carry the places given.

    Semi-Markov: a segment is fitted as a whole, by what its steps show and by its height.
    """
    inside, below, above = emissions
    steps, places = inside.shape
    inside = inside.copy()
    for step, place in fixed.items():
        inside[step, np.arange(places) != place] = -1e6
        below, above = (np.where(np.arange(steps) == step, -1e6, values) for values in (below, above))
    total = np.concatenate([np.zeros((1, places)), np.cumsum(inside, axis=0)])
    under = np.concatenate([[0], np.cumsum(below)])
    over = np.concatenate([np.cumsum(above[::-1])[::-1], [0]])
    # best[p, t]: the fit of the best chain whose segment at place p ends before step t; origin: where that one begins.
    best, origin = np.full((places, steps + 1), -np.inf), np.zeros((places, steps + 1), int)
    first = np.zeros((places, steps + 1), bool)
    # The same, for a segment that is the last one: cut off as the first may be, it can be shorter than it should.
    last, last_origin = np.full((places, steps + 1), -np.inf), np.zeros((places, steps + 1), int)
    for place in range(places):
        heights = _heights(place, steps)
        whole_or_cut = np.where(np.arange(steps + 1) < heights.argmax(), 0, heights)
        for end in range(1, steps + 1):
            starts = np.arange(max(0, end - _LONGEST), end) if place else np.arange(end)
            fit = total[end, place] - total[starts, place]
            # The first of the chain may be cut off, by the edge of the scan or where the networks stop: any height but
            # more than its own, or the lowest vertebra in view would swallow a sacrum.
            alone = under[starts] + fit + whole_or_cut[end - starts]
            at = int(alone.argmax())
            best[place, end], origin[place, end], first[place, end] = alone[at], starts[at], True
            if place:
                before = best[place - 1, starts] + fit + (promontory[starts] if place == 1 else 0)
                cut = before + whole_or_cut[end - starts]
                at = int(cut.argmax())
                last[place, end], last_origin[place, end] = cut[at], starts[at]
                follow = before + heights[end - starts]
                at = int(follow.argmax())
                if follow[at] > best[place, end]:
                    best[place, end], origin[place, end], first[place, end] = follow[at], starts[at], False
    whole = (np.maximum(np.where(first, best, -np.inf), last) + over)[:, 1:]
    place, end = (int(i) for i in np.unravel_index(int(whole.argmax()), whole.shape))
    end, segments = end + 1, list[Segment]()
    if last[place, end] > (best[place, end] if first[place, end] else -np.inf):
        segments.append(Segment(place, int(last_origin[place, end]), end))
        place, end = place - 1, int(last_origin[place, end])
    while True:
        segments.append(Segment(place, int(origin[place, end]), end))
        if first[place, end]:
            return float(whole.max()), segments[::-1]
        place, end = place - 1, int(origin[place, end])


def _heights(place: int, steps: int) -> Array:
    """Logarithm of how likely a structure is so many steps high, (S + 1,); the sacrum may have any height."""
    if place == 0:
        return np.zeros(steps + 1)
    level, disc = (place - 1) // 2, place % 2
    mean, spread = (_DISC_MM[level], _DISC_SPREAD) if disc else (_BODY_MM[level], _BODY_SPREAD)
    length = np.maximum(np.arange(steps + 1), 0.25) * STEP_MM
    return -_SHAPE * np.square(np.log(length / mean) / spread) / 2


def _relabelled(kinds: npt.NDArray[np.uint8], column: Column, segments: list[Segment]) -> npt.NDArray[np.uint8]:
    """Voxels of each kind under the name of the segment of their kind that lies nearest along the axis."""
    along = column.along
    bodies = [segment for segment in segments if COLUMN[segment.place].kind == "vertebra"]
    discs = [segment for segment in segments if COLUMN[segment.place].kind == "disc"]
    named = np.zeros_like(kinds)
    top = max((segment.end for segment in segments), default=0)
    inside = along <= top + 1
    vertebra, disc, arch = ((np.array(KIND)[kinds] == kind) for kind in (1, 2, 3))
    if bodies:
        names = np.array([COLUMN[segment.place].label for segment in bodies], np.uint8)
        borders = [(low.end + high.start) / 2 for low, high in pairwise(bodies)]
        of_body = names[np.searchsorted(borders, along)]
        named = np.where(vertebra & inside, of_body, named)
        # An arch hangs down behind its body: by a quarter of the distance, at most a level.
        hanging = along + np.clip(0.35 * (column.behind - 25), 0, 22) / STEP_MM
        of_arch = names[np.searchsorted(borders, hanging)]
        apart = np.where(of_arch > 1, of_arch + N_CLASSES - VERTEBRAE[1].label, of_arch)
        named = np.where(arch & inside, apart, named)
        if not (kinds >= N_CLASSES).any():
            behind = vertebra & (column.behind > 25)
            named = np.where(behind & inside, of_arch, named)
    if discs:
        names = np.array([COLUMN[segment.place].label for segment in discs], np.uint8)
        borders = [(low.middle + high.middle) / 2 for low, high in pairwise(discs)]
        named = np.where(disc & inside, names[np.searchsorted(borders, along)], named)
    return named.astype(np.uint8)


def _in_words(shift: int) -> str:
    which = "one level" if abs(shift) == 1 else f"{abs(shift)} levels"
    return f"every name {which} {'higher' if shift > 0 else 'lower'}"


def _flags(column: Column, segments: list[Segment], confidence: float) -> tuple[str, ...]:
    flags = []
    found = {COLUMN[segment.place].name: segment for segment in segments}
    if VERTEBRAE[0].name not in found:
        flags.append("The sacrum is not in view: names rest on heights and looks alone.")
    lowest, above = (DISCS[i].name for i in (0, 1))
    if lowest in found and above in found:
        heights = [_disc_mass(column, found[name]) for name in (lowest, above)]
        if heights[0] < _TRANSITIONAL * heights[1]:
            flags.append(f"{lowest} is much lower than {above}: the lowest vertebra may be transitional.")
    if confidence < _UNSURE:
        flags.append(f"The names are unsure (probability {confidence:.2f}): count from a level that is certain.")
    return tuple(flags)


def _disc_mass(column: Column, disc: Segment) -> float:
    """How much disc the networks see there: finer than the whole steps of a segment."""
    shares = column.shares[max(0, disc.start - 2) : disc.end + 2]
    return float(shares[:, np.array(KIND[: shares.shape[1]]) == _DISC].sum())


def fit_temperature(scores: Sequence[Array], right: Sequence[int]) -> float:
    """The temperature under which the confidence is honest: it makes what was right most likely, over many columns.

    ``scores``: the fits of each column's chains; ``right``: which of them bears the true names.
    """

    def surprise(logarithm: float) -> float:
        return -sum(float(log_softmax(fits / np.exp(logarithm))[i]) for fits, i in zip(scores, right, strict=True))

    return float(np.exp(minimize_scalar(surprise, bounds=(-2, 8), method="bounded").x))
