"""What a reader does besides reading: files that it writes, programs and code that it runs, text that it prints."""

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

# Events of Python's audit hooks, see the table in its documentation. `exec` is also that of a module's code: what is
# imported lazily must have been before.
_REFUSED = {
    *("exec", "pickle.find_class", "marshal.loads", "ctypes.dlopen", "socket.connect", "socket.getaddrinfo"),
    *("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.kill"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link", "os.symlink"),
    *("os.chdir", "os.putenv", "os.unsetenv", "tempfile.mkstemp", "tempfile.mkdtemp", "shutil.rmtree"),
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_noted: list[str] | None = None  # while something is watched


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _noted is None:
        return
    written = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES
    if written or event in _REFUSED:
        _noted.append(f"{event}{arguments!r}"[:200])


_audited = False


@contextlib.contextmanager
def watched(seconds: float, memory: int) -> Iterator[list[str]]:
    """Yield a list that fills with what the block does and a reader must not.

    These are: to write, remove or rename a file, to start a program, to run code out of a file, to print or to warn, to
    take more seconds of the processor, or to raise the most memory that the process has had by so many bytes.
    """
    global _noted, _audited
    if not _audited:
        sys.addaudithook(_audit)  # for as long as the process lives
        _audited = True
    noted: list[str] = []
    printed = io.StringIO()
    with _standard_error() as handle, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
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


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def _standard_error() -> Iterator[int]:
    """Redirect what libraries write to standard error to an unnamed file; yield its descriptor."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield file.fileno()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
