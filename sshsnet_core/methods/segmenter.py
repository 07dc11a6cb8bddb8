"""A trained row put to use: a volume in, a label map in the volume's own space out (sections 3.2 and 4.4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from sshsnet_core.data.preprocessing import Preprocessing
from sshsnet_core.data.sampling import pad_volume
from sshsnet_core.data.store import StoredCase
from sshsnet_core.data.volumes import Volume
from sshsnet_core.learning.inference import labels_from_coarse, segment_whole, segment_windows
from sshsnet_core.methods.rows import Method
from sshsnet_core.methods.stage1 import apply_stage1
from sshsnet_core.settings import Settings


def device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Segmenter:
    """A trained row: a volume in, a label map in the volume's own space out."""

    settings: Settings
    preprocessing: Preprocessing
    method: Method
    branches: Sequence[nn.Module]
    network: nn.Module | None

    def segment(self, image: Volume) -> np.ndarray:
        """Labels (Z, H, W) uint8 of any readable volume, on its native grid."""
        preprocessed = self.preprocessing(image)
        return preprocessed.restoration.labels(self.segment_array(preprocessed.image))

    def segment_stored(self, case: StoredCase) -> np.ndarray:
        """Labels (Z, H, W) of a case of the store, on its native grid."""
        return case.restoration.labels(self.segment_array(case.image))

    def segment_array(self, image: np.ndarray) -> np.ndarray:
        """Labels of a preprocessed volume (Z, H, W)."""
        z, h, w = image.shape
        patch = self.settings.patch
        if self.method.stage1 is None:
            assert self.network is not None
            labels = segment_whole(self.network.to(device()), pad_volume(image), device())
        else:
            volume = pad_volume(image, patch)
            coarse = apply_stage1(self.branches, volume, device())
            if self.network is None:
                return labels_from_coarse(coarse, (z, h, w))
            network, overlap = self.network.to(device()), self.settings.overlap
            labels = segment_windows(network, volume, coarse, patch, overlap, device())
        return labels[:z, :h, :w]
