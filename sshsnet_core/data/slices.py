"""What stage 1 is shown: three-slice inputs (section 3.1.1), labelled and, under CPS, unlabelled (section 3.1.2).

Every sample is a function of (seed, index) alone, so that a training that is interrupted, or that reads with several
workers, draws the same samples.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad
from torch.utils.data import Dataset

from sshsnet_core.anatomy import BACKGROUND, by_name
from sshsnet_core.data.augmentation import augment_slice
from sshsnet_core.data.coarse import FEATURE_STRIDE
from sshsnet_core.data.store import StoredCase

#: Stage 1 and SSHSNet-3D see the volume downsampled once.
DOWNSAMPLING = 2

Batch = dict[str, Tensor]


def halve_image(image: Tensor) -> Tensor:
    """Downsample once in plane: (..., H, W) to (..., H/2, W/2), each pixel the mean of four."""
    return avg_pool2d(image, DOWNSAMPLING)


def halve_labels(labels: np.ndarray) -> np.ndarray:
    """Downsample a label map once in plane: (..., H, W) to (..., H/2, W/2), each pixel the commonest of its four.

    Taking every second pixel instead would shift the labels by half a pixel against the image.
    """
    a, b = labels[..., ::2, ::2], labels[..., ::2, 1::2]
    c, d = labels[..., 1::2, ::2], labels[..., 1::2, 1::2]
    pair_without_a = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
    return np.where((a == b) | (a == c) | (a == d), a, pair_without_a)


def pad_volume(volume: np.ndarray, smallest: tuple[int, int, int] = (1, 1, 1)) -> np.ndarray:
    """Pad at the far ends until (Z, H, W) is at least ``smallest`` and H, W are multiples of 8.

    In plane the padding is 0, the background after z-scoring; missing slices repeat the last one, as edge slices do.
    """
    z, h, w = volume.shape
    rows, columns = (max(s, -(-n // FEATURE_STRIDE) * FEATURE_STRIDE) for n, s in ((h, smallest[1]), (w, smallest[2])))
    in_plane = np.pad(volume, ((0, 0), (0, rows - h), (0, columns - w)))
    return np.pad(in_plane, ((0, max(0, smallest[0] - z)), (0, 0), (0, 0)), mode="edge")


def three_slices(volume: Tensor) -> Tensor:
    """X_2d: every slice with its two neighbours as channels, edge slices repeated. (Z, H, W) to (Z, 3, H, W)."""
    before, after = volume[:1], volume[-1:]
    return torch.stack([torch.cat([before, volume[:-1]]), volume, torch.cat([volume[1:], after])], dim=1)


def place(shape: tuple[int, ...], size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
    """A random offset at which ``size`` is cut from the last two axes of ``shape`` (negative: zeros before it)."""
    top, left = (int(rng.integers(min(n - s, 0), max(n - s, 0) + 1)) for n, s in zip(shape[-2:], size, strict=True))
    return top, left


def fit(array: Tensor, size: tuple[int, int], at: tuple[int, int]) -> Tensor:
    """Cut or zero-pad the last two axes to ``size``, starting at the offset ``at``."""
    h, w = array.shape[-2:]
    top, left = at
    return pad(array, (-left, size[1] - w + left, -top, size[0] - h + top))


def slice_input(volume: np.ndarray, index: int) -> Tensor:
    """One slice of X_2d, downsampled once: (3, H/2, W/2), reading three slices of the volume (Z, H, W) only."""
    last = volume.shape[0] - 1
    stack = np.stack([volume[min(max(index + step, 0), last)] for step in (-1, 0, 1)])
    return halve_image(torch.from_numpy(pad_volume(stack)))


class Pictured(Protocol):
    """Whatever has a preprocessed image (Z, H, W), such as a case of the store or a scan without labels."""

    @property
    def image(self) -> np.ndarray: ...


def unlabelled_slice(
    case: Pictured, index: int, size: tuple[int, int], rng: np.random.Generator, names: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """A slice with its neighbours (3, h, w) at the common size, augmented; ``names`` (K, H/2, W/2) likewise."""
    image = slice_input(case.image, index)
    at = place(image.shape, size, rng)
    return augment_slice(fit(image, size, at), None if names is None else fit(names, size, at), rng)


def halve_names(names: np.ndarray) -> Tensor:
    """What each kind of structure is called in a plane (K, H, W), downsampled once: (K, H/2, W/2), int64."""
    return torch.from_numpy(halve_labels(pad_volume(names)).astype(np.int64))


def drop_cut_off(labels: Tensor, whole: Tensor, in_view: float) -> Tensor:
    """Labels (h, w) without the structures that show less than a share of their pixels in the ``whole`` slice (H, W).

    Annotators leave out a vertebra or disc of which little is in view. A slice cut at random would teach the opposite,
    and the networks would invent a level at the top of the column. The sacrum, cut by every image, stays.
    """
    # The store holds labels as bytes.
    before, after = (torch.bincount(of.flatten(), minlength=256) for of in (whole, labels))
    cut_off = after < in_view * before
    cut_off[by_name("S").label] = False
    return labels.masked_fill(cut_off[labels], BACKGROUND)


def labelled_slice(
    case: StoredCase, index: int, size: tuple[int, int], rng: np.random.Generator, in_view: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Like ``unlabelled_slice``, with its labels (h, w), without those of structures cut off (``drop_cut_off``)."""
    image = slice_input(case.image, index)
    at = place(image.shape, size, rng)
    assert case.labels is not None
    halved = halve_labels(pad_volume(case.labels[index : index + 1]))
    whole = torch.from_numpy(halved[0].astype(np.int64))
    augmented, labels = augment_slice(fit(image, size, at), fit(whole, size, at), rng)
    assert labels is not None
    return augmented, drop_cut_off(labels, whole, in_view)


