"""The table of rows, what makes a training itself, and every row's networks trained and used at the smallest size."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from stored_cases import MakeCase

from sshsnet_core.anatomy import ARCHES, N_APART, N_CLASSES
from sshsnet_core.data.preprocessing import Preprocessing
from sshsnet_core.data.slices import SliceSamples, pad_volume
from sshsnet_core.data.store import StoredCase
from sshsnet_core.evaluation import paper
from sshsnet_core.learning.cps import CrossPseudoSupervision, largest, likeliest_kind
from sshsnet_core.learning.inference import segment_windows, upsampled_coarse
from sshsnet_core.learning.losses import supervised_loss
from sshsnet_core.learning.training import Training, TrainingError
from sshsnet_core.methods import stage1, stage2
from sshsnet_core.methods.pseudo_labels import PseudoLabelRecord
from sshsnet_core.methods.rows import (
    AS_RELEASED,
    CPS,
    CPS_COMPARISON,
    INDUCTIVE,
    METHODS,
    OURS,
    PARTITIONS,
    PRETRAINED,
    SCRATCH,
    SWITCHES,
    TABLE_1,
    TABLE_2,
    TITLES,
    Switch,
    method_by_key,
)
from sshsnet_core.methods.segmenter import Segmenter
from sshsnet_core.methods.sshsnet import SSHSNet
from sshsnet_core.methods.stage1 import Stage1, apply_stage1
from sshsnet_core.methods.stage2 import Stage2
from sshsnet_core.methods.switches import Changed
from sshsnet_core.methods.system import Job
from sshsnet_core.networks.ctam import CTAM, Concatenation
from sshsnet_core.networks.deeplab2d import Output2D
from sshsnet_core.networks.sshsnet import Plain3D, SSHSNet3D
from sshsnet_core.settings import Settings, SettingsError, load_settings

CPU = torch.device("cpu")
#: The rows' own networks from scratch: nothing of ImageNet is needed to see that they fit together.
SCRATCH_CPS = Stage1(pretrained=False, cps=True)


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are read without workers: starting those would be most of the time of these tests."""
    monkeypatch.setattr("sshsnet_core.learning.training.data_workers", lambda: 0)


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


def ours() -> dict[str, SSHSNet]:
    """The rows that are SSHSNet or a variation of it and learn from all labels, by key."""
    all_labelled = {key: method.system for key, method in METHODS.items() if method.one_in == 1}
    return {key: system for key, system in all_labelled.items() if isinstance(system, SSHSNet)}


def test_the_rows_are_the_papers_in_its_order() -> None:
    assert {1: list(paper.TABLE_1), 2: [*paper.TABLE_2, INDUCTIVE.title]} == TITLES
    assert len({method.key for method in (*TABLE_1, *TABLE_2)}) == 11
    assert list(METHODS)[:6] == [method.key for method in TABLE_1]
    assert all(key == method.key for key, method in METHODS.items())
    assert len({method.title for method in METHODS.values()}) == len(METHODS)


def test_the_rows_switches() -> None:
    systems = {method.title: method.system for method in TABLE_1}
    assert all(isinstance(system, SSHSNet) for system in systems.values())
    switches = {
        title: (system.first and (system.first.pretrained, system.first.cps), system.second)  # type: ignore[attr-defined]
        for title, system in systems.items()
    }
    assert switches == {
        "SSHSNet-2D-w/o-Pre-CPS": ((False, False), None),
        "SSHSNet-2D-w/o-CPS": ((True, False), None),
        "SSHSNet-2D-CPS": ((True, True), None),
        "SSHSNet-3D": (None, "whole"),
        "SSHSNet-w/o-CTAM": ((True, True), "concatenation"),
        "SSHSNet": ((True, True), "ctam"),
    }


def test_every_switch_is_turned_in_some_row() -> None:
    """A released row differs from its own in the released behaviour alone."""
    twins = {released: method_by_key(released.key.removesuffix("-released")) for released in AS_RELEASED}
    for released, own in twins.items():
        assert type(released.system) is type(own.system)
        assert sum(a != b for a, b in zip(vars(released.system).values(), vars(own.system).values(), strict=True)) == 1


