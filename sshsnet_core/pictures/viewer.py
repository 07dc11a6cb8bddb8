"""Look for yourself: sagittal overlays in a notebook, as a picture that stays in the file and as a widget under it."""

import zlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from IPython.display import Image as Picture
from IPython.display import display

from sshsnet_core.anatomy import COLUMN, NAMES, by_name
from sshsnet_core.pictures.lightbox import MODES, NO_LABELS, TRUTH, Frame, Lightbox, Look, Panel
from sshsnet_core.pictures.overlay import View

#: More panels than this are too narrow on a page.
MOST_PANELS = 3


def show(cases: Mapping[str, View], interactive: bool) -> None:
    """Shows cases by name: first a static picture of the first one, then, if interactive, the widget.

    The static picture is what a stored notebook shows where no kernel runs: the mid-sagittal slice with the truth, the
    last method, and that method's errors. Raises ``ValueError`` without cases.
    """
    if not cases:
        raise ValueError("There are no cases to show.")
    name = next(iter(cases))
    view = cases[name]
    panels = _static_panels(view)
    jpeg = Lightbox(view).frame(panels, Look(view.middle)).jpeg
    titles = ", ".join(f"{panel.name} ({panel.mode})" for panel in panels)
    display(Picture(data=jpeg, format="jpeg", alt=f"Mid-sagittal slice of {name}, from left to right: {titles}."))
    if interactive:
        display(Viewer(cases))


def frame(view: View, method: str, index: int, opacity: float = 0.5) -> bytes:
    """One slice as JPEG: the labels of ``method`` coloured and named, with the truth's outline where there is one."""
    return Lightbox(view).frame([Panel(method)], Look(index, opacity)).jpeg


def _static_panels(view: View) -> list[Panel]:
    methods = [name for name in view.labels if name != TRUTH]
    if TRUTH not in view.labels:
        return [Panel(NO_LABELS), *(Panel(name) for name in methods[-1:])]
    return [Panel(TRUTH), *(Panel(name, mode) for name in methods[-1:] for mode in MODES[:2])]


class Viewer(anywidget.AnyWidget):
    """Cases, methods and slices to choose, in the browser or by setting the traits; ``frame`` is what they show.

    The traits are the whole state. A frame goes to the browser as a message, not as a trait, so that no picture is ever
    stored with a notebook's widgets. Raises ``ValueError`` without cases.
    """

    _esm = Path(__file__).with_name("viewer.js")
    _css = Path(__file__).with_name("viewer.css")

    #: What there is to choose from.
    cases = traitlets.List(traitlets.Unicode()).tag(sync=True)
    choices = traitlets.List(traitlets.Unicode()).tag(sync=True)
    slices = traitlets.Int().tag(sync=True)
    structures = traitlets.List(
        [{"label": s.label, "name": s.name, "kind": s.kind, "colour": list(s.colour)} for s in reversed(COLUMN)]
    ).tag(sync=True)
    #: What is chosen.
    case = traitlets.Unicode().tag(sync=True)
    panels = traitlets.List(traitlets.Unicode(), minlen=1, maxlen=MOST_PANELS).tag(sync=True)
    index = traitlets.Int().tag(sync=True)
    mode = traitlets.Enum(MODES, "labels").tag(sync=True)
    opacity = traitlets.Float(0.5, min=0.0, max=1.0).tag(sync=True)
    outlines = traitlets.Bool(True).tag(sync=True)
    names = traitlets.Bool(True).tag(sync=True)
    shown = traitlets.List(traitlets.Enum(NAMES), list(NAMES)).tag(sync=True)

    frame: Frame

    def __init__(self, cases: Mapping[str, View]) -> None:
        if not cases:
            raise ValueError("There are no cases to show.")
        self._views = cases
        # The last few cases keep their surfaces and scores.
        self._lightbox = lru_cache(maxsize=4)(lambda name: Lightbox(cases[name]))
        self._drawn: tuple[Any, ...] = ()
        super().__init__(cases=list(cases), case=next(iter(cases)), panels=[NO_LABELS])
        self.panels = self.choices[:1] if len(self.choices) < 3 else [self.choices[0], self.choices[-2]]
        self.on_msg(lambda _widget, _content, _buffers: self._send_frame())

    @traitlets.validate("case")
    def _check_case(self, proposal: traitlets.Bunch) -> str:
        if proposal.value not in self._views:
            raise traitlets.TraitError(f"No case is called {proposal.value!r}; there are {', '.join(self._views)}.")
        return str(proposal.value)

    @traitlets.validate("index")
    def _check_index(self, proposal: traitlets.Bunch) -> int:
        return int(np.clip(proposal.value, 0, len(self._views[self.case].image) - 1))

    @traitlets.validate("panels")
    def _check_panels(self, proposal: traitlets.Bunch) -> list[str]:
        unknown = [name for name in proposal.value if name not in (*self._views[self.case].labels, NO_LABELS)]
        if unknown:
            raise traitlets.TraitError(f"{self.case} has no labels called {', '.join(unknown)}.")
        return list(proposal.value)

    @traitlets.observe("case")
    def _open(self, _change: object) -> None:
        """A case opens at its mid-sagittal slice; panels stay where it has their labels, else show its first ones."""
        view = self._views[self.case]
        choices = [*view.labels, NO_LABELS]
        with self.hold_sync(), self.hold_trait_notifications():
            self.choices, self.slices, self.index = choices, len(view.image), view.middle
            self.panels = [name for name in self.panels if name in choices] or choices[:1]
        self._draw()

    @traitlets.observe("panels", "index", "mode", "opacity", "outlines", "names", "shown")
    def _draw(self, _change: object = None) -> None:
        state = (self.case, *self.panels, self.index, self.mode, self.opacity, self.outlines, self.names, *self.shown)
        # Several traits that change together are told one by one.
        if state == self._drawn:
            return
        self._drawn = state
        shown = frozenset(by_name(name).label for name in self.shown)
        look = Look(self.index, self.opacity, self.outlines, self.names, shown)
        self.frame = self._lightbox(self.case).frame([Panel(name, self.mode) for name in self.panels], look)
        self._send_frame()

    def _send_frame(self) -> None:
        """Frame, labels under the pointer and scores, in one message, so that they always belong together."""
        frame, lightbox = self.frame, self._lightbox(self.case)
        planes = frame.planes if frame.truth is None else np.concatenate([frame.planes, frame.truth[None]])
        content = {
            "panels": [
                {"name": name, "box": box, "dsc": lightbox.dsc(name)}
                for name, box in zip(self.panels, frame.boxes, strict=True)
            ],
            "shape": planes.shape,
            "compared": frame.truth is not None,
            "has_truth": TRUTH in lightbox.view.labels,
        }
        self.send(content, [frame.jpeg, zlib.compress(planes.tobytes(), 1)])
