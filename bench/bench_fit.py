"""Learning one image by the published settings and by the defaults; and, slow, 100 images in one call."""

from __future__ import annotations

from .conftest import Benchmark, entries
from .suites import Contest


@entries("fit")
def bench_fit(run: Benchmark, contest: Contest, backend: str) -> None:
    run(contest, backend)


@entries("fit_many")
def bench_fit_many(run: Benchmark, contest: Contest, backend: str) -> None:
    run(contest, backend)
