"""Backends of the ops: which ones are built and can run, and which one an op uses."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
import warnings
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch

from fractalops.errors import BackendError
from fractalops.op_table import DEVICES as DEVICES
from fractalops.op_table import OPS as OPS
from fractalops.op_table import SCHEMAS_SYMBOL

Backend = Literal["reference", "native"]
BACKENDS: tuple[str, ...] = get_args(Backend)

_REBUILD = (
    "pip install --force-reinstall --no-deps --no-build-isolation . "
    "(in the folder of the source, with setuptools>=77 and ninja installed)"
)
# Functions of csrc/cpu/instruction_set.cpp.
_SET_FUNCTIONS = ("kernel_instruction_set", "processor_instruction_sets")
_USED_THREADS = "kernels_used_threads"
_WITHOUT_CUDA = "this torch was built without CUDA"


class BackendStatus(NamedTuple):
    """The backend that an op uses on a type of device."""

    op: str
    """Name of the op."""
    device: str
    """Type of device: "cpu" or "cuda"."""
    backend: str
    """The backend: "native", "reference", or "none" if the requested backend can't run."""
    reason: str
    """Why the backend is not "native"; empty if it is."""
    remedy: str
    """How to get the native backend; empty if there is nothing to do."""


class _Scope(threading.local):
    """The backend of the innermost `use_backend` in each thread. torch.compile guards on its attribute."""

    def __init__(self) -> None:  # torch.compile would not guard on an attribute of the class
        self.backend: str | None = None


class BackendState:
    """The state that decides the choice of a backend: environment variables and the loaded native libraries."""

    def __init__(self) -> None:
        self.forced = os.environ.get("FRACTALOPS_BACKEND") or None
        self.debug = os.environ.get("FRACTALOPS_DEBUG") or "0"
        self.scope = _Scope()
        self.warned: set[tuple[str, str]] = set()  # (op, type of device) pairs that the slow-reference warning named
        self.libraries = {device: Path(__file__).parent / f"_{device}.so" for device in DEVICES}
        self.load_errors = self._load_libraries()  # by type of device; has no entry for a library that is loaded
        self.asked_for_set = os.environ.get("FRACTALOPS_INSTRUCTION_SET") or None
        # Both are empty if the CPU library isn't loaded.
        self.instruction_set, self.instruction_sets = self._read_instruction_sets()
        self.import_errors: dict[str, ImportError | None] = {}  # by Triton op, after the import of its kernels

    def _load_libraries(self) -> dict[str, OSError]:
        """Load the native libraries, which registers their kernels; return the errors by type of device.

        An error is not raised here, but by the first call that requires the library.
        """
        errors = {}
        for device, library in self.libraries.items():
            if device == "cuda" and torch.version.cuda is None:
                errors[device] = OSError(_WITHOUT_CUDA)
                continue
            try:
                torch.ops.load_library(library)
                names = [SCHEMAS_SYMBOL] + [name for name in (*_SET_FUNCTIONS, _USED_THREADS) if device == "cpu"]
                if not all(hasattr(ctypes.CDLL(str(library)), name) for name in names):
                    raise OSError("it was built from another version of the source")
            except OSError as error:
                errors[device] = error
        return errors

    def _read_instruction_sets(self) -> tuple[str, list[str]]:
        """Return the instruction set that the CPU kernels use, and all sets that the processor has, best one last."""
        if "cpu" in self.load_errors:
            return "", []
        library = ctypes.CDLL(str(self.libraries["cpu"]))
        functions = [getattr(library, name) for name in _SET_FUNCTIONS]
        for function in functions:
            function.restype = ctypes.c_char_p
        taken, known = (function().decode() for function in functions)
        return taken, known.split()

    def instruction_set_problem(self) -> str:
        """Return the error message for a wrong FRACTALOPS_INSTRUCTION_SET; an empty string if it is right."""
        if self.asked_for_set is None or not self.instruction_sets or self.asked_for_set in self.instruction_sets:
            return ""
        known = ", ".join(self.instruction_sets)
        return f"FRACTALOPS_INSTRUCTION_SET must be one of {known} on this processor, got {self.asked_for_set!r}"

    def import_error(self, op: str) -> ImportError | None:
        """Import the Triton kernels of an op on the first call; return the error of the import, or None."""
        if op not in self.import_errors:
            try:
                import_module(f"fractalops.kernels.{op}")
                self.import_errors[op] = None
            except ImportError as error:
                self.import_errors[op] = error
        return self.import_errors[op]

    def used_threads(self) -> bool:
        """Return whether native ops have used more than one CPU thread in this process."""
        if "cpu" in self.load_errors:
            return False
        function = getattr(ctypes.CDLL(str(self.libraries["cpu"])), _USED_THREADS)
        function.restype = ctypes.c_bool
        return bool(function())


