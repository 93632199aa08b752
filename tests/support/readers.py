"""The table of all files that the package reads: small valid files of each kind, their reader and its checks."""

from __future__ import annotations

import gzip
import io
import struct
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.numpy import save

import fractalops
from fractalops.data.targets import open_targets
from fractalops.experiments.folder import ExperimentFolder
from fractalops.experiments.outcome import Finding, Outcome
from fractalops.fitting import FitResult, FitRun, PointConfig, PointFitResult, fit_points
from fractalops.io import PictureOptions, decoding, read_systems, write_systems
from fractalops.io.images import read_image
from fractalops.io.notices import collect_notices
from fractalops.io.point_clouds import formats as point_clouds
from fractalops.systems import System
from tests.support.experiment_data import SETTINGS, open_folder
from tests.support.learning import disc, tiny
from tests.support.picture_seeds import picture_seeds, with_sums
from tests.support.runs import run
from tests.support.sealed_parts import SealedParts
from tests.support.system_files import CSV, CSV_3D, FLAME, IFS, JSON, assert_equal, random_system
from tests.support.target_files import idx_bytes

Files = dict[str, bytes]
Wrap = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Kind:
    """A kind of file. `read` takes a path and asserts that the result is valid."""

    read: Callable[[Path], object]
    wholes: tuple[bytes, ...]
    name: str = ""
    """The file's name, relative to a folder."""
    wrap: Wrap | None = None
    """Creates a file from mutated content, if a mutated file would be refused before much of it is read."""
    inner: tuple[bytes, ...] = ()
    """Contents from which `wrap` creates valid files."""
    beside: Files = field(default_factory=dict)
    """Other valid files in the folder."""
    keep: Callable[[Any, Path], None] | None = None
    """Asserts that the result of `read` can be written to a folder, and is read again unchanged."""
    needs: str = ""
    """The package without which it can't be read."""


# Checks of the results


def read_picture(path: Path) -> None:
    size = 8
    for options in (PictureOptions(size=size), PictureOptions(size=size, color=True, frame=2)):
        try:
            target = read_image(path, options)
        except fractalops.InputError as error:
            if options.color and "frame must be at most 1, got 2" in str(error):
                continue
            raise
        assert target.dtype == torch.float32
        assert target.dim() == (3 if options.color else 2)
        assert 1 <= min(target.shape[-2:]) <= max(target.shape[-2:]) <= size
        assert 0.0 <= target.min() <= target.max() <= 1.0


def read_targets(path: Path) -> None:
    targets = open_targets(path, PictureOptions(size=8))
    assert len(targets) >= 1
    assert targets.identity.splitlines() == [targets.identity]
    for index in (0, len(targets) - 1):
        target = targets[index]
        assert isinstance(targets.name(index) + targets.label(index), str)
        assert target.dim() == 2
        assert target.numel() >= 1
        assert 0.0 <= target.min() <= target.max() <= 1.0


def read_labels(path: Path) -> None:
    """Read labels with the images beside them."""
    read_targets(path.with_name(_IMAGES))


def read_system_file(path: Path) -> dict[str, System]:
    systems = read_systems(path)
    assert systems
    for name, system in systems.items():
        assert name
        assert system.name == name
        maps, dimensions = system.offset.shape
        assert maps >= 1
        assert dimensions in (2, 3)
        assert system.matrix.shape == (maps, dimensions, dimensions)
        assert system.probabilities.shape == (maps,)
        assert system.probabilities.min() >= 0
        assert system.color is None or system.color.shape[:1] == (maps,)
        for part in (system.matrix, system.offset, system.probabilities, system.color):
            assert part is None or part.isfinite().all()
    return systems


def keep_systems(systems: dict[str, System], folder: Path) -> None:
    write_systems(folder / "copy.json", systems)
    for name, system in read_systems(folder / "copy.json").items():
        assert_equal(system, systems[name])


def read_cloud(path: Path) -> None:
    points = point_clouds.read_point_cloud(path)
    assert points.dim() == 2
    assert points.shape[1] in (2, 3)
    assert len(points) >= 1
    assert points.isfinite().all()


