"""The op that makes matrices of SVD parameters: backends agree, transformations, errors. Its formula: test_ifs.py."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fractalops.ops.svd_matrix import svd_matrix
from fractalops.reference import svd_matrix as reference
from tests.support.tolerances import TOLERANCES, assert_all_match, assert_matches, assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")

SHAPES = [(6,), (0, 6), (1, 6), (3, 6), (2, 63, 6), (300, 6), (3000, 6)]


def parameters(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return (4 * torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).to(dtype)


def value_and_gradient(svd: Tensor, singular_values: str, backend: str) -> tuple[Tensor, Tensor]:
    svd = svd.detach().requires_grad_()
    matrix = svd_matrix(svd, singular_values, backend=backend)
    seed = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(svd.dtype)
    return matrix.detach(), torch.autograd.grad(matrix, svd, seed)[0]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("singular_values", ["sigmoid", "clamp"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_native_matches_the_float64_reference(
    shape: tuple[int, ...], singular_values: str, dtype: torch.dtype, native: str
) -> None:
    svd = parameters(*shape, dtype=dtype)
    expected = value_and_gradient(svd.double(), singular_values, "reference")
    assert_all_match(value_and_gradient(svd, singular_values, native), expected)


@pytest.mark.parametrize("latent", [0.0, -0.0, 1e-300, -1e-300])
@pytest.mark.parametrize("value", [-1.0, -0.0, 0.0, 0.25, 1.0, 2.0, 800.0, -800.0])
def test_native_matches_the_reference_at_the_borders(latent: float, value: float, native: str) -> None:
    svd = torch.tensor([[0.3, -2.0, value, 0.5, latent, 1.0]], dtype=torch.float64)
    for singular_values in ("sigmoid", "clamp"):
        got = value_and_gradient(svd, singular_values, native)
        for one, other in zip(got, value_and_gradient(svd, singular_values, "reference"), strict=True):
            torch.testing.assert_close(one, other, rtol=0.0, atol=1e-14)


def test_a_broken_map_spoils_only_itself(backend: str) -> None:
    svd = parameters(4, 6)
    broken = svd.clone()
    broken[2, 0], broken[2, 3] = math.nan, math.inf
    got, expected = (value_and_gradient(each, "sigmoid", backend) for each in (broken, svd))
    for one, other in zip(got, expected, strict=True):
        assert_same_bits(one[[0, 1, 3]], other[[0, 1, 3]])


def test_bits_do_not_depend_on_threads(native: str, restored_threads: None) -> None:
    svd = parameters(5000, 6)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(value_and_gradient(svd, "sigmoid", native))
    for result in results[1:]:
        assert_same_bits(result[0], results[0][0])
        assert_same_bits(result[1], results[0][1])


def test_vmap_grad_and_jacrev(native: str) -> None:
    svd = parameters(4, 5, 6)
    assert_same_bits(torch.vmap(svd_matrix, in_dims=1)(svd), svd_matrix(svd).transpose(0, 1))

    def loss(each: Tensor) -> Tensor:
        return svd_matrix(each).square().sum()

    (expected,) = torch.autograd.grad(loss(svd.requires_grad_()), svd)
    assert_matches(torch.vmap(torch.func.grad(loss))(svd.detach()), expected)
    jacobian = torch.func.jacrev(svd_matrix)(svd.detach()[0, 0])  # (2, 2, 6)
    wanted = torch.func.jacrev(lambda each: reference.svd_matrix(each[None], False)[0])(svd.detach()[0, 0])
    assert_matches(jacobian, wanted)


def test_compiles_into_one_graph(native: str) -> None:
    svd = parameters(3, 6).requires_grad_()
    compiled = torch.compile(svd_matrix, fullgraph=True, backend="aot_eager")
    matrix = compiled(svd)
    assert_same_bits(matrix, svd_matrix(svd))
    assert_same_bits(
        torch.autograd.grad(matrix.sum(), svd)[0],  # an expanded gradient
        torch.autograd.grad(svd_matrix(svd).sum(), svd)[0],
    )


@pytest.mark.parametrize(
    ("error", "argument", "arguments"),
    [
        (ValueError, "svd", (torch.zeros(3, 5),)),
        (ValueError, "svd", (torch.zeros(()),)),
        (TypeError, "svd", (torch.zeros(3, 6, dtype=torch.int64),)),
        (ValueError, "singular_values", (torch.zeros(3, 6), "tanh")),
    ],
)
def test_errors(error: type[Exception], argument: str, arguments: tuple[object, ...], backend: str) -> None:
    with pytest.raises(error, match=rf"^svd_matrix: {argument} must .+, got .+"):
        svd_matrix(*arguments, backend=backend)  # type: ignore[arg-type]


def test_other_float_dtypes_take_the_reference() -> None:
    svd = parameters(3, 6)
    torch.testing.assert_close(svd_matrix(svd.bfloat16()), svd_matrix(svd.bfloat16().double()).bfloat16())
