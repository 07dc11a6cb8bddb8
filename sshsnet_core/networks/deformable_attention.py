"""Deformable attention over several 3D feature maps (CoTr, Xie et al. 2021), in plain PyTorch."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: (Z, H, W) of one level.
Size = tuple[int, int, int]

Order = Literal["corrected", "released"]

#: Which of a voxel centre's coordinates (z, y, x) stand where ``grid_sample`` reads x, y and z.
GRID_AXES: dict[Order, tuple[int, int, int]] = {"corrected": (2, 1, 0), "released": (0, 2, 1)}


def voxel_centres(size: Size, device: torch.device) -> Tensor:
    """(Z H W, 3) centres (z, y, x) of the voxels of a map, x fastest; 0 and 1 are the outer faces of the map."""
    axes = [(torch.arange(length, device=device) + 0.5) / length for length in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)


def reference_points(sizes: Sequence[Size], order: Order, device: torch.device) -> Tensor:
    """(T, 3): where each token of all levels, one level after the other, starts to look, as (x, y, z) in 0..1.

    ``corrected``: at its own place, as published. ``released``: CoTr's released code stacks the coordinates as
    (z, x, y), but they are read as (x, y, z). A token at (z, y, x) then looks around z' = y, y' = x, x' = z: rows pass
    for slices, columns for rows and slices for columns.
    """
    centres = torch.cat([voxel_centres(size, device) for size in sizes])
    return centres[:, GRID_AXES[order]]


class DeformableAttention3D(nn.Module):
    """Each query reads a few points around its reference point in every level, and weighs them.

    For query q with reference point p, head m, level l and point k,

        out(q) = W' concat_m  sum_l sum_k  A_mlk(q)  (W v_l)_m (p + offset_mlk(q) / size_l)

    where the offsets (x, y, z), in voxels of level l, and A are linear in q; A is softmaxed over levels and points
    together. Values between voxels are trilinear, and zero outside the map.

    ``ValueError`` where ``channels`` is no multiple of ``heads``.
    """

    def __init__(self, channels: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{heads} attention heads need a multiple of {heads} channels, not {channels}.")
        self.heads, self.levels, self.points = heads, levels, points
        self.offsets = nn.Linear(channels, heads * levels * points * 3)
        self.weights = nn.Linear(channels, heads * levels * points)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        self._initialise()

    def _initialise(self) -> None:
        """At first each head looks one way, its point k being k voxels away, and all points weigh the same."""
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin() * angle.cos(), angle.sin() ** 2], dim=-1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        distance = torch.arange(1, self.points + 1)
        offsets = direction[:, None, None, :] * distance[None, None, :, None]  # (heads, 1, points, 3)
        with torch.no_grad():
            self.offsets.bias.copy_(offsets.expand(-1, self.levels, -1, -1).flatten())
        for zero in (self.offsets.weight, self.weights.weight, self.weights.bias, self.value.bias, self.output.bias):
            nn.init.zeros_(zero)
        for projection in (self.value, self.output):
            nn.init.xavier_uniform_(projection.weight)

    def forward(self, queries: Tensor, references: Tensor, tokens: Tensor, sizes: Sequence[Size]) -> Tensor:
        """Queries (N, Q, C), their references (Q, 3) as (x, y, z) in 0..1, and tokens (N, T, C) -> (N, Q, C).

        The tokens are those of the levels of ``sizes``, one after the other, x fastest.
        """
        n, q, _ = queries.shape
        offsets = self._by_head(self.offsets(queries)).view(-1, q, self.levels, self.points, 3)
        weights = self._by_head(self.weights(queries)).softmax(-1).view(-1, 1, q, self.levels, self.points)
        values = self._by_head(self.value(tokens)).split([math.prod(size) for size in sizes], dim=1)
        attended = []
        for level, (value, (z, h, w)) in enumerate(zip(values, sizes, strict=True)):
            locations = references[:, None] + offsets[:, :, level] / references.new_tensor([w, h, z])
            sampled = F.grid_sample(
                value.mT.unflatten(-1, (z, h, w)), 2 * locations[:, None] - 1, padding_mode="zeros", align_corners=False
            )  # (N heads, c, 1, Q, points)
            attended.append((sampled.squeeze(2) * weights[..., level, :]).sum(-1))
        return self.output(torch.stack(attended).sum(0).view(n, -1, q).mT)

    def _by_head(self, x: Tensor) -> Tensor:
        """(N, T, heads F) -> (N heads, T, F): heads join the batch; the F numbers of a token and head lie together."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2).flatten(0, 1)
