"""Stage 2 of SSHSNet as a whole (Eq. 2-5), and the 3D network alone (the ablation SSHSNet-3D)."""

from typing import Literal

import torch
from torch import Tensor, nn

from sshsnet_core.anatomy import N_CLASSES
from sshsnet_core.networks.blocks import POINT, ConvNormAct, arranged
from sshsnet_core.networks.ctam import CTAM, Concatenation
from sshsnet_core.networks.deeplab3d import DeepLab3D, Head3D
from sshsnet_core.settings import Network3DSettings


class SSHSNet3D(nn.Module):
    """Stage 2: an image patch with the coarse map and the 2D features at the same place -> fine class scores.

    ``coarse_channels`` are the channels of the 2D features I~, 2 C3 of the 2D network; ``classes`` is C1.
    """

    def __init__(
        self,
        settings: Network3DSettings,
        coarse_channels: int,
        fusion: Literal["ctam", "concatenation"],
        classes: int = N_CLASSES,
    ) -> None:
        super().__init__()
        channels = settings.decoder_channels
        self.deeplab = DeepLab3D(settings, in_channels=1 + classes)
        self.reduce = ConvNormAct(coarse_channels, channels, POINT)
        self.fusion: nn.Module = CTAM(channels, settings.ctam) if fusion == "ctam" else Concatenation()
        self.head = Head3D(2 * channels, channels, classes)

    def forward(self, image: Tensor, coarse: Tensor, features: Tensor) -> Tensor:
        """Image (N, 1, Z, h, w), S~ (N, C1, Z, h, w) and I~ (N, 2 C3, Z, h/4, w/4) -> scores (N, C1, Z, h, w).

        S~ are class probabilities; the scores are those before the softmax. h and w are multiples of 16.
        """
        inter, intra = self.fusion_inputs(image, coarse, features)
        return self.head(self.fusion(inter, intra))

    def fusion_inputs(self, image: Tensor, coarse: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """I_2d-3d (Eq. 3) and I_3d^c, each (N, C3, Z, h/4, w/4): what CTAM attends to."""
        inter = self.deeplab(torch.cat([image, coarse], dim=1))
        # In the memory format of the 3D network's features, so that what follows stays in the faster one.
        return inter, arranged(self.reduce(features))


class Plain3D(nn.Module):
    """SSHSNet-3D of Table 1: the 3D network alone. Image (N, 1, Z, h, w) -> scores (N, C1, Z, h, w)."""

    def __init__(self, settings: Network3DSettings, classes: int = N_CLASSES) -> None:
        super().__init__()
        self.deeplab = DeepLab3D(settings, in_channels=1)
        self.head = Head3D(settings.decoder_channels, settings.decoder_channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.deeplab(image))
