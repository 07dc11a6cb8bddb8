"""figures/reference and figures/gpu: the tables in git follow from the scores beside them, case by case."""

from pathlib import Path

import pytest

from sshsnet_core.evaluation.results import read_provenance, read_results
from sshsnet_core.evaluation.tables import write_table
from sshsnet_core.study import REPOSITORY


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("kept", ["reference", "gpu"])
def test_the_tables_follow_from_the_scores(kept: str, number: int, tmp_path: Path) -> None:
    folder = REPOSITORY / "figures" / kept
    scores = folder / "results"
    write_table(tmp_path, number, read_results(scores), read_provenance(scores))
    pages = {page.name: page.read_text(encoding="utf-8") for page in tmp_path.iterdir()}
    assert f"table{number}.md" in pages
    assert pages == {page.name: page.read_text(encoding="utf-8") for page in folder.glob(f"table{number}*")}
