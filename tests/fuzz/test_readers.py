"""Damaged files of every kind that is read: each is read correctly, or refused with one line and no side effects."""

from __future__ import annotations

import base64
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fractalops.data.targets import arrays
from fractalops.errors import InputError
from fractalops.io import decoding
from fractalops.io.memory import VARIABLE
from fractalops.io.notices import collect_notices
from fractalops.io.point_clouds import formats as point_clouds
from fractalops.io.systems import formats
from tests.support.mutations import mutate
from tests.support.picture_seeds import encode
from tests.support.readers import (
    CLOUDS,
    KINDS,
    PICTURES,
    PLY,
    SYSTEMS,
    TARGETS,
    archive,
    npy,
    zeros_in_archive,
    zeros_in_gzip,
)
from tests.support.watching import watched

SECONDS = 3.0  # of processor time that a file may take
MEMORY = 2**24
"""Bytes that a file may take when it is unpacked in these tests. With 1 GiB they would take too long."""
_PROCESS = 2**27  # bytes by which the process may grow in addition, for the targets and systems in the file
COUNT = 5000  # files of each kind in the slow suite

_REFUSALS = ("cannot read ", "cannot use ", "cannot write to ", "cannot resume ", "cannot join ")


class Reading:
    """A reader of file contents of one kind, all written to the same path."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._kind = name, KINDS[name]()
        if self._kind.needs:
            pytest.importorskip(
                self._kind.needs, reason=f"{name} is read by {self._kind.needs}, which is not installed"
            )
        self._kept = folder / "kept"
        self._kept.mkdir()
        self._path = folder / (self._kind.name or f"file.{name.rpartition('.')[2].lower()}")
        for beside, content in self._kind.beside.items():
            (folder / beside).parent.mkdir(parents=True, exist_ok=True)
            (folder / beside).write_bytes(content)
        self._path.touch()
        for whole in self._kind.wholes:  # imports lazily imported modules, too
            self._write(whole)
            with collect_notices():
                self._kind.read(self._path)

    def _write(self, content: bytes) -> None:
        """Write without `Path.write_bytes`: some file systems wait for the disk if a file is emptied first."""
        with self._path.open("r+b") as file:
            file.write(content)
            file.truncate()

    def mutated(self, random: Random) -> bytes:
        """Return a mutated file, or a file created from mutated content."""
        if self._kind.wrap is not None and random.random() < 0.5:
            return self._kind.wrap(mutate(self._kind.inner, random))
        return mutate(self._kind.wholes, random)

    def check(self, content: bytes) -> bool:
        """Read a file and return whether it was read.

        If it was neither read nor refused correctly, fail and print the file.
        """
        self._write(content)
        message = ""
        try:
            with collect_notices() as notices, watched(SECONDS, MEMORY + _PROCESS) as noted:
                try:
                    value = self._kind.read(self._path)
                except InputError as error:
                    message = str(error)
            assert noted == []
            assert not message or message.startswith(_REFUSALS), message
            for line in (message or "read", *(notice for each in notices.values() for notice in each)):
                assert line.splitlines() == [line], line
            if not message and self._kind.keep is not None:
                self._kind.keep(value, self._kept)
        except Exception as error:
            reproducer = f"base64.b64decode({base64.b64encode(content)!r})"
            raise AssertionError(f"{self.name}: {error!r}; the file: {reproducer}") from error
        return not message


@pytest.fixture(scope="module", params=KINDS)
def reading(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(VARIABLE, str(MEMORY))
        yield Reading(request.param, tmp_path_factory.mktemp("kind"))


@pytest.mark.usefixtures("one_thread")
@given(random=st.randoms(use_true_random=False))
def test_a_damaged_file_is_read_or_refused(reading: Reading, random: Random) -> None:
    reading.check(reading.mutated(random))


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_many_damaged_files_are_read_or_refused(reading: Reading, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["reading"]
    read = sum(reading.check(reading.mutated(Random(f"{name} {number}"))) for number in range(COUNT))
    assert 0 < read < COUNT


class _Bomb:
    """An object whose unpickling would run code that writes to a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("open('/dev/null', 'w').write('run')",)


_OBJECTS = npy(numpy.array([_Bomb(), _Bomb()], dtype=object))
CODE = {
    "a pickle": pickle.dumps(_Bomb()),
    "a pickle in an array": _OBJECTS,
    "pickles in an archive": archive(images=_OBJECTS, points=_OBJECTS, labels=_OBJECTS),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(touched) (w) file closefile showpage\n%%EOF\n",
    "an entity": b'<!DOCTYPE flame [<!ENTITY a SYSTEM "file:///etc/passwd">]><flame name="&a;"/>',
    "Python": b"__import__('os').system('touch touched')\n",
}


@pytest.mark.usefixtures("one_thread")
def test_no_code_in_a_file_is_run(reading: Reading) -> None:
    for content in CODE.values():
        assert not reading.check(content)


# Small files that claim to be large, or become large when they are unpacked.
_HUGE = numpy.lib.format.magic(1, 0) + struct.pack("<H", 86)
_HUGE += b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 2, 3), }".ljust(85) + b"\n"
LARGE: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 2**15, 2**15, 8, 2, 0, 0, 0),
    "BMP": lambda: encode(Image.new("L", (3, 3)), "BMP").replace(
        struct.pack("<II", 3, 3), struct.pack("<II", 2**15, 2**15)
    ),
    "PPM": lambda: b"P6 32768 32768 255\n" + bytes(100),
    "targets-idx3-ubyte.gz": lambda: zeros_in_gzip(256),
    "targets.npy": lambda: _HUGE,
    "targets.npz": lambda: zeros_in_archive("images", 256),
    "systems.npy": lambda: _HUGE,
    "systems.npz": lambda: zeros_in_archive("a", 256),
    "cloud.npy": lambda: _HUGE,
    "cloud.npz": lambda: zeros_in_archive("points", 256),
    "cloud.ply": lambda: PLY.replace(b"vertex 2", b"vertex 999999999999"),
    **{
        name: lambda: struct.pack("<Q", 2**40) + b"{"
        for name in ("targets.safetensors", "systems.safetensors", "FitResult")
    },
}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("reading", LARGE, indirect=True)
def test_a_small_file_takes_little_memory(reading: Reading) -> None:
    assert not reading.check(LARGE[reading.name]())


def test_every_suffix_that_is_read_is_in_the_table() -> None:
    assert PICTURES.keys() == set(decoding.formats())
    assert TARGETS.keys() >= arrays.SUFFIXES
    assert {suffix for suffix, read in formats._READERS.items() if read is not formats.refuse_pickle} <= SYSTEMS.keys()
    assert set(point_clouds.READABLE) == CLOUDS.keys()
