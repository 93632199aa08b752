"""Tests of the ops compiled for tensors on a GPU. They are traced without a GPU, with fake tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import fractalops
from fractalops import backends
from fractalops.ops.draw_balanced_index import draw_balanced_index


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Simulate a CUDA build of torch. Tensors have no values, and without CUDA they cannot be differentiated."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(backends.STATE, "forced", None)
    torch._dynamo.reset()
    with FakeTensorMode():
        yield


def traced(function: Callable[..., Tensor], *arguments: Tensor) -> tuple[Tensor, list[Any]]:
    """Return the result of the traced function and the functions that it calls."""
    calls: list[Any] = []

    def compiler(module: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        calls.extend(node.target for node in module.graph.nodes if node.op == "call_function")
        return module.forward

    return torch.compile(function, fullgraph=True, backend=compiler)(*arguments), calls


def rasterize(points: Tensor, weight: Tensor | None = None) -> Tensor:
    return fractalops.rbf_rasterize(points, (32, 20), weight=weight)


def count(mode: str) -> Callable[[Tensor], Tensor]:
    return lambda points: fractalops.rasterize_points(points, (32, 20), mode=mode)


@pytest.mark.usefixtures("fake_gpu")
@pytest.mark.parametrize(
    ("op", "function", "shapes", "shape", "dtype"),
    [
        ("rbf_rasterize_fwd", rasterize, [(3, 65, 2)], (3, 32, 20), torch.float32),
        ("rbf_rasterize_fwd", rasterize, [(3, 65, 2), (3, 65, 3)], (3, 3, 32, 20), torch.float32),
        ("rasterize_points", count("binary"), [(3, 65, 2)], (3, 32, 20), torch.uint8),
        ("rasterize_points", count("density"), [(3, 65, 2)], (3, 32, 20), torch.int32),
        ("draw_balanced_index", draw_balanced_index, [(2, 10), (2, 3, 300)], (2, 3, 300), torch.uint8),
        ("draw_balanced_index", draw_balanced_index, [(2, 300), (2, 3, 300)], (2, 3, 300), torch.int32),
    ],
)
def test_an_op_is_one_call_of_its_kernels(
    op: str,
    function: Callable[..., Tensor],
    shapes: list[tuple[int, ...]],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(backends.STATE.load_errors, "cuda", raising=False)  # as if the CUDA library were loaded
    result, calls = traced(function, *(torch.empty(each, device="cuda") for each in shapes))
    assert (result.device.type, result.shape, result.dtype) == ("cuda", shape, dtype)
    assert getattr(torch.ops.fractalops, op) in calls
    assert torch.exp not in calls  # the reference calls it
    assert len(calls) <= 3 or op != "draw_balanced_index", calls  # weights are detached and converted to float64 first


@pytest.mark.parametrize("name", ["rbf_rasterize_fwd", "rbf_rasterize_bwd", "rasterize_points"])
def test_gpus_have_kernels(name: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"fractalops::{name}", "CUDA")
