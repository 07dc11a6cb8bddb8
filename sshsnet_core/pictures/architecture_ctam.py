"""Figure 6: the cross tri-attention module and one of its blocks, drawn from what the modules really do."""

from collections.abc import Mapping
from math import prod

from matplotlib.figure import Figure

from sshsnet_core.pictures.diagram import FUSION, INK, THREE_D, TWO_D, Box, Diagram, Layer, output, times
from sshsnet_core.settings import Settings


def ctam_figure(layers: Mapping[str, Layer], settings: Settings) -> Figure:
    """Figure 6: (a) the cross tri-attention module in the profile's form, (b) one attention block and its sizes.

    ``layers`` is what ``networks.shapes.sshsnet_layers`` gives for the same settings.
    """
    form = settings.network_3d.ctam
    d = Diagram(5.0)
    d.group(Box(3.75, 1.27, 7.4, 2.44), f"(a) CTAM, form: {form}", FUSION)
    _cross(d, layers, form == "residual")
    d.group(Box(3.75, 3.75, 7.4, 2.36), "(b) An attention block", FUSION)
    _attention_block(d, times(layers["stage2.fusion.inter_slice.query"].kernel))
    _sizes(d, layers)
    sums = "the unattended other feature" if form == "residual" else "the other attended feature"
    return d.finish(
        f"The cross tri-attention module (Figure 6) at the sizes of profile {settings.name}; shapes without the batch "
        rf"axis. F1 and F2 are an attended feature times a learned scale $\gamma$ (from 0), added to {sums}; C: "
        "concatenation. k' and v' have a row for each of alpha tokens, q' is transposed; d: by how much queries and "
        "keys have fewer channels. Energies are divided by the square root of their length beta/d."
    )


def _cross(d: Diagram, layers: Mapping[str, Layer], residual: bool) -> None:
    """(a): two features attended each by itself, crossed, concatenated, and attended by channel."""
    shape = output(layers["stage2.fusion.inter_slice"])
    rows = {
        "inter_slice": (0.55, r"$\tilde{I}_{2d-3d}$", r"$\tilde{I}^{\,\prime}_{2d-3d}$", 1, 4.34, THREE_D),
        "intra_slice": (2.05, r"$\tilde{I}^{\,c}_{3d}$", r"$\tilde{I}^{\,\prime}_{3d}$", 2, 4.54, TWO_D),
    }
    joined = d.sign(5.86, 1.3, "C")
    plus, skips = {}, {}
    for name, (y, symbol, attended_symbol, number, x, colour) in rows.items():
        feature = d.data(Box(0.66, y, 1.02, 0.44), [symbol, "C3×Z×h/4×w/4", shape], colour)
        block = _block(d, Box(1.95, y, 1.14, 0.48), name, layers)
        attended = d.data(Box(3.16, y, 0.98, 0.44), [attended_symbol, "C3×Z×h/4×w/4", shape], colour)
        scale, plus[name] = d.sign(3.98, y, rf"$\gamma_{number}$"), d.sign(x, y, "+")
        crossed = d.data(Box(5.18, y, 0.9, 0.44), [f"$F_{number}$", "C3×Z×h/4×w/4", shape], FUSION)
        d.chain(feature, block, attended, scale, plus[name], crossed)
        d.arrow(crossed.right, (joined.x, y), joined.top if number == 1 else joined.bottom)
        skips[name] = ((feature.right[0] + block.left[0]) / 2 if residual else 3.77), y
    for source, target, lane in (("inter_slice", "intra_slice", 1.2), ("intra_slice", "inter_slice", 1.4)):
        (x, y), sign = skips[source], plus[target]
        end = sign.bottom if sign.y < lane else sign.top
        d.arrow((x, y), (x, lane), (sign.x, lane), end, colour=rows[source][-1].line)

    wide = output(layers["stage2.fusion"])
    both = d.data(Box(6.7, 0.42, 1.1, 0.44), [r"$\tilde{I}_c$", "C4×Z×h/4×w/4", wide], FUSION)
    block = _block(d, Box(6.7, 0.97, 1.1, 0.44), "channel", layers)
    fused = d.data(Box(6.7, 2.18, 1.1, 0.44), [r"$\tilde{M}_2$", "C4×Z×h/4×w/4", wide], FUSION)
    d.arrow(joined.right, (6.04, joined.y), (6.04, both.y), both.left)
    if residual:
        scale, total = d.sign(6.7, 1.4, r"$\gamma_3$"), d.sign(6.7, 1.74, "+")
        d.chain(both, block, scale, total, fused)
        d.arrow(both.right, (7.36, both.y), (7.36, total.y), total.right, colour=FUSION.line)
    else:
        d.chain(both, block, fused)


