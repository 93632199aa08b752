"""Tests of every op's derivatives of any order and in forward mode, against finite differences and the reference."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import hessian, jacfwd, jacrev, jvp
from torch.utils._pytree import tree_leaves

import fractalops
from tests.support.case_tables import CHAIN, DIFFERENTIABLE, RASTER
from tests.support.cases import Case, ChainCase, ErrorCase, MatrixCase, RasterCase, exact, seeded
from tests.support.tolerances import (
    TOLERANCES,
    assert_all_match,
    assert_all_same_bits,
    assert_matches,
    assert_same_bits,
)

pytestmark = pytest.mark.usefixtures("poisoned_memory")

# Second derivatives take a call for each entry of the inputs and of the result.
TINY = [
    ChainCase("one point", batch=2, points=1, maps=2),
    ChainCase("tiny", batch=2, points=5, maps=2),
    ChainCase("tiny, 3d", batch=1, points=3, maps=2, dimensions=3, index_dtype=torch.int64),
    RasterCase("no weight", batch=2, points=3, size=(3, 4)),
    RasterCase("weight", batch=1, points=4, size=(4, 3), channels=0, cutoff=1e-2),
    RasterCase("color, exact", batch=1, points=2, size=(3, 2), channels=2, bandwidth=4.0, cutoff=None),
    MatrixCase("sigmoid", (2,)),
    MatrixCase("clamp", (2,), "clamp"),
    ErrorCase("tiny", (2, 1, 2, 3)),
]
tiny = pytest.mark.parametrize("case", TINY, ids=str)

Function = Callable[..., Any]


def floating(case: Case, inputs: Any) -> list[int]:
    """Return the indices of the inputs that have a gradient."""
    return [place for place in case.differentiable if inputs[place] is not None]


def of_floating(case: Case, function: Function, inputs: Any) -> tuple[Function, tuple[Tensor, ...]]:
    """Return `function` as a function of only the inputs that have a gradient, and these inputs."""
    places = floating(case, inputs)

    def run(*tensors: Tensor) -> Any:
        given = dict(zip(places, tensors, strict=True))
        return function(*(given.get(place, tensor) for place, tensor in enumerate(inputs)))

    return run, tuple(inputs[place] for place in places)


def smooth(case: Case, backend: str) -> tuple[Function, tuple[Tensor, ...]]:
    """Return a function that finite differences can differentiate, and its inputs."""
    inputs = list(case.smooth_inputs() if isinstance(case, RasterCase) else case.inputs())
    if isinstance(case, ErrorCase):  # the error has kinks at 0 and 1
        inputs[0] = torch.where(inputs[0].frac() == 0, 0.4, inputs[0])
    if isinstance(case, MatrixCase):
        # The signs have a straight-through gradient, which finite differences do not give: keep them constant.
        inputs[0] = 0.3 * inputs[0]
        signs = inputs[0][..., 4:]
        function = case.on(backend)
        return lambda rest: function(torch.cat((rest, signs), -1)), (inputs[0][..., :4],)
    return of_floating(case, case.on(backend), inputs)


def wanting(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.detach().clone().requires_grad_() for tensor in tensors)


def squares(function: Function) -> Function:
    return lambda *inputs: function(*inputs).square().sum()


def tangents(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.randn(each.shape, generator=seeded(3), dtype=torch.float64).to(each) for each in tensors)


# Against finite differences


@tiny
def test_gradgradcheck(case: Case, backend: str) -> None:
    function, tensors = smooth(case, backend)
    assert torch.autograd.gradgradcheck(function, wanting(tensors), check_fwd_over_rev=True)


@tiny
def test_gradcheck_of_forward_mode(case: Case, backend: str) -> None:
    function, tensors = smooth(case, backend)
    options = {"check_forward_ad": True, "check_batched_forward_grad": backend == "native"}
    assert torch.autograd.gradcheck(function, wanting(tensors), **options)


# Against the reference

SECOND: dict[str, Function] = {
    "jacrev of jacrev": lambda function, places: jacrev(jacrev(function, places), places),
    "hessian": hessian,
    "jacrev of jacfwd": lambda function, places: jacrev(jacfwd(function, places), places),
    "jacfwd of jacfwd": lambda function, places: jacfwd(jacfwd(function, places), places),
}


@pytest.mark.parametrize("name", SECOND)
@tiny
def test_second_derivatives_are_those_of_the_reference(case: Case, name: str, native: str) -> None:
    results = []
    for function in (case.on(native), case.reference):
        alone, tensors = of_floating(case, function, case.inputs())
        results.append(SECOND[name](squares(alone), tuple(range(len(tensors))))(*tensors))
    assert any(each.any() for each in tree_leaves(results[1]))
    assert_all_match(*results)


@tiny
def test_autograds_own_hessian(case: Case, native: str) -> None:
    alone, tensors = of_floating(case, case.on(native), case.inputs())
    exact, _ = of_floating(case, case.reference, case.inputs())
    expected = torch.autograd.functional.hessian(squares(exact), tensors)
    for options in ({}, {"vectorize": True}, {"vectorize": True, "outer_jacobian_strategy": "forward-mode"}):
        assert_all_match(torch.autograd.functional.hessian(squares(alone), tensors, **options), expected)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_a_penalty_on_the_gradient_of_what_is_linear_in_the_result(
    case: Case, dtype: torch.dtype, backend: str
) -> None:
    """The upstream gradient does not require grad. The result must not silently be zero."""

    def penalty(function: Function, inputs: Any) -> list[Tensor]:
        alone, tensors = of_floating(case, function, inputs)
        leaves = wanting(tensors)
        weights = torch.randn(case.shape, generator=seeded(2), dtype=torch.float64).to(leaves[0])
        gradients = torch.autograd.grad((alone(*leaves) * weights).sum(), leaves, create_graph=True)
        assert all(gradient.requires_grad for gradient in gradients)
        loss = sum(gradient.square().sum() for gradient in gradients)
        return list(torch.autograd.grad(loss, leaves))

    inputs = case.inputs(dtype)
    expected = penalty(case.reference, exact(inputs))
    assert all(each.any() for each in expected)
    for actual, wanted in zip(penalty(case.on(backend), inputs), expected, strict=True):
        assert actual.dtype == dtype
        # The penalty doubles the errors of its gradients.
        assert_matches(actual, wanted, 4 * TOLERANCES[dtype])


def grad_of_squares(function: Function) -> Function:
    return torch.func.grad(squares(function))


THIRD: dict[str, Function] = {
    "grad thrice": lambda function: grad_of_squares(grad_of_squares(torch.func.grad(function))),
    "jacrev of hessian": lambda function: jacrev(hessian(function)),
    "jacfwd of hessian": lambda function: jacfwd(hessian(function)),
    "jacfwd thrice": lambda function: jacfwd(jacfwd(jacfwd(function))),
}


@pytest.mark.parametrize("name", THIRD)
@pytest.mark.parametrize(
    "case",
    [
        ChainCase("least", batch=1, points=3, maps=2),
        RasterCase("least", batch=1, points=3, size=(4, 3), channels=1),
        MatrixCase("least", (1,)),
        ErrorCase("least", (1, 1, 2, 2)),
    ],
    ids=str,
)
def test_third_derivatives_are_those_of_the_reference(case: Case, name: str, native: str) -> None:
    results = []
    for function in (case.on(native), case.reference):
        alone, tensors = of_floating(case, function, case.inputs())
        # Cubes: no third derivative is zero.
        results.append(THIRD[name](lambda *inputs, alone=alone: (alone(*inputs) ** 3).sum())(*tensors))
    assert results[1].any()
    assert_matches(*results, 1e-12)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(
    "case",
    [
        *DIFFERENTIABLE,
        ChainCase("long", batch=3, points=300, maps=10),
        RasterCase("published", batch=3, points=63, size=32),
    ],
    ids=str,
)
def test_jvp_is_that_of_the_reference(case: Case, dtype: torch.dtype, native: str) -> None:
    alone, tensors = of_floating(case, case.on(native), case.inputs(dtype))
    reference, doubles = of_floating(case, case.reference, exact(case.inputs(dtype)))
    moved = tangents(tensors)
    expected = jvp(reference, doubles, tuple(each.double() for each in moved))
    value, tangent = jvp(alone, tensors, moved)
    assert tangent.dtype == dtype
    assert_all_match((value, tangent), expected)
    with forward_ad.dual_level():
        dual = alone(*(forward_ad.make_dual(*pair) for pair in zip(tensors, moved, strict=True)))
        assert_all_same_bits(list(forward_ad.unpack_dual(dual)), [value, tangent])


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # from torch's constant folding
@tiny
def test_linearize(case: Case, native: str) -> None:
    alone, tensors = of_floating(case, case.on(native), case.inputs())
    value, push = torch.func.linearize(alone, *tensors)
    assert_same_bits(value, alone(*tensors))
    assert_matches(push(*tangents(tensors)), jvp(alone, tensors, tangents(tensors))[1])


@pytest.mark.parametrize("case", [CHAIN, RASTER], ids=str)
def test_vmap_of_hessian_is_a_loop(case: Case, native: str) -> None:
    alone, tensors = of_floating(case, case.on(native), case.inputs())
    second = hessian(lambda first: squares(alone)(first, *tensors[1:]))
    lanes = torch.stack([tensors[0], 0.9 * tensors[0]])
    assert_matches(torch.vmap(second)(lanes), torch.stack([second(lane) for lane in lanes]))


# Cost


def module_of(case: Case) -> Any:
    return importlib.import_module(f"fractalops.ops.{case.op}")


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_a_plain_backward_runs_the_kernel_alone(case: Case, native: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `create_graph` the kernel gives the same bits. The formula runs only when the gradient is differentiated."""
    calls = []
    module = module_of(case)
    backward = module._backward
    monkeypatch.setattr(module, "_backward", lambda *arguments: calls.append("kernel") or backward(*arguments))
    transform = torch.func.vjp
    monkeypatch.setattr(torch.func, "vjp", lambda *arguments: calls.append("formula") or transform(*arguments))
    alone, tensors = of_floating(case, case.on(native), case.inputs())
    leaves = wanting(tensors)
    plain = torch.autograd.grad(squares(alone)(*leaves), leaves)
    assert calls == ["kernel"]
    calls.clear()
    graph = torch.autograd.grad(squares(alone)(*leaves), leaves, create_graph=True)
    assert calls == ["kernel"]
    assert_all_same_bits([each.detach() for each in graph], plain)
    torch.autograd.backward(sum(each.sum() for each in graph))
    assert "formula" in calls


