"""Random calls of the ops, with any shape, layout, dtype and values, and the allowed error of each result.

The allowed error is a multiple of a magnitude. The magnitude of an entry is the sum of the absolute values of its
terms, each multiplied by how much the term magnifies the rounding errors of its factors. It is infinite or NaN if there
is no bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

from fractalops.ops.affine_chain import affine_chain
from fractalops.ops.clamped_squared_error import clamped_squared_error
from fractalops.ops.draw_balanced_index import draw_balanced_index
from fractalops.ops.draw_index import draw_index
from fractalops.ops.draw_masks import draw_masks
from fractalops.ops.fixed_point import fixed_point
from fractalops.ops.k_means import k_means
from fractalops.ops.rasterize_orbit import rasterize_orbit
from fractalops.ops.rasterize_points import rasterize_points
from fractalops.ops.rbf_rasterize import rbf_rasterize
from fractalops.ops.svd_matrix import svd_matrix
from fractalops.reference.affine_chain import affine_chain as chain_reference
from tests.support.cases import Inputs, Result, seeded, value_and_gradients
from tests.support.tolerances import TOLERANCES

# The smallest normal number in units of a tolerance: smaller numbers may be treated as zero.
_FLOOR = {dtype: torch.finfo(dtype).tiny / tolerance for dtype, tolerance in TOLERANCES.items()}

# In float32, bumps with a bandwidth of at least 0.5 are polynomials (csrc/cpu/gaussian_polynomials.h). Far from the
# middle, their error is relative to the bump's largest value, not to the local value. In units of the tolerance: 3e-9.
_TAIL = 1e-3


@dataclass(frozen=True)
class Call:
    """A call of an op."""

    run: Callable[..., Tensor]
    """Takes the inputs and `backend`."""
    inputs: Inputs
    differentiable: tuple[int, ...] = ()
    magnitudes: Callable[[Inputs, Tensor], Result] | None = None
    """Returns the magnitudes of the value and the gradients, for inputs and an upstream gradient in float64.

    If None, the bits must be equal.
    """
    spreads: bool = True
    """If True, every result must be non-finite where the reference's is."""
    defined: bool = True
    """If False, the result is undefined: the call must return without an error."""


class Draw:
    """A generator of the random parts of a call."""

    def __init__(self, seed: str) -> None:
        self.random = Random(seed)
        self.generator = seeded(self.random.getrandbits(32))
        self.dtype = self.random.choice(list(TOLERANCES))
        self.wild = self.random.random() < 0.4

    def count(self, *choices: int, most: int = 300) -> int:
        """Return a length: one of `choices` if they are given, otherwise usually a small one."""
        if choices:
            return self.random.choice(choices)
        return min(
            most,
            self.random.choice((1, 1, 2, 2, 3, 3, 3, 5, 7, 8, 9, 17, 33) if self.random.random() < 0.97 else (63, 300)),
        )

    def numbers(self, *shape: int, low: float | None = None, high: float = 1.0) -> Tensor:
        """Return normal numbers, or uniform ones from `low` to `high`. Wild calls have any scale and special values."""
        options: dict[str, Any] = {"generator": self.generator, "dtype": torch.float64}
        values = torch.randn(shape, **options) if low is None else low + (high - low) * torch.rand(shape, **options)
        if self.wild:
            values = values * self.random.choice((1.0, 1.0, 1.0, 1e-3, 1e3, 1e-20, 1e-42, 1e30))
            for _ in range(self.random.choice((0, 1, 1, 3)) if values.numel() else 0):
                special = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-42, 5e-320, 1e30, -1e30, 1e9, 0.5, 1.0)
                values.view(-1)[self.random.randrange(values.numel())] = self.random.choice(special)
        return self.laid_out(values.to(self.dtype))

    def laid_out(self, values: Tensor) -> Tensor:
        """Return the values in any layout. An expanded layout repeats the first row."""
        kind = self.random.randrange(12)
        if kind == 0 and values.dim() > 1:
            return values.mT.contiguous().mT
        if kind == 1:
            return torch.stack([values, values], dim=-1)[..., 0]
        if kind == 2 and values.dim() > 0 and len(values):
            return values[:1].expand_as(values)
        if kind == 3 and values.dim() > 0:
            return torch.cat([values[:0], values, values])[: len(values)]
        if kind == 4 and values.dim() > 2:
            order = self.random.sample(range(values.dim()), values.dim())
            return values.permute(order).contiguous().permute([order.index(axis) for axis in range(values.dim())])
        if kind == 5 and values.dtype.is_floating_point:
            return torch._neg_view(-values)
        return values


