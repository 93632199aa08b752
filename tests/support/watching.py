"""Side effects of a reader: files that it writes, programs and code that it runs, text that it prints."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import Any

# Events of Python's audit hooks; see the table in its documentation.
_RUNS = {
    *("exec", "pickle.find_class", "ctypes.dlopen", "socket.connect", "socket.getaddrinfo"),
    *("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.kill"),
    *("os.chdir", "os.putenv", "os.unsetenv"),
}
# The number of first arguments that are changed files.
_CHANGES = {
    **dict.fromkeys(("os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime"), 1),
    **dict.fromkeys(("tempfile.mkstemp", "tempfile.mkdtemp", "shutil.rmtree"), 1),
    **dict.fromkeys(("os.rename", "os.link", "os.symlink"), 2),
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def changed(event: str, arguments: tuple[Any, ...]) -> list[Any]:
    """Return the files and folders that an event changes. An open file descriptor has no name."""
    if event == "open":
        name, _, flags = arguments
        places = [name] if isinstance(flags, int) and flags & _WRITES else []
    else:
        places = list(arguments[: _CHANGES.get(event, 0)])
    return [place for place in places if isinstance(place, (str, bytes, os.PathLike))]


_noted: list[str] | None = None  # None while nothing is watched


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _noted is None or (event not in _RUNS and not changed(event, arguments)):
        return
    if not _is_import(event, arguments):
        _noted.append(f"{event}{arguments!r}"[:200])


def _is_import(event: str, arguments: tuple[Any, ...]) -> bool:
    """Return whether an event belongs to a lazy import, which runs the module's code and stores it."""
    if event == "exec":
        return arguments[0].co_name == "<module>" and os.path.isfile(arguments[0].co_filename)
    return event in ("open", "os.mkdir", "os.rename") and "__pycache__" in str(arguments[0])


_audited = False


@contextlib.contextmanager
def watched(seconds: float, memory: int) -> Iterator[list[str]]:
    """Yield a list to which forbidden actions of the block are added.

    Forbidden are: to write, remove or rename a file; to start a program; to run code from a file; to print or to warn;
    to take more than `seconds` of processor time; to raise the process's peak memory by more than `memory` bytes.
    """
    global _noted, _audited
    if not _audited:
        sys.addaudithook(_audit)  # stays as long as the process
        _audited = True
    noted: list[str] = []
    printed = io.StringIO()
    with _standard_error() as handle, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
            _forget_peak()
            before, began = _peak(), time.process_time()
            _noted = noted
            try:
                yield noted
            finally:
                _noted = None
                spent, taken = time.process_time() - began, _peak() - before
        size = os.fstat(handle).st_size
        text = printed.getvalue() + os.pread(handle, size, 0).decode(errors="replace") if size else printed.getvalue()
    noted += [f"warned: {warning.message}" for warning in warned]
    if text:
        noted.append(f"printed: {text[:200]}")
    if spent > seconds:
        noted.append(f"took {spent:.1f} s")
    if taken > memory:
        noted.append(f"took {taken >> 20} MiB of memory")


def _forget_peak() -> None:
    """Reset the peak to the current memory: earlier tests may have taken more."""
    # This file exists only on Linux.
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def _standard_error() -> Iterator[int]:
    """Redirect what libraries write to standard error to an unnamed file. Yield its descriptor."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield file.fileno()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
