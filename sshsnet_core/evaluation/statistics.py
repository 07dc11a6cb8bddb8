"""What a difference between rows can carry: intervals over subjects, paired tests, named levels, distances, cost.

The intervals and tests are over subjects, with one training a fold. They do not say what another seed would have given;
for that, see ``comparison``.
"""

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import DegenerateDataWarning, bootstrap, wilcoxon
from statsmodels.stats.multitest import multipletests

from sshsnet_core.evaluation.paper import OURS
from sshsnet_core.evaluation.summary import COMMON, MEANS, on_true_structures, overall_means, scores_by_subject

#: Of ``on_true_structures``.
TRUE_MEAN = "mean of subjects, true structures"
DIFFERENCE, P, P_HOLM = f"{OURS} minus row", "p", "p (Holm)"
#: Shares of the truth's levels in percent, then counts.
IDENTIFIED = {"id_centroid": "named right by centroid", "id_overlap": "named right by overlap"}
COUNTS = ("missed", "shifted", "invented")
HD95, NSD, MINUTES = "HD95", "surface Dice", "training, min"

COLUMNS = ("row", "statistic", "value", "low", "high", "n")

#: Fewer subjects get neither interval nor test: of five pairs, even five equal signs have p = 0.0625.
FEWEST = 6
CONFIDENCE = 0.95
#: The ends of a 95 % percentile interval need one or two thousand (Efron and Tibshirani 1993).
RESAMPLES = 2000

Interval = tuple[float, float]
_NONE: Interval = (float("nan"), float("nan"))


def statistics(
    results: pd.DataFrame, provenances: Sequence[Mapping[str, Any]], rows: Collection[str], split: str
) -> pd.DataFrame:
    """Tidy statistics of every measured row: ``row, statistic, value, low, high, n``; NaN is what cannot be told.

    - The overall means of DSC (%), with their intervals, and ``TRUE_MEAN``; ``n`` subjects.
    - ``DIFFERENCE`` (percentage points of the mean of subjects, over the subjects that both rows have) with its
      interval, ``P`` of the two-sided Wilcoxon signed-rank test on these pairs, and ``P_HOLM``, corrected for all
      the tests of this table on this split.
    - ``IDENTIFIED`` in percent and ``missed``, ``shifted``, ``invented`` as counts; ``n`` levels judged.
    - ``HD95`` (mm, over structures that were predicted at all) and ``NSD`` (%), as means of subjects.
    - ``MINUTES`` of training behind these ``n`` results files; a stage that rows share counts for each of them.
    """
    scores = {row: scores_by_subject(results, row, split) for row in rows}
    scores = {row: of_row for row, of_row in scores.items() if not of_row.empty}
    lines: list[tuple[Any, ...]] = []
    for row, dsc in scores.items():
        of_row = results[(results["method"] == row) & (results["split"] == split)]
        of_all = (
            *_means(dsc),
            _true_mean(on_true_structures(results, row, split).mean(axis=1)),
            *_identification(of_row),
            *_surfaces(of_row),
            _cost(provenances, row, split),
        )
        lines += [(row, *line) for line in of_all]
    frame = pd.DataFrame(lines + _comparisons(scores), columns=list(COLUMNS))
    return frame.astype({"value": float, "low": float, "high": float, "n": int})


def mean_intervals(scores: npt.NDArray[np.floating]) -> list[Interval]:
    """Bootstrap intervals of the three ``MEANS``, from scores (subjects, 19).

    Whole subjects are drawn, so that a subject's structures stay together. A resample that lacks a class, as chance
    has it with T9, would have a mean of other classes, points higher: for the means of classes it is left out. That is
    also why the interval is the percentiles' and not BCa's: BCa corrects by leaving out one subject at a time, and the
    mean of classes jumps where that subject is the only one with T9.
    """
    if len(scores) < FEWEST:
        return [_NONE] * len(MEANS)
    shown = np.isfinite(scores).any(axis=0)

    def of_all_classes(index: npt.NDArray[np.intp], axis: int) -> npt.NDArray[np.floating]:
        drawn = scores[index]
        lacking = shown & np.isnan(drawn).all(axis=-2)
        means = overall_means(drawn)
        means[1, lacking.any(axis=-1)] = np.nan
        means[2, lacking[..., COMMON].any(axis=-1)] = np.nan
        return means

    low, high = _bootstrap(np.arange(len(scores)), of_all_classes)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def paired(ours: pd.Series, other: pd.Series) -> tuple[float, Interval, float, int]:
    """Mean of ``ours - other`` over their common subjects, its bootstrap interval, Wilcoxon's p, and their number.

    Interval and p are NaN below ``FEWEST`` pairs, p also below ``FEWEST`` pairs that differ: Wilcoxon drops equal ones.
    """
    differences = (ours - other).dropna().to_numpy()
    interval, p = _NONE, float("nan")
    if len(differences) >= FEWEST:
        low, high = _bootstrap(differences, np.mean)
        interval = float(low), float(high)
    if np.count_nonzero(differences) >= FEWEST:
        p = float(wilcoxon(differences).pvalue)
    return _mean(differences), interval, p, len(differences)


