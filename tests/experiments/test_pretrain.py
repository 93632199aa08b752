"""pretrain: shards of pictures hold every image once, are the same bytes whoever draws them, and go on after a stop."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from fractalops import FitConfig, FitResult, FractalDataset, InputError, experiments, fit_dataset
from fractalops.experiments import pretrain
from fractalops.io.tensor_files import read_tensors
from tests.support.learning import disc

SHARDS = pretrain.PretrainSettings(classes=3, instances=4, size=8, points=200, shard=5, density=0.0)


def test_shards_hold_every_image_once(tmp_path: Path) -> None:
    outcome = experiments.run("pretrain", tmp_path / "run", SHARDS)
    assert (outcome.rows[0]["images"], outcome.rows[0]["shards"], outcome.rows[0]["drawn now"]) == (12, 3, 12)
    labels, names = [], []
    for path in sorted((tmp_path / "run" / "shards").iterdir()):
        with tarfile.open(path) as archive:
            for entry in archive.getmembers():
                names.append(entry.name)
                file = archive.extractfile(entry)
                assert file is not None
                if entry.name.endswith(".cls"):
                    labels.append(int(file.read()))
                else:
                    with Image.open(file) as picture:
                        assert (picture.size, picture.mode) == ((8, 8), "L")
    assert sorted(labels) == [0] * 4 + [1] * 4 + [2] * 4
    assert labels != sorted(labels)
    assert names == [f"{number:09}.{suffix}" for number in range(12) for suffix in ("png", "cls")]
    assert (tmp_path / "run" / "classes.png").exists()


def test_shards_that_are_there_are_kept_and_others_made(tmp_path: Path) -> None:
    experiments.run("pretrain", tmp_path / "whole", SHARDS)
    experiments.run("pretrain", tmp_path / "run", SHARDS)
    shards = tmp_path / "run" / "shards"
    (tmp_path / "run" / "metrics.json").unlink()  # as if it had been killed before the end
    (shards / "00001.tar").unlink()
    before = (shards / "00000.tar").stat().st_mtime_ns
    assert experiments.run("pretrain", tmp_path / "run", SHARDS).rows[0]["drawn now"] == 5
    assert (shards / "00000.tar").stat().st_mtime_ns == before
    for path in shards.iterdir():
        assert path.read_bytes() == (tmp_path / "whole" / "shards" / path.name).read_bytes()


def test_shards_are_the_same_bytes_whatever_draws_them(tmp_path: Path) -> None:
    experiments.run("pretrain", tmp_path / "run", SHARDS)
    experiments.run("pretrain", tmp_path / "worked", dataclasses.replace(SHARDS, workers=2))
    for path in (tmp_path / "run" / "shards").iterdir():
        assert path.read_bytes() == (tmp_path / "worked" / "shards" / path.name).read_bytes()
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("run", "worked")]
    assert configs[0] == configs[1]


def test_pictures_are_the_items_of_the_dataset(tmp_path: Path) -> None:
    settings = dataclasses.replace(SHARDS, rendering="color", background="random")
    experiments.run("pretrain", tmp_path, settings)
    data = FractalDataset(3, 4, 8, rendering="color", background="random", points=200, density=0.0, dtype=torch.uint8)
    expected = {(label, image.numpy().tobytes()) for image, label in (data[item] for item in range(12))}
    found = set()
    for path in (tmp_path / "shards").iterdir():
        with tarfile.open(path) as archive:
            for name in archive.getnames()[::2]:
                png, label = archive.extractfile(name), archive.extractfile(f"{name[:-4]}.cls")
                assert png is not None
                assert label is not None
                with Image.open(png) as picture:
                    pixels = numpy.moveaxis(numpy.array(picture), -1, 0)  # (3, H, W)
                found.add((int(label.read()), pixels.tobytes()))
    assert found == expected


def test_classes_may_be_learned_systems(tmp_path: Path) -> None:
    targets, config = disc(8).expand(3, -1, -1), FitConfig(maps=2, points=9, sequences=1, steps=2, batch_size=2)
    learned = fit_dataset(targets, tmp_path / "learned", config)
    shard = tmp_path / "learned" / learned.rows[0].shard  # of the first two
    for systems, classes in ((tmp_path / "learned", 3), (shard, 2)):
        run_folder = tmp_path / f"run{classes}"
        settings = dataclasses.replace(SHARDS, systems=str(systems))
        outcome = experiments.run("pretrain", run_folder, settings)
        assert (outcome.rows[0]["classes"], outcome.rows[0]["images"]) == (classes, classes * 4)
        kept = read_tensors(run_folder / "state.safetensors", "fractalops.experiment-state.1")[0]
        assert torch.equal(kept["matrix"], learned.system().maps()[0][:classes])
    FitResult.load(shard).select(1).save(shard)  # other systems in the same place
    (run_folder / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"^cannot go on in .*: the systems differ from those of its shards; "):
        experiments.run("pretrain", run_folder, settings)
    with pytest.raises(InputError, match=r"^cannot read nothing: No such file"):
        experiments.run("pretrain", tmp_path / "run", dataclasses.replace(SHARDS, systems="nothing"))


def test_overwriting_keeps_no_shard_of_the_run_before(tmp_path: Path) -> None:
    experiments.run("pretrain", tmp_path / "run", SHARDS)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    other = dataclasses.replace(SHARDS, seed=1, classes=2)
    assert experiments.run("pretrain", tmp_path / "run", other, overwrite=True).rows[0]["drawn now"] == 8
    experiments.run("pretrain", tmp_path / "new", other)
    ran, new = ({p.name: p.read_bytes() for p in (tmp_path / name / "shards").iterdir()} for name in ("run", "new"))
    assert ran == new
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
