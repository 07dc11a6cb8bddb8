"""Real volumes of which somebody has annotated a part, measured before and after CPS with others like them.

Masks of real volumes are read here alone, for scoring: no network has seen one.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from sshsnet_core.anatomy import WHOLE
from sshsnet_core.data.cohorts.annotated import CHOSEN_ON, read_annotated, without_masks
from sshsnet_core.data.cohorts.base import Case, Cohort
from sshsnet_core.data.contents import digest
from sshsnet_core.data.thin_slices import every_nth
from sshsnet_core.data.volumes import read_image, read_labels, write_labels
from sshsnet_core.evaluation.kept import kept, kept_markdown
from sshsnet_core.evaluation.results import write_text
from sshsnet_core.evaluation.transfer import transfer_scores
from sshsnet_core.evaluation.transfer_table import COLUMNS, transfer_markdown, transfer_table
from sshsnet_core.methods.segmenter import Segmenter
from sshsnet_core.methods.system import device
from sshsnet_core.pictures.figures import save, side_by_side
from sshsnet_core.pictures.overlay import View
from sshsnet_core.progress import Progress
from sshsnet_core.study import Study
from sshsnet_core.transfer import DECISIONS, FROM_COLUMN, KIND_FIRST, fingerprint, networks

BEFORE, AFTER = "before CPS", "after CPS"
#: Every which slice a scan is measured by: a 1 mm volume, and about the stack of 4 mm that a clinic would have taken.
SLICES = {"slices as they are": 1, "every fourth slice": 4}


def measure(profile: str, root: Path, seeds: int) -> pd.DataFrame:
    """Score the labelled volumes of ``root`` before and after CPS with its unlabelled ones: tidy (``COLUMNS``).

    Seeds 0 to ``seeds`` - 1, always the last checkpoint; what is missing is trained and segmented now, a case once for
    each training. Scores of other trainings or files are other files; where code has changed, delete ``measured/``.

    Raises ``CohortError`` for a root that cannot be used and ``SettingsError`` for a profile whose networks do not tell
    bodies from arches, where masks do.
    """
    cohorts = read_annotated(root)
    scans = without_masks(cohorts)
    frames = []
    for seed in range(seeds):
        study = Study.open(profile, seed=seed)
        for cohort in cohorts:
            cohort.annotation.groups(study.settings.classes)
        for network, pool in ((BEFORE, None), (AFTER, scans)):
            frames.append(_measure(study, pool, cohorts).assign(seed=seed, network=network))
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)]


def _measure(study: Study, scans: Cohort | None, cohorts: Sequence[Cohort]) -> pd.DataFrame:
    """All labelled cases under the networks of one seed, before or after CPS."""
    segmenter = cache(lambda: Segmenter(study.preprocessing, [networks(study, scans)]))
    cases = [(cohort, case, slices) for cohort in cohorts for case in cohort.labelled for slices in SLICES]
    frames = []
    what = f"{BEFORE if scans is None else AFTER}, seed {study.seed}"
    with Progress(what, len(cases), "volume") as progress:
        for cohort, case, slices in cases:
            path = measured_path(study, scans, case, slices)
            if not path.is_file():
                _measure_case(segmenter(), cohort, case, SLICES[slices], path)
            frames.append(pd.read_csv(path).assign(case=case.name, slices=slices))
            progress.advance(f"{case.name}, {slices}")
    return pd.concat(frames)


def measured_path(study: Study, scans: Cohort | None, case: Case, slices: str) -> Path:
    """Where a case's scores lie; its label maps lie beside them (``label_map``)."""
    assert case.labels is not None
    contents = f"{digest(case.image)}-{digest(case.labels, whole=True)}"
    folder = study.runs / "measured" / f"{fingerprint(study, scans)}-overlap{study.settings.overlap:g}"
    return folder / f"{case.name}-every{SLICES[slices]}-{contents}.csv"


def label_map(scores: Path, names: str) -> Path:
    """The label map behind a case's scores, by how it was decided on."""
    return scores.with_name(f"{scores.stem}-{names.replace(' ', '-')}.nii.gz")


def _measure_case(segmenter: Segmenter, cohort: Cohort, case: Case, step: int, path: Path) -> None:
    assert case.labels is not None
    whole = read_image(case.image)
    truth = every_nth(read_labels(case.labels, whole.geometry), step)
    image = every_nth(whole, step)
    prepared = segmenter.prepare(image)
    probabilities = segmenter.probabilities(prepared)
    frames = []
    for names, decide in DECISIONS.items():
        labels = prepared.restoration.labels(decide(probabilities, prepared.restoration.spacing))
        write_labels(label_map(path, names), labels, image.geometry)
        scores = transfer_scores(labels, truth.array, cohort.annotation, image.geometry.spacing)
        frames.append(pd.DataFrame(scores, columns=["structure", "metric", "value"]).assign(names=names))
    write_text(path, pd.concat(frames).to_csv(index=False, lineterminator="\n"))


