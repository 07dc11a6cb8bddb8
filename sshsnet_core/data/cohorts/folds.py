"""The folds of the cross-validation (sections 4.3, 4.4): drawn once, written down, the same for every method."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sshsnet_core.anatomy import COLUMN
from sshsnet_core.data.cohorts.base import CohortError


@dataclass(frozen=True)
class Fold:
    """Names of the cases that are trained on, and of those that are scored."""

    training: tuple[str, ...]
    validation: tuple[str, ...]

    def partition(self, one_in: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The training cases where one in so many is labelled: those, and the others. 1 in 8 are half of 1 in 4."""
        labelled = self.training[::one_in]
        return labelled, tuple(name for name in self.training if name not in labelled)


def make_folds(
    structures: Mapping[str, frozenset[int]], n_folds: int, seed: int, subjects: Mapping[str, str] | None = None
) -> list[Fold]:
    """Split cases, given the classes present in each, into folds whose validation sets are disjoint and cover all.

    Subjects are shuffled, lined up by the topmost structure that they show and dealt out in turn. So folds differ by
    one subject at most, and a level that two subjects reach is in every fold's training set: T9 is in 8 of
    MRSpineSeg's 172. (scikit-learn's stratified folds refuse a class that has fewer members than there are folds.)
    ``subjects`` says which cases belong together; without it each case is a subject.

    Raises ``CohortError`` where there are fewer subjects than folds.
    """
    subject_of = {case: subjects[case] if subjects else case for case in structures}
    topmost: dict[str, int] = {}
    for case, present in structures.items():
        heights = [height for height, structure in enumerate(COLUMN) if structure.label in present]
        topmost[subject_of[case]] = max([*heights, topmost.get(subject_of[case], 0)])
    if len(topmost) < n_folds:
        raise CohortError(f"{n_folds} folds need as many labelled subjects, but there are {len(topmost)}.")
    shuffled = np.random.default_rng(seed).permutation(sorted(topmost))
    lined_up = sorted(shuffled, key=lambda subject: topmost[subject])
    folds = []
    for first in range(n_folds):
        held_out = set(lined_up[first::n_folds])
        training = tuple(case for case in structures if subject_of[case] not in held_out)
        folds.append(Fold(training, tuple(case for case in structures if subject_of[case] in held_out)))
    return folds


def write_folds(path: Path, folds: list[Fold]) -> None:
    """As JSON, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps([asdict(fold) for fold in folds], indent=1), encoding="utf-8")
    os.replace(temporary, path)


def read_folds(path: Path, cases: set[str], n_folds: int) -> list[Fold]:
    """The folds written before.

    ``CohortError`` where the file is damaged, or its folds are not of these ``cases`` or not ``n_folds``.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        folds = [Fold(tuple(fold["training"]), tuple(fold["validation"])) for fold in found]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CohortError(f"{path} does not hold folds ({error}): delete it, and folds are drawn again.") from error
    if len(folds) != n_folds:
        raise CohortError(
            f"{path} holds {len(folds)} folds and the profile asks for {n_folds}: delete it, and folds are drawn again."
        )
    held_out = [case for fold in folds for case in fold.validation]
    if sorted(held_out) != sorted(cases) or any({*f.training, *f.validation} != cases for f in folds):
        raise CohortError(f"{path} holds the folds of another cohort: delete it, and folds are drawn again.")
    for fold in folds:
        if set(fold.training) & set(fold.validation):
            raise CohortError(f"{path} has a case on both sides of a fold: delete it, and folds are drawn again.")
    return folds
