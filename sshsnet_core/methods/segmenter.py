"""A trained row put to use: a volume in, a label map in the volume's own space out (sections 3.2 and 4.4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sshsnet_core.data.preprocessing import Preprocessed, Preprocessing
from sshsnet_core.data.store import StoredCase
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

    def segment(self, image: Volume) -> Segmented:
        """Labels and confidence of any readable volume, on its native grid."""
        return self.segment_preprocessed(self.preprocessing(image))

    def segment_preprocessed(self, case: Preprocessed) -> Segmented:
        """Labels and confidence of a volume that has been preprocessed, on its native grid."""
        probabilities = self._sum(case.image)
        labels = probabilities.argmax(axis=0).astype(np.uint8)
        # The way back carries whole numbers of one byte: 255 steps of a probability are enough.
        winner = np.rint(probabilities.max(axis=0) * (255 / len(self.networks))).clip(0, 255).astype(np.uint8)
        back = case.restoration.labels
        return Segmented(back(labels), back(winner) / np.float32(255))

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
