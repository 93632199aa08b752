"""Random generators for numbered items, so that an item does not depend on the other items."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def seed_of(seed: int, what: str, number: int) -> int:
    """Return the seed of item `number`, in [0, 2^64). Different seeds, purposes and numbers give different seeds."""
    digest = hashlib.blake2b(f"{seed} {what} {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def generator_of(seed: int, what: str, number: int) -> torch.Generator:
    """Return the generator of item `number`, seeded by `seed_of`. Torch draws similar numbers for adjacent seeds."""
    return torch.Generator().manual_seed(seed_of(seed, what, number))


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw uniform numbers in [0, 1), float32. The default dtype and device have no effect."""
    return torch.rand(shape, generator=generator, dtype=torch.float32, device=generator.device)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw standard normal numbers, float32. The default dtype and device have no effect."""
    return torch.randn(shape, generator=generator, dtype=torch.float32, device=generator.device)
