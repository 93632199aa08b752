"""Named cases for the tests of the ops: inputs, the public function and its reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

import fractalops
from fractalops.ops.clamped_squared_error import clamped_squared_error
from fractalops.ops.draw_balanced_index import draw_balanced_index
from fractalops.ops.draw_index import draw_index
from fractalops.ops.k_means import k_means
from fractalops.ops.svd_matrix import SingularValues, svd_matrix
from fractalops.reference.affine_chain import affine_chain as affine_chain_reference
from fractalops.reference.rbf_rasterize import rbf_rasterize as rbf_rasterize_reference
from fractalops.reference.svd_matrix import svd_matrix as svd_matrix_reference

Inputs = Sequence["Tensor | None"]
Result = tuple[Tensor, list[Tensor]]  # a value and gradients


def value_and_gradients(
    function: Callable[..., Tensor],
    inputs: Inputs,
    upstream: Tensor | None = None,
    differentiable: Sequence[int] | None = None,
) -> Result:
    """Return `function(*inputs)` and the gradients of its inputs, in their order.

    Args:
        function: The function to call.
        inputs: Its arguments.
        upstream: Gradient of the value; None draws it with a fixed seed.
        differentiable: Indices of the inputs that get a gradient. By default, all floating-point inputs must get one.
    """
    inputs = [tensor if tensor is None else tensor.detach() for tensor in inputs]
    leaves = [
        tensor.requires_grad_()
        for place, tensor in enumerate(inputs)
        if tensor is not None and (tensor.is_floating_point() if differentiable is None else place in differentiable)
    ]
    value = function(*inputs)
    if not leaves:
        return value, []
    if upstream is None:
        generator = seeded(1)
        upstream = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    return value.detach(), list(torch.autograd.grad(value, leaves, upstream.to(value)))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact(inputs: Inputs) -> list[Tensor | None]:
    """Return the inputs, the floating-point ones converted to float64."""
    return [each.double() if each is not None and each.is_floating_point() else each for each in inputs]


@dataclass(frozen=True)
class Case:
    """One call of an op."""

    name: str
    op: ClassVar[str]
    differentiable: ClassVar[tuple[int, ...]] = ()
    """Indices of the inputs that get a gradient."""
    batched: ClassVar[tuple[int, ...]]
    """Indices of the inputs whose first dimension is the result's."""

    def __str__(self) -> str:
        return f"{self.op}: {self.name}"

    def inputs(self, dtype: torch.dtype = torch.float64) -> Inputs:
        """Return the inputs. They are the same in every call."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        """The result's shape."""
        raise NotImplementedError

    def run(self, *inputs: Any, backend: str | None) -> Tensor:
        """Call the public function."""
        raise NotImplementedError

    def reference(self, *inputs: Any) -> Tensor:
        """Return the result by the op's definition."""
        raise NotImplementedError

    def on(self, backend: str | None) -> Callable[..., Tensor]:
        """Return `run` as a function of the inputs."""
        return lambda *inputs: self.run(*inputs, backend=backend)

    def both(self, backend: str, inputs: Inputs, upstream: Tensor | None = None) -> Result:
        """Return the value and the gradients on one backend."""
        return value_and_gradients(self.on(backend), inputs, upstream, self.differentiable)

    def expected(self, inputs: Inputs, upstream: Tensor | None = None) -> Result:
        """Return the value and the gradients of the reference in float64."""
        return value_and_gradients(self.reference, exact(inputs), upstream, self.differentiable)


