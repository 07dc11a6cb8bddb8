import zlib
from io import BytesIO

import ipywidgets
import numpy as np
import pytest
from PIL import Image
from traitlets import TraitError

from sshsnet_core.anatomy import NAMES, by_name
from sshsnet_core.pictures import viewer
from sshsnet_core.pictures.overlay import View
from sshsnet_core.pictures.viewer import Viewer


def view(slices: int = 5, *names: str) -> View:
    image = np.random.default_rng(slices).uniform(1, 100, (slices, 80, 50)).astype(np.float32)
    labels = np.zeros(image.shape, np.uint8)
    labels[1:4, 20:40, 10:30] = by_name("L4/L5").label
    return View(image, (4.4, 0.7, 0.7), dict.fromkeys(names, labels))


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(jpeg)).convert("RGB")).astype(int)


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list:
    shown: list = []
    monkeypatch.setattr(viewer, "display", shown.append)
    return shown


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list:
    """The messages to the browser."""
    messages: list = []
    monkeypatch.setattr(Viewer, "send", lambda self, content, buffers=None: messages.append((content, buffers)))
    return messages


def test_a_static_picture_comes_first_and_alone_unless_interactive(displayed: list) -> None:
    cases = {"Case1": view(5, "truth", "SSHSNet")}
    viewer.show(cases, interactive=False)
    (picture,) = displayed
    assert picture.format == "jpeg"
    assert picture.alt == (
        "Mid-sagittal slice of Case1, from left to right: truth (labels), SSHSNet (labels), SSHSNet (errors)."
    )
    viewer.show(cases, interactive=True)
    assert [type(thing).__name__ for thing in displayed[1:]] == ["Image", "Viewer"]
    assert displayed[1].data == picture.data


def test_nothing_to_show_is_an_error(displayed: list) -> None:
    with pytest.raises(ValueError, match="no cases"):
        viewer.show({}, interactive=False)
    with pytest.raises(ValueError, match="no cases"):
        Viewer({})


@pytest.mark.parametrize(
    ("names", "titles"),
    [
        ((), "image only (labels)"),
        (("truth",), "truth (labels)"),
        (("SSHSNet",), "image only (labels), SSHSNet (labels)"),
    ],
)
def test_the_static_picture_shows_what_there_is(displayed: list, names: tuple[str, ...], titles: str) -> None:
    viewer.show({"Case1": view(5, *names)}, interactive=False)
    assert displayed[0].alt.endswith(f": {titles}.")


def test_a_case_opens_at_its_mid_sagittal_slice_with_the_truth_and_the_last_method() -> None:
    widget = Viewer({"Case1": view(5, "truth", "2D", "SSHSNet")})
    assert (widget.case, widget.index, widget.slices, widget.mode) == ("Case1", 2, 5, "labels")
    assert widget.choices == ["truth", "2D", "SSHSNet", "image only"]
    assert widget.panels == ["truth", "SSHSNet"]


def test_every_control_changes_the_picture() -> None:
    widget = Viewer({"Case1": view(5, "truth", "SSHSNet"), "Case2": view(3, "truth", "SSHSNet")})
    seen = [widget.frame.jpeg]
    for name, value in (
        ("opacity", 0.9),
        ("index", 1),
        ("outlines", False),
        ("names", False),
        ("panels", ["SSHSNet"]),
        ("shown", ["L4"]),
        ("mode", "errors"),
        ("mode", "overview"),
        ("panels", ["image only"]),
        ("case", "Case2"),
    ):
        setattr(widget, name, value)
        assert widget.frame.jpeg not in seen, name
        seen.append(widget.frame.jpeg)
    assert widget.slices == 3


def test_panels_stay_where_the_next_case_has_their_labels() -> None:
    widget = Viewer({"Case1": view(5, "truth", "SSHSNet"), "Case2": view(4, "SSHSNet"), "Case3": view(3, "CoTr")})
    widget.case = "Case2"
    assert widget.panels == ["SSHSNet"]
    widget.case = "Case3"
    assert widget.panels == ["CoTr"]


def test_what_does_not_exist_is_refused_and_slices_stop_at_the_volume() -> None:
    widget = Viewer({"Case1": view(5, "truth")})
    with pytest.raises(TraitError, match=r"No case is called 'Case9'; there are Case1\."):
        widget.case = "Case9"
    with pytest.raises(TraitError, match="Case1 has no labels called CoTr"):
        widget.panels = ["CoTr"]
    with pytest.raises(TraitError):
        widget.panels = ["truth"] * 4
    widget.index = 99
    assert widget.index == 4


def test_one_change_of_several_traits_sends_one_frame(sent: list) -> None:
    widget = Viewer({"Case1": view(5, "truth", "SSHSNet"), "Case2": view(3, "truth", "SSHSNet")})
    sent.clear()
    widget.set_state({"index": 1, "opacity": 0.7})
    assert len(sent) == 1
    widget.set_state({"case": "Case2"})
    assert len(sent) == 2
    widget.set_state({"case": "Case2"})
    assert len(sent) == 2


def test_a_message_holds_the_picture_the_labels_under_it_and_the_scores(sent: list) -> None:
    case = view(5, "truth", "SSHSNet")
    half = case.labels["truth"].copy()
    half[:, 30:] = 0
    case.labels["SSHSNet"] = half
    Viewer({"Case1": case})
    content, (jpeg, compressed) = sent[-1]
    height, width, _ = pixels(jpeg).shape
    left, top, w, h = content["panels"][1]["box"]
    assert (left + w, top + h) == (width, height)
    assert [panel["name"] for panel in content["panels"]] == ["truth", "SSHSNet"]
    assert content["panels"][0]["dsc"] is None
    assert content["panels"][1]["dsc"] == {"L4/L5": pytest.approx(2 / 3)}
    assert (content["compared"], content["has_truth"], content["shape"]) == (True, True, (3, 80, 50))
    planes = np.frombuffer(zlib.decompress(compressed), np.uint8).reshape(3, 80, 50)
    assert (planes[0] == case.labels["truth"][2]).all()
    assert (planes[1] == half[2]).all()
    assert (planes[2] == planes[0]).all()


def test_surfaces_are_not_compared_with_the_truth_pixel_by_pixel(sent: list) -> None:
    widget = Viewer({"Case1": view(5, "truth", "SSHSNet")})
    widget.mode = "overview"
    content, (_, compressed) = sent[-1]
    assert not content["compared"]
    assert content["shape"][0] == 2
    assert len(zlib.decompress(compressed)) == np.prod(content["shape"])


def test_a_case_without_truth_says_so(sent: list) -> None:
    Viewer({"Case1": view(5, "SSHSNet")})
    content, _ = sent[-1]
    assert not content["has_truth"]
    assert content["panels"][0]["dsc"] is None


def test_no_picture_is_stored_with_a_notebook() -> None:
    widget = Viewer({"Case1": view(5, "truth")})
    widget.index = 1
    state = ipywidgets.Widget.get_manager_state()["state"][widget.model_id]["state"]
    assert not [name for name, value in widget.get_state().items() if isinstance(value, bytes)]
    assert sum(len(str(value)) for value in state.values()) < 50_000


def test_the_browser_knows_every_structure() -> None:
    widget = Viewer({"Case1": view(5, "truth")})
    assert sorted(s["name"] for s in widget.structures) == sorted(NAMES)
    assert widget.structures[0]["name"] == "T9"
    assert widget.structures[-1] == {"label": 1, "name": "S", "kind": "vertebra", "colour": list(by_name("S").colour)}
