"""One optimization step of `fit` (ten in a call), against the reference and against the ops in it."""

from __future__ import annotations

from .conftest import Benchmark, entries
from .suites import Contest


@entries("step")
def bench_step(run: Benchmark, contest: Contest, backend: str) -> None:
    run(contest, backend)
