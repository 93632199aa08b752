"""Writing files so that an interruption leaves no broken one behind, and reading them with errors of one line."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fractalops.errors import InputError

LOCK = ".lock"
"""The file in a folder that a run holds while it writes there; it counts as no file of anybody."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, of its suffix; it is renamed to `path` on success and removed on an error.

    Raises `FileNotFoundError` when the folder of `path` does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"atomic_path: the folder of path must exist, got {path}")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; the result gets the permissions that open() would have given.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Make a folder, and keep other runs out of it through the file `LOCK` in it. The lock of a killed process is void.

    Raises `InputError` where another run is under way, and for a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"cannot write to {path}: it is not a folder") from None
    lock = FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"cannot write to {path}: another run is writing to it") from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            (path / LOCK).unlink()
        lock.release()


@contextmanager
def reading(name: str | Path, otherwise: str = "the file is damaged") -> Iterator[None]:
    """Turn whatever a decoder raises for the file `name` into an `InputError` of one line, "cannot read NAME: reason".

    The reason is the system's (no such file, permission denied), or `otherwise` with the decoder's in parentheses.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # decoders raise almost anything (SyntaxError, struct.error ...) on a damaged file
        if isinstance(error, OSError) and error.strerror is not None:  # missing, a folder, not permitted ...
            raise InputError(f"cannot read {name}: {error.strerror.lower()}") from None
        raise InputError(f"cannot read {name}: {otherwise} ({one_line(error)})") from error


def one_line(error: BaseException) -> str:
    """An error's text without line breaks; its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
