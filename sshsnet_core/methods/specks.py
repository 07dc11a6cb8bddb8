"""Outside the paper: specks, names that hold too little to be a structure, are dropped.

Where a level is half out of view, networks leave a few voxels of it, or of the next one, at the edge of the image. Each
such speck is a level that is not there, and costs as much as a vertebra that is missed.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from sshsnet_core.anatomy import BACKGROUND, N_APART
from sshsnet_core.data.store import StoredCase


def smallest_mm3(cases: Iterable[StoredCase]) -> np.ndarray:
    """Of each class the smallest volume (mm3) in which any labelled case shows it, (29,); 0 where none does."""
    found = np.full(N_APART, np.inf)
    for case in cases:
        assert case.labels is not None
        volumes = _volumes_mm3(case.labels, case.restoration.spacing)
        found = np.where(volumes > 0, np.minimum(found, volumes), found)
    found[BACKGROUND] = np.inf
    return np.where(np.isfinite(found), found, 0)


def without_specks(labels: np.ndarray, spacing_mm: Sequence[float], least_mm3: np.ndarray) -> np.ndarray:
    """``labels`` uint8 (Z, H, W) without the classes that hold less than ``least_mm3`` (29,)."""
    return np.where((_volumes_mm3(labels, spacing_mm) < least_mm3)[labels], np.uint8(BACKGROUND), labels)


def _volumes_mm3(labels: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Of each class, (29,)."""
    return np.bincount(labels.reshape(-1), minlength=N_APART) * float(np.prod(spacing_mm))
