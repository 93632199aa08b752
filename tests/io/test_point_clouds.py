"""Tests of files of points: round trips, arrays, points that are not finite, .las files, and errors of one line."""

from __future__ import annotations

import logging
import os
import sys
import tracemalloc
from pathlib import Path

import numpy
import pytest
import torch

from fractalops.errors import InputError, MissingExtra
from fractalops.io.memory import VARIABLE
from fractalops.io.notices import collect_notices
from fractalops.io.point_clouds import read_point_cloud, save_point_cloud
from tests.support.point_clouds import assert_refused
from tests.support.requirements import need_laspy
from tests.support.tolerances import assert_same_bits

POINTS = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e3
# Eastings, northings and heights in meters, to 0.1 mm. float32 would round northings to 0.25 m.
PROJECTED = POINTS.round(decimals=4) + torch.tensor([388_104.0, 3_949_004.0, 305.0])


@pytest.mark.parametrize("suffix", [".npy", ".ply", ".xyz", ".XYZ"])
@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.int64])
def test_round_trip(suffix: str, count: int, dimensions: int, dtype: torch.dtype, tmp_path: Path) -> None:
    points = PROJECTED[:count, :dimensions].to(dtype)
    if dtype == torch.int64:
        points += 2**40
    elif dtype == torch.float16:
        points = POINTS[:count, :dimensions].to(dtype)
    save_point_cloud(points, tmp_path / f"cloud{suffix}")
    with collect_notices() as notices:
        read = read_point_cloud(tmp_path / f"cloud{suffix}")
    assert read.dtype == torch.float64
    if suffix == ".ply" and dimensions == 2:
        points = torch.cat((points, points.new_zeros(count, 1)), 1)
    assert_same_bits(read.to(dtype), points)
    assert notices == {}
    assert [path.name for path in tmp_path.iterdir()] == [f"cloud{suffix}"]


def test_points_with_gradients_are_saved(tmp_path: Path) -> None:
    save_point_cloud(POINTS.clone().requires_grad_(), tmp_path / "cloud.npy")
    assert_same_bits(read_point_cloud(tmp_path / "cloud.npy"), POINTS)


def test_archives(tmp_path: Path) -> None:
    path = tmp_path / "cloud.npz"
    numpy.savez(path, anything=POINTS.float().numpy())
    assert_same_bits(read_point_cloud(path).float(), POINTS.float())
    numpy.savez(path, colors=numpy.zeros(3), points=POINTS.numpy())
    assert_same_bits(read_point_cloud(path), POINTS)
    numpy.savez(path, a=POINTS.numpy(), b=POINTS.numpy())
    with pytest.raises(InputError, match=r"must contain one array, or one named 'points', got \['a', 'b'\]"):
        read_point_cloud(path)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f8", ">f4", ">i2", "u1", "<f2"])
def test_arrays_of_any_layout(order: str, kind: str, tmp_path: Path) -> None:
    values = numpy.arange(20).reshape(4, 5).astype(kind)
    numpy.save(tmp_path / "cloud.npy", numpy.asarray(values, order=order))  # type: ignore[call-overload]
    assert read_point_cloud(tmp_path / "cloud.npy").tolist() == values[:, :3].tolist()


def test_further_columns_of_an_array(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    numpy.save(tmp_path / "cloud.npy", numpy.arange(10).reshape(2, 5))
    assert read_point_cloud(tmp_path / "cloud.npy").tolist() == [[0, 1, 2], [5, 6, 7]]
    notice = f"{tmp_path / 'cloud.npy'}: 5 columns: the first three are used"
    assert caplog.record_tuples == [("fractalops.io", logging.WARNING, notice)]


@pytest.mark.parametrize("suffix", [".npy", ".ply", ".xyz"])
def test_points_that_are_not_finite_are_refused_by_number_or_dropped(suffix: str, tmp_path: Path) -> None:
    points = POINTS.repeat(2, 1)
    for number, (axis, value) in {2: (0, "nan"), 3: (2, "inf"), 14: (1, "-inf")}.items():
        points[number - 1, axis] = float(value)
    path = tmp_path / f"cloud{suffix}"
    save_point_cloud(points, path)
    found = "3 of 14 with NaN or infinite coordinates (number 2, 3, 14)"
    with pytest.raises(InputError) as caught:
        read_point_cloud(path)
    reason = f"points must be finite, got {found}; drop_bad=True leaves them out"
    assert str(caught.value) == f"cannot use {path}: {reason}"
    with collect_notices() as notices:
        read = read_point_cloud(path, drop_bad=True)
    assert_same_bits(read, points[[0, *range(3, 13)]])
    assert notices == {str(path): [f"points are left out: {found}"]}
    save_point_cloud(points[1:2].expand(9, 3), path)
    with pytest.raises(InputError, match=r"got 9 of 9 with .*number 1, 2, 3, 4, 5 \.\.\.\);"):
        read_point_cloud(path)
    with pytest.raises(InputError, match=r"it must contain points, got none that is finite$"):
        read_point_cloud(path, drop_bad=True)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".ply", ".xyz"])
def test_memory_is_bounded(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"cloud{suffix}"
    numpy.savez(path, points=POINTS.numpy()) if suffix == ".npz" else save_point_cloud(POINTS, path)
    least = 7 * 24 if suffix != ".npz" else path.stat().st_size  # includes NumPy's header
    monkeypatch.setenv(VARIABLE, str(least))
    assert len(read_point_cloud(path)) == 7
    monkeypatch.setenv(VARIABLE, str(7 * 24 - 1))
    what = "unpacking points" if suffix == ".npz" else "storing at least 7 points"
    with pytest.raises(InputError, match=rf"^cannot read {path}: {what} needs \d+ bytes of memory, "):
        read_point_cloud(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_large_array_takes_the_memory_of_its_points(suffix: str, tmp_path: Path) -> None:
    values = numpy.random.default_rng(0).random((50_000, 3))
    path = tmp_path / f"cloud{suffix}"
    numpy.save(path, values) if suffix == ".npy" else numpy.savez(path, points=values)
    tracemalloc.start()
    try:
        points = read_point_cloud(path)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * values.nbytes
    finally:
        tracemalloc.stop()
    assert numpy.array_equal(points.numpy(), values)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".ply", ".xyz", ".las"])
