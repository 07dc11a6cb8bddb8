"""Section 5: Tables 1 and 2 as pure functions of results. Measured and published numbers never share a column.

The DSC is in percent, as in the paper. A case is a subject: each labelled one is held out once, so that the subjects
of several folds are pooled.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pandas as pd

from sshsnet_core.anatomy import NAMES
from sshsnet_core.evaluation.paper import TABLE_1, TABLE_2, Published
from sshsnet_core.evaluation.results import ResultsError, write_text

TABLES: dict[int, Published] = {1: TABLE_1, 2: TABLE_2}
SUBJECT_MEAN, CLASS_MEAN = "mean of subjects", "mean of classes"
MEANS = (SUBJECT_MEAN, CLASS_MEAN)
NOT_RUN = "not run yet"

_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {"~": r"\~{}", "\\": r"\textbackslash{}"}
_PUBLISHED_CAPTION = {
    1: 'Published in the paper\'s Table 1: "on the training set by using fivefold cross validation", MRSpineSeg.',
    2: 'Published in the paper\'s Table 2: "on the testing set", MRSpineSeg.',
}


def summarise(results: pd.DataFrame, rows: Published, split: str = "validation") -> pd.DataFrame:
    """The tidy table: ``row, structure, source, mean, sd, n`` for the rows of ``rows``, in their order.

    ``structure`` is a name of the anatomy or one of the two overall means. ``mean of classes`` is the mean over the
    structures' means, of those scored in any subject; ``mean of subjects`` the mean over subjects of each subject's
    mean over its scored structures. ``sd`` is taken over subjects and ``n`` counts them. A row without results has no
    measured lines; published lines have neither ``sd`` nor ``n``, and the paper does not tell its mean of subjects.

    Raises ``ResultsError`` where a labelled case was scored in two folds.
    """
    scores = results[(results["metric"] == "dsc") & (results["split"] == split)]
    parts = []
    for row, published in rows.items():
        of_row = _one_score_a_case(scores[scores["method"] == row], row, split)
        if not of_row.empty:
            parts.append(_measured(of_row).assign(row=row, source="measured"))
        if published:
            parts.append(_published(published).assign(row=row, source="published"))
    columns = ["row", "structure", "source", "mean", "sd", "n"]
    if not parts:
        return pd.DataFrame(columns=columns)
    return pd.concat(parts, ignore_index=True)[columns].astype({"mean": float, "sd": float, "n": "Int64"})


def caption(results: pd.DataFrame, provenances: Sequence[Mapping[str, Any]], rows: Published, split: str) -> str:
    """What measured numbers must say of themselves: split, cohort, profile, folds, seed, effort, unlabelled pool."""
    shown = results[results["method"].isin(list(rows)) & (results["split"] == split)]
    if shown.empty:
        return f"{NOT_RUN.capitalize()}."
    sidecars = [sidecar for sidecar in provenances if set(sidecar["methods"]) & set(shown["method"])]

    def each(*keys: str) -> str:
        """The value under ``keys`` in the sidecars, or all of them where they differ."""
        values = [reduce(getitem, keys, sidecar) for sidecar in sidecars]
        return " and ".join(sorted({f"{value:g}" if isinstance(value, float) else str(value) for value in values}))

    pools = {sidecar["settings"]["cps"]["pool"] for sidecar in sidecars}
    return (
        f"DSC (%) {_split_words(split, pools)}. Cohort {each('cohort', 'name')} ({each('cohort', 'fingerprint')}), "
        f"profile {each('profile')}, {_folds(shown, each('settings', 'cohort', 'folds'))}, seed {each('seed')}, "
        f"effort {each('effort')}, unlabelled pool: {' and '.join(sorted(pools))}."
    )


def table_markdown(number: int, results: pd.DataFrame, provenances: Sequence[Mapping[str, Any]]) -> str:
    """Table ``number`` (1 or 2) for reading: the measured block, the published one below, then the test images' own."""
    parts = [f"# Table {number}"]
    for title, text, frame in _blocks(number, results, provenances):
        parts += [f"## {title}", text, frame.to_markdown(disable_numparse=True, colalign=_alignment(frame))]
    return "\n\n".join(parts) + "\n"


