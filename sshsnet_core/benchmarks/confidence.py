"""How sure naming says to be, and how sure it may be: ``python -m sshsnet_core.benchmarks.confidence``.

Phantoms as they are drawn are too seldom named wrong to tell temperatures apart. So they are made hard: the field of
view is cut off anywhere from the sacrum to L3, or is short, and there is noise. The temperature is fitted to the
phantoms that fold 0 of profile ``real`` holds out, and judged on those of its pool, which no network has learnt from.
Half an hour or more on one core.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from sshsnet_core.anatomy import by_name
from sshsnet_core.data.store import StoredCase
from sshsnet_core.evaluation.chain import Chain, alternatives
from sshsnet_core.evaluation.column import Column
from sshsnet_core.evaluation.naming import TEMPERATURE
from sshsnet_core.methods.weights import SHIPPED, Weights
from sshsnet_core.progress import Progress
from sshsnet_core.study import Study

#: Millimetres of the column, at least and at most, that a short view shows: about four levels.
_SHORT_MM = (110.0, 160.0)
#: Standard deviation of the noise, at most: as much as the image, which is z-scored, has contrast.
_NOISE = 1.0
#: Columns are counted in these bands of what naming says.
_BANDS = (0.0, 0.5, 0.8, 0.95, 1.0)


class Named(NamedTuple):
    """A phantom in a field of view: the fits of the chains of names, the best first, and whether that one is right."""

    view: str
    fits: npt.NDArray[np.floating]
    right: bool


def main() -> None:
    """Prints the temperature that is honest on hard phantoms, and what confidence is worth on others of their kind."""
    study, networks = Study.open("real"), Weights.read(SHIPPED).trained
    fitted = _all_named(study, study.folds[0].validation, networks, "to fit the temperature")
    judged = _all_named(study, study.store.unlabelled, networks, "to judge it")
    print(f"\nFitted to {len(fitted)} columns: temperature {fit_temperature(fitted):.1f}, in use is {TEMPERATURE:.1f}.")
    for title, table in (("by field of view", by_view(judged)), ("by what naming says", by_confidence(judged))):
        print(f"\nOther phantoms, {title}:\n{table.to_string(float_format='{:.2f}'.format)}")


def _all_named(
    study: Study, names: Sequence[str], networks: Callable[[np.ndarray], np.ndarray], title: str
) -> list[Named]:
    found = []
    with Progress(title, len(names), "case") as progress:
        for name in names:
            found += named(study.store.case(name), networks)
            progress.advance(name)
    return found


def named(case: StoredCase, networks: Callable[[np.ndarray], np.ndarray]) -> list[Named]:
    """What naming makes of a phantom in each of its fields of view, under noise.

    A chain is right if more of its names are where they belong than of any other's. A view in which no vertebra is
    found, from which to count, is left out.
    """
    rng = np.random.default_rng(int(case.name.removeprefix("Case")))
    labels, found = np.array(case.labels), []
    for view, rows in fields_of_view(labels, case.restoration.spacing[1], rng).items():
        image = np.array(case.image[:, rows])
        noise = rng.uniform(0, _NOISE) * rng.standard_normal(image.shape, np.float32)
        column = Column.of(networks(image + noise), case.restoration.spacing)
        chains = [] if column is None else alternatives(column)
        if column is not None and len(chains) > 1:
            counts = [names_right(chain, column, labels[:, rows]) for chain in chains]
            found.append(Named(view, np.array([chain.fit for chain in chains]), counts[0] > max(counts[1:])))
    return found


def fields_of_view(labels: np.ndarray, row_mm: float, rng: np.random.Generator) -> dict[str, slice]:
    """The rows of the whole phantom (Z, H, W); of one that ends anywhere from the middle of the sacrum to that of L3;
    and of a short one that ends so. Where sacrum or L3 are out of view, there is the whole alone."""
    views = {"whole": slice(0, labels.shape[1])}
    rows = [np.flatnonzero((labels == by_name(name).label).any(axis=(0, 2))) for name in ("L3", "S")]
    if all(len(of) for of in rows):
        above, below = (int(of.mean()) for of in rows)
        end, short_end = rng.integers(above, below, 2, endpoint=True)
        start = max(0, short_end - round(rng.uniform(*_SHORT_MM) / row_mm))
        views |= {"cut off below": slice(0, int(end)), "short": slice(int(start), int(short_end))}
    return views


def names_right(chain: Chain, column: Column, labels: np.ndarray) -> int:
    """How many segments hold the middle of the structure (Z, H, W) whose name they bear."""
    count = 0
    for segment in chain.segments:
        voxels = np.argwhere(labels == segment.structure.label)
        if len(voxels):
            _, row, place = voxels.mean(axis=0).astype(int)
            count += int(segment.start <= column.along[row, place] < segment.end)
    return count


def confidence(column: Named, temperature: float) -> float:
    """The probability that naming gives its best chain."""
    return float(softmax(column.fits / temperature)[0])


def fit_temperature(columns: Sequence[Named]) -> float:
    """The temperature under which confidence is honest: it makes what was right, and what was not, most likely."""
    right = np.array([column.right for column in columns])

    def surprise(logarithm: float) -> float:
        sure = np.array([confidence(column, np.exp(logarithm)) for column in columns])
        return -float(np.log(np.where(right, sure, 1 - sure).clip(1e-12)).sum())

    return float(np.exp(minimize_scalar(surprise, bounds=(-2, 8), method="bounded").x))


def by_view(columns: Sequence[Named]) -> pd.DataFrame:
    """A row for each field of view and for all together: how many columns, the share named right, and what naming says
    of it in the mean."""
    told = _told(columns)
    return pd.concat([_summary(told, told["view"]), _summary(told, pd.Series("all", told.index))])


def by_confidence(columns: Sequence[Named]) -> pd.DataFrame:
    """The same, a row for each band of what naming says."""
    told = _told(columns)
    names = [f"{low} to {high}" for low, high in pairwise(_BANDS)]
    return _summary(told, pd.cut(told["says"], list(_BANDS), labels=names, include_lowest=True))


def _told(columns: Sequence[Named]) -> pd.DataFrame:
    """A row for each column."""
    rows = [(column.view, float(column.right), confidence(column, TEMPERATURE)) for column in columns]
    return pd.DataFrame(rows, columns=["view", "named right", "says"])


def _summary(told: pd.DataFrame, groups: pd.Series) -> pd.DataFrame:
    grouped = told.groupby(groups, observed=True)[["named right", "says"]]
    return grouped.mean().assign(columns=grouped.size())


if __name__ == "__main__":
    main()
