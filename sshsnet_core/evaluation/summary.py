"""Section 5: what a table says of each row, as one tidy frame. DSC is in percent, as in the paper.

A case is a subject: each labelled one is held out once, so that the subjects of several folds are pooled.
"""

import warnings
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from sshsnet_core.anatomy import NAMES
from sshsnet_core.evaluation.paper import Published
from sshsnet_core.evaluation.results import ResultsError

#: In 8 and 13 of MRSpineSeg's 172 labelled cases; the next rarest structure is in 44.
RARE = ("T9", "T9/T10")
SUBJECT_MEAN, CLASS_MEAN, COMMON_MEAN = "mean of subjects", "mean of classes", "mean of 17 classes"
MEANS = (SUBJECT_MEAN, CLASS_MEAN, COMMON_MEAN)

#: The columns of the 17 structures that are not ``RARE``.
COMMON = [index for index, name in enumerate(NAMES) if name not in RARE]


def summarise(results: pd.DataFrame, rows: Published, split: str = "validation") -> pd.DataFrame:
    """The tidy table: ``row, structure, source, mean, sd, n`` for the rows of ``rows``, in their order.

    ``structure`` is a name of the anatomy or one of the overall means (``overall_means``). ``sd`` is taken over
    subjects and ``n`` counts them. A row without results has no measured lines; published lines have neither ``sd`` nor
    ``n``, and the paper does not tell its mean of subjects.

    Raises ``ResultsError`` where a case was scored twice for one row.
    """
    parts = []
    for row, published in rows.items():
        scores = scores_by_subject(results, row, split)
        if not scores.empty:
            parts.append(_measured(scores).assign(row=row, source="measured"))
        if published:
            parts.append(_published(published).assign(row=row, source="published"))
    columns = ["row", "structure", "source", "mean", "sd", "n"]
    if not parts:
        return pd.DataFrame(columns=columns)
    return (
        pd.concat(parts, ignore_index=True).reindex(columns=columns).astype({"mean": float, "sd": float, "n": "Int64"})
    )


def scores_by_subject(results: pd.DataFrame, row: str, split: str) -> pd.DataFrame:
    """A row's DSC in percent, one line a subject and one column a structure, NaN where it was not scored.

    The lines are known by case and fold, so that rows side by side are only compared where the same folds' networks
    have segmented a case: an ensemble of five is no fair pair for a single network.

    Raises ``ResultsError`` where a case was scored twice.
    """
    scores = results[(results["metric"] == "dsc") & (results["split"] == split) & (results["method"] == row)]
    twice = scores[scores.duplicated(["case", "structure"])]
    if not twice.empty:
        scored = "was held out in two folds" if split == "validation" else "was segmented by two ensembles"
        raise ResultsError(
            f"{row}: the case {twice.iloc[0]['case']} {scored}; the results come from different divisions into folds "
            "or different ensembles. Delete the older ones or measure them again."
        )
    wide = scores.pivot(index=["case", "fold"], columns="structure", values="value")
    return 100 * wide.reindex(columns=list(NAMES)).astype(float)


def on_true_structures(results: pd.DataFrame, row: str, split: str) -> pd.DataFrame:
    """``scores_by_subject`` of the truth's own structures only: without the zeros for invented names.

    The truth holds those structures that could be missed.
    """
    scores = scores_by_subject(results, row, split)
    could = results[(results["metric"] == "missed") & (results["split"] == split) & (results["method"] == row)]
    return scores.where(
        could.pivot(index=["case", "fold"], columns="structure", values="value").reindex_like(scores).notna()
    )


def overall_means(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The three ``MEANS``, (3, ...), of scores (..., subjects, 19) that are NaN where a structure was not scored.

    - mean of subjects: of each subject's mean over its structures.
    - mean of classes: of each structure's mean over its subjects, over those structures that any subject has.
    - mean of 17 classes: the same without the two rarest, T9 and T9/T10.
    """
    classes = _nanmean(scores, -2)
    return np.stack([_nanmean(_nanmean(scores, -1), -1), _nanmean(classes, -1), _nanmean(classes[..., COMMON], -1)])


def _nanmean(values: npt.NDArray[np.floating], axis: int) -> npt.NDArray[np.floating]:
    with warnings.catch_warnings():
        # The mean of nothing is NaN, and meant.
        warnings.filterwarnings("ignore", message="Mean of empty slice", category=RuntimeWarning)
        return np.asarray(np.nanmean(values, axis=axis))


def _measured(scores: pd.DataFrame) -> pd.DataFrame:
    classes = scores.agg(["mean", "std", "count"]).T
    for name, mean in zip(MEANS, overall_means(scores.to_numpy()), strict=True):
        # The means of classes have no spread over subjects.
        spread = scores.mean(axis=1).std() if name == SUBJECT_MEAN else float("nan")
        classes.loc[name] = [float(mean), spread, len(scores)]
    return classes.rename_axis("structure").reset_index().rename(columns={"std": "sd", "count": "n"})


def _published(values: Mapping[str, float]) -> pd.DataFrame:
    """The paper's own means, which are means over subjects already: its subjects' means cannot be recovered."""
    means = pd.Series(values).reindex(list(NAMES))
    _, classes, common = overall_means(means.to_numpy()[None])
    means[SUBJECT_MEAN], means[CLASS_MEAN], means[COMMON_MEAN] = float("nan"), classes, common
    return means.rename_axis("structure").rename("mean").reset_index()
