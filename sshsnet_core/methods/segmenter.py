"""A trained row put to use: a volume in, a label map in the volume's own space out (sections 3.2 and 4.4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sshsnet_core.data.preprocessing import Preprocessing
from sshsnet_core.data.store import StoredCase
from sshsnet_core.data.volumes import Volume
from sshsnet_core.methods.system import Segmentation


@dataclass(frozen=True)
class Segmenter:
    """A row's networks of one fold, or of several, whose class probabilities are averaged (the test set of 4.4)."""

    preprocessing: Preprocessing
    networks: Sequence[Segmentation]

    def segment(self, image: Volume) -> np.ndarray:
        """Labels (Z, H, W) uint8 of any readable volume, on its native grid."""
        preprocessed = self.preprocessing(image)
        return preprocessed.restoration.labels(self.segment_array(preprocessed.image))

    def segment_stored(self, case: StoredCase) -> np.ndarray:
        """Labels (Z, H, W) of a case of the store, on its native grid."""
        return case.restoration.labels(self.segment_array(case.image))

    def segment_array(self, image: np.ndarray) -> np.ndarray:
        """Labels (Z, H, W) of a preprocessed volume: the argmax of the mean probabilities, taken once."""
        total = self.networks[0](image)
        for network in self.networks[1:]:
            # One sum, not a list of maps: at paper size each takes half a gigabyte.
            total = total + network(image)
        return total.argmax(axis=0).astype(np.uint8)