def test_rows_that_share_a_stage_1_share_its_folder_and_no_others() -> None:
    stages = {system.first for system in ours().values() if system.first is not None}
    assert len({stage.key for stage in stages}) == len(stages) == 8
    keys = [system.first.key for key, system in ours().items() if system.first and system.first.cps]
    own = ["held-out", "no-cutmix", "training-mode"]
    assert keys == ["2d-imagenet-cps"] * 3 + [f"2d-imagenet-cps-{name}" for name in own] + ["2d-scratch-cps"]
    # A stage 1 and a row with a stage 2 lie side by side in one folder.
    assert not {stage.key for stage in stages} & {key for key, system in ours().items() if system.second}


def test_which_images_a_row_has_seen_without_their_labels(settings: Settings) -> None:
    pools = {key: method.system.pool(settings) for key, method in METHODS.items()}
    turned = {switch.turned.key for switch in SWITCHES}
    assert {key for key, pool in pools.items() if pool == "test"} - turned == {"2d-cps", "wo-ctam", "sshsnet"}
    assert pools["sshsnet-inductive"] == "held-out"
    assert set(pools.values()) == {"test", "held-out", "training", "none"}
    assert {key for key, pool in pools.items() if pool == "training"} == {f"2d-cps-1-in-{n}" for n in (16, 8, 4)}


def test_rows_with_few_labels_are_the_tables_own_otherwise() -> None:
    assert list(PARTITIONS) == [16, 8, 4, 1]
    for one_in, rows in PARTITIONS.items():
        assert {row.one_in for row in rows.values()} == {one_in}
        for title, row in rows.items():
            whole = PARTITIONS[1][title]
            assert (whole.title, row.title.startswith(title)) == (title, True)
            assert isinstance(row.system, SSHSNet)
            assert isinstance(whole.system, SSHSNet)
            assert row.system.first is not None
            assert replace(row.system.first, pool=None) == whole.system.first


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
    system = ours()[key]
    assert system.second is not None
    return stage2.training_of(Stage2(system.second, system.first), settings, Path("here"), **values)


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


def test_where_files_and_folders_lie_decides_nothing(settings: Settings, tmp_path: Path) -> None:
    """Weights or scans that have moved leave trainings what they are; other weights do not."""
    for name, held in (("here.pth", b"weights"), ("there.pth", b"weights"), ("other.pth", b"others!")):
        (tmp_path / name).write_bytes(held)
    here, there, other = (
        settings.changed({"network_2d.weights_file": str(tmp_path / f"{name}.pth")})
        for name in ("here", "there", "other")
    )
    assert first_stage(here, PRETRAINED).fingerprint == first_stage(there, PRETRAINED).fingerprint
    assert first_stage(here, PRETRAINED).fingerprint != first_stage(other, PRETRAINED).fingerprint
    assert first_stage(here, SCRATCH).fingerprint == first_stage(settings, SCRATCH).fingerprint
    pools = [settings.changed({"cps.pool": "folder", "cps.pool_folder": folder}) for folder in ("/a", "/b")]
    assert len({first_stage(pool, CPS).fingerprint for pool in pools}) == 1


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
    stages = [SCRATCH, PRETRAINED, CPS, replace(PRETRAINED, longer=4.0), replace(CPS, pool="held-out")]
    stages += [replace(CPS, cutmix=False), replace(CPS, evaluating=False)]
    assert len({first_stage(settings, stage).fingerprint for stage in stages}) == 7
    assert len({second_stage(settings, key).fingerprint for key in ("3d", "wo-ctam", "sshsnet")}) == 3
    assert first_stage(settings).fingerprint == first_stage(settings.model_copy()).fingerprint


def test_a_switch_joins_the_identity_only_where_it_is_turned(settings: Settings) -> None:
    """So that trainings from before a switch was there are found."""
    whole = {"weight": 1.0, "labels_only": 0.5, "pool": "test", "pool_folder": None}
    assert CPS.cps_identity(settings) == whole
    kind_first = replace(CPS, kind_first=True)
    assert kind_first.cps_identity(settings) == {**whole, "kind_first": True}
    assert repr(kind_first) == repr(CPS) == "Stage1(pretrained=True, cps=True, longer=1.0)"
    assert kind_first.key == "2d-imagenet-cps-kind-first"


@pytest.mark.parametrize("switch", [{"even_slices": 0.5}, {"slice_dice_over": "batch"}, {"in_view": 0.5}], ids=str)
def test_how_slices_are_drawn_and_scored_is_of_the_2d_networks_alone(
    settings: Settings, switch: dict[str, Any]
) -> None:
    even = settings.changed(switch)
    assert first_stage(even).fingerprint != first_stage(settings).fingerprint
    assert second_stage(even, "sshsnet").fingerprint != second_stage(settings, "sshsnet").fingerprint
    assert second_stage(even, "3d").fingerprint == second_stage(settings, "3d").fingerprint