def measured_views(study: Study, root: Path) -> dict[str, View]:
    """Each labelled case of ``root`` that ``measure`` has scored with this seed: the truth and three guesses."""
    cohorts = read_annotated(root)
    scans, slices = without_masks(cohorts), next(iter(SLICES))
    shown = {BEFORE: (None, KIND_FIRST), AFTER: (scans, KIND_FIRST), f"{AFTER}, {FROM_COLUMN}": (scans, FROM_COLUMN)}
    views = {}
    for case in (case for cohort in cohorts for case in cohort.labelled):
        image = read_image(case.image)
        assert case.labels is not None
        labels = {"truth": read_labels(case.labels, image.geometry).array}
        for title, (pool, names) in shown.items():
            path = label_map(measured_path(study, pool, case, slices), names)
            labels[title] = np.array(WHOLE, np.uint8)[read_labels(path, image.geometry, len(WHOLE)).array]
        views[case.name] = View(image.array, image.geometry.spacing, labels)
    return views


def write_measured(profile: str, root: Path, seeds: int) -> Path:
    """``measure``, and write what was found; the path of the table.

    ``runs/<profile>/measured/real.csv`` and ``.json`` (what made it), ``figures/<profile>/real.md``, and the pictures
    of the labelled cases in ``runs/<profile>/real.png``: pictures of others' volumes are not ours to publish.
    """
    results = measure(profile, root, seeds)
    study = Study.open(profile)
    cohorts = read_annotated(root)
    about = _about(study, profile, cohorts, seeds)
    tidy = study.runs / "measured" / "real.csv"
    write_text(tidy.with_suffix(".json"), json.dumps(about, indent=2) + "\n")
    write_text(tidy, results.to_csv(index=False, lineterminator="\n"))
    words = caption(study, cohorts, seeds)
    study.figures.mkdir(parents=True, exist_ok=True)
    table = study.figures / "real.md"
    left = kept_markdown(kept(results, BEFORE, AFTER, FROM_COLUMN), CHOSEN_ON)
    write_text(table, f"{transfer_markdown(transfer_table(results, CHOSEN_ON), words)}\n{left}")
    views = measured_views(study, root)
    shown = list(next(iter(views.values())).labels)[1:]
    save(side_by_side(views, shown, f"Middle slices, seed {study.seed}. {words}"), study.runs / "real")
    return table


def caption(study: Study, cohorts: Sequence[Cohort], seeds: int) -> str:
    """What the numbers have to say of themselves."""
    scans, names = without_masks(cohorts), [case.name for cohort in cohorts for case in cohort.labelled]
    chosen = [name for name in names if name in CHOSEN_ON]
    held_back = [name for name in names if name not in CHOSEN_ON]
    cohort = study.cohort
    return (
        f"No real label was used in training. Labelled: {len(study.folds[0].training)} cases of the cohort "
        f"{cohort.name!r} ({cohort.fingerprint()}), profile {study.settings.name}. Unlabelled pool of CPS: "
        f"{len(scans.cases)} volumes of the same sources ({scans.fingerprint()}), none of them measured here. "
        f"{'Seed 0' if seeds == 1 else f'Seeds 0 to {seeds - 1}'}, always the last checkpoint. Settings were chosen on "
        f"{', '.join(chosen) or 'none of these cases'}; held back while they were chosen: "
        f"{', '.join(held_back) or 'none'}. Every fourth slice is a subset of thin slices, without the blur across "
        "slices of an acquisition of 4 mm."
    )


def _about(study: Study, profile: str, cohorts: Sequence[Cohort], seeds: int) -> dict[str, object]:
    """The sidecar: settings, cohorts and trainings behind the results."""
    scans = without_masks(cohorts)
    trainings = {
        f"{network}, seed {seed}": fingerprint(Study.open(profile, seed=seed), pool)
        for seed in range(seeds)
        for network, pool in ((BEFORE, None), (AFTER, scans))
    }
    measured = {
        cohort.name: {"cases": [c.name for c in cohort.labelled], "fingerprint": cohort.fingerprint()}
        for cohort in cohorts
    }
    pool = {"cases": [case.name for case in scans.cases], "fingerprint": scans.fingerprint()}
    return {
        **study.provenance(str(device())),
        "seeds": seeds,
        "trainings": trainings,
        "pool": pool,
        "measured": measured,
        "settings_chosen_on": list(CHOSEN_ON),
    }
