"""Dilated depthwise convolutions in phases: the same numbers and gradients as plain ones."""

import pytest
import torch
from torch import nn

from sshsnet_core.networks.deeplab2d import DeepLab2D
from sshsnet_core.networks.phases import PhasedConv2d, in_phases
from sshsnet_core.settings import load_settings


def depthwise(kernel: int, dilation: int = 2, channels: int = 3, groups: int = 3, **other: int) -> nn.Conv2d:
    padding = other.pop("padding", dilation * (kernel // 2))
    return nn.Conv2d(channels, channels, kernel, padding=padding, dilation=dilation, groups=groups, **other)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(14, 7), (7, 14), (1, 1), (9, 5), (8, 8)], ids=str)
@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_phases_compute_the_dilated_convolution(
    kernel: int, size: tuple[int, int], format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(depthwise(kernel))
    x = torch.randn(2, 3, *size).contiguous(memory_format=format).requires_grad_()
    weights = torch.randn(2, 3, *size)

    def values() -> list[torch.Tensor]:
        y = network(x)
        return [y.detach(), *torch.autograd.grad((weights * y).sum(), [x, *network.parameters()])]

    plain = values()
    in_phases(network)
    assert isinstance(network[0], PhasedConv2d)
    for one, other in zip(plain, values(), strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "conv",
    [
        depthwise(3, dilation=1),
        depthwise(3, dilation=4),
        depthwise(3, groups=1),
        depthwise(3, stride=2),
        depthwise(3, padding=0),
    ],
    ids=str,
)
def test_other_convolutions_stay(conv: nn.Conv2d) -> None:
    network = nn.Sequential(conv)
    in_phases(network)
    assert network[0] is conv


def test_weights_names_and_random_state_stay() -> None:
    network = nn.ModuleDict({"a": nn.Sequential(depthwise(5), nn.Conv2d(3, 3, 1))})
    before, state = network.state_dict(), torch.get_rng_state()
    in_phases(network)
    assert torch.equal(torch.get_rng_state(), state)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(after[name].data_ptr() == before[name].data_ptr() for name in before)


def test_stage_1_is_trained_in_phases() -> None:
    settings = load_settings("mini").network_2d
    phased = [m for m in DeepLab2D(settings, pretrained=False).modules() if isinstance(m, PhasedConv2d)]
    # Three 5x5 and one 3x3 of the encoder's last stages, and the ASPP's first rate.
    assert sorted((conv.in_channels, conv.kernel_size[0]) for conv in phased) == [(320, 3), (1152, 3), *[(1152, 5)] * 3]