@pytest.mark.parametrize(
    "change",
    [{"arches_apart": True}, {"arches_apart": True, "cohort.arches": "apart"}, {"cohort.annotated": ("S", "L5")}],
    ids=str,
)
def test_what_masks_hold_and_networks_tell_apart_decides_both_stages_where_it_is_not_the_papers(
    settings: Settings, change: dict[str, Any]
) -> None:
    assert stage1.labels_identity(settings) == {}
    other = settings.changed(change)
    assert first_stage(other).fingerprint != first_stage(settings).fingerprint
    for key in ("sshsnet", "3d"):
        assert second_stage(other, key).fingerprint != second_stage(settings, key).fingerprint


def test_settings_of_cps_do_not_touch_rows_without(settings: Settings) -> None:
    other = changed(settings, "cps", weight=0.5)
    assert first_stage(other, PRETRAINED).fingerprint == first_stage(settings, PRETRAINED).fingerprint


def test_a_longer_stage_1_takes_more_steps(settings: Settings) -> None:
    longer = replace(PRETRAINED, longer=4.0)
    assert first_stage(settings, longer).steps_per_epoch == 4 * first_stage(settings, PRETRAINED).steps_per_epoch


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.choice)
def test_a_switch_trains_anew_what_it_reaches_and_shares_the_rest(
    switch: Switch, settings: Settings, cases: list[StoredCase], tmp_path: Path
) -> None:
    turned = switch.turned.system.stages(job(settings, cases, tmp_path, switch.turned.key))
    base = switch.base.system.stages(job(settings, cases, tmp_path, switch.base.key))
    assert list(turned) == list(base)
    anew = {name for name in turned if turned[name].fingerprint != base[name].fingerprint}
    both = switch.turned == INDUCTIVE or switch.choice.startswith("no ImageNet weights")
    assert anew == (set(base) if both else set(base) - {"stage 1"} or {"stage 1"})
    assert {name for name in turned if turned[name].folder != base[name].folder} == anew
    folders = [str(stage.folder) for stage in turned.values()]
    assert len(set(folders)) == len(folders)


def test_a_changed_slice_size_is_another_training_though_the_study_tells_its_own(
    settings: Settings, cases: list[StoredCase], tmp_path: Path
) -> None:
    own = replace(job(settings, cases, tmp_path, "row"), identity={**IDENTITY, "slice_size": settings.slice_size})
    sizes = (settings.slice_size, (96, 64), (64, 64))
    stages = [Changed(OURS.system, {"slice_size": size}).stages(own) for size in sizes]
    assert stages[0]["stage 1"].fingerprint == OURS.system.stages(own)["stage 1"].fingerprint
    assert len({of["stage 1"].fingerprint for of in stages}) == len(sizes)


def test_unknown_settings_are_not_changed(settings: Settings) -> None:
    assert settings.changed({"cps.weight": 0.1, "patch": (12, 64, 64)}).patch == (12, 64, 64)
    for key in ("cps.wait", "wait", "cps.weight.more", "wait.more"):
        with pytest.raises(SettingsError, match="No setting"):
            settings.changed({key: 1})


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
    assert (objective.weight, objective.decide) == (settings.cps.weight, largest)


@pytest.mark.parametrize("stage", [SCRATCH_CPS, Stage1(pretrained=False, cps=False)], ids=["cps", "labels"])
def test_both_objectives_sum_dice_over_what_the_settings_say(
    settings: Settings, cases: list[StoredCase], stage: Stage1
) -> None:
    samples = SliceSamples(cases, settings.slice_size, 0)
    batch = {name: torch.stack([samples[n][name] for n in range(3)]) for name in ("image", "labels")}
    over_batch = settings.changed({"slice_dice_over": "batch"})
    objectives = []
    for of in (settings, over_batch):
        torch.manual_seed(0)
        objectives.append(stage1.build(stage, of, pretrained=False).eval())
    scores = [branch(batch["image"]).scores for branch in objectives[1].branches]  # type: ignore[union-attr]
    expected = sum(supervised_loss(of, batch["labels"], dice_over="batch").item() for of in scores)
    losses = [objective(batch)["loss"].item() for objective in objectives]
    assert losses[1] == pytest.approx(expected, abs=1e-5)
    assert losses[0] != losses[1]


