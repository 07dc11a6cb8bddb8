"""Real volumes of which somebody has annotated a part: bodies alone, or discs alone; and others of the same without.

<kind>_labelled/X_T2w.nii.gz and X_mask.nii.gz, <kind>_images_only/X_T2w.nii.gz, of the kinds in ``KINDS``.
"""

from collections.abc import Sequence
from pathlib import Path

from sshsnet_core.anatomy import DISCS, VERTEBRAE
from sshsnet_core.annotation import Annotation
from sshsnet_core.data.cohorts.base import Case, Cohort, CohortError
from sshsnet_core.data.volumes import is_volume, stem

#: Bodies of L5 ... T11 without posterior elements; discs L5/S ... L1/L2. Nothing else is annotated.
KINDS = {
    "vertebrae": Annotation(tuple(vertebra.name for vertebra in VERTEBRAE[1:8]), "absent"),
    "discs": Annotation(tuple(disc.name for disc in DISCS[:5]), "absent"),
}
#: The labelled cases that somebody has looked at while choosing settings; a table tells them from the rest.
CHOSEN_ON = ("vertebrae-case02", "vertebrae-case06")

_IMAGE, _MASK = "_T2w", "_mask"


def read_annotated(root: Path) -> list[Cohort]:
    """A cohort for each kind that ``root`` holds, with what its masks annotate; ``case02`` is ``vertebrae-case02``.

    Labelled cases are for scoring; the unlabelled ones are the volumes without masks. Raises ``CohortError`` where
    ``root`` has no such folder, a folder is empty, an image lacks its mask, or a mask its image.
    """
    root = Path(root)
    cohorts = []
    for kind, annotation in KINDS.items():
        labelled, images_only = root / f"{kind}_labelled", root / f"{kind}_images_only"
        cases = _cases(kind, labelled, with_masks=True) if labelled.is_dir() else ()
        others = _cases(kind, images_only, with_masks=False) if images_only.is_dir() else ()
        if cases or others:
            cohorts.append(Cohort(kind, cases, others, annotation))
    if not cohorts:
        wanted = ", ".join(f"{kind}_labelled or {kind}_images_only" for kind in KINDS)
        raise CohortError(f"{root} holds none of the folders {wanted}.")
    return cohorts


def without_masks(cohorts: Sequence[Cohort]) -> Cohort:
    """All cases that came without a mask, of every kind: the unlabelled pool. ``CohortError`` where there is none."""
    cases = tuple(case for cohort in cohorts for case in cohort.unlabelled)
    if not cases:
        folders = " or ".join(f"{kind}_images_only" for kind in KINDS)
        raise CohortError(f"CPS needs scans without labels: put some into {folders}.")
    return Cohort("images-only", (), cases)


def _cases(kind: str, folder: Path, with_masks: bool) -> tuple[Case, ...]:
    volumes = {stem(path): path for path in sorted(folder.iterdir()) if is_volume(path)}
    names = [name.removesuffix(_IMAGE) for name in volumes if name.endswith(_IMAGE)]
    if not names:
        raise CohortError(f"{folder} holds no volume whose name ends with {_IMAGE}, such as case02{_IMAGE}.nii.gz.")
    orphans = [name for name in volumes if name.endswith(_MASK) and name.removesuffix(_MASK) not in names]
    if orphans:
        raise CohortError(f"{volumes[orphans[0]]} is a mask without its image: add the {_IMAGE} volume or remove it.")
    if with_masks:
        lacking = [name for name in names if name + _MASK not in volumes]
        if lacking:
            image = volumes[lacking[0] + _IMAGE]
            raise CohortError(f"{image} has no mask: put {lacking[0]}{_MASK}.nii.gz beside it or move it out.")
    masks = {name: volumes[name + _MASK] if with_masks else None for name in names}
    return tuple(Case(f"{kind}-{name}", f"{kind}-{name}", volumes[name + _IMAGE], masks[name]) for name in names)
