import pytest

from sshsnet_core.anatomy import NAMES
from sshsnet_core.evaluation.paper import TABLE_1, TABLE_2


def class_means(table):
    return {row: round(sum(values.values()) / len(values), 2) for row, values in table.items()}


def test_the_rows_have_the_paper_s_order_and_means():
    assert list(class_means(TABLE_1).items()) == [
        ("SSHSNet-2D-w/o-Pre-CPS", 72.86),
        ("SSHSNet-2D-w/o-CPS", 75.60),
        ("SSHSNet-2D-CPS", 82.44),
        ("SSHSNet-3D", 74.66),
        ("SSHSNet-w/o-CTAM", 82.72),
        ("SSHSNet", 86.09),
    ]
    assert list(class_means(TABLE_2).items()) == [
        ("2D nnU-Net", 80.99),
        ("3D nnU-Net", 74.29),
        ("CoTr", 73.57),
        ("SpineParseNet", 81.62),
        ("SSHSNet", 86.09),
    ]


@pytest.mark.parametrize("table", [TABLE_1, TABLE_2])
def test_every_row_has_all_19_structures_in_their_order(table):
    assert all(tuple(values) == NAMES for values in table.values())


def test_the_two_tables_print_the_same_numbers_for_the_paper_s_own_method():
    assert TABLE_1["SSHSNet"] == TABLE_2["SSHSNet"]


def test_without_the_two_rarest_structures_the_margin_nearly_vanishes():
    means = {
        row: sum(v for name, v in values.items() if name not in ("T9", "T9/T10")) / 17
        for row, values in TABLE_2.items()
    }
    assert {row: round(mean, 2) for row, mean in means.items()} == {
        "2D nnU-Net": 84.94,
        "3D nnU-Net": 80.96,
        "CoTr": 80.64,
        "SpineParseNet": 86.20,
        "SSHSNet": 86.79,
    }
