"""Segment and score a row's cases in native space (section 4.4): one results file for a row, its folds and a split."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sshsnet_core.alone import alone
from sshsnet_core.anatomy import N_APART
from sshsnet_core.data.cohorts.base import Case
from sshsnet_core.data.volumes import read_labels, write_labels
from sshsnet_core.evaluation.metrics import score_case
from sshsnet_core.evaluation.results import is_there, write_results, write_text
from sshsnet_core.methods.rows import method_by_key
from sshsnet_core.methods.system import device
from sshsnet_core.progress import Progress
from sshsnet_core.study import Study


def score(study: Study, key: str, fold: int) -> Path:
    """Segment and score the cases that a fold holds out, with a row's networks of that fold; the path of its results.

    A results file of these very trainings is kept; one of other trainings is measured anew. ``TrainingError`` where the
    row has not been trained.
    """
    cases = {case.name: case for case in study.cohort.labelled}
    held_out = [cases[name] for name in study.folds[fold].validation]
    return _score(study, key, [fold], "validation", held_out)


def score_test(study: Study, key: str, folds: Sequence[int]) -> Path:
    """Segment every test image with these folds' networks together, and score those that have a mask.

    The label maps lie in ``predictions/<row>/test``, under the names of the challenge's masks: where the truth is
    hidden, they are what is handed in. Returns the path of the sidecar, which is there with or without scores.
    ``TrainingError`` where the row has not been trained on all of these folds.
    """
    return _score(study, key, folds, "test", study.cohort.unlabelled).with_suffix(".json")


def _score(study: Study, key: str, folds: Sequence[int], split: str, cases: Sequence[Case]) -> Path:
    path, about = study.result_path(key, split, folds[0]), study.made_by(key, folds, split)
    title = f"{method_by_key(key).title}, fold {about['fold']}, {split}"
    if not _measured(path, about):
        with alone(path.with_suffix(".lock"), title):
            if not _measured(path, about):  # by another process, meanwhile
                _measure(study, key, folds, title, cases, path, about)
    return path


def _measure(
    study: Study, key: str, folds: Sequence[int], title: str, cases: Sequence[Case], path: Path, about: dict[str, Any]
) -> None:
    segmenter = study.segmenter(key, folds)
    which, split = about["fold"], about["split"]
    targets = {case.name: study.prediction_path(key, which, case.name) for case in cases}
    unfinished = path.with_suffix(".unfinished")
    kept = _kept(targets, unfinished, about)
    scored: list[Future[list[Any]]] = []
    started = perf_counter()
    # A case is scored while the next is segmented: scoring takes one core, and longer than a GPU's segmentation.
    with (
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
        Progress(title, len(cases), "case", done=len(kept)) as progress,
    ):
        for case in cases:
            known = case.name in kept
            prediction = None if known else segmenter.segment_stored(study.store.case(case.name))
            scored.append(pool.submit(_score_case, study, case, prediction, targets[case.name]))
            if not known:
                progress.advance(case.name)
    of_all = {"method": method_by_key(key).title, "fold": which, "split": split}
    scores = zip(cases, scored, strict=True)
    rows = [{**of_all, "case": case.name, **score} for case, of_case in scores for score in of_case.result()]
    what = f"segmentation and scoring{f', {len(kept)} cases segmented before' if kept else ''}"
    spent = {what: perf_counter() - started}
    sidecar = {**study.provenance(str(device()), _training_s(study, key, folds) | spent), **about}
    if rows:
        write_results(path, rows, sidecar)
    else:
        # Nothing has a mask: the label maps are all there is, and the sidecar says that they are there.
        write_text(path.with_suffix(".json"), json.dumps(sidecar, indent=2) + "\n")
    unfinished.unlink()  # whoever measures again segments again


def _kept(targets: Mapping[str, Path], unfinished: Path, by: dict[str, Any]) -> set[str]:
    """The cases whose label maps an interrupted scoring of the very same networks has left; any other maps are removed.

    ``unfinished`` tells, until all cases are scored, ``by`` whom the label maps there are.
    """
    if not unfinished.exists() or json.loads(unfinished.read_text(encoding="utf-8")) != by:
        for target in targets.values():
            target.unlink(missing_ok=True)
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        write_text(unfinished, json.dumps(by))
    return {name for name, target in targets.items() if target.exists()}


def _score_case(study: Study, case: Case, prediction: npt.NDArray[np.uint8] | None, path: Path) -> list[Any]:
    """Write the prediction (Z, H, W, native) to ``path``, or read it from there; score it, if the case has a mask."""
    annotation = study.cohort.annotation
    if prediction is None:
        prediction = read_labels(path, classes=N_APART).array
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_labels(path, prediction, study.store.case(case.name).geometry)
    if case.labels is None:
        return []
    truth = read_labels(case.labels, classes=annotation.n_labels)
    return score_case(*annotation.comparable(prediction, truth.array), truth.geometry.spacing)


def _training_s(study: Study, key: str, folds: Sequence[int]) -> dict[str, float]:
    """Seconds of training, by fold and stage."""
    histories = {f"fold {fold}, {name}": h for fold in folds for name, h in study.histories(key, fold).items()}
    return {f"training, {name}": float(history["seconds"].sum()) for name, history in histories.items()}


def _measured(path: Path, about: dict[str, Any]) -> bool:
    """Whether a results file is there whose sidecar says all of this of it; without any truth the sidecar is all."""
    if not is_there(path):
        return False
    says = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return about.items() <= says.items()
