"""Tests of the folder of `fit_dataset`: damaged and foreign files and other runs are refused with the reason."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

import fractalops
from fractalops import FitResult, FitRun, InputError, backends, experiments
from fractalops.experiments.pretrain import PretrainSettings
from fractalops.fitting.native_steps import LOOP_VERSION
from fractalops.fitting.run_folder import DatasetFolder
from fractalops.io.files import locked_folder
from fractalops.io.systems import read_systems
from tests.support.command_line import draw
from tests.support.learning import Interruption
from tests.support.runs import SYSTEM, Pictures, Stop, contents, interrupt, pictures, run, small

pytestmark = pytest.mark.usefixtures("one_thread")


def flip(path: Path) -> None:
    """Flip one bit near the end of a file, in the tensors."""
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


SPOIL: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "empty": (lambda path, other: path.write_bytes(b""), r"cannot read \S+: .*"),
    "cut": (lambda path, other: os.truncate(path, 1000), r"cannot read \S+: .*"),
    "text": (lambda path, other: path.write_text("no tensors\n" * 99), r"cannot read \S+: .*"),
    "a flipped bit": (lambda path, other: flip(path), r"cannot read \S+: it is damaged: its checksum is wrong"),
    "of another run": (
        lambda path, other: path.write_bytes(other.read_bytes()),
        r"cannot read \S+: it belongs to another run",
    ),
}


@pytest.mark.parametrize("spoil", SPOIL, ids=str)
@pytest.mark.parametrize("name", [SYSTEM, "checkpoints/00001.safetensors"])
def test_a_file_that_can_not_be_used_is_refused_with_the_reason_and_the_way_out(
    name: str, spoil: str, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path / "run", monkeypatch)
    interrupt(tmp_path / "other", monkeypatch, source=pictures(identity="others"))
    path = tmp_path / "run" / name
    change, reason = SPOIL[spoil]
    change(path, tmp_path / "other" / name)
    before = contents(tmp_path / "run")
    with monkeypatch.context() as patched:
        Interruption(0, Stop()).install(patched)  # nothing is learned
        with pytest.raises(InputError, match=rf"^{reason}; to learn its images again, delete it: rm {path}$") as caught:
            run(tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert contents(tmp_path / "run") == before
    path.unlink()
    run(tmp_path / "run")
    assert contents(tmp_path / "run") == whole


def test_a_changed_setting_in_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(tmp_path, monkeypatch)
    path = tmp_path / SYSTEM
    before = path.read_bytes()
    path.write_bytes(before.replace(rb"seed\": 0", rb"seed\": 1"))
    assert path.read_bytes() != before
    with pytest.raises(InputError, match=rf"^cannot read {path}: it is damaged: its checksum is wrong; to learn "):
        run(tmp_path)


def test_a_batch_in_the_place_of_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(tmp_path / "run", monkeypatch, step=23)
    folder = DatasetFolder(tmp_path / "run")
    folder.shard(0).write_bytes(folder.shard(1).read_bytes())
    with pytest.raises(InputError, match=r"00000.safetensors: it belongs to another batch; "):
        run(tmp_path / "run")


READERS: dict[str, Callable[[Path], object]] = {
    "an image": lambda folder: FitRun.load(folder)[0],
    "the results": lambda folder: list(FitRun.load(folder).results()),
    "the systems": lambda folder: FitRun.load(folder).system(),
    "the file": lambda folder: FitResult.load(folder / SYSTEM),
    "the file's systems": lambda folder: read_systems(folder / SYSTEM),
    "pictures of them": lambda folder: experiments.run(
        "pretrain", folder / "pictures", PretrainSettings(systems=str(folder), instances=1, size=8)
    ),
}


@pytest.mark.parametrize("reader", READERS, ids=str)
def test_a_flipped_bit_in_a_finished_run_is_noticed_wherever_it_is_read(reader: str, tmp_path: Path) -> None:
    run(tmp_path)
    flip(tmp_path / SYSTEM)
    with pytest.raises(InputError, match=rf"^cannot read {tmp_path / SYSTEM}: it is damaged: its checksum is wrong"):
        READERS[reader](tmp_path)


def test_a_file_of_another_run_is_noticed_when_a_finished_run_is_read(tmp_path: Path) -> None:
    run(tmp_path / "run")
    run(tmp_path / "other", config=small(seed=3))
    shutil.copy(tmp_path / "other" / SYSTEM, tmp_path / "run" / SYSTEM)
    with pytest.raises(InputError, match=r"00000.safetensors: it belongs to another run; "):
        _ = FitRun.load(tmp_path / "run")[0]


@pytest.mark.parametrize("text", ['{"a":' * 100_000, "[" * 100_000, '{"format": "fractalops.run.1"}'])
def test_a_damaged_manifest_of_a_finished_run_is_one_line(text: str, tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"^cannot read .*: .+$") as caught:
        _ = FitRun.load(tmp_path)[0]
    assert "\n" not in str(caught.value)


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "a setting": ({"config": small(maps=4)}, r"config.maps was 3, is 4"),
    "two settings": ({"config": small(maps=4, seed=1)}, r"config.maps was 3, is 4; config.seed was 0, is 1"),
    "the batch": ({"config": small(batch_size=3)}, r"config.batch_size was 2, is 3"),
    "the source": ({"source": pictures(identity="others")}, r'targets was "pictures", is "others"'),
    "the number": ({"source": pictures(6)}, r'images was 5, is 6; pictures was "\w+", is "\w+"'),
    "the pictures": ({"source": Pictures([torch.ones(8, 8)] * 5)}, r'pictures was "\w+", is "\w+"'),
    "the loop": ({"loop": 99}, rf"loop was {LOOP_VERSION}, is 99"),
    "the kernels": ({"instruction_set": "neon"}, r'instruction_set was "\w+", is "neon"'),
    "the backend": ({"backend": "reference"}, r'backends.affine_chain was "native", is "reference"; .*'),
}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_another_run_is_refused_and_what_differs_is_named(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path / "run", monkeypatch)
    before = contents(tmp_path / "run")
    options, difference = CHANGES[change]
    backend = options.get("backend")
    if "loop" in options:
        monkeypatch.setattr("fractalops.fitting.run_folder.LOOP_VERSION", options["loop"])
    if "instruction_set" in options:
        monkeypatch.setattr(backends.STATE, "instruction_set", options["instruction_set"])
    options = {name: option for name, option in options.items() if name in ("config", "source")}
    advice = r"use another folder, or overwrite=True to start over"
    refusal = rf"^cannot resume in {tmp_path / 'run'}: {difference}; {advice}$"
    with fractalops.use_backend(backend), pytest.raises(InputError, match=refusal):
        run(tmp_path / "run", **options)
    assert contents(tmp_path / "run") == before


def test_another_version_of_python_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(tmp_path / "run", monkeypatch)
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    record["versions"]["python"] = "0.0.1"
    path.write_text(json.dumps(record))
    run(tmp_path / "run")


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match=rf"^cannot write to {tmp_path}: it already contains files; use another"):
        run(tmp_path)
    with pytest.raises(InputError, match=r"mine.txt: it is not a folder$"):
        run(tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("place", ["", "run", "cats/run"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_within_that_of_the_images_is_refused(place: str, overwrite: bool, tmp_path: Path) -> None:
    draw(tmp_path / "pictures" / "cats" / "1.png")
    (tmp_path / "link").symlink_to(tmp_path / "pictures", target_is_directory=True)
    output = tmp_path / "link" / place
    with pytest.raises(InputError, match=rf"^cannot write to {output}: it is in the folder of the images$"):
        run(output, tmp_path / "pictures", overwrite=overwrite)
    assert [path.name for path in (tmp_path / "pictures").rglob("*")] == ["cats", "1.png"]
    run(tmp_path / "pictures-run", tmp_path / "pictures")  # beside it, with a name that has the same beginning


def test_overwriting_starts_anew_and_keeps_other_files(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path, monkeypatch, source=pictures(9, bad=[1]), config=small(seed=7), skip_bad=True)
    mine = {"systems/mine.txt": b"kept", "systems/00009.safetensors": b"kept"}  # the run has 9 images
    for name, content in mine.items():
        (tmp_path / name).write_bytes(content)
    run(tmp_path, overwrite=True)
    assert contents(tmp_path) == whole | mine


def test_two_runs_at_once_in_a_folder_are_refused(tmp_path: Path) -> None:
    with (
        locked_folder(tmp_path / "run"),
        pytest.raises(InputError, match=rf"^cannot write to {tmp_path / 'run'}: another run is writing to it$"),
    ):
        run(tmp_path / "run")
    run(tmp_path / "run")


def test_reports_of_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example is a table that a user has created from index.csv."""
    mine = tmp_path / "index.parquet"
    interrupt(tmp_path, monkeypatch)
    mine.write_bytes(b"mine")
    for overwrite in (False, False, True):
        assert run(tmp_path, overwrite=overwrite).table.name == "index.csv"
        assert FitRun.load(tmp_path).table.name == "index.csv"
        assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["index.csv", "contact.png", "bad.csv"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_report_of_others_is_refused_before_anything_is_learned(
    overwrite: bool, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pictures(bad=[1])
    monkeypatch.setattr(DatasetFolder, "claim_files", Mock(side_effect=Stop()))
    with pytest.raises(Stop):
        run(tmp_path, source, skip_bad=True)
    monkeypatch.undo()
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(
        InputError, match=f"^cannot write to .*: its {name} was not written by a run; use another folder$"
    ):
        run(tmp_path, source, skip_bad=True, overwrite=overwrite)
    assert (tmp_path / name).read_bytes() == b"mine"
    assert not list(tmp_path.glob("systems/*"))


def test_a_run_of_an_earlier_version_whose_manifest_names_no_table_is_loaded(tmp_path: Path) -> None:
    expected = run(tmp_path).rows
    manifest = json.loads((tmp_path / "run.json").read_text())
    del manifest["files"]
    (tmp_path / "run.json").write_text(json.dumps(manifest))
    assert FitRun.load(tmp_path).rows == expected
    assert len(FitRun.load(tmp_path)[0].losses)
