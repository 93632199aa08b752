"""The subjects of timing. A subject is an op on the inputs of a case, run by one backend."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

import fractalops
from fractalops.backends import Backend
from fractalops.fitting.learning import Batch, choose_loop
from fractalops.ops.rasterize_points import Mode

from . import baselines
from .suites import BACKWARD, BOTH, CUTOFF, FORWARD, Case
from .timing import Call, torch_threads

Function = Callable[..., Tensor]

STEPS = 10
"""Optimization steps in one call. Noise is added once in as many steps, so that each call does the same work."""


def compiled(function: Function) -> Function:
    """Compile a function with torch.compile. Raises an error if any part can't be compiled."""
    compiled: Function = torch.compile(function, fullgraph=True, dynamic=False)
    return compiled


def chain(backend: Backend) -> Function:
    """Return `affine_chain` of a backend of the package."""
    return functools.partial(fractalops.affine_chain, backend=backend)


def rasterizer(backend: Backend, cutoff: float | None = CUTOFF) -> Function:
    """Return `rbf_rasterize` of a backend of the package."""
    return lambda points, size, bandwidth: fractalops.rbf_rasterize(
        points, size, bandwidth=bandwidth, cutoff=cutoff, backend=backend
    )


def render(chain: Function, rasterize: Function) -> Function:
    """Return the composition of a chain and a rasterizer."""
    return lambda matrix, offset, index, start, size, bandwidth: rasterize(
        chain(matrix, offset, index, start), size, bandwidth
    )


# The functions of each op by backend. A chain is a function of matrix, offset, index and start, a rasterizer of points,
# size and bandwidth, and render of all inputs of both except the points. `WHOLE` lists the backends that draw every
# point on every pixel.
_CHAINS = {
    "native": chain("native"),
    "reference": chain("reference"),
    "compiled": baselines.scan_chain,
    "separable": baselines.scan_chain,
    "dense": baselines.loop_chain,
}
_RASTERIZERS = {
    "native": rasterizer("native"),
    "reference": rasterizer("reference"),
    "compiled": baselines.separable_rasterize,
    "separable": baselines.separable_rasterize,
    "dense": baselines.dense_rasterize,
}
OPS: dict[str, dict[str, Function]] = {
    "affine_chain": _CHAINS,
    "rbf_rasterize": _RASTERIZERS,
    "render": {backend: render(_CHAINS[backend], _RASTERIZERS[backend]) for backend in _CHAINS},
}
WHOLE = ("compiled", "separable", "dense")


@dataclass(frozen=True)
class Subject:
    """A function and its arguments. The arguments at the indices `places` get gradients."""

    function: Function
    arguments: tuple[Any, ...]
    places: tuple[int, ...]

    @property
    def leaves(self) -> list[Tensor]:
        """The tensors that get gradients."""
        return [self.arguments[place] for place in self.places]

    def value(self) -> Tensor:
        """Return the result of the op."""
        return self.function(*self.arguments)

    def to(self, device: str, dtype: torch.dtype | None = None) -> Subject:
        """Return a copy with all tensors on a device. Tensors that get gradients are converted to `dtype`."""
        arguments = [
            each.detach().to(device, copy=True) if isinstance(each, Tensor) else each for each in self.arguments
        ]
        for place in self.places:
            arguments[place] = arguments[place].to(dtype).requires_grad_()
        return replace(self, arguments=tuple(arguments))

    def call(self, direction: str) -> Call:
        """Return the call that a clock times."""
        if direction == FORWARD:
            return torch.no_grad()(self.value)
        leaves, drawn = self.leaves, self.value()
        grad = upstream(drawn)
        if direction == BACKWARD:
            return lambda: torch.autograd.grad(drawn, leaves, grad, retain_graph=True)
        return lambda: torch.autograd.grad(self.value(), leaves, grad)


def upstream(value: Tensor) -> Tensor:
    """Return a random gradient for `value`, the same in every call."""
    return torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).to(value)


def subject(op: str, backend: str, case: Case, seed: int = 0) -> Subject:
    """Return an op on a case, on the CPU and in float32."""
    function = OPS[op][backend]
    if backend == "compiled":
        function = compiled(function)
    if op == "rbf_rasterize":
        return Subject(function, (case.cloud(seed), case.size, case.bandwidth), (0,)).to("cpu")
    drawing = () if op == "affine_chain" else (case.size, case.bandwidth)
    return Subject(function, (*case.inputs(seed), *drawing), (0, 1, 3)).to("cpu")


