"""Tests that files are closed, and that results that take time to compute are synced before they get their name."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from fractalops.data.targets import open_targets
from fractalops.errors import InputError
from fractalops.fitting.run_table import TableRow, write_rows
from fractalops.io import read_systems
from fractalops.io.files import atomic_path, write_json, write_table
from fractalops.io.images import save_image
from fractalops.io.point_clouds import read_point_cloud
from fractalops.io.tensor_files import write_tensors
from tests.support.command_line import QUICK, draw, run

ROW = TableRow(0, "a.png", "", "systems/00000.safetensors", 0, 0.5, 0.5, 3, 0.1)


@pytest.fixture
def happened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Return a log of events in order: ("fsync", the synced file's name) and ("rename", the new name)."""
    log = []

    def fsync(descriptor: int) -> None:
        log.append(("fsync", Path(f"/proc/self/fd/{descriptor}").resolve().name))

    def replace(old: Path, new: Path) -> None:
        log.append(("rename", Path(new).name))
        os.rename(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return log


def parquet(path: Path) -> None:
    pytest.importorskip("pyarrow")
    write_rows(path, [ROW])


LASTING: dict[str, Callable[[Path], None]] = {
    "a.safetensors": lambda path: write_tensors(path, {"a": torch.ones(2)}, {"format": "a"}),
    "a.json": lambda path: write_json(path, {"a": 1}),
    "a.csv": lambda path: write_table(path, ["a"], [[1]]),
    "index.csv": lambda path: write_rows(path, [ROW]),
    "index.parquet": parquet,
}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells which file a descriptor is")
@pytest.mark.parametrize("name", LASTING)
def test_a_file_is_on_the_disk_before_its_name_and_then_the_name(
    name: str, tmp_path: Path, happened: list[tuple[str, str]]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    LASTING[name](folder / name)
    (first, temporary), *then = happened
    assert first == "fsync"
    assert temporary.startswith(".fractalops-")
    assert temporary.endswith(f"-{name}")
    assert then == [("rename", name), ("fsync", "folder")]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells which file a descriptor is")
def test_what_fit_has_learned_is_on_the_disk_and_pictures_cost_no_time(
    tmp_path: Path, happened: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fractalops.cli.fit_pictures._DRAWING_SIDE", 64)
    picture = draw(tmp_path / "disc.png")
    assert run("fit", picture, "-o", tmp_path, "--quiet", "--no-animation", *QUICK) == 0
    moved = [name for what, name in happened if what == "rename"]
    written = {name.split("-", 2)[2] for what, name in happened if what == "fsync" and name.startswith(".")}
    assert "fractal.png" in moved
    assert written == {"system.safetensors", "fit.json", "loss.csv"}


def test_a_disk_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    before = (tmp_path / "a.json").read_bytes()

    def fail(descriptor: int) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_json(tmp_path / "a.json", {"a": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == before
    save_image(torch.ones(2, 2), tmp_path / "a.png")  # pictures are not synced
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("a")
    assert (tmp_path / "a.txt").read_text() == "a"


@pytest.mark.parametrize("read", [open_targets, read_point_cloud, read_systems], ids=lambda read: read.__name__)
def test_a_damaged_archive_is_closed(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    numpy.savez(path, numpy.ones((2, 2, 3)))
    path.write_bytes(path.read_bytes()[:-30])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with suppress(InputError):
            read(path)
    assert [warning for warning in warned if str(path) in str(warning.message)] == []
