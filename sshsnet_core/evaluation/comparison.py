"""Rows side by side: over seeds (what the seed alone makes), as released beside ours, a switch turned or not."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from sshsnet_core.evaluation.results import write_text
from sshsnet_core.evaluation.statistics import paired
from sshsnet_core.evaluation.summary import MEANS, RARE, scores_by_subject, summarise

#: What is compared: the overall means and the two structures that the paper's CPS is said to save.
SHOWN = (*MEANS, *RARE)
NAMED = "levels named right"


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
            means = summarise(results, {title: {}}).set_index("structure")["mean"]
            named = results.query("method == @title and split == 'validation' and metric == 'id_overlap'")["value"]
            line = {"row": title, "form": form, **{name: means[name] for name in MEANS}, NAMED: 100 * named.mean()}
            if form == "as released":
                line |= {"difference": difference, "low": low, "high": high, "p": p}
            lines.append(line)
    return pd.DataFrame(lines, columns=["row", "form", *MEANS, NAMED, "difference", "low", "high", "p"])


def compare_switches(results: pd.DataFrame, switches: Sequence[tuple[str, str, str]]) -> pd.DataFrame:
    """One line a switch, given as its name and the titles of the rows that have it turned and not.

    ``MEANS`` of the turned row on the held-out cases (DSC in percent), its ``difference`` from the row that it is held
    against (points of the mean of subjects) with the 95 % interval over subjects and Wilcoxon's ``p``. A switch without
    results of both is left out.
    """
    lines = []
    for name, turned, base in switches:
        subjects = [scores_by_subject(results, title, "validation").mean(axis=1) for title in (turned, base)]
        if any(scores.empty for scores in subjects):
            continue
        difference, (low, high), p, _ = paired(*subjects)
        means = summarise(results, {turned: {}}).set_index("structure")["mean"]
        line = {"switch": name, "against": base, **{mean: means[mean] for mean in MEANS}}
        lines.append({**line, "difference": difference, "low": low, "high": high, "p": p})
    return pd.DataFrame(lines, columns=["switch", "against", *MEANS, "difference", "low", "high", "p"])


def write_comparison(folder: Path, name: str, title: str, comparison: pd.DataFrame, caption: str) -> None:
    """Write ``<name>.md`` with its caption, and ``<name>.csv``, tidy: the first two columns, quantity, value."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = comparison.map(lambda value: f"{value:.2f}" if isinstance(value, float) else value)
    text = cells.replace("nan", "").to_markdown(index=False, disable_numparse=True)
    missing = f"What is missing has not been run yet: `make {name}` runs it all."
    write_text(folder / f"{name}.md", f"# {title}\n\n{caption} {missing}\n\n{text}\n")
    tidy = comparison.melt(list(comparison.columns[:2]), var_name="quantity").dropna()
    write_text(folder / f"{name}.csv", tidy.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
