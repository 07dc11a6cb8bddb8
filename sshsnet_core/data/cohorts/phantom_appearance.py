"""What a phantom's tissues look like in a T2-weighted image, and what coil and receiver make of it."""

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter

from sshsnet_core.data.cohorts.phantom_anatomy import SUB_SLICES, Anatomy
from sshsnet_core.data.cohorts.phantom_contrast import Contrast, t2_contrast
from sshsnet_core.data.cohorts.phantom_noise import Array, smooth_noise
from sshsnet_core.data.cohorts.phantom_tissues import Tissue


def render(rng: Generator, anatomy: Anatomy, pixel_mm: float) -> Array:
    """A T2-weighted magnitude image (Z, H, W) float32 of any scale, noise included.

    Thin sheets are averaged into thick slices (partial volume), blurred by the acquisition's point spread, shaded by
    the surface coil, and given Rician noise that is as smooth as the interpolated pixels of a scanner's image.
    """
    image = mean_brightness(rng, anatomy, t2_contrast(rng))
    blur = np.hypot(rng.uniform(0.4, 0.6) / pixel_mm, 0.35)  # in pixels, which are no points either
    image = gaussian_filter(image, (0, blur, blur))
    image *= coil(rng, anatomy)
    image /= np.percentile(image[:, ::4, ::4], 98)
    noise = rng.uniform(0.008, 0.022)
    parts = [noise * grain(rng, image.shape, blur) for _ in range(2)]
    return np.hypot(image + parts[0], parts[1])


def mean_brightness(rng: Generator, anatomy: Anatomy, contrast: Contrast) -> Array:
    """Mean brightness of every thick slice, (Z, H, W)."""
    mean, (fat, by_streaks, by_fibres, by_blobs) = contrast.mean, contrast.fat.T
    fat_mean = mean[Tissue.SUBCUTANEOUS_FAT] * 0.75
    spine, plane = anatomy.spine, anatomy.plane
    marrow = (1 + 0.05 * rng.standard_normal(len(spine.height), dtype=np.float32))[anatomy.vertebra]
    bright = np.clip(1.2 - 1.25 * spine.degeneration, 0.16, 1).astype(np.float32)[anatomy.disc]
    # Muscle turns to fat towards the sacrum, the more so with age.
    fatty = ((0.1 + 0.5 * spine.age) * np.clip(1 - plane.s / 60, 0, 1)).astype(np.float32) + 0.1 * spine.age
    image = np.zeros(anatomy.labels.shape, np.float32)
    for sheet, tissue in enumerate(anatomy.tissues):
        blobs, streaks, fibres = (t[sheet // SUB_SLICES] for t in (anatomy.blobs, anatomy.streaks, anatomy.fibres))
        value = mean[tissue]
        value *= np.where((tissue == Tissue.MARROW) | (tissue == Tissue.ARCH_MARROW), marrow, 1)
        disc = (tissue == Tissue.NUCLEUS) | (tissue == Tissue.INNER_ANNULUS)
        value = np.where(disc, mean[Tissue.ANNULUS] + (value - mean[Tissue.ANNULUS]) * bright, value)
        share = fat[tissue] + by_streaks[tissue] * streaks + by_fibres[tissue] * fibres + by_blobs[tissue] * blobs
        share += np.where(tissue == Tissue.MUSCLE, fatty * (0.4 + 0.6 * fibres), 0)
        np.clip(share, 0, 1, out=share)
        image[sheet // SUB_SLICES] += (value + share * (fat_mean - value)) / SUB_SLICES
    return image


def coil(rng: Generator, anatomy: Anatomy) -> Array:
    """Sensitivity (Z, H, W): falls off from the skin of the back forwards and towards both ends of the coil."""
    rows, columns = anatomy.plane.rows, anatomy.plane.columns
    distance = np.maximum(anatomy.skin - columns, 0) + 30
    shade = 1 / (1 + np.power(distance / rng.uniform(90, 170), rng.uniform(1.2, 2.0)))
    length, middle = rows[-1] * rng.uniform(0.6, 1.3), rows[-1] * rng.uniform(0.4, 0.65)
    shade = shade * np.exp(-np.power((rows - middle) / length, 4))[:, None]
    # The band that saturates the abdomen, so that breathing does not ghost over the spine.
    depth, edge = rng.uniform(0.0, 0.75), -anatomy.plane.r - rng.uniform(28, 50)
    shade = shade * (1 - depth / (1 + np.exp(-edge / 5)))
    slices = np.arange(len(anatomy.labels), dtype=np.float32)
    uneven = smooth_noise(rng, (slices, rows, columns), (16, 160, 110))
    return shade.astype(np.float32) * np.exp(0.05 * uneven)


def grain(rng: Generator, shape: tuple[int, ...], blur: float) -> Array:
    """White noise seen through the point spread, variance 1."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (0, 0.7 * blur, 0.7 * blur))
    return noise / noise.std()
