"""All networks under one tester: shapes, finite gradients, a batch of one, odd sizes, both fusions, paper sizes."""

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from sshsnet_core.anatomy import N_CLASSES
from sshsnet_core.data.coarse import doubled
from sshsnet_core.learning.losses import cross_entropy, soft_dice
from sshsnet_core.methods.stage2 import Fine
from sshsnet_core.networks.blocks import arranged
from sshsnet_core.networks.deeplab2d import DeepLab2D
from sshsnet_core.networks.deeplab3d import DeepLab3D, Encoder3D
from sshsnet_core.networks.sshsnet import Plain3D, SSHSNet3D
from sshsnet_core.settings import Network2DSettings, Network3DSettings, Settings, load_settings

SMOKE = load_settings("smoke")
PAPER = load_settings("paper")
COARSE = 2 * SMOKE.network_2d.decoder_channels


def stage2_inputs(n: int, z: int, h: int, w: int, coarse_channels: int = COARSE) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.randn(n, 1, z, h, w),
        torch.softmax(torch.randn(n, N_CLASSES, z, h, w), 1),
        torch.randn(n, coarse_channels, z, h // 4, w // 4),
    )


def test_channels_come_last_on_a_cpu_alone() -> None:
    x = torch.randn(2, 3, 4, 5, 6)
    assert arranged(x).is_contiguous(memory_format=torch.channels_last_3d)
    # The meta device stands for any other than the CPU.
    assert arranged(arranged(x).to("meta")).is_contiguous()


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def printed(settings: Network3DSettings) -> Network3DSettings:
    return settings.model_copy(update={"ctam": "printed"})


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], tuple[Tensor, ...]], tuple[int, ...]]] = {
    "2D": (
        lambda: DeepLab2D(SMOKE.network_2d, pretrained=False),
        lambda n: (torch.randn(n, 3, 64, 32),),
        (64, 32),
    ),
    "2D, the paper's encoder, odd size": (
        lambda: DeepLab2D(Network2DSettings(decoder_channels=16), pretrained=False),
        lambda n: (torch.randn(n, 3, 55, 39),),
        (55, 39),
    ),
    "3D alone": (lambda: Plain3D(SMOKE.network_3d), lambda n: (torch.randn(n, 1, 5, 48, 32),), (5, 48, 32)),
    "stage 2, concatenation": (
        lambda: SSHSNet3D(SMOKE.network_3d, COARSE, "concatenation"),
        lambda n: stage2_inputs(n, 5, 48, 32),
        (5, 48, 32),
    ),
    "stage 2, CTAM": (
        lambda: SSHSNet3D(SMOKE.network_3d, COARSE, "ctam"),
        lambda n: stage2_inputs(n, 3, 32, 64),
        (3, 32, 64),
    ),
    "stage 2, CTAM as printed": (
        lambda: SSHSNet3D(printed(SMOKE.network_3d), COARSE, "ctam"),
        lambda n: stage2_inputs(n, 12, 32, 32),
        (12, 32, 32),
    ),
}


def scores_of(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    output = network(*inputs)
    return output if isinstance(output, Tensor) else output.scores


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch", [1, 3])
def test_scores_have_the_input_s_size_and_every_parameter_learns(name: str, batch: int) -> None:
    torch.manual_seed(0)
    build, inputs, size = NETWORKS[name]
    network = build().train()
    with torch.no_grad():  # at 0 the gammas rightly pass no gradient on to the attention blocks
        for key, parameter in network.named_parameters():
            if "gamma" in key:
                parameter.fill_(0.5)
    scores = scores_of(network, inputs(batch))
    assert scores.shape == (batch, N_CLASSES, *size)
    scores.square().mean().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{key} takes no part"
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), f"{key} decides nothing"


@pytest.mark.parametrize("fusion", ["ctam", "concatenation"])
def test_stage_2_is_put_together_as_printed(fusion: Literal["ctam", "concatenation"]) -> None:
    """Equations 3 to 5: V_3d sees image and coarse map, xi fuses its features with stage 1's, psi predicts; and 9."""
    torch.manual_seed(0)
    network = SSHSNet3D(SMOKE.network_3d, COARSE, fusion).eval()
    image, labels = torch.randn(2, 1, 5, 48, 32), torch.randint(0, N_CLASSES, (2, 5, 48, 32))
    # As samples hold them: before the doubling, and with a margin of one pixel.
    windows = {"coarse": torch.rand(2, N_CLASSES, 5, 26, 18), "features": torch.randn(2, COARSE, 5, 8, 6)}
    coarse, features = (doubled(window) for window in windows.values())
    fused: list[Tensor] = []
    network.head.register_forward_pre_hook(lambda head, inputs: fused.append(inputs[0]))
    with torch.no_grad():
        scores = network(image, coarse, features)
        of_volume = network.deeplab(torch.cat([image, coarse], dim=1))
        of_slices = network.reduce(features)
        torch.testing.assert_close(scores, network.head(fused[0]))
        # Gamma is 0 still: CTAM is concatenation, F1 (what slices say) before F2.
        torch.testing.assert_close(fused[0], torch.cat([of_slices, of_volume], dim=1))
        told = Fine(network)({"image": image, **windows, "labels": labels})
    torch.testing.assert_close(told["loss"], cross_entropy(scores, labels) + soft_dice(scores, labels))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_sample_is_scored_by_itself_once_trained(name: str) -> None:
    torch.manual_seed(0)
    build, inputs, _ = NETWORKS[name]
    network, batch = build().eval(), inputs(2)
    with torch.no_grad():
        together = scores_of(network, batch)
        alone = scores_of(network, tuple(x[1:] for x in batch))
    torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("h", "w"), [(64, 48), (55, 28), (16, 16), (17, 31), (10, 100)])
