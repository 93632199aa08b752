"""Tests that commands refuse bad input with one line, before they learn or write anything."""

from __future__ import annotations

import os
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from fractalops.io.point_clouds import save_point_cloud
from tests.support.command_line import draw, forbid_learning, refusal

FOR_DATA_SETS = "is only for a data set, got pictures; give one folder or file of images"
# Each command, run in the folder of the fixture `prepared`: the beginning of its error.
REFUSALS = {
    "paint": "argument COMMAND: invalid choice: 'paint'",
    "fit": "the following arguments are required: IMAGE",
    "fit disc.png --maps 0": "argument --maps: must be at least 1, got 0",
    "fit disc.png --size -3": "argument --size: must be at least 1, got -3",
    "fit disc.png --points 0": "argument --points: must be at least 1, got 0",
    "fit disc.png --points 100000000000000": "argument --points: must be at most 100000000, got 100000000000000",
    "fit disc.png --sequences 1000000000000": "argument --sequences: must be at most 1000000, got 1000000000000",
    "fit disc.png --steps many": "argument --steps: must be a whole number, got 'many'",
    "fit disc.png --maps 99999": "argument --maps: must be at most 32768, got 99999",
    "fit disc.png --threshold 1.5": "argument --threshold: must lie in [0, 1), got 1.5",
    "fit disc.png --threshold nan": "argument --threshold: must lie in [0, 1), got nan",
    "fit disc.png --threshold x": "argument --threshold: must be a number, got 'x'",
    "fit disc.png --frame 0": "argument --frame: must be at least 1, got 0",
    "fit disc.png --seed -1": "argument --seed: must be at least 0, got -1",
    "fit disc.png --background blue": "argument --background: invalid choice: 'blue'",
    "fit disc.png --objective both": "argument --objective: invalid choice: 'both'",
    "fit disc.png --unknown": "unrecognized arguments: --unknown (see fractalops fit --help)",
    "fit disc.png --set maps=0": "--set maps must be at least 1, got 0",
    "fit disc.png --color --set color=false": "color is given twice, by --color and by --set",
    "fit disc.png --objective fixed --set probabilities=learned": "--set probabilities must be ",
    "fit disc.png text.png": "cannot use 1 of 2 images: cannot read text.png: it is not an image in a known format",
    "fit disc.png missing.png": "cannot use 1 of 2 images: cannot read missing.png: no such file or directory",
    "fit disc.png black.png": "cannot use 1 of 2 images: cannot use black.png: image must not be blank, but ",
    "fit disc.png script.png": "cannot use 1 of 2 images: cannot read script.png: it is not an image in a known format",
    "fit disc.png pipe.png": "cannot use 1 of 2 images: cannot read pipe.png: it is not a file",
    "fit pipe.png": "cannot read pipe.png: it is not a file",
    "fit disc.png /dev/zero": "cannot use 1 of 2 images: cannot read /dev/zero: it is not a file",
    "fit disc.png -o file": "cannot write to file/disc: {here}/file is not a folder",
    "fit disc.png -o taken": "cannot write to taken/disc: it is not a folder",
    "fit disc.png --limit 2": f"--limit {FOR_DATA_SETS}",
    "fit disc.png --skip-bad": f"--skip-bad {FOR_DATA_SETS}",
    "fit disc.png --checkpoint-every 5": f"--checkpoint-every {FOR_DATA_SETS}",
    "fit disc.png --device cpu": f"--device {FOR_DATA_SETS}",
    "fit disc.png --table parquet": f"--table {FOR_DATA_SETS}",
    "fit pictures --checkpoint-every -1": "argument --checkpoint-every: must be at least 0, got -1",
    "fit pictures --checkpoint-every nan": "argument --checkpoint-every: must be at least 0, got nan",
    "fit pictures --checkpoint-every often": "argument --checkpoint-every: must be a number, got 'often'",
    "fit pictures --device tpu": "argument --device: invalid choice: 'tpu'",
    "fit missing.npy": "cannot read missing.npy",
    "fit train-images-idx3-ubyte": "cannot read train-images-idx3-ubyte",
    "fit model.pt": "cannot read model.pt",
    "fit empty": "cannot read empty",
    "fit-points": "the following arguments are required: CLOUD",
    "fit-points missing.ply": "cannot read missing.ply: no such file or directory",
    "fit-points cloud.obj": "cannot read cloud.obj: unknown suffix '.obj', use one of ",
    "fit-points broken.npy": "cannot use broken.npy: points must be finite, got 1 of 1 with NaN or infinite ",
    "fit-points ball.ply --maps 0": "argument --maps: must be at least 1, got 0",
    "fit-points ball.ply --loss emd": "argument --loss: invalid choice: 'emd'",
    "fit-points ball.ply --output ball.ply": "cannot write to ball.ply/ball: {here}/ball.ply is not a folder",
    "render": "the following arguments are required: FILE",
    "render foreign.safetensors": "cannot read foreign.safetensors: ",
    "render missing.safetensors": "cannot read missing.safetensors: ",
    "render foreign.safetensors -o no/picture.png": "cannot write no/picture.png: the folder no does not exist",
    "render foreign.safetensors -o picture.doc": "cannot save picture.doc: unknown suffix '.doc', use ",
    "render foreign.safetensors --size 0": "argument --size: must be at least 1, got 0",
    "render foreign.safetensors --points 0": "argument --points: must be at least 1, got 0",
    "render .": "cannot read .: it contains no system",
    "render disc.png": "cannot read disc.png: unknown suffix '.png', use one of ",
    "view": "the following arguments are required: FILE",
    "view foreign.safetensors": "cannot read foreign.safetensors: ",
    "view missing.safetensors": "cannot read missing.safetensors: ",
    "view foreign.safetensors -o no/leaf.html": "cannot write no/leaf.html: the folder no does not exist",
    "view foreign.safetensors -o leaf.png": "cannot save leaf.png: unknown suffix '.png', use .html",
    "view foreign.safetensors --number -1": "cannot read foreign.safetensors: ",
    "view .": "cannot read .: it contains no system",
    "view page.html": "cannot read page.html: unknown suffix '.html', use one of ",
    "random --systems 0": "argument --systems: must be at least 1, got 0",
    "random --systems 1000 --size 2000": "1000 pictures of --size 2000 must be at most 268435456 pixels together, got ",
    "random -o empty.png --overwrite": "cannot write empty.png: it is a folder",
    "experiment imagine": "there is no experiment imagine; the experiments are reconstruct, ",
    "experiment reconstruct --preset huge": "reconstruct has no preset huge; its presets are small, paper",
    "experiment reconstruct --set images=0": "--set images must be at least 1, got 0",
    "experiment reconstruct --device cuda": "cannot run on cuda: torch finds no GPU",
    "experiment reconstruct --data nowhere": "cannot read nowhere: it is not a folder",
    "experiment reconstruct --set data=mnist": "cannot read mnist: no folder was given (--data); expected are ",
    "experiment pretrain --set classes=1 --set size=8 --set density=0.99": (
        "FractalDataset: density must be reached by random systems, got "
    ),
}


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a folder with usable and unusable files, make learning fail the test, and hide GPUs."""
    monkeypatch.chdir(tmp_path)
    forbid_learning(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("empty", "empty.png", "taken"):
        Path(name).mkdir()
    for name in ("disc.png", "pictures/cats/1.png"):
        draw(Path(name))
    for name in ("text.png", "foreign.safetensors", "file", "taken/disc", "model.pt"):
        Path(name).write_text("nothing of use")
    Path("script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    os.mkfifo("pipe.png")
    Image.new("L", (4, 4)).save("black.png")
    save_point_cloud(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), "ball.ply")
    numpy.save("broken.npy", numpy.array([[0, 0, numpy.nan]]))
    return tmp_path


@pytest.mark.parametrize("command", REFUSALS)
def test_one_line_says_what_is_wrong(command: str, prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(prepared.rglob("*"))
    line = refusal(capsys, *command.split())
    assert line.startswith(REFUSALS[command].replace("{here}", str(prepared)))
    assert set(prepared.rglob("*")) - {prepared / "runs"} == before


@pytest.mark.parametrize(
    "command",
    [
        "fit disc.png -o new",
        "fit pictures -o new",
        "fit-points ball.ply -o new",
        "render half.csv -o new.png",
        "render half.csv --animate build -o new.gif",
        "view half.csv -o new.html",
        "morph half.csv half.csv -o new.gif",
        "convert half.csv new.json",
        "convert half.csv new",
        "random -o new.png",
        "systems fern -o new.png",
        "experiment pretrain -o new",
    ],
)
def test_a_folder_without_permission_is_refused(
    command: str, prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check comes before learning and drawing. `os.access` is patched because root ignores a folder's mode."""
    Path("half.csv").write_text("0.5,0,0,0.5,0,0,1\n")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    before = set(prepared.rglob("*"))
    assert refusal(capsys, *command.split()).endswith(": permission denied")
    assert set(prepared.rglob("*")) == before
