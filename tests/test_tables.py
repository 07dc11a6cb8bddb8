import pandas as pd
import pytest

from sshsnet_core.anatomy import NAMES
from sshsnet_core.evaluation.captions import caption
from sshsnet_core.evaluation.paper import TABLE_1, TABLE_2
from sshsnet_core.evaluation.results import ResultsError, provenance
from sshsnet_core.evaluation.summary import summarise
from sshsnet_core.evaluation.tables import (
    table_blocks,
    table_latex,
    table_markdown,
    table_text,
    write_table,
)
from sshsnet_core.methods.rows import INDUCTIVE, TITLES
from sshsnet_core.settings import load_settings

#: method, fold, split, case, structure, DSC
FROZEN = [
    ("SSHSNet", "0", "validation", "Case1", "L5", 0.80),
    ("SSHSNet", "0", "validation", "Case1", "L4", 0.60),
    ("SSHSNet", "1", "validation", "Case2", "L5", 0.90),
    ("SSHSNet", "1", "validation", "Case3", "L5", 0.70),
    ("SSHSNet", "1", "validation", "Case3", "T10", 0.00),
    ("SSHSNet-3D", "0", "validation", "Case1", "L5", 0.50),
    ("SSHSNet-3D", "0", "validation", "Case1", "L4", 0.50),
    ("2D nnU-Net", "0", "validation", "Case1", "L5", 0.99),
]
ON_TEST = [("SSHSNet", "0+1", "test", "Case9", "L5", 0.70), ("2D nnU-Net", "0+1", "test", "Case9", "L5", 0.50)]


def frame(scores):
    columns = ["method", "fold", "split", "case", "structure", "value"]
    dsc = pd.DataFrame(scores, columns=columns).assign(metric="dsc")
    # Other metrics must not enter a table of DSC.
    return pd.concat([dsc, dsc.assign(metric="hd95", value=50.0)], ignore_index=True)


@pytest.fixture
def results():
    return frame(FROZEN)


@pytest.fixture
def origin():
    mini = load_settings("mini")
    made = provenance(mini, cohort="phantom", fingerprint="ab12", seed=7, effort=0.5, device="cpu", durations_s={})
    ours = {**made, "pool": "test", "methods": ["SSHSNet", "SSHSNet-3D"]}
    other = {**made, "pool": "test", "methods": ["2D nnU-Net"], "seed": 8}
    folds = (("0", "validation"), ("1", "validation"), ("0+1", "test"))
    return [{**sidecar, "fold": fold, "split": split} for fold, split in folds for sidecar in (ours, other)]


def line(summary, row, structure, source="measured"):
    found = summary[(summary["row"] == row) & (summary["structure"] == structure) & (summary["source"] == source)]
    assert len(found) == 1
    return found.iloc[0]


def test_structures_are_pooled_over_folds_in_percent(results):
    l5 = line(summarise(results, TABLE_1), "SSHSNet", "L5")
    assert l5["mean"] == pytest.approx(80)
    assert l5["sd"] == pytest.approx(10)
    assert l5["n"] == 3


def test_the_two_overall_means_differ_as_their_definitions_do(results):
    summary = summarise(results, TABLE_1)
    # L5 80, L4 60, T10 0; the 16 structures in no subject do not count.
    assert line(summary, "SSHSNet", "mean of classes")["mean"] == pytest.approx(140 / 3)
    assert line(summary, "SSHSNet", "mean of 17 classes")["mean"] == pytest.approx(140 / 3)
    # Subjects: 70, 90 and 35.
    subjects = line(summary, "SSHSNet", "mean of subjects")
    assert subjects["mean"] == pytest.approx(65)
    assert subjects["sd"] == pytest.approx(27.838822)
    assert subjects["n"] == 3


def test_the_mean_of_17_classes_leaves_out_the_two_rarest():
    scores = {"L5": 0.9, "L4": 0.7, "T9": 0.2, "T9/T10": 0.0}
    own = frame([("SSHSNet", "0", "validation", "Case1", name, value) for name, value in scores.items()])
    summary = summarise(own, TABLE_1)
    assert line(summary, "SSHSNet", "mean of 17 classes")["mean"] == pytest.approx(80)
    assert line(summary, "SSHSNet", "mean of classes")["mean"] == pytest.approx(45)


def test_a_structure_in_no_subject_has_n_0_and_no_mean(results):
    t9 = line(summarise(results, TABLE_1), "SSHSNet", "T9")
    assert t9["n"] == 0
    assert pd.isna(t9["mean"])


