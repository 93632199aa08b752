"""The op behind sampling: backends agree exactly, at the borders too. Its statistics: test_sampling.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fractalops.ops.search_cumulative import search_cumulative
from tests.tolerances import assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def inputs(systems: int, maps: int, draws: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cumulative probabilities (S, N - 1) with some maps of probability 0, and numbers (S, M), some on a bound."""
    generator = torch.Generator().manual_seed(maps)
    weights = torch.rand(systems, maps, generator=generator, dtype=torch.float64)
    weights[:, 1::3] = 0
    sums = weights.cumsum(1)
    cumulative = (sums[:, :-1] / sums[:, -1:]).to(dtype)
    uniform = torch.rand(systems, draws, generator=generator, dtype=dtype)
    on_bound = min(maps - 1, draws)
    uniform[:, :on_bound] = cumulative[:, :on_bound].clamp(max=1 - 2**-24)
    return cumulative, uniform


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("draws", [0, 1, 63, 300, 9000])
@pytest.mark.parametrize("maps", [1, 2, 10, 33, 34, 256, 257, 300])
def test_native_equals_the_reference(maps: int, draws: int, dtype: torch.dtype, native: str) -> None:
    cumulative, uniform = inputs(3, maps, draws, dtype)
    index = search_cumulative(cumulative, uniform, backend=native)
    assert_same_bits(index, search_cumulative(cumulative, uniform, backend="reference"))
    assert index.dtype == (torch.uint8 if maps <= 256 else torch.int32)
    assert not index.numel() or int(index.max()) < maps


def test_no_systems(backend: str) -> None:
    assert search_cumulative(torch.zeros(0, 9), torch.zeros(0, 5), backend=backend).shape == (0, 5)


def test_bits_do_not_depend_on_threads_or_layout(native: str, restored_threads: None) -> None:
    cumulative, uniform = inputs(5, 10, 30_000, torch.float32)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(search_cumulative(cumulative.mT.contiguous().mT, uniform.mT.contiguous().mT, backend=native))
    for result in results:
        assert_same_bits(result, results[0])


def test_opcheck(native: str) -> None:
    torch.library.opcheck(torch.ops.fractalops.search_cumulative.default, inputs(2, 10, 30, torch.float32))
    torch.library.opcheck(torch.ops.fractalops.search_cumulative.default, inputs(2, 300, 30, torch.float64))


@pytest.mark.parametrize(
    ("error", "cumulative", "uniform"),
    [
        (ValueError, torch.zeros(2, 9), torch.zeros(3, 5)),
        (ValueError, torch.zeros(9), torch.zeros(5)),
        (TypeError, torch.zeros(2, 9), torch.zeros(2, 5).double()),
        (TypeError, torch.zeros(2, 9).half(), torch.zeros(2, 5).half()),
    ],
)
def test_errors(error: type[Exception], cumulative: Tensor, uniform: Tensor, backend: str) -> None:
    with pytest.raises(error, match=r"^search_cumulative: cumulative and uniform must .+, got .+"):
        search_cumulative(cumulative, uniform, backend=backend)
