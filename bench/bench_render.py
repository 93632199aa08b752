"""Chain and rasterizer, forward and backward: native against the two baselines; then many points on a large image."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.agreement import disagreement, pipeline_error
from bench.cases import LARGE, PAPER, Case
from bench.conftest import Clock
from bench.memory import memory_growth
from bench.subjects import PIPELINES, render_and_differentiate


@pytest.mark.parametrize("pipeline", PIPELINES)
def bench_render(benchmark: BenchmarkFixture, time_a_point: Clock, threads: int, pipeline: str) -> None:
    assert not disagreement(pipeline_error(pipeline, PAPER), PAPER)
    benchmark.group = f"chain + rasterizer, {PAPER.name}, {threads} threads"
    time_a_point(render_and_differentiate(pipeline, PAPER), PAPER)


@pytest.mark.parametrize("case", LARGE, ids=lambda case: case.name)
def bench_large(benchmark: BenchmarkFixture, time_a_point: Clock, threads: int, case: Case) -> None:
    """The smallest case stands for all in the check of correctness."""
    assert not disagreement(pipeline_error("native", LARGE[0]), LARGE[0])
    benchmark.group = f"chain + rasterizer, 1024 x 1024, {threads} threads"
    time_a_point(render_and_differentiate("native", case), case)


def bench_memory(benchmark: BenchmarkFixture, threads: int) -> None:
    """The time is that of the fresh process; the growth of its peak memory is in `extra_info`."""
    benchmark.group = "memory (times are of the whole process)"
    growth = benchmark.pedantic(memory_growth, (LARGE[-1], threads), rounds=1)
    benchmark.extra_info["growth_megabytes"] = growth
