"""What a cohort is (section 4.1): named cases, some of them with a reference mask."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from sshsnet_core.annotation import PAPER, Annotation
from sshsnet_core.data.contents import digest
from sshsnet_core.errors import StudyError


class CohortError(StudyError, ValueError):
    """A cohort that cannot be used: the message says which file or name is wrong and what to do."""


@dataclass(frozen=True)
class Case:
    """One volume. ``subject`` is what folds are split by; ``labels`` is the reference mask, where there is one."""

    name: str
    subject: str
    image: Path
    labels: Path | None = None


@dataclass(frozen=True)
class Cohort:
    """The labelled cases that are trained on, and the unlabelled ones (the paper's test images).

    An unlabelled case may carry a mask: it is for scoring, never for training.

    Raises ``CohortError`` where there is no case at all, where two cases share a name (upper and lower case
    do not tell names apart, as on many file systems), where a labelled case has no mask, or a file is missing.
    """

    name: str
    labelled: tuple[Case, ...]
    unlabelled: tuple[Case, ...] = ()
    #: What the masks hold.
    annotation: Annotation = PAPER
    #: What makes its files, where they are not somebody's own: a recipe says more of them than their sizes do.
    recipe: str | None = None

    def __post_init__(self) -> None:
        if not self.cases:
            raise CohortError(f"The cohort {self.name} holds no volume.")
        seen: dict[str, Case] = {}
        for case in self.cases:
            twin = seen.setdefault(case.name.casefold(), case)
            if twin is not case:
                raise CohortError(
                    f"Two cases are called {case.name}: {twin.image} and {case.image}. Rename or remove one of them."
                )
            for path in filter(None, (case.image, case.labels)):
                if not path.is_file():
                    raise CohortError(f"{path} of case {case.name} does not exist.")
        for case in self.labelled:
            if case.labels is None:
                raise CohortError(f"{case.image} is a labelled case without a mask.")

    def as_pool(self) -> "Cohort":
        """The same cases, all of them unlabelled: CPS's pool, whatever masks hold."""
        return Cohort(self.name, (), tuple(replace(case, labels=None) for case in self.cases))

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases, labelled first."""
        return self.labelled + self.unlabelled

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with the cases' names, roles and contents, or with their recipe.

        Not with times and places: a copied cohort keeps its fingerprint, and a mended mask has another. Of one recipe,
        two machines make files that differ in a last bit here and there: there the recipe counts. Read once.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        lines = [self.name, *filter(None, [self.recipe])]
        for role, cases in (("labelled", self.labelled), ("unlabelled", self.unlabelled)):
            for case in sorted(cases, key=lambda case: case.name):
                contents = "" if self.recipe else _contents(case)
                lines.append(f"{role} {case.name} {case.subject} {contents}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _contents(case: Case) -> str:
    return f"{digest(case.image)} {digest(case.labels, whole=True) if case.labels else None}"
