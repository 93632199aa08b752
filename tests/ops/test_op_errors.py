"""The two ops' errors on every backend: each names the op, the argument, what it must be and what it got."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses import FakeTensorMode

import fractalops
from fractalops import backends
from fractalops.ops import affine_chain as chain_op
from tests.support.cases import ChainCase, RasterCase
from tests.support.requirements import skip_or_fail


def chain_arguments(**changes: object) -> dict[str, object]:
    matrix, offset, index, start = ChainCase("small", batch=5, points=6, maps=3).inputs()
    return {"matrix": matrix, "offset": offset, "index": index, "start": start} | changes


CHAIN_ERRORS: list[tuple[type[Exception], str, dict[str, object]]] = [
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
]


@pytest.mark.parametrize(("error", "argument", "changes"), CHAIN_ERRORS)
def test_affine_chain_names_the_argument_and_what_it_got(
    error: type[Exception], argument: str, changes: dict[str, object], backend: str
) -> None:
    with pytest.raises(error, match=rf"^affine_chain: {argument} must .+, got .+"):
        fractalops.affine_chain(**({"backend": backend} | chain_arguments(**changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (torch.uint8, 3),
        (torch.uint8, 255),
        (torch.int32, 3),
        (torch.int32, -1),
        (torch.int64, 3),
        (torch.int64, -1),
        (torch.int64, 2**40),
        (torch.int64, 2**32),
    ],
)
def test_an_index_out_of_range_is_an_error(dtype: torch.dtype, value: int, backend: str) -> None:
    index = torch.zeros(5, 6, dtype=dtype)
    index[4, 5] = value
    with pytest.raises(IndexError, match=rf"^affine_chain: index must lie in \[0, 3\), got {value}$"):
        fractalops.affine_chain(**chain_arguments(index=index), backend=backend)  # type: ignore[arg-type]


@pytest.mark.usefixtures("native")
def test_the_raw_ops_refuse_an_index_out_of_range_themselves() -> None:
    matrix, offset, index, start = ChainCase("small", batch=5, points=6, maps=3).inputs()
    points = torch.ops.fractalops.affine_chain_fwd(matrix, offset, index, start)
    index[4, 5] = 3
    message = r"^affine_chain: index must lie in \[0, 3\), got 3$"
    with pytest.raises(IndexError, match=message):
        torch.ops.fractalops.affine_chain_fwd(matrix, offset, index, start)
    with pytest.raises(IndexError, match=message):
        torch.ops.fractalops.affine_chain_bwd(points, matrix, index, start, points)


def test_an_index_out_of_range_is_an_error_under_vmap(native: str) -> None:
    """A lane's wrong index must not find the maps of the next lane."""
    arguments = chain_arguments()
    matrix, offset, index, start = (arguments[name] for name in ("matrix", "offset", "index", "start"))
    assert isinstance(index, torch.Tensor)
    lanes = torch.stack([index, index])
    lanes[0, 0, 0] = 3
    with pytest.raises(IndexError, match=r"^affine_chain: index must lie in \[0, 3\), got 3$"):
        torch.vmap(lambda lane: fractalops.affine_chain(matrix, offset, lane, start, backend=native))(lanes)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", [1, 2, -1])
def test_the_cpu_has_no_forms(form: int, native: str) -> None:
    matrix, offset, index, start = ChainCase("small", batch=5, points=6, maps=3).inputs()
    points = torch.ops.fractalops.affine_chain_fwd(matrix, offset, index, start, 0)
    message = f"affine_chain: form must be 0 on the CPU, got {form}"
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fractalops.affine_chain_fwd(matrix, offset, index, start, form)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fractalops.affine_chain_bwd(points, matrix, index, start, points, form)
    with pytest.raises(RuntimeError, match=message):  # vmap hands it on
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
    if not torch.cuda.is_available():
        skip_or_fail("gpu", "torch finds no NVIDIA GPU")
    inputs = [tensor.cuda() for tensor in ChainCase("small", batch=5, points=6, maps=3).inputs()]
    matrix, offset, index, start = inputs
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


RASTER_ERRORS: list[tuple[type[Exception], str, dict[str, object]]] = [
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
]


@pytest.mark.parametrize(("error", "argument", "changes"), RASTER_ERRORS)
def test_rbf_rasterize_names_the_argument_and_what_it_got(
    error: type[Exception], argument: str, changes: dict[str, object], backend: str
) -> None:
    points, weight, bandwidth = RasterCase("small", batch=4, points=9, channels=3).inputs()
    arguments = {
        "points": points,
        "size": 9,
        "bandwidth": bandwidth,
        "weight": weight,
        "backend": backend,
    } | changes
    with pytest.raises(error, match=rf"^rbf_rasterize: {argument} must .+, got .+"):
        fractalops.rbf_rasterize(**arguments)  # type: ignore[arg-type]
