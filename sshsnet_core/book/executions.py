"""Which executed copy of a notebook the book shows, and what is wrong with it."""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from sshsnet_core.errors import StudyError
from sshsnet_core.notebooks import run_notebook

#: The parameters that tell a notebook's executions apart; the others (profile, effort, seed) are those of the folder.
TOLD_APART_BY = ("method", "fold")
#: The profile that the study's notebooks have by default, and the one at which all are tested.
STUDIED, TESTED = "mini", "smoke"


class BookError(StudyError, ValueError):
    """A notebook or a folder that the book cannot be made of."""


def reading_order(notebooks: Path) -> list[Path]:
    """The study's notebooks by their numbers. ``BookError`` where there are none."""
    found = sorted(notebooks.glob("[0-9]*.ipynb"))
    if not found:
        raise BookError(f"There are no notebooks (00_....ipynb, 01_....ipynb, ...) in {notebooks}.")
    return found


def find_execution(notebook: Path, folders: Sequence[Path]) -> Path | None:
    """The finished execution of a notebook at its own default method and fold, from the first folder that has one.

    The grid names the copies ``<notebook>.ipynb`` or ``<notebook>-<row>-fold<k>.ipynb``.
    """
    wanted = _defaults(notebook)
    for folder in folders:
        for path in (folder / notebook.name, *sorted(folder.glob(f"{notebook.stem}-*.ipynb"))):
            if path.exists():
                ran = wanted | parameters(_read(path))
                if all(ran[name] == wanted[name] for name in TOLD_APART_BY if name in wanted) and finished(path):
                    return path
    return None


def execute(notebook: Path, folder: Path, profile: str, effort: float = 1.0) -> Path:
    """Run a notebook at a profile and effort, otherwise as it stands; the path of its executed copy in ``folder``.

    A notebook about another profile than the study's keeps its own: 00 and 08 mean nothing at any other. Raises
    ``BookError`` where a cell fails.
    """
    executed = folder / notebook.name
    known, given = _defaults(notebook), dict[str, Any]()
    if known["profile"] == STUDIED or profile == TESTED:
        given = {name: value for name, value in {"profile": profile, "effort": effort}.items() if name in known}
    try:
        run_notebook(notebook, executed, given)
    except PapermillExecutionError as error:
        raise BookError(
            f"{notebook.name} stopped with {error.ename}: {error.evalue}. The copy as far as it got: {executed}."
        ) from error
    return executed


def parameters(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """What papermill gave to an executed notebook."""
    return dict(notebook.metadata.get("papermill", {}).get("parameters", {}))


def finished(executed: Path) -> bool:
    """Whether every code cell ran, and none with an error: a job's log may be that of an interrupted job."""
    cells = [cell for cell in _read(executed).cells if cell.cell_type == "code" and cell.source.strip()]
    errors = [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    return not errors and all(cell.execution_count for cell in cells)


def outdated(notebook: Path, executed: Path) -> bool:
    """Whether the notebook has been edited since it was executed."""
    return _sources(_read(notebook)) != _sources(_read(executed))


def _sources(notebook: nbformat.NotebookNode) -> list[str]:
    """All cells but the one with papermill's parameters."""
    return [cell.source for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]


def _defaults(notebook: Path) -> dict[str, Any]:
    known = papermill.inspect_notebook(str(notebook))
    return {name: ast.literal_eval(parameter["default"]) for name, parameter in known.items()}


def _read(path: Path) -> nbformat.NotebookNode:
    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, nbformat.ValidationError) as error:
        raise BookError(f"{path} is not a whole notebook; delete it and make the book again.") from error
