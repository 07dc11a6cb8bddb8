"""One scan from file to files, under a network that names by rows: what is said, measured, warned of and written."""

import base64
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sshsnet_core import __main__
from sshsnet_core.anatomy import COLUMN, N_APART, N_CLASSES, by_name
from sshsnet_core.data.cohorts.phantom import phantom_case
from sshsnet_core.data.preprocessing import Restoration
from sshsnet_core.data.volumes import Geometry, VolumeError, read_image, read_labels, write_image
from sshsnet_core.decision import N_KINDS
from sshsnet_core.evaluation.naming import Naming
from sshsnet_core.methods import stage1
from sshsnet_core.methods.seen import Seen
from sshsnet_core.methods.segmenter import Segmenter
from sshsnet_core.methods.sshsnet import SSHSNet, TrainedSSHSNet
from sshsnet_core.methods.stage1 import Stage1
from sshsnet_core.methods.weights import Weights
from sshsnet_core.model import Model
from sshsnet_core.scan import NOT_FOR_CLINICAL_USE, choose_scan, download_links, segment_scan
from sshsnet_core.settings import SettingsError, load_settings
from sshsnet_core.study import Study

#: (Z, H, W) to RAS: slices to the left, rows down, columns back.
INTERNAL = np.array([[-1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]])


def by_rows(first=0, probability=0.9):
    """A network that names the column from the lowest rows upwards, each structure 8 rows high, of ``first`` and up."""

    def network(image):
        labels = np.zeros(image.shape, np.uint8)
        for place, structure in enumerate(COLUMN[first:6]):
            bottom = image.shape[1] - 8 * (first + place)
            labels[:, bottom - 8 : bottom, 10:30] = structure.label
        rest = (1 - probability) / (N_CLASSES - 1)
        return np.where(np.arange(N_CLASSES)[:, None, None, None] == labels, probability, rest).astype(np.float32)

    return network


