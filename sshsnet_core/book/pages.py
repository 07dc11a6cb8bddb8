"""One notebook as one page: nbconvert with a template of our own, MathML for TeX, and pictures as files beside it."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from traitlets.config import Config

TEMPLATES = Path(__file__).parent / "templates"
WIDGET = "application/vnd.jupyter.widget-view+json"
#: How a notebook opens: `# 02 · Stage 1`, and `**The question.** How far ...?` up to the next empty line.
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
QUESTION = re.compile(r"\*\*The question\.\*\* (.+?)(?:\n\s*\n|\Z)", re.DOTALL)
NOTEBOOK_LINK = re.compile(r"(?P<name>[\w-]+)\.ipynb(?P<place>#.*)?")
SENTENCE_END = re.compile(r"(?<=[.:?!])\s")


@dataclass(frozen=True)
class Page:
    """A rendered notebook: its HTML and, by relative path, its pictures."""

    html: str
    pictures: dict[str, bytes]


class Renderer(IPythonRenderer):
    """Markdown whose equations need no script, and whose links lead to the pages of the book."""

    def __init__(self, pages: Collection[str]) -> None:
        super().__init__(escape=False, exclude_anchor_links=True)
        self.pages = pages

    def inline_math(self, body: str) -> str:
        return convert(body.strip())

    def block_math(self, body: str) -> str:
        return convert(body.strip(), display="block")

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link to another notebook leads to its page; to a file that is not in the book, nowhere."""
        notebook = NOTEBOOK_LINK.fullmatch(url)
        if notebook and notebook["name"] in self.pages:
            return super().link(text, f"{notebook['name']}.html{notebook['place'] or ''}", title)
        return super().link(text, url, title) if url.startswith(("#", "https://", "http://")) else text


class Exporter(HTMLExporter):
    """nbconvert's HTML exporter with the book's template and the renderer above."""

    def __init__(self, pages: Collection[str]) -> None:
        config = Config()
        for name in ("CoalesceStreamsPreprocessor", "ExtractOutputPreprocessor"):
            config[name].enabled = True
        super().__init__(
            config=config,
            template_name="book",
            extra_template_basedirs=[str(TEMPLATES)],
            exclude_input_prompt=True,
            exclude_output_prompt=True,
        )
        self.renderer = Renderer(pages)

    @pass_context
    def markdown2html(self, _context: Any, source: str) -> str:
        return self.markdown(source)

    def markdown(self, source: str) -> str:
        return str(MarkdownWithMath(renderer=self.renderer).render(source))


def render(exporter: Exporter, name: str, notebook: nbformat.NotebookNode, about: dict[str, Any]) -> Page:
    """The page of ``notebook``, whose pictures go to ``pictures/<name>_...``; ``about`` is what the template shows."""
    given = {"unique_key": name, "output_files_dir": "pictures", "book": about}
    html, resources = exporter.from_notebook_node(still(notebook), given)
    return Page(html, {path.replace("\\", "/"): data for path, data in resources["outputs"].items()})


def still(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy in which nothing waits for a kernel: no widgets and no injected parameters; every picture has a text."""
    copy = nbformat.from_dict(notebook)
    copy.metadata.pop("widgets", None)
    copy.cells = [cell for cell in copy.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    heading = intent = ""
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            heading, intent = _words(cell.source, heading)
        elif cell.cell_type == "code":
            cell.outputs = [output for output in map(_without_widget, cell.outputs) if output]
            for output in cell.outputs:
                _describe(output, " · ".join(filter(None, (heading, intent))))
    return copy


def title(notebook: nbformat.NotebookNode) -> str:
    """The notebook's first heading, ``02 · Stage 1``."""
    return _first(TITLE, notebook)


def question(notebook: nbformat.NotebookNode) -> str:
    """What the notebook asks, as Markdown."""
    return _first(QUESTION, notebook)


def _first(pattern: re.Pattern[str], notebook: nbformat.NotebookNode) -> str:
    texts = (pattern.search(cell.source) for cell in notebook.cells if cell.cell_type == "markdown")
    return next((match[1].strip() for match in texts if match), "")


def _without_widget(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """A widget's output without the widget: its picture where it brings one, else nothing."""
    if WIDGET not in output.get("data", {}):
        return output
    del output.data[WIDGET]
    return output if output.data.keys() - {"text/plain"} else None


def _describe(output: nbformat.NotebookNode, words: str) -> None:
    """Give an output's pictures a text, unless the notebook gave them one."""
    for kind in output.get("data", {}):
        if kind.startswith("image/"):
            output.metadata.setdefault(kind, {}).setdefault("alt", output.metadata.get("alt", words))


def _words(markdown: str, heading: str) -> tuple[str, str]:
    """The last heading of a text, else ``heading``, and the first sentence after it, unless it is an equation."""
    plain = re.sub(r"[*`]|\]\([^)]*\)|\[", "", markdown)
    text: list[str] = []
    for line in plain.splitlines():
        if line.startswith("#"):
            heading, text = line.lstrip("# ").strip(), []
        else:
            text.append(line)
    sentence = SENTENCE_END.split(" ".join(" ".join(text).split()))[0].rstrip(".:")
    return heading, "" if "$" in sentence else sentence
