"""SpineParseNet: published sizes, what its networks are shown, and the row trained, interrupted and used."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MakeCase
from torch import nn

from sshsnet_core.anatomy import N_CLASSES
from sshsnet_core.data.spineparsenet import RefinementSamples, VolumeSamples, fine_input, in_turn, pad_slices
from sshsnet_core.data.store import StoredCase
from sshsnet_core.learning.losses import cross_entropy
from sshsnet_core.learning.training import TrainingError
from sshsnet_core.methods.spineparsenet import CoarseObjective, SpineParseNet, coarse_scores
from sshsnet_core.methods.system import Job
from sshsnet_core.networks.residual_unet import ResidualUNet2D
from sshsnet_core.networks.spineparsenet import SpineParseNet3D, upsample
from sshsnet_core.settings import Settings, SpineParseNetSettings, load_settings

SIZES = SpineParseNetSettings()


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores, where samples are read without workers."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


@pytest.fixture(scope="module")
def settings() -> Settings:
    """Smaller than smoke: one epoch of one step each."""
    smoke = load_settings("smoke")
    schedule = smoke.train_3d.model_copy(update={"epochs": 1, "steps_per_epoch": 1, "batch_size": 2})
    sizes = {"coarse_size": (32, 32), "fine_size": (64, 64), "slices": 3, "parts": 2}
    schedules = {"train_coarse": schedule, "train_graph": schedule, "train_fine": schedule}
    own = smoke.spineparsenet.model_copy(update={**sizes, **schedules})
    return smoke.model_copy(update={"spineparsenet": own})


@pytest.fixture
def cases(make_case: MakeCase) -> list[StoredCase]:
    rng = np.random.default_rng(0)
    labels = np.zeros((4, 41, 35), np.uint8)
    labels[1:3, 4:20, 5:20], labels[2, 30:, 20:] = 2, 12
    return [make_case(name, rng.standard_normal(labels.shape), labels) for name in "abcd"]


def job(settings: Settings, cases: list[StoredCase], folder: Path) -> Job:
    return Job("row", settings, cases, [], lambda name: [], {"cohort": "c"}, 0, 1.0, folder, "fold0", folder)


# --- networks --------------------------------------------------------------------------------------------------------


def millions(network: nn.Module) -> float:
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def test_published_numbers_of_parameters() -> None:
    assert millions(SpineParseNet3D(1.0, graph=False)) == pytest.approx(4.13, abs=0.01)
    assert millions(SpineParseNet3D(1.0, graph=True)) == pytest.approx(4.23, abs=0.01)
    assert millions(ResidualUNet2D(1 + N_CLASSES, SIZES.unet_channels)) == pytest.approx(11.79, abs=0.01)


@pytest.mark.parametrize("size", [(3, 32, 48), (1, 37, 33)])
def test_coarse_network_keeps_slices_and_any_size(size: tuple[int, int, int]) -> None:
    network = SpineParseNet3D(0.125, graph=True).eval()
    output = network(torch.randn(1, 1, *size))
    assert output.scores.shape == (1, N_CLASSES, *size)
    assert output.side is not None
    assert output.side.shape == (1, N_CLASSES, size[0], -(-size[1] // 4), -(-size[2] // 4))
    assert SpineParseNet3D(0.125, graph=False).eval()(torch.randn(1, 1, *size)).side is None


@pytest.mark.parametrize("size", [(32, 48), (37, 33), (16, 16)])
def test_fine_network_takes_any_size(size: tuple[int, int]) -> None:
    network = ResidualUNet2D(1 + N_CLASSES, (4, 8, 8))
    scores = network(torch.randn(2, 1 + N_CLASSES, *size))
    assert scores.shape == (2, N_CLASSES, *size)
    scores.square().mean().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_coarse_loss_is_the_formula() -> None:
    """Cross-entropy of the scores, and 0.3 times that of the side output, enlarged to the image."""
    torch.manual_seed(0)
    tiny = SIZES.model_copy(update={"width": 0.125})
    objective = CoarseObjective(tiny, graph=True).eval()
    batch = {"image": torch.randn(1, 1, 3, 32, 32), "labels": torch.randint(0, N_CLASSES, (1, 3, 32, 32))}
    output = objective.network(batch["image"])
    expected = cross_entropy(output.scores, batch["labels"])
    expected = expected + 0.3 * cross_entropy(upsample(output.side, batch["labels"].shape), batch["labels"])
    assert objective(batch)["loss"].item() == pytest.approx(expected.item())
    objective(batch)["loss"].backward()
    assert all(weight.grad is not None for weight in objective.parameters())


# --- samples ---------------------------------------------------------------------------------------------------------


def test_missing_slices_are_background_on_both_sides() -> None:
    padded, first = pad_slices(torch.ones(3, 2, 2), 6)
    assert (tuple(padded.shape), first) == ((6, 2, 2), 2)
    assert padded[:, 0, 0].tolist() == [0, 0, 1, 1, 1, 0]
    kept, first = pad_slices(torch.ones(7, 2, 2), 6)
    assert (kept.shape[0], first) == (7, 0)


def test_every_case_comes_once_a_turn() -> None:
    turns = [[in_turn(7 * turn + place, 7, seed=0) for place in range(7)] for turn in range(3)]
    assert all(sorted(turn) == list(range(7)) for turn in turns)
    assert turns[0] != turns[1]


def test_samples_are_functions_of_their_number(cases: list[StoredCase]) -> None:
    volumes = VolumeSamples(cases, (32, 24), 6, seed=0)
    first, again, other = volumes[0], volumes[0], volumes[1]
    assert first["image"].shape == (1, 6, 32, 24)
    assert first["labels"].shape == (6, 32, 24)
    assert set(first["labels"].unique().tolist()) <= {0, 2, 12}
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], other["image"])
    coarse = [np.zeros((N_CLASSES, 4, 16, 12), np.float16) for _ in cases]
    sample = RefinementSamples(cases, coarse, (32, 24), seed=0)[5]
    assert sample["image"].shape == (1, 32, 24)
    assert sample["coarse"].shape == (N_CLASSES, 32, 24)
    assert sample["labels"].shape == (32, 24)


def test_coarse_scores_reach_the_fine_network_before_the_softmax() -> None:
    coarse = torch.full((N_CLASSES, 2, 4, 4), -7.0)
    image, enlarged = fine_input(torch.zeros(2, 9, 9), coarse, (8, 8))
    assert image.shape == (2, 1, 8, 8)
    assert torch.equal(enlarged, torch.full((2, N_CLASSES, 8, 8), -7.0))


# --- the row ---------------------------------------------------------------------------------------------------------


def test_out_of_fold_scores_come_from_networks_that_have_not_seen_the_case(
    settings: Settings, cases: list[StoredCase], tmp_path: Path
) -> None:
    networks = SpineParseNet().coarse_networks(job(settings, cases, tmp_path))
    *parts, last = networks
    for network in parts:
        assert not {case.name for case in network.learns} & {case.name for case in network.scores}
    assert sorted(case.name for network in parts for case in network.scores) == list("abcd")
    # The one that segments learns from all and scores none of them.
    assert [case.name for case in last.learns] == list("abcd")
    assert not last.scores
    (released,) = SpineParseNet(out_of_fold=False).coarse_networks(job(settings, cases, tmp_path))
    assert released.learns == released.scores


@pytest.mark.parametrize("system", [SpineParseNet(), SpineParseNet(out_of_fold=False)])
def test_the_row_from_training_to_probabilities(
    system: SpineParseNet, settings: Settings, cases: list[StoredCase], tmp_path: Path
) -> None:
    own = job(settings, cases, tmp_path / "runs")
    with pytest.raises(TrainingError, match="has not been trained yet"):
        system.load(own)
    histories = system.train(own)
    assert list(histories) == list(system.stages(own))
    assert all(len(history) == 1 for history in histories.values())
    trained = system.load(own)
    for shape in [(4, 41, 35), (1, 70, 29)]:
        image = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        probabilities = trained(image)
        assert (probabilities.shape, probabilities.dtype) == ((N_CLASSES, *shape), np.float32)
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-4)
    # The kept scores are those of the network that the plan names.
    network = system.coarse_networks(own)[0]
    case = network.scores[0]
    kept = np.load(network.score_path(case))
    assert kept.shape == (N_CLASSES, 4, *settings.spineparsenet.coarse_size)
    if not system.out_of_fold:
        scores = coarse_scores(trained.coarse, case.image, settings.spineparsenet)
        np.testing.assert_allclose(kept, scores, atol=0.02, rtol=0.01)


def test_an_interrupted_row_goes_on_with_what_is_missing(
    settings: Settings, cases: list[StoredCase], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system, own = SpineParseNet(), job(settings, cases, tmp_path / "runs")
    system.train(own)
    capsys.readouterr()
    stages = system.stages(own)
    stages["refinement"].folder.joinpath("checkpoint.pt").unlink()
    network = system.coarse_networks(own)[1]
    network.score_path(network.scores[0]).unlink()
    system.train(own)
    printed = capsys.readouterr().out
    assert "coarse scores, part 2: 1/1" in printed.replace("case ", "")
    assert "SpineParseNet, refinement: epoch 1/1" in printed
    assert "SpineParseNet, coarse" not in printed


def test_what_lies_below_is_part_of_the_identity(settings: Settings, cases: list[StoredCase], tmp_path: Path) -> None:
    own = job(settings, cases, tmp_path)
    wider = settings.spineparsenet.model_copy(update={"width": 0.25})
    other = replace(own, settings=settings.model_copy(update={"spineparsenet": wider}))
    for name, stage in SpineParseNet().stages(own).items():
        assert SpineParseNet().stages(other)[name].fingerprint != stage.fingerprint
    released = SpineParseNet(out_of_fold=False).stages(own)
    assert released["refinement"].fingerprint != SpineParseNet().stages(own)["refinement"].fingerprint
    folders = [stage.folder for stage in SpineParseNet().stages(own).values()]
    assert len(set(folders)) == len(folders) == 7
