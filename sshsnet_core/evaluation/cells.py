"""Tidy numbers as the text of a table's cells. A measured and a published number never share a frame."""

import pandas as pd

from sshsnet_core.anatomy import NAMES
from sshsnet_core.evaluation.captions import NOT_RUN
from sshsnet_core.evaluation.paper import Published
from sshsnet_core.evaluation.statistics import (
    COUNTS,
    DIFFERENCE,
    HD95,
    IDENTIFIED,
    MINUTES,
    NSD,
    P_HOLM,
    TRUE_MEAN,
    P,
)
from sshsnet_core.evaluation.summary import MEANS, SUBJECT_MEAN

NOTHING = "-"

#: The columns of the statistics: heading and format.
_STATISTICS = {
    **{mean: (f"{mean} (%)", ".1f") for mean in MEANS},
    TRUE_MEAN: (f"{TRUE_MEAN} (%)", ".1f"),
    DIFFERENCE: (f"{DIFFERENCE} (pairs)", "+.1f"),
    P: (P, ".2g"),
    P_HOLM: (P_HOLM, ".2g"),
    **{name: (f"{name} (%)", ".1f") for name in IDENTIFIED.values()},
    **{name: (f"levels {name}", ".0f") for name in COUNTS},
    HD95: (f"{HD95} (mm)", ".1f"),
    NSD: (f"{NSD} (%)", ".1f"),
    MINUTES: (MINUTES, ".1f"),
}
#: How ``n`` stands behind a value, where it does.
_COUNTED = {DIFFERENCE: " ({:.0f})", "missed": " of {:.0f}", "shifted": " of {:.0f}"}


def measured_cells(summary: pd.DataFrame, rows: Published) -> pd.DataFrame:
    """One line a row, one column an overall mean or structure, and a last line with the subjects behind each column."""
    means = _means(summary, "measured", rows)
    cells = means.map(number, form=".2f")
    missing = means.isna().all(axis=1)
    cells.loc[missing] = ""
    cells.loc[missing, MEANS[0]] = NOT_RUN
    counts = summary[summary["source"] == "measured"].groupby("structure")["n"].agg(["min", "max"])
    counts = counts.reindex(cells.columns, fill_value=0)
    cells.loc["subjects"] = [str(low) if low == high else f"{low}-{high}" for low, high in counts.to_numpy()]
    return cells


def published_cells(summary: pd.DataFrame, rows: Published) -> pd.DataFrame:
    """The paper's numbers, of the rows that have any. It does not tell its mean of subjects."""
    means = _means(summary, "published", {row: values for row, values in rows.items() if values})
    return means.map(number, form=".2f").drop(columns=SUBJECT_MEAN)


def structure_cells(summary: pd.DataFrame) -> pd.DataFrame:
    """One line an overall mean or structure, one column a measured row: "87.9 ± 3.2 (16)" is mean, sd and subjects."""
    measured = summary[summary["source"] == "measured"]
    text = [
        NOTHING if pd.isna(mean) else f"{mean:.1f}{'' if pd.isna(sd) else f' ± {sd:.1f}'} ({n})"
        for mean, sd, n in measured[["mean", "sd", "n"]].itertuples(index=False)
    ]
    cells = measured.assign(text=text).pivot(index="structure", columns="row", values="text")
    return cells.reindex(index=[*MEANS, *NAMES], columns=measured["row"].unique()).rename_axis(columns=None)


def statistics_cells(statistics: pd.DataFrame) -> pd.DataFrame:
    """One line a measured row, one column a statistic; what cannot be told is a dash."""
    rows, columns = statistics["row"].unique(), list(_STATISTICS)
    value, low, high, n = (
        statistics.pivot(index="row", columns="statistic", values=part).reindex(index=rows, columns=columns)
        for part in ("value", "low", "high", "n")
    )
    cells = {}
    for name, (heading, form) in _STATISTICS.items():
        of_rows = zip(value[name], low[name], high[name], n[name], strict=True)
        cells[heading] = [
            NOTHING if pd.isna(v) else format(v, form) + interval(*ends) + _COUNTED.get(name, "").format(k)
            for v, *ends, k in of_rows
        ]
    return pd.DataFrame(cells, index=pd.Index(rows, name="row"))


def number(value: float, form: str) -> str:
    """The value in that format, or a dash for NaN."""
    return NOTHING if pd.isna(value) else format(value, form)


def interval(low: float, high: float) -> str:
    """The interval to stand behind its number, or nothing where there is none."""
    return "" if pd.isna(low) else f" [{low:.1f}, {high:.1f}]"


def _means(summary: pd.DataFrame, source: str, rows: Published) -> pd.DataFrame:
    """One line a row, one column an overall mean or structure; NaN where there is none."""
    means = summary[summary["source"] == source].pivot(index="row", columns="structure", values="mean")
    return means.reindex(index=list(rows), columns=[*MEANS, *NAMES]).rename_axis(index="row", columns=None)
