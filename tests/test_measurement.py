"""Adapting to scans and measuring them, with networks that read labels off the grey values, at smoke size."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sshsnet_core import measurement, transfer
from sshsnet_core.anatomy import N_APART, by_name
from sshsnet_core.data.thin_slices import every_nth
from sshsnet_core.data.volumes import Geometry, Volume, write_image, write_labels
from sshsnet_core.measurement import AFTER, BEFORE, measure, write_measured
from sshsnet_core.methods import stage1, stage2
from sshsnet_core.methods.seen import Seen
from sshsnet_core.methods.sshsnet import TrainedSSHSNet
from sshsnet_core.methods.stage2 import Stage2
from sshsnet_core.methods.weights import Weights
from sshsnet_core.settings import Settings, SettingsError, load_settings
from sshsnet_core.study import Study
from sshsnet_core.transfer import KIND_FIRST, OWN, at_learnt_spacing, choose_scans, likeliest_kind

L5, L4 = by_name("L5").label, by_name("L4").label


def volume(slices: int, slice_mm: float) -> Volume:
    affine = np.array([[-slice_mm, 0, 0, 30.0], [0, 0, -1.4, 0], [0, -1.4, 0, 0], [0, 0, 0, 1]])
    array = np.zeros((slices, 60, 30), np.float32)
    array[:, :, :] = 1 + np.arange(slices)[:, None, None] / 100
    return Volume(array, Geometry(array.shape, affine))


def test_every_nth_slice_keeps_its_place() -> None:
    whole = volume(10, 1.0)
    thin = every_nth(whole, 4)
    # Slices 0, 4, 8 would leave none out on the right and one on the left.
    assert (thin.array[:, 0, 0] * 100 - 100).round().tolist() == [0, 4, 8]
    assert thin.geometry.spacing == pytest.approx((4.0, 1.4, 1.4))
    assert every_nth(volume(12, 1.0), 4).geometry.internal_affine[0, 3] == pytest.approx(30 - 1)
    assert every_nth(whole, 1) is whole


def test_the_kind_is_decided_first_slice_by_slice() -> None:
    probabilities = np.zeros((N_APART, 2, 1, 1), np.float16)
    probabilities[[0, L5, L4], 0, 0, 0] = 0.4, 0.35, 0.25
    probabilities[[0, L5], 1, 0, 0] = 0.6, 0.4
    assert transfer.largest(probabilities, (1, 1, 1)).ravel().tolist() == [0, 0]
    assert likeliest_kind(probabilities, (1, 1, 1)).ravel().tolist() == [L5, 0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two bodies in a labelled volume; a volume without a mask."""
    for case, folder in (("case02", "vertebrae_labelled"), ("case04", "vertebrae_images_only")):
        image, labels = volume(9, 1.0), np.zeros((9, 60, 30), np.uint8)
        labels[:, 20:28, 5:20], labels[:, 32:40, 5:20] = L4, L5
        write_image(tmp_path / "real" / folder / f"{case}_T2w.nii.gz", image.array + 10 * labels, image.geometry)
        if folder.endswith("labelled"):
            write_labels(tmp_path / "real" / folder / f"{case}_mask.nii.gz", labels, image.geometry)
    return tmp_path / "real"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Networks that see what is bright, before CPS torn between two names; which of them were loaded."""
    loaded: list[str] = []

    def networks(study: Study, scans: object = None) -> object:
        loaded.append(AFTER if scans else BEFORE)

        def network(image: np.ndarray) -> np.ndarray:
            probabilities = np.zeros((N_APART, *image.shape), np.float32)
            rows = np.arange(image.shape[1])[:, None] < 30 * 60 / 62
            right = np.where(rows, L4, L5)
            probabilities[0] = 1
            for label in (L4, L5):
                here = (image > 0.3) & (right == label)
                probabilities[0][here], probabilities[label][here] = (0, 1) if scans else (0.4, 0.35)
                if not scans:
                    probabilities[L4 + 1][here] = 0.25
            return probabilities

        return network

    def settings(profile: str) -> Settings:
        return load_settings("smoke").changed({"arches_apart": True, "cohort.labelled": 5, "cohort.unlabelled": 1})

    monkeypatch.setattr(measurement, "networks", networks)
    monkeypatch.setattr("sshsnet_core.study.load_settings", settings)
    monkeypatch.setitem(transfer.DECISIONS, transfer.FROM_COLUMN, likeliest_kind)
    # A process of its own for a phantom takes longer than the phantom.
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setenv("SSHSNET_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SSHSNET_FIGURES", str(tmp_path / "figures"))
    return loaded


def test_each_case_is_segmented_once_and_what_made_it_is_told(root: Path, asked: list[str], tmp_path: Path) -> None:
    table = write_measured("smoke", root, seeds=2)
    assert asked == [BEFORE, AFTER, BEFORE, AFTER]
    results = pd.read_csv(tmp_path / "runs" / "smoke" / "measured" / "real.csv")
    dsc = results.query("metric == 'dsc' and seed == 0 and slices == 'slices as they are'")
    means = dsc.groupby(["network", "names"])["value"].mean()
    # Torn between two names, the largest class is the background.
    assert means[BEFORE, OWN] == 0
    assert min(means[BEFORE, KIND_FIRST], means[AFTER, OWN]) > 0.8
    about = json.loads((tmp_path / "runs" / "smoke" / "measured" / "real.json").read_text())
    assert about["measured"]["vertebrae"]["cases"] == ["vertebrae-case02"]
    assert about["pool"]["cases"] == ["vertebrae-case04"]
    assert len(set(about["trainings"].values())) == 4
    text = table.read_text()
    assert "No real label was used" in text
    assert "Settings were chosen on vertebrae-case02; held back while they were chosen: none" in text
    assert (tmp_path / "runs" / "smoke" / "real.png").is_file()
    assert not list((tmp_path / "figures").rglob("*.png"))
    asked.clear()
    pd.testing.assert_frame_equal(measure("smoke", root, seeds=2), results)
    assert asked == []


def test_bodies_without_arches_need_networks_that_tell_them_apart(
    root: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sshsnet_core.study.load_settings", load_settings)
    with pytest.raises(SettingsError, match="arches_apart"):
        measure("smoke", root, seeds=1)


def test_phantoms_play_the_part_of_scans_where_there_are_none(root: Path, asked: list[str]) -> None:
    study = Study.open("smoke")
    strangers = choose_scans(study, "", count=2)
    assert [case.name for case in strangers.cases] == ["stranger1", "stranger2"]
    assert strangers.cases[0].image.read_bytes() != strangers.cases[1].image.read_bytes()
    assert not any(case.labels for case in strangers.cases)
    assert [case.name for case in choose_scans(study, "", str(root)).cases] == ["vertebrae-case04"]
    folder = root / "vertebrae_images_only"
    assert [case.name for case in choose_scans(study, str(folder)).cases] == ["case04_T2w"]


def test_thin_slices_are_looked_at_as_far_apart_as_was_learnt(root: Path, asked: list[str]) -> None:
    study = Study.open("smoke")
    assert len(at_learnt_spacing(study, volume(9, 1.0)).array) == 3
    assert len(at_learnt_spacing(study, volume(9, 4.0)).array) == 9


@pytest.mark.parametrize("same", [True, False])
def test_a_training_that_comes_with_the_package_is_not_repeated(
    same: bool, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study.open("smoke")
    trained: list[int] = []
    monkeypatch.setattr(transfer, "trained_on_phantoms", lambda study: trained.append(study.seed))
    system, settings = transfer._system(), study.settings
    assert system.first is not None
    assert system.second is not None
    branches = list(stage1.build(system.first, settings, pretrained=False).branches)  # type: ignore[arg-type]
    network = stage2.build(Stage2(system.second, system.first), settings).network
    told = {"trainings": study.fingerprints(transfer.ROW, [transfer.FOLD]) if same else {"fold 0, stage 1": "other"}}
    ranges = ((1.0, 2.0), (1.0, 2.0), (1.0, 2.0))
    weights = Weights("a test", system, TrainedSSHSNet(settings, branches, network), Seen(ranges, ranges), told)
    weights.write(tmp_path / "shipped.safetensors")
    monkeypatch.setattr(transfer, "SHIPPED", tmp_path / "shipped.safetensors")
    found = transfer.networks(study)
    assert trained == ([] if same else [0])
    assert (found is not None) == same
