"""The rows of nnU-Net, and of CoTr, which is nnU-Net's 3D training with another network (Table 2).

The real package does the work: planner, trainer and predictor of ``nnunetv2`` through its Python API.
"""

import hashlib
import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch

from sshsnet_core.alone import alone
from sshsnet_core.learning.training import TrainingError, data_workers
from sshsnet_core.methods.nnunet_dataset import NAME, Configuration, Dataset, environment, prepare
from sshsnet_core.methods.system import Job, Stage, check_paper_classes, device
from sshsnet_core.settings import Settings

if TYPE_CHECKING:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    from sshsnet_core.methods.nnunet_trainer import SpineTrainer

_STAGE = "nnU-Net"
_FINAL = "checkpoint_final.pth"


@dataclass(frozen=True)
class NNUNetTraining:
    """Where a training of nnU-Net lies and what makes it itself."""

    folder: Path
    fingerprint: str

    @property
    def results(self) -> Path:
        """Where nnU-Net's trainer keeps its checkpoints, below the folder that it is given."""
        found = list(self.folder.glob(f"{NAME}/*/fold_0"))
        return found[0] if found else self.folder / NAME

    def check(self) -> None:
        """``TrainingError`` where the folder holds another training; else the folder is marked as this one's."""
        mark = self.folder / "fingerprint.txt"
        if self.results.exists() and (not mark.exists() or mark.read_text() != self.fingerprint):
            raise TrainingError(
                f"{self.folder} was trained with other settings, cases or steps. "
                f"Delete the folder {self.folder} to train again, or give the changed profile a name of its own."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(self.fingerprint)


@dataclass(frozen=True)
class NNUNet:
    """``configuration`` is nnU-Net's; ``network`` puts CoTr in the U-Net's place, with the corrected or the released
    order of its coordinates; ``upside_down`` mirrors along all axes and turns flat 3D patches by up to 180 degrees, as
    released (long 2D patches, as a spine's, by up to 15), where else 3D networks mirror left to right at most. What is
    mirrored in training is so at test time, too."""

    configuration: Configuration
    network: Literal["unet", "cotr", "cotr-released-order"] = "unet"
    upside_down: bool = False

    def stages(self, job: Job) -> dict[str, Stage]:
        """The one training."""
        return {_STAGE: self._training(job)}

    def train(self, job: Job) -> dict[str, pd.DataFrame]:
        """Make the dataset, train, or go on from the last epoch, or find finished."""
        check_paper_classes(job.settings, "nnU-Net" if self.network == "unet" else "CoTr")
        training = self._training(job)
        with alone(training.folder / "training.lock", job.key):
            training.check()
            if (training.results / _FINAL).exists():
                return {_STAGE: pd.read_csv(training.folder / "history.csv")}
            dataset = prepare(job, self.configuration)
            with environment(dataset.folder, training.folder, data_workers()):
                return {_STAGE: self._trainer(job, dataset, training).train_on()}

    def load(self, job: Job) -> "TrainedNNUNet":
        """The final network, never the one that was best on watched cases."""
        training = self._training(job)
        checkpoint = training.results / _FINAL
        if not checkpoint.exists():
            raise TrainingError(f"{job.key} has not been trained yet, or not to the end: {checkpoint} is missing.")
        training.check()
        dataset = prepare(job, self.configuration)
        with environment(dataset.folder, training.folder), redirect_stdout(StringIO()):
            from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

            trainer = self._trainer(job, dataset, training)
            trainer.initialize()
            trainer.set_deep_supervision_enabled(False)
            weights = torch.load(checkpoint, map_location="cpu", weights_only=False)
            predictor = nnUNetPredictor(device=device(), allow_tqdm=False)
            predictor.manual_initialization(
                trainer.network,
                trainer.plans_manager,
                trainer.configuration_manager,
                [weights["network_weights"]],
                dataset.description,
                type(trainer).__name__,
                weights["inference_allowed_mirroring_axes"],
            )
        return TrainedNNUNet(predictor, dataset, job.settings.preprocessing.spacing_mm)

    def pool(self, settings: Settings) -> str:
        """It knows nothing of unlabelled images."""
        return "none"

    def _training(self, job: Job) -> NNUNetTraining:
        settings = job.settings
        others = "3d" if self.configuration == "2d" else "2d"
        elsewhere = {f"{name}_{others}" for name in ("patch", "most_features", "batch")}
        nnunet = settings.nnunet.model_dump(exclude={"epochs", "epochs_2d", "mirror_slices"} | elsewhere)
        nnunet |= {"epochs": self._epochs(settings)}
        what: list[Any] = [job.identity, repr(self), nnunet, job.seed, job.effort]
        if self.network != "unet":
            what.append(settings.cotr.model_dump())
        if settings.nnunet.mirror_slices and self.configuration == "3d_fullres" and not self.upside_down:
            what.append("mirrored left to right")
        fingerprint = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]
        return NNUNetTraining(job.folder(job.key), fingerprint)

    def _epochs(self, settings: Settings) -> int:
        if self.network != "unet":
            return settings.cotr.epochs
        return (self.configuration == "2d" and settings.nnunet.epochs_2d) or settings.nnunet.epochs

    def _trainer(self, job: Job, dataset: Dataset, training: NNUNetTraining) -> "SpineTrainer":
        """nnU-Net's trainer with what the job says. Its constructor prints a line about the device."""
        from sshsnet_core.methods.nnunet_trainer import SpineTrainer

        settings = job.settings.nnunet
        with redirect_stdout(StringIO()):
            plans = {**dataset.plans, "continue_training": False}
            trainer = SpineTrainer(plans, self.configuration, 0, dataset.description, device())
        trainer.labelled = [case.name for case in job.labelled]
        trainer.watched = [case.name for case in job.watched]
        trainer.upside_down, trainer.mirror_slices, trainer.seed = self.upside_down, settings.mirror_slices, job.seed
        trainer.adam_learning_rate = settings.adam_learning_rate
        trainer.cotr = None
        if self.network != "unet":
            trainer.cotr = job.settings.cotr, "corrected" if self.network == "cotr" else "released"
        trainer.title = f"{job.key}, {job.part}"
        trainer.history_file = training.folder / "history.csv"
        trainer.num_epochs = self._epochs(job.settings)
        trainer.num_iterations_per_epoch = max(1, round(settings.steps_per_epoch * job.effort))
        trainer.num_val_iterations_per_epoch = settings.validation_steps
        return trainer


@dataclass(frozen=True)
class TrainedNNUNet:
    """nnU-Net's predictor with the network of one training."""

    predictor: "nnUNetPredictor"
    dataset: Dataset
    spacing_mm: tuple[float, float, float]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Class probabilities (C1, Z, H, W) of a preprocessed volume (Z, H, W): overlapping tiles, averaged."""
        with environment(self.dataset.folder, self.dataset.folder):
            _, probabilities = self.predictor.predict_single_npy_array(
                np.array(image, np.float32)[None], {"spacing": self.spacing_mm}, save_or_return_probabilities=True
            )
        return np.asarray(probabilities, np.float32)
