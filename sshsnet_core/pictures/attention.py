"""CTAM looked into (section 3.3, Figure 6): its three attention matrices, and what they read, over the anatomy."""

from dataclasses import dataclass, replace
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from sshsnet_core.pictures.figures import PAGE_WIDTH, STYLE, foot, picture

#: Weights are shown as multiples of an even share, 1 / alpha: 1 is attention that has learnt to prefer nothing.
_MOST = 4.0
_HEAT = "viridis"
#: What a colour bar tells.
_SHARES, _VALUES = "x even share", "feature value"


@dataclass(frozen=True)
class AttentionView:
    """One patch and CTAM's matrices on it: ``image`` (Z, h, w), its spacing (z, row, column) in mm, and the voxel
    ``at`` (z, row, column) from which one looks; ``inter_slice`` (Z, Z), ``intra_slice`` (H W, H W) and ``channel``
    (C4, C4), whose rows sum to one, and ``features`` I_c (C4, Z, H, W), with H = h/4 and W = w/4.
    """

    image: np.ndarray
    spacing_mm: tuple[float, float, float]
    at: tuple[int, int, int]
    inter_slice: np.ndarray
    intra_slice: np.ndarray
    channel: np.ndarray
    features: np.ndarray

    def __post_init__(self) -> None:
        if any(not 0 <= place < length for place, length in zip(self.at, self.image.shape, strict=True)):
            raise ValueError(f"The voxel {self.at} lies outside the patch {self.image.shape}.")

    def looking_from(self, z: int, row: int, column: int) -> "AttentionView":
        """The same patch, seen from another voxel."""
        return replace(self, at=(z, row, column))

    @property
    def token(self) -> int:
        """Which of the H W positions the voxel ``at`` belongs to."""
        height, width = self.features.shape[2:]
        rows, columns = self.image.shape[1:]
        return self.at[1] * height // rows * width + self.at[2] * width // columns

    @property
    def strongest(self) -> int:
        """The channel of I_c that stands out most at the voxel from its own mean over the patch."""
        flat = self.features.reshape(len(self.features), -1)
        here = self.features[:, self.at[0]].reshape(len(self.features), -1)[:, self.token]
        return int(np.abs((here - flat.mean(axis=1)) / (flat.std(axis=1) + 1e-6)).argmax())


def attention_figure(view: AttentionView, caption: str) -> Figure:
    """A row for each block: its matrix A, what the picked slice, position or channel reads, and what all read.

    Inter-slice weights lie over a coronal cut through the voxel, whose columns are the slices; the other two over the
    sagittal slice. Beside the channels' matrix two channels' own values are shown, not shares of attention.
    """
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, grid = plt.subplots(3, 3, figsize=(PAGE_WIDTH, 8.2), layout="constrained")
        _inter_slice(view, grid[0])
        _intra_slice(view, grid[1])
        _channel(view, grid[2])
        for axes in grid.flat:
            axes.tick_params(length=2, labelsize=6)
            axes.title.set_fontsize(7.5)
        foot(figure, caption)
    plt.close(figure)
    return figure


def explore(view: AttentionView, caption: str) -> widgets.VBox:
    """The figure under sliders that move the voxel from which one looks (they need a running kernel)."""
    # Not ipywidgets.interact: its captured outputs can keep a runner without a browser waiting for ever.
    shown = widgets.Image(format="jpeg", layout={"display": "none"})
    sliders = [
        widgets.IntSlider(place, 0, length - 1, description=name, continuous_update=False)
        for name, place, length in zip(("slice", "row", "column"), view.at, view.image.shape, strict=True)
    ]

    def draw(_change: object) -> None:
        shown.value = picture(attention_figure(view.looking_from(*(s.value for s in sliders)), caption)).data
        shown.layout.display = "block"

    for slider in sliders:
        slider.observe(draw, "value")
    return widgets.VBox([widgets.HBox(sliders), shown])


