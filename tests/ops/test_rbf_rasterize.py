"""Tests of `fractalops.rbf_rasterize` alone, on every backend. Others: test_every_op.py, test_op_errors.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_leaves

import fractalops
from fractalops import backends
from tests.support.case_tables import RASTER
from tests.support.cases import RasterCase
from tests.support.tolerances import TOLERANCES, assert_all_match, assert_matches, assert_same_bits

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def test_the_reference_is_the_formula() -> None:
    case = RasterCase("formula", size=(7, 5), cutoff=None, channels=2)
    points, weight, bandwidth = case.inputs()
    row, column = torch.meshgrid(torch.arange(7.0).double(), torch.arange(5.0).double(), indexing="ij")  # (H, W)
    x, y = points[..., 0, None, None], points[..., 1, None, None]  # (B, T, 1, 1)
    bump = torch.exp(-((x - row) ** 2 + (y - column) ** 2) / bandwidth[:, None, None, None])  # (B, T, H, W)
    assert_matches(case.reference(points, weight, bandwidth), torch.einsum("btc,bthw->bchw", weight, bump))


def test_a_bandwidth_is_a_number_a_scalar_or_one_an_image(backend: str) -> None:
    points, weight, _ = RASTER.inputs()
    leaf = torch.full((4,), 2.5, dtype=torch.float64)
    expected, expected_gradients = RASTER.both(backend, (points, weight, leaf))
    scalar = torch.tensor(2.5, dtype=torch.float64)
    value, gradients = RASTER.both(backend, (points, weight, scalar))
    assert_same_bits(value, expected)
    assert_all_match(gradients[:2], expected_gradients[:2])
    assert_matches(gradients[2], expected_gradients[2].sum())
    number = fractalops.rbf_rasterize(points, (9, 6), bandwidth=2.5, weight=weight, backend=backend)
    assert_same_bits(number, expected)


# The window


def test_x_runs_along_rows(backend: str) -> None:
    image = fractalops.rbf_rasterize(torch.tensor([[[2.0, 5.0]]]), (4, 7), backend=backend)
    assert image[0].argmax() == 2 * 7 + 5
    assert image[0, 2, 5] == 1


def test_the_window_is_a_square_around_the_rounded_point(backend: str) -> None:
    """The radius is ceil(sqrt(-1.5 ln 0.01) - 1/2) = 3 around (10, 12): 10.5 is a tie and rounds to the even 10."""
    image = fractalops.rbf_rasterize(torch.tensor([[[10.5, 12.4]]]), 24, bandwidth=1.5, cutoff=1e-2, backend=backend)
    touched = torch.zeros(24, 24, dtype=torch.bool)
    touched[7:14, 9:16] = True
    assert torch.equal(image[0] > 0, touched)


def test_without_cutoff_every_pixel_is_touched(backend: str) -> None:
    image = fractalops.rbf_rasterize(torch.tensor([[[4.0, 4.0]]]).double(), 12, cutoff=None, backend=backend)
    assert (image > 0).all()


BAD = {
    "nan": (float("nan"), 3.0),
    "nan column": (3.0, float("nan")),
    "infinite": (float("inf"), 3.0),
    "minus infinite": (3.0, float("-inf")),
    "both": (float("nan"), float("inf")),
    "huge": (1e30, 3.0),
    "minus huge": (3.0, -1e30),
    "both huge": (1e30, -1e30),
    "past int32": (2.0**31, 3.0),
    "past int64": (3.0, 2.0**63),
    "far": (3.0, 500.0),
    "far above": (-400.0, 3.0),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("cutoff", [1e-6, None])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_point_that_reaches_no_pixel_adds_nothing(
    bad: str, cutoff: float | None, dtype: torch.dtype, backend: str
) -> None:
    points, weight, bandwidth = RASTER.inputs(dtype)
    case = RasterCase("bad", size=RASTER.size, cutoff=cutoff)
    rest = [position for position in range(9) if position not in (0, 4)]
    upstream = torch.randn(4, 3, 9, 6, dtype=torch.float64)
    points[:, (0, 4)] = torch.tensor(BAD[bad], dtype=dtype)
    value, (to_points, to_weight, to_bandwidth) = case.both(backend, (points, weight, bandwidth), upstream)
    without = case.expected((points[:, rest], weight[:, rest], bandwidth), upstream)
    assert_all_match((value, [to_points[:, rest], to_weight[:, rest], to_bandwidth]), without)
    assert not to_points[:, (0, 4)].any()
    assert not to_weight[:, (0, 4)].any()


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", [(9, 7), (20, 33), (5, 100)], ids=str)
def test_windows_of_different_widths_in_one_batch(size: tuple[int, int], dtype: torch.dtype, backend: str) -> None:
    case = RasterCase("widths", batch=4, size=size)
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(4, 30, 2, generator=generator, dtype=torch.float64) * torch.tensor(size)
    bandwidth = torch.tensor([1e-3, 0.25, 4.0, 1e4], dtype=torch.float64)
    upstream = torch.randn(4, *size, generator=generator, dtype=torch.float64)
    inputs = points.to(dtype), None, bandwidth.to(dtype)
    actual, expected = (
        tree_leaves(each) for each in (case.both(backend, inputs, upstream), case.expected(inputs, upstream))
    )
    for result, expected_result in zip(actual, expected, strict=True):
        for one, other in zip(result, expected_result, strict=True):
            # A bandwidth of 1e-3 multiplies the rounding error of coordinates up to 100 by a thousand.
            assert_matches(one, other, tolerance=100 * TOLERANCES[dtype])


def test_a_compiler_takes_a_number_as_bandwidth(backend: str) -> None:
    torch._dynamo.reset()
    points, _, _ = RASTER.inputs()
    compiled = torch.compile(fractalops.rbf_rasterize, fullgraph=True, backend="aot_eager")
    actual = compiled(points, 9, bandwidth=1.5, backend=backend)
    assert_same_bits(actual, fractalops.rbf_rasterize(points, 9, bandwidth=1.5, backend=backend))


@pytest.mark.parametrize("bandwidth", [0.05, 0.1, 0.3, 0.499, 0.5, 0.75, 0.999, 1.0, 1.5, 2.0, 4.0, 10.0, 25.0, 100.0])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_every_bandwidth_is_as_exact(bandwidth: float, dtype: torch.dtype, backend: str) -> None:
    """The bandwidth decides whether polynomials, exponentials or windows cut at the borders are used."""
    case = RasterCase("bandwidth", batch=1, points=300, size=(60, 83), bandwidth=bandwidth, channels=2)
    inputs = case.inputs(dtype)
    assert_all_match(case.both(backend, inputs), case.expected(inputs))


def test_a_narrow_window_is_the_nearest_pixel(backend: str) -> None:
    """Without its lower limit, the radius for a bandwidth of 0.01 would be below 0."""
    points = torch.tensor([[[2.4, 3.0], [5.0, 5.5]]], dtype=torch.float64)  # 5.5 rounds to the even 6
    image = fractalops.rbf_rasterize(points, 9, bandwidth=0.01, backend=backend)[0]
    assert image.nonzero().tolist() == [[2, 3], [5, 6]]


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_subnormal_numbers_in_a_gradient_are_zeros_to_native_kernels(dtype: torch.dtype, native: str) -> None:
    """Some processors take a hundred cycles for each subnormal. After the call, the thread computes with them."""
    points = torch.full((1, 300, 2), 16.2, dtype=dtype, requires_grad=True)
    tiny = torch.finfo(dtype).tiny / 4
    image = fractalops.rbf_rasterize(points, 32, backend=native)
    image.backward(torch.full_like(image, tiny))
    assert points.grad is not None
    assert not points.grad.any()
    assert torch.tensor(tiny, dtype=dtype) * 0.5 > 0


SHAPES = [
    RasterCase("", batch=2, points=300, size=(40, 33), bandwidth=bandwidth, channels=channels)
    for bandwidth in (0.1, 1.0, 4.0)
    for channels in (None, 1, 3)
]
IN_ANOTHER_PROCESS = """
import sys, torch
from tests.ops.test_rbf_rasterize import SHAPES as cases
torch.save([case.both("native", case.inputs(torch.float32)) for case in cases], sys.argv[1])
"""


@pytest.mark.slow
def test_each_instruction_set_matches_the_reference(tmp_path: Path, native: str) -> None:
    results = {}
    for name in backends.STATE.instruction_sets:
        file = tmp_path / name
        environment = {**os.environ, "FRACTALOPS_INSTRUCTION_SET": name}
        command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(file)]
        subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[2])
        results[name] = torch.load(file)
    for place, case in enumerate(SHAPES):
        expected = case.expected(case.inputs(torch.float32))
        for result in results.values():
            assert_all_match(result[place], expected)
