"""What training has seen of spacings and fields of view, and how a scan is unlike it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sshsnet_core.data.preprocessing import Restoration
from sshsnet_core.data.store import StoredCase
from sshsnet_core.data.thin_slices import interleaves
from sshsnet_core.data.volumes import Geometry

Range = tuple[float, float]

#: A spacing or a field of view this many times beyond what training has seen is unlike it.
UNLIKE = 1.25
#: A voxel this many times as long as another one has a slice direction.
_THICK = 1.5
#: Degrees by which a scan's axes may be turned from the patient's: about what augmentation and planning cover.
_TURNED = 20.0
_AXES = ("left to right", "head to foot", "front to back")


@dataclass(frozen=True)
class Seen:
    """Lowest and highest along (z, rows, columns) of the training cases' files, in mm."""

    spacing_mm: tuple[Range, Range, Range]
    size_mm: tuple[Range, Range, Range]

    @classmethod
    def of(cls, cases: Sequence[StoredCase]) -> "Seen":
        """The ranges over these cases."""
        spacings = [case.geometry.spacing for case in cases]
        sizes = [_size(case.restoration) for case in cases]
        return cls(_ranges(spacings), _ranges(sizes))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Seen":
        """The inverse of ``dataclasses.asdict``, also after a turn through JSON, which knows no tuples."""
        return cls(_ranges(zip(*values["spacing_mm"], strict=True)), _ranges(zip(*values["size_mm"], strict=True)))

    def unlike(self, geometry: Geometry, restoration: Restoration, learnt_mm: float) -> list[str]:
        """A sentence for each way in which a scan is unlike all that training has seen.

        Slices thinner than ``learnt_mm`` are told from one another and segmented that far apart: they are like it.
        """
        slices, pixels = self.spacing_mm[0], (*self.spacing_mm[1], *self.spacing_mm[2])
        sentences = _turned(geometry)
        if interleaves(geometry.spacing[0], learnt_mm, geometry.internal_shape[0]) == 1:
            sentences += _outside("Slices lie", geometry.spacing[0], slices, "apart")
        sentences += _outside("Pixels are", max(geometry.spacing[1:]), pixels, "wide")
        for size, seen, name in zip(_size(restoration), self.size_mm, _AXES, strict=True):
            sentences += _outside("The picture is", size, seen, f"from {name}")
        return sentences


def _size(restoration: Restoration) -> tuple[float, float, float]:
    """Of what is left without the zero background, in mm."""
    z, rows, columns = np.multiply(restoration.shape, restoration.spacing)
    return float(z), float(rows), float(columns)


def _ranges(values: Any) -> tuple[Range, Range, Range]:
    """Lowest and highest of each of three columns."""
    z, rows, columns = ((float(min(column)), float(max(column))) for column in zip(*values, strict=True))
    return z, rows, columns


def _turned(geometry: Geometry) -> list[str]:
    """Slices that are not sagittal, by the direction of the longest side of a voxel; axes that are turned."""
    sides = np.array(geometry.spacing)
    # Slices go along x, rows along z, columns along y.
    directions = np.abs(geometry.internal_affine[[0, 2, 1], [0, 1, 2]]) / sides
    angle = float(np.degrees(np.arccos(directions.min().clip(0, 1))))
    sentences = []
    if sides.argmax() > 0 and sides.max() > _THICK * sides.min():
        kind = ("sagittal", "axial", "coronal")[sides.argmax()]
        sentences.append(f"The slices are {kind}; the networks have learnt from sagittal ones alone.")
    if angle > _TURNED:
        sentences.append(f"The scan's axes are turned by {angle:.0f} degrees from the patient's.")
    return sentences


def _outside(what: str, value: float, seen: Sequence[float], how: str) -> list[str]:
    """One sentence where ``value`` (mm) is well below or above all that was seen in training."""
    low, high = min(seen), max(seen)
    if low / UNLIKE <= value <= high * UNLIKE:
        return []
    span = f"{low:.3g} to {high:.3g}" if f"{low:.3g}" != f"{high:.3g}" else f"{low:.3g}"
    return [f"{what} {value:.3g} mm {how}; in training it was {span} mm."]
