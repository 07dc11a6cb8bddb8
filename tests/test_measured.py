"""figures/README.md: results are those of the tables in git."""

import itertools

import pandas as pd
import pytest
from pages import (
    BY_EFFORT,
    ELSEWHERE,
    FIVE_FOLDS,
    MEASURED,
    OTHER_MACHINE,
    README,
    REFERENCE,
    finds,
    parts,
    seconds,
    statistics,
    table,
    words,
    worth,
)
from scipy.stats import wilcoxon

from sshsnet_core.evaluation.captions import IMAGES
from sshsnet_core.evaluation.comparison import ON_TRUE
from sshsnet_core.evaluation.results import SPLITS, read_results
from sshsnet_core.evaluation.statistics import TRUE_MEAN, paired
from sshsnet_core.evaluation.summary import RARE, scores_by_subject
from sshsnet_core.methods.rows import AS_RELEASED, BASELINES, CPS_COMPARISON, EQUAL_TIME, OURS, PARTS
from sshsnet_core.study import REPOSITORY


def test_a_gpu_has_measured_what_is_told() -> None:
    values = statistics(REPOSITORY / "figures" / "gpu").xs("validation", level="split")
    expected = {
        row: [
            f"{values[row, 'mean of subjects']:.2f} / {values[row, 'mean of classes']:.2f}",
            f"{values[row, 'named right by overlap']:.0f} %",
            f"{values[row, 'training, min']:.1f}",
        ]
        for row in values.index.unique("row")
    }
    assert {row: cells for row, *cells in table(MEASURED, "|rowonaGPU|")} == expected
    of = parts(REPOSITORY / "figures" / "gpu").xs(IMAGES["validation"], level="images").loc[["CTAM", "CPS"]]
    (ctam, cps), of_p = of["difference"], [f"{p:.1g}".lstrip("0") for p in of["p"]]
    told = f"by {-ctam:.1f} points, and CPS is ahead at equal steps, by {cps:.1f} ([with intervals](gpu/parts.md), p"
    assert f"{told} {of_p[0]} and {of_p[1]}, uncorrected; one training each)" in words(MEASURED)
    told = f"over the truth's own structures CTAM is {-of[ON_TRUE]['CTAM']:.1f} behind and CPS {of[ON_TRUE]['CPS']:.1f}"
    assert f"{told} ahead." in words(MEASURED)


def test_each_part_was_worth_what_is_told() -> None:
    told = {part: cells for part, *cells, _ in table(MEASURED, "|whatisitworth?|")}
    folders = (REFERENCE, OTHER_MACHINE, REFERENCE / "effort4")
    assert told == {part.choice: [worth(folder, part.choice) for folder in folders] for part in PARTS}


def test_each_part_was_worth_in_each_fold_what_is_told() -> None:
    of_parts = parts(FIVE_FOLDS)
    by_fold = of_parts.xs(IMAGES["validation"], level="images").filter(like="fold ")
    expected = {
        part: [worth(FIVE_FOLDS, part), *(f"{value:+.1f}" for value in by_fold.loc[part])] for part in by_fold.index
    }
    assert {part: cells for part, *cells in table(MEASURED, "|worthoverfivefolds|")} == expected
    ctam, cps = ([f"{end:.1f}" for end in (by_fold.loc[p].min(), by_fold.loc[p].max())] for p in ("CTAM", "CPS"))
    assert f"ahead of plain concatenation in every fold, by {ctam[0]} to {ctam[1]} points" in words(MEASURED)
    assert f"between {cps[0]} and +{cps[1]} from fold to fold" in words(MEASURED)
    assert by_fold.loc["CTAM"].min() > 0 > by_fold.loc["CPS"].min()
    held_out, lost = of_parts["difference"]["CTAM"][IMAGES["validation"]], of_parts.loc[("CPS", IMAGES["test"])]
    assert f"CTAM is ahead of plain concatenation in each of them, by {held_out:.1f} points in the mean" in words(
        README
    )
    assert wilcoxon(by_fold.loc["CTAM"]).pvalue == 2 / 2**5
    assert "(p .06 over the five differences, the least that five can have)" in words(MEASURED)
    assert f"and costs {-lost['difference']:.1f} on the test images" in words(MEASURED)
    seen, pool = by_fold.loc[PARTS[-1].choice], of_parts["difference"][PARTS[-1].choice]
    told = (
        f"is ahead of its inductive row by {pool[IMAGES['test']]:.1f}, on the held-out cases, which the inductive row "
        f"has seen, by {pool[IMAGES['validation']]:.1f}, from fold to fold by {seen.min():.1f} to {seen.max():+.1f}."
    )
    assert told in words(MEASURED)
    assert lost["high"] < 0
    gained = parts(REPOSITORY / "figures" / "gpu").xs(IMAGES["validation"], level="images").loc["CPS"]
    of_all = of_parts["difference"]["CPS", IMAGES["validation"]]
    everywhere = f"{of_all:.1f} over [five folds](#five-folds), {lost['difference']:.1f} on their test images, "
    assert f"{everywhere}{gained['difference']:+.1f} [on the GPU](#on-a-gpu)" in words(MEASURED)
    with_more = parts(REFERENCE / "effort4").loc["CPS"][ON_TRUE][list(IMAGES.values())]
    assert "of which {:.1f}, {:.1f} and {:.1f} are more than slivers".format(gained[ON_TRUE], *with_more) in words(
        MEASURED
    )
    assert "costs a point on test images; on the GPU's cohort it gained one" in words(README)
    assert round(-lost["difference"]) == round(gained["difference"]) == 1
    assert gained["low"] > 0


