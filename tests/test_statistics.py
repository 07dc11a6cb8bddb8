"""Intervals, tests, identification and cost, on results written by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest

from sshsnet_core.anatomy import NAMES
from sshsnet_core.evaluation.statistics import FEWEST, RESAMPLES, mean_intervals, paired, statistics
from sshsnet_core.evaluation.summary import overall_means

RARE = [NAMES.index(name) for name in ("T9", "T9/T10")]


def results(scores, metric="dsc"):
    frame = pd.DataFrame(scores, columns=["method", "case", "structure", "value"])
    return frame.assign(fold="0", split="validation", metric=metric)


def cohort(row, values):
    return [(row, f"Case{i}", "L5", value) for i, value in enumerate(values)]


def value(table, row, statistic, column="value"):
    found = table[(table["row"] == row) & (table["statistic"] == statistic)]
    assert len(found) == 1
    return found.iloc[0][column]


@pytest.fixture
def scores():
    """(12, 19): harder subjects are worse throughout, one has T9 and T9/T10."""
    rng = np.random.default_rng(3)
    table = 80 + rng.normal(0, 5, (12, 1)) + rng.normal(0, 1, (12, 19))
    table[:, RARE] = np.nan
    table[4, RARE] = 20
    return table


def test_the_three_means_are_their_definitions_in_loops(scores):
    def mean(values):
        kept = [v for v in values if np.isfinite(v)]
        return sum(kept) / len(kept)

    subjects = mean([mean(line) for line in scores])
    classes = mean([mean(line) for line in scores.T])
    common = mean([mean(line) for k, line in enumerate(scores.T) if k not in RARE])
    np.testing.assert_allclose(overall_means(scores), [subjects, classes, common])
    # A structure in no subject leaves the mean of classes, and so does one that a resample lacks.
    np.testing.assert_allclose(
        overall_means(np.delete(scores, 4, axis=0))[1:], [mean(np.delete(scores, 4, 0)[0:].mean(0))] * 2
    )


def test_intervals_are_the_percentiles_of_resampled_subjects(scores):
    rng = np.random.default_rng(11)
    subjects = [rng.integers(0, 12, 12) for _ in range(RESAMPLES)]
    drawn = np.stack([overall_means(scores[of]) for of in subjects])
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    # Subject 4 alone has T9: without it, it is the mean of other classes.
    with_t9 = np.array([4 in of for of in subjects])
    low[1], high[1] = np.percentile(drawn[with_t9, 1], (2.5, 97.5))
    intervals = np.array(mean_intervals(scores))
    # Two bootstraps agree to a fraction of the interval's width.
    np.testing.assert_allclose(intervals, np.column_stack([low, high]), atol=0.12 * (high - low).max())
    assert mean_intervals(scores) == mean_intervals(scores)


def test_a_subject_s_structures_stay_together(scores):
    # Independent structures would average out: the interval of 17 classes would be about four times as narrow.
    low, high = mean_intervals(scores)[2]
    assert high - low > 0.8 * 2 * 1.96 * np.delete(scores, RARE, axis=1).mean(axis=1).std() / np.sqrt(12)


def test_a_resample_that_lacks_a_class_says_nothing_of_the_mean_of_classes(scores):
    (all_low, all_high), (common_low, common_high) = mean_intervals(scores)[1:]
    # (1 - 1/12)^12, a third of the resamples, lack the two: as means of the 17 classes they would be 6 points higher.
    assert overall_means(scores)[2] - overall_means(scores)[1] > 6
    assert all_high - all_low < 1.2 * (common_high - common_low)


def test_few_subjects_have_no_interval_and_no_test(scores):
    assert np.isnan(mean_intervals(scores[: FEWEST - 1])).all()
    assert np.isfinite(mean_intervals(scores[:FEWEST])).all()
    ours = pd.Series(range(FEWEST - 1), dtype=float)
    difference, interval, p, n = paired(ours + 2, ours)
    assert (difference, n) == (2, FEWEST - 1)
    assert np.isnan([*interval, p]).all()
    difference, _, p, n = paired(pd.Series(dtype=float), ours)
    assert n == 0
    assert np.isnan([difference, p]).all()


def test_equal_pairs_have_a_difference_and_no_p():
    same = pd.Series(np.linspace(0, 1, 10))
    difference, interval, p, n = paired(same, same)
    assert (difference, interval, n) == (0, (0, 0), 10)
    assert np.isnan(p)


def test_p_is_the_share_of_sign_patterns_that_are_as_extreme():
    """The signed-rank test by going through all 2^n signs of the differences."""
    differences = np.array([1.0, -2.0, 3.5, 4.0, 5.5, 6.0, 7.5, 9.0])
    ranks = np.arange(1, 9)
    observed = ranks[differences > 0].sum()
    sums = np.array([ranks[np.array(signs)].sum() for signs in itertools.product([True, False], repeat=8)])
    middle = ranks.sum() / 2
    expected = (abs(sums - middle) >= abs(observed - middle)).mean()
    _, _, p, _ = paired(pd.Series(differences), pd.Series(np.zeros(8)))
    assert p == pytest.approx(expected)


def test_the_interval_of_a_difference_is_that_of_resampled_means():
    differences = np.random.default_rng(1).normal(2, 1, 12)
    differences[0] = 9  # a mean moves with it, a median does not
    rng = np.random.default_rng(2)
    means = [rng.choice(differences, len(differences)).mean() for _ in range(20000)]
    _, interval, _, _ = paired(pd.Series(differences), pd.Series(np.zeros(12)))
    assert interval == pytest.approx(np.percentile(means, (2.5, 97.5)), abs=0.05)


def test_only_subjects_of_both_rows_are_paired():
    ours = pd.Series([5.0, 6.0, 7.0], index=["a", "b", "c"])
    other = pd.Series([1.0, 1.0, 1.0], index=["b", "c", "d"])
    assert paired(ours, other)[::3] == (5.5, 2)


def test_every_other_row_is_tested_and_holm_multiplies_the_smallest_p_most():
    base = np.linspace(0.6, 0.8, 8)
    steps = np.array([1, 2, 3, 4, 5, 6, 7, 8]) / 100
    frame = results(
        [
            *cohort("SSHSNet", base),
            *cohort("worse", base - steps),
            *cohort("mixed", base + steps * [1, -1, 1, -1, 1, -1, 1, -1]),
            *cohort("third", base - steps * [-1, -1, 1, 1, 1, 1, 1, 1]),
            *cohort("equal", base),
        ]
    )
    table = statistics(frame, [], ["worse", "mixed", "third", "equal", "missing", "SSHSNet"], "validation")
    assert list(table.columns) == ["row", "statistic", "value", "low", "high", "n"]
    assert "missing" not in set(table["row"])
    assert value(table, "worse", "SSHSNet minus row") == pytest.approx(4.5)
    assert (
        0 < value(table, "worse", "SSHSNet minus row", "low") < 4.5 < value(table, "worse", "SSHSNet minus row", "high")
    )
    first, second, last = sorted(("worse", "mixed", "third"), key=lambda row: value(table, row, "p"))
    p = [value(table, row, "p") for row in (first, second, last)]
    assert p[0] == pytest.approx(2 / 2**8)
    assert p[0] < p[1] < p[2] < 1
    # Of three tests: three times the smallest p, twice the next, the largest as it is, and never less than before.
    corrected = [3 * p[0], max(3 * p[0], 2 * p[1]), max(3 * p[0], 2 * p[1], p[2])]
    assert [value(table, row, "p (Holm)") for row in (first, second, last)] == pytest.approx(corrected)
    assert np.isnan(value(table, "equal", "p"))
    assert np.isnan(value(table, "equal", "p (Holm)"))
    assert "p" not in set(table.loc[table["row"] == "SSHSNet", "statistic"])


def test_without_our_row_nothing_is_compared():
    table = statistics(results(cohort("worse", [0.5] * 8)), [], ["worse", "SSHSNet"], "validation")
    assert "SSHSNet minus row" not in set(table["statistic"])
    assert statistics(results([]), [], ["SSHSNet"], "validation").empty


def test_levels_are_counted_over_all_structures_and_distances_averaged_over_subjects():
    structures = ["L5", "L4", "L3", "L2"]
    frames = [results([("A", case, s, 0.5) for case in ("x", "y") for s in structures])]
    verdicts = {
        "id_centroid": [1, 1, 1, 1, 1, 1, 0, 0],
        "id_overlap": [1, 1, 1, 1, 1, 0, 0, 0],
        "missed": [0, 0, 0, 0, 0, 0, 0, 1],
        "shifted": [0, 0, 0, 0, 0, 1, 1, 0],
    }
    pairs = list(itertools.product(("x", "y"), structures))
    for metric, values in verdicts.items():
        frames.append(results([("A", c, s, v) for (c, s), v in zip(pairs, values, strict=True)], metric))
    frames.append(results([("A", "x", "T9", 1), ("A", "x", "T10", 0)], "invented"))
    # One distance in a subject, two in the other: the subjects weigh the same.
    frames.append(results([("A", "x", "L5", 4.0), ("A", "y", "L5", 1.0), ("A", "y", "L4", 3.0)], "hd95"))
    frames.append(results([("A", "x", "L5", 0.9), ("A", "y", "L5", 0.8)], "nsd"))
    table = statistics(pd.concat(frames), [], ["A"], "validation")
    assert value(table, "A", "named right by centroid") == pytest.approx(75)
    assert value(table, "A", "named right by overlap") == pytest.approx(62.5)
    assert value(table, "A", "named right by overlap", "n") == 8
    assert [value(table, "A", name) for name in ("missed", "shifted", "invented")] == [1, 2, 1]
    assert value(table, "A", "HD95") == pytest.approx(3)
    assert value(table, "A", "surface Dice") == pytest.approx(85)


def test_true_structures_leave_out_the_zeros_of_names_that_the_truth_does_not_hold():
    dsc = results([("A", "x", "L5", 0.9), ("A", "x", "L4", 0.0), ("A", "x", "T9", 0.0), ("A", "y", "L5", 0.7)])
    verdicts = results([("A", "x", "L5", 0), ("A", "x", "L4", 1), ("A", "y", "L5", 0)], "missed")
    table = statistics(pd.concat([dsc, verdicts]), [], ["A"], "validation")
    assert value(table, "A", "mean of subjects, true structures") == pytest.approx(100 * (0.45 + 0.7) / 2)
    assert value(table, "A", "mean of subjects, true structures", "n") == 2
    assert value(table, "A", "mean of subjects") == pytest.approx(100 * (0.3 + 0.7) / 2)


def test_what_was_not_measured_is_not_a_zero():
    table = statistics(results(cohort("A", [0.5])), [], ["A"], "validation")
    for name in (
        "mean of subjects, true structures",
        "named right by centroid",
        "missed",
        "shifted",
        "invented",
        "HD95",
        "surface Dice",
        "training, min",
    ):
        assert np.isnan(value(table, "A", name)), name


def test_cost_is_all_training_behind_the_results_of_the_split():
    def sidecar(split, method, **seconds):
        return {"split": split, "methods": [method], "durations_s": seconds}

    provenances = [
        sidecar(
            "validation", "A", **{"training, fold 0, stage 1": 60.0, "training, fold 0, stage 2": 30.0, "scoring": 9.0}
        ),
        sidecar("validation", "A", **{"training, fold 1": 90.0}),
        sidecar("test", "A", **{"training, fold 0": 6000.0}),
        sidecar("validation", "B", **{"training, fold 0": 6000.0}),
    ]
    table = statistics(results(cohort("A", [0.5])), provenances, ["A"], "validation")
    assert value(table, "A", "training, min") == pytest.approx(3)
    assert value(table, "A", "training, min", "n") == 2
