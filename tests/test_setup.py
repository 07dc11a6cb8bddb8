"""The set-up says one thing in four places (pyproject, two locks, environment.yml); notebooks are committed clean."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("requirements.lock", "requirements-cuda.lock")
CUDA = ("cuda-", "nvidia-", "triton")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LINES_PER_CELL = 15

#: One entry of a lock: `name==version`, a marker at most, and then nothing but hashes.
ENTRY = re.compile(r"[a-z0-9.-]+==[^\s;]+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+")
#: The beginning of a path of one machine: quoted and absolute, or in somebody's home.
ABSOLUTE_PATH = re.compile(r"""["'](/|~/|[A-Za-z]:[\\/])\w|/(home|Users|root|mnt|tmp)/""")


def pins(lock: str) -> list[str]:
    """The entries of a lock without their hashes: ``name==version`` and the marker, if any."""
    lines = (ROOT / lock).read_text().splitlines()
    return [line.removesuffix("\\").strip() for line in lines if not line.startswith(" ")]


def declared() -> list[str]:
    """Every requirement that pyproject.toml states."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["dev"], *pyproject["build-system"]["requires"]]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_lock_entry_has_hashes_and_no_address(lock: str) -> None:
    entries = re.split(r"\n(?! )", (ROOT / lock).read_text().rstrip("\n"))
    assert len(entries) > 1
    assert [entry for entry in entries if not ENTRY.fullmatch(entry)] == []


@pytest.mark.parametrize("requirement", declared())
def test_every_dependency_is_locked_within_its_range(requirement: str) -> None:
    wanted = Requirement(requirement)
    locked = [Requirement(pin) for pin in pins("requirements.lock")]
    versions = [
        str(pin.specifier)[2:] for pin in locked if canonicalize_name(pin.name) == canonicalize_name(wanted.name)
    ]
    assert versions, f"{wanted.name} is not in requirements.lock; run make lock"
    assert all(version in wanted.specifier for version in versions)


def test_cuda_libraries_are_in_their_own_lock() -> None:
    assert [pin for pin in pins("requirements.lock") if pin.startswith(CUDA)] == []
    assert [pin for pin in pins("requirements-cuda.lock") if not pin.startswith(CUDA)] == []


def test_environment_has_the_pins_of_the_lock() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    from_pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert from_pip == [*pins("requirements.lock"), "-e ."]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(request.param.read_text())
    return content


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_notebook_is_committed_without_outputs(notebook: dict[str, Any]) -> None:
    assert [source(cell) for cell in code_cells(notebook) if cell["outputs"] or cell["execution_count"]] == []
    assert not {"papermill", "widgets"} & notebook["metadata"].keys()


def test_notebook_has_one_parameters_cell(notebook: dict[str, Any]) -> None:
    tagged = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    assert [cell["cell_type"] for cell in tagged] == ["code"]


def test_notebook_names_the_kernel_of_any_python(notebook: dict[str, Any]) -> None:
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


def test_notebook_cells_are_short(notebook: dict[str, Any]) -> None:
    lengths = {
        source(cell): sum(bool(line.strip()) for line in source(cell).splitlines()) for cell in code_cells(notebook)
    }
    assert [text for text, length in lengths.items() if length > LINES_PER_CELL] == []


def test_notebook_has_no_absolute_paths(notebook: dict[str, Any]) -> None:
    assert [source(cell) for cell in notebook["cells"] if ABSOLUTE_PATH.search(source(cell))] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [('open("/data/a.nii")', True), ("~ /home/me/runs", True), ('root = "C:\\data"', True), ('"runs/mini/a"', False)],
)
def test_absolute_paths_are_recognised(text: str, found: bool) -> None:
    assert bool(ABSOLUTE_PATH.search(text)) is found


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("study PROFILE=smoke FOLDS=2 EFFORT=3", '-m sshsnet_core study all --profile "smoke" --folds 2 --effort 3'),
        ("study ROW=cotr", '-m sshsnet_core study cotr --profile "mini" --folds 1 --effort 1'),
        ("released PROFILE=smoke", '-m sshsnet_core study released --profile "smoke" --folds 1 --effort 1'),
        ("labels PROFILE=smoke", '-m sshsnet_core study labels --profile "smoke" --folds 1 --effort 1'),
        ("test", "-m pytest --nbval-lax notebooks"),
        ("lab", "-m jupyterlab notebooks"),
        ("book EFFORT=4", '-m sshsnet_core.book runs/book --profile "mini" --effort 4'),
    ],
)
def test_each_target_alone_sets_up_the_environment_first(target: str, expected: str) -> None:
    make = ["make", "--dry-run", "--always-make", "--directory", str(ROOT), *target.split()]
    commands = subprocess.run(make, capture_output=True, text=True, check=True).stdout
    assert (
        commands.index("-m venv") < commands.index("--require-hashes -r requirements.lock") < commands.index(expected)
    )


@pytest.mark.parametrize(("target", "lacks"), [("adapt", "FOLDER=scans"), ("real", "DATA=folder")])
def test_a_command_without_its_folder_says_so(target: str, lacks: str) -> None:
    """Else they would take whatever lies in the repository."""
    make = ["make", "--dry-run", "--directory", str(ROOT), target]
    done = subprocess.run(make, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"make {target} {lacks}" in done.stderr
    assert subprocess.run([*make, lacks], capture_output=True, check=False).returncode == 0


def test_an_old_python_is_told_so(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    old.chmod(0o755)
    make = ["make", "--directory", str(ROOT), f"VENV={tmp_path / 'venv'}", f"BASE_PYTHON={old}", "test"]
    done = subprocess.run(make, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "needs Python 3.11" in done.stderr
    assert not (tmp_path / "venv").exists()
