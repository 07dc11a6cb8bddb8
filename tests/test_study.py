"""The whole thread at smoke size: what `make study` calls runs every notebook in order, through papermill."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from grid import jobs_to_run

from sshsnet_core.alone import alone
from sshsnet_core.anatomy import COLUMN
from sshsnet_core.data.cohorts.base import CohortError
from sshsnet_core.data.store import StoredCase
from sshsnet_core.data.volumes import Geometry, read_image, read_labels, write_image
from sshsnet_core.evaluation.results import ResultsError
from sshsnet_core.learning.training import TrainingError
from sshsnet_core.methods.rows import TABLE_1, TABLE_2
from sshsnet_core.methods.segmenter import Segmenter
from sshsnet_core.methods.sshsnet import SSHSNet
from sshsnet_core.notebooks import ParameterError, check_parameters, run_notebook
from sshsnet_core.scoring import score, score_test
from sshsnet_core.study import REPOSITORY, Study
from sshsnet_core.views import attention_of, spread, view_of

NOTEBOOKS = REPOSITORY / "notebooks"
ROWS = list(dict.fromkeys((*TABLE_1, *TABLE_2)))
REAL = Path(os.environ.get("SSHSNET_REAL_DATA", REPOSITORY.parent / "shared" / "data" / "real"))

# The first test to need it waits for the whole study.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Runs and figures of these tests lie in a folder of their own; commands start from somewhere else entirely."""
    folder = tmp_path_factory.mktemp("study")
    own = {"SSHSNET_RUNS": str(folder / "runs"), "SSHSNET_FIGURES": str(folder / "figures"), "SSHSNET_PROFILE": "smoke"}
    return {**os.environ, **own}


