"""CPS against section 3.1.2 and Equations 6 to 8, written out."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sshsnet_core.anatomy import ARCHES, DISCS, N_APART, VERTEBRAE
from sshsnet_core.annotation import PAPER
from sshsnet_core.learning.cps import (
    CrossPseudoSupervision,
    Supervised,
    cutmix_mask,
    likeliest_kind,
    mix,
    naming_loss,
    no_cutmix,
    pseudo_labels,
    under_names,
)
from sshsnet_core.learning.losses import cross_entropy, supervised_loss
from sshsnet_core.networks.deeplab2d import Output2D

CLASSES = 4


class Tiny(nn.Module):
    """Like a 2D network in what matters here: batch normalisation, dropout, two outputs."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Conv2d(6, classes, 1)

    def forward(self, x: Tensor) -> Output2D:
        features = self.features(x)
        return Output2D(self.head(features), features)


def batch(seed: int = 0, n: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image, u0, u1 = torch.randn(3, n, 3, 12, 10, generator=generator)
    labels = torch.randint(0, CLASSES, (n, 12, 10), generator=generator)
    rng = np.random.default_rng(seed)
    mask = torch.stack([torch.from_numpy(cutmix_mask((12, 10), rng)) for _ in range(n)])
    return {"image": image, "labels": labels, "u0": u0, "u1": u1, "mask": mask}


@pytest.fixture
def objective() -> CrossPseudoSupervision:
    torch.manual_seed(0)
    return CrossPseudoSupervision(Tiny, weight=0.7)


# --- CutMix ----------------------------------------------------------------------------------------------------------


def mask_in_loops(size: tuple[int, int], rng: np.random.Generator) -> tuple[list[list[int]], list[tuple[int, ...]]]:
    """Section 3.1.2's mask, pixel by pixel, and its boxes: top, left, height, width."""
    mask = [[0] * size[1] for _ in range(size[0])]
    boxes = []
    area = 0.25 + 0.25 * rng.random()
    for _ in range(3):
        aspect = rng.random()
        height = round(size[0] * math.exp(aspect * math.log(area)) * math.sqrt(1 / 3))
        width = round(size[1] * math.exp((1 - aspect) * math.log(area)) * math.sqrt(1 / 3))
        top, left = int(rng.integers(size[0] - height + 1)), int(rng.integers(size[1] - width + 1))
        boxes.append((top, left, height, width))
        for row in range(top, top + height):
            for column in range(left, left + width):
                mask[row][column] = 1 - mask[row][column]
    return mask, boxes


@settings(deadline=None, max_examples=100)
@given(st.tuples(st.integers(8, 60), st.integers(8, 60)), st.integers(0, 2**31))
def test_the_mask_is_three_boxes_by_exclusive_or(size: tuple[int, int], seed: int) -> None:
    mask = cutmix_mask(size, np.random.default_rng(seed))
    expected, boxes = mask_in_loops(size, np.random.default_rng(seed))
    assert (mask.shape, mask.dtype) == ((1, *size), np.float32)
    assert set(np.unique(mask).tolist()) <= {0.0, 1.0}
    np.testing.assert_array_equal(mask[0], expected)
    for top, left, height, width in boxes:
        assert 0 <= top <= top + height <= size[0]
        assert 0 <= left <= left + width <= size[1]


def test_the_masks_area() -> None:
    """Boxes that do not meet cover 0.25 to 0.5 of the image between them; where they do, exclusive-or leaves less."""
    rng = np.random.default_rng(0)
    areas = np.array([cutmix_mask((220, 112), rng).mean() for _ in range(600)])
    assert areas.max() < 0.51
    assert areas.max() > 0.45
    assert areas.min() > 0.05
    assert 0.2 < areas.mean() < 0.4


def test_masks_reach_every_pixel() -> None:
    rng = np.random.default_rng(0)
    covered = sum(cutmix_mask((24, 16), rng)[0] for _ in range(500))
    assert np.all(covered > 0)


def test_mix_takes_the_second_image_where_the_mask_is_one() -> None:
    u = batch()
    mixed = mix(u["u0"], u["u1"], u["mask"])
    for n, c, r, w in np.ndindex(*mixed.shape):
        chosen = u["u1"] if u["mask"][n, 0, r, w] == 1 else u["u0"]
        assert mixed[n, c, r, w] == chosen[n, c, r, w]


# --- pseudo labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_pseudo_labels_come_from_evaluation_mode_and_leave_no_trace(training: bool) -> None:
    torch.manual_seed(0)
    network = Tiny()
    for _ in range(3):
        network(torch.randn(4, 3, 12, 10))  # batch statistics that differ from the start
    u = batch()
    network.eval()
    expected = torch.where(u["mask"] == 1, network(u["u1"]).scores, network(u["u0"]).scores).argmax(dim=1)
    network.train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random_state = torch.get_rng_state()

    labels = pseudo_labels(network, u["u0"], u["u1"], u["mask"])

    assert torch.equal(labels, expected)
    assert (labels.dtype, labels.shape, labels.requires_grad) == (torch.int64, (2, 12, 10), False)
    assert all(module.training is training for module in network.modules())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.equal(torch.get_rng_state(), random_state)


def test_what_is_in_evaluation_mode_in_training_stays_so() -> None:
    torch.manual_seed(0)
    network, u = Tiny().train(), batch()
    network.features[1].eval()
    pseudo_labels(network, u["u0"], u["u1"], u["mask"])
    assert [module.training for module in network.features] == [True, False, True, True]


def test_the_authors_way_labels_in_training_mode_and_moves_the_batch_statistics() -> None:
    torch.manual_seed(0)
    network, data = Tiny().train(), batch()
    before = network.features[1].running_mean.clone()
    pseudo_labels(network, data["u0"], data["u1"], data["mask"], evaluating=False)
    assert network.training
    assert not torch.equal(network.features[1].running_mean, before)


def test_a_doubt_about_the_name_is_no_background_where_the_kind_is_decided_first() -> None:
    """Background 0.4, two vertebrae 0.31 and 0.29, in every pixel."""

    class Torn(nn.Module):
        def forward(self, x: Tensor) -> Output2D:
            scores = torch.tensor([0.4, 0.31, 0.29, 1e-9]).log().view(1, CLASSES, 1, 1).expand(len(x), -1, *x.shape[2:])
            return Output2D(scores, scores)

    u = batch()
    assert set(pseudo_labels(Torn(), u["u0"], u["u1"], u["mask"]).unique().tolist()) == {0}
    assert set(pseudo_labels(Torn(), u["u0"], u["u1"], u["mask"], decide=likeliest_kind).unique().tolist()) == {1}


def names_of_kinds(seed: int = 0, n: int = 2) -> Tensor:
    """Names (N, 4, h, w) that some scan might have: of background none, of each other kind one of its own."""
    generator = torch.Generator().manual_seed(seed)
    kinds = [[0], *([structure.label for structure in kind] for kind in (VERTEBRAE, DISCS, ARCHES))]
    drawn = [torch.tensor(k)[torch.randint(0, len(k), (n, 12, 10), generator=generator)] for k in kinds]
    return torch.stack(drawn, dim=1)


def test_labels_keep_their_kind_and_take_the_names_of_the_column() -> None:
    names = names_of_kinds()
    labels = torch.randint(0, N_APART, (2, 12, 10), generator=torch.Generator().manual_seed(1))
    named = under_names(labels, names)
    for n, r, c in np.ndindex(*labels.shape):
        label = int(labels[n, r, c])
        kinds = [kind for kind, of in enumerate((VERTEBRAE, DISCS, ARCHES), 1) if label in [s.label for s in of]]
        assert named[n, r, c] == names[n, kinds[0] if label else 0, r, c]


def test_without_cutmix_the_first_image_stays_as_it_is() -> None:
    data = batch()
    mask = torch.from_numpy(no_cutmix((12, 10), np.random.default_rng(0)))[None]
    assert torch.equal(mix(data["u0"], data["u1"], mask), data["u0"])


# --- Equations 6 to 8 ------------------------------------------------------------------------------------------------


def without_dropout(objective: nn.Module) -> nn.Module:
    for module in objective.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return objective


def pixel_mean(scores: Tensor, labels: Tensor) -> Tensor:
    """l_ce of Equation 8: the mean over all pixels of minus the log probability of the label, one at a time."""
    terms = []
    for n, r, c in np.ndindex(*labels.shape):
        terms.append(-torch.log_softmax(scores[n, :, r, c], dim=0)[labels[n, r, c]])
    return torch.stack(terms).mean()


def test_equations_6_to_8(objective: CrossPseudoSupervision) -> None:
    without_dropout(objective).train()
    first, second = objective.branches
    b = batch()
    losses = objective(b)

    # Equation 7: cross-entropy and Dice of both branches on the labelled images.
    supervised = sum(supervised_loss(branch(b["image"]).scores, b["labels"]) for branch in (first, second))
    # Equation 8. A second network with the same weights labels, before anything was normalised over this batch.
    torch.manual_seed(0)
    twin = without_dropout(CrossPseudoSupervision(Tiny, 0.7)).train()
    twin.supervision(b["image"], b["labels"])  # moves the batch statistics that the pseudo labels rest on
    label_1, label_2 = (pseudo_labels(branch, b["u0"], b["u1"], b["mask"]) for branch in twin.branches)
    assert not torch.equal(label_1, label_2)
    mixed = b["u0"] * (1 - b["mask"]) + b["u1"] * b["mask"]
    cps = pixel_mean(first(mixed).scores, label_2) + pixel_mean(second(mixed).scores, label_1)

    assert losses["supervised"].item() == pytest.approx(supervised.item(), abs=1e-5)
    assert losses["cps"].item() == pytest.approx(cps.item(), abs=1e-5)
    assert losses["loss"].item() == pytest.approx(supervised.item() + 0.7 * cps.item(), abs=1e-5)


def name_mean(scores: Tensor, labels: Tensor) -> Tensor:
    """The mean over all pixels of minus the log of the label's share in its kind's probability, one at a time."""
    terms = []
    for n, r, c in np.ndindex(*labels.shape):
        label, probabilities = int(labels[n, r, c]), torch.softmax(scores[n, :, r, c], dim=0)
        kind = next(([s.label for s in of] for of in (VERTEBRAE, DISCS, ARCHES) if label in [s.label for s in of]), [0])
        terms.append(-torch.log(probabilities[label] / probabilities[kind].sum()))
    return torch.stack(terms).mean()


def test_the_naming_loss_teaches_names_and_no_outlines() -> None:
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(2, N_APART, 5, 4, generator=generator, requires_grad=True)
    labels = torch.randint(0, N_APART, (2, 5, 4), generator=generator)
    loss = naming_loss(scores, labels)
    assert loss.item() == pytest.approx(name_mean(scores, labels).item(), abs=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad.abs().max() > 0.001
    # It moves scores within a kind against each other, and at no pixel a kind as a whole.
    for of in ([0], *([s.label for s in kind] for kind in (VERTEBRAE, DISCS, ARCHES))):
        torch.testing.assert_close(scores.grad[:, of].sum(dim=1), torch.zeros(2, 5, 4), atol=1e-6, rtol=0)


def test_under_names_each_branch_learns_the_columns_names_for_the_others_kinds() -> None:
    torch.manual_seed(0)
    objective = CrossPseudoSupervision(lambda: Tiny(N_APART), 1.0, decide=likeliest_kind).eval()
    b, names = batch(), names_of_kinds()
    first, second = objective.branches
    mixed = mix(b["u0"], b["u1"], b["mask"])
    label_1, label_2 = (
        under_names(pseudo_labels(branch, b["u0"], b["u1"], b["mask"], decide=likeliest_kind), names)
        for branch in (first, second)
    )
    cps = name_mean(first(mixed).scores, label_2) + name_mean(second(mixed).scores, label_1)
    assert objective({**b, "names": names})["cps"].item() == pytest.approx(cps.item(), abs=1e-5)
    assert abs(objective(b)["cps"].item() - cps.item()) > 0.01


def gradients(module: nn.Module) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in module.parameters()]


def test_no_gradient_flows_through_the_pseudo_labels(objective: CrossPseudoSupervision) -> None:
    """The gradient is that of cross-entropy against fixed labels: a branch that only labels gets none."""
    without_dropout(objective).train()
    first, second = objective.branches
    b = batch()
    label_1, label_2 = (pseudo_labels(branch, b["u0"], b["u1"], b["mask"]) for branch in (first, second))
    objective.cross_supervision(b["u0"], b["u1"], b["mask"]).backward()
    found = [gradients(branch) for branch in (first, second)]
    mixed = mix(b["u0"], b["u1"], b["mask"])
    for branch, labels, own in ((first, label_2, found[0]), (second, label_1, found[1])):
        branch.zero_grad()
        cross_entropy(branch(mixed).scores, labels).backward()
        for one, other in zip(gradients(branch), own, strict=True):
            torch.testing.assert_close(one, other)
        assert any(gradient.abs().sum() > 0 for gradient in own)


def test_a_batch_without_mask_teaches_labels_only(objective: CrossPseudoSupervision) -> None:
    without_dropout(objective)
    b = batch()
    losses = objective({"image": b["image"], "labels": b["labels"]})
    expected = sum(supervised_loss(branch(b["image"]).scores, b["labels"]) for branch in objective.branches)
    assert losses.keys() == {"loss", "supervised"}
    assert losses["loss"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_weight_zero_leaves_the_supervised_loss() -> None:
    torch.manual_seed(0)
    losses = CrossPseudoSupervision(Tiny, weight=0.0)(batch())
    assert losses["loss"].item() == losses["supervised"].item()
    assert losses["cps"].item() > 0


def test_the_branches_are_made_by_two_calls() -> None:
    made: list[Tiny] = []

    def make() -> Tiny:
        made.append(Tiny())
        return made[-1]

    maker: Callable[[], nn.Module] = make
    objective = CrossPseudoSupervision(maker, weight=1.0)
    assert list(objective.branches) == made
    assert len(made) == 2
    assert not torch.equal(made[0].head.weight, made[1].head.weight)


def test_what_masks_leave_open_is_left_open_by_both_branches_labels() -> None:
    """L_s sums over the classes that a label can stand for; pseudo labels, which name every class, do not."""
    groups = PAPER.groups(29)
    torch.manual_seed(0)
    objective = CrossPseudoSupervision(lambda: Tiny(29), 1.0, groups=groups).eval()
    b = batch()
    expected = sum(supervised_loss(branch(b["image"]).scores, b["labels"], groups) for branch in objective.branches)
    plain = sum(supervised_loss(branch(b["image"]).scores, b["labels"]) for branch in objective.branches)
    losses = objective(b)
    assert losses["supervised"].item() == pytest.approx(expected.item(), abs=1e-6)
    assert abs(losses["supervised"].item() - plain.item()) > 0.01
    first, second = objective.branches
    mixed = mix(b["u0"], b["u1"], b["mask"])
    label_1, label_2 = (pseudo_labels(branch, b["u0"], b["u1"], b["mask"]) for branch in (first, second))
    cps = cross_entropy(first(mixed).scores, label_2) + cross_entropy(second(mixed).scores, label_1)
    assert losses["cps"].item() == pytest.approx(cps.item(), abs=1e-6)


def test_supervised_is_one_branch_on_labels() -> None:
    network = Tiny().eval()
    b = batch()
    losses = Supervised(network)({"image": b["image"], "labels": b["labels"]})
    assert losses.keys() == {"loss"}
    assert losses["loss"].item() == pytest.approx(supervised_loss(network(b["image"]).scores, b["labels"]).item())
