"""A preprocessed cohort on disk: one folder a case, arrays that are mapped rather than read, keyed by what made them.

<cohort>-<fingerprint>-<preprocessing>/store.json              written last: its presence says that all is there
<cohort>-<fingerprint>-<preprocessing>/<case>/image.npy labels.npy voxels.npy case.json
"""

import json
import os
import shutil
import zlib
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sshsnet_core.anatomy import BACKGROUND
from sshsnet_core.data.cohorts.base import Case, Cohort, CohortError
from sshsnet_core.data.preprocessing import Preprocessed, Preprocessing, Restoration
from sshsnet_core.data.volumes import Geometry, Volume, VolumeError, read_image, read_labels
from sshsnet_core.progress import Progress

#: So many voxels of each class are noted down, for patches that have to hold a given class (phi, section 3.2).
VOXELS_PER_CLASS = 200


@dataclass(frozen=True, eq=False)
class StoredCase:
    """One preprocessed case. Its arrays are opened when asked for: it is small to keep and to send to a worker."""

    name: str
    subject: str
    folder: Path
    restoration: Restoration
    geometry: Geometry
    #: Classes present in the preprocessed labels, without background; empty where, and only where, there is no mask.
    structures: frozenset[int]

    @property
    def image(self) -> np.ndarray:
        """float32 (Z, H, W), z-scored; mapped, read-only."""
        return np.load(self.folder / "image.npy", mmap_mode="r")

    @property
    def labels(self) -> np.ndarray | None:
        """uint8 (Z, H, W), mapped, read-only; ``None`` where there is no mask."""
        return np.load(self.folder / "labels.npy", mmap_mode="r") if self.structures else None

    def voxels(self, label: int) -> np.ndarray:
        """Positions (n, 3) of at most 200 voxels of a class, drawn at random when stored: int, in (Z, H, W)."""
        return self._voxels[self._voxels[:, 0] == label, 1:]

    @cached_property
    def _voxels(self) -> np.ndarray:
        return np.load(self.folder / "voxels.npy")


class Store:
    """A finished store. ``CohortError`` where ``folder`` holds none."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        try:
            description = json.loads((self.folder / "store.json").read_text(encoding="utf-8"))
        except OSError as error:
            raise CohortError(f"{folder} is not a finished store: preprocess the cohort first.") from error
        self.labelled = tuple[str, ...](description["labelled"])
        self.unlabelled = tuple[str, ...](description["unlabelled"])

    @property
    def names(self) -> tuple[str, ...]:
        """All cases, labelled first."""
        return self.labelled + self.unlabelled

    def case(self, name: str) -> StoredCase:
        """``CohortError`` for a name that is not in the store."""
        if name not in self.names:
            raise CohortError(f"No case is called {name!r} in {self.folder}.")
        folder = self.folder / name
        values = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        return StoredCase(
            name=name,
            subject=values["subject"],
            folder=folder,
            restoration=Restoration.from_dict(values["restoration"]),
            geometry=Geometry(tuple(values["geometry"]["shape"]), np.array(values["geometry"]["affine"])),
            structures=frozenset(values["structures"]),
        )


def build_store(cohort: Cohort, preprocessing: Preprocessing, folder: Path) -> Store:
    """Preprocess whatever of the cohort is not in ``folder`` yet.

    A case is there whole or not at all, so an interrupted run goes on where it stopped. Another cohort and other
    settings have another key and so another folder: nothing is reused by mistake, nothing overwritten.

    Raises ``VolumeError`` naming the first file that cannot be used; the cases before it stay.
    """
    target = Path(folder) / f"{cohort.name}-{cohort.fingerprint()}-{preprocessing.key()}"
    if (target / "store.json").is_file():
        return Store(target)
    target.mkdir(parents=True, exist_ok=True)
    missing = [case for case in cohort.cases if not (target / case.name).is_dir()]
    ready = len(cohort.cases) - len(missing)
    with Progress(f"preprocessing {cohort.name}", len(cohort.cases), "case", done=ready) as progress:
        for case in missing:
            _store_case(case, cohort.annotation.n_labels, preprocessing, target / case.name)
            progress.advance(case.name)
    description = {
        "cohort": cohort.name,
        "preprocessing": asdict(preprocessing),
        "labelled": [case.name for case in cohort.labelled],
        "unlabelled": [case.name for case in cohort.unlabelled],
    }
    temporary = target / f".store.{os.getpid()}.json"
    _write_json(temporary, description)
    os.replace(temporary, target / "store.json")
    return Store(target)


def _store_case(case: Case, classes: int, preprocessing: Preprocessing, folder: Path) -> None:
    image = read_image(case.image)
    labels = read_labels(case.labels, image.geometry, classes) if case.labels else None
    preprocessed = preprocessing(image, labels)
    temporary = folder.with_name(f".{case.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        _write_case(case, image, preprocessed, temporary)
        try:
            os.rename(temporary, folder)
        except OSError:
            # Another process has stored the same case meanwhile: theirs is as good.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_case(case: Case, image: Volume, preprocessed: Preprocessed, folder: Path) -> None:
    np.save(folder / "image.npy", preprocessed.image)
    structures: list[int] = []
    if preprocessed.labels is not None:
        np.save(folder / "labels.npy", preprocessed.labels)
        voxels = _sample_voxels(preprocessed.labels, seed=zlib.crc32(case.name.encode()))
        np.save(folder / "voxels.npy", voxels)
        structures = np.unique(voxels[:, 0]).tolist()
        if not structures:
            raise VolumeError(
                f"{case.labels} marks no structure inside its image: mend the mask or leave the case out."
            )
    values: dict[str, Any] = {
        "subject": case.subject,
        "restoration": preprocessed.restoration.to_dict(),
        "geometry": {"shape": image.geometry.shape, "affine": image.geometry.affine.tolist()},
        "structures": structures,
    }
    _write_json(folder / "case.json", values)


def _sample_voxels(labels: np.ndarray, seed: int) -> np.ndarray:
    """Rows (label, z, row, column) of at most ``VOXELS_PER_CLASS`` voxels of each class present: (n, 4) int32."""
    rng = np.random.default_rng(seed)
    marked = np.flatnonzero(labels != BACKGROUND)
    values = labels.reshape(-1)[marked]
    rows = [np.empty((0, 4), np.int32)]
    for label in np.unique(values):
        of_class = marked[values == label]
        drawn = rng.choice(of_class, min(len(of_class), VOXELS_PER_CLASS), replace=False)
        positions = np.stack(np.unravel_index(drawn, labels.shape), axis=1)
        rows.append(np.insert(positions, 0, label, axis=1).astype(np.int32))
    return np.concatenate(rows)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")
