"""CoTr: its published size, its parts against their formulas, its outputs, and the sizes that it refuses."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sshsnet_core.anatomy import N_CLASSES
from sshsnet_core.networks.cotr import (
    ConvNorm,
    CoTr,
    Decoder,
    DeformableTransformer,
    Encoder,
    TransformerLayer,
    position_code,
)
from sshsnet_core.networks.deformable_attention import Order, reference_points
from sshsnet_core.settings import PROFILES, CoTrSettings, load_settings

CPU = torch.device("cpu")
SMOKE = load_settings("smoke").cotr
PATCH = (8, 32, 48)


def network(order: Order = "corrected") -> CoTr:
    """At the size of the smoke profile, with nothing left at 0: a new attention does not yet look at its queries."""
    torch.manual_seed(0)
    cotr = CoTr(SMOKE, order=order)
    with torch.no_grad():
        for name, parameter in cotr.named_parameters():
            if not parameter.any() or "offsets" in name:
                parameter.normal_(std=0.3)
    return cotr


def image(n: int = 2) -> Tensor:
    return torch.randn(n, 1, *PATCH, generator=torch.Generator().manual_seed(1))


def millions(*modules: nn.Module) -> float:
    return sum(parameter.numel() for module in modules for parameter in module.parameters()) / 1e6


def test_published_size() -> None:
    with torch.device("meta"):
        cotr = CoTr(CoTrSettings(), classes=20)
    assert millions(cotr) == pytest.approx(41.88, abs=0.01)
    assert millions(cotr.encoder) == pytest.approx(20.50, abs=0.01)
    assert millions(cotr.transformer) == pytest.approx(9.32, abs=0.01)
    assert millions(cotr.decoder, cotr.head, cotr.side_heads) == pytest.approx(12.06, abs=0.01)
    assert [millions(block) for block in cotr.decoder.blocks] == pytest.approx([7.96, 1.99, 0.22], abs=0.01)
    assert [millions(step) for step in cotr.decoder.upsample] == pytest.approx([1.18, 0.59, 0.10], abs=0.01)


def test_published_shapes() -> None:
    with torch.device("meta"):
        cotr, x = CoTr(CoTrSettings()), torch.empty(2, 1, 8, 640, 320)
        features, scores = cotr.encoder(x), cotr(x)
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (64, 8, 320, 160),
        (192, 4, 160, 80),
        (384, 2, 80, 40),
        (384, 1, 40, 20),
    ]
    assert [tuple(score.shape) for score in scores] == [
        (2, 20, 8, 640, 320),
        (2, 20, 8, 320, 160),
        (2, 20, 4, 160, 80),
        (2, 20, 2, 80, 40),
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_builds_it(profile: str) -> None:
    settings = load_settings(profile).cotr
    assert (settings.heads, settings.points) == (6, 4)
    with torch.device("meta"):
        scores = CoTr(settings)(torch.empty(1, 1, 8, 320, 160))
    assert scores[0].shape == (1, N_CLASSES, 8, 320, 160)


def normalised(x: Tensor, norm: nn.Module) -> Tensor:
    """Instance normalisation: each channel of each sample by its own mean and variance."""
    mean, variance = x.mean((2, 3, 4), keepdim=True), x.var((2, 3, 4), correction=0, keepdim=True)
    weight, bias = (p.view(1, -1, 1, 1, 1) for p in (norm.weight, norm.bias))
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def conv_norm(x: Tensor, module: ConvNorm, stride: int | tuple[int, int, int]) -> Tensor:
    convolution, norm = module
    padding = convolution.weight.shape[-1] // 2
    return normalised(F.conv3d(x, convolution.weight, None, stride, padding), norm)


def active(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.01 * x)


def test_encoder_is_the_published_one() -> None:
    torch.manual_seed(0)
    encoder = Encoder(SMOKE.model_copy(update={"stage_blocks": (2, 1, 3)}), in_channels=1)
    x, expected = image(), []
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_(std=0.3)
        features = encoder(x)
        expected.append(active(conv_norm(x, encoder.stem, (1, 2, 2))))
        for stage in encoder.stages:
            first, *later = stage
            x = active(conv_norm(expected[-1], first.residual, 2) + conv_norm(expected[-1], first.shortcut, 2))
            for block in later:
                x = active(conv_norm(x, block.residual, 1) + x)
            expected.append(x)
    assert [len(stage) for stage in encoder.stages] == [2, 1, 3]
    for feature, by_hand in zip(features, expected, strict=True):
        torch.testing.assert_close(feature, by_hand, atol=1e-4, rtol=1e-4)


def test_encoder_starts_from_kaiming_s_normal_distribution_by_fan_out() -> None:
    torch.manual_seed(0)
    for name, parameter in Encoder(SMOKE, in_channels=1).requires_grad_(False).named_parameters():
        if parameter.ndim == 5:
            outputs, _, *kernel = parameter.shape
            assert parameter.std().item() == pytest.approx((2 / (outputs * math.prod(kernel))) ** 0.5, rel=0.25), name
        else:
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight")))), name


def test_decoder_is_the_published_one() -> None:
    torch.manual_seed(0)
    decoder = Decoder(SMOKE)
    c0, c1, c2 = SMOKE.channels
    f0, f1, f2, f3 = (
        torch.randn(2, channels, *size)
        for channels, size in ((c0, (8, 16, 24)), (c1, (4, 8, 12)), (c2, (2, 4, 6)), (c2, (1, 2, 3)))
    )
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(std=0.3)
        decoded = decoder([f0, f1, f2, f3])
        x, expected = f3, []
        for upsample, block, skip in zip(decoder.upsample, decoder.blocks, (f2, f1, f0), strict=True):
            x = F.conv_transpose3d(x, upsample.weight, stride=2) + skip
            x = active(conv_norm(active(conv_norm(x, block.first, 1)), block.second, 1)) + x
            expected.insert(0, x)
    for result, by_hand in zip(decoded, expected, strict=True):
        torch.testing.assert_close(result, by_hand, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("size", "channels"), [((3, 2, 5), 24), ((1, 4, 2), 384), ((2, 2, 2), 15)])
def test_position_code_is_the_formula(size: tuple[int, int, int], channels: int) -> None:
    code = position_code(size, channels, CPU)
    share = channels // 3
    expected = []
    for place in ((z, y, x) for z in range(size[0]) for y in range(size[1]) for x in range(size[2])):
        row = []
        for k, length in zip(place, size, strict=True):
            coordinate = (k + 1 - 0.5) / length * 2 * math.pi
            for i in range(share):
                angle = coordinate / 10000 ** (3 * (i // 3) / share)
                row.append(math.sin(angle) if i % 2 == 0 else math.cos(angle))
        expected.append(row)
    torch.testing.assert_close(code, torch.tensor(expected), atol=1e-5, rtol=0)


def test_transformer_layer_is_the_formula() -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(SMOKE).eval()
    sizes, channels = [(2, 3, 4), (1, 2, 2)], SMOKE.channels[-1]
    tokens, position = torch.randn(2, 28, channels), torch.randn(28, channels)
    references = reference_points(sizes, "corrected", CPU)

    def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
        deviation = (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        return (x - x.mean(-1, keepdim=True)) / deviation * norm.weight + norm.bias

    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.3)
        result = layer(tokens, position, references, sizes)
        x = layer_norm(tokens + layer.attention(tokens + position, references, tokens, sizes), layer.attention_norm)
        hidden = x @ layer.feed_forward[0].weight.T + layer.feed_forward[0].bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))  # GELU
        hidden = hidden @ layer.feed_forward[2].weight.T + layer.feed_forward[2].bias
        torch.testing.assert_close(result, layer_norm(x + hidden, layer.feed_forward_norm), atol=1e-4, rtol=1e-4)


def test_transformer_without_layers_returns_its_maps() -> None:
    """Tokens, and back: with no layer to change them each voxel must find its place again."""
    transformer = DeformableTransformer(SMOKE, "corrected")
    transformer.layers = nn.ModuleList()
    maps = [torch.randn(2, SMOKE.channels[-1], *size) for size in ((2, 3, 4), (1, 5, 2))]
    for before, after in zip(maps, transformer(maps), strict=True):
        assert torch.equal(before, after)


def test_transformer_adds_place_and_level_to_the_queries_of_every_layer() -> None:
    transformer = DeformableTransformer(SMOKE.model_copy(update={"layers": 3}), "corrected")
    channels, positions = SMOKE.channels[-1], []
    for layer in transformer.layers:
        layer.register_forward_pre_hook(lambda _, inputs: positions.append(inputs[1]))
    sizes = [(2, 4, 6), (1, 2, 3)]
    transformer([torch.randn(1, channels, *size) for size in sizes])
    expected = torch.cat(
        [position_code(size, channels, CPU) + transformer.level_code[i] for i, size in enumerate(sizes)]
    )
    assert len(positions) == 3
    for position in positions:
        torch.testing.assert_close(position, expected)


def test_order_is_where_the_tokens_look() -> None:
    with torch.no_grad():
        corrected, released = (network(order).eval()(image())[0] for order in ("corrected", "released"))
    assert not torch.allclose(corrected, released, atol=1e-2)
    assert torch.equal(corrected, network().eval()(image())[0])


def test_scores_come_from_the_finest_map_and_side_scores_from_each() -> None:
    cotr = network().eval()
    decoded: list[Tensor] = []
    cotr.decoder.register_forward_hook(lambda *arguments: decoded.extend(arguments[-1]))
    with torch.no_grad():
        scores = cotr(image())
        upsampled = F.interpolate(decoded[0], scale_factor=(1, 2, 2), mode="trilinear", align_corners=False)
        torch.testing.assert_close(scores[0], cotr.head(upsampled), atol=1e-4, rtol=1e-4)
        for score, head, features in zip(scores[1:], cotr.side_heads, decoded, strict=True):
            torch.testing.assert_close(score, head(features))
    assert [score.shape[2:] for score in scores] == [(8, 32, 48), (8, 16, 24), (4, 8, 12), (2, 4, 6)]


def test_without_deep_supervision_only_the_finest_scores() -> None:
    cotr = network().eval()
    with torch.no_grad():
        finest = cotr(image())[0]
        cotr.deep_supervision = False
        assert torch.equal(cotr(image()), finest)
    assert finest.shape == (2, N_CLASSES, *PATCH)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("order", ["corrected", "released"])
def test_every_parameter_learns(training: bool, order: Order) -> None:
    cotr = network(order).train(training)
    sum(score.square().mean() for score in cotr(image())).backward()
    for name, parameter in cotr.named_parameters():
        assert parameter.grad is not None, f"{name} takes no part"
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_dropout_in_training_only() -> None:
    cotr, x = network(), image()
    with torch.no_grad():
        assert not torch.equal(cotr(x)[0], cotr(x)[0])
        cotr.eval()
        assert torch.equal(cotr(x)[0], cotr(x)[0])


def test_a_sample_is_scored_by_itself() -> None:
    cotr, batch = network().eval(), image(3)
    with torch.no_grad():
        torch.testing.assert_close(cotr(batch)[0][1:2], cotr(batch[1:2])[0], atol=1e-4, rtol=1e-4)


def test_memory_layout_does_not_matter() -> None:
    cotr, x = network().eval(), image()
    strided = x.transpose(2, 4).contiguous().transpose(2, 4)
    assert not strided.is_contiguous()
    with torch.no_grad():
        torch.testing.assert_close(cotr(strided)[0], cotr(x)[0], atol=1e-4, rtol=1e-4)


def test_bfloat16_autocast_gives_finite_scores() -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert all(score.isfinite().all() for score in network()(image()))


def test_channels_and_classes_of_ones_own() -> None:
    assert CoTr(SMOKE, in_channels=3, classes=7)(torch.randn(1, 3, *PATCH))[0].shape == (1, 7, *PATCH)


@pytest.mark.parametrize("size", [(10, 32, 48), (8, 40, 48), (8, 32, 24), (12, 192, 192)])
def test_refuses_sizes_that_do_not_fit(size: tuple[int, int, int]) -> None:
    told = "x".join(map(str, size))
    with pytest.raises(ValueError, match=rf"{told}.*Z must be a multiple of 8, H and W multiples of 16"):
        network()(torch.randn(1, 1, *size))


@pytest.mark.parametrize(("channels", "told"), [(40, "multiple of 3"), (9, "multiple of 6")])
def test_refuses_channels_that_do_not_fit(channels: int, told: str) -> None:
    with pytest.raises(ValueError, match=f"{told} channels, not {channels}"):
        CoTr(SMOKE.model_copy(update={"channels": (8, 16, channels)}))
