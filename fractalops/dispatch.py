"""Backends: what is built, what can run here, which one an op takes and why."""

from __future__ import annotations

import os
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch

from fractalops.errors import BackendError

OPS = ("affine_chain", "rbf_rasterize", "svd_matrix", "draw_index", "fixed_point", "clamped_squared_error")
# Their PyTorch form is what runs on a GPU too: tiny tensors, or one call that torch does well.
REFERENCE_ON_GPU = ("svd_matrix", "draw_index", "fixed_point", "clamped_squared_error")
BACKENDS = ("reference", "native")
DEVICES = ("cpu", "cuda")

_LIBRARY = Path(__file__).parent / "_cpu.so"
_REBUILD = "install a C++ compiler, then: pip install --force-reinstall --no-deps --no-cache-dir fractalops"


class BackendStatus(NamedTuple):
    """Which backend an op takes on a kind of device, and why it is not the native one (empty when it is)."""

    op: str
    device: str
    backend: str
    reason: str
    remedy: str


def _load_cpu_library() -> OSError | None:
    """Register the native CPU kernels; a failure is kept for the first call that asks for them."""
    try:
        torch.ops.load_library(_LIBRARY)
    except OSError as error:
        return error
    return None


_cpu_error = _load_cpu_library()
_forced = os.environ.get("FRACTALOPS_BACKEND") or None
_warned: set[tuple[str, str]] = set()


def _missing(op: str, device: str) -> tuple[str, str]:
    """Why `op` has no native backend on `device` and what mends it; two empty strings when it has one."""
    if device == "cpu":
        if _cpu_error is None:
            return "", ""
        if not _LIBRARY.exists():
            return "the native CPU library was not built", _REBUILD
        return f"the native CPU library can't be loaded ({_cpu_error})", _REBUILD
    if device == "cuda":
        return (
            "this version has no native kernels for NVIDIA GPUs",
            "move the tensors to the CPU for native speed",
        )
    return f"there are no native kernels for {device} devices", "move the tensors to the CPU for native speed"


def choose(op: str, device: torch.device, backend: str | None) -> str:
    """The backend that `op` takes on `device`: `backend`, else FRACTALOPS_BACKEND, else native where it can run.

    Raises `ValueError` for an unknown name and `BackendError` where the one asked for can't run. Warns once for each
    op and kind of device when the reference has to stand in.
    """
    wanted = _forced if backend is None else backend
    if wanted is not None and wanted not in BACKENDS:
        source = "FRACTALOPS_BACKEND" if backend is None else "backend"
        raise ValueError(f"{op}: {source} must be one of {', '.join(BACKENDS)}, got {wanted!r}")
    if wanted == "reference" or device.type == "meta" or (op in REFERENCE_ON_GPU and device.type != "cpu"):
        return "reference"
    reason, remedy = _missing(op, device.type)
    if not reason:
        return "native"
    if wanted == "native":
        raise BackendError(f"{op}: backend 'native' can't run: {reason}; {remedy}") from _cpu_error
    if (op, device.type) not in _warned and not torch.compiler.is_compiling():
        _warned.add((op, device.type))
        warnings.warn(f"{op}: using the slow reference on {device.type}: {reason}; {remedy}", stacklevel=3)
    return "reference"


def backends() -> list[BackendStatus]:
    """Which backend each op takes on each kind of device by default, and why."""
    rows = []
    for op in OPS:
        for device in DEVICES:
            reason, remedy = _missing(op, device)
            if op in REFERENCE_ON_GPU and device != "cpu":
                reason, remedy = "PyTorch does it as well as a kernel would", ""
            if _forced == "reference":
                reason, remedy = "FRACTALOPS_BACKEND=reference", "unset FRACTALOPS_BACKEND"
            rows.append(BackendStatus(op, device, "reference" if reason else "native", reason, remedy))
    return rows


def installed_version() -> str:
    """The package's version; "unknown" when it runs from a folder that was never installed."""
    try:
        return version("fractalops")
    except PackageNotFoundError:
        return "unknown"


def report() -> str:
    """The text of `fractalops info`: versions, what is built, which backend each op takes, and what mends the rest."""
    built = "built and loaded" if _cpu_error is None else _missing(OPS[0], "cpu")[0]
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    lines = [
        f"fractalops {installed_version()}, torch {torch.__version__}",
        f"processor: {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads",
        f"NVIDIA GPUs that torch can use: {gpus}",
        f"native CPU library: {built}",
        "native GPU kernels: none in this version",
        f"FRACTALOPS_BACKEND: {_forced or 'not set'}",
        "",
        f"{'op':<23}{'device':<8}{'backend':<11}why",
    ]
    remedies = []
    for row in backends():
        lines.append(f"{row.op:<23}{row.device:<8}{row.backend:<11}{row.reason}".rstrip())
        if row.remedy and row.remedy not in remedies:
            remedies.append(row.remedy)
    if remedies:
        lines += ["", "to mend:"] + [f"  {remedy}" for remedy in remedies]
    return "\n".join(lines)


def show_backends() -> None:
    """Print `report()`."""
    print(report())
