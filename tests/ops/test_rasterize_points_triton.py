"""`rasterize_points` in Triton: on a GPU where there is one (`pytest -m gpu`), and in its interpreter on the CPU."""

from __future__ import annotations

import pytest
import torch
from fractalops.kernels import rasterize_points as kernels
from torch import Tensor

import fractalops
from tests.ops.test_rasterize_points import BAD, CASES, DTYPES, MODES, Case, by_loop
from tests.support.requirements import skip_or_fail
from tests.support.tolerances import assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")
# The largest patch takes the interpreter seconds.
SMALL_PATCHES = [case for case in CASES if case.sides != (15, 15)]


@pytest.fixture(params=["interpreter", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "gpu":
        if not torch.cuda.is_available():
            skip_or_fail("gpu", "torch finds no NVIDIA GPU")
        return "cuda"
    if torch.cuda.is_available():
        pytest.skip("the kernels run on the GPU in this process, not in the interpreter")
    return "cpu"


def run(points: Tensor, patch: Tensor | None, size: tuple[int, int], mode: str, device: str) -> Tensor:
    """The public function on a GPU, which takes the kernels; in the interpreter the kernels themselves."""
    points, patch = points.to(device), None if patch is None else patch.to(device)
    if device == "cuda":
        return fractalops.rasterize_points(points, size, mode=mode, patch=patch, backend="native").cpu()
    patch = torch.ones(1, 1, dtype=torch.bool) if patch is None else patch
    patches = patch.to(torch.uint8).expand(len(points), *patch.shape[-2:])
    return kernels.rasterize_points(points, patches, *size, mode == "binary")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SMALL_PATCHES, ids=lambda case: case.name)
def test_counts_are_those_of_the_loop(case: Case, dtype: torch.dtype, mode: str, device: str) -> None:
    points, patch = case.inputs(dtype)
    image = run(points, patch, case.size, mode, device)
    assert image.dtype == MODES[mode]
    assert_same_bits(image, by_loop(points, case.size, patch, mode))


@pytest.mark.parametrize("dtype", DTYPES)
def test_several_programs_a_picture(dtype: torch.dtype, device: str) -> None:
    case = Case("several programs", batch=2, points=kernels.BLOCK + 1, size=(40, 63), sides=(3, 3))
    points, patch = case.inputs(dtype)
    expected = fractalops.rasterize_points(points, case.size, mode="density", patch=patch, backend="reference")
    assert_same_bits(run(points, patch, case.size, "density", device), expected)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.parametrize("dtype", DTYPES)
def test_points_that_reach_no_pixel_add_nothing(dtype: torch.dtype, device: str) -> None:
    points = torch.tensor([[(bad, 3.0), (3.0, bad), (bad, bad), (-bad, bad)] for bad in BAD], dtype=dtype)
    image = run(points.flatten(0, 1)[None], torch.ones(1, 3, dtype=torch.bool), (9, 9), "density", device)
    assert torch.count_nonzero(image) == 0