def _chain(draw: Draw) -> Call:
    batch, points, maps = draw.count(0, 1, 2, 3, 9, 33), draw.count(), draw.count(1, 1, 2, 3, 10, 63, 300)
    dimensions = draw.count(2, 3)
    kinds = (torch.uint8, torch.int32, torch.int64)[maps > 256 :]
    index = torch.randint(maps, (batch, points), generator=draw.generator).to(draw.random.choice(kinds))
    matrix = draw.numbers(maps, dimensions, dimensions) * draw.random.choice((0.3, 0.6, 1.2))
    start = (batch, dimensions) if draw.random.random() < 0.7 else (dimensions,)
    inputs = [matrix, draw.numbers(maps, dimensions), draw.laid_out(index), draw.numbers(*start)]
    places = (0, 1, 3)

    def reference(matrix: Tensor, offset: Tensor, index: Tensor, start: Tensor) -> Tensor:
        return chain_reference(matrix, offset, index, start.expand(len(index), dimensions))

    def magnitudes(inputs: Inputs, upstream: Tensor) -> Result:
        """The magnitudes of a sum of products are its value and gradients for absolute values."""
        floor = _FLOOR[draw.dtype]
        sizes = [each.abs() + floor if each is not None and each.is_floating_point() else each for each in inputs]
        value, gradients = value_and_gradients(reference, sizes, upstream.abs() + floor, places)
        gradients = [each + floor for each in gradients]
        # A value outside the dtype's range invalidates later values, and gradients that flow back through it.
        most = torch.finfo(draw.dtype).max / 1024
        left = ~(value < most).all(-1)  # (B, T)
        inside = not left.any() and bool((gradients[1] < most).all())
        value = value.masked_fill((left.cumsum(1) > 0)[..., None], math.inf)
        return value, gradients if inside else [each * math.nan for each in gradients]

    return Call(affine_chain, inputs, places, magnitudes)


def _bumps(draw: Draw) -> Call:
    batch, points = draw.count(0, 1, 1, 2, 3, 9), draw.count()
    size = draw.count(1, 2, 7, 9, 17, 32), draw.count(1, 3, 6, 8, 16, 33)
    if draw.random.random() < 0.01:
        size = (63, 300)
    places = draw.numbers(batch, points, 2, low=-4.0, high=max(size) + 3.0)
    if draw.random.random() < 0.3:
        places = (places * 2).round() / 2  # halfway between pixels
    channels = draw.random.choice((None, 0, 1, 2, 3, 5))
    weight = None
    if channels is not None:
        weight = draw.numbers(*((batch, points, channels) if channels else (batch, points)))
    bandwidth: Any = 10 ** draw.random.uniform(-1, 2)
    if draw.random.random() < 0.1:
        bandwidth = draw.random.choice((1e-37, 1e-30, 1e-6, 1e4, 1e10, 1e30, 8.5e37))
    bandwidth = torch.full((batch,), bandwidth, dtype=draw.dtype)
    if draw.random.random() < 0.7:
        bandwidth = draw.laid_out(
            (bandwidth * (0.5 + 0.5 * torch.rand(batch, generator=draw.generator))).to(draw.dtype)
        )
    bandwidth = bandwidth.clamp(min=torch.finfo(draw.dtype).tiny)
    cutoff = draw.random.choice((None, 1e-6, 1e-6, 1e-2, 0.5, 0.999, 1e-30, 1e-300))

    def run(points: Tensor, weight: Tensor | None, bandwidth: Tensor, backend: str) -> Tensor:
        return rbf_rasterize(points, size, bandwidth=bandwidth, weight=weight, cutoff=cutoff, backend=backend)  # type: ignore[arg-type]

    def magnitudes(inputs: Inputs, upstream: Tensor) -> Result:
        return bump_magnitudes(*inputs, upstream, size, cutoff or 0.0, draw.dtype)  # type: ignore[misc, arg-type]

    return Call(
        run, [places, weight, bandwidth], (0, 1, 2) if weight is not None else (0, 2), magnitudes, spreads=False
    )


