"""Points on their nearest pixels, against the loop compiled by numba."""

from __future__ import annotations

from .conftest import Benchmark, entries
from .suites import Contest


@entries("rasterize_points")
def bench_rasterize_points(run: Benchmark, contest: Contest, backend: str) -> None:
    run(contest, backend)