def test_2d_features_have_a_quarter_of_the_input_s_size(h: int, w: int) -> None:
    network = DeepLab2D(SMOKE.network_2d, pretrained=False).eval()
    with torch.no_grad():
        scores, features = network(torch.randn(1, 3, h, w))
    assert scores.shape == (1, N_CLASSES, h, w)
    assert features.shape == (1, SMOKE.network_2d.decoder_channels, -(-h // 4), -(-w // 4))


def test_two_2d_branches_start_differently() -> None:
    torch.manual_seed(0)
    first, second = (DeepLab2D(SMOKE.network_2d, pretrained=False) for _ in range(2))
    assert not torch.equal(first.segmentation_head[0].weight, second.segmentation_head[0].weight)


def test_2d_refuses_an_unknown_encoder() -> None:
    with pytest.raises(ValueError, match=r"resnet50.*efficientnet_lite0"):
        DeepLab2D(Network2DSettings(encoder="resnet50"), pretrained=False)


def test_3d_features_keep_the_slices() -> None:
    network = DeepLab3D(SMOKE.network_3d, in_channels=21)
    assert network(torch.randn(2, 21, 7, 32, 48)).shape == (2, SMOKE.network_3d.decoder_channels, 7, 8, 12)


def test_3d_encoder_mixes_slices_in_its_last_stage_only() -> None:
    torch.manual_seed(0)
    encoder = Encoder3D(SMOKE.network_3d, in_channels=1).eval()
    # Squeeze and excitation sees the whole patch; without it only convolutions can carry anything between slices.
    for module in encoder.modules():
        if isinstance(module, nn.Sigmoid):
            module.register_forward_hook(lambda _, __, output: torch.ones_like(output))
    x = torch.randn(1, 1, 9, 32, 32)
    changed = x.clone()
    changed[:, :, 4] += 1
    with torch.no_grad():
        differences = [(a - b).abs().amax((0, 1, 3, 4)) > 0 for a, b in zip(encoder(x), encoder(changed), strict=True)]
    assert differences[0].nonzero().flatten().tolist() == [4]
    assert differences[1].nonzero().flatten().tolist() == [3, 4, 5]  # one 3x3x3 block in the smoke profile


@pytest.mark.parametrize(("h", "w"), [(40, 32), (32, 24)])
def test_3d_refuses_sizes_that_do_not_fit(h: int, w: int) -> None:
    with pytest.raises(ValueError, match=rf"{h}x{w}.*multiples of 16"):
        DeepLab3D(SMOKE.network_3d, in_channels=1)(torch.randn(1, 1, 3, h, w))


def test_bfloat16_autocast_gives_finite_scores() -> None:
    network = SSHSNet3D(SMOKE.network_3d, COARSE, "ctam").eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert network(*stage2_inputs(1, 4, 32, 32)).isfinite().all()


@pytest.mark.parametrize("profile", ["smoke", "mini", "paper"])
def test_every_profile_builds_its_networks(profile: str) -> None:
    settings: Settings = load_settings(profile)
    with torch.device("meta"):
        stage2 = SSHSNet3D(settings.network_3d, 2 * settings.network_2d.decoder_channels, "ctam")
        assert parameters(stage2) > parameters(Plain3D(settings.network_3d)) > 0


def test_2d_at_paper_size() -> None:
    network = DeepLab2D(PAPER.network_2d, pretrained=False)
    assert parameters(network) == pytest.approx(28.7e6, rel=0.02)
    scores, features = network(torch.randn(1, 3, 440, 224))
    assert scores.shape == (1, 20, 440, 224)
    assert features.shape == (1, 256, 110, 56)
    (scores.mean() + features.mean()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_3d_at_paper_size() -> None:
    network = SSHSNet3D(PAPER.network_3d, 2 * PAPER.network_2d.decoder_channels, "ctam")
    assert 31e6 < parameters(network) < 35e6
    with torch.no_grad():
        assert network.eval()(*stage2_inputs(1, 12, 192, 192, 512)).shape == (1, 20, 12, 192, 192)
    # The gradient at a quarter of the plane: the same parameters in a quarter of the time.
    network.train()(*stage2_inputs(1, 12, 96, 96, 512)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
