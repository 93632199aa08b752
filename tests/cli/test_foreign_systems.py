"""Tests of `render`, `view`, `morph` and `convert` on systems that `fractalops` did not learn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from fractalops import FitConfig, fit
from fractalops.drawing.high_resolution import Picture
from fractalops.io import read_systems, write_systems
from fractalops.io.notices import collect_notices
from fractalops.systems import System
from tests.drawing.test_page import parameters_of
from tests.support.command_line import refusal, run
from tests.support.system_files import CSV, FLAME, IFS, JSON, assert_equal, random_system, write

SMALL = ["--size", 48, "--points", 3000]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write(folder, "a.ifs", IFS + "bad {\n 1 2 3\n}\n")
    write(folder, "good.ifs", IFS)
    write(folder, "two.flame", FLAME)
    write(folder, "pair.json", JSON)
    for name in ("b/1.csv", "a.csv"):
        write(folder / "classes", name, CSV)
    write_systems(folder / "gray.npz", random_system(3, channels=1))
    write_systems(folder / "odd.npz", random_system(3, channels=2))
    half = torch.eye(2)[None] / 2
    write_systems(folder / "away.json", System(4 * half.expand(2, 2, 2), torch.eye(2), torch.ones(2)))
    write_systems(
        folder / "large.json", System(half.double(), torch.full((1, 2), 1e200, dtype=torch.float64), torch.ones(1))
    )
    write_systems(folder / "escape.json", random_system(2, name="\x1b[31mred"))
    write_systems(folder / "point.json", System(half, torch.ones(1, 2), torch.ones(1)))
    matrix = half.double().expand(2, 2, 2)
    huge = torch.tensor([1e308, 1e308], dtype=torch.float64)
    write_systems(folder / "huge.json", System(matrix, torch.eye(2).double(), huge))
    write_systems(folder / "half.safetensors", random_system(3, dtype=torch.bfloat16, channels=3))
    config = FitConfig(maps=3, points=20, sequences=2, steps=1, color=True)
    fit(torch.eye(8).expand(2, 3, 8, 8), config).save(folder / "learned.safetensors")
    return folder


@pytest.mark.parametrize(
    ("command", "mode", "size"),
    [
        ("a.ifs --system fern", "L", (48, 48)),
        ("a.ifs --system 2", "L", (48, 48)),  # a 3-D system
        ("a.ifs --system 2 --palette fire --gamma 0.7", "RGB", (48, 48)),
        ("a.ifs --system fern --transparent --palette ice", "RGBA", (48, 48)),
        ("a.ifs --system fern --zoom 0.5,0.5,1.5", "L", (48, 48)),
        ("good.ifs", "L", (2 * 48 + 12, 2 * 48 + 12)),
        ("two.flame", "RGB", (2 * 48 + 12, 48 + 8)),  # one system with colors and one without
        ("two.flame --transparent", "RGBA", (2 * 48 + 12, 48 + 8)),
        ("gray.npz", "L", (48, 48)),
        ("classes", "L", (2 * 48 + 12, 48 + 8)),
        ("classes --system b/1", "L", (48, 48)),
        ("pair.json", "RGB", (48, 48)),
        ("learned.safetensors --system 1", "RGB", (48, 48)),
        ("point.json", "L", (48, 48)),
        ("huge.json --stats", "L", (48, 48)),
        ("half.safetensors --stats", "RGB", (48, 48)),
    ],
)
def test_pictures(
    command: str, mode: str, size: tuple[int, int], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert run("render", *command.split(), *SMALL, "-o", tmp_path / "a.png") == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == mode
        assert picture.size == size
        brightness = picture.convert("L").getextrema()
        assert isinstance(brightness, tuple)
        assert brightness[1] > 80  # type: ignore[operator]


def test_a_page(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    assert run("view", folder / "two.flame", "--system", "a fern", "-o", page) == 0
    parameters = parameters_of(page.read_text(encoding="utf-8"))
    system = read_systems(folder / "two.flame")["a fern"]
    assert parameters["matrix"] == system.matrix.tolist()
    assert parameters["color"] == system.color.tolist()  # type: ignore[union-attr]
    assert parameters["blend"] == "mean"
    assert sum(parameters["probabilities"]) == pytest.approx(1)
    x_min, y_min, x_max, y_max = parameters["viewport"]
    assert x_max - x_min == pytest.approx(y_max - y_min)
    fixed = torch.linalg.solve(torch.eye(2).double() - system.matrix, system.offset)  # (N, 2)
    assert ((fixed > torch.tensor([x_min, y_min])) & (fixed < torch.tensor([x_max, y_max]))).all()


def test_small_pictures_on_a_sheet_take_fewer_points(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def bands(system: System, picture: Picture, *_: object) -> Iterator[torch.Tensor]:
        drawn.append(picture.points)
        yield torch.zeros(1, *picture.size)

    monkeypatch.setattr("fractalops.cli.render.draw_rows", bands)
    for options, points in (
        (["--size", 10], 2 * [1600]),
        (["--size", 300], 2 * [1_000_000]),
        (["--size", 10, "--points", 7], 2 * [7]),
        (["--size", 10, "--system", "a"], [1_000_000]),
    ):
        assert run("render", folder / "classes", *options, "-o", tmp_path / "a.png", "--overwrite") == 0
        assert drawn == points
        drawn.clear()


def test_colors_in_space_are_left_out_with_a_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    system = random_system(3, dimensions=3, channels=3)
    write_systems(tmp_path / "a.npz", replace(system, offset=1e45 * system.offset))
    with collect_notices() as notices:
        assert run("render", tmp_path / "a.npz", *SMALL) == 0
    assert notices == {str(tmp_path / "a.npz"): ["3-D systems are drawn in gray, without their colors"]}
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "L"
        assert picture.getextrema()[1] > 80  # type: ignore[operator]
    assert refusal(capsys, "render", tmp_path / "a.npz", "--size", 8193, "--overwrite") == (
        "a picture of a system in space must have at most 8192 pixels per side, got 8193"
    )


def test_probabilities_whose_sum_overflows(folder: Path, tmp_path: Path) -> None:
    assert run("view", folder / "huge.json", "-o", tmp_path / "a.html") == 0
    assert parameters_of((tmp_path / "a.html").read_text(encoding="utf-8"))["probabilities"] == [0.5, 0.5]
    arguments = ["--frames", 2, "-o", tmp_path / "a.gif"]
    assert run("morph", folder / "huge.json", folder / "huge.json", *SMALL, *arguments) == 0
    for name in ("a.ifs", "a.flame"):
        assert run("convert", folder / "huge.json", tmp_path / name) == 0
    assert read_systems(tmp_path / "a.ifs")["huge"].probabilities.tolist() == [0.5, 0.5]
    assert read_systems(tmp_path / "a.flame")["huge"].probabilities.tolist() == [1e308, 1e308]


@pytest.mark.parametrize("kind", ["zoom", "build", "orbit"])
def test_animations(kind: str, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.gif"
    arguments = ["--system", "fern", "--animate", kind, "--frames", 3]
    assert run("render", folder / "a.ifs", *SMALL, *arguments, "-o", output) == 0
    with Image.open(output) as animation:
        assert animation.size == (48, 48)


def test_a_morph_of_two_systems_of_a_file(folder: Path, tmp_path: Path) -> None:
    path = folder / "a.ifs"
    arguments = ["--first", "fern", "--last", "Halves", "--frames", 3, "-o", tmp_path / "a.gif"]
    assert run("morph", path, path, *SMALL, *arguments) == 0
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.size == (48, 48)


@pytest.mark.parametrize("target", ["b.ifs", "b.flame", "b.csv", "b.npz", "b.json", "b.safetensors", "b"])
def test_conversions(target: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / target
    assert run("convert", folder / "a.ifs", output, "--system", "fern") == 0
    assert capsys.readouterr().out == f"1 system: {output}\n"
    (system,) = read_systems(output).values()
    assert_equal(system, read_systems(folder / "good.ifs")["fern"])
    line = refusal(capsys, "convert", folder / "a.ifs", output, "--system", "fern")
    assert line.startswith(f"cannot write {output}: it ")
    assert "--overwrite" in line
    assert run("convert", folder / "a.ifs", output, "--system", "fern", "--overwrite") == 0


def test_a_learned_system_becomes_a_flame(folder: Path, tmp_path: Path) -> None:
    assert run("convert", folder / "learned.safetensors", tmp_path / "a.flame") == 0
    assert list(read_systems(tmp_path / "a.flame")) == ["0", "1"]


REFUSALS = {
    "render a.ifs": "cannot read a.ifs: line 18: a row must have 7 numbers (a b c d e f p), got 3 "
    "(--system can select another system of the file)",
    "render good.ifs --system leaf": "cannot use good.ifs: the name of a system must be one of 'fern', 'Halves', "
    "'stem', got 'leaf'",
    "render good.ifs --system 3": "cannot use good.ifs: the name of a system must be one of 'fern', 'Halves', "
    "'stem', got '3'",
    "render good.ifs --zoom 0.5,0.5,2": "--zoom is only for 2-D systems, but good.ifs has a 3-D system",
    "render good.ifs --transparent": "--transparent is only for 2-D systems, but good.ifs has a 3-D system",
    "render good.ifs --animate orbit": "cannot use good.ifs: an animation needs exactly one system, got 3; "
    "select one with --system",
    "render good.ifs --system stem --animate orbit": "cannot use good.ifs: an animation needs a 2-D system, "
    "but 'stem' is 3-D",
    "render two.flame --palette fire": "--palette is only for gray systems, but this system has colors; "
    "leave out --palette",
    "render odd.npz": "cannot draw 'odd' of odd.npz: it must have 1 or 3 color channels, got 2",
    "render away.json": "cannot draw 'away' of away.json: its points diverge, as its maps do not contract on average",
    "render large.json": "cannot draw 'large' of large.json: its numbers must be at most 1e+100, got 1e+200",
    "render nothing.ifs": "cannot read nothing.ifs: no such file or directory",
    "render nothing.txt": "cannot read nothing.txt: unknown suffix '.txt', use one of .ifs, .flame, .csv, .npy, .npz, "
    ".json, .safetensors",
    "morph a.ifs good.ifs": "cannot read a.ifs: line 18: a row must have 7 numbers (a b c d e f p), got 3 "
    "(--first can select another system of the file)",
    "render a.ifs --system bad": "cannot read a.ifs: line 18: a row must have 7 numbers (a b c d e f p), got 3",
    "render escape.json --system leaf": "cannot use escape.json: the name of a system must be one of '\\x1b[31mred', "
    "got 'leaf'",
    "view good.ifs": "cannot use good.ifs: a page needs exactly one system, got 3; select one with --system",
    "view good.ifs --system stem": "cannot use good.ifs: a page needs a 2-D system, but 'stem' is 3-D",
    "view away.json": "cannot draw 'away' of away.json: its points diverge, as its maps do not contract on average",
    "view point.json": "cannot draw the system: its points have no finite extent for the viewport 'fit'",
    "morph good.ifs good.ifs": "cannot use good.ifs: a morph needs exactly one system, got 3; select one with --first",
    "morph pair.json good.ifs --last fern": "cannot use good.ifs: both systems must have the same blend and color "
    "channels, got 'mean' with 3 color channels and 'add' with no color channels",
    "convert good.ifs a.txt": "cannot save a.txt: unknown suffix '.txt', use one of .ifs, .flame, .csv, .npy, .npz, "
    ".json, .safetensors",
    "convert good.ifs a.csv": "cannot save a.csv: a .csv file must contain one system, got 3; use a path without "
    "suffix to write a folder",
    "convert good.ifs no/a.json": "cannot write no/a.json: the folder no does not exist",
    "convert good.ifs pair.json": "cannot write pair.json: it already exists (--overwrite replaces it)",
    "convert a.ifs b.json": "cannot read a.ifs: line 18: a row must have 7 numbers (a b c d e f p), got 3 "
    "(--system can select another system of the file)",
}


@pytest.mark.parametrize("command", REFUSALS)
def test_one_line_says_what_is_wrong(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert refusal(capsys, *command.split()) == REFUSALS[command]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
