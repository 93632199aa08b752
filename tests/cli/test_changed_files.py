"""Tests that commands change no file except their output."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_runs import KINDS, run_command, write_inputs


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_command_changes_nothing_but_its_output(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    write_inputs(tmp_path)
    (tmp_path / "out").mkdir()
    for options in ([], [] if kind.goes_on else ["--overwrite"]):
        ending = run_command(kind, tmp_path, tmp_path / "out" / kind.output, *options, report=True)
        assert (ending.code, ending.error) == (0, "")
