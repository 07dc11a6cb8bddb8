"""From phantoms to real scans without a real label: networks before and after CPS with a folder of scans, and names."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sshsnet_core.anatomy import WHOLE
from sshsnet_core.data.cohorts.annotated import read_annotated, without_masks
from sshsnet_core.data.cohorts.base import Case, Cohort
from sshsnet_core.data.cohorts.folder import read_folder
from sshsnet_core.data.preprocessing import Preprocessing
from sshsnet_core.data.thin_slices import Interleave, every_nth, interleaves, store_scans
from sshsnet_core.data.volumes import Volume
from sshsnet_core.decision import volume_kind_first
from sshsnet_core.evaluation.naming import name_column
from sshsnet_core.learning.training import Training
from sshsnet_core.methods import stage1
from sshsnet_core.methods.adaptation import adapt, load_adapted, training_of
from sshsnet_core.methods.pseudo_labels import PseudoLabelRecord
from sshsnet_core.methods.rows import OURS, method_by_key
from sshsnet_core.methods.seen import Seen
from sshsnet_core.methods.segmenter import Segmenter
from sshsnet_core.methods.sshsnet import SSHSNet, TrainedSSHSNet
from sshsnet_core.methods.weights import SHIPPED, Weights
from sshsnet_core.model import told_of
from sshsnet_core.pictures.overlay import View
from sshsnet_core.progress import Progress
from sshsnet_core.scan import write_stranger
from sshsnet_core.study import Study

#: What is trained on the phantoms, on which fold's training cases: both stages. CPS then adapts stage 1 alone.
ROW, FOLD = OURS.key, 0

#: From class probabilities (C, Z, H, W) and their spacing (z, row, column) in mm to labels (Z, H, W).
Decision = Callable[[np.ndarray, tuple[float, float, float]], np.ndarray]


def largest(probabilities: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """The paper's: the largest of all classes."""
    return probabilities.argmax(axis=0).astype(np.uint8)


