"""Figures 1 and 2: the structures by name, and what makes them hard to tell; arrows are placed by the labels."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from scipy.ndimage import binary_erosion, gaussian_filter, label

from sshsnet_core.anatomy import COLUMN, STRUCTURES, VERTEBRAE, Structure, by_name
from sshsnet_core.pictures.figures import PAGE_WIDTH, STYLE, foot
from sshsnet_core.pictures.overlay import COLOURS, View, grey_limits, name_places, overlay, slice_to_grey

#: A place in a sagittal slice: (row, column) in mm.
Place = tuple[float, float]
_ARROW = "#ffcc00"
_SIDE_MM = 84.0


class Spot(NamedTuple):
    """What one panel of Figure 2 shows: a slice round a place, with arrows to others, and an outlined structure."""

    view: View
    slice: int
    centre: Place
    arrows: tuple[Place, ...] = ()
    outlined: Structure | None = None
    title: str = ""


def example_figure(view: View, caption: str) -> Figure:
    """Figure 1: the mid-sagittal slice of a labelled volume, bare and with the classes named.

    The legend lists all 20 classes from the top of the column down; those out of view are grey. ``caption`` says which
    case of which cohort it is. Raises ``ValueError`` without a labelled structure.
    """
    labels = _truth(view)
    kept = np.flatnonzero(view.image.any(axis=(0, 1)))
    columns = slice(kept[0], kept[-1] + 1) if kept.size else slice(None)
    grey = slice_to_grey(view.image[view.middle], grey_limits(view.image))[:, columns]
    plane = labels[view.middle][:, columns]
    _, row_mm, column_mm = view.spacing_mm
    tall = plane.shape[0] * row_mm / (plane.shape[1] * column_mm)
    extent = (0.0, plane.shape[1] * column_mm, plane.shape[0] * row_mm, 0.0)
    width = 2.75
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(PAGE_WIDTH - 1.5, width * tall), layout="compressed")
        for axes, shown in zip(panels, (None, plane), strict=True):
            axes.imshow(overlay(grey, shown, (row_mm, column_mm), 0.6), extent=extent)
            axes.set_axis_off()
        for number, (row, column) in name_places(plane).items():
            structure, side, shift = STRUCTURES[number - 1], "right", -3.0
            if structure.kind == "vertebra":
                (row, column), side, shift = np.argwhere(_body(plane == number)).mean(0).tolist(), "center", 0.0
            text = panels[1].text((column + 0.5) * column_mm + shift, (row + 0.5) * row_mm, structure.name)
            text.set(ha=side, va="center_baseline", fontsize=6.5, color="white")
            text.set_path_effects([withStroke(linewidth=1.2, foreground="black")])
        present = set(np.unique(labels).tolist())
        handles = [Patch(color=_hex(s), label=s.name) for s in reversed(COLUMN)]
        handles.append(Patch(facecolor="black", edgecolor="#888888", label="BG"))
        legend = panels[1].legend(
            handles=handles, loc="center left", bbox_to_anchor=(1.03, 0.5), fontsize=7, labelspacing=0.75
        )
        for text, structure in zip(legend.get_texts(), reversed(COLUMN), strict=False):
            if structure.label not in present:
                text.set(color="#999999", text=f"{structure.name}, out of view")
        foot(figure, caption)
    plt.close(figure)
    return figure


def challenges_figure(usual: View, unusual: View, variant: str, caption: str) -> Figure:
    """Figure 2: (a) uneven intensity, (b) partial volume, (c) likeness within a subject, (d) and between two.

    Of ``usual`` all four, of ``unusual`` its sacrum, beside the other's; ``variant`` is what is unusual about it, such
    as ``lumbarised``. Raises ``ValueError`` where the labels lack two whole vertebrae, L5/S or the sacrum.
    """
    spots = [uneven(usual), *partial_volume(usual), *alike(usual), sacrum(usual, "usual"), sacrum(unusual, variant)]
    heads = {0: "(a) uneven intensity", 1: "(b) partial volume: an arch in three slices"}
    heads |= {4: "(c) two classes, one look", 6: "(d) one class, two looks"}
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 4, figsize=(PAGE_WIDTH, 4.5), layout="constrained")
        for index, (axes, spot) in enumerate(zip(grid.flat, spots, strict=True)):
            _draw(axes, spot)
            if index in heads:
                axes.set_title(heads[index], loc="left", fontsize=8, weight="bold")
        foot(
            figure,
            f"{caption} Each panel is {_SIDE_MM:g} mm wide, its brightness stretched by itself. Lines: the outline "
            "of the labelled structure. (a) The darkest and the brightest place inside one vertebra. (b) A part of "
            "the arch that one slice shows and the next does not. (c) The two neighbouring vertebrae that are most "
            "alike in size and brightness. (d) Above S1 the disc L5/S, narrow where L5 is sacralised; below S1 its "
            "joint with S2, a disc where S1 is lumbarised.",
        )
    plt.close(figure)
    return figure


def uneven(view: View) -> Spot:
    """(a): the vertebra whose mid-sagittal brightness differs most within it, at its darkest and brightest place."""
    labels, middle = _truth(view), view.middle
    sigma = [2.0 / s for s in view.spacing_mm[1:]]
    best: tuple[float, Structure, np.ndarray] | None = None
    for structure in _whole_vertebrae(labels[middle]):
        inside = binary_erosion(labels[middle] == structure.label, iterations=max(1, round(2 / view.spacing_mm[1])))
        if inside.any():
            # The mean of the bone round each pixel: what lies beside it, cortex or bright fat, must not count.
            bone = gaussian_filter(inside.astype(float), sigma)
            values = (gaussian_filter(view.image[middle] * inside.astype(float), sigma) / np.maximum(bone, 1e-9))[
                inside
            ]
            spread = float(np.ptp(values) / values.mean())
            if best is None or spread > best[0]:
                pixels = np.argwhere(inside)
                best = spread, structure, pixels[[values.argmin(), values.argmax()]]
    if best is None:
        raise ValueError("The labels hold no vertebra thick enough to look into.")
    _, structure, ends = best
    places = tuple(_mm(view, pixel) for pixel in ends)
    return Spot(view, middle, _mm(view, ends.mean(0)), places, structure, structure.name)


def partial_volume(view: View) -> list[Spot]:
    """(b): three neighbouring slices round the largest part of an arch that one slice shows and the next does not."""
    labels, middle = _truth(view), view.middle
    margin = round(8 / view.spacing_mm[2])
    best: tuple[int, int, Structure, np.ndarray] | None = None
    for structure in _whole_vertebrae(labels[middle]):
        behind = int(np.nonzero(_body(labels[middle] == structure.label))[1].max()) + margin
        arch = labels == structure.label
        arch[:, :, :behind] = False
        for z in range(max(1, middle - 3), min(len(labels) - 1, middle + 3)):
            pieces, _ = label(arch[z] & ~arch[z + 1])
            sizes = np.bincount(pieces.ravel())[1:]
            if sizes.size and (best is None or sizes.max() > best[0]):
                best = int(sizes.max()), z, structure, pieces == 1 + sizes.argmax()
    if best is None:
        raise ValueError("The labels hold no arch that differs from slice to slice.")
    _, z, structure, lost = best
    place = _mm(view, np.argwhere(lost).mean(0))
    return [Spot(view, z + d, place, (place,), structure, f"{structure.name}, slice {z + d + 1}") for d in (-1, 0, 1)]


def alike(view: View) -> list[Spot]:
    """(c): the two neighbouring vertebrae whose bodies are most alike in area and mean brightness, mid-sagittal."""
    plane, image = _truth(view)[view.middle], view.image[view.middle]
    bodies = [(s, _body(plane == s.label)) for s in _whole_vertebrae(plane)]
    if len(bodies) < 2:
        raise ValueError("The labels hold no two neighbouring vertebrae that are wholly in view.")
    looks = np.array([(body.sum(), image[body].mean()) for _, body in bodies])
    unlike = np.abs(np.diff(np.log(looks), axis=0)).sum(axis=1)
    first = int(unlike.argmin())
    return [
        Spot(view, view.middle, place, (place,), None, f"{structure.name}?")
        for structure, body in bodies[first : first + 2]
        for place in (_mm(view, np.argwhere(body).mean(0)),)
    ]


def sacrum(view: View, variant: str) -> Spot:
    """(d): the upper sacrum, with arrows to the disc above S1 and to its joint with S2, 30 to 38 mm below that disc."""
    plane = _truth(view)[view.middle]
    disc, bone = by_name("L5/S"), by_name("S")
    if not (plane == disc.label).any() or not (plane == bone.label).any():
        raise ValueError("The mid-sagittal labels lack L5/S or the sacrum.")
    start = np.array(_mm(view, np.argwhere(_body(plane == disc.label)).mean(0)))
    pixels = (np.argwhere(_body(plane == bone.label)) + 0.5) * view.spacing_mm[1:]
    distance = np.linalg.norm(pixels - start, axis=1)
    joint = pixels[(distance > 30) & (distance < 38)] if (distance > 30).any() else pixels
    (row, column), (top, front) = joint.mean(0).tolist(), start.tolist()
    centre = ((top + row) / 2, (front + column) / 2)
    return Spot(view, view.middle, centre, ((top, front), (row, column)), bone, f"S, {variant}")


def _draw(axes: Axes, spot: Spot) -> None:
    """One panel: the slice in grey round the place, the structure's outline and the arrows."""
    view, half = spot.view, _SIDE_MM / 2
    image = view.image[spot.slice].astype(float)
    spans = [
        slice(max(0, int((c - half) / s)), int((c + half) / s) + 1)
        for c, s in zip(spot.centre, view.spacing_mm[1:], strict=True)
    ]
    window = image[spans[0], spans[1]]
    _, row_mm, column_mm = view.spacing_mm
    top, left = spans[0].start * row_mm, spans[1].start * column_mm
    extent = (left, left + window.shape[1] * column_mm, top + window.shape[0] * row_mm, top)
    low, high = np.percentile(window, (1, 99))
    axes.set_facecolor("black")
    axes.imshow(window, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="bilinear")
    if spot.outlined is not None:
        mask = _truth(view)[spot.slice][spans[0], spans[1]] == spot.outlined.label
        if mask.any():
            rows, columns = (
                start + (np.arange(n) + 0.5) * s
                for start, n, s in zip((top, left), mask.shape, (row_mm, column_mm), strict=True)
            )
            axes.contour(columns, rows, mask, levels=[0.5], linewidths=1.1, colors=[_hex(spot.outlined)])
    for row, column in spot.arrows:
        axes.annotate(
            "",
            (column, row),
            (column - 11, row + 8),
            arrowprops={"arrowstyle": "-|>", "color": _ARROW, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 2},
        )
    axes.set(
        xlim=(spot.centre[1] - half, spot.centre[1] + half),
        ylim=(spot.centre[0] + half, spot.centre[0] - half),
        xticks=[],
        yticks=[],
        xlabel=spot.title,
    )
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _hex(structure: Structure) -> str:
    return to_hex(COLOURS[structure.label] / 255)


def _truth(view: View) -> np.ndarray:
    """The first labels of the view that hold a structure; ``ValueError`` where there are none."""
    for labels in view.labels.values():
        if labels.any():
            return labels
    raise ValueError("The case has no labels, which say where to look.")


def _whole_vertebrae(plane: np.ndarray) -> list[Structure]:
    """The vertebrae of a plane (H, W) from L5 up, without the topmost, which the edge may cut."""
    present = [s for s in VERTEBRAE if (plane == s.label).any()]
    return [s for s in present[:-1] if s.name != "S"]


def _body(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask (H, W)."""
    pieces, _ = label(mask)
    return pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()


def _mm(view: View, pixel: np.ndarray) -> Place:
    """The place of a pixel (row, column), fractions allowed: its centre."""
    row, column = ((pixel + 0.5) * view.spacing_mm[1:]).tolist()
    return row, column
