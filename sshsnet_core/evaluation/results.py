"""Results on disk: one tidy CSV per method, fold and split, and a sidecar JSON that says what made it.

A validation fold is written "0". Test images are segmented by several folds' models together, whose class probabilities
are averaged (section 4.4): their fold is "0+1+2+3+4". The column is text throughout.
"""

import json
import os
import re
import subprocess
import warnings
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import pandas as pd

from sshsnet_core.anatomy import NAMES
from sshsnet_core.errors import StudyError
from sshsnet_core.evaluation.identification import IDENTIFICATION
from sshsnet_core.evaluation.metrics import METRICS
from sshsnet_core.settings import Settings

COLUMNS = ("method", "fold", "split", "case", "structure", "metric", "value")
#: What makes a score one of its kind.
KEY = list(COLUMNS[:-1])
#: ``validation``: the labelled cases of the held-out fold. ``test``: the cohort's test images.
SPLITS = ("validation", "test")
#: How the fold of each split is written.
FOLD = {"validation": r"\d+", "test": r"\d+(\+\d+)*"}
#: What every sidecar tells. ``pool``: whose images, without their labels, the row's training has read (``training``:
#: those of training cases that are not labelled).
TOLD = ("cohort", "durations_s", "effort", "fold", "pool", "profile", "seed", "settings", "split")
POOLS = ("test", "held-out", "training", "folder", "none")

#: Whether a sidecar tells of what the settings at hand would make.
Current = Callable[[Mapping[str, Any]], bool]


class ResultsError(StudyError, ValueError):
    """Results that cannot be read or that no honest table can be made of; the message names the file."""


