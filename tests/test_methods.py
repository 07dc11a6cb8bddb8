"""The table of rows, what makes a training itself, and every row's networks trained and used at the smallest size."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import MakeCase

from sshsnet_core.anatomy import N_CLASSES
from sshsnet_core.data.preprocessing import Preprocessing
from sshsnet_core.data.sampling import pad_volume
from sshsnet_core.data.store import StoredCase
from sshsnet_core.evaluation import paper
from sshsnet_core.learning.cps import CrossPseudoSupervision
from sshsnet_core.learning.training import Training, TrainingError
from sshsnet_core.methods import stage1, stage2
from sshsnet_core.methods.rows import CPS, CPS_COMPARISON, METHODS, PRETRAINED, SCRATCH, TABLE_1, Stage1, method_by_key
from sshsnet_core.methods.segmenter import Segmenter
from sshsnet_core.networks.ctam import CTAM, Concatenation
from sshsnet_core.networks.sshsnet import Plain3D, SSHSNet3D
from sshsnet_core.settings import Settings, SettingsError, load_settings

CPU = torch.device("cpu")
#: The rows' own networks from scratch: nothing of ImageNet is needed to see that they fit together.
SCRATCH_CPS = Stage1(pretrained=False, cps=True)


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores, where samples are read without workers: starting those would be most of the time of these tests."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


@pytest.fixture(scope="module")
def settings() -> Settings:
    """The smoke profile, smaller yet: 2 epochs of one step."""
    smoke = load_settings("smoke")
    schedule = smoke.train_3d.model_copy(update={"epochs": 2, "steps_per_epoch": 1, "batch_size": 2})
    cps = smoke.cps.model_copy(update={"labels_only": 0.5})
    sizes = {"slice_size": (36, 24), "patch": (3, 32, 32), "overlap": 0.25}
    schedules = {"train_2d": schedule, "train_3d": schedule, "train_3d_whole": schedule}
    return smoke.model_copy(update={"cps": cps, **sizes, **schedules})


@pytest.fixture
def cases(make_case: MakeCase) -> list[StoredCase]:
    rng = np.random.default_rng(0)
    labels = np.zeros((4, 41, 35), np.uint8)
    labels[1:3, 4:20, 5:20], labels[2, 30:, 20:] = 2, 12
    return [make_case(name, rng.standard_normal(labels.shape), labels) for name in ("a", "b")]


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_rows_are_the_papers_in_its_order() -> None:
    assert [method.title for method in TABLE_1] == list(paper.TABLE_1)
    assert len(TABLE_1) == 6
    assert list(METHODS)[:6] == [method.key for method in TABLE_1]
    assert all(key == method.key for key, method in METHODS.items())


def test_the_rows_switches() -> None:
    switches = {m.title: (m.stage1 and (m.stage1.pretrained, m.stage1.cps), m.stage2) for m in TABLE_1}
    assert switches == {
        "SSHSNet-2D-w/o-Pre-CPS": ((False, False), None),
        "SSHSNet-2D-w/o-CPS": ((True, False), None),
        "SSHSNet-2D-CPS": ((True, True), None),
        "SSHSNet-3D": (None, "whole"),
        "SSHSNet-w/o-CTAM": ((True, True), "concatenation"),
        "SSHSNet": ((True, True), "ctam"),
    }


def test_rows_that_share_a_stage_1_share_its_folder_and_no_others() -> None:
    stages = {method.stage1 for method in METHODS.values() if method.stage1 is not None}
    assert len({stage.key for stage in stages}) == len(stages) == 4
    keys = [method.stage1.key for method in TABLE_1 if method.stage1 is not None and method.stage1.cps]
    assert keys == ["2d-imagenet-cps"] * 3
    # A stage 1 and a row with a stage 2 lie side by side in one folder.
    assert not {stage.key for stage in stages} & {method.key for method in METHODS.values() if method.stage2}


def test_unknown_row() -> None:
    assert method_by_key("sshsnet").title == "SSHSNet"
    with pytest.raises(SettingsError, match=r"No method 'cips'; known are .*2d-wo-pre-cps"):
        method_by_key("cips")


def test_the_comparison_names_rows() -> None:
    assert set(CPS_COMPARISON) <= {method.title for method in METHODS.values()}


# --- identity --------------------------------------------------------------------------------------------------------


def changed(settings: Settings, part: str, **values: Any) -> Settings:
    return settings.model_copy(update={part: getattr(settings, part).model_copy(update=values)})


#: What decides stage 1.
STAGE_1_CHANGES: list[Callable[[Settings], Settings]] = [
    lambda s: changed(s, "network_2d", decoder_channels=24),
    lambda s: changed(s, "network_2d", encoder="se_resnext50_32x4d"),
    lambda s: changed(s, "cps", weight=0.5),
    lambda s: changed(s, "cps", pool="held-out"),
    lambda s: changed(s, "train_2d", epochs=7),
    lambda s: changed(s, "train_2d", learning_rate=0.5),
]
#: What decides stage 2 beside it.
STAGE_2_CHANGES: list[Callable[[Settings], Settings]] = [
    lambda s: changed(s, "network_3d", decoder_channels=24),
    lambda s: changed(s, "network_3d", ctam="printed"),
    lambda s: changed(s, "train_3d", epochs=7),
    lambda s: s.model_copy(update={"patch": (5, 32, 32)}),
]
IDENTITY = {"cohort": "c0", "training": ("a", "b")}


def first_stage(settings: Settings, stage: Stage1 = CPS, **changes: Any) -> Training:
    values: dict[str, Any] = {"identity": IDENTITY, "seed": 0, "effort": 1.0, **changes}
    return stage1.training_of(stage, settings, Path("here"), **values)


def second_stage(settings: Settings, key: str = "sshsnet", **changes: Any) -> Training:
    values: dict[str, Any] = {"identity": IDENTITY, "seed": 0, "effort": 1.0, **changes}
    return stage2.training_of(method_by_key(key), settings, Path("here"), **values)


OTHERS: list[dict[str, Any]] = [
    {"identity": {**IDENTITY, "cohort": "c1"}},
    {"identity": {**IDENTITY, "training": ("a", "c")}},
    {"seed": 1},
    {"effort": 2.0},
]


@pytest.mark.parametrize("change", STAGE_1_CHANGES)
def test_stage_1_and_what_stands_on_it_change_with_its_settings(
    settings: Settings, change: Callable[[Settings], Settings]
) -> None:
    other = change(settings)
    assert first_stage(other).fingerprint != first_stage(settings).fingerprint
    assert second_stage(other).fingerprint != second_stage(settings).fingerprint
    assert second_stage(other, "3d").fingerprint == second_stage(settings, "3d").fingerprint


@pytest.mark.parametrize("change", STAGE_2_CHANGES)
def test_stage_2_changes_with_its_settings(settings: Settings, change: Callable[[Settings], Settings]) -> None:
    other = change(settings)
    assert second_stage(other).fingerprint != second_stage(settings).fingerprint
    assert first_stage(other).fingerprint == first_stage(settings).fingerprint


@pytest.mark.parametrize("other", OTHERS)
def test_cases_seed_and_effort_are_part_of_both(settings: Settings, other: dict[str, Any]) -> None:
    assert first_stage(settings, **other).fingerprint != first_stage(settings).fingerprint
    for key in ("sshsnet", "3d"):
        assert second_stage(settings, key, **other).fingerprint != second_stage(settings, key).fingerprint


def test_every_row_has_an_identity_of_its_own(settings: Settings) -> None:
    stages = [SCRATCH, PRETRAINED, CPS, replace(PRETRAINED, longer=4.0)]
    assert len({first_stage(settings, stage).fingerprint for stage in stages}) == 4
    assert len({second_stage(settings, key).fingerprint for key in ("3d", "wo-ctam", "sshsnet")}) == 3
    assert first_stage(settings).fingerprint == first_stage(settings.model_copy()).fingerprint


def test_settings_of_cps_do_not_touch_rows_without(settings: Settings) -> None:
    other = changed(settings, "cps", weight=0.5)
    assert first_stage(other, PRETRAINED).fingerprint == first_stage(settings, PRETRAINED).fingerprint


def test_a_longer_stage_1_takes_more_steps(settings: Settings) -> None:
    longer = replace(PRETRAINED, longer=4.0)
    assert first_stage(settings, longer).steps_per_epoch == 4 * first_stage(settings, PRETRAINED).steps_per_epoch


# --- networks --------------------------------------------------------------------------------------------------------


def test_pretrained_branches_share_the_encoder_and_nothing_else(settings: Settings) -> None:
    torch.manual_seed(0)
    objective = stage1.build(CPS, settings, pretrained=True)
    first, second = objective.branches  # type: ignore[misc]
    for (name, one), other in zip(
        first.encoder.state_dict().items(), second.encoder.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert first.encoder is not second.encoder
    for part in ("decoder", "segmentation_head"):
        pairs = zip(getattr(first, part).parameters(), getattr(second, part).parameters(), strict=True)
        assert any(not torch.equal(one, other) for one, other in pairs)
    assert isinstance(objective, CrossPseudoSupervision)
    assert objective.weight == settings.cps.weight


def test_branches_from_scratch_differ_in_the_encoder_too(settings: Settings) -> None:
    torch.manual_seed(0)
    first, second = stage1.build(SCRATCH_CPS, settings, pretrained=False).branches  # type: ignore[misc]
    pairs = zip(first.encoder.parameters(), second.encoder.parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in pairs)
    assert len(stage1.build(SCRATCH, settings, pretrained=False).branches) == 1  # type: ignore[arg-type]


def test_the_3d_networks_of_the_rows(settings: Settings) -> None:
    networks = {key: stage2.build(method_by_key(key), settings).network for key in ("3d", "wo-ctam", "sshsnet")}
    assert isinstance(networks["3d"], Plain3D)
    assert isinstance(networks["sshsnet"], SSHSNet3D)
    assert isinstance(networks["sshsnet"].fusion, CTAM)
    assert isinstance(networks["wo-ctam"].fusion, Concatenation)  # type: ignore[union-attr]


# --- every row trained and used --------------------------------------------------------------------------------------


def train_first(
    stage: Stage1, settings: Settings, cases: list[StoredCase], folder: Path
) -> tuple[Training, pd.DataFrame]:
    training = stage1.training_of(stage, settings, folder, IDENTITY, 0, 1.0)
    return training, stage1.train_stage1(stage, settings, training, cases[:1], cases[1:])


def test_cps_begins_after_the_epochs_on_labels_only(
    settings: Settings, cases: list[StoredCase], tmp_path: Path
) -> None:
    training, history = train_first(SCRATCH_CPS, settings, cases, tmp_path)
    assert history["cps"].isna().tolist() == [True, False]
    assert history["loss"].tolist() == pytest.approx((history["supervised"] + history["cps"].fillna(0)).tolist())
    branches = stage1.load_branches(SCRATCH_CPS, settings, training)
    assert len(branches) == 2
    assert not any(branch.training for branch in branches)
    with pytest.raises(TrainingError, match="other settings"):
        stage1.load_branches(SCRATCH_CPS, changed(settings, "cps", weight=0.5), replace(training, seed=1))


def test_a_stage_1_without_cps_never_reads_the_pool(
    settings: Settings, cases: list[StoredCase], tmp_path: Path
) -> None:
    training = stage1.training_of(SCRATCH, settings, tmp_path, IDENTITY, 0, 1.0)
    history = stage1.train_stage1(SCRATCH, settings, training, cases, [])
    assert list(history) == ["epoch", "loss", "learning_rate", "seconds"]


def test_every_row_from_training_to_labels(settings: Settings, cases: list[StoredCase], tmp_path: Path) -> None:
    training, _ = train_first(SCRATCH_CPS, settings, cases, tmp_path / "2d")
    trained = stage1.load_branches(SCRATCH_CPS, settings, training)
    maps = [stage1.apply_stage1(trained, pad_volume(case.image, settings.patch), CPU) for case in cases]
    assert maps[0].scores.shape == (N_CLASSES, 4, 24, 20)
    assert maps[0].features.shape == (2 * settings.network_2d.decoder_channels, 4, 6, 5)
    for key in ("2d-cps", "wo-ctam", "sshsnet", "3d"):
        method = method_by_key(key)
        alone = method.stage1 is None
        if not alone:
            method = replace(method, stage1=SCRATCH_CPS)
        network = None
        if method.stage2 is not None:
            training = stage2.training_of(method, settings, tmp_path / key, IDENTITY, 0, 1.0)
            assert len(stage2.train_stage2(method, settings, training, cases, [] if alone else maps)) == 2
            network = stage2.load_network(method, settings, training)
            assert not network.training
        branches = [] if alone else trained
        segmenter = Segmenter(settings, Preprocessing((4.4, 0.7, 0.7)), method, branches, network)
        for shape in [(4, 41, 35), (1, 20, 50)]:  # larger than a patch and odd; smaller than one
            labels = segmenter.segment_array(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
            assert (labels.shape, labels.dtype) == (shape, np.uint8)
            assert labels.max() < N_CLASSES
        assert segmenter.segment_stored(cases[0]).shape == cases[0].image.shape
