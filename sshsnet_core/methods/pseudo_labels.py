"""What CPS's two branches call one unlabelled slice after every epoch (section 3.1.2): a record to look at."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sshsnet_core.data.slices import Pictured, slice_input
from sshsnet_core.learning.cps import Decision, in_evaluation, largest


@dataclass(frozen=True)
class PseudoLabelRecord:
    """The middle slice of one unlabelled case, and a file an epoch of what the branches called it, in ``folder``."""

    case: Pictured
    folder: Path

    @property
    def image(self) -> torch.Tensor:
        """The slice with its neighbours, as the networks see it: (3, H/2, W/2)."""
        return slice_input(self.case.image, self.case.image.shape[0] // 2)

    @torch.no_grad()
    def write(self, epoch: int, branches: Iterable[nn.Module], decide: Decision = largest) -> None:
        """Write both branches' labels, T(S_2d) as in ``learning.cps.pseudo_labels``, after an epoch."""
        labels = []
        for branch in branches:
            image = self.image[None].to(next(branch.parameters()).device)
            with in_evaluation(branch):
                labels.append(decide(branch(image).scores)[0].to(torch.uint8).cpu().numpy())
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / "partial.npz"
        np.savez_compressed(partial, labels=np.stack(labels))
        partial.replace(self.folder / f"epoch-{epoch:04d}.npz")

    def read(self) -> dict[int, np.ndarray]:
        """The labels (2, H/2, W/2) uint8 by epoch, numbers of the networks' classes; empty where nothing is trained."""
        files = sorted(self.folder.glob("epoch-*.npz"))
        return {int(file.stem.removeprefix("epoch-")): np.load(file)["labels"] for file in files}
