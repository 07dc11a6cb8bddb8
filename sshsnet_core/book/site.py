"""The whole site: a page for each notebook, one with their questions, and the style that they share."""

import tempfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import nbformat
from PIL import Image
from pygments.formatters import HtmlFormatter

from sshsnet_core.book.executions import BookError, parameters
from sshsnet_core.book.pages import TEMPLATES, Exporter, Page, question, render, title

CONTENTS = "index.html"
#: By this file a folder is known to hold a book, which the next book may replace.
MARK = ".sshsnet-book"
THUMBNAIL = (360, 240)


def write_book(output: Path, notebooks: Sequence[Path], executions: Mapping[str, Path]) -> None:
    """Write the site to the folder ``output``, which is made, or holds an older book; it appears whole or not at all.

    ``notebooks`` are in reading order; ``executions`` are executed copies by the notebook's name without suffix. A
    notebook without one stands in the book without its outputs. Raises ``BookError`` where ``output`` holds other
    things.
    """
    if output.exists() and any(output.iterdir()) and not (output / MARK).exists():
        raise BookError(f"{output} holds other things than a book; give the book a folder of its own.")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as scratch:
        fresh = Path(scratch) / "book"
        _write(fresh, notebooks, executions)
        if output.exists():
            output.replace(Path(scratch) / "former")
        fresh.replace(output)


def _write(folder: Path, notebooks: Sequence[Path], executions: Mapping[str, Path]) -> None:
    (folder / "pictures").mkdir(parents=True)
    names = [notebook.stem for notebook in notebooks]
    shown = {path.stem: nbformat.read(executions.get(path.stem, path), as_version=4) for path in notebooks}
    exporter = Exporter(names)
    titles = {name: title(shown[name]) for name in names}
    entries: list[dict[str, str | None]] = [
        {"href": f"{name}.html", "title": titles[name], "short": titles[name].split(":")[0]} for name in names
    ]
    for index, name in enumerate(names):
        about = {
            "title": titles[name],
            "ran": _ran(shown[name]) if name in executions else None,
            "before": entries[index - 1] if index else None,
            "after": entries[index + 1] if index + 1 < len(entries) else None,
        }
        page = render(exporter, name, shown[name], about)
        _write_page(folder, name, page)
        entries[index] |= {
            "question": exporter.markdown(question(shown[name])),
            "thumbnail": _write_thumbnail(folder, name, page),
        }
    contents = exporter.environment.get_template("contents.html.j2").render(entries=entries)
    (folder / CONTENTS).write_text(contents, encoding="utf-8")
    (folder / "book.css").write_text(_style(), encoding="utf-8")
    (folder / MARK).touch()


def _ran(notebook: nbformat.NotebookNode) -> str:
    """What an executed page is of: ``profile mini, method 2d-cps, fold 0``."""
    return ", ".join(f"{name} {value}" for name, value in parameters(notebook).items())


def _write_page(folder: Path, name: str, page: Page) -> None:
    (folder / f"{name}.html").write_text(page.html, encoding="utf-8")
    for path, data in page.pictures.items():
        (folder / path).write_bytes(data)


def _write_thumbnail(folder: Path, name: str, page: Page) -> str | None:
    """The page's richest picture, small, for the contents."""
    raster = [data for path, data in page.pictures.items() if not path.endswith(".svg")]
    if not raster:
        return None
    picture = Image.open(BytesIO(max(raster, key=len))).convert("RGB")
    picture.thumbnail((2 * THUMBNAIL[0], 4 * THUMBNAIL[1]))
    path = f"pictures/{name}_small.jpg"
    picture.save(folder / path, quality=82)
    return path


def _style() -> str:
    """The book's style, and the colours of code on light and on dark."""
    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("xcode", "github-dark"))
    style = (TEMPLATES / "book" / "book.css").read_text(encoding="utf-8")
    return f"{style}\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
