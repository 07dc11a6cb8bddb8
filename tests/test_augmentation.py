"""The training transforms keep anatomy: image and labels together, head up, front to the left, no new labels."""

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_erosion
from torch import Tensor

from sshsnet_core.data.augmentation import augment_slice, augment_volume

SEEDS = range(80)


def markers(h: int = 64, w: int = 48) -> np.ndarray:
    """Four blocks (h, w): 1 at the top, 2 at the bottom, 3 in front, 4 behind."""
    labels = np.zeros((h, w), np.int64)
    labels[12:18, 20:28] = 1
    labels[46:52, 20:28] = 2
    labels[28:36, 10:15] = 3
    labels[28:36, 33:38] = 4
    return labels


def centre(mask: np.ndarray) -> np.ndarray:
    assert mask.any()
    return np.argwhere(mask).mean(axis=0)


def assert_upright(labels: np.ndarray) -> None:
    top, bottom, front, back = (centre(labels == value) for value in (1, 2, 3, 4))
    assert top[0] < front[0] < bottom[0]
    assert top[0] < back[0] < bottom[0]
    assert front[1] < top[1] < back[1]
    assert front[1] < bottom[1] < back[1]


def slices(seed: int) -> tuple[Tensor, Tensor]:
    """The markers as labels, and an image that shows them: 10 in every block."""
    labels = torch.from_numpy(markers())
    image, moved = augment_slice(10.0 * (labels > 0).expand(3, -1, -1), labels, np.random.default_rng(seed))
    assert moved is not None
    return image, moved


@pytest.mark.parametrize("seed", SEEDS)
def test_image_and_labels_move_together(seed: int) -> None:
    image, labels = slices(seed)
    bright, marked = image.numpy() > 5, labels.numpy() > 0
    # Bilinear and nearest may differ in the pixels along an edge, and nowhere else.
    edge = binary_dilation(marked, iterations=1) & ~binary_erosion(marked, iterations=1)
    for channel in bright:
        assert not ((channel != marked) & ~edge).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_several_maps_of_labels_move_as_one_does(seed: int) -> None:
    labels, rng = torch.from_numpy(markers()), np.random.default_rng(seed)
    _, several = augment_slice(torch.zeros(3, *labels.shape), torch.stack([labels, 2 * labels]), rng)
    assert several is not None
    assert torch.equal(several[0], slices(seed)[1])
    assert torch.equal(several[1], 2 * several[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_spine_is_never_turned_over(seed: int) -> None:
    assert_upright(slices(seed)[1].numpy())


@pytest.mark.parametrize("seed", SEEDS)
def test_an_unlabelled_spine_is_never_turned_over(seed: int) -> None:
    image = torch.zeros(3, 64, 48)
    image[:, 10:16, 34:40] = 20.0  # above and behind
    moved, none = augment_slice(image, None, np.random.default_rng(seed))
    assert none is None
    row, column = centre(moved[1].numpy() > 10)
    assert row < 28
    assert column > 26


@pytest.mark.parametrize("seed", range(20))
def test_a_volume_keeps_its_rows_and_columns(seed: int) -> None:
    labels = torch.from_numpy(np.stack([markers(), markers()]))
    batch = {"image": 10.0 * labels[None].float(), "labels": labels}
    result = augment_volume(batch, np.random.default_rng(seed))
    assert torch.equal(result["labels"], labels)
    image = result["image"][0].numpy()
    means = [image[labels.numpy() == value].mean() for value in range(5)]
    assert means == sorted(means)


def test_labels_are_only_the_labels_given() -> None:
    values = np.array([0, 3, 17])
    for seed in SEEDS:
        labels = torch.from_numpy(values[np.random.default_rng(seed).integers(0, 3, (32, 24))])
        _, moved = augment_slice(torch.zeros(3, 32, 24), labels, np.random.default_rng(seed))
        assert moved is not None
        assert moved.dtype == torch.int64
        assert set(moved.unique().tolist()) <= {0, 3, 17}


def test_slices_are_mirrored_left_to_right_sometimes() -> None:
    """The order of three neighbours, and of a patch's slices, turns in about half of the samples."""
    image = torch.tensor([-20.0, 0.0, 20.0])[:, None, None].expand(3, 16, 16)
    turned = [
        bool((m := augment_slice(image, None, np.random.default_rng(s))[0].mean((1, 2)))[0] > m[2]) for s in SEEDS
    ]
    assert 20 < sum(turned) < 60


def test_everything_in_a_patch_is_mirrored_together() -> None:
    depth = torch.arange(4.0)
    turned = 0
    for seed in SEEDS:
        batch = {
            "image": 10 * depth[None, :, None, None].expand(1, 4, 8, 8),
            "labels": depth.long()[:, None, None].expand(4, 8, 8),
            "coarse": depth[None, :, None, None].expand(20, 4, 8, 8),
            "features": depth[None, :, None, None].expand(6, 4, 2, 2),
        }
        shapes = {name: tensor.shape for name, tensor in batch.items()}
        result = augment_volume(batch, np.random.default_rng(seed))
        assert {name: tensor.shape for name, tensor in result.items()} == shapes
        order = result["labels"][:, 0, 0].float()
        assert torch.equal(order, depth) or torch.equal(order, depth.flip(0))
        assert torch.equal(result["labels"].float(), order[:, None, None].expand(4, 8, 8))
        for name in ("coarse", "features"):
            assert torch.equal(result[name], order[None, :, None, None].expand(shapes[name]))
        assert torch.equal(result["image"].mean((0, 2, 3)).argsort(), order.argsort())
        turned += int(order[0] > 0)
    assert 20 < turned < 60


def test_the_generator_decides_all() -> None:
    image = torch.randn(3, 32, 24, generator=torch.Generator().manual_seed(0))
    labels = (image[0] > 0).long()
    first = [augment_slice(image, labels, np.random.default_rng(seed)) for seed in range(6)]
    torch.manual_seed(99)
    np.random.seed(99)
    augment_slice(image, labels, np.random.default_rng(7))
    for seed in reversed(range(6)):
        again = augment_slice(image, labels, np.random.default_rng(seed))
        assert torch.equal(first[seed][0], again[0])
        assert torch.equal(first[seed][1], again[1])  # type: ignore[arg-type]
    assert len({one.sum().item() for one, _ in first}) == 6
    patch = {"image": image[None], "labels": labels.expand(3, -1, -1)}
    once, twice = (augment_volume(patch, np.random.default_rng(5))["image"] for _ in range(2))
    assert torch.equal(once, twice)
    assert not torch.equal(once, augment_volume(patch, np.random.default_rng(6))["image"])


def test_the_input_is_left_as_it_is() -> None:
    image, labels = torch.randn(3, 24, 24), torch.randint(0, 3, (24, 24))
    before = image.clone(), labels.clone()
    for seed in range(10):
        augment_slice(image, labels, np.random.default_rng(seed))
        augment_volume({"image": image[None]}, np.random.default_rng(seed))
    assert torch.equal(image, before[0])
    assert torch.equal(labels, before[1])