def write_results(path: Path, rows: Iterable[Mapping[str, Any]], provenance: Mapping[str, Any]) -> None:
    """Writes ``path`` (CSV) and its sidecar ``<stem>.json``; each appears whole or not at all, the CSV last.

    ``rows`` have the keys ``COLUMNS``; ``provenance`` is what ``provenance()`` gives, with the ``fold``, the ``split``
    and the ``pool`` of these rows; the sidecar adds the methods.

    Raises ``ResultsError`` for rows that ``read_results`` would refuse.
    """
    path = Path(path)
    frame = pd.DataFrame(list(rows))
    _check(frame, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Killed in between, no older scores are left beside a sidecar that says they are these.
    path.unlink(missing_ok=True)
    sidecar = {**provenance, "methods": sorted(set(frame["method"]))}
    write_text(path.with_suffix(".json"), json.dumps(sidecar, indent=2, sort_keys=True) + "\n")
    write_text(path, frame[list(COLUMNS)].to_csv(index=False, lineterminator="\n"))


def is_there(path: Path) -> bool:
    """Whether a results file is there: its sidecar, and the scores, if the sidecar tells of any.

    Scores can be gone alone: Snakemake deletes those of an interrupted job, and knows nothing of sidecars.
    """
    sidecar = path.with_suffix(".json")
    return sidecar.exists() and (path.exists() or "methods" not in json.loads(sidecar.read_text(encoding="utf-8")))


def read_results(folder: Path, current: Current | None = None) -> pd.DataFrame:
    """All results of a folder as one frame with the columns ``COLUMNS``; those that are not ``current`` (see
    ``read_provenance``) are left out.

    Raises ``ResultsError`` where there are none, a file is damaged or has no sidecar, a score occurs twice, or the
    files were measured on different cohorts: such numbers must not meet in one table.
    """
    frames = {}
    for path in _result_files(folder):
        try:
            text = dict.fromkeys(("method", "fold", "case"), str)
            frames[path.name] = pd.read_csv(path, dtype=text, keep_default_na=False)
        except FileNotFoundError:  # another process has begun to measure it anew
            continue
        except (ValueError, OSError) as error:
            raise ResultsError(f"{path} is not a readable CSV ({error}); delete it and measure it again.") from error
        _check(frames[path.name], path)
    known = _sidecars(folder, current)
    frames = {name: frame for name, frame in frames.items() if name in known}
    if not frames:
        raise ResultsError(f"No results in {folder} that these settings made; train and score a method first.")
    results = pd.concat(frames, names=["file"]).reset_index("file")
    twice = results[results.duplicated(KEY, keep=False)]
    if not twice.empty:
        names = ", ".join(sorted(twice["file"].unique()))
        raise ResultsError(f"{folder}: {names} hold the same scores ({_describe(twice)}); keep one of the files.")
    return results[list(COLUMNS)].reset_index(drop=True)


def read_provenance(folder: Path, current: Current | None = None) -> list[dict[str, Any]]:
    """The sidecars of a folder's results, in the order of their names; those that are not ``current`` are left out,
    and a warning names them.

    Test images whose truth is hidden leave a sidecar alone, with no scores and so no ``methods``: these come too.

    Raises ``ResultsError`` where one is missing, unreadable or lacks any of ``TOLD``, or where two were measured on
    different cohorts.
    """
    return list(_sidecars(folder, current).values())


def _sidecars(folder: Path, current: Current | None) -> dict[str, dict[str, Any]]:
    """The sidecars by the name of the CSV that each stands beside."""
    sidecars = {}
    for path in sorted({*_result_files(folder), *(p.with_suffix(".csv") for p in Path(folder).glob("*.json"))}):
        sidecar = path.with_suffix(".json")
        try:
            about = json.loads(sidecar.read_text(encoding="utf-8"))
            missing = [key for key in TOLD if key not in about]
            if not missing and "fingerprint" not in about["cohort"]:
                missing = ["the cohort's fingerprint"]
            if missing or about["pool"] not in POOLS:
                raise ValueError(f"lacks {', '.join(missing)}" if missing else f"unknown pool {about['pool']}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ResultsError(
                f"{path} has no readable sidecar {sidecar.name} to say what made it ({error}); delete it and measure "
                "it again."
            ) from error
        if path.exists() or "methods" not in about:  # as in is_there
            sidecars[path.name] = {"methods": [], **about}
    left_out = [name for name, sidecar in sidecars.items() if current and not current(sidecar)]
    if left_out:
        warnings.warn(
            f"Left out, because other settings made them: {', '.join(left_out)} in {folder}. "
            "Delete these files, or measure their rows again.",
            stacklevel=3,
        )
    kept = {name: sidecar for name, sidecar in sidecars.items() if name not in left_out}
    cohorts = {sidecar["cohort"]["fingerprint"]: name for name, sidecar in kept.items()}
    if len(cohorts) > 1:
        raise ResultsError(
            f"{folder} mixes results of different cohorts ({', '.join(sorted(cohorts.values()))}, among others); "
            "move those of the old cohort away."
        )
    return kept


def provenance(
    settings: Settings,
    *,
    cohort: str,
    fingerprint: str,
    seed: int,
    effort: float,
    device: str,
    durations_s: Mapping[str, float],
) -> dict[str, Any]:
    """What a sidecar says. ``durations_s`` maps what was done (training, inference, ...) to seconds."""
    packages = ("torch", "monai", "segmentation-models-pytorch", "timm", "nnunetv2", "numpy", "scipy")
    return {
        "profile": settings.name,
        "settings": settings.model_dump(mode="json"),
        "cohort": {"name": cohort, "fingerprint": fingerprint},
        "seed": seed,
        "effort": effort,
        "device": device,
        "durations_s": dict(durations_s),
        "versions": {"python": python_version()} | {name: version(name) for name in packages},
        "commit": _git_commit(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_text(path: Path, text: str) -> None:
    """Writes a text file that appears whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file that appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _result_files(folder: Path) -> list[Path]:
    paths = sorted(Path(folder).glob("*.csv"))
    if not paths:
        raise ResultsError(f"No results (*.csv) in {folder}; train and score a method first.")
    return paths


def _check(frame: pd.DataFrame, path: Path) -> None:
    missing = [column for column in COLUMNS if column not in frame]
    if missing:
        raise ResultsError(f"{path} lacks the columns {', '.join(missing)}; a results file has {', '.join(COLUMNS)}.")
    if frame.empty:
        raise ResultsError(f"{path} holds no scores; delete it and measure it again.")
    for column, known in (("structure", NAMES), ("metric", METRICS), ("split", SPLITS)):
        unknown = sorted(set(frame[column].astype(str)) - set(known))
        if unknown:
            raise ResultsError(f"{path}: unknown {column} {', '.join(unknown)}; known are {', '.join(known)}.")
    for split, fold in frame[["split", "fold"]].drop_duplicates().itertuples(index=False):
        if not isinstance(fold, str) or not re.fullmatch(FOLD[split], fold):
            form = '"0"' if split == "validation" else '"0" or "0+1+2+3+4"'
            raise ResultsError(f"{path}: the fold of {split} results is text such as {form}, not {fold!r}.")
    values = pd.to_numeric(frame["value"], errors="coerce")
    share, verdict = frame["metric"] != "hd95", frame["metric"].isin(IDENTIFICATION)
    if not ((values >= 0) & (values < float("inf"))).all() or (values[share] > 1).any():
        raise ResultsError(f"{path}: every value must be finite and not negative; dsc and nsd lie between 0 and 1.")
    if not values[verdict].isin((0, 1)).all():
        raise ResultsError(f"{path}: {', '.join(IDENTIFICATION)} are 0 or 1.")
    twice = frame[frame.duplicated(KEY)]
    if not twice.empty:
        raise ResultsError(f"{path} holds a score twice ({_describe(twice)}); delete it and measure it again.")


def _describe(scores: pd.DataFrame) -> str:
    first = scores.iloc[0]
    return ", ".join(f"{column} {first[column]}" for column in KEY)


def _git_commit() -> str | None:
    """The commit of this very code, marked where files have been changed since; ``None`` outside a repository."""
    command = ["git", "describe", "--always", "--dirty=-changed", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
