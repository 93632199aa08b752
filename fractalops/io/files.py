"""Write files so that an interruption leaves no broken file, and read files with errors of one line."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import stat
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal, TextIO

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from fractalops.errors import InputError, MissingExtra, in_message
from fractalops.io.memory import check_memory
from fractalops.io.notices import log_notices

LOCK = ".fractalops.lock"
"""The name of the lock file that a run holds while it writes to a folder. It does not count as content."""

HELD = ".held"
"""The suffix of the file that replaces a lock on a file system without locks, see `claimed`."""

TEMPORARY = ".fractalops-" + 8 * "[0-9a-z_]" + "-"
"""The glob pattern of the prefix that a file's name has while `atomic_path` writes it."""

_LONG_NAME = 200  # bytes; file systems allow names of 255
_JSON_COPIES = 40  # memory that reading JSON needs at most, as a multiple of its size, as measured
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # errors of file systems without locks


def is_temporary(name: str) -> bool:
    """Return whether `name` is that of a temporary file of `atomic_path`, which a killed process may have left."""
    return fnmatchcase(name, f"{TEMPORARY}*")


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, with the same suffix.

    The file is renamed to `path` on success and removed on an error. The name of the temporary file has the prefix
    `TEMPORARY`, which no other program uses. It identifies the files that a killed process has left. If `path` is a
    temporary path already, it is yielded unchanged, so that writers can be nested.

    Args:
        path: the file to write.
        durable: flush the file to the disk before it is renamed, and its new name afterwards. The file then survives
            a crash of the machine. This takes some milliseconds: use it for results that take long to compute again.

    Raises:
        FileNotFoundError: if the folder of `path` does not exist.
        OSError: if the file can't be written; the error names `path`.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"atomic_path: the folder of path must exist, got {path}")
    if is_temporary(path.name):
        yield path
        return
    own = path.name if len(os.fsencode(path.name)) <= _LONG_NAME else path.suffix
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".fractalops-", suffix=f"-{own}")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp creates private files; the result gets the permissions that open() would give it.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        if durable:
            _to_disk(temporary, os.O_RDWR)
        os.replace(temporary, path)
        if durable:
            with suppress(OSError):  # some systems can't open a folder
                _to_disk(path.parent, os.O_RDONLY)
    except OSError as error:  # a full disk, for instance
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


class PlainFile(io.BufferedRandom):
    """A new file that hides its descriptor: Pillow and NumPy write to a descriptor without detecting a full disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w+"))

    def fileno(self) -> int:
        """Raise `UnsupportedOperation`, so that libraries call `write`."""
        raise io.UnsupportedOperation("fileno")


def _to_disk(path: Path, flags: int) -> None:
    """Wait until the content of a file, or the names in a folder, have been written to the disk."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(folder: Path) -> None:
    """Raise `InputError` unless files can be written to `folder`. The folder need not exist yet."""
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        which = "it" if nearest == folder.absolute() else nearest
        raise InputError(f"cannot write to {folder}: {which} is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {folder}: permission denied")


@contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Create a folder, and hold the lock file `LOCK` in it within the block, so that no other run writes to it.

    Folders that were created here are removed again if they are empty at the end. Raises `InputError` if another run
    holds the lock, if `path` is a file, or if the folder can't be written to.
    """
    check_writable(path)
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        with claimed(path / LOCK) as ours:
            if not ours:
                raise another_run(path, path / LOCK)
            yield
    finally:
        with suppress(OSError):  # the folder is not empty
            for folder in made:
                folder.rmdir()


def another_run(folder: Path, lock: Path) -> InputError:
    """Return the error for a folder in which another process holds a lock."""
    held = lock.with_name(f"{lock.name}{HELD}")
    advice = f"; if that run was killed, remove {held}" if held.exists() else ""
    return InputError(f"cannot write to {folder}: another run is writing to it{advice}")


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Try to acquire a lock file without waiting, and yield whether it was acquired.

    An acquired lock is held within the block, and its file is removed after the block. The lock of a killed process
    is released by the system. On a file system without locks, the lock is held as long as a second file exists, whose
    name ends with `HELD`. A killed process may leave that file behind, so a notice of it is logged. Raises `InputError`
    if the lock file can't be opened.
    """
    lock: BaseFileLock = FileLock(path)
    if (ours := _acquire(lock)) is None:
        _say_without_locks(path.parent)
        lock = SoftFileLock(f"{path}{HELD}")
        ours = bool(_acquire(lock))
    try:
        yield ours
    finally:
        if ours:
            with suppress(OSError):  # Windows can't remove an open file
                path.unlink()
            lock.release()


