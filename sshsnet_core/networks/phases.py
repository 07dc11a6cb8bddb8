"""Dilated depthwise convolutions, computed so that a CPU trains them fast. What they compute stays the same."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: The dilation that is worth it: of larger ones the phases of a small map hold a few pixels each.
_DILATION = 2


class PhasedConv2d(nn.Conv2d):
    """A depthwise convolution of dilation d that keeps H and W: (N, C, H, W) -> (N, C, H, W).

    Its taps lie d apart, so that the d x d phases of a map, every d-th row and column, never mix, and over each phase
    it is an ordinary convolution. Of these alone oneDNN has a fast gradient of the weights.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        (step, _), (rows, columns), (height, width) = self.dilation, self.kernel_size, x.shape[-2:]
        padded = F.pad(x, (0, -width % step, 0, -height % step))
        phases = padded.unflatten(3, (-1, step)).unflatten(2, (-1, step)).permute(0, 3, 5, 1, 2, 4).flatten(0, 2)
        phases = phases.contiguous(memory_format=torch.channels_last)
        y = F.conv2d(phases, self.weight, self.bias, padding=(rows // 2, columns // 2), groups=self.groups)
        y = y.unflatten(0, (len(x), step, step)).permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)
        return y[..., :height, :width].contiguous(memory_format=torch.channels_last)


def in_phases(network: nn.Module) -> None:
    """Replace the depthwise convolutions of dilation 2 in ``network``; weights, names and random state stay."""
    for name, conv in list(network.named_modules()):
        if type(conv) is nn.Conv2d and _fits(conv):
            # Made without drawing weights: the other networks' would be drawn from another random state.
            phased = nn.utils.skip_init(
                PhasedConv2d,
                conv.in_channels,
                conv.out_channels,
                conv.kernel_size,
                padding=conv.padding,
                dilation=conv.dilation,
                groups=conv.groups,
                bias=conv.bias is not None,
            )
            phased.weight, phased.bias = conv.weight, conv.bias
            network.set_submodule(name, phased, strict=True)


def _fits(conv: nn.Conv2d) -> bool:
    depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
    kept = conv.stride == (1, 1) and conv.padding == tuple(_DILATION * (n // 2) for n in conv.kernel_size)
    return depthwise and kept and conv.dilation == (_DILATION, _DILATION) and conv.padding_mode == "zeros"
