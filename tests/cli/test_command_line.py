"""Tests of the command line and of small commands. Larger commands, such as `fit`, have separate files."""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from PIL import Image

from fractalops import backends
from fractalops.cli.options import Parser, in_options
from fractalops.fitting import FitConfig, fit
from fractalops.fitting.native_steps import describe_loop
from tests.support.command_line import ENVIRONMENT, draw, files, refusal, run
from tests.support.requirements import ROOT


def test_without_arguments_it_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("usage: fractalops")
    assert captured.err == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE")
@pytest.mark.parametrize("argv", ["-u -m fractalops info", "-m fractalops experiment", "-m fractalops --help"])
def test_a_closed_pipe_ends_silently(argv: str) -> None:
    """The reader of a pipe may exit early, as `head` does. Output may be unbuffered (`-u`) or buffered."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, *argv.split()]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 141 or argv.endswith("--help")  # argparse ignores a closed pipe


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE")
def test_a_closed_pipe_ends_a_run_over_a_data_set(tmp_path: Path) -> None:
    draw(tmp_path / "pictures" / "1.png")
    reader, writer = os.pipe()
    os.close(reader)
    argv = ["fit", tmp_path / "pictures", "-o", tmp_path / "out", "--steps", "1", "--device", "cpu"]
    command = [sys.executable, "-m", "fractalops", *map(str, argv)]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr


def test_arguments_are_translated_to_options() -> None:
    for text, expected in (
        ("use another folder, or overwrite=True to start over", "use another folder, or --overwrite to start over"),
        ("skip_bad=True leaves them out", "--skip-bad leaves them out"),
        ("no folder was given (data=None)", "no folder was given (--data)"),
        ("it needs background='white' and invert=True", "it needs --background white and --invert"),
        ("frame=N selects another one, stretch=True scales", "--frame N selects another one, --stretch scales"),
        ("maps=True", "maps=True"),
    ):
        assert in_options(text) == expected


def test_messages_of_the_library_name_arguments() -> None:
    """Messages of the library name arguments; only `fractalops.cli` translates them to options."""
    option = re.compile(r"--[a-z]")
    for path in (ROOT / "fractalops").rglob("*.py"):
        if path.is_relative_to(ROOT / "fractalops" / "cli") or path.name == "backends.py":  # names an option of pip
            continue
        texts = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        messages = [text for text in texts if isinstance(text, str) and "\n" not in text and option.search(text)]
        assert not messages, path


def test_help_and_version_leave_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ([], ["fit"], ["render"], ["view"], ["morph"], ["random"], ["info"]):
        assert run(*command, "--help") == 0
    assert run("--version") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("fractalops ")


def test_every_option_has_a_help_text(monkeypatch: pytest.MonkeyPatch) -> None:
    parsers: list[Parser] = []
    monkeypatch.setattr(Parser, "print_help", lambda self: parsers.append(self))
    assert run() == 0
    (parser,) = parsers
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    assert len(commands.choices) > 10
    for name, command in commands.choices.items():
        assert command.description, name
        assert name == "info" or (command.epilog or "").startswith(f"Example: fractalops {name} "), name
        for action in command._actions:
            assert len((action.help or "").split()) > 2, (name, action.dest)


def test_render_draws_a_saved_system(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    system = tmp_path / "system.safetensors"
    config = FitConfig(maps=3, points=20, sequences=2, steps=3)
    fit(torch.eye(4, 8), config).save(system)
    render = ["render", system, "--size", 40, "--points", 500]
    assert run(*render, "-o", tmp_path / "crisp.png") == 0
    with Image.open(tmp_path / "crisp.png") as picture:
        assert picture.size == (40, 20)
    assert run(*render, "-o", tmp_path / "again.png") == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "crisp.png").read_bytes()
    assert run(*render) == 0
    assert system.with_suffix(".png").exists()

    assert "--overwrite replaces it" in refusal(capsys, *render)
    assert run(*render, "--overwrite") == 0


@pytest.mark.parametrize("color", [False, True])
def test_render_draws_several_systems_as_a_sheet(color: bool, tmp_path: Path) -> None:
    config = FitConfig(maps=3, points=20, sequences=2, steps=0, color=color)
    shape = (3, 3, 4, 8) if color else (3, 4, 8)
    fit(torch.eye(4, 8).expand(shape), config).save(tmp_path / "systems.safetensors")
    assert run("render", tmp_path / "systems.safetensors", "--size", 16, "--points", 100) == 0
    with Image.open(tmp_path / "systems.png") as picture:
        assert picture.size == (2 * 20 + 4, 2 * 12 + 4)
        assert picture.mode == ("RGB" if color else "L")


def test_random_draws_a_contact_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sheet = ["random", "--systems", 5, "--size", 16, "--points", 200]
    assert run(*sheet) == 0
    with Image.open("random.png") as picture:
        assert picture.size == (3 * 20 + 4, 2 * 20 + 4)
    assert run(*sheet) == 2
    assert run(*sheet, "--seed", 1, "-o", "other.png") == 0
    assert Path("other.png").read_bytes() != Path("random.png").read_bytes()


@pytest.mark.parametrize("command", ["fit disc.png", "render system.safetensors", "random"])
def test_an_unknown_backend_is_one_line(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fractalops.backends.STATE.forced", "abacus")
    draw(tmp_path / "disc.png")
    assert "FRACTALOPS_BACKEND must be one of" in refusal(capsys, *command.split(), "-o", "out.png")
    assert files(tmp_path) == {"disc.png"}


@pytest.mark.parametrize(
    ("error", "size"),
    [
        (MemoryError(), ""),
        (MemoryError("Unable to allocate 7.45 GiB for an array with shape (1, 2)"), "7.45 GiB"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: ..."), ""),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), "8 bytes"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ..."), "20.00 GiB"),
    ],
)
def test_too_little_memory_is_one_line(
    error: Exception, size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail = Mock(side_effect=error)
    monkeypatch.setattr("fractalops.cli.random.draw_high_resolution", fail)
    line = refusal(capsys, "random", "-o", tmp_path / "sheet.png")
    ending = f": {size} could not be allocated" if size else ""
    assert line == f"there is not enough memory for these options{ending}"
    fail.side_effect = RuntimeError("a mistake in the program")
    with pytest.raises(RuntimeError, match="a mistake"):
        run("random", "-o", tmp_path / "sheet.png")


def test_info_prints_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info") == 0
    assert capsys.readouterr().out == f"{backends.report()}\n\n{describe_loop()}\n"


def test_python_dash_m_returns_the_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fractalops", "fit", "no.png"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fractalops fit: cannot read no.png: no such file or directory\n"
    assert not list(tmp_path.iterdir())
