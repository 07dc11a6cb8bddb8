"""One scan of one's own: read, segment, measure, doubt and write, the same for the command line and for notebook 07."""

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sshsnet_core.data.cohorts.phantom import phantom_case
from sshsnet_core.data.preprocessing import Restoration
from sshsnet_core.data.volumes import Geometry, VolumeError, is_volume, read_image, stem, write_image, write_labels
from sshsnet_core.evaluation.results import provenance, write_bytes, write_text
from sshsnet_core.evaluation.structures import Measures, doubts, measure
from sshsnet_core.methods.rows import method_by_key
from sshsnet_core.pictures.lightbox import NO_LABELS, Lightbox, Look, Panel
from sshsnet_core.pictures.overlay import View
from sshsnet_core.settings import CohortSettings
from sshsnet_core.study import Study

NOT_FOR_CLINICAL_USE = "Not for clinical use: nobody has validated these networks on patients."

#: A spacing or a field of view this many times beyond what training has seen is unlike it.
UNLIKE = 1.25
#: A voxel this many times as long as another one has a slice direction.
_THICK = 1.5
#: Degrees by which a scan's axes may be turned from the patient's: about what augmentation and planning cover.
_TURNED = 20.0
_AXES = ("left to right", "head to foot", "front to back")
_KEPT = ("profile", "seed", "effort", "cohort", "versions", "commit")

DEFINITIONS = {
    "centroid_mm": "x to the right, y to the front, z to the head (RAS+), mm, in the scan's patient space: a NIfTI "
    "file's world coordinates; a MetaImage file's with the signs of x and y turned",
    "probability": "mean over the structure's voxels of the probability that the networks gave to its name",
    "parts": "pieces that touch nowhere",
    "parts_apart_mm": "how far along the column another part of comparable size lies from the largest; 0 without any",
    "height_mm": "of discs: volume by the area of its projection along its own normal, rims included",
}


@dataclass(frozen=True)
class SegmentedScan:
    """What ``segment_scan`` found and wrote: ``files`` are the label map, the picture and the JSON."""

    view: View
    structures: list[Measures]
    warnings: list[str]
    files: tuple[Path, Path, Path]

    @property
    def table(self) -> pd.DataFrame:
        """The measures, a line a structure from the sacrum upwards."""
        columns = ["name", "volume_ml", "height_mm", "probability", "parts", "centroid_mm"]
        table = pd.DataFrame([asdict(structure) for structure in self.structures], columns=columns)
        table["centroid_mm"] = [tuple(round(x) for x in place) for place in table["centroid_mm"]]
        return table.set_index("name").round({"volume_ml": 1, "height_mm": 1, "probability": 2})


def segment_scan(
    study: Study, path: Path, folder: Path, key: str = "sshsnet", folds: Sequence[int] = (0,)
) -> SegmentedScan:
    """Segment the scan in ``path`` with a row trained on these folds and write what was found into ``folder``.

    ``<stem>_labels.nii.gz`` on the scan's own grid, ``<stem>_overlay.jpg`` and ``<stem>_structures.json``: each appears
    whole or not at all, the JSON last. Says a line for every step.

    Raises ``VolumeError`` for an unreadable scan and ``TrainingError`` for a row that has not been trained; nothing is
    written then.
    """
    path, title = Path(path), method_by_key(key).title
    print(NOT_FOR_CLINICAL_USE)
    _say(path, "reading")
    image = read_image(path)
    segmenter = study.segmenter(key, folds)
    _say(path, "preprocessing")
    preprocessed = segmenter.preprocessing(image)
    stages = ", ".join(method_by_key(key).system.stages(study.job(key, folds[0])))
    _say(path, f"segmenting: {title}, fold {', '.join(map(str, folds))}, {stages}")
    segmented = segmenter.segment_preprocessed(preprocessed)
    _say(path, "measuring")
    structures = measure(segmented.labels, segmented.confidence, image.geometry)
    warnings = [*doubts(structures), *unlike_training(image.geometry, preprocessed.restoration, study)]

    folder.mkdir(parents=True, exist_ok=True)
    label_map, picture, report = (
        folder / f"{stem(path)}_{end}" for end in ("labels.nii.gz", "overlay.jpg", "structures.json")
    )
    files = (label_map, picture, report)
    view = View(image.array, image.geometry.spacing, {title: segmented.labels})
    write_labels(label_map, segmented.labels, image.geometry)
    panels = [Panel(NO_LABELS), Panel(title)]
    write_bytes(picture, Lightbox(view).frame(panels, Look(view.middle)).jpeg)
    write_text(report, _report(path, structures, warnings, _told(study, key, folds)))
    _say(path, f"wrote {', '.join(file.name for file in files)} to {folder.name}")
    return SegmentedScan(view, structures, warnings, files)


