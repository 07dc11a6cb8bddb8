"""Is the right level named? A name shifted by one level costs a surgeon more than a blurred edge, and DSC hides it.

Two criteria stand side by side, because each is blind where the other sees. By centroid, as in VerSe (Sekuboyina et
al. 2021): a stray island of the name far away counts against it. By overlap: it does not, but the name must win on the
very voxels of the structure. Vertebrae are compared with vertebrae and discs with discs alone, so that a blurred border
between the two kinds names nothing.
"""

import numpy as np
import numpy.typing as npt
from scipy.ndimage import center_of_mass, find_objects

from sshsnet_core.anatomy import DISCS, N_CLASSES, VERTEBRAE

Labels = npt.NDArray[np.integer]

#: A verdict is 0 or 1. The first four exist for each structure of the truth, the last for each other predicted name.
IDENTIFICATION = ("id_centroid", "id_overlap", "missed", "shifted", "invented")

#: How far (mm) a predicted centroid may lie from the true one: VerSe's limit, less than one level in the lumbar spine.
CENTROID_LIMIT_MM = 20.0

#: Below this share of named voxels a structure is missed. It is well above the rim of a few per cent that the names of
#: the neighbours spill onto a structure that was left out, and well below what any outline of the structure covers: a
#: quarter of its voxels is at best a DSC of 0.4.
FOUND_SHARE = 0.25


def name_counts(prediction: Labels, truth: Labels) -> npt.NDArray[np.intp]:
    """(20, 20): how many voxels of the true class in line i carry the predicted class of column j."""
    pairs = N_CLASSES * truth.astype(np.uint16).ravel() + prediction.astype(np.uint16).ravel()
    return np.bincount(pairs, minlength=N_CLASSES**2).reshape(N_CLASSES, N_CLASSES)


def identify(prediction: Labels, truth: Labels, spacing_mm: tuple[float, float, float]) -> dict[str, dict[str, int]]:
    """The verdicts on one case, structure by structure, from two label volumes (Z, H, W) and their spacing in mm.

    For a structure of the truth:

    - ``id_centroid``: the centroid of its name lies within ``CENTROID_LIMIT_MM`` of its own, and no other true centroid
      of its kind lies as near.
    - ``id_overlap``: of its voxels that carry any name of its kind, more carry its own than any other.
    - ``missed``: less than ``FOUND_SHARE`` of its voxels carry any name of its kind.
    - ``shifted``: it was found, but another name is as common. One of the last three is 1.

    For a predicted name that the truth does not hold, ``invented``: at most half its voxels lie on true structures of
    its kind. Otherwise it is a shift and counted there.
    """
    counts = name_counts(prediction, truth)
    true_centroids, predicted_centroids = _centroids(truth, spacing_mm), _centroids(prediction, spacing_mm)
    verdicts: dict[str, dict[str, int]] = {}
    for kind in (VERTEBRAE, DISCS):
        labels = np.array([structure.label for structure in kind])
        for structure in kind:
            label, others = structure.label, labels[labels != structure.label]
            if label in true_centroids:
                rivals = [true_centroids[other] for other in others if other in true_centroids]
                near = label in predicted_centroids and _is_nearest(
                    predicted_centroids[label], true_centroids[label], rivals
                )
                named, own = counts[label, labels].sum(), counts[label, label]
                missed = named < FOUND_SHARE * counts[label].sum()
                right = not missed and own > counts[label, others].max()
                verdicts[structure.name] = {
                    "id_centroid": int(near),
                    "id_overlap": int(right),
                    "missed": int(missed),
                    "shifted": int(not missed and not right),
                }
            elif label in predicted_centroids:
                on_its_kind = counts[labels, label].sum()
                verdicts[structure.name] = {"invented": int(2 * on_its_kind <= counts[:, label].sum())}
    return verdicts


def _centroids(labels: Labels, spacing_mm: tuple[float, float, float]) -> dict[int, np.ndarray]:
    """Centre of mass (z, row, column) in mm of every structure that is present."""
    centroids = {}
    for label, box in enumerate(find_objects(labels, N_CLASSES - 1), start=1):
        if box is not None:
            corner = [side.start for side in box]
            centroids[label] = np.add(corner, center_of_mass(labels[box] == label)) * spacing_mm
    return centroids


def _is_nearest(centroid: np.ndarray, own: np.ndarray, rivals: list[np.ndarray]) -> bool:
    """Whether the structure's own true centroid is within reach and nearer than those of the rest of its kind."""
    distance = np.linalg.norm(centroid - own)
    return bool(distance <= CENTROID_LIMIT_MM and all(distance < np.linalg.norm(centroid - rival) for rival in rivals))
