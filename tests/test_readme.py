"""README.md: results are those of the tables in git."""

import re
from pathlib import Path

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
    means,
    parts,
    statistics,
    table,
    words,
)

from sshsnet_core.evaluation.captions import IMAGES
from sshsnet_core.evaluation.comparison import ON_TRUE
from sshsnet_core.evaluation.results import SPLITS, read_results
from sshsnet_core.evaluation.summary import scores_by_subject
from sshsnet_core.methods.rows import BASELINES, OURS, PARTS
from sshsnet_core.transfer import KIND_FIRST


def measured(values: pd.Series, row: str) -> list[str]:
    """What the cells of a row should say."""
    right, minutes = (values[row, "test", statistic] for statistic in ("named right by overlap", "training, min"))
    return [*(means(values, row, split) for split in SPLITS), f"{right:.0f} %", f"{minutes:.0f}"]


@pytest.mark.parametrize(
    ("page", "folder", "header"),
    [
        (README, REFERENCE, "|row|16held-outcases"),
        (MEASURED, FIVE_FOLDS, "|rowoverfivefolds|"),
        (MEASURED, OTHER_MACHINE, "|rowonanothermachine|"),
        (MEASURED, REFERENCE / "effort4", "|rowatEFFORT=4|"),
    ],
    ids=["here", "over five folds", "on another machine", "four times the steps"],
)
def test_the_readmes_tell_what_was_measured(page: Path, folder: Path, header: str) -> None:
    values = statistics(folder)
    told = {row: cells for row, *cells in table(page, header)}
    assert told == {row: measured(values, row) for row in values.index.unique("row")}


def test_the_readme_tells_how_far_another_machine_moves_the_rows() -> None:
    of_subjects = [values.xs("mean of subjects", level="statistic") for values in (BY_EFFORT[1], ELSEWHERE)]
    moved = (of_subjects[0] - of_subjects[1]).abs().dropna().groupby("row").max().sort_values()
    assert moved.index[-1] == "SSHSNet-2D-w/o-Pre-CPS"
    told = f"moved the means of subjects by up to {moved.iloc[-2]:.1f} points, {moved.iloc[-1]:.1f} without pretraining"
    assert told in words(README)


def test_the_readme_tells_what_more_steps_reach() -> None:
    flat, p = (
        [BY_EFFORT[4]["2D nnU-Net", split, name] for split in SPLITS] for name in ("SSHSNet minus row", "p (Holm)")
    )
    minutes = [BY_EFFORT[4][row, "test", "training, min"] for row in ("2D nnU-Net", "SSHSNet")]
    told = (
        f"reaches {means(BY_EFFORT[4], '2D nnU-Net', 'validation')} and is ahead of SSHSNet, by {-flat[0]:.1f} points "
        f"on held-out cases and {-flat[1]:.1f} on test images (p .0006 and .04), in {minutes[0]:.0f} minutes against"
    )
    assert f"{told} {minutes[1]:.0f}." in words(README)
    assert [f"{of:.1g}" for of in p] == ["0.0006", "0.04"]
    before = [BY_EFFORT[1]["2D nnU-Net", split, "SSHSNet minus row"] for split in SPLITS]
    assert "where it was {:.1f} and {:.1f} behind with `mini`'s own steps".format(*before) in words(MEASURED)
    behind = ("CoTr", "SpineParseNet", "3D nnU-Net")
    others = [BY_EFFORT[4][row, split, "SSHSNet minus row"] for row in behind for split in SPLITS]
    told = (
        "CoTr is {:.1f} and {:.1f} points behind SSHSNet, SpineParseNet {:.1f} and {:.1f}, 3D nnU-Net, which finds "
        "neither T10 and T9 nor the discs T11/T12 and T9/T10 yet, {:.1f} and {:.1f}."
    )
    assert told.format(*others) in words(MEASURED)
    for split in SPLITS:
        deep = scores_by_subject(read_results(REFERENCE / "effort4" / "results"), "3D nnU-Net", split).mean()
        assert set(deep.index[deep == 0]) == {"T10", "T9", "T11/T12", "T9/T10"}
    cps = parts(REFERENCE / "effort4").loc["CPS"]
    held_out, test = (f"{cps['difference'][images]:.1f}" for images in IMAGES.values())
    reached = f"bring SSHSNet to {means(BY_EFFORT[4], 'SSHSNet', 'validation')}"
    of_true = [f"{cps[ON_TRUE][images]:.1f}" for images in IMAGES.values()]
    assert (
        f"{reached}; CPS is then ahead at equal steps, by {held_out} and {test} points, of which {{}} and {{}}".format(
            *of_true
        )
        in words(README)
    )
    assert "over the truth's own structures CPS is ahead by {} and {}.".format(*of_true) in words(MEASURED)
    p_held_out, p_test = (f"{cps['p'][images]:.2f}".lstrip("0") for images in IMAGES.values())
    told = (
        f"by {held_out} points on held-out cases (p {p_held_out}) and {test} on test images (p {p_test}, uncorrected)"
    )
    assert told in words(MEASURED)
    assert f"+{held_out} and +{test} with four times the steps" in words(MEASURED)
    pool = parts(REFERENCE / "effort4").loc[PARTS[-1].choice]
    gained, p_gained = -pool["difference"][IMAGES["validation"]], f"{pool['p'][IMAGES['validation']]:.3f}".lstrip("0")
    assert f"has seen instead, that row is ahead by {gained:.1f} (p {p_gained})." in words(MEASURED)
    assert abs(pool["difference"][IMAGES["test"]]) < 0.05
    with_more, here = (
        [f"{of[row, 'validation', 'mean of subjects']:.0f}" for row in ("SSHSNet-3D", "SSHSNet-2D-w/o-Pre-CPS")]
        for of in (BY_EFFORT[4], BY_EFFORT[1])
    )
    told = "SSHSNet-3D has {} and the row without pretraining {}, where they have {} and {} here"
    assert told.format(*with_more, *here) in words(MEASURED)


