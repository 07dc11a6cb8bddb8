"""What a profile's study consists of, its trainings, and where all lies; ``scoring`` scores it, ``views`` shows it."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from sshsnet_core.data.cohorts.base import Cohort, CohortError
from sshsnet_core.data.cohorts.folder import read_folder
from sshsnet_core.data.cohorts.folds import Fold, make_folds, read_folds, write_folds
from sshsnet_core.data.cohorts.sources import open_cohort
from sshsnet_core.data.patches import PatchSamples
from sshsnet_core.data.preprocessing import VERSION, Preprocessing
from sshsnet_core.data.store import Store, StoredCase, build_store
from sshsnet_core.evaluation.results import is_there, provenance, read_provenance, read_results
from sshsnet_core.methods.pseudo_labels import PseudoLabelRecord
from sshsnet_core.methods.rows import METHODS, method_by_key
from sshsnet_core.methods.segmenter import Segmenter
from sshsnet_core.methods.specks import smallest_mm3
from sshsnet_core.methods.sshsnet import SSHSNet
from sshsnet_core.methods.system import Job, Stage
from sshsnet_core.settings import Settings, SettingsError, load_settings

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
        notebook at smoke size. ``SSHSNET_RUNS`` moves the runs elsewhere than ``runs/``; a relative path is counted
        from the repository, wherever a notebook runs.

        Raises ``SettingsError`` for an unknown profile and for an effort that is not positive.
        """
        settings = load_settings(os.environ.get("SSHSNET_PROFILE", profile))
        if effort <= 0:
            raise SettingsError(f"The effort multiplies the training steps: it must be more than 0, not {effort:g}.")
        runs = REPOSITORY / os.environ.get("SSHSNET_RUNS", "runs")
        # A notebook says 1 where the command line says 1.0; both mean the same trainings.
        return cls(settings, runs / settings.name, float(effort), seed)

    # --- data -------------------------------------------------------------------------------------------------------

    @cached_property
    def cohort(self) -> Cohort:
        """Section 4.1: the phantom cohort, written when it is not there yet, or the user's own volumes."""
        return open_cohort(self.settings, self.runs / "cohort")

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
        return read_folds(path, set(self.store.labelled), self.settings.cohort.folds)

    def pool(self, name: str, fold: int, one_in: int = 1) -> list[StoredCase]:
        """The unlabelled images of CPS. Their masks, where a phantom has one, are never read in training.

        ``training`` are the training cases that are not labelled where one in so many is.
        """
        names: Sequence[str]
        if name == "held-out":
            names = self.folds[fold].validation
        elif name == "training":
            _, names = self.folds[fold].partition(one_in)
        elif name == "test":
            names = self.store.unlabelled
        else:
            store = build_store(self._scans, self.preprocessing, self.runs / "pool")
            return [store.case(name) for name in store.names]
        if not names:
            raise CohortError(f"CPS needs unlabelled images and {self.cohort.name} has none: add some or set cps.pool.")
        return [self.store.case(name) for name in names]

    @cached_property
    def _scans(self) -> Cohort:
        """The volumes of ``CPSSettings.pool_folder``."""
        assert self.settings.cps.pool_folder is not None
        return read_folder(Path(self.settings.cps.pool_folder)).as_pool()

    # --- training ---------------------------------------------------------------------------------------------------

    @property
    def work(self) -> Path:
        """Where trainings, predictions and results of this effort and seed lie."""
        return self.runs / f"effort{self.effort:g}-seed{self.seed}"

    def _identity(self, labelled: Sequence[str]) -> dict[str, Any]:
        return {
            "cohort": self.cohort.fingerprint(),
            "preprocessing": self.settings.preprocessing.model_dump() | ({"version": VERSION} if VERSION > 1 else {}),
            "training": labelled,
            "slice_size": self.settings.slice_size,
        }

    def job(self, key: str, fold: int) -> Job:
        """What a row's system is told of this study to train on a fold, or to be found trained.

        Raises ``SettingsError`` for a row or a fold that there is not.
        """
        if not 0 <= fold < len(self.folds):
            raise SettingsError(f"There is no fold {fold}: the profile has folds 0 to {len(self.folds) - 1}.")
        one_in = method_by_key(key).one_in
        labelled, _ = self.folds[fold].partition(one_in)
        return Job(
            key=key,
            settings=self.settings,
            labelled=[self.store.case(name) for name in labelled],
            watched=[self.store.case(name) for name in self.folds[fold].validation],
            pool=lambda name: self.pool(name, fold, one_in),
            scans=lambda: self._scans.fingerprint(),
            identity=self._identity(labelled),
            seed=self.seed,
            effort=self.effort,
            root=self.work if one_in == 1 else self.work / f"1-in-{one_in}",
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
        system, jobs = method_by_key(key).system, [self.job(key, fold) for fold in folds]
        learnt = {case.name: case for job in jobs for case in job.labelled}
        share = self.settings.speck_share
        least_mm3 = share * smallest_mm3(learnt.values()) if share else None
        return Segmenter(self.preprocessing, [system.load(job) for job in jobs], least_mm3)

    def fingerprints(self, key: str, folds: Sequence[int]) -> dict[str, str]:
        """Of everything that decides a row's networks, by fold and stage."""
        return {
            f"fold {fold}, {name}": stage.fingerprint
            for fold in folds
            for name, stage in self._stages(key, fold).items()
        }

    def made_by(self, key: str, folds: Sequence[int], split: str) -> dict[str, Any]:
        """What decides the results of a row's networks of these folds on a split, and stands in their sidecar."""
        return {
            "fold": "+".join(map(str, folds)),
            "split": split,
            "pool": self.pool_name(key),
            "trainings": self.fingerprints(key, folds),
            # Of the settings, all that networks are applied by and not trained by.
            "overlap": self.settings.overlap,
            "speck_share": self.settings.speck_share,
        }

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
        """All results of this effort and seed, tidy; what other settings made is left out, and a warning names it."""
        return read_results(self.work / "results", self._is_current)

    def sidecars(self) -> list[dict[str, Any]]:
        """What the files of these results say of what made them."""
        return read_provenance(self.work / "results", self._is_current)

    def result_path(self, key: str, split: str, fold: int) -> Path:
        """Where the scores of a row lie: of the cases that ``fold`` held out, or of the test images."""
        return self.work / "results" / (f"{key}-test.csv" if split == "test" else f"{key}-fold{fold}-{split}.csv")

    def is_measured(self, key: str, split: str, fold: int) -> bool:
        """Whether scores of a row are there, made by the networks that these settings train."""
        path = self.result_path(key, split, fold)
        return is_there(path) and self._made(key, json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))

    def _is_current(self, sidecar: Mapping[str, Any]) -> bool:
        return all(self._made(key, sidecar) for key, row in METHODS.items() if row.title in sidecar["methods"])

    def _made(self, key: str, sidecar: Mapping[str, Any]) -> bool:
        """Whether these settings make of a row what a sidecar tells of."""
        folds = [int(fold) for fold in sidecar["fold"].split("+")]
        return self.made_by(key, folds, sidecar["split"]).items() <= sidecar.items()

    @property
    def figures(self) -> Path:
        """Where this study's tables and figures go: ``figures/<profile>/``; of another effort or seed than the default,
        ``figures/<profile>-effort4-seed0/`` and the like, so that none is drawn over another's."""
        default = (self.effort, self.seed) == (1, 0)
        name = self.settings.name if default else f"{self.settings.name}-{self.work.name}"
        return REPOSITORY / os.environ.get("SSHSNET_FIGURES", "figures") / name