def test_sshsnet_is_ahead_of_the_baselines_over_five_folds_as_is_told() -> None:
    results, one_fold = read_results(FIVE_FOLDS / "results"), read_results(REFERENCE / "results")
    table2 = pd.read_csv(FIVE_FOLDS / "table2_statistics.csv").set_index(["row", "split", "statistic"])
    ours = scores_by_subject(results, OURS.title, "validation").mean(axis=1)
    expected, more = {}, {}
    for row in (*BASELINES, OURS):
        reached = [scores_by_subject(of, row.title, "test").mean(axis=1).mean() for of in (results, one_fold)]
        more[row.title] = f"{reached[0] - reached[1]:.1f}"
        if row is OURS:
            continue
        ahead = [table2.loc[(row.title, split, f"{OURS.title} minus row")] for split in SPLITS]
        of_all = " / ".join(f"{of['value']:+.1f} [{of['low']:.1f}, {of['high']:.1f}]" for of in ahead)
        theirs = scores_by_subject(results, row.title, "validation").mean(axis=1)
        expected[row.title] = [of_all, *(f"{of:+.1f}" for of in (ours - theirs).groupby("fold").mean())]
        assert all(table2.loc[(row.title, split, "p (Holm)"), "value"] < 0.005 for split in SPLITS)
    assert {row: cells for row, *cells in table(MEASURED, "|aheadoverfivefolds|")} == expected
    told = words(MEASURED)
    assert "{2D nnU-Net} points in 2D nnU-Net's row, {SpineParseNet} in SpineParseNet's".format(**more) in told
    assert "{SSHSNet} in SSHSNet's, {CoTr} in CoTr's, {3D nnU-Net} in 3D nnU-Net's".format(**more) in told
    of_cotr = [f"{table2.loc[('CoTr', split, 'SSHSNet minus row'), 'value']:.1f}" for split in SPLITS]
    assert "over [five folds](figures/README.md#five-folds) by {} and {}".format(*of_cotr) in words(README)
    assert f"eleven of the fifteen structures that it finds better than {OURS.title} on held-out cases, ten" in told
    assert [finds(results, split)[:2] for split in SPLITS] == [(15, 11), (15, 10)]
    by_fold = scores_by_subject(results, "2D nnU-Net", "validation").groupby("fold").mean()
    assert (by_fold[list(finds(results, "validation")[2])] == 0).all(axis=None)
    assert (by_fold[["T10", "T11/T12"]] == 0).all(axis=1).sum() == 2
    assert "in every fold, in two of them T10 and T11/T12 as well" in told


def test_the_rows_over_five_folds_train_as_long_as_is_told() -> None:
    minutes = statistics(FIVE_FOLDS).xs(("test", "training, min"), level=(1, 2))
    of_baselines = minutes[[row.title for row in BASELINES]]
    told = f"SSHSNet trained {minutes[OURS.title]:.0f} minutes there, the baselines"
    assert f"{told} {of_baselines.min():.0f} to {of_baselines.max():.0f}," in words(MEASURED)


