"""What the paper's own tables say, worked out from ``paper``: section 5's claims beside the numbers printed there."""

import numpy as np
import pandas as pd

from sshsnet_core.anatomy import NAMES
from sshsnet_core.evaluation.paper import OURS, TABLE_1, TABLE_2, Published
from sshsnet_core.evaluation.summary import CLASS_MEAN, COMMON_MEAN, RARE, overall_means

PRINTED: dict[str, Published] = {"Table 1": TABLE_1, "Table 2": TABLE_2}


def printed_means() -> pd.DataFrame:
    """``table, row, mean of classes, mean of 17 classes`` of every printed row, DSC in percent."""
    lines = []
    for table, rows in PRINTED.items():
        for row, values in rows.items():
            _, classes, common = overall_means(np.array([[values[name] for name in NAMES]]))
            lines.append({"table": table, "row": row, CLASS_MEAN: float(classes), COMMON_MEAN: float(common)})
    return pd.DataFrame(lines)


def identical_rows() -> pd.DataFrame:
    """``Table 1, Table 2``: the pairs of rows that print the same 19 numbers for two different sets of images."""
    pairs = [(first, second) for first in TABLE_1 for second in TABLE_2 if TABLE_1[first] == TABLE_2[second]]
    return pd.DataFrame(pairs, columns=list(PRINTED))


def margins() -> pd.DataFrame:
    """A line a table: SSHSNet's margin over the best other row, and how much of it is T9 and T9/T10.

    ``margin`` is the difference of the means of classes in percentage points, ``from T9 and T9/T10`` the part of it
    that these two structures contribute (the sum of their differences over 19), ``share (%)`` that part in percent of
    the margin. ``margin over 17 classes`` is over the same row, without the two.
    """
    means = printed_means()
    lines = []
    for table, rows in PRINTED.items():
        of_table = means[means["table"] == table].set_index("row").drop(columns="table")
        best = str(of_table[CLASS_MEAN].drop(OURS).idxmax())
        margin, common = (of_table.loc[OURS] - of_table.loc[best]).to_numpy(float)
        rare = sum(rows[OURS][name] - rows[best][name] for name in RARE) / len(NAMES)
        lines.append(
            {
                "table": table,
                "best other row": best,
                "margin": margin,
                f"from {' and '.join(RARE)}": rare,
                "share (%)": 100 * rare / margin,
                "margin over 17 classes": common,
            }
        )
    return pd.DataFrame(lines)


def audit_markdown() -> str:
    """The three findings for reading, in one piece of Markdown."""
    same = [f"{first} of Table 1 and {second} of Table 2" for first, second in identical_rows().itertuples(index=False)]
    parts = [
        "# What the paper's own tables say",
        "Worked out from the printed numbers alone; nothing here is measured. DSC in percent.",
        "## Overall means of the printed rows",
        printed_means().to_markdown(index=False, floatfmt=".2f"),
        "## Rows that are identical in all 19 numbers",
        f"{'; '.join(same)}. Table 1 is captioned as a cross-validation on the training set, Table 2 as the hidden "
        "test set: one of the two cannot be what its caption says.",
        f"## How much of SSHSNet's margin is {' and '.join(RARE)}",
        margins().to_markdown(index=False, floatfmt=".2f"),
    ]
    return "\n\n".join(parts) + "\n"
