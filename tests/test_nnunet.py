"""nnU-Net inside the study: planned, trained, interrupted and used at the smallest size, leaving nothing behind."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from stored_cases import MakeCase

from sshsnet_core.anatomy import N_CLASSES
from sshsnet_core.data.store import StoredCase
from sshsnet_core.learning.training import TrainingError
from sshsnet_core.methods.nnunet import NNUNet
from sshsnet_core.methods.nnunet_dataset import NAME, environment, pinned, prepare
from sshsnet_core.methods.system import Job
from sshsnet_core.settings import NNUNetSettings, Settings, load_settings

SPACING = (4.4, 1.36, 1.36)


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are read without workers."""
    monkeypatch.setattr("sshsnet_core.methods.nnunet.data_workers", lambda: 0)


@pytest.fixture
def cases(make_case: MakeCase) -> list[StoredCase]:
    rng = np.random.default_rng(0)
    labels = np.zeros((9, 90, 50), np.uint8)
    labels[2:7, 10:40, 5:30], labels[3:6, 50:70, 10:40] = 2, 12
    images = [rng.standard_normal(labels.shape) + labels for _ in "abc"]
    return [make_case(name, image, labels) for name, image in zip("abc", images, strict=True)]


def settings(**changes: Any) -> Settings:
    smoke = load_settings("smoke")
    sizes = {"patch_2d": (64, 48), "patch_3d": (8, 64, 48), "epochs": 1, "steps_per_epoch": 1, **changes}
    cotr = smoke.cotr.model_copy(update={"epochs": sizes["epochs"]})
    return smoke.model_copy(update={"nnunet": smoke.nnunet.model_copy(update=sizes), "cotr": cotr})


def job(cases: list[StoredCase], folder: Path, **changes: Any) -> Job:
    identity = {"cohort": "c", "preprocessing": {"spacing_mm": SPACING}, "training": ["a", "b"]}
    return Job(
        "row", settings(**changes), cases[:2], cases[2:], lambda name: [], identity, 0, 1.0,
        folder / "runs", "fold0", folder / "shared",
    )  # fmt: skip


# --- plans -----------------------------------------------------------------------------------------------------------


def test_the_papers_patches_give_nnunets_own_networks() -> None:
    """What nnU-Net's planner makes of MRSpineSeg by itself, at the sizes that the paper prints."""
    plan = {"spacing": [4.4, 0.34, 0.34], "batch_size": 2, "architecture": {"arch_kwargs": {"conv_bias": True}}}
    three = pinned(plan, NNUNetSettings(), 4)
    network = three["architecture"]["arch_kwargs"]
    assert (list(three["patch_size"]), three["batch_size"]) == ([8, 640, 320], 2)
    assert network["features_per_stage"] == [32, 64, 128, 256, 320, 320, 320]
    assert [list(k) for k in network["kernel_sizes"]] == [[1, 3, 3]] * 3 + [[3, 3, 3]] * 4
    strides = [[1, 1, 1]] + [[1, 2, 2]] * 3 + [[2, 2, 2]] + [[1, 2, 2]] * 2
    assert [list(stride) for stride in network["strides"]] == strides
    assert network["conv_bias"]

    two = pinned({**plan, "spacing": [0.34, 0.34], "batch_size": 7}, NNUNetSettings(), 4)
    assert (list(two["patch_size"]), two["batch_size"]) == ([896, 512], 7)
    assert two["architecture"]["arch_kwargs"]["features_per_stage"] == [32, 64, 128, 256, 512, 512, 512, 512]


def test_the_dataset_is_made_once_from_the_stores_arrays(cases: list[StoredCase], tmp_path: Path) -> None:
    first = prepare(job(cases, tmp_path), "3d_fullres")
    folder = first.folder / "preprocessed" / NAME / "nnUNetPlans_3d_fullres"
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.pkl")}
    assert {path.stem for path in times} == {"a", "b", "c"}
    # Two rows, another fold and another seed share it; another patch does not.
    again = prepare(replace(job(cases, tmp_path), labelled=cases[1:], watched=cases[:1], seed=7), "3d_fullres")
    assert again.folder == first.folder
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert prepare(job(cases, tmp_path, epochs=5, epochs_2d=6), "3d_fullres").folder == first.folder
    assert prepare(job(cases, tmp_path, patch_3d=(8, 32, 32)), "3d_fullres").folder != first.folder
    assert set(first.plans["configurations"]) == {"2d", "3d_fullres"}
    assert first.plans["transpose_forward"] == [0, 1, 2]


