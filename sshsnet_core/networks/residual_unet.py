"""SpineParseNet's fine network: a 2D U-Net of residual blocks whose skips are added, not concatenated."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sshsnet_core.anatomy import N_CLASSES


def _conv(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out))


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions; what the first one makes of the input is added to what the last one makes of that.

    (N, C, H, W) -> (N, out, H, W).
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_conv(channels, out), nn.ReLU())
        self.residual = nn.Sequential(_conv(out, out), nn.ReLU(inplace=True), _conv(out, out))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return torch.relu(x + self.residual(x))


class ResidualUNet2D(nn.Module):
    """Slices with their coarse scores (N, in_channels, H, W) of any size -> class scores (N, 20, H, W).

    ``channels`` are those of the levels from full resolution down; at the published (32, 64, 128, 256, 512) and 21
    input channels it has 11.79 million parameters.
    """

    def __init__(self, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        pairs = list(pairwise(channels))
        self.top = ResidualBlock(in_channels, channels[0])
        self.down = nn.ModuleList(ResidualBlock(upper, lower) for upper, lower in pairs)
        # Rounding up, so that a transposed convolution can come back to an odd size.
        self.halve = nn.MaxPool2d(2, ceil_mode=True)
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(lower, upper, 3, stride=2, padding=1) for upper, lower in reversed(pairs)
        )
        self.up = nn.ModuleList(ResidualBlock(upper, upper) for upper, _ in reversed(pairs))
        self.classify = nn.Conv2d(channels[0], N_CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.top(x)
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(self.halve(x))
        for enlarge, block in zip(self.enlarge, self.up, strict=True):
            skip = skips.pop()
            x = block(enlarge(x, output_size=skip.shape[-2:]) + skip)
        return self.classify(x)
