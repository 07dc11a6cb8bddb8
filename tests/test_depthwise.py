"""SpineParseNet's depthwise convolution against PyTorch's own, forwards and backwards, and against its definition."""

import pytest
import torch
from torch import Tensor, nn

from sshsnet_core.networks.depthwise import Depthwise3d

#: Slices, rows and columns, in sizes that no stride divides.
SIZE = (3, 7, 5)


def results(convolution: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, the gradient of the input and that of the kernel, of a loss that weighs every voxel differently."""
    x = x.clone().requires_grad_()
    output = convolution(x)
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).reshape(output.shape)
    return [output, *torch.autograd.grad((output * weights).sum(), [x, *convolution.parameters()])]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (1, 6)])
def test_it_equals_pytorchs_own(batch: int, stride: int, dilation: int) -> None:
    quick = Depthwise3d(4, stride, dilation).double()
    own = nn.Conv3d(4, 4, 3, (1, stride, stride), dilation, dilation, groups=4, bias=False).double()
    own.load_state_dict(quick.state_dict())
    x = torch.randn(batch, 4, *SIZE, dtype=torch.float64)
    for ours, theirs in zip(results(quick, x), results(own, x), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("stride", [1, 2])
def test_its_gradient_is_that_of_differences(stride: int) -> None:
    convolution = Depthwise3d(2, stride).double()
    assert torch.autograd.gradcheck(convolution, torch.randn(1, 2, *SIZE, dtype=torch.float64, requires_grad=True))


def test_a_voxel_by_hand() -> None:
    """Dilated by 2: every tap lies two slices, rows or columns away, and outside the volume there is nothing."""
    convolution, x = Depthwise3d(2, dilation=2), torch.randn(1, 2, *SIZE)
    taps = convolution.weight[1, 0]
    expected = sum(
        taps[i, j, k] * x[0, 1, 2 * i - 2, 3 + 2 * j - 2, 1 + 2 * k - 2]
        for i, j, k in [(i, j, k) for i in (1, 2) for j in range(3) for k in (1, 2)]
    )
    torch.testing.assert_close(convolution(x)[0, 1, 0, 3, 1], expected)


def test_it_keeps_single_precision_under_autocast() -> None:
    convolution, x = Depthwise3d(3), torch.randn(1, 3, *SIZE)
    expected = results(convolution, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(results(convolution, x), expected, strict=True))


def test_it_keeps_channels_last() -> None:
    x = torch.randn(2, 3, *SIZE).contiguous(memory_format=torch.channels_last_3d)
    assert Depthwise3d(3)(x).is_contiguous(memory_format=torch.channels_last_3d)
