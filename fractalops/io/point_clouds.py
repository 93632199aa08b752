"""Clouds of points in and out: .npy, .npz, .ply (ascii) and .xyz files."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import numpy
import torch
from torch import Tensor

from fractalops.errors import InputError
from fractalops.io.files import PlainFile, atomic_path, reading
from fractalops.io.notices import log_notices

READABLE = (".npy", ".npz", ".ply", ".xyz")
WRITABLE = (".npy", ".ply", ".xyz")


def read_point_cloud(path: str | Path) -> Tensor:
    """Read a cloud of points as a target for learning; no code in a file is executed.

    A .npy file holds an array (P, 3) or (P, 2) of numbers, a .npz file one array or one named "points", a .ply file
    (ascii) the properties x, y and z of its element vertex, and a .xyz file a point a line, its numbers separated by
    spaces or commas, with # before remarks. Further columns of an array or a line are left out, which is logged as a
    warning of the logger "fractalops.io".

    Returns the points (P, 3) or (P, 2), float32. Raises `InputError` when the file can't be read so, or holds no point
    or one that isn't finite in float32.
    """
    path = Path(path)
    if path.suffix.lower() not in READABLE:
        raise InputError(f"cannot read {path}: unknown suffix {path.suffix!r}, use one of {', '.join(READABLE)}")
    read = {".npy": _read_array, ".npz": _read_archive, ".ply": _read_ply, ".xyz": _read_xyz}[path.suffix.lower()]
    with reading(path):
        values = read(path)  # (P, 2 or more)
    if values.ndim != 2 or values.shape[1] < 2 or len(values) == 0 or values.dtype.kind not in "fiu":
        expected = "numbers of shape (P, 3) or (P, 2) with P >= 1"
        raise InputError(f"cannot use {path}: points must be {expected}, got {values.dtype} {values.shape}")
    with numpy.errstate(over="ignore"):
        points = torch.from_numpy(values[:, :3].astype(numpy.float32))
    broken = int((~points.isfinite()).any(1).sum())
    if broken:
        raise InputError(f"cannot use {path}: points must be finite, got {broken} with NaN or infinite coordinates")
    if values.shape[1] > 3:
        log_notices(path, [f"{values.shape[1]} columns: the first three are used"])
    return points


def save_point_cloud(points: Tensor, path: str | Path) -> None:
    """Write points (P, 3) or (P, 2) in the format that the suffix of `path` names.

    An interruption leaves no broken file. A .ply file is ascii, and always has three coordinates. Raises `InputError`
    for another suffix than .npy, .ply and .xyz, `ValueError` for another shape, `OSError` when the file can't be
    written.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise InputError(f"cannot save {path}: unknown suffix {path.suffix!r}, use one of {', '.join(WRITABLE)}")
    if points.dim() != 2 or points.shape[1] not in (2, 3):
        raise ValueError(f"save_point_cloud: points must have shape (P, 3) or (P, 2), got {tuple(points.shape)}")
    values = points.detach().cpu().float().numpy()  # (P, D)
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".npy":
            with PlainFile(temporary) as file:
                numpy.save(file, values)
            return
        header = ""
        if path.suffix.lower() == ".ply":
            values = numpy.pad(values, ((0, 0), (0, 3 - values.shape[1])))
            properties = "".join(f"property float {axis}\n" for axis in "xyz")
            header = f"ply\nformat ascii 1.0\nelement vertex {len(values)}\n{properties}end_header\n"
        with temporary.open("w", encoding="ascii", newline="") as file:
            file.write(header)
            numpy.savetxt(file, values, fmt="%.9g")  # nine digits give the same float32 back


def _read_array(path: Path) -> numpy.ndarray:
    return numpy.asarray(numpy.load(path, allow_pickle=False))


def _read_archive(path: Path) -> numpy.ndarray:
    with numpy.load(path, allow_pickle=False) as arrays:
        names = list(arrays)
        if "points" not in names and len(names) != 1:
            raise InputError(f"cannot read {path}: it must hold one array, or one named 'points', got {names}")
        return numpy.asarray(arrays["points" if "points" in names else names[0]])


def _read_xyz(path: Path) -> numpy.ndarray:
    text = _text(path.read_bytes(), path, "utf-8-sig").replace(",", " ")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an empty file, which the caller refuses
        with reading(path, "every line must be a point"):
            return numpy.loadtxt(text.splitlines(), ndmin=2)


def _read_ply(path: Path) -> numpy.ndarray:
    with path.open("rb") as file:
        if file.readline().strip() != b"ply":
            raise InputError(f"cannot read {path}: it is not a .ply file")
        header = []  # the words of each line
        for line in file:
            words = line.decode("ascii", errors="replace").split()
            if words == ["end_header"]:
                break
            if words[:1] not in ([], ["comment"], ["obj_info"]):
                header.append(words)
        else:
            raise InputError(f"cannot read {path}: its header has no end")
        if ["format", "ascii", "1.0"] not in header:
            found = next((" ".join(words[1:]) for words in header if words[:1] == ["format"]), "none")
            raise InputError(f"cannot read {path}: the format of a .ply file must be ascii 1.0, got {found}")
        lines = _text(file.read(), path, "ascii").splitlines()
    first = 0  # line of the element that the header has come to
    for number, words in enumerate(header):
        if words[:2] == ["element", "vertex"]:
            names = [line[-1] for line in itertools.takewhile(lambda line: line[0] == "property", header[number + 1 :])]
            rows = lines[first : first + int(words[2])]
            if len(rows) < int(words[2]) or not {"x", "y", "z"} <= set(names):
                expected = f"{words[2]} vertices with the properties x, y and z"
                raise InputError(f"cannot read {path}: it must hold {expected}, got {len(rows)} with {names}")
            return numpy.loadtxt(rows, usecols=[names.index(axis) for axis in "xyz"], ndmin=2)
        if words[:1] == ["element"]:
            first += int(words[2])
    raise InputError(f"cannot read {path}: it must have an element vertex, got none")


def _text(content: bytes, path: Path, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise InputError(f"cannot read {path}: it is not a text file") from None
