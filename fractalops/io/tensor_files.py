"""Safetensors files with a name for their form: written at once or not at all, the same bytes for the same content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from fractalops.errors import InputError
from fractalops.io.files import atomic_path, one_line, parsing
from fractalops.io.memory import check_memory

# How many times their own size the tensors of a file, and its header, take as they are read.
_COPIES, _HEADER_COPIES = 2, 16

_CHECKSUM = "sha256"  # in the metadata of what `write_sealed` writes


def write_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata, of which "format" names the form; an interruption leaves no broken file.

    Raises `FileNotFoundError` when the folder of `path` does not exist, `OSError` when the file can't be written.
    """
    from safetensors.torch import save

    # Not by `save_file`, which goes through a temporary file with a name that may be anybody's.
    content = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata)
    with atomic_path(path) as temporary:
        try:
            with temporary.open("wb") as file:
                file.writelines(_sort_metadata(content))
        except OSError as error:  # a full disk, for instance
            raise OSError(f"cannot write to {Path(path).parent}: {error.strerror or error}") from error


def read_tensors(path: str | Path, *forms: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a file whose "format" is one of `forms`; no code is executed.

    Raises `InputError` for a missing, foreign or broken file, also for one of `write_sealed` whose checksum is wrong.
    """
    with _opened(path) as file:
        metadata = file.metadata() or {}
        if metadata.get("format") not in forms:
            actual = metadata.get("format", "a safetensors file without one")
            raise InputError(f"cannot read {path}: its format must be {' or '.join(forms)}, got {actual}")
        check_memory(path, _COPIES * Path(path).stat().st_size)
        # Copied: safetensors maps the file, which may change or end while the tensors are in use.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    if (expected := metadata.get(_CHECKSUM)) is not None:
        with parsing(path):  # dtypes that numpy lacks have no digest
            digest = _digest(metadata, tensors)
        if expected != digest:
            raise InputError(f"cannot read {path}: it is damaged: its checksum is wrong")
    return tensors, metadata


def read_form(path: str | Path) -> str | None:
    """Return the "format" of a file, without reading its tensors; None where it names none.

    Raises `InputError` for a missing or broken file.
    """
    with _opened(path) as file:
        return (file.metadata() or {}).get("format")


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """Open a file. Raises `InputError` for one that is missing or broken."""
    from safetensors import SafetensorError, safe_open

    try:
        check_header(path)
        with safe_open(str(path), framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read {path}: {one_line(error)}") from error


def check_header(path: str | Path) -> None:
    """Raise `InputError` for a header that takes more memory than the limit, or is longer than the file."""
    with Path(path).open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size <= os.fstat(file.fileno()).st_size:  # else it is refused as it is opened
            check_memory(path, _HEADER_COPIES * size, "its header")


def write_sealed(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], seal: dict[str, str]) -> None:
    """Write a file whose metadata tell what it belongs to, by `seal`, and whether a bit has changed since."""
    metadata = metadata | seal
    write_tensors(path, tensors, metadata | {_CHECKSUM: _digest(metadata, tensors)})


def read_sealed(path: Path, form: str, seal: dict[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return what `write_sealed` wrote. Raises `InputError` for a file that is damaged, or of another seal."""
    tensors, metadata = read_tensors(path, form)
    for name, expected in seal.items():
        if metadata.get(name) != expected:
            raise InputError(f"cannot read {path}: it is of another {name}")
    if _CHECKSUM not in metadata:
        raise InputError(f"cannot read {path}: it is damaged: it has no checksum")
    return tensors, metadata


def _digest(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    others = {name: text for name, text in metadata.items() if name != _CHECKSUM}
    return hashlib.sha256((json.dumps(others, sort_keys=True) + checksum(tensors)).encode()).hexdigest()


def checksum(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of tensors with their names, shapes and dtypes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _sort_metadata(content: bytes) -> list[bytes | memoryview]:
    """Bring the metadata of a file into one order: safetensors writes it in another one each time."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return [content[:8], text.ljust(size), memoryview(content)[8 + size :]]
