"""pretrain: shards of pictures hold every image once, are the same bytes whoever draws them, and go on after a stop."""

from __future__ import annotations

import dataclasses
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


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "shards").iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The shards of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    experiments.run("pretrain", folder, SHARDS)
    return shards(folder)


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


def test_shards_are_the_same_bytes_whatever_draws_them_and_kept(tmp_path: Path, whole: dict[str, bytes]) -> None:
    experiments.run("pretrain", tmp_path, dataclasses.replace(SHARDS, workers=2))
    assert shards(tmp_path) == whole
    (tmp_path / "metrics.json").unlink()  # as if it had been killed before the end
    (tmp_path / "shards" / "00001.tar").unlink()
    before = (tmp_path / "shards" / "00000.tar").stat().st_mtime_ns
    # How many processes draw is no setting that another run would differ in.
    assert experiments.run("pretrain", tmp_path, SHARDS).rows[0]["drawn now"] == 5
    assert (tmp_path / "shards" / "00000.tar").stat().st_mtime_ns == before
    assert shards(tmp_path) == whole


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
    assert shards(tmp_path / "run") == shards(tmp_path / "new")
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
