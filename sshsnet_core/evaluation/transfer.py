"""Scores of a volume of which a part is annotated: bodies against bodies, discs against discs, names and outlines.

And, with or without a mask, how many voxels a network gives to each kind: what is being eaten becomes fewer.
"""

import numpy as np

from sshsnet_core.anatomy import ARCHES, DISCS, N_APART, VERTEBRAE
from sshsnet_core.annotation import Annotation
from sshsnet_core.evaluation.identification import Labels
from sshsnet_core.evaluation.metrics import Score, score_case

#: The structure and the metric of all annotated bodies as one class.
ALL_BODIES, OUTLINE = "all bodies", "outline"
#: What is counted apart, and the metric's name. Without the sacrum: much of it is a question of where the view ends.
COUNTED = {"bodies": VERTEBRAE[1:], "discs": DISCS, "arches": ARCHES}
VOXELS = "voxels"
#: Beyond the outer end plates so much of a prediction counts: an overrun does, the body after the next disc does not.
_OVERRUN_MM = 3.0


def transfer_scores(
    prediction: Labels, truth: Labels, annotation: Annotation, spacing_mm: tuple[float, float, float]
) -> list[Score]:
    """``score_case`` of what is annotated, the ``outline`` of the bodies whatever their names, and ``voxels``.

    Label volumes (Z, H, W) on the native grid, 0-28 and as the masks number them; spacing (z, row, column) in mm.
    """
    scores = score_case(*annotation.comparable(prediction, truth), spacing_mm)
    value = outline_dsc(prediction, truth, spacing_mm)
    outline = [] if np.isnan(value) else [Score(structure=ALL_BODIES, metric=OUTLINE, value=value)]
    return [*scores, *outline, *voxels(prediction)]


def voxels(prediction: Labels) -> list[Score]:
    """How many voxels of each of ``COUNTED`` a label volume (Z, H, W) holds, annotated or not."""
    counts = np.bincount(prediction.ravel(), minlength=N_APART)
    numbers = {kind: counts[[structure.label for structure in structures]] for kind, structures in COUNTED.items()}
    return [Score(structure=kind, metric=VOXELS, value=float(number.sum())) for kind, number in numbers.items()]


def outline_dsc(prediction: Labels, truth: Labels, spacing_mm: tuple[float, float, float]) -> float:
    """DSC of all bodies as one class, 2 |P and T| / (|P| + |T|); NaN where fewer than two are annotated.

    P is every predicted body, the sacrum's name included, between two planes across the column: 3 mm below the lower
    end of the lowest annotated body, and 3 mm above the upper end of the highest. Beyond them there are bodies that
    nobody has annotated.
    """
    labels = [v.label for v in VERTEBRAE if (truth == v.label).any()]
    if len(labels) < 2:
        return float("nan")
    true, predicted = np.isin(truth, labels), np.isin(prediction, [v.label for v in VERTEBRAE])
    voxels = np.argwhere(predicted) * spacing_mm
    inside = np.ones(len(voxels), bool)
    for end, neighbour in ((labels[0], labels[1]), (labels[-1], labels[-2])):
        places, beside = (np.argwhere(truth == label) * spacing_mm for label in (end, neighbour))
        outwards = places.mean(axis=0) - beside.mean(axis=0)
        outwards /= np.linalg.norm(outwards)
        inside &= voxels @ outwards <= (places @ outwards).max() + _OVERRUN_MM
    in_both = np.count_nonzero(true[predicted] & inside)
    return float(2 * in_both / (np.count_nonzero(inside) + np.count_nonzero(true)))
