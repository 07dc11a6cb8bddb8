from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sshsnet_core.anatomy import by_name
from sshsnet_core.pictures.errors_map import ERROR_COLOURS, Error
from sshsnet_core.pictures.lightbox import NO_LABELS, Frame, Lightbox, Look, Panel
from sshsnet_core.pictures.overlay import View

L4, L3 = by_name("L4").label, by_name("L3").label


def view(**labels: np.ndarray) -> View:
    image = np.ones((1, 70, 50), np.float32)
    image[:, 50:] = 100
    return View(image, (4.4, 0.7, 0.7), labels)


def block(number: int) -> np.ndarray:
    labels = np.zeros((1, 70, 50), np.uint8)
    labels[0, 20:40, 10:30] = number
    return labels


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(jpeg)).convert("RGB")).astype(int)


def panel(frame: Frame, number: int) -> np.ndarray:
    left, top, width, height = frame.boxes[number]
    return pixels(frame.jpeg)[top : top + height, left : left + width]


def test_superior_is_up_and_anterior_is_left() -> None:
    volume = np.ones((1, 80, 50), np.float32)
    volume[0, :20, :12] = 100
    picture = panel(Lightbox(View(volume, (4.4, 0.7, 0.7))).frame([Panel(NO_LABELS)], Look(0)), 0).sum(axis=2)
    height, width = picture.shape
    corners = picture[[20, 20, -20, -20], [20, -20, 20, -20]]
    assert corners.argmax() == 0
    assert corners[0] > 10 * corners[1:].max()
    # The letters are yellow marks at the middle of each edge.
    marks = picture[height // 2 - 10 : height // 2 + 10, : width // 10]
    assert marks.max() > 300


def test_panels_stand_side_by_side_over_their_labels() -> None:
    frame = Lightbox(view(truth=block(L3), SSHSNet=block(L4))).frame(
        [Panel(NO_LABELS), Panel("truth"), Panel("SSHSNet")], Look(0, opacity=1, outlines=False, names=False)
    )
    assert frame.planes.shape == (3, 70, 50)
    assert frame.planes[:, 30, 20].tolist() == [0, L3, L4]
    assert frame.truth is not None
    assert frame.truth[30, 20] == L3
    for number, colour in ((1, by_name("L3").colour), (2, by_name("L4").colour)):
        assert abs(panel(frame, number)[300, 200] - colour).max() < 8
    lefts = [left for left, *_ in frame.boxes]
    assert np.diff(lefts).tolist() == [frame.boxes[0][2] + 4] * 2


@pytest.mark.parametrize(
    ("labels", "truth", "error"), [(0, L4, Error.MISSED), (L4, 0, Error.INVENTED), (L3, L4, Error.WRONG_NAME)]
)
def test_errors_have_their_colours(labels: int, truth: int, error: Error) -> None:
    box = Lightbox(view(truth=block(truth), SSHSNet=block(labels)))
    look = Look(0, opacity=1, outlines=False, names=False)
    frame = box.frame([Panel("SSHSNet", "errors")], look)
    assert abs(panel(frame, 0)[300, 200] - ERROR_COLOURS[error].astype(int)).max() < 8
    # Where neither name is shown, neither is the error; a truth that is shown keeps its true error.
    hidden = panel(box.frame([Panel("SSHSNet", "errors")], Look(0, 1, False, False, frozenset({1}))), 0)
    assert np.ptp(hidden[300, 200]) < 8
    if truth:
        alone = panel(box.frame([Panel("SSHSNet", "errors")], Look(0, 1, False, False, frozenset({truth}))), 0)
        assert abs(alone[300, 200] - ERROR_COLOURS[error].astype(int)).max() < 8


def test_hidden_structures_stay_grey_and_lose_their_outline() -> None:
    box = Lightbox(view(truth=block(L4), SSHSNet=block(L4)))
    bare = panel(box.frame([Panel(NO_LABELS)], Look(0)), 0)
    hidden = panel(box.frame([Panel("SSHSNet")], Look(0, shown=frozenset({L3}))), 0)
    # JPEG lets the titles above shine through a little.
    assert abs(hidden - bare)[16:].max() < 8
    outlined = panel(box.frame([Panel("SSHSNet")], Look(0, opacity=0, names=False)), 0)
    assert abs(outlined - bare).max() > 100


def test_names_stand_on_the_body() -> None:
    box = Lightbox(view(truth=block(L4)))
    named = panel(box.frame([Panel("truth")], Look(0)), 0)
    bare = panel(box.frame([Panel("truth")], Look(0, names=False)), 0)
    rows, columns = np.nonzero(abs(named - bare).max(axis=2) > 60)
    assert rows.mean() == pytest.approx(300, abs=6)
    assert columns.mean() == pytest.approx(200, abs=6)


def test_without_truth_there_are_no_errors_but_labels() -> None:
    box = Lightbox(view(SSHSNet=block(L4)))
    frame = box.frame([Panel("SSHSNet", "errors")], Look(0, opacity=1, names=False))
    assert frame.truth is None
    assert abs(panel(frame, 0)[300, 200] - by_name("L4").colour).max() < 8
    assert box.dsc("SSHSNet") is None


def test_the_dsc_is_of_the_whole_volume() -> None:
    box = Lightbox(view(truth=block(L4), SSHSNet=block(L3)))
    assert box.dsc("SSHSNet") == {"L4": 0.0, "L3": 0.0}
    assert box.dsc("truth") is None


def test_the_overview_shows_the_front_and_the_left_side() -> None:
    frame = Lightbox(view(truth=block(L4))).frame([Panel("truth", "overview")], Look(0))
    assert frame.truth is None
    assert set(np.unique(frame.planes)) == {0, L4}
    columns = np.flatnonzero(frame.planes[0].any(axis=0))
    assert np.diff(columns).max() > 8


def test_what_a_case_does_not_have_is_refused() -> None:
    box = Lightbox(view(truth=block(L4)))
    with pytest.raises(ValueError, match="no labels CoTr"):
        box.frame([Panel("CoTr")], Look(0))
    with pytest.raises(ValueError, match="no panels"):
        box.frame([], Look(0))
    with pytest.raises(ValueError, match="between 0 and 0, not 1"):
        box.frame([Panel("truth")], Look(1))