def targets(images: int, side: int = 32) -> Tensor:
    """Return images (S, H, W) of a ring like a handwritten zero, shifted by whole pixels from image to image."""
    across = torch.linspace(-1, 1, side)  # (side,)
    distance = torch.hypot(1.4 * across[:, None] / 0.9, across / 0.45)  # (H, W)
    ring = ((distance > 0.8) & (distance < 1.2)).float()
    width = math.ceil(images**0.5)
    return torch.stack([ring.roll((i // width, i % width), dims=(0, 1)) for i in range(images)])


def learning(case: Case, backend: str, device: str) -> Callable[[int], Tensor]:
    """Return a function that runs optimization steps of one system with the published settings.

    Its argument is the number of steps. It returns their losses, (steps, 1).
    """
    config = fractalops.FitConfig.paper(
        maps=case.maps, points=case.points, sequences=case.sequences, steps=10**6, bandwidth=case.bandwidth
    )
    batch = Batch.start(targets(1, case.side).to(device), config, range(1))
    with fractalops.use_backend(cast(Backend, backend)):
        take, native = choose_loop(batch, config, None, "auto" if backend == "native" else False)

    def run(steps: int) -> Tensor:
        rates = [config.learning_rate] * steps
        with fractalops.use_backend(cast(Backend, backend)):  # only during the call
            return take(rates) if native else torch.cat([take([rate]) for rate in rates])

    return run


def steps(case: Case, backend: str, device: str) -> Call:
    """Return a call that runs STEPS optimization steps.

    For "ops alone", it runs the forward and backward of both ops as often, on the maps of one system.
    """
    if backend == "ops alone":
        ops = subject("render", "native", case).to(device).call(BOTH)
        return lambda: [ops() for _ in range(STEPS)]
    run = learning(case, backend, device)
    return lambda: run(STEPS)


def counting(case: Case, backend: str, drawn: str, device: str = "cpu") -> Callable[[], Tensor]:
    """Return a call that counts points on their nearest pixels, in images (B, H, W).

    Each image has the points of its own random system (Anderson and Farrell 2022), scaled to fill it. Raises
    `MissingExtra` if the backend is numba and it is not installed.
    """
    mode, _, patches = drawn.partition(", ")
    generator = torch.Generator().manual_seed(0)
    system = fractalops.IFS(case.sequences, case.maps, generator=generator)
    index = system.sample(1, case.points, generator=generator)
    with torch.no_grad():
        cloud = fractalops.affine_chain(*system.concatenated(index))  # (B, T, 2)
    low, high = cloud.amin(1, keepdim=True), cloud.amax(1, keepdim=True)
    points = ((cloud - low) / (high - low) * (case.side - 1)).to(device)
    patch = fractalops.random_patches(case.sequences, generator=torch.Generator().manual_seed(0)) if patches else None
    if backend == "numba":
        return functools.partial(baselines.by_numba(case.side), points, patch, mode)
    patch = None if patch is None else patch.to(device)
    return functools.partial(
        fractalops.rasterize_points,
        points,
        case.side,
        mode=cast(Mode, mode),
        patch=patch,
        backend=cast(Backend, backend),
    )


def spreading(case: Case, backend: str) -> Callable[[], Tensor]:
    """Return a call that draws one image full of points. Raises `MissingExtra` if finufft is missing."""
    points = torch.rand(case.points, 2, generator=torch.Generator().manual_seed(0)) * (case.side - 1)
    if backend == "finufft":
        return baselines.by_finufft(points, case.side)
    return functools.partial(rasterizer(cast(Backend, backend)), points[None], case.size, case.bandwidth)


def fitting(case: Case, backend: str, direction: str, device: str) -> Call:
    """Return a call of `fit`. `direction` begins with the number of images and names the settings."""
    images = targets(int(direction.split()[0]), case.side).to(device)
    config = fractalops.FitConfig() if "default settings" in direction else fractalops.FitConfig.paper()
    name = cast(Backend, "native" if backend == "one thread" else backend)

    def fit() -> fractalops.FitResult:
        threads = 1 if backend == "one thread" else torch.get_num_threads()
        with fractalops.use_backend(name), torch_threads(threads):
            return fractalops.fit(images, config)

    return fit