def test_the_readme_tells_what_parts_are_worth_in_short() -> None:
    of = parts(FIVE_FOLDS)["difference"].xs(IMAGES["validation"], level="images")
    assert f"they are worth {of['pretraining']:.0f} and {of['the second stage']:.0f} points" in words(README)
    cps = parts(REFERENCE).loc["CPS"]
    assert (cps["low"] < 0).all()
    assert (cps["high"] > 0).all()
    there = parts(OTHER_MACHINE)["difference"]["CTAM", IMAGES["validation"]]
    assert f"there CTAM was behind by {-there:.1f}" in words(README)


def test_the_readme_tells_how_far_the_baselines_are() -> None:
    of = BY_EFFORT[1].unstack("statistic").loc[[row.title for row in BASELINES]].unstack("split")
    ahead = of["SSHSNet minus row"]
    assert set(ahead.idxmin()) == {"CoTr"}
    held_out, test, p = *ahead.loc["CoTr", list(SPLITS)], of["p (Holm)"].max(axis=None)
    told = f"of CoTr by {held_out:.1f} points on held-out cases and by {test:.1f} on test images"
    assert f"{told} (p {f'{p:.2f}'.lstrip('0')})" in words(README)


def test_the_readme_tells_how_long_sshsnet_and_the_baselines_train() -> None:
    there, here = (values.xs(("test", "training, min"), level=(1, 2)) for values in (ELSEWHERE, BY_EFFORT[1]))
    of_baselines = [minutes[minutes.index.isin([row.title for row in BASELINES])] for minutes in (there, here)]
    spans = [f"{minutes.min():.0f} to {minutes.max():.0f}" for minutes in of_baselines]
    told = f"on the other machine {spans[0]} minutes, SSHSNet {there[OURS.title]:.0f}; on this one {spans[1]}, SSHSNet"
    assert f"{told} {here[OURS.title]:.0f}." in words(README)


@pytest.mark.parametrize(("split", "better"), [("validation", 12), ("test", 9)])
def test_the_readme_tells_what_2d_nnunet_finds(split: str, better: int) -> None:
    lacks = {"T9", "T12/L1", "T10/T11", "T9/T10"}
    assert finds(read_results(REFERENCE / "results"), split) == (15, better, lacks)
    told = (
        "that 2D nnU-Net finds here it outlines twelve better than SSHSNet on held-out cases, nine on test images; T9"
    )
    assert f"Of the fifteen structures {told} and the discs T12/L1, T10/T11 and T9/T10 it leaves out" in words(README)


def test_the_readme_tells_what_was_measured_on_real_scans() -> None:
    """The first table of real.md (held back, slices as they are): the networks' own names and the column's."""
    told = table(README, "|trainedon|levelsnamedby|")
    rows = [row for row in table(REFERENCE / "real.md", "|network|names|") if row[1] != KIND_FIRST]
    means = [[cell.split()[0] for cell in cells] for _, _, *cells in rows]
    assert [cells for _, _, *cells in told] == [
        [bodies, outlines, discs, f"{right} %"] for bodies, outlines, discs, _, right in means
    ]


def test_the_readme_tells_what_cps_leaves_of_each_kind() -> None:
    """The last table of real.md: the volumes held back, slices as they are."""
    rows = {(cases, slices): cells for cases, slices, *cells in table(REFERENCE / "real.md", "|cases|slices|")}
    bodies, discs, arches = rows["held back", "slices as they are"]
    mean, low, high = re.findall(r"\d+", arches)[:3]
    others = f"of vertebral bodies {bodies.split()[0]}, of discs {discs.split()[0]} %"
    assert f"{mean} % of the voxels ({low} to {high}; {others})" in words(README)