def _block(d: Diagram, box: Box, name: str, layers: Mapping[str, Layer]) -> Box:
    alpha, _, reduction = _token_sizes(layers, name)
    title = name.replace("_", "-")
    return d.module(box, [title, "attention block", rf"$\alpha$ = {alpha}, d = {reduction}"], FUSION)


def _attention_block(d: Diagram, kernel: str) -> None:
    """(b): three convolutions, their reshaped outputs, the matrix A and what it makes of v."""
    source = d.data(Box(0.66, 3.35, 1.02, 0.44), [r"$\tilde{I}$", "C0×Z×h/4×w/4"], FUSION)
    rows = {"k": (2.95, "C0/d", r"$\alpha\times\beta/d$"), "q": (3.35, "C0/d", r"$\beta/d\times\alpha$")}
    rows["v"] = (3.75, "C0", r"$\alpha\times\beta$")
    tokens = {}
    for letter, (y, channels, size) in rows.items():
        conv = d.module(Box(2.06, y, 1.0, 0.32), [f"Conv {channels}", f"k {kernel}"], FUSION)
        tokens[letter] = d.data(Box(3.2, y, 0.86, 0.32), [rf"$\tilde{{I}}^{{\,{letter}\prime}}$", size], FUSION)
        d.arrow(source.right, (1.36, source.y), (1.36, y), conv.left)
        d.chain(conv, tokens[letter])
    energy, applied = d.sign(3.95, 3.15, "×"), d.sign(5.9, 3.15, "×")
    softmax = d.module(Box(4.55, 3.15, 0.66, 0.32), ["softmax", r"$/\sqrt{\beta/d}$"], FUSION)
    matrix = d.data(Box(5.34, 3.15, 0.56, 0.32), ["A", r"$\alpha\times\alpha$"], FUSION)
    attended = d.data(Box(6.74, 3.15, 1.02, 0.44), [r"$\tilde{I}^{\,\prime}$", "C0×Z×h/4×w/4"], FUSION)
    d.arrow(tokens["k"].right, (energy.x, tokens["k"].y), energy.top)
    d.arrow(tokens["q"].right, (energy.x, tokens["q"].y), energy.bottom)
    d.chain(energy, softmax, matrix, applied, attended)
    d.arrow(tokens["v"].right, (applied.x, tokens["v"].y), applied.bottom)


def _sizes(d: Diagram, layers: Mapping[str, Layer]) -> None:
    """The table under (b): alpha, beta and d of the three blocks and what follows from them."""
    columns = (0.2, 1.15, 2.35, 3.0, 3.75, 4.15, 5.2, 6.35)
    heads = ("block", "a token is", r"$\alpha$", r"$\beta$", "d", "$k'$, $q'^T$", "$v'$", "A")
    kinds = {"inter_slice": "a slice", "intra_slice": "a position in plane", "channel": "a channel"}
    lines: list[tuple[str, ...]] = [heads]
    for name, token in kinds.items():
        alpha, beta, reduction = _token_sizes(layers, name)
        sizes = times((alpha, beta // reduction)), times((alpha, beta)), times((alpha, alpha))
        lines.append((name.replace("_", "-"), token, f"{alpha}", f"{beta}", f"{reduction}", *sizes))
    d.axes.plot([0.2, 7.3], [4.28, 4.28], color=INK, linewidth=0.7)
    for index, line in enumerate(lines):
        for x, text in zip(columns, line, strict=True):
            d.note(x, 4.19 + 0.18 * index + (0.02 if index else 0), text, ha="left", colour=INK, bold=index == 0)


def _token_sizes(layers: Mapping[str, Layer], name: str) -> tuple[int, int, int]:
    """alpha, beta and d of an attention block, from the shapes of A, of v and of q."""
    block = f"stage2.fusion.{name}"
    alpha = layers[f"{block}.attention"].outputs[0][-1]
    query, value = (layers[f"{block}.{part}"].outputs[0] for part in ("query", "value"))
    return alpha, prod(value[1:]) // alpha, value[1] // query[1]
