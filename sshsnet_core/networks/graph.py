"""SpineParseNet's graph module: the 20 classes as the nodes of a graph that knows which disc joins which vertebrae.

Pang et al. 2021 (IEEE TMI 40(1), 262-273) call it graph convolutional segmentation network (GCSN). K is the number of
nodes, one a class, background included.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sshsnet_core.anatomy import COLUMN, N_CLASSES
from sshsnet_core.networks.blocks import POINT, ConvNormAct, arranged

_GRAPH_CONVOLUTIONS = 3
#: Keeps the mean over a node's voxels defined where no voxel belongs to it; far below one voxel.
_EPSILON = 1e-6


def anatomical_adjacency() -> Tensor:
    """A (K, K): which classes touch along the column, every node joined to itself twice.

    The neighbours in the chain S, L5/S, L5, ..., T9 are joined, so each disc with its two vertebrae; background with
    itself only. The diagonal is 2: each node counts among its own neighbours, and the identity is added to that.
    """
    adjacency = 2 * torch.eye(N_CLASSES)
    for below, above in pairwise(COLUMN):
        adjacency[below.label, above.label] = adjacency[above.label, below.label] = 1
    return adjacency


def normalised(adjacency: Tensor) -> Tensor:
    """D^-1/2 A D^-1/2 with D the row sums of A (K, K)."""
    root = adjacency.sum(dim=1).rsqrt()
    return root[:, None] * adjacency * root


def region_pooling(features: Tensor, assignment: Tensor) -> Tensor:
    """Node features (N, K, C): for each node the mean of the features (N, C, *spatial) over its voxels.

    ``assignment`` (N, K, *spatial) says to what degree each voxel belongs to each node, and weighs the mean.
    """
    assignment = assignment.flatten(2)
    weights = assignment / assignment.sum(dim=2, keepdim=True).clamp_min(_EPSILON)
    return weights @ features.flatten(2).transpose(1, 2)


def region_unpooling(nodes: Tensor, assignment: Tensor) -> Tensor:
    """Features (N, C, *spatial): in each voxel its nodes' features (N, K, C), weighted by ``assignment``."""
    return (nodes.transpose(1, 2) @ assignment.flatten(2)).unflatten(2, assignment.shape[2:])


class GraphConvolution(nn.Module):
    """ReLU(Â G W) over the anatomical graph, Â fixed and W learned: node features (N, K, C) -> (N, K, C)."""

    normalised_adjacency: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Linear(channels, channels, bias=False)
        nn.init.xavier_uniform_(self.weight.weight)
        self.register_buffer("normalised_adjacency", normalised(anatomical_adjacency()), persistent=False)

    def forward(self, nodes: Tensor) -> Tensor:
        return torch.relu(self.normalised_adjacency @ self.weight(nodes))


class GraphModule(nn.Module):
    """Features X (N, C, *spatial) -> the features joined by what the graph adds, and a side output of class scores.

    The side output L = X P (N, K, *spatial) has a loss of its own: its softmax assigns the voxels to the nodes.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.side = nn.Conv3d(channels, N_CLASSES, 1, bias=False)
        self.embed = nn.Linear(channels, channels, bias=False)
        self.convolutions = nn.Sequential(*(GraphConvolution(channels) for _ in range(_GRAPH_CONVOLUTIONS)))
        self.spread = ConvNormAct(channels, channels, POINT)
        self.keep = nn.Conv3d(channels, channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        side = self.side(x)
        # float32 also under autocast: the sums run over all voxels.
        with torch.autocast(x.device.type, enabled=False):
            assignment = side.float().softmax(dim=1)
            # A^T (X W) = (A^T X) W, and there are far fewer nodes than voxels.
            nodes = torch.relu(self.embed(region_pooling(x.float(), assignment)))
            spread = region_unpooling(self.convolutions(nodes), assignment)
        # In X's memory format, so that what follows stays in the faster one.
        spread = arranged(spread)
        return F.relu(self.keep(x)) + self.spread(spread), side
