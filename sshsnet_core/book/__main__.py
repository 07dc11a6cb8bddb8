"""``python -m sshsnet_core.book OUTPUT``: what ``make book`` calls."""

import argparse
import sys
from pathlib import Path
from typing import Any

from sshsnet_core.book.executions import execute, find_execution, outdated, reading_order
from sshsnet_core.book.site import CONTENTS, write_book
from sshsnet_core.errors import StudyError
from sshsnet_core.study import REPOSITORY, Study


def _executions(notebooks: list[Path], folders: list[Path], given: dict[str, Any] | None) -> dict[str, Path]:
    """The executed copy of each notebook: found in ``folders`` or, with what it is given, made in the first of them."""
    executions = {}
    for notebook in notebooks:
        executed = find_execution(notebook, folders)
        if executed is None and given is not None:
            print(f"{notebook.name} has not been executed: running it.", flush=True)
            executed = execute(notebook, folders[0], **given)
        if executed is None:
            _warn(f"{notebook.name} has not been executed; its page has no outputs.")
        else:
            executions[notebook.stem] = executed
            if outdated(notebook, executed):
                _warn(f"{notebook.name} has been edited since; its page shows {executed}. Delete that to run it anew.")
    return executions


def _warn(text: str) -> None:
    print(f"Warning: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Make the book; what the user can mend is told in one sentence, with a non-zero exit."""
    parser = argparse.ArgumentParser(prog="python -m sshsnet_core.book", description="The notebooks as a static site.")
    parser.add_argument("output", type=Path, help="the folder for the site")
    parser.add_argument("--profile", default="mini", help="whose executed notebooks to show (default mini)")
    parser.add_argument("--effort", type=float, default=1.0, help="of that study (default 1)")
    executed = "a folder of executed notebooks to show instead; what is not there is not run"
    parser.add_argument("--executed", type=Path, metavar="FOLDER", help=executed)
    arguments = parser.parse_args()
    try:
        notebooks = reading_order(REPOSITORY / "notebooks")
        if arguments.executed is None:
            study = Study.open(arguments.profile, arguments.effort)
            folders = [study.work / "executed", study.runs / "executed"]
            executions = _executions(notebooks, folders, {"profile": arguments.profile, "effort": study.effort})
        else:
            executions = _executions(notebooks, [arguments.executed], None)
        write_book(arguments.output, notebooks, executions)
    except (StudyError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(f"The book: {arguments.output / CONTENTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
