"""CPS with unlabelled scans, from trained branches on and under the names of whole columns, at the smallest size."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from stored_cases import MakeCase

from sshsnet_core import transfer
from sshsnet_core.anatomy import N_APART
from sshsnet_core.data.preprocessing import Preprocessing
from sshsnet_core.data.store import StoredCase
from sshsnet_core.data.thin_slices import Interleave
from sshsnet_core.decision import N_KINDS
from sshsnet_core.learning.training import Training, TrainingError
from sshsnet_core.methods import stage1
from sshsnet_core.methods.adaptation import ADAPTED, Names, adapt, load_adapted, training_of
from sshsnet_core.methods.sshsnet import TrainedSSHSNet
from sshsnet_core.settings import Settings, load_settings

SHAPE = (4, 41, 35)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings("smoke").changed({"arches_apart": True, "slice_size": (36, 24)})


@pytest.fixture
def start(settings: Settings) -> TrainedSSHSNet:
    torch.manual_seed(0)
    branches = stage1.build(ADAPTED, settings, pretrained=False).eval().branches
    return TrainedSSHSNet(settings, list(branches), None)  # type: ignore[arg-type]


@pytest.fixture
def training(settings: Settings, tmp_path: Path) -> Training:
    return training_of(settings, tmp_path / "adapted", {"start": "drawn"}, 0)


@pytest.fixture
def cases(make_case: MakeCase) -> list[StoredCase]:
    rng = np.random.default_rng(0)
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 4:20, 5:20], labels[2, 30:, 20:] = 2, 12
    return [make_case(name, rng.standard_normal(SHAPE), labels) for name in ("a", "b")]


def one_name(label: int) -> Callable[[], Names]:
    """Everything that is not background is called so, in a pool of two."""
    plane = np.full((N_KINDS, *SHAPE[1:]), label, np.uint8)
    plane[0] = 0
    return lambda: [plane, plane]


def unasked() -> Names:
    raise AssertionError("A finished training has no use for names.")


def test_what_the_branches_learn_of_the_scans_is_called_as_the_column_says(
    start: TrainedSSHSNet, training: Training, cases: list[StoredCase]
) -> None:
    history = adapt(start, training, cases, cases, one_name(9))
    assert len(history) == training.settings.epochs
    assert (history["cps"] > 0).all()
    record = stage1.pseudo_label_record(training, cases).read()
    assert list(record) == history["epoch"].tolist()
    assert set(np.unique(np.stack(list(record.values())))) <= {0, 9}
    again = adapt(start, training, cases, cases, unasked)
    assert again["loss"].tolist() == history["loss"].tolist()
    adapted = load_adapted(start, training)
    assert not any(branch.training for branch in adapted.branches)
    assert adapted(cases[0].image).shape == (N_APART, *SHAPE)


def test_names_change_what_is_learnt(start: TrainedSSHSNet, training: Training, cases: list[StoredCase]) -> None:
    other = replace(training, folder=training.folder.with_name("other"))
    losses = [adapt(start, at, cases, cases, one_name(n))["cps"].iloc[0] for at, n in ((training, 9), (other, 3))]
    assert losses[0] != losses[1]


def test_batch_normalisation_keeps_the_statistics_that_it_has_learnt(
    start: TrainedSSHSNet, training: Training, cases: list[StoredCase]
) -> None:
    before = [{name: tensor.clone() for name, tensor in branch.state_dict().items()} for branch in start.branches]
    adapt(start, training, cases, cases, one_name(9))
    for branch, old in zip(load_adapted(start, training).branches, before, strict=True):
        new = branch.state_dict()
        assert all(torch.equal(new[name], old[name]) for name in old if "running" in name)
        assert not all(torch.equal(new[name], old[name]) for name in old if "running" not in name)


def test_a_single_branch_cannot_disagree(start: TrainedSSHSNet, training: Training, cases: list[StoredCase]) -> None:
    with pytest.raises(TrainingError, match="needs two"):
        adapt(replace(start, branches=start.branches[:1]), training, cases, cases, unasked)


def test_all_slices_of_a_scan_are_named_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan of thin slices and one of thick ones: each is looked at once, through its middle slices."""
    thin, thick = np.zeros((9, 8, 8), np.float32), np.ones((3, 8, 8), np.float32)
    paths = [tmp_path / name for name in ("thin.npy", "thick.npy")]
    for path, image in zip(paths, (thin, thick), strict=True):
        np.save(path, image)
    pool = [Interleave(paths[0], first, 4) for first in range(4)] + [Interleave(paths[1], 0, 1)]
    shown: list[np.ndarray] = []

    def start(image: np.ndarray) -> np.ndarray:
        shown.append(image)
        return image

    def named(probabilities: np.ndarray, spacing_mm: tuple[float, float, float]) -> SimpleNamespace:
        return SimpleNamespace(names=np.full((N_KINDS, 8, 8), 1 + probabilities.max()), confidence=1.0)

    monkeypatch.setattr(transfer, "name_column", named)
    names = transfer._names(start, pool, Preprocessing((4.4, 1.0, 1.0)))  # type: ignore[arg-type]
    assert [len(image) for image in shown] == [2, 3]
    assert [of.max() for of in names] == [1, 1, 1, 1, 2]
