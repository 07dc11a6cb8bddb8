"""SpineParseNet's coarse network: a small 3D DeepLabv3+ on whole volumes, with or without the graph module.

Pang et al. 2021, section III; sizes as in the released code. Strides lie in the plane, so that slices are never merged,
while kernels and dilations are the same along all three axes.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sshsnet_core.anatomy import N_CLASSES
from sshsnet_core.networks.blocks import CUBE, POINT, ConvNormAct, arranged, conv3d
from sshsnet_core.networks.depthwise import Depthwise3d
from sshsnet_core.networks.graph import GraphModule

#: Dilation of the encoder's last convolutions, and of the branches of its atrous pyramid.
_EXIT_DILATION = 2
_ATROUS_RATES = (6, 12, 18)


class CoarseOutput(NamedTuple):
    """Class scores before the softmax (N, K, Z, h, w); with a graph its side output, the same at 1/4 in plane."""

    scores: Tensor
    side: Tensor | None


def upsample(x: Tensor, size: torch.Size) -> Tensor:
    """Linear upsampling in plane to the (h, w) of ``size``; corners stay on corners, where strided kernels put them.

    (N, C, Z, H, W) -> (N, C, Z, h, w), slice by slice: this is trilinear upsampling, and quicker on a CPU.
    """
    n, z = x.shape[0], x.shape[2]
    slices = F.interpolate(x.transpose(1, 2).flatten(0, 1), size[-2:], mode="bilinear", align_corners=True)
    return slices.unflatten(0, (n, z)).transpose(1, 2)


class Separable(nn.Sequential):
    """Depthwise 3x3x3 and pointwise convolution, each normalised; ``activate``: each followed by a ReLU.

    (N, C, Z, H, W) -> (N, out, Z, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, channels: int, out: int, stride: int = 1, dilation: int = 1, activate: bool = False) -> None:
        activation = [nn.ReLU(inplace=True)] if activate else []
        super().__init__(
            *(Depthwise3d(channels, stride, dilation), nn.BatchNorm3d(channels), *activation),
            *(conv3d(channels, out, POINT), nn.BatchNorm3d(out), *activation),
        )


class XceptionBlock(nn.Module):
    """Three separable convolutions, the last one strided, and a projected shortcut.

    (N, C, Z, H, W) -> the output (N, out, Z, H / stride, W / stride), and the features before the strided convolution
    (N, out, Z, H, W), which the decoder takes up.
    """

    def __init__(self, channels: int, middle: int, out: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.ReLU(), Separable(channels, middle), nn.ReLU(), Separable(middle, out))
        self.outer = nn.Sequential(nn.ReLU(), Separable(out, out, stride))
        self.shortcut = nn.Sequential(conv3d(channels, out, POINT, stride), nn.BatchNorm3d(out))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        inner = self.inner(x)
        return self.outer(inner) + self.shortcut(x), inner


class AtrousPyramid(nn.Module):
    """Five views of the encoder's features, from one voxel to the whole volume: (N, C, Z, H, W) -> (N, out, Z, H, W).

    On the published 18x16x8 map most taps at these rates see padding only.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                ConvNormAct(channels, out, POINT),
                *(Separable(channels, out, dilation=rate, activate=True) for rate in _ATROUS_RATES),
            ]
        )
        # Not normalised: one value per channel and volume is left, too few for a batch's statistics.
        self.pooling = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Conv3d(channels, out, 1), nn.ReLU())
        self.project = ConvNormAct(5 * out, out, POINT)

    def forward(self, x: Tensor) -> Tensor:
        # In the other branches' memory format: merely expanded, it would take the decoder back to the slow one.
        pooled = arranged(self.pooling(x).expand(-1, -1, *x.shape[2:]))
        return self.project(torch.cat([*(branch(x) for branch in self.branches), pooled], dim=1))


class SpineParseNet3D(nn.Module):
    """The coarse network: image (N, 1, Z, h, w) of any size -> ``CoarseOutput``.

    ``width`` multiplies all channels but the 20 of the classes: at 1, 4.13 million parameters, with the graph 4.23.
    Without ``running_statistics`` it normalises by the batch's own in evaluation mode, too.
    """

    def __init__(self, width: float, graph: bool, running_statistics: bool = True) -> None:
        super().__init__()

        def wide(channels: int) -> int:
            return max(4, 4 * round(width * channels / 4))

        self.stem = nn.Sequential(
            ConvNormAct(1, wide(16), CUBE, stride=2),
            ConvNormAct(wide(16), wide(32), CUBE),
        )
        self.block1 = XceptionBlock(wide(32), wide(64), wide(64), stride=2)
        self.block2 = XceptionBlock(wide(64), wide(128), wide(128), stride=2)
        self.block3 = XceptionBlock(wide(128), wide(364), wide(364), stride=2)
        self.block4 = XceptionBlock(wide(364), wide(364), wide(512), stride=1)
        self.exit = nn.Sequential(
            Separable(wide(512), wide(768), dilation=_EXIT_DILATION, activate=True),
            Separable(wide(768), wide(768), dilation=_EXIT_DILATION, activate=True),
            Separable(wide(768), wide(1024), dilation=_EXIT_DILATION, activate=True),
        )
        self.pyramid = AtrousPyramid(wide(1024), wide(128))
        self.low4 = ConvNormAct(wide(128), wide(24), POINT)
        self.fuse4 = nn.Sequential(
            Separable(wide(128) + wide(24), wide(128), activate=True),
            Separable(wide(128), wide(128), activate=True),
        )
        self.graph = GraphModule(wide(128)) if graph else None
        self.low2 = ConvNormAct(wide(32), wide(64), POINT)
        self.fuse2 = nn.Sequential(
            Separable(wide(128) + wide(64), wide(256), activate=True),
            Separable(wide(256), wide(256), activate=True),
        )
        self.classify = nn.Conv3d(wide(256), N_CLASSES, 1)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d) and not running_statistics:
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None

    def forward(self, image: Tensor) -> CoarseOutput:
        # Channels last makes depthwise convolutions faster on some CPUs; the following layers keep it. Asked of the
        # image, with its one channel, it would say nothing.
        low2 = arranged(self.stem(image))
        x, _ = self.block1(low2)
        x, low4 = self.block2(x)
        x, _ = self.block3(x)
        x, _ = self.block4(x)
        x = upsample(self.pyramid(self.exit(x)), low4.shape)
        x = self.fuse4(torch.cat([x, self.low4(low4)], dim=1))
        side = None
        if self.graph is not None:
            x, side = self.graph(x)
        x = self.fuse2(torch.cat([upsample(x, low2.shape), self.low2(low2)], dim=1))
        return CoarseOutput(upsample(self.classify(x), image.shape), side)
