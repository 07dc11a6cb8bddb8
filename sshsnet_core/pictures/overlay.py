"""From arrays to pictures: a sagittal slice in grey, its labels in the colours of Figure 1. Arrays in, arrays out."""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from scipy.ndimage import center_of_mass, distance_transform_edt, find_objects, label

from sshsnet_core.anatomy import ARCHES, DISCS, N_CLASSES, STRUCTURES

#: RGB of every label, of arches, where they are told apart, too; the background's is never drawn.
COLOURS = np.array([(0, 0, 0), *(structure.colour for structure in (*STRUCTURES, *ARCHES))], np.uint8)
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

    Limits of the whole volume keep the brightness steady from slice to slice. Where the percentiles are one, as in a
    mask, they are the extremes. Raises ``ValueError`` for a constant or non-finite volume.
    """
    # Every fourth row and column is plenty for percentiles, and sixteen times as fast.
    voxels = volume[:, ::4, ::4]
    low, high = np.percentile(voxels[voxels != 0] if voxels.any() else voxels, (1, 99.5))
    if low >= high:
        low, high = volume.min(), volume.max()
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
    Pixels become square, see ``square``. Raises ``ValueError`` for shapes that differ and an opacity outside 0 to 1.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"The opacity must lie between 0 and 1, not {opacity}.")
    if grey.ndim != 2 or grey.dtype != np.uint8:
        raise ValueError(f"The slice must be grey values (H, W) uint8, not {grey.dtype} {grey.shape}.")
    for layer in (labels, outline):
        if layer is not None and layer.shape != grey.shape:
            raise ValueError(f"The slice {grey.shape} and its labels {layer.shape} differ in shape.")
    grey = square(grey, spacing, resampling=Image.Resampling.BILINEAR)
    if labels is None:
        rgb = np.repeat(grey[..., None], 3, axis=2)
    else:
        rgb = blend(grey, square(labels.astype(np.uint8), spacing), colour_table(COLOURS, opacity))
    if outline is not None:
        rgb[borders(square(outline.astype(np.uint8), spacing))] = OUTLINE
    return rgb


def colour_table(colours: np.ndarray, opacity: float, shown: Collection[int] | None = None) -> np.ndarray:
    """(C * 256, 3) uint8: the blend of every colour (C, 3) with every grey value; those not in ``shown`` stay grey.

    Colour 0 is the background's, which is never drawn. One look-up a pixel is what makes ``blend`` fast.
    """
    grey = np.arange(256)[None, :, None]
    table = (1 - opacity) * grey + opacity * colours[:, None, :].astype(float)
    for number in range(len(colours)):
        if number == 0 or (shown is not None and number not in shown):
            table[number] = grey[0]
    return np.rint(table).astype(np.uint8).reshape(-1, 3)


def blend(grey: np.ndarray, labels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """RGB (h, w, 3) uint8 of grey values and labels (h, w), both uint8, by a table of ``colour_table``."""
    return np.take(table, (labels.astype(np.uint16) << 8) | grey, axis=0)


def square(
    plane: np.ndarray,
    spacing: tuple[float, float],
    enlargement: int = 1,
    resampling: Image.Resampling = Image.Resampling.NEAREST,
) -> np.ndarray:
    """A plane (H, W) uint8 with square pixels (h, w): of spacings (row, column) that differ the finer one is kept and
    the other axis stretched; then both are enlarged by a whole number."""
    scale = square_scale(spacing, enlargement)
    height, width = (max(1, round(n * s)) for n, s in zip(plane.shape, scale, strict=True))
    if (height, width) == plane.shape:
        return plane
    return np.asarray(Image.fromarray(plane).resize((width, height), resampling))


def square_scale(spacing: tuple[float, float], enlargement: int = 1) -> tuple[float, float]:
    """How many pixels of ``square``'s picture a row and a column of the plane become."""
    finest = min(spacing)
    return enlargement * spacing[0] / finest, enlargement * spacing[1] / finest


def borders(labels: np.ndarray) -> np.ndarray:
    """The pixels of structures that touch another label to the right or below, or from there: a line around each."""
    edges = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= right
    edges[:, :-1] |= right
    return edges & (labels > 0)


def name_places(plane: np.ndarray) -> dict[int, tuple[float, float]]:
    """Where (row, column) the name of each structure of a plane (H, W) belongs, by its label.

    A vertebra's lies where it is thickest, in the body; a disc is too thin to write on: its place is the anterior end.
    """
    places = {}
    # A few hundred rows are plenty for a name, and the more pixels are left out, the faster is the viewer.
    step = 1 + max(plane.shape) // 400
    plane = plane[::step, ::step]
    for number, box in enumerate(find_objects(plane, N_CLASSES - 1), start=1):
        if box is None:
            continue
        part = plane[box] == number
        if STRUCTURES[number - 1].kind == "vertebra":
            depth = distance_transform_edt(np.pad(part, 1))
            cores, _ = label(depth > 0.7 * depth.max())
            row, column = (c - 1 for c in center_of_mass(cores == cores.flat[depth.argmax()]))
        else:
            pieces, _ = label(part)
            rows, columns = np.nonzero(pieces == 1 + np.bincount(pieces.ravel())[1:].argmax())
            column = float(columns.min())
            row = float(rows[columns <= column + 4].mean())
        places[number] = (step * (box[0].start + row), step * (box[1].start + column))
    return places
