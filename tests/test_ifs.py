"""Tests of the parameters of iterated function systems, of random starts, and of probabilities."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from fractalops.embedding import FractalEmbedding
from fractalops.ifs import IFS
from fractalops.ops.fixed_point import fixed_point
from fractalops.ops.svd_matrix import svd_matrix
from fractalops.reference.affine_chain import affine_chain as reference_chain
from fractalops.rendering import render
from fractalops.sampling import determinant_probabilities
from fractalops.systems import random_systems
from tests.support.cases import seeded

NAN, INFINITY = math.nan, math.inf


def rotation(angle: Tensor) -> Tensor:
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack((cosine, -sine, sine, cosine), -1).view(*angle.shape, 2, 2)


def written_out(svd: Tensor, singular_values: str) -> Tensor:
    """Return the matrices of paper eq. 10 as products of their factors."""
    values = svd[..., 2:4].sigmoid() if singular_values == "sigmoid" else svd[..., 2:4].clamp(0, 1)
    sign = torch.where(svd[..., 4:] < 0, -1.0, 1.0).to(svd.dtype)
    return rotation(svd[..., 0]) @ values.diag_embed() @ rotation(svd[..., 1]) @ sign.diag_embed()


@pytest.mark.parametrize("singular_values", ["sigmoid", "clamp"])
@pytest.mark.parametrize("shape", [(6,), (0, 6), (3, 6), (2, 5, 6)])
def test_svd_matrix_is_the_product_of_its_factors(shape: tuple[int, ...], singular_values: str) -> None:
    svd = 2 * torch.randn(shape, generator=seeded(0), dtype=torch.float64)
    expected = written_out(svd, singular_values)
    torch.testing.assert_close(svd_matrix(svd, singular_values), expected, rtol=1e-14, atol=1e-14)
    single = svd_matrix(svd.float(), singular_values)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, written_out(svd.float().double(), singular_values).float())


def test_svd_matrix_of_zeros_has_positive_signs() -> None:
    torch.testing.assert_close(svd_matrix(torch.zeros(6)), 0.5 * torch.eye(2))


@pytest.mark.parametrize("singular_values", ["sigmoid", "clamp"])
def test_svd_matrix_gradcheck_of_the_smooth_part(singular_values: str) -> None:
    drawn = torch.rand(2, 3, 6, generator=seeded(1), dtype=torch.float64)  # inside the clamp's range
    smooth = (drawn[..., :4] * 0.8 + 0.1).requires_grad_()
    latent = drawn[..., 4:] - 0.5

    def matrix(smooth: Tensor) -> Tensor:
        return svd_matrix(torch.cat((smooth, latent), -1), singular_values, backend="reference")

    assert torch.autograd.gradcheck(matrix, smooth)
    assert torch.autograd.gradgradcheck(matrix, smooth)


def test_straight_through_sign_passes_the_gradient_of_the_sign() -> None:
    svd = torch.randn(4, 6, generator=seeded(2), dtype=torch.float64, requires_grad=True)
    seed = torch.randn(4, 2, 2, generator=seeded(3), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(svd_matrix(svd), svd, seed)
    unsigned = written_out(torch.cat((svd[:, :4], torch.ones(4, 2)), -1).detach(), "sigmoid")
    torch.testing.assert_close(gradient[:, 4:], (seed * unsigned).sum(-2))


def test_svd_matrix_keeps_its_precision_under_autocast() -> None:
    svd = torch.randn(5, 6, generator=seeded(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = svd_matrix(svd)
    assert torch.equal(inside, svd_matrix(svd))


def test_probabilities_are_proportional_to_determinants() -> None:
    matrix = torch.randn(3, 5, 2, 2, generator=seeded(12), dtype=torch.float64, requires_grad=True)
    probabilities = determinant_probabilities(matrix, 0.0)
    assert not probabilities.requires_grad
    weight = torch.linalg.det(matrix.detach()).abs()
    torch.testing.assert_close(probabilities, weight / weight.sum(-1, keepdim=True))


def test_probabilities_of_flat_and_broken_maps() -> None:
    matrix = 0.5 * torch.eye(2).repeat(5, 3, 1, 1)  # (5, 3, 2, 2)
    matrix[0, 0] = torch.tensor([[1.0, 2.0], [2.0, 4.0]])
    matrix[1] = 0
    matrix[2, 1, 0, 0] = NAN
    matrix[3, 1, 0, 0] = INFINITY
    matrix[4] *= 1e15
    probabilities = determinant_probabilities(matrix)
    torch.testing.assert_close(probabilities[0], torch.tensor([1e-3, 0.5, 0.5]) / 1.001)
    assert torch.equal(probabilities[1:], torch.full((4, 3), 1 / 3))


def test_probabilities_of_both_parametrizations() -> None:
    for singular_values in ("sigmoid", "clamp"):
        system = IFS(3, 4, singular_values=singular_values, dtype=torch.float64, generator=seeded(13))
        expected = determinant_probabilities(system.maps()[0])
        torch.testing.assert_close(system.probabilities(), expected, rtol=1e-9, atol=1e-12)
    plain = IFS(3, 4, parametrization="matrix", generator=seeded(13))
    assert torch.equal(plain.probabilities(), determinant_probabilities(plain.matrix))


def test_fixed_point_stays_where_it_is() -> None:
    system = IFS(6, 3, dtype=torch.float64, generator=seeded(14))
    matrix, offset = system.maps()
    start = system.start()
    assert not start.requires_grad
    moved = (matrix[:, 0] @ start.unsqueeze(-1)).squeeze(-1) + offset[:, 0]
    torch.testing.assert_close(moved.detach(), start)


@pytest.mark.parametrize("singular_values", ["sigmoid", "clamp"])
@pytest.mark.parametrize("parametrization", ["svd", "matrix"])
def test_a_module_starts_as_the_random_systems(parametrization: str, singular_values: str) -> None:
    arguments: dict[str, Any] = {"parametrization": parametrization, "singular_values": singular_values}
    system = IFS(2, 5, dtype=torch.float64, generator=seeded(20), **arguments)
    drawn = random_systems(2, 5, generator=seeded(20), dtype=torch.float64)
    factors = (drawn.theta[..., None], drawn.phi[..., None], drawn.singular_values, drawn.reflection)
    expected = written_out(torch.cat(factors, -1), "clamp")
    rounded = parametrization == "svd" and singular_values == "sigmoid"
    matrix, offset = system.maps()
    torch.testing.assert_close(matrix, expected, rtol=0, atol=2.1e-3 if rounded else 1e-12)
    assert torch.equal(offset, drawn.offset)
    assert all(parameter.isfinite().all() for parameter in system.parameters())
    expected_names = {"svd", "offset"} if parametrization == "svd" else {"matrix", "offset"}
    assert set(dict(system.named_parameters())) == expected_names
    assert matrix.requires_grad


@pytest.mark.parametrize("parametrization", ["svd", "matrix"])
def test_colors_start_at_one_half_and_draw_no_random_numbers(parametrization: str) -> None:
    arguments: dict[str, Any] = {"parametrization": parametrization, "dtype": torch.float64}
    plain = IFS(2, 5, generator=seeded(20), **arguments)
    system = IFS(2, 5, channels=3, generator=seeded(20), **arguments)
    assert (plain.channels, plain.colors()) == (None, None)
    assert system.channels == 3
    colors = system.colors()
    assert colors is not None
    assert torch.equal(colors, torch.full((2, 5, 3), 0.5).double())
    names = dict(system.named_parameters()).keys() - dict(plain.named_parameters()).keys()
    assert names == {"color"}
    for name, tensor in plain.state_dict().items():
        assert torch.equal(system.state_dict()[name], tensor)


def test_colors_stay_between_0_and_1_and_come_back() -> None:
    system = IFS(2, 5, channels=2, generator=seeded(20))
    with torch.no_grad():
        system.get_parameter("color").copy_(100 * torch.randn(2, 5, 2, generator=seeded(21)))
    colors = system.colors()
    assert colors is not None
    assert colors.min() >= 0
    assert colors.max() <= 1
    other = IFS(2, 5, channels=2)
    other.load_state_dict(system.state_dict())
    index = torch.zeros(2, 1, 4).byte()
    assert torch.equal(other(9, index=index), system(9, index=index))
    assert torch.equal(other.start(), system.start())
    with pytest.raises(RuntimeError, match="color"):
        IFS(2, 5).load_state_dict(system.state_dict())


@pytest.mark.parametrize(
    "module",
    [
        partial(IFS, 2, 5, parametrization="svd", channels=3, probabilities="learned"),
        partial(IFS, 2, 5, parametrization="matrix", channels=3, probabilities="learned"),
        partial(FractalEmbedding, 5),
    ],
    ids=["svd", "matrix", "embedding"],
)
def test_parameters_are_drawn_anew_in_place_and_made_where_and_as_asked(
    module: Callable[..., IFS | FractalEmbedding],
) -> None:
    system, other = module(generator=seeded(20)), module(generator=seeded(21))
    kept = dict(other.named_parameters())
    with torch.no_grad():
        for parameter in kept.values():
            parameter.fill_(7)
    other.reset_parameters(seeded(20))
    for name, parameter in other.named_parameters():
        assert parameter is kept[name]
        assert torch.equal(parameter, system.get_parameter(name))
    placed = module(generator=seeded(20), device="meta", dtype=torch.float64)
    for name, parameter in placed.named_parameters():
        assert (parameter.device.type, parameter.dtype) == ("meta", torch.float64)
        assert parameter.shape == system.get_parameter(name).shape


def test_parameters_without_values_are_not_drawn() -> None:
    generator = seeded(20)
    IFS(2, 3, generator=generator, device="meta")
    assert torch.equal(generator.get_state(), seeded(20).get_state())


def test_latent_signs_spread_over_the_unit_interval() -> None:
    latent = IFS(50, 10, generator=seeded(21)).svd[..., 4:].detach()
    assert latent.abs().max() <= 1
    assert latent.ne(0).all()
    assert abs(latent.abs().mean().item() - 0.5) < 5 * 0.29 / math.sqrt(1000)


def test_what_a_module_shows() -> None:
    system = IFS(2, 3)
    assert (system.systems, system.maps_per_system) == (2, 3)
    assert repr(system) == (
        "IFS(systems=2, maps=3, parametrization='svd', singular_values='sigmoid', probability_floor=0.001)"
    )
    assert repr(IFS(2, 3, channels=3)).endswith("probability_floor=0.001, channels=3)")


@pytest.mark.parametrize(("systems", "maps"), [(1, 3), (4, 3), (30, 10), (2, 300)])
@pytest.mark.parametrize("dtype", [None, torch.int32, torch.int64])
def test_concatenated_systems_equal_separate_ones(systems: int, maps: int, dtype: torch.dtype | None) -> None:
    system = IFS(systems, maps, generator=seeded(24), dtype=torch.float64)
    index = system.sample(2, 9, generator=seeded(25))
    matrix, offset, joined, start = system.concatenated(index if dtype is None else index.to(dtype))
    assert matrix.shape == (systems * maps, 2, 2)
    assert offset.shape == (systems * maps, 2)
    assert joined.shape == (2 * systems, 9)
    assert start.shape == (2 * systems, 2)
    assert joined.dtype == (torch.uint8 if systems * maps <= 256 else torch.int32)
    together = reference_chain(matrix, offset, joined, start).view(systems, 2, 9, 2)
    for s in range(systems):
        separate = reference_chain(system.maps()[0][s], system.maps()[1][s], index[s], system.start()[s].expand(2, 2))
        torch.testing.assert_close(together[s], separate, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(together.sum(), system.svd)
    assert gradient.isfinite().all()


@pytest.mark.parametrize(("systems", "maps", "channels"), [(3, 4, None), (1, 1, 1), (3, 4, 3), (30, 10, 2)])
def test_forward_renders_each_system_alone_and_in_its_own_colors(systems: int, maps: int, channels: int | None) -> None:
    system = IFS(systems, maps, channels=channels, generator=seeded(26))
    if channels is not None:
        with torch.no_grad():
            system.get_parameter("color").copy_(torch.randn(systems, maps, channels, generator=seeded(30)))
    index = system.sample(2, 50, generator=seeded(27))
    images = system((12, 17), index=index, viewport=(-2.0, -2.0, 2.0, 2.0))
    assert images.shape == (systems, 2, *([] if channels is None else [channels]), 12, 17)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert 0 < images.max() <= 1
    gray = IFS(1, maps)
    for s in range(systems):
        state = {name: value[s : s + 1] for name, value in system.state_dict().items()}
        logits = state.pop("color", None)  # (1, N, C)
        gray.load_state_dict(state)
        matrix, offset, joined, start = gray.concatenated(index[s : s + 1])
        weight = None if logits is None else logits[0].sigmoid()[joined.long()]  # (K, T, C)
        expected = render(matrix, offset, joined, (12, 17), start=start, viewport=(-2.0, -2.0, 2.0, 2.0), weight=weight)
        torch.testing.assert_close(images[s], expected, rtol=1e-4, atol=1e-5)
    images.square().mean().backward()
    for parameter in system.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0 or maps == 1


def test_forward_draws_new_sequences_from_the_generator() -> None:
    system = IFS(2, 4, generator=seeded(28))
    images = system(16, sequences=3, points=40, generator=seeded(29))
    assert images.shape == (2, 3, 16, 16)
    index = system.sample(3, 40, generator=seeded(29))
    assert torch.equal(images, system(16, index=index))


BAD_CALLS: list[tuple[Any, type[Exception], str]] = [
    (lambda: determinant_probabilities(torch.eye(2)), ValueError, "matrix must have shape"),
    (lambda: determinant_probabilities(torch.ones(1, 1, 2, 2), 1.0), ValueError, "floor must lie in"),
    (lambda: determinant_probabilities(torch.ones(1, 1, 2, 2), NAN), ValueError, "floor must lie in"),
    (lambda: fixed_point(torch.eye(3), torch.ones(3)), ValueError, "fixed_point: matrix must have shape"),
    (lambda: fixed_point(torch.eye(2), torch.ones(3)), ValueError, "fixed_point: offset must have shape"),
    (lambda: IFS(0), ValueError, "IFS: systems must be at least 1, got 0"),
    (lambda: IFS(maps=True), TypeError, "IFS: maps must be an int, got bool"),
    (lambda: IFS(channels=0), ValueError, "IFS: channels must be at least 1, got 0"),
    (lambda: IFS(channels=True), TypeError, "IFS: channels must be an int, got bool"),
    (lambda: IFS(channels=3.0), TypeError, "IFS: channels must be an int, got float"),  # type: ignore[arg-type]
    (
        lambda: IFS(generator=[seeded(0)] * 2),
        ValueError,
        "IFS: generator must have length 1, one for each system, got 2",
    ),
    (lambda: IFS(parametrization="qr"), ValueError, "IFS: parametrization must be"),
    (lambda: IFS(singular_values="relu"), ValueError, "IFS: singular_values must be"),
    (lambda: IFS(probability_floor=-0.1), ValueError, "IFS: probability_floor must lie in"),
    (lambda: IFS(probability_floor="0"), TypeError, "IFS: probability_floor must be a number"),  # type: ignore[arg-type]
    (lambda: IFS(viewport=(1, 0, 0, 1)), ValueError, "IFS: viewport must be"),
    (lambda: IFS(bandwidth=0), ValueError, "IFS: bandwidth must be a finite number above 0, got 0"),
    (lambda: IFS(cutoff=1.0), ValueError, "IFS: cutoff must lie in"),
    (lambda: IFS(dtype=torch.bfloat16), TypeError, "IFS: dtype must be torch.float32"),
    (lambda: IFS(2, 3).concatenated(torch.zeros(1, 4, 5).byte()), ValueError, "index must have shape"),
    (lambda: IFS(2, 3).concatenated(torch.zeros(2, 4, 5)), TypeError, "index must be uint8"),
    (lambda: IFS(2, 3).concatenated(torch.full((2, 4, 5), 3)), IndexError, r"index must lie in \[0, 3\), got 3$"),
    (lambda: IFS(2, 3).concatenated(torch.full((2, 4, 5), -1)), IndexError, r"index must lie in \[0, 3\), got -1$"),
    (lambda: IFS(1, 3).concatenated(torch.full((1, 4, 5), 2**40)), IndexError, r"in \[0, 3\)"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS, ids=itertools.count())
def test_errors_name_the_argument(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_module_draws_with_its_own_settings_unless_told_otherwise() -> None:
    settings: dict[str, Any] = {"viewport": (-1.0, -2.0, 1.0, 2.0), "bandwidth": 2.0, "cutoff": 1e-2}
    system, plain = IFS(2, 3, **settings, generator=seeded(31)), IFS(2, 3, generator=seeded(31))
    index = system.sample(1, 30, generator=seeded(32))
    expected = plain(16, index=index, **settings)
    for same in (system, copy.deepcopy(system), pickle.loads(pickle.dumps(system))):
        assert torch.equal(same(16, index=index), expected)
    assert not torch.equal(plain(16, index=index), expected)
    other: dict[str, Any] = {"viewport": (-5.0, -5.0, 5.0, 5.0), "bandwidth": 1.0, "cutoff": 1e-6}
    assert torch.equal(system(16, index=index, **other), plain(16, index=index))
    assert torch.equal(system(16, index=index, cutoff=None), plain(16, index=index, **settings | {"cutoff": None}))
    assert repr(system).endswith("viewport=(-1.0, -2.0, 1.0, 2.0), bandwidth=2, cutoff=0.01)")
