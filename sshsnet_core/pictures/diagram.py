"""Boxes, arrows and groups: the little that Figures 3 to 6 are drawn with. All lengths are inches, y points down."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from sshsnet_core.pictures.figures import PAGE_WIDTH, STYLE, foot

Point = tuple[float, float]


class Layer(Protocol):
    """What is drawn of a module: its shapes, batch axis first, and how it was built (see ``networks.shapes``)."""

    @property
    def inputs(self) -> tuple[tuple[int, ...], ...]: ...
    @property
    def outputs(self) -> tuple[tuple[int, ...], ...]: ...
    @property
    def parameters(self) -> int: ...
    @property
    def kernel(self) -> tuple[int, ...]: ...
    @property
    def stride(self) -> tuple[int, ...]: ...
    @property
    def padding(self) -> tuple[int, ...]: ...
    @property
    def dilation(self) -> tuple[int, ...]: ...
    @property
    def groups(self) -> int: ...


class Colour(NamedTuple):
    """A line and the pale ground that belongs to it."""

    line: str
    ground: str


#: Blue, orange and green of the figures' palette: they differ in lightness too.
TWO_D = Colour("#0077bb", "#d5e8f5")
THREE_D = Colour("#cc5511", "#fce3d3")
FUSION = Colour("#00806f", "#cfece4")
LOSS = Colour("#666666", "#e8e8e8")
INK = "#222222"
TITLE_SIZE, FACT_SIZE = 6.5, 5.5  # points
_LINE = 0.108  # inches from one line of text to the next


class Box(NamedTuple):
    """A box by its centre and size, and the middles of its sides, where arrows begin and end."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> Point:
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> Point:
        return self.x + self.width / 2, self.y

    @property
    def top(self) -> Point:
        return self.x, self.y - self.height / 2

    @property
    def bottom(self) -> Point:
        return self.x, self.y + self.height / 2


class Diagram:
    """A drawing as wide as the page and ``height`` inches tall."""

    def __init__(self, height: float) -> None:
        with plt.rc_context(STYLE):
            self.figure: Figure = plt.figure(figsize=(PAGE_WIDTH, height))
            self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, PAGE_WIDTH), ylim=(height, 0), aspect="equal")
        self.axes.set_axis_off()

    def module(self, box: Box, lines: Sequence[str], colour: Colour) -> Box:
        """Something that computes: a filled box with a title in bold and facts below it."""
        return self._box(box, lines, colour.line, colour.ground, "square,pad=0")

    def data(self, box: Box, lines: Sequence[str], colour: Colour) -> Box:
        """A tensor: a white box with round corners, its symbol and its shape."""
        return self._box(box, lines, colour.line, "white", "round,pad=0,rounding_size=0.06")

    def sign(self, x: float, y: float, text: str) -> Box:
        """A small circle for an operation that needs no box: a sum, a product, a concatenation."""
        self.axes.add_patch(Circle((x, y), 0.085, facecolor="white", edgecolor=INK, linewidth=0.8, zorder=3))
        self.axes.text(x, y, text, ha="center", va="center", fontsize=TITLE_SIZE, color=INK, zorder=4)
        return Box(x, y, 0.17, 0.17)

    def arrow(self, *points: Point, colour: str = INK, dashed: bool = False) -> None:
        """A line through the points, with its head at the last of them."""
        head = "-|>,head_width=1.6,head_length=3"
        arrow = FancyArrowPatch(path=Path(points), arrowstyle=head, color=colour, linewidth=0.9, zorder=2)
        arrow.set(linestyle=(0, (3, 2)) if dashed else "-", joinstyle="miter")
        self.axes.add_patch(arrow)

    def chain(self, *boxes: Box) -> None:
        """Arrows from each box to the next, along the axis on which they do not overlap."""
        for a, b in pairwise(boxes):
            if abs(b.x - a.x) * 2 > a.width + b.width:
                self.arrow(*((a.right, b.left) if a.x < b.x else (a.left, b.right)))
            else:
                self.arrow(*((a.bottom, b.top) if a.y < b.y else (a.top, b.bottom)))

    def group(self, box: Box, title: str, colour: Colour, below: bool = False) -> None:
        """A frame behind other boxes, its title in the upper left corner, or in the lower one where arrows enter."""
        corner = box.x - box.width / 2, box.y - box.height / 2
        frame = FancyBboxPatch(corner, box.width, box.height, boxstyle="round,pad=0,rounding_size=0.08", zorder=0)
        frame.set(facecolor="#fafafa", edgecolor=colour.line, linewidth=0.7, linestyle=(0, (4, 2)))
        self.axes.add_patch(frame)
        y = corner[1] + (box.height - 0.11 if below else 0.11)
        self.note(corner[0] + 0.08, y, title, ha="left", colour=colour.line, bold=True)

    def note(
        self, x: float, y: float, text: str, ha: str = "center", colour: str = "#444444", bold: bool = False
    ) -> None:
        """Text that stands alone."""
        size, weight = (TITLE_SIZE, "bold") if bold else (FACT_SIZE, "normal")
        self.axes.text(x, y, text, ha=ha, va="center", fontsize=size, color=colour, weight=weight, zorder=4)

    def finish(self, caption: str) -> Figure:
        """The figure with its caption, closed for matplotlib's own list of open figures."""
        with plt.rc_context(STYLE):
            foot(self.figure, caption)
        plt.close(self.figure)
        return self.figure

    def _box(self, box: Box, lines: Sequence[str], line: str, ground: str, form: str) -> Box:
        corner = box.x - box.width / 2, box.y - box.height / 2
        self.axes.add_patch(
            FancyBboxPatch(
                corner, box.width, box.height, boxstyle=form, facecolor=ground, edgecolor=line, linewidth=0.9, zorder=3
            )
        )
        # The title is larger, and its subscripts reach down.
        below = 0.03 if len(lines) > 1 else 0.0
        first = box.y - (_LINE * (len(lines) - 1) + below) / 2
        for index, text in enumerate(lines):
            size, weight = (TITLE_SIZE, "bold") if index == 0 else (FACT_SIZE, "normal")
            y = first + index * _LINE + (below if index else 0)
            self.axes.text(
                box.x, y, text, ha="center", va="center_baseline", fontsize=size, weight=weight, color=INK, zorder=4
            )
        return box


def times(numbers: Sequence[int]) -> str:
    """A shape or a kernel as it is read: ``12×440×224``."""
    return "×".join(map(str, numbers))


def output(layer: Layer, index: int = 0) -> str:
    """The shape that a module gives, without the batch axis."""
    return times(layer.outputs[index][1:])


def millions(layer: Layer) -> str:
    return f"{layer.parameters / 1e6:.2f} M parameters"
