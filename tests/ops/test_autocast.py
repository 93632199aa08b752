"""Tests of other dtypes: autocast, mixed dtypes, and modules in half precision.

Under autocast the ops take float32. Without it, mixed dtypes are refused. Modules in half precision compute in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import fractalops
from fractalops import IFS, FractalEmbedding, backends
from fractalops.rendering import project
from fractalops.sampling import determinant_probabilities, sample_attractor, sample_index
from tests.support.case_tables import CHAIN, DIFFERENTIABLE, SMALL
from tests.support.cases import Case, ChainCase, seeded, value_and_gradients
from tests.support.requirements import need_gpu
from tests.support.tolerances import assert_all_same_bits, assert_same_bits

HALF = [torch.bfloat16, torch.float16]
halves = pytest.mark.parametrize("half", HALF, ids=str)


def autocast(half: torch.dtype = torch.bfloat16) -> torch.autocast:
    return torch.autocast("cpu", dtype=half)


def widened(inputs: Any) -> list[Any]:
    return [each.float() if isinstance(each, Tensor) and each.dtype in HALF else each for each in inputs]


# Ops


@halves
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_an_op_takes_float32_and_its_gradients_have_the_dtypes_that_came(
    case: Case, half: torch.dtype, backend: str
) -> None:
    inputs = case.inputs(half)
    value, gradients = case.both(backend, widened(inputs))
    with autocast(half):
        inside, inside_gradients = case.both(backend, inputs)
    assert_same_bits(inside, value)
    if backend == "native":  # autocast around the backward rounds the reference's autograd
        assert_all_same_bits(inside_gradients, [each.to(half) for each in gradients])
    assert {each.dtype for each in inside_gradients} <= {half}


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_an_op_leaves_float64_as_it_is(case: Case, backend: str) -> None:
    expected = case.both(backend, case.inputs())
    assert not case.differentiable or expected[0].dtype == torch.float64
    with autocast():
        result = case.on(backend)(*case.inputs())
    assert_same_bits(result, expected[0])


@halves
def test_one_argument_of_half_precision_suffices(half: torch.dtype, backend: str) -> None:
    for case in SMALL:
        inputs = case.inputs(torch.float32)
        for place, each in enumerate(inputs):
            if each is not None and each.is_floating_point():
                mixed = [*inputs[:place], each.to(half), *inputs[place + 1 :]]
                with autocast(half):
                    result = case.on(backend)(*mixed)
                assert_same_bits(result, case.on(backend)(*widened(mixed)))


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_derivatives_of_any_order(case: Case, native: str) -> None:
    """For inputs in bfloat16, torch.func gives the derivatives of a conversion and the op in float32."""
    inputs = case.inputs(torch.bfloat16)

    def squares(*inputs: Tensor) -> Tensor:
        return case.on(native)(*inputs).float().square().sum()

    def derivatives(function: Callable[..., Tensor]) -> Any:
        gradient = torch.func.grad(function, argnums=case.differentiable)
        lanes = [torch.stack([each, each]) for each in inputs]
        total = torch.func.grad(lambda *inputs: sum(each.float().square().sum() for each in gradient(*inputs)))
        tangents = tuple(torch.ones_like(each) if each.is_floating_point() else each for each in inputs)
        places = case.differentiable

        def alone(*tensors: Tensor) -> Tensor:
            whole = list(inputs)
            for place, tensor in zip(places, tensors, strict=True):
                whole[place] = tensor
            return function(*whole)

        pushed = torch.func.jvp(alone, tuple(inputs[p] for p in places), tuple(tangents[p] for p in places))
        return gradient(*inputs), torch.vmap(gradient)(*lanes), total(*inputs), pushed

    expected = derivatives(lambda *inputs: squares(*widened(inputs)))
    with autocast():
        assert_all_same_bits(derivatives(squares), expected)


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_compiled_code_is_guarded_on_autocast(case: Case, native: str) -> None:
    inputs = case.inputs(torch.bfloat16)
    torch._dynamo.reset()
    compiled = torch.compile(case.on(native), fullgraph=True, backend="aot_eager")

    def run(function: Callable[..., Tensor], inputs: Any) -> Any:
        return value_and_gradients(function, inputs, differentiable=case.differentiable)

    value, gradients = run(compiled, widened(inputs))
    with autocast():
        inside = run(compiled, inputs)
    assert_all_same_bits(inside, (value, [each.bfloat16() for each in gradients]))
    with pytest.raises(Exception, match="must be float32 or float64"):
        compiled(*inputs)


def test_a_gpu_has_an_autocast_of_its_own(monkeypatch: pytest.MonkeyPatch, native: str) -> None:
    """The ops are traced without a GPU. Autocast for the CPU does not change tensors on a GPU, and vice versa."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delitem(backends.STATE.load_errors, "cuda", raising=False)  # as if the CUDA library were loaded

    def chain(device: str) -> Tensor:
        inputs = [torch.empty(each.shape, dtype=each.dtype, device=device) for each in CHAIN.inputs(torch.bfloat16)]
        return fractalops.affine_chain(*inputs, backend=native)

    with FakeTensorMode():
        for enabled, other in (("cuda", "cpu"), ("cpu", "cuda")):
            torch.set_autocast_enabled(enabled, True)
            try:
                assert (chain(enabled).dtype, chain(enabled).device.type) == (torch.float32, enabled)
                with pytest.raises(TypeError, match="matrix must be float32 or float64"):
                    chain(other)
            finally:
                torch.set_autocast_enabled(enabled, False)


