"""Inference in pieces against the same in one pass."""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai import inferers
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from sshsnet_core.data.coarse import Coarse
from sshsnet_core.learning.inference import (
    coarse_map,
    overlap_on_grid,
    segment_whole,
    segment_windows,
    upsampled_coarse,
)
from sshsnet_core.networks.deeplab2d import Output2D

CPU = torch.device("cpu")
CLASSES = 5


class Branch(nn.Module):
    """A 2D network that sees three slices and has the real one's strides."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.score = nn.Conv2d(3, CLASSES, 3, padding=1)
        self.feature = nn.Conv2d(3, 6, 1)

    def forward(self, x: Tensor) -> Output2D:
        return Output2D(4 * self.score(x), avg_pool2d(self.feature(x), 4))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("depth", [1, 8, 11])
def test_coarse_map(count: int, depth: int) -> None:
    volume = np.random.default_rng(0).standard_normal((depth, 24, 16)).astype(np.float32)
    branches = [Branch(seed) for seed in range(count)]
    coarse = coarse_map(branches, volume, CPU)
    assert (coarse.scores.shape, coarse.scores.dtype) == ((CLASSES, depth, 12, 8), np.float16)
    assert (coarse.features.shape, coarse.features.dtype) == ((6 * count, depth, 3, 2), np.float16)
    for z in range(depth):
        # One slice, with its neighbours as channels, halved by the mean of four.
        three = np.stack([volume[max(z - 1, 0)], volume[z], volume[min(z + 1, depth - 1)]])
        halved = torch.from_numpy(three.reshape(3, 12, 2, 8, 2).mean(axis=(2, 4)))[None]
        outputs = [branch(halved) for branch in branches]
        # Equation 1: the probabilities are averaged, not the scores; the features are concatenated.
        probabilities = sum(torch.softmax(output.scores, dim=1) for output in outputs) / count
        np.testing.assert_allclose(coarse.scores[:, z], probabilities[0].detach(), atol=1e-3)
        features = torch.cat([output.features for output in outputs], dim=1)[0]
        np.testing.assert_allclose(coarse.features[:, z], features.detach(), atol=2e-3, rtol=1e-3)


def test_probabilities_of_the_rows_without_stage_2() -> None:
    rng = np.random.default_rng(0)
    coarse = Coarse(rng.random((CLASSES, 4, 12, 8)).astype(np.float16), rng.random((6, 4, 3, 2)).astype(np.float16))
    probabilities = upsampled_coarse(coarse)
    scores = torch.from_numpy(coarse.scores.astype(np.float32))
    doubled = interpolate(scores, scale_factor=2, mode="bilinear", align_corners=False)
    assert (probabilities.shape, probabilities.dtype) == ((CLASSES, 4, 24, 16), np.float32)
    np.testing.assert_allclose(probabilities, doubled.numpy(), atol=1e-6)


# --- windows ---------------------------------------------------------------------------------------------------------

Window = tuple[int, int, int]


def positions(shape: Window) -> tuple[np.ndarray, Coarse]:
    """A volume whose values say where they lie, and stage 1's maps that say the same of themselves.

    Of the slice they say -z: a window that is all background, 1, would be passed over.
    """

    def ramps(step: int) -> np.ndarray:
        z, h, w = np.indices((shape[0], shape[1] // step, shape[2] // step)).astype(np.float16)
        return np.stack([-z, step * h + (step - 1) / 2, step * w + (step - 1) / 2])

    z, h, w = np.indices(shape)
    return (10000 * z + 100 * h + w).astype(np.float32), Coarse(ramps(2), ramps(8))


class Checks(nn.Module):
    """Checks that S~ and I~ come from the window's own place; its scores depend on a voxel's position alone."""

    def __init__(self, patch: Window) -> None:
        super().__init__()
        self.patch = patch
        self.starts: set[Window] = set()
        self.random = torch.randn(CLASSES, 3, generator=torch.Generator().manual_seed(0))

    def scores(self, image: Tensor) -> Tensor:
        """(N, 1, Z, h, w) to (N, C1, Z, h, w)."""
        z, h, w = image // 10000, image % 10000 // 100, image % 100
        where = torch.cat([z.sin(), (h / 3).sin(), (w / 5).cos()], dim=1)
        return torch.einsum("cp,npzhw->nczhw", 3 * self.random, where)

    def forward(self, image: Tensor, coarse: Tensor, features: Tensor) -> Tensor:
        _, h, w = self.patch
        assert image.shape == (1, 1, *self.patch)
        assert coarse.shape == (1, 3, *self.patch)
        assert features.shape == (1, 3, self.patch[0], h // 4, w // 4)
        start = int(image[0, 0, 0, 0, 0])
        self.starts.add((start // 10000, start % 10000 // 100, start % 100))
        place = torch.cat([-(image // 10000), image % 10000 // 100, image % 100], dim=1)
        # Doubling clamps at the borders of the whole map: there a ramp is off by half a pixel of it.
        assert (coarse - place).abs().max() <= 0.5
        middle = avg_pool2d(place[0], 4)[None]
        assert (features - middle).abs().max() <= 2
        return self.scores(image)


@pytest.mark.parametrize(
    ("shape", "patch", "overlap", "windows"),
    [
        ((5, 48, 40), (3, 16, 16), 0.5, 3 * 5 * 4),
        ((5, 48, 40), (3, 32, 16), 0.25, 2 * 2 * 4),
        ((4, 56, 32), (4, 48, 32), 0.3, 2),  # a step of 33.6 would leave stage 1's grid
        ((4, 96, 80), (3, 80, 48), 0.25, 2 * 2 * 2),
        ((6, 48, 32), (3, 16, 16), 0.0, 2 * 3 * 2),
        ((3, 32, 16), (3, 32, 16), 0.5, 1),
    ],
)
def test_windows_give_what_one_pass_gives(shape: Window, patch: Window, overlap: float, windows: int) -> None:
    volume, coarse = positions(shape)
    network = Checks(patch)
    probabilities = segment_windows(network, volume, coarse, patch, overlap, CPU)
    expected = network.scores(torch.from_numpy(volume)[None, None])[0].softmax(dim=0)
    assert (probabilities.shape, probabilities.dtype) == ((CLASSES, *shape), np.float32)
    np.testing.assert_allclose(probabilities, expected.numpy(), atol=1e-5)
    assert len(network.starts) == windows
    assert len(np.unique(probabilities.argmax(axis=0))) > 2


def test_where_windows_disagree_their_probabilities_are_averaged() -> None:
    """Two windows, one above the other: each counts most around its own middle, and the change lies half way."""

    class Sides(nn.Module):
        calls = 0

        def forward(self, image: Tensor, coarse: Tensor, features: Tensor) -> Tensor:
            scores = torch.zeros(1, 2, *image.shape[2:])
            scores[:, self.calls] = 5.0
            self.calls += 1
            return scores

    volume, coarse = positions((1, 24, 16))
    labels = segment_windows(Sides(), volume, coarse, (1, 16, 16), 0.5, CPU).argmax(axis=0)
    # In the middle columns; in the corners of a window MONAI's weights are all the same smallest one.
    assert not labels[:, :12, 6:10].any()
    assert labels[:, 12:, 6:10].all()


def test_a_window_in_which_stage_1_sees_nothing_keeps_its_map() -> None:
    """Four windows side by side; in one of them a single pixel may be something else than background."""

    class Structure(nn.Module):
        calls = 0

        def forward(self, image: Tensor, coarse: Tensor, features: Tensor) -> Tensor:
            self.calls += 1
            return torch.tensor([0.0, 9.0]).view(1, 2, 1, 1, 1).expand(1, 2, *image.shape[2:])

    volume, network = np.zeros((1, 32, 32), np.float32), Structure()
    scores = np.zeros((2, 1, 16, 16), np.float16)
    scores[0], scores[1] = 0.995, 0.005
    scores[:, 0, 12, 4] = 0.5
    coarse = Coarse(scores, np.zeros((3, 1, 4, 4), np.float16))
    probabilities = segment_windows(network, volume, coarse, (1, 16, 16), 0.0, CPU)
    assert network.calls == 1
    asked = np.zeros((1, 32, 32), bool)
    asked[:, 16:, :16] = True
    assert np.array_equal(probabilities.argmax(axis=0).astype(bool), asked)
    np.testing.assert_allclose(probabilities[0][~asked], 0.995, atol=1e-3)


def test_one_window_is_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Tensor]] = []
    most = 0
    slide = inferers.sliding_window_inference

    def watched(image: Tensor, patch: Window, batch: int, predict: Callable[..., Tensor], *args: Any, **kw: Any) -> Any:
        def watch(window: Tensor, corners: Any) -> Tensor:
            nonlocal most
            most = max(most, sum(ref() is not None for ref in alive))
            result = predict(window, corners)
            alive.append(weakref.ref(result))
            return result

        return slide(image, patch, batch, watch, *args, **kw)

    monkeypatch.setattr(inferers, "sliding_window_inference", watched)
    volume, coarse = positions((5, 48, 40))
    segment_windows(Checks((3, 16, 16)), volume, coarse, (3, 16, 16), 0.5, CPU)
    assert len(alive) == 60
    assert most <= 2


@settings(deadline=None)
@given(st.integers(1, 40), st.floats(0, 0.99))
def test_a_windows_step_is_on_stage_1s_grid(eighths: int, overlap: float) -> None:
    length = 8 * eighths
    step = int(length * (1 - overlap_on_grid(length, overlap)))  # as MONAI takes it
    assert step % 8 == 0
    assert 0 < step <= max(8, length * (1 - overlap))
    assert step > length * (1 - overlap) - 9


# --- SSHSNet-3D ------------------------------------------------------------------------------------------------------


class Whole(nn.Module):
    """A 3D network that refuses what the real one refuses; its scores depend on a voxel's intensity alone."""

    def forward(self, image: Tensor) -> Tensor:
        assert image.shape[-1] % 16 == 0
        assert image.shape[-2] % 16 == 0
        levels = torch.linspace(-1, 1, CLASSES).view(1, -1, 1, 1, 1)
        return -5 * (image - levels).square()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 24, 40), (5, 32, 64), (2, 22, 34)])
def test_whole_volumes_of_any_size(shape: Window) -> None:
    volume = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found = segment_whole(Whole(), volume, CPU)
    z, h, w = shape
    halved = torch.from_numpy(volume.reshape(z, h // 2, 2, w // 2, 2).mean(axis=(2, 4)))
    levels = torch.linspace(-1, 1, CLASSES).view(-1, 1, 1, 1)
    probabilities = (-5 * (halved[None] - levels).square()).softmax(dim=0)
    doubled = interpolate(probabilities, scale_factor=2, mode="bilinear", align_corners=False)
    assert (found.shape, found.dtype) == ((CLASSES, *shape), np.float32)
    np.testing.assert_allclose(found, doubled.numpy(), atol=1e-6)
