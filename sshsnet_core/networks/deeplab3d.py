"""The 3D DeepLabv3+ of section 3.2 and Figure 5: V_3d of Equation 3 and the prediction psi of Equation 5."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sshsnet_core.anatomy import N_CLASSES
from sshsnet_core.networks.blocks import (
    CUBE,
    PLANE,
    POINT,
    ConvNormAct,
    Kernel,
    SeparableConv,
    SEResNeXtBottleneck,
    arranged,
    conv3d,
)
from sshsnet_core.settings import Network3DSettings

#: In-plane downsampling of the encoder; patches are multiples of it.
OUTPUT_STRIDE = 16
#: In-plane downsampling of the features that leave the decoder.
FEATURE_STRIDE = 4


def upsample_in_plane(x: Tensor, factor: int) -> Tensor:
    """Linear upsampling of rows and columns: (N, C, Z, H, W) -> (N, C, Z, factor * H, factor * W)."""
    return F.interpolate(x, scale_factor=(1, factor, factor), mode="trilinear", align_corners=False)


class Encoder3D(nn.Module):
    """SE-ResNeXt in 3D, strided in plane only (section 3.2).

    (N, C, Z, h, w) -> features of the first stage (N, stage_channels[0], Z, h/4, w/4) and of the last
    (N, stage_channels[3], Z, h/16, w/16).

    The inner width of stage s is ``groups * group_width * 2**s``, as in ResNeXt (32x4d: 128, 256, 512, 1024); it is
    divisible by ``groups`` whatever the ``stage_channels``, so that these may be narrowed freely.
    """

    _KERNELS: tuple[Kernel, ...] = (PLANE, PLANE, PLANE, CUBE)
    _STRIDES = (1, 2, 2, 1)

    def __init__(self, settings: Network3DSettings, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            ConvNormAct(in_channels, settings.stem_channels, (1, 7, 7), stride=2),
            nn.MaxPool3d(kernel_size=PLANE, stride=(1, 2, 2), padding=(0, 1, 1)),
        )
        stages = []
        channels = settings.stem_channels
        for index, (out_channels, blocks) in enumerate(
            zip(settings.stage_channels, settings.stage_blocks, strict=True)
        ):
            width = settings.groups * settings.group_width * 2**index
            stage = nn.Sequential()
            for block in range(blocks):
                stride = self._STRIDES[index] if block == 0 else 1
                stage.append(
                    SEResNeXtBottleneck(channels, out_channels, width, settings.groups, self._KERNELS[index], stride)
                )
                channels = out_channels
            stages.append(stage)
        self.first_stage = stages[0]
        self.later_stages = nn.Sequential(*stages[1:])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low_level = self.first_stage(self.stem(x))
        return low_level, self.later_stages(low_level)


class ASPP3D(nn.Module):
    """Atrous spatial pyramid pooling: (N, C, Z, H, W) -> (N, out, Z, H, W).

    The rates dilate in plane only. A paper-size patch leaves a map of 12x12x12: at rates 12, 24, 36 every tap but the
    centre would read padding and never learn, so the rates have to fit the map (2, 4, 6).
    """

    def __init__(self, in_channels: int, out_channels: int, rates: tuple[int, int, int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                ConvNormAct(in_channels, out_channels, POINT),
                *(SeparableConv(in_channels, out_channels, rate) for rate in rates),
            ]
        )
        self.pooling = nn.Sequential(
            nn.AdaptiveAvgPool3d(1),
            conv3d(in_channels, out_channels, POINT),
            # Over the channels of one sample: batch statistics of a 1x1x1 map do not exist for a single patch and are
            # noise for a handful.
            nn.GroupNorm(1, out_channels),
            nn.ReLU(inplace=True),
        )
        self.project = ConvNormAct(5 * out_channels, out_channels, POINT)

    def forward(self, x: Tensor) -> Tensor:
        # In the other branches' memory format: merely expanded, it would take the whole decoder back to the slow one.
        pooled = arranged(self.pooling(x).expand(-1, -1, *x.shape[2:]))
        return self.project(torch.cat([*(branch(x) for branch in self.branches), pooled], dim=1))


class DeepLab3D(nn.Module):
    """V_3d of Equation 3: (N, in_channels, Z, h, w) -> I_2d-3d (N, C3, Z, h/4, w/4).

    C3 is ``settings.decoder_channels``. Any number of slices; ``ValueError`` where h or w is no multiple of 16.
    """

    def __init__(self, settings: Network3DSettings, in_channels: int) -> None:
        super().__init__()
        self.encoder = Encoder3D(settings, in_channels)
        self.aspp = ASPP3D(settings.stage_channels[-1], settings.decoder_channels, settings.atrous_rates)
        self.low_level = ConvNormAct(settings.stage_channels[0], settings.low_level_channels, POINT)
        self.fuse = SeparableConv(settings.decoder_channels + settings.low_level_channels, settings.decoder_channels)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if height % OUTPUT_STRIDE or width % OUTPUT_STRIDE:
            raise ValueError(
                f"A patch of {height}x{width} in plane cannot pass the 3D network: "
                f"both sizes must be multiples of {OUTPUT_STRIDE}."
            )
        # Channels last makes 3D convolutions several times faster on some CPUs and changes nothing on others
        # (benchmarks/training_step.py); the following layers keep it.
        low_level, high_level = self.encoder(arranged(x))
        context = upsample_in_plane(self.aspp(high_level), OUTPUT_STRIDE // FEATURE_STRIDE)
        return self.fuse(torch.cat([context, self.low_level(low_level)], dim=1))


class Head3D(nn.Module):
    """psi of Equation 5: features (N, in_channels, Z, h/4, w/4) -> scores (N, classes, Z, h, w), before the softmax
    and upsampled to the patch, where the paper's Y has its features' size.

    The paper does not say what psi consists of; as in the authors' code, a 1x3x3 convolution to ``channels`` precedes
    the 1x1x1 convolution to the classes.
    """

    def __init__(self, in_channels: int, channels: int, classes: int = N_CLASSES) -> None:
        super().__init__()
        self.fuse = ConvNormAct(in_channels, channels, PLANE)
        self.classify = nn.Conv3d(channels, classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        return upsample_in_plane(self.classify(self.fuse(features)), FEATURE_STRIDE)
