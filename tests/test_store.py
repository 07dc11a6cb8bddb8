"""The store: whole cases or none, kept between runs, and never anything that other settings made."""

import itertools
import json
import pickle
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sshsnet_core.annotation import Annotation
from sshsnet_core.data import store as store_module
from sshsnet_core.data.cohorts.base import Case, Cohort, CohortError
from sshsnet_core.data.preprocessing import Preprocessing
from sshsnet_core.data.store import VOXELS_PER_CLASS, Store, build_store
from sshsnet_core.data.volumes import Geometry, VolumeError, read_image, read_labels, write_image, write_labels

SAGITTAL = np.array([[-4.4, 0, 0, 30], [0, 0, -0.7, 50], [0, -0.7, 0, 90], [0, 0, 0, 1.0]])
GEOMETRY = Geometry((5, 40, 32), SAGITTAL)
PREPROCESSING = Preprocessing((4.4, 0.5, 0.5))


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Four labelled cases, the last one without the disc, and an unlabelled one."""
    rng = np.random.default_rng(0)
    cases = []
    for number in range(1, 6):
        image = rng.uniform(10, 2000, GEOMETRY.internal_shape).astype(np.float32)
        image[:, :3] = 0
        labels = np.zeros(image.shape, np.uint8)
        labels[1:4, 20:30, 5:25] = 2
        if number != 4:
            labels[1:4, 18:20, 5:9] = 12
        write_image(tmp_path / f"raw/Case{number}.nii.gz", image, GEOMETRY)
        write_labels(tmp_path / f"raw/mask{number}.nii.gz", labels, GEOMETRY)
        mask = tmp_path / f"raw/mask{number}.nii.gz" if number < 5 else None
        cases.append(Case(f"Case{number}", f"Person{number}", tmp_path / f"raw/Case{number}.nii.gz", mask))
    return Cohort("mine", tuple(cases[:4]), tuple(cases[4:]))


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """Every file's bytes and time of change."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_stored_case_is_what_preprocessing_made(cohort: Cohort, tmp_path: Path) -> None:
    store = build_store(cohort, PREPROCESSING, tmp_path / "store")
    assert store.labelled == ("Case1", "Case2", "Case3", "Case4")
    assert store.unlabelled == ("Case5",)
    assert store.names == (*store.labelled, *store.unlabelled)
    for case in cohort.cases:
        image = read_image(case.image)
        expected = PREPROCESSING(image, read_labels(case.labels, image.geometry) if case.labels else None)
        stored = store.case(case.name)
        np.testing.assert_array_equal(stored.image, expected.image)
        assert stored.restoration == expected.restoration
        assert stored.geometry.matches(image.geometry)
        assert stored.geometry.shape == image.geometry.shape
        assert stored.subject == case.subject
        if expected.labels is None:
            assert stored.labels is None
        else:
            np.testing.assert_array_equal(stored.labels, expected.labels)
    assert store.case("Case1").structures == {2, 12}
    assert store.case("Case4").structures == {2}
    assert store.case("Case5").structures == frozenset()


def test_masks_with_arches_apart_keep_their_numbers(cohort: Cohort, tmp_path: Path) -> None:
    first = cohort.labelled[0]
    assert first.labels is not None
    labels = np.zeros(GEOMETRY.internal_shape, np.uint8)
    labels[1:4, 20:30, 5:25], labels[1:4, 20:30, 26:30] = 2, 28
    write_labels(first.labels, labels, GEOMETRY)
    with pytest.raises(VolumeError, match="0-19"):
        build_store(cohort, PREPROCESSING, tmp_path / "store")
    apart = replace(cohort, annotation=Annotation(arches="apart"))
    stored = build_store(apart, PREPROCESSING, tmp_path / "store").case("Case1")
    assert stored.structures == {2, 28}
    assert stored.labels is not None
    assert set(np.unique(stored.labels)) == {0, 2, 28}
    assert (stored.labels[tuple(stored.voxels(28).T)] == 28).all()


def test_arrays_are_mapped_read_only_and_a_case_is_small_to_send(cohort: Cohort, tmp_path: Path) -> None:
    case = build_store(cohort, PREPROCESSING, tmp_path / "store").case("Case1")
    for array in (case.image, case.labels):
        assert isinstance(array, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0, 0] = 1
    assert len(pickle.dumps(case)) < 3000


def test_noted_voxels_are_of_their_class_distinct_and_few(cohort: Cohort, tmp_path: Path) -> None:
    case = build_store(cohort, PREPROCESSING, tmp_path / "store").case("Case1")
    assert case.labels is not None
    for label in case.structures:
        voxels = case.voxels(label)
        assert (case.labels[tuple(voxels.T)] == label).all()
        assert len(voxels) == len(np.unique(voxels, axis=0)) == min(VOXELS_PER_CLASS, (case.labels == label).sum())
        assert len(np.unique(voxels[:, 0])) == 3, "drawn from all over the structure"
    assert case.voxels(7).shape == (0, 3)


