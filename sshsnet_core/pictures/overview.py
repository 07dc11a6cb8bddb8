"""The whole column at a glance: the structures as shaded surfaces, from the front and from the patient's left."""

from collections.abc import Collection, Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter, zoom

from sshsnet_core.anatomy import N_CLASSES
from sshsnet_core.pictures.overlay import COLOURS

#: Edge of a voxel of the surfaces: fine enough for a disc, coarse enough to be drawn at once.
VOXEL_MM = 1.0
#: Towards the light (into the picture, down, right), a unit vector: it shines from before the surface, above and left.
LIGHT = np.array((-0.80, -0.50, -0.33))


class Surface:
    """The labels (Z, H, W) of one case as surfaces; making one takes a moment, drawing it again does not."""

    def __init__(self, labels: np.ndarray, spacing_mm: tuple[float, float, float]) -> None:
        self.labels = isotropic(labels, spacing_mm)

    def draw(self, shown: Collection[int] = range(N_CLASSES)) -> list[tuple[np.ndarray, np.ndarray]]:
        """RGB (h, w, 3) uint8 and the label seen at each pixel (h, w), from the front and from the patient's left.

        From the front the patient's right is on the left, as in a coronal slice; from the left side the front is on
        the left, as in the sagittal slices. A pixel is ``VOXEL_MM`` wide and high.
        """
        labels = np.where(np.isin(self.labels, list(shown)), self.labels, 0)
        # The surface's normal is the slope of the smoothed volume, at the surface.
        solid = gaussian_filter((labels > 0).astype(np.float32), 1.5, mode="constant", truncate=2)
        slopes = np.gradient(solid)
        # Axes become (depth, down, right): the front is column 0, the patient's left is the last slice.
        front = [volume.transpose(2, 1, 0) for volume in (labels, slopes[2], slopes[1], slopes[0])]
        side = [volume[::-1] for volume in (labels, -slopes[0], slopes[1], slopes[2])]
        return [_shade(front[0], front[1:]), _shade(side[0], side[1:])]


def isotropic(labels: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Labels (Z, H, W) on voxels of ``VOXEL_MM``.

    Slices are thick, so a nearest voxel would make stairs: between slices, each structure's outline is interpolated as
    its signed distance (Raya and Udupa 1990).
    """
    steps = [1, *(max(1, int(VOXEL_MM / s)) for s in spacing_mm[1:])]
    labels = labels[:, :: steps[1], :: steps[2]]
    factors = [s * step / VOXEL_MM for s, step in zip(spacing_mm, steps, strict=True)]
    finer = np.zeros([max(1, round(n * f)) for n, f in zip(labels.shape, factors, strict=True)], np.uint8)
    depths = np.zeros(finer.shape, np.float32)
    for number, box in enumerate(find_objects(labels, N_CLASSES - 1), start=1):
        if box is None:
            continue
        # A margin of one voxel, so that the surface closes on every side.
        distance = np.stack([_signed_distance(plane, factors[1:]) for plane in np.pad(labels[box] == number, 1)])
        depth = zoom(distance, factors, order=1, grid_mode=True, mode="nearest")
        starts = [round((side.start - 1) * f) for side, f in zip(box, factors, strict=True)]
        stops = [min(a + n, size) for a, n, size in zip(starts, depth.shape, finer.shape, strict=True)]
        depth = depth[tuple(slice(max(0, -a), b - a) for a, b in zip(starts, stops, strict=True))]
        place = tuple(slice(max(0, a), b) for a, b in zip(starts, stops, strict=True))
        deeper = depth > depths[place]
        finer[place][deeper] = number
        depths[place][deeper] = depth[deeper]
    return finer


def _signed_distance(plane: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """How far a pixel of (H, W) lies inside the structure, negative outside; a slice without it is just outside."""
    if not plane.any():
        return np.full(plane.shape, -2, np.float32)
    distance = distance_transform_edt(plane, spacing) - distance_transform_edt(~plane, spacing)
    return np.maximum(distance, -2).astype(np.float32)


def _shade(labels: np.ndarray, slopes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The first label along axis 0 of (depth, h, w): its RGB (h, w, 3), lit and darker farther away, and itself."""
    first = (labels > 0).argmax(axis=0)[None]
    seen = np.take_along_axis(labels, first, axis=0)[0]
    # Uphill is into the structure; the normal looks out of it.
    normal = np.stack([-np.take_along_axis(slope, first, axis=0)[0] for slope in slopes], axis=-1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    depth = first[0] / max(1, first.max())
    light = (0.35 + 0.75 * np.clip(normal @ LIGHT, 0, 1)) * (1 - 0.35 * depth)
    rgb = np.where(seen[..., None] > 0, COLOURS[seen] * light[..., None], 0)
    return np.clip(rgb, 0, 255).astype(np.uint8), seen
