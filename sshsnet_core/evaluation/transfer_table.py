"""Real scans as a table: means over seeds of each subject, then over subjects; few subjects, and it says so."""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import bootstrap

from sshsnet_core.anatomy import DISCS, VERTEBRAE
from sshsnet_core.evaluation.cells import NOTHING
from sshsnet_core.evaluation.statistics import CONFIDENCE, FEWEST, RESAMPLES
from sshsnet_core.evaluation.transfer import OUTLINE

#: A line of results: what segmented which case how, and one score of it.
COLUMNS = ("seed", "network", "names", "slices", "case", "structure", "metric", "value")
ROW = ["slices", "network", "names"]

BODIES, ALL_OUTLINES, DISCS_DSC = "bodies, DSC", "bodies as one class, DSC", "discs, DSC"
CENTROID, OVERLAP = "levels named right, centroid", "levels named right, overlap"
QUANTITIES = (BODIES, ALL_OUTLINES, DISCS_DSC, CENTROID, OVERLAP)
HELD_BACK, CHOSEN = "held back", "settings chosen on"

NOTES = (
    "In percent. Each subject's mean over its annotated structures and over the seeds, then the mean over subjects (in "
    "parentheses how many). In brackets the lowest and the highest subject; from "
    f"{FEWEST} subjects on a {CONFIDENCE:.0%} bootstrap interval over them, which would claim more than three to five "
    "can carry. After ± the standard deviation over seeds of the mean over subjects. DSC of bodies and discs asks for "
    "the right name; *as one class* does not. A level is named right by centroid or by overlap, as in Tables 1 and 2."
)


def subject_scores(results: pd.DataFrame) -> pd.DataFrame:
    """``QUANTITIES`` in percent, a line for every row, case and seed; NaN where there is nothing of it."""
    named = {BODIES: ("dsc", VERTEBRAE), DISCS_DSC: ("dsc", DISCS)}
    named |= {CENTROID: ("id_centroid", VERTEBRAE + DISCS), OVERLAP: ("id_overlap", VERTEBRAE + DISCS)}
    parts = {ALL_OUTLINES: results[results["metric"] == OUTLINE]}
    for quantity, (metric, structures) in named.items():
        of_kind = results["structure"].isin([structure.name for structure in structures])
        parts[quantity] = results[of_kind & (results["metric"] == metric)]
    line = [*ROW, "case", "seed"]
    columns = [100 * part.groupby(line, sort=False)["value"].mean().rename(name) for name, part in parts.items()]
    return pd.concat(columns, axis=1).reindex(columns=list(QUANTITIES)).astype(float).reset_index()


def part_of(case: str, chosen_on: Collection[str]) -> str:
    """Whether settings were chosen on a case, or it was held back."""
    return CHOSEN if case in chosen_on else HELD_BACK


def transfer_table(results: pd.DataFrame, chosen_on: Collection[str]) -> pd.DataFrame:
    """Tidy: ``part, slices, network, names, quantity, value, low, high, sd_of_seeds, subjects``.

    ``part`` tells the cases on which settings were chosen from those held back. ``sd_of_seeds`` is NaN for one seed.
    """
    scores = subject_scores(results)
    scores["part"] = [part_of(case, chosen_on) for case in scores["case"]]
    long = scores.melt([*ROW, "case", "seed", "part"], list(QUANTITIES), "quantity").dropna()
    lines = []
    for key, group in long.groupby(["part", *ROW, "quantity"], sort=False):
        subjects = group.groupby("case")["value"].mean().to_numpy()
        seeds = group.groupby("seed")["value"].mean()
        lines.append((*key, subjects.mean(), *_range(subjects), seeds.std(), len(subjects)))
    numbers = ["value", "low", "high", "sd_of_seeds", "subjects"]
    return pd.DataFrame(lines, columns=["part", *ROW, "quantity", *numbers])


def transfer_cells(table: pd.DataFrame, part: str, slices: str) -> pd.DataFrame:
    """The text of one block: a line a network and names, a column a quantity; "81.2 [75.0, 86.1] ± 0.4 (3)"."""
    block = table[(table["part"] == part) & (table["slices"] == slices)]
    numbers = block[["value", "low", "high", "sd_of_seeds", "subjects"]]
    text = [
        f"{value:.1f} [{low:.1f}, {high:.1f}]{'' if pd.isna(sd) else f' ± {sd:.1f}'} ({n})"
        for value, low, high, sd, n in numbers.itertuples(index=False)
    ]
    rows = block[["network", "names"]].drop_duplicates()
    cells = block.assign(text=text).pivot(index=["network", "names"], columns="quantity", values="text")
    cells = cells.reindex(index=pd.MultiIndex.from_frame(rows), columns=[q for q in QUANTITIES if q in cells])
    return cells.fillna(NOTHING).rename_axis(columns=None)


def transfer_markdown(table: pd.DataFrame, caption: str) -> str:
    """The whole table for reading: the cases held back first, a block for each way of taking slices."""
    text = ["# Real scans, without a single real label", caption, NOTES]
    for part in (HELD_BACK, CHOSEN):
        for slices in table[table["part"] == part]["slices"].unique():
            cells = transfer_cells(table, part, slices).reset_index()
            align = ("left", "left", *("right" for _ in cells.columns[2:]))
            text += [f"## {part.capitalize()}, {slices}"]
            text += [cells.to_markdown(index=False, disable_numparse=True, colalign=align)]
    return "\n\n".join(text) + "\n"


def _range(subjects: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Lowest and highest, or the ends of a percentile bootstrap over the subjects where there are enough of them."""
    if len(subjects) < FEWEST:
        return float(subjects.min()), float(subjects.max())
    rng = np.random.default_rng(0)
    drawn = bootstrap(
        (subjects,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=rng
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)
