"""Figures 1 and 2: arrows stand where made-up labels say they must."""

import numpy as np
import pytest
from matplotlib.text import Text

from sshsnet_core.anatomy import by_name
from sshsnet_core.pictures.challenges import alike, challenges_figure, example_figure, partial_volume, sacrum, uneven
from sshsnet_core.pictures.overlay import View

ROW, COLUMN = 2.0, 1.0  # mm
CAPTION = "Case1, cohort phantom, profile smoke."
#: Rows of the bodies, 10 each, from the top: L2, L3, L4, L5; then S; discs of 3 rows between.
TOPS = {"L2": 5, "L3": 18, "L4": 31, "L5": 44, "S": 57}


def column() -> View:
    """A straight spine of boxes: bodies in columns 30 to 59, arches in columns 75 to 94 of the middle slice only."""
    image = np.random.default_rng(0).uniform(90, 91, (5, 90, 110)).astype(np.float32)
    labels = np.zeros(image.shape, np.uint8)
    for name, top in TOPS.items():
        height = 30 if name == "S" else 10
        labels[:, top : top + height, 30:60] = by_name(name).label
        if name != "S":
            labels[2, top + 2 : top + 7, 75:95] = by_name(name).label
    for name, top in (("L2/L3", 15), ("L3/L4", 28), ("L4/L5", 41), ("L5/S", 54)):
        labels[:, top : top + 3, 30:60] = by_name(name).label
    return View(image, (4.4, ROW, COLUMN), {"truth": labels})


def test_uneven_finds_the_dark_and_the_bright_end_of_one_vertebra() -> None:
    view = column()
    view.image[2, 31:41, 30:40] = 40
    view.image[2, 31:41, 50:60] = 160
    # Bright fat beside a vertebra does not make it uneven.
    view.image[2, 44:54, 60:70] = 900
    spot = uneven(view)
    (_, dark), (_, bright) = spot.arrows
    assert (spot.slice, spot.title) == (2, "L4")
    assert 30 < dark < 40
    assert 50 < bright < 60


def test_partial_volume_points_at_what_the_next_slice_loses() -> None:
    view = column()
    labels = view.labels["truth"]
    labels[1:4, 20:25, 75:100] = by_name("L3").label
    spots = partial_volume(view)
    assert [spot.slice for spot in spots] == [2, 3, 4]
    assert [spot.title for spot in spots] == ["L3, slice 3", "L3, slice 4", "L3, slice 5"]
    # Rows 20 to 24 and columns 75 to 99, which slice 3 (counted from 0) has and slice 4 has not.
    (row, col), = spots[1].arrows  # fmt: skip
    assert (row, col) == pytest.approx((22.5 * ROW, 87.5 * COLUMN))


def test_alike_takes_the_most_similar_neighbours_but_not_the_topmost() -> None:
    view = column()
    view.image[2, 44:54, 30:60] = 200
    first, second = alike(view)
    assert (first.title, second.title) == ("L4?", "L3?")
    assert first.arrows == (pytest.approx((36 * ROW, 45 * COLUMN)),)


def test_the_sacrum_s_joint_lies_a_vertebra_below_the_disc() -> None:
    (disc, joint), spot = sacrum(column(), "usual").arrows, sacrum(column(), "usual")
    assert disc == pytest.approx((55.5 * ROW, 45 * COLUMN))
    assert 30 < joint[0] - disc[0] < 38
    assert joint[1] == pytest.approx(45 * COLUMN, abs=1)
    assert spot.title == "S, usual"


def test_figure_2_has_eight_panels_and_names_the_variant() -> None:
    figure = challenges_figure(column(), column(), "lumbarised", CAPTION)
    assert [axes.get_xlabel() for axes in figure.axes][-2:] == ["S, usual", "S, lumbarised"]
    assert len(figure.axes) == 8
    written = " ".join(text.get_text() for text in figure.findobj(Text)).replace("\n", " ")
    assert all(f"({letter})" in written for letter in "abcd")
    assert CAPTION in written


def test_figure_1_lists_the_column_from_the_top_and_says_what_is_out_of_view() -> None:
    figure = example_figure(column(), CAPTION)
    (legend,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    names = [text.get_text() for text in legend.get_texts()]
    assert len(names) == 20
    assert names[:2] == ["T9, out of view", "T9/T10, out of view"]
    assert names[-4:] == ["L5", "L5/S", "S", "BG"]
    assert sorted(text.get_text() for text in figure.axes[1].texts) == sorted(
        [*TOPS, "L2/L3", "L3/L4", "L4/L5", "L5/S"]
    )


def test_a_case_without_labels_or_with_too_few_is_refused() -> None:
    bare = View(column().image, (4.4, ROW, COLUMN))
    for draw in (lambda: example_figure(bare, CAPTION), lambda: challenges_figure(bare, bare, "usual", CAPTION)):
        with pytest.raises(ValueError, match="no labels"):
            draw()
    view = column()
    view.labels["truth"][view.labels["truth"] == by_name("L5/S").label] = 0
    with pytest.raises(ValueError, match="L5/S"):
        sacrum(view, "usual")
