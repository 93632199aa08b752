"""Tests of the ops' errors on every backend. Each names the op, the argument, its requirement and its value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode

import fractalops
from fractalops import backends
from fractalops.ops import affine_chain as chain_op
from fractalops.ops.clamped_squared_error import clamped_squared_error
from fractalops.ops.draw_balanced_index import draw_balanced_index
from fractalops.ops.draw_index import draw_index
from fractalops.ops.fixed_point import fixed_point
from fractalops.ops.k_means import k_means
from fractalops.ops.svd_matrix import svd_matrix
from tests.support.case_tables import CHAIN, RASTER
from tests.support.requirements import need_gpu

MASK = torch.ones(3, 3, dtype=torch.bool)
# Valid arguments. An error case replaces some of them.
RIGHT: dict[Callable[..., Any], dict[str, Any]] = {
    fractalops.affine_chain: dict(zip(("matrix", "offset", "index", "start"), CHAIN.inputs(), strict=True)),
    fractalops.rbf_rasterize: {"size": 9, **dict(zip(("points", "weight", "bandwidth"), RASTER.inputs(), strict=True))},
    fractalops.rasterize_points: {"points": torch.zeros(4, 9, 2), "size": 9},
    svd_matrix: {"svd": torch.zeros(3, 6)},
    k_means: {"places": torch.zeros(3, 9, 2), "centers": torch.zeros(3, 4, 2), "rounds": 2},
}
ERRORS: dict[Callable[..., Any], list[tuple[type[Exception], str, dict[str, Any]]]] = {
    fractalops.affine_chain: [
        (ValueError, "matrix", {"matrix": torch.zeros(2, 2).double()}),
        (ValueError, "matrix", {"matrix": torch.zeros(3, 2, 3).double()}),
        (ValueError, "matrix", {"matrix": torch.zeros(3, 4, 4).double()}),
        (ValueError, "matrix", {"matrix": torch.zeros(0, 2, 2).double(), "offset": torch.zeros(0, 2).double()}),
        (TypeError, "matrix", {"matrix": torch.zeros(3, 2, 2, dtype=torch.int64)}),
        (TypeError, "matrix", {"matrix": torch.zeros(3, 2, 2, dtype=torch.complex64)}),
        (TypeError, "matrix", {"matrix": [[[1.0, 0.0], [0.0, 1.0]]]}),
        (ValueError, "offset", {"offset": torch.zeros(2, 2).double()}),
        (ValueError, "offset", {"offset": torch.zeros(3, 3).double()}),
        (ValueError, "offset", {"offset": torch.zeros(3, 2, 1).double()}),
        (TypeError, "offset", {"offset": torch.zeros(3, 2)}),
        (TypeError, "offset", {"offset": None}),
        (ValueError, "offset", {"offset": torch.zeros(3, 2, device="meta").double()}),
        (ValueError, "index", {"index": torch.zeros(5, dtype=torch.uint8)}),
        (ValueError, "index", {"index": torch.zeros(5, 0, dtype=torch.uint8)}),
        (ValueError, "index", {"index": torch.zeros(5, 6, 1, dtype=torch.uint8)}),
        (TypeError, "index", {"index": torch.zeros(5, 6)}),
        (TypeError, "index", {"index": torch.zeros(5, 6, dtype=torch.bool)}),
        (TypeError, "index", {"index": torch.zeros(5, 6, dtype=torch.int16)}),
        (ValueError, "index", {"index": torch.zeros(5, 6, dtype=torch.uint8, device="meta")}),
        (ValueError, "start", {"start": torch.zeros(4, 2).double()}),
        (ValueError, "start", {"start": torch.zeros(5, 3).double()}),
        (ValueError, "start", {"start": torch.zeros(3).double()}),
        (ValueError, "start", {"start": torch.zeros(()).double()}),
        (TypeError, "start", {"start": torch.zeros(5, 2)}),
        (ValueError, "start", {"start": torch.zeros(5, 2, device="meta").double()}),
        (ValueError, "backend", {"backend": "no such backend"}),
    ],
    fractalops.rbf_rasterize: [
        (ValueError, "points", {"points": torch.zeros(9, 2).double()}),
        (ValueError, "points", {"points": torch.zeros(4, 9, 3).double()}),
        (ValueError, "points", {"points": torch.zeros(4, 0, 2).double(), "weight": None}),
        (TypeError, "points", {"points": torch.zeros(4, 9, 2, dtype=torch.int64)}),
        (TypeError, "points", {"points": torch.zeros(4, 9, 2, dtype=torch.complex64)}),
        (TypeError, "points", {"points": [[[0.0, 0.0]]]}),
        (ValueError, "size", {"size": 0}),
        (ValueError, "size", {"size": -3}),
        (TypeError, "size", {"size": (3,)}),
        (TypeError, "size", {"size": (3, 4, 5)}),
        (ValueError, "size", {"size": (0, 4)}),
        (TypeError, "size", {"size": 3.5}),
        (TypeError, "size", {"size": (3, 4.5)}),
        (TypeError, "size", {"size": "32"}),
        (ValueError, "bandwidth", {"bandwidth": 0.0}),
        (ValueError, "bandwidth", {"bandwidth": -1.0}),
        (ValueError, "bandwidth", {"bandwidth": float("nan")}),
        (ValueError, "bandwidth", {"bandwidth": 1e-310}),  # its inverse is infinite
        (ValueError, "bandwidth", {"bandwidth": 1e308}),  # its inverse is subnormal, and gradients would be, too
        (ValueError, "bandwidth", {"bandwidth": torch.full((4,), 1e308, dtype=torch.float64)}),
        (ValueError, "bandwidth", {"bandwidth": 10**400}),
        (ValueError, "bandwidth", {"bandwidth": float("inf")}),
        (ValueError, "bandwidth", {"bandwidth": torch.tensor([1.0, float("nan"), 1.0, 1.0]).double()}),
        (ValueError, "bandwidth", {"bandwidth": torch.tensor([1.0, 0.0, 1.0, 1.0]).double()}),
        (ValueError, "bandwidth", {"bandwidth": torch.tensor(-1.0).double()}),
        (ValueError, "bandwidth", {"bandwidth": torch.ones(5).double()}),
        (ValueError, "bandwidth", {"bandwidth": torch.ones(4, 1).double()}),
        (TypeError, "bandwidth", {"bandwidth": torch.ones(4)}),
        (ValueError, "bandwidth", {"bandwidth": torch.ones(4, device="meta").double()}),
        (TypeError, "bandwidth", {"bandwidth": "1"}),
        (ValueError, "weight", {"weight": torch.ones(4, 8).double()}),
        (ValueError, "weight", {"weight": torch.ones(9).double()}),
        (ValueError, "weight", {"weight": torch.ones(4, 9, 3, 1).double()}),
        (ValueError, "weight", {"weight": torch.ones(4, 9, 0).double()}),
        (TypeError, "weight", {"weight": torch.ones(4, 9)}),
        (ValueError, "weight", {"weight": torch.ones(4, 9, device="meta").double()}),
        (TypeError, "weight", {"weight": 2.0}),
        (ValueError, "cutoff", {"cutoff": 0.0}),
        (ValueError, "cutoff", {"cutoff": 1.0}),
        (ValueError, "cutoff", {"cutoff": -0.5}),
        (ValueError, "cutoff", {"cutoff": 2}),
        (ValueError, "cutoff", {"cutoff": float("nan")}),
        (TypeError, "cutoff", {"cutoff": "small"}),
        (ValueError, "backend", {"backend": "no such backend"}),
    ],
    fractalops.rasterize_points: [
        (ValueError, "points", {"points": torch.zeros(4, 2)}),
        (ValueError, "points", {"points": torch.zeros(4, 0, 2)}),
        (ValueError, "points", {"points": torch.zeros(4, 9, 3)}),
        (ValueError, "points", {"points": torch.zeros(1, 1, 2).expand(1, 2**31, 2)}),
        (TypeError, "points", {"points": torch.zeros(4, 9, 2, dtype=torch.int64)}),
        (TypeError, "points", {"points": [[[1.0, 2.0]]]}),
        (ValueError, "size", {"size": 0}),
        (ValueError, "size", {"size": (9, 2**22)}),
        (TypeError, "size", {"size": 9.0}),
        (ValueError, "mode", {"mode": "count"}),
        (ValueError, "mode", {"mode": None}),
        (ValueError, "patch", {"patch": MASK[0]}),
        (ValueError, "patch", {"patch": MASK[:2]}),
        (ValueError, "patch", {"patch": MASK[:, :0]}),
        (ValueError, "patch", {"patch": torch.ones(1, 17, dtype=torch.bool)}),
        (ValueError, "patch", {"patch": MASK.expand(3, 3, 3)}),
        (ValueError, "patch", {"patch": MASK.expand(1, 4, 3, 3)}),
        (ValueError, "patch", {"patch": MASK.to("meta")}),
        (TypeError, "patch", {"patch": MASK.float()}),
        (TypeError, "patch", {"patch": MASK.long()}),
        (TypeError, "patch", {"patch": "3 x 3"}),
        (ValueError, "backend", {"backend": "no such backend"}),
    ],
    svd_matrix: [
        (ValueError, "svd", {"svd": torch.zeros(3, 5)}),
        (ValueError, "svd", {"svd": torch.zeros(())}),
        (TypeError, "svd", {"svd": torch.zeros(3, 6, dtype=torch.int64)}),
        (ValueError, "singular_values", {"singular_values": "tanh"}),
    ],
    clamped_squared_error: [
        (ValueError, "images", {"images": torch.zeros(2, 4, 5), "targets": torch.zeros(2, 4, 5)}),
        (ValueError, "images", {"images": torch.zeros(2, 0, 4, 5), "targets": torch.zeros(2, 4, 5)}),
        (ValueError, "images", {"images": torch.zeros(2, 3, 0, 5), "targets": torch.zeros(2, 0, 5)}),
        (ValueError, "images", {"images": torch.zeros(2, 3, 0, 4, 5), "targets": torch.zeros(2, 0, 4, 5)}),
        (ValueError, "images", {"images": torch.zeros(2, 3, 1, 3, 4, 5), "targets": torch.zeros(2, 1, 3, 4, 5)}),
        (ValueError, "targets", {"images": torch.zeros(2, 3, 3, 4, 5), "targets": torch.zeros(2, 4, 5)}),
        (ValueError, "targets", {"images": torch.zeros(2, 3, 3, 4, 5), "targets": torch.zeros(2, 1, 4, 5)}),
        (ValueError, "targets", {"images": torch.zeros(2, 3, 4, 5), "targets": torch.zeros(2, 5, 4)}),
        (ValueError, "targets", {"images": torch.zeros(2, 3, 4, 5), "targets": torch.zeros(1, 4, 5)}),
        (ValueError, "targets", {"images": torch.zeros(2, 3, 4, 5), "targets": torch.zeros(2, 1, 4, 5)}),
        (TypeError, "images", {"images": torch.zeros(2, 3, 4, 5).int(), "targets": torch.zeros(2, 4, 5).int()}),
        (TypeError, "targets", {"images": torch.zeros(2, 3, 4, 5), "targets": torch.zeros(2, 4, 5).double()}),
    ],
    draw_index: [
        (ValueError, "weight and uniform", {"weight": torch.zeros(2, 9), "uniform": torch.zeros(3, 5)}),
        (ValueError, "weight and uniform", {"weight": torch.zeros(9), "uniform": torch.zeros(5)}),
        (ValueError, "weight and uniform", {"weight": torch.zeros(2, 0), "uniform": torch.zeros(2, 5)}),
        (TypeError, "weight", {"weight": torch.zeros(2, 9).int(), "uniform": torch.zeros(2, 5)}),
        (TypeError, "uniform", {"weight": torch.zeros(2, 9).half(), "uniform": torch.zeros(2, 5).half()}),
    ],
    draw_balanced_index: [
        (ValueError, "weight and uniform", {"weight": torch.zeros(2, 9), "uniform": torch.zeros(3, 1, 5)}),
        (ValueError, "weight and uniform", {"weight": torch.zeros(2, 9), "uniform": torch.zeros(2, 5)}),
        (ValueError, "weight and uniform", {"weight": torch.zeros(9), "uniform": torch.zeros(1, 5)}),
        (ValueError, "weight and uniform", {"weight": torch.zeros(2, 0), "uniform": torch.zeros(2, 1, 5)}),
        (TypeError, "weight", {"weight": torch.zeros(2, 9).int(), "uniform": torch.zeros(2, 1, 5)}),
        (TypeError, "uniform", {"weight": torch.zeros(2, 9).half(), "uniform": torch.zeros(2, 1, 5).half()}),
    ],
    fixed_point: [
        (TypeError, "offset", {"matrix": torch.rand(3, 2, 2), "offset": torch.rand(3, 2).double()}),
    ],
    k_means: [
        (ValueError, "places", {"places": torch.zeros(9, 2)}),
        (ValueError, "places", {"places": torch.zeros(3, 9, 3)}),
        (TypeError, "places", {"places": torch.zeros(3, 9, 2).int(), "centers": torch.zeros(3, 4, 2).int()}),
        (ValueError, "centers", {"centers": torch.zeros(2, 4, 2)}),
        (ValueError, "centers", {"centers": torch.zeros(3, 0, 2)}),
        (ValueError, "centers", {"centers": torch.zeros(3, 4, 3)}),
        (TypeError, "centers", {"centers": torch.zeros(3, 4, 2).double()}),
        (ValueError, "rounds", {"rounds": -1}),
        (TypeError, "rounds", {"rounds": 2.0}),
    ],
}


@pytest.mark.parametrize(
    ("function", "error", "argument", "changes"),
    [(function, *each) for function, errors in ERRORS.items() for each in errors],
)
def test_an_error_names_the_argument_and_what_it_got(
    function: Callable[..., Any], error: type[Exception], argument: str, changes: dict[str, Any], backend: str
) -> None:
    with pytest.raises(error, match=rf"^{function.__name__}: {argument} must .+, got .+"):
        function(**({"backend": backend} | RIGHT.get(function, {}) | changes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_native_ops_take_two_dtypes(dtype: torch.dtype, native: str) -> None:
    for name, call in {
        "rasterize_points: points": lambda: fractalops.rasterize_points(
            torch.zeros(1, 1, 2, dtype=dtype), 9, backend=native
        ),
        "clamped_squared_error: images": lambda: clamped_squared_error(
            torch.zeros(3, 2, 4, 5, dtype=dtype), torch.zeros(3, 4, 5, dtype=dtype), backend=native
        ),
        "svd_matrix: svd": lambda: svd_matrix(torch.zeros(3, 6, dtype=dtype), backend=native),
        "k_means: places": lambda: k_means(
            torch.zeros(3, 9, 2, dtype=dtype), torch.zeros(3, 4, 2, dtype=dtype), 2, backend=native
        ),
    }.items():
        with pytest.raises(TypeError, match=rf"^{name} must be float32 or float64 .*, got {dtype}"):
            call()


# The index of `affine_chain`


@pytest.mark.parametrize(
    ("dtype", "values"),
    [(torch.uint8, (3, 255)), (torch.int32, (3, -1)), (torch.int64, (3, -1, 2**40, 2**32))],
)
def test_an_index_out_of_range_is_an_error(dtype: torch.dtype, values: tuple[int, ...], backend: str) -> None:
    for value in values:
        index = torch.zeros(5, 6, dtype=dtype)
        index[4, 5] = value
        with pytest.raises(IndexError, match=rf"^affine_chain: index must lie in \[0, 3\), got {value}$"):
            fractalops.affine_chain(**RIGHT[fractalops.affine_chain] | {"index": index}, backend=backend)


@pytest.mark.usefixtures("native")
def test_the_raw_ops_refuse_an_index_out_of_range_themselves() -> None:
    matrix, offset, index, start = CHAIN.inputs()
    points = torch.ops.fractalops.affine_chain_fwd(matrix, offset, index, start)
    index[4, 5] = 3
    message = r"^affine_chain: index must lie in \[0, 3\), got 3$"
    with pytest.raises(IndexError, match=message):
        torch.ops.fractalops.affine_chain_fwd(matrix, offset, index, start)
    with pytest.raises(IndexError, match=message):
        torch.ops.fractalops.affine_chain_bwd(points, matrix, index, start, points)


def test_an_index_out_of_range_is_an_error_under_vmap(native: str) -> None:
    """A wrong index of a lane must not select the maps of the next lane."""
    matrix, offset, index, start = CHAIN.inputs()
    lanes = torch.stack([index, index])
    lanes[0, 0, 0] = 3
    with pytest.raises(IndexError, match=r"^affine_chain: index must lie in \[0, 3\), got 3$"):
        torch.vmap(lambda lane: fractalops.affine_chain(matrix, offset, lane, start, backend=native))(lanes)


@pytest.mark.parametrize("form", [1, 2, -1])
def test_the_cpu_has_no_forms(form: int, native: str) -> None:
    matrix, offset, index, start = CHAIN.inputs()
    points = torch.ops.fractalops.affine_chain_fwd(matrix, offset, index, start, 0)
    message = f"affine_chain: form must be 0 on the CPU, got {form}"
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fractalops.affine_chain_fwd(matrix, offset, index, start, form)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fractalops.affine_chain_bwd(points, matrix, index, start, points, form)
    with pytest.raises(RuntimeError, match=message):  # vmap passes the form on
        torch.vmap(lambda lane: torch.ops.fractalops.affine_chain_fwd(matrix, offset, index, lane, form))(start[None])


def test_the_index_of_a_gpu_is_handed_to_the_check_and_is_not_read_where_it_has_no_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chain_op, "takes_native", lambda *arguments: True)
    monkeypatch.setattr(backends.STATE, "debug", "1")
    checked = []
    check = chain_op.check_index_range
    monkeypatch.setattr(
        chain_op, "check_index_range", lambda *arguments: (checked.append(arguments), check(*arguments))
    )
    with FakeTensorMode():
        matrix, offset, start = (torch.empty(shape, device="cuda") for shape in ((3, 2, 2), (3, 2), (2,)))
        index = torch.empty(5, 6, dtype=torch.uint8, device="cuda")
        assert fractalops.affine_chain(matrix, offset, index, start).shape == (5, 6, 2)
    assert checked == [("affine_chain", index, 3, True)]


@pytest.mark.gpu
def test_debug_mode_checks_the_index_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    need_gpu()
    matrix, offset, index, start = (tensor.cuda() for tensor in CHAIN.inputs())
    wrong = index.clone()
    wrong[4, 5] = 3
    nearest = wrong.clamp(max=2)
    points = fractalops.affine_chain(matrix, offset, wrong, start, backend="native")
    assert torch.equal(points, fractalops.affine_chain(matrix, offset, nearest, start, backend="native"))
    monkeypatch.setattr(backends.STATE, "debug", "1")
    fractalops.affine_chain(matrix, offset, index, start)
    for backend in backends.BACKENDS:
        with pytest.raises(IndexError, match=r"^affine_chain: index must lie in \[0, 3\), got 3$"):
            fractalops.affine_chain(matrix, offset, wrong, start, backend=backend)


@pytest.mark.parametrize("wrong", ["dtype", "shape"])
def test_raw_ops_refuse_what_does_not_fit(wrong: str, native: str) -> None:
    matrix, offset, index, start = CHAIN.inputs()
    offset = offset.float() if wrong == "dtype" else offset[:-1]
    with pytest.raises(RuntimeError, match=r"must have the dtype of|must have shape"):
        torch.ops.fractalops.affine_chain_fwd(matrix, offset, index, start)
    points, weight, bandwidth = RASTER.inputs()
    bandwidth = bandwidth.float() if wrong == "dtype" else bandwidth[:-1]
    with pytest.raises(RuntimeError, match=r"must have the dtype of|must have shape"):
        torch.ops.fractalops.rbf_rasterize_fwd(points, weight, bandwidth, 9, 6, 1e-6)
