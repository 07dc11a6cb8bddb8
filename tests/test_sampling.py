"""What the networks are shown, against plain loops and against maps whose values say where they lie."""

import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_cases import MakeCase
from torch.utils.data import Dataset

from sshsnet_core.data import patches, slices
from sshsnet_core.data.coarse import Coarse, doubled
from sshsnet_core.data.patches import PatchSamples, WholeSamples, balanced_start, centred_start, crop
from sshsnet_core.data.slices import (
    Batch,
    CPSSamples,
    SliceSamples,
    drop_cut_off,
    fit,
    halve_image,
    halve_labels,
    pad_volume,
    place,
    slice_input,
    three_slices,
)
from sshsnet_core.data.store import StoredCase
from sshsnet_core.learning.cps import cutmix_mask, mix

SHAPE = (4, 44, 36)
PADDED = (4, 48, 40)


def blocks(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Labels that say where they lie: slice, and block of 8x8, as one number from 1 to 120."""
    z, h, w = np.indices(shape)
    return (1 + 30 * z + 5 * (h // 8) + w // 8).astype(np.uint8)


def positions() -> Coarse:
    """Stage 1's map of a padded volume whose channels are each pixel's own slice, row and column."""

    def ramps(step: int) -> np.ndarray:
        z, h, w = np.indices((PADDED[0], PADDED[1] // step, PADDED[2] // step)).astype(np.float16)
        return np.stack([z, step * h + (step - 1) / 2, step * w + (step - 1) / 2])

    return Coarse(ramps(2), ramps(8))


@pytest.fixture
def cases(make_case: MakeCase) -> list[StoredCase]:
    """Two cases: one whose labels say where they lie, one of other size with two blocks of labels."""
    rng = np.random.default_rng(0)
    labels = np.zeros((6, 40, 50), np.uint8)
    labels[1:3, 4:20, 5:20], labels[4, 30:, 40:] = 2, 12
    return [
        make_case("positions", rng.standard_normal(SHAPE), blocks()),
        make_case("blocks", rng.standard_normal(labels.shape), labels),
    ]


def equal(one: Batch, other: Batch) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- downsampling, padding, cutting ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31))
def test_halved_labels_are_the_commonest_of_four(z: int, rows: int, columns: int, classes: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, classes, (z, 2 * rows, 2 * columns)).astype(np.uint8)
    halved = halve_labels(labels)
    assert halved.shape == (z, rows, columns)
    assert halved.dtype == np.uint8
    for i, r, c in np.ndindex(halved.shape):
        counts = Counter(labels[i, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].ravel().tolist())
        assert counts[int(halved[i, r, c])] == max(counts.values())


def test_halved_labels_of_every_pattern() -> None:
    patterns = np.array(list(np.ndindex(4, 4, 4, 4)), np.uint8).reshape(-1, 2, 2)
    for pattern, (value,) in zip(patterns, halve_labels(patterns)[:, 0], strict=True):
        counts = Counter(pattern.ravel().tolist())
        assert counts[int(value)] == max(counts.values())


def test_a_halved_image_is_the_mean_of_four() -> None:
    image = torch.arange(2 * 4 * 6, dtype=torch.float32).view(2, 4, 6)
    halved = halve_image(image)
    for i, r, c in np.ndindex(2, 2, 3):
        assert halved[i, r, c] == image[i, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean()


@settings(deadline=None)
@given(st.tuples(*[st.integers(1, 20)] * 3), st.tuples(st.integers(1, 24), st.just(16), st.just(8)))
def test_a_volume_is_padded_at_its_far_ends(shape: tuple[int, int, int], smallest: tuple[int, int, int]) -> None:
    volume = np.random.default_rng(0).standard_normal(shape)
    padded = pad_volume(volume, smallest)
    assert padded.shape[0] == max(shape[0], smallest[0])
    for axis in (1, 2):
        assert padded.shape[axis] % 8 == 0
        assert max(shape[axis], smallest[axis]) <= padded.shape[axis] < max(shape[axis] + 8, smallest[axis] + 1)
    for i in range(padded.shape[0]):
        np.testing.assert_array_equal(padded[i, : shape[1], : shape[2]], volume[min(i, shape[0] - 1)])
    assert not padded[:, shape[1] :].any()
    assert not padded[:, :, shape[2] :].any()


def test_a_volume_that_fits_stays() -> None:
    volume = np.ones((2, 16, 8))
    np.testing.assert_array_equal(pad_volume(volume), volume)


def test_three_slices_repeat_at_the_edges() -> None:
    volume = torch.arange(4.0)[:, None, None].expand(4, 2, 2)
    assert three_slices(volume)[:, :, 0, 0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]
    assert three_slices(volume[:1])[:, :, 0, 0].tolist() == [[0, 0, 0]]


def test_structures_cut_off_lose_their_label_and_the_sacrum_does_not() -> None:
    whole = torch.zeros(10, 4, dtype=torch.int64)
    whole[:5, 0], whole[:5, 1], whole[:5, 2], whole[5:] = 1, 2, 12, 28
    cut = whole[2:].clone()  # 3 of 5 rows of three structures are left, all of the fourth
    assert torch.equal(drop_cut_off(cut, whole, 0.0), cut)
    assert torch.equal(drop_cut_off(cut, whole, 0.6), cut)
    kept = drop_cut_off(cut, whole, 0.61)
    assert kept.unique().tolist() == [0, 1, 28]
    assert torch.equal(kept[kept > 0], cut[(cut == 1) | (cut == 28)])


def test_slices_are_read_without_structures_cut_off(make_case: MakeCase) -> None:
    """Of a structure as large as the image the small slices show little, of a dot all or nothing."""
    labels = np.full((1, 40, 40), 3, np.uint8)
    labels[:, 18:22, 18:22] = 4
    case = make_case("case", labels.astype(np.float32), labels)
    kept, dropped = (SliceSamples([case], (12, 12), 0, in_view=share) for share in (0.0, 0.6))
    seen = [(kept[i]["labels"], dropped[i]["labels"]) for i in range(30)]
    assert all((one == 3).any() for one, _ in seen)
    assert not any((other == 3).any() for _, other in seen)
    assert any((other == 4).any() for _, other in seen)
    for one, other in seen:
        assert torch.equal(other[other > 0], one[(one == 4) & (other > 0)])


def test_a_training_slice_is_what_inference_sees() -> None:
    volume = np.random.default_rng(0).standard_normal((5, 19, 26)).astype(np.float32)
    whole = three_slices(halve_image(torch.from_numpy(pad_volume(volume))))
    for index in range(5):
        assert torch.equal(slice_input(volume, index), whole[index])


SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(0, 2**31))
def test_cut_or_padded_to_a_size(shape: tuple[int, int], size: tuple[int, int], seed: int) -> None:
    array = 1 + torch.arange(2 * shape[0] * shape[1]).view(2, *shape)
    at = place(array.shape, size, np.random.default_rng(seed))
    for offset, n, s in zip(at, shape, size, strict=True):
        assert min(0, n - s) <= offset <= max(0, n - s)
    result = fit(array, size, at)
    assert result.shape == (2, *size)
    for i, r, c in np.ndindex(2, *size):
        row, column = r + at[0], c + at[1]
        inside = 0 <= row < shape[0] and 0 <= column < shape[1]
        assert result[i, r, c] == (array[i, row, column] if inside else 0)
    # Whatever axis is too small is kept whole.
    kept = [min(n, s) for n, s in zip(shape, size, strict=True)]
    assert int((result[0] > 0).sum()) == kept[0] * kept[1]


def test_every_place_is_drawn() -> None:
    rng = np.random.default_rng(0)
    assert {place((1, 10, 3), (8, 5), rng) for _ in range(200)} == {(r, c) for r in range(3) for c in range(-2, 1)}


# --- phi -------------------------------------------------------------------------------------------------------------


@dataclass
class Marked:
    """Stands for a stored case: a shape, and one voxel a class; notes which class was asked for."""

    image: np.ndarray
    marks: dict[int, tuple[int, int, int]]
    asked: list[int] = field(default_factory=list)

    @property
    def structures(self) -> frozenset[int]:
        return frozenset(self.marks)

    def voxels(self, label: int) -> np.ndarray:
        self.asked.append(label)
        return np.array([self.marks[label]])


@st.composite
def marked(draw: st.DrawFn) -> tuple[Marked, tuple[int, int, int]]:
    shape = (draw(st.integers(1, 14)), draw(st.integers(1, 90)), draw(st.integers(1, 90)))
    corner = tuple(draw(st.integers(0, n - 1)) for n in shape)
    size = (draw(st.integers(1, 12)), 8 * draw(st.integers(1, 8)), 8 * draw(st.integers(1, 8)))
    return Marked(np.empty(shape), {7: corner}), size  # type: ignore[dict-item]


@settings(deadline=None, max_examples=300)
@given(marked(), st.integers(0, 2**31))
def test_a_balanced_patch_holds_its_voxel(case_and_size: tuple[Marked, tuple[int, int, int]], seed: int) -> None:
    case, size = case_and_size
    start = balanced_start(case, 7, size, np.random.default_rng(seed))  # type: ignore[arg-type]
    padded = pad_volume(case.image, size).shape
    for s, n, length, voxel in zip(start, size, padded, case.marks[7], strict=True):
        assert s <= voxel < s + n
        assert 0 <= s <= length - n
    assert start[1] % 8 == start[2] % 8 == 0


def test_patches_are_category_balanced_over_the_cases(make_case: MakeCase) -> None:
    """A class that one case in five shows is asked for in every second patch, where it is one of two."""
    common, rare = np.ones((3, 16, 16)), np.ones((3, 16, 16))
    rare[1, 4:8] = 10
    cases = [make_case(f"case{i}", common, common) for i in range(4)] + [make_case("rare", rare, rare)]
    maps = Coarse(np.zeros((2, 3, 8, 8), np.float16), np.zeros((2, 3, 2, 2), np.float16))
    samples = PatchSamples(cases, [maps] * 5, (3, 16, 16), 0)
    share = np.mean([bool((samples[index]["labels"] == 10).any()) for index in range(200)])
    assert 0.4 < share < 0.75


def test_every_patch_around_a_voxel_is_drawn() -> None:
    case = Marked(np.empty((6, 64, 60)), {3: (3, 20, 30)})
    rng = np.random.default_rng(0)
    starts = {balanced_start(case, 3, (2, 24, 32), rng) for _ in range(500)}  # type: ignore[arg-type]
    assert starts == {(z, h, w) for z in (2, 3) for h in (0, 8, 16) for w in (0, 8, 16, 24)}


def test_a_crop_is_that_of_the_padded_volume() -> None:
    volume = np.random.default_rng(0).standard_normal((5, 21, 30))
    for start in [(0, 0, 0), (1, 8, 16), (2, 0, 8), (0, 8, 8)]:
        size = (3, 16, 16)
        expected = pad_volume(volume)[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))]
        np.testing.assert_array_equal(crop(volume, start, size), expected)
    large = crop(volume, (0, 0, 0), (7, 32, 40))
    np.testing.assert_array_equal(large, pad_volume(volume, (7, 32, 40)))


def test_a_crop_may_be_written_to(cases: list[StoredCase]) -> None:
    crop(cases[0].image, (0, 0, 0), (2, 8, 8)).zero_()
    assert np.any(cases[0].image[:2, :8, :8])


# --- samples ---------------------------------------------------------------------------------------------------------


def everything(cases: Sequence[StoredCase], seed: int) -> list[Dataset[Batch]]:
    labelled = SliceSamples(cases, (24, 16), seed)
    cps = CPSSamples(labelled, cases, cutmix_mask)
    coarse = [positions(), Coarse(np.ones((3, 6, 20, 28), np.float16), np.ones((3, 6, 5, 7), np.float16))]
    return [labelled, cps, PatchSamples(cases, coarse, (3, 16, 24), seed), WholeSamples(cases, (3, 16, 32), seed)]


@pytest.mark.parametrize("kind", range(4))
def test_seed_and_index_alone_decide_a_sample(kind: int, cases: list[StoredCase]) -> None:
    samples = everything(cases, 3)[kind]
    first = [samples[index] for index in range(6)]
    fresh = pickle.loads(pickle.dumps(everything(cases, 3)[kind]))
    for index in (4, 0, 5, 2):
        assert equal(first[index], fresh[index])
    images = [batch["image"] for batch in first]
    assert not any(torch.equal(images[i], images[j]) for i in range(6) for j in range(i))
    assert not torch.equal(everything(cases, 4)[kind][0]["image"], images[0])


def test_slices(cases: list[StoredCase]) -> None:
    samples = SliceSamples(cases, (24, 16), 0)
    for index in range(10):
        batch = samples[index]
        assert batch.keys() == {"image", "labels"}
        assert (batch["image"].shape, batch["image"].dtype) == ((3, 24, 16), torch.float32)
        assert (batch["labels"].shape, batch["labels"].dtype) == ((24, 16), torch.int64)


def test_a_slice_and_its_labels_are_cut_at_the_same_place(make_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "augment_slice", lambda image, labels, rng: (image, labels))
    labels = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 20, (3, 20, 14)), 2, 1), 2, 2)
    samples = SliceSamples([make_case("case", labels.astype(np.float32), labels)], (12, 24), 0)
    for index in range(20):
        batch = samples[index]
        assert torch.equal(batch["image"][1], batch["labels"].float())
        assert batch["labels"].any()


def test_slices_are_category_balanced(make_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class in one slice of one case in five is in at least every second sample, where it is one of two."""
    monkeypatch.setattr(slices, "augment_slice", lambda image, labels, rng: (image, labels))
    common, rare = np.ones((6, 16, 16)), np.ones((6, 16, 16))
    rare[3, 4:8] = 10
    cases = [make_case(f"case{i}", common, common) for i in range(4)] + [make_case("rare", rare, rare)]
    samples = SliceSamples(cases, (8, 8), 0)
    share = np.mean([bool((samples[index]["labels"] == 10).any()) for index in range(200)])
    assert 0.4 < share < 0.65


def test_a_share_of_the_slices_is_any_slice(make_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a case with labels in one slice of eight: half of the samples by class, and an eighth of the other half."""
    monkeypatch.setattr(slices, "augment_slice", lambda image, labels, rng: (image, labels))
    labels = np.zeros((8, 16, 16))
    labels[2] = 3
    cases = [make_case("case", np.repeat(np.arange(8.0), 256).reshape(labels.shape), labels)]
    samples = SliceSamples(cases, (8, 8), 0, even=0.5)
    drawn = [samples[index] for index in range(300)]
    assert np.mean([bool(batch["labels"].any()) for batch in drawn]) == pytest.approx(0.5 + 0.5 / 8, abs=0.08)
    # Also the slices at the ends, of which one or the other neighbour is missing.
    assert {batch["image"][1].max().item() for batch in drawn} == set(range(8))


def test_arches_are_drawn_as_classes_of_their_own(make_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels 2, 20 and 28 of one slice each: every sample shows exactly one of them, each in a third of the samples."""
    monkeypatch.setattr(slices, "augment_slice", lambda image, labels, rng: (image, labels))
    labels = np.repeat([2, 20, 28], 64).reshape(3, 8, 8)
    case = make_case("case", labels, labels)
    assert slices.cases_by_class([case]) == {2: [0], 20: [0], 28: [0]}
    samples = SliceSamples([case], (4, 4), 0)
    drawn = [samples[index]["labels"].unique().tolist() for index in range(150)]
    assert all(35 < drawn.count([label]) < 65 for label in (2, 20, 28))


def test_masks_of_the_pool_are_never_opened(make_case: MakeCase, cases: list[StoredCase]) -> None:
    volume = np.random.default_rng(0).standard_normal(SHAPE)
    pool = [make_case("pool", volume, np.ones(SHAPE, np.uint8))]
    (pool[0].folder / "labels.npy").write_bytes(b"not to be read")
    assert CPSSamples(SliceSamples(cases, (24, 16), 0), pool, cutmix_mask)[0]["u0"].shape == (3, 24, 16)


def test_cps_samples(cases: list[StoredCase], make_case: MakeCase) -> None:
    pool = [make_case("unlabelled", np.random.default_rng(1).standard_normal(SHAPE))]
    labelled = SliceSamples(cases, (24, 16), 0)
    samples = CPSSamples(labelled, pool, cutmix_mask)
    for index in range(5):
        batch = samples[index]
        shapes = {name: tuple(tensor.shape) for name, tensor in batch.items()}
        assert shapes == {
            "image": (3, 24, 16),
            "labels": (24, 16),
            "u0": (3, 24, 16),
            "u1": (3, 24, 16),
            "mask": (1, 24, 16),
        }
        assert set(batch["mask"].unique().tolist()) == {0, 1}
        assert not torch.equal(batch["u0"], batch["u1"])
        # The labelled slice is the one that training on labels alone would see.
        assert equal({name: batch[name] for name in ("image", "labels")}, labelled[index])


def test_names_are_cut_where_the_slice_is_and_mixed_as_it_will_be(
    make_case: MakeCase, cases: list[StoredCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "augment_slice", lambda image, labels, rng: (image, labels))
    rng = np.random.default_rng(0)
    planes = [np.repeat(np.repeat(rng.integers(1, 20, (4, 20, 14)), 2, 1), 2, 2).astype(np.uint8) for _ in range(2)]
    # Each case's slices show what its vertebrae are called.
    pool = [make_case(f"scan{n}", np.stack([plane[1]] * 3).astype(np.float32)) for n, plane in enumerate(planes)]
    samples = CPSSamples(SliceSamples(cases, (12, 24), 0), pool, cutmix_mask, planes)
    for index in range(20):
        batch = samples[index]
        assert (batch["names"].shape, batch["names"].dtype) == ((4, 12, 24), torch.int64)
        assert torch.equal(batch["names"][1].float(), mix(batch["u0"], batch["u1"], batch["mask"])[1])


def test_a_patch_is_cropped_everywhere_at_the_same_place(
    cases: list[StoredCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pad_volume(np.array(cases[0].image))
    padded = pad_volume(blocks())
    size = (3, 16, 24)
    for augmented in (True, False):
        if not augmented:
            monkeypatch.setattr(patches, "augment_volume", lambda batch, rng: batch)
        samples = PatchSamples(cases[:1], [positions()], size, 0)
        starts = set()
        for index in range(30):
            batch = samples[index]
            shapes = {name: tuple(tensor.shape) for name, tensor in batch.items()}
            assert shapes == {
                "image": (1, *size),
                "labels": size,
                "coarse": (3, 3, 10, 14),
                "features": (3, 3, 4, 5),
            }
            batch |= {name: doubled(batch[name]) for name in ("coarse", "features")}
            # The map's channels say which slice, row and column it was cut from; its outermost rows repeat.
            z, rows, columns = batch["coarse"]
            quarter = batch["features"].repeat_interleave(4, -1).repeat_interleave(4, -2)
            slices = z[:, 0, 0].long().tolist()
            start = (min(slices), round(rows[0, 1, 0].item()) - 1, round(columns[0, 0, 1].item()) - 1)
            starts.add(start)
            index_of = np.ix_(slices, *(range(s, s + n) for s, n in zip(start[1:], size[1:], strict=True)))
            assert torch.equal(batch["labels"], torch.from_numpy(padded[index_of]).long())
            assert ((quarter - batch["coarse"]).abs() <= 3.5).all()
            if not augmented:
                assert torch.equal(batch["image"][0], torch.from_numpy(whole[index_of]))
        assert len(starts) > 8


def test_a_patch_larger_than_its_volume(make_case: MakeCase) -> None:
    labels = np.zeros((2, 12, 10), np.uint8)
    labels[1, 3, 4] = 5
    case = make_case("small", np.ones(labels.shape), labels)
    size = (4, 16, 32)
    coarse = Coarse(np.ones((20, 4, 8, 16), np.float16), np.ones((6, 4, 2, 4), np.float16))
    batch = PatchSamples([case], [coarse], size, 0)[0]
    assert batch["image"].shape == (1, *size)
    assert sorted(batch["labels"].unique().tolist()) == [0, 5]
    assert doubled(batch["coarse"]).shape == (20, *size)
    # The missing slices repeat the last one.
    assert int((batch["labels"] == 5).sum()) == 3


def test_whole_volumes(cases: list[StoredCase], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "augment_volume", lambda batch, rng: batch)
    size = (5, 32, 32)
    samples = WholeSamples(cases, size, 0)
    shapes = set()
    for index in range(12):
        batch = samples[index]
        assert batch.keys() == {"image", "labels"}
        assert batch["image"].shape == (1, *size)
        assert (batch["labels"].shape, batch["labels"].dtype) == (size, torch.int64)
        shapes.add(int(batch["labels"].max()))
    assert shapes == {12, int(blocks().max())}


def test_whole_image_and_labels_are_cut_at_the_same_place(make_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "augment_volume", lambda batch, rng: batch)
    labels = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 20, (7, 16, 20)), 2, 1), 2, 2)
    samples = WholeSamples([make_case("case", labels.astype(np.float32), labels)], (4, 12, 24), 0)
    for index in range(20):
        batch = samples[index]
        assert torch.equal(batch["image"][0], batch["labels"].float())


@pytest.mark.parametrize(
    ("box", "start", "at"),
    [
        # The middle of rows 40 to 49 is 44: a patch of 32 from 28, which lies on the grid of 8 from 24.
        (np.s_[1:2, 40:50, 40:50], (0, 24, 24), (1, 20, 20)),
        # At the corners the patch stays inside.
        (np.s_[0:1, 0:3, 0:3], (0, 0, 0), (0, 1, 1)),
        (np.s_[3:4, 93:96, 93:96], (2, 64, 64), (1, 30, 30)),
    ],
)
def test_a_patch_has_the_class_in_its_middle(
    box: tuple[slice, ...], start: tuple[int, ...], at: tuple[int, ...], make_case: MakeCase
) -> None:
    labels = np.zeros((4, 96, 96), np.uint8)
    labels[box] = 5
    case = make_case("a", np.zeros(labels.shape), labels)
    assert centred_start(case, 5, (2, 32, 32)) == (start, at)
