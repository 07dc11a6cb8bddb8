"""How long a frame of the viewer takes: ``python -m sshsnet_core.benchmarks.viewer_frame``."""

from statistics import median
from time import process_time

import numpy as np

from sshsnet_core.anatomy import COLUMN
from sshsnet_core.pictures.lightbox import Lightbox, Look, Panel
from sshsnet_core.pictures.overlay import View

SIZE, SLICES, FRAMES = 880, 15, 50


def main() -> None:
    """A panel of 880x880 with labels, outlines and names: slices seen for the first time, then the same ones again."""
    image = np.random.default_rng(0).uniform(1, 100, (FRAMES, SIZE, SIZE)).astype(np.float32)
    labels = np.zeros(image.shape, np.uint8)
    height = SIZE // len(COLUMN)
    for place, structure in enumerate(reversed(COLUMN)):
        labels[:, place * height : (place + 1) * height, 300:500] = structure.label
        labels[:, place * height + 8 : (place + 1) * height - 8, 560:660] = structure.label
    truth = np.roll(labels, 5, axis=2)
    lightbox = Lightbox(View(image, (4.4, 0.34, 0.34), {"truth": truth, "SSHSNet": labels}))
    for visit, indices in (("first", range(FRAMES)), ("again", range(FRAMES - SLICES, FRAMES))):
        times = []
        for index in indices:
            started = process_time()
            lightbox.frame([Panel("SSHSNet")], Look(index))
            times.append(1000 * (process_time() - started))
        print(f"{visit}: {median(times):.0f} ms a frame of {SIZE}x{SIZE} (median of {len(times)}, CPU time)")


if __name__ == "__main__":
    main()
