"""CoTr (Xie et al. 2021), a baseline of Table 2: a convolutional encoder, a deformable transformer, a decoder.

Norm and activation are those of the authors' training: instance normalisation and LeakyReLU.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sshsnet_core.anatomy import N_CLASSES
from sshsnet_core.networks.deeplab3d import upsample_in_plane
from sshsnet_core.networks.deformable_attention import (
    DeformableAttention3D,
    Order,
    Size,
    reference_points,
    voxel_centres,
)
from sshsnet_core.settings import CoTrSettings

#: Downsampling of the coarsest features along Z, H and W; patches are multiples of it.
STRIDES = (8, 16, 16)
#: The transformer reads the two coarsest feature maps.
LEVELS = 2
#: The longest wavelength of the position code is about this many times the shortest.
TEMPERATURE = 10000
SLOPE = 0.01


def activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


class ConvNorm(nn.Sequential):
    """Convolution without bias and instance normalisation: (N, C, Z, H, W) -> (N, out, Z, H, W) over ``stride``."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int | tuple[int, int, int] = 1
    ) -> None:
        super().__init__(
            nn.Conv3d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
            nn.InstanceNorm3d(out_channels, affine=True),
        )


class EncoderBlock(nn.Module):
    """A residual block of a single 3x3x3 convolution: (N, C, Z, H, W) -> (N, out, Z, H, W) over ``stride``.

    The shortcut is projected where the shape changes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = ConvNorm(in_channels, out_channels, 3, stride)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = ConvNorm(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.residual(x) + self.shortcut(x))


class Encoder(nn.Module):
    """(N, in_channels, Z, H, W) -> the features of the stem and of three stages, finest first.

    Their sizes are (Z, H, W) over (1, 2, 2), (2, 4, 4), (4, 8, 8) and (8, 16, 16), their channels c0, c1, c2 and c2 of
    ``settings.channels``.
    """

    def __init__(self, settings: CoTrSettings, in_channels: int) -> None:
        super().__init__()
        c0, c1, c2 = settings.channels
        self.stem = ConvNorm(in_channels, c0, 7, stride=(1, 2, 2))
        self.stages = nn.ModuleList()
        for before, after, blocks in zip((c0, c1, c2), (c1, c2, c2), settings.stage_blocks, strict=True):
            later = (EncoderBlock(after, after, stride=1) for _ in range(blocks - 1))
            self.stages.append(nn.Sequential(EncoderBlock(before, after, stride=2), *later))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [activate(self.stem(x))]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


def position_code(size: Size, channels: int, device: torch.device) -> Tensor:
    """(Z H W, channels): sines and cosines of each voxel's z, y and x, a third of the channels for each axis.

    Channel i of an axis of length n is the sine (i even) or cosine (i odd) of

        2 pi (k - 1/2) / n / 10000^(3 floor(i / 3) / (channels / 3)),   k = 1 ... n,

    so three neighbouring channels share a frequency, as in the released code, where two are usual.
    """
    index = torch.arange(channels // 3, device=device)
    frequency = TEMPERATURE ** (-3 * (index // 3) / (channels // 3))
    angle = 2 * math.pi * voxel_centres(size, device)[..., None] * frequency  # (Z H W, 3, channels / 3)
    return torch.where(index % 2 == 0, angle.sin(), angle.cos()).flatten(1)


class TransformerLayer(nn.Module):
    """Deformable self-attention and a feed-forward network, each added, then normalised: (N, T, C) -> (N, T, C)."""

    def __init__(self, settings: CoTrSettings) -> None:
        super().__init__()
        channels = settings.channels[-1]
        self.attention = DeformableAttention3D(channels, settings.heads, LEVELS, settings.points)
        self.feed_forward = nn.Sequential(
            nn.Linear(channels, settings.feed_forward), nn.GELU(), nn.Linear(settings.feed_forward, channels)
        )
        self.dropout = nn.Dropout(settings.dropout)
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)

    def forward(self, tokens: Tensor, position: Tensor, references: Tensor, sizes: list[Size]) -> Tensor:
        attended = self.attention(tokens + position, references, tokens, sizes)
        tokens = self.attention_norm(tokens + self.dropout(attended))
        return self.feed_forward_norm(tokens + self.dropout(self.feed_forward(tokens)))


class DeformableTransformer(nn.Module):
    """The feature maps of two levels, each (N, C, Z, H, W), attend to both: the same shapes.

    A query knows its place from ``position_code`` and its level from a learned vector; the values do not carry either.
    ``ValueError`` where C is no multiple of the three axes or of the heads.
    """

    def __init__(self, settings: CoTrSettings, order: Order) -> None:
        super().__init__()
        channels = settings.channels[-1]
        if channels % 3:
            raise ValueError(f"The position code of three axes needs a multiple of 3 channels, not {channels}.")
        self.order = order
        self.level_code = nn.Parameter(torch.randn(LEVELS, channels))
        self.layers = nn.ModuleList(TransformerLayer(settings) for _ in range(settings.layers))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        sizes: list[Size] = [(m.shape[2], m.shape[3], m.shape[4]) for m in maps]
        channels, device = maps[0].shape[1], maps[0].device
        tokens = torch.cat([m.flatten(2).mT for m in maps], dim=1)  # (N, T, C)
        position = torch.cat(
            [position_code(size, channels, device) + code for size, code in zip(sizes, self.level_code, strict=True)]
        )
        references = reference_points(sizes, self.order, device)
        for layer in self.layers:
            tokens = layer(tokens, position, references, sizes)
        levels = tokens.mT.split([math.prod(size) for size in sizes], dim=-1)
        return [level.unflatten(-1, size) for level, size in zip(levels, sizes, strict=True)]


class DecoderBlock(nn.Module):
    """Two 3x3x3 convolutions, each normalised and activated, and the input added: (N, C, Z, H, W), kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = ConvNorm(channels, channels, 3), ConvNorm(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + activate(self.second(activate(self.first(x))))


class Decoder(nn.Module):
    """The encoder's four feature maps, finest first -> three decoded maps at the sizes of the first three.

    Each step doubles Z, H and W by a transposed convolution and adds the skip.
    """

    def __init__(self, settings: CoTrSettings) -> None:
        super().__init__()
        c0, c1, c2 = settings.channels
        self.upsample = nn.ModuleList(
            nn.ConvTranspose3d(before, after, kernel_size=2, stride=2, bias=False)
            for before, after in ((c2, c2), (c2, c1), (c1, c0))
        )
        self.blocks = nn.ModuleList(DecoderBlock(channels) for channels in (c2, c1, c0))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        *skips, x = features
        decoded: list[Tensor] = []
        for upsample, block, skip in zip(self.upsample, self.blocks, reversed(skips), strict=True):
            x = block(skip + upsample(x))
            decoded.insert(0, x)
        return decoded


class CoTr(nn.Module):
    """Image (N, in_channels, Z, H, W) -> scores (N, classes, Z, H, W), before the softmax.

    With ``deep_supervision``, to be switched off for use, a list of four, finest first: also the scores at (Z, H, W)
    over (1, 2, 2), (2, 4, 4) and (4, 8, 8).

    ``order``: in the authors' released code, each token of the transformer looks around a wrong place, its coordinates
    being permuted (see ``reference_points``). On a cube that is a fixed permutation of the axes; on a patch of thick
    slices it takes rows for slices. ``corrected`` is the method as published, ``released`` the code as it stands.

    ``ValueError`` where Z is no multiple of 8, or H or W none of 16.
    """

    def __init__(
        self, settings: CoTrSettings, in_channels: int = 1, classes: int = N_CLASSES, order: Order = "corrected"
    ) -> None:
        super().__init__()
        self.deep_supervision = True
        self.encoder = Encoder(settings, in_channels)
        self.transformer = DeformableTransformer(settings, order)
        self.decoder = Decoder(settings)
        c0, c1, c2 = settings.channels
        self.head = nn.Conv3d(c0, classes, 1)
        self.side_heads = nn.ModuleList(nn.Conv3d(channels, classes, 1) for channels in (c0, c1, c2))
        # Channels last makes the convolutions about a quarter faster on a CPU. Instance normalisation does not keep the
        # format of its input, but a convolution takes that of its weights.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        if any(length % stride for length, stride in zip(x.shape[2:], STRIDES, strict=True)):
            size = "x".join(map(str, x.shape[2:]))
            raise ValueError(
                f"A patch of {size} (Z, H, W) cannot pass CoTr: Z must be a multiple of {STRIDES[0]}, "
                f"H and W multiples of {STRIDES[1]}."
            )
        features = self.encoder(x)
        decoded = self.decoder([*features[:-LEVELS], *self.transformer(features[-LEVELS:])])
        # Classified before it is upsampled: a 1x1x1 convolution and an interpolation may change places.
        scores = upsample_in_plane(self.head(decoded[0]), 2)
        if not self.deep_supervision:
            return scores
        return [scores, *(head(level) for head, level in zip(self.side_heads, decoded, strict=True))]
