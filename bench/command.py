"""`fractalops bench`: run suites and write the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from fractalops.errors import InputError

from . import report, table
from .cuda_timing import CudaClock, gpu_rates, missing_gpu
from .machine import Environment, cores, cpu_rates, describe
from .measure import pairs
from .measure import run as measure
from .rows import Figures, Rates
from .suites import SLOW, SUITES, Contest
from .timing import Clock, CpuClock

ROUNDS, QUICK_ROUNDS, QUICK_POINTS = 9, 3, 10**6
WRONG = 1


def listed() -> str:
    """Return the names of the suites and their numbers of contests as text."""
    slow = dict.fromkeys(SLOW, "slow: only if named")
    lines = [(name, f"contests: {len(make())}", slow.get(name, "")) for name, make in SUITES.items()]
    return "\n".join(table.aligned(lines))


def run(
    suites: Sequence[str], output: Path, quick: bool, device: str, threads: Sequence[int] | None, old: Path | None
) -> int:
    """Run suites, print a summary, and write the page and the figures.

    After Ctrl-C, the measurements until then are written too, before `KeyboardInterrupt` is raised.

    Returns:
        1 if a native op disagrees with the reference, else 0.
    """
    report.check_extras()
    contests = choose(suites, quick)
    before = Figures.load(old) if old else None
    clocks, rates = choose_clocks(device, threads)
    machine = describe(rates)
    if device == "auto" and torch.cuda.is_available() and missing_gpu():
        machine["GPU, not measured"] = missing_gpu()
    print(*(f"{name}: {value}" for name, value in machine.items()), sep="\n")
    figures = Figures((), tuple(rates), machine)
    interrupted = False
    try:
        for contest, clock in tqdm(pairs(contests, clocks), unit="contest"):
            rows = measure(contest, clock, Environment.here(), QUICK_ROUNDS if quick else ROUNDS)
            figures = replace(figures, rows=(*figures.rows, *rows))
            figures.save(output.with_suffix(".json"))  # after each contest, so that no measurement is lost
    except KeyboardInterrupt:
        interrupted = True
    figures.save(output.with_suffix(".json"))
    report.write(figures, output, before)
    print(report.summary(figures, before), f"page: {output}", f"figures: {output.with_suffix('.json')}", sep="\n")
    if interrupted:
        print("the page has only the measurements before the interruption")
        raise KeyboardInterrupt
    return WRONG if any(row.wrong for row in figures.rows if row.backend == "native") else 0


def choose(suites: Sequence[str], quick: bool) -> list[Contest]:
    """Return the contests of `suites`, by default of all but the slow ones. Raises `InputError` for an unknown name."""
    for name in suites:
        if name not in SUITES:
            raise InputError(f"SUITE must be one of {', '.join(SUITES)}, got {name!r}")
    names = suites or [name for name in SUITES if name not in SLOW]
    contests = [contest for name in dict.fromkeys(names) for contest in SUITES[name]()]
    return [contest for contest in contests if not quick or contest.case.all_points <= QUICK_POINTS]


def choose_clocks(device: str, threads: Sequence[int] | None) -> tuple[list[Clock], list[Rates]]:
    """Return the clocks and the measured rates of the devices.

    The GPU has one clock if it is measured. The CPU has one clock for each number of threads: `threads`, or by default
    1 and all cores, or only all cores if the GPU is measured. Raises `InputError` for a device or number of threads
    that this machine doesn't have.
    """
    missing = "" if device == "cpu" else missing_gpu()
    if device == "cuda" and missing:
        raise InputError(f"--device cuda can't be measured: {missing}")
    available = cores()
    for count in threads or ():
        if count > available:
            raise InputError(f"--threads must be at most {available}, the number of cores of this process, got {count}")
    on_gpu = device != "cpu" and not missing
    counts = sorted(set(threads or ([available] if on_gpu else [1, available])))
    clocks: list[Clock] = [CudaClock()] if on_gpu else []
    rates = [gpu_rates()] if on_gpu else []
    return [*clocks, *map(CpuClock, counts)], [*rates, *map(cpu_rates, counts)]
