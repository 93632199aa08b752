"""Tests under `no_grad` and `inference_mode`: torch.func and forward mode give the same derivatives there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import fractalops
from fractalops import IFS
from tests.support.case_tables import DIFFERENTIABLE
from tests.support.cases import Case, ChainCase, seeded
from tests.support.tolerances import assert_all_same_bits, assert_matches

MODES: dict[str, Callable[[], Any]] = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
modes = pytest.mark.parametrize("mode", MODES)


def doubled(inputs: Any) -> list[Tensor]:
    """Return the inputs with a new first dimension to map over."""
    return [torch.stack([each, each]) for each in inputs]


# Each takes the loss of a case, the op, the indices of the differentiable inputs, and the inputs.
TRANSFORMED: dict[str, Callable[..., Any]] = {
    "grad": lambda loss, op, places, inputs: torch.func.grad(loss, places)(*inputs),
    "vmap": lambda loss, op, places, inputs: torch.vmap(op)(*doubled(inputs)),
    "vmap of grad": lambda loss, op, places, inputs: torch.vmap(torch.func.grad(loss, places))(*doubled(inputs)),
    "jacrev": lambda loss, op, places, inputs: torch.func.jacrev(loss, places)(*inputs),
    "jvp": lambda loss, op, places, inputs: torch.func.jvp(
        lambda first: loss(first, *inputs[1:]), (inputs[0],), (torch.ones_like(inputs[0]),)
    ),
    "hessian": lambda loss, op, places, inputs: torch.func.hessian(loss)(*inputs),
    "jacrev of jacrev": lambda loss, op, places, inputs: torch.func.jacrev(torch.func.jacrev(loss))(*inputs),
}


@modes
@pytest.mark.parametrize("name", TRANSFORMED)
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_what_is_transformed_is_the_same(case: Case, name: str, mode: str, backend: str) -> None:
    def run(inputs: Any) -> Any:
        op = case.on(backend)
        return TRANSFORMED[name](lambda *each: op(*each).square().sum(), op, case.differentiable, inputs)

    expected = run(case.inputs())
    with MODES[mode]():
        assert_all_same_bits(run(case.inputs()), expected)
        made = [each.clone() for each in case.inputs()]
    assert made[0].is_inference() == (mode == "inference_mode")
    assert_all_same_bits(run(made), expected)


@modes
def test_drawings_are_transformed_alike(mode: str, backend: str) -> None:
    matrix, offset, index, _ = ChainCase("maps", batch=2, points=30, maps=3).inputs(torch.float32)
    system = IFS(1, 3, channels=3, blend="mean", generator=seeded(0))
    state = {name: each.detach() for name, each in system.named_parameters()}

    def loss(matrix: Tensor, viewport: Any) -> Tensor:
        return fractalops.render(matrix, offset, index, 9, viewport=viewport).square().sum()

    def run() -> Any:
        drawn = [torch.func.grad(loss)(matrix, viewport) for viewport in ((-5.0, -5.0, 5.0, 5.0), "fit", "stretch")]
        mapped = torch.vmap(torch.func.grad(lambda each: loss(each, "fit")))(torch.stack([matrix, 0.5 * matrix]))
        module = torch.func.grad(
            lambda state: torch.func.functional_call(system, state, 9, {"index": index[None]}).square().sum()
        )(state)
        return drawn, mapped, module

    expected = run()
    with MODES[mode]():
        assert_all_same_bits(run(), expected)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_forward_mode_over_a_backward_without_a_graph(case: Case, create_graph: bool, native: str) -> None:
    """A backward without `create_graph` turns gradients off. Tangents must pass through it nevertheless."""

    def pushed(function: Callable[..., Tensor]) -> Tensor:
        first, *rest = case.inputs()
        tangent = torch.randn(first.shape, generator=seeded(1), dtype=torch.float64)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(first.requires_grad_(), tangent)
            value = function(dual, *rest).square().sum()
            (gradient,) = torch.autograd.grad(value, first, create_graph=create_graph)
            return forward_ad.unpack_dual(gradient).tangent.detach()

    expected = pushed(case.reference)
    assert expected.any()
    assert_matches(pushed(case.on(native)), expected)


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_tensors_of_inference_mode_are_refused_by_autograd_as_torch_does(case: Case, native: str) -> None:
    first, *rest = case.inputs()
    with torch.inference_mode():
        made = first.clone()
        assert not case.on(native)(made, *rest).requires_grad
    if rest and case.op != "clamped_squared_error":
        rest[0] = rest[0].requires_grad_()
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
            case.on(native)(made, *rest)
