"""Look for yourself: sagittal overlays in a notebook, as a picture that stays in the file and as widgets over it."""

from collections.abc import Mapping
from io import BytesIO

import ipywidgets as widgets
import numpy as np
from IPython.display import Image as Picture
from IPython.display import display
from PIL import Image, ImageDraw, ImageFont

from sshsnet_core.pictures.overlay import View, grey_limits, overlay, slice_to_grey

TRUTH = "truth"
NO_LABELS = "image only"
#: Pixels that a picture should about have; smaller slices are enlarged by a whole number.
HEIGHT = 700


def show(cases: Mapping[str, View], interactive: bool) -> None:
    """Shows cases by name: first a static mid-sagittal overlay of the first one, then, if interactive, the widgets.

    The static picture is what a stored notebook shows where no kernel runs. Raises ``ValueError`` without cases.
    """
    if not cases:
        raise ValueError("There are no cases to show.")
    view = next(iter(cases.values()))
    method = next(iter(view.labels), NO_LABELS)
    display(Picture(data=frame(view, method, view.middle, 0.5), format="jpeg"))
    if interactive:
        display(Viewer(cases).box)


def frame(view: View, method: str, index: int, opacity: float, limits: tuple[float, float] | None = None) -> bytes:
    """One slice as JPEG: the labels of ``method`` coloured, the truth's outline, if there is one, over another's."""
    grey = slice_to_grey(view.image[index], limits or grey_limits(view.image))
    labels = view.labels.get(method)
    truth = view.labels.get(TRUTH) if method not in (TRUTH, NO_LABELS) else None
    rgb = overlay(
        grey,
        None if labels is None else labels[index],
        view.spacing_mm[1:],
        opacity,
        None if truth is None else truth[index],
    )
    stream = BytesIO()
    _with_directions(rgb).save(stream, "JPEG", quality=88)
    return stream.getvalue()


def _with_directions(rgb: np.ndarray) -> Image.Image:
    """The picture, a small one enlarged, with anterior and posterior, superior and inferior marked at its edges."""
    enlargement = max(1, round(HEIGHT / rgb.shape[0]))
    width, height = rgb.shape[1] * enlargement, rgb.shape[0] * enlargement
    picture = Image.fromarray(rgb).resize((width, height))
    size = max(9, height // 40)
    font, pen = ImageFont.load_default(size), ImageDraw.Draw(picture)
    places = {
        "S": ((width / 2, 2), "mt"),
        "I": ((width / 2, height - 2), "mb"),
        "A": ((2, height / 2), "lm"),
        "P": ((width - 2, height / 2), "rm"),
    }
    for letter, (place, anchor) in places.items():
        pen.text(place, letter, (255, 255, 0), font, anchor, stroke_width=1, stroke_fill=(0, 0, 0))
    return picture


class Viewer:
    """Case and method to choose, slice and opacity to slide; ``box`` is the widget to display."""

    def __init__(self, cases: Mapping[str, View]) -> None:
        self.cases = cases
        self.picture = widgets.Image(format="jpeg")
        self.case = widgets.Dropdown(options=list(cases), description="case")
        self.method = widgets.Dropdown(description="labels")
        self.slice = widgets.IntSlider(description="slice", continuous_update=True)
        self.opacity = widgets.FloatSlider(0.5, min=0, max=1, step=0.05, description="opacity")
        self.box = widgets.VBox(
            [widgets.HBox([self.case, self.method]), widgets.HBox([self.slice, self.opacity]), self.picture]
        )
        self.case.observe(self._open, "value")
        self._open()

    def _open(self, _change: object = None) -> None:
        """Sets the controls for the chosen case, keeping the method where that case has it, and draws once."""
        view, method = self.cases[self.case.value], self.method.value
        options = [*view.labels, NO_LABELS]
        controls = (self.method, self.slice, self.opacity)
        for control in controls:
            control.unobserve_all("value")
        self.limits = grey_limits(view.image)
        self.method.options = options
        self.method.value = method if method in options else options[0]
        self.slice.max = len(view.image) - 1
        self.slice.value = view.middle
        for control in controls:
            control.observe(self._draw, "value")
        self._draw()

    def _draw(self, _change: object = None) -> None:
        view = self.cases[self.case.value]
        self.picture.value = frame(view, self.method.value, self.slice.value, self.opacity.value, self.limits)
