"""Thin slices: a 1 mm volume is an interleaving of volumes whose slices are as far apart as the networks have learnt.

Squashing it to 4.4 mm would throw its resolution away and give it back as stairs. Every n-th slice, from each of the n
first ones on, is a volume of its own at about the networks' spacing; segmented one by one and put back in their places,
they leave every slice of the scan with labels of its own. Thick slices stay where they are, too: between two of 4 mm
there is nothing to be seen, and labels of slices in between would be given to the nearest.
"""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sshsnet_core.data.cohorts.base import Case
from sshsnet_core.data.contents import digest
from sshsnet_core.data.preprocessing import Preprocessed, Preprocessing
from sshsnet_core.data.volumes import Geometry, Volume, read_image
from sshsnet_core.progress import Progress


def interleaves(slice_mm: float, learnt_mm: float, slices: int) -> int:
    """How many volumes of every n-th slice a scan is whose slices lie ``slice_mm`` apart: 4 at 1 mm, 1 from 3 on.

    No more than it has slices.
    """
    return min(max(1, round(learnt_mm / slice_mm)), slices)


def preprocess_scan(preprocessing: Preprocessing, image: Volume) -> Preprocessed:
    """Section 4.2 for a scan from anywhere, whose slices stay where they were acquired. Raises ``VolumeError``."""
    return Preprocessing((image.geometry.spacing[0], *preprocessing.spacing_mm[1:]))(image)


def every_nth(volume: Volume, n: int) -> Volume:
    """Every n-th slice, as many left out on the right as on the left, in their places in space."""
    if n == 1:
        return volume
    first = (len(volume.array) - 1) % n // 2
    affine = volume.geometry.internal_affine.copy()
    affine[:3, 3] += first * affine[:3, 0]
    affine[:3, 0] *= n
    array = np.ascontiguousarray(volume.array[first::n])
    return Volume(array, Geometry(array.shape, affine), volume.path)


@dataclass(frozen=True)
class Interleave:
    """Every ``step``-th slice of a preprocessed scan on disk, from slice ``first`` on."""

    path: Path
    first: int
    step: int

    @property
    def image(self) -> np.ndarray:
        """float32 (Z, H, W), z-scored; mapped, read-only."""
        return np.load(self.path, mmap_mode="r")[self.first :: self.step]


def store_scans(cases: Sequence[Case], preprocessing: Preprocessing, folder: Path) -> list[Interleave]:
    """Preprocess scans into ``folder``, those that are there already aside: the unlabelled pool of CPS.

    Raises ``VolumeError`` naming the first file that cannot be used; the scans before it stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pool: list[Interleave] = []
    with Progress("scans", len(cases), "scan") as progress:
        for case in cases:
            # Another scan under the same name, or one with other settings, is another file.
            stored = f"{case.name}-{digest(case.image)}-{preprocessing.key()}"
            path = next(folder.glob(f"{glob.escape(stored)}-every*.npy"), None) or _store(
                case, preprocessing, folder, stored
            )
            step = int(path.stem.rpartition("every")[2])
            pool += [Interleave(path, first, step) for first in range(step)]
            progress.advance(case.name)
    return pool


def _store(case: Case, preprocessing: Preprocessing, folder: Path, stored: str) -> Path:
    """One preprocessed scan, whole or not at all; the name says of how many interleaved volumes it consists."""
    prepared = preprocess_scan(preprocessing, read_image(case.image))
    step = interleaves(prepared.restoration.spacing[0], preprocessing.spacing_mm[0], len(prepared.image))
    path, temporary = folder / f"{stored}-every{step}.npy", folder / f".{stored}.{os.getpid()}.npy"
    np.save(temporary, prepared.image)
    os.replace(temporary, path)
    return path
