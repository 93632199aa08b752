"""`affine_chain` alone, on one thread: raw op, public function and the separable baseline."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.agreement import chain_error, disagreement
from bench.cases import PAPER
from bench.conftest import Clock
from bench.subjects import chains


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("form", ["raw op", "public function", "separable"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def bench_affine_chain(benchmark: BenchmarkFixture, time_a_point: Clock, direction: str, form: str) -> None:
    assert not disagreement(chain_error(form, PAPER), PAPER)
    benchmark.group = f"affine_chain, {direction}, {PAPER.name}"
    time_a_point(getattr(chains(PAPER)[form], direction), PAPER)
