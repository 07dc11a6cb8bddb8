import itertools
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from PIL import Image

from sshsnet_core.evaluation.paper import TABLE_1
from sshsnet_core.evaluation.summary import summarise
from sshsnet_core.evaluation.tables import rows_of
from sshsnet_core.methods.rows import INDUCTIVE, TITLES
from sshsnet_core.pictures.figures import contact_sheet, learning_curves, mean_bars, picture, save, side_by_side
from sshsnet_core.pictures.overlay import View

CAPTION = "Cohort phantom, profile smoke, fold 0."


def view(*methods):
    image = np.random.default_rng(0).uniform(1, 100, (3, 60, 40)).astype(np.float32)
    labels = np.zeros((3, 60, 40), np.uint8)
    for label in range(1, 6):
        labels[:, 50 - 10 * label : 57 - 10 * label, 10:25] = label
    labels[:, 7:10, 10:25] = 15
    return View(image, (4.4, 0.7, 0.7), dict.fromkeys(("truth", *methods), labels))


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text)]


@pytest.fixture
def summary():
    scores = [("SSHSNet", "Case1", "L5", 0.9), ("SSHSNet", "Case1", "L4", 0.7), ("SSHSNet", "Case2", "L5", 0.5)]
    frame = pd.DataFrame(scores, columns=["method", "case", "structure", "value"])
    return summarise(frame.assign(fold="0", split="validation", metric="dsc"), TABLE_1)


def test_mean_bars_have_measured_and_published_bars_on_panels_of_their_own(summary):
    figure = mean_bars(summary, list(TABLE_1), CAPTION)
    measured, published = figure.axes
    assert sorted(bar.get_width() for bar in measured.patches) == pytest.approx([65, 70])
    assert sorted(bar.get_width() for bar in published.patches) == pytest.approx(
        [72.86, 74.66, 75.60, 82.44, 82.72, 86.09], abs=0.01
    )
    assert texts(figure).count("not run yet") == 5
    assert any(CAPTION in text for text in texts(figure))


def test_mean_bars_draw_the_intervals_that_are_given(summary):
    intervals = pd.DataFrame(
        [
            ("SSHSNet", "mean of subjects", 60.0, 72.5),
            ("SSHSNet", "mean of classes", np.nan, np.nan),
            ("SSHSNet", "p", np.nan, np.nan),
        ],
        columns=["row", "statistic", "low", "high"],
    )
    figure = mean_bars(summary, list(TABLE_1), CAPTION, intervals)
    measured, published = figure.axes
    drawn = [line.get_xdata() for line in measured.lines]
    assert any(np.array_equal(ends, [60, 72.5]) for ends in drawn)
    assert not any(np.ptp(ends) > 0 for ends in drawn if ends[1] != 72.5)
    assert all(np.ptp(line.get_xdata()) == 0 for line in published.lines)
    assert any("95 % intervals" in text for text in texts(figure))
    assert not any("95 % intervals" in text for text in texts(mean_bars(summary, list(TABLE_1), CAPTION)))


def test_a_row_of_our_own_has_no_published_bar(summary):
    _, published = mean_bars(summary.iloc[:0], TITLES[2], CAPTION).axes
    assert [text.get_text() for text in published.texts].count("not published") == len(TITLES[2])
    frame = pd.DataFrame([(INDUCTIVE.title, "Case1", "L5", 0.9)], columns=["method", "case", "structure", "value"])
    frame = frame.assign(fold="0+1", split="test", metric="dsc")
    figure = mean_bars(summarise(frame, rows_of(2, TITLES[2]), "test"), TITLES[2], CAPTION)
    assert len(figure.axes[1].patches) == 5
    assert texts(figure).count("not published") == 1


@pytest.mark.parametrize("number", [1, 2])
def test_titles_of_six_methods_do_not_overlap_and_stay_on_the_page(number):
    methods = TITLES[number]
    figure = side_by_side({"Case1": view(*methods)}, methods, CAPTION)
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert len(boxes) == 8
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_side_by_side_has_a_row_a_case_and_shows_what_is_missing():
    figure = side_by_side({"Case1": view("SSHSNet"), "Case2": view()}, ["SSHSNet"], CAPTION)
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 1, 1, 0]
    written = texts(figure)
    assert written.count("not run yet") == 1
    # In the legend once, on the truth of both cases.
    assert written.count("L1/L2") == written.count("L5") == 3
    assert "L3/L4" not in written


def test_the_contact_sheet_names_every_case():
    cases = {f"Case{i}": view() for i in range(1, 6)}
    figure = contact_sheet(cases, CAPTION, columns=3)
    assert [axes.get_title() for axes in figure.axes] == ["Case1", "Case2", "Case3", "Case4", "Case5", ""]


def test_learning_curves_draw_every_quantity_of_every_history():
    epochs = pd.DataFrame({"epoch": [1, 2], "loss": [1.0, 0.5]})
    figure = learning_curves({"SSHSNet": epochs, "SSHSNet-3D": epochs.assign(learning_rate=0.1)}, CAPTION)
    assert [axes.get_title() for axes in figure.axes] == ["loss", "learning rate"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 1]
    assert figure.axes[1].lines[0].get_color() == figure.axes[0].lines[1].get_color()
    with pytest.raises(ValueError, match="No column epoch in the history of b"):
        learning_curves({"a": epochs, "b": epochs.drop(columns="epoch")}, CAPTION)


def test_empty_figures_are_refused():
    for draw in (lambda: side_by_side({}, [], CAPTION), lambda: contact_sheet({}, CAPTION)):
        with pytest.raises(ValueError, match="no cases"):
            draw()
    with pytest.raises(ValueError, match="No histories"):
        learning_curves({}, CAPTION)


def test_saving_writes_both_files_whole_and_the_same_each_time(tmp_path, summary):
    paths = save(mean_bars(summary, list(TABLE_1), CAPTION), tmp_path / "deep" / "figure7")
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["figure7.png", "figure7.svg"]
    first = [path.read_bytes() for path in paths]
    assert b"<svg" in first[0]
    picture = np.asarray(Image.open(BytesIO(first[1])))
    assert (picture[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
    save(mean_bars(summary, list(TABLE_1), CAPTION), tmp_path / "deep" / "figure7")
    assert [path.read_bytes() for path in paths] == first


def test_nothing_is_drawn_over_legend_or_caption():
    figure = side_by_side({"Case1": view("SSHSNet")}, ["SSHSNet"], CAPTION)
    figure.draw_without_rendering()
    lowest = min(axes.get_tightbbox().y0 for axes in figure.axes)
    legend = figure.legends[0].get_window_extent()
    caption = next(text for text in figure.texts if CAPTION in text.get_text()).get_window_extent()
    assert lowest > legend.y1 > legend.y0 > caption.y1


def test_a_picture_for_a_notebook_is_a_small_jpeg_with_its_caption_as_text():
    figure = contact_sheet({f"Case{n}": view() for n in range(6)}, CAPTION)
    shown = picture(figure)
    assert Image.open(BytesIO(shown.data)).format == "JPEG"
    _, metadata = shown._repr_mimebundle_()
    assert metadata["image/jpeg"]["alt"] == CAPTION