@pytest.mark.parametrize("channels", [None, 2])
def test_many_points_are_differentiated_in_parts(
    channels: int | None, native: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = RasterCase("parts", batch=2, points=7, size=(5, 4), channels=channels)
    alone, tensors = of_floating(case, case.on(native), case.inputs())
    exact, _ = of_floating(case, case.reference, case.inputs())
    places = tuple(range(len(tensors)))
    expected = (hessian(squares(exact), places)(*tensors), jvp(exact, tensors, tangents(tensors)))
    module = module_of(case)
    monkeypatch.setattr(module, "_TABLE_VALUES", 2 * 2 * ((channels or 1) * 5 + 4))
    drawn = []
    reference = module.reference.rbf_rasterize

    def counted(points: Tensor, *others: Any) -> Tensor:
        drawn.append(points.shape[1])
        return reference(points, *others)

    monkeypatch.setattr(module.reference, "rbf_rasterize", counted)
    actual = (hessian(squares(alone), places)(*tensors), jvp(alone, tensors, tangents(tensors)))
    assert_all_match(actual, expected)
    assert set(drawn) == {1, 2}


def test_a_bad_point_has_no_second_derivative_and_harms_none(native: str) -> None:
    points = torch.rand(1, 3, 2, generator=seeded(0), dtype=torch.float64) * 3
    draw = squares(lambda points: fractalops.rbf_rasterize(points, 4))
    expected = hessian(draw)(points[:, :2])[0, ..., 0, :, :]
    for bad in (math.nan, math.inf, 1e30):
        points[0, 2, 1] = bad
        second = hessian(draw)(points)[0, ..., 0, :, :]  # (3, 2, 3, 2)
        assert_matches(second[:2, :, :2], expected)
        assert not second[2].any()
        assert not second[:, :, 2].any()


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_autocast_rounds_no_derivative(case: Case, native: str) -> None:
    alone, tensors = of_floating(case, case.on(native), case.inputs(torch.float32))
    places = tuple(range(len(tensors)))

    def derivatives() -> Any:
        return jvp(alone, tensors, tangents(tensors)), hessian(squares(alone), places)(*tensors)

    expected = derivatives()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_all_same_bits(derivatives(), expected)


# Through `render`


def maps() -> tuple[Tensor, Tensor, Tensor]:
    matrix, offset, index, _ = ChainCase("maps", batch=2, points=63, maps=3).inputs()
    return 0.6 * matrix, offset, index


@pytest.mark.parametrize("viewport", [(-3.0, -3.0, 3.0, 3.0), "fit", "stretch"])
def test_a_gradient_penalty_through_render(viewport: Any, native: str) -> None:
    def descend(backend: Any) -> list[Tensor]:
        matrix, offset, index = maps()
        matrix.requires_grad_()
        with fractalops.use_backend(backend):
            image = fractalops.render(matrix, offset, index, 9, viewport=viewport, clamp=False)
            (gradient,) = torch.autograd.grad(image.mean(), matrix, create_graph=True)
            (penalty,) = torch.autograd.grad(gradient.square().sum(), matrix)
        return [gradient.detach(), penalty]

    expected = descend("reference")
    assert expected[1].any()
    for actual, wanted in zip(descend(native), expected, strict=True):
        assert_matches(actual, wanted, 1e-12)


@pytest.mark.parametrize("viewport", [(-3.0, -3.0, 3.0, 3.0), "fit", "stretch"])
def test_forward_and_reverse_mode_agree_on_a_drawing(viewport: Any, backend: Any) -> None:
    """No gradient flows through the viewport and the start, in either mode."""
    matrix, offset, index = maps()

    def draw(matrix: Tensor, offset: Tensor) -> Tensor:
        with fractalops.use_backend(backend):
            return fractalops.render(matrix, offset, index, (5, 4), viewport=viewport)

    assert_all_match(jacfwd(draw, (0, 1))(matrix, offset), jacrev(draw, (0, 1))(matrix, offset))


# Compiled

REFUSED: dict[str, Function] = {
    "jvp": lambda function, first: jvp(function, (first,), (first.cos(),))[1],
    "jacfwd": lambda function, first: jacfwd(function)(first),
    "grad of grad": lambda function, first: torch.func.grad(squares(torch.func.grad(squares(function))))(first),
    "grad of linear grad": lambda function, first: jacrev(jacrev(lambda first: function(first).sum()))(first),
    "hessian": lambda function, first: hessian(squares(function))(first),
}


@pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(
            case,
            name,
            marks=[] if (case, name) in ((CHAIN, "grad of linear grad"), (RASTER, "jvp")) else [pytest.mark.slow],
        )
        for case in DIFFERENTIABLE
        for name in REFUSED
    ],
    ids=str,
)
def test_what_cannot_be_compiled_is_refused_or_runs_eagerly(case: Case, name: str, native: str) -> None:
    first, *rest = case.inputs()

    def run(first: Tensor) -> Any:
        return REFUSED[name](lambda first: case.on(native)(first, *rest), first)

    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="second derivatives can't be compiled"):
        torch.compile(run, fullgraph=True, backend="aot_eager")(first)
    torch._dynamo.reset()
    assert_matches(torch.compile(run, backend="aot_eager")(first), run(first))


@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")  # it leaves such a frame to Python
def test_compiled_code_is_not_taken_for_forward_mode(native: str) -> None:
    first, *rest = CHAIN.inputs()
    torch._dynamo.reset()
    compiled = torch.compile(CHAIN.on(native), backend="aot_eager")
    compiled(first, *rest)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(first, first.cos())
        actual, expected = (forward_ad.unpack_dual(run(dual, *rest)) for run in (compiled, CHAIN.on(native)))
        assert_all_same_bits(list(actual), list(expected))
