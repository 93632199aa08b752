"""Tests of files of tensors: equal contents give equal bytes, and a checksum detects every change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fractalops import InputError
from fractalops.io.tensor_files import checksum, read_form, read_sealed, read_tensors, write_tensors
from tests.support.tolerances import assert_same_bits


def content() -> tuple[dict[str, Tensor], dict[str, str]]:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "losses": torch.rand(5, 3, generator=generator),
        "generators": generator.get_state()[None],  # (1, bytes)
        "a step": torch.tensor(3.0),
        "nothing": torch.zeros(0, 4),
        "turned": torch.rand(4, 2, generator=generator).T,  # not contiguous
    }
    metadata = {name: f'"{name}" \n\t\x1f\\ é 字 {name * 3}' for name in ("one", "two", "three", "four", "é")}
    return tensors, {"format": "test.1"} | metadata


def test_the_same_content_is_the_same_bytes_and_comes_back(tmp_path: Path) -> None:
    tensors, metadata = content()
    files = []
    for number in range(20):
        write_tensors(tmp_path / str(number), tensors, dict(sorted(metadata.items(), reverse=number % 2 == 1)))
        files.append((tmp_path / str(number)).read_bytes())
    assert len(set(files)) == 1
    read, found = read_tensors(tmp_path / "0", "test.1")
    assert found == metadata
    assert set(read) == set(tensors)
    for name, tensor in read.items():
        assert_same_bits(tensor, tensors[name])


def test_every_changed_byte_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "file"
    tensors = {"losses": torch.rand(3), "half": torch.ones(2, dtype=torch.bfloat16), "on": torch.tensor(True)}
    write_tensors(path, tensors, {"format": "test.1", "config": '{"é": 1}'})
    whole = path.read_bytes()
    read_tensors(path, "test.1")
    for place, byte in enumerate(whole):
        path.write_bytes(whole[:place] + bytes([byte ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(InputError, match=rf"^cannot read {path}: .+$"):
            read_tensors(path, "test.1")


def test_what_makes_a_file_one_of_a_run(tmp_path: Path) -> None:
    tensors, metadata = content()
    path = tmp_path / "file"
    write_tensors(path, tensors, metadata | {"run": "a"})
    assert read_sealed(path, "test.1", {"run": "a"})[1] == metadata | {"run": "a"}
    with pytest.raises(InputError, match=rf"^cannot read {path}: it belongs to another run$"):
        read_sealed(path, "test.1", {"run": "b"})


def test_only_a_form_that_others_write_may_have_no_checksum(tmp_path: Path) -> None:
    path = tmp_path / "file"
    save_file({"a": torch.zeros(3)}, path, {"format": "test.1"})
    with pytest.raises(InputError, match=rf"^cannot read {path}: it is damaged: it has no checksum$"):
        read_tensors(path, "test.1", "test.2", exchanged=["test.2"])
    assert read_tensors(path, "test.1", exchanged=["test.1"])[1] == {"format": "test.1"}
    save_file({"a": torch.zeros(3)}, path, {"format": "test.1", "sha256": "0"})
    with pytest.raises(InputError, match=rf"^cannot read {path}: it is damaged: its checksum is wrong$"):
        read_tensors(path, "test.1", exchanged=["test.1"])


def test_the_checksum_sees_every_change() -> None:
    tensors, _ = content()
    changed = [
        tensors,
        tensors | {"a step": torch.tensor(3.0000002)},
        tensors | {"a step": torch.tensor([3.0])},
        tensors | {"a step": torch.tensor(3.0).view(torch.int32)},
        tensors | {"nothing": torch.zeros(4, 0)},
        tensors | {"more": torch.zeros(0)},
        {name: tensor for name, tensor in tensors.items() if name != "nothing"},
        {name.upper(): tensor for name, tensor in tensors.items()},
    ]
    assert len({checksum(each) for each in changed}) == len(changed)
    assert checksum(dict(reversed(tensors.items()))) == checksum(tensors)


def test_the_form_is_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.zeros(3)}, {"format": "x.1"})
    assert read_form(path) == "x.1"
    with path.open("r+b") as file:  # within the only tensor, which is not read
        file.seek(-1, 2)
        file.write(b"\xff")
    assert read_form(path) == "x.1"
    save_file({"a": torch.zeros(3)}, path)
    assert read_form(path) is None
    path.write_bytes(b"no header")
    with pytest.raises(InputError, match="cannot read"):
        read_form(path)
