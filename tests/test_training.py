"""The training loop: its schedules, and that an interruption anywhere changes nothing but the seconds."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import Dataset

from sshsnet_core.alone import alone
from sshsnet_core.learning.training import (
    Batch,
    Training,
    TrainingError,
    data_workers,
    is_worth_saving,
    learning_rate_factor,
    load_trained,
    quickest_kernels,
    train,
)
from sshsnet_core.settings import TrainingSettings

EPOCHS, STEPS, SIZE = 4, 3, 2
SETTINGS = TrainingSettings(epochs=EPOCHS, steps_per_epoch=STEPS, batch_size=SIZE, learning_rate=0.05)


class Interrupted(Exception):
    """Stands for a kill: the training does not catch it."""


class Numbers(Dataset[Batch]):
    """Samples that are a function of their number; ``fails`` is the number at which the reading breaks off."""

    def __init__(self, fails: int | None = None, spoilt: int | None = None) -> None:
        self.fails, self.spoilt = fails, spoilt

    def __getitem__(self, index: int) -> Batch:
        if index == self.fails:
            raise Interrupted
        x = torch.randn(5, generator=torch.Generator().manual_seed(index))
        return {"x": x, "y": x.sum()[None], "spoilt": torch.tensor(index == self.spoilt), "index": torch.tensor(index)}


class Same(Numbers):
    """One sample, again and again."""

    def __getitem__(self, index: int) -> Batch:
        return super().__getitem__(0)


class Objective(nn.Module):
    """A small network with everything that has a state: weights, batch statistics, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
        self.seen: list[int] = []

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self.seen += batch["index"].tolist()
        loss = (self.network(batch["x"]) - batch["y"]).square().mean()
        return {"loss": loss, "half": loss / 2}


def make_training(folder: Path, **changes: Any) -> Training:
    return replace(Training(folder / "stage", "stage 1, test", SETTINGS, {"cases": ["a", "b"]}, seed=3), **changes)


def run(
    training: Training, samples: Callable[[int], Dataset[Batch]] = lambda epoch: Numbers(), objective: Any = Objective
) -> tuple[Any, pd.DataFrame]:
    training.seed_everything()
    built = objective()
    return built, train(training, built, samples)


def assert_same(one: tuple[nn.Module, pd.DataFrame], other: tuple[nn.Module, pd.DataFrame]) -> None:
    """Bitwise the same weights, buffers and history, apart from the seconds."""
    states = [found[0].state_dict() for found in (one, other)]
    assert states[0].keys() == states[1].keys()
    for name in states[0]:
        assert torch.equal(states[0][name], states[1][name]), name
    pd.testing.assert_frame_equal(*(found[1].drop(columns="seconds") for found in (one, other)), check_exact=True)


@pytest.fixture(scope="module", autouse=True)
def small_machine() -> Iterator[None]:
    """Samples are read without workers: starting those would be most of the time of these tests. Every epoch is saved,
    however busy the machine."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sshsnet_core.learning.training.data_workers", lambda: 0)
        patched.setattr("sshsnet_core.learning.training.is_worth_saving", lambda took, since: True)
        yield


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, pd.DataFrame]:
    return run(make_training(tmp_path_factory.mktemp("whole")))


def test_two_processes_never_write_one_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second waits, says so, and then finds it trained."""
    training, held, trained = make_training(tmp_path), threading.Event(), list[pd.DataFrame]()
    with alone(training.folder / "training.lock", training.title):
        second = threading.Thread(target=lambda: (held.set(), trained.append(run(training)[1])))
        second.start()
        assert held.wait(10)
        second.join(1)
        assert not training.checkpoint.exists()
    second.join(60)
    assert len(trained[0]) == SETTINGS.epochs
    assert "another process is at it" in capsys.readouterr().out


# --- schedules -------------------------------------------------------------------------------------------------------


