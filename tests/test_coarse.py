"""phi's crop of stage 1's maps against Equations 1 and 2 done the long way: upsample the whole map, then crop."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import interpolate

from sshsnet_core.data.coarse import Coarse, StoredCoarse, doubled, with_margin


def draw(depth: int, rows: int, columns: int, seed: int = 0) -> Coarse:
    """A map of a volume (depth, 8 rows, 8 columns)."""
    rng = np.random.default_rng(seed)
    scores = rng.random((3, depth, 4 * rows, 4 * columns)).astype(np.float16)
    return Coarse(scores, rng.standard_normal((2, depth, rows, columns)).astype(np.float16))


def upsampled(array: np.ndarray) -> Tensor:
    """The whole map (C, Z, H, W), upsampled by 2 in plane."""
    return interpolate(torch.from_numpy(array.astype(np.float32)), scale_factor=2, mode="bilinear", align_corners=False)


def doubled_in_loops(row: list[float]) -> list[float]:
    """One line, upsampled by 2: each new centre lies a quarter from the nearest old one; the ends repeat."""
    result = []
    for i, value in enumerate(row):
        before, after = row[max(i - 1, 0)], row[min(i + 1, len(row) - 1)]
        result += [0.75 * value + 0.25 * before, 0.75 * value + 0.25 * after]
    return result


@st.composite
def windows(draw: st.DrawFn) -> tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]:
    """(Z, H/8, W/8) of a volume, and a window in it: start and size, past the last slice at will."""
    shape = tuple(draw(st.integers(1, 5)) for _ in range(3))
    first = draw(st.integers(0, shape[0] + 1))
    starts = [draw(st.integers(0, n - 1)) for n in shape[1:]]
    sizes = [draw(st.integers(1, n - s)) for n, s in zip(shape[1:], starts, strict=True)]
    start = (first, 8 * starts[0], 8 * starts[1])
    return shape, start, (draw(st.integers(1, 6)), 8 * sizes[0], 8 * sizes[1])  # type: ignore[return-value]


@settings(deadline=None, max_examples=150)
@given(windows(), st.integers(0, 2**31))
def test_a_crop_is_the_crop_of_the_upsampled_whole(
    window: tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]], seed: int
) -> None:
    shape, start, size = window
    coarse = draw(*shape, seed)
    scores, features = coarse.crop(start, size)
    slices = [min(start[0] + i, shape[0] - 1) for i in range(size[0])]
    (top, left), (height, width) = start[1:], size[1:]
    expected = upsampled(coarse.scores)[:, slices, top : top + height, left : left + width]
    torch.testing.assert_close(scores, expected, atol=1e-6, rtol=0)
    quarter = upsampled(coarse.features)[:, slices, top // 4 : (top + height) // 4, left // 4 : (left + width) // 4]
    torch.testing.assert_close(features, quarter, atol=1e-6, rtol=0)


def test_doubling_is_linear_between_pixel_centres() -> None:
    lines = np.array([[0.0, 4.0, 2.0, 10.0], [1.0, 1.0, 5.0, 1.0]])
    window = doubled(with_margin(lines[:, None, None, :], (0, 0), (1, 4)))
    for line, expected in zip(window[:, 0], lines.tolist(), strict=True):
        assert line.tolist() == [doubled_in_loops(expected)] * 2
    tall = doubled(with_margin(lines[:, None, :, None], (1, 0), (2, 1)))
    assert tall[0, 0, :, 0].tolist() == doubled_in_loops(lines[0].tolist())[2:6]


def test_what_is_sent_is_small() -> None:
    """A window is half a window of S~ in size and precision, and one pixel around it."""
    scores, features = draw(4, 6, 5).window((1, 16, 8), (2, 32, 24))
    assert (scores.shape, scores.dtype) == ((3, 2, 18, 14), torch.float16)
    assert (features.shape, features.dtype) == ((2, 2, 6, 5), torch.float16)


def test_probabilities_stay_probabilities() -> None:
    coarse = draw(2, 3, 3)
    shares = coarse.scores.astype(np.float32) / coarse.scores.astype(np.float32).sum(axis=0)
    scores, _ = Coarse(shares, coarse.features).crop((0, 8, 0), (2, 16, 24))
    torch.testing.assert_close(scores.sum(dim=0), torch.ones(2, 16, 24))


@pytest.mark.parametrize(
    ("start", "size"),
    [((0, 4, 0), (1, 8, 8)), ((0, 0, 12), (1, 8, 8)), ((0, 0, 0), (1, 8, 20)), ((0, 0, 0), (1, 7, 8))],
)
def test_a_window_off_the_grid_is_refused(start: tuple[int, int, int], size: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        draw(2, 4, 4).crop(start, size)


def test_save_and_open(tmp_path: Path) -> None:
    coarse = draw(3, 2, 4)
    coarse.save(tmp_path / "case")
    opened = Coarse.open(tmp_path / "case")
    assert isinstance(opened.scores, np.memmap)
    np.testing.assert_array_equal(opened.scores, coarse.scores)
    np.testing.assert_array_equal(opened.features, coarse.features)
    assert sorted(path.name for path in (tmp_path / "case").iterdir()) == ["features.npy", "scores.npy"]
    stored = StoredCoarse(tmp_path / "case")
    # A worker is sent the folder's name, not what the maps hold.
    assert len(pickle.dumps(stored)) < 500
    for source in (opened, stored):
        for one, other in zip(source.window((1, 8, 0), (3, 8, 16)), coarse.window((1, 8, 0), (3, 8, 16)), strict=True):
            assert torch.equal(one, other)


def test_features_are_there_only_when_both_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.save

    def killed(path: Path, array: np.ndarray) -> None:
        whole(path, array[:1])
        if "features" in path.name:
            raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        draw(2, 2, 2).save(tmp_path)
    assert (tmp_path / "scores.npy").exists()
    assert not (tmp_path / "features.npy").exists()
