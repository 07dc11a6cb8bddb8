"""Scans without a truth: what several networks or decisions make of one slice, and whether CPS eats outlines."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image as Picture
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sshsnet_core.decision import KIND
from sshsnet_core.pictures.figures import PAGE_WIDTH, STYLE, foot
from sshsnet_core.pictures.lightbox import NO_LABELS, Lightbox, Look, Panel
from sshsnet_core.pictures.overlay import View

#: Of ``decision.KIND``, the background aside, with the colours of their lines.
_KINDS = {"vertebrae": "#0077bb", "discs": "#ee7733", "arches": "#009988"}


def compared(view: View) -> Picture:
    """The middle slice bare and, beside it, under each of the view's labels with their names, as a JPEG."""
    panels = [Panel(NO_LABELS), *(Panel(name) for name in view.labels)]
    jpeg = Lightbox(view).frame(panels, Look(view.middle)).jpeg
    return Picture(data=jpeg, format="jpeg", alt=f"One slice, from left to right: image, {', '.join(view.labels)}.")


def kind_shares(labels: Mapping[int, np.ndarray]) -> pd.DataFrame:
    """Percent of the pixels that are ``vertebrae``, ``discs`` and ``arches``, a line an epoch.

    ``labels`` maps an epoch to label maps of any shape, numbered 0-28; where arches are not told from bodies, there are
    none.
    """
    kinds = np.array(KIND)
    shares = {epoch: np.bincount(kinds[maps].ravel(), minlength=1 + len(_KINDS)) for epoch, maps in labels.items()}
    frame = pd.DataFrame.from_dict(shares, orient="index", columns=["background", *_KINDS]).rename_axis("epoch")
    return frame[list(_KINDS)].mul(100).div(frame.sum(axis=1), axis=0)


def kind_shares_figure(shares: pd.DataFrame, caption: str) -> Figure:
    """``kind_shares`` over the epochs, each kind relative to its first epoch: a line that falls is being eaten."""
    first = shares.iloc[0]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(PAGE_WIDTH, 2.6), layout="constrained")
        for kind, colour in _KINDS.items():
            if first[kind] > 0:
                axes.plot(shares.index, 100 * shares[kind] / first[kind], "o-", color=colour, markersize=3, label=kind)
        axes.axhline(100, color="#888888", linewidth=0.8)
        axes.set(xlabel="epoch", ylabel="pixels, % of the first epoch", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower left", ncols=3)
        foot(figure, caption)
    plt.close(figure)
    return figure
