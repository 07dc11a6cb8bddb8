"""The phantom cohort: spines with MRSpineSeg's make-up (section 4.1), written in the challenge's layout of files."""

import json
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from sshsnet_core.anatomy import COLUMN
from sshsnet_core.data.cohorts.base import CohortError
from sshsnet_core.data.cohorts.phantom_anatomy import build_anatomy
from sshsnet_core.data.cohorts.phantom_appearance import render
from sshsnet_core.data.cohorts.phantom_randomised import randomised_case
from sshsnet_core.data.cohorts.phantom_spine import Variant, draw_spine
from sshsnet_core.data.volumes import Geometry, write_image, write_labels
from sshsnet_core.progress import Progress
from sshsnet_core.settings import CohortSettings

# MRSpineSeg: in how many of its 172 labelled cases each structure is the topmost one in view, which gives its table of
# occurrences (T12 171, T11/T12 167, T11 162, T10/T11 64, T10 44, T9/T10 13, T9 8); and its geometries.
_TOPMOST = {"T12/L1": 1, "T12": 4, "T11/T12": 5, "T11": 98, "T10/T11": 20, "T10": 31, "T9/T10": 5, "T9": 8}
_VARIANTS: dict[Variant, int] = {"usual": 152, "lumbarised": 10, "sacralised": 10}
_N_SLICES = {12: 137, 15: 35}
_SLICE_MM = {4.4: 167, 4.5: 3, 4.95: 1, 5.5: 1}
_MATRIX = {
    (880, 0.3448): 156,
    (880, 0.3636): 1,
    (880, 0.3290): 1,
    (512, 0.5880): 4,
    (640, 0.4688): 3,
    (768, 0.3906): 3,
    (1024, 0.2960): 4,
}
#: Share of the columns that holds the image; the rest is zero (448 of 880 in most of MRSpineSeg).
_CONTENT = (0.49, 0.53)
_PEAK = (2140, 3930)
#: Raised whenever the same settings make other phantoms.
_FORMAT = 1


@dataclass(frozen=True)
class MakeUp:
    """What is fixed about one case before its anatomy is drawn."""

    topmost: str
    variant: Variant
    n_slices: int
    #: Rows and columns, and their spacing in mm, at the cohort's scale.
    n_pixels: int
    pixel_mm: float
    slice_mm: float


@dataclass(frozen=True)
class PhantomCase:
    """Image uint16 and labels uint8, (Z, H, W) with slices right to left, rows down, columns to posterior."""

    image: np.ndarray
    labels: np.ndarray
    #: (z, row, column).
    spacing_mm: tuple[float, float, float]
    #: None where it is randomised.
    make_up: MakeUp | None = None


def cohort_make_up(seed: int, settings: CohortSettings) -> tuple[MakeUp, ...]:
    """The make-up of every case, labelled ones first: exact quotas, each dealt out in an order drawn by ``seed``.

    ``settings.rare_share`` raises the share of cases that show T9 and keeps the others in proportion; either part of a
    cohort shows T9 at least once.
    """
    make_ups: list[MakeUp] = []
    for part, n in enumerate((settings.labelled, settings.unlabelled)):
        rng = np.random.default_rng([seed, part, 1])
        usual = _TOPMOST["T9"] / sum(_TOPMOST.values())
        n_rare = max(1, round(n * max(settings.rare_share, usual)))
        others = {name: count for name, count in _TOPMOST.items() if name != "T9"}
        quotas = [["T9"] * n_rare + _quotas(others, n - n_rare)]
        quotas += [_quotas(counts, n) for counts in (_VARIANTS, _N_SLICES, _SLICE_MM, _MATRIX)]
        dealt = [[values[i] for i in rng.permutation(n)] for values in quotas]
        for top, variant, n_slices, slice_mm, (pixels, pixel_mm) in zip(*dealt, strict=True):
            n_pixels = 2 * round(pixels * settings.scale / 2)
            make_ups.append(MakeUp(top, variant, n_slices, n_pixels, pixel_mm / settings.scale, slice_mm))
    return tuple(make_ups)


def _quotas(counts: Mapping[Any, int], n: int) -> list[Any]:
    """``n`` values in the proportions of ``counts``, by largest remainders; just ``counts`` where ``n`` is its sum."""
    exact = {value: n * count / sum(counts.values()) for value, count in counts.items()}
    quota = {value: int(share) for value, share in exact.items()}
    for value in sorted(exact, key=lambda v: quota[v] - exact[v])[: n - sum(quota.values())]:
        quota[value] += 1
    return [value for value, count in quota.items() for _ in range(count)]


