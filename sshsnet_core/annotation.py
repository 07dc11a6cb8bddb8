"""What a mask marks: which of a network's classes a label can stand for, and which structures nobody has drawn.

Cohorts differ in what they annotate: whole vertebrae (MRSpineSeg), bodies and posterior elements apart (the randomised
phantoms), bodies alone, discs alone. A structure that is not annotated is in the mask's background without being
background. So the probabilities of all classes that a label can stand for are summed before a loss compares them (the
marginal loss of Shi et al. 2021), and no score asks for what nobody has drawn.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sshsnet_core.anatomy import ARCHES, BACKGROUND, N_APART, N_CLASSES, NAMES, STRUCTURES, VERTEBRAE, WHOLE
from sshsnet_core.settings import CohortSettings, SettingsError

Labels = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Annotation:
    """``annotated``: names of the structures that masks hold, None for all. ``arches``: as in ``CohortSettings``."""

    annotated: tuple[str, ...] | None = None
    arches: Literal["joined", "apart", "absent"] = "joined"

    @classmethod
    def of(cls, cohort: CohortSettings) -> "Annotation":
        """What the masks of a profile's cohort hold. ``SettingsError`` for a name that no structure has."""
        unknown = sorted(set(cohort.annotated or ()) - set(NAMES))
        if unknown:
            raise SettingsError(f"cohort.annotated names {', '.join(unknown)}; structures are {', '.join(NAMES)}.")
        return cls(cohort.annotated, cohort.arches)

    @property
    def n_labels(self) -> int:
        """How many numbers a mask may use: 0-19, or 0-28 with arches apart."""
        return N_APART if self.arches == "apart" else N_CLASSES

    @property
    def _marked(self) -> npt.NDArray[np.uint8]:
        """For each of the 29 classes, the number under which these masks draw it; 0 where they do not."""
        marked = np.zeros(N_APART, np.uint8)
        for structure in STRUCTURES:
            if self.annotated is None or structure.name in self.annotated:
                marked[structure.label] = structure.label
        if self.arches != "absent":
            for arch, vertebra in zip(ARCHES, VERTEBRAE[1:], strict=True):
                joined = self.arches == "joined" or not marked[vertebra.label]
                marked[arch.label] = marked[vertebra.label] if joined else arch.label
        return marked

    def groups(self, classes: int) -> "Groups | None":
        """Which classes of a network of 20 or 29 classes each label stands for; None where label and class are one.

        Raises ``SettingsError`` where they cannot be told: a network that does not know arches apart cannot learn from
        masks in which a vertebra's arch is not drawn.
        """
        marked = self._marked
        if classes == N_CLASSES:
            if self.arches == "absent" and marked[VERTEBRAE[1].label : VERTEBRAE[-1].label + 1].any():
                raise SettingsError("Masks of bodies without arches need a network with arches_apart: true.")
            of_class, of_label = marked[:N_CLASSES], marked[list(WHOLE)]
        else:
            of_class, of_label = marked, np.where(np.isin(np.arange(N_APART), marked), np.arange(N_APART), BACKGROUND)
        if np.array_equal(of_class, np.arange(classes)) and np.array_equal(
            of_label[: self.n_labels], np.arange(classes)
        ):
            return None
        numbers, compact = np.unique(of_class, return_inverse=True)
        return Groups(tuple(compact.tolist()), tuple(np.searchsorted(numbers, of_label).tolist()))

    def comparable(self, prediction: Labels, truth: Labels) -> tuple[Labels, Labels]:
        """A prediction (0-19 or 0-28) and a mask of this kind, both in the paper's 20 classes, to be scored.

        Arches join their vertebra, or are left out where the mask leaves them out; so are structures that it does not
        annotate.
        """
        whole = np.array(WHOLE, np.uint8)
        if self.arches == "absent":
            whole[N_CLASSES:] = BACKGROUND
        if self.annotated is not None:
            kept = [s.label for s in STRUCTURES if s.name in self.annotated]
            whole[~np.isin(whole, kept)] = BACKGROUND
        return whole[prediction], whole[truth]


#: MRSpineSeg's masks, and the paper's: everything is drawn, arches with their vertebra.
PAPER = Annotation()


@dataclass(frozen=True)
class Groups:
    """A partition of a network's classes: ``of_class`` (C,) and ``of_label`` (29,) tell the group of each."""

    of_class: tuple[int, ...]
    of_label: tuple[int, ...]

    def scores(self, scores: Tensor) -> Tensor:
        """Class scores (N, C, *spatial) to group scores (N, G, *spatial), whose softmax is the sum over each group."""
        logarithms = torch.log_softmax(scores.float(), dim=1)
        members = [[c for c, group in enumerate(self.of_class) if group == g] for g in range(max(self.of_class) + 1)]
        return torch.stack([logarithms[:, classes].logsumexp(dim=1) for classes in members], dim=1)

    def labels(self, labels: Tensor) -> Tensor:
        """A mask's labels (N, *spatial) as numbers of groups, int64."""
        return torch.tensor(self.of_label, device=labels.device)[labels]
