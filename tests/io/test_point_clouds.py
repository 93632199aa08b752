"""Files of points: round trips, what is accepted, one clear line for what is not."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy
import pytest
import torch

from fractalops.errors import InputError
from fractalops.io.notices import collect_notices
from fractalops.io.point_clouds import read_point_cloud, save_point_cloud
from tests.support.tolerances import assert_same_bits

POINTS = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)) * 1e3

PLY = """ply
format ascii 1.0
comment a square
element camera 1
property float f
element vertex 2
property uchar red
property float z
property float x
comment between
property float y
element face 1
property list uchar int vertex_indices
end_header
17
255 3 1 2
0 6 4 5
3 0 1 0
"""


@pytest.mark.parametrize("suffix", [".npy", ".ply", ".xyz", ".XYZ"])
@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_round_trip(suffix: str, count: int, dimensions: int, tmp_path: Path) -> None:
    points = POINTS[:count, :dimensions]
    save_point_cloud(points.double().requires_grad_(), tmp_path / f"cloud{suffix}")
    with collect_notices() as notices:
        read = read_point_cloud(tmp_path / f"cloud{suffix}")
    if suffix == ".ply" and dimensions == 2:
        points = torch.cat((points, torch.zeros(count, 1)), 1)
    assert_same_bits(read, points)
    assert notices == {}
    assert [path.name for path in tmp_path.iterdir()] == [f"cloud{suffix}"]


def test_archives(tmp_path: Path) -> None:
    path = tmp_path / "cloud.npz"
    numpy.savez(path, anything=POINTS.numpy())
    assert_same_bits(read_point_cloud(path), POINTS)
    numpy.savez(path, colors=numpy.zeros(3), points=POINTS.double().numpy())
    assert_same_bits(read_point_cloud(path), POINTS)
    numpy.savez(path, a=POINTS.numpy(), b=POINTS.numpy())
    with pytest.raises(InputError, match=r"must hold one array, or one named 'points', got \['a', 'b'\]"):
        read_point_cloud(path)


def test_whole_numbers_and_further_columns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    numpy.save(tmp_path / "cloud.npy", numpy.arange(10).reshape(2, 5))
    assert read_point_cloud(tmp_path / "cloud.npy").tolist() == [[0, 1, 2], [5, 6, 7]]
    notice = f"{tmp_path / 'cloud.npy'}: 5 columns: the first three are used"
    assert caplog.record_tuples == [("fractalops.io", logging.WARNING, notice)]
    (tmp_path / "cloud.xyz").write_text("# x, y, z\n1, 2, 3\n4 5 6 # here\n\n")
    assert read_point_cloud(tmp_path / "cloud.xyz").tolist() == [[1, 2, 3], [4, 5, 6]]


def test_vertices_among_other_elements(tmp_path: Path) -> None:
    (tmp_path / "cloud.ply").write_text(PLY)
    assert read_point_cloud(tmp_path / "cloud.ply").tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.obj", "v 1 2 3", "unknown suffix '.obj', use one of .npy, .npz, .ply, .xyz"),
        ("a.npy", None, "no such file or directory"),
        ("a.npy", "1 2 3", "the file is damaged"),
        ("a.npz", "1 2 3", "the file is damaged"),
        ("a.npy", numpy.zeros((0, 3)), "points must be numbers of shape (P, 3) or (P, 2) with P >= 1, got float64 (0,"),
        ("a.npy", numpy.zeros(3), "got float64 (3,)"),
        ("a.npy", numpy.zeros((4, 1)), "got float64 (4, 1)"),
        ("a.npy", numpy.zeros((4, 3), dtype=complex), "got complex128 (4, 3)"),
        ("a.npy", numpy.zeros((4, 3), dtype=object), "the file is damaged (Object arrays cannot be loaded"),
        ("a.npy", numpy.array([[1, 2, 3], [numpy.nan, 0, 0], [0, 1e300, 0]]), "points must be finite, got 2 with"),
        ("a.xyz", "", "got float64 (0, "),
        ("a.xyz", "1 2 3\nfour\n", "every line must be a point"),
        ("a.xyz", "1 2 3\n4 5\n", "every line must be a point"),
        ("a.xyz", b"\xff\xfe\x00", "it is not a text file"),
        ("a.ply", "1 2 3", "it is not a .ply file"),
        ("a.ply", "ply\nformat ascii 1.0\n", "its header has no end"),
        ("a.ply", PLY.replace("ascii", "binary_little_endian"), "must be ascii 1.0, got binary_little_endian 1.0"),
        ("a.ply", PLY.replace("vertex 2", "vertex 9"), "9 vertices with the properties x, y and z, got 3 with"),
        ("a.ply", PLY.replace("float y", "float v"), "2 vertices with the properties x, y and z, got 2 with"),
        ("a.ply", PLY.replace("element vertex", "element corner"), "it must have an element vertex, got none"),
        ("a.ply", PLY.replace("vertex 2", "vertex two"), "the file is damaged"),
        ("a.ply", PLY.replace("255 3 1 2", "255 3 one 2"), "the file is damaged"),
    ],
)
def test_what_can_not_be_read_is_one_line(
    name: str, content: str | bytes | numpy.ndarray | None, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        numpy.save(path, content, allow_pickle=True)
    with pytest.raises(InputError) as caught:
        read_point_cloud(path)
    message = str(caught.value)
    assert message.startswith((f"cannot read {path}: ", f"cannot use {path}: "))
    assert reason in message
    assert "\n" not in message


def test_what_can_not_be_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown suffix '.obj', use one of .npy, .ply, .xyz"):
        save_point_cloud(POINTS, tmp_path / "cloud.obj")
    with pytest.raises(ValueError, match=r"save_point_cloud: points must have shape .*, got \(7,\)"):
        save_point_cloud(POINTS[:, 0], tmp_path / "cloud.npy")
    with pytest.raises(FileNotFoundError):
        save_point_cloud(POINTS, tmp_path / "nowhere" / "cloud.npy")
    assert list(tmp_path.iterdir()) == []
