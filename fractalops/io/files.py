"""Writing files so that an interruption leaves no broken one behind, and reading them with errors of one line."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import stat
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TextIO

from filelock import FileLock, Timeout

from fractalops.errors import InputError

LOCK = ".fractalops.lock"
"""The file in a folder that a run holds while it writes there; it counts as no file of anybody."""

TEMPORARY = ".fractalops-" + 8 * "[0-9a-z_]" + "-"
"""With which the name of a file begins while `atomic_path` writes it, as a glob pattern; the name itself follows."""

MOST_BYTES = 2**30
"""How much memory a file that is read may take when it is unpacked or decoded."""

_LONG_NAME = 200  # bytes; file systems take names of 255
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # of file systems without locks


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, of its suffix; it is renamed to `path` on success and removed on an error.

    Its name is `TEMPORARY`'s, which nobody else gives to a file: what a killed process has left is known by it. A path
    that is a temporary one already is yielded as it is, so that writers can be nested.

    Raises `FileNotFoundError` when the folder of `path` does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"atomic_path: the folder of path must exist, got {path}")
    if fnmatchcase(path.name, f"{TEMPORARY}*"):
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
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
    and for a file.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"cannot write to {path}: it is not a folder") from None
    try:
        with claimed(path / LOCK) as ours:
            if not ours:
                raise InputError(f"cannot write to {path}: another run is writing to it")
            yield
    finally:
        with suppress(OSError):  # there are files in it
            for folder in made:
                folder.rmdir()


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Yield whether a lock file could be had at once; if so it is held within the block, and removed after it.

    The lock of a killed process is void. A file system without locks counts as one where nobody else is: nothing
    worse happens than work done twice. Raises `InputError` for a lock that can't be opened.
    """
    lock = FileLock(path)
    ours = True
    try:
        lock.acquire(timeout=0)
    except Timeout:
        ours = False
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise InputError(f"cannot write to {path.parent}: {path.name} can't be locked ({error.strerror})") from None
    if not lock.is_locked:
        yield ours
        return
    try:
        yield True
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            path.unlink()
        lock.release()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file at once. A number that is not finite, of which JSON has none, is null."""
    with atomic_path(path) as temporary:
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
    """Write a CSV file at once."""
    with atomic_path(path) as temporary, open_table(temporary, "w") as file:
        table = csv.writer(file, lineterminator="\n")
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        table.writerow(head)
        for row in rows:  # a carriage return ends a line, too, but is quoted by no writer whose lines end otherwise
            (quoted if any("\r" in str(cell) for cell in row) else table).writerow(row)


@contextmanager
def reading(name: str | Path, otherwise: str = "the file is damaged") -> Iterator[None]:
    """Turn whatever a decoder raises for the file `name` into an `InputError` of one line, "cannot read NAME: reason".

    The reason is the system's (no such file, permission denied), or `otherwise` with the decoder's in parentheses.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns of the sizes that a damaged header gives
            yield
    except InputError:
        raise
    except Exception as error:  # decoders raise almost anything (SyntaxError, struct.error ...) on a damaged file
        if isinstance(error, OSError) and error.strerror is not None:  # missing, a folder, not permitted ...
            raise InputError(f"cannot read {name}: {error.strerror.lower()}") from None
        raise InputError(f"cannot read {name}: {otherwise} ({one_line(error)})") from error


def check_file(path: Path) -> None:
    """Raise `InputError` unless `path` is a file: not a folder, nor a pipe or a device, whose end may never come."""
    with reading(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"cannot read {path}: it is not a file")


@contextmanager
def parsing(path: str | Path) -> Iterator[None]:
    """Turn what is raised for content of a file that is not as it must be into an `InputError` of one line."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"cannot read {path}: it is damaged ({reason})") from error


def one_line(error: BaseException) -> str:
    """An error's text without line breaks; its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
