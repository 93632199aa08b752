"""No figure for what is wrong: values and gradients of all that is timed against the float64 reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

import fractalops
from bench import baselines
from bench.cases import Case
from bench.subjects import BANDWIDTH, CUTOFF, PIPELINES, upstream
from fractalops.reference.affine_chain import affine_chain
from fractalops.reference.rbf_rasterize import rbf_rasterize

Function = Callable[..., Tensor]

# Float32 against float64, relative to the largest magnitude of each tensor: a few units in the last place (6e-8) of a
# coordinate, which grows with the image's side and which the slopes of the bumps pass on. The worst seen is 1.1e-7.
TOLERANCE_PER_PIXEL = 5e-7


def worst_error(function: Function, expected: Function, inputs: Sequence[Tensor]) -> float:
    """The largest error of the value and of the gradients of all `inputs`, relative to each tensor's maximum.

    `function` gets the inputs as they are, `expected` in float64; NaN anywhere gives infinity.
    """
    errors = []
    for actual, wanted in zip(
        _value_and_gradients(function, inputs),
        _value_and_gradients(expected, [tensor.double() for tensor in inputs]),
        strict=True,
    ):
        if actual.shape != wanted.shape:
            return float("inf")
        scale = wanted.abs().max().clamp(min=1e-30)
        errors.append(float((actual.double() - wanted).abs().max() / scale))
    return max(errors) if all(error == error for error in errors) else float("inf")


def _value_and_gradients(function: Function, inputs: Sequence[Tensor]) -> list[Tensor]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    value = function(*leaves)
    return [value.detach(), *torch.autograd.grad(value, leaves, upstream(value).to(value))]


def _reference(case: Case, index: Tensor, start: Tensor, cutoff: float) -> Function:
    bandwidth = torch.full((case.sequences,), BANDWIDTH, dtype=torch.float64)

    def run(matrix: Tensor, offset: Tensor) -> Tensor:
        points = affine_chain(matrix, offset, index, start.double())
        return rbf_rasterize(points, None, bandwidth, *case.size, cutoff)[:, 0]

    return run


@cache
def pipeline_error(name: str, case: Case, dtype: torch.dtype = torch.float32) -> float:
    """Of chain and rasterizer; the baselines truncate nothing."""
    matrix, offset, index, start = case.inputs()
    expected = _reference(case, index, start, CUTOFF if name == "native" else 0.0)
    pipeline = PIPELINES[name]
    return worst_error(
        lambda matrix, offset: pipeline(matrix, offset, index, start.to(matrix), case.size, BANDWIDTH),
        expected,
        [matrix.to(dtype), offset.to(dtype)],
    )


@cache
def chain_error(name: str, case: Case, dtype: torch.dtype = torch.float32) -> float:
    """Of the chain alone."""
    matrix, offset, index, start = case.inputs()
    function = baselines.scan_chain if name == "separable" else fractalops.affine_chain
    return worst_error(
        lambda matrix, offset, start: function(matrix, offset, index, start),
        lambda matrix, offset, start: affine_chain(matrix, offset, index, start),
        [matrix.to(dtype), offset.to(dtype), start.to(dtype)],
    )


@cache
def rasterizer_error(name: str, case: Case, dtype: torch.dtype = torch.float32) -> float:
    """Of the rasterizer alone."""
    cutoff = 0.0 if name == "separable" else CUTOFF
    bandwidth = torch.full((case.sequences,), BANDWIDTH, dtype=torch.float64)

    def function(points: Tensor) -> Tensor:
        if name == "separable":
            return baselines.separable_rasterize(points, case.size, BANDWIDTH)
        return fractalops.rbf_rasterize(points, case.size, bandwidth=BANDWIDTH, cutoff=CUTOFF, backend="native")

    return worst_error(
        function,
        lambda points: rbf_rasterize(points, None, bandwidth, *case.size, cutoff)[:, 0],
        [case.cloud().to(dtype)],
    )


def disagreement(error: float, case: Case) -> str:
    """Why there is no figure, or an empty string."""
    allowed = TOLERANCE_PER_PIXEL * case.side
    return "" if error <= allowed else f"disagrees with the reference by {error:.1g} (allowed {allowed:.1g})"
