"""What every row of the tables is asked for, and all that it gets to see of the study.

A system knows nothing of scoring, of the other rows' files or of how cases were divided: it is given a ``Job``, trains,
and returns a function from a preprocessed volume to class probabilities. The rest is the same code for every row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch

from sshsnet_core.annotation import PAPER, Annotation
from sshsnet_core.data.store import StoredCase
from sshsnet_core.settings import Settings, SettingsError

#: A trained system put to use: a preprocessed volume, float32 (Z, H, W), to class probabilities (C1, Z, H, W) there.
Segmentation = Callable[[np.ndarray], np.ndarray]


def device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_paper_classes(settings: Settings, system: str) -> None:
    """``SettingsError`` where a profile asks a system of Table 2 for more than the paper's classes."""
    if settings.arches_apart or Annotation.of(settings.cohort) != PAPER:
        raise SettingsError(
            f"{system} knows the paper's 20 classes, all of them drawn, and profile {settings.name} has others: "
            "train SSHSNet's rows with it."
        )


@dataclass(frozen=True)
class Job:
    """One row to be trained on one set of cases."""

    #: The row's file-safe name.
    key: str
    settings: Settings
    #: The cases to learn from, with their masks.
    labelled: Sequence[StoredCase]
    #: Cases that may be watched while training (a validation curve) and must not be learnt from.
    watched: Sequence[StoredCase]
    #: The unlabelled images of the named pool (one of ``results.POOLS``); only rows under CPS ask for them.
    pool: Callable[[str], Sequence[StoredCase]]
    #: What tells this job's data from another's: cohort, preprocessing, the cases' names.
    identity: dict[str, Any]
    seed: int
    effort: float
    #: Where this effort's and seed's trainings lie, and what each of them calls its part (``fold0``).
    root: Path
    part: str
    #: Where a system may keep what depends on the cohort alone.
    shared: Path
    #: A fingerprint of the volumes of ``CPSSettings.pool_folder``; only rows that read them ask for it.
    scans: Callable[[], str] = str

    def folder(self, name: str) -> Path:
        """Where a training of that name lies; rows that share a training share its name."""
        return self.root / name / self.part


class Stage(Protocol):
    """One training of a row: its folder and a fingerprint of everything that decides the result.

    The folder holds ``history.csv``: a line an epoch, with the columns ``epoch``, ``loss``, ``learning_rate`` and
    ``seconds`` among others.
    """

    @property
    def folder(self) -> Path: ...

    @property
    def fingerprint(self) -> str: ...


class System(Protocol):
    """One way to segment, as switches: a frozen dataclass that trains itself and can be put to use."""

    def stages(self, job: Job) -> dict[str, Stage]:
        """The trainings that the row consists of, by name, in their order. Trains and writes nothing."""
        ...

    def train(self, job: Job) -> dict[str, pd.DataFrame]:
        """Train, or continue, or find finished: the histories by stage.

        Interrupted anywhere, the next call goes on. Raises ``TrainingError`` where a stage's folder holds another
        training, and where a loss stops being finite.
        """
        ...

    def load(self, job: Job) -> Segmentation:
        """The trained row. Raises ``TrainingError`` where it is missing, unfinished or another one's."""
        ...

    def pool(self, settings: Settings) -> str:
        """Which unlabelled images its training reads: one of ``results.POOLS``."""
        ...
