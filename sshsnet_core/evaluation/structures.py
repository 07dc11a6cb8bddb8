"""What a label map says of each structure, in mm, and the signs that it is wrong: both without a truth to compare with.

Centroids lie in the scan's patient space as NIfTI has it: x to the right, y to the front, z to the head (RAS+), in mm.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform, find_objects, label

from sshsnet_core.anatomy import COLUMN, N_CLASSES, Structure
from sshsnet_core.data.volumes import Geometry
from sshsnet_core.evaluation.identification import CENTROID_LIMIT_MM, Labels

#: A part of a structure at least this share of its largest one is no crumb: it may be another level under this name.
COMPARABLE = 0.25
#: A mean probability below this is a doubt. Chosen on the 16 phantoms that fold 0 of `mini` holds out, segmented by
#: SSHSNet: the 260 rightly named structures have 0.84 to 0.95, the 11 invented ones 0.48 to 0.75. No test image was
#: looked at. None of these names was shifted by a level, so nothing is known of how sure a shifted name looks. Other
#: rows are less sure of what is right (SSHSNet-2D-CPS: 252 right ones 0.52 to 0.92, 4 invented ones 0.43 to 0.59).
UNSURE = 0.8
#: The grid in mm on which a disc's footprint is counted, finer than any pixel of the study that matters to it.
_STEP_MM = 0.5


@dataclass(frozen=True)
class Measures:
    """One structure of one label map. The fields are the keys of the JSON file."""

    name: str
    label: int
    volume_mm3: float
    volume_ml: float
    #: Of all its voxels: x, y, z in patient space (RAS+), mm.
    centroid_mm: tuple[float, float, float]
    #: Mean over its voxels of the probability that the networks gave to this name.
    probability: float
    #: Pieces that touch nowhere, not even at a corner of a voxel.
    parts: int
    #: How far up or down the column (mm) from the largest part the farthest other one of comparable size lies; 0
    #: without any.
    parts_apart_mm: float
    #: Of discs: mean height along the disc's own normal (``disc_height``).
    height_mm: float | None
    #: Of discs: the vertebrae below and above.
    between: tuple[str, str] | None


def measure(labels: Labels, confidence: npt.NDArray[np.floating], geometry: Geometry) -> list[Measures]:
    """The measures of every structure that is there, from the sacrum upwards.

    ``labels`` and ``confidence``, the probability of the winner, are (Z, H, W) on the grid of ``geometry``. Raises
    ``ValueError`` where their shapes are not the grid's.
    """
    if labels.shape != geometry.internal_shape or confidence.shape != labels.shape:
        raise ValueError(f"Labels {labels.shape}, confidence {confidence.shape}, grid {geometry.internal_shape}.")
    boxes = find_objects(labels, N_CLASSES - 1)
    found = [structure for structure in COLUMN if boxes[structure.label - 1] is not None]
    return [_measure(structure, boxes[structure.label - 1], labels, confidence, geometry) for structure in found]


def _measure(
    structure: Structure,
    box: tuple[slice, slice, slice],
    labels: Labels,
    confidence: npt.NDArray[np.floating],
    geometry: Geometry,
) -> Measures:
    affine = geometry.internal_affine
    corner = np.array([side.start for side in box])
    mask = labels[box] == structure.label
    volume = float(np.count_nonzero(mask) * abs(np.linalg.det(affine[:3, :3])))
    x, y, z = affine[:3, :3] @ (corner + np.argwhere(mask).mean(axis=0)) + affine[:3, 3]
    parts, apart = _parts(mask, affine)
    place = COLUMN.index(structure)
    disc = structure.kind == "disc"
    return Measures(
        name=structure.name,
        label=structure.label,
        volume_mm3=volume,
        volume_ml=volume / 1000,
        centroid_mm=(float(x), float(y), float(z)),
        probability=float(confidence[box][mask].mean()),
        parts=parts,
        parts_apart_mm=apart,
        height_mm=disc_height(mask, affine) if disc else None,
        between=(COLUMN[place - 1].name, COLUMN[place + 1].name) if disc else None,
    )


def _parts(mask: npt.NDArray[np.bool_], affine: npt.NDArray[np.floating]) -> tuple[int, float]:
    """How many parts there are, and ``parts_apart_mm``."""
    numbered, count = label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(numbered.ravel())[1:]
    # Up and down only: a vertebra whose arch is cut off its body has a second part behind it, and the right name.
    heights = np.array(
        [(np.argwhere(numbered == 1 + part) @ affine[2, :3]).mean() for part in _comparable(sizes)], dtype=float
    )
    return count, float(np.abs(heights - heights[0]).max())


def _comparable(sizes: npt.NDArray[np.intp]) -> list[int]:
    """The largest part and those that are no crumbs beside it, by size."""
    return [int(part) for part in np.argsort(-sizes) if sizes[part] >= COMPARABLE * sizes.max()]


def disc_height(disc: npt.NDArray[np.bool_], affine: npt.NDArray[np.floating]) -> float:
    """A disc's mean height in mm: its volume by its footprint, the area of its projection along its own normal.

    ``disc`` (Z, H, W) has at least one voxel; ``affine`` (4, 4) leads from its indices to mm, spacings may differ. The
    normal is a principal axis of the disc's voxels: of the two that point least to the left or right, that of the
    smaller variance. The third is left out, because a disc that is seen in two slices is thinnest from left to right.
    The mean is over the whole footprint, rims included, as a radiologist's area by diameter: less than the height at
    the middle.
    """
    steps = affine[:3, :3]
    voxels = np.argwhere(disc)
    # A voxel is a box, not a point: its own variance is 1/12 along each side.
    spread = np.cov(voxels.T, bias=True) + np.eye(3) / 12
    _, axes = np.linalg.eigh(steps @ spread @ steps.T)
    axes = np.delete(axes, np.abs(axes[0]).argmax(), axis=1)
    normal, forwards = axes.T
    frame = np.column_stack([normal, forwards, np.cross(normal, forwards)])
    places = voxels @ steps.T @ frame
    margin = np.linalg.norm(steps, axis=0).sum() / 2
    low, high = places.min(axis=0) - margin, places.max(axis=0) + margin
    back = np.linalg.solve(steps, frame)
    shape = tuple(np.ceil((high - low) / _STEP_MM).astype(int))
    turned = affine_transform(disc, back * _STEP_MM, back @ low, shape, order=0, mode="grid-constant")
    volume = len(voxels) * abs(np.linalg.det(steps))
    return float(volume / (turned.any(axis=0).sum() * _STEP_MM**2))


def doubts(structures: Sequence[Measures], named: bool = False) -> list[str]:
    """Plain sentences for whoever has no truth to compare with; ``structures`` as ``measure`` gives them.

    No sentence means that nothing speaks against the names, not that they are right. Where levels were ``named`` from
    the whole column, that step says itself how far names can be relied on without a sacrum.
    """
    if not structures:
        return ["No structure was found in this scan."]
    anchor = [] if named else _anchor(structures)
    return [*anchor, *_gaps(structures), *_order(structures), *_split(structures), *_unsure(structures)]


def _anchor(structures: Sequence[Measures]) -> Iterator[str]:
    if structures[0].name != COLUMN[0].name:
        yield "The sacrum is not in view or was not found: level names may be shifted."
    elif structures[0].probability < UNSURE:
        yield "The networks are unsure of the sacrum, from which levels are counted: level names may be shifted."


def _gaps(structures: Sequence[Measures]) -> Iterator[str]:
    found = {structure.name for structure in structures}
    for present, run in groupby(_span(structures), key=lambda structure: structure.name in found):
        names = [structure.name for structure in run]
        if not present:
            below, above = (COLUMN[_place(name) + step].name for name, step in ((names[0], -1), (names[-1], 1)))
            yield f"{_listed(names)} not found between {below} and {above}: a level may carry its neighbour's name."


def _span(structures: Sequence[Measures]) -> Sequence[Structure]:
    """The chain from the lowest name found to the topmost one."""
    return COLUMN[_place(structures[0].name) : _place(structures[-1].name) + 1]


def _place(name: str) -> int:
    return next(place for place, structure in enumerate(COLUMN) if structure.name == name)


def _listed(names: Sequence[str]) -> str:
    return f"{names[0]} was" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} were"


def _order(structures: Sequence[Measures]) -> Iterator[str]:
    for lower, upper in pairwise(structures):
        if upper.centroid_mm[2] <= lower.centroid_mm[2]:
            yield f"{upper.name} lies below {lower.name}, which cannot be: at least one of the two is misplaced."


def _split(structures: Sequence[Measures]) -> Iterator[str]:
    names = [f"{s.name} {s.parts_apart_mm:.0f} mm apart" for s in structures if s.parts_apart_mm > CENTROID_LIMIT_MM]
    if names:
        yield f"Two parts of comparable size under one name may be two levels: {', '.join(names)}."


def _unsure(structures: Sequence[Measures]) -> Iterator[str]:
    names = [f"{s.name} {s.probability:.2f}" for s in structures if s.probability < UNSURE]
    if names:
        yield f"The networks are unsure, with a mean probability below {UNSURE:g}, of {', '.join(names)}."
