"""SpineParseNet (Pang et al. 2021), a row of Table 2: a coarse 3D network with a graph, refined slice by slice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sshsnet_core.anatomy import N_CLASSES
from sshsnet_core.data.cohorts.folds import make_folds
from sshsnet_core.data.spineparsenet import (
    RefinementSamples,
    VolumeSamples,
    fine_input,
    pad_slices,
    resized,
    save_scores,
)
from sshsnet_core.data.store import StoredCase
from sshsnet_core.learning.losses import cross_entropy
from sshsnet_core.learning.training import Training, load_trained, train
from sshsnet_core.methods.system import Job, Stage, check_paper_classes, device
from sshsnet_core.networks.residual_unet import ResidualUNet2D
from sshsnet_core.networks.spineparsenet import SpineParseNet3D, upsample
from sshsnet_core.progress import Progress
from sshsnet_core.settings import Settings, SpineParseNetSettings, TrainingSettings

#: The weight of the graph's side output in the loss.
_SIDE_WEIGHT = 0.3
#: Slices that the fine network takes at once.
_SLICES = 8


class CoarseObjective(nn.Module):
    """Cross-entropy of the coarse network's scores and, with a graph, 0.3 times that of its enlarged side output."""

    def __init__(self, settings: SpineParseNetSettings, graph: bool) -> None:
        super().__init__()
        self.network = SpineParseNet3D(settings.width, graph, settings.running_statistics)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        output, labels = self.network(batch["image"]), batch["labels"]
        loss = cross_entropy(output.scores, labels)
        if output.side is None:
            return {"loss": loss}
        side = cross_entropy(upsample(output.side, labels.shape), labels)
        return {"loss": loss + _SIDE_WEIGHT * side, "scores": loss, "side": side}


class FineObjective(nn.Module):
    """Cross-entropy of the fine network on slices joined with their coarse scores."""

    def __init__(self, settings: SpineParseNetSettings) -> None:
        super().__init__()
        self.network = ResidualUNet2D(1 + N_CLASSES, settings.unet_channels)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        scores = self.network(torch.cat([batch["image"], batch["coarse"]], dim=1))
        return {"loss": cross_entropy(scores, batch["labels"])}


@dataclass(frozen=True)
class CoarseNetwork:
    """One coarse network: the cases that it learns from, those that it scores for the refinement, its two trainings."""

    #: ``, part 1`` and so on; empty for the one network of the released way.
    name: str
    learns: Sequence[StoredCase]
    scores: Sequence[StoredCase]
    plain: Training
    graph: Training

    def score_path(self, case: StoredCase) -> Path:
        """Where the coarse scores of one of its ``scores`` are kept."""
        return self.graph.folder / f"scores-{self.graph.fingerprint}" / f"{case.name}.npy"


@dataclass(frozen=True)
class SpineParseNet:
    """A plain coarse network, the same with a graph, its scores of the training cases, and a 2D network on those.

    The released code trains the 2D network on coarse scores of the very cases that the coarse network has learnt by
    heart. These are better than any that it is shown later, and it learns to trust them too far. ``out_of_fold``, the
    default, divides the cases into ``SpineParseNetSettings.parts``: a part is scored by a coarse network that learns
    from the other parts. What is to be segmented is scored by each of these networks, refined from each one's scores,
    and the probabilities are averaged: one more network, on all cases, would give scores of another kind than the 2D
    network has learnt to read. ``out_of_fold=False`` is the released way.

    Other than published: the volumes are this study's preprocessed ones, whole; AdamW in place of Adam, so that the
    weight decay is not scaled by the gradients' size; learning rates x0.1, not x0.2, after a milestone; gradients are
    clipped; the last weights are kept, not the best on validation cases.
    """

    out_of_fold: bool = True

    def stages(self, job: Job) -> dict[str, Stage]:
        """``coarse`` and ``graph`` of every coarse network; then ``refinement``."""
        stages: dict[str, Stage] = {}
        for network in self.coarse_networks(job):
            stages[f"coarse{network.name}"] = network.plain
            stages[f"graph{network.name}"] = network.graph
        return {**stages, "refinement": self._refinement(job)}

    def train(self, job: Job) -> dict[str, pd.DataFrame]:
        """Every coarse network without and with its graph, its scores, and the refinement on those."""
        check_paper_classes(job.settings, "SpineParseNet")
        sizes = job.settings.spineparsenet
        histories: dict[str, pd.DataFrame] = {}
        paths: dict[str, Path] = {}
        for network in self.coarse_networks(job):
            histories |= _train_coarse(network, sizes)
            _score(network, sizes)
            paths |= {case.name: network.score_path(case) for case in network.scores}
        coarse = [paths[case.name] for case in job.labelled]
        training = self._refinement(job)
        training.seed_everything()
        samples = RefinementSamples(job.labelled, coarse, sizes.fine_size, training.seed)
        return {**histories, "refinement": train(training, FineObjective(sizes), lambda epoch: samples)}

    def load(self, job: Job) -> "TrainedSpineParseNet":
        """The coarse networks, with their graphs, and the fine one."""
        sizes = job.settings.spineparsenet
        fine = load_trained(self._refinement(job), FineObjective(sizes)).network
        coarse = [_trained(network, sizes) for network in self.coarse_networks(job)]
        return TrainedSpineParseNet(sizes, coarse, fine)  # type: ignore[arg-type]

    def pool(self, settings: Settings) -> str:
        """None: it learns from labels only."""
        return "none"

    def coarse_networks(self, job: Job) -> list[CoarseNetwork]:
        """Who learns from which cases and scores which: a network for each part, or one that learns from all.

        Parts are divided as the study's folds are: by subject, those that show rare levels spread over all parts.
        """
        if not self.out_of_fold:
            return [_coarse_network(job, "", job.labelled, job.labelled)]
        cases = {case.name: case for case in job.labelled}
        structures = {name: case.structures for name, case in cases.items()}
        subjects = {name: case.subject for name, case in cases.items()}
        networks = []
        for number, part in enumerate(make_folds(structures, job.settings.spineparsenet.parts, job.seed, subjects), 1):
            learns, scores = ([cases[name] for name in names] for names in (part.training, part.validation))
            networks.append(_coarse_network(job, f", part {number}", learns, scores))
        return networks

    def _refinement(self, job: Job) -> Training:
        sizes = job.settings.spineparsenet
        decides = {
            "below": [network.graph.fingerprint for network in self.coarse_networks(job)],
            "network": [sizes.unet_channels, sizes.fine_size],
        }
        return _training(job, "refinement", sizes.train_fine, decides)