def test_a_pipe_and_a_folder_are_no_files(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(InputError, match=r"it is not a file$"):
            read_point_cloud(tmp_path / f"{name}{suffix}")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.obj", "v 1 2 3", "unknown suffix '.obj', use one of .npy, .npz, .ply, .xyz, .pts, .asc, .txt, .las, .laz"),
        ("a.npy", None, "no such file or directory"),
        ("a.npy", "1 2 3", "the file is damaged"),
        ("a.npz", "1 2 3", "the file is damaged"),
        ("a.npy", numpy.zeros((0, 3)), "points must be numbers of shape (P, 3) or (P, 2) with P >= 1, got float64 (0,"),
        ("a.npy", numpy.zeros(3), "got float64 (3,)"),
        ("a.npy", numpy.zeros((4, 1)), "got float64 (4, 1)"),
        ("a.npy", numpy.zeros((4, 3), dtype=complex), "got complex128 (4, 3)"),
        ("a.npy", numpy.zeros((4, 3), dtype=object), "the file is damaged ("),
        ("a.npy", numpy.array([[2**53 + 2, 0]]), "whole numbers must lie in [-2^53, 2^53]"),
        ("a.npy", numpy.array([[1, 2, 3], [numpy.nan, 0, 0], [0, 1e300, 0]]), "got 1 of 3 with NaN"),
    ],
)
def test_what_can_not_be_read_is_one_line(
    name: str, content: str | numpy.ndarray | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        numpy.save(path, content, allow_pickle=True)
    assert_refused(path, reason)


def test_an_array_that_is_cut_off_or_promises_too_much(tmp_path: Path) -> None:
    path = tmp_path / "cloud.npy"
    numpy.save(path, POINTS.numpy())
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert_refused(path, "the file is damaged")
    path.write_bytes(content.replace(b"(7, 3)", b"(700000000, 3)").replace(b"        \n", b"\n"))
    assert_refused(path, "the file is damaged")


def test_what_can_not_be_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown suffix '.obj', use one of .npy, .ply, .xyz"):
        save_point_cloud(POINTS, tmp_path / "cloud.obj")
    with pytest.raises(ValueError, match=r"save_point_cloud: points must have shape .*, got \(7,\)"):
        save_point_cloud(POINTS[:, 0], tmp_path / "cloud.npy")
    with pytest.raises(FileNotFoundError):
        save_point_cloud(POINTS, tmp_path / "nowhere" / "cloud.npy")
    assert list(tmp_path.iterdir()) == []


def laser_scan(path: Path, version: str = "1.4", format: int = 6) -> bytes:
    """Write PROJECTED to a .las or .laz file, in tenths of millimeters. Return its bytes."""
    import laspy

    header = laspy.LasHeader(point_format=format, version=version)
    header.scales, header.offsets = [1e-4] * 3, [388_000.0, 3_949_000.0, 0.0]
    scan = laspy.LasData(header)
    scan.x, scan.y, scan.z = PROJECTED.numpy().T
    scan.write(path)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", [".las", ".laz"])
@pytest.mark.parametrize(("version", "format"), [("1.2", 3), ("1.4", 6)])
def test_laser_scans(suffix: str, version: str, format: int, tmp_path: Path) -> None:
    need_laspy()
    path = tmp_path / f"scan{suffix}"
    content = laser_scan(path, version, format)
    read = read_point_cloud(path)
    assert read.dtype == torch.float64
    torch.testing.assert_close(read, PROJECTED, rtol=0, atol=2e-9)
    place, size = (247, 8) if version == "1.4" else (107, 4)  # the field with the number of points
    for damage, reason in (
        (content[:-30], ""),
        (content[:50], ""),
        (b"nothing of use", ""),
        (content[:100] + 4 * b"\xff" + content[104:], "its header declares 4294967295 records"),
        (content[:place] + (2**31).to_bytes(size, "little") + content[place + size :], "needs 48 GiB of memory"),
        (content[:place] + (99).to_bytes(size, "little") + content[place + size :], ""),
    ):
        path.write_bytes(damage)
        assert_refused(path, reason)


def test_chunks_of_a_packed_scan_that_are_too_many(tmp_path: Path) -> None:
    need_laspy()
    path = tmp_path / "scan.laz"
    content = laser_scan(path)
    first = int.from_bytes(content[96:100], "little")
    table = int.from_bytes(content[first : first + 8], "little")
    path.write_bytes(content[: table + 4] + 4 * b"\x7f" + content[table + 8 :])
    assert_refused(path, "the file is damaged (2139062143 chunks of ")


def test_laser_scans_need_laspy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scan.las").write_bytes(b"LASF")
    monkeypatch.setitem(sys.modules, "laspy", None)
    with pytest.raises(MissingExtra, match=r"read_point_cloud: needs laspy; .* 'fractalops\[las\]'"):
        read_point_cloud(tmp_path / "scan.las")


def test_packed_scans_need_lazrs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_laspy()
    laser_scan(tmp_path / "scan.laz")
    monkeypatch.setitem(sys.modules, "lazrs", None)
    with pytest.raises(MissingExtra, match="read_point_cloud: needs lazrs"):
        read_point_cloud(tmp_path / "scan.laz")
