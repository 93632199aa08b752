"""Checks that a backend is right before it is timed: values and gradients are compared with the reference.

The float64 reference is too slow for large cases. A large case is compared with the native CPU ops in float64. In
addition, both are compared with the reference on a smaller case.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from fractalops.backends import Backend

from . import subjects
from .subjects import WHOLE, Subject, subject, upstream
from .suites import CUTOFF, Case

# Errors of float32 against float64, relative to the largest magnitude of each tensor. Points have errors of a few units
# in the last place (6e-8), and more if a baseline multiplies maps first. Errors of a few units in the last
# place of a coordinate grow with the image's side. The slopes of the bumps pass them on to images and gradients.
CHAIN_TOLERANCE, TOLERANCE_PER_PIXEL = 1e-5, 5e-7
# Relative error of the losses in the first steps of a fit, which are float32 sums over all pixels; and the number of
# these steps, more than `fit` runs before it uses a CUDA graph.
STEP_TOLERANCE, STEPS = 1e-4, 6
# Relative error of the sum of a bump over the pixels, against that of another bump.
SPREADING_TOLERANCE = 1e-4

# Limits for the reference, which it reaches in about a second: steps of its loop, and values in its tables.
_LONGEST, _LARGEST = 3000, 10**7


def problem(op: str, backend: str, case: Case, device: str = "cpu") -> str:
    """Return how a backend disagrees with the reference, or an empty string."""
    allowed = CHAIN_TOLERANCE if op == "affine_chain" else TOLERANCE_PER_PIXEL * case.side
    return _disagreement(error(op, backend, case, device), allowed)


def error(op: str, backend: str, case: Case, device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Return the largest error of the value and all gradients, relative to the maximum of each; infinity for NaN."""
    return _error(op, backend, case, device, dtype, torch.get_num_threads())


@cache
def _error(op: str, backend: str, case: Case, device: str, dtype: torch.dtype, threads: int) -> float:
    cut = within_reach(case)
    worst = _worst_error(subject(op, backend, cut).to(device, dtype), _reference(op, backend, cut))
    if cut != case:
        whole = _in_double(op, case, "native", 1e-12 if backend in WHOLE else CUTOFF)
        worst = max(worst, _native_error(op, cut), _worst_error(subject(op, backend, case).to(device, dtype), whole))
    return worst


def within_reach(case: Case) -> Case:
    """Return the case, made smaller if the reference would take too long."""
    cut = case.cut(case.sequences, _LONGEST)
    return cut.cut(max(1, _LARGEST // (cut.points * 2 * cut.side)), cut.points)


def step_problem(backend: str, case: Case, device: str = "cpu") -> str:
    """Compare the losses of the first steps of `fit` with those of the reference, from the same random numbers.

    The reference runs on the same device, because the random numbers differ between devices.
    """
    if backend == "ops alone":
        return problem("render", "native", case, device)
    losses, expected = (
        run(STEPS).cpu()
        for run in (subjects.learning(case, backend, device), subjects.learning(case, "reference", device))
    )
    return _disagreement(float((losses / expected - 1).abs().max()), STEP_TOLERANCE)


def counting_problem(backend: str, case: Case, drawn: str, device: str = "cpu") -> str:
    """Compare the counts of `rasterize_points`. They are integers, so they must be equal."""
    counted = subjects.counting(case, backend, drawn, device)().cpu()
    same = torch.equal(counted, subjects.counting(case, "reference", drawn)())
    return "" if same else "differs from the reference"


def spreading_problem(backend: str, case: Case) -> str:
    """Compare the op with the reference.

    The bumps of finufft have another shape. For them, the sum over the image must be proportional to the number of
    points.
    """
    if backend == "native":
        return problem("rbf_rasterize", backend, case)
    one, all_of_them = (
        subjects.spreading(replace(case, points=points), backend)().real.double().sum().item()
        for points in (1, case.points)
    )
    return _disagreement(abs(all_of_them / (case.points * one) - 1), SPREADING_TOLERANCE)


def _disagreement(error: float, allowed: float) -> str:
    return "" if error <= allowed else f"disagrees with the reference by {error:.2g} (allowed {allowed:.2g})"


@cache
def _native_error(op: str, case: Case) -> float:
    """Return the error of the native CPU ops in float64."""
    return _worst_error(subject(op, "native", case).to("cpu", torch.float64), _reference(op, "native", case))


def _reference(op: str, backend: str, case: Case) -> Subject:
    return _in_double(op, case, "reference", None if backend in WHOLE else CUTOFF)


def _in_double(op: str, case: Case, by: Backend, cutoff: float | None) -> Subject:
    """Return an op by a backend of the package in float64. `cutoff` sets the window of a point."""
    chain, rasterize = subjects.chain(by), subjects.rasterizer(by, cutoff)
    functions = {"affine_chain": chain, "rbf_rasterize": rasterize, "render": subjects.render(chain, rasterize)}
    return replace(subject(op, "native", case).to("cpu", torch.float64), function=functions[op])


def _worst_error(actual: Subject, expected: Subject) -> float:
    errors = [relative_error(got, wanted) for got, wanted in zip(_results(actual), _results(expected), strict=True)]
    return max(errors) if all(error == error for error in errors) else float("inf")


def _results(subject: Subject) -> Iterator[Tensor]:
    """Yield the value and the gradients of all leaves, on the CPU."""
    value = subject.value()
    yield value.detach().cpu()
    for grad in torch.autograd.grad(value, subject.leaves, upstream(value)):
        yield grad.cpu()


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Return the largest error relative to the largest magnitude, or infinity if the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    return float((actual.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
