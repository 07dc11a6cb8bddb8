"""SpineParseNet: its networks' sizes, what they are shown, and that no case is scored by a network that has seen it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stored_cases import MakeCase
from torch import nn

from sshsnet_core.anatomy import COLUMN, N_CLASSES
from sshsnet_core.data import spineparsenet as data
from sshsnet_core.data.spineparsenet import RefinementSamples, VolumeSamples, in_turn, pad_slices
from sshsnet_core.data.store import StoredCase
from sshsnet_core.learning import training
from sshsnet_core.learning.losses import cross_entropy
from sshsnet_core.learning.training import TrainingError, load_trained
from sshsnet_core.methods import spineparsenet
from sshsnet_core.methods.spineparsenet import CoarseObjective, FineObjective, SpineParseNet, coarse_scores
from sshsnet_core.methods.system import Job
from sshsnet_core.networks.residual_unet import ResidualUNet2D
from sshsnet_core.networks.spineparsenet import SpineParseNet3D, upsample
from sshsnet_core.settings import Settings, SpineParseNetSettings, load_settings

SMOKE = load_settings("smoke")
PUBLISHED = SpineParseNetSettings()


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are read without workers: starting those would be most of the time of these tests."""
    monkeypatch.setattr("sshsnet_core.learning.training.data_workers", lambda: 0)


# --- networks --------------------------------------------------------------------------------------------------------


def parameters(network: nn.Module) -> float:
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def test_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        assert parameters(SpineParseNet3D(PUBLISHED.width, graph=False)) == pytest.approx(4.13, abs=0.005)
        assert parameters(SpineParseNet3D(PUBLISHED.width, graph=True)) == pytest.approx(4.23, abs=0.005)
        assert parameters(ResidualUNet2D(21, PUBLISHED.unet_channels)) == pytest.approx(11.79, abs=0.005)


