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
# These run as PyTorch operations elsewhere than on the CPU, without a warning: they are small beside the other two.
CPU_ONLY = ("svd_matrix", "draw_index", "fixed_point", "clamped_squared_error")
BACKENDS = ("reference", "native")
DEVICES = ("cpu", "cuda")

_LIBRARY = Path(__file__).parent / "_cpu.so"
_REBUILD = "pip install --force-reinstall --no-deps --no-build-isolation . (in the folder of the source)"


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


def _missing(device: str) -> tuple[str, str]:
    """Why there are no native kernels for `device` and what mends it; two empty strings where there are."""
    if device == "cpu":
        if _cpu_error is None:
            return "", ""
        if not _LIBRARY.exists():
            return "the native CPU library was not built", f"with a C++ compiler: {_REBUILD}"
        return f"the native CPU library can't be loaded ({_cpu_error})", _REBUILD
    kind = {"cuda": "NVIDIA GPUs"}.get(device, f"{device} devices")
    return f"this version has no native kernels for {kind}", "move the tensors to the CPU for native speed"


def _decide(op: str, device: str, backend: str | None) -> BackendStatus:
    """Which backend `op` takes, without a warning. Raises as `choose` does."""
    wanted = _forced if backend is None else backend
    if wanted is not None and wanted not in BACKENDS:
        source = "FRACTALOPS_BACKEND" if backend is None else "backend"
        raise ValueError(f"{op}: {source} must be one of {', '.join(BACKENDS)}, got {wanted!r}")
    if wanted == "reference":
        asked = ("asked for", "") if backend else ("FRACTALOPS_BACKEND=reference", "unset FRACTALOPS_BACKEND")
        return BackendStatus(op, device, "reference", *asked)
    reason, remedy = _missing(device)
    if reason and wanted == "native":
        raise BackendError(f"{op}: backend 'native' can't run: {reason}; {remedy}") from _cpu_error
    return BackendStatus(op, device, "reference" if reason else "native", reason, remedy)


def choose(op: str, device: torch.device, backend: str | None) -> str:
    """The backend that `op` takes on `device`: `backend`, else FRACTALOPS_BACKEND, else native where it can run.

    Raises `ValueError` for an unknown name and `BackendError` where the one asked for can't run. Warns once for each
    op and kind of device when the reference has to stand in.
    """
    kind = device.type
    if backend is None and _forced is None and kind == "cpu" and _cpu_error is None:
        return "native"  # the common case, without building a status
    status = _decide(op, kind, backend)
    stands_in = status.backend == "reference" and (_forced if backend is None else backend) is None
    expected = kind == "meta" or (op in CPU_ONLY and kind != "cpu")
    if stands_in and not expected and (op, kind) not in _warned and not torch.compiler.is_compiling():
        _warned.add((op, kind))
        warnings.warn(f"{op}: using the slow reference on {kind}: {status.reason}; {status.remedy}", stacklevel=3)
    return status.backend


def backends() -> list[BackendStatus]:
    """Which backend each op takes on each kind of device, and why; "none" where the one asked for can't run."""
    rows = []
    for op in OPS:
        for device in DEVICES:
            try:
                rows.append(_decide(op, device, None))
            except (ValueError, BackendError) as error:
                reason = str(error).removeprefix(f"{op}: ")
                rows.append(BackendStatus(op, device, "none", reason, "unset FRACTALOPS_BACKEND"))
    return rows


def installed_version() -> str:
    """The package's version; "unknown" when it runs from a folder that was never installed."""
    try:
        return version("fractalops")
    except PackageNotFoundError:
        return "unknown"


def report() -> str:
    """The text of `fractalops info`: versions, what is built, which backend each op takes, and what mends the rest."""
    built = "built and loaded" if _cpu_error is None else _missing("cpu")[0]
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
