"""The chain of names that fits a column best: consecutive levels, each of about its height, the sacrum at the bottom.

A semi-Markov dynamic programme over the steps of a ``Column``: a stretch under one name is fitted as a whole, by what
the networks say of its steps and by its height. So touching bodies and a disc that was missed do not break the chain.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sshsnet_core.anatomy import COLUMN, Structure
from sshsnet_core.decision import ARCH, DISC, KIND, VERTEBRA
from sshsnet_core.evaluation.column import STEP_MM, Column

Array = npt.NDArray[np.floating]

# Heights in mm of L5 ... T9 and of the discs L5/S ... T9/T10, of an average adult.
_BODY_MM = (27.0, 28.0, 28.5, 28.0, 27.0, 25.5, 23.5, 22.5, 21.5)
_DISC_MM = (9.0, 10.4, 9.9, 9.0, 8.1, 6.8, 5.4, 4.5, 4.2)
#: Spread of the logarithm of a height: people differ, bodies fracture, discs collapse.
_BODY_SPREAD, _DISC_SPREAD = 0.22, 0.5
#: Steps of the longest stretch that is tried, the sacrum aside: 60 mm.
_LONGEST = round(60 / STEP_MM)
# What the networks say of a voxel of the tube, by what is there: of a vertebra or disc its own name, the names next to
# it, any other name of its kind, the other kind, background. Arches count as vertebrae. Names are in doubt, kinds not.
_OWN, _NEXT, _SAME, _OTHER, _NOTHING = 0.2, 0.15, 0.2, 0.1, 0.2
# Beyond the names: below the sacrum there is nothing; above T9 the column goes on, and may be called its topmost names.
_BELOW, _ABOVE = 0.97, 0.85


class Landmark(NamedTuple):
    """What is measured so many mm above the top of the sacrum, and its spread."""

    offset_mm: float
    mean: float
    spread: float


#: Degrees by which the axis leans forwards at the middle of S1, of L5 and of L4.
LEAN = (Landmark(-14, 40, 12), Landmark(22, 22, 11), Landmark(58, 10, 11))
#: Depth of the column from front to back, beside that of the lumbar spine. S1 tapers and L5 does not, so that the
#: remnants of discs below S1 are short. Wide spreads: phantoms' sacra taper less (``benchmarks.naming`` measures them)
#: than those of the real volumes on which settings are chosen.
DEPTH = (
    Landmark(-28, 0.66, 0.15),
    Landmark(-14, 0.80, 0.12),
    Landmark(0, 1.03, 0.12),
    Landmark(22, 0.97, 0.10),
    Landmark(40, 1.05, 0.10),
)
#: The lumbar spine: from and to so many mm above the top of the sacrum.
_LUMBAR = (10, 80)
#: What the best place may reach by chance where no sacrum is in view.
_NO_SACRUM = -4.0
#: How much heights and the promontory count beside what the networks see, in the same units.
_SHAPE = 15.0
#: Chains shifted by so many levels are compared.
_SHIFTS = (-2, -1, 0, 1, 2)
_IMPOSSIBLE = -1e6


@dataclass(frozen=True)
class Segment:
    """A stretch of the column under one name: place in ``COLUMN``, first and end step along the axis."""

    place: int
    start: int
    end: int

    @property
    def structure(self) -> Structure:
        return COLUMN[self.place]


@dataclass(frozen=True)
class Chain:
    """Consecutive segments from below, how well they fit, and by how many levels they are shifted from the best."""

    shift: int
    fit: float
    segments: list[Segment]


def alternatives(column: Column) -> list[Chain]:
    """The best chain of names first, and the best ones under which all names are shifted by whole levels."""
    emissions, top = _emissions(column), promontory(column)
    best = Chain(0, *_best_chain(emissions, top))
    bodies = [s for s in best.segments if s.structure.kind == "vertebra" and s.place > 0]
    if not bodies:
        return [best]
    # All chains have to explain the same vertebra, in the middle of what is seen, under one name or another.
    anchor = bodies[len(bodies) // 2]
    step = (anchor.start + anchor.end) // 2
    places = {shift: anchor.place + 2 * shift for shift in _SHIFTS if shift}
    shifted = {shift: place for shift, place in places.items() if 0 < place < len(COLUMN)}
    return [
        best,
        *(Chain(shift, *_best_chain(emissions, top, (step, place))) for shift, place in shifted.items()),
    ]


def _emissions(column: Column) -> tuple[Array, Array, Array]:
    """How well each step (S) fits each place of the chain, and what lies below and above it.

    Logarithms (S, 19), (S,) and (S,): the shares are taken for what many voxels of one place were called.
    """
    shares = column.shares
    kinds = np.array(KIND[: shares.shape[1]])
    kinds[kinds == ARCH] = VERTEBRA
    expected = np.stack([_called(structure, kinds) for structure in COLUMN])
    below, above = _outside(kinds, _BELOW, 0), _outside(kinds, _ABOVE, len(COLUMN))
    within, under, over = (STEP_MM * (shares @ np.log(called).T) for called in (expected, below, above))
    return within, under, over


def _called(structure: Structure, kinds: npt.NDArray[np.integer]) -> Array:
    """How often each class is said of a voxel of ``structure``: (C,), summing to 1."""
    kind = VERTEBRA if structure.kind == "vertebra" else DISC
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


def landmarks(column: Column) -> list[tuple[Landmark, Array]]:
    """What each landmark measures if a step (S) is the top of the sacrum: not a number where that is out of view."""
    steps = len(column.axis)
    first, end = (round(mm / STEP_MM) for mm in _LUMBAR)
    lumbar = [column.depth[step + first : step + end] for step in range(steps)]
    # Too near to the upper end there is nothing to compare with.
    usual = np.array([np.median(depths) if 2 * len(depths) > end - first else np.nan for depths in lumbar])

    def at(offset_mm: float, profile: Array) -> Array:
        places = np.arange(steps) + round(offset_mm / STEP_MM)
        return np.where((places >= 0) & (places < steps), profile[np.clip(places, 0, steps - 1)], np.nan)

    return [(mark, at(mark.offset_mm, column.tilt)) for mark in LEAN] + [
        (mark, at(mark.offset_mm, column.depth) / usual) for mark in DEPTH
    ]


def promontory(column: Column) -> tuple[Array, float]:
    """How well each step (S) would do as the top of the sacrum, by the axis' lean and the depth below and above it.

    The second number is what a chain pays that has no sacrum although one is in view, from below and from above.
    """
    fits = [-0.5 * np.square((values - mark.mean) / mark.spread) for mark, values in landmarks(column)]
    # A landmark out of view speaks neither for a place nor against it: it costs what it does on average.
    fit = np.nan_to_num(fits, nan=-0.5).sum(axis=0)
    whole = np.isfinite(fits).all(axis=0)
    passed_over = max(0.0, float(fit[whole].max(initial=_NO_SACRUM)) - _NO_SACRUM)
    # The best place costs nothing, or a sacrum in view would be passed over.
    return _SHAPE * (fit - fit.max()), -_SHAPE * passed_over


@dataclass(frozen=True)
class _Ends:
    """For every place and end step (places, S + 1): the best fit of a chain that ends so, where its last segment
    begins, and whether that one is also its first."""

    fit: Array
    start: npt.NDArray[np.intp]
    first: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, places: int, steps: int) -> "_Ends":
        shape = places, steps + 1
        return cls(np.full(shape, -np.inf), np.zeros(shape, np.intp), np.zeros(shape, np.bool_))

    def put(self, place: int, end: int, starts: npt.NDArray[np.intp], alone: Array, follow: Array | None) -> None:
        """Keep the best of the segments that begin at ``starts``, alone or following the place below."""
        options = [(alone, True)] if follow is None else [(alone, True), (follow, False)]
        fits, first = max(options, key=lambda option: option[0].max())
        at = int(fits.argmax())
        self.fit[place, end], self.start[place, end], self.first[place, end] = fits[at], starts[at], first


def _best_chain(
    emissions: tuple[Array, Array, Array], top: tuple[Array, float], fixed: tuple[int, int] | None = None
) -> tuple[float, list[Segment]]:
    """The fit and the segments of the best chain; of those that carry a place at a step, where ``fixed`` names both."""
    inside, below, above = (values.copy() for values in emissions)
    as_promontory, passed_over = top
    if fixed is not None:
        step, carried = fixed
        inside[step, np.arange(len(COLUMN)) != carried] = _IMPOSSIBLE
        below[step] = above[step] = _IMPOSSIBLE
    steps, places = inside.shape
    total = np.concatenate([np.zeros((1, places)), np.cumsum(inside, axis=0)])
    under = np.concatenate([[0], np.cumsum(below)])
    over = np.concatenate([np.cumsum(above[::-1])[::-1], [0]])
    # Chains that go on, and chains that are at their end.
    ongoing, ended = _Ends.of(places, steps), _Ends.of(places, steps)
    for place in range(places):
        whole = _heights(place, steps)
        # The first and the last may be cut off, by the edge of the scan or where the networks stop: any height but more
        # than their own, or the lowest vertebra in view would swallow a sacrum.
        cut = np.where(np.arange(steps + 1) < whole.argmax(), 0, whole)
        for end in range(1, steps + 1):
            starts = np.arange(max(0, end - _LONGEST) if place else 0, end)
            lengths, fit = end - starts, total[end, place] - total[starts, place]
            alone, before = under[starts] + fit + cut[lengths] + (passed_over if place else 0), None
            if place:
                before = ongoing.fit[place - 1, starts] + fit + (as_promontory[starts] if place == 1 else 0)
            ongoing.put(place, end, starts, alone, None if before is None else before + whole[lengths])
            ended.put(place, end, starts, alone, None if before is None else before + cut[lengths])
    return _traced(ongoing, ended, ended.fit + over)


def _traced(ongoing: _Ends, ended: _Ends, fits: Array) -> tuple[float, list[Segment]]:
    """Back from the best end to the first segment."""
    place, end = (int(index) for index in np.unravel_index(int(fits[:, 1:].argmax()), fits[:, 1:].shape))
    end, ends, segments = end + 1, ended, list[Segment]()
    fit = float(fits[place, end])
    while True:
        start = int(ends.start[place, end])
        segments.append(Segment(place, start, end))
        if ends.first[place, end]:
            return fit, segments[::-1]
        place, end, ends = place - 1, start, ongoing


def _heights(place: int, steps: int) -> Array:
    """Logarithm of how likely a structure is so many steps high, (S + 1,); the sacrum may have any height."""
    if place == 0:
        return np.zeros(steps + 1)
    level, disc = (place - 1) // 2, place % 2
    mean, spread = (_DISC_MM[level], _DISC_SPREAD) if disc else (_BODY_MM[level], _BODY_SPREAD)
    length = np.maximum(np.arange(steps + 1), 0.25) * STEP_MM
    return -_SHAPE * np.square(np.log(length / mean) / spread) / 2
