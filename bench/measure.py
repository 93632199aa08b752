"""Runs contests: first whether each backend is right, then how long it takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

import fractalops

from . import agreement, pretraining, subjects
from .machine import Environment, free_bytes
from .rows import Row
from .suites import BESIDE, BOTH, Contest
from .timing import Call, Clock, Spread, busy_processes, ratios
from .work import Work, loop_steps, needed_bytes, work

# What is not asked of a backend: memory, and steps of a Python loop one after the other, each a node of a GPU's graph.
MOST_BYTES, MOST_STEPS = 4 * 10**9, {"cpu": 20_000, "cuda": 1000}

# Of a device, a compiler or an allocator; and of a graph that gives other values than the call that it holds.
FAILURES = (RuntimeError, MemoryError, AssertionError)


def run(contest: Contest, clock: Clock, environment: Environment, rounds: int) -> list[Row]:
    """Return a row for each backend: measured, or with the reason why not."""
    with clock:
        return _run(contest, clock, environment, rounds)


def _run(contest: Contest, clock: Clock, environment: Environment, rounds: int) -> list[Row]:
    blank = _row(contest, clock, environment)
    rows: dict[str, Row] = {}
    calls: dict[str, list[Call]] = {}
    first: dict[str, Call] = {}  # as it is, where the others may be graphs: what those hold is held beforehand
    torch.compiler.reset()  # or, after some shapes, a function would no longer be compiled
    copies = clock.copies if contest.op in subjects.OPS else 1
    for backend in contest.backends:
        rows[backend] = replace(blank, backend=backend)
        try:
            made = prepare(contest, backend, clock.device, copies)
            first[backend] = made[0]
            calls[backend] = [clock.ready(call, as_graph=_is_graph(contest, backend)) for call in made]
        except NoFigure as error:
            rows[backend] = replace(rows[backend], problem=str(error), wrong=isinstance(error, Disagreement))
        except FAILURES as error:  # the others go on
            calls.pop(backend, None)
            failed = backend != "compiled"  # without a compiler it can't be had, which is no fault
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            rows[backend] = replace(rows[backend], problem=f"failed: {reason}", wrong=failed)
    each = subjects.STEPS if contest.op == "step" else 1
    beside = contest.direction.endswith(BESIDE)
    with busy_processes(clock.threads if beside else 0):
        taken = clock.time(calls, rounds)
    for backend, seconds in taken.items():
        rows[backend] = replace(
            rows[backend],
            milliseconds=Spread.of(seconds).scaled(1e3 / each),
            rounds=len(seconds),
            times=ratios(seconds, taken["native"]) if "native" in taken and backend != "native" else None,
            # A fit takes long, and its memory is that of a step.
            peak_bytes=clock.peak_bytes(first[backend]) if contest.op != "fit" else None,
        )
    return list(rows.values())


def _is_graph(contest: Contest, backend: str) -> bool:
    """Tell what a GPU can replay: the ops. A step of fit makes a graph of its own; points are counted for the host."""
    return contest.op in subjects.OPS or backend == "ops alone"


class NoFigure(Exception):
    """Why a backend gets no figure."""


class Disagreement(NoFigure):
    """It is wrong."""


def prepare(contest: Contest, backend: str, device: str, copies: int = 1) -> list[Call]:
    """Return what a clock calls, on so many inputs, once the backend is known to be right. Raises `NoFigure`."""
    left_out = _left_out(contest, backend, device, copies)
    if left_out:
        raise NoFigure(left_out)
    try:
        problem = _problem(contest, backend, device)
        if problem:
            raise Disagreement(problem)
        return [_call(contest, backend, device, seed) for seed in range(copies)]
    except (fractalops.BackendError, fractalops.MissingExtra) as error:
        raise NoFigure(str(error)) from error


def _row(contest: Contest, clock: Clock, environment: Environment) -> Row:
    """Return a contest's row, without a backend and figures."""
    op, direction, case = contest.op, contest.direction, contest.case
    least = Work(0, 0)
    if op in subjects.OPS or op == "step":
        least = work("render", BOTH, case) if op == "step" else work(op, direction, case)
    chain = op == "affine_chain"
    return Row(
        op=op,
        direction=direction,
        backend="",
        suite=contest.suite,
        case=case.name,
        sequences=case.sequences,
        points=case.points,
        maps=case.maps,
        side=0 if chain else case.side,
        radius=0 if chain or op in ("rasterize_points", "pretrain") else case.radius,
        images=_images(contest) if op == "fit" else 0 if chain else case.sequences,
        dtype="float32",
        device=clock.device,
        threads=clock.threads,
        pinned=clock.pinned,
        bytes=least.bytes,
        operations=least.operations,
        **environment.of(clock.device),  # type: ignore[arg-type]  # its fields of text
    )


def _images(contest: Contest) -> int:
    """Return how many images a call of fit learns."""
    return int(contest.direction.split()[0])


def _left_out(contest: Contest, backend: str, device: str, copies: int) -> str:
    """Return why a backend is not asked; empty where it is."""
    op, case = contest.op, contest.case
    if (op == "pretrain" or backend in ("numba", "finufft")) and device != "cpu":
        return "left out: it runs on the CPU"
    if op not in subjects.OPS:
        return ""
    needed, looped = needed_bytes(op, backend, case), loop_steps(op, backend, case)
    if needed > MOST_BYTES or needed * copies > free_bytes(device):
        return f"left out: it would hold about {needed * copies / 1e9:,.0f} GB"
    return f"left out: a loop of {looped:,} steps in Python" if looped > MOST_STEPS[device] else ""


def _problem(contest: Contest, backend: str, device: str) -> str:
    """Return how a backend disagrees with the reference; empty where it doesn't."""
    op, case = contest.op, contest.case
    if op == "rasterize_points":
        return agreement.counting_problem(backend, case, contest.direction, device)
    if op == "spreading":
        return agreement.spreading_problem(backend, case)
    if op == "pretrain":
        return pretraining.problem(case, backend, contest.direction)
    if op in ("step", "fit"):
        return agreement.step_problem("native" if backend == "one thread" else backend, case, device)
    return agreement.problem(op, backend, case, device)


def _call(contest: Contest, backend: str, device: str, seed: int) -> Call:
    op, case = contest.op, contest.case
    if op == "rasterize_points":
        return subjects.counting(case, backend, contest.direction, device)
    if op == "step":
        return subjects.steps(case, backend, device)
    if op == "spreading":
        return subjects.spreading(case, backend)
    if op == "pretrain":
        return pretraining.drawing(case, backend, contest.direction)
    if op == "fit":
        return subjects.fitting(case, backend, contest.direction, device)
    return subjects.subject(op, backend, case, seed).to(device).call(contest.direction)


def pairs(contests: Iterable[Contest], clocks: Sequence[Clock]) -> list[tuple[Contest, Clock]]:
    """Return the contests and clocks that are run: beside a GPU the CPU shows the native ops alone."""
    counts = [clock.threads for clock in clocks if clock.device == "cpu"]
    on_gpu = any(clock.device == "cuda" for clock in clocks)
    found: list[tuple[Contest, Clock]] = []
    for contest in contests:
        for clock in clocks:
            if clock.device == "cuda":
                found.append((contest, clock))
            elif clock.threads in contest.counts(counts):
                found.append((replace(contest, backends=("native",)) if on_gpu else contest, clock))
    return found
