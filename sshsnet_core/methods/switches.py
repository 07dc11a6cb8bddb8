"""A row whose settings differ in a few places from its profile's: the study's own switches beyond Table 1."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from sshsnet_core.methods.system import Job, Segmentation, Stage, System
from sshsnet_core.settings import Settings

#: The settings that stage 1 is trained by.
_STAGE_1 = ("network_2d", "cps", "train_2d", "slice_size", "even_slices", "slice_dice_over", "in_view")


@dataclass(frozen=True)
class Changed:
    """Another row's ``system`` with ``changes`` to the profile, dotted keys and their values.

    A change that does not reach stage 1 shares the other rows' stage 1; one that does has a stage 1 of its own, in a
    folder below the row's.
    """

    system: System
    changes: Mapping[str, Any]

    def _job(self, job: Job) -> Job:
        root = job.root / job.key if any(key.startswith(_STAGE_1) for key in self.changes) else job.root
        # Where the job's identity tells a setting, it tells the changed one.
        identity = job.identity | {key: value for key, value in self.changes.items() if key in job.identity}
        return replace(job, settings=job.settings.changed(self.changes), identity=identity, root=root)

    def stages(self, job: Job) -> dict[str, Stage]:
        """Its system's stages, under the changed settings."""
        return self.system.stages(self._job(job))

    def train(self, job: Job) -> dict[str, pd.DataFrame]:
        """Train its system under the changed settings."""
        return self.system.train(self._job(job))

    def load(self, job: Job) -> Segmentation:
        """The trained row."""
        return self.system.load(self._job(job))

    def pool(self, settings: Settings) -> str:
        """The pool of its system's CPS."""
        return self.system.pool(settings.changed(self.changes))
