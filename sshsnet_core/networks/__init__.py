"""Sections 3.1 to 3.3: the 2D and 3D DeepLabv3+ and the cross tri-attention module.

Tensors in, class scores out; nothing here knows of cohorts or of training.
"""

import torch


def _let_torchvision_import() -> None:
    """Make ``import torchvision`` work where its wheel was built for CUDA and torch's for the CPU.

    timm and segmentation_models_pytorch import torchvision for its transforms. With that pair of wheels torchvision's
    compiled operators cannot be loaded, and its import stops because ``nms`` is unknown to torch. No network here uses
    these operators: it is enough that their signatures exist.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


_let_torchvision_import()
