"""Figures 3 and 4b: SSHSNet as a whole, and cross pseudo supervision, drawn from what the modules really do."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from sshsnet_core.pictures.diagram import (
    FUSION,
    LOSS,
    THREE_D,
    TWO_D,
    Box,
    Diagram,
    Layer,
    millions,
    output,
    times,
)
from sshsnet_core.settings import Settings

#: The encoders of section 3.1.1 as their authors write them.
ENCODER_TITLES = {"se_resnext50_32x4d": "SE-ResNeXt-50 32x4d", "efficientnet_lite0": "EfficientNet-Lite0"}


def overview_figure(layers: Mapping[str, Layer], settings: Settings) -> Figure:
    """Figure 3: both stages, every tensor with its symbol and its shape in the profile.

    ``layers`` is what ``networks.shapes.sshsnet_layers`` gives for the same settings.
    """
    d = Diagram(4.95)
    _stage_1(d, layers, settings)
    d.module(Box(3.75, 2.1, 7.3, 0.3), [
        r"$\phi$ (Eq. 2): one category-balanced window, cut at the same place out of "
        r"$X_{3d}$, $\tilde{S}_{2d}$ and $\tilde{I}_{2d}$"
    ], FUSION)  # fmt: skip
    _stage_2(d, layers)
    in_2d, in_3d = settings.network_2d.decoder_channels, settings.network_3d.decoder_channels
    return d.finish(
        f"SSHSNet (Figure 3) at the sizes of profile {settings.name}, for a volume of Z = {settings.patch[0]} slices "
        "and one patch; shapes without the batch axis. C1: classes, C3: decoder channels "
        f"({in_2d} in 2D, {in_3d} in 3D; C4 = 2 C3 of the latter); W, H: the volume's plane, w, h: the patch's. "
        "C: concatenation; G: upsampling and mean, T: upsampling and concatenation (Eq. 1). Blue: 2D, orange: 3D, "
        "green: both meet. Round boxes are tensors, square ones compute."
    )


def _stage_1(d: Diagram, layers: Mapping[str, Layer], settings: Settings) -> None:
    branch = layers["stage1"]
    (slices, _, h, w), (_, c1, *_), (_, c3, fh, fw) = branch.inputs[0], *branch.outputs
    d.group(Box(3.75, 0.88, 7.4, 1.7), "Stage 1: two 2D DeepLabv3+ under cross pseudo supervision (CPS)", TWO_D)
    volume = d.data(Box(0.66, 0.95, 1.02, 0.5), ["$X_{3d}$", "Z×H×W", times((slices, 2 * h, 2 * w))], TWO_D)
    x_2d = d.data(Box(1.88, 0.95, 1.08, 0.5), ["$X_{2d}$", "Z×3×H/2×W/2", times(branch.inputs[0])], TWO_D)
    d.note(1.88, 1.29, "a slice and its neighbours,")
    d.note(1.88, 1.39, "halved in plane")
    encoder = ENCODER_TITLES.get(settings.network_2d.encoder, settings.network_2d.encoder)
    nets = [
        d.module(Box(3.3, y, 1.3, 0.5), [rf"2D DeepLabv3+, $\theta_{m}$", encoder, millions(branch)], TWO_D)
        for m, y in ((1, 0.55), (2, 1.35))
    ]
    scores = d.data(
        Box(4.92, 0.55, 1.08, 0.5), ["$S^1_{2d},\\ S^2_{2d}$", "Z×C1×H/2×W/2", times((slices, c1, h, w))], TWO_D
    )
    features = d.data(
        Box(4.92, 1.35, 1.08, 0.5), ["$I^1_{2d},\\ I^2_{2d}$", "Z×C3×H/8×W/8", times((slices, c3, fh, fw))], TWO_D
    )
    mean, joined = d.sign(5.75, 0.55, "G"), d.sign(5.75, 1.35, "T")
    coarse = d.data(
        Box(6.7, 0.55, 1.26, 0.5), [r"$\tilde{S}_{2d}$", "C1×Z×H×W", times((c1, slices, 2 * h, 2 * w))], TWO_D
    )
    hybrid = d.data(
        Box(6.54, 1.35, 1.1, 0.5),
        [r"$\tilde{I}_{2d}$", "2C3×Z×H/4×W/4", times((2 * c3, slices, 2 * fh, 2 * fw))],
        TWO_D,
    )
    d.chain(volume, x_2d)
    for net in nets:
        d.arrow(x_2d.right, (2.54, 0.95), (2.54, net.y), net.left)
        for target in (scores, features):
            d.arrow(net.right, _towards(target, net))
    d.arrow((3.25, 0.8), (3.25, 1.1), colour=LOSS.line, dashed=True)
    d.arrow((3.35, 1.1), (3.35, 0.8), colour=LOSS.line, dashed=True)
    d.note(3.46, 0.95, "CPS", ha="left")
    d.chain(scores, mean, coarse)
    d.chain(features, joined, hybrid)
    d.arrow(volume.bottom, (0.66, 1.95))
    d.arrow(hybrid.bottom, (6.54, 1.95))
    d.arrow((7.22, coarse.bottom[1]), (7.22, 1.95))


def _towards(target: Box, source: Box) -> tuple[float, float]:
    """On the target's left side, a little on the side of a source above or below: two arrows keep apart."""
    shift = 0.0 if source.y == target.y else 0.12
    return target.left[0], target.y + (shift if source.y > target.y else -shift)


