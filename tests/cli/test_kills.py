"""Tests of commands that are killed at random times: no file is broken, and the same command works again."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from fractalops.io.files import TEMPORARY
from tests.support.command_runs import KINDS, check_whole, comparable, rerun_options, run_command, write_inputs, written


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_command_that_is_killed_leaves_nothing_broken(name: str, tmp_path: Path) -> None:
    kind, moments = KINDS[name], Random(name)
    write_inputs(tmp_path)
    whole, output = tmp_path / "whole" / kind.output, tmp_path / "killed" / kind.output
    for folder in (whole.parent, output.parent):
        folder.mkdir()
    assert run_command(kind, tmp_path, whole).code == 0  # warm-up
    shutil.rmtree(whole) if whole.is_dir() else whole.unlink()
    ending = run_command(kind, tmp_path, whole)
    assert (ending.code, ending.error) == (0, "")
    for _ in range(4):
        run_command(kind, tmp_path, output, *rerun_options(output, kind), kill_after=moments.uniform(0, ending.seconds))
        for path in written(output).values():
            check_whole(path)
    again = run_command(kind, tmp_path, output, *rerun_options(output, kind))
    assert (again.code, again.error) == (0, "")
    assert comparable(output) == comparable(whole)
    if output.is_dir() and kind.arguments[0] != "convert":  # convert writes to folders of the user
        assert not list(output.rglob(f"{TEMPORARY}*"))
