"""nnU-Net's trainer, told by the study what to train on and for how long. Imported where it is needed only: it is slow.

Loss, deep supervision, optimiser, oversampling and augmentation are nnU-Net's own, save what turns a spine upside down
or back to front.
"""

import math
import os
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from sshsnet_core.learning.training import TrainingError, quickest_kernels
from sshsnet_core.networks.cotr import CoTr
from sshsnet_core.progress import Progress
from sshsnet_core.settings import CoTrSettings

#: In plane, as nnU-Net itself turns long 2D patches.
_ROTATION = np.deg2rad(15)
#: CoTr's four outputs: their scales (z, row, column), and their weights, as published for a network of five poolings.
_COTR_SCALES = [[1, 1, 1], [1, 1 / 2, 1 / 2], [1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 8, 1 / 8]]
_COTR_WEIGHTS = np.array([1, 1 / 2, 1 / 4, 1 / 8]) / 1.875


class SpineTrainer(nnUNetTrainer):
    """One training. nnU-Net recreates trainers from their arguments, so what is ours is set after construction."""

    labelled: list[str]
    watched: list[str]
    upside_down: bool
    mirror_slices: bool
    seed: int
    adam_learning_rate: float | None
    #: CoTr in place of the U-Net, where given.
    cotr: tuple[CoTrSettings, str] | None
    history_file: Path
    title: str
    progress: Progress | None = None

    def train_on(self) -> pd.DataFrame:
        """Train to the end of the schedule from wherever the checkpoint stands; the history."""
        self.save_every = 1
        # Drawn anew after each epoch, for a second each time; the history holds the same curves.
        self.logger.plot_progress_png = lambda folder: None
        self.initialize()
        latest = Path(self.output_folder) / "checkpoint_latest.pth"
        if latest.exists():
            self.load_checkpoint(str(latest))
        progress = Progress(self.title, self.num_epochs, "epoch", done=self.current_epoch)
        # cuDNN as in nnU-Net's own entry point.
        with progress as self.progress, quickest_kernels():
            self.run_training()
        return pd.read_csv(self.history_file)

    # --- what it is trained on --------------------------------------------------------------------------------------

    def do_split(self) -> tuple[list[str], list[str]]:
        """The study's fold in place of nnU-Net's own."""
        return self.labelled, self.watched

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, bool, Any, Any]:
        """nnU-Net mirrors along all axes and turns flat 3D patches by up to 180 degrees. Upside down, L5 looks like the
        next level but one while its label stays: the name, which only the place in the column tells, is taught wrongly.
        Left to right, the order of the slices, is the one mirroring that makes a possible spine.
        """
        rotation, dummy_2d, initial_patch, mirror = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if self.upside_down:
            return rotation, dummy_2d, initial_patch, mirror
        rotation = (-_ROTATION, _ROTATION)
        patch = self.configuration_manager.patch_size
        initial_patch = get_patch_size(patch, rotation, rotation, rotation, (0.85, 1.25))
        if dummy_2d:
            initial_patch[0] = patch[0]
        mirror = (0,) if self.mirror_slices and len(patch) == 3 else ()
        self.inference_allowed_mirroring_axes = mirror or None
        return rotation, dummy_2d, initial_patch, mirror

    def on_train_epoch_start(self) -> None:
        """An epoch's patches follow from the seed and its number, so that an interrupted training draws the same;
        but with data workers, which nnU-Net seeds from the clock."""
        super().on_train_epoch_start()
        drawn = int(np.random.SeedSequence([self.seed, self.current_epoch]).generate_state(1)[0])
        random.seed(drawn)
        np.random.seed(drawn)
        torch.manual_seed(drawn)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        """nnU-Net's own SGD, or AdamW as in its variant ``nnUNetTrainerAdam``; both under its polynomial decay."""
        if self.adam_learning_rate is None:
            return super().configure_optimizers()
        self.initial_lr = self.adam_learning_rate
        optimizer = torch.optim.AdamW(
            self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay, amsgrad=True
        )
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    # --- CoTr -------------------------------------------------------------------------------------------------------

    def build_network_architecture(  # type: ignore[override]
        self,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The planned U-Net, or CoTr in its place."""
        torch.manual_seed(self.seed)
        if self.cotr is None:
            return super().build_network_architecture(
                plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
            )
        settings, order = self.cotr
        network = CoTr(settings, num_input_channels, num_output_channels, order)  # type: ignore[arg-type]
        network.deep_supervision = enable_deep_supervision
        return network

    def _get_deep_supervision_scales(self) -> Any:
        return super()._get_deep_supervision_scales() if self.cotr is None else _COTR_SCALES

    def _build_loss(self) -> nn.Module:
        loss = super()._build_loss()
        if self.cotr is not None:
            loss.weight_factors = tuple(_COTR_WEIGHTS)
        return loss

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        if self.cotr is None:
            super().set_deep_supervision_enabled(enabled)
        else:
            self.network.deep_supervision = enabled

    # --- what it leaves behind --------------------------------------------------------------------------------------

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        super().on_train_epoch_end(train_outputs)
        # The last step can spoil the weights after a loss that was still finite.
        finite = all(weight.isfinite().all() for weight in self.network.parameters())
        if not finite or not math.isfinite(self.logger.get_value("train_losses", -1)):
            raise TrainingError(
                f"{self.title}: the loss is not finite in epoch {self.current_epoch + 1}; the last good epoch is kept. "
                f"Delete the folder {self.history_file.parent} and train again with another seed or batch size."
            )

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """A class that neither truth nor prediction shows has no Dice, is left out of the mean, and is no news."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            super().on_validation_epoch_end(val_outputs)

    def on_epoch_end(self) -> None:
        """nnU-Net's end of an epoch; then the history, whole each time, and a line of progress."""
        super().on_epoch_end()
        log = self.logger.get_checkpoint()
        history = pd.DataFrame(
            {
                "epoch": range(1, self.current_epoch + 1),
                "loss": log["train_losses"],
                "validation_loss": log["val_losses"],
                "pseudo_dice": log["mean_fg_dice"],
                "learning_rate": log["lrs"],
                "seconds": np.subtract(log["epoch_end_timestamps"], log["epoch_start_timestamps"]),
            }
        )
        partial = self.history_file.with_suffix(".partial")
        history.to_csv(partial, index=False)
        os.replace(partial, self.history_file)
        last = history.iloc[-1]
        assert self.progress is not None
        self.progress.advance(f"loss {last['loss']:.3f}  online Dice {last['pseudo_dice']:.3f}")

    def save_checkpoint(self, filename: str) -> None:
        """Whole or not at all. The best epoch on watched cases is not kept: they must decide nothing."""
        if Path(filename).name != "checkpoint_best.pth":
            super().save_checkpoint(filename + ".partial")
            os.replace(filename + ".partial", filename)

    def print_to_log_file(self, *args: Any, also_print_to_console: bool = True, add_timestamp: bool = True) -> None:
        """Into the log file alone; the screen has the progress."""
        super().print_to_log_file(*args, also_print_to_console=False, add_timestamp=add_timestamp)

    def plot_network_architecture(self) -> None:
        """Needs a package that is no longer maintained."""

    def _save_debug_information(self) -> None:
        """Would name the machine."""
