"""Stage 1 of a row: build, train and apply the 2D networks (sections 3.1 and 4.3)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import Dataset

from sshsnet_core.anatomy import N_CLASSES
from sshsnet_core.annotation import PAPER, Annotation
from sshsnet_core.data.coarse import Coarse
from sshsnet_core.data.contents import digest
from sshsnet_core.data.slices import Batch, CPSSamples, Pictured, SliceSamples
from sshsnet_core.data.store import StoredCase
from sshsnet_core.learning.cps import (
    CrossPseudoSupervision,
    Decision,
    Supervised,
    cutmix_mask,
    largest,
    likeliest_kind,
    no_cutmix,
)
from sshsnet_core.learning.inference import coarse_map
from sshsnet_core.learning.training import Training, load_trained, train
from sshsnet_core.methods.pseudo_labels import PseudoLabelRecord
from sshsnet_core.networks.deeplab2d import DeepLab2D
from sshsnet_core.settings import Settings


@dataclass(frozen=True)
class Stage1:
    """Stage 1's switches: ImageNet encoder or random start; two networks under CPS or one on labels alone.

    ``longer`` multiplies the steps: a row of our own that trains for the time that CPS takes. ``pool`` names CPS's
    unlabelled images where they are not the profile's. ``cutmix`` mixes them; ``evaluating`` networks label
    them, deciding on the kind of a structure before its name where ``kind_first``.
    """

    pretrained: bool
    cps: bool
    longer: float = 1.0
    # Out of the representation, which is part of a training's identity: these join that with CPS's settings.
    pool: Literal["held-out", "training"] | None = field(default=None, repr=False)
    cutmix: bool = field(default=True, repr=False)
    evaluating: bool = field(default=True, repr=False)
    kind_first: bool = field(default=False, repr=False)

    @property
    def key(self) -> str:
        """A name for its folder: rows that share a stage 1 share its training."""
        parts = ["2d", "imagenet" if self.pretrained else "scratch", *(["cps"] if self.cps else [])]
        parts += [f"x{self.longer:g}"] if self.longer != 1 else []
        parts += [] if self.cutmix else ["no-cutmix"]
        parts += [] if self.evaluating else ["training-mode"]
        parts += ["kind-first"] if self.kind_first else []
        return "-".join(parts + ([self.pool] if self.pool else []))

    @property
    def decide(self) -> Decision:
        """How its branches' scores become pseudo labels."""
        return likeliest_kind if self.kind_first else largest

    def pool_name(self, settings: Settings) -> str:
        """Which unlabelled images it reads; ``none`` without CPS, and under a lambda of 0."""
        return (self.pool or settings.cps.pool) if self.cps and settings.cps.weight else "none"

    def cps_identity(self, settings: Settings) -> dict[str, Any]:
        """What decides CPS: its settings, the pool that it really reads, and the switches that are turned.

        Not where a folder of scans lies: what it holds joins the identity of the job.
        """
        turned = {name: False for name in ("cutmix", "evaluating") if not getattr(self, name)}
        turned |= {"kind_first": True} if self.kind_first else {}
        return {**settings.cps.model_dump(), "pool": self.pool_name(settings), "pool_folder": None, **turned}

    def network_identity(self, settings: Settings) -> dict[str, Any]:
        """What decides its networks: of a file of weights what it holds; a start from nothing reads none."""
        file = settings.network_2d.weights_file if self.pretrained else None
        return settings.network_2d.model_dump() | {"weights_file": file and digest(Path(file))}


def labels_identity(settings: Settings) -> dict[str, Any]:
    """What decides how labels are read, where it is not the paper's 20 classes all drawn."""
    annotation = Annotation.of(settings.cohort)
    if settings.classes == N_CLASSES and annotation == PAPER:
        return {}
    return {"classes": settings.classes, "annotation": annotation}


