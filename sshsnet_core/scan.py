"""One scan of one's own: read, segment, measure, doubt and write, the same for the command line and for notebook 07."""

import json
import os
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sshsnet_core.data.cohorts.phantom import phantom_case
from sshsnet_core.data.volumes import Geometry, VolumeError, is_volume, read_image, stem, write_image, write_labels
from sshsnet_core.evaluation.naming import Naming
from sshsnet_core.evaluation.results import write_bytes, write_text
from sshsnet_core.evaluation.structures import Measures, doubts, measure
from sshsnet_core.model import Model
from sshsnet_core.pictures.lightbox import NO_LABELS, Lightbox, Look, Panel
from sshsnet_core.pictures.overlay import View
from sshsnet_core.settings import CohortSettings

NOT_FOR_CLINICAL_USE = "Not for clinical use: nobody has validated these networks on patients."

DEFINITIONS = {
    "centroid_mm": "x to the right, y to the front, z to the head (RAS+), mm, in the scan's patient space: a NIfTI "
    "file's world coordinates; a MetaImage file's with the signs of x and y turned",
    "probability": "mean over the structure's voxels of the probability that the networks gave to its name",
    "parts": "pieces that touch nowhere",
    "parts_apart_mm": "how far along the column another part of comparable size lies from the largest; 0 without any",
    "height_mm": "of discs: volume by the area of its projection along its own normal, rims included",
}
#: Where levels are named from the whole column, a voxel says only what it is.
NAMED_DEFINITIONS = DEFINITIONS | {
    "probability": "mean over the structure's voxels of the probability that the networks gave to its kind",
    "naming": "probability: that the names are not all shifted by a level or two along the column, found among those "
    "chains alone; runner_up: the chain that comes next, and its probability",
}


@dataclass(frozen=True)
class SegmentedScan:
    """What ``segment_scan`` found and wrote: ``files`` are the label map, the picture and the JSON."""

    view: View
    structures: list[Measures]
    #: How levels were named from the whole column; None where names are the networks' own.
    naming: Naming | None
    warnings: list[str]
    files: tuple[Path, Path, Path]

    @property
    def table(self) -> pd.DataFrame:
        """The measures, a line a structure from the sacrum upwards."""
        columns = ["name", "volume_ml", "height_mm", "probability", "parts", "centroid_mm"]
        table = pd.DataFrame([asdict(structure) for structure in self.structures], columns=columns)
        table["centroid_mm"] = [tuple(round(x) for x in place) for place in table["centroid_mm"]]
        return table.set_index("name").round({"volume_ml": 1, "height_mm": 1, "probability": 2})

    @property
    def summary(self) -> str:
        """What was found, and how sure the names are, in a line or two."""
        found = f"Found: {', '.join(structure.name for structure in self.structures) or 'nothing'}."
        if self.naming is None or not self.naming.levels:
            return found
        found += f"\nNamed from the whole column: not shifted with probability {self.naming.confidence:.2f}"
        if self.naming.runner_up is None:
            return f"{found}."
        words, probability = self.naming.runner_up
        return f"{found}; next comes {words} ({probability:.2f})."


def segment_scan(
    model: Model, path: Path, folder: Path, naming: bool | None = None, bodies: bool = False
) -> SegmentedScan:
    """Segment the scan in ``path`` and write what was found into ``folder``.

    ``<stem>_labels.nii.gz`` on the scan's own grid, ``<stem>_overlay.jpg`` and ``<stem>_structures.json``: each appears
    whole or not at all, the JSON last. Says a line for every step. Levels are named from the whole column where
    ``naming``, a switch outside the paper's rows: None turns it on for weights files alone. ``bodies`` leaves posterior
    elements out.

    Raises ``VolumeError`` for an unreadable scan, for a folder that cannot be written to, and for a label map in the
    way that no earlier call has written; ``SettingsError`` where the networks do not know bodies apart. Nothing is
    written then.
    """
    path = Path(path)
    label_map, picture, report = (
        folder / f"{stem(path)}_{end}" for end in ("labels.nii.gz", "overlay.jpg", "structures.json")
    )
    # An interrupted call leaves no label map without its picture.
    if label_map.exists() and not picture.exists():
        raise VolumeError(f"{label_map} is somebody's own and would be overwritten: name another folder (-o).")
    # Segmenting takes minutes: whether its result can be kept is known before.
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise VolumeError(f"{folder} is no folder that can be written to: name another (-o).")
    print(NOT_FOR_CLINICAL_USE)
    _say(path, "reading")
    image = read_image(path)
    _say(path, "preprocessing")
    preprocessed = model.segmenter.prepare(image)
    _say(path, f"segmenting: {model.title}")
    naming = not model.row if naming is None else naming
    segmented, named = model.segment(preprocessed, naming, bodies)
    _say(path, "measuring")
    structures = measure(segmented.labels, segmented.confidence, image.geometry)
    learnt_mm = model.segmenter.preprocessing.spacing_mm[0]
    unlike = model.seen.unlike(image.geometry, preprocessed.restoration, learnt_mm)
    told = named.flags if named and structures else ()
    warnings = [*doubts(structures, named is not None), *told, *unlike]

    view = View(image.array, image.geometry.spacing, {model.title: segmented.labels})
    result = SegmentedScan(view, structures, named, warnings, (label_map, picture, report))
    jpeg = Lightbox(view).frame([Panel(NO_LABELS), Panel(model.title)], Look(view.middle)).jpeg
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(picture, jpeg)
    write_labels(label_map, segmented.labels, image.geometry)
    write_text(report, _report(path, result, {**model.told, "bodies_alone": bodies}))
    _say(path, f"wrote {', '.join(file.name for file in result.files)} to {folder.name}")
    return result


def _report(path: Path, result: SegmentedScan, told: Mapping[str, Any]) -> str:
    content = {
        "file": path.name,
        "use": NOT_FOR_CLINICAL_USE,
        "warnings": result.warnings,
        "naming": _naming(result.naming),
        "structures": [{name: _rounded(value) for name, value in asdict(s).items()} for s in result.structures],
        "definitions": DEFINITIONS if result.naming is None else NAMED_DEFINITIONS,
        "provenance": told,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _naming(naming: Naming | None) -> dict[str, Any] | None:
    if naming is None:
        return None
    runner_up = naming.runner_up and {"names": naming.runner_up[0], "probability": _rounded(naming.runner_up[1])}
    return {"probability": _rounded(naming.confidence), "runner_up": runner_up, "levels": list(naming.levels)}


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_rounded(part) for part in value]
    return round(value, 3) if isinstance(value, float) else value


def check_names(paths: Sequence[Path]) -> None:
    """Raises ``VolumeError`` where two scans' files would bear one name."""
    stems = [stem(path) for path in paths]
    twice = sorted({name for name in stems if stems.count(name) > 1})
    if twice:
        raise VolumeError(f"Several scans are called {', '.join(twice)}: give each of them a folder of its own (-o).")


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
    if not received and scan:
        return Path(scan).expanduser()
    if not received:
        print("No scan has arrived and none is named: a phantom stands in for one.")
        return write_stranger(folder, cohort)
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