def _bootstrap(sample: np.ndarray, statistic: Any) -> Any:
    """The two ends of the percentile interval; resamples whose statistic is NaN are left out."""
    with warnings.catch_warnings():
        # Then the interval that scipy itself offers is NaN.
        warnings.simplefilter("ignore", DegenerateDataWarning)
        drawn = bootstrap(
            (sample,),
            statistic,
            n_resamples=RESAMPLES,
            batch=500,
            vectorized=True,
            method="percentile",
            # The same results give the same interval.
            rng=np.random.default_rng(0),
        )
    tail = 100 * (1 - CONFIDENCE) / 2
    return np.nanpercentile(drawn.bootstrap_distribution, (tail, 100 - tail), axis=-1)


def _means(scores: pd.DataFrame) -> list[tuple[Any, ...]]:
    values = scores.to_numpy()
    points = zip(MEANS, overall_means(values), mean_intervals(values), strict=True)
    return [(name, float(mean), *interval, len(values)) for name, mean, interval in points]


def _true_mean(subjects: pd.Series) -> tuple[Any, ...]:
    return TRUE_MEAN, subjects.mean(), *_NONE, subjects.count()


def _comparisons(scores: Mapping[str, pd.DataFrame]) -> list[tuple[Any, ...]]:
    """``OURS`` against every other row, with Holm's correction over the tests that could be made."""
    if OURS not in scores:
        return []
    ours = scores[OURS].mean(axis=1)
    tests = {row: paired(ours, of_row.mean(axis=1)) for row, of_row in scores.items() if row != OURS}
    made = {row: p for row, (_, _, p, _) in tests.items() if np.isfinite(p)}
    corrected = dict(zip(made, multipletests(list(made.values()), method="holm")[1], strict=True)) if made else {}
    lines: list[tuple[Any, ...]] = []
    for row, (difference, interval, p, n) in tests.items():
        lines.append((row, DIFFERENCE, difference, *interval, n))
        lines += [(row, P, p, *_NONE, n), (row, P_HOLM, corrected.get(row, float("nan")), *_NONE, n)]
    return lines


def _identification(of_row: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Over the levels of all subjects, from a row's scores of every metric."""
    verdicts = of_row.groupby("metric")["value"].agg(["mean", "sum", "count"]).reindex([*IDENTIFIED, *COUNTS])
    levels = int(verdicts["count"].fillna(0)["missed"])
    if levels:
        # Where levels were judged but no name was predicted in vain, none was invented.
        verdicts.loc["invented"] = verdicts.loc["invented"].fillna(0)
    rates, totals = 100 * verdicts["mean"], verdicts["sum"]
    lines = [(name, rates[metric], *_NONE, levels) for metric, name in IDENTIFIED.items()]
    return lines + [(metric, totals[metric], *_NONE, levels) for metric in COUNTS]


def _surfaces(of_row: pd.DataFrame) -> list[tuple[Any, ...]]:
    subjects = of_row.groupby(["metric", "case"])["value"].mean().groupby("metric").agg(["mean", "count"])
    subjects = subjects.reindex(["hd95", "nsd"])
    means, n = subjects["mean"], subjects["count"].fillna(0)
    return [(HD95, means["hd95"], *_NONE, n["hd95"]), (NSD, 100 * means["nsd"], *_NONE, n["nsd"])]


def _cost(provenances: Sequence[Mapping[str, Any]], row: str, split: str) -> tuple[Any, ...]:
    """Minutes of training behind ``n`` results files."""
    files = [s["durations_s"] for s in provenances if row in s["methods"] and s["split"] == split]
    seconds = [spent for durations in files for what, spent in durations.items() if what.startswith("training")]
    return MINUTES, sum(seconds) / 60 if seconds else np.nan, *_NONE, len(files)


def _mean(values: npt.NDArray[np.floating]) -> float:
    return float(values.mean()) if len(values) else float("nan")