def _stage_2(d: Diagram, layers: Mapping[str, Layer]) -> None:
    stage, deeplab, reduce, fusion, head = (
        layers[f"stage2{name}"] for name in ("", ".deeplab", ".reduce", ".fusion", ".head")
    )
    d.group(
        Box(3.75, 3.65, 7.4, 2.4), "Stage 2: 3D DeepLabv3+ on full-resolution patches, and CTAM", THREE_D, below=True
    )
    image, coarse, features = (times(shape[1:]) for shape in stage.inputs)
    size = 0.46
    patch = d.data(Box(0.66, 3.0, 1.02, size), ["$X^p_{3d}$", "1×Z×h×w", image], THREE_D)
    map_3d = d.data(Box(1.82, 3.0, 1.08, size), [r"$\tilde{S}_{3d}$", "C1×Z×h×w", coarse], TWO_D)
    feature = d.data(Box(3.12, 3.0, 1.12, size), [r"$\tilde{I}_{3d}$", "2C3×Z×h/4×w/4", features], TWO_D)
    reduced = d.module(Box(4.08, 3.0, 0.56, size), ["Conv", f"k {times(layers['stage2.reduce.0'].kernel)}"], FUSION)
    intra = d.data(Box(4.98, 3.0, 1.0, size), [r"$\tilde{I}^{\,c}_{3d}$", "C3×Z×h/4×w/4", output(reduce)], TWO_D)
    joined = d.sign(1.24, 3.55, "C")
    m_1 = d.data(Box(1.24, 4.2, 1.14, size), [r"$\tilde{M}_1$", "(1+C1)×Z×h×w", times(deeplab.inputs[0][1:])], THREE_D)
    v_3d = d.module(Box(2.86, 4.2, 1.4, 0.54), ["3D DeepLabv3+", "$V_{3d}$ (Eq. 3)", millions(deeplab)], THREE_D)
    inter = d.data(Box(4.72, 4.2, 1.14, size), [r"$\tilde{I}_{2d-3d}$", "C3×Z×h/4×w/4", output(deeplab)], THREE_D)
    ctam = d.module(
        Box(5.84, 3.6, 0.44, 1.66), ["CTAM", r"$\xi$", "(Eq. 4)", "", f"{fusion.parameters / 1e6:.2f} M"], FUSION
    )
    column = [(r"$\tilde{M}_2$", "C4×Z×h/4×w/4", output(fusion)), (r"$Y^p_{3d}$", "C1×Z×h×w", output(head))]
    m_2, y_p = (d.data(Box(6.8, y, 1.16, size), lines, FUSION) for y, lines in zip((3.0, 4.08), column, strict=True))
    psi = d.module(Box(6.8, 3.54, 1.16, 0.3), [r"$\psi$ (Eq. 5)", f"{head.parameters / 1e6:.2f} M parameters"], FUSION)
    labels = d.data(Box(6.8, 4.59, 1.16, 0.3), ["$Y_{3d}$: labels", "all windows, argmax"], FUSION)
    for source in (patch, map_3d, feature):
        d.arrow((source.x, 2.25), source.top)
    for source, side in ((patch, joined.left), (map_3d, joined.right)):
        d.arrow(source.bottom, (source.x, joined.y), side)
    d.chain(joined, m_1, v_3d, inter)
    d.chain(feature, reduced, intra)
    for source in (intra, inter):
        d.arrow(source.right, (ctam.left[0], source.y))
    d.arrow((ctam.right[0], m_2.y), m_2.left)
    d.chain(m_2, psi, y_p, labels)


