import json
from pathlib import Path

import pandas as pd
import pytest

from sshsnet_core.evaluation.results import (
    COLUMNS,
    ResultsError,
    is_there,
    provenance,
    read_provenance,
    read_results,
    write_results,
    write_text,
)
from sshsnet_core.settings import load_settings


def row(**changes):
    plain = {
        "method": "SSHSNet",
        "fold": "0",
        "split": "validation",
        "case": "Case1",
        "structure": "L5",
        "metric": "dsc",
        "value": 0.5,
    }
    return plain | changes


def origin(fingerprint="ab12"):
    made = provenance(
        load_settings("smoke"),
        cohort="phantom",
        fingerprint=fingerprint,
        seed=7,
        effort=0.5,
        device="cpu",
        durations_s={"training": 1.5},
    )
    return {**made, "fold": "0", "split": "validation", "pool": "test"}


def test_what_is_written_is_read_again(tmp_path):
    write_results(tmp_path / "a.csv", [row(), row(metric="hd95", value=12.25)], origin())
    write_results(tmp_path / "b.csv", [row(fold="1", case="007"), row(split="test", fold="0+1+2", case="NA")], origin())
    results = read_results(tmp_path)
    assert tuple(results.columns) == COLUMNS
    assert results["value"].tolist() == [0.5, 12.25, 0.5, 0.5]
    assert results["case"].tolist() == ["Case1", "Case1", "007", "NA"]
    assert results["fold"].tolist() == ["0", "0", "1", "0+1+2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json", "b.csv", "b.json"]


def test_killed_between_sidecar_and_scores_no_older_scores_are_left(tmp_path, monkeypatch):
    write_results(tmp_path / "a.csv", [row()], origin())

    def killed(path, text):
        if path.suffix == ".csv":
            raise KeyboardInterrupt
        write_text(path, text)

    monkeypatch.setattr("sshsnet_core.evaluation.results.write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        write_results(tmp_path / "a.csv", [row(value=0.9)], origin())
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_text_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    write_text(tmp_path / "a.md", "before")

    def full(path, content):
        path.touch()
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        write_text(tmp_path / "a.md", "after")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_the_sidecar_says_what_made_the_results(tmp_path):
    write_results(tmp_path / "a.csv", [row()], origin())
    (sidecar,) = read_provenance(tmp_path)
    assert sidecar["profile"] == "smoke"
    assert sidecar["settings"] == load_settings("smoke").model_dump(mode="json")
    assert sidecar["cohort"] == {"name": "phantom", "fingerprint": "ab12"}
    assert (sidecar["seed"], sidecar["effort"], sidecar["device"]) == (7, 0.5, "cpu")
    assert sidecar["durations_s"] == {"training": 1.5}
    assert sidecar["methods"] == ["SSHSNet"]
    assert {"python", "torch", "monai", "nnunetv2"} <= set(sidecar["versions"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "lacks the columns"),
        ([{k: v for k, v in row().items() if k != "case"}], "lacks the columns case"),
        ([row(structure="L7")], "unknown structure L7"),
        ([row(metric="iou")], "unknown metric iou"),
        ([row(split="train")], "unknown split train"),
        ([row(fold=0)], "the fold of validation results is text"),
        ([row(fold="0+1")], "the fold of validation results is text"),
        ([row(split="test", fold="0+")], r'such as "0" or "0\+1\+2\+3\+4"'),
        ([row(metric="missed", value=0.5)], "id_centroid, .*are 0 or 1"),
        ([row(value=1.2)], "dsc and nsd lie between 0 and 1"),
        ([row(value=float("nan"))], "finite"),
        ([row(metric="hd95", value=float("inf"))], "finite"),
        ([row(), row(value=0.7)], "a score twice .*case Case1, structure L5"),
    ],
)
def test_rows_that_make_no_sense_are_not_written(tmp_path, rows, message):
    with pytest.raises(ResultsError, match=message):
        write_results(tmp_path / "a.csv", rows, origin())
    assert not list(tmp_path.iterdir())