def read_result(path: Path) -> None:
    """A result may contain a diverged system, so its numbers need not be finite."""
    result = FitResult.load(path)
    height, width = result.size
    assert result.best_image.shape == (len(result), height, width)
    assert result.losses.shape == (max(result.steps), len(result))
    assert len(result.system.offset) == len(result)


def read_point_result(path: Path) -> None:
    result = PointFitResult.load(path)
    maps, dimensions = result.offset.shape
    assert result.matrix.shape == (maps, dimensions, dimensions)
    assert result.probabilities.shape == (maps,)


def read_run(path: Path) -> None:
    """Read the run that contains this file."""
    run_folder = next(folder for folder in path.parents if (folder / "run.json").exists())
    found = FitRun.load(run_folder)
    assert found.minimum_mse.shape == (len(found),)
    assert found[0].system.offset.shape[0] == 1
    assert found.system().offset.shape[0] == len(found)


def read_experiment(path: Path) -> None:
    folder = _experiment(path.parent)
    folder.check(folder.manifest)
    outcome = folder.finished()
    assert outcome is None or outcome.table()
    state = folder.load_state()
    assert state is None or isinstance(state[1], dict)


@cache
def _experiment(path: Path) -> ExperimentFolder:
    """Cached, because querying the versions takes longer than everything else."""
    return ExperimentFolder(path, "reconstruct", SETTINGS, {})


# Valid files

_IMAGES, _MARKS = "t-images-idx3-ubyte", "t-labels-idx1-ubyte"
PLY = b"""ply
format ascii 1.0
comment a square
element camera 1
property float f
element vertex 2
property uchar red
property float z
property float x
property double y
element face 1
property list uchar int vertex_indices
end_header
17
255 3 1 2
0 6 4 5
3 0 1 0
"""


def npy(values: Any) -> bytes:
    file = io.BytesIO()
    numpy.save(file, values)
    return file.getvalue()


def archive(**arrays: bytes) -> bytes:
    """Return an uncompressed .npz file of .npy files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as stored:
        for name, content in arrays.items():
            stored.writestr(zipfile.ZipInfo(f"{name}.npy"), content)
    return file.getvalue()


_PART = bytes(2**20)


def zeros_in_archive(name: str, mebibytes: int) -> bytes:
    """Return a compressed .npz file of an array of zeros (1, 2, ...), created with little memory."""
    file = io.BytesIO()
    head = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (1, 2, mebibytes * 2**16)}
    numpy.lib.format.write_array_header_1_0(head, shape)
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as stored,
        stored.open(f"{name}.npy", "w") as array,
    ):
        array.write(head.getvalue())
        for _ in range(mebibytes):
            array.write(_PART)
    return file.getvalue()


def zeros_in_gzip(mebibytes: int) -> bytes:
    """Return a compressed IDX file of zeros (S, 64, 64), created with little memory."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="w", compresslevel=1, mtime=0) as idx:
        idx.write(struct.pack(">4B3I", 0, 0, 8, 3, mebibytes * 2**8, 64, 64))
        for _ in range(mebibytes):
            idx.write(_PART)
    return file.getvalue()


