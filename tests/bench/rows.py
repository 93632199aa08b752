"""Rows of the benchmarks with made-up figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.cases import Case
from bench.rows import Row
from bench.timing import Spread
from bench.work import work

PROCESSOR = "A processor"


def row(case: Case, *milliseconds: float, op: str = "render", **fields: Any) -> Row:
    """Of the native CPU op on one thread, forward, unless the fields say otherwise."""
    known = Row(
        op=op,
        direction="forward",
        backend="native",
        suite=op,
        case=case.name,
        sequences=case.sequences,
        points=case.points,
        maps=case.maps,
        side=case.side,
        radius=case.radius,
        images=case.sequences,
        dtype="float32",
        device="cpu",
        threads=1,
        pinned="0",
        peak_bytes=3 * 10**6,
        device_name=PROCESSOR,
        torch="2.13.0",
        date="2026-11-26",
    )
    known = replace(timed(known, *milliseconds), **fields)
    if op in ("affine_chain", "rbf_rasterize", "render"):
        least = work(op, known.direction, case)
        known = replace(known, bytes=least.bytes, operations=least.operations)
    return known


def timed(row: Row, *milliseconds: float) -> Row:
    """The same with these rounds, or none."""
    return replace(row, milliseconds=Spread.of(milliseconds) if milliseconds else None, rounds=len(milliseconds))


def on_gpu(row: Row, factor: float = 0.01) -> Row:
    """The same measurement on a GPU, in `factor` times the time."""
    milliseconds = row.milliseconds.scaled(factor) if row.milliseconds else None
    return replace(row, device="cuda", threads=0, pinned="", device_name="A GPU", milliseconds=milliseconds)
