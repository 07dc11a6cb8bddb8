"""What SpineParseNet's networks are shown: whole volumes at a coarse size, slices with coarse scores at a fine one.

Every sample is a function of (seed, index) alone, as in ``slices``. Cases and slices are drawn evenly, without a
balance over the classes: so does the released code. Its augmentation is kept, but for a mistake: after a change of
contrast it cuts z-scored intensities off at 0 and 1.
"""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad
from torch.utils.data import Dataset

from sshsnet_core.data.augmentation import composed
from sshsnet_core.data.preprocessing import nearest
from sshsnet_core.data.slices import Batch
from sshsnet_core.data.store import StoredCase

if TYPE_CHECKING:
    from monai.transforms import Compose, RandScaleIntensityd

Size = tuple[int, int]

_ROTATION = np.deg2rad(15)
_CONTRAST, _CONTRAST_SHARE = 0.5, 0.1
#: Elastic deformation: uniform noise of 15 voxels, smoothed by a Gaussian of 3.
_ELASTIC_SHARE, _MAGNITUDE, _SMOOTHING = 0.3, 15.0, 3.0
#: MONAI deforms planes by control points instead: as coarse, and as far in the mean, as noise smoothed that way.
_CONTROL_SPACING, _CONTROL_MAGNITUDE = (6, 6), 0.8


def resized(image: Tensor, size: Size) -> Tensor:
    """Slices (n, H, W) resized in plane to (n, h, w), antialiased."""
    return interpolate(image[:, None], size, mode="bilinear", antialias=True)[:, 0]


def resized_labels(labels: np.ndarray, size: Size) -> Tensor:
    """Labels (n, H, W) resized in plane to (n, h, w) int64, by the nearest."""
    rows, columns = (nearest(n, m) for n, m in zip(labels.shape[1:], size, strict=True))
    return torch.from_numpy(labels[:, rows[:, None], columns].astype(np.int64))


def pad_slices(volume: Tensor, slices: int) -> tuple[Tensor, int]:
    """(Z, h, w) padded on both sides with 0, the background, to ``slices`` or more; and where its first slice is."""
    missing = max(0, slices - volume.shape[0])
    before = -(-missing // 2)
    return pad(volume, (0, 0, 0, 0, before, missing - before)), before


def fine_input(slices: Tensor, coarse: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Slices (n, H, W) and their coarse scores (K, n, h, w) at the fine size: (n, 1, *size) and (n, K, *size).

    The scores stay what they are, before the softmax.
    """
    enlarged = interpolate(coarse.movedim(1, 0).float(), size, mode="bilinear", align_corners=False)
    return resized(slices, size)[:, None], enlarged


def in_turn(index: int, count: int, seed: int) -> int:
    """Which of ``count`` things the sample of that index shows: all of them once, shuffled, before any comes again."""
    turn, place = divmod(index, count)
    return int(np.random.default_rng([seed, turn]).permutation(count)[place])


class VolumeSamples(Dataset[Batch]):
    """Whole volumes for the coarse network: ``image`` (1, Z, h, w) and ``labels`` (Z, h, w), augmented.

    Every volume has ``slices`` slices: fewer are padded, of more a random run is shown.
    """

    def __init__(self, cases: Sequence[StoredCase], size: Size, slices: int, seed: int) -> None:
        self.cases, self.size, self.slices, self.seed = cases, size, slices, seed

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([self.seed, index, 1])
        case = self.cases[in_turn(index, len(self.cases), self.seed)]
        assert case.labels is not None
        first = int(rng.integers(max(0, case.image.shape[0] - self.slices) + 1))
        shown = slice(first, first + self.slices)
        image, _ = pad_slices(resized(torch.from_numpy(np.array(case.image[shown])), self.size), self.slices)
        labels, _ = pad_slices(resized_labels(case.labels[shown], self.size), self.slices)
        return _augmented(_volume_transform(), {"image": image[None], "labels": labels}, rng)


class RefinementSamples(Dataset[Batch]):
    """Slices for the fine network: ``image`` (1, h, w), ``coarse`` (K, h, w), ``labels`` (h, w), augmented together.

    ``coarse`` are the files of each case's scores (K, Z, h/2, w/2) before the softmax, mapped when asked for.
    """

    def __init__(self, cases: Sequence[StoredCase], coarse: Sequence[Path], size: Size, seed: int) -> None:
        self.cases, self.coarse, self.size, self.seed = cases, coarse, size, seed
        self.slices = [(number, z) for number, case in enumerate(cases) for z in range(len(case.image))]

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([self.seed, index, 1])
        number, z = self.slices[in_turn(index, len(self.slices), self.seed)]
        mapped = np.load(self.coarse[number], mmap_mode="r")
        case, scores = self.cases[number], torch.from_numpy(np.array(mapped[:, z : z + 1]))
        assert case.labels is not None
        image, coarse = fine_input(torch.from_numpy(np.array(case.image[z : z + 1])), scores, self.size)
        labels = resized_labels(case.labels[z : z + 1], self.size)
        return _augmented(_slice_transform(), {"image": image[0], "coarse": coarse[0], "labels": labels[0]}, rng)


def save_scores(path: Path, scores: Tensor) -> None:
    """One case's coarse scores (K, Z, h, w), in half precision; all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npy")
    np.save(partial, scores.half().numpy())
    os.replace(partial, path)


@cache
def _volume_transform() -> "Compose":
    """A rotation about the left-right axis, and now and then an elastic deformation and another contrast."""
    from monai.transforms import Rand3DElasticd, RandAffined

    keys, modes = ("image", "labels"), ("bilinear", "nearest")
    rotate = RandAffined(keys, prob=1.0, rotate_range=(_ROTATION, 0, 0), mode=modes, padding_mode="reflection")
    sigma, magnitude = (_SMOOTHING, _SMOOTHING), (_MAGNITUDE, _MAGNITUDE)
    elastic = Rand3DElasticd(keys, sigma, magnitude, prob=_ELASTIC_SHARE, mode=modes, padding_mode="reflection")
    return composed([rotate, elastic, _contrast()])


@cache
def _slice_transform() -> "Compose":
    """The same in 2D; the coarse scores move with the image."""
    from monai.transforms import Rand2DElasticd, RandAffined

    keys, modes = ("image", "coarse", "labels"), ("bilinear", "bilinear", "nearest")
    rotate = RandAffined(keys, prob=1.0, rotate_range=_ROTATION, mode=modes, padding_mode="reflection")
    magnitude = (_CONTROL_MAGNITUDE, _CONTROL_MAGNITUDE)
    elastic = Rand2DElasticd(
        keys, _CONTROL_SPACING, magnitude, prob=_ELASTIC_SHARE, mode=modes, padding_mode="reflection"
    )
    return composed([rotate, elastic, _contrast()])


def _contrast() -> "RandScaleIntensityd":
    from monai.transforms import RandScaleIntensityd

    # The mean of a z-scored image is 0: to scale it is to change its contrast.
    return RandScaleIntensityd("image", factors=_CONTRAST, prob=_CONTRAST_SHARE)


def _augmented(transform: "Compose", sample: Batch, rng: np.random.Generator) -> Batch:
    transform.set_random_state(seed=int(rng.integers(2**31)))
    moved = transform({**sample, "labels": sample["labels"][None].float()})
    return {**moved, "image": moved["image"].float(), "labels": moved["labels"][0].long()}