def table_latex(number: int, results: pd.DataFrame, provenances: Sequence[Mapping[str, Any]]) -> str:
    """The same blocks as LaTeX tables; they need the packages booktabs and graphicx."""
    parts = ["% Generated; needs \\usepackage{booktabs,graphicx}."]
    for index, (title, text, frame) in enumerate(_blocks(number, results, provenances)):
        tabular = frame.reset_index().to_latex(index=False, escape=True, column_format="l" + "r" * frame.shape[1])
        parts.append(
            "\\begin{table}\n"
            f"\\caption{{{_latex_text(f'{title}. {text}')}}}\n\\label{{tab:table{number}-{index + 1}}}\n"
            f"\\resizebox{{\\textwidth}}{{!}}{{%\n{tabular}}}\n\\end{{table}}"
        )
    return "\n\n".join(parts) + "\n"


def table_text(number: int, results: pd.DataFrame) -> str:
    """The overall means of Table ``number`` for a terminal, one line a row."""
    rows = TABLES[number]
    summary = summarise(results, rows)
    measured, published = _wide(summary, "measured", rows), _wide(summary, "published", rows)
    frame = measured[list(MEANS)].assign(**{f"published {CLASS_MEAN}": published[CLASS_MEAN]})
    return frame.to_markdown(tablefmt="simple", disable_numparse=True, colalign=_alignment(frame))


def write_table(folder: Path, number: int, results: pd.DataFrame, provenances: Sequence[Mapping[str, Any]]) -> None:
    """Writes ``table<number>.md``, ``.tex`` and the tidy ``.csv``, and ``table<number>_test_images.csv`` if any."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = TABLES[number]
    write_text(folder / f"table{number}.md", table_markdown(number, results, provenances))
    write_text(folder / f"table{number}.tex", table_latex(number, results, provenances))
    write_text(folder / f"table{number}.csv", summarise(results, rows).to_csv(index=False, float_format="%.4f"))
    if _has_test_images(results, rows):
        on_test = summarise(results, rows, "test")
        on_test = on_test[on_test["source"] == "measured"]
        write_text(folder / f"table{number}_test_images.csv", on_test.to_csv(index=False, float_format="%.4f"))


def _one_score_a_case(scores: pd.DataFrame, row: str, split: str) -> pd.DataFrame:
    """Case, structure, DSC in percent. A test image is scored by every fold's network: its score is their mean."""
    twice = scores[scores.duplicated(["case", "structure"])]
    if split == "validation" and not twice.empty:
        raise ResultsError(
            f"{row}: the case {twice.iloc[0]['case']} was held out in two folds; the results come from different "
            "divisions into folds. Measure the older ones again."
        )
    means = scores.groupby(["case", "structure"], as_index=False)["value"].mean()
    return means.assign(value=100 * means["value"])


def _measured(scores: pd.DataFrame) -> pd.DataFrame:
    classes = scores.groupby("structure")["value"].agg(["mean", "std", "count"]).reindex(list(NAMES))
    subjects = scores.groupby("case")["value"].mean()
    classes["count"] = classes["count"].fillna(0)
    classes.loc[CLASS_MEAN] = [classes["mean"].mean(), float("nan"), len(subjects)]
    classes.loc[SUBJECT_MEAN] = [subjects.mean(), subjects.std(), len(subjects)]
    return classes.rename_axis("structure").reset_index().rename(columns={"std": "sd", "count": "n"})


def _published(values: Mapping[str, float]) -> pd.DataFrame:
    means = pd.Series(values).reindex(list(NAMES))
    means[CLASS_MEAN] = means.mean()
    means[SUBJECT_MEAN] = float("nan")
    return means.rename_axis("structure").rename("mean").reset_index()


