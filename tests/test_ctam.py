"""CTAM against section 3.3 written out in loops, its two forms, and the matrices it shows."""

from typing import Literal, get_args

import pytest
import torch
from torch import Tensor

from sshsnet_core.networks.ctam import CTAM, AttentionBlock, Concatenation, Kind

KINDS = get_args(Kind)
N, C3, Z, H, W = 2, 8, 3, 2, 4


def inputs(channels: int = C3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inter, intra = (torch.randn(N, channels, Z, H, W, generator=generator) for _ in range(2))
    return inter, intra


def tokens_in_loops(x: Tensor, kind: Kind) -> list[list[float]]:
    """One sample (C, Z, H, W) as alpha tokens of features, by the table of method.md."""
    channels, slices, height, width = x.shape
    if kind == "inter-slice":
        return [
            [x[c, z, i, j].item() for c in range(channels) for i in range(height) for j in range(width)]
            for z in range(slices)
        ]
    if kind == "intra-slice":
        return [
            [x[c, z, i, j].item() for c in range(channels) for z in range(slices)]
            for i in range(height)
            for j in range(width)
        ]
    return [
        [x[c, z, i, j].item() for z in range(slices) for i in range(height) for j in range(width)]
        for c in range(channels)
    ]


def attention_in_loops(block: AttentionBlock, x: Tensor, kind: Kind) -> tuple[Tensor, Tensor]:
    """A (alpha, alpha) and A v (alpha, beta) of one sample (C, Z, H, W), in double precision."""
    query, key, value = (
        tokens_in_loops(convolution(x[None])[0], kind) for convolution in (block.query, block.key, block.value)
    )
    length = len(query[0])
    matrix, attended = [], []
    for i in range(len(key)):
        energies = [sum(a * b for a, b in zip(key[i], query[j], strict=True)) for j in range(len(query))]
        row = torch.tensor(energies, dtype=torch.float64).div(length**0.5).exp()
        row = row / row.sum()
        matrix.append(row)
        attended.append([sum(row[j].item() * value[j][f] for j in range(len(value))) for f in range(len(value[0]))])
    return torch.stack(matrix), torch.tensor(attended, dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_block_is_the_paper_s_formula(kind: Kind) -> None:
    torch.manual_seed(0)
    block, x = AttentionBlock(kind, C3).double(), inputs()[0].double()
    with torch.no_grad():
        result, maps = block(x), block.attention_map(x)
        for n in range(N):
            matrix, attended = attention_in_loops(block, x[n], kind)
            torch.testing.assert_close(maps[n], matrix)
            torch.testing.assert_close(torch.tensor(tokens_in_loops(result[n], kind), dtype=torch.float64), attended)


@pytest.mark.parametrize(
    ("kind", "alpha", "reduced"), [("inter-slice", Z, 1), ("intra-slice", H * W, 1), ("channel", C3, C3)]
)
def test_block_has_the_paper_s_sizes(kind: Kind, alpha: int, reduced: int) -> None:
    block, x = AttentionBlock(kind, C3), inputs()[0]
    assert (block.query.out_channels, block.key.out_channels, block.value.out_channels) == (reduced, reduced, C3)
    assert block(x).shape == x.shape
    matrix = block.attention_map(x)
    assert matrix.shape == (N, alpha, alpha)
    torch.testing.assert_close(matrix.sum(-1), torch.ones(N, alpha))


@pytest.mark.parametrize("kind", KINDS)
def test_scaled_energies_leave_several_tokens_a_say(kind: Kind) -> None:
    """With the weights that a block starts with: unscaled, nearly all of each row would fall on one token."""
    torch.manual_seed(0)
    block, x = AttentionBlock(kind, 64).double(), torch.randn(1, 64, 12, 16, 16).double()
    with torch.no_grad():
        scaled = block.attention_map(x)
        key, query = block._to_tokens(block.key(x)), block._to_tokens(block.query(x))
        unscaled = torch.softmax(key @ query.mT, dim=-1)
    assert scaled.amax(-1).mean() < 0.5 * unscaled.amax(-1).mean()


def test_residual_form_starts_as_concatenation() -> None:
    inter, intra = inputs()
    assert torch.equal(CTAM(C3, "residual")(inter, intra), Concatenation()(inter, intra))


def blocks_of(module: CTAM, inter: Tensor, intra: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    gamma1, gamma2 = module.gamma1, module.gamma2
    return gamma1, gamma2, module.inter_slice(inter), module.intra_slice(intra)


def test_residual_form() -> None:
    torch.manual_seed(0)
    module, (inter, intra) = CTAM(C3, "residual"), inputs()
    with torch.no_grad():
        module.gamma1.fill_(0.3)
        module.gamma2.fill_(-0.7)
        module.gamma3.fill_(1.9)
        gamma1, gamma2, attended_inter, attended_intra = blocks_of(module, inter, intra)
        crossed = torch.cat([gamma1 * attended_inter + intra, gamma2 * attended_intra + inter], 1)
        torch.testing.assert_close(module(inter, intra), 1.9 * module.channel(crossed) + crossed)


def test_printed_form() -> None:
    torch.manual_seed(0)
    module, (inter, intra) = CTAM(C3, "printed"), inputs()
    with torch.no_grad():
        module.gamma1.fill_(0.3)
        module.gamma2.fill_(-0.7)
        gamma1, gamma2, attended_inter, attended_intra = blocks_of(module, inter, intra)
        first = gamma1 * attended_inter + attended_intra
        second = gamma2 * attended_intra + attended_inter
        torch.testing.assert_close(module(inter, intra), module.channel(torch.cat([first, second], 1)))
        assert module(inter, intra).shape == (N, 2 * C3, Z, H, W)


@pytest.mark.parametrize("form", ["residual", "printed"])
def test_attention_maps_are_those_of_the_forward_pass(form: Literal["residual", "printed"]) -> None:
    torch.manual_seed(0)
    module, (inter, intra) = CTAM(C3, form), inputs()
    with torch.no_grad():
        module.gamma1.fill_(0.5)
        module.gamma2.fill_(0.5)
        maps = module.attention_maps(inter, intra)
        crossed = module.crossed(inter, intra)
    assert maps.inter_slice.shape == (N, Z, Z)
    assert maps.intra_slice.shape == (N, H * W, H * W)
    assert maps.channel.shape == (N, 2 * C3, 2 * C3)
    cases = [(module.inter_slice, inter), (module.intra_slice, intra), (module.channel, crossed)]
    with torch.no_grad():
        for matrix, (block, x) in zip(maps, cases, strict=True):
            value = block._to_tokens(block.value(x))
            torch.testing.assert_close(matrix @ value, block._to_tokens(block(x)))


def test_gammas_learn_from_the_first_step_and_then_the_blocks_do() -> None:
    torch.manual_seed(0)
    module, (inter, intra) = CTAM(C3, "residual"), inputs()
    target = torch.randn(N, 2 * C3, Z, H, W)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    for step in range(2):
        optimiser.zero_grad()
        (module(inter, intra) - target).square().mean().backward()
        assert all(gamma.grad != 0 for gamma in (module.gamma1, module.gamma2, module.gamma3))
        gradient = module.inter_slice.query.weight.grad
        assert gradient is not None
        assert bool(gradient.any()) == (step == 1)
        optimiser.step()


def test_refuses_channels_that_d_does_not_divide() -> None:
    with pytest.raises(ValueError, match="multiple of 8, not 12"):
        CTAM(12, "residual")
