"""SpineParseNet's graph against a matrix written by hand, and its operations against loops over nodes and voxels."""

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

# Background; S, L5, ..., T9; L5/S, L4/L5, ..., T9/T10.
BY_HAND = np.array(
    [
        [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        [0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2],
    ]
)


def test_the_adjacency_is_the_one_written_by_hand() -> None:
    np.testing.assert_array_equal(anatomical_adjacency().numpy(), BY_HAND)


def test_degrees() -> None:
    degrees = anatomical_adjacency().sum(dim=1)
    ends = {0: 2.0, by_name("S").label: 3.0, by_name("T9").label: 3.0}
    assert degrees.tolist() == [ends.get(label, 4.0) for label in range(N_CLASSES)]


def test_symmetric_normalisation() -> None:
    degrees = BY_HAND.sum(axis=1)
    expected = np.array([[BY_HAND[i, j] / np.sqrt(degrees[i] * degrees[j]) for j in range(20)] for i in range(20)])
    result = normalised(anatomical_adjacency())
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)
    assert torch.equal(result, result.T)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def assignments(rng: np.random.Generator, *spatial: int) -> np.ndarray:
    """Degrees (2, 3, *spatial) to which voxels belong to three nodes; those of a voxel sum to 1."""
    scores = np.exp(rng.standard_normal((2, 3, *spatial)))
    return scores / scores.sum(axis=1, keepdims=True)


def test_region_pooling_is_a_weighted_mean_over_voxels(rng: np.random.Generator) -> None:
    features, assignment = rng.standard_normal((2, 5, 2, 3, 4)), assignments(rng, 2, 3, 4)
    expected = np.zeros((2, 3, 5))
    for n, k, c in np.ndindex(expected.shape):
        expected[n, k, c] = (assignment[n, k] * features[n, c]).sum() / assignment[n, k].sum()
    np.testing.assert_allclose(region_pooling(torch.tensor(features), torch.tensor(assignment)).numpy(), expected)


def test_a_node_without_a_voxel_has_no_features() -> None:
    nodes = region_pooling(torch.ones(1, 2, 1, 2, 2), torch.zeros(1, 3, 1, 2, 2))
    assert torch.equal(nodes, torch.zeros(1, 3, 2))


def test_region_unpooling_is_a_sum_over_nodes(rng: np.random.Generator) -> None:
    nodes, assignment = rng.standard_normal((2, 3, 5)), assignments(rng, 2, 3, 4)
    expected = np.zeros((2, 5, 2, 3, 4))
    for n, c, z, y, x in np.ndindex(expected.shape):
        expected[n, c, z, y, x] = sum(assignment[n, k, z, y, x] * nodes[n, k, c] for k in range(3))
    np.testing.assert_allclose(region_unpooling(torch.tensor(nodes), torch.tensor(assignment)).numpy(), expected)


def test_graph_convolution(rng: np.random.Generator) -> None:
    convolution = GraphConvolution(6)
    nodes = rng.standard_normal((2, 20, 6)).astype(np.float32)
    degrees = BY_HAND.sum(axis=1)
    adjacency = BY_HAND / np.sqrt(np.outer(degrees, degrees))
    weight = convolution.weight.weight.detach().numpy().T
    expected = np.stack([np.maximum(adjacency @ sample @ weight, 0) for sample in nodes])
    np.testing.assert_allclose(convolution(torch.from_numpy(nodes)).detach().numpy(), expected, atol=1e-5)


def test_sums_over_voxels_are_in_float32_also_under_autocast(rng: np.random.Generator) -> None:
    module, dtypes = GraphModule(6).eval(), []
    for layer in (module.embed, *(convolution.weight for convolution in module.convolutions)):
        layer.register_forward_hook(lambda layer, inputs, output: dtypes.append((inputs[0].dtype, output.dtype)))
    with torch.autocast("cpu", torch.bfloat16):
        module(torch.from_numpy(rng.standard_normal((1, 6, 2, 3, 4)).astype(np.float32)))
    assert dtypes == [(torch.float32, torch.float32)] * 4


def test_graph_module(rng: np.random.Generator) -> None:
    """The whole module, one voxel a row: X (M, C), L = X P, A, G0 = ReLU(A^T X W), three convolutions, back, fused."""
    torch.manual_seed(0)
    module = GraphModule(6).eval()
    x = rng.standard_normal((1, 6, 2, 3, 4)).astype(np.float32)
    output, side = module(torch.from_numpy(x))

    weights = {name: value.detach().numpy() for name, value in module.named_parameters()}
    voxels = x[0].reshape(6, -1).T
    scores = voxels @ weights["side.weight"].reshape(20, 6).T
    np.testing.assert_allclose(side.detach().numpy()[0].reshape(20, -1).T, scores, atol=1e-5)
    softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    pooled = (softmax / softmax.sum(axis=0)).T @ (voxels @ weights["embed.weight"].T)
    nodes = np.maximum(pooled, 0)
    degrees = BY_HAND.sum(axis=1)
    for index in range(3):
        nodes = BY_HAND / np.sqrt(np.outer(degrees, degrees)) @ nodes @ weights[f"convolutions.{index}.weight.weight"].T
        nodes = np.maximum(nodes, 0)
    # Untrained, batch normalisation divides by the root of 1 + 1e-5.
    spread = np.maximum(softmax @ nodes @ weights["spread.0.weight"].reshape(6, 6).T / np.sqrt(1 + 1e-5), 0)
    kept = np.maximum(voxels @ weights["keep.weight"].reshape(6, 6).T + weights["keep.bias"], 0)
    np.testing.assert_allclose(output.detach().numpy()[0].reshape(6, -1).T, kept + spread, atol=1e-5)
