"""The figures of the study, in one style: white ground, legible at page width, saved as SVG and PNG."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image as Picture
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from PIL import Image
from scipy.ndimage import label

from sshsnet_core.anatomy import COLUMN, STRUCTURES
from sshsnet_core.evaluation.results import write_bytes
from sshsnet_core.pictures.overlay import COLOURS, View, grey_limits, overlay, slice_to_grey

PAGE_WIDTH = 7.5  # inches
NOT_RUN = "not run yet"
STYLE: dict[Any, Any] = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    # The same data give the same file.
    "svg.hashsalt": "sshsnet",
}
_BLUE, _ORANGE, _GREY, _INTERVAL = "#0077bb", "#ee7733", "#888888", "#222222"


def mean_bars(
    summary: pd.DataFrame, rows: Sequence[str], caption: str, statistics: pd.DataFrame | None = None
) -> Figure:
    """Figures 7 and 9: the overall means of the rows, measured on the left, published on a panel of their own.

    ``summary`` is what ``summary.summarise`` gives; ``caption`` says on what it was measured. ``statistics``, of the
    same split, adds the intervals of the measured means as thin lines.
    """
    means = summary.set_index(["row", "structure", "source"])["mean"].to_dict()
    intervals = {} if statistics is None else statistics.set_index(["row", "statistic"])[["low", "high"]].T.to_dict()
    places = np.arange(len(rows))[::-1]
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(PAGE_WIDTH, 0.9 + 0.42 * len(rows)), sharey=True, width_ratios=(3, 2), layout="constrained"
        )
        for row, place in zip(rows, places, strict=True):
            bars = (
                (left, 0.2, "mean of subjects", "measured", _BLUE),
                (left, -0.2, "mean of classes", "measured", _ORANGE),
            )
            for axes, shift, structure, source, colour in (*bars, (right, 0, "mean of classes", "published", _GREY)):
                value = means.get((row, structure, source), float("nan"))
                if np.isfinite(value):
                    axes.barh(place + shift, value, 0.38, color=colour)
                    ends = intervals.get((row, structure), {}) if source == "measured" else {}
                    low, high = ends.get("low", value), ends.get("high", value)
                    # NaN, where there are too few subjects, draws no line.
                    axes.plot([low, high], 2 * [place + shift], color=_INTERVAL, linewidth=0.9)
                    axes.text(np.nanmax([value, high]) + 1, place + shift, f"{value:.1f}", va="center", fontsize=7)
            if (row, "mean of subjects", "measured") not in means:
                left.text(1, place, NOT_RUN, va="center", color=_GREY, style="italic")
            if (row, "mean of classes", "published") not in means:
                right.text(1, place, "not published", va="center", color=_GREY, style="italic")
        left.set(
            title="Measured", xlabel="DSC (%)", xlim=(0, 112), xticks=range(0, 101, 20), yticks=places, yticklabels=rows
        )
        words = {"title": "Published, on MRSpineSeg", "xlabel": "DSC (%), mean of classes"}
        right.set(**words, xlim=(0, 112), xticks=range(0, 101, 20))
        for axes in (left, right):
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
        handles = [Patch(color=_BLUE, label="mean of subjects"), Patch(color=_ORANGE, label="mean of classes")]
        lines = " Thin lines: 95 % intervals over subjects, one training a fold." if intervals else ""
        foot(figure, caption + lines, handles, ncols=2)
    plt.close(figure)
    return figure


def side_by_side(cases: Mapping[str, View], methods: Sequence[str], caption: str) -> Figure:
    """Figures 8 and 10: a mid-sagittal slice a row; the image, the truth, and each method's labels.

    The truth is outlined on the labels. A method that a case lacks leaves its place empty and says so. Raises
    ``ValueError`` without cases.
    """
    if not cases:
        raise ValueError("There are no cases to show.")
    cases = {name: view.without_margins() for name, view in cases.items()}
    columns = ["image", "truth", *methods]
    with plt.rc_context(STYLE):
        panel = PAGE_WIDTH / len(columns)
        tallest = max(_height_by_width(view) for view in cases.values())
        figure, grid = plt.subplots(
            len(cases),
            len(columns),
            figsize=(PAGE_WIDTH, 1 + len(cases) * panel * tallest),
            squeeze=False,
            layout="compressed",
        )
        for (name, view), line in zip(cases.items(), grid, strict=True):
            for column, axes in zip(columns, line, strict=True):
                _panel(axes, view, column, panel)
            line[0].set_ylabel(name)
        for column, axes in zip(columns, grid[0], strict=True):
            # A title as long as a row's runs into its neighbours.
            axes.set_title(column.replace("SSHSNet-", "SSHSNet-\n").replace(", ", ",\n"), fontsize=6.5)
        present = {number for view in cases.values() for labels in view.labels.values() for number in np.unique(labels)}
        handles = [Patch(color=to_hex(COLOURS[s.label] / 255), label=s.name) for s in COLUMN if s.label in present]
        foot(figure, f"{caption} White lines: outline of the truth.", handles, ncols=10)
    plt.close(figure)
    return figure


def contact_sheet(cases: Mapping[str, View], caption: str, columns: int = 6) -> Figure:
    """The cases of a cohort at a glance: mid-sagittal slices under their names, with the first labels of each.

    Raises ``ValueError`` without cases.
    """
    if not cases:
        raise ValueError("There are no cases to show.")
    cases = {name: view.without_margins() for name, view in cases.items()}
    columns = min(columns, len(cases))
    lines = -(-len(cases) // columns)
    with plt.rc_context(STYLE):
        tallest = max(_height_by_width(view) for view in cases.values())
        figure, grid = plt.subplots(
            lines,
            columns,
            figsize=(PAGE_WIDTH, 0.5 + lines * (0.2 + PAGE_WIDTH / columns * tallest)),
            squeeze=False,
            layout="compressed",
        )
        for axes in grid.flat:
            axes.set_axis_off()
        for (name, view), axes in zip(cases.items(), grid.flat, strict=False):
            _panel(axes, view, next(iter(view.labels), "image"), PAGE_WIDTH / columns)
            axes.set_title(name, fontsize=7)
        foot(figure, caption)
    plt.close(figure)
    return figure


def learning_curves(histories: Mapping[str, pd.DataFrame], caption: str) -> Figure:
    """A panel for every quantity that was logged (``loss``, ...) over the column ``epoch``, a line for every history.

    Raises ``ValueError`` without histories, and for one without the column ``epoch``.
    """
    without = [name for name, history in histories.items() if "epoch" not in history]
    if without or not histories:
        raise ValueError(f"No column epoch in the history of {', '.join(without)}." if without else "No histories.")
    quantities = list(dict.fromkeys(str(c) for history in histories.values() for c in history if c != "epoch"))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(quantities), figsize=(PAGE_WIDTH, 2.9), squeeze=False, layout="constrained"
        )
        for quantity, axes in zip(quantities, panels.flat, strict=True):
            for index, (name, history) in enumerate(histories.items()):
                if quantity in history:
                    # The colour belongs to the history, whichever panels it appears in; there are ten, then dashes.
                    style = {"color": f"C{index % 10}", "linestyle": ("-", "--", ":")[index // 10 % 3]}
                    axes.plot(history["epoch"], history[quantity], **style, label=name, linewidth=1.2)
            axes.set(title=quantity.replace("_", " "), xlabel="epoch")
        lines = {
            text: line for axes in panels.flat for line, text in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        foot(figure, caption, list(lines.values()), ncols=3)
    plt.close(figure)
    return figure


def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Writes ``<stem>.svg`` and ``<stem>.png``, each whole or not at all, and returns their paths."""
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    svg, png = stem.with_name(stem.name + ".svg"), stem.with_name(stem.name + ".png")
    with plt.rc_context(STYLE):
        stream = BytesIO()
        # Slices become pictures inside the SVG, at this resolution; without its date, the same figure is the same file.
        figure.savefig(stream, format="svg", dpi=100, bbox_inches="tight", metadata={"Date": None})
        write_bytes(svg, stream.getvalue())
        stream = BytesIO()
        figure.savefig(stream, format="png", dpi=120, bbox_inches="tight")
    small = BytesIO()
    Image.open(stream).convert("RGB").save(small, "PNG", optimize=True)
    write_bytes(png, small.getvalue())
    return svg, png


