"""What each module of a network does, read from one forward pass: the numbers that Figures 3 to 6 are drawn from."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sshsnet_core.networks.ctam import AttentionBlock
from sshsnet_core.networks.deeplab2d import DeepLab2D
from sshsnet_core.networks.sshsnet import SSHSNet3D
from sshsnet_core.settings import Settings

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One module as it ran: the shapes of what went in and came out, batch axis first, and how it was built.

    ``kernel`` to ``dilation`` have a number for each spatial axis and are empty where a module has none.
    """

    kind: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    parameters: int
    kernel: Shape = ()
    stride: Shape = ()
    padding: Shape = ()
    dilation: Shape = ()
    groups: int = 1


def read_layers(network: nn.Module, *inputs: Tensor) -> dict[str, Layer]:
    """Every module of the network by its name, as it runs in evaluation mode on ``inputs``; the whole is ``""``.

    Each attention block has one more entry, ``<block>.attention``: its matrix A (N, alpha, alpha). Only shapes are
    computed, on a copy without memory of its own (torch's meta device), so that the paper's sizes cost nothing and
    ``network`` stays as it is.
    """
    stand_in = deepcopy(network).to("meta").eval()
    found: dict[str, Layer] = {}
    for name, module in stand_in.named_modules():
        module.register_forward_hook(partial(_record, found, name))
    with torch.no_grad():
        stand_in(*(tensor.to("meta") for tensor in inputs))
    # In the order of the network, not in that in which modules end.
    return {name: found[name] for name in _names(stand_in) if name in found}


def sshsnet_layers(settings: Settings) -> dict[str, Layer]:
    """Both stages of SSHSNet at a profile's sizes (Eq. 1-5); the names begin with ``stage1`` and ``stage2``.

    Stage 1 is one 2D branch on a volume with as many slices as a patch has, X_2d (Z, 3, H/2, W/2); stage 2 is the 3D
    network with CTAM on one patch (1, ., Z, h, w).
    """
    slices, height, width = settings.patch
    coarse_channels = 2 * settings.network_2d.decoder_channels
    stages = {
        "stage1": read_layers(
            DeepLab2D(settings.network_2d, pretrained=False, classes=settings.classes),
            torch.empty(slices, 3, *settings.slice_size),
        ),
        "stage2": read_layers(
            SSHSNet3D(settings.network_3d, coarse_channels, "ctam", settings.classes),
            torch.empty(1, 1, slices, height, width),
            torch.empty(1, settings.classes, slices, height, width),
            torch.empty(1, coarse_channels, slices, height // 4, width // 4),
        ),
    }
    return {f"{stage}.{name}".rstrip("."): layer for stage, found in stages.items() for name, layer in found.items()}


def _record(found: dict[str, Layer], name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    built: dict[str, Shape] = {}
    if hasattr(module, "kernel_size"):
        axes = len(output.shape) - 2
        for key in ("kernel", "stride", "padding", "dilation"):
            value = getattr(module, "kernel_size" if key == "kernel" else key)
            built[key] = tuple(value) if isinstance(value, tuple) else (value,) * axes
    found[name] = Layer(
        type(module).__name__,
        tuple(_shapes(inputs)),
        tuple(_shapes(output)),
        sum(parameter.numel() for parameter in module.parameters()),
        groups=getattr(module, "groups", 1),
        **built,
    )
    if isinstance(module, AttentionBlock):
        matrix = module.attention_map(*inputs)
        found[f"{name}.attention"] = Layer("softmax", tuple(_shapes(inputs)), (tuple(matrix.shape),), 0)


def _names(network: nn.Module) -> Iterator[str]:
    for name, module in network.named_modules():
        yield name
        if isinstance(module, AttentionBlock):
            yield f"{name}.attention"


def _shapes(values: Any) -> Iterator[Shape]:
    """The shape of a tensor, or of each tensor of a list, a tuple or a named tuple."""
    if isinstance(values, Tensor):
        yield tuple(values.shape)
    else:
        for value in values:
            yield from _shapes(value)
