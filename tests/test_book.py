"""The book: every notebook a page that needs no network, no kernel and no server."""

import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from sshsnet_core.book.executions import (
    BookError,
    execute,
    find_execution,
    finished,
    outdated,
    parameters,
    reading_order,
)
from sshsnet_core.book.pages import Exporter, question, render, still, title
from sshsnet_core.book.site import write_book

NOTEBOOKS = reading_order(Path(__file__).resolve().parents[1] / "notebooks")
PARAMETERS = new_code_cell('profile = "mini"\nmethod = "a"\nfold = 0', metadata={"tags": ["parameters"]})
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WIDGET = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "Viewer()"}


def soup(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


def page(*cells: nbformat.NotebookNode, pages: tuple[str, ...] = ("02_train_2d",)) -> BeautifulSoup:
    about = {"title": "T", "ran": "", "before": None, "after": None}
    return soup(render(Exporter(pages), "page", new_notebook(cells=list(cells)), about).html)


def executed(path: Path, ran: dict[str, Any], count: int | None = 1, outputs: tuple[Any, ...] = ()) -> Path:
    """An executed copy with these papermill parameters and one cell."""
    path.parent.mkdir(exist_ok=True)
    cells = [new_code_cell("1 + 1", execution_count=count, outputs=list(outputs))]
    nbformat.write(new_notebook(cells=cells, metadata={"papermill": {"parameters": ran}}), path)
    return path


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    path = tmp_path / "02_x.ipynb"
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=[PARAMETERS], metadata=metadata), path)
    return path


# --- which execution


def test_the_execution_at_the_notebooks_own_row_is_found(notebook: Path, tmp_path: Path) -> None:
    runs = tmp_path / "executed"
    executed(runs / "02_x-b-fold0.ipynb", {"method": "b", "fold": 0})
    executed(runs / "02_x-a-fold1.ipynb", {"method": "a", "fold": 1})
    assert find_execution(notebook, [runs]) is None
    wanted = executed(runs / "02_x-a-fold0.ipynb", {"profile": "gpu", "method": "a", "fold": 0})
    assert find_execution(notebook, [tmp_path / "missing", runs]) == wanted


def test_an_unfinished_execution_is_not_taken(notebook: Path, tmp_path: Path) -> None:
    error = new_output("error", ename="E", evalue="", traceback=[])
    assert not finished(executed(tmp_path / "executed" / "02_x-1.ipynb", {}, count=None))
    assert not finished(executed(tmp_path / "executed" / "02_x-2.ipynb", {}, outputs=(error,)))
    assert find_execution(notebook, [tmp_path / "executed"]) is None


def test_half_a_file_is_told_by_name(notebook: Path, tmp_path: Path) -> None:
    (tmp_path / "executed").mkdir()
    (tmp_path / "executed" / "02_x.ipynb").write_text('{"cells": [')
    with pytest.raises(BookError, match=r"02_x.ipynb is not a whole notebook"):
        find_execution(notebook, [tmp_path / "executed"])


def test_an_edited_notebook_is_outdated(notebook: Path, tmp_path: Path) -> None:
    copy = nbformat.read(notebook, as_version=4)
    copy.cells.insert(1, new_code_cell("fold = 3", metadata={"tags": ["injected-parameters"]}))
    nbformat.write(copy, tmp_path / "copy.ipynb")
    assert not outdated(notebook, tmp_path / "copy.ipynb")
    assert outdated(notebook, executed(tmp_path / "other.ipynb", {}))


def test_a_notebook_is_run_at_the_profile(notebook: Path, tmp_path: Path) -> None:
    copy = execute(notebook, tmp_path / "executed", "smoke")
    assert parameters(nbformat.read(copy, as_version=4)) == {"profile": "smoke"}
    with_effort = nbformat.read(notebook, as_version=4)
    with_effort.cells[0].source += "\neffort = 1"
    nbformat.write(with_effort, tmp_path / "03_y.ipynb")
    at_four = execute(tmp_path / "03_y.ipynb", tmp_path / "executed", "smoke", 4.0)
    assert parameters(nbformat.read(at_four, as_version=4)) == {"profile": "smoke", "effort": 4.0}
    assert find_execution(notebook, [tmp_path / "executed"]) == copy


def test_a_notebook_that_stops_is_told_by_name_and_not_shown(notebook: Path, tmp_path: Path) -> None:
    failing = nbformat.read(notebook, as_version=4)
    failing.cells.append(new_code_cell("1 / 0"))
    nbformat.write(failing, notebook)
    with pytest.raises(BookError, match=r"02_x.ipynb stopped with ZeroDivisionError"):
        execute(notebook, tmp_path / "executed", "smoke")
    assert find_execution(notebook, [tmp_path / "executed"]) is None


def test_a_folder_without_notebooks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BookError, match="no notebooks"):
        reading_order(tmp_path)


# --- one page


def test_equations_become_mathml() -> None:
    html = page(new_markdown_cell("Let $x_1$ cost `$5`.\n\n$$L = \\lambda y$$\n"))
    assert [math["display"] for math in html.find_all("math")] == ["inline", "block"]
    assert html.find("math").find("msub").get_text() == "x1"
    assert html.find("code").get_text() == "$5"
    assert "$" not in html.get_text().replace("$5", "")


@pytest.mark.parametrize(
    ("url", "leads_to"),
    [
        ("02_train_2d.ipynb", "02_train_2d.html"),
        ("02_train_2d.ipynb#Training", "02_train_2d.html#Training"),
        ("#here", "#here"),
        ("https://example.org/a", "https://example.org/a"),
        ("99_missing.ipynb", None),
        ("../figures/reference/table1.md", None),
    ],
)
def test_links_lead_to_pages(url: str, leads_to: str | None) -> None:
    cell = page(new_markdown_cell(f"[text]({url})")).find("main").find(class_="text_cell")
    link = cell.find("a")
    assert (link["href"] if link else None) == leads_to
    assert cell.get_text(strip=True) == "text"


