"""What the benchmarks share: the number of threads, and a clock that also notes the time of a point."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.cases import Case
from bench.timing import torch_threads

# function, case -> None
Clock = Callable[[Callable[[], object], Case], None]


@pytest.fixture
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture(params=[1, 2], ids="{} threads".format)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    with torch_threads(request.param):
        yield request.param


@pytest.fixture
def time_a_point(benchmark: BenchmarkFixture) -> Clock:
    """Times a function on a case; its nanoseconds a point (median) go into `extra_info`."""

    def run(function: Callable[[], object], case: Case) -> None:
        benchmark(function)
        if benchmark.stats:  # there are none with --benchmark-disable
            benchmark.extra_info["ns_per_point"] = benchmark.stats.stats.median * 1e9 / case.all_points

    return run
