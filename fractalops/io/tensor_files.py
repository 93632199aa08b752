"""Read and write safetensors files with a format name and a checksum. Equal content gives equal bytes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fractalops.errors import InputError
from fractalops.io.files import atomic_path, check_file, reading, text_path
from fractalops.io.memory import check_memory

# The memory that is needed to read the tensors of a file, and its header, as a multiple of their size.
_COPIES, _HEADER_COPIES = 2, 16

_CHECKSUM = "sha256"  # its key in the metadata of a file


def write_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors, metadata, and a checksum of both. The metadata must contain "format", the name of the format.

    An interruption leaves no broken file.

    Raises `FileNotFoundError` if the folder of `path` does not exist, and `OSError` if the file can't be written.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Not with `save_file`: it uses a temporary file, whose name another program may use.
    content = save(tensors, metadata | {_CHECKSUM: _digest(metadata, tensors)})
    with atomic_path(path, durable=True) as temporary, temporary.open("wb") as file:
        file.writelines(_sort_metadata(content))


def read_tensors(
    path: str | Path, *forms: str, exchanged: Collection[str] = ()
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a file whose "format" is one of `forms`. No code is executed.

    A file whose format is in `exchanged` may lack a checksum, as other programs write such files, too. Raises
    `InputError` if the file is missing, damaged or of another format, or if the checksum is missing or wrong.
    """
    with _opened(path) as file:
        metadata: dict[str, str] = file.metadata() or {}
        form = metadata.get("format", "none")
        if form not in forms:
            raise InputError(f"cannot read {path}: its format must be {' or '.join(forms)}, got {form}")
        check_memory(path, _COPIES * Path(path).stat().st_size)
        # Copied, as safetensors maps the file, which may be changed or truncated while the tensors are in use.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    expected = metadata.pop(_CHECKSUM, None)
    if expected is None and form not in exchanged:
        raise InputError(f"cannot read {path}: it is damaged: it has no checksum")
    if expected is not None and expected != _digest(metadata, tensors):
        raise InputError(f"cannot read {path}: it is damaged: its checksum is wrong")
    return tensors, metadata


def read_form(path: str | Path) -> str | None:
    """Return the "format" of a file without reading its tensors; None if its metadata has none.

    Raises `InputError` if the file is missing or damaged.
    """
    with _opened(path) as file:
        return (file.metadata() or {}).get("format")


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """Open a file. Raises `InputError` if it is missing or damaged."""
    from safetensors import safe_open

    check_file(Path(path))
    with reading(path), text_path(path) as name:
        check_header(path)
        with safe_open(name, framework="pt") as file:
            yield file


def check_header(path: str | Path) -> None:
    """Raise `InputError` if the header needs more memory than the limit."""
    with Path(path).open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size <= os.fstat(file.fileno()).st_size:  # otherwise safetensors refuses the file
            check_memory(path, _HEADER_COPIES * size, "its header")


def read_sealed(path: Path, form: str, seal: dict[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the content of a file whose metadata contain the entries of `seal`, such as the key of its run.

    Raises `InputError` as `read_tensors` does, and if an entry differs.
    """
    tensors, metadata = read_tensors(path, form)
    for name, expected in seal.items():
        if metadata.get(name) != expected:
            raise InputError(f"cannot read {path}: it belongs to another {name}")
    return tensors, metadata


def _digest(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    return hashlib.sha256((json.dumps(metadata, sort_keys=True) + checksum(tensors)).encode()).hexdigest()


def checksum(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of tensors with their names, shapes and dtypes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)  # as bytes, as NumPy lacks some of torch's dtypes
    return digest.hexdigest()


def _sort_metadata(content: bytes) -> list[bytes | memoryview]:
    """Sort the metadata of a file, as safetensors writes them in a random order."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return [content[:8], text.ljust(size), memoryview(content)[8 + size :]]
