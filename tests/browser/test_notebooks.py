"""A student's first minutes in a real browser: notebooks run to their end, and the viewer does what its handles say."""

import json
import time
from pathlib import Path

import pytest
from lab import THEMES, Lab
from playwright.sync_api import Locator, Page, expect

from sshsnet_core.anatomy import NAMES

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

#: Milliseconds: for a click that Python answers, and for a notebook at smoke size, which imports torch and may train.
ANSWER, NOTEBOOK = 60_000, 600_000
#: And between two looks at whether a notebook has run.
PAUSE = 3_000
STDERR = '.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]'


def run(page: Page, lab: Lab, notebook: str) -> None:
    """Open a notebook, choose Run All Cells in the menu, wait for the last cell, and see that none has failed."""
    page.goto(lab.page_of(notebook))
    idle = page.get_by_text("Python 3 (ipykernel) | Idle")
    expect(idle).to_be_visible(timeout=ANSWER)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    # Folded cells show no prompt, and a kernel that is idle may be about to get the next cell: the saved file tells.
    deadline = time.monotonic() + NOTEBOOK / 1000
    waiting, errors = saved(page, lab, notebook)
    while waiting and not errors and time.monotonic() < deadline:
        page.wait_for_timeout(PAUSE)
        waiting, errors = saved(page, lab, notebook)
    assert errors == []
    assert waiting == []
    expect(idle).to_be_visible(timeout=ANSWER)
    assert [text for text in page.locator(STDERR).all_text_contents() if "Traceback" in text] == []


def saved(page: Page, lab: Lab, notebook: str) -> tuple[list[str], list[str]]:
    """Save the open notebook: the sources of the code cells that have not run to their end, and the tracebacks."""
    page.keyboard.press("Control+s")
    expect(page.get_by_text("Saving completed")).to_be_visible(timeout=ANSWER)
    cells = [cell for cell in json.loads(lab.saved(notebook).read_text())["cells"] if cell["cell_type"] == "code"]
    waiting = [cell["source"] for cell in cells if not cell["execution_count"]]
    return waiting, [o["traceback"] for cell in cells for o in cell["outputs"] if o["output_type"] == "error"]


def control(viewer: Locator, label: str) -> Locator:
    """One of the viewer's handles."""
    return viewer.get_by_label(label, exact=True)


def pixels(picture: Locator) -> str:
    """What the canvas shows."""
    return str(picture.evaluate("canvas => canvas.toDataURL()"))


def expect_redrawn(picture: Locator, before: str) -> None:
    """The canvas shows something else than ``before``."""
    picture.page.wait_for_function(
        "([canvas, before]) => canvas.toDataURL() !== before", arg=[picture.element_handle(), before], timeout=ANSWER
    )


def ink_and_ground(viewer: Locator) -> tuple[float, float]:
    """How bright (0 to 255) the viewer's text is, and what it stands on."""
    script = "(e, [css, of]) => getComputedStyle(e.closest(of))[css].match(/[0-9.]+/g).slice(0, 3).map(Number)"
    places = (("color", ".sshsnet-viewer"), ("backgroundColor", ".jp-NotebookPanel-notebook"))
    ink, ground = (sum(viewer.evaluate(script, list(place))) / 3 for place in places)
    return ink, ground


@pytest.fixture
def viewer(page: Page, lab: Lab, request: pytest.FixtureRequest) -> Locator:
    """The first viewer of notebook 07, in the theme that the test names, else the light one; its picture is there."""
    lab.choose_theme(getattr(request, "param", THEMES[0]))
    run(page, lab, "07_overlays.ipynb")
    viewer = page.locator(".sshsnet-viewer").first
    viewer.scroll_into_view_if_needed()
    expect(viewer.locator(".sshsnet-picture")).to_have_attribute("data-frames", "1", timeout=ANSWER)
    return viewer


def test_the_first_notebook_runs(page: Page, lab: Lab, screenshots: Path) -> None:
    run(page, lab, "00_start_here.ipynb")
    page.screenshot(path=screenshots / "start_here.png")


def test_viewer_answers_mouse_and_keys(viewer: Locator, screenshots: Path) -> None:
    picture, slice_slider = viewer.locator(".sshsnet-picture"), control(viewer, "slice")
    viewer.page.screenshot(path=screenshots / "overlays_light.png")
    ink, ground = ink_and_ground(viewer)
    assert ink < 60 < 200 < ground

    # The slice slider, dragged to its end.
    handle = slice_slider.bounding_box()
    assert handle is not None
    last = slice_slider.get_attribute("max") or ""
    slice_slider.click(position={"x": handle["width"] - 1, "y": handle["height"] / 2})
    expect(picture).to_have_attribute("data-index", last, timeout=ANSWER)
    slice_slider.fill("5")
    expect(picture).to_have_attribute("data-index", "5", timeout=ANSWER)

    # The labels of a method beside the truth, then what is wrong with them.
    methods = control(viewer, "labels 2").locator("option").all_text_contents()
    method = next(name for name in methods if name not in ("nothing", "truth", "image only"))
    case = control(viewer, "case").input_value()
    control(viewer, "labels 1").select_option("truth")
    control(viewer, "labels 2").select_option("image only")
    expect(picture).to_have_attribute("aria-label", f"{case}, labels: truth, image only", timeout=ANSWER)
    control(viewer, "labels 2").select_option(method)
    expect(picture).to_have_attribute("aria-label", f"{case}, labels: truth, {method}", timeout=ANSWER)
    for mode in ("errors", "overview", "labels"):
        control(viewer, "mode").select_option(mode)
        expect(picture).to_have_attribute("aria-label", f"{case}, {mode}: truth, {method}", timeout=ANSWER)
        viewer.screenshot(path=screenshots / f"viewer_{mode}.png")

    # The pointer, down the truth in the left half: one structure after another, each by its name.
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    assert box is not None
    read = set()
    for across in (0.03, 0.13, 0.17, 0.21, 0.25):
        for down in range(5, 95, 5):
            viewer.page.mouse.move(box["x"] + across * box["width"], box["y"] + down / 100 * box["height"])
            read.add(viewer.locator(".sshsnet-hover").text_content())
    assert len({f"truth: {name}" for name in NAMES} & read) >= 5
    assert "truth: background" in read

    # One structure less, and paler: the picture changes.
    before = pixels(picture)
    control(viewer, "L3").uncheck()
    expect_redrawn(picture, before)
    before = pixels(picture)
    control(viewer, "opacity").fill("0")
    expect_redrawn(picture, before)

    # Keys on the picture: the next slice, the next case; JupyterLab's own selection of a cell stays where it is.
    active = viewer.page.locator(".jp-Notebook .jp-Cell.jp-mod-active")
    picture.focus()
    was = active.get_attribute("data-windowed-list-index")
    picture.press("ArrowRight")
    expect(picture).to_have_attribute("data-index", "6", timeout=ANSWER)
    cases = control(viewer, "case").locator("option").all_text_contents()
    picture.press("ArrowDown")
    expect(control(viewer, "case")).to_have_value(cases[1], timeout=ANSWER)
    assert active.get_attribute("data-windowed-list-index") == was


@pytest.mark.parametrize("viewer", THEMES[1:], indirect=True)
def test_viewer_follows_the_dark_theme(viewer: Locator, screenshots: Path) -> None:
    viewer.page.screenshot(path=screenshots / "overlays_dark.png")
    ink, ground = ink_and_ground(viewer)
    assert ground < 60 < 200 < ink