def bump_magnitudes(
    points: Tensor,  # (B, T, 2)
    weight: Tensor | None,  # (B, T, C), (B, T) or None
    bandwidth: Tensor,  # (B,)
    upstream: Tensor,  # (B, C, H, W) or (B, H, W)
    size: tuple[int, int],
    cutoff: float,
    dtype: torch.dtype,
) -> Result:
    """Return magnitudes. A bump `exp(-q)` magnifies the rounding error of q by q; its tables may lose tiny values."""
    single = weight is None or weight.dim() == 2
    finite = points.isfinite().all(-1)  # (B, T)
    size_of = torch.ones_like(points[..., :1]) if weight is None else (weight[..., None] if single else weight).abs()
    size_of = torch.where(finite[..., None], size_of, 0.0)  # (B, T, C)
    tau = bandwidth[:, None, None]  # (B, 1, 1)
    tail = _TAIL * (tau >= 0.5) if dtype == torch.float32 else 0.0
    tables = []
    for axis, length in enumerate(size):
        place = torch.where(finite, points[..., axis], 0.0)
        pixel = torch.arange(length, dtype=torch.float64)
        distance = place[..., None] - pixel  # (B, T, L)
        exponent = distance.square() / tau
        reach = torch.ones_like(exponent, dtype=torch.bool)
        if cutoff > 0:
            radius = ((tau * -math.log(cutoff)).sqrt() - 0.5).ceil().clamp(min=0)
            reach = (place.round()[..., None] - pixel).abs() <= radius
        value = torch.exp(-exponent) * reach
        bump = (value * (1 + exponent.clamp(max=1e3)) + (_FLOOR[dtype] + tail) * reach) * finite[..., None]
        near = (distance.abs() + _FLOOR[dtype]) * reach
        tables.append(
            (
                bump,
                torch.where(value > 0, 2 * near / tau, 0.0),
                torch.where(value > 0, (exponent + _FLOOR[dtype] / tau) / tau, 0.0),
            )
        )
    (rows, rows_point, rows_tau), (columns, columns_point, columns_tau) = tables
    grad = upstream.abs() if not single else upstream.abs()[:, None]  # (B, C, H, W)
    image = torch.einsum("btc,bth,btw->bchw", size_of, rows, columns)
    # If a product of tables is below the range, it is lost before it is multiplied by other factors.
    image = image + _FLOOR[dtype] * (1 + size_of).sum(1)[..., None, None]
    lost = _FLOOR[dtype] * (1 + grad).sum((2, 3))[:, None]  # (B, 1, C)

    def against(one: Tensor, other: Tensor) -> Tensor:
        return torch.einsum("bchw,bth,btw->btc", grad, one, other)

    def with_lost(of_rows: Tensor, of_columns: Tensor) -> Tensor:
        """Return both derivatives (B, T, C, 2), for tables with these slopes."""
        sums = against(rows * of_rows, columns), against(rows, columns * of_columns)
        slopes = (1 + slope.amax(-1, keepdim=True) for slope in (of_rows, of_columns))  # each (B, T, 1)
        parts = [one * size_of + lost * (1 + size_of) * slope for one, slope in zip(sums, slopes, strict=True)]
        return torch.stack(parts, -1)

    of_point, of_tau = with_lost(rows_point, columns_point), with_lost(rows_tau, columns_tau)
    gradients = [of_point.sum(2), of_tau.sum((1, 2, 3))]  # (B, T, 2), (B,)
    if weight is not None:
        of_weight = (against(rows, columns) + lost) * finite[..., None]  # (B, T, C)
        gradients.insert(1, of_weight[..., 0] if single else of_weight)
    # If an intermediate product of factors leaves the range, the gradients are invalid.
    parts = (size_of, grad, torch.where(finite[..., None], points, 0.0).abs())
    if (
        math.prod(max(1.0, float(part.max())) if part.numel() else 1.0 for part in parts)
        > torch.finfo(dtype).max / 1024
    ):
        gradients = [each * math.nan for each in gradients]
    return image[:, 0] if single else image, gradients


