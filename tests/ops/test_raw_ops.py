"""Tests of direct calls of the raw ops: they refuse invalid tensors and tensors that require derivatives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from fractalops._checks import check_shapes
from fractalops.op_table import OPS
from tests.support.raw_op_arguments import ARGUMENTS
from tests.support.raw_op_trials import trials

pytestmark = pytest.mark.usefixtures("native")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tried() -> tuple[list[str], int]:
    """Return the output lines and the exit status of the trials. They run in a separate process, which may crash."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.raw_op_trials"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return run.stdout.splitlines() + run.stderr.splitlines()[-1:], run.returncode


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_that_do_not_fit_are_refused_or_right(name: str, tried: tuple[list[str], int]) -> None:
    lines, status = tried
    assert f"trying {name}" in lines, f"the process ended with {status} before: {lines[-2:]}"
    later = lines[lines.index(f"trying {name}") + 1 :]
    assert any(line == "done" or line.startswith("trying ") for line in later), f"it crashed with {status}: {later}"
    assert [line for line in later if line.startswith(f"{name}: ")] == []


def test_every_argument_of_every_op_is_tried() -> None:
    for op in OPS.values():
        for schema, name in zip(op.schemas, op.names(), strict=True):
            tensors = schema.split("->")[0].count("Tensor")
            given = {
                place
                for arguments in ARGUMENTS[name]
                for place, argument in enumerate(arguments)
                if isinstance(argument, Tensor)
            }
            # `uniform` and `index` of learn_steps exclude each other.
            assert len(given) == tensors - (name == "learn_steps")
            said = " ".join(what for arguments in ARGUMENTS[name] for what, *_ in trials(name, arguments))
            assert all(f"argument {place}: meta" in said for place in given)


@pytest.mark.parametrize(
    ("name", "place", "changed", "message"),
    [
        (
            "affine_chain_fwd",
            1,
            torch.zeros(3, 3).double(),
            r"affine_chain: offset must have shape \(3, 2\), got \(3, 3\)",
        ),
        ("affine_chain_fwd", 2, torch.zeros(3, 4), "affine_chain: index must be uint8, int32 or int64"),
        ("svd_matrix_fwd", 0, torch.zeros(6).double(), r"svd_matrix: svd must have shape \(M, 6\), got \(6\)"),
        ("rbf_rasterize_fwd", 2, torch.ones(3), "rbf_rasterize: bandwidth must have the dtype of points"),
        (
            "clamped_squared_error_bwd",
            2,
            torch.zeros(3, 20, 1).double(),
            r"clamped_squared_error: targets must have shape \(3, 20\), got \(3, 20, 1\)",
        ),
        ("rbf_rasterize_fwd", 3, -7, r"rbf_rasterize: size must lie in \[1, 2\^22\), got -7"),
        ("k_means", 2, -1, "k_means: rounds must be at least 0, got -1"),
    ],
)
def test_a_refusal_names_the_argument_and_what_it_must_be(name: str, place: int, changed: Any, message: str) -> None:
    arguments = ARGUMENTS[name][0]
    with pytest.raises(RuntimeError, match=message):
        getattr(torch.ops.fractalops, name)(*arguments[:place], changed, *arguments[place + 1 :])


# Without a GPU, this is the only test of the Triton kernels' own check.


@pytest.mark.parametrize(
    ("points", "weight", "message"),
    [
        ((2, 5), None, r"op: points must have shape \(B, T, 2\), got \(2, 5\)"),
        ((2, 5, 3), None, r"op: points must have shape \(B, T, 2\), got \(2, 5, 3\)"),
        ((2, 5, 2), (2, 4, 1), r"op: weight must have shape \(2, 5, C\), got \(2, 4, 1\)"),
    ],
)
def test_shapes_are_checked_in_python(points: Any, weight: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_shapes(
            "op",
            points=(torch.zeros(points), "BT2"),
            weight=(None if weight is None else torch.zeros(weight), "BTC"),
        )
    with pytest.raises(ValueError, match="op: tensors must be on one device, got cpu, meta"):
        check_shapes("op", points=(torch.zeros(2, 5, 2), "BT2"), weight=(torch.zeros(2, 5, 1, device="meta"), "BTC"))


# Derivatives

DIFFERENT = [
    pytest.param(name, place, id=f"{name}-{place}")
    for name, calls in ARGUMENTS.items()
    for place, argument in enumerate(calls[0])
    if isinstance(argument, Tensor) and argument.is_floating_point()
]


@pytest.mark.parametrize(("name", "place"), DIFFERENT)
def test_a_raw_op_drops_no_derivative(name: str, place: int) -> None:
    arguments = ARGUMENTS[name][0]
    tensor: Tensor = arguments[place]

    def call(changed: Tensor) -> Any:
        copies = (each.clone() if isinstance(each, Tensor) else each for each in arguments[:place])
        return getattr(torch.ops.fractalops, name)(*copies, changed, *arguments[place + 1 :])

    message = rf"^torch.ops.fractalops.{name} has no derivatives: call its public function, or run it within "
    leaf = tensor.clone().requires_grad_()
    with pytest.raises(RuntimeError, match=message):
        call(leaf)
    with torch.no_grad():
        call(leaf.clone())
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match=message):
        call(forward_ad.make_dual(tensor.clone(), torch.ones_like(tensor)))
    with pytest.raises(RuntimeError, match=message):
        torch.func.jvp(lambda each: call(each), (tensor.clone(),), (torch.ones_like(tensor),))
    with pytest.raises(RuntimeError, match=message):
        torch.func.vjp(lambda each: call(each), tensor.clone())
