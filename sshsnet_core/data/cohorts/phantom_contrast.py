"""How bright tissues are: T2-weighting, and the many other contrasts of the randomised phantoms."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from sshsnet_core.data.cohorts.phantom_noise import Array
from sshsnet_core.data.cohorts.phantom_tissues import Tissue


class Contrast(NamedTuple):
    """One draw of the table: a tissue's brightness is its own mixed with fat's by fat's share."""

    #: (T,), one value a tissue.
    mean: Array
    #: (T, 4): share of fat on average, and how far it follows the streaks, the fibres and the blobs.
    fat: Array


# T2: mean and spread between cases (CSF about 1.2); share of fat on average, and how far it follows the streaks along
# the spine, the fibres aslant to it and the blobs. A tissue's brightness is its own mean mixed with fat's by that
# share; another contrast is another draw of this table.
_T2 = {
    #                           mean  spread  fat  streaks fibres blobs
    Tissue.AIR:                (0.00, 0.00, 0.00, 0.00, 0.00, 0.00),
    Tissue.SKIN:               (0.40, 0.10, 0.00, 0.00, 0.00, 0.00),
    Tissue.SUBCUTANEOUS_FAT:   (0.88, 0.10, 0.00, 0.60, 0.00, 0.00),
    Tissue.ABDOMEN:            (0.22, 0.05, 0.40, 0.00, 0.00, 0.32),
    Tissue.LIVER:              (0.20, 0.04, 0.00, 0.00, 0.00, 0.02),
    Tissue.VISCERAL_FAT:       (0.60, 0.08, 0.00, 0.00, 0.00, 0.00),
    Tissue.VESSEL:             (0.07, 0.03, 0.00, 0.00, 0.00, 0.02),
    Tissue.MUSCLE:             (0.15, 0.03, 0.00, 0.22, 0.14, 0.05),
    Tissue.PSOAS:              (0.17, 0.03, 0.02, 0.00, 0.00, 0.04),
    Tissue.INTERSPINOUS:       (0.16, 0.05, 0.34, 0.10, 0.36, 0.14),
    Tissue.LIGAMENT:           (0.09, 0.03, 0.00, 0.00, 0.00, 0.00),
    Tissue.FAT:                (0.85, 0.10, 0.00, 0.00, 0.00, 0.00),
    Tissue.NERVE:              (0.30, 0.05, 0.00, 0.00, 0.00, 0.00),
    Tissue.CSF:                (1.20, 0.12, 0.00, 0.00, 0.00, 0.00),
    Tissue.CORD:               (0.55, 0.06, 0.00, 0.00, 0.00, 0.00),
    Tissue.CAUDA:              (1.10, 0.10, 0.30, 0.35, 0.00, 0.00),
    Tissue.MARROW:             (0.38, 0.06, 0.00, 0.00, 0.00, 0.03),
    Tissue.CORTEX:             (0.09, 0.02, 0.00, 0.00, 0.00, 0.00),
    Tissue.BASIVERTEBRAL_VEIN: (0.47, 0.08, 0.00, 0.00, 0.00, 0.00),
    Tissue.ARCH_MARROW:        (0.38, 0.06, 0.06, 0.00, 0.14, 0.06),
    Tissue.ANNULUS:            (0.14, 0.03, 0.00, 0.00, 0.00, 0.00),
    Tissue.INNER_ANNULUS:      (0.27, 0.04, 0.00, 0.00, 0.00, 0.00),
    Tissue.NUCLEUS:            (0.60, 0.12, 0.00, 0.00, 0.00, 0.00),
    Tissue.REMNANT_DISC:       (0.50, 0.15, 0.00, 0.00, 0.00, 0.00),
    Tissue.FORAMEN:            (0.20, 0.05, 0.55, 0.15, 0.25, 0.20),
}  # fmt: skip
# What randomised phantoms show besides: gas, bowel and its contents, urine, haemangiomas, endplates that degenerate.
_MORE_T2 = {
    Tissue.GAS:                (0.02, 0.02, 0.00, 0.00, 0.00, 0.00),
    Tissue.BOWEL:              (0.45, 0.25, 0.00, 0.00, 0.00, 0.20),
    Tissue.FLUID:              (1.20, 0.20, 0.00, 0.00, 0.00, 0.00),
    Tissue.HAEMANGIOMA:        (0.75, 0.15, 0.00, 0.00, 0.00, 0.00),
    Tissue.ENDPLATE_CHANGE:    (0.50, 0.25, 0.00, 0.00, 0.00, 0.00),
    Tissue.METAL:              (0.00, 0.00, 0.00, 0.00, 0.00, 0.00),
}  # fmt: skip
# The means of a T1-weighted image, for the tissues that differ most from T2.
_T1 = {
    Tissue.SUBCUTANEOUS_FAT: 1.0,
    Tissue.FAT: 0.95,
    Tissue.VISCERAL_FAT: 0.8,
    Tissue.CSF: 0.15,
    Tissue.CAUDA: 0.22,
    Tissue.CORD: 0.38,
    Tissue.NERVE: 0.3,
    Tissue.MARROW: 0.55,
    Tissue.ARCH_MARROW: 0.55,
    Tissue.BASIVERTEBRAL_VEIN: 0.35,
    Tissue.MUSCLE: 0.28,
    Tissue.PSOAS: 0.28,
    Tissue.NUCLEUS: 0.32,
    Tissue.INNER_ANNULUS: 0.3,
    Tissue.ANNULUS: 0.22,
    Tissue.REMNANT_DISC: 0.3,
    Tissue.FLUID: 0.12,
    Tissue.ENDPLATE_CHANGE: 0.4,
    Tissue.HAEMANGIOMA: 0.8,
}


