"""Stage 2 of a row: build and train the 3D network (sections 3.2, 3.3 and 4.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from torch import Tensor, nn
from torch.utils.data import Dataset

from sshsnet_core.annotation import Annotation, Groups
from sshsnet_core.data.coarse import StoredCoarse, doubled
from sshsnet_core.data.patches import PatchSamples, WholeSamples
from sshsnet_core.data.slices import Batch
from sshsnet_core.data.store import StoredCase
from sshsnet_core.learning.losses import supervised_loss
from sshsnet_core.learning.training import Training, load_trained, train
from sshsnet_core.methods import stage1
from sshsnet_core.methods.stage1 import Stage1
from sshsnet_core.networks.ctam import CTAM
from sshsnet_core.networks.sshsnet import Plain3D, SSHSNet3D
from sshsnet_core.settings import Settings

Kind = Literal["ctam", "concatenation", "whole"]


@dataclass(frozen=True)
class Stage2:
    """Stage 2's switches, and the stage 1 ``below`` it.

    ``kind``: ``ctam`` or ``concatenation`` fuse stage 1 into 3D patches; ``whole`` is the 3D network alone, without a
    stage below, on whole volumes that were downsampled once.
    """

    kind: Kind
    below: Stage1 | None


class Fine(nn.Module):
    """Equation 9: L_3d of the 3D network on patches with stage 1's map and features, or on whole volumes without.

    CTAM's scales gamma are told beside the loss, for the history.
    """

    def __init__(self, network: nn.Module, groups: Groups | None = None) -> None:
        super().__init__()
        self.network = network
        self.groups = groups

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        inputs = [batch["image"], *(doubled(batch[name]) for name in ("coarse", "features") if name in batch)]
        fusion = getattr(self.network, "fusion", None)
        # Detached: Fabric hangs a hook on every output that has a gradient, and these would keep theirs for good.
        gammas = {k: v.detach() for k, v in fusion.gammas.items()} if isinstance(fusion, CTAM) else {}
        return {"loss": supervised_loss(self.network(*inputs), batch["labels"], self.groups), **gammas}


def training_of(
    stage: Stage2, settings: Settings, folder: Path, identity: dict[str, Any], seed: int, effort: float
) -> Training:
    """How this stage 2 is trained. ``identity`` names the cases; the stage 1 that it stands on joins it here, whole."""
    schedule = settings.train_3d_whole if stage.kind == "whole" else settings.train_3d
    below = None
    if stage.below is not None:
        below = stage1.training_of(stage.below, settings, folder, identity, seed, effort).fingerprint
    identity = {
        **identity,
        **stage1.labels_identity(settings),
        "stage2": stage.kind,
        "network": settings.network_3d.model_dump(),
        "stage1": below,
        "patch": settings.patch,
    }
    return Training(folder, f"stage 2, {folder.parent.name}, {folder.name}", schedule, identity, seed, effort)


def build(stage: Stage2, settings: Settings) -> nn.Module:
    """The objective that holds the 3D network."""
    groups = Annotation.of(settings.cohort).groups(settings.classes)
    if stage.kind == "whole":
        return Fine(Plain3D(settings.network_3d, settings.classes), groups)
    assert stage.below is not None
    branches = 2 if stage.below.cps else 1
    channels = branches * settings.network_2d.decoder_channels
    return Fine(SSHSNet3D(settings.network_3d, channels, stage.kind, settings.classes), groups)


def train_stage2(
    stage: Stage2,
    settings: Settings,
    training: Training,
    labelled: Sequence[StoredCase],
    coarse: Sequence[StoredCoarse],
) -> pd.DataFrame:
    """Train, or continue, or find finished. ``coarse`` holds stage 1's output for each labelled case. The history."""
    training.seed_everything()
    objective = build(stage, settings)
    samples: Dataset[Batch]
    if stage.kind == "whole":
        # Rounded up to the 3D network's in-plane stride of 16.
        h, w = (-(-n // 16) * 16 for n in settings.slice_size)
        samples = WholeSamples(labelled, (settings.patch[0], h, w), training.seed)
    else:
        samples = PatchSamples(labelled, coarse, settings.patch, training.seed)
    return train(training, objective, lambda epoch: samples)


def load_network(stage: Stage2, settings: Settings, training: Training) -> nn.Module:
    """The trained 3D network in evaluation mode."""
    objective = load_trained(training, build(stage, settings))
    return objective.network  # type: ignore[return-value]