def _blocks(
    number: int, results: pd.DataFrame, provenances: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str, pd.DataFrame]]:
    """Title, caption and cells of each block."""
    rows = TABLES[number]
    summary = summarise(results, rows)
    text = caption(results, provenances, rows, "validation")
    blocks = [
        (f"Table {number}, measured", f"{text} {_notes(summary)}".strip(), _measured_cells(summary, rows)),
        (
            f"Table {number}, published",
            _PUBLISHED_CAPTION[number],
            _wide(summary, "published", rows)[[CLASS_MEAN, *NAMES]],
        ),
    ]
    if _has_test_images(results, rows):
        on_test = summarise(results, rows, "test")
        text = caption(results, provenances, rows, "test")
        title = f"Table {number}, measured on the test images"
        blocks.append((title, f"{text} {_notes(on_test)}".strip(), _measured_cells(on_test, rows)))
    return blocks


def _measured_cells(summary: pd.DataFrame, rows: Published) -> pd.DataFrame:
    """The rows' means as text, and a last row with the number of subjects behind each column."""
    cells = _wide(summary, "measured", rows)
    counts = summary[summary["source"] == "measured"].groupby("structure")["n"].agg(["min", "max"])
    counts = counts.reindex(cells.columns, fill_value=0)
    cells.loc["subjects"] = [str(low) if low == high else f"{low}-{high}" for low, high in counts.to_numpy()]
    return cells


def _wide(summary: pd.DataFrame, source: str, rows: Published) -> pd.DataFrame:
    """One line a row, one column an overall mean or structure, as text; a row without results says so."""
    means = summary[summary["source"] == source].pivot(index="row", columns="structure", values="mean")
    means = means.reindex(index=list(rows), columns=[*MEANS, *NAMES])
    missing = means.isna().all(axis=1)
    cells = means.map(lambda mean: "-" if pd.isna(mean) else f"{mean:.2f}")
    cells.loc[missing] = ""
    cells.loc[missing, MEANS[0]] = NOT_RUN if source == "measured" else "not published"
    return cells.rename_axis(index="row", columns=None)


def _notes(summary: pd.DataFrame) -> str:
    """What the reader of the measured cells has to know beyond the caption."""
    measured = summary[(summary["source"] == "measured") & summary["structure"].isin(NAMES)]
    counts = measured.groupby("structure", sort=False)["n"].agg(["min", "max"])
    notes = []
    never = list(counts.index[counts["max"] == 0])
    if never:
        notes.append(f"{', '.join(never)}: in no subject, so not in the mean of classes.")
    if (counts["min"] != counts["max"]).any():
        notes.append(
            "The number of subjects differs between rows where a structure was predicted that the truth lacks, "
            "which counts as 0, and where rows were run on different folds."
        )
    return " ".join(notes)


def _split_words(split: str, pools: set[str]) -> str:
    if split == "validation":
        own_pool, where = "held-out", "on the labelled cases held out of training, in native space"
    else:
        own_pool, where = "test", "on the test images, in native space"
    if own_pool in pools:
        return f"{where} (transductive: these images, without labels, were the unlabelled pool)"
    if "folder" in pools:
        return f"{where} (no part of the training; the unlabelled pool was a folder of its own)"
    return f"{where} (inductive: no part of the training or of the unlabelled pool)"


def _folds(results: pd.DataFrame, n_folds: str) -> str:
    folds = results.groupby("method", sort=False)["fold"].agg(lambda f: ", ".join(map(str, sorted(set(f)))))
    if folds.nunique() == 1:
        return f"{'folds' if ',' in folds.iloc[0] else 'fold'} {folds.iloc[0]} of {n_folds}"
    return f"folds of {n_folds}: " + "; ".join(f"{method} {which}" for method, which in folds.items())


def _has_test_images(results: pd.DataFrame, rows: Published) -> bool:
    return bool(((results["split"] == "test") & results["method"].isin(list(rows))).any())


def _alignment(frame: pd.DataFrame) -> tuple[str, ...]:
    return ("left",) + ("right",) * frame.shape[1]


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
