"""Cohorts and folds: what is on disk becomes cases, what does not fit together is refused by name."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshsnet_core.anatomy import COLUMN
from sshsnet_core.data.cohorts.base import Case, Cohort, CohortError
from sshsnet_core.data.cohorts.folder import read_folder
from sshsnet_core.data.cohorts.folds import Fold, make_folds, read_folds, write_folds
from sshsnet_core.data.cohorts.mrspineseg import read_mrspineseg
from sshsnet_core.data.contents import digest


def touch(path: Path, content: str = "x") -> Path:
    """Readers list files without opening them: any content does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.fixture
def mrspineseg(tmp_path: Path) -> Path:
    for number in (2, 10, 1):
        touch(tmp_path / f"train/MR/Case{number}.nii.gz")
        touch(tmp_path / f"train/Mask/mask_case{number}.nii.gz")
    for number in (12, 11):
        touch(tmp_path / f"test/MR/Case{number}.nii.gz")
    touch(tmp_path / "train/MR/readme.txt")
    touch(tmp_path / "train/MR/._Case1.nii.gz")
    return tmp_path


def test_mrspineseg_is_read_in_the_order_of_its_numbers(mrspineseg: Path) -> None:
    cohort = read_mrspineseg(mrspineseg)
    assert [case.name for case in cohort.labelled] == ["Case1", "Case2", "Case10"]
    assert [case.name for case in cohort.unlabelled] == ["Case11", "Case12"]
    assert cohort.labelled[2].labels == mrspineseg / "train/Mask/mask_case10.nii.gz"
    assert all(case.labels is None for case in cohort.unlabelled)
    assert read_mrspineseg(mrspineseg, name="phantoms").name == "phantoms"


def test_masks_of_test_images_are_attached_where_there_are_any(mrspineseg: Path) -> None:
    mask = touch(mrspineseg / "test/Mask/mask_case11.nii.gz")
    assert [case.labels for case in read_mrspineseg(mrspineseg).unlabelled] == [mask, None]


def test_the_test_folder_may_be_absent(mrspineseg: Path) -> None:
    shutil.rmtree(mrspineseg / "test")
    assert read_mrspineseg(mrspineseg).unlabelled == ()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda root: (root / "train/Mask/mask_case2.nii.gz").unlink(), r"train/MR/Case2\.nii\.gz has no mask"),
        (lambda root: (root / "train/MR/Case2.nii.gz").unlink(), r"mask_case2\.nii\.gz is a mask without"),
        (lambda root: touch(root / "test/Mask/mask_case9.nii.gz"), r"mask_case9\.nii\.gz is a mask without"),
        (lambda root: touch(root / "train/MR/Case2.nii"), r"Case2\.nii and .*two files for one case"),
        (lambda root: touch(root / "test/MR/Case2.nii.gz"), r"Two cases are called Case2"),
        (lambda root: touch(root / "train/MR/spine.nii.gz"), r"spine\.nii\.gz is not named"),
        (lambda root: touch(root / "train/MR/Case3.mha"), r"Case3\.mha is not named"),
        (lambda root: shutil.rmtree(root / "train/Mask"), r"train/Mask does not exist"),
        (lambda root: shutil.rmtree(root), r"train/MR does not exist"),
        (lambda root: [path.unlink() for path in (root / "train/MR").iterdir()], r"train/MR holds no volume"),
    ],
)
def test_a_broken_mrspineseg_is_refused_by_name(mrspineseg: Path, spoil: object, reason: str) -> None:
    spoil(mrspineseg)  # type: ignore[operator]
    with pytest.raises(CohortError, match=reason):
        read_mrspineseg(mrspineseg)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("case2", "case10", "sub-07_ses-1_T2w", "sub-07_ses-2_T2w"):
        touch(tmp_path / "images" / f"{name}.nii.gz")
        touch(tmp_path / "labels" / f"{name}.mha")
    return tmp_path


def test_a_folder_with_images_and_labels_is_labelled(folder: Path) -> None:
    cohort = read_folder(folder)
    assert [(case.name, case.subject) for case in cohort.labelled] == [
        ("case2", "case2"),
        ("case10", "case10"),
        ("sub-07_ses-1_T2w", "sub-07"),
        ("sub-07_ses-2_T2w", "sub-07"),
    ]
    assert cohort.labelled[0].labels == folder / "labels/case2.mha"
    assert cohort.unlabelled == ()


def test_the_pool_of_a_labelled_folder_knows_no_masks(folder: Path) -> None:
    cohort = read_folder(folder)
    pool = cohort.as_pool()
    assert [(case.name, case.image) for case in pool.unlabelled] == [(c.name, c.image) for c in cohort.labelled]
    assert pool.labelled == ()
    assert {case.labels for case in pool.cases} == {None}


