"""The phantom cohort: MRSpineSeg's make-up by construction, anatomy in order, files that resume and refuse."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.ndimage import center_of_mass

from sshsnet_core.anatomy import ARCHES, COLUMN, DISCS, N_APART, VERTEBRAE, WHOLE, by_name
from sshsnet_core.data.cohorts import phantom
from sshsnet_core.data.cohorts.base import CohortError
from sshsnet_core.data.cohorts.phantom import PhantomCase, cohort_make_up, phantom_case, write_phantom_cohort
from sshsnet_core.data.cohorts.phantom_anatomy import SUB_SLICES, Anatomy, build_anatomy
from sshsnet_core.data.cohorts.phantom_appearance import render
from sshsnet_core.data.cohorts.phantom_noise import smooth_noise
from sshsnet_core.data.cohorts.phantom_spine import draw_spine
from sshsnet_core.data.cohorts.phantom_tissues import Tissue
from sshsnet_core.settings import CohortSettings

SMALL = CohortSettings(source="phantom", labelled=10, unlabelled=2, scale=0.25, rare_share=0.2)
FULL = CohortSettings(source="phantom")


@pytest.fixture(scope="module")
def cases() -> list[PhantomCase]:
    return [phantom_case(SMALL.seed, index, SMALL) for index in range(SMALL.labelled + SMALL.unlabelled)]


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    """A straight look at one T11 case, without the zero margins."""
    rng = np.random.default_rng(5)
    spine = draw_spine(rng, [s.name for s in COLUMN].index("T11"), "usual", (303.4, 154.5))
    return build_anatomy(rng, spine, (12, 220, 112), 4.4, 1.379)


def in_view(topmost: str) -> set[int]:
    names = [structure.name for structure in COLUMN]
    return {structure.label for structure in COLUMN[: names.index(topmost) + 1]}


# --- the make-up of MRSpineSeg ---


def test_occurrence_of_every_class_is_mrspinesegs() -> None:
    seen = Counter(label for case in cohort_make_up(1, FULL)[:172] for label in in_view(case.topmost))
    expected = {"T12": 171, "T11": 162, "T10": 44, "T9": 8, "T11/T12": 167, "T10/T11": 64, "T9/T10": 13}
    for structure in COLUMN:
        assert seen[structure.label] == expected.get(structure.name, 172), structure.name


def test_geometry_and_variants_are_mrspinesegs() -> None:
    labelled = cohort_make_up(1, FULL)[:172]
    assert Counter(case.n_slices for case in labelled) == {12: 137, 15: 35}
    assert Counter(case.n_pixels for case in labelled)[880] == 158
    assert {case.n_pixels for case in labelled} <= set(range(512, 1025))
    assert Counter(case.pixel_mm for case in labelled)[0.3448] == 156
    assert all(0.296 <= case.pixel_mm <= 0.588 for case in labelled)
    assert Counter(case.slice_mm for case in labelled)[4.4] == 167
    assert {case.slice_mm for case in labelled} == {4.4, 4.5, 4.95, 5.5}
    variants = Counter(case.variant for case in labelled)
    assert variants["lumbarised"] == variants["sacralised"] == 10


@pytest.mark.parametrize("seed", [1, 2])
def test_the_seed_deals_the_same_quotas_to_other_cases(seed: int) -> None:
    first, other = cohort_make_up(seed, FULL), cohort_make_up(seed + 10, FULL)
    assert [c.topmost for c in first] != [c.topmost for c in other]
    assert Counter(c.topmost for c in first) == Counter(c.topmost for c in other)


@hypothesis_settings(max_examples=50, deadline=None)
@given(labelled=st.integers(1, 300), unlabelled=st.integers(1, 60), rare=st.floats(0, 1))
def test_rare_share_raises_t9_and_keeps_the_rest_in_proportion(labelled: int, unlabelled: int, rare: float) -> None:
    settings = CohortSettings(source="phantom", labelled=labelled, unlabelled=unlabelled, rare_share=rare)
    make_up = cohort_make_up(3, settings)
    assert len(make_up) == labelled + unlabelled
    for part in (make_up[:labelled], make_up[labelled:]):
        tops = Counter(case.topmost for case in part)
        assert tops["T9"] == max(1, round(len(part) * max(rare, 8 / 172)))
        others = len(part) - tops["T9"]
        assert abs(tops["T11"] - others * 98 / 164) < 1
        assert abs(tops["T10"] - others * 31 / 164) < 1


# --- one case ---


def test_a_case_is_the_same_alone_and_again(cases: list[PhantomCase]) -> None:
    alone = phantom_case(SMALL.seed, 7, SMALL)
    assert alone.make_up == cases[7].make_up
    np.testing.assert_array_equal(alone.image, cases[7].image)
    np.testing.assert_array_equal(alone.labels, cases[7].labels)
    assert not np.array_equal(alone.image, cases[6].image)
    assert not np.array_equal(alone.image, phantom_case(SMALL.seed + 1, 7, SMALL).image)


def test_shape_spacing_and_types(cases: list[PhantomCase]) -> None:
    for case in cases:
        made = case.make_up
        assert case.image.shape == case.labels.shape == (made.n_slices, made.n_pixels, made.n_pixels)
        assert (case.image.dtype, case.labels.dtype) == (np.uint16, np.uint8)
        assert case.spacing_mm == (made.slice_mm, made.pixel_mm, made.pixel_mm)
        assert 295 < made.n_pixels * made.pixel_mm < 325
        assert 2140 <= case.image.max() <= 3930
    # Most have 880 pixels of 0.3448 mm at full scale.
    assert Counter((case.make_up.n_pixels, case.make_up.pixel_mm) for case in cases)[220, 4 * 0.3448] >= 9


def test_labels_are_what_the_make_up_says_is_in_view(cases: list[PhantomCase]) -> None:
    for case in cases:
        assert set(np.unique(case.labels)) - {0} == in_view(case.make_up.topmost), case.make_up
    assert {"T9", "T11"} <= {case.make_up.topmost for case in cases}


def test_margins_are_zero_and_about_half_of_the_columns_is_not(cases: list[PhantomCase]) -> None:
    for case in cases:
        filled = case.image.any((0, 1))
        assert not filled[[0, -1]].any()
        assert 0.45 < filled.mean() < 0.56
        inside = case.image[:, :, filled]
        assert (inside > 0).all()
        assert not case.labels[:, :, ~filled].any()


def test_every_structure_lies_above_the_one_before(cases: list[PhantomCase]) -> None:
    for case in cases:
        seen = [s.label for s in COLUMN if s.label in in_view(case.make_up.topmost)]
        # Bodies, not spinous processes that hang down: the foremost half of each vertebra.
        rows = [np.median(np.nonzero(_front(case.labels == label))[1]) for label in seen]
        assert all(upper < lower for lower, upper in pairwise(rows)), case.make_up


def test_discs_lie_between_their_vertebrae_and_touch_both(cases: list[PhantomCase]) -> None:
    for case in cases[:4]:
        for disc, lower, upper in zip(DISCS, VERTEBRAE, VERTEBRAE[1:], strict=False):
            if upper.label not in in_view(case.make_up.topmost):
                continue
            middle, below, above = (center_of_mass(_front(case.labels == s.label)) for s in (disc, lower, upper))
            assert above[1] < middle[1] < below[1]
            inside = case.labels == disc.label
            assert (np.roll(inside, 2, 1) & (case.labels == lower.label)).any()
            assert (np.roll(inside, -2, 1) & (case.labels == upper.label)).any()


def test_vertebrae_carry_their_posterior_elements(cases: list[PhantomCase]) -> None:
    case = cases[0]
    for name in ("L4", "L3", "L2"):
        columns = np.nonzero(case.labels == by_name(name).label)[2]
        # A body is about 35 mm deep; with its spinous process a vertebra reaches more than twice as far.
        assert np.ptp(columns) * case.spacing_mm[2] > 60


def test_the_sacrum_stays_in_view_below_t9(cases: list[PhantomCase]) -> None:
    for case in (c for c in cases if c.make_up.topmost == "T9"):
        rows = np.nonzero(case.labels == by_name("S").label)[1]
        assert np.ptp(rows) * case.spacing_mm[1] > 35


def test_lumbar_bodies_have_human_size(anatomy: Anatomy) -> None:
    pixel = 1.379
    for name in ("L4", "L3", "L2"):
        body = _front(anatomy.labels == by_name(name).label)
        rows = body.sum(1).max() * pixel
        assert 20 < rows < 38, name


def _front(mask: np.ndarray) -> np.ndarray:
    """The part of a structure in front of its 30th millimetre or so: bodies and discs without arches."""
    columns = np.nonzero(mask)[2]
    front = mask.copy()
    front[:, :, int(columns.min() + 0.45 * np.ptp(columns)) + 1 :] = False
    return front


# --- appearance ---


def test_tissues_have_the_order_of_a_t2_image(anatomy: Anatomy) -> None:
    image = render(np.random.default_rng(2), anatomy, 1.379)
    sheets = anatomy.tissues.reshape(12, SUB_SLICES, 220, 112)
    pure = {t: (sheets == t).all(1) for t in (Tissue.CSF, Tissue.MARROW, Tissue.VESSEL, Tissue.ANNULUS)}
    mean = {tissue: image[where].mean() for tissue, where in pure.items()}
    fat = image[(sheets == Tissue.SUBCUTANEOUS_FAT).all(1)].mean()
    assert mean[Tissue.CSF] > 1.5 * mean[Tissue.MARROW]
    assert mean[Tissue.MARROW] > 1.3 * mean[Tissue.ANNULUS]
    assert mean[Tissue.MARROW] > 2 * mean[Tissue.VESSEL]
    assert fat > 1.5 * mean[Tissue.MARROW]
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert image.min() >= 0


def test_another_draw_is_another_contrast_of_the_same_anatomy(anatomy: Anatomy) -> None:
    first, again, other = (render(np.random.default_rng(seed), anatomy, 1.379) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.01


def test_noise_has_unit_variance_and_the_size_asked_for() -> None:
    grid = [np.arange(200.0), np.arange(200.0)]
    field = smooth_noise(np.random.default_rng(0), grid, (20, 5))
    assert abs(field.std() - 1) < 0.25
    along, across = (
        np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in ((field[5:], field[:-5]), (field[:, 5:], field[:, :-5]))
    )
    assert along > 0.8 > 0.6 > across


# --- files ---

TWO = CohortSettings(source="phantom", labelled=2, unlabelled=1, scale=0.25)


def test_files_have_mrspinesegs_layout_and_resume(tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    write_phantom_cohort(root, TWO, workers=1)
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.nii.gz"))
    expected = ["test/MR/Case3", "test/Mask/mask_case3", *(f"train/MR/Case{n}" for n in (1, 2))]
    expected += [f"train/Mask/mask_case{n}" for n in (1, 2)]
    assert files == sorted(f"{name}.nii.gz" for name in expected)

    image, mask = nib.load(root / "train/MR/Case2.nii.gz"), nib.load(root / "train/Mask/mask_case2.nii.gz")
    case = phantom_case(TWO.seed, 1, TWO)
    assert nib.aff2axcodes(image.affine) == ("P", "I", "L")
    np.testing.assert_allclose(image.header.get_zooms(), case.spacing_mm[::-1], rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), case.image)
    np.testing.assert_array_equal(np.asarray(mask.dataobj).transpose(2, 1, 0), case.labels)

    kept, lost = root / "train/MR/Case1.nii.gz", root / "train/MR/Case2.nii.gz"
    time = kept.stat().st_mtime_ns
    lost.unlink()
    write_phantom_cohort(root, TWO, workers=1)
    assert kept.stat().st_mtime_ns == time
    np.testing.assert_array_equal(np.asarray(nib.load(lost).dataobj).transpose(2, 1, 0), case.image)
    assert not list(root.rglob(".*"))


def test_a_folder_of_other_settings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phantom, "_write_case", lambda root, settings, index: None)
    write_phantom_cohort(tmp_path / "cohort", TWO, workers=1)
    write_phantom_cohort(tmp_path / "cohort", TWO.model_copy(update={"folds": 3}), workers=1)
    with pytest.raises(CohortError, match=r"scale 0\.25 there, 0\.5 here"):
        write_phantom_cohort(tmp_path / "cohort", TWO.model_copy(update={"scale": 0.5}), workers=1)
    (tmp_path / "cohort/phantom.json").write_text("{", encoding="utf-8")
    with pytest.raises(CohortError, match="not readable"):
        write_phantom_cohort(tmp_path / "cohort", TWO, workers=1)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(CohortError, match=r"no phantom\.json"):
        write_phantom_cohort(tmp_path, TWO, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


# --- randomised phantoms ---

RANDOMISED = CohortSettings(source="phantom", labelled=30, unlabelled=2, scale=0.25, randomised=True, arches="apart")


@pytest.fixture(scope="module")
def varied() -> list[PhantomCase]:
    return [phantom_case(RANDOMISED.seed, index, RANDOMISED) for index in range(RANDOMISED.labelled)]


def test_a_randomised_case_is_the_same_again_and_unlike_the_next(varied: list[PhantomCase]) -> None:
    again = phantom_case(RANDOMISED.seed, 4, RANDOMISED)
    np.testing.assert_array_equal(again.image, varied[4].image)
    np.testing.assert_array_equal(again.labels, varied[4].labels)
    assert len({case.image.shape for case in varied}) > 20


def test_fields_of_view_run_from_lumbar_to_thoracic_with_and_without_a_sacrum(varied: list[PhantomCase]) -> None:
    seen = [set(np.unique(case.labels).tolist()) for case in varied]
    sacrum, t9, l1 = (by_name(name).label for name in ("S", "T9", "L1"))
    for label in (sacrum, t9, l1):
        assert 0 < sum(label in labels for labels in seen) < len(seen), label
    assert {case.image.shape[0] >= 12 for case in varied} == {True, False}


def test_arches_have_numbers_of_their_own_and_lie_behind_their_bodies(varied: list[PhantomCase]) -> None:
    found = 0
    for case in varied:
        for body, arch in zip(VERTEBRAE[1:], ARCHES, strict=True):
            if (case.labels == arch.label).sum() > 50 and (case.labels == body.label).sum() > 50:
                found += 1
                columns = [center_of_mass(case.labels == structure.label)[2] for structure in (body, arch)]
                assert columns[0] < columns[1]
                assert WHOLE[arch.label] == body.label
    assert found > 50


def test_levels_in_view_are_a_chain_and_nothing_above_t9_is_labelled(varied: list[PhantomCase]) -> None:
    for case in varied:
        bodies = [v.label for v in VERTEBRAE if v.label in np.unique(case.labels)]
        assert bodies == list(range(bodies[0], bodies[-1] + 1))
        assert case.labels.max() < N_APART


def test_contrast_differs_from_case_to_case(varied: list[PhantomCase]) -> None:
    """CSF is not always brighter than marrow, as it is in every T2 phantom: so names cannot hang on brightness."""
    ratios = []
    for case in varied:
        discs, bodies = (np.isin(case.labels, [s.label for s in kind]) for kind in (DISCS, VERTEBRAE))
        ratios.append(case.image[discs].mean() / case.image[bodies].mean())
    assert min(ratios) < 0.8 < 1.2 < max(ratios)


def test_a_folder_of_plain_phantoms_is_not_taken_for_randomised_ones(tmp_path: Path) -> None:
    plain = RANDOMISED.model_copy(update={"labelled": 1, "unlabelled": 1, "randomised": False})
    write_phantom_cohort(tmp_path, plain, workers=1)
    with pytest.raises(CohortError, match="randomised"):
        write_phantom_cohort(tmp_path, plain.model_copy(update={"randomised": True}), workers=1)
