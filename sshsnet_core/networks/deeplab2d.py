"""The 2D DeepLabv3+ of section 3.1.1: for a slice and its neighbours, class scores S_2d and the feature I_2d."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sshsnet_core.anatomy import N_CLASSES
from sshsnet_core.networks.encoders import OUTPUT_STRIDE, encoder_name, pretrained_encoder
from sshsnet_core.networks.phases import in_phases
from sshsnet_core.settings import Network2DSettings

#: Downsampling of the features I_2d relative to the input.
FEATURE_STRIDE = 4


class Output2D(NamedTuple):
    """S_2d before the softmax (N, C1, h, w), and I_2d (N, C3, ceil(h/4), ceil(w/4)).

    Section 3.1.1 gives I_2d C2 channels and section 3.1.2 C3; it is the decoder's width, 256 at paper size. The
    library upsamples with aligned corners: its cell i of n stands for the pixel 4 i + 3 i / (n - 1), and stage 2 takes
    it for 4 i + 1.5. In the middle both agree; at the edges, where there is no spine, they are 1.5 pixels apart.
    """

    scores: Tensor
    features: Tensor


class DeepLab2D(nn.Module):
    """f_2d of section 3.1.2, one branch: segmentation_models_pytorch's DeepLabv3+ with two outputs.

    Two branches "initialised differently" are two instances made one after the other: decoder and head are drawn from
    torch's random state, while a pretrained encoder starts alike in both.

    Raises ``ValueError`` for an unknown encoder and ``PretrainedWeightsError`` where its weights cannot be had.
    """

    def __init__(self, settings: Network2DSettings, pretrained: bool, classes: int = N_CLASSES) -> None:
        # Imported when a network is made: it brings torchvision along, which takes seconds.
        import segmentation_models_pytorch as smp

        super().__init__()
        network = smp.DeepLabV3Plus(
            encoder_name(settings.encoder),
            encoder_weights=None,
            encoder_output_stride=OUTPUT_STRIDE,
            decoder_channels=settings.decoder_channels,
            decoder_atrous_rates=settings.atrous_rates,
            classes=classes,
        )
        self.encoder = pretrained_encoder(settings.encoder, settings.weights_file) if pretrained else network.encoder
        self.decoder = network.decoder
        self.segmentation_head = network.segmentation_head
        _normalise_pooling_within_a_sample(network.decoder.aspp[0], settings.decoder_channels)
        in_phases(self)

    def forward(self, x: Tensor) -> Output2D:
        """(N, 3, h, w) of any size -> ``Output2D``. Inside, the edges are repeated to the next multiple of 16."""
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % OUTPUT_STRIDE, 0, -height % OUTPUT_STRIDE), mode="replicate")
        # Channels last makes a step on a CPU a quarter to a third faster; the layers keep it.
        features = self.decoder(self.encoder(padded.contiguous(memory_format=torch.channels_last)))
        scores = self.segmentation_head(features)
        return Output2D(
            scores[..., :height, :width],
            features[..., : -(-height // FEATURE_STRIDE), : -(-width // FEATURE_STRIDE)],
        )


def _normalise_pooling_within_a_sample(aspp: nn.Module, channels: int) -> None:
    """Replace the batch normalisation after the ASPP's global pooling by one over the channels of each sample.

    One value per channel and slice is left there: batch statistics do not exist for a single slice, and are noise for
    the four of section 4.3. The number of parameters stays the same.
    """
    pooling = aspp.get_submodule("convs.4")
    if not isinstance(pooling.get_submodule("2"), nn.BatchNorm2d):
        raise TypeError("This segmentation_models_pytorch builds its ASPP unlike version 0.6; install that version.")
    pooling.set_submodule("2", nn.GroupNorm(1, channels), strict=True)
