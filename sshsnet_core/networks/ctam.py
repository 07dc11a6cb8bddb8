"""The cross tri-attention module (section 3.3, Fig. 6), which fuses inter-slice and intra-slice features (Eq. 4)."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: d in Figure 6: queries and keys of the inter- and intra-slice blocks have C0/8 channels.
REDUCTION = 8


Kind = Literal["inter-slice", "intra-slice", "channel"]

#: The axes of (N, C, Z, H, W) that make up the tokens, and those that make up their features.
AXES: dict[Kind, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "inter-slice": ((2,), (1, 3, 4)),
    "intra-slice": ((3, 4), (1, 2)),
    "channel": ((1,), (2, 3, 4)),
}


class AttentionBlock(nn.Module):
    """One block of Figure 6b: (N, C0, Z, H, W) -> the attended feature I' of the same shape (H = h/4, W = w/4).

    Three 1x1x1 convolutions give q, k (C0/d channels) and v (C0 channels). They are reshaped to alpha tokens of
    beta/d and beta features, A = softmax(k q) is alpha x alpha, and I' = A v, reshaped back:

    =========== ================== ================ ===
    kind        alpha, one token   beta, features   d
    =========== ================== ================ ===
    inter-slice Z, a slice         C0 H W           8
    intra-slice H W, a position    C0 Z             8
    channel     C0, a channel      Z H W            1
    =========== ================== ================ ===

    The energies are dot products over thousands of features, which would make the softmax one-hot. Beyond the paper's
    text they are divided by the square root of that number, as is usual.
    """

    def __init__(self, kind: Kind, channels: int) -> None:
        super().__init__()
        reduced = channels if kind == "channel" else channels // REDUCTION
        self._tokens, self._features = AXES[kind]
        self.query = nn.Conv3d(channels, reduced, 1)
        self.key = nn.Conv3d(channels, reduced, 1)
        self.value = nn.Conv3d(channels, channels, 1)

    def _to_tokens(self, x: Tensor) -> Tensor:
        """(N, C, Z, H, W) -> (N, alpha, features)."""
        x = x.permute(0, *self._tokens, *self._features)
        return x.flatten(1, len(self._tokens)).flatten(2)

    def _from_tokens(self, tokens: Tensor, shape: torch.Size) -> Tensor:
        """(N, alpha, beta) -> (N, C, Z, H, W), which is ``shape``."""
        order = (0, *self._tokens, *self._features)
        back = [order.index(axis) for axis in range(5)]
        return tokens.reshape([shape[axis] for axis in order]).permute(back)

    def forward(self, x: Tensor) -> Tensor:
        # The paper multiplies k by the transposed q: a row of A belongs to a key, and the softmax runs over queries.
        attended = F.scaled_dot_product_attention(
            self._to_tokens(self.key(x)), self._to_tokens(self.query(x)), self._to_tokens(self.value(x))
        )
        return self._from_tokens(attended, x.shape)

    def attention_map(self, x: Tensor) -> Tensor:
        """A (N, alpha, alpha) itself, which ``forward`` need not hold in memory; its rows sum to one."""
        key, query = self._to_tokens(self.key(x)), self._to_tokens(self.query(x))
        return torch.softmax(key @ query.mT / key.shape[-1] ** 0.5, dim=-1)


class AttentionMaps(NamedTuple):
    """The three attention matrices of one CTAM: (N, Z, Z), (N, H W, H W) and (N, C4, C4)."""

    inter_slice: Tensor
    intra_slice: Tensor
    channel: Tensor


class CTAM(nn.Module):
    """xi of Equation 4: I_2d-3d and I_3d^c, each (N, C3, Z, H, W) -> M2 (N, C4 = 2 C3, Z, H, W).

    With I'_2d-3d and I'_3d for the two inputs after the inter-slice and the intra-slice block, I_c for F1 and F2
    concatenated, and three learned scales gamma that start at 0:

    ``printed``, the paper's sentences to the letter: F1 = gamma1 I'_2d-3d + I'_3d, F2 = gamma2 I'_3d + I'_2d-3d and
    M2 = channel(I_c). Only attended features reach the head, which trains badly.

    ``residual``: F1 = gamma1 I'_2d-3d + I_3d^c, F2 = gamma2 I'_3d + I_2d-3d and M2 = gamma3 channel(I_c) + I_c. At the
    start this is ``Concatenation``, and attention is added as far as it helps.

    ``ValueError`` where C3 is no multiple of d = 8.
    """

    def __init__(self, channels: int, form: Literal["residual", "printed"]) -> None:
        super().__init__()
        if channels % REDUCTION:
            raise ValueError(f"CTAM needs decoder_channels that are a multiple of {REDUCTION}, not {channels}.")
        self.form = form
        self.inter_slice = AttentionBlock("inter-slice", channels)
        self.intra_slice = AttentionBlock("intra-slice", channels)
        self.channel = AttentionBlock("channel", 2 * channels)
        self.gamma1 = nn.Parameter(torch.zeros(()))
        self.gamma2 = nn.Parameter(torch.zeros(()))
        if form == "residual":
            self.gamma3 = nn.Parameter(torch.zeros(()))

    @property
    def gammas(self) -> dict[str, Tensor]:
        """The learned scales by name: how much attention the network has found worth having."""
        return {name: value for name, value in self.named_parameters() if name.startswith("gamma")}

    def crossed(self, inter: Tensor, intra: Tensor) -> Tensor:
        """I_c: F1 and F2, concatenated (N, C4, Z, H, W)."""
        attended_inter, attended_intra = self.inter_slice(inter), self.intra_slice(intra)
        if self.form == "printed":
            inter, intra = attended_inter, attended_intra
        # The inputs stand first in the sums so that these keep the inputs' memory format.
        return torch.cat([intra + self.gamma1 * attended_inter, inter + self.gamma2 * attended_intra], dim=1)

    def forward(self, inter: Tensor, intra: Tensor) -> Tensor:
        crossed = self.crossed(inter, intra)
        attended = self.channel(crossed)
        return attended if self.form == "printed" else crossed + self.gamma3 * attended

    def attention_maps(self, inter: Tensor, intra: Tensor) -> AttentionMaps:
        """The three matrices A for the inputs of ``forward``, to look at."""
        return AttentionMaps(
            self.inter_slice.attention_map(inter),
            self.intra_slice.attention_map(intra),
            self.channel.attention_map(self.crossed(inter, intra)),
        )


class Concatenation(nn.Module):
    """The ablation without CTAM: I_2d-3d and I_3d^c side by side, in the order of F1 and F2."""

    def forward(self, inter: Tensor, intra: Tensor) -> Tensor:
        return torch.cat([intra, inter], dim=1)