def test_the_papers_milestones() -> None:
    paper = TrainingSettings(epochs=1000, steps_per_epoch=10, milestones=(50, 400))
    for epoch, factor in [(0, 1), (49.9, 1), (50, 0.1), (399.9, 0.1), (400, 0.01), (999.9, 0.01)]:
        assert learning_rate_factor(paper, epoch) == pytest.approx(factor)


@pytest.mark.parametrize(("epochs", "steps"), [(20, 30), (150, 4), (2, 1)])
def test_warm_up_and_cosine(epochs: int, steps: int) -> None:
    cosine = TrainingSettings(epochs=epochs, steps_per_epoch=steps, schedule="cosine")
    factors = [learning_rate_factor(cosine, step / steps) for step in range(epochs * steps)]
    assert all(0 < factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert top <= 0.05 * epochs * steps + 1
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    if epochs > 2:
        assert max(factors) == pytest.approx(1, abs=1e-3)
        assert factors[-1] < 1e-3
        assert factors[0] < 0.2


def test_the_schedule_reaches_the_optimizer(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"milestones": (1, 3)})
    _, history = run(make_training(tmp_path, settings=settings))
    assert history["learning_rate"].tolist() == pytest.approx([0.05, 0.005, 0.005, 0.0005])


# --- what a training does --------------------------------------------------------------------------------------------


def test_one_row_an_epoch(uninterrupted: tuple[Any, pd.DataFrame], tmp_path: Path) -> None:
    _, history = uninterrupted
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert list(history) == ["epoch", "loss", "half", "learning_rate", "seconds"]
    assert history["half"].tolist() == pytest.approx((history["loss"] / 2).tolist())
    training = make_training(tmp_path)
    _, history = run(training)
    written = pd.read_csv(training.folder / "history.csv")
    pd.testing.assert_frame_equal(written, history, rtol=1e-12)
    assert {path.name for path in training.folder.iterdir()} == {"checkpoint.pt", "history.csv", "training.lock"}


def test_the_objective_learns(tmp_path: Path) -> None:
    class Linear(Objective):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Sequential(nn.Linear(5, 1))

    settings = SETTINGS.model_copy(update={"steps_per_epoch": 30})
    objective, history = run(make_training(tmp_path, settings=settings), objective=Linear)
    assert history["loss"].iloc[-1] < 0.1 * history["loss"].iloc[0]
    torch.testing.assert_close(objective.network[0].weight, torch.ones(1, 5), atol=0.2, rtol=0)


def test_every_sample_is_seen_once(uninterrupted: tuple[Any, pd.DataFrame]) -> None:
    assert uninterrupted[0].seen == list(range(EPOCHS * STEPS * SIZE))


def test_effort_multiplies_the_steps(tmp_path: Path) -> None:
    objective, history = run(make_training(tmp_path, effort=2.0))
    assert len(objective.seen) == 2 * EPOCHS * STEPS * SIZE
    assert len(history) == EPOCHS
    assert make_training(tmp_path, effort=0.01).steps_per_epoch == 1


def test_the_samples_of_an_epoch_are_asked_for_by_its_number(tmp_path: Path) -> None:
    asked: list[int] = []

    def samples(epoch: int) -> Dataset[Batch]:
        asked.append(epoch)
        return Numbers()

    run(make_training(tmp_path), samples)
    assert asked == [0, 1, 2, 3]