@pytest.mark.parametrize("size", [(1, 32, 16), (5, 33, 17), (3, 40, 24)])
@pytest.mark.parametrize("graph", [False, True])
def test_coarse_scores_have_the_image_s_size(graph: bool, size: tuple[int, int, int]) -> None:
    output = SpineParseNet3D(0.1, graph).eval()(torch.randn(2, 1, *size))
    assert output.scores.shape == (2, N_CLASSES, *size)
    quarter = (2, N_CLASSES, size[0], -(-size[1] // 4), -(-size[2] // 4))
    assert (None if output.side is None else output.side.shape) == (quarter if graph else None)


@pytest.mark.parametrize("running", [True, False])
def test_without_running_statistics_a_volume_is_normalised_as_in_training(running: bool) -> None:
    network, volume = SpineParseNet3D(0.1, True, running), torch.randn(1, 1, 3, 32, 16)
    of_training, in_use = (network.train(mode)(volume).scores for mode in (True, False))
    assert torch.equal(of_training, in_use) is not running
    assert any("running" in name for name in network.state_dict()) is running


@pytest.mark.parametrize("size", [(32, 16), (33, 17), (7, 50), (1, 1)])
def test_fine_scores_have_the_slice_s_size(size: tuple[int, int]) -> None:
    assert ResidualUNet2D(21, (4, 8, 8)).eval()(torch.randn(2, 21, *size)).shape == (2, N_CLASSES, *size)


@pytest.mark.parametrize("graph", [False, True])
def test_every_parameter_of_the_coarse_network_learns(graph: bool) -> None:
    torch.manual_seed(0)
    objective = CoarseObjective(SMOKE.spineparsenet, graph)
    batch = {"image": torch.randn(1, 1, 5, 33, 17), "labels": torch.randint(0, N_CLASSES, (1, 5, 33, 17))}
    losses = objective(batch)
    losses["loss"].backward()
    assert_all_learn(objective)
    if graph:
        assert losses["loss"].item() == pytest.approx(losses["scores"].item() + 0.3 * losses["side"].item())


def test_every_parameter_of_the_fine_network_learns() -> None:
    torch.manual_seed(0)
    objective = FineObjective(SMOKE.spineparsenet)
    labels = torch.randint(0, N_CLASSES, (2, 32, 16))
    objective({"image": torch.randn(2, 1, 32, 16), "coarse": torch.randn(2, 20, 32, 16), "labels": labels})[
        "loss"
    ].backward()
    assert_all_learn(objective)


def assert_all_learn(objective: nn.Module) -> None:
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, f"{name} takes no part"
        assert parameter.grad.isfinite().all(), name


def test_the_side_output_is_compared_at_full_size() -> None:
    objective = CoarseObjective(SMOKE.spineparsenet, graph=True).eval()
    batch = {"image": torch.randn(1, 1, 2, 32, 16), "labels": torch.randint(0, N_CLASSES, (1, 2, 32, 16))}
    output = objective.network(batch["image"])
    side = torch.nn.functional.interpolate(output.side, (2, 32, 16), mode="trilinear", align_corners=True)
    torch.testing.assert_close(upsample(output.side, batch["labels"].shape), side)
    assert objective(batch)["side"].item() == pytest.approx(cross_entropy(side, batch["labels"]).item())


# --- what they are shown ---------------------------------------------------------------------------------------------


@pytest.fixture
def cases(make_case: MakeCase) -> list[StoredCase]:
    """Six cases of 3 to 5 slices; the image shows the class, so that image and labels can be compared."""
    made = []
    for number in range(6):
        labels = np.zeros((3 + number % 3, 41, 23), np.uint8)
        labels[:, 4:20, 5:20], labels[1:3, 26:36, 8:18] = COLUMN[number].label, 1
        made.append(make_case(f"case{number}", labels.astype(np.float32), labels))
    return made


def test_everything_comes_once_before_anything_comes_again() -> None:
    turns = [[in_turn(index, 7, seed=3) for index in range(7 * turn, 7 * turn + 7)] for turn in range(3)]
    assert all(sorted(turn) == list(range(7)) for turn in turns)
    assert turns[0] != turns[1]


def test_slices_are_padded_on_both_sides_and_never_cut() -> None:
    volume = torch.ones(4, 2, 2)
    padded, first = pad_slices(volume, 7)
    assert first == 2
    assert padded[:, 0, 0].tolist() == [0, 0, 1, 1, 1, 1, 0]
    assert torch.equal(pad_slices(volume, 3)[0], volume)


def test_volume_samples(cases: list[StoredCase]) -> None:
    samples = VolumeSamples(cases, (32, 16), 4, seed=0)
    for index in range(12):
        sample = samples[index]
        assert (sample["image"].shape, sample["labels"].shape) == ((1, 4, 32, 16), (4, 32, 16))
        assert (sample["image"].dtype, sample["labels"].dtype) == (torch.float32, torch.int64)
        again = samples[index]
        assert all(torch.equal(sample[name], again[name]) for name in sample)


def test_refinement_samples_move_together(cases: list[StoredCase], tmp_path: Path) -> None:
    """Image, scores and labels show the same rectangles after every transform; edges aside, they agree."""
    coarse = []
    for case in cases:
        assert case.labels is not None
        small = data.resized_labels(case.labels, (32, 16))
        coarse.append(tmp_path / f"{case.name}.npy")
        np.save(coarse[-1], nn.functional.one_hot(small, N_CLASSES).movedim(-1, 0).half().numpy())
    samples = RefinementSamples(cases, coarse, (64, 32), seed=0)
    slices = sum(case.image.shape[0] for case in cases)
    assert len(samples.slices) == slices
    for index in range(slices):
        sample = samples[index]
        assert sample["image"].shape == (1, 64, 32)
        assert sample["coarse"].shape == (N_CLASSES, 64, 32)
        inside = sample["labels"] > 0
        assert inside.any()
        agree = (sample["coarse"].argmax(0) == sample["labels"])[inside].float().mean()
        bright = (sample["image"][0] > 0.25)[inside].float().mean()
        assert min(agree, bright) > 0.8


@pytest.mark.parametrize("transform", ["volume", "slice"])
def test_a_spine_is_never_turned_over(transform: str) -> None:
    labels = torch.zeros(3, 64, 32, dtype=torch.int64)
    labels[:, 10:16, 12:20], labels[:, 48:54, 12:20], labels[:, 28:36, 4:8], labels[:, 28:36, 24:28] = 1, 2, 3, 4
    for seed in range(20):
        rng = np.random.default_rng(seed)
        if transform == "volume":
            sample = {"image": torch.zeros(1, 3, 64, 32), "labels": labels}
            moved = data._augmented(data._volume_transform(), sample, rng)["labels"][1]
        else:
            sample = {"image": torch.zeros(1, 64, 32), "coarse": torch.zeros(20, 64, 32), "labels": labels[0]}
            moved = data._augmented(data._slice_transform(), sample, rng)["labels"]
        top, bottom, front, back = (np.argwhere(moved.numpy() == value).mean(axis=0) for value in (1, 2, 3, 4))
        assert top[0] < front[0] < bottom[0]
        assert front[1] < top[1] < back[1]


# --- the row ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def job(cases: list[StoredCase], make_case: MakeCase, tmp_path: Path) -> Job:
    """A case that is watched cannot be read: it decides nothing."""
    watched = make_case("watched", np.zeros((3, 41, 23)), np.ones((3, 41, 23)))
    for path in watched.folder.iterdir():
        path.write_bytes(b"not to be read")
    return Job("row", SMOKE, cases, [watched], lambda name: [], {"cohort": "c0"}, 0, 1.0, tmp_path, "fold0", tmp_path)


def with_sizes(job: Job, **values: object) -> Job:
    settings = job.settings.spineparsenet.model_copy(update=values)
    return replace(job, settings=job.settings.model_copy(update={"spineparsenet": settings}))


def test_no_case_is_scored_by_a_network_that_has_seen_it(job: Job) -> None:
    parts = SpineParseNet().coarse_networks(with_sizes(job, parts=3))
    assert len(parts) == 3
    names = [case.name for case in job.labelled]
    for part in parts:
        learns, scores = ({case.name for case in cases} for cases in (part.learns, part.scores))
        assert learns & scores == set()
        assert learns | scores == set(names)
        assert part.plain.identity["learns"] == [case.name for case in part.learns] == part.graph.identity["learns"]
    assert sorted(case.name for part in parts for case in part.scores) == names


def test_a_subject_is_in_one_part(job: Job) -> None:
    shared = [replace(case, subject=f"subject{number // 3}") for number, case in enumerate(job.labelled)]
    parts = SpineParseNet().coarse_networks(replace(job, labelled=shared))
    assert [len({case.subject for case in part.scores}) for part in parts] == [1, 1]


def test_the_released_way_scores_what_it_has_learnt(job: Job) -> None:
    (only,) = SpineParseNet(out_of_fold=False).coarse_networks(job)
    assert only.learns == only.scores == job.labelled


def test_stages_are_named_in_their_order_and_lie_apart(job: Job) -> None:
    stages = SpineParseNet().stages(job)
    assert list(stages) == [
        *("coarse, part 1", "graph, part 1", "coarse, part 2", "graph, part 2"),
        "refinement",
    ]
    assert list(SpineParseNet(out_of_fold=False).stages(job)) == ["coarse", "graph", "refinement"]
    assert len({stage.folder for stage in stages.values()}) == len({s.fingerprint for s in stages.values()}) == 5
    assert not any(stage.folder.exists() for stage in stages.values())
    assert SpineParseNet().pool(SMOKE) == "none"


#: The stages of the released way that change with a setting: a stage's fingerprint covers those below it.
CHANGES: dict[str, tuple[Callable[[Job], Job], list[str]]] = {
    "coarse schedule": (lambda job: with_sizes(job, train_coarse=PUBLISHED.train_coarse), ["coarse", "graph"]),
    "graph schedule": (lambda job: with_sizes(job, train_graph=PUBLISHED.train_graph), ["graph"]),
    "width": (lambda job: with_sizes(job, width=0.2), ["coarse", "graph"]),
    "slices": (lambda job: with_sizes(job, slices=9), ["coarse", "graph"]),
    "statistics": (lambda job: with_sizes(job, running_statistics=False), ["coarse", "graph"]),
    "fine schedule": (lambda job: with_sizes(job, train_fine=PUBLISHED.train_fine), []),
    "fine network": (lambda job: with_sizes(job, unet_channels=(4, 4)), []),
    "cohort": (lambda job: replace(job, identity={"cohort": "c1"}), ["coarse", "graph"]),
    "seed": (lambda job: replace(job, seed=1), ["coarse", "graph"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_stage_is_itself_with_all_below_it(job: Job, change: str) -> None:
    alter, changed = CHANGES[change]
    system = SpineParseNet(out_of_fold=False)
    before, after = system.stages(job), system.stages(alter(job))
    assert [n for n in before if before[n].fingerprint != after[n].fingerprint] == [*changed, "refinement"]


def test_the_refinement_differs_with_the_way_that_its_scores_were_made(job: Job) -> None:
    one, other = (SpineParseNet(out_of_fold=way).stages(job)["refinement"] for way in (True, False))
    assert one.fingerprint != other.fingerprint


def test_the_row_from_training_to_probabilities(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    system = SpineParseNet()
    with pytest.raises(TrainingError, match="has not been trained yet"):
        system.load(job)
    histories = system.train(job)
    assert list(histories) == list(system.stages(job))
    assert all(len(history) == 2 for history in histories.values())

    # The scores on disk are those of the part's own network.
    sizes = job.settings.spineparsenet
    parts = system.coarse_networks(job)
    for part in parts:
        network = load_trained(part.graph, CoarseObjective(sizes, graph=True)).network
        for case in part.scores:
            expected = coarse_scores(network, case.image, sizes).half().numpy()  # type: ignore[arg-type]
            assert expected.shape == (N_CLASSES, case.image.shape[0], *sizes.coarse_size)
            np.testing.assert_array_equal(np.load(part.score_path(case)), expected)

    segment = system.load(job)
    for shape in [(4, 41, 23), (1, 20, 50), (14, 96, 33)]:
        probabilities = segment(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
        assert (probabilities.shape, probabilities.dtype) == ((N_CLASSES, *shape), np.float32)
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-4)

    # Each part's network, which has not seen half of the training cases, has its say.
    image = job.labelled[0].image
    alone = [replace(segment, coarse=[network])(image) for network in segment.coarse]
    assert len(alone) == len(parts)
    np.testing.assert_allclose(segment(image), np.mean(alone, axis=0), rtol=0, atol=1e-6)
    # After so few steps they hardly differ, but by more than that.
    assert np.abs(alone[0] - alone[1]).max() > 1e-5

    # Finished: nothing is trained and nothing scored again.
    monkeypatch.setattr(training, "_epoch", None)
    monkeypatch.setattr(spineparsenet, "save_scores", None)
    assert {name: len(history) for name, history in system.train(job).items()} == dict.fromkeys(histories, 2)


def test_the_graph_begins_with_the_plain_network_s_weights(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = {}
    original = spineparsenet.train

    def train(stage, objective, samples):  # type: ignore[no-untyped-def]
        starts[stage.fingerprint] = {name: value.clone() for name, value in objective.state_dict().items()}
        return original(stage, objective, samples)

    monkeypatch.setattr(spineparsenet, "train", train)
    system = SpineParseNet(out_of_fold=False)
    system.train(job)
    (network,) = system.coarse_networks(job)
    plain = load_trained(network.plain, CoarseObjective(job.settings.spineparsenet, graph=False)).state_dict()
    start = starts[network.graph.fingerprint]
    assert all(torch.equal(value, start[name]) for name, value in plain.items())
    assert {name.split(".")[1] for name in start if name not in plain} == {"graph"}


class Interrupted(Exception):
    """Stands for a kill: the row does not catch it."""


def test_an_interruption_anywhere_changes_nothing(job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Broken off at every sixth sample that is read and every fourth map that is written, until it is through."""
    system = SpineParseNet(out_of_fold=False)
    interrupted = replace(job, root=tmp_path / "interrupted")
    settings: Settings = job.settings
    assert settings.spineparsenet.train_coarse.epochs * settings.spineparsenet.train_coarse.batch_size < 6
    calls = {"samples": 0, "maps": 0}

    def breaking(name: str, every: int, function: Callable) -> Callable:  # type: ignore[type-arg]
        def wrapped(*arguments):  # type: ignore[no-untyped-def]
            calls[name] += 1
            if calls[name] % every == 0:
                raise Interrupted
            return function(*arguments)

        return wrapped

    attempts = 0
    with monkeypatch.context() as patched:
        patched.setattr(data, "_augmented", breaking("samples", 6, data._augmented))
        patched.setattr(spineparsenet, "save_scores", breaking("maps", 4, spineparsenet.save_scores))
        for attempts in range(1, 30):  # noqa: B007
            try:
                system.train(interrupted)
                break
            except Interrupted:
                continue
    assert attempts > 3
    system.train(job)
    image = np.random.default_rng(0).standard_normal((3, 40, 20)).astype(np.float32)
    np.testing.assert_array_equal(system.load(interrupted)(image), system.load(job)(image))
