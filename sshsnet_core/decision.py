"""From class probabilities to one label a voxel, where names are in doubt: what it is comes before which level it is.

The paper takes the largest of all classes. Where a network is torn between two names of one vertebra, background wins
with 0.4 against 0.3 and 0.3, although bone is the likelier by far: outlines are eaten where names are unsure. Outside
the paper's rows the kind is decided first, over the sums of its classes, and then the name within it.
"""

import numpy as np
import torch
from torch import Tensor

from sshsnet_core.anatomy import ARCHES, STRUCTURES

_KINDS = ("background", "vertebra", "disc", "arch")
N_KINDS = len(_KINDS)
VERTEBRA, DISC, ARCH = 1, 2, 3
#: The kind of each of the 29 classes, as its place in ``_KINDS``; the paper's 20 come first.
KIND = (0, *(_KINDS.index(structure.kind) for structure in (*STRUCTURES, *ARCHES)))


def kind_sums(probabilities: Tensor) -> Tensor:
    """Probabilities of background, vertebrae, discs and arches (N, 4, *spatial), of 20 or 29 classes (N, C, *spatial).

    Where a network does not tell arches from bodies, they are vertebrae.
    """
    kinds = torch.tensor(KIND[: probabilities.shape[1]], device=probabilities.device)
    sums = probabilities.new_zeros((len(probabilities), len(_KINDS), *probabilities.shape[2:]))
    return sums.index_add(1, kinds, probabilities)


def kind_first(probabilities: Tensor) -> Tensor:
    """Labels (N, *spatial), int64: of the likeliest kind the likeliest name. Probabilities (N, C, *spatial)."""
    kinds = torch.tensor(KIND[: probabilities.shape[1]], device=probabilities.device)
    kinds = kinds.view(1, -1, *(1 for _ in probabilities.shape[2:]))
    likeliest = kind_sums(probabilities).argmax(dim=1, keepdim=True)
    return probabilities.masked_fill(kinds != likeliest, -1).argmax(dim=1)


def volume_kind_first(probabilities: np.ndarray) -> np.ndarray:
    """``kind_first`` of one volume: probabilities (C, Z, H, W) of any precision to labels (Z, H, W), uint8.

    Slice by slice, because a volume of thin slices does not fit into memory twice.
    """
    slices = (np.ascontiguousarray(plane, np.float32) for plane in np.moveaxis(probabilities, 1, 0))
    return np.stack([kind_first(torch.from_numpy(plane)[None])[0].numpy().astype(np.uint8) for plane in slices])
