"""Rows over several seeds: a difference beside the one that the seed alone makes (section 5.3's question)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from sshsnet_core.evaluation.results import write_text
from sshsnet_core.evaluation.summary import MEANS, RARE, summarise

#: What is compared: the overall means and the two structures that the paper's CPS is said to save.
SHOWN = (*MEANS, *RARE)


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


def write_comparison(folder: Path, comparison: pd.DataFrame, caption: str) -> None:
    """Write ``cps.csv`` (tidy: row, seed, structure, mean) and ``cps.md`` with its caption."""
    folder.mkdir(parents=True, exist_ok=True)
    text = comparison.to_markdown(index=False, floatfmt=".2f")
    title = "# CPS at equal steps and at equal time"
    missing = "A row or seed that is missing has not been run yet: `make cps` runs them all."
    write_text(folder / "cps.md", f"{title}\n\n{caption} {missing}\n\n{text}\n")
    tidy = comparison.melt(["row", "seed"], var_name="structure", value_name="mean")
    write_text(folder / "cps.csv", tidy.to_csv(index=False, float_format="%.4f"))
