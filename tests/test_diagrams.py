"""Figures 3 to 6: they say what the settings say, their texts fit, and nothing overlaps."""

import itertools
from functools import cache

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from sshsnet_core.networks.shapes import Layer, sshsnet_layers
from sshsnet_core.pictures.architecture import cps_figure, overview_figure
from sshsnet_core.pictures.architecture_ctam import ctam_figure
from sshsnet_core.pictures.architecture_deeplab import deeplab2d_figure, deeplab3d_figure
from sshsnet_core.pictures.diagram import LOSS, Box, Diagram
from sshsnet_core.settings import Settings, load_settings

FIGURES = {f.__name__: f for f in (overview_figure, deeplab2d_figure, cps_figure, deeplab3d_figure, ctam_figure)}


@cache
def draw(name: str, profile: str = "smoke", **changes: object) -> Figure:
    return FIGURES[name](*layers_and_settings(profile, **changes))


@cache
def layers_and_settings(profile: str, **changes: object) -> tuple[dict[str, Layer], Settings]:
    settings = load_settings(profile).changed({key.replace("__", "."): value for key, value in changes.items()})
    return sshsnet_layers(settings), settings


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


# The shortest and the longest numbers.
@pytest.mark.parametrize("profile", ["smoke", "paper"])
@pytest.mark.parametrize("name", FIGURES)
def test_texts_fit_their_boxes_and_boxes_keep_apart(name: str, profile: str) -> None:
    figure = draw(name, profile)
    figure.draw_without_rendering()
    patches = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    boxes = [patch.get_window_extent() for patch in patches if patch.get_zorder() > 0]
    words = [text for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) > 8
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for text in words:
        extent = text.get_window_extent()
        assert text.get_fontsize() >= 5.5
        assert all(not box.overlaps(extent) or _inside(extent, box) for box in boxes), text.get_text()
    for one, other in itertools.combinations([text.get_window_extent() for text in words], 2):
        # Lines of one box may touch: a subscript reaches down.
        width = min(one.x1, other.x1) - max(one.x0, other.x0)
        height = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert width <= 0 or height <= 0.25 * min(one.height, other.height)


def _inside(inner: Bbox, outer: Bbox) -> bool:
    return outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1


@pytest.mark.parametrize("name", FIGURES)
def test_the_ground_is_white_and_opaque_and_the_caption_names_the_profile(name: str) -> None:
    figure = draw(name)
    assert figure.get_facecolor() == (1, 1, 1, 1)
    assert all(patch.get_facecolor()[3] == 1 for patch in figure.findobj(FancyBboxPatch))
    assert any("profile smoke" in text.replace("\n", " ") for text in texts(figure))


def test_rates_and_channels_of_the_2d_network_are_drawn() -> None:
    written = texts(draw("deeplab2d_figure"))
    assert [text for text in written if "rate" in text] == [f"SepConv 3×3, rate {rate}" for rate in (1, 2, 3)]
    assert "80 → 16 channels" in written
    assert "16×28×14" in written
    changed = {"network_2d__atrous_rates": (2, 5, 7), "network_2d__decoder_channels": 24}
    written = texts(draw("deeplab2d_figure", **changed))
    assert [text for text in written if "rate" in text] == [f"SepConv 3×3, rate {rate}" for rate in (2, 5, 7)]
    assert "120 → 24 channels" in written


def test_blocks_kernels_and_rates_of_the_3d_network_are_drawn() -> None:
    written = texts(draw("deeplab3d_figure"))
    assert written.count("SR × 1") == 4
    assert {"k 1×7×7", "s 1×2×2", "p 0×3×3", "d 1×3×3, p 0×3×3", "k 3×3×3", "16×12×16×12", "4 groups"} <= set(written)
    changed = {"network_3d__stage_blocks": (2, 1, 3, 1), "network_3d__atrous_rates": (1, 2, 5)}
    written = texts(draw("deeplab3d_figure", **changed))
    assert [text for text in written if text.startswith("SR ×")] == ["SR × 2", "SR × 1", "SR × 3", "SR × 1"]
    assert "d 1×5×5, p 0×5×5" in written


def test_ctam_s_sizes_and_form_are_drawn() -> None:
    written = texts(draw("ctam_figure"))
    # 16 channels, 12 slices, 16x12 positions: beta is 16 x 192, 16 x 12 and 12 x 192.
    assert {"3072", "192", "2304", "12×384", "192×24", "32×2304", "192×192"} <= set(written)
    assert r"$\gamma_3$" in written
    assert "(a) CTAM, form: residual" in written
    assert r"$\gamma_3$" not in texts(draw("ctam_figure", network_3d__ctam="printed"))


def test_the_overview_shows_a_volume_and_a_patch() -> None:
    written = texts(draw("overview_figure"))
    assert {"12×220×112", "12×3×110×56", "20×12×220×112", "32×12×56×28", "21×12×64×48", "32×12×16×12"} <= set(written)
    assert "21×12×32×64" in texts(draw("overview_figure", patch=(12, 32, 64)))
    caption = " ".join(draw("overview_figure", network_2d__decoder_channels=24).texts[-1].get_text().split())
    assert "C3: decoder channels (24 in 2D, 16 in 3D; C4 = 2 C3 of the latter)" in caption


def test_the_batch_and_the_weight_of_cps_are_drawn() -> None:
    assert "2×20×110×56" in texts(draw("cps_figure"))
    written = texts(draw("cps_figure", cps__weight=0.5))
    assert any(r"$\lambda$ = 0.5" in text for text in written)


def test_a_chain_joins_the_sides_that_face_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    arrows = []
    monkeypatch.setattr(Diagram, "arrow", lambda self, *points: arrows.append(points))
    d = Diagram(2)
    a, b, c = (d.module(Box(x, y, 1, 0.5), ["a"], LOSS) for x, y in ((1, 0.5), (3, 0.5), (3, 1.5)))
    d.chain(a, b, c, a)
    assert arrows == [((1.5, 0.5), (2.5, 0.5)), ((3, 0.75), (3, 1.25)), ((2.5, 1.5), (1.5, 0.5))]
    d.finish("")
