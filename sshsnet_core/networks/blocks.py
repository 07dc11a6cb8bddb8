"""The 3D building blocks of section 3.2: strides and dilations lie in the plane, the number of slices never changes."""

import torch
from torch import Tensor, nn

Kernel = tuple[int, int, int]

POINT: Kernel = (1, 1, 1)
PLANE: Kernel = (1, 3, 3)
CUBE: Kernel = (3, 3, 3)

#: Reduction of the squeeze-and-excitation blocks, and the fewest channels it may leave in a narrow network.
SE_REDUCTION = 16
SE_FLOOR = 8


def conv3d(
    in_channels: int, out_channels: int, kernel: Kernel, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv3d:
    """A convolution without bias that keeps Z, and keeps H and W up to the in-plane ``stride``.

    ``dilation`` is in plane; weights have shape (out_channels, in_channels / groups, *kernel).
    """
    depth, rows, columns = kernel
    return nn.Conv3d(
        in_channels,
        out_channels,
        kernel,
        stride=(1, stride, stride),
        padding=(depth // 2, dilation * (rows // 2), dilation * (columns // 2)),
        dilation=(1, dilation, dilation),
        groups=groups,
        bias=False,
    )


def arranged(x: Tensor) -> Tensor:
    """In the memory format in which 3D convolutions are fast: channels last on a CPU, else PyTorch's own.

    On a GPU channels last takes depthwise convolutions from PyTorch's own kernel to cuDNN, and a step of SpineParseNet
    took seconds on an H100.
    """
    return x.contiguous(memory_format=torch.channels_last_3d if x.device.type == "cpu" else torch.contiguous_format)


class ConvNormAct(nn.Sequential):
    """Convolution, batch normalisation, ReLU: (N, C, Z, H, W) -> (N, out, Z, ceil(H / stride), ceil(W / stride))."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Kernel,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__(
            conv3d(in_channels, out_channels, kernel, stride, groups=groups),
            nn.BatchNorm3d(out_channels),
            nn.ReLU(inplace=True),
        )


class SeparableConv(nn.Sequential):
    """Depthwise 1x3x3 and pointwise 1x1x1 convolution, normalised: (N, C, Z, H, W) -> (N, out, Z, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__(
            conv3d(in_channels, in_channels, PLANE, dilation=dilation, groups=in_channels),
            conv3d(in_channels, out_channels, POINT),
            nn.BatchNorm3d(out_channels),
            nn.ReLU(inplace=True),
        )


class SqueezeExcite(nn.Module):
    """Channel weights from the mean over the whole patch: (N, C, Z, H, W) -> the same shape, each channel scaled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(channels // SE_REDUCTION, SE_FLOOR)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool3d(1),
            nn.Conv3d(channels, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv3d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weigh(x)


class SEResNeXtBottleneck(nn.Module):
    """One SE-ResNeXt block: (N, C, Z, H, W) -> (N, out, Z, H / stride, W / stride).

    1x1x1 to ``width`` channels, a grouped convolution that carries ``kernel`` and ``stride``, 1x1x1 to
    ``out_channels``, squeeze and excitation, and the shortcut (projected where the shape changes).
    """

    def __init__(
        self, in_channels: int, out_channels: int, width: int, groups: int, kernel: Kernel, stride: int
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            ConvNormAct(in_channels, width, POINT),
            ConvNormAct(width, width, kernel, stride, groups),
            conv3d(width, out_channels, POINT),
            nn.BatchNorm3d(out_channels),
            SqueezeExcite(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                conv3d(in_channels, out_channels, POINT, stride), nn.BatchNorm3d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))
