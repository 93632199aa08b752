"""What is measured, by name: contests, each between backends on one case, which are timed in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .cases import GRID, LONG_CHAIN, PAPER, PRETRAINING, SWEEPS, Case, sweep
from .subjects import BACKENDS, BACKWARD, BOTH, COUNTED, FORWARD


@dataclass(frozen=True)
class Contest:
    """One op in one direction on one case, and who runs it."""

    suite: str
    op: str
    direction: str
    case: Case
    backends: tuple[str, ...]
    threads: str = "each"  # of the numbers that are measured: "each", or only the "least" or the "most" of them

    def counts(self, threads: Sequence[int]) -> Sequence[int]:
        """With which of the numbers of threads it is run."""
        ordered = sorted(threads)
        return {"each": ordered, "least": ordered[:1], "most": ordered[-1:]}[self.threads]

    def __str__(self) -> str:
        return f"{self.op}, {self.direction}, {self.case.name}"


def _op(op: str, directions: tuple[str, ...] = (FORWARD, BACKWARD, BOTH)) -> list[Contest]:
    """Over the grid."""
    cases = [case for case in GRID if case != LONG_CHAIN or op == "affine_chain"]
    return [Contest(op, op, each, case, _backends(op, each, case)) for case in cases for each in directions]


def _backends(op: str, direction: str, case: Case) -> tuple[str, ...]:
    """All, but for the compiler: it takes up to a minute for a function, and can't run a backward by itself again."""
    if case == PAPER and direction == BOTH and op != "affine_chain":
        return BACKENDS
    return tuple(backend for backend in BACKENDS if backend != "compiled")


def _counting() -> list[Contest]:
    op, case = "rasterize_points", replace(PRETRAINING, sequences=10)  # images of a call
    return [Contest(op, op, each, case, ("native", "numba"), "least") for each in COUNTED]


def _scaling() -> list[Contest]:
    """The whole of a render, differentiated, as one size grows."""
    backends = ("native", "reference", "separable", "dense")  # the compiler would take minutes for the thirty shapes
    cases = [case for variable in SWEEPS for case in sweep(variable)]
    return [Contest("scaling", "render", BOTH, case, backends, "least") for case in cases]


SUITES: dict[str, Callable[[], list[Contest]]] = {
    "affine_chain": lambda: _op("affine_chain"),
    "rbf_rasterize": lambda: _op("rbf_rasterize"),
    "render": lambda: _op("render", (FORWARD, BOTH)),
    "rasterize_points": _counting,
    "step": lambda: [Contest("step", "step", "optimization step", PAPER, ("native", "reference", "ops alone"))],
    "fit": lambda: [
        Contest("fit", "fit", images, PAPER, ("native",), "most") for images in ("1 image", "1 image, default settings")
    ],
    "fit_many": lambda: [
        Contest("fit_many", "fit", images, PAPER, ("native",), "most")
        for images in ("100 images", "100 images, default settings")
    ],
    "scaling": _scaling,
}
SLOW = ("fit_many",)
"""Left out unless named."""
