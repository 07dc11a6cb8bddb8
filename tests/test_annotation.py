"""What a mask marks reaches losses and scores: what nobody has drawn is neither learnt as background nor scored."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sshsnet_core.anatomy import ARCHES, N_APART, N_CLASSES, by_name
from sshsnet_core.annotation import PAPER, Annotation
from sshsnet_core.data.volumes import Geometry, read_labels, write_image, write_labels
from sshsnet_core.learning.losses import cross_entropy, soft_dice, supervised_loss
from sshsnet_core.scoring import score
from sshsnet_core.settings import CohortSettings, SettingsError, load_settings
from sshsnet_core.study import Study
from sshsnet_core.views import view_of

S, L5, L4, DISC = (by_name(name).label for name in ("S", "L5", "L4", "L4/L5"))
ARCH_L5, ARCH_L4 = ARCHES[0].label, ARCHES[1].label
BODIES = Annotation(("L5", "L4"), "absent")


def members(annotation: Annotation, classes: int, label: int) -> set[int]:
    """The classes that a label can stand for."""
    groups = annotation.groups(classes)
    assert groups is not None
    return {c for c, group in enumerate(groups.of_class) if group == groups.of_label[label]}


@pytest.mark.parametrize(("annotation", "classes"), [(PAPER, N_CLASSES), (Annotation(arches="apart"), N_APART)])
def test_where_label_and_class_are_one_nothing_is_grouped(annotation: Annotation, classes: int) -> None:
    assert annotation.groups(classes) is None


def test_joined_masks_leave_open_whether_a_voxel_is_body_or_arch() -> None:
    assert members(PAPER, N_APART, L5) == {L5, ARCH_L5}
    assert members(PAPER, N_APART, DISC) == {DISC}
    assert members(PAPER, N_APART, 0) == {0}


def test_masks_of_bodies_leave_everything_else_open_in_their_background() -> None:
    assert members(BODIES, N_APART, L5) == {L5}
    assert members(BODIES, N_APART, 0) == set(range(N_APART)) - {L5, L4}
    assert members(BODIES, N_APART, S) == members(BODIES, N_APART, 0)


def test_a_paper_network_reads_masks_with_arches_apart_as_whole_vertebrae() -> None:
    apart = Annotation(arches="apart")
    assert members(apart, N_CLASSES, ARCH_L4) == members(apart, N_CLASSES, L4) == {L4}


def test_a_paper_network_cannot_learn_from_bodies_alone() -> None:
    with pytest.raises(SettingsError, match="arches_apart"):
        BODIES.groups(N_CLASSES)
    discs = Annotation(("L4/L5",), "absent")
    assert members(discs, N_CLASSES, DISC) == {DISC}


def test_a_structure_that_does_not_exist_is_named() -> None:
    with pytest.raises(SettingsError, match="L6"):
        Annotation.of(CohortSettings(source="folder", annotated=("L5", "L6")))


def test_the_loss_is_that_of_the_summed_probabilities() -> None:
    """Equations 10 and 11 in plain loops, over {everything else}, L5 and L4."""
    torch.manual_seed(0)
    scores, labels = torch.randn(2, N_APART, 5, 4), torch.randint(0, 3, (2, 5, 4))
    mask = torch.tensor([0, L5, L4])[labels]
    probabilities = torch.softmax(scores, 1)
    merged = torch.stack(
        [1 - probabilities[:, L5] - probabilities[:, L4], probabilities[:, L5], probabilities[:, L4]], 1
    )
    entropy = dice = 0.0
    for n in range(2):
        coefficients = []
        for group in range(3):
            overlap = size = total = 0.0
            for i in range(5):
                for j in range(4):
                    p, true = float(merged[n, group, i, j]), int(labels[n, i, j]) == group
                    entropy -= float(np.log(p)) / 40 if true else 0.0
                    overlap, size, total = overlap + p * true, size + true, total + p
            if size:
                coefficients.append(2 * overlap / (size + total))
        dice -= float(np.mean(coefficients)) / 2
    loss = supervised_loss(scores, mask, BODIES.groups(N_APART))
    assert float(loss) == pytest.approx(entropy + dice, abs=1e-5)


def test_without_groups_the_loss_is_the_papers() -> None:
    scores, labels = torch.randn(1, N_CLASSES, 6, 6), torch.randint(0, N_CLASSES, (1, 6, 6))
    assert torch.equal(supervised_loss(scores, labels), cross_entropy(scores, labels) + soft_dice(scores, labels))


def test_a_background_voxel_teaches_nothing_about_what_is_not_annotated() -> None:
    """The gradient moves the group as a whole: its classes keep their proportions."""
    scores = torch.zeros(1, N_APART, 1, 1)
    scores[0, DISC] = 2.0
    scores.requires_grad_()
    groups = BODIES.groups(N_APART)
    assert groups is not None
    cross_entropy(groups.scores(scores), groups.labels(torch.zeros(1, 1, 1, dtype=torch.int64))).backward()
    assert scores.grad is not None
    gradient, probability = scores.grad.flatten(), torch.softmax(scores.detach(), 1).flatten()
    inside = [c for c in range(N_APART) if c not in (L5, L4)]
    ratios = gradient[inside] / probability[inside]
    assert torch.allclose(ratios, ratios[0].expand_as(ratios), atol=1e-6)
    assert (gradient[[L5, L4]] > 0).all()
    assert (gradient[inside] < 0).all()


def test_what_is_not_drawn_is_not_scored() -> None:
    prediction = np.array([L5, ARCH_L5, S, DISC, by_name("L3").label, 0])
    truth = np.array([L5, 0, 0, 0, 0, L4])
    compared = BODIES.comparable(prediction, truth)
    assert compared[0].tolist() == [L5, 0, 0, 0, 0, 0]
    assert compared[1].tolist() == truth.tolist()


def test_arches_join_their_vertebra_for_the_papers_scores() -> None:
    labels = np.array([L5, ARCH_L5, ARCH_L4, DISC])
    for annotation in (PAPER, Annotation(arches="apart")):
        assert annotation.comparable(labels, labels)[0].tolist() == [L5, L5, L4, DISC]


def test_a_study_scores_what_its_masks_mark_and_writes_all_that_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bodies of L5 alone, found exactly, beside an arch, a disc and a sacrum that nobody has drawn."""
    truth = np.zeros((3, 24, 20), np.uint8)
    truth[:, 4:10, 4:9] = L5
    found = truth.copy()
    found[:, 4:10, 9:12], found[:, 10:12, 4:9], found[:, 12:20, 4:9] = ARCH_L5, DISC, S
    geometry = Geometry(truth.shape, np.array([[-4.4, 0, 0, 0], [0, 0, -1.36, 0], [0, -1.36, 0, 0], [0, 0, 0, 1.0]]))
    for name in ("a", "b"):
        image = np.random.default_rng(0).uniform(100, 200, truth.shape).astype(np.float32)
        write_image(tmp_path / "volumes" / "images" / f"{name}.nii.gz", image, geometry)
        write_labels(tmp_path / "volumes" / "labels" / f"{name}.nii.gz", truth, geometry)
    cohort = {"source": "folder", "root": str(tmp_path / "volumes"), "annotated": ("L5",), "arches": "absent"}
    changes = {f"cohort.{key}": value for key, value in cohort.items()} | {"cohort.folds": 2, "arches_apart": True}
    study = Study(load_settings("smoke").changed(changes), tmp_path / "runs")
    monkeypatch.setattr(Study, "segmenter", lambda *_: SimpleNamespace(segment_stored=lambda case: found))
    score(study, "2d-cps", 0)
    results = study.results()
    assert set(results["structure"]) == {"L5"}
    assert results.query("metric == 'dsc'")["value"].tolist() == [1.0]
    case = results["case"].iloc[0]
    written = read_labels(study.prediction_path("2d-cps", "0", case), classes=N_APART)
    np.testing.assert_array_equal(written.array, found)
    # Truth and prediction are not mistaken for each other: with nothing found, the level is missed, not invented.
    nothing = SimpleNamespace(segment_stored=lambda case: np.zeros_like(found))
    monkeypatch.setattr(Study, "segmenter", lambda *_: nothing)
    score(study, "2d-wo-cps", 0)
    of_nothing = study.results().query("method == 'SSHSNet-2D-w/o-CPS'").groupby("metric")["value"].sum()
    assert (of_nothing["missed"], "invented" in of_nothing) == (1, False)
    # What is looked at is in the paper's classes.
    np.testing.assert_array_equal(view_of(study, case, ["2d-cps"], 0).labels["truth"], truth)
    assert set(np.unique(view_of(study, case, ["2d-cps"], 0).labels["SSHSNet-2D-CPS"])) == {0, S, L5, DISC}
