"""Importing in fresh processes; the times are of whole processes, the import's own seconds are in `extra_info`."""

from __future__ import annotations

import statistics

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from .importing import import_modules


@pytest.mark.parametrize("modules", [("torch",), ("torch", "fractalops")], ids=", ".join)
def bench_import(benchmark: BenchmarkFixture, modules: tuple[str, ...]) -> None:
    benchmark.group = "import (times are of the whole process)"
    seconds = []
    benchmark.pedantic(lambda: seconds.append(import_modules(*modules)[0]), rounds=5, warmup_rounds=1)
    benchmark.extra_info["import_seconds"] = statistics.median(seconds)
