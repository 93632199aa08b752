"""Calls that must not make the host wait for a GPU, and a mode that finds such waits without a GPU.

Run as a program with the path of `no_device_guard.cpp`'s library, it makes each call on fake CUDA tensors and prints
the errors by the calls' names as JSON. It needs its own process because the library changes torch's view of CUDA.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import fractalops
from fractalops import backends

Call = Callable[[], Tensor]
Prepare = Callable[[str], Call]
"""Creates the inputs on a device, and returns the call."""

READS = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "_unique2", "unique_dim")
"""Operations for which the host waits for a GPU. Indexing with a mask counts as `nonzero`."""


class NoWaiting(TorchDispatchMode):
    """A mode that fails if the host would wait for a GPU.

    The host waits if it reads values, or if it copies between the GPU and memory that is not pinned.
    """

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.name().removeprefix("aten::").partition(".")[0]
        if name in READS or (
            name == "index" and any(each is not None and each.dtype == torch.bool for each in args[1])
        ):
            raise AssertionError(f"the host reads values: {name}")
        result = function(*args, **(kwargs or {}))
        if name in ("_to_copy", "copy_"):
            source = args[1 if name == "copy_" else 0]
            if source.device.type != result.device.type:
                raise AssertionError(f"the host copies a tensor of shape {tuple(source.shape)} to {result.device.type}")
        return result


def chain_inputs(device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return matrix (N, 2, 2), offset (N, 2) and index (B, T)."""
    matrix = torch.full((4, 2, 2), 0.4, device=device)
    return matrix, torch.ones(4, 2, device=device), torch.zeros(3, 65, device=device, dtype=torch.uint8)


def _points(device: str, dimensions: int = 2) -> Tensor:
    return torch.ones(3, 65, dimensions, device=device)


def _render(**options: Any) -> Prepare:
    return lambda device: partial(fractalops.render, *chain_inputs(device), (32, 20), **options)


def _render_color(device: str) -> Call:
    color = torch.ones(4, 3, device=device)
    return partial(fractalops.render, *chain_inputs(device), 32, color=color, blend="mean", background=0.5)


def _render_points(dimensions: int, **options: Any) -> Prepare:
    return lambda device: partial(fractalops.render_points, _points(device, dimensions), 32, azimuth=30, **options)


def _ifs(**options: Any) -> Prepare:
    return lambda device: partial(fractalops.IFS(2, 4, device=device, **options), (32, 20), sequences=3, points=50)


# Calls that wait, to check that waits are found.
COPIES: dict[str, Prepare] = {
    "a copy": lambda device: lambda: torch.ones(3, device="cpu").to(device),
    "a copy of one number": lambda device: lambda: torch.tensor(3.0).to(device),
    "a copy into a tensor": lambda device: lambda: torch.ones(3, device=device).copy_(torch.ones(3, device="cpu")),
    "a copy to the host": lambda device: lambda: torch.ones(3, device=device).cpu(),
}


CALLS: dict[str, Prepare] = {
    "affine_chain": lambda device: partial(fractalops.affine_chain, *chain_inputs(device), _points(device)[:, 0]),
    "rbf_rasterize": lambda device: partial(fractalops.rbf_rasterize, _points(device), 32, weight=_points(device)),
    "rasterize_points": lambda device: partial(fractalops.rasterize_points, _points(device), (32, 20)),
    "render": _render(),
    "render, viewport by numbers": _render(viewport=(0.0, 0.0, 1.0, 1.0)),
    "render, viewport by the points": _render(viewport="fit"),
    "render, in color": _render_color,
    "render_points, in space": _render_points(3),
    "render_points, in the plane": _render_points(2),
    "IFS": _ifs(),
    "IFS, in color": _ifs(channels=3),
    "IFS, learned probabilities": _ifs(probabilities="learned"),
    "IFS, matrices, viewport by the points": _ifs(parametrization="matrix", viewport="fit"),
}


def main(library: str) -> None:
    torch.ops.load_library(library)
    torch.version.cuda = "13.0"
    backends.STATE.forced = None
    backends.STATE.load_errors.pop("cuda", None)  # as if the CUDA library were loaded
    errors = {}
    # One mode for all calls: after the first call, the tables of `svd_matrix` stay on their device.
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        for name, prepare in (CALLS | COPIES).items():
            try:
                call = prepare("cuda")
                call()
                with NoWaiting():
                    result = call()
                errors[name] = "" if result.device.type == "cuda" else f"on {result.device}"
            except Exception as error:
                errors[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(errors))


if __name__ == "__main__":
    main(sys.argv[1])
