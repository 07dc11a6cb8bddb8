"""Pictures of section 4.2: a volume's true proportions, the volume after each step, and its labels there and back."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from sshsnet_core.pictures.figures import PAGE_WIDTH, STYLE, foot
from sshsnet_core.pictures.overlay import View, grey_limits, overlay, slice_to_grey

_CHANGED = "#ee3377"
_YELLOW = "#ffcc00"
_BLUE = "#0077bb"

#: First row, end row, first column, end column.
Box = tuple[int, int, int, int]


def planes_figure(view: View, caption: str) -> Figure:
    """The three planes through the middle of a volume, one line with voxels as squares, one with their true sides."""
    _, h, w = view.image.shape
    s_z, s_row, s_column = view.spacing_mm
    planes = {
        "sagittal: (H, W)": (view.image[view.middle], (s_row, s_column)),
        "coronal: (H, Z)": (view.image[:, :, w // 2].T, (s_row, s_z)),
        "axial: (Z, W)": (view.image[:, h // 2], (s_z, s_column)),
    }
    limits = grey_limits(view.image)
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 3, figsize=(PAGE_WIDTH, 5.4), width_ratios=(3, 2, 4), layout="constrained")
        for line, true_sides in zip(grid, (False, True), strict=True):
            for axes, (name, (plane, (row, column))) in zip(line, planes.items(), strict=True):
                _bare(axes)
                aspect = row / column if true_sides else 1
                axes.imshow(slice_to_grey(plane, limits), cmap="gray", aspect=aspect, interpolation="nearest")
                axes.set_title(f"{row:.2f} x {column:.2f} mm" if true_sides else name)
            line[0].set_ylabel("voxels with their true sides" if true_sides else "voxels as squares")
        foot(figure, caption)
    plt.close(figure)
    return figure


def steps_figure(steps: Mapping[str, View], boxes: Mapping[str, Box], caption: str) -> Figure:
    """A mid-sagittal slice a step, all in the same scale of mm, and below it the histogram of the non-zero voxels.

    ``boxes`` are drawn on the steps of their names. Raises ``ValueError`` without steps.
    """
    if not steps:
        raise ValueError("There are no steps to show.")
    extents = [_extent(view) for view in steps.values()]
    largest = max(height for height, _ in extents), max(width for _, width in extents)
    with plt.rc_context(STYLE):
        figure, (pictures, histograms) = plt.subplots(
            2, len(steps), figsize=(PAGE_WIDTH, 3.9), height_ratios=(2, 1), squeeze=False, layout="constrained"
        )
        for (name, view), above, below in zip(steps.items(), pictures, histograms, strict=True):
            _picture(above, view, largest)
            above.set_title(f"{name}\n{view.image.shape}")
            if name in boxes:
                _box(above, boxes[name], view.spacing_mm[1:])
            _histogram(below, view.image)
        pictures[0].set_ylabel("mm")
        histograms[0].set_ylabel("voxels")
        foot(figure, f"{caption} Histograms: voxels that are not zero.")
    plt.close(figure)
    return figure


def difference_figure(view: View, caption: str) -> Figure:
    """Two label volumes of a view and where they differ, on the slice where they differ most.

    Raises ``ValueError`` unless the view holds two.
    """
    if len(view.labels) != 2:
        raise ValueError(f"A difference needs two label volumes, not {len(view.labels)}.")
    (first, before), (second, after) = view.labels.items()
    changed = before != after
    index = int(changed.sum(axis=(1, 2)).argmax()) if changed.any() else view.middle
    _, row, column = view.spacing_mm
    grey = slice_to_grey(view.image[index], grey_limits(view.image))
    rows, columns = (_around(before[index].any(axis=axis)) for axis in (1, 0))
    # In the file's own pixels, of which some changed; drawn as high as they are wide in mm.
    pictures = {name: overlay(grey, labels[index])[rows, columns] for name, labels in view.labels.items()}
    marked = overlay(grey)
    marked[changed[index]] = [round(255 * value) for value in to_rgb(_CHANGED)]
    pictures[f"{100 * changed[index].mean():.2f} % of this slice differs"] = marked[rows, columns]
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 3, figsize=(PAGE_WIDTH, 4.6), layout="constrained")
        for axes, (name, picture) in zip(panels, pictures.items(), strict=True):
            _bare(axes)
            axes.imshow(picture, interpolation="nearest", aspect=row / column)
            axes.set_title(name)
        key = Patch(color=_CHANGED, label=f'where "{first}" and "{second}" differ')
        foot(figure, f"{caption} Slice {index}.", [key])
    plt.close(figure)
    return figure


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _extent(view: View) -> tuple[float, float]:
    """Height and width of a slice in mm."""
    _, h, w = view.image.shape
    return h * view.spacing_mm[1], w * view.spacing_mm[2]


def _picture(axes: Axes, view: View, largest: tuple[float, float]) -> None:
    """The mid-sagittal slice in mm, in a frame as large as the largest step."""
    height, width = _extent(view)
    plane = slice_to_grey(view.image[view.middle], grey_limits(view.image))
    axes.imshow(plane, cmap="gray", extent=(0, width, height, 0), interpolation="nearest")
    axes.set(xlim=(0, largest[1]), ylim=(largest[0], 0))
    axes.grid(visible=False)
    axes.tick_params(labelsize=6)


def _box(axes: Axes, box: Box, spacing: tuple[float, float]) -> None:
    top, bottom, left, right = box
    corner, size = (left * spacing[1], top * spacing[0]), ((right - left) * spacing[1], (bottom - top) * spacing[0])
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=_YELLOW, linewidth=1.2))


def _histogram(axes: Axes, image: np.ndarray) -> None:
    values = image[image != 0]
    axes.hist(values, bins=80, color=_BLUE)
    axes.set(yticks=[])
    # Adding 0 turns -0 into 0.
    mean, deviation = (round(float(value), 2) + 0 for value in (values.mean(dtype=float), values.std(dtype=float)))
    zero = 100 * (image == 0).mean()
    axes.set_title(f"mean {mean:g}, sd {deviation:g}\nzero: {zero:.0f} % of voxels", fontsize=7)
    axes.tick_params(labelsize=6)


def _around(occupied: np.ndarray, margin: int = 8) -> slice:
    """From a little before the first to a little after the last that is true."""
    places = np.flatnonzero(occupied)
    return slice(max(0, int(places[0]) - margin), int(places[-1]) + 1 + margin)