def test_the_lead_is_that_of_imagenet_weights_as_is_told() -> None:
    results = read_results(REFERENCE / "results")
    scores = scores_by_subject(results, "SSHSNet-w/o-Pre", "validation")
    without = scores.mean(axis=1)
    assert f"SSHSNet reaches {without.mean():.2f} / {scores.mean().mean():.2f} on the held-out cases" in words(README)
    beside = {
        row: paired(without, scores_by_subject(results, row, "validation").mean(axis=1))
        for row in ("CoTr", "2D nnU-Net", "3D nnU-Net", "SpineParseNet")
    }
    assert all(p > 0.05 for _, _, p, _ in beside.values())
    assert {row for row, (_, (low, high), _, _) in beside.items() if low < 0 < high} == {"CoTr", "2D nnU-Net"}
    cotr, flat, deep, parse = (difference for difference, *_ in beside.values())
    p = [f"{p:.2f}".lstrip("0") for _, _, p, _ in beside.values()]
    told = (
        f"SSHSNet has {without.mean():.1f} on held-out cases ([the last switch](reference/switches.md), one training), "
        f"{-cotr:.1f} points behind CoTr and {-flat:.1f} behind 2D nnU-Net, {deep:.1f} ahead of 3D nnU-Net and "
        f"{parse:.1f} of SpineParseNet (p {p[0]}, {p[1]}, {p[2]} and {p[3]}, uncorrected);"
    )
    assert told in words(MEASURED)
    told = f"{-cotr:.1f} and {-flat:.1f} points behind CoTr and 2D nnU-Net and {deep:.1f} and {parse:.1f} ahead of the"
    assert told in words(README)
    again = read_results(FIVE_FOLDS / "results").query("fold == '1'")
    without = scores_by_subject(again, "SSHSNet-w/o-Pre", "validation").mean(axis=1)
    cotr, flat = (
        (without - scores_by_subject(again, row, "validation").mean(axis=1)).mean() for row in ("CoTr", "2D nnU-Net")
    )
    told = f"on fold 1 it has {without.mean():.1f}, {-cotr:.1f} behind CoTr and {flat:.1f} ahead of 2D nnU-Net."
    assert told in words(MEASURED)
    named = results.query("method == 'SSHSNet-w/o-Pre' and metric == 'shifted'")["value"]
    assert f"which without them gives {named.sum():.0f} of {len(named)} levels another one's name" in words(MEASURED)


def test_ctam_and_cps_take_as_long_as_is_told() -> None:
    here, gpu = REFERENCE / "results", REPOSITORY / "figures" / "gpu" / "results"
    folders = [FIVE_FOLDS / "results", here, OTHER_MACHINE / "results", REFERENCE / "effort4" / "results", gpu]
    ctam = [seconds(folder, "sshsnet", "stage 2") / seconds(folder, "wo-ctam", "stage 2") for folder in folders]
    assert max(ctam) == ctam[0]
    assert f"its second stage took up to {ctam[0]:.1f} times as long" in words(README)
    told = (
        f"Its second stage took {ctam[0]:.1f} times as long there, {ctam[2]:.1f} times on the other machine and on the"
    )
    assert told in words(MEASURED)
    assert f"{ctam[2]:.1f}" == f"{ctam[4]:.1f}"
    cps = [seconds(folder, "2d-cps") / seconds(folder, "2d-wo-cps") for folder in folders]
    told = f"takes {min(cps[:4]):.1f} to {max(cps[:4]):.1f} times as long as one on labels alone on these CPUs"
    assert f"{told} ({cps[4]:.1f} times on the GPU)" in words(MEASURED)
    of_seeds = [here, REFERENCE / "seed1", OTHER_MACHINE / "results", OTHER_MACHINE / "seed1"]
    longer = [f"{seconds(folder, '2d-wo-cps-equal-time') / 60:.0f}" for folder in of_seeds]
    told = "took it {} and {} minutes here, {} and {} on the other machine, two under CPS 7 on both".format(*longer)
    assert told in words(MEASURED)
    assert {f"{seconds(folder, '2d-cps') / 60:.0f}" for folder in of_seeds} == {"7"}


def test_names_are_right_as_often_as_is_told() -> None:
    wrong = {}
    for folder in (REFERENCE, FIVE_FOLDS):
        of = read_results(folder / "results").query("method == 'SSHSNet' and metric == 'id_overlap'")
        wrong[folder] = [(1 - of.loc[of["split"] == split, "value"]).sum() for split in SPLITS]
        levels = (of["split"] == "validation").sum()
    assert wrong[REFERENCE] == [0, 1]
    told = f"on held-out cases, and all but one on test images (over five folds all but {wrong[FIVE_FOLDS][0]:.0f} of"
    assert f"{told} {levels})" in words(MEASURED)


