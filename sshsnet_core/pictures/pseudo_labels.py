"""CPS at work (section 3.1.2): what the two branches call one unlabelled slice, epoch by epoch."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sshsnet_core.pictures.figures import PAGE_WIDTH, STYLE, foot
from sshsnet_core.pictures.overlay import overlay, slice_to_grey

_EPOCHS = 6
_DISAGREE = (238, 51, 119)


def agreement(labels: np.ndarray) -> float:
    """Percent of the pixels that either branch calls a structure to which both give the same name; NaN without any.

    ``labels`` (2, H, W) are the pseudo labels of the two branches.
    """
    first, second = labels
    either = (first > 0) | (second > 0)
    return 100 * float((first == second)[either].mean()) if either.any() else float("nan")


def pseudo_labels_figure(image: np.ndarray, labels: Mapping[int, np.ndarray], begins: int, caption: str) -> Figure:
    """Both branches' labels at up to six epochs, where they disagree, and their agreement over all epochs.

    ``image`` (H, W) is the slice, ``labels`` the pseudo labels (2, H, W) by epoch, ``begins`` the first epoch in which
    the branches teach each other. Raises ``ValueError`` without epochs.
    """
    if not labels:
        raise ValueError("There are no pseudo labels: they are written down while a row under CPS is trained.")
    epochs = list(labels)
    shown = [
        epochs[i] for i in np.unique(np.linspace(0, len(epochs) - 1, min(_EPOCHS, len(epochs))).round().astype(int))
    ]
    grey = slice_to_grey(image, (float(np.percentile(image, 1)), float(np.percentile(image, 99.5))))
    with plt.rc_context(STYLE):
        height, width = grey.shape
        figure = plt.figure(
            figsize=(PAGE_WIDTH, 1.6 + 3 * PAGE_WIDTH / (_EPOCHS + 1) * height / width), layout="constrained"
        )
        pictures, curve = figure.subfigures(2, 1, height_ratios=(3 * height / width, 1.2))  # type: ignore[misc]
        grid = pictures.subplots(3, len(shown), squeeze=False)
        for column, epoch in zip(grid.T, shown, strict=True):
            first, second = labels[epoch]
            for axes, plane in zip(column, (first, second, None), strict=True):
                axes.imshow(_disagreement(grey, first, second) if plane is None else overlay(grey, plane, opacity=0.6))
                axes.set(xticks=[], yticks=[])
                axes.grid(visible=False)
                axes.spines[:].set_visible(False)
            column[0].set_title(f"epoch {epoch}")
        for axes, name in zip(grid[:, 0], ("branch 1", "branch 2", "they disagree"), strict=True):
            axes.set_ylabel(name)
        axes = curve.subplots()
        axes.plot(epochs, [agreement(labels[epoch]) for epoch in epochs], "o-", color="#0077bb", markersize=3)
        axes.axvline(begins, color="#ee7733", linewidth=1, label="CPS begins")
        axes.set(xlabel="epoch", ylabel="agreement (%)", ylim=(0, 103))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower right")
        foot(figure, caption)
    plt.close(figure)
    return figure


def _disagreement(grey: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    rgb = overlay(grey)
    rgb[first != second] = _DISAGREE
    return rgb
