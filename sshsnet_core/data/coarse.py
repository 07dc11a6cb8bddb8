"""Equations 1 and 2: stage 1's map S~ and features I~ of one volume, and phi's crop of them at a patch.

They are kept before Equation 1's upsampling, which doubles them in plane, and a patch of them is cut before it too: the
doubling is the training device's work, so that workers send it a seventh of the bytes (``benchmarks.patch_sample``).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

#: Stage 1's input is half of full resolution; I_2d lies at 1/4 of it.
SCORE_STRIDE, FEATURE_STRIDE = 2, 8


@dataclass(frozen=True)
class Coarse:
    """Stage 1's output for one padded volume, in half precision, before Equation 1's upsampling.

    ``scores`` (C1, Z, H/2, W/2): class probabilities averaged over the branches. ``features`` (2 C3, Z, H/8, W/8): the
    branches' decoder features, concatenated.
    """

    scores: np.ndarray
    features: np.ndarray

    def crop(self, start: tuple[int, int, int], size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """Equations 1 and 2 at one window (see ``window``): float S~ (C1, Z, h, w) and I~ (2 C3, Z, h/4, w/4)."""
        scores, features = self.window(start, size)
        return doubled(scores), doubled(features)

    def window(self, start: tuple[int, int, int], size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """What ``doubled`` makes S~ and I~ at one window of full resolution from, in half precision.

        (C1, Z, h/2 + 2, w/2 + 2) and (2 C3, Z, h/8 + 2, w/8 + 2). ``start`` and ``size`` are (Z, H, W), multiples of 8
        in plane, else ``ValueError``. A window past the last slice repeats it.
        """
        if any(value % FEATURE_STRIDE for value in (*start[1:], *size[1:])):
            raise ValueError(f"The window of {size} at {start} is off stage 1's grid: use multiples of 8 in plane.")
        (top, left), (height, width) = start[1:], size[1:]
        # A slice of the mapped arrays, not a list of indices: that would read whole slices of every channel.
        last = self.scores.shape[1] - 1
        first = min(start[0], last)
        slices = slice(first, start[0] + size[0])
        scores, features = (
            with_margin(array[:, slices], (top // stride, left // stride), (height // stride, width // stride))
            for array, stride in ((self.scores, SCORE_STRIDE), (self.features, FEATURE_STRIDE))
        )
        if start[0] + size[0] - 1 > last:
            repeated = torch.arange(start[0], start[0] + size[0]).clamp(max=last) - first
            return scores[:, repeated], features[:, repeated]
        return scores, features

    def save(self, folder: Path) -> None:
        """Write scores.npy and features.npy, the second last, so that its presence means both."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in (("scores", self.scores), ("features", self.features)):
            partial = folder / f"{name}.partial.npy"
            np.save(partial, array)
            partial.replace(folder / f"{name}.npy")

    @classmethod
    def open(cls, folder: Path) -> "Coarse":
        """The saved maps, memory-mapped."""
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("scores", "features")))


@dataclass(frozen=True)
class StoredCoarse:
    """``Coarse`` as saved in ``folder``, mapped when asked for: it is small to keep and to send to a worker."""

    folder: Path

    def window(self, start: tuple[int, int, int], size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """``Coarse.window``."""
        return Coarse.open(self.folder).window(start, size)


def with_margin(array: np.ndarray, start: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A window of a map (C, Z, H, W) and one pixel around it, past the map's edges the nearest: (C, Z, h + 2, w + 2).

    The margin is all that bilinear interpolation reads of what is around the window.
    """
    spans = [(s - 1, s + n + 1) for s, n in zip(start, size, strict=True)]
    inside = [(max(low, 0), min(high, length)) for (low, high), length in zip(spans, array.shape[-2:], strict=True)]
    missing = [(i[0] - s[0], s[1] - i[1]) for i, s in zip(inside, spans, strict=True)]
    part = array[..., slice(*inside[0]), slice(*inside[1])]
    return torch.from_numpy(np.pad(part, [(0, 0), (0, 0), *missing], mode="edge"))


def doubled(window: Tensor) -> Tensor:
    """Doubled bilinearly in plane, without the margin of one pixel: (..., h + 2, w + 2) to float (..., 2 h, 2 w).

    Each new pixel lies a quarter of the way from the old one that it is part of to its neighbour. PyTorch's own
    upsampling is slow on many small maps, which the features are.
    """
    window = window.float()
    h, w = window.shape[-2] - 2, window.shape[-1] - 2
    rows = window.new_empty(*window.shape[:-2], h, 2, w + 2)
    for half, neighbour in enumerate((window[..., :-2, :], window[..., 2:, :])):
        torch.lerp(window[..., 1:-1, :], neighbour, 0.25, out=rows[..., half, :])
    rows = rows.flatten(-3, -2)
    result = window.new_empty(*window.shape[:-2], 2 * h, w, 2)
    for half, neighbour in enumerate((rows[..., :-2], rows[..., 2:])):
        torch.lerp(rows[..., 1:-1], neighbour, 0.25, out=result[..., half])
    return result.flatten(-2)
