"""Tests that the backends of the sampling ops agree exactly, also at limits. Their statistics: test_sampling.py."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fractalops.ops.draw_balanced_index import draw_balanced_index
from fractalops.ops.draw_index import draw_index
from tests.support.cases import BalancedCase, DrawCase
from tests.support.tolerances import TOLERANCES, assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")

CASES = [
    *(
        DrawCase(f"{draws} of {maps} maps", 3, maps, draws)
        for maps, draws in itertools.product([1, 2, 10, 33, 34, 256, 257, 300], [0, 1, 63, 300, 9000])
    ),
    *(
        BalancedCase(f"{points} of {maps} maps", 2, 7, maps, points)  # the sequences are drawn 5 at a time
        for maps, points in itertools.product([1, 2, 3, 8, 10, 16, 17, 25, 256, 257, 300], [1, 3, 63, 300])
    ),
]
DRAW = {DrawCase: draw_index, BalancedCase: draw_balanced_index}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_native_equals_the_reference(case: DrawCase | BalancedCase, dtype: torch.dtype, native: str) -> None:
    weight, uniform = case.inputs(dtype)
    for floor in (0.0, 1e-3):
        index = DRAW[type(case)](weight, uniform, floor, backend=native)
        assert_same_bits(index, DRAW[type(case)](weight, uniform, floor, backend="reference"))
        assert index.shape == uniform.shape
        assert index.dtype == (torch.uint8 if case.maps <= 256 else torch.int32)
        assert not index.numel() or int(index.max()) < case.maps


@pytest.mark.parametrize("weights", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], [1e-40, 0.0], [3e38, 3e38]])
@pytest.mark.parametrize("floor", [0.0, 1e-3, 0.9])
@pytest.mark.parametrize(
    ("draw", "uniform"),
    [
        (draw_index, torch.linspace(0, 1 - 2**-24, 1001)[None]),
        (draw_balanced_index, torch.rand(1, 5, 63, generator=torch.Generator().manual_seed(0))),
    ],
    ids=["draw_index", "draw_balanced_index"],
)
def test_backends_agree_on_odd_weights_and_floors(
    draw: Callable[..., Tensor], uniform: Tensor, weights: list[float], floor: float, native: str
) -> None:
    weight = torch.tensor([weights])
    index = draw(weight, uniform, floor, backend=native)
    assert_same_bits(index, draw(weight, uniform, floor, backend="reference"))


def test_no_systems(backend: str) -> None:
    assert draw_index(torch.zeros(0, 9), torch.zeros(0, 5), backend=backend).shape == (0, 5)
