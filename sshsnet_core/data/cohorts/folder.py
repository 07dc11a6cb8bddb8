"""A folder of one's own: ``images/`` and ``labels/`` with equal names, or a flat folder of volumes without masks."""

import re
from pathlib import Path

from sshsnet_core.annotation import PAPER, Annotation
from sshsnet_core.data.cohorts.base import Case, Cohort, CohortError
from sshsnet_core.data.volumes import is_volume, stem

#: How label maps are called by this package, by the challenge and by most others.
_MASK = re.compile(r"(^|[_-])(labels?|masks?|msk|seg|segmentation)$|^mask_")


def read_folder(root: Path, annotation: Annotation = PAPER) -> Cohort:
    """The NIfTI and MetaImage files below ``root`` as labelled cases, or as unlabelled ones where ``root`` is flat.

    Masks carry our class numbers (anatomy.py) and their image's name; ``annotation`` says what they mark. A name that
    begins with ``sub-X_``, as BIDS writes it, belongs to subject X, so that folds keep a subject's scans together.

    Raises ``CohortError`` for a missing or empty folder, a flat one with masks in it, an image without a mask, a mask
    without an image, or two cases with one name.
    """
    root = Path(root)
    if not root.is_dir():
        raise CohortError(f"{root} is not a folder.")
    if not (root / "images").is_dir():
        scans = _volumes(root)
        if mask := next((path for path in scans if _MASK.search(stem(path).lower())), None):
            raise CohortError(f"{mask} is a mask by its name, no scan: move it out of {root}.")
        return Cohort(root.resolve().name, (), tuple(_case(path) for path in scans))
    masks: dict[str, Path] = {}
    for path in _volumes(root / "labels"):
        twin = masks.setdefault(stem(path), path)
        if twin is not path:
            raise CohortError(f"{twin} and {path} are two masks for one case: remove one of them.")
    cases = [_case(path, masks) for path in _volumes(root / "images")]
    orphans = masks.keys() - {case.name for case in cases}
    if orphans:
        raise CohortError(f"{masks[min(orphans)]} is a mask without an image of that name in {root / 'images'}.")
    return Cohort(root.resolve().name, tuple(cases), annotation=annotation)


def _case(image: Path, masks: dict[str, Path] | None = None) -> Case:
    name = stem(image)
    if masks is not None and name not in masks:
        raise CohortError(f"{image} has no mask: put one of the same name into {image.parent.parent / 'labels'}.")
    subject = re.match(r"sub-[^_]+(?=_)", name)
    return Case(name, subject[0] if subject else name, image, masks[name] if masks else None)


def _volumes(folder: Path) -> list[Path]:
    """In the order in which people count: case2 before case10."""
    found = [path for path in folder.iterdir() if is_volume(path)] if folder.is_dir() else []
    if not found:
        raise CohortError(f"{folder} holds no NIfTI or MetaImage volume (.nii, .nii.gz, .mha, .mhd).")
    return sorted(found, key=lambda path: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", path.name.lower())])