STATE = BackendState()


def _do_without_threads() -> None:
    """Limit a forked process to one thread if native ops used several threads before the fork.

    A fork does not copy OpenMP's threads. OpenMP would wait for them forever in each native or torch op that splits its
    work. The workers of `DataLoader` have the same limit.
    """
    if STATE.used_threads():
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_do_without_threads)


class use_backend:
    """Context manager that selects the backend of all ops in a `with` statement.

    It applies to the thread that enters it, in eager and in compiled code. It can be nested. It overrides the
    environment variable `FRACTALOPS_BACKEND`. The argument `backend=` of an op overrides it. An op that can't run on
    the selected backend raises `BackendError`.

    Args:
        name: `"reference"` (plain PyTorch, any device), `"native"` (C++, CUDA and Triton kernels), or None, which
            cancels an outer `use_backend`: `FRACTALOPS_BACKEND` applies again, else the default.

    Raises:
        ValueError: If `name` is not one of these.

    Examples:
        >>> import torch
        >>> import fractalops
        >>> points = torch.rand(1, 100, 2) * 32
        >>> with fractalops.use_backend("reference"):
        ...     image = fractalops.rbf_rasterize(points, 32)
        >>> image.shape
        torch.Size([1, 32, 32])
    """

    def __init__(self, name: Backend | None) -> None:
        if name is not None and name not in BACKENDS:
            raise ValueError(f"use_backend: name must be one of {', '.join(BACKENDS)} or None, got {name!r}")
        self._name = name
        self._outer: list[str | None] = []

    def __enter__(self) -> None:
        self._outer.append(STATE.scope.backend)
        STATE.scope.backend = self._name

    def __exit__(self, *exception: object) -> None:
        STATE.scope.backend = self._outer.pop()


def debugging() -> bool:
    """Return whether FRACTALOPS_DEBUG is 1. Calls then also check values on a GPU, for which they wait for the device.

    Raises `ValueError` if the variable is neither 0 nor 1.
    """
    if STATE.debug not in ("0", "1"):
        raise ValueError(f"FRACTALOPS_DEBUG must be 0 or 1, got {STATE.debug!r}")
    return STATE.debug == "1"


def _cause(op: str, device: str) -> OSError | ImportError | None:
    """Return the error that prevents the native kernel of `op` on `device`; None if it can run or doesn't exist."""
    kernel = OPS[op].kernels.get(device)
    if kernel is None:
        return None
    if kernel != "triton":
        return STATE.load_errors.get(device)
    return OSError(_WITHOUT_CUDA) if torch.version.cuda is None else STATE.import_error(op)


