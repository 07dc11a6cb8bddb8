"""Section 5: Tables 1 and 2 as pure functions of results. Measured and published numbers never share a column.

Table 1's own split is the validation (fivefold cross-validation), Table 2's the test images. Each table shows its own
split, the published numbers, and the other split, so that one metric code compares all rows on both.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sshsnet_core.evaluation.captions import IMAGES, STATISTICS_WORDS, Provenances, caption, folds_of, notes
from sshsnet_core.evaluation.cells import (
    interval,
    measured_cells,
    published_cells,
    statistics_cells,
    structure_cells,
)
from sshsnet_core.evaluation.paper import OURS, TABLE_1, TABLE_2, Published
from sshsnet_core.evaluation.results import SPLITS, write_text
from sshsnet_core.evaluation.statistics import mean_intervals, statistics
from sshsnet_core.evaluation.summary import CLASS_MEAN, MEANS, scores_by_subject, summarise

PUBLISHED: dict[int, Published] = {1: TABLE_1, 2: TABLE_2}
OWN_SPLIT = {1: "validation", 2: "test"}

_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {"~": r"\~{}", "\\": r"\textbackslash{}"}
_PUBLISHED_CAPTION = {
    1: 'Published in the paper\'s Table 1: "on the training set by using fivefold cross validation", MRSpineSeg.',
    2: 'Published in the paper\'s Table 2: "on the testing set", MRSpineSeg.',
}


class Block(NamedTuple):
    """One part of a table: its heading, what its reader must know, and its cells as text, one line a row."""

    title: str
    text: str
    cells: pd.DataFrame


def rows_of(number: int, titles: Sequence[str]) -> Published:
    """The lines of Table ``number`` (1 or 2): rows by title, each with the paper's numbers there, if it has any."""
    return {title: PUBLISHED[number].get(title, {}) for title in titles}


def table_blocks(number: int, titles: Sequence[str], results: pd.DataFrame, provenances: Provenances) -> list[Block]:
    """Table ``number`` (1 or 2) with these rows: the means on its own split, the published ones, those on the other
    split; then, for each split, mean, sd and n of every structure, and the statistics.

    Where the own split has no scores and the other has, the other comes first and the text says why.
    """
    rows = rows_of(number, titles)
    splits = _splits(number, rows, results)
    means, details = [], []
    for split in splits:
        words, summary = caption(results, provenances, rows, split), summarise(results, rows, split)
        text = " ".join(filter(None, (words, notes(summary))))
        means.append(Block(f"Table {number}, measured on {IMAGES[split]}", text, measured_cells(summary, rows)))
        if _scored(results, rows, split):
            same = f"The rows of Table {number}, measured on {IMAGES[split]}."
            text = f"{same} DSC (%): mean ± sd (subjects)."
            details.append(Block(f"Table {number}, by structure, on {IMAGES[split]}", text, structure_cells(summary)))
            text = f"{same} {STATISTICS_WORDS}"
            cells = statistics_cells(statistics(results, provenances, rows, split))
            details.append(Block(f"Table {number}, statistics, on {IMAGES[split]}", text, cells))
    if splits[0] != OWN_SPLIT[number]:
        means[0] = means[0]._replace(text=f"{_why_not_own(number, provenances)} {means[0].text}")
    print_out = published_cells(summarise(results, rows), rows)
    return [means[0], Block(f"Table {number}, published", _PUBLISHED_CAPTION[number], print_out), *means[1:], *details]


def table_markdown(number: int, titles: Sequence[str], results: pd.DataFrame, provenances: Provenances) -> str:
    """Table ``number`` (1 or 2) for reading, block by block."""
    parts = [f"# Table {number}"]
    for title, text, cells in table_blocks(number, titles, results, provenances):
        parts += [f"## {title}", text, cells.to_markdown(disable_numparse=True, colalign=_alignment(cells))]
    return "\n\n".join(parts) + "\n"