def test_the_tidy_table_holds_what_the_design_says(results):
    summary = summarise(results, TABLE_1)
    assert list(summary.columns) == ["row", "structure", "source", "mean", "sd", "n"]
    assert set(summary["source"]) == {"measured", "published"}
    assert set(summary["structure"]) == {*NAMES, "mean of classes", "mean of 17 classes", "mean of subjects"}
    assert list(summary["row"].unique()) == list(TABLE_1)
    published = summary[summary["source"] == "published"]
    assert published["sd"].isna().all()
    assert published["n"].isna().all()
    assert len(published) == 22 * len(TABLE_1)


def test_published_means_are_the_paper_s(results):
    summary = summarise(results, TABLE_2)
    assert line(summary, "CoTr", "mean of classes", "published")["mean"] == pytest.approx(73.57, abs=0.005)
    assert line(summary, "CoTr", "mean of 17 classes", "published")["mean"] == pytest.approx(80.64, abs=0.005)
    assert line(summary, "CoTr", "T9", "published")["mean"] == 8.38
    assert pd.isna(line(summary, "CoTr", "mean of subjects", "published")["mean"])


def test_rows_of_one_s_own_have_no_published_lines():
    own = frame([("without SE", "0", "validation", "Case1", "L5", 0.5)])
    assert set(summarise(own, {"without SE": {}})["source"]) == {"measured"}


def test_nothing_run_is_an_empty_summary(results):
    assert summarise(results, {"without SE": {}}).empty


def test_a_case_held_out_twice_is_refused():
    twice = frame([("SSHSNet", fold, "validation", "Case1", "L5", 0.5) for fold in "01"])
    with pytest.raises(ResultsError, match="Case1 was held out in two folds"):
        summarise(twice, TABLE_1)


def test_a_test_image_scored_for_two_ensembles_of_one_row_is_refused():
    twice = frame([("SSHSNet", fold, "test", "Case9", "L5", 0.5) for fold in ("0", "0+1")])
    with pytest.raises(ResultsError, match="Case9 was segmented by two ensembles"):
        summarise(twice, TABLE_1, "test")


def test_markdown_keeps_measured_and_published_apart_and_shows_missing_rows(results, origin):
    means = table_markdown(1, TITLES[1], results, origin).split("## Table 1, by")[0]
    measured, published = means.split("## Table 1, published")
    assert "86.09" in published
    assert "86.09" not in measured
    assert "not run yet" not in published
    for row in TABLE_1:
        cells = next(text for text in measured.splitlines() if text.startswith(f"| {row} "))
        assert ("not run yet" in cells) == (row not in ("SSHSNet", "SSHSNet-3D"))
    counts = next(text for text in measured.splitlines() if text.startswith("| subjects"))
    cells = [cell.strip() for cell in counts.strip("|").split("|")][1:]
    assert cells == ["1-3", "1-3", "1-3", "0", "1-3", "1", *["0"] * 5, "0-1", *["0"] * 10]
    assert "T9, L5/S" in measured


def test_the_caption_names_what_the_numbers_were_measured_on(results, origin):
    text = caption(results, origin, TABLE_1, "validation")
    for fact in ("phantom (ab12)", "profile mini", "seed 7,", "effort 0.5", "Unlabelled pool: test", "inductive"):
        assert fact in text
    assert "folds of 5: SSHSNet 0, 1; SSHSNet-3D 0" in text
    assert "Transductive" not in text
    assert text.startswith("DSC (%) on the held-out cases, ")
    assert caption(results, origin, TABLE_1, "validation", shown="Maps").startswith("Maps on the held-out cases, ")
    assert "seed 7 and 8" in caption(results, origin, {**TABLE_1, **TABLE_2}, "validation")


@pytest.mark.parametrize(
    ("pool", "split", "transductive"),
    [
        ("test", "validation", False),
        ("test", "test", True),
        ("held-out", "validation", True),
        ("held-out", "test", False),
        ("folder", "test", False),
        ("none", "test", False),
    ],
)
def test_the_caption_tells_inductive_from_transductive(origin, pool, split, transductive):
    for sidecar in origin:
        sidecar["pool"] = pool
    text = caption(frame(FROZEN + ON_TEST), origin, TABLE_1, split)
    assert f"Unlabelled pool: {pool}." in text
    assert (
        "Transductive here (these images, without labels, were the unlabelled pool): all rows." in text
    ) == transductive
    assert ("All rows are inductive here" in text) != transductive


