"""Backends: what is built, what can run here, which one an op takes and why."""

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
# Of csrc/cpu/instruction_set.cpp.
_SET_FUNCTIONS = ("kernel_instruction_set", "processor_instruction_sets")
_USED_THREADS = "kernels_used_threads"
_WITHOUT_CUDA = "this torch was built without CUDA"


class BackendStatus(NamedTuple):
    """The backend of an op on a kind of device, and why it is not the native one (empty when it is)."""

    op: str
    device: str
    backend: str
    reason: str
    remedy: str


class _Scope(threading.local):
    """The backend of the innermost `use_backend` of each thread. Compiled functions are guarded on it."""

    def __init__(self) -> None:  # an attribute of the class would not be guarded
        self.backend: str | None = None


class BackendState:
    """The state on which the choice of a backend depends: the environment and the native libraries of this process."""

    def __init__(self) -> None:
        self.forced = os.environ.get("FRACTALOPS_BACKEND") or None
        self.debug = os.environ.get("FRACTALOPS_DEBUG") or "0"
        self.scope = _Scope()
        self.warned: set[tuple[str, str]] = set()  # (op, kind of device) whose reference stands in
        self.libraries = {device: Path(__file__).parent / f"_{device}.so" for device in DEVICES}
        self.load_errors = self._load_libraries()  # by kind of device; those that load are not in it
        self.asked_for_set = os.environ.get("FRACTALOPS_INSTRUCTION_SET") or None
        # Empty where the CPU library isn't loaded.
        self.instruction_set, self.instruction_sets = self._read_instruction_sets()
        self.import_errors: dict[str, ImportError | None] = {}  # by op in Triton, once its kernels are imported

    def _load_libraries(self) -> dict[str, OSError]:
        """Register the native kernels; the failures are kept for the first call that asks for them."""
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
        """Return the instruction set that the CPU kernels take, and those of the processor, the best one last."""
        if "cpu" in self.load_errors:
            return "", []
        library = ctypes.CDLL(str(self.libraries["cpu"]))
        functions = [getattr(library, name) for name in _SET_FUNCTIONS]
        for function in functions:
            function.restype = ctypes.c_char_p
        taken, known = (function().decode() for function in functions)
        return taken, known.split()

    def instruction_set_problem(self) -> str:
        """Return what is wrong with FRACTALOPS_INSTRUCTION_SET, empty where nothing is."""
        if self.asked_for_set is None or not self.instruction_sets or self.asked_for_set in self.instruction_sets:
            return ""
        known = ", ".join(self.instruction_sets)
        return f"FRACTALOPS_INSTRUCTION_SET must be one of {known} on this processor, got {self.asked_for_set!r}"

    def import_error(self, op: str) -> ImportError | None:
        """Import the kernels of an op in Triton, once; return the failure."""
        if op not in self.import_errors:
            try:
                import_module(f"fractalops.kernels.{op}")
                self.import_errors[op] = None
            except ImportError as error:
                self.import_errors[op] = error
        return self.import_errors[op]

    def used_threads(self) -> bool:
        """Return whether native ops have run on several threads of the CPU."""
        if "cpu" in self.load_errors:
            return False
        function = getattr(ctypes.CDLL(str(self.libraries["cpu"])), _USED_THREADS)
        function.restype = ctypes.c_bool
        return bool(function())


STATE = BackendState()


def _do_without_threads() -> None:
    """Run on one thread in a forked process, where native ops ran on several before.

    OpenMP would wait for those, which stayed behind, in every op that splits its work; torch's ops, too. `DataLoader`
    does the same in its workers.
    """
    if STATE.used_threads():
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_do_without_threads)


class use_backend:
    """Run the ops within a `with` statement on one backend; None chooses by device again.

    It holds for the thread that enters it, in eager and in compiled code, and may be nested. An op's own `backend=`
    overrides it, and it overrides the environment variable FRACTALOPS_BACKEND. An op that can't run on the backend
    raises `BackendError`.

    Args:
        name: `"reference"`, `"native"` or None.

    Raises:
        ValueError: for another name.
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
    """Return whether values on a GPU are checked too, for which a call waits for the device: FRACTALOPS_DEBUG=1."""
    if STATE.debug not in ("0", "1"):
        raise ValueError(f"FRACTALOPS_DEBUG must be 0 or 1, got {STATE.debug!r}")
    return STATE.debug == "1"


def _cause(op: str, device: str) -> OSError | ImportError | None:
    """Return what keeps the native kernels of `op` from running on `device`; None where they run or don't exist."""
    kernel = OPS[op].kernels.get(device)
    if kernel is None:
        return None
    if kernel != "triton":
        return STATE.load_errors.get(device)
    return OSError(_WITHOUT_CUDA) if torch.version.cuda is None else STATE.import_error(op)


