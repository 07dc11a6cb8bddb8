"""Tables 1 and 2 as the paper prints them: mean DSC in percent of each structure. Data only; nothing here is measured.

The two last rows are the same 19 numbers, although Table 1 is captioned as a cross-validation on the training set and
Table 2 as the hidden test set: one of the two cannot be what its caption says.
"""

from sshsnet_core.anatomy import NAMES

#: A table: row name, then structure name, to the mean DSC in percent. A row of one's own has no published numbers.
Published = dict[str, dict[str, float]]


def _row(*values: float) -> dict[str, float]:
    return dict(zip(NAMES, values, strict=True))


#: The row that the paper calls "Ours".
OURS = "SSHSNet"

# fmt: off
_OURS = _row(
    87.91, 88.66, 89.60, 89.56, 89.64, 90.20, 89.53, 83.23, 71.72, 75.77,
    87.71, 88.31, 89.95, 89.88, 90.76, 90.41, 88.42, 70.02, 84.36,
)

#: Table 1: the parts of SSHSNet, "on the training set by using fivefold cross validation". Its last row is "Ours".
TABLE_1: Published = {
    "SSHSNet-2D-w/o-Pre-CPS": _row(
        82.58, 84.83, 85.46, 85.68, 85.13, 85.38, 83.38, 76.14, 51.99, 0.00,
        84.17, 84.36, 87.31, 86.88, 87.39, 86.63, 81.73, 65.32, 0.00,
    ),
    "SSHSNet-2D-w/o-CPS": _row(
        85.72, 87.20, 87.73, 87.78, 87.55, 87.80, 85.87, 81.17, 62.10, 0.00,
        86.24, 86.33, 88.86, 88.21, 88.75, 88.20, 84.97, 71.91, 0.00,
    ),
    "SSHSNet-2D-CPS": _row(
        87.30, 88.09, 88.72, 88.99, 88.80, 88.83, 86.62, 82.17, 57.27, 61.30,
        87.12, 86.60, 89.62, 89.20, 89.43, 89.09, 84.34, 75.69, 57.18,
    ),
    "SSHSNet-3D": _row(
        86.17, 86.84, 87.39, 87.70, 87.31, 87.63, 85.87, 81.15, 56.34, 0.00,
        85.67, 85.60, 88.40, 87.93, 88.26, 87.35, 83.14, 65.87, 0.00,
    ),
    "SSHSNet-w/o-CTAM": _row(
        87.96, 88.67, 89.12, 89.32, 89.10, 89.04, 87.05, 83.82, 60.35, 55.83,
        87.24, 86.88, 90.02, 89.47, 89.38, 89.06, 85.64, 77.06, 56.66,
    ),
    OURS: _OURS,
}

#: Table 2: other methods, "on the testing set". Its last row is "Ours".
TABLE_2: Published = {
    "2D nnU-Net": _row(
        89.06, 88.65, 88.91, 89.01, 89.08, 89.92, 89.45, 80.72, 62.29, 38.91,
        86.59, 86.70, 88.40, 88.32, 89.22, 88.76, 87.23, 61.74, 55.81,
    ),
    "3D nnU-Net": _row(
        88.59, 87.70, 88.35, 87.51, 87.01, 87.81, 87.08, 74.85, 31.30, 10.07,
        85.94, 86.30, 87.09, 86.67, 87.47, 86.94, 85.53, 50.23, 25.05,
    ),
    "CoTr": _row(
        88.21, 87.31, 88.12, 88.00, 87.49, 86.96, 85.41, 73.31, 29.89, 8.38,
        85.98, 86.53, 88.05, 87.75, 88.08, 85.83, 84.62, 49.27, 18.65,
    ),
    "SpineParseNet": _row(
        89.22, 89.63, 89.64, 89.87, 90.08, 90.70, 89.53, 82.63, 60.15, 36.62,
        87.74, 88.03, 89.98, 90.01, 90.43, 89.77, 88.10, 69.83, 48.73,
    ),
    OURS: _OURS,
}
# fmt: on