def test_gradients_are_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []

    class Watched(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            gradients = [p.grad.norm() for group in self.param_groups for p in group["params"]]
            norms.append(torch.stack(gradients).norm().item())
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    run(make_training(tmp_path))
    assert len(norms) == EPOCHS * STEPS
    assert max(norms) > 0.2  # what is clipped below
    norms.clear()
    settings = SETTINGS.model_copy(update={"gradient_clip": 0.01})
    run(make_training(tmp_path / "clipped", settings=settings))
    assert norms == pytest.approx([0.01] * (EPOCHS * STEPS), rel=1e-3)


def test_dropout_differs_between_epochs(tmp_path: Path) -> None:
    """The random state goes on: two epochs over the same batch do not draw the same dropout."""

    class Frozen(Objective):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            return {"loss": 0 * super().forward(batch)["loss"] + self.network[3](torch.ones(1000)).mean()}

    _, history = run(make_training(tmp_path), lambda epoch: Same(), Frozen)
    assert history["loss"].nunique() == EPOCHS


# --- interruption ----------------------------------------------------------------------------------------------------


def test_workers_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: tuple[Any, pd.DataFrame]
) -> None:
    monkeypatch.setattr("sshsnet_core.learning.training.data_workers", lambda: 2)
    assert_same(run(make_training(tmp_path)), uninterrupted)


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (4, 0), (6, 3), (32, 8)])
def test_workers_take_half_of_many_cores(cores: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.get_num_threads", lambda: cores)
    assert data_workers() == workers


@pytest.mark.parametrize("fails", [0, 5, 6, 11, 15, 23])
def test_an_interrupted_training_ends_as_if_it_had_not_been(
    fails: int, tmp_path: Path, uninterrupted: tuple[Any, pd.DataFrame], capsys: pytest.CaptureFixture[str]
) -> None:
    training = make_training(tmp_path)
    with pytest.raises(Interrupted):
        run(training, lambda epoch: Numbers(fails))
    done = fails // (STEPS * SIZE)
    # Another process: seeded as the first, for a start anew; or in any random state, for all comes from the checkpoint.
    torch.manual_seed(99 if done else training.seed)
    continued = train(training, objective := Objective(), lambda epoch: Numbers())
    assert_same((objective, continued), uninterrupted)
    if done:  # and it did go on: what was done is not done again
        assert objective.seen[0] == done * STEPS * SIZE
        pd.testing.assert_frame_equal(pd.read_csv(training.folder / "history.csv"), continued, rtol=1e-12)
    assert f"epoch {done}/{EPOCHS}" in capsys.readouterr().out


def test_interrupted_after_every_epoch(tmp_path: Path, uninterrupted: tuple[Any, pd.DataFrame]) -> None:
    training = make_training(tmp_path)
    for epoch in range(1, EPOCHS):
        with pytest.raises(Interrupted):
            run(training, lambda _, epoch=epoch: Numbers(fails=epoch * STEPS * SIZE))
    assert_same(run(training), uninterrupted)


def test_a_finished_training_is_found_finished(tmp_path: Path, uninterrupted: tuple[Any, pd.DataFrame]) -> None:
    training = make_training(tmp_path)
    run(training)
    before = training.checkpoint.stat().st_mtime_ns
    again = run(training, lambda epoch: pytest.fail("nothing is left to train"))
    assert_same(again, uninterrupted)
    assert training.checkpoint.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("took", "since", "due"), [(0.0, 0.0, True), (0.1, 0.2, True), (3.4, 10.0, False), (3.4, 70.0, True)]
)
def test_a_checkpoint_takes_its_share_of_the_time_and_no_more(took: float, since: float, due: bool) -> None:
    assert is_worth_saving(took, since) == due


def test_cudnn_looks_for_kernels_only_while_a_gpu_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert not torch.backends.cudnn.benchmark
    with quickest_kernels():
        assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.benchmark


def test_the_last_epoch_is_saved_in_any_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: tuple[Any, pd.DataFrame]
) -> None:
    training = make_training(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("sshsnet_core.learning.training.is_worth_saving", lambda took, since: False)
        with pytest.raises(Interrupted):
            run(training, lambda epoch: Numbers(fails=2 * STEPS * SIZE))
        assert not training.checkpoint.exists()
        assert_same(run(training), uninterrupted)
    assert_same(run(training, lambda epoch: pytest.fail("nothing is left to train")), uninterrupted)
    assert len(pd.read_csv(training.folder / "history.csv")) == EPOCHS


def test_killed_while_writing_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: tuple[Any, pd.DataFrame]
) -> None:
    training = make_training(tmp_path)
    save = Fabric.save
    written: list[Path] = []

    def killed(self: Fabric, path: Path, *args: Any, **kwargs: Any) -> None:
        save(self, path, *args, **kwargs)
        written.append(path)
        if len(written) == 3:
            path.write_bytes(path.read_bytes()[:500])
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Fabric, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            run(training)
    assert len(torch.load(training.checkpoint, weights_only=False)["history"]) == 2
    assert_same(run(training), uninterrupted)
    assert {path.name for path in training.folder.iterdir()} == {"checkpoint.pt", "history.csv", "training.lock"}


