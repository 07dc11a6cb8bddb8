"""What it is comes before which level it is."""

import pytest
import torch

from sshsnet_core.anatomy import ARCHES, N_APART, N_CLASSES, by_name
from sshsnet_core.decision import KIND, kind_first, kind_sums

L5, S, DISC = by_name("L5").label, by_name("S").label, by_name("L5/S").label
ARCH = ARCHES[0].label


def voxel(classes: int, **shares: float) -> torch.Tensor:
    """Probabilities (1, C, 1) of one voxel; what is not named is background."""
    values = torch.zeros(1, classes, 1)
    for label, share in {"L5": L5, "S": S, "disc": DISC, "arch": ARCH}.items():
        if label in shares:
            values[0, share, 0] = shares[label]
    values[0, 0, 0] = 1 - values.sum()
    return values


def test_every_class_has_the_kind_of_its_structure() -> None:
    assert len(KIND) == N_APART
    assert [KIND[label] for label in (0, S, L5, DISC, ARCH)] == [0, 1, 1, 2, 3]


@pytest.mark.parametrize("classes", [N_CLASSES, N_APART])
def test_a_doubt_about_the_name_does_not_eat_the_bone(classes: int) -> None:
    torn = voxel(classes, L5=0.32, S=0.28)  # background 0.4
    assert torn.argmax(dim=1).item() == 0
    assert kind_first(torn).item() == L5


def test_the_name_is_of_the_likeliest_kind_even_where_another_class_is_larger() -> None:
    assert kind_first(voxel(N_APART, L5=0.25, S=0.2, disc=0.35, arch=0.1)).item() == L5


def test_a_certain_voxel_is_the_argmax() -> None:
    probabilities = torch.softmax(20 * torch.randn(2, N_CLASSES, 3, 4, 5), dim=1)
    sure = probabilities.amax(dim=1) > 0.5
    assert torch.equal(kind_first(probabilities)[sure], probabilities.argmax(dim=1)[sure])


def test_the_sums_are_of_the_kinds() -> None:
    sums = kind_sums(voxel(N_APART, L5=0.25, S=0.2, disc=0.15, arch=0.1))
    assert sums[0, :, 0].tolist() == pytest.approx([0.3, 0.45, 0.15, 0.1])
