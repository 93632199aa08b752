"""Run contests: check that each backend is right, then time it."""

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

# Limits for a backend: memory, and successive steps of a Python loop. On a GPU, each step is a node of a CUDA graph.
MOST_BYTES, MOST_STEPS = 4 * 10**9, {"cpu": 20_000, "cuda": 1000}

# Errors of a device, a compiler or an allocator, and of a CUDA graph whose results differ from those of its call.
FAILURES = (RuntimeError, MemoryError, AssertionError)


def run(contest: Contest, clock: Clock, environment: Environment, rounds: int) -> list[Row]:
    """Return a row for each backend, with figures or with the reason why it has none."""
    with clock:
        return _run(contest, clock, environment, rounds)


def _run(contest: Contest, clock: Clock, environment: Environment, rounds: int) -> list[Row]:
    blank = _row(contest, clock, environment)
    rows: dict[str, Row] = {}
    calls: dict[str, list[Call]] = {}
    first: dict[str, Call] = {}  # not as a CUDA graph, whose memory is allocated before the call
    torch.compiler.reset()  # torch stops compiling a function after a number of shapes
    copies = clock.copies if contest.op in subjects.OPS else 1
    for backend in contest.backends:
        rows[backend] = replace(blank, backend=backend)
        try:
            made = prepare(contest, backend, clock.device, copies)
            first[backend] = made[0]
            calls[backend] = [clock.ready(call, as_graph=_is_graph(contest, backend)) for call in made]
        except NoFigure as error:
            rows[backend] = replace(rows[backend], problem=str(error), wrong=isinstance(error, Disagreement))
        except FAILURES as error:  # the other backends are still measured
            calls.pop(backend, None)
            failed = backend != "compiled"  # a missing compiler is no error of the backend
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
            # Not for `fit`, which takes long and uses the memory of a step.
            peak_bytes=clock.peak_bytes(first[backend]) if contest.op != "fit" else None,
        )
    return list(rows.values())


def _is_graph(contest: Contest, backend: str) -> bool:
    """Return whether a GPU replays a contest as a CUDA graph: only the ops.

    `fit` captures its own steps in a graph, and the images of `rasterize_points` are used on the host.
    """
    return contest.op in subjects.OPS or backend == "ops alone"


class NoFigure(Exception):
    """A backend has no figure. The message is the reason."""


class Disagreement(NoFigure):
    """A backend disagrees with the reference."""


def prepare(contest: Contest, backend: str, device: str, copies: int = 1) -> list[Call]:
    """Check a backend and return the calls to time, one for each of `copies` inputs.

    Raises `NoFigure` if the backend can't run or is left out, and `Disagreement` if it is wrong.
    """
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
    """Return a row of a contest, without backend and figures."""
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
        **environment.of(clock.device),  # type: ignore[arg-type]  # these fields are strings
    )


def _images(contest: Contest) -> int:
    """Return the number of images that a call of `fit` learns."""
    return int(contest.direction.split()[0])


def _left_out(contest: Contest, backend: str, device: str, copies: int) -> str:
    """Return why a backend is left out, or an empty string."""
    op, case = contest.op, contest.case
    if (op == "pretrain" or backend in ("numba", "finufft")) and device != "cpu":
        return "left out: it runs only on the CPU"
    if op not in subjects.OPS:
        return ""
    needed, looped = needed_bytes(op, backend, case), loop_steps(op, backend, case)
    if needed > MOST_BYTES or needed * copies > free_bytes(device):
        return f"left out: it would need about {needed * copies / 1e9:,.0f} GB"
    return f"left out: a loop of {looped:,} steps in Python" if looped > MOST_STEPS[device] else ""


def _problem(contest: Contest, backend: str, device: str) -> str:
    """Return how a backend disagrees with the reference, or an empty string."""
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
    """Return the contests to run with their clocks. If a GPU is measured, only the native backend runs on the CPU."""
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