@pytest.mark.gpu
@halves
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_on_a_gpu(case: Case, half: torch.dtype) -> None:
    need_gpu()
    inputs = [each.cuda() for each in case.inputs(half)]
    value, gradients = value_and_gradients(case.on(None), widened(inputs), differentiable=case.differentiable)
    with torch.autocast("cuda", dtype=half):
        inside = value_and_gradients(case.on(None), inputs, differentiable=case.differentiable)
    assert_all_same_bits(inside, (value, [each.to(half) for each in gradients]))


# Drawings

MAPS = ChainCase("maps", batch=2, points=63, maps=3).inputs(torch.float32)
CLOUD = torch.rand(2, 40, 3, generator=seeded(4))
DRAWINGS: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "render": (lambda matrix, offset: fractalops.render(matrix, offset, MAPS[2], 16), MAPS[:2]),
    "render fit": (
        lambda matrix, offset, bandwidth, color: fractalops.render(
            matrix, offset, MAPS[2], (9, 7), viewport="fit", bandwidth=bandwidth, color=color, blend="mean"
        ),
        (*MAPS[:2], torch.tensor(1.3), torch.rand(3, 3, generator=seeded(1))),
    ),
    "render with a start and a weight": (
        lambda matrix, offset, start, weight: fractalops.render(
            matrix, offset, MAPS[2], 9, start=start, weight=weight, viewport="stretch"
        ),
        (*MAPS[:2], MAPS[3], torch.rand(2, 63, generator=seeded(2))),
    ),
    "project": (
        lambda points, azimuth: torch.cat([part.flatten() for part in project(points, azimuth, 20.0)]),
        (CLOUD, torch.tensor(40.0)),
    ),
    "render_points": (
        lambda points, azimuth: fractalops.render_points(points, 9, azimuth=azimuth),
        (CLOUD, torch.tensor(40.0)),
    ),
    "FractalEmbedding.step": (
        lambda points: FractalEmbedding(3, generator=seeded(3)).step(torch.tensor([0, 2]), points),
        (MAPS[3],),
    ),
    "FractalEmbedding": (
        lambda start: FractalEmbedding(3, generator=seeded(3))(MAPS[2], start),
        (MAPS[3],),
    ),
    "IFS": (
        lambda bandwidth: IFS(2, 3, channels=3, blend="mean", background=0.5, generator=seeded(3))(
            9, points=20, bandwidth=bandwidth, generator=seeded(5)
        ),
        (torch.tensor(1.3),),
    ),
}


@halves
@pytest.mark.parametrize("name", DRAWINGS)
def test_what_draws_takes_float32(name: str, half: torch.dtype, backend: str) -> None:
    function, inputs = DRAWINGS[name]
    inputs = tuple(each.to(half) for each in inputs)
    wide = [each.float().requires_grad_() for each in inputs]
    expected = function(*wide)
    gradients = torch.autograd.grad(expected.square().sum(), wide)
    leaves = [each.clone().requires_grad_() for each in inputs]
    with autocast(half):
        result = function(*leaves)
    assert_same_bits(result, expected)
    found = torch.autograd.grad(result.square().sum(), leaves)
    assert_all_same_bits(found, [each.to(half) for each in gradients])


@halves
def test_what_is_drawn_at_random_takes_float32(half: torch.dtype, backend: str) -> None:
    matrix, offset = (0.6 * each[None].to(half) for each in MAPS[:2])

    def draw(matrix: Tensor, offset: Tensor) -> list[Tensor]:
        probabilities = determinant_probabilities(matrix)
        index = sample_index(probabilities, 2, 9, seeded(0))
        return [probabilities, index, *sample_attractor(matrix, offset, probabilities, 50, generator=seeded(1))]

    with autocast(half):
        inside = draw(matrix, offset)
    assert_all_same_bits(inside, draw(matrix.float(), offset.float()))


def test_maps_that_a_linear_layer_made_are_learned(native: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 3 * 6)
    code = torch.rand(1, 4, generator=seeded(6))
    index, target = MAPS[2], torch.full((2, 8, 8), 0.3)
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)
    errors = []
    for _ in range(20):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            maps = layer(code).view(3, 6)
            assert maps.dtype == torch.bfloat16
            image = fractalops.render(maps[:, :4].view(3, 2, 2), maps[:, 4:], index, 8, viewport=(-2, -2, 2, 2))
            error = (image - target).square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(error)
        assert {parameter.grad.dtype for parameter in layer.parameters()} == {torch.float32}
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.9 * errors[0]