def test_the_caption_tells_each_row_s_pool_where_they_differ(origin):
    for sidecar in origin:
        if "2D nnU-Net" in sidecar["methods"]:
            sidecar["pool"] = "none"
    text = caption(frame(ON_TEST), origin, TITLES[2], "test")
    assert "ensemble of folds 0+1 of 5" in text
    assert "Unlabelled pools: none (2D nnU-Net); test (SSHSNet)." in text
    assert text.endswith("were the unlabelled pool): SSHSNet; the other rows are inductive.")


def titles(number, results, origin):
    return [block.title for block in table_blocks(number, TITLES[number], results, origin)]


def test_each_table_shows_its_own_split_then_the_published_numbers_then_the_other_split(origin):
    both = frame(FROZEN + ON_TEST)
    held_out, test = "on the held-out cases", "on the test images"
    for number, own, other in ((1, held_out, test), (2, test, held_out)):
        assert titles(number, both, origin) == [
            f"Table {number}, measured {own}",
            f"Table {number}, published",
            f"Table {number}, measured {other}",
            f"Table {number}, by structure, {own}",
            f"Table {number}, statistics, {own}",
            f"Table {number}, by structure, {other}",
            f"Table {number}, statistics, {other}",
        ]


def test_where_the_own_split_has_no_scores_the_other_comes_first_and_the_text_says_why(results, origin):
    hidden = [{**origin[-1], "methods": []}]
    for sidecars, why in (
        (origin[:4] + hidden, "truth of the test images is hidden"),
        (origin[:4], "No row has been run"),
    ):
        first, second = table_blocks(2, TITLES[2], results, sidecars)[:2]
        assert first.title == "Table 2, measured on the held-out cases"
        assert why in first.text
        assert second.title == "Table 2, published"
    assert "hidden" not in table_blocks(1, TITLES[1], results, origin)[0].text
    assert "No row has been run" not in table_blocks(1, TITLES[1], results, origin)[0].text


def test_nothing_run_at_all_still_shows_the_published_numbers(origin):
    blocks = table_blocks(2, TITLES[2], frame(FROZEN[4:5]).assign(method="something else"), origin)
    assert [block.title for block in blocks] == ["Table 2, measured on the test images", "Table 2, published"]
    assert blocks[0].text == "Not run yet."


def test_table_2_has_a_row_of_our_own_without_published_numbers(origin):
    measured, published, *_ = table_blocks(
        2, TITLES[2], frame([*ON_TEST, (INDUCTIVE.title, "0+1", "test", "Case9", "L5", 0.65)]), origin
    )
    assert list(measured.cells.index) == [*TABLE_2, INDUCTIVE.title, "subjects"]
    assert measured.cells.loc[INDUCTIVE.title, "L5"] == "65.00"
    assert list(published.cells.index) == list(TABLE_2)


def test_a_row_that_is_new_is_a_line_of_its_table(origin):
    scores = frame([*ON_TEST, ("Another U-Net", "0+1", "test", "Case9", "L5", 0.65)])
    measured, published, *_ = table_blocks(2, [*TITLES[2], "Another U-Net"], scores, origin)
    assert measured.cells.loc["Another U-Net", "L5"] == "65.00"
    assert "Another U-Net" not in published.cells.index


def test_mean_sd_and_n_of_every_structure_can_be_read(results, origin):
    cells = table_blocks(1, TITLES[1], results, origin)[2].cells
    assert list(cells.columns) == ["SSHSNet-3D", "SSHSNet"]
    assert cells.loc["L5", "SSHSNet"] == "80.0 ± 10.0 (3)"
    assert cells.loc["L4", "SSHSNet"] == "60.0 (1)"
    assert cells.loc["T9", "SSHSNet"] == "-"
    assert cells.loc["mean of subjects", "SSHSNet"] == "65.0 ± 27.8 (3)"
    assert "80.0 ± 10.0 (3)" in table_markdown(1, TITLES[1], results, origin)
    assert "80.0 ± 10.0 (3)" in table_latex(1, TITLES[1], results, origin)


