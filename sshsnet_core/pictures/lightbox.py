"""One case on the light box: up to three panels side by side, each the image or what one method makes of it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sshsnet_core.anatomy import N_CLASSES, STRUCTURES
from sshsnet_core.pictures.errors_map import ERROR_COLOURS, Error, dsc, error_map
from sshsnet_core.pictures.overlay import (
    COLOURS,
    OUTLINE,
    View,
    blend,
    borders,
    colour_table,
    grey_limits,
    name_places,
    slice_to_grey,
    square,
    square_scale,
)
from sshsnet_core.pictures.overview import Surface

TRUTH = "truth"
NO_LABELS = "image only"
#: What a panel shows of its labels: them on the slice, their errors on the slice, or their surfaces.
Mode = Literal["labels", "errors", "overview"]
MODES: tuple[Mode, ...] = get_args(Mode)
ALL = frozenset(range(1, N_CLASSES))
#: Pixels that a picture should about have; smaller slices are enlarged by a whole number.
HEIGHT = 700
_GAP, _YELLOW, _WHITE, _BLACK = 4, (255, 255, 0), (255, 255, 255), (0, 0, 0)
#: Room (pixels of a surface) on both sides of the front and of the left side, for the marks.
_MARGIN = 8


@dataclass(frozen=True)
class Panel:
    """The labels of that name, ``truth`` and ``image only`` among them, in one of the ``MODES``."""

    name: str
    mode: Mode = "labels"


@dataclass(frozen=True)
class Look:
    """How to look at a case: the slice's index, and what is drawn on it of the structures ``shown``, by label."""

    index: int
    opacity: float = 0.5
    outlines: bool = True
    names: bool = True
    shown: frozenset[int] = ALL


@dataclass(frozen=True)
class Frame:
    """A picture of panels (JPEG) and what lies under its pixels.

    ``boxes`` holds the place (left, top, width, height) of every panel's slice in the picture. ``planes`` (P, H, W)
    uint8 are the panels' labels over these boxes, and ``truth`` (H, W) the truth's, if it lies under all of them.
    """

    jpeg: bytes
    boxes: list[tuple[int, int, int, int]]
    planes: np.ndarray
    truth: np.ndarray | None


