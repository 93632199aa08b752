"""The op behind sampling: backends agree exactly, at the borders too. Its statistics: test_sampling.py."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fractalops.ops.draw_index import draw_index
from tests.support.tolerances import assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def inputs(systems: int, maps: int, draws: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weights (S, N), some of them 0, and numbers (S, M), some on a bound between two maps."""
    generator = torch.Generator().manual_seed(maps)
    weight = torch.rand(systems, maps, generator=generator, dtype=torch.float64)
    weight[:, 1::3] = 0
    sums = weight.cumsum(1)
    bounds = (sums[:, :-1] / sums[:, -1:]).to(dtype)
    uniform = torch.rand(systems, draws, generator=generator, dtype=dtype)
    on_bound = min(maps - 1, draws)
    uniform[:, :on_bound] = bounds[:, :on_bound].clamp(max=1 - 2**-24)
    return weight, uniform


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("draws", [0, 1, 63, 300, 9000])
@pytest.mark.parametrize("maps", [1, 2, 10, 33, 34, 256, 257, 300])
def test_native_equals_the_reference(maps: int, draws: int, dtype: torch.dtype, native: str) -> None:
    weight, uniform = inputs(3, maps, draws, dtype)
    index = draw_index(weight, uniform, backend=native)
    assert_same_bits(index, draw_index(weight, uniform, backend="reference"))
    assert index.dtype == (torch.uint8 if maps <= 256 else torch.int32)
    assert not index.numel() or int(index.max()) < maps


@pytest.mark.parametrize("weights", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], [1e-40, 0.0], [3e38, 3e38]])
@pytest.mark.parametrize("floor", [0.0, 1e-3, 0.9])
def test_backends_agree_on_odd_weights_and_floors(weights: list[float], floor: float, native: str) -> None:
    uniform = torch.linspace(0, 1 - 2**-24, 1001)[None]
    weight = torch.tensor([weights])
    index = draw_index(weight, uniform, floor, backend=native)
    assert_same_bits(index, draw_index(weight, uniform, floor, backend="reference"))


def test_no_systems(backend: str) -> None:
    assert draw_index(torch.zeros(0, 9), torch.zeros(0, 5), backend=backend).shape == (0, 5)


def test_bits_do_not_depend_on_threads_or_layout(native: str, restored_threads: None) -> None:
    weight, uniform = inputs(5, 10, 30_000, torch.float32)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(draw_index(weight.mT.contiguous().mT, uniform.mT.contiguous().mT, backend=native))
    for result in results:
        assert_same_bits(result, results[0])


@pytest.mark.parametrize(
    ("error", "weight", "uniform"),
    [
        (ValueError, torch.zeros(2, 9), torch.zeros(3, 5)),
        (ValueError, torch.zeros(9), torch.zeros(5)),
        (ValueError, torch.zeros(2, 0), torch.zeros(2, 5)),
        (TypeError, torch.zeros(2, 9).int(), torch.zeros(2, 5)),
        (TypeError, torch.zeros(2, 9).half(), torch.zeros(2, 5).half()),
    ],
)
def test_errors(error: type[Exception], weight: Tensor, uniform: Tensor, backend: str) -> None:
    with pytest.raises(error, match=r"^draw_index: (weight|uniform|weight and uniform) must .+, got .+"):
        draw_index(weight, uniform, backend=backend)