def test_a_dataset_whose_making_was_interrupted_is_completed(
    cases: list[StoredCase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    write, own = nnUNetDatasetBlosc2.save_case, job(cases, tmp_path)

    def stop(data: np.ndarray, seg: np.ndarray, properties: dict, path: str, **sizes: Any) -> None:
        write(data, seg, properties, path, **sizes)
        if path.endswith("b"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(nnUNetDatasetBlosc2, "save_case", staticmethod(stop))
        with pytest.raises(KeyboardInterrupt):
            prepare(own, "2d")
    folder = prepare(own, "2d").folder / "preprocessed" / NAME / "nnUNetPlans_2d"
    assert len(list(folder.iterdir())) == 3 * len(cases)


def test_environment_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_results", "mine")
    before, backend = dict(os.environ), matplotlib.get_backend()
    # Other threads read it meanwhile.
    monkeypatch.setattr(os.environ, "clear", lambda: pytest.fail("the environment was empty for a moment"))
    with environment(tmp_path, tmp_path):
        assert os.environ["nnUNet_results"] == str(tmp_path)  # noqa: SIM112
        os.environ["LEFT"] = "behind"
    assert dict(os.environ) == before
    assert matplotlib.get_backend() == backend


def test_a_notebook_still_draws_figures(tmp_path: Path) -> None:
    """nnU-Net chooses another backend when it is imported; a figure drawn after it must still reach the page."""
    cells = [
        "from pathlib import Path\nfrom sshsnet_core.methods.nnunet_dataset import environment\n"
        f"with environment(Path({str(tmp_path)!r}), Path({str(tmp_path)!r})):\n"
        "    import nnunetv2.training.logging.nnunet_logger",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120).execute()
    assert "image/png" in notebook.cells[1].outputs[0]["data"]


# --- training and use ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "system", [NNUNet("2d"), NNUNet("3d_fullres"), NNUNet("3d_fullres", network="cotr")], ids=["2d", "3d", "cotr"]
)
def test_a_row_from_training_to_probabilities(
    system: NNUNet, cases: list[StoredCase], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, before = job(cases, tmp_path), dict(os.environ)
    with pytest.raises(TrainingError, match="has not been trained yet"):
        system.load(own)
    history = system.train(own)["nnU-Net"]
    assert history["epoch"].tolist() == [1]
    assert np.isfinite(history[["loss", "validation_loss", "seconds"]]).all(axis=None)
    printed = capsys.readouterr().out
    assert "row, fold0: epoch 1/1  loss" in printed
    assert "cite" not in printed
    trained = system.load(own)
    for shape in [(9, 90, 50), (1, 71, 33)]:  # larger than a patch; one slice, smaller and odd
        image = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        probabilities = trained(image)
        assert (probabilities.shape, probabilities.dtype) == ((N_CLASSES, *shape), np.float32)
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-4)
    assert dict(os.environ) == before
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "shared", "store"}


def test_an_interrupted_training_goes_on_and_a_finished_one_is_found(
    cases: list[StoredCase], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sshsnet_core.methods.nnunet_trainer import SpineTrainer

    system, own = NNUNet("2d"), job(cases, tmp_path, epochs=3)

    def stop(trainer: SpineTrainer) -> None:
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SpineTrainer, "on_validation_epoch_start", stop)
        with pytest.raises(KeyboardInterrupt):
            system.train(own)
    capsys.readouterr()
    history = system.train(own)["nnU-Net"]
    assert "epoch 3/3" in (printed := capsys.readouterr().out)
    assert "epoch 2/3" not in printed
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["loss"].equals(system.train(replace(own, root=tmp_path / "uninterrupted"))["nnU-Net"]["loss"])
    final = system.stages(own)["nnU-Net"].results / "checkpoint_final.pth"  # type: ignore[attr-defined]
    written = final.stat().st_mtime_ns
    assert system.train(own)["nnU-Net"].equals(history)
    assert final.stat().st_mtime_ns == written
    with pytest.raises(TrainingError, match="other settings, cases or steps"):
        system.train(replace(own, seed=1))
    (final.parents[3] / "fingerprint.txt").unlink()
    with pytest.raises(TrainingError, match="other settings, cases or steps"):
        system.load(own)


def test_2d_nnunet_has_epochs_of_its_own(cases: list[StoredCase], tmp_path: Path) -> None:
    rows = {"2d": NNUNet("2d"), "3d": NNUNet("3d_fullres"), "cotr": NNUNet("3d_fullres", "cotr")}
    plain, own, more = (job(cases, tmp_path, **e) for e in ({}, {"epochs_2d": 2}, {"epochs_2d": 2, "epochs": 3}))
    more = replace(more, settings=more.settings.model_copy(update={"cotr": own.settings.cotr}))

    def others(first: Job, second: Job) -> list[str]:
        """The rows that are other trainings."""
        stages = {key: [row.stages(at)["nnU-Net"] for at in (first, second)] for key, row in rows.items()}
        return [key for key, (before, after) in stages.items() if before.fingerprint != after.fingerprint]

    assert others(plain, own) == ["2d"]
    assert others(own, more) == ["3d"]
    assert len(rows["2d"].train(own)["nnU-Net"]) == 2


def test_watched_cases_decide_nothing(cases: list[StoredCase], tmp_path: Path) -> None:
    """No checkpoint of the best epoch is kept, and another watched case is the same training."""
    system, own = NNUNet("2d"), job(cases, tmp_path)
    system.train(own)
    stage = system.stages(own)["nnU-Net"]
    assert [path.name for path in stage.folder.rglob("*.pth")] == ["checkpoint_final.pth"]
    assert system.stages(replace(own, watched=cases[:1]))["nnU-Net"].fingerprint == stage.fingerprint


def test_a_loss_that_is_not_finite_stops_the_training(
    cases: list[StoredCase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sshsnet_core.methods.nnunet_trainer import SpineTrainer

    monkeypatch.setattr(SpineTrainer, "train_step", lambda trainer, batch: {"loss": np.array(float("nan"))})
    with pytest.raises(TrainingError, match="not finite in epoch 1"):
        NNUNet("2d").train(job(cases, tmp_path))


def test_weights_that_the_last_step_spoilt_stop_the_training(
    cases: list[StoredCase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sshsnet_core.methods.nnunet_trainer import SpineTrainer

    step = SpineTrainer.train_step

    def spoil(trainer: SpineTrainer, batch: dict) -> dict:
        outcome = step(trainer, batch)
        torch.nn.init.constant_(next(trainer.network.parameters()), float("nan"))
        return outcome

    monkeypatch.setattr(SpineTrainer, "train_step", spoil)
    with pytest.raises(TrainingError, match="not finite in epoch 1"):
        NNUNet("2d").train(job(cases, tmp_path))


@pytest.mark.parametrize(
    ("upside_down", "mirror_slices", "axes"),
    [(False, True, (0,)), (False, False, ()), (True, True, (0, 1, 2)), (True, False, (0, 1, 2))],
)
def test_upside_down_is_what_mirrors_and_turns(
    cases: list[StoredCase], tmp_path: Path, upside_down: bool, mirror_slices: bool, axes: tuple[int, ...]
) -> None:
    system, own = NNUNet("3d_fullres", upside_down=upside_down), job(cases, tmp_path, mirror_slices=mirror_slices)
    dataset = prepare(own, "3d_fullres")
    with environment(dataset.folder, tmp_path / "runs"):
        trainer = system._trainer(own, dataset, system._training(own))
        rotation, dummy_2d, _, mirror = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        assert trainer.do_split() == (["a", "b"], ["c"])
    assert dummy_2d
    np.testing.assert_allclose(np.rad2deg(rotation), (-180, 180) if upside_down else (-15, 15))
    assert mirror == axes
    assert trainer.inference_allowed_mirroring_axes == (axes or None)


def test_as_released_a_long_slice_is_mirrored_and_hardly_turned(cases: list[StoredCase], tmp_path: Path) -> None:
    """More than 1.5 times as long as wide, as the 2D patches of every profile but `smoke` are."""
    system, own = NNUNet("2d", upside_down=True), job(cases, tmp_path, patch_2d=(64, 32))
    dataset = prepare(own, "2d")
    with environment(dataset.folder, tmp_path / "runs"):
        trainer = system._trainer(own, dataset, system._training(own))
        rotation, _, _, mirror = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert dataset.plans["configurations"]["2d"]["patch_size"] == [64, 32]
    np.testing.assert_allclose(np.rad2deg(rotation), (-15, 15))
    assert mirror == (0, 1)


def test_a_slice_is_not_mirrored(cases: list[StoredCase], tmp_path: Path) -> None:
    """Left and right are not in it, and back to front it is no possible spine."""
    system, own = NNUNet("2d"), job(cases, tmp_path)
    dataset = prepare(own, "2d")
    with environment(dataset.folder, tmp_path / "runs"):
        trainer = system._trainer(own, dataset, system._training(own))
        *_, mirror = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert mirror == ()
    assert trainer.inference_allowed_mirroring_axes is None


def test_3d_networks_segment_a_volume_and_its_mirror_image_alike(cases: list[StoredCase], tmp_path: Path) -> None:
    system, own = NNUNet("3d_fullres"), job(cases, tmp_path)
    system.train(own)
    # As many slices as a tile has, so that all of them lie in every tile, mirrored or not; a tile's ends, where its
    # weights are too small for half precision, in which nnU-Net averages, are left out.
    network, image, middle = system.load(own), cases[0].image[:8], np.s_[:, 2:-2, 20:-20, 12:-12]
    probabilities, mirrored = network(image), network(image[::-1])
    np.testing.assert_allclose(mirrored[:, ::-1][middle], probabilities[middle], atol=5e-3)


def test_cotrs_four_outputs_are_weighed_as_published(cases: list[StoredCase], tmp_path: Path) -> None:
    system, own = NNUNet("3d_fullres", network="cotr"), job(cases, tmp_path)
    dataset = prepare(own, "3d_fullres")
    with environment(dataset.folder, tmp_path / "runs"):
        trainer = system._trainer(own, dataset, system._training(own))
        trainer.initialize()
    assert trainer.loss.weight_factors == pytest.approx([0.5333, 0.2667, 0.1333, 0.0667], abs=1e-4)
    outputs = trainer.network(torch.zeros(1, 1, 8, 64, 48))
    scales = trainer._get_deep_supervision_scales()
    expected = [tuple(round(n * s) for n, s in zip((8, 64, 48), scale, strict=True)) for scale in scales]
    assert [tuple(output.shape[2:]) for output in outputs] == expected


def test_switches_and_sizes_tell_trainings_apart(cases: list[StoredCase], tmp_path: Path) -> None:
    own = job(cases, tmp_path)
    systems = [
        NNUNet("2d"), NNUNet("3d_fullres"), NNUNet("2d", upside_down=True),
        NNUNet("3d_fullres", network="cotr"), NNUNet("3d_fullres", network="cotr-released-order"),
    ]  # fmt: skip
    prints = [system.stages(own)["nnU-Net"].fingerprint for system in systems]
    prints += [NNUNet("2d").stages(other)["nnU-Net"].fingerprint for other in (
        replace(own, seed=1), replace(own, effort=2.0), replace(own, identity={**own.identity, "training": ["b"]}),
        job(cases, tmp_path, epochs=2),
    )]  # fmt: skip
    not_mirrored = job(cases, tmp_path, mirror_slices=False)
    prints.append(NNUNet("3d_fullres").stages(not_mirrored)["nnU-Net"].fingerprint)
    assert len(set(prints)) == len(prints)
    # Where one configuration's batch had to shrink, the others are what they were.
    smaller = job(cases, tmp_path, batch_2d=1)
    for system in systems:
        same = system.stages(smaller)["nnU-Net"].fingerprint == system.stages(own)["nnU-Net"].fingerprint
        assert same == (system.configuration != "2d")
    # Of a slice, and upside down, it decides nothing.
    for system in (NNUNet("2d"), NNUNet("3d_fullres", upside_down=True)):
        assert system.stages(not_mirrored)["nnU-Net"].fingerprint == system.stages(own)["nnU-Net"].fingerprint
