"""A render, differentiated, as one size of the paper's shape grows."""

from __future__ import annotations

from .conftest import Benchmark, entries
from .suites import Contest


@entries("scaling")
def bench_scaling(run: Benchmark, contest: Contest, backend: str) -> None:
    run(contest, backend)
