"""README.md and the model card: their links lead somewhere, and the README's results are those of the tables in git."""

import itertools
import re
from pathlib import Path

import pandas as pd
import pytest

from sshsnet_core.methods.weights import SHIPPED
from sshsnet_core.study import REPOSITORY
from sshsnet_core.transfer import KIND_FIRST

README = REPOSITORY / "README.md"
REFERENCE = REPOSITORY / "figures" / "reference"


@pytest.mark.parametrize("page", [README, SHIPPED.parent / "MODEL_CARD.md"], ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []


def table(page: Path, header: str) -> list[list[str]]:
    """The cells of the first table of a page whose header begins so, row by row."""
    lines = page.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.replace(" ", "").startswith(header))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[first + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


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
    assert {row: cells for row, *cells in table(README, "|row|16held-outcases")} == measured()


def test_the_readme_tells_what_was_measured_on_real_scans() -> None:
    """The first table of real.md (held back, slices as they are): the networks' own names and the column's."""
    told = table(README, "|trainedon|levelsnamedby|")
    rows = [row for row in table(REFERENCE / "real.md", "|network|names|") if row[1] != KIND_FIRST]
    means = [[cell.split()[0] for cell in cells] for _, _, *cells in rows]
    assert [cells for _, _, *cells in told] == [
        [bodies, outlines, discs, f"{right} %"] for bodies, outlines, discs, _, right in means
    ]