def _acquire(lock: BaseFileLock) -> bool | None:
    """Return whether the lock was acquired without waiting, or None on a file system without locks.

    Raises `InputError` if the lock file can't be opened.
    """
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except NotImplementedError:
        return None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        path = Path(lock.lock_file)
        raise InputError(f"cannot write to {path.parent}: {path.name} can't be locked ({error.strerror})") from None
    return True


@cache
def _say_without_locks(folder: Path) -> None:
    log_notices(folder, [f"the file system has no locks: if a run is killed, remove the file *{HELD} that it leaves"])


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically and durably, see `atomic_path`. Numbers that are not finite are written as null."""
    with atomic_path(path, durable=True) as temporary:
        text = json.dumps(_without_nan(content), indent=2, allow_nan=False)
        temporary.write_text(f"{text}\n", encoding="utf-8")


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _without_nan(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises `InputError` if the file is missing, too large or damaged, or does not contain an object.
    """
    check_file(path)
    check_memory(path, _JSON_COPIES * path.stat().st_size)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it must contain an object, got {type(content).__name__}")
    except (OSError, ValueError, RecursionError) as error:  # RecursionError: the JSON is nested too deeply
        raise InputError(f"cannot read {path}: {one_line(error)}") from error
    return content


def open_table(path: Path, mode: Literal["r", "w"]) -> TextIO:
    """Open a CSV file, which may contain file names that are not valid UTF-8."""
    return path.open(mode, newline="", encoding="utf-8", errors="surrogateescape")


def write_table(path: str | Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file atomically and durably, see `atomic_path`."""
    with atomic_path(path, durable=True) as temporary, open_table(temporary, "w") as file:
        table = csv.writer(file, lineterminator="\n")
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        table.writerow(head)
        for row in rows:  # readers also end a line at "\r", which `table` does not quote
            (quoted if any("\r" in str(cell) for cell in row) else table).writerow(row)


@contextmanager
def reading(name: str | Path, otherwise: str = "the file is damaged") -> Iterator[None]:
    """Convert any exception of a decoder to an `InputError` of one line: "cannot read NAME: REASON".

    The reason is that of the system (no such file, permission denied), or `otherwise` with the decoder's message in
    parentheses. A pipe or a device may never end, so it is refused before it is read.
    """
    if _is_endless(name):
        raise InputError(f"cannot read {name}: it is not a file")
    try:
        with warnings.catch_warnings():
            # These warnings don't help a user. NumPy warns of the sizes in a damaged header, and plyfile of empty
            # lists. Pillow warns of unusual metadata, and of more than 89 million pixels, which good cameras exceed.
            # (Pillow refuses twice as many.)
            warnings.simplefilter("ignore")
            yield
    except (InputError, MissingExtra):
        raise
    except Exception as error:  # decoders raise almost anything (SyntaxError, struct.error ...) on a damaged file
        if isinstance(error, OSError) and error.strerror is not None:  # no such file, a folder, no permission ...
            raise InputError(f"cannot read {name}: {error.strerror.lower()}") from None
        raise InputError(f"cannot read {name}: {otherwise} ({one_line(error)})") from error


def _is_endless(name: str | Path) -> bool:
    """Return whether `name` is the path of a pipe or a device; False if it does not exist or is not a path."""
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_file(path: Path) -> None:
    """Raise `InputError` unless `path` is a file: it must not be a folder, a pipe or a device."""
    with reading(path):
        if path.is_dir():
            raise InputError(f"cannot read {path}: it is not a file")
        path.stat()  # raises the system's error if the file is missing or not permitted


def as_text(name: str) -> str:
    """Return the name of a file as text: each byte that is not valid UTF-8 is replaced by U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")


@contextmanager
def text_path(path: str | Path) -> Iterator[str]:
    """Yield a path for libraries that accept only UTF-8 paths.

    If `path` is not valid UTF-8, the file is opened, and the path of its descriptor is yielded. Raises `OSError` if the
    file can't be opened.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with open(path, "rb") as file:
            yield f"/dev/fd/{file.fileno()}"
    else:
        yield str(path)


@contextmanager
def parsing(path: str | Path) -> Iterator[None]:
    """Convert an exception that is raised for the damaged content of a file to an `InputError` of one line."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"cannot read {path}: it is damaged ({reason})") from error


def one_line(error: BaseException) -> str:
    """Return an error's text without line breaks, see `in_message`; if it is empty, the name of the error's type."""
    return in_message(" ".join(str(error).split())) or type(error).__name__
