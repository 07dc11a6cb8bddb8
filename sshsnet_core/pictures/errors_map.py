"""Where a method is wrong, voxel by voxel, and by how much a structure: what the viewer shows beside the truth."""

from enum import IntEnum

import numpy as np

from sshsnet_core.anatomy import STRUCTURES
from sshsnet_core.evaluation.identification import name_counts


class Error(IntEnum):
    """What can be wrong with a voxel."""

    MISSED = 1
    INVENTED = 2
    WRONG_NAME = 3

    @property
    def title(self) -> str:
        return self.name.lower().replace("_", " ")


#: RGB of every error, apart from each other and from grey for colour-blind readers too; a right voxel's is never drawn.
ERROR_COLOURS = np.array([(0, 0, 0), (60, 160, 255), (213, 94, 0), (255, 255, 0)], np.uint8)


def error_map(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """uint8 of the labels' shape: 0 where they are right, else the ``Error``.

    Missed: a structure of the truth is called background. Invented: background is called a structure. Wrong name: a
    structure is called another. Raises ``ValueError`` for shapes that differ.
    """
    if labels.shape != truth.shape:
        raise ValueError(f"The labels {labels.shape} and the truth {truth.shape} differ in shape.")
    errors = np.zeros(labels.shape, np.uint8)
    wrong = labels != truth
    errors[wrong] = Error.WRONG_NAME
    errors[wrong & (labels == 0)] = Error.MISSED
    errors[wrong & (truth == 0)] = Error.INVENTED
    return errors


def dsc(labels: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The DSC of every structure that labels or truth (Z, H, W) hold, as ``evaluation.metrics`` defines it (4.4).

    A structure that only one of the two holds scores 0.
    """
    counts = name_counts(labels, truth)
    both, either = counts.diagonal(), counts.sum(axis=0) + counts.sum(axis=1)
    return {s.name: float(2 * both[s.label] / either[s.label]) for s in STRUCTURES if either[s.label]}
