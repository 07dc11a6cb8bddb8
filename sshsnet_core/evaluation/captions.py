"""What measured numbers must say of themselves, in words: on which images, from which trainings, and who saw what."""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Any

import pandas as pd

from sshsnet_core.anatomy import NAMES
from sshsnet_core.evaluation.identification import CENTROID_LIMIT_MM

NOT_RUN = "not run yet"
#: The images of a split, as every caption calls them.
IMAGES = {"validation": "the held-out cases", "test": "the test images"}
#: The pool that holds the very images of a split.
OWN_POOL = {"validation": "held-out", "test": "test"}

Provenances = Sequence[Mapping[str, Any]]


def caption(
    results: pd.DataFrame, provenances: Provenances, rows: Iterable[str], split: str, shown: str = "DSC (%)"
) -> str:
    """What is ``shown``, on which images; cohort, profile, folds, seed, effort; each row's unlabelled pool, and which
    rows have seen the images."""
    told = results[results["method"].isin(list(rows)) & (results["split"] == split)]
    if told.empty:
        return f"{NOT_RUN.capitalize()}."
    methods = list(dict.fromkeys(row for row in rows if row in set(told["method"])))
    sidecars = [s for s in provenances if s["split"] == split and set(s["methods"]) & set(methods)]

    def each(*keys: str) -> str:
        """The value under ``keys`` in the sidecars, or all of them where they differ."""
        values = [reduce(getitem, keys, sidecar) for sidecar in sidecars]
        return " and ".join(sorted({f"{value:g}" if isinstance(value, float) else str(value) for value in values}))

    return (
        f"{shown} on {IMAGES[split]}, in native space. Cohort {each('cohort', 'name')} "
        f"({each('cohort', 'fingerprint')}), profile {each('profile')}, "
        f"{folds_of(told, split, each('settings', 'cohort', 'folds'))}, seed {each('seed')}, effort {each('effort')}. "
        f"{_pools(sidecars, methods, split)}"
    )


def notes(summary: pd.DataFrame) -> str:
    """What the reader of the measured cells has to know beyond the caption."""
    measured = summary[summary["source"] == "measured"]
    counts = measured[measured["structure"].isin(NAMES)].groupby("structure", sort=False)["n"].agg(["min", "max"])
    sentences = []
    never = list(counts.index[counts["max"] == 0])
    if never:
        sentences.append(f"{', '.join(never)}: in no subject, so not in the mean of classes.")
    if (counts["min"] != counts["max"]).any():
        sentences.append(
            "The number of subjects differs between rows where a structure was predicted that the truth lacks, "
            "which counts as 0, and where rows were run on different folds."
        )
    return " ".join(sentences)


#: How the statistics are to be read.
STATISTICS_WORDS = (
    "In brackets, 95 % intervals: percentiles of a bootstrap over subjects, with one training a fold; they tell "
    "nothing about another seed. A resample that lacks a structure is left out where classes are averaged. "
    "True structures: without the zeros for names that the truth does not hold. "
    "The difference is of subjects' means, paired; p is the two-sided Wilcoxon signed-rank test, with Holm's "
    "correction for the tests of this table on these images. Levels named right are in percent of the truth's: by "
    f"centroid, where the name's centroid lies within {CENTROID_LIMIT_MM:.0f} mm of the true one and no other of "
    "its kind is as near; by overlap, where the name is the commonest on the structure. HD95 is over structures "
    "that were predicted at all. Training: minutes, all folds together; a stage that rows share counts for each of "
    "them. A dash: too few subjects, or not measured."
)


def folds_of(shown: pd.DataFrame, split: str, total: str = "") -> str:
    """Which folds, of how many, these results of a split are of; row by row where rows differ."""
    of = f" of {total}" if total else ""
    folds = shown.groupby("method", sort=False)["fold"].agg(lambda f: ", ".join(sorted(set(f))))
    one = "ensemble of folds" if split == "test" else "folds"
    if folds.nunique() == 1:
        which = folds.iloc[0]
        return f"{one if ',' in which or '+' in which else 'fold'} {which}{of}"
    return f"{one}{of}: " + "; ".join(f"{method} {which}" for method, which in folds.items())


def _pools(sidecars: Provenances, methods: Sequence[str], split: str) -> str:
    """Each row's unlabelled pool, and which rows are transductive on this split."""
    pools = {row: " and ".join(sorted({s["pool"] for s in sidecars if row in s["methods"]})) for row in methods}
    if len(set(pools.values())) == 1:
        words = f"Unlabelled pool: {pools[methods[0]]}."
    else:
        of_pool = [
            f"{pool} ({', '.join(row for row in methods if pools[row] == pool)})"
            for pool in dict.fromkeys(pools.values())
        ]
        words = f"Unlabelled pools: {'; '.join(of_pool)}."
    seen = [row for row in methods if OWN_POOL[split] in pools[row].split(" and ")]
    if not seen:
        return f"{words} All rows are inductive here: these images were no part of their training."
    who = "all rows" if len(seen) == len(methods) else f"{', '.join(seen)}; the other rows are inductive"
    return f"{words} Transductive here (these images, without labels, were the unlabelled pool): {who}."
