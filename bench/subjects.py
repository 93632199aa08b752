"""What is timed: functions without arguments, made for a case."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import fractalops
from bench import baselines
from bench.cases import Case
from fractalops.images import read_image
from fractalops.inversion.learning import Group, _learn
from fractalops.rendering import fold_viewport

BANDWIDTH = 1.0
CUTOFF = 1e-6
TARGET = Path(__file__).parent.parent / "examples" / "digit.png"

# matrix, offset, index, start, size, bandwidth -> images
Pipeline = Callable[[Tensor, Tensor, Tensor, Tensor, tuple[int, int], float], Tensor]


def native(
    matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor, size: tuple[int, int], bandwidth: float
) -> Tensor:
    """Images (B, H, W) by the package's native ops; the face that `bench.baselines` has."""
    points = fractalops.affine_chain(matrix, offset, index, start, backend="native")
    return fractalops.rbf_rasterize(points, size, bandwidth=bandwidth, cutoff=CUTOFF, backend="native")


PIPELINES: dict[str, Pipeline] = {
    "native": native,
    "separable": baselines.separable,
    "dense": baselines.dense,
}


def upstream(value: Tensor) -> Tensor:
    """A gradient for `value`, the same at every call."""
    return torch.randn(value.shape, generator=torch.Generator().manual_seed(1))


def render_and_differentiate(name: str, case: Case) -> Callable[[], object]:
    """Forward and backward of chain and rasterizer, to the gradients of the maps."""
    pipeline = PIPELINES[name]
    matrix, offset, index, start = case.inputs()
    leaves = [matrix.requires_grad_(), offset.requires_grad_()]
    grad = upstream(torch.empty(case.sequences, *case.size))

    def run() -> object:
        image = pipeline(matrix, offset, index, start, case.size, BANDWIDTH)
        return torch.autograd.grad(image, leaves, grad)

    return run


@dataclass(frozen=True)
class Subject:
    """One op in one form, its two directions apart."""

    forward: Callable[[], object]
    backward: Callable[[], object]


def _by_autograd(forward: Callable[[], Tensor], leaves: list[Tensor]) -> Subject:
    value = forward()
    grad = upstream(value)
    return Subject(forward, lambda: torch.autograd.grad(value, leaves, grad, retain_graph=True))


def chains(case: Case) -> dict[str, Subject]:
    """`affine_chain`: the raw op, the public function, and the baseline's scan."""
    matrix, offset, index, start = case.inputs()
    ops = torch.ops.fractalops
    points = ops.affine_chain_fwd(matrix, offset, index, start)  # (B, T, 2)
    grad = upstream(points)
    raw = Subject(
        lambda: ops.affine_chain_fwd(matrix, offset, index, start),
        lambda: ops.affine_chain_bwd(grad, matrix, index, start, points),
    )
    leaves = [matrix.clone().requires_grad_(), offset.clone().requires_grad_()]

    def by_autograd(run: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Subject:
        return _by_autograd(lambda: run(leaves[0], leaves[1], index, start), leaves)

    return {
        "raw op": raw,
        "public function": by_autograd(fractalops.affine_chain),
        "separable": by_autograd(baselines.scan_chain),
    }


def rasterizers(case: Case) -> dict[str, Subject]:
    """`rbf_rasterize`: the raw op, the public function, and the baseline's two tables."""
    points = case.cloud()  # (B, T, 2)
    bandwidth = torch.full((case.sequences,), BANDWIDTH)
    ops = torch.ops.fractalops
    grad = upstream(torch.empty(case.sequences, 1, *case.size))
    raw = Subject(
        lambda: ops.rbf_rasterize_fwd(points, None, bandwidth, *case.size, CUTOFF),
        lambda: ops.rbf_rasterize_bwd(grad, points, None, bandwidth, CUTOFF, False),
    )
    leaf = points.clone().requires_grad_()
    return {
        "raw op": raw,
        "public function": _by_autograd(
            lambda: fractalops.rbf_rasterize(leaf, case.size, bandwidth=BANDWIDTH, cutoff=CUTOFF, backend="native"),
            [leaf],
        ),
        "separable": _by_autograd(lambda: baselines.separable_rasterize(leaf, case.size, BANDWIDTH), [leaf]),
    }


STEPS_A_CALL = 10
"""As often as noise is added: each call then does the same work."""


def step_and_ops(case: Case) -> tuple[Callable[[], object], Callable[[], object]]:
    """Ten optimisation steps of one system, and ten times the ops' forward and backward on its maps and index."""
    config = fractalops.FitConfig(
        maps=case.maps, points=case.points, sequences=case.sequences, steps=10**6, bandwidth=BANDWIDTH
    )
    group = Group.start(targets(1, case.side), config, 0)
    steps: Iterator[Tensor] = _learn(group, config, None, "native", False)

    def step() -> None:
        for _ in range(STEPS_A_CALL):
            next(steps)

    step()
    index = group.system.sample(case.sequences, case.points, generator=group.generators)
    with torch.no_grad():
        matrix, offset, joined, start = group.system.concatenated(index)
        assert config.viewport != "fit"
        matrix, offset, start = fold_viewport(matrix, offset, start, case.size, config.viewport)
    leaves = [matrix.requires_grad_(), offset.requires_grad_()]
    grad = upstream(torch.empty(case.sequences, *case.size))

    def ops() -> None:
        for _ in range(STEPS_A_CALL):
            image = native(matrix, offset, joined, start, case.size, BANDWIDTH)
            torch.autograd.grad(image, leaves, grad)

    return step, ops


def targets(images: int, side: int = 32) -> Tensor:
    """The digit of `examples/`, then moved by whole pixels: (S, H, W)."""
    digit, _ = read_image(TARGET, size=side)
    width = math.ceil(images**0.5)
    return torch.stack([digit.roll((i // width, i % width), dims=(0, 1)) for i in range(images)])