def slices_identity(settings: Settings) -> dict[str, Any]:
    """What decides how labelled slices are learnt from: how labels are read, and the switches that are turned."""
    turned: dict[str, Any] = {"even_slices": settings.even_slices} if settings.even_slices else {}
    turned |= {} if settings.slice_dice_over == "sample" else {"slice_dice_over": settings.slice_dice_over}
    turned |= {"in_view": settings.in_view} if settings.in_view else {}
    return labels_identity(settings) | turned


def training_of(
    stage: Stage1, settings: Settings, folder: Path, identity: dict[str, Any], seed: int, effort: float
) -> Training:
    """How this stage 1 is trained. ``identity`` names the cases; the stage's own switches and settings join it here."""
    title = f"stage 1, {stage.key}, {folder.name}"
    identity = {**identity, **slices_identity(settings)}
    identity |= {"stage1": stage, "network": stage.network_identity(settings)}
    if stage.cps:
        identity["cps"] = stage.cps_identity(settings)
    return Training(folder, title, settings.train_2d, identity, seed, effort * stage.longer)


def build(
    stage: Stage1,
    settings: Settings,
    pretrained: bool,
    under_cps: type[CrossPseudoSupervision] = CrossPseudoSupervision,
) -> nn.Module:
    """The objective that holds stage 1's networks; ``pretrained`` False where trained weights follow anyway."""

    def network() -> DeepLab2D:
        return DeepLab2D(settings.network_2d, pretrained, settings.classes)

    groups = Annotation.of(settings.cohort).groups(settings.classes)
    over = settings.slice_dice_over
    if not stage.cps:
        return Supervised(network(), groups, over)
    return under_cps(network, settings.cps.weight, stage.evaluating, stage.decide, groups, over)


def slice_samples(settings: Settings, training: Training, labelled: Sequence[StoredCase]) -> SliceSamples:
    """The labelled slices that this training is shown."""
    return SliceSamples(labelled, settings.slice_size, training.seed, settings.even_slices, settings.in_view)


def train_stage1(
    stage: Stage1, settings: Settings, training: Training, labelled: Sequence[StoredCase], pool: Sequence[StoredCase]
) -> pd.DataFrame:
    """Train, or continue, or find finished. ``pool`` are the unlabelled cases, read under CPS only. The history.

    Under CPS with a lambda of 0 both branches learn from labels alone: no unlabelled case is read.
    """
    training.seed_everything()
    # A training that goes on, or is finished, needs no ImageNet weights, which may have to come from a network.
    objective = build(stage, settings, stage.pretrained and not training.checkpoint.exists())
    slices = slice_samples(settings, training, labelled)
    both = CPSSamples(slices, pool, cutmix_mask if stage.cutmix else no_cutmix)
    starts = settings.cps.labels_only * settings.train_2d.epochs

    def samples(epoch: int) -> Dataset[Batch]:
        return both if epoch >= starts else slices

    if not stage.cps or not settings.cps.weight:
        return train(training, objective, lambda epoch: slices)
    record = pseudo_label_record(training, pool)

    def write(epoch: int) -> None:
        record.write(epoch, objective.branches, stage.decide)  # type: ignore[arg-type]

    return train(training, objective, samples, write)


def pseudo_label_record(training: Training, pool: Sequence[Pictured]) -> PseudoLabelRecord:
    """What CPS's branches call the first image of the pool, epoch by epoch."""
    return PseudoLabelRecord(pool[0], training.folder / "pseudo_labels")


def load_branches(stage: Stage1, settings: Settings, training: Training) -> list[nn.Module]:
    """The trained 2D networks in evaluation mode: two under CPS, else one."""
    objective = load_trained(training, build(stage, settings, pretrained=False))
    return list(objective.branches)  # type: ignore[arg-type]


def apply_stage1(branches: Sequence[nn.Module], volume: np.ndarray, device: torch.device) -> Coarse:
    """S~ and I~ of one padded volume (Z, H, W)."""
    for branch in branches:
        branch.to(device)
    return coarse_map(branches, volume, device)
