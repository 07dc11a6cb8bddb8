"""Running the study's notebooks: papermill only warns of a mistyped parameter, which then silently does nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import papermill

from sshsnet_core.errors import StudyError


class ParameterError(StudyError, ValueError):
    """A notebook was given a parameter that it does not have."""


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Raise ``ParameterError`` for a name that is not in the notebook's ``parameters`` cell."""
    known = papermill.inspect_notebook(str(notebook))
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise ParameterError(f"{notebook.name} has no parameter {', '.join(unknown)}; it has {', '.join(known)}.")


def run_notebook(notebook: Path, executed: Path, parameters: Mapping[str, Any]) -> None:
    """Execute a notebook with these parameters, after checking their names; the executed copy goes to ``executed``."""
    check_parameters(notebook, parameters)
    executed.parent.mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(str(notebook), str(executed), dict(parameters), progress_bar=False, log_output=True)
