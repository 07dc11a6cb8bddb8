"""Cross pseudo supervision (section 3.1.2): two networks, each learning unlabelled images from the other's labels."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from sshsnet_core.annotation import Groups
from sshsnet_core.decision import KIND, kind_first
from sshsnet_core.learning.losses import DiceOver, cross_entropy, supervised_loss

Batch = Mapping[str, Tensor]
#: From class scores (N, C, h, w) to labels (N, h, w).
Decision = Callable[[Tensor], Tensor]

# CutMix as in CutMix-Seg, which CPS uses: three boxes, 25 to 50 % of the image between them.
_BOXES = 3
_AREA = (0.25, 0.5)


def cutmix_mask(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """One mask m (1, h, w) of zeros and ones: three boxes of random aspect inside the image, combined by exclusive-or.

    The boxes' common area is drawn once and shared, each side of a box taking a factor sqrt(1/3).
    """
    mask = np.zeros(size, dtype=bool)
    proportion = rng.uniform(*_AREA)
    for _ in range(_BOXES):
        # height = p^u and width = p^(1-u), so that height x width = p whatever the aspect.
        aspect = rng.random()
        shares = np.array([proportion**aspect, proportion ** (1 - aspect)]) * np.sqrt(1 / _BOXES)
        height, width = (round(s * n) for s, n in zip(shares, size, strict=True))
        top, left = (int(rng.integers(n - s + 1)) for n, s in zip(size, (height, width), strict=True))
        mask[top : top + height, left : left + width] ^= True
    return mask[None].astype(np.float32)


def mix(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """CutMix: ``first`` where m is 0, ``second`` where m is 1. Maps (N, C, h, w), mask (N, 1, h, w)."""
    return first * (1 - mask) + second * mask


def no_cutmix(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """CutMix switched off: a mask of zeros, under which ``mix`` leaves the first image as it is."""
    return np.zeros((1, *size), np.float32)


def largest(scores: Tensor) -> Tensor:
    """T of section 3.1.2: the class of the largest score."""
    return scores.argmax(dim=1)


def likeliest_kind(scores: Tensor) -> Tensor:
    """Outside the paper: the likeliest kind first and then the name, so that a doubt about names eats no outline."""
    return kind_first(scores.float().softmax(dim=1))


def under_names(labels: Tensor, names: Tensor) -> Tensor:
    """Outside the paper: labels (N, h, w) keep their kind and are called what ``names`` (N, 4, h, w) has for it there.

    A branch that is off by one level would teach the other to be; along the whole column the names can be told.
    """
    kinds = torch.tensor(KIND, device=labels.device)[labels]
    return names.gather(1, kinds.unsqueeze(1)).squeeze(1)


def naming_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Outside the paper: Equation 10 within the kind of each label (N, h, w), where only its name is learnt; a scalar.

    Minus the logarithm of the label's share in the probability of its kind; 0 at background, which is its kind's only
    name. What is bone or disc and what is not, ``scores`` (N, C1, h, w) learn nothing of.
    """
    kinds = torch.tensor(KIND[: scores.shape[1]], device=scores.device)
    others = kinds[labels].unsqueeze(1) != kinds.view(1, -1, 1, 1)
    return cross_entropy(scores.float().masked_fill(others, -torch.inf), labels)


@contextmanager
def in_evaluation(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; then every module returns to its own mode, which need not be the network's."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    yield
    for module, training in modes.items():
        module.training = training


@torch.no_grad()
def pseudo_labels(
    network: nn.Module,
    u0: Tensor,
    u1: Tensor,
    mask: Tensor,
    evaluating: bool = True,
    decide: Decision = largest,
) -> Tensor:
    """Y = T(S): the labels (N, h, w) of the mixed scores of the unlabelled u0 and u1 (N, 3, h, w). No threshold.

    The network labels in evaluation mode, as it will be used: dropout off and batch statistics frozen. The authors'
    code labels in training mode (``evaluating`` False); then three of four batch-norm updates come from unlabelled
    images.
    """
    with in_evaluation(network) if evaluating else nullcontext():
        return decide(mix(network(u0).scores, network(u1).scores, mask))


class Supervised(nn.Module):
    """The objective of one 2D network on labelled slices: cross-entropy and Dice. The rows without CPS."""

    def __init__(self, network: nn.Module, groups: Groups | None = None, dice_over: DiceOver = "sample") -> None:
        super().__init__()
        self.branches = nn.ModuleList([network])
        self.groups, self.dice_over = groups, dice_over

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        scores = self.branches[0](batch["image"]).scores
        return {"loss": supervised_loss(scores, batch["labels"], self.groups, self.dice_over)}


class CrossPseudoSupervision(nn.Module):
    """Equation 6, L_2d = L_s + lambda L_cps, for two branches; on batches without unlabelled images, L_s alone."""

    def __init__(
        self,
        make_network: Callable[[], nn.Module],
        weight: float,
        evaluating: bool = True,
        decide: Decision = largest,
        groups: Groups | None = None,
        dice_over: DiceOver = "sample",
    ) -> None:
        super().__init__()
        self.evaluating, self.decide, self.groups, self.dice_over = evaluating, decide, groups, dice_over
        # Two calls: the same encoder where it is pretrained, everything else drawn anew.
        self.branches = nn.ModuleList([make_network(), make_network()])
        self.weight = weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        supervised = self.supervision(batch["image"], batch["labels"])
        if "mask" not in batch:
            return {"loss": supervised, "supervised": supervised}
        cps = self.cross_supervision(batch["u0"], batch["u1"], batch["mask"], batch.get("names"))
        return {"loss": supervised + self.weight * cps, "supervised": supervised, "cps": cps}

    def supervision(self, image: Tensor, labels: Tensor) -> Tensor:
        """L_s (Equation 7): both branches on labelled images (N, 3, h, w)."""
        first, second = (
            supervised_loss(branch(image).scores, labels, self.groups, self.dice_over) for branch in self.branches
        )
        return first + second

    def cross_supervision(self, u0: Tensor, u1: Tensor, mask: Tensor, names: Tensor | None = None) -> Tensor:
        """L_cps (Equation 8): both branches on the mixed image, each under the other's pseudo label.

        With ``names`` (N, 4, h, w), of the mixed image, these alone are learnt (``under_names``, ``naming_loss``).
        """
        first, second = self.branches
        label_1, label_2 = (
            pseudo_labels(branch, u0, u1, mask, self.evaluating, self.decide) for branch in (first, second)
        )
        loss = cross_entropy
        if names is not None:
            label_1, label_2, loss = under_names(label_1, names), under_names(label_2, names), naming_loss
        mixed = mix(u0, u1, mask)
        return loss(first(mixed).scores, label_2) + loss(second(mixed).scores, label_1)
