"""How the ops are defined, for all of them alike: what PyTorch's own checks say of them, and `vmap` as a loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fractalops.op_table import OPS


def rand(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=dtype)


INDEX = torch.tensor([[0, 2, 1, 1], [2, 2, 0, 1], [1, 0, 0, 2]], dtype=torch.uint8)  # (B, T)
MASK = torch.tensor([[[1, 0, 1]], [[1, 1, 1]], [[0, 0, 1]]], dtype=torch.uint8)  # (B, 1, 3)

# Arguments of each raw op: every tensor has a batch of three in front.
ARGUMENTS: dict[str, list[tuple[Any, ...]]] = {
    "affine_chain_fwd": [(rand(3, 2, 2), rand(3, 2), INDEX, rand(3, 2))],
    "affine_chain_bwd": [(rand(3, 4, 2), rand(3, 2, 2), INDEX, rand(3, 2), rand(3, 4, 2))],
    "rbf_rasterize_fwd": [
        (8 * rand(3, 5, 2), rand(3, 5, 2), rand(3) + 1, 7, 9, 1e-6),
        (8 * rand(3, 5, 2), None, rand(3) + 1, 7, 9, 0.0),
    ],
    "rbf_rasterize_bwd": [
        (rand(3, 2, 7, 9), 8 * rand(3, 5, 2), rand(3, 5, 2), rand(3) + 1, 1e-6, True),
        (rand(3, 1, 7, 9), 8 * rand(3, 5, 2), None, rand(3) + 1, 1e-6, False),
    ],
    "rasterize_points": [(8 * rand(3, 5, 2), MASK, 7, 9, binary) for binary in (False, True)],
    "svd_matrix_fwd": [(rand(3, 6), clamped) for clamped in (False, True)],
    "svd_matrix_bwd": [(rand(3, 2, 2), rand(3, 6), clamped) for clamped in (False, True)],
    "clamped_squared_error_fwd": [(2 * rand(3, 2, 20), rand(3, 20))],
    "clamped_squared_error_bwd": [(rand(3), 2 * rand(3, 2, 20), rand(3, 20))],
    "draw_index": [
        (rand(3, 10), rand(3, 30, dtype=torch.float32), 1e-3),
        (rand(3, 300), rand(3, 30), 0.0),
    ],
    "draw_balanced_index": [
        (rand(3, 10), rand(3, 2, 30, dtype=torch.float32), 1e-3),
        (rand(3, 300), rand(3, 2, 30), 0.0),
    ],
    "fixed_point": [(rand(3, 2, 2), rand(3, 2))],
}
CASES = [
    pytest.param(name, each, id=f"{name}-{i}") for name, calls in ARGUMENTS.items() for i, each in enumerate(calls)
]


def results(name: str, arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
    result = getattr(torch.ops.fractalops, name)(*arguments)
    return (result,) if isinstance(result, Tensor) else tuple(result)


def test_every_op_of_the_table_is_tried() -> None:
    assert set(ARGUMENTS) == {name for op in OPS.values() for name in op.names()}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_opcheck(name: str, arguments: tuple[Any, ...]) -> None:
    torch.library.opcheck(getattr(torch.ops.fractalops, name).default, arguments)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_vmap_is_a_loop(name: str, arguments: tuple[Any, ...]) -> None:
    """Over all tensors, over the first alone, and over all but the first."""
    tensors = [place for place, argument in enumerate(arguments) if isinstance(argument, Tensor)]
    for mapped in filter(None, (tensors, tensors[:1], tensors[1:])):
        lanes = [list(arguments), list(arguments)]
        for place in mapped:
            lanes[1][place] = arguments[place].flip(0)
        dims = tuple(1 if place in mapped else None for place in range(len(arguments)))
        stacked = [
            argument if dim is None else torch.stack([lane[place] for lane in lanes], dim)
            for place, (argument, dim) in enumerate(zip(arguments, dims, strict=True))
        ]
        batched = torch.vmap(lambda *each: results(name, each), in_dims=dims)(*stacked)
        for actual, *expected in zip(batched, *(results(name, tuple(lane)) for lane in lanes), strict=True):
            # The chain's gradients are summed in another order when there are more sequences.
            torch.testing.assert_close(actual, torch.stack(expected), rtol=1e-12, atol=1e-15, equal_nan=True)
