"""A labelled folder of one's own, without T9 and without test images, through preprocessing, scoring and tables."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from sshsnet_core.anatomy import by_name
from sshsnet_core.data.cohorts.phantom import write_phantom_cohort
from sshsnet_core.data.volumes import read_image, read_labels, write_labels
from sshsnet_core.methods.rows import WITHOUT_CPS
from sshsnet_core.notebooks import run_notebook
from sshsnet_core.settings import load_settings
from sshsnet_core.study import REPOSITORY, Study

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The smoke profile's phantoms as ``images/`` and ``labels/``, without the structures above T12."""
    write_phantom_cohort(tmp_path / "phantoms", load_settings("smoke").cohort, workers=1)
    above = [by_name(name).label for name in ("T11", "T10", "T9", "T11/T12", "T10/T11", "T9/T10")]
    for folder in ("images", "labels"):
        (tmp_path / "own" / folder).mkdir(parents=True)
    for image in (tmp_path / "phantoms" / "train" / "MR").iterdir():
        geometry = read_image(image).geometry
        number = image.name.removeprefix("Case")
        labels = read_labels(image.parents[1] / "Mask" / f"mask_case{number}").array
        write_labels(tmp_path / "own" / "labels" / image.name, np.where(np.isin(labels, above), 0, labels), geometry)
        image.rename(tmp_path / "own" / "images" / image.name)
    settings = yaml.safe_load((REPOSITORY / "sshsnet_core" / "profiles" / "smoke.yaml").read_text(encoding="utf-8"))
    settings |= {"name": "own", "cps": {"pool": "held-out"}, "speck_share": 0.5}
    settings["cohort"] = {"source": "folder", "root": str(tmp_path / "own"), "folds": 5}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    monkeypatch.setenv("SSHSNET_PROFILE", str(tmp_path / "own.yaml"))
    monkeypatch.setenv("SSHSNET_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SSHSNET_FIGURES", str(tmp_path / "figures"))
    return Study.open("own")


def test_a_cohort_without_t9_and_without_test_images_gets_to_its_tables(study: Study, tmp_path: Path) -> None:
    def run(name: str) -> None:
        run_notebook(REPOSITORY / "notebooks" / f"{name}.ipynb", tmp_path / "executed" / f"{name}.ipynb", {})

    run("01_preprocessing")
    run("05_test_set")
    # As the grid asks of every row.
    command = [sys.executable, "-m", "sshsnet_core", "test-images", WITHOUT_CPS.key]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (asked.returncode, asked.stdout) == (0, "The cohort has no test images.\n")
    run("06_tables_and_figures")
    results = study.results()
    assert set(results["split"]) == {"validation"}
    assert set(results["case"]) == set(study.folds[0].validation)
    pages = {page.name: page for page in study.figures.iterdir()}
    assert {"table1.csv", "table2.csv", "parts.md", "figure8.png"} <= set(pages)
    assert "figure10.png" not in pages
    assert "SSHSNet-2D-w/o-CPS" in pages["table1.md"].read_text(encoding="utf-8")
    # None of its rows has been run.
    assert "Not run yet." in pages["table2.md"].read_text(encoding="utf-8")
