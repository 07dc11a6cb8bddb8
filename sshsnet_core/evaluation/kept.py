"""What networks still find of each kind after they have learnt from unlabelled scans: to count voxels takes no mask."""

from collections.abc import Collection

import pandas as pd

from sshsnet_core.evaluation.transfer import COUNTED, VOXELS
from sshsnet_core.evaluation.transfer_table import part_of

NOTE = (
    "Pseudo labels that eat a kind leave fewer voxels of it. Voxels after CPS in percent of those before it, levels "
    "named from the column: each subject's mean over the seeds, then the mean over subjects; in brackets lowest and "
    "highest subject. Arches are posterior elements, which no mask annotates: more or fewer may be worse or better."
)


def kept(results: pd.DataFrame, before: str, after: str, names: str) -> pd.DataFrame:
    """A line a case and way of taking slices, a column a kind of ``COUNTED``: percent, the mean over seeds.

    ``results`` as ``transfer_table.COLUMNS``; ``before`` and ``after`` are two of its networks, both with ``names``. A
    kind of which the first finds nothing is NaN.
    """
    counted = results[(results["metric"] == VOXELS) & (results["names"] == names)]
    by_network = counted.pivot(index=["slices", "case", "seed", "structure"], columns="network", values="value")
    percent = (100 * by_network[after] / by_network[before].where(by_network[before] > 0)).unstack("structure")
    return percent.groupby(["slices", "case"], sort=False).mean().reindex(columns=list(COUNTED))


def kept_markdown(percent: pd.DataFrame, chosen_on: Collection[str]) -> str:
    """``kept`` for reading: the cases held back and the others, for each way of taking slices."""
    part = pd.Series([part_of(case, chosen_on) for case in percent.index.get_level_values("case")], percent.index)
    cells = percent.groupby([part.rename("cases"), "slices"], sort=False).agg(_cell)
    table = cells.reset_index().rename_axis(columns=None)
    text = table.to_markdown(index=False, colalign=("left", "left", *("right" for _ in COUNTED)))
    return f"## What is left of each kind after CPS\n\n{NOTE}\n\n{text}\n"


def _cell(kind: pd.Series) -> str:
    return f"{kind.mean():.0f} [{kind.min():.0f}, {kind.max():.0f}] ({kind.count()})"
