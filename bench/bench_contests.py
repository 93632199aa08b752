"""The contests of all suites and the import of the package, timed by pytest-benchmark.

Each backend is checked before it is timed. Contests on other shapes than the paper's are slow: `pytest bench -m slow`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from .machine import cores
from .measure import Disagreement, NoFigure, prepare
from .suites import PAPER, SLOW, SUITES, Contest
from .timing import CpuClock

THREADS = sorted({1, cores()})
ENTRIES = [
    pytest.param(
        contest,
        backend,
        id=f"{contest}, {backend}",
        marks=() if contest.case == PAPER and contest.suite not in SLOW else pytest.mark.slow,
    )
    for make in SUITES.values()
    for contest in make()
    for backend in contest.backends
]


@pytest.fixture(params=THREADS, ids="{} threads".format)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run the test on this number of threads."""
    with CpuClock(request.param):
        yield request.param


@pytest.mark.parametrize(("contest", "backend"), ENTRIES)
def bench_contest(benchmark: BenchmarkFixture, threads: int, contest: Contest, backend: str) -> None:
    """Time one backend of a contest. `extra_info` gets the median time of a point in nanoseconds."""
    if threads not in contest.counts(THREADS):
        pytest.skip(f"runs only with the {contest.threads} threads")
    try:
        (call,) = prepare(contest, backend, "cpu")
    except Disagreement:
        raise
    except NoFigure as reason:
        pytest.skip(str(reason))
    benchmark.group = f"{contest}, {threads} threads"
    benchmark(call)
    if benchmark.stats:  # None with --benchmark-disable
        benchmark.extra_info["ns_per_point"] = benchmark.stats.stats.median * 1e9 / contest.case.all_points


IMPORT = """
import sys, time
for module in {modules!r}:
    began = time.perf_counter()
    __import__(module)
print(time.perf_counter() - began)
"""


@pytest.mark.parametrize("modules", [("torch",), ("torch", "fractalops")], ids=", ".join)
def bench_import(benchmark: BenchmarkFixture, modules: tuple[str, ...]) -> None:
    """Time new processes. `extra_info` gets the seconds of the last module's import, after those of the others."""
    benchmark.group = "import (times are of the whole process)"
    program, seconds = IMPORT.format(modules=modules), []

    def run() -> None:
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        seconds.append(float(done.stdout))

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    benchmark.extra_info["import_seconds"] = statistics.median(seconds)
