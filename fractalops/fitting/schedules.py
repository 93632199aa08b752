"""Schedules of the learning rate."""

from __future__ import annotations

import math


def cosine_schedule(rate: float, step: int, steps: int) -> float:
    """Return the learning rate of a step: half a period of a cosine, from `rate` at step 0 to 0 at step `steps`."""
    return rate * (0.5 + 0.5 * math.cos(math.pi * step / max(steps, 1)))


def halving_schedule(rate: float, step: int, steps: int) -> float:
    """Return the learning rate of a step: `rate` at first, and half of it after each quarter of the steps."""
    return rate * 0.5 ** (4 * step // max(steps, 1))