def test_no_results_at_all(tmp_path):
    with pytest.raises(ResultsError, match="No results"):
        read_results(tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    write_results(tmp_path / "a.csv", [row()], origin())
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(ResultsError, match=r"b\.csv is not a readable CSV"):
        read_results(tmp_path)
    pd.DataFrame([row(value="high")]).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(ResultsError, match=r"b\.csv: every value must be finite"):
        read_results(tmp_path)


def test_the_same_score_in_two_files_is_refused(tmp_path):
    write_results(tmp_path / "a.csv", [row()], origin())
    write_results(tmp_path / "b.csv", [row(value=0.7)], origin())
    with pytest.raises(ResultsError, match=r"a\.csv, b\.csv hold the same scores"):
        read_results(tmp_path)


@pytest.mark.parametrize("content", [None, "{", "[]", json.dumps({"profile": "mini"})])
def test_results_without_their_origin_are_refused(tmp_path, content):
    write_results(tmp_path / "a.csv", [row()], origin())
    (tmp_path / "a.json").unlink()
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(ResultsError, match=r"a\.csv has no readable sidecar a\.json"):
        read_results(tmp_path)


@pytest.mark.parametrize("change", [{"pool": "everything"}, {"split": None}])
def test_a_sidecar_must_tell_pool_fold_and_split(tmp_path, change):
    about = {key: value for key, value in (origin() | change).items() if value is not None}
    write_results(tmp_path / "a.csv", [row()], about)
    with pytest.raises(ResultsError, match="unknown pool everything" if "pool" in change else "lacks split"):
        read_provenance(tmp_path)


def test_test_images_without_truth_leave_a_sidecar_and_no_scores(tmp_path):
    write_results(tmp_path / "a.csv", [row()], origin())
    (tmp_path / "b.json").write_text(json.dumps(origin() | {"split": "test", "fold": "0+1"}))
    assert [(s["split"], s["methods"]) for s in read_provenance(tmp_path)] == [
        ("validation", ["SSHSNet"]),
        ("test", []),
    ]
    assert len(read_results(tmp_path)) == 1


def test_what_is_not_current_is_left_out_and_named(tmp_path):
    write_results(tmp_path / "a.csv", [row()], origin())
    write_results(tmp_path / "b.csv", [row(fold="1")], origin() | {"fold": "1"})
    for read in (read_results, read_provenance):
        with pytest.warns(UserWarning, match=r"because other settings made them: b\.csv in"):
            left = read(tmp_path, lambda sidecar: sidecar["fold"] == "0")
        assert len(left) == 1
    with pytest.warns(UserWarning, match=r"a\.csv, b\.csv"), pytest.raises(ResultsError, match="No results"):
        read_results(tmp_path, lambda sidecar: False)


def test_scores_that_are_gone_take_their_sidecar_with_them(tmp_path):
    """Deleted by hand, as errors advise, or by Snakemake, which knows nothing of sidecars."""
    write_results(tmp_path / "a.csv", [row()], origin())
    write_results(tmp_path / "b.csv", [row(fold="1")], origin("cd34"))
    assert is_there(tmp_path / "b.csv")
    (tmp_path / "b.csv").unlink()
    assert not is_there(tmp_path / "b.csv")
    assert len(read_provenance(tmp_path)) == len(read_results(tmp_path)) == 1


def test_scores_that_another_process_measures_anew_are_left_out(tmp_path, monkeypatch):
    """They were there when the folder was listed."""
    write_results(tmp_path / "a.csv", [row()], origin())
    write_results(tmp_path / "b.csv", [row(fold="1")], origin())
    read_csv = pd.read_csv

    def begun(path, **options):
        (tmp_path / "b.csv").unlink(missing_ok=True)
        return read_csv(path, **options)

    monkeypatch.setattr(pd, "read_csv", begun)
    assert set(read_results(tmp_path)["fold"]) == {"0"}


def test_results_of_two_cohorts_do_not_meet(tmp_path):
    write_results(tmp_path / "a.csv", [row()], origin())
    write_results(tmp_path / "b.csv", [row(fold="1")], origin("cd34"))
    with pytest.raises(ResultsError, match="different cohorts"):
        read_results(tmp_path)
