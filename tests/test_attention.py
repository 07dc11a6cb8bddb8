"""The pictures of CTAM's attention, on matrices written by hand."""

import numpy as np
import pytest

from sshsnet_core.pictures.attention import AttentionView, attention_figure, explore


def view(at: tuple[int, int, int] = (1, 9, 5)) -> AttentionView:
    """A patch of 3 slices of 16 by 8, H W = 4 * 2 positions, 6 channels of which number 4 stands out at ``at``."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((6, 3, 4, 2)).astype(np.float32)
    features[4, 1, 2, 1] = 50
    even = [np.full((n, n), 1 / n, np.float32) for n in (3, 8, 6)]
    return AttentionView(rng.standard_normal((3, 16, 8)), (4.4, 0.7, 0.7), at, *even, features)


def test_the_voxel_is_found_among_the_positions() -> None:
    # Rows 8 to 11 are the third of four, columns 4 to 7 the second of two.
    assert view().token == 2 * 2 + 1
    assert view().looking_from(0, 0, 0).token == 0
    assert view().looking_from(2, 15, 7).token == 7


def test_the_channel_that_stands_out_is_found() -> None:
    assert view().strongest == 4


def test_a_voxel_outside_the_patch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 16, 5\) lies outside the patch \(3, 16, 8\)"):
        view().looking_from(1, 16, 5)


def test_even_attention_is_drawn_as_one_even_share_everywhere() -> None:
    figure = attention_figure(view(), "A caption.")
    panels = figure.axes[:9]
    assert [panel.get_title() for panel in panels[::3]] == [
        "inter-slice: A, 3 slices",
        "intra-slice: A, 8 positions",
        "channel: A, 6 channels (F1, F2)",
    ]
    for panel in panels[::3]:
        np.testing.assert_allclose(panel.images[0].get_array(), 1, rtol=1e-6)
    reads = panels[4].images[1].get_array()
    assert reads.shape == (4, 2)
    np.testing.assert_allclose(reads, 1, rtol=1e-6)
    assert "A caption." in figure.texts[-1].get_text()
    # The last two panels show what channels hold, not shares of attention.
    bars = [axes.get_ylabel() for axes in figure.axes[9:]]
    assert bars == [*7 * ["x even share"], "feature value", "feature value"]


def test_what_a_position_reads_is_drawn_where_it_lies() -> None:
    looked = view()
    looked.intra_slice[looked.token] = np.eye(8)[3]  # the second row, second column
    reads = attention_figure(looked, "").axes[4].images[1].get_array()
    np.testing.assert_allclose(reads, [[0, 0], [0, 8], [0, 0], [0, 0]])


def test_the_sliders_move_the_voxel() -> None:
    box = explore(view(), "A caption.")
    (z, row, column), shown = box.children[0].children, box.children[1]
    assert [(s.value, s.max) for s in (z, row, column)] == [(1, 2), (9, 15), (5, 7)]
    assert shown.layout.display == "none"  # until a slider is moved: the figure itself stands above
    z.value = 2
    first = bytes(shown.value)
    row.value = 0
    assert first.startswith(b"\xff\xd8")
    assert first != bytes(shown.value)
    assert shown.layout.display == "block"