def phantom_case(seed: int, index: int, settings: CohortSettings) -> PhantomCase:
    """Case ``index`` of the cohort of ``seed``, the labelled cases first: the same alone and in its cohort."""
    rng = np.random.default_rng([seed, index])
    if settings.randomised:
        picture, marked, spacing_mm = randomised_case(rng, settings.scale)
        bright = np.rint(picture * rng.integers(*_PEAK, endpoint=True)).astype(np.uint16)
        return PhantomCase(bright, marked, spacing_mm)
    make_up = cohort_make_up(seed, settings)[index]
    n, pixel_mm = make_up.n_pixels, make_up.pixel_mm
    content = round(rng.uniform(*_CONTENT) * n)
    start = round((0.5 + rng.uniform(-0.03, 0.03)) * (n - content))
    names = [structure.name for structure in COLUMN]
    spine = draw_spine(rng, names.index(make_up.topmost), make_up.variant, (n * pixel_mm, content * pixel_mm))
    anatomy = build_anatomy(rng, spine, (make_up.n_slices, n, content), make_up.slice_mm, pixel_mm)
    rendered = render(rng, anatomy, pixel_mm)
    rendered *= rng.integers(*_PEAK, endpoint=True) / rendered.max()

    image, labels = np.zeros((make_up.n_slices, n, n), np.uint16), np.zeros((make_up.n_slices, n, n), np.uint8)
    window = np.s_[:, :, start : start + content]
    image[window], labels[window] = np.maximum(np.rint(rendered), 1), anatomy.labels
    return PhantomCase(image, labels, (make_up.slice_mm, pixel_mm, pixel_mm), make_up)


def recipe(settings: CohortSettings) -> dict[str, Any]:
    """All that decides the phantoms of these settings, up to what a processor rounds."""
    relevant = {"labelled", "unlabelled", "scale", "rare_share", "seed"}
    relevant |= {"randomised"} if settings.randomised else set()
    return {"format": _FORMAT, **settings.model_dump(include=relevant)}


def write_phantom_cohort(root: Path, settings: CohortSettings, workers: int) -> None:
    """Write the cohort of ``settings`` in MRSpineSeg's layout; its test cases have masks too, for scoring only.

    Cases that are finished already are kept, so that a run that was cut short goes on where it ended. Raises
    ``CohortError`` where ``root`` holds anything but phantoms of the same settings.
    """
    _claim(root, settings)
    missing = [
        index
        for index in range(settings.labelled + settings.unlabelled)
        if not all(path.is_file() for path in _paths(root, index, settings))
    ]
    write = partial(_write_case, root, settings)
    with Progress(f"phantoms in {root.name}", len(missing), "case") as progress:
        if workers == 1:
            for index in missing:
                write(index)
                progress.advance()
            return
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for _ in pool.map(write, missing):
                progress.advance()


def _paths(root: Path, index: int, settings: CohortSettings) -> tuple[Path, Path]:
    """Image and mask of a case; the challenge counts cases from 1, the test cases after the labelled ones."""
    part = root / ("train" if index < settings.labelled else "test")
    return part / "MR" / f"Case{index + 1}.nii.gz", part / "Mask" / f"mask_case{index + 1}.nii.gz"


def _write_case(root: Path, settings: CohortSettings, index: int) -> None:
    case = phantom_case(settings.seed, index, settings)
    image_path, mask_path = _paths(root, index, settings)
    z, row, column = case.spacing_mm
    shape = np.array(case.image.shape[::-1])
    # Sagittal files store columns, rows, slices; the scanner's origin is the middle of the stack.
    affine = np.zeros((4, 4))
    affine[1, 0], affine[2, 1], affine[0, 2], affine[3, 3] = -column, -row, -z, 1
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    geometry = Geometry(tuple(shape.tolist()), affine)
    write_labels(mask_path, case.labels, geometry)
    write_image(image_path, case.image, geometry)


def _claim(root: Path, settings: CohortSettings) -> None:
    """Make ``root`` the folder of these settings, or check that it is; ``CohortError`` where it is another's."""
    record, wanted = root / "phantom.json", recipe(settings)
    if record.is_file():
        try:
            found = json.loads(record.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CohortError(f"{record} is not readable: remove {root} to make its phantoms anew.") from error
        if found != wanted:
            differ = ", ".join(
                f"{key} {found.get(key)} there, {value} here"
                for key, value in wanted.items()
                if found.get(key) != value
            )
            raise CohortError(
                f"{root} holds phantoms of other settings ({differ}): remove it or choose another folder."
            )
        return
    temporary = record.with_suffix(f".json.{os.getpid()}")
    if root.exists() and any(not path.name.startswith(record.name) for path in root.iterdir()):
        raise CohortError(
            f"{root} is not empty and holds no phantom.json: phantoms are written to a folder of their own."
        )
    root.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, record)
