"""SpineParseNet's graph module against matrices written by hand and sums written out."""

import numpy as np
import pytest
import torch

from sshsnet_core.anatomy import N_CLASSES, by_name
from sshsnet_core.networks.graph import (
    GraphConvolution,
    GraphModule,
    anatomical_adjacency,
    normalised,
    region_pooling,
    region_unpooling,
)


def by_hand() -> np.ndarray:
    """Disc 10 + k lies between vertebrae k and k + 1 (11 is L5/S, between 1, S, and 2, L5); background is alone."""
    adjacency = np.zeros((20, 20))
    for k in range(1, 10):
        for vertebra in (k, k + 1):
            adjacency[10 + k, vertebra] = adjacency[vertebra, 10 + k] = 1
    # Each node is in its own list of neighbours, and the identity is added to that.
    return adjacency + 2 * np.eye(20)


def test_adjacency_is_the_column() -> None:
    adjacency = anatomical_adjacency()
    np.testing.assert_array_equal(adjacency, by_hand())
    sums = adjacency.sum(dim=1)
    ends = {by_name("S").label, by_name("T9").label}
    expected = [2 if node == 0 else 3 if node in ends else 4 for node in range(N_CLASSES)]
    assert sums.tolist() == expected
    # No vertebra touches a vertebra, no disc a disc.
    assert torch.equal(adjacency[1:11, 1:11], 2 * torch.eye(10))
    assert torch.equal(adjacency[11:, 11:], 2 * torch.eye(9))


def test_normalisation() -> None:
    adjacency = by_hand()
    root = np.diag(adjacency.sum(axis=1) ** -0.5)
    np.testing.assert_allclose(normalised(torch.from_numpy(adjacency)), root @ adjacency @ root)


def test_graph_convolution_is_the_formula() -> None:
    torch.manual_seed(0)
    layer = GraphConvolution(6)
    nodes = torch.randn(2, N_CLASSES, 6)
    adjacency = normalised(torch.from_numpy(by_hand())).numpy()
    weight = layer.weight.weight.detach().numpy().T
    expected = [np.maximum(adjacency @ sample @ weight, 0) for sample in nodes.numpy()]
    np.testing.assert_allclose(layer(nodes).detach(), expected, atol=1e-5)


def test_pooling_is_each_nodes_weighted_mean() -> None:
    rng = np.random.default_rng(0)
    features, assignment = rng.random((2, 5, 2, 3, 4)), rng.random((2, 3, 2, 3, 4))
    expected = np.zeros((2, 3, 5))
    for n in range(2):
        for node in range(3):
            for voxel in np.ndindex(2, 3, 4):
                weight = assignment[(n, node, *voxel)] / assignment[n, node].sum()
                expected[n, node] += weight * features[(n, slice(None), *voxel)]
    pooled = region_pooling(torch.from_numpy(features), torch.from_numpy(assignment))
    np.testing.assert_allclose(pooled, expected)


def test_unpooling_hands_each_voxel_its_nodes() -> None:
    rng = np.random.default_rng(0)
    nodes, assignment = rng.random((2, 3, 5)), rng.random((2, 3, 2, 3, 4))
    expected = np.zeros((2, 5, 2, 3, 4))
    for n in range(2):
        for voxel in np.ndindex(2, 3, 4):
            at = (n, slice(None), *voxel)
            expected[at] = sum(assignment[(n, node, *voxel)] * nodes[n, node] for node in range(3))
    unpooled = region_unpooling(torch.from_numpy(nodes), torch.from_numpy(assignment))
    np.testing.assert_allclose(unpooled, expected)


def test_a_node_without_voxels_stays_finite() -> None:
    pooled = region_pooling(torch.ones(1, 2, 4), torch.zeros(1, 3, 4))
    assert torch.equal(pooled, torch.zeros(1, 3, 2))


@pytest.mark.parametrize("size", [(1, 3, 5), (4, 6, 2)])
def test_the_module_keeps_shapes_and_trains_all_its_weights(size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    module = GraphModule(8)
    out, side = module(torch.randn(2, 8, *size))
    assert out.shape == (2, 8, *size)
    assert side.shape == (2, N_CLASSES, *size)
    (out.square().mean() + side.square().mean()).backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in module.parameters())