def t2_contrast(rng: Generator) -> Contrast:
    """A T2-weighted image of healthy tissue: the spread between scanners and people, no more."""
    return _drawn(rng, list(_T2.values()))


def _drawn(rng: Generator, table: list[tuple[float, ...]]) -> Contrast:
    """Every mean drawn by its spread; the rest as it stands."""
    values = np.array(table, np.float32)
    mean = np.clip(values[:, 0] + values[:, 1] * rng.standard_normal(len(values), dtype=np.float32), 0, None)
    return Contrast(mean, values[:, 2:])


def random_contrast(rng: Generator) -> Contrast:
    """T2-weighted most of the time, with wide spreads; else fat-suppressed, T1-weighted or no weighting at all."""
    mean, fat = _drawn(rng, [*_T2.values(), *_MORE_T2.values()])
    kind = rng.choice(["T2", "fat-suppressed", "T1", "any"], p=[0.7, 0.1, 0.1, 0.1])
    if kind == "T1":
        mean[list(_T1)] = np.array(list(_T1.values())) * rng.lognormal(0, 0.15, len(_T1))
    elif kind == "any":
        solid = [t for t in Tissue if t not in (Tissue.AIR, Tissue.GAS, Tissue.METAL, Tissue.CORTEX)]
        mean[solid] = rng.uniform(0.05, 1.2, len(solid))
    elif kind == "fat-suppressed":
        mean[[Tissue.SUBCUTANEOUS_FAT, Tissue.VISCERAL_FAT, Tissue.FAT]] *= rng.uniform(0.1, 0.4)
        mean[[Tissue.MARROW, Tissue.ARCH_MARROW]] *= rng.uniform(0.4, 0.9)
    mean *= np.exp(0.22 * rng.standard_normal(len(mean), dtype=np.float32))
    # Bone is bone: the marrow of body and arch differ little in any weighting.
    mean[Tissue.ARCH_MARROW] = mean[Tissue.MARROW] * rng.normal(1, 0.12)
    # The abdomen of a wide field of view is mostly fat.
    fat[Tissue.ABDOMEN, 0] = rng.uniform(0.2, 0.95)
    return Contrast(mean, fat)
