"""What our measures for speed are worth in a training step: ``python -m sshsnet_core.benchmarks.training_step``.

On random batches of a profile's sizes, on the GPU where there is one. Only ratios of one run mean anything.
"""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from statistics import median
from time import perf_counter
from unittest.mock import patch

import torch
from torch import Tensor, nn

from sshsnet_core.learning.training import make_fabric
from sshsnet_core.methods import stage1, stage2
from sshsnet_core.methods.rows import CPS
from sshsnet_core.methods.spineparsenet import CoarseObjective
from sshsnet_core.methods.stage2 import Stage2
from sshsnet_core.networks import deeplab3d, graph, spineparsenet, sshsnet
from sshsnet_core.networks.depthwise import Depthwise3d
from sshsnet_core.networks.phases import PhasedConv2d
from sshsnet_core.settings import Settings, TrainingSettings, load_settings

#: Modules that arrange their 3D maps in memory.
_ARRANGING = (deeplab3d, graph, spineparsenet, sshsnet)
_ROUNDS = 7


def main() -> None:
    """Prints, for each network, seconds a step as it is trained and without the measure, and how the two compare."""
    parser = argparse.ArgumentParser(description="Seconds of a training step, with and without what makes it fast.")
    parser.add_argument("--profile", default="mini", help="whose sizes (default mini)")
    settings = load_settings(parser.parse_args().profile)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    print(f"profile {settings.name}, {device}; medians of {_ROUNDS} steps, in turn")
    for name, step, without, what in (
        ("stage 1, labels", *_stage1(settings), "phases"),
        ("stage 2, CTAM", *_stage2(settings), "memory format"),
        ("SpineParseNet, coarse", *_spineparsenet(settings), "memory format"),
        ("SpineParseNet, coarse", _spineparsenet(settings)[0], _own_gradients, "quick gradients"),
    ):
        seconds, other = in_turn(step, without)
        print(
            f"{name}: {seconds:.3f} s; without {what}: {other:.3f} s, {other / seconds:.2f} times as long", flush=True
        )


def in_turn(step: Callable[[], None], without: Callable[[], AbstractContextManager]) -> tuple[float, float]:
    """Median seconds of a step as it is and within ``without``, after one of each that is not counted."""
    as_is, otherwise = [], []
    for _ in range(1 + _ROUNDS):
        as_is.append(_seconds(step))
        with without():
            otherwise.append(_seconds(step))
    return median(as_is[1:]), median(otherwise[1:])


def _seconds(step: Callable[[], None]) -> float:
    started = perf_counter()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter() - started


def _step(objective: nn.Module, batch: dict[str, Tensor], schedule: TrainingSettings) -> Callable[[], None]:
    """One step of the study's training loop on one and the same batch."""
    fabric = make_fabric(schedule)
    module, optimizer = fabric.setup(objective.train(), torch.optim.AdamW(objective.parameters()))
    batch = fabric.to_device(batch)

    def step() -> None:
        optimizer.zero_grad()
        fabric.backward(module(batch)["loss"])
        optimizer.step()

    return step


Measured = tuple[Callable[[], None], Callable[[], AbstractContextManager]]


def _stage1(settings: Settings) -> Measured:
    schedule = settings.train_2d
    size = (schedule.batch_size, *settings.slice_size)
    batch = {"image": torch.randn(size[0], 3, *size[1:]), "labels": torch.randint(settings.classes, size)}
    step = _step(stage1.build(CPS, settings, pretrained=False), batch, schedule)
    return step, lambda: patch.object(PhasedConv2d, "forward", nn.Conv2d.forward)


def _stage2(settings: Settings) -> Measured:
    schedule, (z, h, w) = settings.train_3d, settings.patch
    n, channels = schedule.batch_size, 2 * settings.network_2d.decoder_channels
    batch = {
        "image": torch.randn(n, 1, z, h, w),
        "labels": torch.randint(settings.classes, (n, z, h, w)),
        # Windows before the doubling, with their margin.
        "coarse": torch.randn(n, settings.classes, z, h // 2 + 2, w // 2 + 2).softmax(dim=1).half(),
        "features": torch.randn(n, channels, z, h // 8 + 2, w // 8 + 2).half(),
    }
    return _step(stage2.build(Stage2("ctam", CPS), settings), batch, schedule), _otherwise_arranged


def _spineparsenet(settings: Settings) -> Measured:
    sizes = settings.spineparsenet
    size = (sizes.train_coarse.batch_size, sizes.slices, *sizes.coarse_size)
    batch = {"image": torch.randn(size[0], 1, *size[1:]), "labels": torch.randint(settings.classes, size)}
    return _step(CoarseObjective(sizes, graph=True), batch, sizes.train_coarse), _otherwise_arranged


def _own_gradients() -> AbstractContextManager:
    """Depthwise 3D convolutions as PyTorch differentiates them."""
    return patch.object(Depthwise3d, "forward", nn.Conv3d.forward)


def _otherwise_arranged() -> AbstractContextManager:
    """3D maps as on the other kind of device: PyTorch's own format on a CPU, channels last on a GPU."""
    format = torch.channels_last_3d if torch.cuda.is_available() else torch.contiguous_format
    stack = ExitStack()
    for module in _ARRANGING:
        stack.enter_context(patch.object(module, "arranged", lambda x: x.contiguous(memory_format=format)))
    return stack


if __name__ == "__main__":
    main()
