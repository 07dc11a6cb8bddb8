"""The paper's own tables against the numbers that were worked out from them by hand."""

import pytest

from sshsnet_core.evaluation.audit import audit_markdown, identical_rows, margins, printed_means
from sshsnet_core.evaluation.paper import TABLE_1, TABLE_2


def test_means_of_19_and_of_17_classes():
    means = printed_means()
    assert means[["table", "row"]].to_numpy().tolist() == [
        *(["Table 1", row] for row in TABLE_1),
        *(["Table 2", row] for row in TABLE_2),
    ]
    assert means["mean of classes"].round(2).tolist() == [
        *(72.86, 75.60, 82.44, 74.66, 82.72, 86.09),
        *(80.99, 74.29, 73.57, 81.62, 86.09),
    ]
    of_table_2 = means[means["table"] == "Table 2"]["mean of 17 classes"]
    assert of_table_2.round(2).tolist() == [84.94, 80.96, 80.64, 86.20, 86.79]


def test_the_two_rows_of_our_own_method_are_the_same_19_numbers():
    assert identical_rows().to_numpy().tolist() == [["SSHSNet", "SSHSNet"]]


def test_most_of_the_margin_is_two_rare_structures():
    table = margins().set_index("table")
    assert table["best other row"].tolist() == ["SSHSNet-w/o-CTAM", "SpineParseNet"]
    # (75.77 - 36.62 + 84.36 - 48.73) / 19 of 86.09 - 81.62.
    second = table.loc["Table 2"]
    assert second["margin"] == pytest.approx(4.47, abs=0.01)
    assert second["from T9 and T9/T10"] == pytest.approx(74.78 / 19)
    assert second["share (%)"] == pytest.approx(88.0, abs=0.1)
    assert second["margin over 17 classes"] == pytest.approx(86.79 - 86.20, abs=0.01)
    # The parts add up: 17 of 19 classes carry the rest.
    rest = table["margin"] - table["from T9 and T9/T10"]
    assert rest.tolist() == pytest.approx((table["margin over 17 classes"] * 17 / 19).tolist())


def test_the_markdown_holds_the_three_findings():
    text = audit_markdown()
    for finding in ("| 86.09 |", "SSHSNet of Table 1 and SSHSNet of Table 2", "88.03"):
        assert finding in " ".join(text.split())
