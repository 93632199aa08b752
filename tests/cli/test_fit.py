"""Tests of `fractalops fit` on pictures: files, output, exit codes, and cleanup after errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy
import pytest
import torch
from PIL import Image

from fractalops.cli.fit_pictures import OUTPUT_NAMES
from fractalops.fitting import FitResult, learning
from fractalops.fitting.learning import fit_images
from tests.support.command_line import ENVIRONMENT, QUICK, draw, files, forbid_learning, refusal, run
from tests.support.learning import Interruption, at_call
from tests.support.requirements import need_matplotlib

pytestmark = pytest.mark.usefixtures("small_pictures")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return draw(tmp_path / "disc.png")


def test_fit_writes_everything(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need_matplotlib()
    output = tmp_path / "out"
    assert run("fit", image, "-o", output, "--seed", 7, *QUICK) == 0
    folder = output / "disc"
    assert files(folder) == set(OUTPUT_NAMES)
    with Image.open(folder / "fractal.png") as picture:
        assert picture.size == (64, 64)
    with Image.open(folder / "learning.gif") as animation:
        assert animation.is_animated
    assert len((folder / "loss.csv").read_text().splitlines()) == 1 + 3

    report = json.loads((folder / "fit.json").read_text())
    assert report["config"]["seed"] == 7
    assert report["config"]["maps"] == 3
    assert report["steps"] == 3
    assert not report["interrupted"]
    assert 0.0 <= report["minimum_mse"] <= report["mean_mse"]
    assert report["versions"]["torch"] == torch.__version__
    assert FitResult.load(folder / "system.safetensors").config.points == 20

    printed = capsys.readouterr().out
    assert "minimum MSE" in printed
    assert str(folder) in printed


def test_the_start_is_what_no_steps_learn(image: Path, tmp_path: Path) -> None:
    options = ("--maps", 3, "--points", 20, "--sequences", 1, "--set", "steps=0", "--quiet")
    assert run("fit", image, "-o", tmp_path / "out", *options) == 0
    assert FitResult.load(tmp_path / "out" / "disc" / "system.safetensors").steps == [0]


def test_notices_name_their_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (20, 10), (90, 0, 0)).save(tmp_path / "red.png")
    assert run("fit", tmp_path / "red.png", "-o", tmp_path / "out", *QUICK) == 0
    printed = capsys.readouterr().out
    assert f"{tmp_path / 'red.png'}: colors are converted to gray\n" in printed
    assert f"{tmp_path / 'red.png'}: scaled from 20 x 10 to 8 x 4 pixels\n" in printed
    report = json.loads((tmp_path / "out" / "red" / "fit.json").read_text())
    assert report["notices"] == ["colors are converted to gray", "scaled from 20 x 10 to 8 x 4 pixels"]
    assert FitResult.load(tmp_path / "out" / "red" / "system.safetensors").size == (4, 8)


def test_advice_names_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (8, 8), 255).save(tmp_path / "page.png")
    assert run("fit", tmp_path / "page.png", "-o", tmp_path / "out", *QUICK) == 0
    advice = "the picture is mostly bright; if it shows a dark shape on a bright page, use --invert"
    assert f"{tmp_path / 'page.png'}: {advice}\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "page" / "fit.json").read_text())["notices"] == [advice]
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "ink.png")
    line = refusal(capsys, "fit", tmp_path / "ink.png", "-o", tmp_path / "out", *QUICK)
    assert "a transparent page needs --background white and --invert" in line


def test_frames_and_few_bits_have_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep, moving = tmp_path / "deep.png", tmp_path / "moving.gif"
    Image.fromarray(numpy.arange(64, dtype=numpy.uint16).reshape(8, 8) * 65).save(deep)
    Image.new("L", (8, 8)).save(moving, save_all=True, append_images=[Image.open(draw(tmp_path / "disc.png"))])
    line = refusal(capsys, "fit", moving, "-o", tmp_path / "out", *QUICK)
    assert line.endswith("; it has 2 frames, and --frame N selects another one")
    line = refusal(capsys, "fit", moving, "-o", tmp_path / "out", "--frame", 3, *QUICK)
    assert line.endswith(f"cannot read {moving}: frame must be at most 2, got 3")
    assert run("fit", moving, "-o", tmp_path / "out", "--frame", 2, "--no-animation", *QUICK) == 0
    for options, notice in (
        ([], "dark: the highest value is 4095 of 65535; --stretch scales it to 1"),
        (["--stretch", "--overwrite"], "values from 0 to 4095 are stretched to [0, 1]"),
    ):
        capsys.readouterr()
        assert run("fit", deep, "-o", tmp_path / "out", "--no-animation", *options, *QUICK) == 0
        assert f"{deep}: {notice}\n" in capsys.readouterr().out


def test_images_of_one_shape_are_learned_in_one_call_and_stems_may_collide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [
        draw(tmp_path / "a" / "leaf.png"),
        draw(tmp_path / "b" / "Leaf.png", (8, 4)),
        draw(tmp_path / "c" / "leaf.png"),
        draw(tmp_path / "leaf-2.png"),
    ]
    learn = Mock(wraps=learning.fit_images)
    monkeypatch.setattr("fractalops.cli.fit_pictures.fit_images", learn)
    assert run("fit", *images, "-o", tmp_path / "out", "--quiet", *QUICK) == 0
    assert [call.args[0].shape for call in learn.call_args_list] == [(3, 8, 8), (1, 4, 8)]
    folders = ["leaf", "Leaf-3", "leaf-4", "leaf-2"]
    assert files(tmp_path / "out") == set(folders)
    for image, folder in zip(images, folders, strict=True):
        assert json.loads((tmp_path / "out" / folder / "fit.json").read_text())["image"] == str(image)


@pytest.mark.parametrize("name", ["..png", ".png", "two words.x.png"])
def test_odd_names_stay_inside_the_output_folder(tmp_path: Path, name: str) -> None:
    draw(tmp_path / "in.png").rename(tmp_path / name)
    assert run("fit", tmp_path / name, "-o", tmp_path / "out", "--quiet", *QUICK) == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert "system.safetensors" in files(folder)


def test_overwriting_needs_the_option_and_removes_what_is_outdated(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert run("fit", image, "-o", output, "--quiet", *QUICK) == 0
    assert capfd.readouterr() == ("", "")
    (output / "disc" / "mine.txt").write_text("kept")
    before = (output / "disc" / "fit.json").read_bytes()
    with monkeypatch.context() as patched:
        forbid_learning(patched)
        line = refusal(capfd, "fit", image, "-o", output, *QUICK)
    assert (output / "disc" / "fit.json").read_bytes() == before
    assert line.startswith("cannot write to")
    assert "--overwrite" in line

    assert run("fit", image, "-o", output, "--quiet", "--overwrite", "--no-animation", *QUICK) == 0
    assert capfd.readouterr() == ("", "")
    assert "mine.txt" in files(output / "disc")
    assert "learning.gif" not in files(output / "disc")


def test_files_of_the_user_are_never_overwritten(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out" / "disc"
    folder.mkdir(parents=True)
    fit = ("fit", image, "-o", tmp_path / "out", "--quiet", "--overwrite", "--no-animation", *QUICK)
    for name in ("loss.csv", "fit.json", ".loss.my-notes.csv"):
        (folder / name).write_text('{"mine": 1}')
        with monkeypatch.context() as patched:
            forbid_learning(patched)
            line = refusal(capsys, *fit)
        assert line.startswith("cannot write to ")
        assert line.endswith("; use another folder")
        assert files(folder) == {name}
        assert (folder / name).read_text() == '{"mine": 1}'
        (folder / name).unlink()

    assert run(*fit) == 0
    assert set(json.loads((folder / "fit.json").read_text())["files"]) == files(folder)
    (folder / "learning.gif").write_text("mine")  # not written by the run
    assert "its learning.gif was not written by a run" in refusal(capsys, *fit)
    assert (folder / "learning.gif").read_text() == "mine"


def test_two_runs_at_once_never_mix_their_files(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ("fit", image, "-o", tmp_path / "out", "--quiet", "--overwrite", *QUICK)
    other = ("fit", draw(tmp_path / "second.png"), *fit[2:])
    learn = fit_images

    def learn_beside_others(*arguments: Any, **options: Any) -> FitResult:
        monkeypatch.setattr("fractalops.cli.fit_pictures.fit_images", learn)
        line = refusal(capsys, *fit)
        assert line == f"cannot write to {tmp_path / 'out' / 'disc'}: another run is writing to it"
        assert run(*other) == 0  # for another picture
        return learn(*arguments, **options)

    monkeypatch.setattr("fractalops.cli.fit_pictures.fit_images", learn_beside_others)
    assert run(*fit) == 0
    assert files(tmp_path / "out" / "disc") >= {"system.safetensors", "fit.json"}
    assert files(tmp_path / "out" / "second") == files(tmp_path / "out" / "disc")


def test_what_a_killed_write_has_left_blocks_no_run(image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "disc"
    folder.mkdir(parents=True)
    (folder / ".fractalops-efgh_678-system.safetensors").write_text("half")
    (folder / ".fractalops-abcd1234-fit.json").write_text("half")
    assert run("fit", image, "-o", tmp_path / "out", "--quiet", *QUICK) == 0
    assert not [name for name in files(folder) if name.startswith(".")]


def test_a_full_disk_is_one_line(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = Mock(side_effect=OSError(28, "No space left on device", "loss.csv"))
    monkeypatch.setattr("fractalops.cli.outputs.loss_table", full)
    assert run("fit", image, "-o", tmp_path / "out", "--quiet", *QUICK) == 2
    first, last = capsys.readouterr().err.splitlines()
    assert first.endswith(f"the learned systems are saved, but drawings are missing in {tmp_path / 'out' / 'disc'}")
    assert last == "fractalops fit: loss.csv: No space left on device"


def test_more_than_the_memory_holds_is_one_line(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, "fit", image, "-o", tmp_path / "out", "--quiet", "--points", 10**8, "--sequences", 10**6)
    assert line == "there is not enough memory for these options: 400000000000000 bytes could not be allocated"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (OSError(28, "No space"), 2)], ids=str)
def test_everything_learned_is_saved_before_the_pictures(
    error: BaseException,
    code: int,
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(FitResult, "draw", at_call(2, FitResult.draw, error))
    images = [image, draw(tmp_path / "second.png"), draw(tmp_path / "third.png")]
    output = tmp_path / "out"
    assert run("fit", *images, "-o", output, *QUICK) == code
    assert set(OUTPUT_NAMES) - {"loss.png"} <= files(output / "disc")
    for name in ("second", "third"):
        assert FitResult.load(output / name / "system.safetensors").steps == [3]
        assert "steps" not in json.loads((output / name / "fit.json").read_text())
    captured = capsys.readouterr()
    assert f"drawings are missing in {output / 'second'}, {output / 'third'}\n" in captured.err
    assert captured.err.splitlines()[-1].startswith("fractalops fit: ")
    assert str(output / "disc") in captured.out
    assert str(output / "second") not in captured.out


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (OSError("a full disk"), 2)], ids=str)
def test_a_folder_that_fails_keeps_no_other_system_from_being_saved(
    error: BaseException, code: int, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FitResult, "save", at_call(1, FitResult.save, error))
    assert run("fit", image, draw(tmp_path / "second.png"), "-o", tmp_path / "out", "--quiet", *QUICK) == code
    assert not (tmp_path / "out" / "disc").exists()
    assert files(tmp_path / "out" / "second") == {"system.safetensors", "fit.json"}


def test_interrupted_overwriting_never_mixes_two_runs(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out" / "disc"
    again = ("fit", image, "-o", tmp_path / "out", "--quiet", "--overwrite", *QUICK)
    assert run(*again) == 0
    (folder / "mine.txt").write_text("kept")
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    interrupt = Mock(side_effect=KeyboardInterrupt)
    with monkeypatch.context() as patched:
        patched.setattr("safetensors.torch.save", interrupt)
        assert run(*again) == 130
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before  # the first run's files

    monkeypatch.setattr("fractalops.cli.fit_pictures.comparison", interrupt)
    assert run(*again, "--seed", 5) == 130
    assert files(folder) == {"system.safetensors", "fit.json", "mine.txt"}
    assert FitResult.load(folder / "system.safetensors").config.seed == 5


def test_without_matplotlib_there_is_a_notice_and_a_table(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run("fit", image, "-o", tmp_path / "out", *QUICK) == 0
    (notice,) = [line for line in capsys.readouterr().out.splitlines() if "loss.png" in line]
    assert "pip install 'fractalops[plot]'" in notice
    assert files(tmp_path / "out" / "disc") == set(OUTPUT_NAMES) - {"loss.png"}


def test_an_interruption_saves_what_was_learned(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Interruption(3 + 2).install(monkeypatch)
    second, third, fourth = (draw(tmp_path / f"{name}.png") for name in ("second", "third", "fourth"))
    fifth = draw(tmp_path / "fifth.png", (8, 4))
    output = tmp_path / "out"
    command = ("fit", image, second, third, fourth, fifth, "-o", output, *QUICK, "--set", "batch_size=1")
    assert run(*command) == 130
    assert files(output) == {"disc", "second"}
    for name, steps in (("disc", 3), ("second", 2)):
        report = json.loads((output / name / "fit.json").read_text())
        assert report["interrupted"] == (steps < 3)
        assert report["steps"] == steps
        assert len((output / name / "loss.csv").read_text().splitlines()) == 1 + steps
        with Image.open(output / name / "learning.gif") as animation:
            assert animation.n_frames == steps + 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "interrupted" in line]
    assert line == (
        f"fractalops fit: interrupted; the system after 2 of 3 steps is saved in {output / 'second'}; "
        f"not learned: {third}, {fourth}, {fifth}"
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_a_real_ctrl_c_while_learning(image: Path, tmp_path: Path) -> None:
    code = "import sys; from fractalops import cli, io; io.progress.LINE_EVERY = 0; sys.exit(cli.main())"
    command = [sys.executable, "-u", "-c", code, "fit", str(image), "-o", str(tmp_path / "out")]
    with subprocess.Popen(
        [*command, "--no-animation", "--steps", "10000000", "--points", "20", "--sequences", "2"],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as learning:
        assert learning.stderr is not None
        shown = ""
        while "loss=" not in shown:  # shown by the progress bar after some steps
            shown += learning.stderr.read(1) or pytest.fail(f"it ended by itself: {shown}")
        learning.send_signal(signal.SIGINT)
        shown += learning.stderr.read()
    assert learning.returncode == 130, shown
    assert "Traceback" not in shown
    assert "steps is saved in" in shown
    (steps,) = FitResult.load(tmp_path / "out" / "disc" / "system.safetensors").steps
    assert 0 < steps < 10000000


def test_ctrl_c_elsewhere_is_one_line(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fractalops.cli.fit_pictures.make_plan", Mock(side_effect=KeyboardInterrupt))
    assert refusal(capsys, "fit", image, "-o", tmp_path / "out", *QUICK, code=130) == "interrupted"


@pytest.mark.parametrize(
    ("options", "background"),
    [((), 0.0), (("--background", "white"), 1.0), (("--background", "white", "--invert"), 0.0),
     (("--background", "white", "--set", "background=0.25"), 0.25)],
    ids=str,
)  # fmt: skip
def test_the_background_is_what_is_drawn_on(tmp_path: Path, options: tuple[str, ...], background: float) -> None:
    drawn = draw(tmp_path / "disc.png")
    assert run("fit", drawn, "-o", tmp_path / "out", *QUICK, *options) == 0
    report = json.loads((tmp_path / "out" / "disc" / "fit.json").read_text())
    assert report["config"]["background"] == background
