"""Volumes of which a part is annotated, as folders of a few voxels."""

from pathlib import Path

import numpy as np
import pytest

from sshsnet_core.data.cohorts.annotated import CHOSEN_ON, KINDS, read_annotated, without_masks
from sshsnet_core.data.cohorts.base import CohortError
from sshsnet_core.data.volumes import Geometry, write_image


def put(root: Path, *names: str) -> Path:
    for name in names:
        array = np.arange(27.0).reshape(3, 3, 3)
        write_image(root / f"{name}.nii.gz", array, Geometry(array.shape, np.eye(4)))
    return root


def test_labelled_cases_are_scored_and_images_alone_are_the_pool(tmp_path: Path) -> None:
    put(tmp_path / "vertebrae_labelled", "case02_T2w", "case02_mask", "case09_T2w", "case09_mask")
    put(tmp_path / "vertebrae_images_only", "case04_T2w")
    put(tmp_path / "discs_images_only", "case04_T2w")
    vertebrae, discs = read_annotated(tmp_path)
    assert [case.name for case in vertebrae.labelled] == ["vertebrae-case02", "vertebrae-case09"]
    assert vertebrae.labelled[0].labels == tmp_path / "vertebrae_labelled" / "case02_mask.nii.gz"
    assert vertebrae.annotation.annotated == ("L5", "L4", "L3", "L2", "L1", "T12", "T11")
    assert (discs.name, discs.labelled) == ("discs", ())
    # Two sources may number their cases alike.
    assert [case.name for case in without_masks([vertebrae, discs]).cases] == ["vertebrae-case04", "discs-case04"]
    assert CHOSEN_ON[0] == vertebrae.labelled[0].name


def test_discs_are_those_below_l1() -> None:
    assert KINDS["discs"].annotated == ("L5/S", "L4/L5", "L3/L4", "L2/L3", "L1/L2")
    assert {annotation.arches for annotation in KINDS.values()} == {"absent"}


@pytest.mark.parametrize(
    ("folder", "names", "said"),
    [
        ("elsewhere", ["case02_T2w"], "holds none of the folders vertebrae_labelled or"),
        ("discs_labelled", [], "discs_labelled holds no volume whose name ends with _T2w"),
        ("discs_labelled", ["case02_T2w"], "case02_T2w.nii.gz has no mask: put case02_mask.nii.gz beside it"),
        ("discs_labelled", ["a_T2w", "a_mask", "b_mask"], "b_mask.nii.gz is a mask without its image"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, folder: str, names: list[str], said: str) -> None:
    (tmp_path / folder).mkdir()
    put(tmp_path / folder, *names)
    with pytest.raises(CohortError, match=said):
        read_annotated(tmp_path)


def test_without_unlabelled_volumes_there_is_no_pool(tmp_path: Path) -> None:
    put(tmp_path / "discs_labelled", "case20_T2w", "case20_mask")
    with pytest.raises(CohortError, match="CPS needs scans without labels"):
        without_masks(read_annotated(tmp_path))
