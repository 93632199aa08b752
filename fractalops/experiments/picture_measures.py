"""Measures of how similar two pictures are: PSNR, SSIM and intersection over union."""

from __future__ import annotations

import math
from importlib.util import find_spec

from torch import Tensor

_DRAWN = 0.15  # the smallest brightness of a pixel that counts as drawn
_LIT = 0.5  # the same for a pixel of a target


def psnr(image: Tensor, target: Tensor) -> float:
    """Return the peak signal-to-noise ratio in decibels of images of the same shape with values in [0, 1]."""
    error = float((image - target).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def has_ssim() -> bool:
    """Return whether scikit-image is installed, which `ssim` needs."""
    return find_spec("skimage") is not None and find_spec("scipy") is not None


def ssim(image: Tensor, target: Tensor) -> float:
    """Return the structural similarity (Wang et al. 2004) of images (H, W) or (3, H, W), computed by scikit-image.

    It is NaN if scikit-image is not installed, or if a side has fewer than the 7 pixels of its window.
    """
    if not has_ssim() or min(image.shape[-2:]) < 7:
        return math.nan
    from skimage.metrics import structural_similarity

    channels = 0 if image.dim() == 3 else None
    images = (each.detach().cpu().double().numpy() for each in (image, target))
    return float(structural_similarity(*images, data_range=1.0, channel_axis=channels))


def intersection_over_union(drawing: Tensor, target: Tensor) -> float:
    """Return the intersection over union of the bright pixels of two images (H, W).

    A pixel of the drawing is bright from 15 % on, a pixel of the target from 50 % on. Without any bright pixel it is 1.
    """
    drawn, lit = drawing >= _DRAWN, target >= _LIT
    either = int((drawn | lit).sum())
    return int((drawn & lit).sum()) / either if either else 1.0
