"""Learning: one optimisation step against the ops in it, one image, 100 images in one call."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import fractalops
from bench.cases import PAPER
from bench.subjects import STEPS_A_CALL, step_and_ops, targets


@pytest.mark.parametrize("what", ["step", "ops"])
def bench_step(benchmark: BenchmarkFixture, threads: int, what: str) -> None:
    benchmark.group = f"{STEPS_A_CALL} optimisation steps against the ops in them, {threads} threads"
    step, ops = step_and_ops(PAPER)
    benchmark(step if what == "step" else ops)


def bench_fit(benchmark: BenchmarkFixture, threads: int) -> None:
    benchmark.group = "fit, one image"
    result = benchmark.pedantic(fractalops.fit, (targets(1),), rounds=3)
    benchmark.extra_info["minimum_mse"] = result.minimum_mse.mean().item()


@pytest.mark.slow
def bench_fit_many(benchmark: BenchmarkFixture, threads: int) -> None:
    benchmark.group = "fit, 100 images in one call"
    result = benchmark.pedantic(fractalops.fit, (targets(100),), rounds=1)
    benchmark.extra_info["minimum_mse"] = result.minimum_mse.mean().item()
