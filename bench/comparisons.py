"""The named comparisons of `python -m bench`: each gives the rows of a table, with the target where there is one."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

import fractalops
from bench import agreement, point_counting, subjects
from bench.agreement import disagreement
from bench.cases import LARGE, PAPER, Case
from bench.importing import UNWANTED, import_modules
from bench.memory import memory_growth
from bench.timing import Spread, interleaved, ratios, torch_threads

THREADS = [count for count in (1, 2) if count <= len(os.sched_getaffinity(0))]


@dataclass(frozen=True)
class Row:
    """One figure. The target bounds the ratio where there is a baseline, else what was measured."""

    what: str
    threads: int
    unit: str = "ms"
    measured: Spread | None = None
    baseline: Spread | None = None
    ratio: Spread | None = None
    target: str = ""  # "at least 150", "at most 40" or nothing
    problem: str = ""  # why there is no figure, or what else is wrong

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target; None without one."""
        if not self.target:
            return None
        figure = self.ratio or self.measured
        if figure is None or self.problem:
            return False
        kind, _, bound = self.target.rpartition(" ")
        return figure.median >= float(bound) if kind == "at least" else figure.median <= float(bound)


def render(rounds: int, case: Case = PAPER) -> Iterator[Row]:
    """Chain and rasterizer, forward and backward, against each baseline."""
    targets = {"dense": "at least 150", "separable": "at least 25"}
    wrong = {name: disagreement(agreement.pipeline_error(name, case), case) for name in subjects.PIPELINES}
    for threads in THREADS:
        with torch_threads(threads):
            right = [name for name in subjects.PIPELINES if not wrong[name]]
            taken = interleaved({name: subjects.render_and_differentiate(name, case) for name in right}, rounds)
        for name, target in targets.items():
            what = f"chain + rasterizer, forward and backward, against {name}"
            problem = wrong["native"] or wrong[name]
            if problem:
                yield Row(what, threads, target=target, problem=problem)
                continue
            yield Row(
                what,
                threads,
                measured=Spread.of(taken["native"]).scaled(1e3),
                baseline=Spread.of(taken[name]).scaled(1e3),
                ratio=ratios(taken[name], taken["native"]),
                target=target,
            )


def affine_chain(rounds: int, case: Case = PAPER) -> Iterator[Row]:
    """The chain alone."""
    yield from _one_op("chain", subjects.chains, agreement.chain_error, {}, rounds, case)


def rbf_rasterize(rounds: int, case: Case = PAPER) -> Iterator[Row]:
    """The rasterizer alone."""
    targets = {"forward": "at most 40", "backward": "at most 80"}
    yield from _one_op("rasterizer", subjects.rasterizers, agreement.rasterizer_error, targets, rounds, case)


def _one_op(
    op: str,
    make: Callable[[Case], dict[str, subjects.Subject]],
    error: Callable[[str, Case], float],
    targets: dict[str, str],
    rounds: int,
    case: Case,
) -> Iterator[Row]:
    """Nanoseconds a point on one thread, forward and backward apart."""
    with torch_threads(1):
        forms = make(case)
        for direction in ("forward", "backward"):
            wrong = {name: disagreement(error(name, case), case) for name in forms}
            taken = interleaved(
                {name: getattr(form, direction) for name, form in forms.items() if not wrong[name]}, rounds
            )
            for name in forms:
                yield Row(
                    f"{op}, {direction}, {name}",
                    1,
                    "ns a point",
                    Spread.of(taken[name]).scaled(1e9 / case.all_points) if name in taken else None,
                    target="" if name == "separable" else targets.get(direction, ""),
                    problem=wrong[name],
                )


def rasterize_points(
    rounds: int,
    images: int = point_counting.IMAGES,
    points: int = point_counting.POINTS,
    size: int = point_counting.SIZE,
) -> Iterator[Row]:
    """Images a second of points counted on pixels, on one thread, against numba's loop where numba is installed."""
    forms, missing = {"native": point_counting.by_native(size)}, ""
    try:
        forms["numba"] = point_counting.by_numba(size)
    except fractalops.MissingExtra as error:
        missing = f"no baseline: {error}"
    cloud = point_counting.clouds(images, points, size)
    masks = fractalops.random_patches(images, generator=torch.Generator().manual_seed(0))
    for drawn, patch in (("points", None), ("3 x 3 patches", masks)):
        for mode in ("binary", "density"):
            what = f"{points:,} {drawn} on {size} x {size}, {mode}"
            expected = fractalops.rasterize_points(cloud, size, mode=mode, patch=patch, backend="reference")
            wrong = [name for name, count in forms.items() if not torch.equal(count(cloud, patch, mode), expected)]
            if wrong:
                problem = f"{' and '.join(wrong)} differs from the reference"
                yield Row(what, 1, "images/s", target="at least 1.5", problem=problem)
                continue
            with torch_threads(1):
                calls = {name: functools.partial(count, cloud, patch, mode) for name, count in forms.items()}
                taken = interleaved(calls, rounds)
            rates = {name: Spread.of([images / second for second in seconds]) for name, seconds in taken.items()}
            ratio = None if missing else ratios(taken["numba"], taken["native"])
            target = "" if missing else "at least 1.5"
            yield Row(what, 1, "images/s", rates["native"], rates.get("numba"), ratio, target, missing)


