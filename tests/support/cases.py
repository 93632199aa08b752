"""The named cases that value, gradient and opcheck tests and the benchmarks share: awkward shapes first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import fractalops
from fractalops.reference.rbf_rasterize import rbf_rasterize as rbf_rasterize_reference

# points, weight or None, bandwidth -> images
Rasterizer = Callable[[Tensor, "Tensor | None", Tensor], Tensor]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class ChainCase:
    """Shapes of one `affine_chain` call."""

    name: str
    batch: int = 3
    points: int = 7
    maps: int = 10
    dimensions: int = 2
    index_dtype: torch.dtype = torch.uint8

    def inputs(
        self, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu"
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """matrix (N, D, D), contractions; offset (N, D); index (B, T), naming the last map; start (B, D)."""
        generator = seeded(0)
        matrix = torch.randn(self.maps, self.dimensions, self.dimensions, generator=generator, dtype=torch.float64)
        matrix *= 0.9 / torch.linalg.matrix_norm(matrix, 2)[:, None, None]
        offset = torch.randn(self.maps, self.dimensions, generator=generator, dtype=torch.float64)
        index = torch.randint(self.maps, (self.batch, self.points), generator=generator)
        index[:1, :1] = self.maps - 1
        start = torch.randn(self.batch, self.dimensions, generator=generator, dtype=torch.float64)
        return (
            matrix.to(device, dtype),
            offset.to(device, dtype),
            index.to(device, self.index_dtype),
            start.to(device, dtype),
        )


@dataclass(frozen=True)
class RasterCase:
    """Shapes and options of one `rbf_rasterize` call; channels None means no weight, 0 a weight (B, T)."""

    name: str
    batch: int = 3
    points: int = 7
    size: int | tuple[int, int] = (9, 6)
    bandwidth: float = 1.0
    cutoff: float | None = 1e-6
    channels: int | None = None

    @property
    def height_width(self) -> tuple[int, int]:
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def inputs(
        self, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu"
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """points (B, T, 2) on and around the image, weight (B, T, C), (B, T) or None, bandwidth (B,).

        Every fourth point lies on a multiple of half a pixel, where rounding can be a tie.
        """
        generator = seeded(0)
        extent = torch.tensor(self.height_width, dtype=torch.float64)  # (2,)
        points = torch.rand(self.batch, self.points, 2, generator=generator, dtype=torch.float64)
        points = points * (extent + 6) - 3
        points[:, 3::4] = (points[:, 3::4] * 2).round() / 2
        weight = None
        if self.channels is not None:
            shape = (self.batch, self.points, self.channels) if self.channels else (self.batch, self.points)
            weight = torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)
        factor = 1 + 0.2 * torch.rand(self.batch, generator=generator, dtype=torch.float64)
        return points.to(device, dtype), weight, (self.bandwidth * factor).to(device, dtype)


def chain(backend: str) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """`fractalops.affine_chain` on one backend."""

    def run(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor) -> Tensor:
        return fractalops.affine_chain(matrix, offset, index, start, backend=backend)

    return run


def rasterizer(case: RasterCase, backend: str) -> Rasterizer:
    """`fractalops.rbf_rasterize` on one backend with the options of `case`: a function of three tensors."""

    def run(points: Tensor, weight: Tensor | None, bandwidth: Tensor) -> Tensor:
        return fractalops.rbf_rasterize(
            points, case.size, bandwidth=bandwidth, weight=weight, cutoff=case.cutoff, backend=backend
        )

    return run


def reference_rasterizer(case: RasterCase) -> Rasterizer:
    """The reference, called directly, with the public op's shapes."""

    def run(points: Tensor, weight: Tensor | None, bandwidth: Tensor) -> Tensor:
        single = weight is None or weight.ndim == 2
        channels = weight[..., None] if weight is not None and single else weight
        images = rbf_rasterize_reference(points, channels, bandwidth, *case.height_width, case.cutoff or 0.0)
        return images[:, 0] if single else images

    return run


CHAIN_CASES = [
    ChainCase("one of everything", batch=1, points=1, maps=1),
    ChainCase("empty batch", batch=0),
    ChainCase("one point", batch=3, points=1),
    ChainCase("two points", batch=9, points=2, index_dtype=torch.int32),
    ChainCase("three points, 3d", batch=3, points=3, dimensions=3, index_dtype=torch.int64),
    ChainCase("one map", batch=9, points=63, maps=1),
    ChainCase("odd batch", batch=33, points=63, index_dtype=torch.int64),
    ChainCase("odd batch, 3d", batch=33, points=63, dimensions=3),
    ChainCase("long, one sequence", batch=1, points=300, index_dtype=torch.int32),
    ChainCase("long, 3d", batch=9, points=300, dimensions=3, index_dtype=torch.int32),
    ChainCase("256 maps", batch=3, points=300, maps=256),
    ChainCase("300 maps", batch=9, points=300, maps=300, index_dtype=torch.int32),
    ChainCase("300 maps, 3d", batch=3, points=63, maps=300, dimensions=3, index_dtype=torch.int64),
]