def cps_figure(layers: Mapping[str, Layer], settings: Settings) -> Figure:
    """Figure 4b: two networks, each learning unlabelled images from the other's pseudo labels (Eq. 6-8).

    ``layers`` is what ``networks.shapes.sshsnet_layers`` gives for the same settings; a batch is the profile's.
    """
    branch, batch = layers["stage1"], settings.train_2d.batch_size
    (_, inputs, h, w), (_, c1, *_) = branch.inputs[0], branch.outputs[0]
    encoder = ENCODER_TITLES.get(settings.network_2d.encoder, settings.network_2d.encoder)
    rows = {1: 0.4, 2: 1.85}
    d = Diagram(2.2)
    image = times((batch, inputs, h, w))
    images = [
        d.data(Box(0.68, y, 1.16, 0.48), [symbol, kind, image], TWO_D)
        for y, symbol, kind in ((0.4, "$X^l_{2d}$", "labelled"), (1.85, "$X^u_{2d}$", "unlabelled, CutMix"))
    ]
    nets = {
        m: d.module(Box(2.36, y, 1.3, 0.54), [rf"2D DeepLabv3+, $\theta_{m}$", encoder, millions(branch)], TWO_D)
        for m, y in rows.items()
    }
    scores = {
        m: d.data(Box(3.8, y, 1.1, 0.48), [f"$S^{m}_{{2d}}$", "confidence map", times((batch, c1, h, w))], TWO_D)
        for m, y in rows.items()
    }
    pseudo = {
        m: d.data(Box(5.24, y, 1.04, 0.48), [f"$Y^{m}_{{2d}}$", "pseudo labels", times((batch, 1, h, w))], LOSS)
        for m, y in rows.items()
    }
    truth = d.data(Box(6.7, 0.4, 1.4, 0.34), ["$Y^*_{2d}$", "truth of the labelled slices"], LOSS)
    supervised, total, cross = (
        d.module(Box(6.7, y, 1.4, 0.34), lines, LOSS)
        for y, *lines in (
            (0.9, "$L_s$ (Eq. 7)", "both: cross-entropy + Dice"),
            (1.38, r"$L_{2d} = L_s + \lambda\,L_{cps}$", rf"Eq. 6, $\lambda$ = {settings.cps.weight:g}"),
            (1.85, "$L_{cps}$ (Eq. 8)", "both: cross-entropy"),
        )
    )
    for m, other in ((1, 2), (2, 1)):
        for source in images:
            d.arrow(source.right, _towards(nets[m], source))
        d.chain(nets[m], scores[m], pseudo[m])
        d.note(4.53, rows[m] - 0.07, "argmax")
        start, end = (pseudo[m].bottom, scores[other].top) if m == 1 else (pseudo[m].top, scores[other].bottom)
        d.arrow(start, end, colour=LOSS.line, dashed=True)
    d.note(4.52, 0.8, "supervises")
    d.note(4.52, 0.9, "the other")
    d.chain(pseudo[2], cross)
    d.arrow(pseudo[1].right, (5.86, rows[1]), (5.86, cross.y), cross.left)
    d.chain(truth, supervised, total)
    d.chain(cross, total)
    return d.finish(
        f"Cross pseudo supervision (Figure 4b) at the sizes of profile {settings.name}: a batch of {batch} labelled "
        f"slices and {batch} unlabelled ones, each mixed from two by CutMix. Pseudo labels carry no gradient; each "
        "network learns the unlabelled slices from the other's (dashed) and the labelled ones from the truth."
    )
