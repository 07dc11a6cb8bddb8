"""The training loop (section 4.3): one loop for every row, on Lightning Fabric, that can be interrupted anywhere.

An *objective* is a module that holds the networks and turns a batch into its losses. The loop knows nothing else of it.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sshsnet_core.alone import alone
from sshsnet_core.errors import StudyError
from sshsnet_core.progress import Progress
from sshsnet_core.settings import TrainingSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Batch = dict[str, Tensor]

# A checkpoint takes at most this share of the time: at paper size it holds 0.7 GB, after epochs of a few seconds.
_SAVING_SHARE = 0.05
# Seconds; one that is written as quickly as this is never left out.
_QUICKLY_SAVED = 0.1

# A short warm-up before the cosine keeps Adam's first, badly scaled steps small.
_WARM_UP = 0.05


class TrainingError(StudyError, RuntimeError):
    """A training that cannot be started or continued; the message says why and what to do."""


@dataclass(frozen=True)
class Training:
    """One training: where it lies, what it is called in the log, its schedule, and what makes it itself.

    ``identity`` is everything that decides the result (settings, cases, fold); a checkpoint of another identity is
    refused. ``effort`` multiplies the steps of every epoch.
    """

    folder: Path
    title: str
    settings: TrainingSettings
    identity: dict[str, Any]
    seed: int = 0
    effort: float = 1.0

    @property
    def steps_per_epoch(self) -> int:
        return max(1, round(self.settings.steps_per_epoch * self.effort))

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def fingerprint(self) -> str:
        """A short hash of everything that decides the result."""
        what = [self.identity, self.settings.model_dump(), self.seed, self.effort]
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def seed_everything(self) -> None:
        """Seed PyTorch; called before the networks are built and by ``train`` before the first step."""
        torch.manual_seed(self.seed)


def make_fabric(settings: TrainingSettings) -> "Fabric":
    """Fabric on the first GPU, or the CPU. Several GPUs are filled with several jobs of the grid, by Snakemake."""
    # Takes seconds to import, which those who only look at what is trained need not wait for.
    from lightning_fabric import Fabric

    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    fabric = Fabric(accelerator=accelerator, devices=1, precision=settings.precision)
    fabric.launch()
    return fabric


@contextmanager
def quickest_kernels() -> Iterator[None]:
    """cuDNN looks for the quickest kernels: once for a training, whose batches are of one shape, as volumes are not."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = torch.cuda.is_available()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def learning_rate_factor(settings: TrainingSettings, epoch: float) -> float:
    """The factor on the learning rate at a (fractional) epoch: x0.1 after each milestone, or warm-up and cosine."""
    if settings.schedule == "milestones":
        return 0.1 ** sum(epoch >= milestone for milestone in settings.milestones)
    warm_up = _WARM_UP * settings.epochs
    if epoch < warm_up:
        return (epoch + 1 / settings.steps_per_epoch) / (warm_up + 1 / settings.steps_per_epoch)
    return 0.5 * (1 + math.cos(math.pi * (epoch - warm_up) / (settings.epochs - warm_up)))


