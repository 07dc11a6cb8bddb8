"""Section 4.1: the cohort that a profile names, from where its cases come."""

import json
import os
from dataclasses import replace
from pathlib import Path

from sshsnet_core.annotation import Annotation
from sshsnet_core.data.cohorts.base import Cohort, CohortError
from sshsnet_core.data.cohorts.folder import read_folder
from sshsnet_core.data.cohorts.mrspineseg import read_mrspineseg
from sshsnet_core.data.cohorts.phantom import recipe, write_phantom_cohort
from sshsnet_core.settings import Settings


def open_cohort(settings: Settings, phantoms: Path) -> Cohort:
    """The phantom cohort, written to ``phantoms`` when it is not there yet, or the user's own volumes.

    Raises ``CohortError`` for real volumes of which the profile does not say where they lie, or that cannot be used.
    """
    cohort = settings.cohort
    annotation = Annotation.of(cohort)
    if cohort.source == "phantom":
        root = Path(cohort.root) if cohort.root else phantoms
        write_phantom_cohort(root, cohort, workers=os.cpu_count() or 1)
        drawn = read_mrspineseg(root, "randomised phantoms" if cohort.randomised else "phantom", annotation)
        return replace(drawn, recipe=json.dumps(recipe(cohort), sort_keys=True))
    if cohort.root is None:
        raise CohortError(
            f"Profile {settings.name} needs real volumes: set cohort.root to their folder in a copy of "
            "sshsnet_core/profiles/paper.yaml and give the copy's path as the profile."
        )
    root = Path(cohort.root)
    if cohort.source == "mrspineseg":
        return read_mrspineseg(root, annotation=annotation)
    return read_folder(root, annotation)
