import numpy as np
import pytest

from sshsnet_core.anatomy import N_APART, STRUCTURES, WHOLE, by_name
from sshsnet_core.pictures.overlay import (
    COLOURS,
    View,
    colour_table,
    grey_limits,
    mid_sagittal,
    name_places,
    overlay,
    slice_to_grey,
    square,
    square_scale,
)

GREY = np.full((4, 6), 100, np.uint8)


def test_every_structure_is_blended_with_the_grey_below_it():
    labels = np.arange(20, dtype=np.uint8).reshape(4, 5)
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5) * 12
    rgb = overlay(grey, labels, opacity=0.25)
    assert rgb.shape == (4, 5, 3)
    assert rgb.dtype == np.uint8
    assert rgb[0, 0].tolist() == [0, 0, 0]
    for structure in STRUCTURES:
        row, column = divmod(structure.label, 5)
        for channel in range(3):
            expected = 0.75 * grey[row, column] + 0.25 * structure.colour[channel]
            assert abs(int(rgb[row, column, channel]) - expected) <= 0.5


def test_without_labels_or_opacity_the_slice_stays_grey():
    labels = np.full_like(GREY, 3)
    assert (overlay(GREY) == 100).all()
    assert (overlay(GREY, labels, opacity=0) == 100).all()


@pytest.mark.parametrize(("spacing", "shape"), [((0.5, 1.0), (4, 12)), ((2.0, 1.0), (8, 6)), ((0.3, 0.3), (4, 6))])
def test_pixels_become_square_and_labels_never_mix(spacing, shape):
    labels = np.tile(np.array([1, 2, 3, 11, 12, 13], np.uint8), (4, 1))
    rgb = overlay(GREY, labels, spacing, opacity=1)
    assert rgb.shape == (*shape, 3)
    colours = {structure.colour for structure in STRUCTURES}
    assert {tuple(map(int, pixel)) for pixel in rgb.reshape(-1, 3)} <= colours


def test_the_outline_is_drawn_on_the_border_of_the_truth_only():
    truth = np.zeros((9, 9), np.uint8)
    truth[2:7, 2:7] = 5
    white = (overlay(np.zeros((9, 9), np.uint8), outline=truth) == 255).all(axis=2)
    expected = truth.astype(bool)
    expected[3:6, 3:6] = False
    assert (white == expected).all()


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="opacity"):
        overlay(GREY, opacity=1.5)
    with pytest.raises(ValueError, match="differ in shape"):
        overlay(GREY, np.zeros((6, 4), np.uint8))
    with pytest.raises(ValueError, match="grey values"):
        overlay(GREY.astype(float))


def test_grey_values_span_the_limits():
    plane = np.array([[-5.0, 0.0, 50.0, 100.0, 900.0]])
    assert slice_to_grey(plane, (0.0, 100.0)).tolist() == [[0, 0, 127, 255, 255]]


def test_limits_ignore_the_zero_background_and_refuse_a_constant_volume():
    volume = np.zeros((4, 80, 80), np.float32)
    volume[:, 40:] = np.random.default_rng(0).uniform(100, 200, (4, 40, 80))
    low, high = grey_limits(volume)
    assert 100 < low < 105
    assert 195 < high < 200
    # A mask: its percentiles are one.
    assert grey_limits((volume > 0).astype(np.float32)) == (0, 1)
    for constant in (np.zeros((2, 8, 8)), np.full((2, 8, 8), 7.0), np.full((2, 8, 8), np.nan)):
        with pytest.raises(ValueError, match="nothing to show"):
            grey_limits(constant)


def test_the_mid_sagittal_slice_lies_at_the_middle_of_the_discs():
    labels = np.zeros((11, 8, 8), np.uint8)
    labels[0:9, 5:] = by_name("L4").label
    assert mid_sagittal(labels) == 4
    labels[5:8, 2:4] = by_name("L4/L5").label
    assert mid_sagittal(labels) == 6
    with pytest.raises(ValueError, match="no structure"):
        mid_sagittal(np.zeros((3, 4, 4), np.uint8))


def test_a_view_checks_its_labels():
    image = np.zeros((3, 4, 5), np.float32)
    assert View(image, (4, 1, 1)).middle == 1
    with pytest.raises(ValueError, match="do not cover"):
        View(image, (4, 1, 1), {"truth": np.zeros((3, 5, 4), np.uint8)})
    with pytest.raises(ValueError, match="0 to 19"):
        View(image, (4, 1, 1), {"truth": np.full((3, 4, 5), 20, np.uint8)})
    with pytest.raises(ValueError, match="volume"):
        View(image[0], (4, 1, 1))


def test_margins_that_are_zero_in_every_slice_are_left_out_of_image_and_labels_alike() -> None:
    image = np.zeros((2, 3, 6), np.float32)
    image[0, 1, 2], image[1, 2, 4] = 5, 7
    labels = np.zeros((2, 3, 6), np.uint8)
    labels[1, 2, 4] = 3
    trimmed = View(image, (4.4, 1, 1), {"truth": labels}).without_margins()
    assert trimmed.image.shape == trimmed.labels["truth"].shape == (2, 3, 3)
    assert trimmed.image[0, 1, 0] == 5
    assert trimmed.labels["truth"][1, 2, 2] == 3


def test_arches_have_their_vertebras_colour() -> None:
    assert len(COLOURS) == N_APART
    np.testing.assert_array_equal(COLOURS, COLOURS[list(WHOLE)])


def test_structures_that_are_not_shown_stay_grey() -> None:
    table = colour_table(COLOURS, 1.0, {3}).reshape(N_APART, 256, 3)
    assert (table[3] == STRUCTURES[2].colour).all()
    assert (table[4, 77] == 77).all()
    assert (table[0, 77] == 77).all()


def test_a_plane_is_squared_and_enlarged_by_a_whole_number() -> None:
    assert square(GREY, (0.5, 1.0), 3).shape == (12, 36)
    assert square_scale((0.5, 1.0), 3) == (3.0, 6.0)


def test_a_vertebra_is_named_on_its_body_and_a_disc_at_its_anterior_end() -> None:
    plane = np.zeros((100, 200), np.uint8)
    l4, disc = by_name("L4").label, by_name("L4/L5").label
    plane[10:50, 20:70] = l4
    plane[25:32, 70:160] = l4  # the posterior elements, longer than the body but thin
    plane[70:80, 30:90] = disc
    plane[0, 0] = disc  # an island
    places = name_places(plane)
    assert set(places) == {l4, disc}
    assert places[l4] == pytest.approx((29.5, 44.5), abs=4)
    assert places[disc] == pytest.approx((74.5, 30), abs=1)
    assert name_places(np.zeros((4, 4), np.uint8)) == {}
