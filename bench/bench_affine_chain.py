"""`affine_chain` alone, over the grid."""

from __future__ import annotations

from .conftest import Benchmark, entries
from .suites import Contest


@entries("affine_chain")
def bench_affine_chain(run: Benchmark, contest: Contest, backend: str) -> None:
    run(contest, backend)
