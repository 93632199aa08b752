"""Backends: what is built, what can run here, which one an op takes and why."""

from __future__ import annotations

import ctypes
import os
import platform
import warnings
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch

from fractalops.errors import BackendError, InputError
from fractalops.ops.library import SCHEMAS

# These run as PyTorch operations elsewhere than on the CPU, without a warning: they are small beside the others.
CPU_ONLY = ("svd_matrix", "draw_index", "fixed_point", "clamped_squared_error")
OPS = ("affine_chain", "rbf_rasterize", "rasterize_points", "draw_balanced_index", *CPU_ONLY)
BACKENDS = ("reference", "native")
DEVICES = ("cpu", "cuda")
# In the libraries, but for those in Triton, which a GPU's first call imports.
LIBRARY_OPS = {"cpu": OPS, "cuda": ("affine_chain", "draw_balanced_index")}
TRITON_OPS = ("rbf_rasterize", "rasterize_points")

_LIBRARIES = {device: Path(__file__).parent / f"_{device}.so" for device in DEVICES}
_REBUILD = (
    "pip install --force-reinstall --no-deps --no-build-isolation . "
    "(in the folder of the source, with setuptools>=77 and ninja installed)"
)
_SCHEMAS_SYMBOL = f"schemas_{sha256(repr(SCHEMAS).encode()).hexdigest()[:16]}"  # as setup.py has it
_WITHOUT_CUDA = "this torch was built without CUDA"


class BackendStatus(NamedTuple):
    """Which backend an op takes on a kind of device, and why it is not the native one (empty when it is)."""

    op: str
    device: str
    backend: str
    reason: str
    remedy: str


def _load_libraries() -> dict[str, OSError]:
    """Register the native kernels; the failures are kept, by device, for the first call that asks for them."""
    errors = {}
    for device, library in _LIBRARIES.items():
        if device == "cuda" and torch.version.cuda is None:
            errors[device] = OSError(_WITHOUT_CUDA)
            continue
        try:
            torch.ops.load_library(library)
            if not hasattr(ctypes.CDLL(str(library)), _SCHEMAS_SYMBOL):
                raise OSError("it was built from another version of the source")
        except OSError as error:
            errors[device] = error
    return errors


_errors = _load_libraries()
_forced = os.environ.get("FRACTALOPS_BACKEND") or None
_debug = os.environ.get("FRACTALOPS_DEBUG") or "0"
_warned: set[tuple[str, str]] = set()


@cache
def _import_kernels(op: str) -> ImportError | None:
    """Import the kernels of an op in Triton, once; the failure is kept."""
    try:
        import_module(f"fractalops.kernels.{op}")
    except ImportError as error:
        return error
    return None


def debugging() -> bool:
    """Whether values on a GPU are checked too, for which a call waits for the device: FRACTALOPS_DEBUG=1."""
    if _debug not in ("0", "1"):
        raise ValueError(f"FRACTALOPS_DEBUG must be 0 or 1, got {_debug!r}")
    return _debug == "1"


def _cause(op: str, device: str) -> OSError | ImportError | None:
    """What keeps the native kernels of `op` from running on `device`; None where they run or don't exist."""
    if op in LIBRARY_OPS.get(device, ()):
        return _errors.get(device)
    if device == "cuda" and op in TRITON_OPS:
        return OSError(_WITHOUT_CUDA) if torch.version.cuda is None else _import_kernels(op)
    return None


def _missing(op: str, device: str) -> tuple[str, str]:
    """Why `op` has no native kernel on `device` and what mends it; two empty strings where it has one."""
    triton = device == "cuda" and op in TRITON_OPS
    if op not in LIBRARY_OPS.get(device, ()) and not triton:
        kind = {"cuda": "NVIDIA GPUs"}.get(device, f"{device} devices")
        return f"this version has no native {op} for {kind}", "move the tensors to the CPU for native speed"
    cause = _cause(op, device)
    if cause is None:
        return "", ""
    built = _LIBRARIES[device].exists()
    if device == "cuda" and torch.version.cuda is None:
        return _WITHOUT_CUDA, "for NVIDIA GPUs: install a CUDA build of torch" + ("" if built else ", then fractalops")
    if triton:
        return f"Triton's kernels can't be imported ({cause})", "pip install triton"
    command = _REBUILD if device == "cpu" else f"FRACTALOPS_BUILD=all {_REBUILD}"
    if not built:
        compiler = {"cpu": "a C++ compiler", "cuda": "nvcc"}[device]
        return f"the native {device.upper()} library was not built", f"with {compiler}: {command}"
    return f"the native {device.upper()} library can't be loaded ({cause})", command