def _missing(op: str, device: str) -> tuple[str, str]:
    """Return why the native kernel of `op` can't run on `device`, and the remedy; two empty strings if it can run."""
    kernel, cause = OPS[op].kernels.get(device), _cause(op, device)
    if kernel is not None and cause is None:
        return "", ""
    built = device in DEVICES and STATE.libraries[device].exists()
    if device == "cuda" and torch.version.cuda is None:
        return _WITHOUT_CUDA, "for NVIDIA GPUs: install a CUDA build of torch" + ("" if built else ", then fractalops")
    if kernel is None:
        kind = {"cuda": "NVIDIA GPUs"}.get(device, f"{device} devices")
        return f"this version has no native {op} for {kind}", "move the tensors to the CPU for native speed"
    if kernel == "triton":
        return f"Triton's kernels can't be imported ({cause})", "pip install triton"
    command = _REBUILD if device == "cpu" else f"FRACTALOPS_BUILD=all {_REBUILD}"
    if not built:
        compiler = {"cpu": "a C++ compiler", "cuda": "nvcc"}[device]
        return f"the native {device.upper()} library was not built", f"with {compiler}: {command}"
    return f"the native {device.upper()} library can't be loaded ({cause})", command


def _decide(op: str, device: str, backend: str | None) -> BackendStatus:
    """Return the backend that `op` uses, without a warning. Raises the same errors as `choose`."""
    expected = STATE.forced if backend is None else backend
    if expected is not None and expected not in BACKENDS:
        source = "FRACTALOPS_BACKEND" if backend is None else "backend"
        raise ValueError(f"{op}: {source} must be one of {', '.join(BACKENDS)}, got {expected!r}")
    if expected == "reference":
        asked = ("requested", "") if backend else ("FRACTALOPS_BACKEND=reference", "unset FRACTALOPS_BACKEND")
        return BackendStatus(op, device, "reference", *asked)
    reason, remedy = _missing(op, device)
    if reason and expected == "native":
        raise BackendError(f"{op}: backend 'native' can't run: {reason}; {remedy}") from _cause(op, device)
    if not reason and device == "cpu" and STATE.instruction_set_problem():
        raise ValueError(f"{op}: {STATE.instruction_set_problem()}")
    return BackendStatus(op, device, "reference" if reason else "native", reason, remedy)


def choose(op: str, device: torch.device, backend: str | None = None) -> str:
    """Return the backend that `op` uses on `device`: "native" or "reference".

    The first of these that is set decides: the argument `backend`, `use_backend`, FRACTALOPS_BACKEND. If none is set,
    it is "native" if that can run, else "reference". The latter warns once for each op and type of device, except for
    minor ops without a native kernel and on the device "meta".

    Raises:
        ValueError: If a name is unknown, or if this processor lacks the set named by FRACTALOPS_INSTRUCTION_SET.
        BackendError: If the requested backend can't run.
    """
    kind = device.type
    if backend is None:
        backend = STATE.scope.backend
        compiled = OPS[op].kernels.get(kind) in ("cpp", "cuda") and kind not in STATE.load_errors
        if backend is None and STATE.forced is None and compiled and not STATE.instruction_set_problem():
            return "native"  # a fast path for the common case
    return _choose_and_warn(op, kind, backend)


def _choose_and_warn(op: str, kind: str, backend: str | None) -> str:
    """Do the part of `choose` that reads files and warns. torch.compile runs it once instead of tracing it."""
    status = _decide(op, kind, backend)
    stands_in = status.backend == "reference" and (STATE.forced if backend is None else backend) is None
    expected = kind == "meta" or (OPS[op].minor and kind not in OPS[op].kernels)
    if stands_in and not expected and (op, kind) not in STATE.warned:
        STATE.warned.add((op, kind))
        warnings.warn(f"{op}: using the slow reference on {kind}: {status.reason}; {status.remedy}", stacklevel=4)
    return status.backend


# As torch.compiler.assume_constant_result does. A call of that function would import the compiler (1.4 s).
_choose_and_warn._dynamo_marked_constant = True  # type: ignore[attr-defined]


