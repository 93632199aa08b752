"""Rows of the benchmarks with invented figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.rows import Row
from bench.suites import BOTH, PAPER, SWEEPS, Case, sweep
from bench.timing import Spread
from bench.work import work

PROCESSOR = "A processor"
TINY = Case("tiny", sequences=3, points=7, maps=3, side=9)


def row(case: Case, *milliseconds: float, op: str = "render", **fields: Any) -> Row:
    """Return a row of the native CPU op on one thread, forward. `fields` override its values."""
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
    """Return the row with these rounds, or with none."""
    return replace(row, milliseconds=Spread.of(milliseconds) if milliseconds else None, rounds=len(milliseconds))


def on_gpu(row: Row, factor: float = 0.01) -> Row:
    """Return the same measurement on a GPU, with `factor` times the time."""
    milliseconds = row.milliseconds.scaled(factor) if row.milliseconds else None
    return replace(row, device="cuda", threads=0, pinned="", device_name="A GPU", milliseconds=milliseconds)


def swept(variable: str, power: float = 1.0, factor: float = 1.0, **fields: Any) -> list[Row]:
    """Return the rows of a sweep. Time grows with this power of the size, memory in proportion to the size."""
    sizes = SWEEPS[variable][1]
    return [
        row(
            case,
            factor * size**power,
            **{"direction": BOTH, "suite": "scaling", "peak_bytes": 1000 * size, **fields},
        )
        for size, case in zip(sizes, sweep(variable), strict=True)
    ]


NATIVE = row(PAPER, 1.5, 1.4, 1.6)
DENSE = row(PAPER, 300, 308, 304, backend="dense", times=Spread(190, 200, 220))
