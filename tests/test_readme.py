"""README.md and the model card: their links lead somewhere, and the README's results are those of the tables in git."""

import re
from pathlib import Path

import pandas as pd
import pytest

from sshsnet_core.methods.weights import SHIPPED
from sshsnet_core.study import REPOSITORY

README = REPOSITORY / "README.md"
REFERENCE = REPOSITORY / "figures" / "reference"


@pytest.mark.parametrize("page", [README, SHIPPED.parent / "MODEL_CARD.md"], ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []


def told() -> dict[str, list[str]]:
    """The cells of the README's table of results, by row."""
    lines = README.read_text(encoding="utf-8").splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("| row | 16 held-out cases"))
    rows = {}
    for line in lines[header + 2 :]:
        if not line.startswith("|"):
            break
        row, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[row] = cells
    return rows


def measured() -> dict[str, list[str]]:
    """What those cells should say: from the statistics that notebook 06 wrote beside Tables 1 and 2."""
    tables = [pd.read_csv(REFERENCE / f"table{number}_statistics.csv") for number in (1, 2)]
    values = pd.concat(tables).drop_duplicates(["row", "split", "statistic"]).set_index(["row", "split", "statistic"])

    def of(row: str, split: str, statistic: str) -> float:
        return float(values.at[(row, split, statistic), "value"])  # type: ignore[arg-type]

    def means(row: str, split: str) -> str:
        return " / ".join(f"{of(row, split, f'mean of {what}'):.2f}" for what in ("subjects", "classes"))

    return {
        row: [
            means(row, "validation"),
            means(row, "test"),
            f"{of(row, 'test', 'named right by overlap'):.0f} %",
            f"{of(row, 'test', 'training, min'):.0f}",
        ]
        for row in values.index.unique("row")
    }


def test_the_readme_tells_what_was_measured() -> None:
    assert told() == measured()
