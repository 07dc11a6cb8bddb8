"""The losses against Equations 7 and 9-11 written out in plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sshsnet_core.learning.losses import DiceOver, cross_entropy, soft_dice, supervised_loss

SIZES = st.tuples(st.integers(1, 3), st.integers(2, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**31))


def draw(n: int, classes: int, rows: int, columns: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(n, classes, rows, columns, generator=generator)
    return scores, torch.randint(0, classes, (n, rows, columns), generator=generator)


def softmax_in_loops(scores: list[float]) -> list[float]:
    exponentials = [math.exp(score) for score in scores]
    return [e / sum(exponentials) for e in exponentials]


def pixels(scores: Tensor, labels: Tensor) -> list[list[tuple[list[float], int]]]:
    """For each sample, for each pixel: the class probabilities r_i and the true class, where o*_i is 1."""
    columns, truth = scores.flatten(2).mT.tolist(), labels.flatten(1).tolist()
    return [
        [(softmax_in_loops(r), o) for r, o in zip(sample, true, strict=True)]
        for sample, true in zip(columns, truth, strict=True)
    ]


def equation_10(scores: Tensor, labels: Tensor) -> float:
    every = [pixel for sample in pixels(scores, labels) for pixel in sample]
    return -sum(math.log(r[o]) for r, o in every) / len(every)


def equation_11(scores: Tensor, labels: Tensor) -> float:
    total = 0.0
    samples = pixels(scores, labels)
    for sample in samples:
        coefficients = []
        for c in sorted({o for _, o in sample}):  # the classes present
            overlap = sum((o == c) * r[c] for r, o in sample)
            sizes = sum((o == c) + r[c] for r, o in sample)
            coefficients.append(2 * overlap / sizes)
        total += sum(coefficients) / len(coefficients)
    return -total / len(samples)


@settings(deadline=None, max_examples=60)
@given(SIZES)
def test_equations_10_and_11(sizes: tuple[int, int, int, int, int]) -> None:
    scores, labels = draw(*sizes)
    assert cross_entropy(scores, labels).item() == pytest.approx(equation_10(scores, labels), abs=1e-5)
    assert soft_dice(scores, labels).item() == pytest.approx(equation_11(scores, labels), abs=1e-5)
    expected = equation_10(scores, labels) + equation_11(scores, labels)
    assert supervised_loss(scores, labels).item() == pytest.approx(expected, abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(SIZES)
def test_equation_11_over_a_batch_takes_all_its_pixels_for_one_sample(sizes: tuple[int, int, int, int, int]) -> None:
    scores, labels = draw(*sizes)
    every = [pixel for sample in pixels(scores, labels) for pixel in sample]
    coefficients = []
    for c in sorted({o for _, o in every}):
        overlap = sum((o == c) * r[c] for r, o in every)
        coefficients.append(2 * overlap / sum((o == c) + r[c] for r, o in every))
    expected = -sum(coefficients) / len(coefficients)
    assert soft_dice(scores, labels, "batch").item() == pytest.approx(expected, abs=1e-5)
    loss = supervised_loss(scores, labels, dice_over="batch").item()
    assert loss == pytest.approx(equation_10(scores, labels) + expected, abs=1e-5)


@pytest.mark.parametrize("over", ["sample", "batch"])
def test_only_over_a_sample_does_dice_call_what_is_there_in_three_of_ten(over: DiceOver) -> None:
    """Beside a slice that is certain, one with 100 pixels that are all of a structure in three cases out of ten."""
    truth = torch.zeros(2, 20, 50, dtype=torch.long)
    truth[0, :10] = 1
    certain = 20.0 * torch.nn.functional.one_hot(truth, 2).movedim(-1, 1)

    def expected(probability: float) -> float:
        scores = certain.clone()
        scores[1, :, :2] = torch.tensor([1 - probability, probability]).log().view(2, 1, 1)
        present = truth.clone()
        present[1, :2] = 1
        return 0.3 * soft_dice(scores, present, over).item() + 0.7 * soft_dice(scores, truth, over).item()

    assert (expected(0.999) < expected(0.001)) == (over == "sample")


@settings(deadline=None, max_examples=30)
@given(SIZES)
def test_dice_lies_between_its_bounds_and_does_not_depend_on_the_order_of_samples(
    sizes: tuple[int, int, int, int, int],
) -> None:
    scores, labels = draw(*sizes)
    assert -1 <= soft_dice(scores, labels).item() <= 0
    torch.testing.assert_close(soft_dice(scores, labels), soft_dice(scores.flip(0), labels.flip(0)))


def test_volumes_are_scored_like_the_same_voxels_in_a_plane() -> None:
    scores, labels = draw(2, 5, 6, 4, 0)
    volume = scores.reshape(2, 5, 3, 2, 4), labels.reshape(2, 3, 2, 4)
    torch.testing.assert_close(supervised_loss(*volume), supervised_loss(scores, labels))


def test_a_perfect_prediction_costs_nothing_but_the_minus_one() -> None:
    labels = torch.tensor([[[0, 1], [2, 1]], [[0, 0], [0, 0]]])
    scores = 100.0 * torch.nn.functional.one_hot(labels, 20).permute(0, 3, 1, 2)
    assert cross_entropy(scores, labels).item() == pytest.approx(0, abs=1e-6)
    assert soft_dice(scores, labels).item() == pytest.approx(-1, abs=1e-6)


def test_absent_classes_neither_dilute_nor_blow_up() -> None:
    scores, labels = draw(2, 3, 4, 4, 0)
    absent = torch.full((2, 17, 4, 4), -1e4)  # certain that they are absent: probabilities are exactly 0
    wide = torch.cat([scores, absent], 1).requires_grad_()
    torch.testing.assert_close(soft_dice(wide, labels), soft_dice(scores, labels))
    supervised_loss(wide, labels).backward()
    assert wide.grad is not None
    assert wide.grad.isfinite().all()


def test_a_rare_class_weighs_as_much_as_the_background() -> None:
    """One missed voxel of a one-voxel structure costs half the coefficient of a two-class sample."""
    labels = torch.zeros(1, 10, 10, dtype=torch.long)
    labels[0, 0, 0] = 1
    background_everywhere = torch.stack([torch.full((1, 10, 10), 100.0), torch.full((1, 10, 10), -100.0)], 1)
    assert soft_dice(background_everywhere, labels).item() == pytest.approx(-0.5, abs=0.01)


def test_float32_inside_whatever_comes_in() -> None:
    scores, labels = draw(2, 20, 8, 8, 0)
    half = scores.bfloat16()
    for loss in (cross_entropy, soft_dice, supervised_loss):
        assert loss(half, labels).dtype == torch.float32
        torch.testing.assert_close(loss(half, labels), loss(half.float(), labels))
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(loss(half, labels), loss(half.float(), labels))


def test_descending_the_loss_learns_the_labels() -> None:
    _, labels = draw(2, 4, 6, 6, 0)
    scores = torch.zeros(2, 4, 6, 6, requires_grad=True)
    optimiser = torch.optim.Adam([scores], lr=0.5)
    for _ in range(30):
        optimiser.zero_grad()
        supervised_loss(scores, labels).backward()
        optimiser.step()
    assert torch.equal(scores.argmax(1), labels)
