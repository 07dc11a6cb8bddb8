"""The losses of section 3.4.

Scores are class scores before the softmax (N, C1, *spatial), labels are int64 (N, *spatial).
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from sshsnet_core.annotation import Groups

#: Keeps Equation 11 defined for a class that is neither present nor predicted; far below one pixel.
EPSILON = 1e-5

#: Over what Equation 11 sums up: every sample for itself, as printed, or a batch as a whole.
DiceOver = Literal["sample", "batch"]


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Equation 10: the mean over all n mu pixels of minus the log probability of the true class; a scalar."""
    # float32 also under autocast: half precision loses the small probabilities of rare structures.
    return F.cross_entropy(scores.float(), labels)


def soft_dice(scores: Tensor, labels: Tensor, over: DiceOver = "sample") -> Tensor:
    """Equation 11: minus the soft Dice coefficient, from -1 (perfect) to 0; a scalar.

    The sums run over the mu pixels of one sample, and n samples are averaged, as printed. Equation 11 leaves open how
    classes are averaged: here over those present in the sample's labels, background included. An absent class has
    coefficient 0 whatever is predicted and would only dilute the others; cross-entropy punishes it where it is
    predicted.

    ``over`` a batch, all its pixels are those of one sample. Over samples that are slices, a structure is learnt too
    large: in a slice at its side, where it may be or not, calling it pays where it is and costs next to nothing where
    it is not and has no coefficient. In a batch it is nearly always present.
    """
    if over == "batch":
        scores, labels = scores.transpose(0, 1).flatten(1).unsqueeze(0), labels.reshape(1, -1)
    probabilities = torch.softmax(scores.float(), dim=1)
    true_class = labels.flatten(1)  # (N, mu)
    # o* is 1 for the true class only: gathering its probability stands for the product with a one-hot map, which would
    # be 20 times as large.
    probability = probabilities.gather(1, labels.unsqueeze(1)).flatten(1)
    sums = probabilities.new_zeros(scores.shape[:2])  # (N, C1)
    overlap = sums.scatter_add(1, true_class, probability)
    size = sums.scatter_add(1, true_class, torch.ones_like(probability))
    dice = 2 * overlap / (size + probabilities.sum(tuple(range(2, scores.ndim)))).clamp_min(EPSILON)
    present = size > 0
    return -((dice * present).sum(1) / present.sum(1)).mean()


def supervised_loss(
    scores: Tensor, labels: Tensor, groups: Groups | None = None, dice_over: DiceOver = "sample"
) -> Tensor:
    """One branch's term of Equation 7, and Equation 9: cross-entropy plus soft Dice; a scalar, at least -1.

    With ``groups``, of what a mask can tell apart: a label's probability is the sum over the classes it stands for.
    """
    if groups is not None:
        scores, labels = groups.scores(scores), groups.labels(labels)
    return cross_entropy(scores, labels) + soft_dice(scores, labels, dice_over)