def command(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sshsnet_core", *arguments],
        cwd=environment["SSHSNET_RUNS"] if Path(environment["SSHSNET_RUNS"]).exists() else "/",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The rows of both tables, trained, scored and drawn."""
    done = command(environment, "study", "--profile", "smoke")
    assert done.returncode == 0, done.stderr[-4000:]
    return done


@pytest.fixture
def study(environment: dict[str, str], finished: object, monkeypatch: pytest.MonkeyPatch) -> Study:
    for name in ("SSHSNET_RUNS", "SSHSNET_FIGURES", "SSHSNET_PROFILE"):
        monkeypatch.setenv(name, environment[name])
    return Study.open("smoke")


def test_study_ends_with_both_tables_and_says_where_the_pictures_lie(
    finished: subprocess.CompletedProcess[str], environment: dict[str, str]
) -> None:
    for row in ROWS:
        assert row.title in finished.stdout
    assert "not run yet" not in finished.stdout
    assert str(Path(environment["SSHSNET_FIGURES"]) / "smoke") in finished.stdout


def test_study_leaves_tables_and_figures_in_every_form(study: Study) -> None:
    names = {path.name for path in study.figures.iterdir()}
    assert {f"table{n}{end}" for n in (1, 2) for end in (".md", ".csv", ".tex", "_statistics.csv")} <= names
    for figure in ("figure7", "figure8", "figure9", "figure10", "learning_curves", "cohort"):
        assert {f"{figure}.svg", f"{figure}.png"} <= names
    for number, rows in ((1, TABLE_1), (2, TABLE_2)):
        table = pd.read_csv(study.figures / f"table{number}.csv")
        assert set(table.loc[table["source"] == "measured", "row"]) == {row.title for row in rows}


def test_test_images_are_segmented_under_the_names_of_the_challenges_masks(study: Study) -> None:
    for row in ROWS:
        sidecar = json.loads((study.work / "results" / f"{row.key}-test.json").read_text())
        assert (sidecar["fold"], sidecar["split"]) == ("0", "test")
        written = {path.name for path in (study.work / "predictions" / row.key / "test").iterdir()}
        assert written == {f"mask_case{name.removeprefix('Case')}.nii.gz" for name in study.store.unlabelled}
    pools = {row.title: study.pool_name(row.key) for row in ROWS}
    assert (pools["SSHSNet"], pools["SSHSNet, inductive"], pools["CoTr"]) == ("test", "held-out", "none")


def test_hidden_truth_leaves_label_maps_and_no_scores(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of MRSpineSeg's test images, which have no masks."""
    hidden = tuple(replace(case, labels=None) for case in study.cohort.unlabelled)
    elsewhere = Study(study.settings, tmp_path)
    vars(elsewhere).update(cohort=replace(study.cohort, unlabelled=hidden), store=study.store, folds=study.folds)
    trained = study.segmenter("2d-wo-pre-cps", [0])
    monkeypatch.setattr(Study, "segmenter", lambda *_: trained)
    sidecar = score_test(elsewhere, "2d-wo-pre-cps", [0])
    assert json.loads(sidecar.read_text())["split"] == "test"
    assert not sidecar.with_suffix(".csv").exists()
    written = elsewhere.work / "predictions" / "2d-wo-pre-cps" / "test"
    assert len(list(written.glob("mask_case*.nii.gz"))) == len(hidden) > 0
    assert set(view_of(elsewhere, hidden[0].name, ["2d-wo-pre-cps", "cotr"], 0).labels) == {"SSHSNet-2D-w/o-Pre-CPS"}


def test_finished_study_does_nothing_again(study: Study, environment: dict[str, str]) -> None:
    folders = [stage.folder for row in ROWS for stage in row.system.stages(study.job(row.key, 0)).values()]
    checkpoints = {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("checkpoint*.pt*")}
    assert len(checkpoints) >= len(set(folders))
    made = [*(study.work / "executed").glob("*"), *(study.work / "results").glob("*.*"), *study.figures.glob("*")]
    written = {path: path.stat().st_mtime_ns for path in made if path.suffix != ".lock"}
    again = command(environment, "study", "--profile", "smoke")
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert {path: path.stat().st_mtime_ns for path in checkpoints} == checkpoints


def test_results_that_are_gone_are_measured_again_whatever_their_sidecar_says(study: Study) -> None:
    path = study.work / "results" / "2d-wo-pre-cps-fold0-validation.csv"
    cases = set(pd.read_csv(path)["case"])
    path.unlink()
    assert score(study, "2d-wo-pre-cps", 0) == path
    assert set(pd.read_csv(path)["case"]) == cases == set(study.folds[0].validation)


def test_two_processes_never_score_into_one_file(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    """The second waits, says so, and then finds it scored."""
    path = score(study, "2d-wo-pre-cps", 0)
    content = path.read_bytes()
    path.unlink()
    second = threading.Thread(target=score, args=(study, "2d-wo-pre-cps", 0))
    with alone(path.with_suffix(".lock"), "the first"):
        second.start()
        second.join(3)
        assert "another process is at it" in capsys.readouterr().out
        path.write_bytes(content)
    second.join(10)
    assert not second.is_alive()
    assert "case" not in capsys.readouterr().out


@pytest.mark.parametrize("otherwise", [{"overlap": 0.5}, {"speck_share": 0.9}])
def test_networks_that_are_applied_otherwise_are_measured_anew(study: Study, otherwise: dict[str, float]) -> None:
    path = score(study, "2d-wo-pre-cps", 0)
    before = path.stat().st_mtime_ns
    changed = replace(study, settings=study.settings.changed(otherwise))
    assert score(changed, "2d-wo-pre-cps", 0) == path
    assert path.stat().st_mtime_ns > before
    score(study, "2d-wo-pre-cps", 0)


def test_what_other_settings_made_is_left_out(study: Study) -> None:
    """A changed learning rate of stage 2 concerns the rows that have one."""
    changed = replace(study, settings=study.settings.changed({"train_3d.learning_rate": 0.5}))
    with pytest.warns(UserWarning, match=r"sshsnet-fold0-validation\.csv"):
        left = set(changed.results()["method"])
    assert {"SSHSNet", "SSHSNet-w/o-CTAM"}.isdisjoint(left)
    assert {"SSHSNet-2D-CPS", "2D nnU-Net"} <= left < set(study.results()["method"])
    for name in (study.folds[0].validation[0], study.store.unlabelled[0]):
        shown, now = (set(view_of(which, name, ["sshsnet", "nnunet-2d"], 0).labels) for which in (changed, study))
        assert (shown, now - shown) == ({"truth", "2D nnU-Net"}, {"SSHSNet"})
    with pytest.warns(match="other settings"), pytest.raises(ResultsError, match="SSHSNet has no scores on fold 0"):
        spread(changed, "sshsnet", "validation", 0)


def test_an_interrupted_scoring_goes_on_where_it_was(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "2d-wo-pre-cps"
    path = study.work / "results" / f"{key}-fold0-validation.csv"
    before, segmented = pd.read_csv(path), list[str]()
    segment, last = Segmenter.segment_stored, study.folds[0].validation[-1]

    def segment_until(allowed: bool) -> None:
        def watched(segmenter: Segmenter, case: StoredCase) -> np.ndarray:
            if case.name == last and not allowed:
                raise KeyboardInterrupt
            segmented.append(case.name)
            return segment(segmenter, case)

        monkeypatch.setattr(Segmenter, "segment_stored", watched)

    path.unlink()
    segment_until(allowed=False)
    with pytest.raises(KeyboardInterrupt):
        score(study, key, 0)
    assert not path.exists()
    segment_until(allowed=True)
    score(study, key, 0)
    assert segmented == list(study.folds[0].validation)
    pd.testing.assert_frame_equal(pd.read_csv(path), before)
    # Once all is there, it is measured anew if it is measured again.
    path.unlink()
    score(study, key, 0)
    assert segmented == 2 * list(study.folds[0].validation)


def test_a_row_with_few_labels_sees_the_other_training_cases_without_theirs(study: Study) -> None:
    key, training = "2d-cps-1-in-4", study.folds[0].training
    job = study.job(key, 0)
    assert [case.name for case in job.labelled] == list(training[::4]) == list(job.identity["training"])
    pool = {case.name for case in job.pool(study.pool_name(key))}
    assert pool == set(training) - set(training[::4])
    assert study.job("2d-cps", 0).folder("2d") != job.folder("2d")
    study.train(key, 0)
    score(study, key, 0)
    results = study.results().query("method == 'SSHSNet-2D-CPS, 1 in 4 labelled'")
    assert set(results["case"]) == set(study.folds[0].validation)


def test_executed_notebooks_are_kept_as_logs_with_their_parameters(study: Study) -> None:
    executed = sorted((study.work / "executed").glob("*.ipynb"))
    assert len(executed) == len(ROWS) + 2  # the test set, tables and figures
    for path in executed:
        tags = [cell.metadata.get("tags", []) for cell in nbformat.read(path, 4).cells]
        assert sum("injected-parameters" in tag for tag in tags) == 1, path.name


def test_runs_and_figures_are_counted_from_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Snakemake and the notebooks, which run in folders of their own, must mean the same place."""
    monkeypatch.setenv("SSHSNET_RUNS", "../elsewhere")
    monkeypatch.setenv("SSHSNET_FIGURES", "../drawn")
    monkeypatch.chdir(tmp_path)
    study = Study.open("smoke")
    assert (study.runs.parent, study.figures.parent) == (REPOSITORY / "../elsewhere", REPOSITORY / "../drawn")
    # No study draws over another's pictures.
    folders = {Study.open("smoke", effort, seed).figures.name for effort in (1, 4) for seed in (0, 1)}
    assert folders == {"smoke", "smoke-effort4-seed0", "smoke-effort1-seed1", "smoke-effort4-seed1"}


def test_scores_that_somebody_deleted_are_measured_again(study: Study, environment: dict[str, str]) -> None:
    """As errors advise for a damaged file; the tables, which are there, do not hide that it is gone."""
    path, mark = study.result_path("cotr", "test", 0), study.work / "predictions" / "cotr" / "test-0.done"
    content = path.read_bytes()
    path.unlink()
    assert not study.is_measured("cotr", "test", 0)
    assert "CoTr" not in set(study.results().query("split == 'test'")["method"])
    jobs = {"cotr_test", "test_set_all", "tables_and_figures_all", "all"}
    assert jobs_to_run(REPOSITORY, environment) == jobs
    path.write_bytes(content)
    mark.touch()
    # And scores of other folds than those that are asked for, which a notebook has left.
    sidecar = path.with_suffix(".json")
    told = sidecar.read_text()
    sidecar.write_text(json.dumps({**json.loads(told), "fold": "0+1"}))
    assert jobs_to_run(REPOSITORY, environment) == jobs
    # Whoever asks for one fold takes no mark of five folds away.
    of_five = mark.with_name("test-0+1+2+3+4.done")
    of_five.touch()
    jobs_to_run(REPOSITORY, environment)
    assert of_five.exists()
    of_five.unlink()
    sidecar.write_text(told)
    mark.touch()


def test_a_changed_profile_runs_its_jobs_again(study: Study, environment: dict[str, str], tmp_path: Path) -> None:
    jobs = {f"{row.key}_fold0_seed0".replace("-", "_") for row in ROWS}
    assert jobs_to_run(REPOSITORY, environment) & jobs == set()
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump(study.settings.changed({"train_2d.epochs": 3}).model_dump(mode="json")))
    assert jobs_to_run(REPOSITORY, environment | {"SSHSNET_PROFILE": str(changed)}) >= jobs


def test_prediction_of_a_stray_volume_has_its_geometry(
    study: Study, environment: dict[str, str], tmp_path: Path
) -> None:
    case = study.cohort.unlabelled[0]
    image = read_image(case.image)
    # Mirrored, tilted and finer than the cohort, with an odd size.
    affine = np.array([[0, 0, 4.0, 3], [0.9, 0.1, 0, -5], [-0.1, 0.9, 0, 7], [0, 0, 0, 1]])
    native = np.ascontiguousarray(image.array.T[:131, ::-1])
    stray = tmp_path / "stray.nii.gz"
    write_image(stray, Geometry(native.shape, affine).to_internal(native), Geometry(native.shape, affine))
    done = command(
        environment, "predict", str(stray), "-o", str(tmp_path / "out"), "--method", "sshsnet", "--profile", "smoke"
    )
    assert done.returncode == 0, done.stderr
    labels = read_labels(tmp_path / "out" / "stray_labels.nii.gz")
    assert labels.geometry.shape == native.shape
    np.testing.assert_allclose(labels.geometry.affine, affine, atol=1e-4)
    assert (tmp_path / "out" / "stray_overlay.jpg").stat().st_size > 1000
    assert json.loads((tmp_path / "out" / "stray_structures.json").read_text())["file"] == "stray.nii.gz"
    assert "stray.nii.gz: measuring\n" in done.stdout


@pytest.mark.parametrize(
    ("file", "every"), [("lumbar_mit/t2_lumbar.nii.gz", 1), ("vertebrae_labelled/case02_T2w.nii.gz", 4)]
)
def test_real_scan_runs_through_to_a_label_map_in_its_own_space(
    study: Study, environment: dict[str, str], tmp_path: Path, file: str, every: int
) -> None:
    source = REAL / file
    if not source.exists():
        pytest.skip(f"real volume {file} is not at hand")
    image = read_image(source)
    # Every fourth slice of a 1 mm volume has the thick slices of the paper.
    affine = image.geometry.internal_affine @ np.diag([every, 1, 1, 1])
    geometry = Geometry(image.array[::every].shape, affine)
    thick = tmp_path / "scan.nii.gz"
    write_image(thick, geometry.to_internal(image.array[::every]), geometry)
    done = command(environment, "predict", str(thick), "-o", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert read_labels(tmp_path / "out" / "scan_labels.nii.gz").geometry.matches(read_image(thick).geometry)


def test_predict_tells_bad_input_in_one_line_and_writes_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not a volume")
    done = command(environment, "predict", str(broken), "-o", str(tmp_path / "out"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "broken.nii.gz" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("study", "--profile", "huge"), "No profile 'huge'"),
        (("study", "--folds", "6"), "FOLDS must be 1 to 5"),
        (("study", "labels", "--folds", "2"), "labels is compared on fold 0 alone"),
        (("study", "cotter"), "No method 'cotter'; known are"),
        (("predict", "x.nii.gz", "-o", "out", "--method", "unet"), "No method 'unet'; known are"),
        (("study", "--effort", "0"), "must be more than 0, not 0"),
        (("adapt", "scans", "--name", "phantom"), "phantom is the name of the networks that come with the package"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    environment: dict[str, str], arguments: tuple[str, ...], expected: str
) -> None:
    without_override = {name: value for name, value in environment.items() if name != "SSHSNET_PROFILE"}
    done = command(without_override, *arguments)
    assert done.returncode == 1
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_phantom_command_writes_a_cohort_that_the_reader_of_real_data_reads(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = command(environment, "phantom", "--profile", "smoke", "-o", str(tmp_path / "cohort"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cohort" / "train" / "MR" / "Case1.nii.gz").exists()
    assert (tmp_path / "cohort" / "train" / "Mask" / "mask_case1.nii.gz").exists()


def test_the_method_can_be_looked_into(study: Study) -> None:
    """CTAM at the patch around a structure, and what CPS's branches called a slice after each epoch."""
    name = study.folds[0].validation[0]
    view = attention_of(study, "sshsnet", 0, name, "L3")
    assert view.image.shape == study.settings.patch
    assert view.inter_slice.shape == (view.image.shape[0],) * 2
    np.testing.assert_allclose(view.intra_slice.sum(axis=1), 1, rtol=1e-5)
    absent = next(s.name for s in COLUMN if s.label not in study.store.case(name).structures)
    with pytest.raises(CohortError, match=f"{name} does not show {absent}; it shows S, "):
        attention_of(study, "sshsnet", 0, name, absent)
    record = study.pseudo_labels("2d-cps", 0)
    assert list(record.read()) == list(range(1, study.settings.train_2d.epochs + 1))
    assert record.case.name in study.store.unlabelled


def test_the_networks_of_the_folds_that_are_named_vote(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SSHSNet, "load", lambda system, job: (job.part, [case.name for case in job.labelled]))
    networks = study.segmenter("2d-cps", [0, 2, 4]).networks
    assert networks == [(f"fold{fold}", list(study.folds[fold].training)) for fold in (0, 2, 4)]


def test_the_pools_of_cps_are_the_images_that_their_names_say(study: Study, tmp_path: Path) -> None:
    assert [case.name for case in study.pool("held-out", 1)] == list(study.folds[1].validation)
    assert [case.name for case in study.pool("test", 1)] == list(study.store.unlabelled)
    scans, image = tmp_path / "scans", read_image(study.cohort.unlabelled[0].image)
    for name in ("one", "two"):
        write_image(scans / f"{name}.nii.gz", image.array, image.geometry)
    changes = {"cps.pool": "folder", "cps.pool_folder": str(scans)}
    of_folder = replace(study, settings=study.settings.changed(changes), runs=tmp_path / "runs").pool("folder", 0)
    assert [case.name for case in of_folder] == ["one", "two"]
    assert [case.structures for case in of_folder] == [frozenset()] * 2


def test_untrained_method_says_so(study: Study) -> None:
    with pytest.raises(TrainingError, match="has not been trained yet"):
        study.segmenter("sshsnet", [1])


def test_real_data_profile_without_its_folder_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSHSNET_PROFILE", raising=False)
    with pytest.raises(CohortError, match=r"cohort\.root"):
        _ = Study.open("paper").cohort


def test_mistyped_parameter_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="has no parameter metod"):
        run_notebook(NOTEBOOKS / "02_train_2d.ipynb", tmp_path / "executed.ipynb", {"metod": "2d-cps"})
    assert not (tmp_path / "executed.ipynb").exists()
    check_parameters(NOTEBOOKS / "02_train_2d.ipynb", {"method": "2d-cps"})


def test_first_notebook_runs_from_any_directory(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSHSNET_PROFILE", "smoke")
    run_notebook(NOTEBOOKS / "00_start_here.ipynb", tmp_path / "executed" / "00.ipynb", {"case": 1})
    assert (tmp_path / "executed" / "00.ipynb").exists()
