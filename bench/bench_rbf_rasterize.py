"""`rbf_rasterize` alone, on one thread: raw op, public function and the separable baseline."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.agreement import disagreement, rasterizer_error
from bench.cases import PAPER
from bench.conftest import Clock
from bench.subjects import rasterizers


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("form", ["raw op", "public function", "separable"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def bench_rbf_rasterize(benchmark: BenchmarkFixture, time_a_point: Clock, direction: str, form: str) -> None:
    assert not disagreement(rasterizer_error(form, PAPER), PAPER)
    benchmark.group = f"rbf_rasterize, {direction}, {PAPER.name}"
    time_a_point(getattr(rasterizers(PAPER)[form], direction), PAPER)
