"""What a profile's study consists of and where it lies: the few calls that notebooks and the command line make."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from sshsnet_core.data.coarse import Coarse
from sshsnet_core.data.cohorts.base import Case, Cohort, CohortError
from sshsnet_core.data.cohorts.folder import read_folder
from sshsnet_core.data.cohorts.folds import Fold, make_folds, read_folds, write_folds
from sshsnet_core.data.cohorts.mrspineseg import read_mrspineseg
from sshsnet_core.data.cohorts.phantom import write_phantom_cohort
from sshsnet_core.data.preprocessing import Preprocessing
from sshsnet_core.data.sampling import PatchSamples, pad_volume
from sshsnet_core.data.store import Store, StoredCase, build_store
from sshsnet_core.data.volumes import read_image, read_labels, write_labels
from sshsnet_core.evaluation.metrics import score_case
from sshsnet_core.evaluation.results import provenance, read_results, write_results
from sshsnet_core.learning.training import Training
from sshsnet_core.methods import stage1, stage2
from sshsnet_core.methods.rows import Method, Stage1, method_by_key
from sshsnet_core.methods.segmenter import Segmenter, device
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
        if cohort.source == "phantom":
            root = Path(cohort.root) if cohort.root else self.runs / "cohort"
            write_phantom_cohort(root, cohort, workers=os.cpu_count() or 1)
            return read_mrspineseg(root, name="phantom")
        if cohort.root is None:
            raise CohortError(
                f"Profile {self.settings.name} needs real volumes: set cohort.root to their folder in a copy of "
                "sshsnet_core/profiles/paper.yaml and give the copy's path as the profile."
            )
        return read_mrspineseg(Path(cohort.root)) if cohort.source == "mrspineseg" else read_folder(Path(cohort.root))

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

    def pool(self, fold: int) -> list[StoredCase]:
        """The unlabelled images of CPS. Their masks, where a phantom has one, are never read in training."""
        cps = self.settings.cps
        names: Sequence[str]
        if cps.pool == "held-out":
            names = self.folds[fold].validation
        elif cps.pool == "test":
            names = self.store.unlabelled
        else:
            store = build_store(read_folder(Path(cps.pool_folder or "")), self.preprocessing, self.runs / "pool")
            return [store.case(name) for name in store.names]
        if not names:
            raise CohortError(f"CPS needs unlabelled images and {self.cohort.name} has none: add some or set cps.pool.")
        return [self.store.case(name) for name in names]

    def names(self, fold: int, split: str) -> Sequence[str]:
        """The cases of a split that can be scored: the held-out fold, or the test images that have a mask."""
        if split == "validation":
            return self.folds[fold].validation
        return [case.name for case in self.cohort.unlabelled if case.labels is not None]

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

    def stage1_training(self, stage: Stage1, fold: int) -> Training:
        """Where and how a stage 1 is trained; rows that share it find it finished."""
        folder = self.work / stage.key / f"fold{fold}"
        return stage1.training_of(stage, self.settings, folder, self._identity(fold), self.seed, self.effort)

    def stage2_training(self, method: Method, fold: int) -> Training:
        """Where and how a row's stage 2 is trained."""
        folder = self.work / method.key / f"fold{fold}"
        return stage2.training_of(method, self.settings, folder, self._identity(fold), self.seed, self.effort)

    def trainings(self, method: Method, fold: int) -> dict[str, Training]:
        """A row's trainings by stage."""
        stages = {}
        if method.stage1 is not None:
            stages["stage 1"] = self.stage1_training(method.stage1, fold)
        if method.stage2 is not None:
            stages["stage 2"] = self.stage2_training(method, fold)
        return stages

    def train(self, key: str, fold: int) -> dict[str, pd.DataFrame]:
        """Train a row: its stage 1 unless another row has, then its stage 2. The histories by stage."""
        method = method_by_key(key)
        labelled = [self.store.case(name) for name in self.folds[fold].training]
        histories = {}
        if method.stage1 is not None:
            training = self.stage1_training(method.stage1, fold)
            pool = self.pool(fold) if method.stage1.cps else []
            histories["stage 1"] = stage1.train_stage1(method.stage1, self.settings, training, labelled, pool)
        if method.stage2 is not None:
            coarse = [] if method.stage1 is None else self._coarse_maps(method.stage1, fold, labelled)
            training = self.stage2_training(method, fold)
            histories["stage 2"] = stage2.train_stage2(method, self.settings, training, labelled, coarse)
        return histories

    def patches(self, key: str, fold: int) -> PatchSamples:
        """The category-balanced patches that a row's stage 2 learns from (Equation 2); its stage 1 must be trained."""
        method = method_by_key(key)
        assert method.stage1 is not None
        labelled = [self.store.case(name) for name in self.folds[fold].training]
        coarse = self._coarse_maps(method.stage1, fold, labelled)
        return PatchSamples(labelled, coarse, self.settings.patch, self.seed)

    def _coarse_maps(self, stage: Stage1, fold: int, cases: Sequence[StoredCase]) -> list[Coarse]:
        """Stage 1's output for the training cases, computed once and kept on disk: stage 1 is frozen in stage 2."""
        training = self.stage1_training(stage, fold)
        folder = training.folder / f"coarse-{training.fingerprint}"
        missing = [case for case in cases if not (folder / case.name / "features.npy").exists()]
        if missing:
            branches = stage1.load_branches(stage, self.settings, training)
            with Progress(f"coarse maps of {stage.key}", total=len(missing), unit="case") as progress:
                for case in missing:
                    volume = pad_volume(case.image, self.settings.patch)
                    stage1.apply_stage1(branches, volume, device()).save(folder / case.name)
                    progress.advance(case.name)
        return [Coarse.open(folder / case.name) for case in cases]

    # --- use --------------------------------------------------------------------------------------------------------

    def segmenter(self, key: str, fold: int) -> Segmenter:
        """A trained row, ready to segment volumes. ``TrainingError`` where it has not been trained."""
        method = method_by_key(key)
        branches, network = [], None
        if method.stage1 is not None:
            branches = stage1.load_branches(method.stage1, self.settings, self.stage1_training(method.stage1, fold))
        if method.stage2 is not None:
            network = stage2.load_network(method, self.settings, self.stage2_training(method, fold))
        return Segmenter(self.settings, self.preprocessing, method, branches, network)

    def score(self, key: str, fold: int, split: str = "validation") -> Path:
        """Segment and score a row's held-out cases in native space (section 4.4); the path of its results file.

        A results file of these very trainings is kept; one of other trainings is measured anew.
        """
        path = self.work / "results" / f"{key}-fold{fold}-{split}.csv"
        method = method_by_key(key)
        fingerprints = {stage: training.fingerprint for stage, training in self.trainings(method, fold).items()}
        if path.exists() and json.loads(path.with_suffix(".json").read_text()).get("trainings") == fingerprints:
            return path
        segmenter = self.segmenter(key, fold)
        cases = {case.name: case for case in self.cohort.cases}
        rows: list[dict[str, Any]] = []
        started = perf_counter()
        names = self.names(fold, split)
        with Progress(f"{method.title}, fold {fold}, {split}", total=len(names), unit="case") as progress:
            for name in names:
                prediction = segmenter.segment_stored(self.store.case(name))
                scores = self._score_case(cases[name], prediction, self.prediction_path(key, fold, name))
                about = {"method": method.title, "fold": fold, "split": split, "case": name}
                rows += [{**about, **score} for score in scores]
                progress.advance(name)
        write_results(path, rows, self._provenance(method, fold, split, perf_counter() - started))
        return path

    def _score_case(self, case: Case, prediction: np.ndarray, path: Path) -> list[Any]:
        """Write the prediction (Z, H, W, native) beside the others and score it against the case's mask."""
        assert case.labels is not None
        truth = read_labels(case.labels)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_labels(path, prediction, truth.geometry)
        return score_case(prediction, truth.array, truth.geometry.spacing)

    def _provenance(self, method: Method, fold: int, split: str, seconds: float) -> dict[str, Any]:
        histories = self.histories(method.key, fold)
        durations = {f"training {stage}": float(h["seconds"].sum()) for stage, h in histories.items()}
        about = provenance(
            self.settings,
            cohort=self.cohort.name,
            fingerprint=self.cohort.fingerprint(),
            seed=self.seed,
            effort=self.effort,
            device=str(device()),
            durations_s={**durations, "segmentation and scoring": seconds},
        )
        trainings = {stage: training.fingerprint for stage, training in self.trainings(method, fold).items()}
        return {**about, "fold": fold, "split": split, "pool": self.pool_name(method), "trainings": trainings}

    def pool_name(self, method: Method) -> str:
        """Which images, without their labels, the row's CPS has seen."""
        return self.settings.cps.pool if method.stage1 is not None and method.stage1.cps else "none"

    def prediction_path(self, key: str, fold: int, case: str) -> Path:
        """Where a row's label map of a case lies, in the case's native space."""
        return self.work / "predictions" / key / f"fold{fold}" / f"{case}.nii.gz"

    def histories(self, key: str, fold: int) -> dict[str, pd.DataFrame]:
        """The training histories of a row that exist, by stage."""
        trainings = self.trainings(method_by_key(key), fold)
        paths = {stage: training.folder / "history.csv" for stage, training in trainings.items()}
        return {stage: pd.read_csv(path) for stage, path in paths.items() if path.exists()}

    def results(self) -> pd.DataFrame:
        """All results of this effort and seed, tidy."""
        return read_results(self.work / "results")

    def view(self, name: str, keys: Sequence[str], fold: int) -> View:
        """A case to look at, in native space: its truth, where it has one, and the predictions of rows that exist."""
        case = {case.name: case for case in self.cohort.cases}[name]
        image = read_image(case.image)
        labels = {} if case.labels is None else {"truth": read_labels(case.labels, image.geometry).array}
        for key in keys:
            path = self.prediction_path(key, fold, name)
            if path.exists():
                labels[method_by_key(key).title] = read_labels(path, image.geometry).array
        return View(image.array, image.geometry.spacing, labels)

    def spread(self, key: str, fold: int, count: int = 3) -> list[str]:
        """Held-out cases from a row's worst to its best mean DSC, evenly spread: pictures that do not flatter."""
        scores = self.results().query("metric == 'dsc' and split == 'validation' and fold == @fold")
        means = scores[scores["method"] == method_by_key(key).title].groupby("case")["value"].mean().sort_values()
        return [str(means.index[i]) for i in np.linspace(0, len(means) - 1, count).round().astype(int)]

    @property
    def figures(self) -> Path:
        """Where this study's tables and figures go: ``figures/<profile>/``."""
        return Path(os.environ.get("SSHSNET_FIGURES", REPOSITORY / "figures")) / self.settings.name
