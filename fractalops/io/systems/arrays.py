"""Systems as arrays (.npy and .npz) of affine maps (N, 2, 3), as fractal-pretraining has them; in space (N, 3, 4).

An array (S, N, 2, 3) is that of S systems. Maps are drawn in proportion to the size of their determinants, unless an
archive has an array `NAME.probabilities` (N,) beside the array `NAME`; `NAME.color` (N, C) are its colors.
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
from fractalops.io.systems.entries import Entry, build_system, check_count, error_at, told
from fractalops.systems import System
from fractalops.systems.axes import AS_THEY_STAND
from fractalops.systems.system import shares_of

_PARTS = ("probabilities", "color")
_SYSTEM_BYTES = 4096  # that a system of few maps takes besides its numbers


def refuse_pickle(path: Path) -> list[Entry]:
    """Raise `InputError`, with what converts fractal-pretraining's pickles."""
    check_file(path)
    lines = (
        f"import pickle, numpy; data = pickle.load(open({str(path)!r}, 'rb')); "
        f"numpy.savez({str(path.with_suffix('.npz'))!r}, "
        "**{str(i): each['system'] for i, each in enumerate(data['params'])})"
    )
    raise InputError(f"cannot read {path}: a pickle runs code as it is opened; if you trust it, convert it by: {lines}")


def open_array(path: Path) -> list[Entry]:
    """Return the systems of a .npy file."""
    check_file(path)
    with reading(path):
        return _entries(path, "", map_array(path), {})


def open_archive(path: Path) -> list[Entry]:
    """Return the systems of a .npz file, by the names of its arrays."""
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
    """Return the systems of one array, after its name."""
    where = f"array {name!r}" if name else ""
    if array.ndim not in (3, 4) or array.shape[-2:] not in ((2, 3), (3, 4)) or 0 in array.shape:
        raise error_at(path, where, f"it must have the shape (N, 2, 3) or (S, N, 2, 3), got {array.shape}")
    for part in (array, *parts.values()):
        if part.dtype.kind not in "fiu":
            raise error_at(path, where, f"it must have numbers, got {part.dtype}")
    several = array.ndim == 4
    if several and parts:
        raise error_at(path, where, f"an array of several systems has no {' nor '.join(parts)} of its own")
    if not several:
        return [Entry(name, where, partial(_read, path, where, array, parts))]
    check_memory(path, _SYSTEM_BYTES * len(array) + 8 * array.size, f"holding {len(array)} systems")
    return [
        Entry(f"{name}/{number}" if name else str(number), where, partial(_read, path, where, maps, parts))
        for number, maps in enumerate(array)
    ]


def _read(path: Path, where: str, array: np.ndarray, parts: dict[str, np.ndarray]) -> System:
    """Return the system of an array (N, D, D + 1), which is not kept."""
    check_count(path, where, len(array))
    dtype = array.dtype.newbyteorder("=") if array.dtype in (np.float32, np.float64) else np.float64
    maps = torch.from_numpy(np.array(array, dtype=dtype))
    matrix, offset = (part.clone() for part in AS_THEY_STAND[maps.shape[1]].read(maps[..., :-1], maps[..., -1]))
    probabilities = parts.get("probabilities")  # (N,)
    if probabilities is None:
        probabilities = _determinants(matrix)
        if not probabilities.any():
            log_notices(path, [told(where, "all determinants are 0: maps are drawn equally often")])
            probabilities = np.ones(len(matrix))
    return build_system(path, where, matrix, offset, probabilities.copy(), parts.get("color"))


def _determinants(matrix: torch.Tensor) -> np.ndarray:
    """Return |det A| (..., N) of matrices (..., N, D, D), scaled to add up to 1; all 0 where they are not finite."""
    values = matrix.double().numpy()
    values = np.where(np.isfinite(values).all((-3, -2, -1), keepdims=True), values, 0.0)
    largest = np.abs(values).max((-3, -2, -1), keepdims=True)
    values = values / np.maximum(largest, np.finfo(np.float64).tiny)  # no product of these overflows
    with np.errstate(all="ignore"):  # LAPACK warns of determinants that are all but 0
        size: np.ndarray = np.nan_to_num(np.abs(np.linalg.det(values)))
    total = size.sum(-1, keepdims=True)
    np.divide(size, total, where=total > 0, out=size)
    return size


def write_array(path: Path, systems: list[System]) -> list[str]:
    """Write the maps of systems alone, of one number of maps; return notices."""
    arrays = [_maps(system) for system in systems]
    if len({array.shape for array in arrays}) != 1:
        raise InputError(f"cannot save {path}: the systems of a .npy file must have one number of maps; use .npz")
    with PlainFile(path) as file:
        np.save(file, arrays[0] if len(arrays) == 1 else np.stack(arrays), allow_pickle=False)
    notices = []
    if not all(_proportional(system) for system in systems):
        notices.append("probabilities are left out: in a .npy file they follow from the determinants; .npz holds them")
    if any(system.color is not None for system in systems):
        notices.append("colors are left out: a .npy file has none; .npz holds them")
    return notices


def write_archive(path: Path, systems: list[System]) -> list[str]:
    """Write the maps of systems, their probabilities and colors, by name."""
    arrays: dict[str, np.ndarray] = {}
    names = {system.name for system in systems}
    for system in systems:
        owner, _, part = system.name.rpartition(".")
        if (part in _PARTS and owner in names) or system.name in ("file", "allow_pickle") or "\0" in system.name:
            raise InputError(f"cannot save {path}: a system of a .npz file can't be called {system.name!r}")
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
    """Return a tensor as an array, in float32 at least: NumPy has no bfloat16, and the reader takes no float16."""
    array: np.ndarray = tensor.to(torch.promote_types(tensor.dtype, torch.float32)).numpy()
    return array


def _proportional(system: System) -> bool:
    """Return whether maps are drawn in proportion to their determinants."""
    read = _determinants(system.matrix)
    return bool(np.allclose(shares_of(system.probabilities).numpy(), read, rtol=1e-6, atol=0))
