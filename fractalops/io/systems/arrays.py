"""Systems as .npy and .npz arrays of affine maps: (N, 2, 3), as in fractal-pretraining, or (N, 3, 4) in 3-D.

An array (S, N, 2, 3) contains S systems. The probability of a map is proportional to the absolute value of its
determinant, unless an archive has an array `NAME.probabilities` (N,) in addition to the array `NAME`. An array
`NAME.color` (N, C) contains the colors.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from fractalops.errors import InputError
from fractalops.io.array_files import map_array, opened_archive, read_headers
from fractalops.io.files import PlainFile, check_file, reading
from fractalops.io.memory import check_memory
from fractalops.io.notices import log_notices
from fractalops.io.systems.entries import Entry, build_system, check_count, error_at, join_parts
from fractalops.systems import System
from fractalops.systems.axes import AS_THEY_STAND
from fractalops.systems.system import shares_of

_PARTS = ("probabilities", "color")
_SYSTEM_BYTES = 4096  # memory of a system of few maps, in addition to its numbers


def refuse_pickle(path: Path) -> list[Entry]:
    """Raise `InputError`. The message has a program that converts the pickles of fractal-pretraining."""
    check_file(path)
    lines = (
        f"import pickle, numpy; data = pickle.load(open({str(path)!r}, 'rb')); "
        f"numpy.savez({str(path.with_suffix('.npz'))!r}, "
        "**{str(i): each['system'] for i, each in enumerate(data['params'])})"
    )
    raise InputError(f"cannot read {path}: a pickle can run any code; if you trust it, convert it with: {lines}")


def open_array(path: Path) -> list[Entry]:
    """Return the systems of a .npy file."""
    check_file(path)
    with reading(path):
        return _entries(path, "", map_array(path), {})


def open_archive(path: Path) -> list[Entry]:
    """Return the systems of a .npz file. Their names are those of the arrays."""
    check_file(path)
    entries: list[Entry] = []
    with reading(path):
        with opened_archive(path) as archive:
            read_headers(archive, path, *archive.files)
            arrays = dict(archive)
        for name, array in arrays.items():
            owner, _, part = name.rpartition(".")
            if part in _PARTS and owner in arrays:
                continue
            parts = {each: arrays[key] for each in _PARTS if (key := f"{name}.{each}") in arrays}
            entries += _entries(path, name, array, parts)
    return entries


def _entries(path: Path, name: str, array: np.ndarray, parts: dict[str, np.ndarray]) -> list[Entry]:
    """Return the systems of the array `name`. `parts` are its probabilities and colors."""
    where = f"array {name!r}" if name else ""
    if array.ndim not in (3, 4) or array.shape[-2:] not in ((2, 3), (3, 4)) or 0 in array.shape:
        raise error_at(path, where, f"it must have shape (N, 2, 3) or (S, N, 2, 3), got {array.shape}")
    for part in (array, *parts.values()):
        if part.dtype.kind not in "fiu":
            raise error_at(path, where, f"its values must be numbers, got {part.dtype}")
    several = array.ndim == 4
    if several and parts:
        raise error_at(path, where, f"an array of several systems must not have {' or '.join(parts)}")
    if not several:
        return [Entry(name, where, partial(_read, path, where, array, parts))]
    check_memory(path, _SYSTEM_BYTES * len(array) + 8 * array.size, f"storing {len(array)} systems")
    return [
        Entry(f"{name}/{number}" if name else str(number), where, partial(_read, path, where, maps, parts))
        for number, maps in enumerate(array)
    ]


def _read(path: Path, where: str, array: np.ndarray, parts: dict[str, np.ndarray]) -> System:
    """Return the system of an array (N, D, D + 1). The system does not share the array's memory."""
    check_count(path, where, len(array))
    dtype = array.dtype.newbyteorder("=") if array.dtype in (np.float32, np.float64) else np.float64
    maps = torch.from_numpy(np.array(array, dtype=dtype))
    matrix, offset = (part.clone() for part in AS_THEY_STAND[maps.shape[1]].read(maps[..., :-1], maps[..., -1]))
    probabilities = parts.get("probabilities")  # (N,)
    if probabilities is None:
        probabilities = _determinants(matrix)
        if not probabilities.any():
            log_notices(path, [join_parts(where, "all determinants are 0: all maps get the same probability")])
            probabilities = np.ones(len(matrix))
    return build_system(path, where, matrix, offset, probabilities.copy(), parts.get("color"))


def _determinants(matrix: torch.Tensor) -> np.ndarray:
    """Return |det A| (..., N) of matrices (..., N, D, D), scaled to add up to 1; all 0 if an entry is not finite."""
    values = matrix.double().numpy()
    values = np.where(np.isfinite(values).all((-3, -2, -1), keepdims=True), values, 0.0)
    largest = np.abs(values).max((-3, -2, -1), keepdims=True)
    values = values / np.maximum(largest, np.finfo(np.float64).tiny)  # so that no product overflows
    with np.errstate(all="ignore"):  # LAPACK warns of determinants close to 0
        size: np.ndarray = np.nan_to_num(np.abs(np.linalg.det(values)))
    total = size.sum(-1, keepdims=True)
    np.divide(size, total, where=total > 0, out=size)
    return size


def write_array(path: Path, systems: list[System]) -> list[str]:
    """Write the maps of systems, without probabilities and colors; return notices.

    Raises `InputError` unless all systems have the same number of maps.
    """
    arrays = [_maps(system) for system in systems]
    if len({array.shape for array in arrays}) != 1:
        raise InputError(
            f"cannot save {path}: all systems of a .npy file must have the same number of maps and dimensions; use .npz"
        )
    with PlainFile(path) as file:
        np.save(file, arrays[0] if len(arrays) == 1 else np.stack(arrays), allow_pickle=False)
    notices = []
    if not all(_proportional(system) for system in systems):
        notices.append("probabilities are left out: a .npy file can't store them; use .npz to keep them")
    if any(system.color is not None for system in systems):
        notices.append("colors are left out: a .npy file can't store them; use .npz to keep them")
    return notices


def write_archive(path: Path, systems: list[System]) -> list[str]:
    """Write the maps, the probabilities and the colors of systems, by name; return notices.

    Raises `InputError` if the name of a system can't be used.
    """
    arrays: dict[str, np.ndarray] = {}
    names = {system.name for system in systems}
    for system in systems:
        owner, _, part = system.name.rpartition(".")
        if (part in _PARTS and owner in names) or system.name in ("file", "allow_pickle") or "\0" in system.name:
            raise InputError(f"cannot save {path}: a system of a .npz file can't be named {system.name!r}")
        arrays[system.name] = _maps(system)
        arrays[f"{system.name}.probabilities"] = _array(system.probabilities)
        if system.color is not None:
            arrays[f"{system.name}.color"] = _array(system.color)
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return []


def _maps(system: System) -> np.ndarray:
    """Return the maps (N, D, D + 1) of a system."""
    matrix, offset = AS_THEY_STAND[system.dimensions].write(system.matrix, system.offset)
    return _array(torch.cat((matrix, offset[..., None]), -1))


def _array(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor as an array of at least float32: NumPy has no bfloat16, and float16 would be read as float64."""
    array: np.ndarray = tensor.to(torch.promote_types(tensor.dtype, torch.float32)).numpy()
    return array


def _proportional(system: System) -> bool:
    """Return whether the probabilities of a system are proportional to its determinants."""
    read = _determinants(system.matrix)
    return bool(np.allclose(shares_of(system.probabilities).numpy(), read, rtol=1e-6, atol=0))
