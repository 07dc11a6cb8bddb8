"""The training transforms. The paper is silent; these keep anatomy: a spine is never turned upside down.

Mirroring left to right (reversing the order of the slices) is the one flip that leaves every level its name. MONAI does
the work; all randomness comes from the sample's own generator. It is imported when the first sample is drawn: that
takes seconds, and whoever trains nothing need not wait for it.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from monai.transforms import Compose

_ROTATION = np.deg2rad(12)
_SCALE = 0.15
_SHIFT = 0.06


def composed(transforms: Sequence[Any]) -> "Compose":
    """MONAI's transforms one after the other, on plain tensors."""
    from monai.data import set_track_meta
    from monai.transforms import Compose

    # Geometry is kept by the store; MONAI's own bookkeeping of it would only cost time here.
    set_track_meta(False)
    return Compose(transforms)


@cache
def _slice_transform(height: int, width: int, labelled: bool) -> "Compose":
    """In plane: a small rotation, scaling and shift; then what scanners differ in."""
    from monai.transforms import RandAffined

    keys, modes = (("image", "labels"), ("bilinear", "nearest")) if labelled else (("image",), ("bilinear",))
    affine = RandAffined(
        keys,
        prob=0.9,
        rotate_range=_ROTATION,
        scale_range=(_SCALE, _SCALE),
        translate_range=(_SHIFT * height, _SHIFT * width),
        mode=modes,
        padding_mode="zeros",
    )
    return composed([affine, *_intensity()])


@cache
def _volume_transform() -> "Compose":
    return composed(_intensity())


def _intensity() -> list[Any]:
    """Contrast, brightness and noise of z-scored images."""
    from monai.transforms import RandAdjustContrastd, RandGaussianNoised, RandScaleIntensityd

    return [
        RandAdjustContrastd("image", prob=0.5, gamma=(0.7, 1.5)),
        RandScaleIntensityd("image", factors=0.2, prob=0.5),
        RandGaussianNoised("image", prob=0.5, std=0.15),
    ]


def _apply(transform: "Compose", sample: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    transform.set_random_state(seed=int(rng.integers(2**31)))
    return transform(sample)


def augment_slice(image: Tensor, labels: Tensor | None, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
    """Augment a three-slice input (3, h, w) and, where there are any, its labels (h, w) or maps of them (K, h, w)."""
    if rng.random() < 0.5:
        image = image.flip(0)
    sample = {"image": image}
    if labels is not None:
        sample["labels"] = labels.reshape(-1, *image.shape[-2:]).float()
    sample = _apply(_slice_transform(*image.shape[-2:], labels is not None), sample, rng)
    return sample["image"].float(), None if labels is None else sample["labels"].long().reshape(labels.shape)


def augment_volume(batch: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    """Augment a patch or volume: every entry's slices (the third axis from the end) reversed together, the image's
    intensities varied. In-plane transforms are left to stage 1, whose maps a patch must keep fitting."""
    if rng.random() < 0.5:
        batch = {name: tensor.flip(-3) for name, tensor in batch.items()}
    image = _apply(_volume_transform(), {"image": batch["image"]}, rng)["image"]
    return {**batch, "image": torch.as_tensor(image).float()}
