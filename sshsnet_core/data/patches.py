"""What the 3D networks are shown: category-balanced patches (phi, section 3.2) and whole volumes (SSHSNet-3D).

As in ``slices``, every sample is a function of (seed, index) alone.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sshsnet_core.data.augmentation import augment_volume
from sshsnet_core.data.coarse import FEATURE_STRIDE, Coarse, StoredCoarse
from sshsnet_core.data.slices import Batch, cases_by_class, fit, halve_image, halve_labels, pad_volume, place
from sshsnet_core.data.store import StoredCase


class PatchSamples(Dataset[Batch]):
    """phi (Equation 2): category-balanced patches of image, labels and, from stage 1, S~ and I~ at the same place.

    A class is drawn among those that the cases show, then a case that shows it, then a patch that holds it.
    ``image`` (1, Z, h, w), ``labels`` (Z, h, w); ``coarse`` and ``features``, which ``doubled`` makes S~ and I~ of: see
    ``Coarse.window``.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        coarse: Sequence[Coarse | StoredCoarse],
        size: tuple[int, int, int],
        seed: int,
    ) -> None:
        self.cases, self.coarse, self.size, self.seed = cases, coarse, size, seed
        self.showing = cases_by_class(cases)

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([self.seed, index])
        label = int(rng.choice(list(self.showing)))
        number = int(rng.choice(self.showing[label]))
        case = self.cases[number]
        assert case.labels is not None
        start = balanced_start(case, label, self.size, rng)
        image, labels = (crop(array, start, self.size) for array in (case.image, case.labels))
        coarse, features = self.coarse[number].window(start, self.size)
        batch = {"image": image[None], "labels": labels.long(), "coarse": coarse, "features": features}
        return augment_volume(batch, rng)


class WholeSamples(Dataset[Batch]):
    """SSHSNet-3D's input: whole volumes, downsampled once. ``image`` (1, Z, h, w), ``labels`` (Z, h, w)."""

    def __init__(self, cases: Sequence[StoredCase], size: tuple[int, int, int], seed: int) -> None:
        self.cases, self.size, self.seed = cases, size, seed

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([self.seed, index])
        case = self.cases[int(rng.integers(len(self.cases)))]
        assert case.labels is not None
        depth, *in_plane = self.size
        image = halve_image(torch.from_numpy(pad_volume(case.image, (depth, 1, 1))))
        labels = torch.from_numpy(halve_labels(pad_volume(case.labels, (depth, 1, 1))).astype(np.int64))
        first = int(rng.integers(image.shape[0] - depth + 1))
        size = (in_plane[0], in_plane[1])
        at = place(image.shape, size, rng)
        image, labels = (fit(array[first : first + depth], size, at) for array in (image, labels))
        return augment_volume({"image": image[None], "labels": labels}, rng)


def balanced_start(
    case: StoredCase, label: int, size: tuple[int, int, int], rng: np.random.Generator
) -> tuple[int, int, int]:
    """Where a patch begins that holds a random voxel of a class.

    In plane it begins at multiples of 8, so that the crop of I~, at 1/8 of full resolution, is exact.
    """
    voxels = case.voxels(label)
    voxel = voxels[rng.integers(len(voxels))]
    grid = (1, FEATURE_STRIDE, FEATURE_STRIDE)
    starts = []
    for position, length, patch, step in zip(voxel, case.image.shape, size, grid, strict=True):
        length = -(-length // step) * step
        low, high = max(0, position - patch + 1), min(position, length - patch)
        low, high = -(-low // step), max(high, 0) // step
        starts.append(int(rng.integers(low, high + 1)) * step)
    return starts[0], starts[1], starts[2]


def centred_start(
    case: StoredCase, label: int, size: tuple[int, int, int]
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Where a patch begins, on ``balanced_start``'s grid, that has a class in its middle; and where in it that middle
    lies. The case must show the class.
    """
    middle = np.median(case.voxels(label), axis=0).astype(int)
    grid = (1, FEATURE_STRIDE, FEATURE_STRIDE)
    starts = [
        int(np.clip(place - patch // 2, 0, max(0, length - patch))) // step * step
        for place, length, patch, step in zip(middle, case.image.shape, size, grid, strict=True)
    ]
    z, row, column = (int(place - start) for place, start in zip(middle, starts, strict=True))
    return (starts[0], starts[1], starts[2]), (z, row, column)


def crop(array: np.ndarray, start: tuple[int, int, int], size: tuple[int, int, int]) -> Tensor:
    """A patch (Z, h, w) of a stored volume, read without reading the rest; past its far ends padded likewise."""
    part = array[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))]
    if part.shape != size:
        part = pad_volume(part, size)
    return torch.from_numpy(np.array(part))