def test_pseudo_labels_are_decided_kind_first_where_the_stage_says_so(settings: Settings) -> None:
    objective = stage1.build(replace(SCRATCH_CPS, kind_first=True), settings, pretrained=False)
    assert objective.decide is likeliest_kind


def test_branches_from_scratch_differ_in_the_encoder_too(settings: Settings) -> None:
    torch.manual_seed(0)
    first, second = stage1.build(SCRATCH_CPS, settings, pretrained=False).branches  # type: ignore[misc]
    pairs = zip(first.encoder.parameters(), second.encoder.parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in pairs)
    assert len(stage1.build(SCRATCH, settings, pretrained=False).branches) == 1  # type: ignore[arg-type]


def test_the_3d_networks_of_the_rows(settings: Settings) -> None:
    below = {"whole": None, "concatenation": CPS, "ctam": CPS}
    stages = (Stage2(kind, stage) for kind, stage in below.items())  # type: ignore[arg-type]
    networks = {stage.kind: stage2.build(stage, settings).network for stage in stages}
    assert isinstance(networks["whole"], Plain3D)
    assert isinstance(networks["ctam"], SSHSNet3D)
    assert isinstance(networks["ctam"].fusion, CTAM)
    assert isinstance(networks["concatenation"].fusion, Concatenation)  # type: ignore[union-attr]


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


