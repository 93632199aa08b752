"""Writing files so that an interruption leaves no broken one behind, and reading them with errors of one line."""

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
from fractalops.io.notices import log_notices

LOCK = ".fractalops.lock"
"""The file in a folder that a run holds while it writes there; it counts as no file of anybody."""

HELD = ".held"
"""At the end of the name of the file that stands for a lock where the file system has none, see `claimed`."""

TEMPORARY = ".fractalops-" + 8 * "[0-9a-z_]" + "-"
"""The glob pattern of the prefix that a file's name has while `atomic_path` writes it."""

_LONG_NAME = 200  # bytes; file systems take names of 255
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # of file systems without locks


def is_temporary(name: str) -> bool:
    """Return whether a file is one that `atomic_path` writes, or that a killed process has left of it."""
    return fnmatchcase(name, f"{TEMPORARY}*")


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`, of its suffix; it is renamed to `path` on success and removed on an error.

    With `durable` it is on the disk before it is renamed, and its name after that, so that not even a machine that
    fails loses it: for what can't be made again in no time, as it takes some milliseconds.

    Its name is `TEMPORARY`'s, which nobody else gives to a file: what a killed process has left is known by it. A path
    that is a temporary one already is yielded as it is, so that writers can be nested.

    Raises `FileNotFoundError` when the folder of `path` does not exist, `OSError` of `path` when it can't be written.
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
        # mkstemp makes private files; the result gets the permissions that open() would have given.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        if durable:
            _to_disk(temporary, os.O_RDWR)
        os.replace(temporary, path)
        if durable:
            with suppress(OSError):  # folders can't be opened everywhere
                _to_disk(path.parent, os.O_RDONLY)
    except OSError as error:  # a full disk, for instance
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


class PlainFile(io.BufferedRandom):
    """A new file that hides its descriptor: Pillow and NumPy write to a descriptor without noticing a full disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w+"))

    def fileno(self) -> int:
        """Raise `UnsupportedOperation`, so that writers use `write`."""
        raise io.UnsupportedOperation("fileno")


def _to_disk(path: Path, flags: int) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(folder: Path) -> None:
    """Raise `InputError` unless files can be written to `folder`, which need not exist yet."""
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
    """Make a folder, and keep other runs out of it through the file `LOCK` in it.

    What is made here is removed again if nothing was written to it. Raises `InputError` where another run is under way,
    for a file, and for a folder that can't be written to.
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
        with suppress(OSError):  # there are files in it
            for folder in made:
                folder.rmdir()


def another_run(folder: Path, lock: Path) -> InputError:
    """Return the error for a folder in which somebody else holds a lock."""
    held = lock.with_name(f"{lock.name}{HELD}")
    otherwise = f", or was killed: then remove {held}" if held.exists() else ""
    return InputError(f"cannot write to {folder}: another run is writing to it{otherwise}")


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Yield whether a lock file could be had at once; if so it is held within the block, and removed after it.

    The lock of a killed process is void. On a file system without locks a second file, `HELD` at the end of its name,
    says by being there that the lock is held, which is logged as a notice: there a killed process may leave it behind.
    Raises `InputError` for a lock that can't be opened.
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
            with suppress(OSError):  # Windows removes no file that is open
                path.unlink()
            lock.release()


def _acquire(lock: BaseFileLock) -> bool | None:
    """Return whether a lock could be had at once, None on a file system without such locks. Raises `InputError`."""
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
    log_notices(folder, [f"the file system has no locks: a run that is killed may leave a file *{HELD} to be removed"])


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file at once, onto the disk. A number that is not finite, of which JSON has none, is null."""
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
    """Return the object in a JSON file. Raises `InputError` for a missing or damaged file, and for another value."""
    check_file(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it must hold an object, got {type(content).__name__}")
    except (OSError, ValueError, RecursionError) as error:  # the last for JSON that is nested too deeply
        raise InputError(f"cannot read {path}: {one_line(error)}") from error
    return content


def open_table(path: Path, mode: Literal["r", "w"]) -> TextIO:
    """Open a CSV file, in which names of files stand that need not be text."""
    return path.open(mode, newline="", encoding="utf-8", errors="surrogateescape")


def write_table(path: str | Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file at once, onto the disk."""
    with atomic_path(path, durable=True) as temporary, open_table(temporary, "w") as file:
        table = csv.writer(file, lineterminator="\n")
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        table.writerow(head)
        for row in rows:  # a carriage return ends a line, too, but is quoted by no writer whose lines end otherwise
            (quoted if any("\r" in str(cell) for cell in row) else table).writerow(row)


@contextmanager
def reading(name: str | Path, otherwise: str = "the file is damaged") -> Iterator[None]:
    """Turn whatever a decoder raises for the file `name` into an `InputError` of one line, "cannot read NAME: reason".

    The reason is the system's (no such file, permission denied), or `otherwise` with the decoder's in parentheses. A
    pipe or a device, whose end may never come, is refused before anything is read.
    """
    if _is_endless(name):
        raise InputError(f"cannot read {name}: it is not a file")
    try:
        with warnings.catch_warnings():
            # NumPy warns of the sizes that a damaged header gives, Pillow of odd metadata and above 89 million pixels,
            # which good cameras have (it refuses twice as many), plyfile of empty lists.
            warnings.simplefilter("ignore")
            yield
    except (InputError, MissingExtra):
        raise
    except Exception as error:  # decoders raise almost anything (SyntaxError, struct.error ...) on a damaged file
        if isinstance(error, OSError) and error.strerror is not None:  # missing, a folder, not permitted ...
            raise InputError(f"cannot read {name}: {error.strerror.lower()}") from None
        raise InputError(f"cannot read {name}: {otherwise} ({one_line(error)})") from error


def _is_endless(name: str | Path) -> bool:
    """Return whether `name` is that of a pipe or a device; not for what is no path or leads nowhere."""
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_file(path: Path) -> None:
    """Raise `InputError` unless `path` is a file: not a folder, nor a pipe or a device, whose end may never come."""
    with reading(path):
        if path.is_dir():
            raise InputError(f"cannot read {path}: it is not a file")
        path.stat()  # the reason, where there is nothing or no permission


def as_text(name: str) -> str:
    """Return the name of a file as text: each of its bytes that is no UTF-8 is a replacement character, U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")


@contextmanager
def text_path(path: str | Path) -> Iterator[str]:
    """Yield a path of a file for libraries that take UTF-8 alone: where its name is none, that of its open descriptor.

    Raises `OSError` where such a file can't be opened.
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
    """Turn what is raised for content of a file that is not as it must be into an `InputError` of one line."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"cannot read {path}: it is damaged ({reason})") from error


def one_line(error: BaseException) -> str:
    """Return an error's text without line breaks, see `in_message`; its type where it has none."""
    return in_message(" ".join(str(error).split())) or type(error).__name__