def unlike_training(geometry: Geometry, restoration: Restoration, study: Study) -> list[str]:
    """A sentence for each way in which a scan is unlike all that the study's networks have learnt from."""
    cases = [study.store.case(name) for name in study.store.labelled]
    spacings = np.array([case.geometry.spacing for case in cases])
    sizes = np.array([np.multiply(case.restoration.shape, case.restoration.spacing) for case in cases])
    size = np.multiply(restoration.shape, restoration.spacing)
    sentences = [
        *_turned(geometry),
        *_outside("Slices lie", geometry.spacing[0], spacings[:, 0], "apart"),
        *_outside("Pixels are", max(geometry.spacing[1:]), spacings[:, 1:], "wide"),
    ]
    for axis, name in enumerate(_AXES):
        sentences += _outside("The picture is", size[axis], sizes[:, axis], f"from {name}")
    return sentences


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


def _outside(what: str, value: float, seen: np.ndarray, how: str) -> list[str]:
    """One sentence where ``value`` (mm) is well below or above all that was seen in training."""
    low, high = seen.min(), seen.max()
    if low / UNLIKE <= value <= high * UNLIKE:
        return []
    span = f"{low:.3g} to {high:.3g}" if f"{low:.3g}" != f"{high:.3g}" else f"{low:.3g}"
    return [f"{what} {value:.3g} mm {how}; in training it was {span} mm."]


def _told(study: Study, key: str, folds: Sequence[int]) -> dict[str, Any]:
    """What made it, without dates: the same scan and networks give the same file."""
    trainings = {
        f"fold {fold}, {name}": stage.fingerprint
        for fold in folds
        for name, stage in method_by_key(key).system.stages(study.job(key, fold)).items()
    }
    told = provenance(
        study.settings,
        cohort=study.cohort.name,
        fingerprint=study.cohort.fingerprint(),
        seed=study.seed,
        effort=study.effort,
        device="",
        durations_s={},
    )
    row = {"method": method_by_key(key).title, "folds": list(folds), "trainings": trainings}
    return row | {name: told[name] for name in _KEPT}


def _report(path: Path, structures: Sequence[Measures], warnings: Sequence[str], told: Mapping[str, Any]) -> str:
    content = {
        "file": path.name,
        "use": NOT_FOR_CLINICAL_USE,
        "warnings": list(warnings),
        "structures": [{name: _rounded(value) for name, value in asdict(s).items()} for s in structures],
        "definitions": DEFINITIONS,
        "provenance": told,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_rounded(part) for part in value]
    return round(value, 3) if isinstance(value, float) else value


def choose_scan(uploads: Iterable[Mapping[str, Any]], scan: str, folder: Path, cohort: CohortSettings) -> Path:
    """What was uploaded (the value of a ``FileUpload``), else the path ``scan``, else a phantom that nobody has seen.

    An upload lands in ``folder``; a header and its data (.mhd and .raw) come together. Raises ``VolumeError`` where no
    upload is a volume.
    """
    received = [(folder / Path(upload["name"]).name, bytes(upload["content"])) for upload in uploads]
    volumes = [path for path, _ in received if is_volume(path)]
    if received and not volumes:
        names = ", ".join(path.name for path, _ in received)
        raise VolumeError(f"{names}: none is NIfTI (.nii, .nii.gz) or MetaImage (.mha, .mhd with its .raw).")
    if not received:
        return Path(scan).expanduser() if scan else write_stranger(folder, cohort)
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in received:
        write_bytes(path, content)
    return volumes[0]


def write_stranger(folder: Path, cohort: CohortSettings) -> Path:
    """A phantom of another seed than the cohort's, as a file: ``stranger.nii.gz``, without its mask."""
    case = phantom_case(cohort.seed + 1, 0, cohort)
    z, row, column = case.spacing_mm
    affine = np.array([[-z, 0, 0, 0], [0, 0, -column, 0], [0, -row, 0, 0], [0, 0, 0, 1]])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "stranger.nii.gz"
    write_image(path, case.image, Geometry(case.image.shape, affine))
    return path


def download_links(files: Iterable[Path]) -> str:
    """HTML with a link to save each file, whose content is in the link: it needs no server that can see the file."""
    links = [
        f'<a download="{escape(path.name)}" href="data:application/octet-stream;base64,'
        f'{b64encode(path.read_bytes()).decode()}">{escape(path.name)}</a>'
        for path in files
    ]
    return "<br>".join(links)


def _say(path: Path, what: str) -> None:
    print(f"{path.name}: {what}", flush=True)
