"""Chain and rasterizer together, over the grid."""

from __future__ import annotations

from .conftest import Benchmark, entries
from .suites import Contest


@entries("render")
def bench_render(run: Benchmark, contest: Contest, backend: str) -> None:
    run(contest, backend)
