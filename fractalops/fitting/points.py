"""`fit_points`: learn a system whose points match a cloud (the paper names systems in space as future work)."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from fractalops._checks import check_floating, check_tensor, or_default, shape_error
from fractalops.fitting.config import FitConfig
from fractalops.fitting.contractions import contraction, contraction_parameters
from fractalops.fitting.copies import first_copies
from fractalops.fitting.distances import chamfer_distance, kernel_distance, mean_kernel, nearest
from fractalops.fitting.optimizers import make_optimizer
from fractalops.fitting.point_result import BURN_IN, PointConfig, PointFitResult
from fractalops.io.progress import progress_bar
from fractalops.ops.affine_chain import affine_chain
from fractalops.reference.probabilities import raise_to_floor
from fractalops.reference.without_autocast import in_float32
from fractalops.sampling import sample_index
from fractalops.systems import System

_FLOOR = 1e-3  # smallest probability of a map, before the probabilities are scaled to the sum 1
_SHARES_EVERY = 10  # steps between two updates of the probabilities
_SHARES_PACE = 0.2  # fraction of the way that an update moves the probabilities
_LARGEST = 1e30  # largest coordinate, so that squares of distances are finite
_FLAT = 1e-4  # relative to the extent: points this near to a line count as on it, because text files are rounded
_ROUNDING = 4  # rounding error of computed points, in units of the dtype's precision
_MOST_SPREAD = 5000  # number of the target's points from which the mean kernel is computed


class _Learning:
    """The state of learning: the normalized cloud, the maps and the losses.

    The cloud is shifted and scaled to the mean 0 and the root mean square radius 1. In these units float32 is precise
    enough for any target, even for float64 coordinates such as eastings and northings.
    """

    def __init__(self, target: Tensor, config: PointConfig) -> None:
        self.dtype = torch.float64 if target.dtype == torch.float64 else torch.float32  # dtype of the result
        exact = target.double()
        self.center = exact.mean(0)  # (D,)
        self.radius = float((exact - self.center).square().sum(1).mean().sqrt())
        self.cloud = ((exact - self.center) / self.radius).float()  # (P, D)
        self.config = config
        self.generator = torch.Generator(device=target.device).manual_seed(config.seed % 2**63)
        matrix, offset, self.shares = first_copies(self.cloud, config.maps, self.generator)
        self.parameters = [
            contraction_parameters(matrix.double()).float().requires_grad_(),  # (N, D, D)
            offset.requires_grad_(),  # (N, D)
        ]
        self.losses = self.cloud.new_empty(config.steps)  # (steps,); the first `done` values are valid
        self.done = 0  # number of steps that were run
        few = self.cloud[self._pick(_MOST_SPREAD)] if config.loss == "kernel" else self.cloud[:1]
        self.spread = mean_kernel(few)

    def _pick(self, count: int) -> Tensor:
        """Return the indices (count,) of different points of the target, or of all points if there are fewer."""
        return torch.randperm(len(self.cloud), generator=self.generator, device=self.cloud.device)[:count]

    def probabilities(self) -> Tensor:
        """Return the probabilities of the maps, (N,)."""
        return raise_to_floor(self.shares[None], _FLOOR)[0]

    def step(self) -> Tensor:
        """Return the differentiable loss () of new chains.

        The chains start at points of the target. After one map, the points are images of the target under the maps.
        Their distance to the target bounds the distance of the attractor by the collage theorem (Barnsley 1985). After
        more maps, the points approach the attractor. No steps of a chain are dropped, and all steps contribute to the
        gradient.
        """
        config, count = self.config, len(self.cloud)
        length = min(config.length, config.points)
        sequences = math.ceil(config.points / length)
        index = sample_index(self.probabilities()[None], sequences, length, self.generator)[0]  # (K, T)
        first = torch.randint(count, (sequences,), generator=self.generator, device=self.cloud.device)
        matrix, offset = contraction(self.parameters[0]), self.parameters[1]
        chain = affine_chain(matrix, offset, index, self.cloud[first])  # (K, T, D)
        points, target_points = chain.flatten(0, 1), self.cloud[self._pick(config.points)]  # (M, D), (M, D)
        if self.done % _SHARES_EVERY == 0:
            self._update_shares(index.flatten(), points.detach(), target_points)
        if config.loss == "chamfer":
            return chamfer_distance(points, target_points)
        return kernel_distance(points, target_points, spread=self.spread)

    def _update_shares(self, index: Tensor, points: Tensor, target_points: Tensor) -> None:
        """Move each map's probability toward the fraction of the target to which its points are nearest.

        A map whose points are too dense for its part of the target gets a smaller probability. `|det A|` achieves this
        only in the plane, for images that do not overlap. It is wrong for flat maps, such as that of a stem in space.
        """
        _, owner = nearest(points, target_points)  # (P,)
        found = torch.bincount(index[owner].long(), minlength=len(self.shares)).to(self.shares) / len(owner)  # (N,)
        self.shares = self.shares.lerp(found, _SHARES_PACE)

    @torch.no_grad()
    def system(self) -> System:
        """Return the current system, in normalized units."""
        return System(contraction(self.parameters[0]), self.parameters[1].detach().clone(), self.probabilities())


class _Evaluation:
    """Chamfer distances between new points of a system and a part of the target, as fractions of its diameter."""

    def __init__(self, learning: _Learning) -> None:
        cloud, self.config = learning.cloud, learning.config
        generator = torch.Generator(device=cloud.device).manual_seed(learning.config.seed % 2**63)
        order = torch.randperm(len(cloud), generator=generator, device=cloud.device)
        count = min(len(cloud) // 2, self.config.evaluation_points)
        self.part, other = cloud[order[:count]], cloud[order[count : 2 * count]]  # (Q, D)
        self.diameter = float(torch.linalg.vector_norm(cloud.amax(0) - cloud.amin(0)))
        self.halves_chamfer = self._distance(other)

    def _distance(self, points: Tensor) -> float:
        return float(chamfer_distance(points, self.part)) / self.diameter

    def __call__(self, system: System) -> float:
        # With the same random numbers each time, only the systems differ.
        generator = torch.Generator(device=self.part.device).manual_seed(self.config.seed % 2**63)
        return self._distance(system.points(len(self.part), burn_in=BURN_IN, generator=generator))


def _check_target(target: Tensor) -> Tensor:
    check_tensor("fit_points", target=target)
    check_floating("fit_points", target=target)
    if target.dim() != 2 or target.shape[1] not in (2, 3) or len(target) == 0:
        raise shape_error("fit_points", "target", "(P, 3) or (P, 2) with P >= 1", target)
    broken = int((~target.isfinite()).any(1).sum())
    if broken:
        raise ValueError(f"fit_points: target must be finite, got {broken} points with NaN or infinite coordinates")
    if (reason := why_degenerate(target)) is not None:
        raise ValueError(f"fit_points: target {reason}")
    return target.detach().clone()


def why_degenerate(points: Tensor) -> str | None:
    """Return why finite points (P, D) can't be learned, as "must ..., got ...", or None if they can.

    The points must span a plane or space. Points on a line and coinciding points do not, up to rounding.
    """
    points = points.detach()
    largest = float(points.abs().amax())
    if largest > _LARGEST:
        return f"must have coordinates in [-{_LARGEST:g}, {_LARGEST:g}], got {largest:g}"
    exact = points.double()
    apart = exact - exact.mean(0)  # (P, D)
    extent = float(apart.abs().amax())
    rounding = max(_ROUNDING * torch.finfo(points.dtype).eps * largest, 1 / _LARGEST)
    got = f"{len(points)} points that coincide" if len(points) > 1 else "one point"
    if extent > rounding:
        apart /= extent  # without this, squares could underflow or overflow
        squares = torch.linalg.eigvalsh(apart.T @ apart / len(points))  # (D,), ascending; (0, ..., 0, x) on a line
        if extent * float(squares[-2].clamp(min=0).sqrt()) > max(_FLAT * extent, rounding):
            return None
        got = f"{len(points)} points on a line"
    return f"must span a plane or space, got {got}"


@in_float32
def fit_points(target: Tensor, config: PointConfig | None = None, *, progress: bool = False) -> PointFitResult:
    """Learn an iterated function system in space, or in the plane, whose attractor matches a cloud of points.

    The initial maps move smaller copies of the cloud onto parts of it; see `first_copies`. Adam minimizes a distance
    between points of random chains and points of the cloud, by default the Chamfer distance:

        loss = (mean_x min_y |x - y| + mean_y min_x |x - y|) / 2

    The maps remain contractions; see `contraction`. The paper names systems in space as future work.

    The target is centered in float64 and learned in float32. On a CPU, the same seed gives the same result. On Ctrl-C,
    the function stops learning and returns the result so far, with `result.interrupted` set.

    Args:
        target: Finite points that are not all on one line; shape (P, 3) or (P, 2), any floating dtype. Learning runs on
            their device.
        config: The settings. None (default) uses the default settings.
        progress: Whether to show a progress bar. Default: False.

    Returns:
        A `PointFitResult` with the learned system in the units of the target, its losses and its errors. The maps are
        float64 if the target is float64 (as from `read_point_cloud`), else float32.

    Raises:
        ValueError: If the shape of `target` is wrong, or its points are not finite, are on one line, or coincide.
        TypeError: If an argument has the wrong type or dtype.
        KeyboardInterrupt: On Ctrl-C before the first step, and on a second Ctrl-C.

    Examples:
        >>> import torch
        >>> import fractalops
        >>> sphere = torch.nn.functional.normalize(torch.randn(2000, 3), dim=1)
        >>> result = fractalops.fit_points(sphere, fractalops.PointConfig(steps=20))
        >>> result.sample(10_000).shape
        torch.Size([10000, 3])
    """
    config = or_default("fit_points", "config", config, PointConfig)
    began = time.perf_counter()
    # Learning needs gradients, even if the caller has disabled them. It can't use inference tensors.
    with torch.inference_mode(False), torch.enable_grad():
        learning = _Learning(_check_target(target), config)
        evaluate = _Evaluation(learning)
        start = evaluate(learning.system())
        optimize = make_optimizer(learning.parameters, FitConfig(optimizer="adam"))
        interrupted = False
        try:
            with progress_bar(config.steps, "step", "fit points", shown=progress) as bar:
                while learning.done < config.steps:
                    loss = learning.step()
                    for parameter in learning.parameters:
                        parameter.grad = None
                    loss.backward()
                    optimize(config.learning_rate_at(learning.done))
                    learning.losses[learning.done] = loss.detach()
                    learning.done += 1
                    bar.update()
        except KeyboardInterrupt:
            interrupted = True
        return _result(learning, evaluate, start, began, interrupted)


def _result(
    learning: _Learning, evaluate: _Evaluation, start: float, began: float, interrupted: bool
) -> PointFitResult:
    system = learning.system()
    center = learning.center
    # Conversion to the target's units: v = c + r u gives the offset b' = r b + c - A c.
    matrix = system.matrix.double()  # (N, D, D)
    moved = learning.radius * system.offset.double() + center - matrix @ center  # (N, D)
    return PointFitResult(
        matrix=matrix.to(learning.dtype),
        offset=moved.to(learning.dtype),
        probabilities=system.probabilities,
        config=learning.config,
        losses=learning.losses[: learning.done].clone(),
        chamfer=evaluate(system),
        start_chamfer=start,
        halves_chamfer=evaluate.halves_chamfer,
        diameter=evaluate.diameter * learning.radius,
        seconds=time.perf_counter() - began,
        interrupted=interrupted,
    )
