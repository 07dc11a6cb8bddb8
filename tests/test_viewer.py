from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sshsnet_core.pictures import viewer
from sshsnet_core.pictures.overlay import View


def view(slices=5, *methods):
    image = np.random.default_rng(slices).uniform(1, 100, (slices, 80, 50)).astype(np.float32)
    labels = np.zeros(image.shape, np.uint8)
    labels[1:4, 20:40, 10:30] = 12
    return View(image, (4.4, 0.7, 0.7), dict.fromkeys(("truth", *methods), labels))


def pixels(jpeg):
    return np.asarray(Image.open(BytesIO(jpeg)).convert("RGB")).astype(int)


@pytest.fixture
def displayed(monkeypatch):
    shown = []
    monkeypatch.setattr(viewer, "display", shown.append)
    return shown


def test_a_static_picture_comes_first_and_alone_unless_interactive(displayed):
    viewer.show({"Case1": view()}, interactive=False)
    (picture,) = displayed
    assert picture.format == "jpeg"
    assert pixels(picture.data).shape[0] > 300
    viewer.show({"Case1": view()}, interactive=True)
    assert [type(thing).__name__ for thing in displayed[1:]] == ["Image", "VBox"]
    assert displayed[1].data == picture.data


def test_nothing_to_show_is_an_error(displayed):
    with pytest.raises(ValueError, match="no cases"):
        viewer.show({}, interactive=False)


def test_superior_is_up_and_anterior_is_left():
    volume = np.ones((1, 80, 50), np.float32)
    volume[0, :20, :12] = 100
    picture = pixels(viewer.frame(View(volume, (4.4, 0.7, 0.7)), viewer.NO_LABELS, 0, 0.5, (0.0, 100.0))).sum(axis=2)
    height, width = picture.shape
    corners = picture[[20, 20, -20, -20], [20, -20, 20, -20]]
    assert corners.argmax() == 0
    assert corners[0] > 10 * corners[1:].max()
    # The letters are yellow marks at the middle of each edge.
    marks = picture[height // 2 - 10 : height // 2 + 10, : width // 10]
    assert marks.max() > 300


def test_the_controls_change_the_picture():
    widget = viewer.Viewer({"Case1": view(5, "SSHSNet"), "Case2": view(3)})
    assert (widget.method.value, widget.slice.value, widget.slice.max) == ("truth", 2, 4)
    seen = [widget.picture.value]
    for control, value in (
        (widget.opacity, 0.9),
        (widget.slice, 1),
        (widget.method, "SSHSNet"),
        (widget.method, viewer.NO_LABELS),
        (widget.case, "Case2"),
    ):
        control.value = value
        assert widget.picture.value not in seen
        seen.append(widget.picture.value)
    assert widget.slice.max == 2


def test_the_method_is_kept_where_the_next_case_has_it():
    widget = viewer.Viewer({"Case1": view(5, "SSHSNet"), "Case2": view(4, "SSHSNet"), "Case3": view(3)})
    widget.method.value = "SSHSNet"
    widget.case.value = "Case2"
    assert widget.method.value == "SSHSNet"
    widget.case.value = "Case3"
    assert widget.method.value == "truth"
    assert list(widget.method.options) == ["truth", viewer.NO_LABELS]


def test_a_case_without_labels_is_shown_bare(displayed):
    bare = View(view().image, (4.4, 0.7, 0.7))
    viewer.show({"Case1": bare}, interactive=True)
    assert pixels(displayed[0].data).size