# Mixed dtypes outside autocast

CALLS = {
    **{str(case): (case.on(None), case.inputs(torch.float32)) for case in SMALL},
    **DRAWINGS,
}
# Numbers are drawn in double precision for weights of any dtype.
ANY_DTYPE = ("draw_index", "draw_balanced_index", "IFS", "FractalEmbedding")
MIXED = [
    (name, place, other)
    for name, (_, inputs) in CALLS.items()
    if sum(each is not None and each.is_floating_point() for each in inputs) > 1 and not name.startswith(ANY_DTYPE)
    for place, each in enumerate(inputs)
    if each is not None and each.is_floating_point()
    for other in (torch.float64, *HALF)
]


@pytest.mark.parametrize(("name", "place", "other"), MIXED, ids=str)
def test_mixed_dtypes_are_refused_by_name(name: str, place: int, other: torch.dtype, backend: str) -> None:
    function, inputs = CALLS[name]
    mixed = [each.to(other) if number == place else each for number, each in enumerate(inputs)]
    given = (torch.float32, other)
    message = rf"^\w+: (\w+) must have the dtype of (\w+) \(({given[0]}|{given[1]})\), got ({given[0]}|{given[1]})$"
    with pytest.raises(TypeError, match=message), fractalops.use_backend(backend):  # type: ignore[arg-type]
        function(*mixed)


@halves
def test_half_precision_is_refused_with_what_to_do(half: torch.dtype, native: str) -> None:
    matrix, offset, index, start = CHAIN.inputs(half)
    with pytest.raises(TypeError, match=r"^affine_chain: matrix must be float32 or float64 \(.*autocast.*\), got"):
        fractalops.affine_chain(matrix, offset, index, start)


# Modules in half precision

MODULES: dict[str, dict[str, Any]] = {
    "svd": {},
    "matrix": {"parametrization": "matrix"},
    "color": {"channels": 3},
    "mean": {"channels": 2, "color_values": "clamp", "blend": "mean", "background": 0.2},
    "learned": {"probabilities": "learned", "sampling": "balanced", "singular_values": "clamp", "viewport": "fit"},
    "given": {"probabilities": "given"},
}


@halves
@pytest.mark.parametrize("name", MODULES)
def test_a_system_keeps_half_precision_and_computes_in_float32(name: str, half: torch.dtype, native: str) -> None:
    system = IFS(2, 3, generator=seeded(0), **MODULES[name]).to(half)
    wide = IFS(2, 3, generator=seeded(0), **MODULES[name])
    wide.load_state_dict(system.state_dict())
    expected = wide(9, points=50, generator=seeded(1)).to(half)
    torch.autograd.backward(expected.float().square().sum())
    for under_autocast in (False, True):
        system.zero_grad()
        with torch.autocast("cpu", dtype=half, enabled=under_autocast):
            image = system(9, points=50, generator=seeded(1))
        assert image.dtype == half
        assert_same_bits(image, expected)
        torch.autograd.backward(image.float().square().sum())
        assert_all_same_bits(
            [each.grad for each in system.parameters()], [each.grad.to(half) for each in wide.parameters()]
        )
    index = system.sample(2, 9, generator=seeded(2))
    assert_same_bits(system.points(index), wide.points(index))
    bandwidth = torch.tensor(1.5)
    wider = system(9, index=index, bandwidth=bandwidth.to(half))
    assert_same_bits(wider, wide(9, index=index, bandwidth=bandwidth).to(half))
    assert_same_bits(system.system(1).matrix, wide.system(1).matrix)
    system.reset_parameters(seeded(0))
    assert_all_same_bits(
        list(system.parameters()), list(IFS(2, 3, generator=seeded(0), **MODULES[name]).to(half).parameters())
    )


@halves
def test_an_embedding_keeps_half_precision_and_computes_in_float32(half: torch.dtype, native: str) -> None:
    layer = FractalEmbedding(3, generator=seeded(0)).to(half)
    wide = FractalEmbedding(3)
    wide.load_state_dict(layer.state_dict())
    index, start = MAPS[2], MAPS[3].to(half)
    for found, expected in (
        (layer(index, start), wide(index, start.float())),
        (layer.step(index[:, 0], start), wide.step(index[:, 0], start.float())),
    ):
        assert found.dtype == half
        assert_same_bits(found, expected.to(half))
        (gradient,) = torch.autograd.grad(found.float().sum(), layer.matrix_columns)
        (wide_gradient,) = torch.autograd.grad(expected.to(half).float().sum(), wide.matrix_columns)
        assert_same_bits(gradient, wide_gradient.to(half))
    layer.reset_parameters(seeded(0))
    assert_same_bits(layer.offset_columns, FractalEmbedding(3, generator=seeded(0)).to(half).offset_columns)