def _inter_slice(view: AttentionView, axes: np.ndarray) -> None:
    z, _, column = view.at
    weights = view.inter_slice * len(view.inter_slice)
    _matrix(axes[0], weights, f"inter-slice: A, {len(weights)} slices", z)
    cut = view.image[:, :, column].T  # (h, Z)
    aspect = view.spacing_mm[1] / view.spacing_mm[0]
    for place, row, title in ((axes[1], weights[z], f"slice {z} reads"), (axes[2], weights.mean(axis=0), "all read")):
        place.imshow(cut, cmap="gray", aspect=aspect)
        _heat(place, np.tile(row, (len(cut), 1)), _scale(row), aspect)
        place.set(title=title, xlabel="slice", yticks=[], xticks=range(0, len(weights), 4))
    axes[1].axvline(z, color="white", linewidth=0.8)


def _intra_slice(view: AttentionView, axes: np.ndarray) -> None:
    z, row, column = view.at
    weights = view.intra_slice * len(view.intra_slice)
    _matrix(axes[0], weights, f"intra-slice: A, {len(weights)} positions", view.token)
    _over_slice(axes[1], view, weights[view.token], "this position reads")
    axes[1].plot(column, row, "+", color="white", markersize=9, markeredgewidth=1.5)
    _over_slice(axes[2], view, weights.mean(axis=0), "all read")
    axes[1].set(xlabel=f"slice {z}")


def _channel(view: AttentionView, axes: np.ndarray) -> None:
    weights, picked = view.channel * len(view.channel), view.strongest
    _matrix(axes[0], weights, f"channel: A, {len(weights)} channels (F1, F2)", picked)
    half = len(weights) / 2 - 0.5
    axes[0].axhline(half, color="white", linewidth=0.5)
    axes[0].axvline(half, color="white", linewidth=0.5)
    most_read = int(view.channel[picked].argmax())
    for place, channel, title in (
        (axes[1], picked, f"channel {picked}, strongest at +"),
        (axes[2], most_read, f"channel {most_read}, which it reads most"),
    ):
        _over_slice(place, view, view.features[channel, view.at[0]].ravel(), title, share=False)
        place.plot(view.at[2], view.at[1], "+", color="white", markersize=9, markeredgewidth=1.5)


def _scale(weights: np.ndarray) -> Normalize:
    """From nothing to four even shares, or to the most that there is."""
    return Normalize(0, max(_MOST, float(weights.max())))


def _heat(axes: Axes, values: np.ndarray, scale: Normalize, aspect: float, told: str = _SHARES, **place: Any) -> None:
    """Values over a grey picture: the smaller, the more of the anatomy shows through."""
    axes.imshow(values, cmap=_HEAT, norm=scale, alpha=0.1 + 0.65 * np.clip(scale(values), 0, 1), aspect=aspect, **place)
    axes.figure.colorbar(ScalarMappable(scale, _HEAT), ax=axes, shrink=0.8, label=told)


def _matrix(axes: Axes, weights: np.ndarray, title: str, picked: int) -> None:
    """A as multiples of an even share; a tick marks the picked row."""
    matrix = axes.imshow(weights, cmap=_HEAT, vmin=0, vmax=max(2.0, float(np.percentile(weights, 99.5))))
    axes.set(title=title, xlabel="is read", ylabel="reads", yticks=[picked], xticks=[])
    axes.figure.colorbar(matrix, ax=axes, shrink=0.8, label=_SHARES)


def _over_slice(axes: Axes, view: AttentionView, values: np.ndarray, title: str, share: bool = True) -> None:
    """Values of the H W positions over the picked sagittal slice: shares of attention, or a feature as it is."""
    rows, columns = view.image.shape[1:]
    aspect = view.spacing_mm[1] / view.spacing_mm[2]
    axes.imshow(view.image[view.at[0]], cmap="gray", aspect=aspect)
    scale = _scale(values) if share else Normalize(float(values.min()), float(values.max()))
    place, told = (-0.5, columns - 0.5, rows - 0.5, -0.5), _SHARES if share else _VALUES
    _heat(axes, values.reshape(view.features.shape[2:]), scale, aspect, told, extent=place)
    axes.set(title=title, xticks=[], yticks=[])
