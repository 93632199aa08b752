"""Tests that timed functions agree with the reference, and that disagreement is found."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import fractalops
from bench import agreement, subjects
from bench.subjects import OPS
from bench.suites import BACKWARD, BOTH, EAGER, FORWARD, GRID, Case
from bench.timing import torch_threads
from tests.bench.rows import TINY

pytestmark = pytest.mark.usefixtures("native")


@pytest.mark.parametrize("backend", EAGER)
@pytest.mark.parametrize("op", OPS)
def test_what_is_timed_agrees_in_float64(op: str, backend: str) -> None:
    assert agreement.error(op, backend, TINY, dtype=torch.float64) < 1e-12


@pytest.mark.parametrize("case", GRID, ids=lambda case: case.name)
def test_the_native_ops_agree_on_every_case_of_the_grid(case: Case) -> None:
    """Each case is cut to a size that the reference can compute."""
    for op in ("affine_chain",) if case.name == "long chain" else OPS:
        assert not agreement.problem(op, "native", agreement.within_reach(case).cut(20, 1000))


@pytest.mark.parametrize("op", OPS)
def test_a_case_beyond_the_reference_is_compared_whole(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shortened case does not show the fault: all values after the first three points are wrong."""
    monkeypatch.setattr(agreement, "_LONGEST", 3)
    case = replace(TINY, name=f"beyond, {op}")
    assert not agreement.problem(op, "native", case)
    original = OPS[op]["native"]

    def wrong(*arguments: Any) -> Tensor:
        value = original(*arguments)
        long = arguments[0].shape[1] > 3 if op == "rbf_rasterize" else arguments[2].shape[1] > 3
        return value * 1.01 if long and value.dtype == torch.float32 else value

    monkeypatch.setitem(OPS[op], "native", wrong)
    case = replace(case, name=f"wrong beyond, {op}")
    assert "disagrees with the reference by 0.01" in agreement.problem(op, "native", case)


@pytest.mark.parametrize("direction", [FORWARD, BACKWARD, BOTH])
def test_a_call_gives_the_gradients_of_all_leaves(direction: str) -> None:
    call = subjects.subject("render", "native", TINY).call(direction)
    value: Any = call()
    if direction == FORWARD:
        assert value.shape == (3, 9, 9)
        assert not value.requires_grad
    else:
        assert [grad.shape for grad in value] == [(3, 2, 2), (3, 2), (3, 2)]
    again: Any = call()
    assert torch.equal(again[0], value[0])


def test_copies_have_inputs_of_their_own() -> None:
    first, second = (subjects.subject("rbf_rasterize", "native", TINY, seed).arguments[0] for seed in (0, 1))
    assert first.shape == second.shape
    assert not torch.equal(first, second)


def test_a_wrong_step_gets_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    original = subjects.learning

    def learning(case: Case, backend: str, device: str) -> Any:
        run = original(case, backend, device)
        return lambda steps: run(steps) * (1.01 if backend == "native" else 1)

    monkeypatch.setattr(subjects, "learning", learning)
    assert agreement.step_problem("native", TINY).startswith("disagrees with the reference by 0.01")


def test_no_figure_for_gradients_that_are_missing_or_not_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Tensor) -> Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
            return grad * math.nan

    monkeypatch.setitem(OPS["affine_chain"], "native", lambda *each: Broken.apply(fractalops.affine_chain(*each)))
    case = replace(TINY, name="with a broken backward")
    assert agreement.problem("affine_chain", "native", case).startswith("disagrees with the reference by inf")


def test_each_number_of_threads_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(agreement, "_error", lambda *arguments: asked.append(arguments[-1]) or 0.0)
    for threads in (1, 2):
        with torch_threads(threads):
            assert not agreement.problem("render", "native", TINY)
    assert asked == [1, 2]