def _matrices(draw: Draw) -> Call:
    shape = draw.random.choice(((), (0,), (1,), (3,), (2, 7), (63,), (300,)))
    singular_values = draw.random.choice(("sigmoid", "clamp"))
    inputs = [draw.numbers(*shape, 6) * draw.random.choice((1.0, 3.0))]

    def magnitudes(inputs: Inputs, upstream: Tensor) -> Result:
        """Angles are reduced and added in float64, whose rounding errors remain."""
        svd = inputs[0]
        assert svd is not None
        clamped = singular_values == "clamp"
        turned = svd[..., :2].abs().sum(-1)  # (...)
        unsure = 1 + turned * (1e-15 / TOLERANCES[draw.dtype])
        values = svd[..., 2:4].clamp(0, 1) if clamped else svd[..., 2:4].sigmoid()
        size = (values.sum(-1) * unsure + _FLOOR[draw.dtype])[..., None]  # (..., 1)
        grad = upstream.abs().sum((-2, -1))[..., None]  # (..., 1)
        slope = torch.ones_like(values) if clamped else values * (1 - values) + _FLOOR[draw.dtype]
        parts = torch.cat((size, size, slope * unsure[..., None], size, size), -1)  # (..., 6)
        whole = svd.isfinite().all(-1, keepdim=True)  # (..., 1): otherwise its map is invalid
        size = torch.where(whole, size, math.nan)[..., None].expand(*svd.shape[:-1], 2, 2)
        return size, [torch.where(whole, grad * parts + _FLOOR[draw.dtype], math.nan)]

    def run(svd: Tensor, backend: str) -> Tensor:
        return svd_matrix(svd, singular_values, backend=backend)  # type: ignore[arg-type]

    return Call(run, inputs, (0,), magnitudes, spreads=False)


def _errors(draw: Draw) -> Call:
    systems, rest = draw.count(0, 1, 2, 5), (draw.count(1, 3, 7, 16), draw.count(1, 4, 9, 33))
    channels = draw.random.choice(((), (1,), (3,)))
    images = draw.numbers(systems, draw.count(1, 2, 7), *channels, *rest, low=-0.3, high=1.3)
    targets = draw.numbers(systems, *channels, *rest, low=0.0)

    def magnitudes(inputs: Inputs, upstream: Tensor) -> Result:
        images, targets = inputs
        assert images is not None
        assert targets is not None
        inside = images.clamp(0, 1) + targets.abs()[:, None] + _FLOOR[draw.dtype]
        count = max(1, images[:1].numel())
        grad = (upstream.abs() * 2 / count + _FLOOR[draw.dtype]).view(-1, *[1] * (images.dim() - 1)) * inside + _FLOOR[
            draw.dtype
        ]
        return inside.square().flatten(1).mean(1) + _FLOOR[draw.dtype], [grad]

    return Call(clamped_squared_error, [images, targets], (0,), magnitudes)


def _fixed_points(draw: Draw) -> Call:
    shape = draw.random.choice(((), (0,), (1,), (3,), (2, 7), (63,), (300,)))
    inputs, floor = [draw.numbers(*shape, 2, 2), draw.numbers(*shape, 2)], _FLOOR[draw.dtype]

    def magnitudes(inputs: Inputs, upstream: Tensor) -> Result:
        """By Cramer's rule. There is no bound if the determinant is only rounding error or a product overflows."""
        matrix, offset = inputs
        assert matrix is not None
        assert offset is not None
        (a, b), (c, d) = (row.unbind(-1) for row in matrix.unbind(-2))
        sizes = (1 + a.abs()) * (1 + d.abs()) + (b * c).abs()
        determinant = ((1 - a) * (1 - d) - b * c).abs()
        x, y = offset.abs().unbind(-1)
        numerator = torch.stack(((1 + d.abs()) * x + b.abs() * y, (1 + a.abs()) * y + c.abs() * x), -1) + floor
        most = torch.finfo(draw.dtype).max / 4
        certain = (determinant > 10 * TOLERANCES[draw.dtype] * sizes) & (sizes < most) & (numerator < most).all(-1)
        return torch.where(certain, 4 * sizes / determinant.square(), math.inf)[..., None] * numerator + floor, []

    return Call(fixed_point, inputs, (), magnitudes, spreads=False)


def _counts(draw: Draw) -> Call:
    batch, points = draw.count(0, 1, 2, 5), draw.count()
    size = draw.count(1, 2, 9, 31, 64), draw.count(1, 3, 17, 32, 70)
    places = draw.numbers(batch, points, 2, low=-9.0, high=max(size) + 8.0)
    if draw.random.random() < 0.5:
        places = (places * 2).round() / 2
    sides = draw.count(1, 3, 5, 15), draw.count(1, 3, 7, 15)
    patch = None
    if draw.random.random() < 0.7:
        shape = sides if draw.random.random() < 0.3 else (batch, *sides)
        patch = draw.laid_out(torch.randint(3, shape, generator=draw.generator, dtype=torch.uint8))
    mode = draw.random.choice(("binary", "density"))

    def run(points: Tensor, patch: Tensor | None, backend: str) -> Tensor:
        return rasterize_points(points, size, mode=mode, patch=patch, backend=backend)  # type: ignore[arg-type]

    return Call(run, [places, patch])


