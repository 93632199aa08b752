"""Tests of this package's JSON and safetensors files of systems, and of files of learned systems."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fractalops import FitConfig, PointConfig, fit, fit_points
from fractalops.errors import InputError
from fractalops.io import read_systems
from fractalops.io.tensor_files import write_tensors
from tests.support.system_files import JSON, assert_refused, write

PAIR = {"0.matrix": torch.eye(2)[None] / 2, "0.offset": torch.zeros(1, 2), "0.probabilities": torch.ones(1)}


def test_a_document(tmp_path: Path) -> None:
    (system,) = read_systems(write(tmp_path, "a.json", JSON)).values()
    assert system.name == "pair"
    assert system.matrix.tolist() == [[[0.5, 0], [0, 0.5]], [[0.5, 0.1], [0, 0.5]]]
    assert system.offset.tolist() == [[0, 0], [1, 2]]
    assert system.probabilities.tolist() == [1, 3]
    assert system.color is not None
    assert system.color.tolist() == [[0, 0.5, 1], [1, 0, 0]]


SYSTEM = '{"name": "pair", "matrix": [[[1]]], "offset": [[0]], "probabilities": [1]}'


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("]}]}", "", "it is not JSON (Expecting ',' delimiter: line 4 column 1"),
        (JSON, "[" * 100_000, "it is not JSON (maximum recursion depth exceeded"),
        (JSON, "[]", 'it must be an object with "format": "fractalops.systems.1" and a list of'),
        ("systems.1", "systems.2", 'it must be an object with "format"'),
        (JSON, '{"format": "fractalops.systems.1", "systems": []}', "it contains no system"),
        (JSON, '{"format": "fractalops.systems.1", "systems": [1]}', "systems[0]: it must be an object, got int"),
        (
            '"offset"',
            '"shift"',
            "systems[0]: its fields must be name, matrix, offset, probabilities, color, got",
        ),
        ('"pair"', "3", "systems[0]: name must be text, got 3"),
        ("[1, 3]", "[1, -3]", "systems[0]: probabilities must be finite, non-negative and not all zero"),
        ("[1, 3]", "[1, true]", "systems[0].probabilities[1]: it must be a number, got True"),
        ("[1, 3]", "[1, NaN]", "it is not JSON (NaN is not a JSON number)"),
        ("[1, 3]", "[1, 1e400]", "systems[0]: probabilities must be finite"),
        ("[1, 3]", f"[1, 1{'0' * 400}]", "systems[0]: its numbers do not form arrays (int too large to convert"),
        ("[1, 3]", "[1]", "systems[0]: probabilities must have shape (2,), got (1,)"),
        ("[1, 2]", "[1]", "systems[0]: its numbers do not form arrays (setting an array element with a sequence"),
        ("[1, 2]", '[1, "2"]', "systems[0].offset[1][1]: it must be a number, got '2'"),
        ("[1, 2]", "[]", "systems[0].offset[1]: it must be a list that is not empty, got []"),
        ("[1, 0, 0]", "[1, 0, 2]", "systems[0]: color must lie in [0, 1]"),
        ("]}]}", "]}, " + SYSTEM + "]}", "systems[1]: the name 'pair' is used by an earlier system"),
    ],
)
def test_what_documents_are_refused(old: str, new: str, reason: str, tmp_path: Path) -> None:
    assert old in JSON
    path = write(tmp_path, "a.json", JSON.replace(old, new))
    assert_refused(path, reason)


@pytest.mark.parametrize(
    ("tensors", "names", "reason"),
    [
        ({"0.matrix": torch.full((1, 2, 2), torch.inf)}, '["a"]', "system 0: matrix must be finite"),
        ({"0.offset": torch.zeros(2, 2)}, '["a"]', "system 0: matrix must have shape \\(2, 2, 2\\), got \\(1, 2, 2\\)"),
        ({"0.offset": torch.zeros(1, 2).long()}, '["a"]', "system 0: its tensors must have a floating-point dtype"),
        ({"1.offset": torch.zeros(1, 2)}, '["a"]', "it is damaged"),
        ({}, '["a", "b"]', "it is damaged \\(KeyError"),
        ({}, '"a"', "it is damaged \\(TypeError: names must be a list of strings\\)"),
        ({}, "[", "it is damaged \\(JSONDecodeError"),
        ({}, "[]", "it is damaged"),
    ],
)
def test_what_tensors_are_refused(tensors: dict[str, torch.Tensor], names: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, PAIR | tensors, {"format": "fractalops.systems.1", "names": names})
    with pytest.raises(InputError, match=reason):
        read_systems(path)


def test_a_checksum_is_checked_and_may_be_missing(tmp_path: Path) -> None:
    """Other programs also write this form, so its checksum is optional. That of learned results is required."""
    path = tmp_path / "a.safetensors"
    metadata = {"format": "fractalops.systems.1", "names": '["a"]'}
    save_file(PAIR, path, metadata)
    assert list(read_systems(path)) == ["a"]
    save_file(PAIR, path, metadata | {"sha256": "0"})
    with pytest.raises(InputError, match=r"it is damaged: its checksum is wrong$"):
        read_systems(path)
    save_file(PAIR, path, {"format": "fractalops.fit.1"})
    with pytest.raises(InputError, match=r"it is damaged: it has no checksum$"):
        read_systems(path)


def test_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, PAIR, {"format": "something.1"})
    with pytest.raises(InputError, match=r"must be fractalops.systems.1 or .*fractalops.fit.1.*, got something.1"):
        read_systems(path)
    with pytest.raises(InputError, match=r"unknown suffix '.txt', use one of .ifs, .flame, .csv, .npy, .npz, .json"):
        read_systems(write(tmp_path, "a.txt", "1"))
    with pytest.raises(InputError, match="no such file or directory"):
        read_systems(tmp_path / "b.ifs")


def test_what_was_learned_is_read(tmp_path: Path) -> None:
    config = FitConfig(maps=3, points=20, sequences=2, steps=1, color=True)
    result = fit(torch.eye(4, 8).expand(2, 3, 4, 8), config)
    result.save(tmp_path / "two.safetensors")
    systems = read_systems(tmp_path / "two.safetensors")
    assert list(systems) == ["0", "1"]
    for number, system in enumerate(systems.values()):
        expected = result.system.system(number)
        assert torch.equal(system.matrix, expected.matrix)
        assert torch.equal(system.offset, expected.offset)
        assert torch.equal(system.probabilities, expected.probabilities)
        assert system.color is not None
        assert expected.color is not None
        assert torch.equal(system.color, expected.color)
    result[1].save(tmp_path / "one.safetensors")
    assert list(read_systems(tmp_path / "one.safetensors")) == ["one"]
    cloud = fit_points(torch.rand(20, 3), PointConfig(maps=2, steps=1, points=8, length=4))
    cloud.save(tmp_path / "cloud.safetensors")
    assert torch.equal(read_systems(tmp_path / "cloud.safetensors")["cloud"].matrix, cloud.matrix)
