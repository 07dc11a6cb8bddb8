"""From arrays to pictures: a sagittal slice in grey, its labels in the colours of Figure 1. Arrays in, arrays out."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from sshsnet_core.anatomy import DISCS, N_CLASSES, STRUCTURES

#: RGB of every label; the background's is never drawn.
COLOURS = np.array([(0, 0, 0), *(structure.colour for structure in STRUCTURES)], np.uint8)
OUTLINE = np.array((255, 255, 255), np.uint8)


@dataclass(frozen=True)
class View:
    """What a picture of one case needs: ``image`` (Z, H, W), its spacing (z, row, column) in mm, and label volumes of
    the same shape by name, such as ``truth`` and ``SSHSNet``, in the order in which they are to be shown."""

    image: np.ndarray
    spacing_mm: tuple[float, float, float]
    labels: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.image.ndim != 3:
            raise ValueError(f"The image must be a volume (Z, H, W), not {self.image.shape}.")
        for name, labels in self.labels.items():
            if labels.shape != self.image.shape:
                raise ValueError(f"The labels {name!r} {labels.shape} do not cover their image {self.image.shape}.")
            if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= N_CLASSES:
                raise ValueError(f"The labels {name!r} must be whole numbers from 0 to {N_CLASSES - 1}.")

    @property
    def middle(self) -> int:
        """The mid-sagittal slice, by the first labels that show any structure; without labels, the volume's middle."""
        return next((mid_sagittal(labels) for labels in self.labels.values() if labels.any()), len(self.image) // 2)

    def without_margins(self) -> "View":
        """The same case without the columns that are zero in every slice, which carry nothing and take up the page."""
        occupied = np.flatnonzero(self.image.any(axis=(0, 1)))
        if not occupied.size:
            return self
        kept = np.s_[:, :, occupied[0] : occupied[-1] + 1]
        return View(self.image[kept], self.spacing_mm, {name: labels[kept] for name, labels in self.labels.items()})


def mid_sagittal(labels: np.ndarray) -> int:
    """The slice at the middle of the discs of labels (Z, H, W), which lie evenly on both sides of the midline.

    Without discs it is the middle of all structures. Raises ``ValueError`` where there are no structures.
    """
    voxels = np.count_nonzero(labels >= DISCS[0].label, axis=(1, 2))
    if not voxels.any():
        voxels = np.count_nonzero(labels, axis=(1, 2))
    if not voxels.any():
        raise ValueError("The labels hold no structure, so they have no mid-sagittal slice.")
    return int(np.searchsorted(voxels.cumsum(), voxels.sum() / 2))


def grey_limits(volume: np.ndarray) -> tuple[float, float]:
    """The intensities shown as black and white: percentiles 1 and 99.5 of the volume's voxels off its zero background.

    Limits of the whole volume keep the brightness steady from slice to slice. Raises ``ValueError`` for a constant or
    non-finite volume.
    """
    # Every fourth row and column is plenty for percentiles, and sixteen times as fast.
    voxels = volume[:, ::4, ::4]
    low, high = np.percentile(voxels[voxels != 0] if voxels.any() else voxels, (1, 99.5))
    if not np.isfinite(high - low) or low >= high:
        raise ValueError("The volume's intensities are constant or not finite; there is nothing to show.")
    return float(low), float(high)


def slice_to_grey(plane: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """A slice (H, W) as grey values 0 to 255 (uint8) between the limits."""
    low, high = limits
    scaled = (plane.astype(np.float32) - low) * (255 / (high - low))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def overlay(
    grey: np.ndarray,
    labels: np.ndarray | None = None,
    spacing: tuple[float, float] = (1.0, 1.0),
    opacity: float = 0.5,
    outline: np.ndarray | None = None,
) -> np.ndarray:
    """RGB (h, w, 3) uint8 of a grey slice (H, W) uint8, with ``labels`` (H, W) coloured and ``outline`` (H, W) drawn.

    ``outline`` is a second labelling, the truth, whose borders are drawn as white lines over the coloured prediction.
    With spacings (row, column) that differ, the finer one is kept and the other axis stretched, so that pixels become
    square. Raises ``ValueError`` for shapes that differ and an opacity outside 0 to 1.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"The opacity must lie between 0 and 1, not {opacity}.")
    if grey.ndim != 2 or grey.dtype != np.uint8:
        raise ValueError(f"The slice must be grey values (H, W) uint8, not {grey.dtype} {grey.shape}.")
    for layer in (labels, outline):
        if layer is not None and layer.shape != grey.shape:
            raise ValueError(f"The slice {grey.shape} and its labels {layer.shape} differ in shape.")
    grey = _square(grey, spacing, Image.Resampling.BILINEAR)
    if labels is None:
        rgb = np.repeat(grey[..., None], 3, axis=2)
    else:
        rgb = np.take(_colour_table(opacity), _square(labels.astype(np.uint8), spacing) * np.intp(256) + grey, axis=0)
    if outline is not None:
        rgb[_borders(_square(outline.astype(np.uint8), spacing))] = OUTLINE
    return rgb


def _colour_table(opacity: float) -> np.ndarray:
    """(20 * 256, 3): the blend of every label with every grey value. One look-up a pixel is what makes it fast."""
    grey = np.arange(256)[None, :, None]
    table = (1 - opacity) * grey + opacity * COLOURS[:, None, :].astype(float)
    table[0] = grey[0]
    return np.rint(table).astype(np.uint8).reshape(-1, 3)


def _square(
    plane: np.ndarray, spacing: tuple[float, float], resampling: Image.Resampling = Image.Resampling.NEAREST
) -> np.ndarray:
    finest = min(spacing)
    height, width = (max(1, round(n * s / finest)) for n, s in zip(plane.shape, spacing, strict=True))
    if (height, width) == plane.shape:
        return plane
    return np.asarray(Image.fromarray(plane).resize((width, height), resampling))


def _borders(labels: np.ndarray) -> np.ndarray:
    """The pixels of structures that touch another label to the right or below, or from there: a line around each."""
    borders = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    borders[1:] |= down
    borders[:-1] |= down
    borders[:, 1:] |= right
    borders[:, :-1] |= right
    return borders & (labels > 0)
