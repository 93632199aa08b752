"""Tests of arrays of maps in the layout of fractal-pretraining."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from fractalops.errors import InputError
from fractalops.io import read_systems, write_systems
from fractalops.io.notices import collect_notices
from fractalops.io.systems import open_systems
from tests.support.system_files import array_bytes, assert_equal, assert_refused, random_system, write

MAPS = np.random.default_rng(0).uniform(-0.6, 0.6, (3, 4, 2, 3))  # (S, N, 2, 3)


def test_the_maps_stand_as_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", MAPS[0])
    np.save(tmp_path / "three.npy", MAPS)
    (system,) = read_systems(tmp_path / "one.npy").values()
    assert system.name == "one"
    assert np.array_equal(system.matrix.numpy(), MAPS[0, ..., :2])
    assert np.array_equal(system.offset.numpy(), MAPS[0, ..., 2])
    size = np.abs(MAPS[0, :, 0, 0] * MAPS[0, :, 1, 1] - MAPS[0, :, 0, 1] * MAPS[0, :, 1, 0])
    np.testing.assert_allclose(system.probabilities.numpy(), size / size.sum(), rtol=1e-12)
    three = read_systems(tmp_path / "three.npy")
    assert list(three) == ["0", "1", "2"]
    assert np.array_equal(three["2"].offset.numpy(), MAPS[2, ..., 2])


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "<i2"])
def test_dtypes(dtype: str, tmp_path: Path) -> None:
    maps = (MAPS[0] * 10).round().astype(dtype)
    np.save(tmp_path / "a.npy", maps)
    system = read_systems(tmp_path / "a.npy")["a"]
    assert system.matrix.dtype == (torch.float32 if dtype == "<f4" else torch.float64)
    assert np.array_equal(system.matrix.numpy(), maps[..., :2].astype(np.float64))


def test_archives_hold_several_arrays_by_name(tmp_path: Path) -> None:
    arrays = {
        "a": MAPS[0],
        "a.probabilities": np.array([1, 2, 3, 0]),
        "a.color": np.ones((4, 3), dtype=np.float32),
        "many": MAPS[1:],
        "space": np.eye(3, 4)[None] / 2,
    }
    systems = read_systems(write(tmp_path, "b.npz", array_bytes(**arrays)))
    assert list(systems) == ["a", "many/0", "many/1", "space"]
    assert systems["a"].probabilities.tolist() == [1, 2, 3, 0]
    assert systems["a"].color is not None
    assert systems["a"].color.tolist() == [[1, 1, 1]] * 4
    assert systems["space"].dimensions == 3


def test_the_systems_of_one_array_are_those_of_its_parts(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(5, 3, 2, 3))
    array[1] *= 1e-170  # determinants underflow to 0 in float64
    array[2, 0, :, :2] = 0
    array[3, :, 0, :2] = 0
    array[4] *= 1e170
    np.save(tmp_path / "a.npy", array)
    with collect_notices() as notices:
        systems = read_systems(tmp_path / "a.npy")
    assert notices == {str(tmp_path / "a.npy"): ["all determinants are 0: all maps get the same probability"]}
    for number, system in systems.items():
        maps = array[int(number)]
        np.testing.assert_array_equal(system.matrix, maps[..., :2])
        np.testing.assert_array_equal(system.offset, maps[..., 2])
        scaled = maps[..., :2] / np.abs(maps[..., :2]).max().clip(1e-300)
        size = np.abs(scaled[:, 0, 0] * scaled[:, 1, 1] - scaled[:, 0, 1] * scaled[:, 1, 0])
        expected = size / size.sum() if size.any() else np.ones(3)
        np.testing.assert_allclose(system.probabilities, expected, rtol=1e-12)
    write_systems(tmp_path / "a.safetensors", systems)
    for number, system in read_systems(tmp_path / "a.safetensors").items():
        assert_equal(system, systems[number])


def test_one_wrong_system_of_an_array_does_not_spoil_the_others(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(3, 2, 2, 3))
    array[1, 0, 0, 0] = np.nan
    np.save(tmp_path / "a.npy", array)
    readers = open_systems(tmp_path / "a.npy")
    for number in ("0", "2"):
        assert float(readers[number]().probabilities.sum()) == pytest.approx(1)
    with collect_notices(), pytest.raises(InputError, match="matrix must be finite"):
        readers["1"]()


def test_maps_without_size_are_drawn_equally_often(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 2, 3)))
    with collect_notices() as notices:
        assert read_systems(tmp_path / "a.npy")["a"].probabilities.tolist() == [1, 1]
    assert notices == {str(tmp_path / "a.npy"): ["all determinants are 0: all maps get the same probability"]}


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((2, 3)), "it must have shape (N, 2, 3) or (S, N, 2, 3), got (2, 3)"),
        (np.zeros((0, 2, 3)), "it must have shape (N, 2, 3) or (S, N, 2, 3), got (0, 2, 3)"),
        (np.zeros((4, 3, 2)), "it must have shape (N, 2, 3) or (S, N, 2, 3), got (4, 3, 2)"),
        (np.zeros(()), "it must have shape (N, 2, 3) or (S, N, 2, 3), got ()"),
        (np.full((1, 2, 3), np.nan), "matrix must be finite, got NaN or infinite values"),
        (np.full((1, 2, 3), "0.5"), "its values must be numbers, got <U3"),
        (np.ones((1, 2, 3), dtype=complex), "its values must be numbers, got complex128"),
        (np.array([[[None] * 3] * 2]), "the file is damaged (Object arrays cannot be loaded when allow_pickle=False)"),
        (np.full((2**15 + 1, 2, 3), 0.5), "a system must have at most 32768 maps, got more"),
    ],
)
def test_what_is_refused(array: np.ndarray, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, array, allow_pickle=True)
    assert_refused(path, reason, whole=True)


def test_what_archives_are_refused(tmp_path: Path) -> None:
    for arrays, reason in (
        ({"a": MAPS[0], "a.color": np.full((4, 3), 2.0)}, "array 'a': color must lie in \\[0, 1\\]"),
        ({"a": MAPS[0], "a.probabilities": np.ones(3)}, r"array 'a': probabilities must have shape \(4,\), got \(3,\)"),
        ({"a": MAPS[0], "a.probabilities": -np.ones(4)}, "array 'a': probabilities must be finite, non-negative"),
        (
            {"a": MAPS, "a.probabilities": np.ones(4)},
            "array 'a': an array of several systems must not have probabilities",
        ),
        ({"a": MAPS[0], "b": np.ones(4)}, r"array 'b': it must have shape \(N, 2, 3\)"),
        ({}, "it contains no system"),
    ):
        with pytest.raises(InputError, match=reason):
            read_systems(write(tmp_path, "a.npz", array_bytes(**arrays)))


def test_pickles_are_refused_with_what_converts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("it's systems.pkl")
    path.write_bytes(pickle.dumps({"params": [{"system": each} for each in MAPS], "hparams": {}}))
    with pytest.raises(InputError) as caught:
        read_systems(path)
    message = str(caught.value)
    found = re.fullmatch(
        r"cannot read it's systems.pkl: a pickle can run any code; .* convert it with: (import .*)", message
    )
    assert found is not None
    exec(found[1], {})
    systems = read_systems(path.with_suffix(".npz"))
    assert list(systems) == ["0", "1", "2"]
    assert np.array_equal(systems["1"].offset.numpy(), MAPS[1, ..., 2])


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    systems = [random_system(4, channels=3, seed=n) for n in range(2)]
    with collect_notices() as notices:
        write_systems(path, systems)
    assert len(notices[str(path)]) == 2
    for system, expected in zip(read_systems(path).values(), systems, strict=True):
        assert torch.equal(system.matrix, expected.matrix)
    np.save(path, MAPS[0])
    (system,) = read_systems(path).values()
    with collect_notices() as notices:
        write_systems(tmp_path / "b.npy", system)
    assert notices == {}
    assert_equal(read_systems(tmp_path / "b.npy")["b"], system)
    with pytest.raises(InputError, match=r"must have the same number of maps and dimensions; use \.npz"):
        write_systems(tmp_path / "c.npy", [random_system(3), random_system(4)])
    assert not (tmp_path / "c.npy").exists()
