"""The MRSpineSeg challenge's folders (section 4.1), as handed out under its agreement. Phantom cohorts share them.

train/MR/Case{N}.nii.gz    train/Mask/mask_case{N}.nii.gz    test/MR/Case{N}.nii.gz
"""

import re
from pathlib import Path

from sshsnet_core.annotation import PAPER, Annotation
from sshsnet_core.data.cohorts.base import Case, Cohort, CohortError
from sshsnet_core.data.volumes import is_volume


def read_mrspineseg(root: Path, name: str = "MRSpineSeg", annotation: Annotation = PAPER) -> Cohort:
    """``train`` as labelled cases, ``test`` (where present) as unlabelled ones; ``name`` is what captions say.

    Where a ``test/Mask`` folder exists, as in phantom cohorts, its masks are attached for scoring.

    Raises ``CohortError`` for a missing or empty folder, a file named otherwise, an image of ``train`` without a
    mask, a mask without an image, or two cases with one name.
    """
    root = Path(root)
    labelled = _cases(root / "train", masked=True)
    unlabelled = _cases(root / "test", masked=False) if (root / "test").is_dir() else ()
    return Cohort(name, labelled, unlabelled, annotation)


def _cases(part: Path, masked: bool) -> tuple[Case, ...]:
    """The cases of ``train`` or ``test``; ``masked`` says that each of them needs a mask."""
    images = _numbered(part / "MR", r"case(\d+)")
    masks = _numbered(part / "Mask", r"mask_case(\d+)") if masked or (part / "Mask").is_dir() else {}
    for number in sorted(masks.keys() - images.keys()):
        raise CohortError(f"{masks[number]} is a mask without an image {part / 'MR' / f'Case{number}.nii.gz'}.")
    for number in sorted(images.keys() - masks.keys()) if masked else ():
        raise CohortError(f"{images[number]} has no mask {part / 'Mask' / f'mask_case{number}.nii.gz'}.")
    return tuple(Case(f"Case{n}", f"Case{n}", images[n], masks.get(n)) for n in sorted(images))


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """The volumes of a folder by their number."""
    if not folder.is_dir():
        raise CohortError(f"{folder} does not exist: a cohort's root has to hold train/MR, train/Mask and test/MR.")
    expected = pattern.replace(r"(\d+)", "{N}") + ".nii.gz"
    found: dict[int, Path] = {}
    for path in sorted(filter(is_volume, folder.iterdir())):
        match = re.fullmatch(pattern + r"\.nii(\.gz)?", path.name, re.IGNORECASE)
        if match is None:
            raise CohortError(f"{path} is not named as in MRSpineSeg, {expected}: rename it or move it away.")
        twin = found.setdefault(int(match[1]), path)
        if twin is not path:
            raise CohortError(f"{twin} and {path} are two files for one case: remove one of them.")
    if not found:
        raise CohortError(f"{folder} holds no volume {expected}.")
    return found