def test_killed_between_history_and_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: tuple[Any, pd.DataFrame]
) -> None:
    """The history may be a row ahead, which the repeated epoch writes again; it is never behind for good."""
    training = make_training(tmp_path)
    replace_file = os.replace

    def killed(source: Path, target: Path) -> None:
        if target == training.checkpoint and len(pd.read_csv(training.folder / "history.csv")) == EPOCHS:
            raise KeyboardInterrupt
        replace_file(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run(training)
    assert_same(run(training), uninterrupted)
    assert len(pd.read_csv(training.folder / "history.csv")) == EPOCHS


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"identity": {"cases": ["a", "c"]}},
        {"settings": SETTINGS.model_copy(update={"learning_rate": 0.01})},
        {"seed": 4},
        {"effort": 2.0},
    ],
)
def test_a_checkpoint_of_another_training_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    training = make_training(tmp_path)
    run(training)
    before = training.checkpoint.read_bytes()
    other = replace(training, **changes)
    assert other.fingerprint != training.fingerprint
    for attempt in (lambda: run(other), lambda: load_trained(other, Objective())):
        with pytest.raises(TrainingError, match="other settings, cases or steps") as error:
            attempt()
        assert str(training.folder) in str(error.value)
    assert training.checkpoint.read_bytes() == before


def test_title_and_folder_are_no_part_of_the_identity(tmp_path: Path) -> None:
    one = make_training(tmp_path)
    assert one.fingerprint == replace(one, title="else", folder=tmp_path / "else").fingerprint


class Explodes(Objective):
    """On the spoilt sample the loss is NaN."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        losses = super().forward(batch)
        return {**losses, "loss": losses["loss"] * (float("nan") if batch["spoilt"].any() else 1.0)}


class ExplodesBackwards(Objective):
    """On the spoilt sample the loss is finite and its gradient is not: the root of 0."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        losses = super().forward(batch)
        weight = self.network[0].weight
        root = (weight - weight.detach()).abs().sqrt().sum()
        return {**losses, "loss": losses["loss"] + root if batch["spoilt"].any() else losses["loss"]}


@pytest.mark.parametrize("objective", [Explodes, ExplodesBackwards])
@pytest.mark.parametrize("spoilt", [2 * STEPS * SIZE, 3 * STEPS * SIZE - 1])  # first and last step of the third epoch
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_epoch(
    objective: type[Objective], spoilt: int, tmp_path: Path, uninterrupted: tuple[Any, pd.DataFrame]
) -> None:
    training = make_training(tmp_path)
    with pytest.raises(TrainingError, match="stage 1, test: the loss is not finite in epoch 3") as error:
        run(training, lambda epoch: Numbers(spoilt=spoilt), objective)
    assert str(training.folder) in str(error.value)
    state = torch.load(training.checkpoint, weights_only=False)
    assert len(state["history"]) == 2
    assert all(tensor.isfinite().all() for tensor in state["objective"].values())
    assert_same(run(training), uninterrupted)


def test_only_a_finished_training_is_loaded(tmp_path: Path) -> None:
    training = make_training(tmp_path)
    with pytest.raises(TrainingError, match="has not been trained yet"):
        load_trained(training, Objective())
    with pytest.raises(Interrupted):
        run(training, lambda epoch: Numbers(fails=2 * STEPS * SIZE))
    with pytest.raises(TrainingError, match="stopped after 2 of 4 epochs"):
        load_trained(training, Objective())
    trained, _ = run(training)
    loaded = load_trained(training, Objective())
    assert not loaded.training
    for name, tensor in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
