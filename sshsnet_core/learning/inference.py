"""Inference (sections 3.2 and 4.4): stage 1 once per volume, stage 2 by windows over its map and features."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from sshsnet_core.data.coarse import FEATURE_STRIDE, Coarse, doubled
from sshsnet_core.data.slices import halve_image, three_slices

# Slices that stage 1 takes at once: enough to fill a small GPU, little enough for a laptop's memory.
_SLICES = 8
# A window in which stage 1 is so sure of background everywhere keeps stage 1's map: many of a wide abdomen do.
_NOTHING = 0.99


@torch.inference_mode()
def coarse_map(branches: Sequence[nn.Module], volume: np.ndarray, device: torch.device) -> Coarse:
    """Stage 1 over all slices of a volume (Z, H, W) whose H and W are multiples of 8."""
    slices = three_slices(halve_image(torch.from_numpy(np.array(volume))))
    scores, features = [], []
    for batch in slices.split(_SLICES):
        outputs = [branch(batch.to(device)) for branch in branches]
        mean = torch.stack([output.scores.float().softmax(dim=1) for output in outputs]).mean(dim=0)
        scores.append(mean.half().cpu())
        features.append(torch.cat([output.features for output in outputs], dim=1).half().cpu())
    return Coarse(*(torch.cat(parts).movedim(0, 1).contiguous().numpy() for parts in (scores, features)))


def upsampled_coarse(coarse: Coarse) -> np.ndarray:
    """The rows without stage 2: S~ at full resolution, float32 (C1, Z, H, W)."""
    classes, z, h, w = coarse.scores.shape
    probabilities = np.empty((classes, z, 2 * h, 2 * w), dtype=np.float32)
    for index in range(z):
        scores, _ = coarse.crop((index, 0, 0), (1, 2 * h, 2 * w))
        probabilities[:, index] = scores[:, 0].numpy()
    return probabilities


@torch.inference_mode()
def segment_windows(
    network: nn.Module,
    volume: np.ndarray,
    coarse: Coarse,
    patch: tuple[int, int, int],
    overlap: float,
    device: torch.device,
) -> np.ndarray:
    """Stage 2 over a volume (Z, H, W), padded to hold a patch: probabilities (C1, Z, H, W).

    MONAI moves the window, weights it by a Gaussian and sums the class probabilities in one volume; a window's S~ and
    I~ are cropped from stage 1's output, never computed again.
    """
    # Here, because MONAI takes seconds to import.
    from monai.inferers import sliding_window_inference

    def one_window(image: Tensor, corners: Sequence[Sequence[slice]]) -> Tensor:
        starts = [tuple(s.start for s in corner[-3:]) for corner in corners]
        windows = [coarse.window(start, patch) for start in starts]  # type: ignore[arg-type]
        scores, features = (doubled(torch.stack(parts).to(device)) for parts in zip(*windows, strict=True))
        if scores[:, 0].min() > _NOTHING:
            return scores
        return network(image, scores, features).float().softmax(dim=1)

    image = torch.from_numpy(np.array(volume))[None, None]
    overlaps = (overlap, *(overlap_on_grid(length, overlap) for length in patch[1:]))
    probabilities = sliding_window_inference(
        image, patch, 1, one_window, overlaps, mode="gaussian", with_coord=True, sw_device=device, device="cpu"
    )
    assert isinstance(probabilities, Tensor)
    return probabilities[0].numpy()


def overlap_on_grid(length: int, overlap: float) -> float:
    """The overlap at least ``overlap`` with which a window's step is a multiple of 8, as ``Coarse.crop`` needs it."""
    step = max(1, int(length * (1 - overlap)) // FEATURE_STRIDE) * FEATURE_STRIDE
    # MONAI multiplies back and rounds down: half a voxel more keeps a rounding error from losing a whole one.
    return max(0.0, 1 - (step + 0.5) / length)


@torch.inference_mode()
def segment_whole(network: nn.Module, volume: np.ndarray, device: torch.device) -> np.ndarray:
    """SSHSNet-3D: a whole volume (Z, H, W), H and W even, downsampled once; the probabilities doubled (C1, Z, H, W)."""
    image = halve_image(torch.from_numpy(np.array(volume)))[None, None]
    h, w = image.shape[-2:]
    # The 3D network's in-plane stride is 16.
    image = pad(image, (0, -w % 16, 0, -h % 16)).to(device)
    scores = network(image)[..., :h, :w].float().softmax(dim=1)
    full = interpolate(scores, scale_factor=(1, 2, 2), mode="trilinear", align_corners=False)
    return full[0].cpu().numpy()
