"""What the suites of pytest-benchmark share: the contests' entries, timed once they are known to be right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from _pytest.mark import ParameterSet
from pytest_benchmark.fixture import BenchmarkFixture

from .cases import PAPER
from .machine import cores
from .measure import Disagreement, NoFigure, prepare
from .suites import SLOW, SUITES, Contest
from .timing import CpuClock

THREADS = sorted({1, cores()})
Benchmark = Callable[[Contest, str], None]


def entries(suite: str) -> pytest.MarkDecorator:
    """Parametrizes over the contests of a suite and their backends; those on other shapes than the paper's are slow."""
    each = [(contest, backend) for contest in SUITES[suite]() for backend in contest.backends]
    return pytest.mark.parametrize(("contest", "backend"), [_entry(*pair) for pair in each])


def _entry(contest: Contest, backend: str) -> ParameterSet:
    quick = contest.case == PAPER and contest.suite not in SLOW
    return pytest.param(contest, backend, id=f"{contest}, {backend}", marks=() if quick else pytest.mark.slow)


@pytest.fixture(params=THREADS, ids="{} threads".format)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    with CpuClock(request.param):
        yield request.param


@pytest.fixture
def run(benchmark: BenchmarkFixture, threads: int) -> Benchmark:
    """Times one backend of a contest; its nanoseconds a point (median) go into `extra_info`."""

    def run(contest: Contest, backend: str) -> None:
        if threads not in contest.counts(THREADS):
            pytest.skip(f"is measured with the {contest.threads} threads")
        try:
            (call,) = prepare(contest, backend, "cpu")
        except Disagreement:
            raise
        except NoFigure as reason:
            pytest.skip(str(reason))
        benchmark.group = f"{contest}, {threads} threads"
        benchmark(call)
        if benchmark.stats:  # there are none with --benchmark-disable
            benchmark.extra_info["ns_per_point"] = benchmark.stats.stats.median * 1e9 / contest.case.all_points

    return run
