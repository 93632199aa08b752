"""Tests of `rasterize_points` in Triton, on a GPU if there is one (`pytest -m gpu`) and interpreted on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fractalops.kernels import rasterize_points as kernels
from tests.ops.test_rasterize_points import BAD
from tests.support.case_tables import COUNT_CASES
from tests.support.cases import CountCase
from tests.support.requirements import open_triton_device
from tests.support.tolerances import TOLERANCES, assert_same_bits

open_device = open_triton_device
pytestmark = pytest.mark.usefixtures("poisoned_memory")
# The largest patch takes seconds in the interpreter.
SMALL_PATCHES = [case for case in COUNT_CASES if case.sides != (15, 15)]


def run(case: CountCase, points: Tensor, patch: Tensor | None, device: str) -> Tensor:
    """Call the public function on a GPU. In the interpreter, call the kernels directly."""
    points, patch = points.to(device), None if patch is None else patch.to(device)
    if device == "cuda":
        return case.run(points, patch, backend="native").cpu()
    patch = torch.ones(1, 1, dtype=torch.bool) if patch is None else patch
    patches = patch.to(torch.uint8).expand(len(points), *patch.shape[-2:])
    return kernels.rasterize_points(points, patches, *case.size, case.mode == "binary")


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", SMALL_PATCHES, ids=str)
def test_counts_are_those_of_the_loop(case: CountCase, dtype: torch.dtype, device: str) -> None:
    inputs = case.inputs(dtype)
    assert_same_bits(run(case, *inputs, device), case.reference(*inputs))


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_several_programs_a_picture(dtype: torch.dtype, device: str) -> None:
    case = CountCase("several programs", batch=2, points=kernels.BLOCK + 1, size=(40, 63), sides=(3, 3))
    inputs = case.inputs(dtype)
    assert_same_bits(run(case, *inputs, device), case.run(*inputs, backend="reference"))


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # from numpy, in the interpreter
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_points_that_reach_no_pixel_add_nothing(dtype: torch.dtype, device: str) -> None:
    points = torch.tensor([[(bad, 3.0), (3.0, bad), (bad, bad), (-bad, bad)] for bad in BAD], dtype=dtype)
    case = CountCase("bad", size=(9, 9))
    image = run(case, points.flatten(0, 1)[None], torch.ones(1, 3, dtype=torch.bool), device)
    assert torch.count_nonzero(image) == 0