def table_latex(number: int, titles: Sequence[str], results: pd.DataFrame, provenances: Provenances) -> str:
    """The same blocks as LaTeX tables; they need the packages booktabs and graphicx."""
    parts = ["% Generated; needs \\usepackage{booktabs,graphicx}."]
    for index, (title, text, cells) in enumerate(table_blocks(number, titles, results, provenances)):
        tabular = cells.reset_index().to_latex(index=False, escape=True, column_format="l" + "r" * cells.shape[1])
        parts.append(
            "\\begin{table}\n"
            f"\\caption{{{_latex_text(f'{title}. {text}')}}}\n\\label{{tab:table{number}-{index + 1}}}\n"
            f"\\resizebox{{\\textwidth}}{{!}}{{%\n{tabular}}}\n\\end{{table}}"
        )
    return "\n\n".join(parts) + "\n"


def table_text(number: int, titles: Sequence[str], results: pd.DataFrame) -> str:
    """The overall means of Table ``number`` for a terminal, one line a row, on the split that comes first in it."""
    rows = rows_of(number, titles)
    split = _splits(number, rows, results)[0]
    summary = summarise(results, rows, split)
    cells = measured_cells(summary, rows)[list(MEANS)].loc[list(rows)]
    ours = scores_by_subject(results, OURS, split).to_numpy()
    cells.loc[OURS] = [mean + interval(*ends) for mean, ends in zip(cells.loc[OURS], mean_intervals(ours), strict=True)]
    cells[f"published {CLASS_MEAN}"] = published_cells(summary, rows)[CLASS_MEAN].reindex(cells.index, fill_value="")
    table = cells.to_markdown(tablefmt="simple", disable_numparse=True, colalign=_alignment(cells))
    shown = results[_measured_on(split, results, rows)]
    told = [f"DSC (%) on {IMAGES[split]}"] + ([] if shown.empty else [folds_of(shown, split)])
    return f"{table}\n\n{', '.join(told)}; in brackets, 95 % intervals over subjects, one training a fold."


def write_table(
    folder: Path, number: int, titles: Sequence[str], results: pd.DataFrame, provenances: Provenances
) -> None:
    """Writes ``table<N>.md``, ``.tex``, and tidy CSV files: ``table<N>.csv`` (its own split and the published numbers),
    ``table<N>_statistics.csv`` (both splits), and ``table<N>_<images>.csv`` (the other split), if any.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows, own = rows_of(number, titles), OWN_SPLIT[number]
    write_text(folder / f"table{number}.md", table_markdown(number, titles, results, provenances))
    write_text(folder / f"table{number}.tex", table_latex(number, titles, results, provenances))
    write_text(folder / f"table{number}.csv", _csv(summarise(results, rows, own)))
    tidy = [statistics(results, provenances, rows, split).assign(split=split) for split in SPLITS]
    columns = ["split", *tidy[0].columns.drop("split")]
    write_text(folder / f"table{number}_statistics.csv", _csv(pd.concat(tidy)[columns]))
    (other,) = set(SPLITS) - {own}
    if _scored(results, rows, other):
        summary = summarise(results, rows, other)
        name = {"validation": "validation", "test": "test_images"}[other]
        write_text(folder / f"table{number}_{name}.csv", _csv(summary[summary["source"] == "measured"]))


def _measured_on(split: str, results: pd.DataFrame, rows: Published) -> "pd.Series[bool]":
    return (results["split"] == split) & results["method"].isin(list(rows))


def _scored(results: pd.DataFrame, rows: Published, split: str) -> bool:
    return bool(_measured_on(split, results, rows).any())


def _splits(number: int, rows: Published, results: pd.DataFrame) -> list[str]:
    """The splits to show, the table's own first unless it has no scores and the other has."""
    own = OWN_SPLIT[number]
    in_order = sorted(SPLITS, key=lambda split: split != own)
    return [split for split in in_order if _scored(results, rows, split)] or [own]


def _why_not_own(number: int, provenances: Provenances) -> str:
    own = OWN_SPLIT[number]
    if any(sidecar["split"] == own for sidecar in provenances):
        return f"The truth of {IMAGES[own]} is hidden from us, so that the other split comes first."
    return f"No row has been run on {IMAGES[own]}, so that the other split comes first."


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.4f", lineterminator="\n")


def _alignment(frame: pd.DataFrame) -> tuple[str, ...]:
    return ("left",) + ("right",) * frame.shape[1]


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