def step(rounds: int, case: Case = PAPER) -> Iterator[Row]:
    """One optimisation step against the ops' own forward and backward on its maps and index."""
    problem = disagreement(agreement.pipeline_error("native", case), case)
    what = "optimisation step against the ops in it"
    for threads in THREADS:
        if problem:
            yield Row(what, threads, target="at most 2.5", problem=problem)
            continue
        with torch_threads(threads):
            one, ops = subjects.step_and_ops(case)
            taken = interleaved({"step": one, "ops": ops}, rounds)
        yield Row(
            what,
            threads,
            measured=Spread.of(taken["step"]).scaled(1e3 / subjects.STEPS_A_CALL),
            baseline=Spread.of(taken["ops"]).scaled(1e3 / subjects.STEPS_A_CALL),
            ratio=ratios(taken["step"], taken["ops"]),
            target="at most 2.5",
        )


def fit(rounds: int, images: int = 1, config: fractalops.FitConfig | None = None) -> Iterator[Row]:
    """`fit` of one image with the published settings."""
    what = f"fit of {images} image{'s' * (images > 1)}, 32 x 32, published settings"
    target = "at most 3" if images == 1 else "at most 100"
    problem = disagreement(agreement.pipeline_error("native", PAPER), PAPER)
    if problem:
        yield Row(what, THREADS[-1], "s", target=target, problem=problem)
        return
    config = config or fractalops.FitConfig()
    targets = subjects.targets(images)
    with torch_threads(THREADS[-1]):
        fractalops.fit(targets[0], fractalops.FitConfig(steps=20))
        seconds = [fractalops.fit(targets, config).seconds for _ in range(rounds)]
    yield Row(what, THREADS[-1], "s", Spread.of(seconds), target=target)


def fit_many(rounds: int) -> Iterator[Row]:
    """`fit` of 100 images in one call, once: it takes long."""
    yield from fit(1, images=100)


def large(rounds: int, cases: list[Case] = LARGE) -> Iterator[Row]:
    """Time by the number of points, and its exponent; the smallest stands for all in the check of correctness."""
    problem = disagreement(agreement.pipeline_error("native", cases[0]), cases[0])
    for threads in THREADS:
        if problem:
            yield Row(cases[0].name, threads, problem=problem)
            continue
        with torch_threads(threads):
            taken = interleaved(
                {case.name: subjects.render_and_differentiate("native", case) for case in cases}, rounds
            )
        for case in cases:
            yield Row(f"forward and backward, {case.name}", threads, measured=Spread.of(taken[case.name]).scaled(1e3))
        counts = [case.all_points for case in cases]
        exponents = [exponent(counts, [taken[case.name][i] for case in cases]) for i in range(rounds)]
        yield Row(
            "exponent of the number of points in that time", threads, "", Spread.of(exponents), target="at most 1.1"
        )


def exponent(counts: list[int], seconds: list[float]) -> float:
    """p of the least-squares fit `seconds = c counts^p`."""
    x = [math.log(count) for count in counts]
    y = [math.log(second) for second in seconds]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - x_mean) ** 2 for a in x)


def memory(rounds: int, case: Case = LARGE[-1], checked: Case = LARGE[0]) -> Iterator[Row]:
    """Growth of the peak memory in a fresh process: the larger of two ways to ask for it."""
    problem = disagreement(agreement.pipeline_error("native", checked), checked)
    for threads in THREADS:
        what = f"growth of peak memory, {case.name}"
        if problem:
            yield Row(what, threads, "MB", target="at most 100", problem=problem)
            continue
        grown = [max(memory_growth(case, threads).values()) for _ in range(min(rounds, 3))]
        yield Row(what, threads, "MB", Spread.of(grown), target="at most 100")


def importing(rounds: int) -> Iterator[Row]:
    """What `import fractalops` adds to `import torch`, in fresh processes."""
    pulled_in = import_modules("torch", "fractalops")[1] - import_modules("torch")[1]
    added = [import_modules("torch", "fractalops")[0] for _ in range(rounds)]
    unwanted = sorted(pulled_in & UNWANTED)
    yield Row(
        "import fractalops, after import torch",
        THREADS[-1],
        "s",
        Spread.of(added),
        target="at most 0.3",
        problem=f"it pulls in {', '.join(unwanted)}" if unwanted else "",
    )


COMPARISONS: dict[str, Callable[[int], Iterator[Row]]] = {
    "affine_chain": affine_chain,
    "rbf_rasterize": rbf_rasterize,
    "rasterize_points": rasterize_points,
    "render": render,
    "step": step,
    "fit": fit,
    "large": large,
    "memory": memory,
    "import": importing,
}
SLOW: dict[str, Callable[[int], Iterator[Row]]] = {"fit_many": fit_many}
