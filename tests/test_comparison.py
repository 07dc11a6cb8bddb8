"""Rows over seeds, on results written by hand."""

from pathlib import Path

import pandas as pd
import pytest

from sshsnet_core.evaluation.comparison import (
    NAMED,
    ON_TRUE,
    compare_partitions,
    compare_released,
    compare_seeds,
    compare_switches,
    write_comparison,
)


def scores(method: str, values: dict[tuple[str, str], float]) -> pd.DataFrame:
    lines = [
        {
            "method": method,
            "fold": "0",
            "split": "validation",
            "case": case,
            "structure": s,
            "metric": "dsc",
            "value": v,
        }
        for (case, s), v in values.items()
    ]
    return pd.DataFrame(lines)


@pytest.fixture
def comparison() -> pd.DataFrame:
    first = scores("A", {("Case1", "L3"): 0.8, ("Case1", "T9"): 0.4, ("Case2", "L3"): 0.6})
    second = scores("A", {("Case1", "L3"): 1.0, ("Case2", "L3"): 0.5})
    return compare_seeds({0: first, 1: second}, ["A", "B"])


def test_one_line_a_row_and_seed_and_none_for_a_row_without_results(comparison: pd.DataFrame) -> None:
    assert comparison[["row", "seed"]].to_numpy().tolist() == [["A", 0], ["A", 1]]


def test_means_are_those_of_the_tables(comparison: pd.DataFrame) -> None:
    # Subjects: (80 + 40) / 2 and 60; classes: L3 (80 + 60) / 2 and T9 40.
    assert comparison["mean of subjects"].tolist() == pytest.approx([60, 75])
    assert comparison["mean of classes"].tolist() == pytest.approx([55, 75])
    assert comparison["T9"].iloc[0] == pytest.approx(40)
    assert pd.isna(comparison["T9"].iloc[1])


def test_files_hold_the_caption_and_the_tidy_numbers(comparison: pd.DataFrame, tmp_path: Path) -> None:
    write_comparison(tmp_path, "cps", "CPS twice", comparison, "Two seeds of nothing.", make="cps")
    text = (tmp_path / "cps.md").read_text()
    assert text.startswith("# CPS twice\n\nTwo seeds of nothing.")
    assert "`make cps`" in text
    assert "75.00" in text
    assert "Wilcoxon" not in text
    tidy = pd.read_csv(tmp_path / "cps.csv")
    assert list(tidy.columns) == ["row", "seed", "quantity", "value"]
    assert tidy.query("quantity == 'mean of subjects' and seed == 1")["value"].item() == pytest.approx(75)


def test_small_p_are_told_and_said_to_be_uncorrected(tmp_path: Path) -> None:
    line = {"switch": "CTAM", "against": "SSHSNet", "images": "the test images", "difference": -1.5, "p": 0.00003}
    write_comparison(tmp_path, "parts", "Parts", pd.DataFrame([line]), "Words.", make="study", keys=3)
    text = (tmp_path / "parts.md").read_text()
    assert "3e-05" in text
    assert "not corrected" in text
    assert "`make study`" in text
    tidy = pd.read_csv(tmp_path / "parts.csv").set_index("quantity")
    assert list(tidy.columns) == ["switch", "against", "images", "value"]
    assert tidy.loc["p", "value"] == pytest.approx(0.00003)


def test_a_baseline_as_released_stands_beside_ours() -> None:
    own = scores("CoTr", {(f"case {n}", "L3"): 0.8 + 0.01 * n for n in range(8)})
    released = scores("CoTr, released order", {(f"case {n}", "L3"): 0.7 for n in range(8)})
    named = own.assign(metric="id_overlap", value=[1.0] * 6 + [0.0] * 2)
    results = pd.concat([own, released, named, named.assign(method="CoTr, released order", value=0.5)])
    pairs = [("CoTr, released order", "CoTr"), ("2D nnU-Net, upside down", "2D nnU-Net")]
    ours, theirs = compare_released(results, pairs).to_dict("records")
    assert (ours["row"], ours["form"], theirs["form"]) == ("CoTr", "as here", "as released")
    assert ours["mean of subjects"] == pytest.approx(83.5)
    assert (ours[NAMED], theirs[NAMED]) == (75, 50)
    assert theirs["difference"] == pytest.approx(-13.5)
    assert theirs["low"] < -13.5 < theirs["high"]
    assert theirs["p"] == pytest.approx(2 / 2**8)
    assert pd.isna(ours["difference"])


