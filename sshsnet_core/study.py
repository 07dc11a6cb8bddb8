"""What a profile's study consists of and where it lies: the few calls that notebooks and the command line make."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from sshsnet_core.anatomy import COLUMN, WHOLE, by_name
from sshsnet_core.annotation import Annotation
from sshsnet_core.data.cohorts.base import Case, Cohort, CohortError
from sshsnet_core.data.cohorts.folder import read_folder
from sshsnet_core.data.cohorts.folds import Fold, make_folds, read_folds, write_folds
from sshsnet_core.data.cohorts.mrspineseg import read_mrspineseg
from sshsnet_core.data.cohorts.phantom import recipe, write_phantom_cohort
from sshsnet_core.data.patches import PatchSamples, centred_start, crop
from sshsnet_core.data.preprocessing import Preprocessing
from sshsnet_core.data.slices import pad_volume
from sshsnet_core.data.store import Store, StoredCase, build_store
from sshsnet_core.data.volumes import read_image, read_labels, write_labels
from sshsnet_core.evaluation.metrics import score_case
from sshsnet_core.evaluation.results import provenance, read_results, write_results, write_text
from sshsnet_core.methods.pseudo_labels import PseudoLabelRecord
from sshsnet_core.methods.rows import method_by_key
from sshsnet_core.methods.segmenter import Segmenter
from sshsnet_core.methods.sshsnet import SSHSNet, TrainedSSHSNet
from sshsnet_core.methods.system import Job, Stage, device
from sshsnet_core.pictures.attention import AttentionView
from sshsnet_core.pictures.overlay import View
from sshsnet_core.progress import Progress
from sshsnet_core.settings import Settings, load_settings

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Study:
    """One profile at one effort and seed. Everything it produces lies under ``runs/<profile>/``."""

    settings: Settings
    runs: Path
    effort: float = 1.0
    seed: int = 0

    @classmethod
    def open(cls, profile: str, effort: float = 1.0, seed: int = 0) -> "Study":
        """The study of a profile.

        ``SSHSNET_PROFILE``, where set, is used in place of ``profile``: it is how the tests step through every
        notebook at smoke size. ``SSHSNET_RUNS`` moves the runs elsewhere than the repository's ``runs/``.
        """
        settings = load_settings(os.environ.get("SSHSNET_PROFILE", profile))
        runs = Path(os.environ.get("SSHSNET_RUNS", REPOSITORY / "runs"))
        # A notebook says 1 where the command line says 1.0; both mean the same trainings.
        return cls(settings, runs / settings.name, float(effort), seed)

    # --- data -------------------------------------------------------------------------------------------------------

    @cached_property
    def cohort(self) -> Cohort:
        """Section 4.1: the phantom cohort, written when it is not there yet, or the user's own volumes."""
        cohort = self.settings.cohort
        annotation = Annotation.of(cohort)
        if cohort.source == "phantom":
            root = Path(cohort.root) if cohort.root else self.runs / "cohort"
            write_phantom_cohort(root, cohort, workers=os.cpu_count() or 1)
            phantoms = read_mrspineseg(root, "randomised phantoms" if cohort.randomised else "phantom", annotation)
            return replace(phantoms, recipe=json.dumps(recipe(cohort), sort_keys=True))
        if cohort.root is None:
            raise CohortError(
                f"Profile {self.settings.name} needs real volumes: set cohort.root to their folder in a copy of "
                "sshsnet_core/profiles/paper.yaml and give the copy's path as the profile."
            )
        root = Path(cohort.root)
        if cohort.source == "mrspineseg":
            return read_mrspineseg(root, annotation=annotation)
        return read_folder(root, annotation)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Section 4.2 at the profile's spacing."""
        return Preprocessing(self.settings.preprocessing.spacing_mm)

    @cached_property
    def store(self) -> Store:
        """The preprocessed cohort; what is missing of it is made now."""
        return build_store(self.cohort, self.preprocessing, self.runs / "store")

    @cached_property
    def folds(self) -> list[Fold]:
        """Section 4.4: folds by subject, written down once in ``folds.json``."""
        path = self.runs / "folds.json"
        if not path.exists():
            structures = {name: self.store.case(name).structures for name in self.store.labelled}
            subjects = {case.name: case.subject for case in self.cohort.labelled}
            write_folds(path, make_folds(structures, self.settings.cohort.folds, self.settings.cohort.seed, subjects))
        return read_folds(path, set(self.store.labelled))

    def pool(self, name: str, fold: int) -> list[StoredCase]:
        """The unlabelled images of CPS. Their masks, where a phantom has one, are never read in training."""
        names: Sequence[str]
        if name == "held-out":
            names = self.folds[fold].validation
        elif name == "test":
            names = self.store.unlabelled
        else:
            folder = self.settings.cps.pool_folder
            store = build_store(read_folder(Path(folder or "")), self.preprocessing, self.runs / "pool")
            return [store.case(name) for name in store.names]
        if not names:
            raise CohortError(f"CPS needs unlabelled images and {self.cohort.name} has none: add some or set cps.pool.")
        return [self.store.case(name) for name in names]

    # --- training ---------------------------------------------------------------------------------------------------

    @property
    def work(self) -> Path:
        """Where trainings, predictions and results of this effort and seed lie."""
        return self.runs / f"effort{self.effort:g}-seed{self.seed}"

    def _identity(self, fold: int) -> dict[str, Any]:
        return {
            "cohort": self.cohort.fingerprint(),
            "preprocessing": self.settings.preprocessing.model_dump(),
            "training": self.folds[fold].training,
            "slice_size": self.settings.slice_size,
        }

    def job(self, key: str, fold: int) -> Job:
        """What a row's system is told of this study to train on a fold, or to be found trained."""
        held_out = self.folds[fold]
        return Job(
            key=key,
            settings=self.settings,
            labelled=[self.store.case(name) for name in held_out.training],
            watched=[self.store.case(name) for name in held_out.validation],
            pool=lambda name: self.pool(name, fold),
            identity=self._identity(fold),
            seed=self.seed,
            effort=self.effort,
            root=self.work,
            part=f"fold{fold}",
            shared=self.runs,
        )

    def train(self, key: str, fold: int) -> dict[str, pd.DataFrame]:
        """Train a row on a fold, or go on, or find it finished. The histories by stage."""
        return method_by_key(key).system.train(self.job(key, fold))

    def histories(self, key: str, fold: int) -> dict[str, pd.DataFrame]:
        """The training histories of a row that exist, by stage."""
        paths = {name: stage.folder / "history.csv" for name, stage in self._stages(key, fold).items()}
        return {name: pd.read_csv(path) for name, path in paths.items() if path.exists()}

    def _stages(self, key: str, fold: int) -> dict[str, Stage]:
        return method_by_key(key).system.stages(self.job(key, fold))

    def patches(self, key: str, fold: int) -> PatchSamples:
        """The category-balanced patches that a row's stage 2 learns from (Equation 2); its stage 1 must be trained."""
        system = method_by_key(key).system
        assert isinstance(system, SSHSNet)
        return system.patches(self.job(key, fold))

    def pseudo_labels(self, key: str, fold: int) -> PseudoLabelRecord:
        """What the two branches of a row under CPS called one unlabelled slice after every epoch of their training."""
        system = method_by_key(key).system
        assert isinstance(system, SSHSNet)
        return system.pseudo_labels(self.job(key, fold))

    # --- use --------------------------------------------------------------------------------------------------------

    def segmenter(self, key: str, folds: Sequence[int]) -> Segmenter:
        """A row trained on these folds, ready to segment volumes. ``TrainingError`` where it has not been trained."""
        system = method_by_key(key).system
        return Segmenter(self.preprocessing, [system.load(self.job(key, fold)) for fold in folds])

    def score(self, key: str, fold: int) -> Path:
        """Segment and score a row's held-out cases in native space (section 4.4); the path of its results file.

        A results file of these very trainings is kept; one of other trainings is measured anew.
        """
        cases = {case.name: case for case in self.cohort.labelled}
        return self._score(key, [fold], "validation", [cases[name] for name in self.folds[fold].validation])

    def score_test(self, key: str, folds: Sequence[int]) -> Path:
        """Segment every test image with these folds' networks together (section 4.4) and score those with a mask.

        The label maps lie in ``predictions/<row>/test``, under the names of the challenge's masks: where the truth is
        hidden, they are what is handed in. Returns the path of the sidecar, which is there with or without scores.
        """
        return self._score(key, folds, "test", self.cohort.unlabelled).with_suffix(".json")

    def _score(self, key: str, folds: Sequence[int], split: str, cases: Sequence[Case]) -> Path:
        which = "+".join(map(str, folds))
        name = f"{key}-fold{which}-validation" if split == "validation" else f"{key}-test"
        path = self.work / "results" / f"{name}.csv"
        about = {
            "fold": which,
            "split": split,
            "pool": self.pool_name(key),
            "trainings": self.fingerprints(key, folds),
        }
        if _measured(path, about):
            return path
        segmenter = self.segmenter(key, folds)
        title = method_by_key(key).title
        rows: list[dict[str, Any]] = []
        started = perf_counter()
        with Progress(f"{title}, fold {which}, {split}", total=len(cases), unit="case") as progress:
            for case in cases:
                prediction = segmenter.segment_stored(self.store.case(case.name))
                scores = self._score_case(case, prediction, self.prediction_path(key, which, case.name))
                rows += [{"method": title, "fold": which, "split": split, "case": case.name, **s} for s in scores]
                progress.advance(case.name)
        spent = {"segmentation and scoring": perf_counter() - started}
        sidecar = {**self.provenance(str(device()), self._durations(key, folds) | spent), **about}
        if rows:
            write_results(path, rows, sidecar)
        else:
            # Nothing has a mask: the label maps are all there is, and the sidecar says that they are there.
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path.with_suffix(".json"), json.dumps(sidecar, indent=2) + "\n")
        return path

    def fingerprints(self, key: str, folds: Sequence[int]) -> dict[str, str]:
        """Of everything that decides a row's networks, by fold and stage."""
        return {
            f"fold {fold}, {name}": stage.fingerprint
            for fold in folds
            for name, stage in self._stages(key, fold).items()
        }

    def _score_case(self, case: Case, prediction: np.ndarray, path: Path) -> list[Any]:
        """Write the prediction (Z, H, W, native) beside the others; score it against the case's mask, if it has one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_labels(path, prediction, self.store.case(case.name).geometry)
        if case.labels is None:
            return []
        annotation = self.cohort.annotation
        truth = read_labels(case.labels, classes=annotation.n_labels)
        return score_case(*annotation.comparable(prediction, truth.array), truth.geometry.spacing)

    def _durations(self, key: str, folds: Sequence[int]) -> dict[str, float]:
        """Seconds of training, by fold and stage."""
        histories = {f"fold {fold}, {n}": h for fold in folds for n, h in self.histories(key, fold).items()}
        return {f"training, {name}": float(history["seconds"].sum()) for name, history in histories.items()}

    def provenance(self, on: str = "", durations_s: Mapping[str, float] | None = None) -> dict[str, Any]:
        """What results of this study have to say of themselves: settings, cohort, versions; ``on`` which device."""
        return provenance(
            self.settings,
            cohort=self.cohort.name,
            fingerprint=self.cohort.fingerprint(),
            seed=self.seed,
            effort=self.effort,
            device=on,
            durations_s=durations_s or {},
        )

    def pool_name(self, key: str) -> str:
        """Which images, without their labels, the row's training has seen."""
        return method_by_key(key).system.pool(self.settings)

    def prediction_path(self, key: str, fold: str, case: str) -> Path:
        """Where a row's label map of a case lies, in the case's native space."""
        if case in self.store.unlabelled:
            # As MRSpineSeg names its masks: Case1 and mask_case1.
            return self.work / "predictions" / key / "test" / f"mask_{case[:1].lower()}{case[1:]}.nii.gz"
        return self.work / "predictions" / key / f"fold{fold}" / f"{case}.nii.gz"

    def results(self) -> pd.DataFrame:
        """All results of this effort and seed, tidy."""
        return read_results(self.work / "results")

    def view(self, name: str, keys: Sequence[str], fold: int) -> View:
        """A case to look at, in native space: its truth, where it has one, and the predictions of rows that exist.

        A held-out case was segmented by the networks of its ``fold``; a test image by those of all folds together.
        """
        case = {case.name: case for case in self.cohort.cases}[name]
        image = read_image(case.image)
        classes, whole = self.cohort.annotation.n_labels, np.array(WHOLE, np.uint8)
        labels = {}
        if case.labels is not None:
            labels["truth"] = whole[read_labels(case.labels, image.geometry, classes).array]
        for key in keys:
            path = self.prediction_path(key, str(fold), name)
            if path.exists():
                labels[method_by_key(key).title] = whole[read_labels(path, image.geometry, self.settings.classes).array]
        return View(image.array, image.geometry.spacing, labels)

    def attention(self, key: str, fold: int, name: str, structure: str) -> AttentionView:
        """CTAM looked into, at the patch of a labelled case that has a structure in its middle.

        Raises ``CohortError`` where the case does not show that structure.
        """
        case, patch, label = self.store.case(name), self.settings.patch, by_name(structure).label
        if label not in case.structures:
            shown = ", ".join(s.name for s in COLUMN if s.label in case.structures) or "nothing labelled"
            raise CohortError(f"{name} does not show {structure}; it shows {shown}.")
        start, at = centred_start(case, label, patch)
        trained = method_by_key(key).system.load(self.job(key, fold))
        assert isinstance(trained, TrainedSSHSNet)
        image = crop(pad_volume(case.image, patch), start, patch).numpy()
        spacing = self.settings.preprocessing.spacing_mm
        return AttentionView(image, spacing, at, **trained.attention(case.image, start))

    def spread(self, key: str, split: str, fold: int, count: int = 3) -> list[str]:
        """Scored cases from a row's worst to its best mean DSC, evenly spread: pictures that do not flatter.

        Those that ``fold`` held out, or (``split`` is ``test``) the test images, which all folds segment together.
        """
        scores = self.results().query("metric == 'dsc' and split == @split")
        if split == "validation":
            scores = scores[scores["fold"] == str(fold)]
        means = scores[scores["method"] == method_by_key(key).title].groupby("case")["value"].mean().sort_values()
        return [str(means.index[i]) for i in np.linspace(0, len(means) - 1, count).round().astype(int)]

    @property
    def figures(self) -> Path:
        """Where this study's tables and figures go: ``figures/<profile>/``."""
        return Path(os.environ.get("SSHSNET_FIGURES", REPOSITORY / "figures")) / self.settings.name


def _measured(path: Path, about: dict[str, Any]) -> bool:
    """Whether a results file is there whose sidecar says all of this of it; without any truth the sidecar is all."""
    sidecar = path.with_suffix(".json")
    if not sidecar.exists():
        return False
    says = json.loads(sidecar.read_text(encoding="utf-8"))
    # An interrupted job's results are deleted by Snakemake, which knows nothing of the sidecar.
    return about.items() <= says.items() and (path.exists() or "methods" not in says)
