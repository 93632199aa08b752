"""Checks of the targets of `fit`, and the resolution of "auto" settings for them."""

from __future__ import annotations

import math

from torch import Tensor

from fractalops._checks import check_tensor
from fractalops.fitting.config import FitConfig


def check_targets(owner: str, targets: Tensor, config: FitConfig) -> Tensor:
    """Return targets with shape (S, H, W), or (S, 3, H, W) in color; float32.

    Raises:
        ValueError, TypeError: If the targets are invalid. The message begins with `owner`.
    """
    if not isinstance(targets, Tensor):
        hint = "; use fit_dataset for paths, generators and data sets"
        raise TypeError(f"{owner}: targets must be a tensor, got {type(targets).__name__}{hint}")
    check_tensor(owner, targets=targets)
    if not targets.is_floating_point():
        raise TypeError(f"{owner}: targets must be floating-point with values in [0, 1], got {targets.dtype}")
    dims = 3 if config.color else 2  # dimensions of one target
    fits = not config.color or targets.shape[-3:-2] == (config.channels,)
    if targets.dim() not in (dims, dims + 1) or not fits or targets.numel() == 0:
        expected = "(3, H, W) or (S, 3, H, W) in color" if config.color else "(H, W) or (S, H, W)"
        raise ValueError(f"{owner}: targets must have shape {expected}, not empty, got {tuple(targets.shape)}")
    low, high = (float(bound) for bound in targets.detach().aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{owner}: targets must lie in [0, 1], got values from {low:g} to {high:g}")
    targets = targets.detach().float()
    return targets if targets.dim() > dims else targets[None]


def shown_pixels(targets: Tensor, config: FitConfig) -> Tensor:
    """Return the number of pixels, (S,), at which targets differ from the background by more than 0.1."""
    away = (targets - config.empty).abs()
    return (away.reshape(len(away), -1, *away.shape[-2:]).amax(1) > 0.1).sum((1, 2))


def settings_for(targets: Tensor, config: FitConfig) -> FitConfig:
    """Return a configuration with values for its "auto" settings, for targets (S, H, W) or (S, 3, H, W)."""
    total = int(shown_pixels(targets, config).sum())
    return config.resolve(targets.shape[-2:], math.ceil(total / len(targets)))


def uncovered(target: Tensor, config: FitConfig) -> str:
    """Return a notice if a sequence has too few points to cover what the target shows, otherwise an empty string.

    The bump of a point covers about `pi bandwidth` pixels.

    Args:
        target: (H, W) or (3, H, W).
        config: Resolved settings.
    """
    covered = int(config.points * math.pi * config.bandwidth)
    if 2 * covered >= target.shape[-2] * target.shape[-1]:
        return ""
    shown = int(shown_pixels(target[None], config))
    if 2 * covered >= shown:
        return ""
    return f"{config.points} points cover at most {covered} of the {shown} pixels that it shows; use more points"