def affine_of(spacing):
    affine = np.eye(4)
    affine[:3, :3] = INTERNAL * spacing
    return affine


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Six tiny phantoms, preprocessed: nothing is trained."""
    settings = load_settings("smoke")
    cohort = settings.cohort.model_copy(update={"labelled": 5, "unlabelled": 1})
    study = Study(settings.model_copy(update={"cohort": cohort}), tmp_path_factory.mktemp("runs"))
    assert study.folds
    return study


@pytest.fixture
def trained(study: Study, monkeypatch: pytest.MonkeyPatch) -> list:
    """The networks that the study is made to believe it has trained."""
    networks = [by_rows()]
    monkeypatch.setattr(Study, "segmenter", lambda *_: Segmenter(study.preprocessing, networks))
    return networks


@pytest.fixture
def row(study, trained) -> Model:
    return Model.of_row(study, "sshsnet")


@pytest.fixture(scope="module")
def stranger(study: Study) -> Path:
    return choose_scan([], "", study.runs / "scans", study.settings.cohort)


def test_labels_picture_and_json_are_written_and_agree(row, stranger, tmp_path, capsys):
    result = segment_scan(row, stranger, tmp_path / "out")
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["stranger_labels.nii.gz", "stranger_overlay.jpg", "stranger_structures.json"]
    labels, image = read_labels(result.files[0]), read_image(stranger)
    assert labels.geometry.matches(image.geometry)
    picture = Image.open(result.files[1])
    assert picture.format == "JPEG"
    assert min(picture.size) > 300
    report = json.loads(result.files[2].read_text())
    assert report["naming"] is result.naming is None
    names = [structure["name"] for structure in report["structures"]]
    assert names == ["S", "L5/S", "L5", "L4/L5", "L4", "L3/L4"] == [s.name for s in result.structures]
    l4 = report["structures"][4]
    voxels = labels.array == by_name("L4").label
    assert l4["volume_mm3"] == pytest.approx(voxels.sum() * np.prod(image.geometry.spacing), abs=0.001)
    centre = image.geometry.internal_affine @ [*np.argwhere(voxels).mean(axis=0), 1]
    assert l4["centroid_mm"] == pytest.approx(centre[:3].tolist(), abs=0.001)
    assert l4["probability"] == pytest.approx(0.9, abs=1 / 255)
    assert report["structures"][3]["between"] == ["L5", "L4"]
    assert report["warnings"] == result.warnings == []
    assert "RAS+" in report["definitions"]["centroid_mm"]
    said = capsys.readouterr().out
    assert said.count(NOT_FOR_CLINICAL_USE) == 1
    steps = re.findall(r"^stranger.nii.gz: (\w+)", said, re.MULTILINE)
    assert steps == ["reading", "preprocessing", "segmenting", "measuring", "wrote"]


def test_the_json_says_what_made_it_and_is_the_same_again(study, row, stranger, tmp_path):
    first = segment_scan(row, stranger, tmp_path / "a").files[2].read_text()
    assert segment_scan(row, stranger, tmp_path / "b").files[2].read_text() == first
    told = json.loads(first)["provenance"]
    assert (told["method"], told["folds"], told["profile"], told["seed"]) == ("SSHSNet", [0], "smoke", 0)
    assert told["cohort"] == {"name": "phantom", "fingerprint": study.cohort.fingerprint()}
    assert set(told["trainings"]) == {"fold 0, stage 1", "fold 0, stage 2"}
    assert {"torch", "python"} <= told["versions"].keys()
    assert "commit" in told


def test_the_table_has_a_line_a_structure(row, stranger, tmp_path):
    table = segment_scan(row, stranger, tmp_path / "out").table
    assert list(table.index) == ["S", "L5/S", "L5", "L4/L5", "L4", "L3/L4"]
    assert table.loc["L4", "probability"] == 0.9
    assert np.isnan(table.loc["L4", "height_mm"])
    assert table.loc["L4/L5", "height_mm"] > 0


def test_doubts_about_the_names_reach_the_json(row, trained, stranger, tmp_path):
    trained[0] = by_rows(first=2, probability=0.6)
    report = json.loads(segment_scan(row, stranger, tmp_path / "out").files[2].read_text())
    assert [sentence.split(",")[0] for sentence in report["warnings"]] == [
        "The sacrum is not in view or was not found: level names may be shifted.",
        "The networks are unsure",
    ]


def test_nothing_found_is_written_down_too(row, trained, stranger, tmp_path):
    trained[0] = by_rows(first=6)
    result = segment_scan(row, stranger, tmp_path / "out")
    assert result.warnings == ["No structure was found in this scan."]
    assert result.table.empty
    assert json.loads(result.files[2].read_text())["structures"] == []
    assert result.files[1].stat().st_size > 1000


def test_a_broken_scan_leaves_no_trace(row, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not a volume")
    with pytest.raises(VolumeError, match=r"broken\.nii\.gz"):
        segment_scan(row, broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_label_map_of_a_metaimage_lies_on_its_own_grid(row, stranger, tmp_path):
    image = read_image(stranger)
    oblique = image.geometry.affine.copy()
    oblique[:3, :3] = [[0.995, 0, 0.0998], [0, 1, 0], [-0.0998, 0, 0.995]] @ oblique[:3, :3]
    write_image(tmp_path / "scan.mha", image.array, Geometry(image.geometry.shape, oblique))
    result = segment_scan(row, tmp_path / "scan.mha", tmp_path / "out")
    assert read_labels(result.files[0]).geometry.matches(read_image(tmp_path / "scan.mha").geometry)


@pytest.fixture
def apart(row) -> Model:
    """As from a weights file: bodies, with an arch behind each of them, of which no network is sure by name."""

    def network(image):
        probabilities = np.zeros((N_APART, *image.shape), np.float32)
        probabilities[0] = 1
        for place, structure in enumerate(COLUMN[2:7:2]):
            bottom = image.shape[1] - 16 * (1 + place)
            for label, columns in ((structure.label, slice(10, 30)), (structure.label + 18, slice(40, 50))):
                where = np.s_[:, bottom - 8 : bottom, columns]
                # Background has the largest single class, and bone the larger sum.
                for number, probability in ((0, 0.4), (label, 0.35), (label + 1, 0.25)):
                    probabilities[number][where] = probability
        return probabilities

    return replace(row, segmenter=Segmenter(row.segmenter.preprocessing, [network]), arches_apart=True, row=False)


def shifted(probabilities, spacing_mm):
    """A naming step that calls every vertebra one level higher than the networks do."""
    labels = probabilities[1:].argmax(axis=0) + 2
    labels[probabilities[0] == 1] = 0
    runner_up = ("every name one level lower", 0.25)
    names = np.zeros((N_KINDS, *labels.shape[1:]), np.uint8)
    return Naming(labels.astype(np.uint8), names, ("L4", "L3", "L2"), 0.75, runner_up, ("The column is made up.",))


def test_levels_are_named_from_the_whole_column(apart, stranger, tmp_path, monkeypatch):
    monkeypatch.setattr("sshsnet_core.model.name_column", shifted)
    result = segment_scan(apart, stranger, tmp_path)
    assert [structure.name for structure in result.structures] == ["L4", "L3", "L2"]
    # Of the voxels' kind, arches and bodies together; the names have a probability of their own.
    assert result.structures[0].probability == pytest.approx(0.6, abs=1 / 255)
    assert "The column is made up." in result.warnings
    report = json.loads(result.files[2].read_text())
    assert report["naming"] == {
        "probability": 0.75,
        "runner_up": {"names": "every name one level lower", "probability": 0.25},
        "levels": ["L4", "L3", "L2"],
    }
    assert report["definitions"]["probability"].endswith("its kind")
    assert result.summary.splitlines() == [
        "Found: L4, L3, L2.",
        "Named from the whole column: not shifted with probability 0.75; next comes every name one level lower (0.25).",
    ]


def test_without_naming_the_kind_comes_before_the_networks_own_name(apart, stranger, tmp_path):
    result = segment_scan(apart, stranger, tmp_path, naming=False)
    assert result.naming is None
    assert [structure.name for structure in result.structures] == ["L5", "L4", "L3"]
    assert result.structures[0].probability == pytest.approx(0.35, abs=1 / 255)


@pytest.mark.parametrize("naming", [True, False])
def test_bodies_alone_are_the_vertebrae_without_their_arches(apart, stranger, tmp_path, monkeypatch, naming):
    monkeypatch.setattr("sshsnet_core.model.name_column", shifted)
    whole = segment_scan(apart, stranger, tmp_path / "whole", naming)
    bodies = segment_scan(apart, stranger, tmp_path / "bodies", naming, bodies=True)
    assert [s.name for s in whole.structures] == [s.name for s in bodies.structures]
    for both, one in zip(whole.structures, bodies.structures, strict=True):
        # 20 of 30 columns.
        assert one.volume_mm3 == pytest.approx(both.volume_mm3 * 2 / 3, rel=0.05)
    assert json.loads(bodies.files[2].read_text())["provenance"]["bodies_alone"] is True


def test_networks_of_the_papers_classes_do_not_know_bodies_apart(row, stranger, tmp_path):
    with pytest.raises(SettingsError, match="SSHSNet does not tell bodies from posterior elements"):
        segment_scan(row, stranger, tmp_path / "out", bodies=True)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def weights(study, tmp_path_factory) -> Path:
    """Networks that have learnt nothing, in a file."""
    settings = study.settings.changed({"arches_apart": True})
    first = Stage1(pretrained=True, cps=True)
    branches = list(stage1.build(first, settings, pretrained=False).eval().branches)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    seen = Seen.of([study.store.case(name) for name in study.store.labelled])
    Weights("Tiny", SSHSNet(first, None), TrainedSSHSNet(settings, branches, None), seen, {"seed": 7}).write(path)
    return path


def predict(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["sshsnet_core", "predict", *map(str, arguments)])
    return __main__.main()


def test_predict_needs_a_weights_file_and_no_study(weights, stranger, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SSHSNET_RUNS", str(tmp_path / "runs"))
    assert predict(monkeypatch, stranger, "-o", tmp_path / "out", "--weights", weights) == 0
    report = json.loads((tmp_path / "out" / "stranger_structures.json").read_text())
    assert (report["provenance"]["weights"], report["provenance"]["seed"]) == ("tiny.safetensors", 7)
    assert len(report["provenance"]["sha256"]) == 64
    assert report["naming"] is not None
    assert "segmenting: Tiny" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_a_broken_scan_costs_the_others_nothing(weights, stranger, tmp_path, monkeypatch, capsys):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not a volume")
    command = (broken, stranger, "-o", tmp_path / "out", "--weights", weights, "--no-naming")
    assert predict(monkeypatch, *command) == 1
    assert (tmp_path / "out" / "stranger_structures.json").exists()
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == "Error: 1 of 2 scans were not segmented: broken.nii.gz."


def test_scans_whose_files_would_overwrite_one_another_are_refused(stranger, tmp_path, monkeypatch, capsys):
    assert predict(monkeypatch, stranger, "other/stranger.nii", "-o", tmp_path / "out") == 1
    assert "Several scans are called stranger" in capsys.readouterr().err


def test_a_profile_without_a_method_is_refused(stranger, tmp_path, monkeypatch, capsys):
    assert predict(monkeypatch, stranger, "-o", tmp_path / "out", "--profile", "mini") == 1
    assert "add --method" in capsys.readouterr().err


def _warnings(study, affine, shape):
    """What is said of a scan of that geometry; nothing of it is cropped or resampled."""
    geometry = Geometry(shape, affine)
    z, h, w = geometry.internal_shape
    restoration = Restoration((z, h, w), geometry.spacing, (z, h, w), (0, h, 0, w))
    return _seen(study).unlike(geometry, restoration, study.preprocessing.spacing_mm[0])


def _seen(study):
    return Seen.of([study.store.case(name) for name in study.store.labelled])


def test_every_training_case_is_like_training(study):
    for name in study.store.names:
        case = study.store.case(name)
        assert _seen(study).unlike(case.geometry, case.restoration, study.preprocessing.spacing_mm[0]) == []


@pytest.mark.parametrize(
    ("spacing", "shape", "said"),
    [
        ((4.4, 1.4, 1.4), (12, 216, 108), []),
        # Thin slices are segmented every fourth at a time; three millimetres are neither thin nor learnt.
        ((1.0, 1.4, 1.4), (53, 216, 108), []),
        ((3.0, 1.4, 1.4), (18, 216, 108), ["Slices lie 3 mm apart"]),
        ((4.4, 4.0, 1.4), (12, 76, 108), ["Pixels are 4 mm wide"]),
        ((4.4, 1.4, 1.4), (12, 120, 108), ["The picture is 168 mm from head to foot"]),
        ((4.4, 1.4, 1.4), (12, 216, 300), ["The picture is 420 mm from front to back"]),
        ((4.4, 1.4, 1.4), (4, 216, 108), ["The picture is 17.6 mm from left to right"]),
    ],
)
def test_what_training_has_not_seen_is_told(study, spacing, shape, said):
    found = _warnings(study, affine_of(spacing), shape)
    assert [sentence.split(";")[0] for sentence in found] == said


def test_axial_and_coronal_slices_and_turned_axes_are_told(study):
    axial = _warnings(study, affine_of((1.0, 4.0, 1.0)), (53, 76, 150))
    assert "The slices are axial; the networks have learnt from sagittal ones alone." in axial
    coronal = _warnings(study, affine_of((1.0, 1.0, 4.0)), (53, 303, 38))
    assert "The slices are coronal; the networks have learnt from sagittal ones alone." in coronal
    turned = affine_of((4.4, 1.4, 1.4))
    cos, sin = np.cos(np.radians(30)), np.sin(np.radians(30))
    turned[:3, :3] = [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]] @ turned[:3, :3]
    assert _warnings(study, turned, (12, 216, 108)) == ["The scan's axes are turned by 30 degrees from the patient's."]


def test_an_upload_comes_before_a_path_and_a_path_before_a_phantom(study, stranger, tmp_path):
    cohort, content = study.settings.cohort, stranger.read_bytes()
    upload = {"name": "../mine.nii.gz", "content": memoryview(content)}
    path = choose_scan([upload], "elsewhere.nii", tmp_path / "up", cohort)
    assert path == tmp_path / "up" / "mine.nii.gz"
    assert path.read_bytes() == content
    assert choose_scan([], "elsewhere.nii", tmp_path / "none", cohort) == Path("elsewhere.nii")
    assert not (tmp_path / "none").exists()
    pair = [{"name": "scan.raw", "content": b"voxels"}, {"name": "scan.mhd", "content": b"header"}]
    assert choose_scan(pair, "", tmp_path / "up", cohort).name == "scan.mhd"
    assert (tmp_path / "up" / "scan.raw").read_bytes() == b"voxels"
    with pytest.raises(VolumeError, match=r"notes\.txt"):
        choose_scan([{"name": "notes.txt", "content": b""}], "", tmp_path / "no", cohort)


def test_somebody_elses_labels_are_never_overwritten(row, stranger, tmp_path):
    own = tmp_path / "stranger_labels.nii.gz"
    own.write_bytes(b"drawn by hand")
    with pytest.raises(VolumeError, match=r"stranger_labels\.nii\.gz is somebody's own"):
        segment_scan(row, stranger, tmp_path)
    assert [path.read_bytes() for path in tmp_path.glob("stranger*")] == [b"drawn by hand"]
    own.unlink()
    for _ in range(2):  # what an earlier call has written may be, and what an interrupted one has left
        written = segment_scan(row, stranger, tmp_path).files
        assert written[0] == own
        written[2].unlink()


def test_a_place_that_cannot_be_written_to_is_known_before_anything_is_segmented(row, stranger, tmp_path, capsys):
    taken = tmp_path / "a_file"
    taken.touch()
    for folder in (taken, taken / "below"):
        with pytest.raises(VolumeError, match="no folder that can be written to"):
            segment_scan(row, stranger, folder)
    assert "reading" not in capsys.readouterr().out


def test_a_phantom_that_stands_in_for_a_scan_is_called_one(tmp_path, capsys):
    choose_scan([], "", tmp_path, load_settings("smoke").cohort)
    assert "a phantom stands in" in capsys.readouterr().out


def test_the_stranger_is_a_phantom_that_no_cohort_holds(study, stranger):
    cohort = study.settings.cohort
    image = read_image(stranger)
    case = phantom_case(cohort.seed + 1, 0, cohort)
    np.testing.assert_array_equal(image.array, case.image)
    assert image.geometry.spacing == pytest.approx(case.spacing_mm)
    assert not any(np.array_equal(image.array, read_image(other.image).array) for other in study.cohort.cases)


def test_a_link_holds_the_file_that_it_saves(tmp_path):
    path = tmp_path / "a & b.json"
    path.write_bytes(b'{"name": "L4"}')
    html = download_links([path])
    assert 'download="a &amp; b.json"' in html
    assert base64.b64decode(html.split("base64,")[1].split('"')[0]) == path.read_bytes()
