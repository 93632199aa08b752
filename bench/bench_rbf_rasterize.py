"""`rbf_rasterize` alone, over the grid."""

from __future__ import annotations

from .conftest import Benchmark, entries
from .suites import Contest


@entries("rbf_rasterize")
def bench_rbf_rasterize(run: Benchmark, contest: Contest, backend: str) -> None:
    run(contest, backend)
