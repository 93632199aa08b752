"""The exponentials and products that bench/rbf_rasterize_work.py reckons are those that the kernels compute.

Counted where Triton's interpreter computes them, for points that reach all tiles: what is skipped is an estimate.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fractalops.kernels import rbf_rasterize as kernels

from bench.rbf_rasterize_work import Picture, Work

CAPABILITY = (8, 6)
PICTURES = [
    Picture("one tile", images=2, length=33, side=16),
    Picture("four tiles", images=1, length=40, side=20, bandwidth=25.0),
    Picture("window larger than a block", images=1, length=40, side=20, bandwidth=4.0),
]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Exponentials, and multiply-adds of products of matrices."""
    if torch.cuda.is_available():
        pytest.skip("the kernels run on the GPU in this process, not in the interpreter")
    from triton.runtime.interpreter import InterpreterBuilder

    counts = {"exponentials": 0, "multiply-adds": 0}
    exponential, product = InterpreterBuilder.create_exp, InterpreterBuilder.create_dot

    def create_exp(self: Any, argument: Any) -> Any:
        counts["exponentials"] += argument.data.size
        return exponential(self, argument)

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        counts["multiply-adds"] += a.data.size * b.data.shape[1]
        return product(self, a, b, *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_exp", create_exp)
    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)
    return counts


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_kernels_compute_what_is_reckoned(picture: Picture, counted: dict[str, int]) -> None:
    work = Work(picture, CAPABILITY)
    points = torch.full((picture.images, picture.length, 2), picture.side / 2 - 0.5)
    bandwidth = torch.full((picture.images,), picture.bandwidth)
    image = kernels.rbf_rasterize_fwd(points, None, bandwidth, picture.side, picture.side, picture.cutoff, work.plan)
    (forward,) = work.forward()
    assert counted == {"exponentials": forward.exponentials, "multiply-adds": forward.product / 2}
    counted.update({"exponentials": 0, "multiply-adds": 0})
    kernels.rbf_rasterize_bwd(image, points, None, bandwidth, picture.cutoff, False)
    (backward,) = work.backward()
    assert counted == {"exponentials": backward.exponentials, "multiply-adds": 0}
