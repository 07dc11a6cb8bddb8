"""Section 4.4: how well a segmentation matches the truth, structure by structure, in the image's native space.

The paper reports the Dice similarity coefficient (DSC) alone. Two surface measures stand beside it: a DSC of 0.9 on a
vertebra and on a disc a quarter its size are not the same error in mm. Whether the level was named rightly at all is
``identification``'s question.
"""

import warnings
from typing import TypedDict

import numpy as np
import torch
from scipy.ndimage import find_objects

from sshsnet_core.anatomy import N_CLASSES, STRUCTURES
from sshsnet_core.evaluation.identification import IDENTIFICATION, Labels, identify, name_counts

# MONAI calls its own deprecated argument. Not around the call: cases are scored in threads, which share filters.
warnings.filterwarnings("ignore", message=".*always_return_as_numpy.*", category=FutureWarning)

#: How far apart (mm) two surfaces may lie and still count as the same in ``nsd``. Larger than the coarsest pixel of the
#: study (0.69 mm), so that sampling alone costs nothing; about a tenth of a disc's height; far below a slice's 4.4 mm,
#: so that a structure drawn on one slice too many is never forgiven.
TOLERANCE_MM = 1.0

#: How well a structure is outlined; of these, ``hd95`` alone is no share.
SEGMENTATION = ("dsc", "hd95", "nsd")
METRICS = (*SEGMENTATION, *IDENTIFICATION)


class Score(TypedDict):
    """One structure of one case under one metric: ``dsc`` and ``nsd`` from 0 to 1, ``hd95`` in mm, verdicts 0 or 1."""

    structure: str
    metric: str
    value: float


def score_case(prediction: Labels, truth: Labels, spacing_mm: tuple[float, float, float]) -> list[Score]:
    """Scores of one case, from two label volumes (Z, H, W) on the native grid and their spacing (z, row, column) in mm.

    - ``dsc``: 2 |P and T| / (|P| + |T|).
    - ``hd95``: the 95th percentile Hausdorff distance in mm, over the surface voxels, the larger of both directions.
    - ``nsd``: the share of both surfaces that lies within ``TOLERANCE_MM`` of the other. It is a share of area, not of
      surface voxels: on slices 4.4 mm thick, almost all surface voxels lie on the two flat ends of a structure.
    - ``id_centroid``, ``id_overlap``, ``missed``, ``shifted``, ``invented``: see ``identification.identify``.

    Absent from both: no row at all. Absent from one of the two: ``dsc`` and ``nsd`` are 0, and ``hd95``, which would be
    infinite, has no row; a mean of ``hd95`` is therefore over found structures only.

    Raises ``ValueError`` for differing shapes, labels that are no class of ours, and a spacing that is not positive.
    """
    _check(prediction, truth, spacing_mm)
    counts = name_counts(prediction, truth)
    in_both, in_truth, in_prediction = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    verdicts = identify(prediction, truth, spacing_mm)
    boxes = find_objects(truth, N_CLASSES - 1), find_objects(prediction, N_CLASSES - 1)

    scores: list[Score] = []
    for structure in STRUCTURES:
        label = structure.label
        voxels = in_truth[label] + in_prediction[label]
        if voxels == 0:
            continue
        values = {"dsc": 2 * in_both[label] / voxels, "nsd": 0.0}
        if in_truth[label] and in_prediction[label]:
            box = _union(boxes[0][label - 1], boxes[1][label - 1])
            values |= _surface_scores(prediction[box] == label, truth[box] == label, spacing_mm)
        values |= verdicts[structure.name]
        scores += [Score(structure=structure.name, metric=m, value=float(values[m])) for m in METRICS if m in values]
    return scores


def _check(prediction: Labels, truth: Labels, spacing_mm: tuple[float, float, float]) -> None:
    if prediction.shape != truth.shape or truth.ndim != 3:
        raise ValueError(
            f"Prediction {prediction.shape} and truth {truth.shape} must be volumes (Z, H, W) on one native grid; "
            "restore the prediction to its image's grid before scoring."
        )
    for name, labels in (("prediction", prediction), ("truth", truth)):
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"The {name} holds {labels.dtype}, not whole numbers: pass labels, not probabilities.")
        if labels.size == 0 or labels.min() < 0 or labels.max() >= N_CLASSES:
            raise ValueError(f"The {name} must hold labels from 0 to {N_CLASSES - 1}.")
    if len(spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing_mm):
        raise ValueError(f"The spacing must be three positive lengths in mm, not {spacing_mm}.")


def _union(first: tuple[slice, ...], second: tuple[slice, ...]) -> tuple[slice, ...]:
    """The smallest box that holds both."""
    sides = zip(first, second, strict=True)
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in sides)


def _surface_scores(prediction: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...]) -> dict[str, float]:
    """``hd95`` and ``nsd`` of two boolean masks (z, h, w), both non-empty, cropped to their common box for speed."""
    # MONAI takes seconds to import: whoever measures waits for it, whoever looks at what was measured does not.
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    y_pred, y = (torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (prediction, truth))
    spacing = tuple(float(s) for s in spacing_mm)
    hd95 = compute_hausdorff_distance(y_pred, y, include_background=True, percentile=95, spacing=spacing)
    nsd = compute_surface_dice(y_pred, y, [TOLERANCE_MM], include_background=True, spacing=spacing, use_subvoxels=True)
    return {"hd95": hd95.item(), "nsd": nsd.item()}
