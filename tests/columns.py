"""Columns drawn as boxes, and what networks might say of them, that tests of naming share."""

import numpy as np

from sshsnet_core.anatomy import COLUMN, DISCS, N_CLASSES, VERTEBRAE

SPACING = (4.4, 1.5, 1.5)
ROWS, COLUMNS, SLICES = 224, 90, 7
# From below, in mm: the sacrum, then disc and body of each level.
HEIGHTS = {"S": 60, "disc": 9, "body": 27}
DISC, BODY = "disc", "body"
DEPTH_MM = 32


def drawn(top: str = "T11", lowest: str = "S", disc_mm: float = 9) -> np.ndarray:
    """A label map (Z, H, W): a column that leans forwards at the sacrum, which tapers, and is straight above it."""
    labels = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
    names = [structure.name for structure in COLUMN]
    position = 300.0  # mm from the upper edge to the lower end
    rows = np.arange(ROWS) * SPACING[1]
    for structure in COLUMN[names.index(lowest) : names.index(top) + 1]:
        height = HEIGHTS["S"] if structure.name == "S" else (disc_mm if structure.kind == DISC else HEIGHTS[BODY])
        inside = (rows <= position) & (rows > position - height)
        for row in np.flatnonzero(inside):
            # The sacrum runs backwards going down, from S1 as deep as a body to half of that.
            below = rows[row] - 240 if structure.name == "S" else 0.0
            middle = 60 + 0.8 * below
            half = DEPTH_MM / 2 * (1 - below / 120)
            first, last = (round((middle + side) / SPACING[2]) for side in (-half, half))
            labels[1:-1, row, max(first, 0) : last] = structure.label
        position -= height
    return labels


def voted(labels: np.ndarray, certainty: float = 0.7, shift: int = 0, classes: int = N_CLASSES) -> np.ndarray:
    """Probabilities (C, Z, H, W) of a network that is so certain, and names everything ``shift`` levels too high."""
    probabilities = np.full((classes, *labels.shape), (1 - certainty) / (classes - 1), np.float32)
    for label in np.unique(labels):
        said = int(label)
        kind = VERTEBRAE if 1 <= label <= 10 else DISCS
        if label:
            said = int(np.clip(said + shift, kind[0].label, kind[-1].label))
        probabilities[said][labels == label] = certainty
    return probabilities
