"""Deformable attention against its formula in loops, where it looks at first, and the two orders of coordinates."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sshsnet_core.networks.deformable_attention import (
    DeformableAttention3D,
    Order,
    Size,
    reference_points,
    voxel_centres,
)

CPU = torch.device("cpu")
N, CHANNELS, HEADS, POINTS = 2, 6, 2, 3
SIZES: list[Size] = [(3, 5, 4), (1, 2, 3)]
TOKENS = 3 * 5 * 4 + 1 * 2 * 3


def attention() -> DeformableAttention3D:
    """In double precision, without the zeros that it starts with; offsets of a few voxels, some out of the map."""
    torch.manual_seed(0)
    module = DeformableAttention3D(CHANNELS, HEADS, len(SIZES), POINTS).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    return module


def trilinear(grid: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
    """The values (c) of a map (Z, H, W, c) at (x, y, z) in 0..1, where voxel k covers k/n to (k+1)/n; outside are 0."""
    result = np.zeros(grid.shape[-1])
    place = [at * length - 0.5 for at, length in zip((z, y, x), grid.shape[:3], strict=True)]
    lower = [int(np.floor(at)) for at in place]
    for corner in product((0, 1), repeat=3):
        voxel = tuple(low + step for low, step in zip(lower, corner, strict=True))
        share = np.prod([1 - abs(at - index) for at, index in zip(place, voxel, strict=True)])
        if all(0 <= index < length for index, length in zip(voxel, grid.shape[:3], strict=True)):
            result += share * grid[voxel]
    return result


def linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def attention_in_loops(
    module: DeformableAttention3D, queries: np.ndarray, tokens: np.ndarray, order: Order
) -> np.ndarray:
    """One sample: queries (T, C) at the voxels of all levels, tokens (T, C) -> (T, C)."""
    values = linear(module.value, tokens)
    levels, start = [], 0
    for z, h, w in SIZES:
        levels.append(values[start : start + z * h * w].reshape(z, h, w, CHANNELS))
        start += z * h * w
    places = [
        ((k + 0.5) / z, (i + 0.5) / h, (j + 0.5) / w)
        for z, h, w in SIZES
        for k, i, j in product(range(z), range(h), range(w))
    ]
    per_head = CHANNELS // HEADS
    joined = np.zeros_like(queries)
    for q, (z, y, x) in enumerate(places):
        base = (x, y, z) if order == "corrected" else (z, x, y)
        offsets = linear(module.offsets, queries[q]).reshape(HEADS, len(SIZES), POINTS, 3)
        energies = np.exp(linear(module.weights, queries[q]).reshape(HEADS, len(SIZES), POINTS))
        for head in range(HEADS):
            channels = slice(head * per_head, (head + 1) * per_head)
            for level, point in product(range(len(SIZES)), range(POINTS)):
                depth, height, width = SIZES[level]
                dx, dy, dz = offsets[head, level, point]
                value = trilinear(
                    levels[level][..., channels], base[0] + dx / width, base[1] + dy / height, base[2] + dz / depth
                )
                joined[q, channels] += energies[head, level, point] / energies[head].sum() * value
    return linear(module.output, joined)


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    queries, tokens = (torch.randn(N, TOKENS, CHANNELS, generator=generator, dtype=torch.float64) for _ in range(2))
    return queries, tokens


@pytest.mark.parametrize("order", ["corrected", "released"])
def test_attention_is_the_formula(order: Order) -> None:
    module = attention()
    queries, tokens = inputs()
    with torch.no_grad():
        result = module(queries, reference_points(SIZES, order, CPU), tokens, SIZES)
    assert result.shape == (N, TOKENS, CHANNELS)
    for n in range(N):
        expected = attention_in_loops(module, queries[n].numpy(), tokens[n].numpy(), order)
        np.testing.assert_allclose(result[n].numpy(), expected, rtol=1e-5, atol=1e-5)


def test_loops_read_voxels_halves_between_them_and_zero_outside() -> None:
    grid = np.arange(24.0).reshape(2, 3, 4, 1)
    assert trilinear(grid, 2.5 / 4, 1.5 / 3, 0.5 / 2) == grid[0, 1, 2]
    assert trilinear(grid, 2.0 / 4, 1.5 / 3, 0.5 / 2) == (grid[0, 1, 1] + grid[0, 1, 2]) / 2
    assert trilinear(grid, 1.0, 2.5 / 3, 1.5 / 2) == grid[1, 2, 3] / 2
    assert trilinear(grid, 2.5 / 4, 1.5 / 3, 3 / 2) == 0


def test_few_queries_may_look_into_many_tokens() -> None:
    module = attention()
    queries, tokens = inputs()
    references = reference_points(SIZES, "corrected", CPU)
    torch.testing.assert_close(
        module(queries[:, 7:9], references[7:9], tokens, SIZES), module(queries, references, tokens, SIZES)[:, 7:9]
    )


def test_voxel_centres_in_the_order_of_the_tokens() -> None:
    size = (2, 3, 4)
    index = torch.arange(24).view(size)
    centres = voxel_centres(size, CPU)
    for z, y, x in product(range(2), range(3), range(4)):
        expected = torch.tensor([(z + 0.5) / 2, (y + 0.5) / 3, (x + 0.5) / 4])
        torch.testing.assert_close(centres[index[z, y, x]], expected)


@pytest.mark.parametrize(
    ("order", "read"), [("corrected", (0.375, 0.41667, 0.6875)), ("released", (0.41667, 0.6875, 0.375))]
)
def test_where_a_query_looks(order: Order, read: tuple[float, float, float]) -> None:
    """Every voxel holds its own (z, y, x), so that a query without offsets answers with the place that it read."""
    size = (4, 6, 8)
    module = DeformableAttention3D(channels=3, heads=1, levels=1, points=1)
    with torch.no_grad():
        module.offsets.bias.zero_()
        for projection in (module.value, module.output):
            projection.weight.copy_(torch.eye(3))
    centres = voxel_centres(size, CPU)
    query = 1 * 6 * 8 + 2 * 8 + 5
    torch.testing.assert_close(centres[query], torch.tensor([0.375, 0.41667, 0.6875]), atol=1e-5, rtol=0)
    with torch.no_grad():
        answer = module(torch.zeros(1, 192, 3), reference_points([size], order, CPU), centres[None], [size])[0]
    torch.testing.assert_close(answer[query], torch.tensor(read), atol=1e-5, rtol=0)
    if order == "corrected":
        torch.testing.assert_close(answer, centres)


def test_six_heads_start_in_six_directions() -> None:
    module = DeformableAttention3D(channels=12, heads=6, levels=2, points=4)
    third = 1 / 3**0.5
    directions = [
        (1.0, 0.0, 0.0),
        (2 / 3, third, 1.0),
        (-2 / 3, -third, 1.0),
        (-1.0, 0.0, 0.0),
        (-2 / 3, third, 1.0),
        (2 / 3, -third, 1.0),
    ]
    offsets = module.offsets.bias.detach().view(6, 2, 4, 3)
    for head, level, point in product(range(6), range(2), range(4)):
        expected = torch.tensor([(point + 1) * component for component in directions[head]])
        torch.testing.assert_close(offsets[head, level, point], expected, atol=1e-5, rtol=0)


def test_start_is_the_same_for_every_query_and_weighs_all_points_alike() -> None:
    module = DeformableAttention3D(channels=12, heads=6, levels=2, points=4)
    for zero in (
        module.offsets.weight,
        module.weights.weight,
        module.weights.bias,
        module.value.bias,
        module.output.bias,
    ):
        assert not zero.any()
    # Xavier's uniform distribution: up to the root of 6 / (fan in + fan out).
    for projection in (module.value, module.output):
        assert 0.4 < projection.weight.abs().max() <= 0.5


def test_memory_layout_does_not_matter() -> None:
    module = attention()
    queries, tokens = inputs()
    references = reference_points(SIZES, "corrected", CPU)
    strided = [x.mT.contiguous().mT for x in (queries, tokens)]
    assert not any(x.is_contiguous() for x in strided)
    torch.testing.assert_close(
        module(strided[0], references, strided[1], SIZES), module(queries, references, tokens, SIZES)
    )


def test_refuses_channels_that_the_heads_do_not_share() -> None:
    with pytest.raises(ValueError, match="multiple of 6 channels, not 16"):
        DeformableAttention3D(channels=16, heads=6, levels=2, points=4)