def test_a_bad_case_is_named_and_a_later_run_goes_on_where_it_stopped(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = cohort.labelled[2].image
    whole = bad.read_bytes()
    # Of the same size, so that mending it leaves the cohort's fingerprint.
    bad.write_bytes(whole[:200] + bytes(len(whole) - 200))
    with pytest.raises(VolumeError, match=r"Case3\.nii\.gz"):
        build_store(cohort, PREPROCESSING, tmp_path / "store")
    kept = contents(tmp_path / "store")
    (folder,) = (tmp_path / "store").iterdir()
    assert {path.name for path in folder.iterdir()} == {"Case1", "Case2"}
    with pytest.raises(CohortError, match="not a finished store"):
        Store(folder)
    bad.write_bytes(whole)
    read: list[str] = []
    monkeypatch.setattr(store_module, "read_image", lambda path: read.append(path.name) or read_image(path))
    store = build_store(cohort, PREPROCESSING, tmp_path / "store")
    assert read == ["Case3.nii.gz", "Case4.nii.gz", "Case5.nii.gz"]
    assert len(store.names) == 5
    assert kept.items() <= contents(tmp_path / "store").items(), "what was there is untouched"
    assert build_store(cohort, PREPROCESSING, tmp_path / "store").folder == store.folder
    assert len(read) == 3, "a finished store is not built again"


def save(array: np.ndarray, path: Path, affine: np.ndarray = SAGITTAL) -> None:
    nib.save(nib.Nifti1Image(array, affine), path)


SHAPE = GEOMETRY.shape
HARDLY_VARIES = np.ones(SHAPE, np.uint8)
HARDLY_VARIES[1, 1, 1] = 2
SPOILERS = {
    "image unreadable": lambda image, mask: image.write_bytes(b"no volume"),
    "image truncated": lambda image, mask: image.write_bytes(image.read_bytes()[:-5000]),
    "image empty": lambda image, mask: image.write_bytes(b""),
    "image 2D": lambda image, mask: save(np.ones(SHAPE[1:], np.uint8), image),
    "image 4D": lambda image, mask: save(np.ones((*SHAPE, 2), np.uint8), image),
    "image RGB": lambda image, mask: save(np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]), image),
    "image NaN": lambda image, mask: save(np.full(SHAPE, np.nan, np.float32), image),
    "image constant": lambda image, mask: save(np.ones(SHAPE, np.uint8), image),
    "image hardly varies": lambda image, mask: save(HARDLY_VARIES, image),
    "mask elsewhere": lambda image, mask: save(np.ones(SHAPE, np.uint8), mask, SAGITTAL + np.eye(4)[:, [3, 1, 2, 0]]),
    "mask of other shape": lambda image, mask: save(np.ones((5, 40, 33), np.uint8), mask),
    "mask labels": lambda image, mask: save(np.full(SHAPE, 20, np.uint8), mask),
    "mask fractions": lambda image, mask: save(np.full(SHAPE, 0.5, np.float32), mask),
    "mask empty of structures": lambda image, mask: save(np.zeros(SHAPE, np.uint8), mask),
    "mask truncated": lambda image, mask: mask.write_bytes(mask.read_bytes()[:-40]),
}


@pytest.mark.parametrize("kind", SPOILERS)
def test_bad_input_names_its_file_and_touches_nothing_that_is_written(
    cohort: Cohort, tmp_path: Path, kind: str
) -> None:
    third = cohort.labelled[2]
    assert third.labels is not None
    folder = tmp_path / "store" / f"mine-{cohort.fingerprint()}-{PREPROCESSING.key()}"
    finished = contents(build_store(cohort, PREPROCESSING, tmp_path / "store").folder)
    SPOILERS[kind](third.image, third.labels)
    with pytest.raises(VolumeError) as refused:
        build_store(replace(cohort), PREPROCESSING, tmp_path / "store")  # read anew: a cohort reads its files once
    assert str(third.labels if kind.startswith("mask") else third.image) in str(refused.value)
    assert contents(folder) == finished
    partial = [path for path in (tmp_path / "store").iterdir() if path != folder]
    assert [sorted(p.name for p in path.iterdir()) for path in partial] == [["Case1", "Case2"]]


def test_other_settings_and_another_cohort_get_a_store_of_their_own(cohort: Cohort, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    stores = [
        build_store(cohort, PREPROCESSING, folder),
        build_store(cohort, Preprocessing((4.4, 0.7, 0.7)), folder),
        build_store(Cohort("mine", cohort.labelled[:3], cohort.unlabelled), PREPROCESSING, folder),
    ]
    for one, other in itertools.combinations(stores, 2):
        assert one.folder != other.folder
    assert stores[1].case("Case1").image.shape != stores[0].case("Case1").image.shape


def test_a_case_stored_by_another_process_meanwhile_is_kept(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Cohort("mine", cohort.labelled[:1])
    other = build_store(alone, PREPROCESSING, tmp_path / "other")
    target = tmp_path / "store" / other.folder.name / "Case1"

    def meanwhile(path: Path) -> object:
        (other.folder / "Case1").rename(target)
        return read_image(path)

    monkeypatch.setattr(store_module, "read_image", meanwhile)
    store = build_store(alone, PREPROCESSING, tmp_path / "store")
    assert {path.name for path in store.folder.iterdir()} == {"Case1", "store.json"}
    assert store.case("Case1").structures == {2, 12}


def test_unknown_names_are_refused_and_the_description_is_readable(cohort: Cohort, tmp_path: Path) -> None:
    store = build_store(cohort, PREPROCESSING, tmp_path / "store")
    with pytest.raises(CohortError, match="No case is called 'Case9'"):
        store.case("Case9")
    description = json.loads((store.folder / "store.json").read_text())
    assert description["preprocessing"] == {"spacing_mm": [4.4, 0.5, 0.5]}
    assert Store(store.folder).names == store.names
