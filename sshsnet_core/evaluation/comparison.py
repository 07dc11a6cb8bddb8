"""Rows side by side: over seeds (what the seed alone makes), as released beside ours, fewer labels, a switch turned."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from sshsnet_core.evaluation.captions import IMAGES, Provenances, caption
from sshsnet_core.evaluation.results import SPLITS, write_text
from sshsnet_core.evaluation.statistics import paired
from sshsnet_core.evaluation.summary import MEANS, RARE, on_true_structures, scores_by_subject, summarise

#: What is compared: the overall means and the two structures that the paper's CPS is said to save.
SHOWN = (*MEANS, *RARE)
NAMED = "levels named right"
#: A difference ``on_true_structures``: one sliver under an invented name costs its subject about five points.
ON_TRUE = "on true structures"

_INTERVAL_AND_P = (
    "low and high: a 95 % interval of the difference, paired, over subjects, with one training of each row a fold. p: "
    "Wilcoxon's, not corrected for the number of lines."
)
_ON_TRUE = (
    f"{ON_TRUE}: the same difference over the truth's own structures only, without the zeros for names that a row "
    "invents."
)


def compare_seeds(results: Mapping[int, pd.DataFrame], titles: Sequence[str]) -> pd.DataFrame:
    """One line a row and seed with the measured means of ``SHOWN``, DSC in percent; rows without results are left out.

    ``results`` maps a seed to its results, ``titles`` are the rows.
    """
    lines = []
    for title in titles:
        for seed, frame in results.items():
            summary = summarise(frame, {title: {}})
            if not summary.empty:
                means = summary.set_index("structure")["mean"]
                lines.append({"row": title, "seed": seed, **{name: means[name] for name in SHOWN}})
    return pd.DataFrame(lines, columns=["row", "seed", *SHOWN])


def compare_released(results: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Two lines a pair of (released, own) titles: as we read the system, and as it was released.

    The held-out cases' ``MEANS`` (DSC in percent), the levels named right by overlap (percent), and, beside the
    released row, ``difference`` from ours (points of the mean of subjects) with its 95 % interval over subjects and
    Wilcoxon's ``p``. A pair without results of both is left out.
    """
    lines = []
    for released, own in pairs:
        scores = {title: scores_by_subject(results, title, "validation") for title in (own, released)}
        if any(frame.empty for frame in scores.values()):
            continue
        subjects = [frame.mean(axis=1) for frame in scores.values()]
        difference, (low, high), p, _ = paired(subjects[1], subjects[0])
        for title, form in ((own, "as here"), (released, "as released")):
            line = {"row": title, "form": form, **_reached(results, title)}
            if form == "as released":
                line |= {"difference": difference, "low": low, "high": high, "p": p}
            lines.append(line)
    return pd.DataFrame(lines, columns=["row", "form", *MEANS, NAMED, "difference", "low", "high", "p"])


