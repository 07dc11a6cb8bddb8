"""What of a study there is to look at: cases with truth and predictions, which cases, and CTAM's attention."""

from collections.abc import Sequence

import numpy as np

from sshsnet_core.anatomy import COLUMN, WHOLE, by_name
from sshsnet_core.data.cohorts.base import CohortError
from sshsnet_core.data.patches import centred_start, crop
from sshsnet_core.data.slices import pad_volume
from sshsnet_core.data.volumes import read_image, read_labels
from sshsnet_core.evaluation.results import ResultsError
from sshsnet_core.methods.rows import method_by_key
from sshsnet_core.methods.sshsnet import TrainedSSHSNet
from sshsnet_core.pictures.attention import AttentionView
from sshsnet_core.pictures.overlay import View
from sshsnet_core.study import Study


def view_of(study: Study, name: str, keys: Sequence[str], fold: int) -> View:
    """A case in native space: its truth, where it has one, and the label maps of the rows that are measured.

    A held-out case was segmented by the networks of its ``fold``; a test image by those of all folds together.
    """
    case = {case.name: case for case in study.cohort.cases}[name]
    image = read_image(case.image)
    classes, whole = study.cohort.annotation.n_labels, np.array(WHOLE, np.uint8)
    labels, split = {}, "test" if name in study.store.unlabelled else "validation"
    if case.labels is not None:
        labels["truth"] = whole[read_labels(case.labels, image.geometry, classes).array]
    for key in keys:
        path = study.prediction_path(key, str(fold), name)
        if path.exists() and study.is_measured(key, split, fold):
            labels[method_by_key(key).title] = whole[read_labels(path, image.geometry, study.settings.classes).array]
    return View(image.array, image.geometry.spacing, labels)


def spread(study: Study, key: str, split: str, fold: int, count: int = 3) -> list[str]:
    """Scored cases from a row's worst to its best mean DSC, evenly spread: pictures that do not flatter.

    Those that ``fold`` held out, or (``split`` is ``test``) the test images, which all folds segment together. Raises
    ``ResultsError`` where there are none.
    """
    scores = study.results().query("metric == 'dsc' and split == @split")
    if split == "validation":
        scores = scores[scores["fold"] == str(fold)]
    means = scores[scores["method"] == method_by_key(key).title].groupby("case")["value"].mean().sort_values()
    if means.empty:
        of = "the test images" if split == "test" else f"fold {fold}"
        raise ResultsError(f"{method_by_key(key).title} has no scores on {of}: train and score it first.")
    return [str(means.index[i]) for i in np.linspace(0, len(means) - 1, count).round().astype(int)]


def attention_of(study: Study, key: str, fold: int, name: str, structure: str) -> AttentionView:
    """A trained row's CTAM at the patch of a labelled case that has a structure in its middle (Equations 3 to 5).

    Raises ``CohortError`` where the case does not show that structure.
    """
    case, patch, label = study.store.case(name), study.settings.patch, by_name(structure).label
    if label not in case.structures:
        shown = ", ".join(s.name for s in COLUMN if s.label in case.structures) or "nothing labelled"
        raise CohortError(f"{name} does not show {structure}; it shows {shown}.")
    start, at = centred_start(case, label, patch)
    trained = method_by_key(key).system.load(study.job(key, fold))
    assert isinstance(trained, TrainedSSHSNet)
    image = crop(pad_volume(case.image, patch), start, patch).numpy()
    return AttentionView(image, study.settings.preprocessing.spacing_mm, at, **trained.attention(case.image, start))
