"""What tells moved data from replaced data."""

from pathlib import Path

import pytest

from sshsnet_core.data.contents import digest, listing


def test_a_file_is_what_it_holds(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    before = digest(first)
    assert before == digest(second)
    first.write_bytes(b"others!")
    assert digest(first) != before


@pytest.mark.parametrize("change", ["nothing", "another name", "another size", "one more"])
def test_a_folder_is_its_files_names_and_sizes(change: str, tmp_path: Path) -> None:
    for name in ("here", "moved"):
        (tmp_path / name / "train").mkdir(parents=True)
        (tmp_path / name / "train" / "Case1.nii.gz").write_bytes(b"1234")
    moved = tmp_path / "moved" / "train"
    if change == "another name":
        (moved / "Case1.nii.gz").rename(moved / "Case2.nii.gz")
    elif change == "another size":
        (moved / "Case1.nii.gz").write_bytes(b"12345")
    elif change == "one more":
        (moved / "Case2.nii.gz").write_bytes(b"1234")
    assert (listing(tmp_path / "here") == listing(tmp_path / "moved")) == (change == "nothing")
    # A folder that is not there holds nothing: whoever reads it says so.
    assert listing(tmp_path / "nowhere") != listing(tmp_path / "here")