def test_a_solution_is_folded_with_its_output() -> None:
    outputs = [new_output("stream", text="42")]
    solution = new_code_cell("# A solution.", metadata={"tags": ["solution"]}, outputs=outputs)
    details = page(new_code_cell("print()"), solution).find_all("details")
    assert len(details) == 1
    assert not details[0].has_attr("open")
    assert "# A solution." in details[0].get_text()
    assert "42" in details[0].get_text()


def test_a_widget_leaves_its_picture_and_nothing_else() -> None:
    picture = new_output("display_data", {"image/png": PNG}, metadata={"image/png": {"alt": "Case 3, mid-sagittal"}})
    both = new_output("display_data", {**WIDGET, "image/png": PNG})
    cell = new_code_cell("show()", outputs=[picture, new_output("display_data", WIDGET), both])
    shown = new_notebook(cells=[new_markdown_cell("## Look\n\nPick a *case*. Then more."), cell])
    shown.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {"1": {}}}}
    about = {"title": "T", "ran": "", "before": None, "after": None}
    html = render(Exporter(()), "page", shown, about).html
    assert "widget" not in html.replace("output_widget", "")
    assert "Viewer()" not in html
    assert [image["alt"] for image in soup(html).find_all("img")] == ["Case 3, mid-sagittal", "Look · Pick a case"]
    assert len(shown.cells[1].outputs) == 3, "the notebook itself is left as it was"


def test_injected_parameters_are_left_out() -> None:
    cells = [new_code_cell("fold = 3", metadata={"tags": ["injected-parameters"]}), new_code_cell("fold")]
    assert [cell.source for cell in still(new_notebook(cells=cells)).cells] == ["fold"]


def test_title_and_question() -> None:
    opening = new_notebook(cells=[new_markdown_cell("# 02 · Stage 1\n\n**The question.** How\nfar?\n\nMore.")])
    assert (title(opening), question(opening)) == ("02 · Stage 1", "How\nfar?")


# --- the site


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study's own notebooks, the first one with a picture in its first output."""
    folder = tmp_path_factory.mktemp("book")
    first = nbformat.read(NOTEBOOKS[0], as_version=4)
    code = next(cell for cell in first.cells if cell.cell_type == "code")
    code.outputs = [new_output("display_data", {"image/png": PNG})]
    first.metadata["papermill"] = {"parameters": {"profile": "smoke", "case": 2}}
    nbformat.write(first, folder / "first.ipynb")
    write_book(folder / "site", NOTEBOOKS, {NOTEBOOKS[0].stem: folder / "first.ipynb"})
    return folder / "site"


def test_contents_ask_the_questions_in_reading_order(book: Path) -> None:
    contents = soup((book / "index.html").read_text(encoding="utf-8"))
    entries = contents.find("ol").find_all("li")
    assert [entry.find("a")["href"] for entry in entries] == [f"{path.stem}.html" for path in NOTEBOOKS]
    assert entries[0].find("p").get_text() == question(nbformat.read(NOTEBOOKS[0], as_version=4)).replace("\n", " ")
    assert all(entry.find("p").get_text(strip=True) for entry in entries)
    assert np.asarray(Image.open(book / entries[0].find("img")["src"])).shape == (1, 1, 3)


def test_pages_are_a_chain(book: Path) -> None:
    names = [f"{path.stem}.html" for path in NOTEBOOKS]
    for index, name in enumerate(names):
        html = soup((book / name).read_text(encoding="utf-8"))
        before, after = ([link["href"] for link in html.find_all("a", rel=rel)] for rel in ("prev", "next"))
        assert before == 2 * names[:index][-1:]
        assert after == 2 * names[index + 1 :][:1]


def test_pages_say_what_they_show(book: Path) -> None:
    said = [soup((book / f"{path.stem}.html").read_text(encoding="utf-8")).find(class_="ran") for path in NOTEBOOKS[:2]]
    assert said[0].get_text() == "Executed with case 2, profile smoke"
    assert said[1].get_text().startswith("This notebook has not been executed")


@pytest.mark.parametrize("name", ["index", *(path.stem for path in NOTEBOOKS)])
def test_a_page_needs_nothing_from_elsewhere(book: Path, name: str) -> None:
    path = book / f"{name}.html"
    html = soup(path.read_text(encoding="utf-8"))
    assert html.find_all(["script", "iframe"]) == []
    needed = [e["src"] for e in html.find_all(src=True)] + [e["href"] for e in html.find_all("link")]
    led_to = [e["href"] for e in html.find_all("a", href=True) if not e["href"].startswith(("http", "#", "data:"))]
    assert "book.css" in needed
    assert [target for target in (*needed, *led_to) if not (book / target.split("#")[0]).is_file()] == []
    assert all(image.has_attr("alt") for image in html.find_all("img"))
    assert path.stat().st_size < 2_000_000
    for block in html.find_all(["pre", "code"]):
        block.extract()
    assert re.findall(r"\$[^$]+\$", html.get_text()) == []


def test_the_style_needs_nothing_from_elsewhere(book: Path) -> None:
    style = (book / "book.css").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in style
    assert re.findall(r"url\(|@import|http", style) == []


def test_a_book_is_replaced_and_other_folders_are_not(book: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(book, again)
    (again / "old.html").touch()
    write_book(again, NOTEBOOKS[:1], {})
    assert sorted(path.name for path in again.glob("*.html")) == ["00_start_here.html", "index.html"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(BookError, match="holds other things than a book"):
        write_book(tmp_path / "mine", NOTEBOOKS[:1], {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "mine"]