def likeliest_kind(probabilities: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """The kind before the name."""
    return volume_kind_first(probabilities)


def from_column(probabilities: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Kinds as above, and names from the whole column."""
    return name_column(probabilities, spacing_mm).labels


OWN, KIND_FIRST, FROM_COLUMN = "largest class", "kind before name", "named from the column"
#: How a voxel gets its label. The first two are the networks' own names.
DECISIONS: dict[str, Decision] = {OWN: largest, KIND_FIRST: likeliest_kind, FROM_COLUMN: from_column}


def guessed(segmenter: Segmenter, image: Volume, names: Sequence[str]) -> View:
    """A scan under these decisions (keys of ``DECISIONS``), on its own grid, arches joined to their vertebrae."""
    prepared = segmenter.prepare(image)
    probabilities, spacing_mm = segmenter.probabilities(prepared), prepared.restoration.spacing
    decided = {name: DECISIONS[name](probabilities, spacing_mm) for name in names}
    labels = {name: prepared.restoration.labels(np.array(WHOLE, np.uint8)[of]) for name, of in decided.items()}
    return View(image.array, image.geometry.spacing, labels)


def choose_scans(study: Study, folder: str, labelled: str = "", count: int = 3) -> Cohort:
    """The unlabelled pool: the volumes in ``folder``, else those without a mask in ``labelled``, else phantoms.

    The phantoms are plain and T2-weighted, of other seeds and another make than the randomised ones that were learnt
    from; they are written without their masks. Raises ``CohortError`` for an empty folder.
    """
    if folder:
        return read_folder(Path(folder).expanduser())
    if labelled:
        return without_masks(read_annotated(Path(labelled).expanduser()))
    cohort = study.settings.cohort
    plain = [cohort.model_copy(update={"randomised": False, "seed": cohort.seed + n}) for n in range(1, count + 1)]
    names = [f"stranger{n}" for n in range(1, count + 1)]
    paths = [write_stranger(study.runs / "scans" / n, of) for n, of in zip(names, plain, strict=True)]
    return Cohort("strangers", (), tuple(Case(n, n, path) for n, path in zip(names, paths, strict=True)))


def networks(study: Study, scans: Cohort | None = None) -> TrainedSSHSNet:
    """Trained on the study's phantoms alone or, with ``scans``, then under CPS with these as the unlabelled pool.

    What is missing is trained now, unless it is the very training that comes with the package.
    """
    trainings = study.fingerprints(ROW, [FOLD])
    shipped = Weights.read(SHIPPED)
    if shipped.told["trainings"] == trainings and not study.histories(ROW, FOLD):
        start = shipped.trained
    else:
        start = trained_on_phantoms(study)
    if scans is None:
        return start
    return _adapted(study, start, adaptation(study, scans), scans)


def trained_on_phantoms(study: Study) -> TrainedSSHSNet:
    """The study's own networks, trained now, or on, or found finished."""
    study.train(ROW, FOLD)
    return _system().load(study.job(ROW, FOLD))


def _system() -> SSHSNet:
    system = method_by_key(ROW).system
    assert isinstance(system, SSHSNet)
    return system


def phantom_weights(seed: int = 0) -> Weights:
    """The networks of profile ``real``, trained on its randomised phantoms alone: what comes with the package."""
    study = Study.open("real", seed=seed)
    trained = trained_on_phantoms(study)
    seen = Seen.of([study.store.case(name) for name in study.store.labelled])
    return Weights("SSHSNet, randomised phantoms", _system(), trained, seen, told_of(study, ROW, [FOLD]))


def adapted_weights(weights: Weights, scans: Cohort, name: str, seed: int = 0) -> Weights:
    """Weights under CPS with these scans as the unlabelled pool: minutes, because nothing starts from nothing.

    The phantoms of the profile that the weights come from are the labelled data. Interrupted, the next call goes on.
    """
    study = Study.open(weights.settings.name, seed=seed)
    identity = {**study.job(ROW, FOLD).identity, "start": weights.told, "scans": scans.fingerprint()}
    training = training_of(weights.settings, study.work / "adapted" / name, identity, seed)
    trained = _adapted(study, weights.trained, training, scans)
    told = {**weights.told, "adapted": {"scans": len(scans.cases), "training": training.fingerprint, "seed": seed}}
    title = f"{weights.title}, adapted to {len(scans.cases)} unlabelled scans"
    return Weights(title, weights.system, trained, weights.seen, told)


def _adapted(study: Study, start: TrainedSSHSNet, training: Training, scans: Cohort) -> TrainedSSHSNet:
    pool = store_scans(scans.cases, study.preprocessing, study.runs / "pool")
    adapt(start, training, study.job(ROW, FOLD).labelled, pool, lambda: _names(start, pool, study.preprocessing))
    return load_adapted(start, training)


def _names(start: TrainedSSHSNet, pool: Sequence[Interleave], preprocessing: Preprocessing) -> list[np.ndarray]:
    """What each kind is called in the slices of every case of the pool: ``Naming.names`` of its scan.

    Of thin slices, every n-th is enough to tell the levels of all. Names that are unsure are used and said to be.
    """
    middles = {case.path: case for case in pool if case.first == case.step // 2}
    named = {}
    with Progress("naming the scans", len(middles), "scan") as progress:
        for path, case in middles.items():
            naming = name_column(start(np.array(case.image)), preprocessing.spacing_mm)
            named[path] = naming.names
            progress.advance(f"{path.stem}, probability {naming.confidence:.2f}")
    return [named[case.path] for case in pool]


def adaptation(study: Study, scans: Cohort) -> Training:
    """How a study's networks are trained on with these scans, and where that lies."""
    job = study.job(ROW, FOLD)
    identity = {**job.identity, "start": fingerprint(study), "scans": scans.fingerprint()}
    folder = study.work / "adapted" / f"{scans.name}-{scans.fingerprint()}"
    return training_of(study.settings, folder, identity, study.seed)


def fingerprint(study: Study, scans: Cohort | None = None) -> str:
    """Of everything that decides ``networks``."""
    if scans is not None:
        return adaptation(study, scans).fingerprint
    return "-".join(study.fingerprints(ROW, [FOLD]).values())


def pseudo_labels(study: Study, scans: Cohort) -> PseudoLabelRecord:
    """What the branches called the middle slice of the first scan, epoch by epoch of the adaptation."""
    pool = store_scans(scans.cases[:1], study.preprocessing, study.runs / "pool")
    return stage1.pseudo_label_record(adaptation(study, scans), pool)


def at_learnt_spacing(study: Study, volume: Volume) -> Volume:
    """Of a scan with thin slices, those about as far apart as the phantoms': enough to look at, and quick."""
    learnt_mm = study.preprocessing.spacing_mm[0]
    return every_nth(volume, interleaves(volume.geometry.spacing[0], learnt_mm, len(volume.array)))