def _decide(op: str, device: str, backend: str | None) -> BackendStatus:
    """Which backend `op` takes, without a warning. Raises as `choose` does."""
    wanted = _forced if backend is None else backend
    if wanted is not None and wanted not in BACKENDS:
        source = "FRACTALOPS_BACKEND" if backend is None else "backend"
        raise ValueError(f"{op}: {source} must be one of {', '.join(BACKENDS)}, got {wanted!r}")
    if wanted == "reference":
        asked = ("asked for", "") if backend else ("FRACTALOPS_BACKEND=reference", "unset FRACTALOPS_BACKEND")
        return BackendStatus(op, device, "reference", *asked)
    reason, remedy = _missing(op, device)
    if reason and wanted == "native":
        raise BackendError(f"{op}: backend 'native' can't run: {reason}; {remedy}") from _cause(op, device)
    return BackendStatus(op, device, "reference" if reason else "native", reason, remedy)


def choose(op: str, device: torch.device, backend: str | None) -> str:
    """The backend that `op` takes on `device`: `backend`, else FRACTALOPS_BACKEND, else native where it can run.

    Raises `ValueError` for an unknown name and `BackendError` where the one asked for can't run. Warns once for each
    op and kind of device when the reference has to stand in.
    """
    kind = device.type
    if backend is None and _forced is None and kind not in _errors and op in LIBRARY_OPS.get(kind, ()):
        return "native"  # the common case, without building a status
    return _choose_and_warn(op, kind, backend)


def _choose_and_warn(op: str, kind: str, backend: str | None) -> str:
    """The rest of `choose`, which a compiler runs once instead of tracing it: it looks at files, and warns."""
    status = _decide(op, kind, backend)
    stands_in = status.backend == "reference" and (_forced if backend is None else backend) is None
    expected = kind == "meta" or (op in CPU_ONLY and kind != "cpu")
    if stands_in and not expected and (op, kind) not in _warned:
        _warned.add((op, kind))
        warnings.warn(f"{op}: using the slow reference on {kind}: {status.reason}; {status.remedy}", stacklevel=4)
    return status.backend


# What torch.compiler.assume_constant_result does, which imports the compiler (1.4 s) to do it.
_choose_and_warn._dynamo_marked_constant = True  # type: ignore[attr-defined]


def list_backends() -> list[BackendStatus]:
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


def check_device(device: torch.device) -> None:
    """Raise `InputError` for a GPU where torch finds none."""
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"cannot run on {device}: torch finds no GPU")


def versions() -> dict[str, str]:
    """What results may depend on: the versions of the package, of torch and of Python."""
    return {
        "fractalops": installed_version(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def _library_status(device: str) -> str:
    if device not in _errors:
        return "built and loaded"
    if not _LIBRARIES[device].exists():
        return "not built"
    return f"built, but it can't be loaded ({_errors[device]})"


def _triton_status() -> str:
    try:
        return version("triton")
    except PackageNotFoundError:
        return "not installed"


def report() -> str:
    """The text of `fractalops info`: versions, what is built, which backend each op takes, and what mends the rest."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    lines = [
        f"fractalops {installed_version()}, torch {torch.__version__}",
        f"processor: {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads",
        f"NVIDIA GPUs that torch can use: {gpus}",
        *(f"native {device.upper()} library: {_library_status(device)}" for device in DEVICES),
        f"Triton: {_triton_status()}",
        f"FRACTALOPS_BACKEND: {_forced or 'not set'}",
        f"FRACTALOPS_DEBUG: {_debug if _debug != '0' else 'not set'}",
        "",
        f"{'op':<23}{'device':<8}{'backend':<11}why",
    ]
    remedies = []
    for row in list_backends():
        lines.append(f"{row.op:<23}{row.device:<8}{row.backend:<11}{row.reason}".rstrip())
        if row.remedy and row.remedy not in remedies:
            remedies.append(row.remedy)
    if remedies:
        lines += ["", "to mend:"] + [f"  {remedy}" for remedy in remedies]
    return "\n".join(lines)


def show_backends() -> None:
    """Print `report()`."""
    print(report())
