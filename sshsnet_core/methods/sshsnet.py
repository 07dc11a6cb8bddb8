"""SSHSNet and its variations: which stages a row consists of, how they are trained on one another and applied."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from torch import nn

from sshsnet_core.data.coarse import StoredCoarse
from sshsnet_core.data.patches import PatchSamples, crop
from sshsnet_core.data.slices import pad_volume
from sshsnet_core.learning.inference import segment_whole, segment_windows, upsampled_coarse
from sshsnet_core.learning.training import Training, TrainingError
from sshsnet_core.methods import stage1, stage2
from sshsnet_core.methods.pseudo_labels import PseudoLabelRecord
from sshsnet_core.methods.stage1 import Stage1, apply_stage1
from sshsnet_core.methods.stage2 import Kind, Stage2
from sshsnet_core.methods.system import Job, Stage, device
from sshsnet_core.networks.ctam import CTAM
from sshsnet_core.networks.sshsnet import SSHSNet3D
from sshsnet_core.progress import Progress
from sshsnet_core.settings import Settings


@dataclass(frozen=True)
class SSHSNet:
    """The switches of a row of Table 1: its stage 1 and the kind of its stage 2; None where it has no such stage."""

    first: Stage1 | None
    second: Kind | None

    def stages(self, job: Job) -> dict[str, Stage]:
        """``stage 1`` and ``stage 2``, where the row has them; rows that share a stage 1 share its folder."""
        stages: dict[str, Stage] = {}
        if self.first is not None:
            stages["stage 1"] = _stage1_training(self.first, job)
        if self.second is not None:
            stages["stage 2"] = _stage2_training(Stage2(self.second, self.first), job)
        return stages

    def train(self, job: Job) -> dict[str, pd.DataFrame]:
        """Its stage 1, unless another row has trained it, then its stage 2."""
        histories = {}
        if self.first is not None:
            name = self.pool(job.settings)
            pool = [] if name == "none" else job.pool(name)
            training = _stage1_training(self.first, job)
            histories["stage 1"] = stage1.train_stage1(self.first, job.settings, training, job.labelled, pool)
        if self.second is not None:
            stage = Stage2(self.second, self.first)
            coarse = [] if self.first is None else _coarse_maps(self.first, job)
            training = _stage2_training(stage, job)
            histories["stage 2"] = stage2.train_stage2(stage, job.settings, training, job.labelled, coarse)
        return histories

    def load(self, job: Job) -> "TrainedSSHSNet":
        """Its trained networks, ready to segment."""
        branches, network = [], None
        if self.first is not None:
            branches = stage1.load_branches(self.first, job.settings, _stage1_training(self.first, job))
        if self.second is not None:
            stage = Stage2(self.second, self.first)
            network = stage2.load_network(stage, job.settings, _stage2_training(stage, job))
        return TrainedSSHSNet(job.settings, branches, network)

    def pool(self, settings: Settings) -> str:
        """The pool of its CPS."""
        return "none" if self.first is None else self.first.pool_name(settings)

    def pseudo_labels(self, job: Job) -> PseudoLabelRecord:
        """What its CPS's branches called one unlabelled slice, epoch by epoch. ``TrainingError`` for a row without."""
        name = self.pool(job.settings)
        if self.first is None or name == "none":
            raise TrainingError(f"The row {job.key} learns from labels alone: it has no pseudo labels.")
        return stage1.pseudo_label_record(_stage1_training(self.first, job), job.pool(name))

    def patches(self, job: Job) -> PatchSamples:
        """The category-balanced patches that its stage 2 learns from (Equation 2); its stage 1 must be trained."""
        assert self.first is not None
        return PatchSamples(job.labelled, _coarse_maps(self.first, job), job.settings.patch, job.seed)


