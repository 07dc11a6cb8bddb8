"""What naming from the column does on held-out randomised phantoms: ``python -m sshsnet_core.benchmarks.naming``.

The shipped networks segment the cases that fold 0 of profile ``real`` holds out. A quarter of an hour on one core.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sshsnet_core.anatomy import DISCS, VERTEBRAE, WHOLE
from sshsnet_core.data.cohorts.phantom_randomised import draw_variant
from sshsnet_core.data.cohorts.phantom_spine import Variant
from sshsnet_core.data.store import StoredCase
from sshsnet_core.decision import volume_kind_first
from sshsnet_core.evaluation.chain import DEPTH, LEAN, landmarks
from sshsnet_core.evaluation.column import Column
from sshsnet_core.evaluation.metrics import score_case
from sshsnet_core.evaluation.naming import TRANSITIONAL, name_column
from sshsnet_core.methods.weights import SHIPPED, Weights
from sshsnet_core.progress import Progress
from sshsnet_core.study import Study

OWN, NAMED = "networks' own, kind before name", "named from the column"


def main() -> None:
    """Levels named right and DSC with and without naming, and what naming says of the sacrum."""
    study, networks = Study.open("real"), Weights.read(SHIPPED).trained
    found = []
    with Progress("naming", len(study.folds[0].validation), "case") as progress:
        for name in study.folds[0].validation:
            # Cases are counted from 1.
            drawn = np.random.default_rng([study.settings.cohort.seed, int(name.removeprefix("Case")) - 1])
            found.append(Named.of(study.store.case(name), networks, draw_variant(drawn)))
            progress.advance(name)
    print_scores(pd.concat([named.scores for named in found]))
    print("\nColumns whose lowest vertebra was flagged as transitional, by what was drawn:")
    flags = pd.DataFrame([(named.variant, named.transitional) for named in found], columns=["drawn", "flagged"])
    print(flags.groupby("drawn")["flagged"].agg(["sum", "count"]).to_string())
    print("\nThe top of the sacrum in the masks of the phantoms that were learnt from, beside what naming expects:")
    print(at_the_sacrum([study.store.case(name) for name in study.folds[0].training]).round(2).to_string())


@dataclass(frozen=True, eq=False)
class Named:
    """What naming makes of one phantom, which is a ``variant``."""

    variant: Variant
    #: Tidy scores (structure, metric, value) under both kinds of ``names``.
    scores: pd.DataFrame
    transitional: bool

    @classmethod
    def of(cls, case: StoredCase, networks: Callable[[np.ndarray], np.ndarray], variant: Variant) -> "Named":
        """Segment it, name its levels, score both."""
        whole = np.array(WHOLE, np.uint8)
        probabilities, spacing_mm = networks(case.image), case.restoration.spacing
        naming, truth = name_column(probabilities, spacing_mm), whole[np.array(case.labels)]
        both = {OWN: volume_kind_first(probabilities), NAMED: naming.labels}
        scores = [
            pd.DataFrame(score_case(whole[labels], truth, spacing_mm)).assign(names=names, case=case.name)
            for names, labels in both.items()
        ]
        return cls(variant, pd.concat(scores), any(TRANSITIONAL in flag for flag in naming.flags))


def print_scores(scores: pd.DataFrame) -> None:
    """Levels named right, over all levels, and the mean of subjects of DSC, under both kinds of names."""
    subjects = scores.groupby(["names", "metric", "case"])["value"].mean().groupby(["names", "metric"]).mean()
    levels = scores.groupby(["names", "metric"])["value"].mean()
    for names in (OWN, NAMED):
        print(f"{names}: {levels[names, 'id_overlap']:.1%} of levels right, DSC {subjects[names, 'dsc']:.3f}")


def at_the_sacrum(cases: Sequence[StoredCase]) -> pd.DataFrame:
    """Each landmark as naming expects it and as these phantoms' masks have it: a row for each, means and spreads."""
    found = []
    for case in cases:
        labels = np.array(case.labels)
        column = Column.of(np.stack([labels == label for label in range(len(WHOLE))]), case.restoration.spacing)
        disc = np.argwhere(labels == DISCS[0].label)
        if column is None or not len(disc) or not (labels == VERTEBRAE[0].label).any():
            continue
        # The lower end of L5/S; its tips hang over the edge of the sacrum.
        top = int(np.percentile(column.along[disc[:, 1], disc[:, 2]], 5))
        found.append([values[top] for _, values in landmarks(column)])
    measured = pd.DataFrame(found)
    names = [f"lean at {mark.offset_mm} mm" for mark in LEAN] + [f"depth at {mark.offset_mm} mm" for mark in DEPTH]
    expected = [(mark.mean, mark.spread) for mark in (*LEAN, *DEPTH)]
    table = pd.DataFrame(expected, names, ["expected", "spread expected"])
    return table.assign(phantoms=measured.mean().to_numpy(), spread=measured.std().to_numpy(), n=len(measured))


if __name__ == "__main__":
    main()