class Lightbox:
    """Draws frames of one case; what does not change from one frame to the next is kept."""

    def __init__(self, view: View) -> None:
        """Raises ``ValueError`` for an image whose intensities are constant."""
        self.view = view
        trimmed = view.without_margins()
        self._image, self._labels = trimmed.image, trimmed.labels
        self._spacing = view.spacing_mm[1], view.spacing_mm[2]
        self._limits = grey_limits(view.image)
        height = self._image.shape[1] * square_scale(self._spacing)[0]
        self.enlargement = max(1, round(HEIGHT / height))
        for name in ("_grey", "_errors", "_borders", "_places", "_surface", "_overview", "dsc"):
            setattr(self, name, lru_cache(maxsize=32)(getattr(self, name)))

    def frame(self, panels: Sequence[Panel], look: Look) -> Frame:
        """The panels side by side, each under its title, errors with their legend below.

        Panels that show surfaces lie side by side with others of their kind only. Raises ``ValueError`` without
        panels, for labels that the case does not have, and for an index off the volume.
        """
        self._check(panels, look)
        drawn = [self._overview_panel(p, look) if p.mode == "overview" else self._slice_panel(p, look) for p in panels]
        pictures, planes = [picture for picture, _ in drawn], [plane for _, plane in drawn]
        width, height = pictures[0].size
        strip = max(18, height // 24)
        legend = strip if any(map(self._shows_errors, panels)) else 0
        size = (len(panels) * (width + _GAP) - _GAP, height + strip + legend)
        sheet = Image.new("RGB", size)
        boxes = []
        for number, (panel, picture) in enumerate(zip(panels, pictures, strict=True)):
            left = number * (width + _GAP)
            sheet.paste(picture, (left, strip))
            boxes.append((left, strip, width, height))
            self._captions(ImageDraw.Draw(sheet), panel, boxes[-1])
        stream = BytesIO()
        sheet.save(stream, "JPEG", quality=85)
        truth = self._labels.get(TRUTH) if all(panel.mode != "overview" for panel in panels) else None
        return Frame(stream.getvalue(), boxes, np.stack(planes), None if truth is None else truth[look.index])

    def dsc(self, name: str) -> dict[str, float] | None:
        """The DSC of every structure over the whole volume; ``None`` for the truth, the bare image and no truth."""
        truth = self.view.labels.get(TRUTH)
        if truth is None or name in (TRUTH, NO_LABELS):
            return None
        return dsc(self.view.labels[name], truth)

    def _check(self, panels: Sequence[Panel], look: Look) -> None:
        unknown = [p.name for p in panels if p.name not in (*self._labels, NO_LABELS)]
        if unknown or not panels:
            raise ValueError(f"This case has no labels {', '.join(unknown)}." if unknown else "There are no panels.")
        if not 0 <= look.index < len(self._image):
            raise ValueError(f"The slice must lie between 0 and {len(self._image) - 1}, not {look.index}.")

    # --- a slice ----------------------------------------------------------------------------------------------------

    def _slice_panel(self, panel: Panel, look: Look) -> tuple[Image.Image, np.ndarray]:
        grey, index = self._grey(look.index), look.index
        plane = self._plane(panel.name, index)
        if self._shows_errors(panel):
            # Errors are thin: they are drawn more strongly than labels.
            table = colour_table(ERROR_COLOURS, (1 + look.opacity) / 2)
            rgb = blend(grey, self._errors(panel.name, index, look.shown), table)
        else:
            table = colour_table(COLOURS, look.opacity, look.shown)
            rgb = blend(grey, square(plane, self._spacing, self.enlargement), table)
        if look.outlines and TRUTH in self._labels and panel.name not in (TRUTH, NO_LABELS):
            rgb[self._borders(index, look.shown)] = OUTLINE // 2 if self._shows_errors(panel) else OUTLINE
        picture = Image.fromarray(rgb)
        pen = ImageDraw.Draw(picture)
        if look.names:
            named = TRUTH if self._shows_errors(panel) else panel.name
            scale = square_scale(self._spacing, self.enlargement)
            _write_names(pen, self._places(named, index), scale, look.shown, picture.height)
        _directions(pen, (0, 0, *picture.size), "SIAP")
        return picture, plane

    def _shows_errors(self, panel: Panel) -> bool:
        return panel.mode == "errors" and TRUTH in self._labels and panel.name not in (TRUTH, NO_LABELS)

    def _plane(self, name: str, index: int) -> np.ndarray:
        if name == NO_LABELS:
            return np.zeros(self._image.shape[1:], np.uint8)
        return self._labels[name][index].astype(np.uint8)

    def _grey(self, index: int) -> np.ndarray:
        grey = slice_to_grey(self._image[index], self._limits)
        return square(grey, self._spacing, self.enlargement, Image.Resampling.BILINEAR)

    def _errors(self, name: str, index: int, shown: Collection[int]) -> np.ndarray:
        """The error map of a slice, of those structures that are shown in the truth or in the labels."""
        plane, truth = self._plane(name, index), self._plane(TRUTH, index)
        errors = np.where(_only(plane, shown) | _only(truth, shown), error_map(plane, truth), 0)
        return square(errors.astype(np.uint8), self._spacing, self.enlargement)

    def _borders(self, index: int, shown: Collection[int]) -> np.ndarray:
        plane = _only(self._plane(TRUTH, index), shown)
        return borders(square(plane, self._spacing, self.enlargement))

    def _places(self, name: str, index: int) -> dict[int, tuple[float, float]]:
        return name_places(self._plane(name, index))

    # --- the surfaces -----------------------------------------------------------------------------------------------

    def _overview_panel(self, panel: Panel, look: Look) -> tuple[Image.Image, np.ndarray]:
        picture, plane, places, front = self._overview(panel.name, look.shown)
        picture = picture.copy()
        pen = ImageDraw.Draw(picture)
        scale = picture.width / plane.shape[1]
        if look.names:
            _write_names(pen, places, (scale, scale), look.shown, picture.height)
        edge = round(front * scale)
        _directions(pen, (0, 0, edge, picture.height), "SIRL")
        _directions(pen, (edge, 0, picture.width, picture.height), "SIAP")
        return picture, plane

    def _overview(
        self, name: str, shown: Collection[int]
    ) -> tuple[Image.Image, np.ndarray, dict[int, tuple[float, float]], int]:
        """The front and the left side beside each other, the labels seen, the names' places and the front's width."""
        (front, front_plane), (side, side_plane) = self._surface(name).draw(shown)
        width = front.shape[1] + 2 * _MARGIN
        plane = np.concatenate([np.pad(p, ((0, 0), (_MARGIN, _MARGIN))) for p in (front_plane, side_plane)], axis=1)
        rgb = np.concatenate([np.pad(p, ((0, 0), (_MARGIN, _MARGIN), (0, 0))) for p in (front, side)], axis=1)
        size = round(rgb.shape[1] * HEIGHT / rgb.shape[0]), HEIGHT
        places = name_places(np.where(np.arange(plane.shape[1]) < width, 0, plane))
        return Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC), plane, places, width

    def _surface(self, name: str) -> Surface:
        labels = np.zeros_like(self._image, np.uint8) if name == NO_LABELS else self._labels[name]
        return Surface(labels, self.view.spacing_mm)

    # --- what stands around -----------------------------------------------------------------------------------------

    def _captions(self, pen: ImageDraw.ImageDraw, panel: Panel, box: tuple[int, int, int, int]) -> None:
        """The panel's title above its box; below one of errors, what the colours mean."""
        left, top, width, height = box
        title = panel.name
        if panel.mode == "errors" and panel.name not in (TRUTH, NO_LABELS):
            title += ": errors" if TRUTH in self._labels else ": no truth, no errors"
        pen.text((left + width / 2, top / 2), title, _WHITE, _fitting(title, 0.7 * top, width - 8), "mm")
        if not self._shows_errors(panel):
            return
        line = "   ".join(f"■ {error.title}" for error in Error)
        font = _fitting(line, 0.6 * top, width - 8)
        x = left + (width - font.getlength(line)) / 2
        for error in Error:
            text = error.title
            colour = tuple(int(c) for c in ERROR_COLOURS[error])
            y, edge = top + height + top / 2, 0.7 * font.size
            pen.rectangle((x, y - edge / 2, x + edge, y + edge / 2), fill=colour)
            pen.text((x + 1.4 * edge, y), text, _WHITE, font, "lm")
            x += 1.4 * edge + font.getlength(text + "   ")


