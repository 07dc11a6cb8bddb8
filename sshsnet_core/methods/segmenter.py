"""A trained row put to use: a volume in, a label map in the volume's own space out (sections 3.2 and 4.4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sshsnet_core.data.preprocessing import Preprocessed, Preprocessing
from sshsnet_core.data.store import StoredCase
from sshsnet_core.data.thin_slices import interleaves, preprocess_scan
from sshsnet_core.data.volumes import Volume
from sshsnet_core.methods.system import Segmentation


@dataclass(frozen=True, eq=False)
class Segmented:
    """``labels`` uint8 and ``confidence`` float32, both (Z, H, W) on the scan's native grid.

    The confidence of a voxel is the networks' mean probability of the class that won it, in steps of 1/255; it is 0
    where the preprocessing cropped the zero background away and no network has looked.
    """

    labels: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True)
class Segmenter:
    """A row's networks of one fold, or of several, whose class probabilities are averaged (the test set of 4.4)."""

    preprocessing: Preprocessing
    networks: Sequence[Segmentation]

    def prepare(self, image: Volume) -> Preprocessed:
        """A scan from anywhere, preprocessed; thin slices stay where they are. ``VolumeError`` where nothing varies."""
        return preprocess_scan(self.preprocessing, image)

    def segment(self, image: Volume) -> Segmented:
        """Labels and confidence of any readable volume, on its native grid."""
        return self.segment_preprocessed(self.prepare(image))

    def segment_preprocessed(self, case: Preprocessed) -> Segmented:
        """Labels and confidence of a volume that ``prepare`` has preprocessed, on its native grid."""
        probabilities = self.probabilities(case)
        return in_native_space(case, probabilities.argmax(axis=0).astype(np.uint8), probabilities)

    def probabilities(self, case: Preprocessed) -> np.ndarray:
        """Mean class probabilities (C1, Z, H, W); float16 for thin slices, whose volumes are large."""
        n = interleaves(case.restoration.spacing[0], self.preprocessing.spacing_mm[0])
        if n == 1:
            return self._sum(case.image) / np.float32(len(self.networks))
        parts = [self._sum(case.image[first::n]).astype(np.float16) for first in range(n)]
        together = np.empty((parts[0].shape[0], *case.image.shape), np.float16)
        for first, part in enumerate(parts):
            together[:, first::n] = part / np.float16(len(self.networks))
        return together

    def segment_stored(self, case: StoredCase) -> np.ndarray:
        """Labels (Z, H, W) of a case of the store, on its native grid."""
        return case.restoration.labels(self.segment_array(case.image))

    def segment_array(self, image: np.ndarray) -> np.ndarray:
        """Labels (Z, H, W) of a preprocessed volume: the argmax of the mean probabilities, taken once."""
        return self._sum(image).argmax(axis=0).astype(np.uint8)

    def _sum(self, image: np.ndarray) -> np.ndarray:
        """The networks' class probabilities (C1, Z, H, W), summed up."""
        total = self.networks[0](image)
        for network in self.networks[1:]:
            # One sum, not a list of maps: at paper size each takes half a gigabyte.
            total = total + network(image)
        return total


def in_native_space(case: Preprocessed, labels: np.ndarray, probabilities: np.ndarray) -> Segmented:
    """``labels`` uint8 (Z, H, W) of a preprocessed volume, however they were decided on, back on the scan's grid.

    The confidence is that of the class that won, by ``probabilities`` (C1, Z, H, W).
    """
    # The way back carries whole numbers of one byte: 255 steps of a probability are enough.
    winner = np.rint(probabilities.max(axis=0).astype(np.float32) * 255).clip(0, 255).astype(np.uint8)
    back = case.restoration.labels
    return Segmented(back(labels), back(winner) / np.float32(255))
