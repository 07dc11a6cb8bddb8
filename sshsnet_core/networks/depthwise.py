"""Depthwise 3x3x3 convolution with a gradient that is quick on a CPU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight, conv3d_input


class Depthwise3d(nn.Conv3d):
    """Depthwise 3x3x3 convolution without bias: (N, C, Z, H, W) -> (N, C, Z, ceil(H / stride), ceil(W / stride)).

    ``stride`` lies in the plane; ``dilation``, along all three axes, is also the padding. Weights (C, 1, 3, 3, 3).
    """

    def __init__(self, channels: int, stride: int = 1, dilation: int = 1) -> None:
        strides = (1, stride, stride)
        super().__init__(channels, channels, 3, strides, dilation, dilation, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        convolved: Tensor = _QuickOnCPU.apply(x, self.weight, self.stride[1], self.dilation[0])
        return convolved


class _QuickOnCPU(torch.autograd.Function):
    """The same convolution. PyTorch's own gradient of it takes many times as long as the convolution itself.

    ``benchmarks/training_step.py`` measures what this saves. Under autocast it stays in single precision.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation = stride, dilation
        return F.conv3d(x, weight, None, (1, stride, stride), dilation, dilation, groups=len(weight))

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (x, weight), stride, dilation = ctx.saved_tensors, ctx.stride, ctx.dilation
        channels, slices = x.shape[1:3]
        if stride == 1:
            # The gradient of the input is the convolution of the output's gradient with the kernel turned round.
            of_x = F.conv3d(gradient, weight.flip(2, 3, 4), None, 1, dilation, dilation, groups=channels)
        else:
            of_x = conv3d_input(x.shape, weight, gradient, (1, stride, stride), dilation, dilation, groups=channels)
        # That of the kernel slice by slice, since a 2D convolution's is quick: each of its three planes has met the
        # slices of the input at one distance, below, at and above those of the output.
        padded = F.pad(x.transpose(1, 2), (0, 0, 0, 0, 0, 0, dilation, dilation))
        output = gradient.transpose(1, 2).flatten(0, 1)
        inputs = [padded[:, first : first + slices].flatten(0, 1) for first in (0, dilation, 2 * dilation)]
        size = (channels, 1, 3, 3)
        planes = [conv2d_weight(met, size, output, stride, dilation, dilation, groups=channels) for met in inputs]
        return of_x, torch.stack(planes, dim=2), None, None