def test_the_lead_over_cotr_lies_where_is_told() -> None:
    """In the mean of classes every structure weighs the same."""
    rare, upper = [], []
    for folder, split in itertools.product((REFERENCE, FIVE_FOLDS), SPLITS):
        ours, theirs = (
            scores_by_subject(read_results(folder / "results"), title, split).mean() for title in (OURS.title, "CoTr")
        )
        lead = (ours - theirs) / (ours - theirs).sum()
        rare.append(lead[list(RARE)].sum())
        upper.append(lead[["T10", "T10/T11", "T11", "T11/T12"]].sum())
    assert (round(min(rare), 1), round(max(rare), 1)) == (0.4, 0.5)
    assert "four to five tenths of the lead over CoTr in the mean of classes, and T10 to T11/T12 most" in words(
        MEASURED
    )
    assert all(of_upper > (1 - of_rare) / 2 for of_rare, of_upper in zip(rare, upper, strict=True))


@pytest.mark.parametrize("row", ["SSHSNet", "SSHSNet-3D"])
def test_rows_depend_on_the_fold_as_is_told(row: str) -> None:
    results = read_results(FIVE_FOLDS / "results").query("split == 'validation'")
    scores = scores_by_subject(results, row, "validation").mean(axis=1)
    of_folds = scores.groupby("fold").mean()
    assert f"({of_folds.min():.1f} to {of_folds.max():.1f})" in words(MEASURED)
    if row == OURS.title:
        assert f"SSHSNet has {of_folds['2']:.1f} and {of_folds['3']:.1f} there" in words(MEASURED)


def test_specks_cost_what_is_told() -> None:
    reached, invented = {}, {}
    for kept, folder in ((True, REFERENCE / "specks"), (False, REFERENCE / "results")):
        results = read_results(folder)
        for row in (OURS.title, "CoTr"):
            of_splits = [scores_by_subject(results, row, split).mean(axis=1).mean() for split in SPLITS]
            reached[row, kept] = " / ".join(f"{mean:.1f}" for mean in of_splits)
            verdicts = results[(results["method"] == row) & (results["metric"] == "invented")]
            invented[row, kept] = [int(verdicts.loc[verdicts["split"] == split, "value"].sum()) for split in SPLITS]
    ours, cotr = ((reached[row, True], reached[row, False], invented[row, True]) for row in (OURS.title, "CoTr"))
    assert (invented[OURS.title, False], invented["CoTr", False]) == ([0, 1], [0, 0])
    told = words(MEASURED)
    assert (
        "SSHSNet reaches {} instead of {}, with {} and {} invented levels instead of 0 and 1".format(
            *ours[:2], *ours[2]
        )
        in told
    )
    assert "CoTr {} instead of {}, with {} and {} instead of none".format(*cotr[:2], *cotr[2]) in told


def test_what_is_told_is_reached_on_true_structures() -> None:
    reached = [
        " / ".join(f"{BY_EFFORT[effort]['SSHSNet', split, TRUE_MEAN]:.1f}" for split in SPLITS) for effort in (1, 4)
    ]
    assert "reaches {} here and {} with four times the steps".format(*reached) in words(MEASURED)


def test_cps_has_measured_what_is_told() -> None:
    told = {row: cells for row, *cells in table(MEASURED, "|row,stage1alone|")}
    machines = {REFERENCE: BY_EFFORT[1], OTHER_MACHINE: ELSEWHERE}
    reached: dict[str, list[str]] = {row: [] for row in CPS_COMPARISON}
    for folder, of_rows in machines.items():
        cps = pd.read_csv(folder / "cps.csv").set_index(["row", "seed", "quantity"])["value"]
        for row, seed in itertools.product(CPS_COMPARISON, (0, 1)):
            of_seed = cps.xs((row, seed), level=("row", "seed"))
            reached[row].append(f"{of_seed['mean of subjects']:.2f} / {of_seed['mean of classes']:.2f}")
        for mean in ("mean of subjects", "mean of classes"):
            assert cps[EQUAL_TIME.title].xs(mean, level="quantity").min() > of_rows[OURS.title, "validation", mean]
    assert told == reached