@pytest.mark.parametrize("name", ["a_labels.nii.gz", "a-Mask.mha", "seg.nii", "mask_case1.nii.gz"])
def test_masks_among_scans_are_refused(tmp_path: Path, name: str) -> None:
    for scan in ("a.nii.gz", "unmasked_T2w.nii.gz", "labelled.nii"):
        touch(tmp_path / scan)
    assert len(read_folder(tmp_path).unlabelled) == 3
    touch(tmp_path / name)
    with pytest.raises(CohortError, match=f"{name} is a mask by its name"):
        read_folder(tmp_path)


def test_a_flat_folder_is_unlabelled(tmp_path: Path) -> None:
    touch(tmp_path / "b.mha")
    touch(tmp_path / "a.nii")
    touch(tmp_path / "notes.txt")
    cohort = read_folder(tmp_path)
    assert [(case.name, case.labels) for case in cohort.unlabelled] == [("a", None), ("b", None)]
    assert cohort.labelled == ()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda root: (root / "labels/case2.mha").unlink(), r"case2\.nii\.gz has no mask"),
        (lambda root: (root / "images/case2.nii.gz").unlink(), r"case2\.mha is a mask without"),
        (lambda root: touch(root / "images/case2.mhd"), r"Two cases are called case2"),
        (lambda root: touch(root / "images/Case2.mhd") and touch(root / "labels/Case2.nii"), r"Two cases are called"),
        (lambda root: touch(root / "labels/case2.nii"), r"two masks for one case"),
        (lambda root: shutil.rmtree(root / "labels"), r"labels holds no NIfTI"),
        (lambda root: shutil.rmtree(root / "images"), r"holds no NIfTI"),
        (lambda root: shutil.rmtree(root), r"is not a folder"),
    ],
)
def test_a_broken_folder_is_refused_by_name(folder: Path, spoil: object, reason: str) -> None:
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(CohortError, match=reason):
        read_folder(folder)


def test_a_cohort_checks_its_cases(tmp_path: Path) -> None:
    image = touch(tmp_path / "a.nii")
    with pytest.raises(CohortError, match="holds no volume"):
        Cohort("mine", ())
    with pytest.raises(CohortError, match="without a mask"):
        Cohort("mine", (Case("a", "a", image),))
    with pytest.raises(CohortError, match=r"b\.nii of case a does not exist"):
        Cohort("mine", (Case("a", "a", image, tmp_path / "b.nii"),))


def test_the_fingerprint_follows_names_roles_and_contents_but_not_the_place(tmp_path: Path) -> None:
    def cohort(folder: str, name: str = "a", content: str = "xx") -> Cohort:
        image = touch(tmp_path / folder / f"{name}.nii", content)
        return Cohort("mine", (), (Case(name, name, image),))

    fingerprint = cohort("one").fingerprint()
    assert cohort("elsewhere").fingerprint() == fingerprint
    case = cohort("one").unlabelled[0]
    labelled = Cohort("mine", (Case("a", "a", case.image, case.image),))
    others = [cohort("two", name="b"), cohort("three", content="xxx"), cohort("four", content="xy"), labelled]
    assert len({fingerprint, *(other.fingerprint() for other in others)}) == 5


def test_a_mask_mended_anywhere_and_an_image_beside_its_header_are_other_files(tmp_path: Path) -> None:
    mask = tmp_path / "mask.nii"
    long = bytearray(5 * 2**20)
    mask.write_bytes(long)
    before, sampled = digest(mask, whole=True), digest(mask)
    long[2**20 + 7] = 1
    mask.write_bytes(long)
    assert digest(mask, whole=True) != before
    # Of an image two samples are read, which no two scans share: they need not be whole to tell scans apart.
    assert digest(mask) == sampled
    header, voxels = tmp_path / "scan.mhd", tmp_path / "scan.raw"
    header.write_text("ObjectType = Image\nElementDataFile = scan.raw\n")
    voxels.write_bytes(b"one")
    first = digest(header)
    voxels.write_bytes(b"two")
    assert digest(header) != first


def test_phantoms_of_one_recipe_are_one_cohort_whatever_size_a_machine_makes_them(tmp_path: Path) -> None:
    def cohort(folder: str, recipe: str, content: str, name: str = "a") -> Cohort:
        image = touch(tmp_path / folder / f"{name}.nii", content)
        return Cohort("phantom", (), (Case(name, name, image),), recipe=recipe)

    here = cohort("here", "seed 1", "xx").fingerprint()
    assert cohort("there", "seed 1", "xxx").fingerprint() == here
    assert cohort("other", "seed 2", "xx").fingerprint() != here
    assert cohort("more", "seed 1", "xx", name="b").fingerprint() != here


