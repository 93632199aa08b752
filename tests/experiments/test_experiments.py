"""Tests of the parts that all experiments share: tables, labeled sheets, run folders and scalars."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from fractalops import InputError, experiments
from fractalops.drawing.sheets import contact_sheet, enlarge, labeled_rows
from fractalops.experiments.outcome import Outcome, reaches
from fractalops.io.files import locked_folder
from tests.support.command_line import run
from tests.support.experiment_data import SETTINGS, open_folder


def test_a_table_has_columns_and_empty_cells() -> None:
    outcome = Outcome([{"name": "a", "error": 0.012345}, {"name": "long", "error": math.nan}])
    assert outcome.table().splitlines() == [
        "| name | error   |",
        "| ---- | ------- |",
        "| a    | 0.01235 |",
        "| long |         |",
    ]


def test_rows_stand_beside_their_names() -> None:
    rows = [
        ("one", torch.full((3, 8, 8), 0.5)),
        ("a longer name", torch.ones(2, 8, 8)),
        ("three", torch.zeros(5, 8, 8)),
    ]
    picture = labeled_rows(rows)
    sheet = contact_sheet(enlarge(torch.cat([row[:2] for _, row in rows]), 8), columns=2)  # the shortest row has 2
    names = picture[:, : -sheet.shape[1]]
    assert torch.equal(picture[:, -sheet.shape[1] :], sheet)
    for row in range(3):  # each name is within its row
        part = names[4 + 68 * row : 68 * (row + 1)]
        assert 0 < int((part > 0.5).sum()) < part.numel() / 4
    written = [int((names[68 * row : 68 * (row + 1)] > 0).any(dim=0).sum()) for row in range(3)]
    assert max(written) == written[1]


def test_scalars_and_state_are_read_back(tmp_path: Path) -> None:
    output = open_folder(tmp_path / "run")
    output.log(1, loss=0.5)
    output.save_state({"weight": torch.ones(3)}, {"step": 1})
    other = open_folder(tmp_path / "run")
    state = other.load_state()
    assert state is not None
    assert torch.equal(state[0]["weight"], torch.ones(3))
    assert state[1] == {"step": 1}
    other.log(2, loss=0.25)
    other.write_scalars()
    assert (tmp_path / "run" / "metrics.csv").read_text() == "step,name,value\n1,loss,0.5\n2,loss,0.25\n"
    (tmp_path / "run" / "state.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"^cannot read .*state.safetensors: "):
        other.load_state()


def test_what_a_kill_left_of_a_write_goes(tmp_path: Path) -> None:
    left = [tmp_path / ".fractalops-abcd1234-config.json"]
    left[0].write_text("half")
    open_folder(tmp_path)
    folders = {"": "reconstructions.png", "shards": "00001.tar", "learned/mnist": "best.safetensors"}
    left += [tmp_path / folder / f".fractalops-abcd1234-{name}" for folder, name in folders.items()]
    for path in left[1:]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    mine = [tmp_path / name for name in (".notes", ".mine.png", ".tmpAbC123", "learned/mnist/best.safetensors")]
    for path in mine:
        path.write_bytes(b"mine")
    (tmp_path / ".tmp").mkdir()
    open_folder(tmp_path)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in mine)


def test_overwriting_removes_what_the_run_has_written_and_nothing_else(tmp_path: Path) -> None:
    output = open_folder(tmp_path)
    own = output.learned("mnist", "best")
    own.write_bytes(b"own")
    output.log(1, loss=0.5)  # also in TensorBoard, if it is installed
    events = set(tmp_path.glob("tensorboard/*"))
    mine = [tmp_path / "learned/mnist/mine.safetensors", tmp_path / "tensorboard/events.mine"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    assert open_folder(tmp_path).learned("mnist", "mine") == mine[0]  # reading it raises an error
    open_folder(tmp_path, dataclasses.replace(SETTINGS, seed=1), overwrite=True)
    assert not any(path.exists() for path in (own, *events))
    assert [path.read_bytes() for path in mine] == [b"mine", b"mine"]


def test_tensorboard_reads_the_scalars_and_a_full_disk_is_an_error_that_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    output = open_folder(tmp_path)
    output.log(1, loss=0.5)
    output.log(2, loss=0.25, error=1.0)
    (path,) = tmp_path.glob("tensorboard/*")
    found = reader.EventAccumulator(str(path.parent)).Reload()
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    assert [(event.step, event.value) for event in found.Scalars("error")] == [(2, 1.0)]
    monkeypatch.setattr(Path, "open", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=f"No space left on device: '{path}'$"):
        output.log(3, loss=0.125)


def test_another_run_is_kept_out_or_overwrites_where_wanted(tmp_path: Path) -> None:
    """See also tests/io/test_run_folder.py and test_locks.py."""
    with locked_folder(tmp_path), pytest.raises(InputError, match=r"^cannot write to .*: another run is "):
        experiments.run("reconstruct", tmp_path, SETTINGS)
    open_folder(tmp_path)
    other = dataclasses.replace(SETTINGS, seed=1)
    with pytest.raises(InputError, match=r"^cannot resume in .*: settings.seed was 0, is 1; "):
        open_folder(tmp_path, other)
    open_folder(tmp_path, other, overwrite=True)
    (tmp_path / "config.json").write_text('{"format": "mine"}')
    with pytest.raises(InputError, match=r"its config.json does not describe such a run; use another folder$"):
        open_folder(tmp_path, overwrite=True)


def test_numbers_that_are_not_finite_are_null_and_read_back(tmp_path: Path) -> None:
    output = open_folder(tmp_path / "run")
    outcome = Outcome([{"name": "a", "error": math.nan, "rate": math.inf}], [reaches("", math.nan)], ["note"])
    output.finish(outcome)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(), parse_constant=refuse)
    assert metrics["rows"] == [{"name": "a", "error": None, "rate": None}]
    again = output.finished()
    assert again is not None
    assert math.isnan(float(again.rows[0]["error"]))
    assert (again.findings, again.notes) == (outcome.findings, outcome.notes)


def test_what_could_not_begin_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^cannot read mnist: "):
        experiments.run("reconstruct", tmp_path / "run", dataclasses.replace(SETTINGS, data=("mnist",)))
    assert not (tmp_path / "run").exists()


def test_without_a_name_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("experiment") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(experiments.EXPERIMENTS)


def test_presets_are_of_their_type() -> None:
    for experiment in experiments.EXPERIMENTS.values():
        assert set(experiment.PRESETS) == {"small", "paper"}
