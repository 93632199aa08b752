"""Random generators by number, so that what is drawn for a number depends on no other one."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def seed_of(seed: int, what: str, number: int) -> int:
    """Return a seed of its own, in [0, 2^64), for each number."""
    digest = hashlib.blake2b(f"{seed} {what} {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def generator_of(seed: int, what: str, number: int) -> torch.Generator:
    """Return a generator of its own for each number: neighboring seeds of torch's generator draw alike."""
    return torch.Generator().manual_seed(seed_of(seed, what, number))


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw numbers in [0, 1) (float32), whatever the default dtype and device."""
    return torch.rand(shape, generator=generator, dtype=torch.float32, device=generator.device)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw standard normal numbers (float32), whatever the default dtype and device."""
    return torch.randn(shape, generator=generator, dtype=torch.float32, device=generator.device)
