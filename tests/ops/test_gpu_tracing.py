"""What a compiler makes of the ops with kernels for tensors on a GPU, which it traces without one: fake tensors."""

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
    """As in a CUDA build of torch. Tensors have no values; without CUDA they can't be differentiated either."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(backends.STATE, "forced", None)
    torch._dynamo.reset()
    with FakeTensorMode():
        yield


def traced(function: Callable[..., Tensor], *arguments: Tensor) -> tuple[Tensor, list[Any]]:
    """What the traced function returns, and what it calls."""
    calls: list[Any] = []

    def compiler(module: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        calls.extend(node.target for node in module.graph.nodes if node.op == "call_function")
        return module.forward

    return torch.compile(function, fullgraph=True, backend=compiler)(*arguments), calls


@pytest.mark.usefixtures("fake_gpu")
@pytest.mark.parametrize("channels", [None, 3])
def test_the_rasterizer_is_one_call_of_its_kernels(channels: int | None) -> None:
    points = torch.empty(3, 65, 2, device="cuda")
    weight = None if channels is None else torch.empty(3, 65, channels, device="cuda")
    image, calls = traced(lambda points: fractalops.rbf_rasterize(points, (32, 20), weight=weight), points)
    assert image.device.type == "cuda"
    assert image.shape == ((3, 32, 20) if channels is None else (3, channels, 32, 20))
    assert torch.ops.fractalops.rbf_rasterize_fwd in calls
    assert torch.exp not in calls  # the reference's


@pytest.mark.usefixtures("fake_gpu")
@pytest.mark.parametrize(("mode", "dtype"), [("binary", torch.uint8), ("density", torch.int32)])
def test_counting_points_is_one_call_of_its_kernels(mode: str, dtype: torch.dtype) -> None:
    points = torch.empty(3, 65, 2, device="cuda")
    image, calls = traced(lambda points: fractalops.rasterize_points(points, (32, 20), mode=mode), points)
    assert (image.device.type, image.shape, image.dtype) == ("cuda", (3, 32, 20), dtype)
    assert torch.ops.fractalops.rasterize_points in calls


@pytest.mark.usefixtures("fake_gpu")
@pytest.mark.parametrize(("maps", "dtype"), [(10, torch.uint8), (300, torch.int32)])
def test_drawing_balanced_sequences_is_one_call_of_its_kernels(
    maps: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(backends.STATE.load_errors, "cuda", raising=False)  # as if the CUDA library were there
    weight, uniform = torch.empty(2, maps, device="cuda"), torch.empty(2, 3, 300, device="cuda")
    index, calls = traced(draw_balanced_index, weight, uniform)
    assert (index.device.type, index.shape, index.dtype) == ("cuda", (2, 3, 300), dtype)
    assert calls[-1] == torch.ops.fractalops.draw_balanced_index
    assert len(calls) <= 3  # the weights, detached and in float64, come before it


@pytest.mark.parametrize("name", ["rbf_rasterize_fwd", "rbf_rasterize_bwd", "rasterize_points"])
def test_gpus_have_kernels(name: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"fractalops::{name}", "CUDA")