def compare_partitions(results: pd.DataFrame, partitions: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """One line a partition and row: ``MEANS`` on the held-out cases and the levels named right by overlap, in percent.

    ``partitions`` maps what is labelled to titles in ``results`` by what the rows are called; the first row is that
    under CPS. Beside each other one ``CPS minus row`` (points of the mean of subjects) with its 95 % interval over
    subjects and Wilcoxon's ``p``. Rows without results are left out.
    """
    lines = []
    for labelled, titles in partitions.items():
        subjects = [scores_by_subject(results, title, "validation").mean(axis=1) for title in titles.values()]
        for (row, title), scores in zip(titles.items(), subjects, strict=True):
            if scores.empty:
                continue
            line = {"labelled": labelled, "row": row, **_reached(results, title)}
            if scores is not subjects[0] and not subjects[0].empty:
                difference, (low, high), p, _ = paired(subjects[0], scores)
                line |= {"CPS minus row": difference, "low": low, "high": high, "p": p}
            lines.append(line)
    return pd.DataFrame(lines, columns=["labelled", "row", *MEANS, NAMED, "CPS minus row", "low", "high", "p"])


def compare_switches(
    results: pd.DataFrame, switches: Sequence[tuple[str, str, str]], split: str = "validation"
) -> pd.DataFrame:
    """One line a switch, given as its name and the titles of the rows that have it turned and not.

    ``MEANS`` of the turned row on the held-out cases or another split (DSC in percent), its ``difference`` from the row
    that it is held against (points of the mean of subjects) with the 95 % interval over subjects and Wilcoxon's ``p``,
    and the same difference ``ON_TRUE`` structures. A switch without results of both by the same folds is left out.
    Where several folds were held out, columns ``fold <k>`` hold the difference on the subjects of each: what one
    training alone would have shown.
    """
    lines = []
    for name, turned, base in switches:
        subjects = [scores_by_subject(results, title, split).mean(axis=1) for title in (turned, base)]
        difference, (low, high), p, n = paired(*subjects)
        if not n:
            continue
        means = summarise(results, {turned: {}}, split).set_index("structure")["mean"]
        line = {"switch": name, "against": base, **{mean: means[mean] for mean in MEANS}}
        lines.append({**line, "difference": difference, "low": low, "high": high, "p": p})
        true, kept = (on_true_structures(results, title, split).mean(axis=1) for title in (turned, base))
        lines[-1][ON_TRUE] = (true - kept).mean()
        by_fold = (subjects[0] - subjects[1]).dropna().groupby("fold").mean()
        if len(by_fold) > 1:
            lines[-1] |= {f"fold {fold}": difference for fold, difference in by_fold.items()}
    folds = sorted({column for line in lines for column in line if column.startswith("fold ")})
    return pd.DataFrame(lines, columns=["switch", "against", *MEANS, "difference", "low", "high", "p", ON_TRUE, *folds])


def write_parts(
    folder: Path, results: pd.DataFrame, provenances: Provenances, parts: Sequence[tuple[str, str, str]]
) -> pd.DataFrame:
    """``compare_switches`` for the parts of a method, on both splits; writes ``parts.md`` and ``parts.csv``."""
    of_splits = [compare_switches(results, parts, split).assign(images=IMAGES[split]) for split in SPLITS]
    comparison = pd.concat(of_splits).rename(columns={"switch": "part"})
    comparison.insert(2, "images", comparison.pop("images"))
    titles = list(dict.fromkeys(title for _, *pair in parts for title in pair))
    words = " ".join(caption(results, provenances, titles, split) for split in SPLITS)
    write_comparison(folder, "parts", "What each part is worth", comparison, words, make="study", keys=3)
    return comparison


def write_comparison(
    folder: Path, name: str, title: str, comparison: pd.DataFrame, words: str, make: str, keys: int = 2
) -> None:
    """Write ``<name>.md`` with these words as its caption, and ``<name>.csv``.

    The latter is tidy: the first ``keys`` columns, quantity, value. ``make`` is the target that runs what is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = readable(comparison).to_markdown(index=False, disable_numparse=True)
    sentences = [words, f"What is missing has not been run yet: `make {make}` runs it all."]
    if "p" in comparison:
        sentences.append(_INTERVAL_AND_P)
    if ON_TRUE in comparison:
        sentences.append(_ON_TRUE)
    write_text(folder / f"{name}.md", f"# {title}\n\n{' '.join(sentences)}\n\n{text}\n")
    tidy = comparison.melt(list(comparison.columns[:keys]), var_name="quantity").dropna()
    write_text(folder / f"{name}.csv", tidy.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def readable(comparison: pd.DataFrame) -> pd.DataFrame:
    """A comparison as its page shows it: two decimals, but two digits of a ``p``, which rounded would be 0."""
    return comparison.apply(lambda column: column.map(partial(_cell, digits=".2g" if column.name == "p" else ".2f")))


def _reached(results: pd.DataFrame, title: str) -> dict[str, float]:
    """A row's ``MEANS`` on the held-out cases and its levels named right, in percent."""
    means = summarise(results, {title: {}}).set_index("structure")["mean"]
    named = results.query("method == @title and split == 'validation' and metric == 'id_overlap'")["value"]
    return {**{name: means[name] for name in MEANS}, NAMED: 100 * named.mean()}


def _cell(value: object, digits: str) -> object:
    if not isinstance(value, float):
        return value
    return "" if np.isnan(value) else f"{value:{digits}}"