def cases_by_class(cases: Sequence[StoredCase]) -> dict[int, list[int]]:
    """For each class that any case shows, the numbers of the cases that show it."""
    labels = sorted({label for case in cases for label in case.structures})
    return {label: [n for n, case in enumerate(cases) if label in case.structures] for label in labels}


class SliceSamples(Dataset[Batch]):
    """Labelled slices for stage 1: ``image`` (3, h, w) and ``labels`` (h, w), augmented.

    The paper does not say how slices are drawn. They are category-balanced, as the patches of stage 2 are: a class at
    random among those that the cases show, a case that shows it, a slice that holds it. T9 would hardly be seen else.
    A share of them, ``even``, is any slice of any case instead. Of structures that a slice shows less than ``in_view``
    of, it has no label.
    """

    def __init__(
        self, cases: Sequence[StoredCase], size: tuple[int, int], seed: int, even: float = 0.0, in_view: float = 0.0
    ) -> None:
        self.cases, self.size, self.seed, self.even, self.in_view = cases, size, seed, even, in_view
        self.showing = cases_by_class(cases)

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([self.seed, index])
        if self.even and rng.random() < self.even:
            case = self.cases[int(rng.integers(len(self.cases)))]
            at = int(rng.integers(case.image.shape[0]))
        else:
            label = int(rng.choice(list(self.showing)))
            case = self.cases[int(rng.choice(self.showing[label]))]
            at = int(rng.choice(case.voxels(label)[:, 0]))
        image, labels = labelled_slice(case, at, self.size, rng, self.in_view)
        return {"image": image, "labels": labels}


class CPSSamples(Dataset[Batch]):
    """A labelled slice, two slices of the unlabelled pool and the CutMix mask that mixes them: section 3.1.2.

    ``image`` (3, h, w), ``labels`` (h, w), ``u0`` and ``u1`` (3, h, w), ``mask`` (1, h, w). The pool's slices are drawn
    evenly and its masks, where a phantom has one, are never read. With ``names`` (K, H, W), for each case of the pool
    what a structure of each kind is called in any of its slices, also ``names`` (K, h, w), mixed as the images will be.
    """

    def __init__(
        self,
        labelled: SliceSamples,
        pool: Sequence[Pictured],
        mask: "MaskSource",
        names: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.labelled, self.pool, self.mask = labelled, pool, mask
        self.names = None if names is None else [halve_names(of) for of in names]

    def __getitem__(self, index: int) -> Batch:
        # The 1 keeps this generator apart from that of the labelled slice of the same number.
        rng = np.random.default_rng([self.labelled.seed, index, 1])
        (u0, names_0), (u1, names_1) = (self._unlabelled(rng) for _ in range(2))
        mask = torch.from_numpy(self.mask(self.labelled.size, rng))
        batch = {**self.labelled[index], "u0": u0, "u1": u1, "mask": mask}
        if names_0 is not None and names_1 is not None:
            batch["names"] = torch.where(mask.bool(), names_1, names_0)
        return batch

    def _unlabelled(self, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
        number = int(rng.integers(len(self.pool)))
        case = self.pool[number]
        index = int(rng.integers(case.image.shape[0]))
        names = None if self.names is None else self.names[number]
        return unlabelled_slice(case, index, self.labelled.size, rng, names)


class MaskSource(Protocol):
    """Draws one CutMix mask (1, h, w) of zeros and ones."""

    def __call__(self, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray: ...
