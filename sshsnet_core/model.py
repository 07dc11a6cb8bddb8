"""Trained networks that are ready for scans from anywhere: a weights file, or a row that the study has trained."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sshsnet_core.anatomy import N_CLASSES, WHOLE
from sshsnet_core.data.preprocessing import Preprocessed, Preprocessing
from sshsnet_core.decision import KIND, volume_kind_first
from sshsnet_core.evaluation.naming import Naming, name_column
from sshsnet_core.methods.rows import method_by_key
from sshsnet_core.methods.seen import Seen
from sshsnet_core.methods.segmenter import Segmented, Segmenter, in_native_space
from sshsnet_core.methods.weights import Weights, find_weights
from sshsnet_core.settings import SettingsError
from sshsnet_core.study import Study

_KEPT = ("profile", "seed", "effort", "cohort", "versions", "commit")


@dataclass(frozen=True)
class Model:
    """Networks, what training has seen, and what made them. ``told`` goes into reports."""

    title: str
    segmenter: Segmenter
    seen: Seen
    told: dict[str, Any]
    #: Whether the networks tell posterior elements from bodies.
    arches_apart: bool
    #: A row of the paper's tables: the largest class wins, and names are the networks' own unless asked otherwise.
    row: bool

    @classmethod
    def of_weights(cls, name: str) -> "Model":
        """The shipped weights (``phantom``), adapted ones by name, or a file by path. Raises ``WeightsError``."""
        path = find_weights(name, weights_folder())
        weights = Weights.read(path)
        settings = weights.settings
        told = {"weights": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **weights.told}
        segmenter = Segmenter(Preprocessing(settings.preprocessing.spacing_mm), [weights.trained])
        return cls(weights.title, segmenter, weights.seen, told, settings.arches_apart, row=False)

    @classmethod
    def of_row(cls, study: Study, key: str, folds: Sequence[int] = (0,)) -> "Model":
        """A row trained on these folds, whose probabilities are averaged. ``TrainingError`` where it is untrained."""
        title, segmenter = method_by_key(key).title, study.segmenter(key, folds)
        seen = Seen.of([study.store.case(name) for name in study.store.labelled])
        return cls(title, segmenter, seen, told_of(study, key, folds), study.settings.arches_apart, row=True)

    def segment(self, case: Preprocessed, naming: bool, bodies: bool) -> tuple[Segmented, Naming | None]:
        """Labels of a preprocessed scan, the paper's numbers on the scan's own grid, and how levels were named.

        With ``naming`` levels are named from the whole column, and a voxel's confidence is that of its kind; without,
        names are the networks' own. ``bodies`` leaves posterior elements out. Raises ``SettingsError`` where the
        networks do not know these apart.
        """
        if bodies and not self.arches_apart:
            raise SettingsError(
                f"{self.title} does not tell bodies from posterior elements: bodies alone cannot be had."
            )
        probabilities = self.segmenter.probabilities(case)
        named = name_column(probabilities, case.restoration.spacing) if naming else None
        if named is not None:
            labels, groups = named.labels, np.array(KIND)
        else:
            labels = self._own_names(probabilities, case.restoration.spacing)
            groups = np.arange(len(WHOLE))
        whole = np.where(np.arange(len(WHOLE)) < N_CLASSES, WHOLE, 0) if bodies else np.array(WHOLE)
        if not bodies:
            groups = groups[whole]
        confidence = _confidence(probabilities, labels, groups)
        return in_native_space(case.restoration, whole.astype(np.uint8)[labels], confidence), named

    def _own_names(self, probabilities: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
        """Labels uint8 (Z, H, W): as the tables' rows are scored, or else the kind before the name."""
        return self.segmenter.labels(probabilities, spacing_mm) if self.row else volume_kind_first(probabilities)


def _confidence(probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The probability (Z, H, W) that a voxel is of its label's group; ``groups`` has one number a class."""
    confidence = np.zeros(labels.shape, np.float32)
    own = groups[labels]
    for group, probability in zip(groups, probabilities, strict=False):
        confidence += np.where(own == group, probability, 0)
    return confidence


def weights_folder() -> Path:
    """Where weights lie that were adapted to scans of one's own."""
    return Study.open("real").runs / "weights"


def told_of(study: Study, key: str, folds: Sequence[int]) -> dict[str, Any]:
    """What made a row's networks, without dates: the same networks always tell the same."""
    told = study.provenance()
    row = {"method": method_by_key(key).title, "folds": list(folds), "trainings": study.fingerprints(key, folds)}
    return row | {name: told[name] for name in _KEPT}