def test_what_is_trained_needs_no_imagenet_weights(
    settings: Settings, cases: list[StoredCase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may have to come from a network that is not there any more."""
    _, history = train_first(PRETRAINED, settings, cases, tmp_path)
    monkeypatch.setattr("sshsnet_core.networks.deeplab2d.pretrained_encoder", None)
    pd.testing.assert_frame_equal(train_first(PRETRAINED, settings, cases, tmp_path)[1], history)
    with pytest.raises(TypeError):
        train_first(PRETRAINED, settings, cases, tmp_path / "anew")


def test_pseudo_labels_are_written_down_after_every_epoch(
    settings: Settings, cases: list[StoredCase], tmp_path: Path
) -> None:
    """What the trained branches say of the slice is the last entry."""
    training, history = train_first(SCRATCH_CPS, settings, cases, tmp_path)
    record = stage1.pseudo_label_record(training, cases[1:])
    labels = record.read()
    assert list(labels) == history["epoch"].tolist() == [1, 2]
    branches = stage1.load_branches(SCRATCH_CPS, settings, training)
    with torch.no_grad():
        last = [branch(record.image[None]).scores[0].argmax(dim=0).numpy() for branch in branches]
    np.testing.assert_array_equal(labels[2], last)
    assert labels[1].shape == (2, *record.image.shape[1:])


def test_the_record_is_decided_as_pseudo_labels_are_and_keeps_arches_apart(
    cases: list[StoredCase], tmp_path: Path
) -> None:
    """Background 0.4, L5 and L4 0.3 each; then the arch of L5, certain."""

    class Says(torch.nn.Conv2d):
        def forward(self, x: torch.Tensor) -> Output2D:
            scores = torch.log(probabilities).view(1, -1, 1, 1).expand(1, -1, *x.shape[2:])
            return Output2D(scores, scores)

    record = PseudoLabelRecord(cases[0], tmp_path / "record")
    branches = [Says(3, 1, 1)] * 2
    probabilities = torch.full((N_APART,), 1e-9)
    probabilities[[0, 2, 3]] = torch.tensor([0.4, 0.31, 0.29])
    record.write(1, branches)
    record.write(2, branches, likeliest_kind)
    probabilities[ARCHES[0].label] = 5.0
    record.write(3, branches)
    assert [set(np.unique(labels)) for labels in record.read().values()] == [{0}, {2}, {ARCHES[0].label}]


def test_ctam_is_looked_into_at_a_patch(settings: Settings, cases: list[StoredCase], tmp_path: Path) -> None:
    system, own = SSHSNet(SCRATCH_CPS, "ctam"), job(settings, cases, tmp_path, "row")
    histories = system.train(own)
    # Where the scales stand, beside the loss: Adam moves them from 0.
    gammas = histories["stage 2"][["gamma1", "gamma2", "gamma3"]]
    assert (gammas.iloc[-1] != 0).all()
    maps = system.load(own).attention(cases[0].image, (0, 8, 0))
    z, h, w = settings.patch
    channels = 2 * settings.network_3d.decoder_channels
    shapes = {name: values.shape for name, values in maps.items()}
    assert shapes == {
        "inter_slice": (z, z),
        "intra_slice": (h * w // 16, h * w // 16),
        "channel": (channels, channels),
        "features": (channels, z, h // 4, w // 4),
    }
    for name in ("inter_slice", "intra_slice", "channel"):
        np.testing.assert_allclose(maps[name].sum(axis=1), 1, rtol=1e-5)
    plain = SSHSNet(SCRATCH_CPS, None)
    plain.train(own)
    with pytest.raises(TrainingError, match="no cross tri-attention module"):
        plain.load(own).attention(cases[0].image, (0, 8, 0))


def test_a_stage_1_without_cps_never_reads_the_pool(
    settings: Settings, cases: list[StoredCase], tmp_path: Path
) -> None:
    training = stage1.training_of(SCRATCH, settings, tmp_path, IDENTITY, 0, 1.0)
    history = stage1.train_stage1(SCRATCH, settings, training, cases, [])
    assert list(history) == ["epoch", "loss", "learning_rate", "seconds"]


def test_under_a_lambda_of_0_two_branches_learn_from_labels_alone(
    settings: Settings, cases: list[StoredCase], tmp_path: Path
) -> None:
    """No pool is asked for, nothing is recorded, and what it learns from is what CPS's supervised part would see."""

    def no_pool(name: str) -> list[StoredCase]:
        raise AssertionError(name)

    system = SSHSNet(SCRATCH_CPS, None)
    own = replace(job(changed(settings, "cps", weight=0.0), cases, tmp_path, "row"), pool=no_pool)
    assert system.pool(own.settings) == "none"
    history = system.train(own)["stage 1"]
    assert list(history) == ["epoch", "loss", "supervised", "learning_rate", "seconds"]
    assert len(system.load(own).branches) == 2
    assert not (system.stages(own)["stage 1"].folder / "pseudo_labels").exists()
    with pytest.raises(TrainingError, match="row learns from labels alone"):
        system.pseudo_labels(own)
    # Until CPS begins, in the second of its epochs, the same weights come of the same samples.
    under_cps = system.train(job(settings, cases, tmp_path / "cps", "row"))["stage 1"]
    assert under_cps["supervised"][0] == history["supervised"][0]


@pytest.mark.parametrize(("key", "name"), [("nnunet-2d", "nnU-Net"), ("cotr", "CoTr"), ("spineparsenet", "SpineParse")])
def test_other_systems_refuse_more_than_the_papers_classes(
    settings: Settings, cases: list[StoredCase], tmp_path: Path, key: str, name: str
) -> None:
    for change in ({"arches_apart": True}, {"cohort.arches": "apart"}, {"cohort.annotated": ("S",)}):
        own = job(settings.changed(change), cases, tmp_path, key)
        with pytest.raises(SettingsError, match=f"^{name}.* 20 classes"):
            METHODS[key].system.train(own)
    assert not list(tmp_path.glob("fold0"))


def test_networks_with_arches_apart_learn_from_masks_that_tell_them_apart(
    settings: Settings, make_case: MakeCase, tmp_path: Path
) -> None:
    """And from masks in which they are joined."""
    arch = ARCHES[0].label
    labels = np.zeros((4, 41, 35), np.uint8)
    labels[1:3, 4:20, 5:20], labels[2, 30:, 20:] = 2, arch
    image = np.random.default_rng(0).standard_normal(labels.shape)
    apart, joined = make_case("apart", image, labels), make_case("joined", image, np.where(labels == arch, 2, labels))
    assert apart.structures == {2, arch}
    for arches, case, second in (("apart", apart, "ctam"), ("joined", joined, "whole")):
        told = settings.changed({"arches_apart": True, "cohort.arches": arches})
        system = SSHSNet(SCRATCH_CPS if second == "ctam" else None, second)  # type: ignore[arg-type]
        own = replace(job(told, [case, case], tmp_path, f"row-{second}"), labelled=[case])
        system.train(own)
        probabilities = system.load(own)(case.image)
        assert probabilities.shape == (N_APART, *labels.shape)
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=0.01)


def job(settings: Settings, cases: list[StoredCase], folder: Path, key: str) -> Job:
    """A row's job on two cases, the second of which is the pool as well."""
    return Job(key, settings, cases, cases, lambda name: cases[1:], IDENTITY, 0, 1.0, folder, "fold0", folder)


def test_a_folder_of_scans_is_part_of_the_training_that_reads_it(
    settings: Settings, cases: list[StoredCase], tmp_path: Path
) -> None:
    folder = settings.changed({"cps.pool": "folder", "cps.pool_folder": "scans"})
    under_cps, alone = SSHSNet(SCRATCH_CPS, "ctam"), SSHSNet(SCRATCH, "ctam")
    for system, reads in ((under_cps, True), (alone, False)):
        before, after = (
            replace(job(folder, cases, tmp_path, "row"), scans=lambda contents=contents: contents) for contents in "ab"
        )
        for name, stage in system.stages(before).items():
            assert (stage.fingerprint != system.stages(after)[name].fingerprint) == reads
    with pytest.raises(ValidationError, match="needs pool_folder"):
        settings.changed({"cps.pool": "folder"})


def test_every_row_from_training_to_labels(settings: Settings, cases: list[StoredCase], tmp_path: Path) -> None:
    """Of the second case, which is held out and in the pool, the masks cannot be read."""
    for name in ("labels.npy", "voxels.npy"):
        (cases[1].folder / name).write_bytes(b"not to be read")
    shared = SSHSNet(SCRATCH_CPS, None).stages(job(settings, cases, tmp_path, "row-None"))["stage 1"]
    (shared.folder / "coarse-of-another").mkdir(parents=True)
    for second in (None, "concatenation", "ctam", "whole"):
        system = SSHSNet(None if second == "whole" else SCRATCH_CPS, second)
        own = replace(job(settings, cases, tmp_path, f"row-{second}"), labelled=cases[:1], watched=cases[1:])
        with pytest.raises(TrainingError, match="has not been trained yet"):
            system.load(replace(own, seed=7, root=tmp_path / "elsewhere"))
        histories = system.train(own)
        assert list(histories) == list(system.stages(own))
        assert all(len(history) == 2 for history in histories.values())
        network = system.load(own)
        segmenter = Segmenter(Preprocessing((4.4, 0.7, 0.7)), [network])
        for shape in [(4, 41, 35), (1, 20, 50)]:  # larger than a patch and odd; smaller than one
            image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
            probabilities = network(image)
            assert probabilities.shape == (N_CLASSES, *shape)
            np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=0.01)
            labels = segmenter.labels(probabilities, (4.4, 0.7, 0.7))
            assert (labels.shape, labels.dtype) == (shape, np.uint8)
            np.testing.assert_array_equal(labels, probabilities.argmax(axis=0))
            if second in ("concatenation", "ctam"):
                volume = pad_volume(image, settings.patch)
                coarse = apply_stage1(network.branches, volume, CPU)
                assert network.network is not None
                fine = segment_windows(network.network, volume, coarse, settings.patch, settings.overlap, CPU)
                np.testing.assert_allclose(probabilities, fine[:, : shape[0], : shape[1], : shape[2]], atol=1e-5)
                assert not np.allclose(fine, upsampled_coarse(coarse), atol=1e-3)
        assert segmenter.segment_stored(cases[0]).shape == cases[0].image.shape
    # The coarse maps of a stage 1 that is no more have gone.
    assert [maps.name for maps in shared.folder.glob("coarse-*")] == [f"coarse-{shared.fingerprint}"]


