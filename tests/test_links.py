"""Links of the pages and notebooks lead to files and headings that are there."""

import re
from pathlib import Path

import pytest
from pages import MEASURED, README

from sshsnet_core.methods.weights import SHIPPED
from sshsnet_core.study import REPOSITORY


def anchors(page: Path) -> set[str]:
    """What a heading can be linked by: its words in small letters, joined by hyphens."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_nowhere(page: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    target = page.parent / file if file else page
    return not target.exists() or (bool(anchor) and target.suffix == ".md" and anchor not in anchors(target))


PAGES = [README, MEASURED, SHIPPED.parent / "MODEL_CARD.md", *sorted((REPOSITORY / "notebooks").glob("*.ipynb"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^):]+)\)", page.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if leads_nowhere(page, link)] == []


@pytest.mark.parametrize("link", ["no_such_page.md", "README.md#no-such-heading", "#nor-here"])
def test_a_link_that_leads_nowhere_is_found(link: str) -> None:
    assert leads_nowhere(README, link)
    assert not leads_nowhere(README, "figures/README.md#five-folds")