def _weights(draw: Draw, systems: int, maps: int) -> Tensor:
    weight = draw.numbers(systems, maps).abs()
    return torch.where(torch.rand(weight.shape, generator=draw.generator) < 0.2, 0.0, weight).to(draw.dtype)


def _uniform(draw: Draw, *shape: int) -> Tensor:
    values = torch.rand(shape, generator=draw.generator, dtype=draw.dtype)
    edges = (0.0, 0.5, 0.25, 1 - torch.finfo(draw.dtype).eps / 2)
    for _ in range(min(3, values.numel())):
        values.view(-1)[draw.random.randrange(values.numel())] = draw.random.choice(edges)
    return draw.laid_out(values)


def _draws(draw: Draw) -> Call:
    systems, maps = draw.count(0, 1, 2, 5), draw.count(1, 2, 3, 10, 33, 256, 257, 300)
    floor = draw.random.choice((0.0, 0.0, 1e-3, 0.5, 1e-30))
    inputs = [_weights(draw, systems, maps), _uniform(draw, systems, draw.count(0, 1, 3, 63, 300))]
    return Call(lambda *inputs, backend: draw_index(*inputs, floor, backend=backend), inputs)


def _balanced_draws(draw: Draw) -> Call:
    systems, maps = draw.count(0, 1, 2, 3), draw.count(1, 2, 3, 8, 10, 17, 256, 300)
    floor = draw.random.choice((0.0, 0.0, 1e-3, 0.5, 1e-30))
    inputs = [_weights(draw, systems, maps), _uniform(draw, systems, draw.count(1, 2, 6), draw.count(1, 3, 20, 63))]
    return Call(lambda *inputs, backend: draw_balanced_index(*inputs, floor, backend=backend), inputs)


def _means(draw: Draw) -> Call:
    systems, rounds = draw.count(0, 1, 2, 3), draw.count(0, 1, 3)
    inputs = [
        draw.numbers(systems, draw.count(0, 1, 3, 17, 63), 2),
        draw.numbers(systems, draw.count(1, 2, 3, 10, 63), 2),
    ]
    defined = all(bool((each.abs() < 1e15).all()) for each in inputs)  # their squares are finite, too
    return Call(lambda *inputs, backend: k_means(*inputs, rounds, backend=backend), inputs, defined=defined)


def _masks(draw: Draw) -> Call:
    edges = (0, 1, 2**31 - 1, 2**32, 2**63 - 1)
    seed = [draw.random.choice((*edges, draw.random.getrandbits(40))) for _ in range(draw.count(0, 1, 2, 9))]
    count = draw.count(1, 2, 3, 63, 300, 700)
    return Call(lambda seed, backend: draw_masks(seed, count, backend=backend), [torch.tensor(seed, dtype=torch.int64)])


def _orbits(draw: Draw) -> Call:
    draw.dtype = torch.float64
    batch, maps, points = draw.count(0, 1, 2), draw.count(1, 2, 3, 7), draw.count(1, 2, 3, 17, 63, 200)
    size, padding = (draw.count(13, 14, 20), draw.count(13, 17, 32)), draw.count(1, 2, 6)
    parts = draw.numbers(batch, maps, 2, 2), draw.numbers(batch, maps, 2)
    shares = torch.rand(batch, maps, generator=draw.generator, dtype=torch.float64)
    inputs = [
        *parts,
        shares / shares.sum(1, keepdim=True) * draw.random.choice((1.0, 0.5)),
        _uniform(draw, batch, points),
    ]
    if draw.random.random() < 0.5:
        inputs.append(draw_masks(torch.arange(batch), points + 1))

    def run(*inputs: Any, backend: str) -> Tensor:
        mask = inputs[4] if len(inputs) > 4 else None
        return rasterize_orbit(*inputs[:4], size, padding=padding, mask=mask, backend=backend)  # type: ignore[arg-type]

    return Call(run, inputs)


CALLS: dict[str, Callable[[Draw], Call]] = {
    "affine_chain": _chain,
    "rbf_rasterize": _bumps,
    "rasterize_points": _counts,
    "svd_matrix": _matrices,
    "clamped_squared_error": _errors,
    "draw_index": _draws,
    "draw_balanced_index": _balanced_draws,
    "fixed_point": _fixed_points,
    "k_means": _means,
    "draw_masks": _masks,
    "rasterize_orbit": _orbits,
}
"""Calls by the op's name. `learn_steps` is compared with a loop, in `tests.fuzz.test_ops`."""