@dataclass(frozen=True)
class ChainCase(Case):
    """Shapes of one `affine_chain` call."""

    op = "affine_chain"
    differentiable = (0, 1, 3)
    batched = (2, 3)
    batch: int = 3
    points: int = 7
    maps: int = 10
    dimensions: int = 2
    index_dtype: torch.dtype = torch.uint8

    @property
    def shape(self) -> tuple[int, ...]:
        return self.batch, self.points, self.dimensions

    def inputs(
        self, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu"
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return matrix (N, D, D), contractions; offset (N, D); index (B, T), with the last map; start (B, D)."""
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

    def run(self, *inputs: Any, backend: str | None) -> Tensor:
        return fractalops.affine_chain(*inputs, backend=backend)

    def reference(self, *inputs: Any) -> Tensor:
        return affine_chain_reference(*inputs)


@dataclass(frozen=True)
class RasterCase(Case):
    """Shapes and options of one `rbf_rasterize` call. `channels` None means no weight, 0 a weight (B, T)."""

    op = "rbf_rasterize"
    differentiable = (0, 1, 2)
    batched = (0, 1, 2)
    batch: int = 3
    points: int = 7
    size: int | tuple[int, int] = (9, 6)
    bandwidth: float = 1.0
    cutoff: float | None = 1e-6
    channels: int | None = None

    @property
    def height_width(self) -> tuple[int, int]:
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def shape(self) -> tuple[int, ...]:
        return self.batch, *([self.channels] if self.channels else []), *self.height_width

    def inputs(
        self, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu"
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return points (B, T, 2) on and around the image, weight (B, T, C), (B, T) or None, bandwidth (B,).

        Every fourth point is on a multiple of half a pixel, where rounding can be a tie.
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

    def smooth_inputs(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return inputs for finite differences: points are 0.1 away from half pixels, where the window jumps."""
        points, weight, bandwidth = self.inputs()
        return points.floor() + 0.6 + 0.8 * points.frac().abs(), weight, bandwidth

    def run(self, points: Tensor, weight: Tensor | None, bandwidth: Tensor, *, backend: str | None) -> Tensor:
        options = {"bandwidth": bandwidth, "weight": weight, "cutoff": self.cutoff}
        return fractalops.rbf_rasterize(points, self.size, **options, backend=backend)

    def reference(self, points: Tensor, weight: Tensor | None, bandwidth: Tensor) -> Tensor:
        single = weight is None or weight.ndim == 2
        channels = weight[..., None] if weight is not None and single else weight
        images = rbf_rasterize_reference(points, channels, bandwidth, *self.height_width, self.cutoff or 0.0)
        return images[:, 0] if single else images


MODES = {"binary": torch.uint8, "density": torch.int32}


@dataclass(frozen=True)
class CountCase(Case):
    """Shapes of one `rasterize_points` call. The patch has `sides`; with `shared`, all images have the same patch."""

    op = "rasterize_points"
    batched = (0, 1)
    batch: int = 3
    points: int = 63
    size: tuple[int, int] = (9, 6)
    sides: tuple[int, int] | None = None
    shared: bool = False
    mode: str = "density"

    def __str__(self) -> str:
        return f"{super().__str__()}, {self.mode}"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.batch, *self.size

    def inputs(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor | None]:
        """Return the patch and points (B, T, 2) on and around the image, half of them at or near rounding ties."""
        generator = seeded(0)
        extent = torch.tensor(self.size, dtype=torch.float64)
        points = torch.rand(self.batch, self.points, 2, generator=generator, dtype=torch.float64)
        points = (points * (extent + 24) - 12).to(dtype)
        points[:, 1::4] = (points[:, 1::4] * 2).round() / 2
        tie = points[:, 3::4].floor() + 0.5
        points[:, 3::4] = torch.nextafter(tie, torch.full_like(tie, math.inf))
        if self.sides is None:
            return points, None
        shape = self.sides if self.shared else (self.batch, *self.sides)
        return points, torch.rand(shape, generator=generator) < 0.5

    def run(self, points: Tensor, patch: Tensor | None, *, backend: str | None) -> Tensor:
        return fractalops.rasterize_points(points, self.size, mode=self.mode, patch=patch, backend=backend)

    def reference(self, points: Tensor, patch: Tensor | None) -> Tensor:
        """Return the result, one stamp at a time. Python's `round` also rounds half to even."""
        patch = torch.ones(1, 1, dtype=torch.bool) if patch is None else patch
        patches = patch.expand(len(points), *patch.shape[-2:])
        top, left = patch.shape[-2] // 2, patch.shape[-1] // 2
        images = torch.zeros(len(points), *self.size, dtype=torch.int32)
        for image, cloud, marks in zip(images, points, patches, strict=True):
            for x, y in cloud[cloud.isfinite().all(1)].tolist():
                for row, column in (marks.nonzero() + torch.tensor([round(x) - top, round(y) - left])).tolist():
                    if 0 <= row < self.size[0] and 0 <= column < self.size[1]:
                        image[row, column] += 1
        return images.clamp(max=1).to(torch.uint8) if self.mode == "binary" else images


@dataclass(frozen=True)
class MatrixCase(Case):
    """The shape of one `svd_matrix` call, without the six parameters."""

    op = "svd_matrix"
    differentiable = (0,)
    batched = (0,)
    batch: tuple[int, ...] = (3,)
    singular_values: SingularValues = "sigmoid"

    @property
    def shape(self) -> tuple[int, ...]:
        return *self.batch, 2, 2

    def inputs(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor]:
        generator = seeded(0)
        return ((4 * torch.randn(*self.batch, 6, generator=generator, dtype=torch.float64)).to(dtype),)

    def run(self, svd: Tensor, *, backend: str | None) -> Tensor:
        return svd_matrix(svd, self.singular_values, backend=backend)

    def reference(self, svd: Tensor) -> Tensor:
        return svd_matrix_reference(svd.reshape(-1, 6), self.singular_values == "clamp").view(*svd.shape[:-1], 2, 2)


@dataclass(frozen=True)
class ErrorCase(Case):
    """The shape of the images of one `clamped_squared_error` call."""

    op = "clamped_squared_error"
    differentiable = (0,)
    batched = (0, 1)
    images: tuple[int, ...] = (3, 2, 5, 4)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images[:1]

    def inputs(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Return images (S, K, ...), a third of the pixels outside [0, 1] and some at 0 or 1, and targets (S, ...)."""
        generator = seeded(0)
        images = 1.5 * torch.rand(self.images, generator=generator, dtype=torch.float64) - 0.25
        images.view(-1)[::5] = 0.0
        images.view(-1)[2::5] = 1.0
        targets = torch.rand(self.images[0], *self.images[2:], generator=generator, dtype=torch.float64)
        return images.to(dtype), targets.to(dtype)

    def run(self, images: Tensor, targets: Tensor, *, backend: str | None) -> Tensor:
        return clamped_squared_error(images, targets, backend=backend)

    def reference(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the error by torch's own functions. The clamp's gradient is also 1 at 0 and 1."""
        limited = torch.where((images >= 0) & (images <= 1), images, images.detach().clamp(0, 1))
        return (limited - targets[:, None]).square().flatten(1).mean(dim=1)


@dataclass(frozen=True)
class DrawCase(Case):
    """Shapes of one `draw_index` call."""

    op = "draw_index"
    batched = (0, 1)
    systems: int = 3
    maps: int = 10
    draws: int = 63

    def inputs(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Return weights (S, N), some of them 0, and numbers (S, M), some on a bound between two maps."""
        generator = seeded(self.maps)
        weight = torch.rand(self.systems, self.maps, generator=generator, dtype=torch.float64)
        weight[:, 1 + self.maps % 2 :: 3] = 0  # of two maps, the last one is never drawn
        sums = weight.cumsum(1)
        bounds = (sums[:, :-1] / sums[:, -1:]).to(dtype)
        uniform = torch.rand(self.systems, self.draws, generator=generator, dtype=dtype)
        on_bound = min(self.maps - 1, self.draws)
        uniform[:, :on_bound] = bounds[:, :on_bound].clamp(max=1 - 2**-24)
        return weight, uniform

    def run(self, weight: Tensor, uniform: Tensor, *, backend: str | None) -> Tensor:
        return draw_index(weight, uniform, backend=backend)


@dataclass(frozen=True)
class BalancedCase(Case):
    """Shapes of one `draw_balanced_index` call."""

    op = "draw_balanced_index"
    batched = (0, 1)
    systems: int = 3
    sequences: int = 2
    maps: int = 10
    points: int = 63

    def inputs(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Return weights (S, N), some of them 0, and numbers (S, K, T), including the largest and the smallest.

        Some float32 numbers are not multiples of 2^-24, unlike those of `torch.rand`.
        """
        generator = seeded(self.maps)
        weight = torch.rand(self.systems, self.maps, generator=generator, dtype=torch.float64)
        weight[:, 2::3] = 0
        uniform = torch.rand(self.systems, self.sequences, self.points, generator=generator, dtype=dtype)
        uniform[..., ::7] = 1 - torch.finfo(dtype).eps / 2
        uniform[..., 3::7] = 0
        uniform[..., 5::7] *= 1e-3
        return weight, uniform

    def run(self, weight: Tensor, uniform: Tensor, *, backend: str | None) -> Tensor:
        return draw_balanced_index(weight, uniform, backend=backend)


@dataclass(frozen=True)
class MeansCase(Case):
    """Shapes of one `k_means` call."""

    op = "k_means"
    batched = (0, 1)
    systems: int = 3
    places: int = 63
    clusters: int = 10
    rounds: int = 3

    @property
    def shape(self) -> tuple[int, ...]:
        return self.systems, self.clusters, 2

    def inputs(self, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Return places (S, M, 2) and centers (S, N, 2). The last centers are too far away to get a place."""
        generator = seeded(self.clusters)
        places = torch.rand(self.systems, self.places, 2, generator=generator, dtype=torch.float64)
        centers = torch.rand(self.systems, self.clusters, 2, generator=generator, dtype=torch.float64)
        centers[:, 7:] += 9
        return places.to(dtype), centers.to(dtype)

    def run(self, places: Tensor, centers: Tensor, *, backend: str | None) -> Tensor:
        return k_means(places, centers, self.rounds, backend=backend)
