"""What is timed: an op on the inputs of a case, as one backend runs it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import fractalops
from fractalops.fitting.learning import Group, learn

from . import baselines, point_counting
from .cases import CUTOFF, Case
from .timing import Call

Function = Callable[..., Tensor]

FORWARD, BACKWARD, BOTH = "forward", "backward", "forward and backward"

STEPS = 10
"""Optimization steps in one call: as often as noise is added, so that each call does the same work."""


def compiled(function: Function) -> Function:
    """By torch.compile, which raises where it would otherwise go on uncompiled."""
    compiled: Function = torch.compile(function, fullgraph=True, dynamic=False)
    return compiled


def _render(backend: str) -> Function:
    def run(
        matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor, size: tuple[int, int], bandwidth: float
    ) -> Tensor:
        points = fractalops.affine_chain(matrix, offset, index, start, backend=backend)
        return fractalops.rbf_rasterize(points, size, bandwidth=bandwidth, cutoff=CUTOFF, backend=backend)

    return run


def _rasterize(backend: str) -> Function:
    return lambda points, size, bandwidth: fractalops.rbf_rasterize(
        points, size, bandwidth=bandwidth, cutoff=CUTOFF, backend=backend
    )


# The functions of each op by backend: matrix, offset, index, start[, size, bandwidth] -> points or images, and points,
# size, bandwidth -> images. Those of `WHOLE` draw every point on every pixel.
OPS: dict[str, dict[str, Function]] = {
    "affine_chain": {
        "native": functools.partial(fractalops.affine_chain, backend="native"),
        "reference": functools.partial(fractalops.affine_chain, backend="reference"),
        "compiled": baselines.scan_chain,
        "separable": baselines.scan_chain,
        "dense": baselines.loop_chain,
    },
    "rbf_rasterize": {
        "native": _rasterize("native"),
        "reference": _rasterize("reference"),
        "compiled": baselines.separable_rasterize,
        "separable": baselines.separable_rasterize,
        "dense": baselines.dense_rasterize,
    },
    "render": {
        "native": _render("native"),
        "reference": _render("reference"),
        "compiled": baselines.separable,
        "separable": baselines.separable,
        "dense": baselines.dense,
    },
}
BACKENDS = tuple(OPS["render"])
WHOLE = ("compiled", "separable", "dense")


@dataclass(frozen=True)
class Subject:
    """A function and its arguments, of which those at `places` get gradients."""

    function: Function
    arguments: tuple[Any, ...]
    places: tuple[int, ...]

    @property
    def leaves(self) -> list[Tensor]:
        return [self.arguments[place] for place in self.places]

    def value(self) -> Tensor:
        return self.function(*self.arguments)

    def to(self, device: str, dtype: torch.dtype | None = None) -> Subject:
        """The same, with copies of all tensors; those with gradients in `dtype`."""
        arguments = [_copy(each, device) for each in self.arguments]
        for place in self.places:
            arguments[place] = arguments[place].to(dtype).requires_grad_()
        return replace(self, arguments=tuple(arguments))

    def call(self, direction: str) -> Call:
        """What a clock calls."""
        if direction == FORWARD:
            return torch.no_grad()(self.value)
        leaves, drawn = self.leaves, self.value()
        grad = upstream(drawn)
        if direction == BACKWARD:
            return lambda: torch.autograd.grad(drawn, leaves, grad, retain_graph=True)
        return lambda: torch.autograd.grad(self.value(), leaves, grad)


def _copy(argument: Any, device: str) -> Any:
    return argument.detach().to(device, copy=True) if isinstance(argument, Tensor) else argument


def upstream(value: Tensor) -> Tensor:
    """A gradient for `value`, the same at every call."""
    return torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).to(value)


def subject(op: str, backend: str, case: Case, seed: int = 0) -> Subject:
    """On the CPU, in float32."""
    function = OPS[op][backend]
    if backend == "compiled":
        function = compiled(function)
    if op == "rbf_rasterize":
        return Subject(function, (case.cloud(seed), case.size, case.bandwidth), (0,)).to("cpu")
    matrix, offset, index, start = case.inputs(seed)
    drawing = () if op == "affine_chain" else (case.size, case.bandwidth)
    return Subject(function, (matrix, offset, index, start, *drawing), (0, 1, 3)).to("cpu")


def targets(images: int, side: int = 32) -> Tensor:
    """A ring, as in a handwritten zero, moved by whole pixels from image to image: (S, H, W)."""
    across = torch.linspace(-1, 1, side)  # (side,)
    distance = torch.hypot(1.4 * across[:, None] / 0.9, across / 0.45)  # (H, W)
    ring = ((distance > 0.8) & (distance < 1.2)).float()
    width = math.ceil(images**0.5)
    return torch.stack([ring.roll((i // width, i % width), dims=(0, 1)) for i in range(images)])


def learning(case: Case, backend: str, device: str) -> Iterator[Tensor]:
    """Optimization steps of one system by the published settings, endlessly: the loss (1,) of each."""
    group = _group(case, device)
    return learn(group, group_config(case), None, backend, "auto" if backend == "native" else False)


def group_config(case: Case) -> fractalops.FitConfig:
    return fractalops.FitConfig.paper(
        maps=case.maps, points=case.points, sequences=case.sequences, steps=10**6, bandwidth=case.bandwidth
    )


def _group(case: Case, device: str) -> Group:
    return Group.start(targets(1, case.side).to(device), group_config(case), range(1))


def steps(case: Case, backend: str, device: str) -> Call:
    """STEPS optimization steps; or, for "ops alone", as often both ops' forward and backward on a system's maps."""
    if backend == "ops alone":
        ops = subject("render", "native", case).to(device).call(BOTH)
        return lambda: [ops() for _ in range(STEPS)]
    run = learning(case, backend, device)
    return lambda: [next(run) for _ in range(STEPS)]


COUNTED = ("binary", "density", "binary, 3 x 3 patches", "density, 3 x 3 patches")
"""What `rasterize_points` draws, in place of a direction."""


def counting(case: Case, backend: str, drawn: str, device: str = "cpu") -> Callable[[], Tensor]:
    """Points on their nearest pixels: images (B, H, W). Raises `MissingExtra` where numba is asked for and missing."""
    mode, _, patches = drawn.partition(", ")
    points = point_counting.clouds(case).to(device)  # (B, T, 2)
    patch = fractalops.random_patches(case.sequences, generator=torch.Generator().manual_seed(0)) if patches else None
    if backend == "numba":
        return functools.partial(point_counting.by_numba(case.side), points, patch, mode)
    patch = None if patch is None else patch.to(device)
    return functools.partial(fractalops.rasterize_points, points, case.side, mode=mode, patch=patch, backend=backend)