def test_cps_is_held_against_the_rows_that_learn_from_the_same_labels() -> None:
    cps = scores("CPS, 1 in 2 labelled", {(f"case {n}", "L3"): 0.75 + 0.01 * n for n in range(8)})
    without = scores("w/o, 1 in 2 labelled", {(f"case {n}", "L3"): 0.7 for n in range(8)})
    named = without.assign(metric="id_overlap", value=[1.0] * 6 + [0.0] * 2)
    partitions = {
        "4 (1 in 2)": {"CPS": "CPS, 1 in 2 labelled", "w/o": "w/o, 1 in 2 labelled", "longer": "not run"},
        "8 (1 in 1)": {"CPS": "not run, either", "w/o": "w/o, 1 in 2 labelled"},
    }
    lines = compare_partitions(pd.concat([cps, without, named]), partitions).to_dict("records")
    assert [(line["labelled"], line["row"]) for line in lines] == [
        ("4 (1 in 2)", "CPS"),
        ("4 (1 in 2)", "w/o"),
        ("8 (1 in 1)", "w/o"),
    ]
    assert lines[0]["mean of subjects"] == pytest.approx(78.5)
    assert lines[1]["CPS minus row"] == pytest.approx(8.5)
    assert lines[1]["low"] < 8.5 < lines[1]["high"]
    assert lines[1][NAMED] == 75
    # Against itself, or where CPS has not been run, there is nothing to tell.
    assert pd.isna([lines[0]["CPS minus row"], lines[2]["CPS minus row"]]).all()


def test_a_switch_is_held_against_the_row_without_it() -> None:
    base = scores("SSHSNet", {(f"case {n}", "L3"): 0.8 for n in range(8)})
    turned = scores("SSHSNet, CTAM as printed", {(f"case {n}", "L3"): 0.75 + 0.01 * n for n in range(8)})
    switches = [("CTAM", "SSHSNet, CTAM as printed", "SSHSNet"), ("not run", "SSHSNet, no CutMix", "SSHSNet")]
    (line,) = compare_switches(pd.concat([base, turned]), switches).to_dict("records")
    assert (line["switch"], line["against"]) == ("CTAM", "SSHSNet")
    assert compare_switches(pd.concat([base, turned]), switches, "test").empty
    # 75, 76, ... 82 against 80: the mean of the differences is -1.5.
    assert line["mean of subjects"] == pytest.approx(78.5)
    assert line["difference"] == pytest.approx(-1.5)
    assert line["low"] < -1.5 < line["high"]


def test_an_ensemble_is_not_held_against_a_single_network() -> None:
    both = {(f"case {n}", "L3"): 0.8 for n in range(8)}
    single = scores("SSHSNet, inductive", both).assign(split="test")
    ensemble = scores("SSHSNet", both).assign(split="test", fold="0+1")
    pair = [("the pool", "SSHSNet", "SSHSNet, inductive")]
    assert compare_switches(pd.concat([single, ensemble]), pair, "test").empty
    assert len(compare_switches(pd.concat([single.assign(fold="0+1"), ensemble]), pair, "test")) == 1


def test_what_each_fold_alone_would_have_shown_stands_beside_their_mean() -> None:
    # Two folds of four subjects each: the turned row gains 3 points in one and loses 1 in the other.
    folds = {f"case {n}": str(n // 4) for n in range(8)}
    base = scores("SSHSNet", {(case, "L3"): 0.8 for case in folds})
    turned = scores("SSHSNet, w/o", {(case, "L3"): 0.83 if fold == "0" else 0.79 for case, fold in folds.items()})
    once = scores("SSHSNet, no CutMix", {("case 0", "L3"): 0.9, ("case 1", "L3"): 0.9})
    results = pd.concat([base, turned, once]).assign(fold=lambda frame: frame["case"].map(folds))
    switches = [("w/o", "SSHSNet, w/o", "SSHSNet"), ("CutMix", "SSHSNet, no CutMix", "SSHSNet")]
    both, first = compare_switches(results, switches).to_dict("records")
    assert (both["difference"], both["fold 0"], both["fold 1"]) == pytest.approx((1, 3, -1))
    assert pd.isna([first["fold 0"], first["fold 1"]]).all()
    assert list(compare_switches(results, switches[1:]).columns)[-1] == ON_TRUE


def test_a_name_invented_once_does_not_count_among_true_structures(tmp_path: Path) -> None:
    # One row draws L3 better by a point in each of eight subjects, and in one of them invents T9, which scores 0.
    both = {(f"case {n}", "L3"): 0.8 for n in range(8)}
    base = scores("w/o", both)
    judged = base.assign(metric="missed", value=0.0)
    turned = scores("with", dict.fromkeys(both, 0.81) | {("case 0", "T9"): 0.0})
    results = pd.concat([base, turned, judged, judged.assign(method="with")])
    comparison = compare_switches(results, [("part", "with", "w/o")])
    (line,) = comparison.to_dict("records")
    assert line["difference"] == pytest.approx(1 - 40.5 / 8)
    assert line[ON_TRUE] == pytest.approx(1)
    write_comparison(tmp_path, "parts", "Parts", comparison, "Words.", make="study")
    assert f"{ON_TRUE}: the same difference" in (tmp_path / "parts.md").read_text()
