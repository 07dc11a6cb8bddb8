"""The picture of CPS's pseudo labels, on labels written by hand."""

import math

import numpy as np
import pytest

from sshsnet_core.pictures.pseudo_labels import agreement, pseudo_labels_figure

IMAGE = np.random.default_rng(0).standard_normal((40, 20)).astype(np.float32)


def labels(first: int, second: int) -> np.ndarray:
    both = np.zeros((2, 40, 20), np.uint8)
    both[0, 5:15, 5:15], both[1, 10:15, 5:15] = first, second
    return both


def test_agreement_is_counted_where_either_branch_sees_a_structure() -> None:
    assert agreement(labels(3, 3)) == pytest.approx(50)  # 50 of 100 pixels
    assert agreement(labels(3, 4)) == 0
    assert math.isnan(agreement(labels(0, 0)))


def test_six_epochs_are_shown_and_all_are_counted() -> None:
    history = {epoch: labels(3, 3 if epoch > 10 else 4) for epoch in range(1, 21)}
    figure = pseudo_labels_figure(IMAGE, history, 15, "A caption.")
    pictures, curve = figure.subfigs
    titles = [axes.get_title() for axes in pictures.axes if axes.get_title()]
    assert titles == ["epoch 1", "epoch 5", "epoch 9", "epoch 12", "epoch 16", "epoch 20"]
    line, begins = curve.axes[0].lines
    assert line.get_ydata()[[0, 9, 10, 19]].tolist() == [0, 0, 50, 50]
    assert set(begins.get_xdata()) == {15}
    # The third row: where the names differ, and nowhere else.
    last = pictures.axes[2 * 6 + 5].images[0].get_array()
    pink = (np.asarray(last) == (238, 51, 119)).all(axis=-1)
    np.testing.assert_array_equal(pink, labels(3, 3)[0] != labels(3, 3)[1])


def test_nothing_written_down_says_so() -> None:
    with pytest.raises(ValueError, match="no pseudo labels"):
        pseudo_labels_figure(IMAGE, {}, 1, "")
