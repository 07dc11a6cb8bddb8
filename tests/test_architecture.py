"""Imports run one way: __main__ and the notebooks, then study, then methods, then data, networks and learning."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "sshsnet_core"
FILES = sorted(PACKAGE.rglob("*.py"))

GROUND = {"alone", "anatomy", "annotation", "decision", "errors", "settings", "progress"}
#: What each part of the package may import of the package, itself aside. A part that is not here fails the test.
MAY_IMPORT: dict[str, set[str]] = {
    "alone": set(),
    "anatomy": set(),
    "annotation": {"anatomy", "errors", "settings"},
    "decision": {"anatomy"},
    "errors": set(),
    "gpus": set(),
    "progress": set(),
    "settings": {"anatomy", "errors"},
    "data": GROUND,
    "networks": GROUND,
    # What a network is shown (X_2d, S~, I~) is defined once, beside the cohort's arrays; inference is given arrays.
    "learning": GROUND | {"data.coarse", "data.slices"},
    "methods": GROUND | {"data", "networks", "learning"},
    # Both read results and volumes, never models.
    "evaluation": GROUND | {"data.volumes"},
    "pictures": GROUND | {"data.volumes", "evaluation"},
    "notebooks": GROUND,
    "benchmarks": GROUND | {"data", "evaluation", "learning.training", "methods", "networks", "pictures", "study"},
    # The executed notebooks as a site.
    "book": GROUND | {"notebooks", "study"},
    # A network comes to the study through its method.
    "study": GROUND | {"data", "methods", "evaluation"},
    "scoring": GROUND | {"data", "evaluation", "methods", "study"},
    "views": GROUND | {"data", "evaluation", "methods", "pictures", "study"},
    # Networks of a file or of the study, ready for scans from anywhere.
    "model": GROUND | {"data", "evaluation", "methods", "study"},
    # One scan through everything, for the command line and for a notebook.
    "scan": GROUND | {"data", "evaluation", "model", "pictures"},
    # From phantoms to real scans, and what that is worth where somebody has annotated a part of them.
    "transfer": GROUND | {"data", "evaluation", "learning.training", "methods", "model", "pictures", "scan", "study"},
    "measurement": GROUND | {"data", "evaluation", "methods", "pictures", "study", "transfer"},
    "__main__": GROUND
    | {"data", "evaluation", "gpus", "measurement", "model", "scan", "scoring", "study", "transfer"}
    | {"methods.rows", "methods.weights"},
}
#: Libraries that read volumes: only data may know of them.
FILE_FORMATS = {"nibabel", "SimpleITK"}
#: Libraries that take seconds to import: whoever only looks at a study, or mistypes a command, does not wait for them.
SLOW = {"monai", "torchvision", "lightning_fabric", "nnunetv2"}


def name_of(path: Path) -> str:
    """``data/cohorts/base.py`` is ``data.cohorts.base``; a package's ``__init__.py`` is the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, package: str) -> set[str]:
    """The full names of all that a module in ``package`` (dotted, with the root) imports, wherever in the module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*parents, node.module] if node.module else parents)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def forbidden(module: str, source: str, package: str) -> set[str]:
    """Which imports of ``module`` (without the root) the rules above do not allow."""
    part = module.split(".")[0]
    allowed = MAY_IMPORT[part] | {part}
    wrong = set()
    for name in imports(source, package):
        root, _, inner = name.partition(".")
        if root == PACKAGE.name and not any(f"{inner}.".startswith(f"{permitted}.") for permitted in allowed):
            wrong.add(name)
        if root in FILE_FORMATS and part != "data":
            wrong.add(name)
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: name_of(path) or PACKAGE.name)
def test_imports_run_one_way(path: Path) -> None:
    module = name_of(path)
    package = ".".join([PACKAGE.name, *path.relative_to(PACKAGE).parts[:-1]])
    source = path.read_text()
    if module == "":  # the root package, which every import passes through
        assert imports(source, package) == set()
    else:
        assert forbidden(module, source, package) == set()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("data.store", "from sshsnet_core.networks.blocks import ConvNormAct"),
        ("learning.training", "import sshsnet_core.networks"),
        ("learning.cps", "def step():\n    from ..networks import sshsnet"),
        ("networks.ctam", "from sshsnet_core.data import volumes"),
        ("networks.encoders", "import nibabel as nib"),
        ("evaluation.tables", "from sshsnet_core import methods"),
        ("pictures.viewer", "from sshsnet_core.study import Study"),
        ("study", "from .networks.sshsnet import SSHSNet3D"),
        ("settings", "from sshsnet_core.progress import Progress"),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    package = ".".join([PACKAGE.name, *module.split(".")[:-1]])
    assert len(forbidden(module, source, package)) == 1


def test_slow_libraries_are_imported_where_they_work() -> None:
    entries = [name_of(path) for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")]
    source = "; ".join(["import sys", *(f"import {PACKAGE.name}.{entry}" for entry in entries), "print(*sys.modules)"])
    loaded = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert SLOW & set(loaded.stdout.split()) == set()