def train(
    training: Training,
    objective: nn.Module,
    samples: Callable[[int], Dataset[Batch]],
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> pd.DataFrame:
    """Train ``objective`` on the samples of each epoch, to the end of the schedule; return one history row per epoch.

    ``after_epoch`` may look at ``objective`` after each epoch (1, 2, ...); it leaves it and the random state alone.
    Continues from the checkpoint where there is one, and ends with the same weights as an uninterrupted run on the CPU.
    Afterwards ``objective`` holds the final weights. Raises ``TrainingError`` if the checkpoint belongs to another
    training, and if the loss stops being finite.
    """
    with alone(training.folder / "training.lock", training.title), quickest_kernels():
        return _train(training, objective, samples, after_epoch)


def _train(
    training: Training,
    objective: nn.Module,
    samples: Callable[[int], Dataset[Batch]],
    after_epoch: Callable[[int], None],
) -> pd.DataFrame:
    settings = training.settings
    fabric = make_fabric(settings)
    # Adam, as in the authors' code (the paper names none); AdamW is Adam where the weight decay is 0.
    optimizer = torch.optim.AdamW(objective.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    module, optimizer = fabric.setup(objective, optimizer)
    history: list[dict[str, float]] = []
    torch.manual_seed(training.seed)
    if training.checkpoint.exists():
        history = _resume(training, fabric, module, optimizer)
    if len(history) == settings.epochs:
        return pd.DataFrame(history)
    module.train()
    saving, saved = 0.0, time.perf_counter()
    with Progress(training.title, settings.epochs, "epoch", done=len(history)) as progress:
        for epoch in range(len(history), settings.epochs):
            started = time.perf_counter()
            losses = _epoch(training, fabric, module, optimizer, samples(epoch), epoch)
            row = {"epoch": epoch + 1, **losses, "learning_rate": optimizer.param_groups[0]["lr"]}
            history.append({**row, "seconds": time.perf_counter() - started})
            # Before the checkpoint: killed in between, epochs since the last one are trained and looked at again.
            after_epoch(epoch + 1)
            if is_worth_saving(saving, time.perf_counter() - saved) or epoch + 1 == settings.epochs:
                started = time.perf_counter()
                _save(training, fabric, module, optimizer, history)
                saved = time.perf_counter()
                saving = saved - started
            progress.advance(f"loss {losses['loss']:.3f}")
    return pd.DataFrame(history)


def is_worth_saving(took: float, since: float) -> bool:
    """Whether a checkpoint is due: from the seconds that the last one took, and those since then."""
    return took <= max(_QUICKLY_SAVED, _SAVING_SHARE * since)


def _epoch(
    training: Training,
    fabric: "Fabric",
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    samples: Dataset[Batch],
    epoch: int,
) -> dict[str, float]:
    """One epoch's steps; the mean of every loss over them."""
    steps = training.steps_per_epoch
    sums: dict[str, Tensor] = {}
    for step, batch in enumerate(_batches(training, samples, epoch)):
        for group in optimizer.param_groups:
            group["lr"] = training.settings.learning_rate * learning_rate_factor(
                training.settings, epoch + step / steps
            )
        losses = module(fabric.to_device(batch))
        optimizer.zero_grad()
        fabric.backward(losses["loss"])
        # Gradients that are not finite spoil the weights; the end of the epoch says so, and what to do about it.
        limit = training.settings.gradient_clip
        fabric.clip_gradients(module, optimizer, max_norm=limit, error_if_nonfinite=False)  # type: ignore[arg-type]
        optimizer.step()
        for name, value in losses.items():
            sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value.detach()
    means = {name: float(value) / steps for name, value in sums.items()}
    # The last step can spoil the weights after a loss that was still finite.
    if not math.isfinite(means["loss"]) or not all(weight.isfinite().all() for weight in module.parameters()):
        raise TrainingError(
            f"{training.title}: the loss is not finite in epoch {epoch + 1}; the last checkpoint is kept. "
            "Lower learning_rate or use precision 32-true in the profile, "
            f"delete the folder {training.folder} and train again."
        )
    return means


def _batches(training: Training, samples: Dataset[Batch], epoch: int) -> Iterator[Batch]:
    """The epoch's batches. A sample's number decides its content, so that workers can share the numbers out."""
    size = training.settings.batch_size
    per_epoch = training.steps_per_epoch * size
    numbers = range(epoch * per_epoch, (epoch + 1) * per_epoch)
    workers = data_workers()
    if workers:
        # Drawn here first, so that what a sample imports is imported once and not in every worker of every epoch.
        samples[numbers[0]]
    yield from DataLoader(
        samples, batch_size=size, sampler=numbers, num_workers=workers, pin_memory=torch.cuda.is_available()
    )


def data_workers() -> int:
    """How many processes read samples, on the cores that PyTorch may use. One beside the network halves the speed of a
    small CPU, whose cores the network needs; a GPU, which leaves them free, wants several."""
    cores = torch.get_num_threads()
    if torch.cuda.is_available():
        return min(8, cores)
    return min(8, cores // 2) if cores > 4 else 0


def _save(
    training: Training,
    fabric: "Fabric",
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
) -> None:
    """Write the checkpoint of everything, atomically, and the history beside it."""
    training.folder.mkdir(parents=True, exist_ok=True)
    state = {
        "objective": module,
        "optimizer": optimizer,
        "history": history,
        "random_state": torch.get_rng_state(),
        # Of the one GPU that trains: it may go on where there are fewer.
        "cuda_random_state": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "fingerprint": training.fingerprint,
    }
    partial = training.checkpoint.with_suffix(".partial")
    fabric.save(partial, state)
    # The history first: killed in between, the training repeats epochs and their rows; none is ever missing.
    partial_history = training.folder / "history.partial"
    pd.DataFrame(history).to_csv(partial_history, index=False)
    os.replace(partial_history, training.folder / "history.csv")
    os.replace(partial, training.checkpoint)


def _resume(
    training: Training, fabric: "Fabric", module: nn.Module, optimizer: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """Load the checkpoint into module and optimizer; the history so far. The epoch is the history's length."""
    check_identity(training)
    rest = fabric.load(training.checkpoint, {"objective": module, "optimizer": optimizer}, strict=True)
    torch.set_rng_state(rest["random_state"].cpu())
    if torch.cuda.is_available() and rest["cuda_random_state"] is not None:
        torch.cuda.set_rng_state(rest["cuda_random_state"].cpu())
    return rest["history"]


def check_identity(training: Training) -> None:
    """Refuse a checkpoint that another training wrote (``TrainingError``)."""
    found = torch.load(training.checkpoint, map_location="cpu", weights_only=False)["fingerprint"]
    if found != training.fingerprint:
        raise TrainingError(
            f"{training.checkpoint} was trained with other settings, cases or steps. "
            f"Delete the folder {training.folder} to train again, or give the changed profile a name of its own."
        )


def load_trained(training: Training, objective: nn.Module) -> nn.Module:
    """Put a finished training's weights into ``objective``. ``TrainingError`` if it is missing or unfinished."""
    if not training.checkpoint.exists():
        raise TrainingError(f"{training.title} has not been trained yet: {training.checkpoint} is missing.")
    check_identity(training)
    state = torch.load(training.checkpoint, map_location="cpu", weights_only=False)
    if len(state["history"]) < training.settings.epochs:
        done = len(state["history"])
        raise TrainingError(f"{training.title} stopped after {done} of {training.settings.epochs} epochs: train it on.")
    objective.load_state_dict(state["objective"])
    return objective.eval()
