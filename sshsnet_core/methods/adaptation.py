"""CPS as a bridge to scans that nobody has labelled: labelled phantoms, unlabelled scans, no real label at all.

Section 3.1.2 beyond the paper's rows. Both branches go on from what they have learnt of phantoms; the scans are the
unlabelled pool. A stage 2 stays as it is: the map that it is given brings the names. Where the branches are torn
between two names of one vertebra, background would win as the pseudo label and be learnt from: outlines and posterior
elements would be eaten, epoch by epoch. So the kind is decided first. And where both are off by one level, each would
learn that from the other: names are those that fit the whole column. And only names are learnt from the scans, outlines
from the phantoms: in our trials branches that taught each other outlines agreed on more and more bone at the sides of
the spine. For the same reason batch normalisation keeps its statistics.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sshsnet_core.data.slices import CPSSamples, Pictured
from sshsnet_core.data.store import StoredCase
from sshsnet_core.learning.cps import CrossPseudoSupervision, cutmix_mask, under_names
from sshsnet_core.learning.training import Training, TrainingError, load_trained, train
from sshsnet_core.methods import stage1
from sshsnet_core.methods.sshsnet import TrainedSSHSNet
from sshsnet_core.methods.stage1 import Stage1
from sshsnet_core.settings import Settings

ADAPTED = Stage1(pretrained=True, cps=True, kind_first=True)

#: What a structure of each kind is called in any slice of a scan, uint8 (4, H, W), for every case of a pool.
Names = Sequence[np.ndarray]


def training_of(settings: Settings, folder: Path, identity: dict[str, Any], seed: int) -> Training:
    """How the branches are trained on. ``identity`` names the weights that they start from, the phantoms and scans."""
    cps = {**ADAPTED.cps_identity(settings), "weight": settings.adaptation.weight}
    cps |= {"names": "of columns", "outlines": "of phantoms", "batch_norm": "as learnt"}
    identity = {**identity, **stage1.slices_identity(settings), "cps": cps}
    return Training(folder, f"adapting to {folder.name}", settings.adaptation.train, identity, seed)


def adapt(
    start: TrainedSSHSNet,
    training: Training,
    labelled: Sequence[StoredCase],
    pool: Sequence[Pictured],
    names: Callable[[], Names],
) -> pd.DataFrame:
    """Train on, or continue, or find finished; the history. ``training.folder`` holds the result.

    ``names`` tells what pseudo labels are called in each case of the pool; asked only where something is left to train.
    Raises ``TrainingError`` for weights of a single branch: CPS needs two that disagree.
    """
    if len(start.branches) != 2:
        raise TrainingError("These weights hold one 2D network; cross pseudo supervision needs two.")
    settings = start.settings
    training.seed_everything()
    objective = _objective(settings)
    for branch, trained in zip(objective.branches, start.branches, strict=True):  # type: ignore[arg-type]
        branch.load_state_dict(trained.state_dict())
    slices = stage1.slice_samples(settings, training, labelled)
    record = stage1.pseudo_label_record(training, pool)

    @cache
    def samples() -> CPSSamples:
        return CPSSamples(slices, pool, cutmix_mask, names())

    def decide(scores: Tensor) -> Tensor:
        recorded = samples().names[0]  # type: ignore[index]
        return under_names(ADAPTED.decide(scores), recorded[None].to(scores.device))

    def write(epoch: int) -> None:
        record.write(epoch, objective.branches, decide)  # type: ignore[arg-type]

    return train(training, objective, lambda epoch: samples(), write)


def load_adapted(start: TrainedSSHSNet, training: Training) -> TrainedSSHSNet:
    """The adapted branches, and the stage 2 that they started with. ``TrainingError`` where unfinished."""
    objective = load_trained(training, _objective(start.settings))
    return TrainedSSHSNet(start.settings, list(objective.branches), start.network)  # type: ignore[arg-type]


class _Adaptation(CrossPseudoSupervision):
    """CPS whose batch normalisation stays in evaluation mode: its scales and shifts learn, its statistics do not."""

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self


def _objective(settings: Settings) -> nn.Module:
    weighted = settings.changed({"cps.weight": settings.adaptation.weight})
    return stage1.build(ADAPTED, weighted, pretrained=False, under_cps=_Adaptation)
