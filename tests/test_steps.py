"""The pictures of section 4.2: true proportions, one scale of mm for all steps, and the voxels that changed."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from sshsnet_core.pictures.overlay import View
from sshsnet_core.pictures.steps import difference_figure, planes_figure, steps_figure

Spacing = tuple[float, float, float]
SPACING: Spacing = (4.0, 0.5, 0.5)


def view(shape: tuple[int, int, int] = (3, 40, 20), spacing: Spacing = SPACING, **labels: np.ndarray) -> View:
    image = np.random.default_rng(0).uniform(1, 100, shape).astype(np.float32)
    return View(image, spacing, labels)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def test_planes_have_the_aspect_of_their_voxels() -> None:
    figure = planes_figure(view(), "A volume.")
    squares, true_sides = figure.axes[:3], figure.axes[3:]
    assert [axes.get_aspect() for axes in squares] == [1, 1, 1]
    # A row of the coronal plane is 0.5 mm high and 4 mm wide; of the axial one 4 mm high and 0.5 mm wide.
    assert [axes.get_aspect() for axes in true_sides] == [1, 0.125, 8]
    shapes = [np.asarray(axes.images[0].get_array()).shape for axes in true_sides]
    assert shapes == [(40, 20), (40, 3), (3, 20)]


def test_all_steps_have_one_scale_and_the_box_lies_in_mm() -> None:
    steps = {"before": view(), "after": view((3, 30, 10))}
    figure = steps_figure(steps, {"before": (4, 34, 6, 16)}, "A volume.")
    before, after = figure.axes[:2]
    assert before.get_xlim() == after.get_xlim() == (0, 10)
    assert before.get_ylim() == after.get_ylim() == (20, 0)
    assert list(after.images[0].get_extent()) == [0, 5, 15, 0]
    (box,) = [patch for patch in before.patches if isinstance(patch, Rectangle)]
    assert (*box.get_xy(), box.get_width(), box.get_height()) == (3, 2, 5, 15)
    assert not after.patches


def test_the_histogram_says_how_much_is_zero() -> None:
    volume = view()
    volume.image[:, :, 5:] = 0
    volume.image[:, :, :5] = 2
    volume.image[0, :, :5] = 8
    figure = steps_figure({"one": volume}, {}, "A volume.")
    assert any("mean 4, sd 2.83\nzero: 75 %" in text for text in texts(figure))


def test_changed_voxels_are_marked_on_the_slice_that_changed_most() -> None:
    labels = np.zeros((3, 40, 20), np.uint8)
    labels[:, 10:30, 5:15] = 3
    moved = labels.copy()
    moved[2, 10:12, 5:15] = 0
    figure = difference_figure(view(there=labels, back=moved), "A volume.")
    assert any("2.50 % of this slice differs" in text for text in texts(figure))
    assert any("Slice 2." in text for text in texts(figure))
    picture = np.asarray(figure.axes[2].images[0].get_array())
    assert (picture == (238, 51, 119)).all(axis=2).sum() == 20


def test_a_difference_is_drawn_in_true_proportions() -> None:
    labels = np.zeros((3, 40, 20), np.uint8)
    labels[:, 10:30, 5:15] = 3
    figure = difference_figure(
        view(spacing=(4.0, 0.6, 0.5), there=labels, back=np.roll(labels, 1, axis=1)), "A volume."
    )
    assert [axes.get_aspect() for axes in figure.axes] == [pytest.approx(1.2)] * 3
    picture = np.asarray(figure.axes[2].images[0].get_array())
    assert (picture == (238, 51, 119)).all(axis=2).sum() == 20


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="no steps"):
        steps_figure({}, {}, "")
    with pytest.raises(ValueError, match="two label volumes, not 0"):
        difference_figure(view(), "")
