"""Randomised acquisition: point spread, coil and field, motion, metal, noise, and the numbers a file holds."""

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter, zoom

from sshsnet_core.data.cohorts.phantom_anatomy import SUB_SLICES, Anatomy
from sshsnet_core.data.cohorts.phantom_appearance import coil, grain, mean_brightness
from sshsnet_core.data.cohorts.phantom_contrast import random_contrast
from sshsnet_core.data.cohorts.phantom_noise import Array, smooth_noise
from sshsnet_core.data.cohorts.phantom_tissues import Tissue


def render_randomised(rng: Generator, anatomy: Anatomy, pixel_mm: float) -> Array:
    """A magnitude image (Z, H, W) float32, from 0 to 1, as any scanner might give it; noise included."""
    image = mean_brightness(rng, anatomy, random_contrast(rng))
    image = _void_at_metal(image, anatomy)
    blurs = np.hypot(rng.uniform(0.4, 1.1, 2) / pixel_mm, 0.35)
    image = gaussian_filter(image, (0, *blurs))
    image = _ghosts(rng, _coarse(rng, image))
    # From no surface coil at all, or one that was corrected for, to the usual fall-off.
    image *= np.power(coil(rng, anatomy), rng.choice([0.0, rng.uniform(0.2, 1.2)], p=[0.2, 0.8]))
    image *= np.exp(rng.uniform(0, 0.25) * _uneven(rng, anatomy))
    image /= np.percentile(image[:, ::4, ::4], 98)
    noise = rng.uniform(0.004, 0.05)
    parts = [noise * grain(rng, image.shape, float(blurs.mean())) for _ in range(2)]
    image = np.hypot(image + parts[0], parts[1])
    image = np.clip(image / np.percentile(image[:, ::4, ::4], rng.uniform(99, 100)), 0, 1)
    image = np.power(image, rng.uniform(0.75, 1.3))
    # Scaled and resampled files often have no zero left: then nothing is cropped and air counts as tissue.
    offset = rng.choice([0.0, rng.uniform(0.02, 0.15)])
    return (offset + (1 - offset) * image).astype(np.float32)


def _void_at_metal(image: Array, anatomy: Anatomy) -> Array:
    """Metal takes the signal of more than itself and piles some of it up at its rim."""
    metal = (anatomy.tissues == Tissue.METAL).reshape(-1, SUB_SLICES, *image.shape[1:]).mean(axis=1, dtype=np.float32)
    if not metal.any():
        return image
    near, far = gaussian_filter(metal, (0.4, 2, 2)), gaussian_filter(metal, (0.6, 4, 4))
    return image * np.clip(1 - 3 * near, 0, 1) * (1 + 2 * np.clip(far - near, 0, 1))


def _coarse(rng: Generator, image: Array) -> Array:
    """One image in four was acquired at up to half the resolution in plane and interpolated by the scanner."""
    if rng.random() > 0.25:
        return image
    factor = rng.uniform(0.5, 0.9)
    small = zoom(image, (1, factor, factor), order=1)
    back = [1, *(n / m for n, m in zip(image.shape[1:], small.shape[1:], strict=True))]
    return zoom(small, back, order=1)


def _ghosts(rng: Generator, image: Array) -> Array:
    """One image in four has moved: fainter copies along the phase-encoding axis, which is either one in plane."""
    if rng.random() > 0.25:
        return image
    axis, strength = int(rng.integers(1, 3)), rng.uniform(0.02, 0.12)
    shift = int(rng.uniform(0.04, 0.25) * image.shape[axis])
    ghost = np.roll(image, shift, axis) + np.roll(image, -shift, axis)
    return image + np.float32(strength) * (ghost - image)


def _uneven(rng: Generator, anatomy: Anatomy) -> Array:
    """A slow field over the volume, (Z, H, W), mean 0 and variance about 1: what is left of the transmit field."""
    slices = np.arange(len(anatomy.labels), dtype=np.float32)
    size = rng.uniform(90, 220)
    return smooth_noise(rng, (slices, anatomy.plane.rows, anatomy.plane.columns), (12, size, size))