def test_rows_find_the_stage_1_that_another_has_trained(
    settings: Settings, cases: list[StoredCase], tmp_path: Path
) -> None:
    first = SSHSNet(SCRATCH_CPS, None).stages(job(settings, cases, tmp_path, "one"))["stage 1"]
    second = SSHSNet(SCRATCH_CPS, "ctam").stages(job(settings, cases, tmp_path, "two"))
    assert (first.folder, first.fingerprint) == (second["stage 1"].folder, second["stage 1"].fingerprint)
    assert second["stage 2"].folder == tmp_path / "two" / "fold0"


def test_several_folds_networks_vote_with_their_probabilities(cases: list[StoredCase]) -> None:
    """Section 4.4: two unsure networks against a sure one: the mean decides, not the majority."""

    def says(*probabilities: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda image: np.broadcast_to(np.array(probabilities)[:, None, None, None], (3, *image.shape))

    unsure, sure = says(0.0, 0.55, 0.45), says(0.0, 0.1, 0.9)
    alone = Segmenter(Preprocessing((4.4, 0.7, 0.7)), [unsure])
    together = Segmenter(Preprocessing((4.4, 0.7, 0.7)), [unsure, unsure, sure])
    assert (alone.segment_stored(cases[0]) == 1).all()
    assert (together.segment_stored(cases[0]) == 2).all()
