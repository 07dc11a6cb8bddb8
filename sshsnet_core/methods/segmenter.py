"""A trained row put to use: a volume in, a label map in the volume's own space out (sections 3.2 and 4.4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sshsnet_core.data.preprocessing import Preprocessed, Preprocessing, Restoration
from sshsnet_core.data.store import StoredCase
from sshsnet_core.data.thin_slices import interleaves, preprocess_scan
from sshsnet_core.data.volumes import Volume
from sshsnet_core.methods.specks import without_specks
from sshsnet_core.methods.system import Segmentation
from sshsnet_core.progress import Progress


@dataclass(frozen=True, eq=False)
class Segmented:
    """``labels`` uint8 and ``confidence`` float32, both (Z, H, W) on the scan's native grid.

    The confidence of a voxel is the networks' probability of its label, in steps of 1/255; it is 0 where the
    preprocessing cropped the zero background away and no network has looked.
    """

    labels: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A row's networks of one fold, or of several, whose class probabilities are averaged (the test set of 4.4)."""

    preprocessing: Preprocessing
    networks: Sequence[Segmentation]
    #: What a name must hold not to be a speck, by class (mm3); None keeps all names.
    least_mm3: np.ndarray | None = None

    def prepare(self, image: Volume) -> Preprocessed:
        """A scan from anywhere, preprocessed; its slices stay where they are. ``VolumeError`` where nothing varies."""
        return preprocess_scan(self.preprocessing, image)

    def probabilities(self, case: Preprocessed) -> np.ndarray:
        """Mean class probabilities (C1, Z, H, W); float16 for thin slices, whose volumes are large."""
        n = interleaves(case.restoration.spacing[0], self.preprocessing.spacing_mm[0], len(case.image))
        if n == 1:
            return self._mean(case.image)
        with Progress(f"thin slices, {n} interleaved volumes", n, "volume") as progress:
            for first in range(n):
                part = self._mean(case.image[first::n])
                if first == 0:
                    together = np.empty((len(part), *case.image.shape), np.float16)
                together[:, first::n] = part
                progress.advance()
        return together

    def segment_stored(self, case: StoredCase) -> np.ndarray:
        """Labels (Z, H, W) of a case of the store, on its native grid."""
        return case.restoration.labels(self.labels(self._sum(case.image), case.restoration.spacing))

    def labels(self, probabilities: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
        """Labels uint8 (Z, H, W): the argmax of the mean probabilities (C1, Z, H, W), without specks."""
        labels = probabilities.argmax(axis=0).astype(np.uint8)
        return labels if self.least_mm3 is None else without_specks(labels, spacing_mm, self.least_mm3)

    def _mean(self, image: np.ndarray) -> np.ndarray:
        """The networks' mean class probabilities (C1, Z, H, W)."""
        total = self._sum(image)
        return total if len(self.networks) == 1 else total / np.float32(len(self.networks))

    def _sum(self, image: np.ndarray) -> np.ndarray:
        """The networks' class probabilities (C1, Z, H, W), summed up."""
        total = self.networks[0](image)
        for network in self.networks[1:]:
            # One sum, not a list of maps: at paper size each takes half a gigabyte.
            total = total + network(image)
        return total


def in_native_space(restoration: Restoration, labels: np.ndarray, confidence: np.ndarray) -> Segmented:
    """``labels`` uint8 and ``confidence``, both (Z, H, W) on the preprocessed grid, back on the scan's own."""
    # The way back carries whole numbers of one byte: 255 steps of a probability are enough.
    steps = np.rint(confidence * np.float32(255)).clip(0, 255).astype(np.uint8)
    return Segmented(restoration.labels(labels), restoration.labels(steps) / np.float32(255))