@dataclass(frozen=True)
class TrainedSpineParseNet:
    """The trained networks, coarse and fine."""

    settings: SpineParseNetSettings
    coarse: Sequence[nn.Module]
    fine: nn.Module

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Class probabilities (K, Z, H, W) of a preprocessed volume (Z, H, W) of any size."""
        refined = (self._refined(image, coarse_scores(network, image, self.settings)) for network in self.coarse)
        total: np.ndarray = sum(refined)  # type: ignore[assignment]
        return total / len(self.coarse)

    @torch.inference_mode()
    def _refined(self, image: np.ndarray, coarse: Tensor) -> np.ndarray:
        """The fine network's probabilities (K, Z, H, W) from one coarse network's scores (K, Z, h, w)."""
        where = device()
        network = self.fine.to(where)
        probabilities = np.empty((N_CLASSES, *image.shape), np.float32)
        for first in range(0, image.shape[0], _SLICES):
            batch = slice(first, first + _SLICES)
            slices = torch.from_numpy(np.array(image[batch]))
            inputs = fine_input(slices, coarse[:, batch], self.settings.fine_size)
            scores = network(torch.cat(inputs, dim=1).to(where)).float()
            restored = interpolate(scores.softmax(dim=1), image.shape[1:], mode="bilinear", align_corners=False)
            probabilities[:, batch] = restored.movedim(1, 0).cpu().numpy()
        return probabilities


@torch.inference_mode()
def coarse_scores(network: nn.Module, image: np.ndarray, settings: SpineParseNetSettings) -> Tensor:
    """The coarse network's scores (K, Z, h, w) of a preprocessed volume (Z, H, W), before the softmax, on the CPU.

    It sees the slices padded as in training, and more of them where there are more.
    """
    volume, first = pad_slices(resized(torch.from_numpy(np.array(image)), settings.coarse_size), settings.slices)
    scores = network.to(device())(volume[None, None].to(device())).scores[0]
    return scores[:, first : first + image.shape[0]].float().cpu()


def _coarse_network(job: Job, name: str, learns: Sequence[StoredCase], scores: Sequence[StoredCase]) -> CoarseNetwork:
    sizes = job.settings.spineparsenet
    decides = {
        "learns": [case.name for case in learns],
        "network": [sizes.width, sizes.coarse_size, sizes.slices],
        **({} if sizes.running_statistics else {"running_statistics": False}),
    }
    plain = _training(job, f"coarse{name}", sizes.train_coarse, decides)
    graph = _training(job, f"graph{name}", sizes.train_graph, {**decides, "below": plain.fingerprint})
    return CoarseNetwork(name, learns, scores, plain, graph)


def _training(job: Job, stage: str, schedule: TrainingSettings, decides: dict[str, Any]) -> Training:
    folder = job.folder(f"{job.key}-{stage.replace(', ', '-').replace(' ', '')}")
    identity = {**job.identity, "spineparsenet": stage, **decides}
    return Training(folder, f"SpineParseNet, {stage}, {job.part}", schedule, identity, job.seed, job.effort)


def _train_coarse(network: CoarseNetwork, sizes: SpineParseNetSettings) -> dict[str, pd.DataFrame]:
    """Train without the graph, then with it, from the same weights on. The histories by stage."""
    network.plain.seed_everything()
    plain = CoarseObjective(sizes, graph=False)
    samples = VolumeSamples(network.learns, sizes.coarse_size, sizes.slices, network.plain.seed)
    histories = {f"coarse{network.name}": train(network.plain, plain, lambda epoch: samples)}
    network.graph.seed_everything()
    objective = CoarseObjective(sizes, graph=True)
    # Strict: of all its weights only the graph's own are new.
    objective.load_state_dict({**objective.state_dict(), **plain.state_dict()})
    return {**histories, f"graph{network.name}": train(network.graph, objective, lambda epoch: samples)}


def _trained(network: CoarseNetwork, sizes: SpineParseNetSettings) -> nn.Module:
    """The coarse network with its graph, in evaluation mode."""
    return load_trained(network.graph, CoarseObjective(sizes, graph=True)).network  # type: ignore[return-value]


def _score(network: CoarseNetwork, sizes: SpineParseNetSettings) -> None:
    """Write down the coarse scores that are not there yet."""
    # The row may be trained by another process as well: the second waits and finds the scores.
    with FileLock(network.graph.folder / "scores.lock"):
        missing = [case for case in network.scores if not network.score_path(case).exists()]
        if not missing:
            return
        trained = _trained(network, sizes)
        with Progress(f"coarse scores{network.name}", total=len(missing), unit="case") as progress:
            for case in missing:
                save_scores(network.score_path(case), coarse_scores(trained, case.image, sizes))
                progress.advance(case.name)
