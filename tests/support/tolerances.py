"""Tolerances of a backend's error against the float64 reference, with the reason for each number."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

# Errors are relative to the largest magnitude of the expected tensor: images and gradients are sums in which terms
# cancel, so the magnitude of an entry says nothing about its rounding error.
TOLERANCES: dict[torch.dtype, float] = {
    # About 50 units in the last place (6e-8): coordinates up to a few hundred pixels, exponents down to ln(1e-6) = -14
    # (which multiply the relative error), sums of 300 terms. The largest error seen is 7e-7.
    torch.float32: 3e-6,
    # The same number of units (1.1e-16), so that both rows require the same algorithm. The largest error seen is 3e-15.
    torch.float64: 1e-14,
}


def assert_matches(actual: Tensor, expected: Tensor, tolerance: float | None = None) -> None:
    """Assert that `actual` has the shape of `expected` (a float64 result) and is close to it for its dtype."""
    assert actual.shape == expected.shape
    if not actual.is_floating_point():
        return assert_same_bits(actual, expected)
    largest = expected.abs().max().item() if expected.numel() else 0.0
    if tolerance is None:
        tolerance = TOLERANCES[actual.dtype]
    torch.testing.assert_close(
        actual.double(),
        expected.double(),
        rtol=0.0,
        atol=tolerance * max(largest, torch.finfo(actual.dtype).tiny),
    )


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    """Assert equality bit for bit (NaN equals NaN)."""
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=0.0, equal_nan=True)


def assert_all_match(actual: Any, expected: Any) -> None:
    """Call `assert_matches` for each pair of tensors in nested tuples and lists."""
    for one, other in zip(tree_leaves(actual), tree_leaves(expected), strict=True):
        assert_matches(one, other)


def assert_all_same_bits(actual: Any, expected: Any) -> None:
    """Call `assert_same_bits` for each pair of tensors in nested tuples and lists."""
    for one, other in zip(tree_leaves(actual), tree_leaves(expected), strict=True):
        assert_same_bits(one, other)