def _only(plane: np.ndarray, shown: Collection[int]) -> np.ndarray:
    """The labels of a plane (H, W) uint8 that are shown, 0 elsewhere; a table is several times as fast as a search."""
    table = np.zeros(256, np.uint8)
    table[list(shown)] = list(shown)
    return table[plane]


def _write_names(
    pen: ImageDraw.ImageDraw,
    places: dict[int, tuple[float, float]],
    scale: tuple[float, float],
    shown: Collection[int],
    height: int,
) -> None:
    """Vertebrae are named on the body; thin discs beside their anterior end, as far as there is room."""
    font, small = _font(HEIGHT // 35), _font(HEIGHT // 43)
    for number, (row, column) in places.items():
        if number not in shown:
            continue
        structure = STRUCTURES[number - 1]
        y, x = (row + 0.5) * scale[0], (column + 0.5) * scale[1]
        if structure.kind == "vertebra":
            y = float(np.clip(y, font.size, height - font.size))
            pen.text((x, y), structure.name, _WHITE, font, "mm", stroke_width=2, stroke_fill=_BLACK)
        else:
            y = float(np.clip(y, small.size, height - small.size))
            x = max(x - 6, small.getlength(structure.name) + 2)
            pen.text((x, y), structure.name, _WHITE, small, "rm", stroke_width=2, stroke_fill=_BLACK)


def _fitting(text: str, size: float, width: float) -> ImageFont.FreeTypeFont:
    """The font in which the text is at most ``width`` wide."""
    font = _font(max(8, round(size)))
    return _font(max(8, int(font.size * min(1, width / font.getlength(text)))))


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _directions(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], letters: str) -> None:
    """Marks which way is up, down, left and right at the edges of the box (left, top, right, bottom)."""
    left, top, right, bottom = box
    x, y = (left + right) / 2, (top + bottom) / 2
    places = ((x, top + 3), (x, bottom - 3), (left + 3, y), (right - 3, y))
    font = _font(max(10, (bottom - top) // 34))
    for letter, place, anchor in zip(letters, places, ("mt", "mb", "lm", "rm"), strict=True):
        pen.text(place, letter, _YELLOW, font, anchor, stroke_width=1, stroke_fill=_BLACK)
