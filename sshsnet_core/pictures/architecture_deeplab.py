"""Figures 4a and 5: the 2D and the 3D DeepLabv3+, layer by layer, drawn from what the modules really do."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from sshsnet_core.pictures.architecture import ENCODER_TITLES
from sshsnet_core.pictures.diagram import LOSS, THREE_D, TWO_D, Box, Colour, Diagram, Layer, millions, output, times
from sshsnet_core.settings import Settings

#: Where the five branches of an ASPP stand, from the upper to the lower, and the row of the decoder.
_BRANCHES = (1.69, 2.16, 2.63, 3.1, 3.57)
_DECODER = 3.3


def deeplab2d_figure(layers: Mapping[str, Layer], settings: Settings) -> Figure:
    """Figure 4a: the 2D DeepLabv3+ of one branch, from the slices X_2d to the feature I_2d and the scores S_2d.

    ``layers`` is what ``networks.shapes.sshsnet_layers`` gives for the same settings.
    """
    at = {name.removeprefix("stage1.").removeprefix("decoder."): layer for name, layer in layers.items()}
    network, encoder = layers["stage1"], at["encoder"]
    rows, columns = encoder.inputs[0][2:]
    d = Diagram(3.95)
    title = ENCODER_TITLES.get(settings.network_2d.encoder, settings.network_2d.encoder)
    d.group(Box(4.39, 0.55, 6.12, 1.0), f"Encoder: {title}, {millions(encoder)}", TWO_D)
    image = d.data(Box(0.68, 0.62, 1.06, 0.46), ["$X_{2d}$", "3×H/2×W/2", times(network.inputs[0][1:])], TWO_D)
    stages = []
    for index, shape in enumerate(encoder.outputs[1:]):
        lines = [f"stage {index + 1}", f"stride {rows // shape[2]}", times(shape[1:])]
        stages.append(d.module(Box(1.95 + 1.2 * index, 0.62, 0.94, 0.46), lines, TWO_D))
    d.chain(image, *stages)

    branches = [[_convolution(at["aspp.0.convs.0.0"]), output(at["aspp.0.convs.0"])]]
    for index in (1, 2, 3):
        depthwise = at[f"aspp.0.convs.{index}.0.0"]
        branches.append(
            [f"SepConv {times(depthwise.kernel)}, rate {depthwise.dilation[0]}", output(at[f"aspp.0.convs.{index}"])]
        )
    branches.append(["image pooling, " + _convolution(at["aspp.0.convs.4.1"]), output(at["aspp.0.convs.4"])])
    project = [_convolution(at["aspp.0.project.0"]), _channels(at["aspp.0.project"]), output(at["aspp.0.project"])]
    smooth = [f"SepConv {times(at['aspp.1.0'].kernel)}", _channels(at["aspp.1"]), output(at["aspp.1"])]
    up = [_upsampling(at["aspp"].outputs[0], at["block2"].inputs[0]), output(at["up"])]
    context = _pyramid(d, stages[-1], branches, [project, smooth, up], TWO_D)

    low = at["block1"]
    low_stage = stages[[shape[1] for shape in encoder.outputs[1:]].index(low.inputs[0][1])]
    low_lines = [_convolution(at["block1.0"]), _channels(low), output(low)]
    fuse = [f"SepConv {times(at['block2.0.0'].kernel)}", _channels(at["block2"]), output(at["block2"])]
    feature = ["$I_{2d}$", "C3×H/8×W/8", times(network.outputs[1][1:])]
    i_2d = _decoder(d, low_stage, context, low_lines, fuse, feature, TWO_D)
    head, resized = at["segmentation_head.0"], at["segmentation_head"]
    scored = d.module(
        Box(0.68, 2.55, 1.06, 0.46),
        [
            f"{_convolution(head)}, {_upsampling(head.outputs[0], resized.outputs[0])}",
            _channels(head),
            output(resized),
        ],
        TWO_D,
    )
    scores = d.data(Box(0.68, 1.8, 1.06, 0.46), ["$S_{2d}$", "C1×H/2×W/2", output(network)], TWO_D)
    d.chain(i_2d, scored, scores)
    padded = (rows, columns) != network.inputs[0][2:]
    edges = f" The edges are repeated to {rows}×{columns} and cut off again." if padded else ""
    return d.finish(
        f"The 2D DeepLabv3+ (Figure 4a) at the sizes of profile {settings.name}: {millions(network)}; shapes of one "
        "slice, channels first. SepConv: a depthwise convolution and a 1×1 one; each convolution is followed by "
        "normalisation and ReLU, but for the last. C: concatenation; ↑: bilinear upsampling. White boxes leave for "
        f"stage 2.{edges}"
    )


def deeplab3d_figure(layers: Mapping[str, Layer], settings: Settings) -> Figure:
    """Figure 5: the 3D DeepLabv3+ with kernel k, stride s, padding p and rate d (dilation) of each block.

    ``layers`` is what ``networks.shapes.sshsnet_layers`` gives for the same settings.
    """
    prefix = "stage2.deeplab."
    at = {name.removeprefix(prefix): layer for name, layer in layers.items() if name.startswith(prefix)}
    network, encoder = layers["stage2.deeplab"], at["encoder"]
    d = Diagram(3.95)
    d.group(Box(4.35, 0.6, 6.2, 1.1), f"Encoder: SE-ResNeXt in 3D, {millions(encoder)}", THREE_D)
    blocks = [("Conv", "encoder.stem.0.0"), ("max pool", "encoder.stem.1")]
    stages = ["encoder.first_stage", *(f"encoder.later_stages.{index}" for index in range(3))]
    for stage in stages:
        count = sum(name.startswith(f"{stage}.") and name.count(".") == stage.count(".") + 1 for name in at)
        blocks.append((f"SR × {count}", f"{stage}.0.residual.1.0"))
    outputs = [*(at[name] for _, name in blocks[:2]), *(at[stage] for stage in stages)]
    image = d.data(
        Box(0.64, 0.66, 1.0, 0.46), [r"$\tilde{M}_1$", "(1+C1)×Z×h×w", times(network.inputs[0][1:])], THREE_D
    )
    drawn = [
        d.module(Box(1.72 + 1.02 * index, 0.66, 0.84, 0.76), [title, *_built(at[name]), output(layer)], THREE_D)
        for index, ((title, name), layer) in enumerate(zip(blocks, outputs, strict=True))
    ]
    d.chain(image, *drawn)

    branches = [[f"Conv, k {times(at['aspp.branches.0.0'].kernel)}", output(at["aspp.branches.0"])]]
    for index in (1, 2, 3):
        depthwise = at[f"aspp.branches.{index}.0"]
        built = f"d {times(depthwise.dilation)}, p {times(depthwise.padding)}"
        branches.append([f"SepConv, k {times(depthwise.kernel)}", built, output(at[f"aspp.branches.{index}"])])
    branches.append([f"mean, Conv, k {times(at['aspp.pooling.1'].kernel)}", output(at["aspp.pooling"])])
    project = [f"Conv, k {times(at['aspp.project.0'].kernel)}", _channels(at["aspp.project"]), output(at["aspp"])]
    size = at["fuse"].inputs[0]
    up = [_upsampling(at["aspp"].outputs[0], size), times((at["aspp"].outputs[0][1], *size[2:]))]
    context = _pyramid(d, drawn[-1], branches, [project, up], THREE_D)
    low = at["low_level"]
    low_lines = [f"Conv, k {times(at['low_level.0'].kernel)}", _channels(low), output(low)]
    fuse = ["SepConv", *_built(at["fuse.0"]), _channels(at["fuse"])]
    feature = [r"$\tilde{I}_{2d-3d}$", "C3×Z×h/4×w/4", output(network)]
    _decoder(d, drawn[2], context, low_lines, fuse, feature, THREE_D)
    _block_inside(d, at)
    return d.finish(
        f"The 3D DeepLabv3+ (Figure 5) at the sizes of profile {settings.name}: {millions(network)}; shapes of one "
        "patch, channels first. k: kernel, s: stride, p: padding, d: dilation, each along Z×h×w; of SR × n they are "
        "those of the first block's middle convolution. SepConv: a depthwise convolution of that kernel and a 1×1×1 "
        "one. Z is never reduced. C: concatenation; ↑: upsampling in plane."
    )


def _pyramid(
    d: Diagram, source: Box, branches: Sequence[Sequence[str]], column: Sequence[Sequence[str]], colour: Colour
) -> Box:
    """ASPP on the right of both figures, read from right to left, then down its left column: the last box there."""
    d.group(Box(5.87, 2.57, 3.16, 2.6), "Atrous spatial pyramid pooling (ASPP), and upsampling", colour)
    first = _BRANCHES[4 - len(column)]
    step = (_DECODER - first) / (len(column) - 1)
    boxes = [d.module(Box(4.86, first + step * index, 0.98, 0.46), lines, colour) for index, lines in enumerate(column)]
    joined = d.sign(5.54, boxes[0].y, "C")
    for y, lines in zip(_BRANCHES, branches, strict=True):
        branch = d.module(Box(6.48, y, 1.5, 0.4), lines, colour)
        d.arrow(source.right, (7.36, source.y), (7.36, y), branch.right)
        if y == joined.y:
            d.chain(branch, joined)
        else:
            d.arrow(branch.left, (joined.x, y), joined.top if y < joined.y else joined.bottom)
    d.chain(joined, *boxes)
    return boxes[-1]


def _decoder(
    d: Diagram,
    low_stage: Box,
    context: Box,
    low: Sequence[str],
    fuse: Sequence[str],
    feature: Sequence[str],
    colour: Colour,
) -> Box:
    """The lower row of both figures, read from right to left: the box of the feature that leaves it."""
    low_level = d.module(Box(low_stage.x, 2.3, 0.9, 0.46), low, colour)
    joined = d.sign(low_stage.x, _DECODER, "C")
    fused = d.module(Box(2.3, _DECODER, 1.0, 0.68 if len(fuse) > 3 else 0.46), fuse, colour)
    leaving = d.data(Box(0.68, _DECODER, 1.06, 0.46), feature, colour)
    d.note(low_stage.x - 0.06, 1.45, "low level", ha="right")
    d.chain(context, joined, fused, leaving)
    d.chain(low_stage, low_level, joined)
    return leaving


def _block_inside(d: Diagram, at: Mapping[str, Layer]) -> None:
    """SR: what the first SE-ResNeXt block consists of."""
    block = "encoder.first_stage.0"
    convolutions = [at[f"{block}.residual.{name}"] for name in ("0.0", "1.0", "2")]
    squeezed = at[f"{block}.residual.4.weigh.1"]
    d.group(Box(1.63, 1.98, 3.06, 1.38), "SR, an SE-ResNeXt block: the first of them", LOSS)
    boxes = []
    for x, layer in zip((0.58, 1.26, 1.94), convolutions, strict=True):
        groups = [f"{layer.groups} groups"] if layer.groups > 1 else []
        lines = ["Conv", f"k {times(layer.kernel)}", *groups, f"{layer.inputs[0][1]} → {layer.outputs[0][1]}"]
        boxes.append(d.module(Box(x, 1.82, 0.56, 0.54), lines, LOSS))
    excite = d.module(
        Box(2.53, 1.82, 0.38, 0.54),
        ["SE", f"{squeezed.inputs[0][1]} →", f"{squeezed.outputs[0][1]} →", f"{squeezed.inputs[0][1]}"],
        LOSS,
    )
    total = d.sign(2.92, 1.82, "+")
    d.arrow((0.14, 1.82), boxes[0].left)
    d.chain(*boxes, excite, total)
    d.arrow((0.2, 1.82), (0.2, 2.4), (total.x, 2.4), total.bottom)
    projection = at.get(f"{block}.shortcut.0")
    d.note(1.5, 2.5, f"shortcut: Conv, k {times(projection.kernel)}" if projection else "shortcut")


def _convolution(layer: Layer) -> str:
    return f"Conv {times(layer.kernel)}"


def _channels(layer: Layer) -> str:
    return f"{layer.inputs[0][1]} → {layer.outputs[0][1]} channels"


def _built(layer: Layer) -> list[str]:
    return [f"k {times(layer.kernel)}", f"s {times(layer.stride)}", f"p {times(layer.padding)}"]


def _upsampling(before: Sequence[int], after: Sequence[int]) -> str:
    return f"↑ {after[-1] // before[-1]}"
