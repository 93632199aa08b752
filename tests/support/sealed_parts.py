"""The header of a safetensors file and its texts. Damaged ones can be joined to a file with a correct checksum."""

from __future__ import annotations

import hashlib
import json
import struct

from safetensors.torch import load

from fractalops.io.tensor_files import checksum

_CHECKSUM = "sha256"


class SealedParts:
    """The parts of a safetensors file that can be damaged."""

    def __init__(self, content: bytes) -> None:
        (length,) = struct.unpack_from("<Q", content)
        self._header, self._data = content[8 : 8 + length], content[8 + length :]

    def texts(self) -> tuple[bytes, ...]:
        """Return the header, and each text of its metadata after its name."""
        metadata = json.loads(self._header).get("__metadata__", {})
        return self._header, *(f"{name}\0{text}".encode() for name, text in metadata.items() if name != _CHECKSUM)

    def joined(self, part: bytes) -> bytes:
        """Return the file with another header, or another text in its metadata."""
        if part.startswith(b"{"):
            return _resealed(part, self._data)
        name, _, text = part.decode("utf-8", "replace").partition("\0")
        header = json.loads(self._header)
        header.setdefault("__metadata__", {})[name] = text
        return _resealed(json.dumps(header).encode(), self._data)


def _resealed(header: bytes, data: bytes) -> bytes:
    """Return a file with a correct checksum, if it can have one."""
    try:
        tensors, content = load(_joined(header, data)), json.loads(header)
        metadata = {name: text for name, text in content["__metadata__"].items() if name != _CHECKSUM}
        digest = hashlib.sha256((json.dumps(metadata, sort_keys=True) + checksum(tensors)).encode())
        content["__metadata__"] = metadata | {_CHECKSUM: digest.hexdigest()}
        header = json.dumps(content).encode()
    except Exception:  # the header is damaged
        pass
    return _joined(header, data)


def _joined(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data