def list_backends() -> list[BackendStatus]:
    """Return the backend that each op uses on each type of device.

    It takes the surrounding `use_backend` and the environment variables into account.

    Returns:
        One `BackendStatus` for each op and each type of device ("cpu" and "cuda"), a named tuple of strings: `op`,
        `device`, `backend` ("native", "reference", or "none" if the requested backend can't run), `reason` (why it is
        not "native") and `remedy` (how to get the native backend).

    Examples:
        >>> import fractalops
        >>> with fractalops.use_backend("reference"):
        ...     status = fractalops.list_backends()[0]
        >>> status.op, status.device, status.backend, status.reason
        ('affine_chain', 'cpu', 'reference', 'requested')
    """
    asked_for = STATE.scope.backend
    rows = []
    for op in OPS:
        for device in DEVICES:
            try:
                rows.append(_decide(op, device, asked_for))
            except (ValueError, BackendError) as error:
                remedy = "" if asked_for else "unset FRACTALOPS_BACKEND"
                if "FRACTALOPS_INSTRUCTION_SET" in str(error):
                    remedy = "unset FRACTALOPS_INSTRUCTION_SET"
                rows.append(BackendStatus(op, device, "none", str(error), remedy))
    return rows


def installed_version(package: str = "fractalops", otherwise: str = "unknown") -> str:
    """Return the version of an installed package, or `otherwise` if the package is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return otherwise


def versions() -> dict[str, str]:
    """Return the versions that results can depend on: of this package, of torch and of Python."""
    return {"fractalops": installed_version(), "torch": str(torch.__version__), "python": platform.python_version()}


def _library_status(device: str) -> str:
    if device not in STATE.load_errors:
        return "built and loaded"
    if not STATE.libraries[device].exists():
        return "not built"
    return f"built, but it can't be loaded ({STATE.load_errors[device]})"


def _instruction_set_status() -> str:
    if not STATE.instruction_sets:
        return "none, because the native CPU library isn't loaded"
    best = STATE.instruction_sets[-1]
    if STATE.asked_for_set is None:
        return f"{STATE.instruction_set}, the best that this processor has"
    return STATE.instruction_set_problem() or (
        f"{STATE.instruction_set}, set by FRACTALOPS_INSTRUCTION_SET; the best that this processor has is {best}"
    )


def _table(rows: list[BackendStatus]) -> list[str]:
    """Return a line for each row. Rows of a device are one line if they all have the same backend and reason."""
    lines = []
    for device in DEVICES:
        here = [row for row in rows if row.device == device]
        alike = here[0].reason and len({(row.backend, row.reason) for row in here}) == 1
        for row in here[:1] if alike else here:
            lines.append(f"{'every op' if alike else row.op:<23}{device:<8}{row.backend:<11}{row.reason}".rstrip())
    return lines


def report() -> str:
    """Return the text of `fractalops info`: versions, built libraries, the backend of each op, and remedies.

    A kernel that this version doesn't have is not listed as a problem to fix.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    rows = list_backends()
    lines = [
        f"fractalops {installed_version()}, torch {torch.__version__}",
        f"processor: {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads",
        f"NVIDIA GPUs that torch can use: {gpus}",
        *(f"native {device.upper()} library: {_library_status(device)}" for device in DEVICES),
        f"instruction set of the CPU kernels: {_instruction_set_status()}",
        f"Triton: {installed_version('triton', 'not installed')}",
        f"FRACTALOPS_BACKEND: {STATE.forced or 'not set'}",
        f"FRACTALOPS_DEBUG: {STATE.debug if STATE.debug != '0' else 'not set'}",
        "",
        f"{'op':<23}{'device':<8}{'backend':<11}why",
        *_table(rows),
    ]
    there = (row.remedy for row in rows if row.backend == "none" or row.device in OPS[row.op].kernels)
    remedies = list(dict.fromkeys(remedy for remedy in there if remedy))
    if remedies:
        lines += ["", "to use more native kernels:"] + [f"  {remedy}" for remedy in remedies]
    return "\n".join(lines)


def show_backends() -> None:
    """Print the versions, the built native libraries, and the backend that each op uses on each type of device.

    It prints the same text as the command `fractalops info`, except for the line about the loop of `fit`. If an op
    can't use its native kernel, the text says why and how to fix that.
    """
    print(report())
