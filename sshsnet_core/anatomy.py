"""The 20 classes of Figure 1: background, 10 vertebrae and 9 intervertebral discs, numbered as in MRSpineSeg."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Structure:
    """One labelled structure: its class number, its name in the paper's tables, and the colour it is drawn in."""

    label: int
    name: str
    kind: Literal["vertebra", "disc", "arch"]
    colour: tuple[int, int, int]


# Neighbours differ in hue and in lightness, so that they stay apart for colour-blind readers and in grey print.
_VERTEBRAE = {
    "S": (136, 136, 136),
    "L5": (238, 119, 51),
    "L4": (0, 119, 187),
    "L3": (221, 170, 51),
    "L2": (0, 110, 90),
    "L1": (238, 153, 170),
    "T12": (51, 68, 153),
    "T11": (153, 204, 85),
    "T10": (153, 51, 119),
    "T9": (102, 204, 238),
}
_DISCS = {
    "L5/S": (255, 221, 136),
    "L4/L5": (136, 204, 255),
    "L3/L4": (136, 17, 17),
    "L2/L3": (153, 238, 204),
    "L1/L2": (102, 34, 102),
    "T12/L1": (255, 204, 153),
    "T11/T12": (17, 119, 51),
    "T10/T11": (153, 153, 204),
    "T9/T10": (153, 119, 51),
}

VERTEBRAE = tuple(Structure(1 + i, name, "vertebra", colour) for i, (name, colour) in enumerate(_VERTEBRAE.items()))
DISCS = tuple(Structure(11 + i, name, "disc", colour) for i, (name, colour) in enumerate(_DISCS.items()))

#: The 19 structures in the order of Tables 1 and 2.
STRUCTURES = VERTEBRAE + DISCS
NAMES = tuple(structure.name for structure in STRUCTURES)

BACKGROUND = 0
#: C1 in the paper: background and 19 structures.
N_CLASSES = 1 + len(STRUCTURES)

#: The posterior elements of L5 ... T9, for masks and networks that tell them from the bodies (the paper does not): a
#: vertebra's own number is its body's alone there. The sacrum stays whole.
ARCH_OFFSET = N_CLASSES - VERTEBRAE[1].label
ARCHES = tuple(Structure(v.label + ARCH_OFFSET, f"arch of {v.name}", "arch", v.colour) for v in VERTEBRAE[1:])
#: Background, 19 structures and nine arches.
N_APART = N_CLASSES + len(ARCHES)
#: For each of the ``N_APART`` numbers, the paper's class: an arch is part of its vertebra.
WHOLE = (*range(N_CLASSES), *(vertebra.label for vertebra in VERTEBRAE[1:]))

#: The chain from the sacrum upwards: S, L5/S, L5, L4/L5, ..., T9/T10, T9.
COLUMN = tuple(s for pair in zip(VERTEBRAE, (*DISCS, None), strict=True) for s in pair if s is not None)


def by_name(name: str) -> Structure:
    """The structure of that name; ``KeyError`` with the known names for any other."""
    for structure in STRUCTURES:
        if structure.name == name:
            return structure
    raise KeyError(f"No structure is called {name!r}; known are {', '.join(NAMES)}.")
