"""Neighbours in the column stay apart for every reader.

Colour blindness is simulated by the matrices, for linear RGB, of Machado, Oliveira and Fernandes (2009), at full
severity; differences are Euclidean in CIE Lab (CIE 1976), where 2 to 3 can just be seen side by side.
"""

from itertools import combinations, pairwise

import numpy as np
import pytest
from skimage.color import rgb2lab

from sshsnet_core.anatomy import COLUMN
from sshsnet_core.pictures.errors_map import ERROR_COLOURS

READERS = {
    "no colour blindness": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
#: Ten times what can just be seen; a third of it in lightness alone, which is what grey print keeps.
APART, LIGHTNESS_APART = 25, 9


def seen(colours: np.ndarray, reader: str) -> np.ndarray:
    """CIE Lab (N, 3) of sRGB colours (N, 3), 0 to 255, as the reader sees them."""
    rgb = np.asarray(colours, float) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ READERS[reader].T
    linear = np.clip(linear, 0, 1)
    return rgb2lab(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)[None])[0]


@pytest.mark.parametrize("reader", READERS)
def test_neighbours_differ_in_colour_and_in_lightness(reader: str) -> None:
    lab = seen(np.array([s.colour for s in COLUMN]), reader)
    close = [
        f"{COLUMN[i].name} and {COLUMN[i + 1].name}"
        for i, (one, other) in enumerate(pairwise(lab))
        if np.linalg.norm(one - other) < APART or abs(one[0] - other[0]) < LIGHTNESS_APART
    ]
    assert close == []


@pytest.mark.parametrize("reader", READERS)
def test_the_next_of_its_kind_differs_in_colour(reader: str) -> None:
    lab = seen(np.array([s.colour for s in COLUMN]), reader)
    assert min(np.linalg.norm(lab[2:] - lab[:-2], axis=1)) >= APART


@pytest.mark.parametrize("reader", READERS)
def test_errors_differ_from_each_other_and_from_grey(reader: str) -> None:
    lab = seen(ERROR_COLOURS[1:], reader)
    assert min(np.linalg.norm(one - other) for one, other in combinations(lab, 2)) >= APART
    assert min(np.hypot(lab[:, 1], lab[:, 2])) >= APART


def test_red_and_green_fall_together_for_who_cannot_tell_them() -> None:
    pair = np.array([(160, 60, 40), (90, 95, 40)])
    apart = {reader: np.linalg.norm(np.subtract(*seen(pair, reader))) for reader in READERS}
    assert apart["deuteranopia"] < 0.5 * apart["no colour blindness"]
