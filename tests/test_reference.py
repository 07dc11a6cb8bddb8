"""figures/reference: the tables in git follow from the scores that are kept beside them, case by case."""

from pathlib import Path

import pytest

from sshsnet_core.evaluation.results import read_provenance, read_results
from sshsnet_core.evaluation.tables import write_table
from sshsnet_core.study import REPOSITORY

REFERENCE = REPOSITORY / "figures" / "reference"


@pytest.mark.parametrize("number", [1, 2])
def test_the_tables_follow_from_the_scores(number: int, tmp_path: Path) -> None:
    scores = REFERENCE / "results"
    write_table(tmp_path, number, read_results(scores), read_provenance(scores))
    pages = sorted(tmp_path.iterdir())
    assert len(pages) == 5
    for page in pages:
        assert page.read_text(encoding="utf-8") == (REFERENCE / page.name).read_text(encoding="utf-8"), page.name
