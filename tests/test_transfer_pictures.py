"""Pictures of scans without a truth: what is shown beside what, and what counts as eaten."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sshsnet_core.anatomy import ARCHES, by_name
from sshsnet_core.pictures.overlay import View
from sshsnet_core.pictures.transfer import compared, kind_shares, kind_shares_figure

L5, DISC, ARCH = by_name("L5").label, by_name("L4/L5").label, ARCHES[0].label


def maps(vertebra: int, disc: int, arch: int) -> np.ndarray:
    """(2, 10, 10) with so many pixels of each in both branches."""
    labels = np.zeros((2, 100), np.uint8)
    labels[:, :vertebra], labels[:, 20 : 20 + disc], labels[:, 40 : 40 + arch] = L5, DISC, ARCH
    return labels.reshape(2, 10, 10)


def test_shares_are_percent_of_the_pixels_by_epoch() -> None:
    shares = kind_shares({1: maps(20, 5, 10), 4: maps(20, 4, 5)})
    assert shares.index.tolist() == [1, 4]
    assert shares.to_numpy().tolist() == pytest.approx(np.array([[20, 5, 10], [20, 4, 5]]))


def test_a_kind_that_is_eaten_falls() -> None:
    figure = kind_shares_figure(kind_shares({1: maps(20, 5, 10), 4: maps(20, 4, 5)}), "Words.")
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert list(lines["arches"]) == [100, 50]
    assert list(lines["vertebrae"]) == [100, 100]


def test_where_arches_are_not_told_apart_they_have_no_line() -> None:
    figure = kind_shares_figure(kind_shares({1: maps(20, 5, 0), 2: maps(10, 5, 0)}), "Words.")
    assert "arches" not in {line.get_label() for line in figure.axes[0].lines}


def test_the_bare_image_stands_beside_every_labelling() -> None:
    image = np.random.default_rng(0).random((3, 20, 10)).astype(np.float32)
    labels = np.full(image.shape, L5, np.uint8)
    wide, narrow = (
        compared(View(image, (4.0, 1.0, 1.0), dict.fromkeys(names, labels))) for names in (["a", "b"], ["a"])
    )
    assert "image, a, b" in wide.alt
    assert Image.open(BytesIO(wide.data)).width > 1.3 * Image.open(BytesIO(narrow.data)).width