def test_cps_where_labels_are_few_has_measured_what_is_told() -> None:
    few = pd.read_csv(REFERENCE / "labels.csv").pivot(index=["labelled", "row"], columns="quantity", values="value")
    reached = few.apply(lambda of: f"{of['mean of subjects']:.2f} / {of['mean of classes']:.2f}", axis="columns")
    told = {labelled: cells for labelled, *cells in table(MEASURED, "|labelledcases|")}
    columns = [f"SSHSNet-2D-{row}" for row in ("CPS", "w/o-CPS", "w/o-CPS, equal time")]
    assert told == {labelled: list(cells) for labelled, cells in reached.unstack()[columns].iterrows()}
    at_64, at_8 = (reached[labelled, EQUAL_TIME.title] for labelled in ("64 (1 in 1)", "8 (1 in 8)"))
    assert f"reaches {at_64}, more than the whole of SSHSNet" in words(README)
    assert f"with eight cases that single network reaches {at_8}" in words(README)
    for mean in ("mean of subjects", "mean of classes"):
        assert few[mean]["64 (1 in 1)", EQUAL_TIME.title] > BY_EFFORT[1][OURS.title, "validation", mean]
    scarce = ["4 (1 in 16)", "8 (1 in 8)", "16 (1 in 4)"]
    steps, time = (few.xs(row, level="row") for row in columns[1:])
    behind = [[f"{-of:.0f}" for of in rows["CPS minus row"][scarce]] for rows in (time, steps)]
    told_behind = "by {}, {} and {} points at equal time, by {}, {} and {} at equal steps"
    assert told_behind.format(*behind[0], *behind[1]) in words(README)
    assert list(steps.index[steps["high"] < 0]) == scarce[:1]
    assert (time["high"] < 0).all()
    of_four, of_all = f"{steps['p'][scarce[0]]:.3f}".lstrip("0"), -time["CPS minus row"]
    told_measured = words(MEASURED)
    assert f"beyond chance only with four ({behind[1][0]} points, p {of_four}, uncorrected;" in told_measured
    assert f"at equal steps (only the {behind[1][0]} is beyond chance)" in words(README)
    assert f"everywhere ({of_all.min():.0f} to {of_all.max():.0f} points)" in told_measured
    common = [f"{of:.1f}" for of in steps["mean of 17 classes"][scarce[1:]]]
    assert f"the row on labels has {common[0]} and {common[1]}" in told_measured


def test_the_baselines_as_released_have_measured_what_is_told() -> None:
    released = pd.read_csv(REFERENCE / "released.csv").query("form == 'as released'")
    of = released.pivot(index="row", columns="quantity", values="value").loc[[row.title for row in AS_RELEASED]]
    flat, deep, order, in_sample = of["difference"]
    p_order, p_in_sample = (f"{p:.2g}".lstrip("0") for p in of["p"].round(3).iloc[2:])
    told = words(MEASURED)
    assert f"upside down, costs 2D nnU-Net {-flat:.0f} points in so few steps" in told
    assert f"turning by up to 180 degrees, 3D nnU-Net {-deep:.0f}, where mirroring left to right alone costs 6" in told
    assert f"CoTr's order of coordinates costs {-order:.0f} (p {p_order}," in told
    assert f"SpineParseNet's in-sample coarse maps gain {in_sample:.0f} (p {p_in_sample})" in told


def test_mirroring_left_to_right_has_measured_what_is_told() -> None:
    reached, of = {}, {}
    for title in ("3D nnU-Net", "CoTr"):
        for mirrored, folder in ((True, REFERENCE / "mirrored"), (False, FIVE_FOLDS / "results")):
            of_folds = scores_by_subject(read_results(folder), title, "validation").mean(axis=1).groupby("fold").mean()
            of[title, mirrored] = of_folds[["0", "1"]]
            reached[title, mirrored] = " and ".join(f"{of_folds[fold]:.1f}" for fold in ("0", "1"))
    told = words(MEASURED)
    deep = f"{reached['3D nnU-Net', True]} on the cases that folds 0 and 1 hold out, without it"
    assert f"3D nnU-Net reaches {deep} {reached['3D nnU-Net', False]};" in told
    assert f"CoTr {reached['CoTr', True]}, without it {reached['CoTr', False]}." in told
    assert "costs 3D nnU-Net 4 points and more and changes CoTr by half a point at most" in told
    costs = of["3D nnU-Net", False] - of["3D nnU-Net", True]
    assert costs.min() > 4
    # As told beside what `released` costs on fold 0.
    assert round(costs["0"]) == 6
    assert (of["CoTr", False] - of["CoTr", True]).abs().max() <= 0.5


def test_the_switches_have_measured_what_is_told() -> None:
    switches = pd.read_csv(REFERENCE / "switches.csv").pivot(index="switch", columns="quantity", values="value")
    established = switches[switches["high"] < 0].sort_values("difference")["difference"]
    printed, weights, patches, rates = -established
    assert list(established.index) == [
        "CTAM as printed, not residual",
        "no ImageNet weights, as the baselines",
        "patches of 64 by 64 pixels",
        "3D ASPP at rates 12, 24, 36",
    ]
    told = words(MEASURED)
    assert f"does not train in this time, {printed:.0f} points are lost" in told
    assert f"ImageNet weights are worth {weights:.0f} points to the whole" in told
    assert f"lose {patches:.1f} points and the 3D ASPP's rates as printed {rates:.1f}," in told
    assert (switches["low"] < 0).all()