@st.composite
def presence(draw: st.DrawFn) -> dict[str, frozenset[int]]:
    """Cases that each show the column from the sacrum up to some height."""
    heights = draw(st.lists(st.integers(1, len(COLUMN)), min_size=5, max_size=40))
    return {f"case{i}": frozenset(s.label for s in COLUMN[:height]) for i, height in enumerate(heights)}


@given(presence(), st.integers(2, 5), st.integers(0, 9))
def test_folds_cover_every_case_once_evenly_and_keep_every_level_in_training(
    structures: dict[str, frozenset[int]], n_folds: int, seed: int
) -> None:
    folds = make_folds(structures, n_folds, seed)
    assert len(folds) == n_folds
    held_out = [case for fold in folds for case in fold.validation]
    assert sorted(held_out) == sorted(structures)
    sizes = [len(fold.validation) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    for fold in folds:
        assert set(fold.training) == structures.keys() - set(fold.validation)
        trained = frozenset().union(*(structures[case] for case in fold.training))
        for structure in COLUMN:
            if sum(structure.label in present for present in structures.values()) > 1:
                assert structure.label in trained
    assert folds == make_folds(structures, n_folds, seed)


def test_the_rare_top_is_shared_out_evenly() -> None:
    """MRSpineSeg's make-up: 8 of 172 show T9."""
    structures = {f"case{i}": frozenset(s.label for s in COLUMN[: 19 if i < 8 else 15]) for i in range(172)}
    reach = [
        sum(19 in structures[c] or 10 in structures[c] for c in f.validation) for f in make_folds(structures, 5, 0)
    ]
    assert sorted(reach) == [1, 1, 2, 2, 2]


def test_a_subject_is_never_on_both_sides() -> None:
    structures = {f"scan{i}": frozenset({1, 2}) for i in range(12)}
    subjects = {f"scan{i}": f"person{i // 2}" for i in range(12)}
    for fold in make_folds(structures, 3, 0, subjects):
        assert not {subjects[c] for c in fold.training} & {subjects[c] for c in fold.validation}
    with pytest.raises(CohortError, match="there are 6"):
        make_folds(structures, 7, 0, subjects)


def test_another_seed_draws_other_folds() -> None:
    structures = {f"case{i}": frozenset({1}) for i in range(30)}
    assert make_folds(structures, 5, 1) != make_folds(structures, 5, 2)


def test_folds_are_written_and_read(tmp_path: Path) -> None:
    folds = make_folds({f"case{i}": frozenset({1}) for i in range(6)}, 3, 0)
    path = tmp_path / "runs" / "folds.json"
    write_folds(path, folds)
    assert read_folds(path, {f"case{i}" for i in range(6)}, len(folds)) == folds
    with pytest.raises(CohortError, match=f"{len(folds)} folds and the profile asks for 9"):
        read_folds(path, {f"case{i}" for i in range(6)}, 9)
    assert list(path.parent.iterdir()) == [path]


def test_fewer_labels_are_a_part_of_more_and_the_others_are_all_the_rest() -> None:
    fold = Fold(tuple(f"Case{n}" for n in range(1, 11)), ("Case11",))
    assert fold.partition(1) == (fold.training, ())
    eighth, fourth = (fold.partition(one_in)[0] for one_in in (8, 4))
    assert (eighth, fourth) == (("Case1", "Case9"), ("Case1", "Case5", "Case9"))
    for one_in in (4, 8, 16):
        labelled, others = fold.partition(one_in)
        assert sorted(labelled + others) == sorted(fold.training)


def test_folds_of_another_cohort_or_a_damaged_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "folds.json"
    write_folds(path, [Fold(("a",), ("b",)), Fold(("b",), ("a",))])
    for cases in ({"a", "b", "c"}, {"a"}):
        with pytest.raises(CohortError, match="another cohort"):
            read_folds(path, cases, 2)
    leaking = [Fold(("a", "b"), ("b",)), Fold(("b",), ("a",))]
    write_folds(path, leaking)
    with pytest.raises(CohortError, match="both"):
        read_folds(path, {"a", "b"}, 2)
    for content in ('[{"training": ["a"]', '[{"training": ["a"]}]', "3"):
        path.write_text(content)
        with pytest.raises(CohortError, match="does not hold folds"):
            read_folds(path, {"a", "b"}, 2)
