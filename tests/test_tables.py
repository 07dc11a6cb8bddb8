import pandas as pd
import pytest

from sshsnet_core.anatomy import NAMES
from sshsnet_core.evaluation.paper import TABLE_1, TABLE_2
from sshsnet_core.evaluation.results import ResultsError, provenance
from sshsnet_core.evaluation.tables import (
    caption,
    summarise,
    table_latex,
    table_markdown,
    table_text,
    write_table,
)
from sshsnet_core.settings import load_settings

#: method, fold, split, case, structure, DSC
FROZEN = [
    ("SSHSNet", 0, "validation", "Case1", "L5", 0.80),
    ("SSHSNet", 0, "validation", "Case1", "L4", 0.60),
    ("SSHSNet", 1, "validation", "Case2", "L5", 0.90),
    ("SSHSNet", 1, "validation", "Case3", "L5", 0.70),
    ("SSHSNet", 1, "validation", "Case3", "T10", 0.00),
    ("SSHSNet-3D", 0, "validation", "Case1", "L5", 0.50),
    ("SSHSNet-3D", 0, "validation", "Case1", "L4", 0.50),
    ("2D nnU-Net", 0, "validation", "Case1", "L5", 0.99),
]
ON_TEST = [("SSHSNet", 0, "test", "Case9", "L5", 0.60), ("SSHSNet", 1, "test", "Case9", "L5", 0.80)]


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
    return [{**made, "methods": ["SSHSNet", "SSHSNet-3D"]}, {**made, "seed": 8, "methods": ["2D nnU-Net"]}]


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
    # Subjects: 70, 90 and 35.
    subjects = line(summary, "SSHSNet", "mean of subjects")
    assert subjects["mean"] == pytest.approx(65)
    assert subjects["sd"] == pytest.approx(27.838822)
    assert subjects["n"] == 3


def test_a_structure_in_no_subject_has_n_0_and_no_mean(results):
    t9 = line(summarise(results, TABLE_1), "SSHSNet", "T9")
    assert t9["n"] == 0
    assert pd.isna(t9["mean"])


def test_the_tidy_table_holds_what_the_design_says(results):
    summary = summarise(results, TABLE_1)
    assert list(summary.columns) == ["row", "structure", "source", "mean", "sd", "n"]
    assert set(summary["source"]) == {"measured", "published"}
    assert set(summary["structure"]) == {*NAMES, "mean of classes", "mean of subjects"}
    assert list(summary["row"].unique()) == list(TABLE_1)
    published = summary[summary["source"] == "published"]
    assert published["sd"].isna().all()
    assert published["n"].isna().all()
    assert len(published) == 21 * len(TABLE_1)


def test_published_means_are_the_paper_s(results):
    summary = summarise(results, TABLE_2)
    assert line(summary, "CoTr", "mean of classes", "published")["mean"] == pytest.approx(73.57, abs=0.005)
    assert line(summary, "CoTr", "T9", "published")["mean"] == 8.38
    assert pd.isna(line(summary, "CoTr", "mean of subjects", "published")["mean"])


def test_rows_of_one_s_own_have_no_published_lines():
    own = frame([("without SE", 0, "validation", "Case1", "L5", 0.5)])
    assert set(summarise(own, {"without SE": {}})["source"]) == {"measured"}


def test_nothing_run_is_an_empty_summary(results):
    assert summarise(results, {"without SE": {}}).empty


def test_a_case_held_out_twice_is_refused():
    twice = frame([("SSHSNet", fold, "validation", "Case1", "L5", 0.5) for fold in (0, 1)])
    with pytest.raises(ResultsError, match="Case1 was held out in two folds"):
        summarise(twice, TABLE_1)


def test_a_test_image_counts_once_with_the_mean_over_the_folds_networks():
    l5 = line(summarise(frame(ON_TEST), TABLE_1, "test"), "SSHSNet", "L5")
    assert l5["mean"] == pytest.approx(70)
    assert l5["n"] == 1


