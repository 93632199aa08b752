"""Tests of `RunFolder`: which folders it accepts and resumes, which files it removes, and which are the user's."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from fractalops import InputError
from fractalops.io.files import LOCK, atomic_path, claimed
from fractalops.io.run_folder import RunFolder, differences

MANIFEST = {"format": "fractalops.run.1", "maps": 3}


def folder(path: Path) -> RunFolder:
    results = ("done.json", "parts/[0-9]*.safetensors")
    return RunFolder(path, results, manifest="run.json", others=("*.png",), locks=("parts/*.lock",))


def result(path: Path) -> RunFolder:
    return RunFolder(path, (), listed=("system.safetensors", "loss.csv"), manifest="run.json", resumes=False)


def test_a_run_begins_and_goes_on(tmp_path: Path) -> None:
    run = folder(tmp_path / "a" / "run")
    run.check(MANIFEST)
    assert not (tmp_path / "a").exists()
    run.begin(MANIFEST)
    run.begin(MANIFEST)
    assert run.read_manifest("fractalops.run.1") == MANIFEST
    with pytest.raises(InputError, match=r"^cannot resume in .*: maps was 3, is 4; use another folder, or "):
        run.begin(MANIFEST | {"maps": 4})
    run.begin(MANIFEST | {"maps": 4}, overwrite=True)
    assert run.read_manifest("fractalops.run.1")["maps"] == 4


def test_only_its_own_files_are_removed(tmp_path: Path) -> None:
    run = folder(tmp_path)
    run.begin(MANIFEST)
    (tmp_path / "parts").mkdir()
    results = {"done.json", "parts/00001.safetensors"}
    cut_short = {
        ".fractalops-abcd1234-done.json",
        ".fractalops-abcd1234-view.png",
        ".fractalops-abcd1234-run.json",
        "parts/.fractalops-abcd1234-1.safetensors",
        "parts/.fractalops-efgh_678-2.safetensors",
        "parts/1.lock",
        ".fractalops-rank-1-0123456789abcdef",
    }
    mine = {
        "mine.txt",
        ".mine.json",
        ".done.my-notes.json",
        ".fractalops-notes.json",
        "view.png",
        "parts/mine.safetensors",
        "parts/.1.mine2026.safetensors",
        "parts/.tmpAbC123",
    }
    for name in results | cut_short | mine:
        (tmp_path / name).touch()
    left = lambda: {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}  # noqa: E731
    run.begin(MANIFEST)
    assert left() == results | mine | {"run.json"}
    run.begin(MANIFEST, overwrite=True)
    assert left() == mine | {"run.json"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_of_which_a_part_is_being_made_is_not_begun_anew(overwrite: bool, tmp_path: Path) -> None:
    run = folder(tmp_path)
    run.begin(MANIFEST)
    (tmp_path / "parts").mkdir()
    with (
        claimed(tmp_path / "parts" / "1.lock"),
        pytest.raises(InputError, match=r"^cannot write to .*: another run is writing to it$"),
    ):
        run.begin(MANIFEST, overwrite=overwrite)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_others_is_refused(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    for run in (folder(tmp_path), result(tmp_path)):
        with pytest.raises(InputError, match=r"^cannot write to .*: it already contains files; use another folder$"):
            run.check(MANIFEST, overwrite=overwrite)
    (tmp_path / "run.json").write_text('{"scripts": {}}')
    with pytest.raises(
        InputError, match=r"^cannot write to .*: its run.json does not describe such a run; use another"
    ):
        folder(tmp_path).check(MANIFEST, overwrite=overwrite)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "fractalops.experiment.1"}'])
def test_a_manifest_that_proves_nothing_is_never_overwritten(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    (tmp_path / "done.json").write_text("mine")
    for run in (folder(tmp_path), result(tmp_path)):
        with pytest.raises(InputError, match=r"^cannot (read|write to) .*run.json.*; use another folder$"):
            run.begin(MANIFEST, overwrite=True)
    assert (tmp_path / "run.json").read_text() == text
    assert (tmp_path / "done.json").read_text() == "mine"


def test_a_manifest_of_an_earlier_version_is_overwritten_where_wanted(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": "fractalops.run.0"}')
    with pytest.raises(InputError, match=r"^cannot read .*run.json: .*; use another folder, or overwrite=True"):
        folder(tmp_path).check(MANIFEST)
    folder(tmp_path).begin(MANIFEST, overwrite=True)
    folder(tmp_path).begin(MANIFEST)


@pytest.mark.parametrize("name", [".holiday.original.png", ".tmpAbC123", ".view.abcd1234.png", ".run.mine2026.json"])
def test_hidden_files_of_a_folder_that_is_no_run_stay(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"it already contains files"):
        folder(tmp_path).begin(MANIFEST)
    assert (tmp_path / name).exists()


def test_another_python_goes_on_and_another_torch_does_not(tmp_path: Path) -> None:
    versions = {"python": "3.10", "torch": "2.11"}
    folder(tmp_path).begin(MANIFEST | {"versions": versions})
    folder(tmp_path).begin(MANIFEST | {"versions": versions | {"python": "3.11"}})
    with pytest.raises(InputError, match=r"^cannot resume in .*: versions.torch was "):
        folder(tmp_path).begin(MANIFEST | {"versions": versions | {"torch": "2.12"}})


def test_what_counts_as_no_file(tmp_path: Path) -> None:
    for name in (LOCK, ".fractalops-rank-1-0123456789abcdef", ".fractalops-abcd1234-run.json"):
        (tmp_path / name).touch()
    folder(tmp_path).begin(MANIFEST)
    assert {path.name for path in tmp_path.iterdir()} == {LOCK, "run.json"}


def test_a_run_in_one_go_wants_an_empty_folder_or_overwrites_what_its_manifest_names(tmp_path: Path) -> None:
    run = result(tmp_path)
    run.begin(MANIFEST | {"files": ["system.safetensors", "../other.csv", 3]})
    (tmp_path / "system.safetensors").touch()
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match=r"it already contains files; use another folder, or overwrite=True"):
        run.check(MANIFEST)
    run.check(MANIFEST, overwrite=True)
    assert run.results() == [tmp_path / "system.safetensors"]
    (tmp_path / "loss.csv").write_text("mine")
    with pytest.raises(
        InputError, match=r"^cannot write to .*: its loss.csv was not written by a run; use another folder$"
    ):
        run.begin(MANIFEST, overwrite=True)
    assert (tmp_path / "loss.csv").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_in_one_go_that_was_cut_short_blocks_no_other_and_owns_no_other_file(
    overwrite: bool, tmp_path: Path
) -> None:
    run = result(tmp_path)
    run.begin(MANIFEST | {"files": ["system.safetensors"]})
    (tmp_path / "notes.txt").touch()
    run.check(MANIFEST, overwrite=overwrite)
    (tmp_path / "loss.csv").write_text("mine")
    with pytest.raises(
        InputError, match=r"^cannot write to .*: its loss.csv was not written by a run; use another folder$"
    ):
        run.check(MANIFEST, overwrite=overwrite)


def test_a_report_without_its_files_is_overwritten_only_where_wanted(tmp_path: Path) -> None:
    run = result(tmp_path)
    run.begin(MANIFEST | {"files": ["system.safetensors"], "error": 0.5})
    with pytest.raises(InputError, match=r"it already contains files; use another folder, or overwrite=True"):
        run.check(MANIFEST)
    run.check(MANIFEST, overwrite=True)


def test_files_to_be_written_are_named_unless_somebody_has_put_one_there(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, (), listed=("loss.csv", "a.csv", "parts/*/*.png"), manifest="run.json")
    run.begin(MANIFEST)
    for name in ("parts/1/a.png", "parts/1/b.txt", "parts/2/a.txt", "a.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    for path in (tmp_path / "a.csv", tmp_path / "parts" / "1"):
        with pytest.raises(
            InputError, match=r"^cannot write to .*: its .* was not written by a run; use another folder$"
        ):
            run.claim_files([tmp_path / "loss.csv", path])
    assert run.read_manifest("fractalops.run.1") == MANIFEST
    run.claim_files([tmp_path / "loss.csv", tmp_path / "parts" / "2"])
    (tmp_path / "parts" / "2" / "a.png").touch()
    run.claim_files([tmp_path / "parts" / "2"])
    assert run.read_manifest("fractalops.run.1")["files"] == ["loss.csv", "parts/2"]
    assert run.results() == [tmp_path / "parts" / "2" / "a.png"]


@pytest.mark.parametrize("files", [{}, "system.safetensors", None])
def test_a_list_of_files_that_is_none_names_nothing(files: object, tmp_path: Path) -> None:
    result(tmp_path).begin(MANIFEST | {"files": files})
    (tmp_path / "system.safetensors").touch()
    assert result(tmp_path).results() == []


def test_what_the_manifest_does_not_name_is_kept_by_a_run_that_goes_on(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, ("done.json",), listed=("learned/*/*.safetensors",), manifest="run.json")
    run.begin(MANIFEST)
    for name in ("learned/a/1.safetensors", "learned/a/2.safetensors", "learned/a/mine.safetensors"):
        if not name.endswith("mine.safetensors"):
            run.add_files([tmp_path / name])
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    run.begin(MANIFEST)
    assert [path.name for path in run.results()] == ["1.safetensors", "2.safetensors"]
    assert run.read_manifest("fractalops.run.1") == MANIFEST | {
        "files": ["learned/a/1.safetensors", "learned/a/2.safetensors"]
    }
    run.begin(MANIFEST | {"maps": 4}, overwrite=True)
    assert [path.name for path in (tmp_path / "learned" / "a").iterdir()] == ["mine.safetensors"]
    assert run.results() == []


def test_on_a_full_disk_overwriting_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = folder(tmp_path)
    run.begin(MANIFEST)
    (tmp_path / "done.json").touch()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(Path, "write_text", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'run.json'}'$"):
        run.begin(MANIFEST | {"maps": 4}, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_run_of_which_nothing_came_leaves_no_folder(tmp_path: Path) -> None:
    run = folder(tmp_path / "run")
    with run.lock():
        run.begin(MANIFEST)
        run.abandon()
    assert not list(tmp_path.iterdir())
    run.begin(MANIFEST)
    (tmp_path / "run" / "view.png").touch()
    run.abandon()
    assert (tmp_path / "run" / "run.json").exists()


def test_what_differs_is_named() -> None:
    old = {"config": {"maps": 3, "seed": 0}, "versions": {"python": "3.10", "torch": "2.11"}, "more": 1}
    new = {"config": {"maps": 4, "seed": 0}, "versions": {"python": "3.11", "torch": "2.12"}}
    assert differences(old, new) == 'config.maps was 3, is 4; versions.torch was "2.11", is "2.12"'
    assert differences(old, {name: value for name, value in old.items() if name != "more"}) == ""


@pytest.mark.parametrize("name", ["a.txt", 240 * "a" + ".txt"])
def test_nested_writes_share_one_temporary_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with atomic_path(path) as outer, atomic_path(outer) as inner:
        assert inner == outer
        assert len(list(tmp_path.iterdir())) == 1
        inner.write_text("whole")
        assert not path.exists()
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert path.read_text() == "whole"