def packed(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def _safetensors(read: Callable[[Path], object], name: str, *wholes: bytes, beside: Files | None = None) -> Kind:
    parts = SealedParts(wholes[0])
    return Kind(read, wholes, name, parts.joined, parts.texts(), beside or {})


@cache
def _learned() -> tuple[Files, Files, Files]:
    """Return the files of a run over images, of an experiment, and of separate results."""
    with tempfile.TemporaryDirectory() as name, collect_notices():
        folder = Path(name)
        fractalops.fit(disc(8), tiny(steps=2, snapshots=1)).save(folder / "result.safetensors")
        points = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
        fit_points(points, PointConfig(maps=2, steps=2, points=20)).save(folder / "points.safetensors")
        results = {path.name: path.read_bytes() for path in folder.iterdir()}
        run(folder / "run", config=tiny(steps=2, batch_size=3))
        output = open_folder(folder / "experiment")
        output.log(1, loss=0.5)
        output.save_state({"weight": torch.ones(3)}, {"step": 1})
        output.finish(Outcome([{"name": "a", "error": 0.5}], [Finding("it falls", "holds", "by 0.1")], ["a note"]))
        return _contents(folder / "run"), _contents(folder / "experiment"), results


def _contents(folder: Path) -> Files:
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    return {name: path.read_bytes() for name, path in found.items() if path.is_file() and "tensorboard" not in name}


def _binary_ply(order: str) -> bytes:
    head, _, _ = PLY.partition(b"17\n")
    kind = {"<": b"binary_little_endian", ">": b"binary_big_endian"}[order]
    values = (1.0, 255, 3.0, 1.0, 2.0, 0, 6.0, 4.0, 5.0, 3, 0, 1, 0)
    return head.replace(b"ascii", kind) + struct.pack(f"{order}fBffdBffdB3i", *values)


def _las_bytes() -> bytes:
    """Return a LAS file, version 1.2, of two points of format 0, with coordinates in hundredths."""
    records = b"".join(struct.pack("<3iHBBbBH", *place, *[0] * 6) for place in ((1, 2, 3), (400, 500, 600)))
    head = b"LASF" + bytes(20) + bytes((1, 2)) + bytes(64) + struct.pack("<HHHIIBHI", 1, 2020, 227, 227, 0, 0, 20, 2)
    head += struct.pack("<5I", 2, 0, 0, 0, 0) + struct.pack("<6d", *[0.01] * 3, *[0.0] * 3)
    return head + struct.pack("<6d", 4.0, 0.01, 5.0, 0.02, 6.0, 0.03) + records


def _written(name: str, channels: int | None) -> bytes:
    systems = [random_system(3, channels=channels, name="a"), random_system(2, channels=channels, name="b")]
    with tempfile.TemporaryDirectory() as folder, collect_notices():
        write_systems(Path(folder) / name, systems)
        return (Path(folder) / name).read_bytes()


# The table


def _picture(name: str) -> Kind:
    wholes = tuple(picture_seeds()[name])
    return Kind(read_picture, wholes, wrap=with_sums if name == "PNG" else None, inner=wholes)


def _file_of_run(name: str) -> Kind:
    files = _learned()[0]
    if name.endswith(".safetensors"):
        return _safetensors(read_run, name, files[name], beside=files)
    return Kind(read_run, (files[name],), name, beside=files)


def _file_of_experiment(name: str) -> Kind:
    files = _learned()[1]
    if name.endswith(".safetensors"):
        return _safetensors(read_experiment, name, files[name], beside=files)
    return Kind(read_experiment, (files[name],), name, beside=files)


def _kept(make: Callable[[], Kind]) -> Kind:
    return replace(make(), keep=keep_systems)


def _result(read: Callable[[Path], object], name: str) -> Kind:
    return _safetensors(read, "", _learned()[2][name])


_RANDOM = numpy.random.default_rng(0)
_GRAY = _RANDOM.integers(1, 256, (2, 5, 4), dtype=numpy.uint8)  # (S, H, W)
_COLOR = _RANDOM.random((2, 3, 5, 4), dtype=numpy.float32)  # (S, 3, H, W)
_IDX, _LABELS = idx_bytes(_GRAY), idx_bytes(numpy.array([3, 4], dtype=numpy.uint8))
_MAPS = npy(numpy.ones((2, 2, 3)))
_SPACE = npy(numpy.arange(24.0).reshape(1, 2, 3, 4))
_POINTS = numpy.arange(12.0).reshape(4, 3)

PICTURES = {name: partial(_picture, name) for name in decoding.formats()}
"""Kinds by Pillow's names of the formats."""
TARGETS: dict[str, Callable[[], Kind]] = {
    "-idx3-ubyte": lambda: Kind(read_targets, (_IDX,), _IMAGES, beside={_MARKS: _LABELS}),
    "-idx1-ubyte": lambda: Kind(read_labels, (_LABELS,), _MARKS, beside={_IMAGES: _IDX}),
    "-idx3-ubyte.gz": lambda: Kind(read_targets, (packed(_IDX),), f"{_IMAGES}.gz", packed, (_IDX,)),
    ".npy": lambda: Kind(read_targets, (npy(_GRAY), npy(_COLOR), npy(_GRAY.transpose(2, 0, 1)))),
    ".npz": lambda: Kind(
        read_targets,
        (archive(images=npy(_GRAY), labels=npy(["a", "b"])),),
        wrap=lambda part: archive(images=part, labels=npy([1, 2])),
        inner=(npy(_GRAY), npy(_COLOR)),
    ),
    ".safetensors": lambda: _safetensors(
        read_targets, "", save({"images": _GRAY, "labels": numpy.array([1, 2])}), save({"x": _COLOR})
    ),
}
SYSTEMS: dict[str, Callable[[], Kind]] = {
    ".ifs": lambda: Kind(read_system_file, (IFS.encode(), IFS.replace("\n", "\r\n").encode(), IFS.encode("utf-16"))),
    ".csv": lambda: Kind(read_system_file, (CSV.encode(), CSV_3D.encode("utf-8-sig"))),
    ".flame": lambda: Kind(
        read_system_file, (FLAME.encode(), FLAME.split("?>")[1].encode("utf-16"), _written("a.flame", 3))
    ),
    ".json": lambda: Kind(read_system_file, (JSON.encode(), JSON.encode("utf-8-sig"))),
    ".npy": lambda: Kind(read_system_file, (_MAPS, _SPACE)),
    ".npz": lambda: Kind(
        read_system_file,
        (archive(**{"a": _MAPS, "a.probabilities": npy(numpy.ones(2)), "b": _SPACE}),),
        wrap=lambda part: archive(**{"a": _MAPS, "a.color": part, "b": part}),
        inner=(_MAPS, _SPACE, npy(numpy.ones((2, 3)))),
    ),
    ".safetensors": lambda: _safetensors(
        read_system_file, "", _written("a.safetensors", 3), _written("b.safetensors", None)
    ),
    " of a result.safetensors": lambda: _result(read_system_file, "result.safetensors"),
    " of points.safetensors": lambda: _result(read_system_file, "points.safetensors"),
}
_CLOUDS: dict[str, Callable[[], Kind]] = {
    ".npy": lambda: Kind(read_cloud, (npy(_POINTS), npy(_POINTS[:, :2].astype("f4")), npy(_POINTS.astype(int)))),
    ".npz": lambda: Kind(
        read_cloud,
        (archive(points=npy(_POINTS), colors=npy(_POINTS)),),
        wrap=lambda part: archive(points=part),
        inner=(npy(_POINTS),),
    ),
    ".ply": lambda: Kind(read_cloud, (PLY,), wrap=bytes, inner=(PLY.replace(b"\n", b"\r\n"), *map(_binary_ply, "<>"))),
    ".xyz": lambda: Kind(read_cloud, (b"# x, y, z\n1, 2, 3\n4 5 6 # here\n\n", b"1e3 -2.5 0\n4 5 6\n")),
    ".pts": lambda: Kind(read_cloud, (b"2\n1 2 3\n4 5 6\n", b"1 2 3 100 255 0 0\n4 5 6 7 8 9 10\n")),
    ".asc": lambda: Kind(read_cloud, (b"# a\n1;2;3\n4;5;6\n", b"// b\n1,5 2,5 3,5\n4 5 6\n")),
    ".txt": lambda: Kind(read_cloud, (b"x y z\n1 2 3\n4\t5\t6\n", b"1,5;2,5;3,5\n")),
    **{suffix: lambda: Kind(read_cloud, (_las_bytes(),), needs="laspy") for suffix in (".las", ".laz")},
}
CLOUDS = {suffix: make for suffix, make in _CLOUDS.items() if suffix in point_clouds.READABLE}
RESULTS: dict[str, Callable[[], Kind]] = {
    "FitResult": lambda: _result(read_result, "result.safetensors"),
    "PointFitResult": lambda: _result(read_point_result, "points.safetensors"),
    **{name: partial(_file_of_run, name) for name in ("run.json", "index.csv", "systems/00000.safetensors")},
    **{name: partial(_file_of_experiment, name) for name in ("config.json", "metrics.json", "state.safetensors")},
}
KINDS: dict[str, Callable[[], Kind]] = {
    **PICTURES,
    **{f"targets{suffix}": kind for suffix, kind in TARGETS.items()},
    **{f"systems{suffix}": partial(_kept, kind) for suffix, kind in SYSTEMS.items()},
    **{f"cloud{suffix}": kind for suffix, kind in CLOUDS.items()},
    **RESULTS,
}
"""All kinds by name. A new kind needs one line above."""
