"""What a worker does for a sample of stage 2's maps: ``python -m sshsnet_core.benchmarks.patch_sample``.

On maps of random numbers with a profile's sizes. Only ratios of one run mean anything.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from torch import Tensor

from sshsnet_core.data.coarse import FEATURE_STRIDE, SCORE_STRIDE, Coarse
from sshsnet_core.settings import Settings, load_settings

_SLICES = 15
_WINDOWS = 40


def main() -> None:
    """Prints milliseconds and MB of S~ and I~ of one patch, as workers send them and doubled by the workers."""
    parser = argparse.ArgumentParser(description="Time and size of stage 1's maps in a sample of stage 2.")
    parser.add_argument("--profile", default="paper", help="whose sizes (default paper)")
    settings = load_settings(parser.parse_args().profile)
    with tempfile.TemporaryDirectory() as folder:
        random_maps(settings).save(Path(folder))
        stored = Coarse.open(Path(folder))
        (as_sent, size), (doubled, doubled_size) = in_turn(stored, settings.patch)
    print(f"profile {settings.name}, medians of {_WINDOWS} patches, in turn")
    print(f"as sent: {1000 * as_sent:.0f} ms, {size / 1e6:.1f} MB; doubled: {1000 * doubled:.0f} ms, ", end="")
    times, larger = doubled / as_sent, doubled_size / size
    print(f"{doubled_size / 1e6:.1f} MB: {times:.1f} times as long, {larger:.1f} times as large")


def random_maps(settings: Settings) -> Coarse:
    """Maps of a volume that is as large as stage 1's input."""
    rng = np.random.default_rng(0)
    h, w = (-(-SCORE_STRIDE * n // FEATURE_STRIDE) * FEATURE_STRIDE for n in settings.slice_size)
    channels = 2 * settings.network_2d.decoder_channels

    def draw(channels: int, stride: int) -> np.ndarray:
        return rng.random((channels, _SLICES, h // stride, w // stride), np.float32).astype(np.float16)

    return Coarse(draw(settings.classes, SCORE_STRIDE), draw(channels, FEATURE_STRIDE))


def in_turn(maps: Coarse, patch: tuple[int, int, int]) -> list[tuple[float, int]]:
    """Median seconds and bytes of a patch's maps, by ``window`` and by ``crop``, at the same places."""
    rng = np.random.default_rng(0)
    ways: tuple[Callable[..., tuple[Tensor, Tensor]], ...] = (maps.window, maps.crop)
    seconds: tuple[list[float], ...] = ([], [])
    sizes = [0, 0]
    for _ in range(_WINDOWS):
        start = _start(maps, patch, rng)
        for number, way in enumerate(ways):
            started = perf_counter()
            parts = way(start, patch)
            seconds[number].append(perf_counter() - started)
            sizes[number] = sum(part.nbytes for part in parts)
    return [(median(times), size) for times, size in zip(seconds, sizes, strict=True)]


def _start(maps: Coarse, patch: tuple[int, int, int], rng: np.random.Generator) -> tuple[int, int, int]:
    """Where a patch begins, on stage 1's grid."""
    _, z, rows, columns = maps.features.shape
    depth, height, width = patch
    row = int(rng.integers(rows - height // FEATURE_STRIDE + 1)) * FEATURE_STRIDE
    column = int(rng.integers(columns - width // FEATURE_STRIDE + 1)) * FEATURE_STRIDE
    return int(rng.integers(z - depth + 1)), row, column


if __name__ == "__main__":
    main()
