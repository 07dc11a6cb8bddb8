"""What modules do, as it is recorded, against numbers written out by hand."""

import torch
from torch import nn

from sshsnet_core.networks.shapes import Layer, read_layers, sshsnet_layers
from sshsnet_core.settings import load_settings

SMOKE = load_settings("smoke")


def test_a_convolution_is_recorded_as_it_was_built_and_as_it_ran() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, (3, 5), stride=2, padding=(2, 4), dilation=2, bias=False), nn.ReLU())
    assert read_layers(network, torch.zeros(2, 3, 9, 11)) == {
        "": Layer("Sequential", ((2, 3, 9, 11),), ((2, 4, 5, 6),), 4 * 3 * 3 * 5),
        "0": Layer("Conv2d", ((2, 3, 9, 11),), ((2, 4, 5, 6),), 180, (3, 5), (2, 2), (2, 4), (2, 2), 1),
        "1": Layer("ReLU", ((2, 4, 5, 6),), ((2, 4, 5, 6),), 0),
    }


def test_a_number_stands_for_every_axis() -> None:
    pooling = read_layers(nn.MaxPool3d(2), torch.zeros(1, 1, 4, 6, 8))[""]
    assert (pooling.kernel, pooling.stride, pooling.padding) == ((2, 2, 2), (2, 2, 2), (0, 0, 0))
    assert pooling.outputs == ((1, 1, 2, 3, 4),)


def test_the_network_itself_is_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    read_layers(network, torch.ones(2, 1, 3, 3))
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert network(torch.ones(2, 1, 3, 3)).device.type == "cpu"
    assert not network[0]._forward_hooks


def test_both_stages_at_smoke_size() -> None:
    layers = sshsnet_layers(SMOKE)
    # Twelve slices of 110x56 in; 20 classes, 16 channels at a quarter of that, rounded up.
    assert layers["stage1"].inputs == ((12, 3, 110, 56),)
    assert layers["stage1"].outputs == ((12, 20, 110, 56), (12, 16, 28, 14))
    assert layers["stage1.encoder"].inputs == ((12, 3, 112, 64),)
    assert layers["stage2"].inputs == ((1, 1, 12, 64, 48), (1, 20, 12, 64, 48), (1, 32, 12, 16, 12))
    stem = layers["stage2.deeplab.encoder.stem.0.0"]
    assert (stem.kernel, stem.stride, stem.padding) == ((1, 7, 7), (1, 2, 2), (0, 3, 3))
    assert stem.outputs == ((1, 8, 12, 32, 24),)
    assert stem.parameters == 8 * 21 * 49
    assert layers["stage2.deeplab.encoder"].outputs == ((1, 16, 12, 16, 12), (1, 32, 12, 4, 3))
    assert layers["stage2.deeplab.aspp.branches.3.0"].dilation == (1, 3, 3)
    assert layers["stage2.deeplab.aspp.branches.3.0"].groups == 32
    assert layers["stage2"].outputs == ((1, 20, 12, 64, 48),)


def test_arches_apart_are_nine_more_classes() -> None:
    layers = sshsnet_layers(SMOKE.changed({"arches_apart": True}))
    assert layers["stage1"].outputs[0] == (12, 29, 110, 56)
    assert layers["stage2"].inputs[1] == (1, 29, 12, 64, 48)
    assert layers["stage2"].outputs == ((1, 29, 12, 64, 48),)


def test_attention_matrices_are_as_large_as_their_tokens_are_many() -> None:
    layers = sshsnet_layers(SMOKE)
    sizes = {kind: layers[f"stage2.fusion.{kind}.attention"].outputs for kind in ("inter_slice", "intra_slice")}
    # Twelve slices; 16x12 positions; 2 x 16 channels.
    assert sizes == {"inter_slice": ((1, 12, 12),), "intra_slice": ((1, 192, 192),)}
    assert layers["stage2.fusion.channel.attention"].outputs == ((1, 32, 32),)
    assert layers["stage2.fusion.inter_slice.query"].outputs == ((1, 2, 12, 16, 12),)