def _missing(op: str, device: str) -> tuple[str, str]:
    """Return why `op` has no native kernel on `device` and how to get it; two empty strings where it has one."""
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
    """Return which backend `op` takes, without a warning. Raises as `choose` does."""
    expected = STATE.forced if backend is None else backend
    if expected is not None and expected not in BACKENDS:
        source = "FRACTALOPS_BACKEND" if backend is None else "backend"
        raise ValueError(f"{op}: {source} must be one of {', '.join(BACKENDS)}, got {expected!r}")
    if expected == "reference":
        asked = ("asked for", "") if backend else ("FRACTALOPS_BACKEND=reference", "unset FRACTALOPS_BACKEND")
        return BackendStatus(op, device, "reference", *asked)
    reason, remedy = _missing(op, device)
    if reason and expected == "native":
        raise BackendError(f"{op}: backend 'native' can't run: {reason}; {remedy}") from _cause(op, device)
    if not reason and device == "cpu" and STATE.instruction_set_problem():
        raise ValueError(f"{op}: {STATE.instruction_set_problem()}")
    return BackendStatus(op, device, "reference" if reason else "native", reason, remedy)


def choose(op: str, device: torch.device, backend: str | None = None) -> str:
    """Return the backend that `op` takes on `device`.

    It is `backend`, else that of `use_backend`, else that of FRACTALOPS_BACKEND, else native where that can run.

    Raises `ValueError` for an unknown name, or one of FRACTALOPS_INSTRUCTION_SET that this processor doesn't have, and
    `BackendError` where the backend asked for can't run. Warns once for each op and kind of device when the reference
    has to stand in.
    """
    kind = device.type
    if backend is None:
        backend = STATE.scope.backend
        compiled = OPS[op].kernels.get(kind) in ("cpp", "cuda") and kind not in STATE.load_errors
        if backend is None and STATE.forced is None and compiled and not STATE.instruction_set_problem():
            return "native"  # the common case, without building a status
    return _choose_and_warn(op, kind, backend)


def _choose_and_warn(op: str, kind: str, backend: str | None) -> str:
    """Do the rest of `choose`, which a compiler runs once instead of tracing it: it looks at files, and warns."""
    status = _decide(op, kind, backend)
    stands_in = status.backend == "reference" and (STATE.forced if backend is None else backend) is None
    expected = kind == "meta" or (OPS[op].minor and kind not in OPS[op].kernels)
    if stands_in and not expected and (op, kind) not in STATE.warned:
        STATE.warned.add((op, kind))
        warnings.warn(f"{op}: using the slow reference on {kind}: {status.reason}; {status.remedy}", stacklevel=4)
    return status.backend


# What torch.compiler.assume_constant_result does, which imports the compiler (1.4 s) to do it.
_choose_and_warn._dynamo_marked_constant = True  # type: ignore[attr-defined]


def list_backends() -> list[BackendStatus]:
    """Return which backend each op takes on each kind of device, and why; "none" where the one asked for can't run."""
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
    """Return a package's version; `otherwise` when it is not installed, or runs from a folder of its source."""
    try:
        return version(package)
    except PackageNotFoundError:
        return otherwise


def versions() -> dict[str, str]:
    """Return what results may depend on: the versions of the package, of torch and of Python."""
    return {"fractalops": installed_version(), "torch": str(torch.__version__), "python": platform.python_version()}


def _library_status(device: str) -> str:
    if device not in STATE.load_errors:
        return "built and loaded"
    if not STATE.libraries[device].exists():
        return "not built"
    return f"built, but it can't be loaded ({STATE.load_errors[device]})"


def _instruction_set_status() -> str:
    if not STATE.instruction_sets:
        return "none, as the native CPU library isn't loaded"
    best = STATE.instruction_sets[-1]
    if STATE.asked_for_set is None:
        return f"{STATE.instruction_set}, the best that this processor has"
    return STATE.instruction_set_problem() or (
        f"{STATE.instruction_set}, by FRACTALOPS_INSTRUCTION_SET; the best that this processor has is {best}"
    )


def _table(rows: list[BackendStatus]) -> list[str]:
    """Return a line for each row; one for a device on which all ops take the same backend for the same reason."""
    lines = []
    for device in DEVICES:
        here = [row for row in rows if row.device == device]
        alike = here[0].reason and len({(row.backend, row.reason) for row in here}) == 1
        for row in here[:1] if alike else here:
            lines.append(f"{'every op' if alike else row.op:<23}{device:<8}{row.backend:<11}{row.reason}".rstrip())
    return lines


def report() -> str:
    """Return the text of `fractalops info`: versions, what is built, the backend of each op, how to get the others.

    There is no way to get a kernel that this version doesn't have.
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
        lines += ["", "to mend:"] + [f"  {remedy}" for remedy in remedies]
    return "\n".join(lines)


def show_backends() -> None:
    """Print `report()`."""
    print(report())