RASTER_CASES = [
    RasterCase("one pixel", batch=1, points=1, size=1),
    RasterCase("empty batch", batch=0, channels=3),
    RasterCase("empty batch, no weight", batch=0),
    RasterCase("one row", points=63, size=(1, 7), bandwidth=4.0),
    RasterCase("one column", points=63, size=(7, 1), channels=0),
    RasterCase("one point", points=1, size=32, bandwidth=0.25),
    RasterCase("two points, loose", batch=9, points=2, size=32, cutoff=1e-2, channels=1),
    RasterCase("three points, exact", points=3, size=(30, 17), cutoff=None, channels=5),
    RasterCase("published", batch=9, points=300, size=32),
    RasterCase("published, weighted", batch=9, points=300, size=32, channels=0),
    RasterCase("color", batch=33, points=63, size=(30, 17), channels=3),
    RasterCase("five channels, loose", points=63, size=(30, 17), bandwidth=4.0, cutoff=1e-2, channels=5),
    RasterCase("tall window", points=63, size=(30, 17), bandwidth=25.0, channels=1),
    RasterCase("window larger than image", batch=33, points=300, size=(1, 7), bandwidth=25.0, channels=3),
    RasterCase("sharp, loose", points=300, size=(63, 100), bandwidth=0.25, cutoff=1e-2),
    RasterCase("large", batch=1, points=300, size=(63, 100), channels=3),
    RasterCase("large, exact", batch=1, points=300, size=(63, 100), bandwidth=25.0, cutoff=None),
]

# Finite differences cost one call an input entry, so gradcheck takes the small shapes only.
CHAIN_GRADCHECK_CASES = [
    ChainCase("one of everything", batch=1, points=1, maps=1),
    ChainCase("one point", batch=9, points=1, maps=3, index_dtype=torch.int32),
    ChainCase("odd", batch=9, points=7, maps=3),
    ChainCase("odd, 3d", batch=5, points=7, maps=3, dimensions=3, index_dtype=torch.int64),
    ChainCase("empty batch", batch=0, maps=2),
]
RASTER_GRADCHECK_CASES = [
    RasterCase("one pixel", batch=1, points=1, size=1),
    RasterCase("no weight", batch=2, points=5, size=(6, 4)),
    RasterCase("weight", batch=2, points=5, size=(4, 6), channels=0, cutoff=1e-2),
    RasterCase("color, loose", batch=2, points=5, size=(5, 4), bandwidth=0.25, channels=2, cutoff=1e-2),
    RasterCase("color, exact", batch=2, points=5, size=(4, 5), bandwidth=4.0, channels=2, cutoff=None),
    RasterCase("wide", points=3, size=(1, 7), bandwidth=25.0, channels=1),
    RasterCase("empty batch", batch=0, channels=3),
]


def value_and_gradients(
    function: Callable[..., Tensor], inputs: Sequence[Tensor | None], upstream: Tensor | None = None
) -> tuple[Tensor, list[Tensor]]:
    """`function(*inputs)` and the gradients of its floating inputs, in their order, which all must get one.

    `upstream` is the value's own gradient; None draws it with a fixed seed.
    """
    inputs = [tensor if tensor is None else tensor.detach() for tensor in inputs]
    leaves = [tensor.requires_grad_() for tensor in inputs if tensor is not None and tensor.is_floating_point()]
    value = function(*inputs)
    if upstream is None:
        generator = seeded(1)
        upstream = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    return value.detach(), list(torch.autograd.grad(value, leaves, upstream.to(value)))


def balanced_inputs(
    systems: int, sequences: int, maps: int, points: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Weights (S, N), some of them 0, and numbers (S, K, T), the largest and the smallest among them."""
    generator = seeded(maps)
    weight = torch.rand(systems, maps, generator=generator, dtype=torch.float64)
    weight[:, 2::3] = 0
    uniform = torch.rand(systems, sequences, points, generator=generator, dtype=dtype)
    uniform[..., ::7] = 1 - torch.finfo(dtype).eps / 2
    uniform[..., 3::7] = 0
    return weight, uniform
