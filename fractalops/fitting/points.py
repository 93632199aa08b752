"""`fit_points`: a system whose points match a cloud (the paper names systems in space as future work)."""

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

_FLOOR = 1e-3  # the least probability of a map, before they are scaled to sum 1
_SHARES_EVERY = 10  # steps from one look at the maps' shares to the next
_SHARES_PACE = 0.2  # how much a look changes the probabilities
_LARGEST = 1e30  # coordinate: squares of distances stay finite
_FLAT = 1e-4  # of their extent: points that lie less beside a line lie on it, as rounded in a text
_ROUNDING = 4  # times the dtype's precision: what points that were computed are off
_MOST_SPREAD = 5000  # points of the target whose mean kernel is taken


class _Learning:
    """A run: the cloud in units in which its mean is 0 and its root mean square radius 1, the maps, the losses.

    These units are float32, whatever the target's dtype: around its center a cloud has few digits, also one of
    eastings and northings.
    """

    def __init__(self, target: Tensor, config: PointConfig) -> None:
        self.dtype = torch.float64 if target.dtype == torch.float64 else torch.float32  # of what is learned
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
        self.losses = self.cloud.new_empty(config.steps)  # (steps,), of those that were run
        self.done = 0  # how many were
        few = self.cloud[self._pick(_MOST_SPREAD)] if config.loss == "kernel" else self.cloud[:1]
        self.spread = mean_kernel(few)

    def _pick(self, count: int) -> Tensor:
        """Return indices (count,) of different points of the target, or all of them if there are fewer."""
        return torch.randperm(len(self.cloud), generator=self.generator, device=self.cloud.device)[:count]

    def probabilities(self) -> Tensor:
        """Return the probability of each map (N,)."""
        return raise_to_floor(self.shares[None], _FLOOR)[0]

    def step(self) -> Tensor:
        """Return the loss () of new chains, ready for backward.

        They start at points of the target. What the first map makes of them compares the target with its images under
        the maps, of which the collage theorem (Barnsley 1985) says how near the attractor is; what later ones make of
        them are ever more points of the attractor. A chain needs no steps to settle, and gradients start at once.
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
            self._look_at_shares(index.flatten(), points.detach(), target_points)
        if config.loss == "chamfer":
            return chamfer_distance(points, target_points)
        return kernel_distance(points, target_points, spread=self.spread)

    def _look_at_shares(self, index: Tensor, points: Tensor, target_points: Tensor) -> None:
        """Move the probabilities towards the shares of the target to which each map's points are nearest.

        A map that draws more points than its part of the target has gets fewer: what `|det A|` does in the plane only
        where images don't overlap, and not for maps that are flat, as a stem's is in space.
        """
        _, owner = nearest(points, target_points)  # (P,)
        found = torch.bincount(index[owner].long(), minlength=len(self.shares)).to(self.shares) / len(owner)  # (N,)
        self.shares = self.shares.lerp(found, _SHARES_PACE)

    @torch.no_grad()
    def system(self) -> System:
        """Return the present system, in units of the cloud."""
        return System(contraction(self.parameters[0]), self.parameters[1].detach().clone(), self.probabilities())


class _Evaluation:
    """The Chamfer distances of fresh points to a part of the target, in diameters of the target."""

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
        # The same random numbers each time: what differs are the systems.
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
    """Return why finite points (P, D) can't be learned, as "must ..., got ..."; None where they can.

    Learning is of points that span a plane or space. Those of a line, or of one place, don't, up to their rounding.
    """
    points = points.detach()
    largest = float(points.abs().amax())
    if largest > _LARGEST:
        return f"must lie within {_LARGEST:g} of the origin, got {largest:g}"
    exact = points.double()
    apart = exact - exact.mean(0)  # (P, D)
    extent = float(apart.abs().amax())
    rounding = max(_ROUNDING * torch.finfo(points.dtype).eps * largest, 1 / _LARGEST)
    got = f"{len(points)} points that coincide" if len(points) > 1 else "one point"
    if extent > rounding:
        apart /= extent  # far from 1, squares would vanish or overflow
        squares = torch.linalg.eigvalsh(apart.T @ apart / len(points))  # (D,), ascending; the last is along the line
        if extent * float(squares[-2].clamp(min=0).sqrt()) > max(_FLAT * extent, rounding):
            return None
        got = f"{len(points)} points on a line"
    return f"must span a plane or space, got {got}"


@in_float32
def fit_points(target: Tensor, config: PointConfig | None = None, *, progress: bool = False) -> PointFitResult:
    """Learn an iterated function system in space, or in the plane, whose points match a cloud.

    The maps start as smaller copies of the cloud (`first_copies`), stay contractive (`contraction`) and are learned by
    Adam on a distance between points of the chain and of the cloud. The paper names systems in space as future work.

    Args:
        target: (P, 3) or (P, 2), finite, not all on one line; floating-point. Where it lies, it runs. It is centered in
            float64 and learned in float32.
        config: the settings; None takes the default ones.
        progress: show a progress bar.

    Returns:
        The learned system, in the target's units, its losses and distances; on a CPU the same for the same seed. The
        maps are float64 for a target of float64, as `read_point_cloud` returns it, else float32.
        Ctrl-C ends the learning and returns the result so far, with `result.interrupted`.

    Raises:
        ValueError, TypeError: for a target or a configuration of the wrong shape, type or range, and for a target whose
            points lie on a line or coincide.
        KeyboardInterrupt: on Ctrl-C before the first step, and on a second one.
    """
    config = or_default("fit_points", "config", config, PointConfig)
    began = time.perf_counter()
    # Learning needs gradients even where the caller has turned them off, and then tensors made outside that mode.
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
    # In the target's units: v = c + r u makes b' = r b + c - A c of b.
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