def test_the_statistics_stand_in_a_block_with_intervals_pairs_and_cost(origin):
    rng = [0.80, 0.82, 0.84, 0.86, 0.88, 0.90, 0.92]
    scores = [("SSHSNet", "0", "validation", f"Case{i}", "L5", v) for i, v in enumerate(rng)]
    scores += [("SSHSNet-3D", "0", "validation", f"Case{i}", "L5", v - 0.1 - i / 100) for i, v in enumerate(rng)]
    for sidecar in origin:
        sidecar["durations_s"] = {
            "training, fold 0, stage 1": 90.0,
            "training, fold 0, stage 2": 30.0,
            "scoring": 999.0,
        }
    block = table_blocks(1, TITLES[1], frame(scores), origin)[3]
    assert block.title == "Table 1, statistics, on the held-out cases"
    assert "subjects, with one training a fold" in block.text
    other, ours = block.cells.loc["SSHSNet-3D"], block.cells.loc["SSHSNet"]
    assert other["SSHSNet minus row (pairs)"].startswith("+13.0 [")
    assert other["SSHSNet minus row (pairs)"].endswith("] (7)")
    assert ours["SSHSNet minus row (pairs)"] == ours["p"] == ours["p (Holm)"] == "-"
    assert other["p"] == other["p (Holm)"] == "0.016"
    # Two folds of two minutes.
    assert other["training, min"] == "4.0"
    assert other["HD95 (mm)"] == "50.0"
    assert other["levels missed"] == other["surface Dice (%)"] == "-"


def test_latex_has_balanced_tables_and_escaped_captions(results, origin):
    for sidecar in origin:
        sidecar["profile"] = "my_own"
    text = table_latex(1, TITLES[1], results, origin)
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == text.count("\\end{table}") == 4
    assert "my\\_own" in text
    assert "DSC (\\%)" in text
    # A row has as many cells as the head: of the means 1 + 3 + 19, of the published ones a column less.
    cells = [
        {line.count("&") for line in tabular.splitlines() if line.endswith("\\\\")}
        for tabular in text.split("\\begin{tabular}")[1:]
    ]
    assert cells == [{22}, {21}, {2}, {15}]


def test_the_terminal_print_has_a_line_a_row(results):
    lines = table_text(1, TITLES[1], results).splitlines()
    assert lines[0].split("  ")[-1].strip() == "published mean of classes"
    ours = next(text for text in lines if text.startswith("SSHSNet "))
    assert ours.split()[1:] == ["65.00", "46.67", "46.67", "86.09"]
    assert sum("not run yet" in text for text in lines) == 4
    assert "on the held-out cases, folds: SSHSNet 0, 1; SSHSNet-3D 0;" in lines[-1]


def test_the_terminal_print_is_narrow_and_gives_our_intervals():
    for number in (1, 2):
        split, fold = ("validation", "0") if number == 1 else ("test", "0+1")
        cases = [(f"Case{i}", 0.5 + i / 20) for i in range(8)]
        scores = [(row, fold, split, c, "L5", v) for row in TITLES[number] for c, v in cases]
        text = table_text(number, TITLES[number], frame(scores))
        assert max(map(len, text.splitlines())) < 120
        assert text.count("[") == 3
        assert "67.50 [" in next(line for line in text.splitlines() if line.startswith("SSHSNet "))
    own = next(line for line in text.splitlines() if line.startswith(INDUCTIVE.title))
    assert own.split()[2:] == ["67.50"] * 3


def test_all_files_of_a_table_are_written(tmp_path, results, origin):
    for number, other in ((1, "test_images"), (2, "validation")):
        folder = tmp_path / str(number)
        write_table(folder, number, TITLES[number], frame(FROZEN + ON_TEST), origin)
        stem = f"table{number}"
        names = [f"{stem}.csv", f"{stem}.md", f"{stem}.tex", f"{stem}_{other}.csv", f"{stem}_statistics.csv"]
        assert sorted(path.name for path in folder.iterdir()) == sorted(names)
        tidy = pd.read_csv(folder / f"{stem}.csv", keep_default_na=False)
        assert list(tidy.columns) == ["row", "structure", "source", "mean", "sd", "n"]
        assert (tidy.loc[tidy["source"] == "published", ["sd", "n"]] == "").all(axis=None)
        assert set(pd.read_csv(folder / f"{stem}_{other}.csv")["source"]) == {"measured"}
        of_rows = pd.read_csv(folder / f"{stem}_statistics.csv")
        assert list(of_rows.columns) == ["split", "row", "statistic", "value", "low", "high", "n"]
        assert set(of_rows["split"]) == {"validation", "test"}
    # The other split's numbers are not in the table's own file.
    measured = pd.read_csv(tmp_path / "2" / "table2.csv").query("source == 'measured' and row == 'SSHSNet'")
    assert measured.set_index("structure").loc["L5", "mean"] == pytest.approx(70)