def test_markdown_keeps_measured_and_published_apart_and_shows_missing_rows(results, origin):
    measured, published = table_markdown(1, results, origin).split("## Table 1, published")
    assert "86.09" in published
    assert "86.09" not in measured
    assert "not run yet" not in published
    for row in TABLE_1:
        cells = next(text for text in measured.splitlines() if text.startswith(f"| {row} "))
        assert ("not run yet" in cells) == (row not in ("SSHSNet", "SSHSNet-3D"))
    counts = next(text for text in measured.splitlines() if text.startswith("| subjects"))
    cells = [cell.strip() for cell in counts.strip("|").split("|")][1:]
    assert cells == ["1-3", "1-3", "0", "1-3", "1", *["0"] * 5, "0-1", *["0"] * 10]
    assert "T9, L5/S" in measured


def test_the_caption_names_what_the_numbers_were_measured_on(results, origin):
    text = caption(results, origin, TABLE_1, "validation")
    for fact in ("phantom (ab12)", "profile mini", "seed 7,", "effort 0.5", "unlabelled pool: test", "inductive"):
        assert fact in text
    assert "folds of 5: SSHSNet 0, 1; SSHSNet-3D 0" in text
    assert "seed 7 and 8" in caption(results, origin, {**TABLE_1, **TABLE_2}, "validation")


@pytest.mark.parametrize(
    ("pool", "split", "word"),
    [
        ("test", "validation", "inductive"),
        ("test", "test", "transductive"),
        ("held-out", "validation", "transductive"),
        ("held-out", "test", "inductive"),
        ("folder", "validation", "a folder of its own"),
    ],
)
def test_the_caption_tells_inductive_from_transductive(origin, pool, split, word):
    for sidecar in origin:
        sidecar["settings"]["cps"]["pool"] = pool
    text = caption(frame(FROZEN + ON_TEST), origin, TABLE_1, split)
    kinds = ("(inductive", "(transductive", "a folder of its own")
    assert [kind for kind in kinds if kind in text] == [kind for kind in kinds if kind.strip("(") == word]


def test_results_on_the_test_images_get_a_block_of_their_own(origin):
    text = table_markdown(1, frame(FROZEN + ON_TEST), origin)
    assert "70.00" in text.split("## Table 1, measured on the test images")[1]
    assert "test images" not in table_markdown(1, frame(FROZEN), origin)


def test_latex_has_balanced_tables_and_escaped_captions(results, origin):
    origin[0]["profile"] = "my_own"
    text = table_latex(1, results, origin)
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == text.count("\\end{table}") == 2
    assert "my\\_own" in text
    assert "DSC (\\%)" in text
    # A row has as many cells as the head, 1 + 2 + 19.
    assert all(text_line.count("&") in (20, 21) for text_line in text.splitlines() if text_line.endswith("\\\\"))


def test_the_terminal_print_has_a_line_a_row(results):
    lines = table_text(1, results).splitlines()
    assert lines[0].split("  ")[-1].strip() == "published mean of classes"
    ours = next(text for text in lines if text.startswith("SSHSNet "))
    assert ours.split()[1:] == ["65.00", "46.67", "86.09"]
    assert sum("not run yet" in text for text in lines) == 4


def test_all_files_of_a_table_are_written(tmp_path, results, origin):
    write_table(tmp_path, 1, frame(FROZEN + ON_TEST), origin)
    names = ["table1.csv", "table1.md", "table1.tex", "table1_test_images.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    tidy = pd.read_csv(tmp_path / "table1.csv", keep_default_na=False)
    assert (tidy.loc[tidy["source"] == "published", ["sd", "n"]] == "").all(axis=None)
    on_test = pd.read_csv(tmp_path / "table1_test_images.csv")
    assert set(on_test["source"]) == {"measured"}