@dataclass(frozen=True)
class TrainedSSHSNet:
    """The networks of a trained row: no branch without a stage 1, no 3D network without a stage 2."""

    settings: Settings
    branches: Sequence[nn.Module]
    network: nn.Module | None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Class probabilities (C1, Z, H, W) of a preprocessed volume (Z, H, W)."""
        z, h, w = image.shape
        patch = self.settings.patch
        if not self.branches:
            assert self.network is not None
            probabilities = segment_whole(self.network.to(device()), pad_volume(image), device())
        else:
            volume = pad_volume(image, patch)
            coarse = apply_stage1(self.branches, volume, device())
            if self.network is None:
                probabilities = upsampled_coarse(coarse)
            else:
                network, overlap = self.network.to(device()), self.settings.overlap
                probabilities = segment_windows(network, volume, coarse, patch, overlap, device())
        return probabilities[:, :z, :h, :w]

    @torch.inference_mode()
    def attention(self, image: np.ndarray, start: tuple[int, int, int]) -> dict[str, np.ndarray]:
        """CTAM looked into, at the patch that begins at ``start`` (multiples of 8 in plane) of a preprocessed volume.

        The three matrices A of section 3.3, ``inter_slice`` (Z, Z), ``intra_slice`` (h w / 16, h w / 16) and
        ``channel`` (C4, C4), and ``features`` I_c (C4, Z, h/4, w/4). ``TrainingError`` for a row without CTAM.
        """
        fusion = getattr(self.network, "fusion", None)
        if not isinstance(self.network, SSHSNet3D) or not isinstance(fusion, CTAM):
            raise TrainingError("This row has no cross tri-attention module to look into.")
        network, patch = self.network.to(device()), self.settings.patch
        volume = pad_volume(image, patch)
        coarse, features = apply_stage1(self.branches, volume, device()).crop(start, patch)
        inputs = (part[None].to(device()) for part in (crop(volume, start, patch)[None], coarse, features))
        inter, intra = network.fusion_inputs(*inputs)
        maps = {**fusion.attention_maps(inter, intra)._asdict(), "features": fusion.crossed(inter, intra)}
        return {name: values[0].float().cpu().numpy() for name, values in maps.items()}


def _stage1_training(stage: Stage1, job: Job) -> Training:
    identity = _stage1_identity(stage, job)
    return stage1.training_of(stage, job.settings, job.folder(stage.key), identity, job.seed, job.effort)


def _stage1_identity(stage: Stage1, job: Job) -> dict[str, Any]:
    """The job's data and, where CPS reads a folder of scans, these: the other pools are of the cohort."""
    return job.identity | ({"scans": job.scans()} if stage.pool_name(job.settings) == "folder" else {})


def _stage2_training(stage: Stage2, job: Job) -> Training:
    identity = job.identity if stage.below is None else _stage1_identity(stage.below, job)
    return stage2.training_of(stage, job.settings, job.folder(job.key), identity, job.seed, job.effort)


def _coarse_maps(stage: Stage1, job: Job) -> list[StoredCoarse]:
    """Stage 1's output for the training cases, computed once and kept on disk: stage 1 is frozen in stage 2."""
    training = _stage1_training(stage, job)
    folder = training.folder / f"coarse-{training.fingerprint}"
    # Rows that share a stage 1 may be trained at the same time: the second waits and finds the maps.
    with FileLock(training.folder / "coarse.lock"):
        missing = [case for case in job.labelled if not (folder / case.name / "features.npy").exists()]
        if missing:
            branches = stage1.load_branches(stage, job.settings, training)
            for of_another in set(training.folder.glob("coarse-*")) - {folder}:
                shutil.rmtree(of_another)  # of a stage 1 that is no more: gigabytes at paper size
            with Progress(f"coarse maps of {stage.key}", total=len(missing), unit="case") as progress:
                for case in missing:
                    volume = pad_volume(case.image, job.settings.patch)
                    apply_stage1(branches, volume, device()).save(folder / case.name)
                    progress.advance(case.name)
    return [StoredCoarse(folder / case.name) for case in job.labelled]