def picture(figure: Figure) -> Picture:
    """A figure of many slices for the end of a notebook's cell: a JPEG, a fifth of the PNG that the figure itself would
    leave in the file, with its caption as the text for readers who cannot see it."""
    stream = BytesIO()
    with plt.rc_context(STYLE):
        figure.savefig(stream, format="jpeg", dpi=110, bbox_inches="tight", pil_kwargs={"quality": 88})
    caption = " ".join(figure.texts[-1].get_text().split()) if figure.texts else ""
    return Picture(data=stream.getvalue(), format="jpeg", alt=caption)


def _panel(axes: Axes, view: View, column: str, width: float) -> None:
    """One slice, ``width`` inches wide: the bare image, or the labels of that name, the truth's with names on them."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    labels = view.labels.get(column)
    if labels is None and column != "image":
        axes.text(0.5, 0.5, NOT_RUN, ha="center", va="center", transform=axes.transAxes, color=_GREY, style="italic")
        return
    grey = slice_to_grey(view.image[view.middle], grey_limits(view.image))
    plane = None if labels is None else labels[view.middle]
    truth = view.labels.get("truth") if labels is not None and column != "truth" else None
    outline = None if truth is None else truth[view.middle]
    axes.imshow(overlay(grey, plane, view.spacing_mm[1:], 0.55, outline))
    if plane is not None and outline is None:
        _names(axes, plane, view.spacing_mm[1:], width)


def _names(axes: Axes, plane: np.ndarray, spacing: tuple[float, float], width: float) -> None:
    """Vertebrae are named on their largest part, the body; thin discs beside their anterior edge, if there is room."""
    row_scale, column_scale = (s / min(spacing) for s in spacing)
    size = float(np.clip(72 * width / 15, 4, 8))
    for structure in STRUCTURES:
        parts, _ = label(plane == structure.label)
        sizes = np.bincount(parts.ravel())[1:]
        if not sizes.size:
            continue
        rows, columns = np.nonzero(parts == 1 + sizes.argmax())
        if structure.kind == "vertebra":
            place, side = columns.mean(), "center"
        else:
            # A letter is about 0.65 of its size wide, and a panel loses up to a sixth of its width to gaps.
            room = 0.75 * size * len(structure.name) / (72 * width) * plane.shape[1]
            place, side = max(columns.min() - 3, room), "right"
        text = axes.text(place * column_scale, rows.mean() * row_scale, structure.name, ha=side, va="center")
        text.set(color="white", fontsize=size, path_effects=[withStroke(linewidth=1, foreground="black")])


def _height_by_width(view: View) -> float:
    (_, height, width), (_, row, column) = view.image.shape, view.spacing_mm
    return height * row / (width * column)


def foot(figure: Figure, caption: str, handles: Sequence[Artist] = (), ncols: int = 1) -> None:
    """Legend, then caption, below all that is drawn already, so that nothing can run into them; ``save`` keeps both."""
    if handles:
        figure.legend(
            handles=handles,
            loc="upper center",
            bbox_to_anchor=(0.5, _lower_edge(figure)),
            borderaxespad=0,
            ncols=ncols,
            handlelength=1.2,
            columnspacing=1.2,
            fontsize=7,
        )
    figure.text(0.01, _lower_edge(figure), fill(caption, 145), ha="left", va="top", fontsize=7, color="#444444")


def _lower_edge(figure: Figure) -> float:
    """A little below the lowest thing drawn, in parts of the figure's height."""
    figure.draw_without_rendering()
    return (figure.get_tightbbox().y0 - 0.1) / figure.get_figheight()
