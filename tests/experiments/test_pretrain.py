"""Tests of pretrain: its files contain every image once, are reproducible, and are completed after a stop."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from fractalops import FitConfig, FitResult, FractalDataset, InputError, experiments, fit_dataset
from fractalops.data.class_search import search_classes
from fractalops.experiments import pretrain
from fractalops.experiments.folder import ExperimentFolder
from fractalops.io.systems import read_systems, write_systems
from fractalops.systems import System
from tests.support.command_line import run as command
from tests.support.learning import disc

SHARDS = pretrain.PretrainSettings(classes=3, instances=4, size=8, points=200, shard=5, density=0.0)


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "shards").iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the shards of an uninterrupted run."""
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
    (tmp_path / "metrics.json").unlink()  # as if the run had been killed before its end
    (tmp_path / "shards" / "00001.tar").unlink()
    before = (tmp_path / "shards" / "00000.tar").stat().st_mtime_ns
    # A run may be resumed with another number of workers.
    assert experiments.run("pretrain", tmp_path, SHARDS).rows[0]["drawn now"] == 5
    assert (tmp_path / "shards" / "00000.tar").stat().st_mtime_ns == before
    assert shards(tmp_path) == whole


@pytest.mark.slow
@pytest.mark.usefixtures("restored_threads")
def test_pictures_of_the_default_size_are_the_same_bytes_whatever_draws_them(tmp_path: Path) -> None:
    settings = pretrain.PretrainSettings(
        classes=2, instances=10, rendering="color", background="random", points=40_000, shard=10
    )
    written = []
    torch.set_num_threads(2)
    for workers in (0, 3):
        folder = tmp_path / str(workers)
        experiments.run("pretrain", folder, dataclasses.replace(settings, workers=workers))
        written.append(shards(folder))
    assert written[0] == written[1]


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
    shard = tmp_path / "learned" / learned.rows[0].shard  # contains the first two systems
    for systems, classes in ((tmp_path / "learned", 3), (shard, 2)):
        run_folder = tmp_path / f"run{classes}"
        settings = dataclasses.replace(SHARDS, systems=str(systems))
        outcome = experiments.run("pretrain", run_folder, settings)
        assert (outcome.rows[0]["classes"], outcome.rows[0]["images"]) == (classes, classes * 4)
        kept = read_systems(run_folder / "systems.safetensors").values()
        assert torch.equal(torch.stack([system.matrix for system in kept]), learned.system().maps()[0][:classes])
    FitResult.load(shard).select(1).save(shard)  # other systems at the same path
    (run_folder / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"^cannot resume in .*: the systems differ from those of its pictures; "):
        experiments.run("pretrain", run_folder, settings)
    with pytest.raises(InputError, match=r"^cannot read nothing: no such file"):
        experiments.run("pretrain", tmp_path / "run", dataclasses.replace(SHARDS, systems="nothing"))


def test_overwriting_keeps_no_shard_of_the_run_before(tmp_path: Path) -> None:
    experiments.run("pretrain", tmp_path / "run", SHARDS)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    other = dataclasses.replace(SHARDS, seed=1, classes=2)
    assert experiments.run("pretrain", tmp_path / "run", other, overwrite=True).rows[0]["drawn now"] == 8
    experiments.run("pretrain", tmp_path / "new", other)
    assert shards(tmp_path / "run") == shards(tmp_path / "new")
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


FOLDERS = dataclasses.replace(SHARDS, layout="folders", maps=(2, 5))


def images(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / "images").rglob("*.png"))}


def test_folders_hold_every_image_once_and_go_on(tmp_path: Path) -> None:
    outcome = experiments.run("pretrain", tmp_path, FOLDERS)
    assert (outcome.rows[0]["folders"], outcome.rows[0]["drawn now"]) == (3, 12)
    whole = images(tmp_path)
    assert list(whole) == [f"images/{label:05}/{label:05}_{number:04}.png" for label in range(3) for number in range(4)]
    data = FractalDataset(3, 4, 8, rendering="patch", points=200, maps=(2, 5), density=0.0, dtype=torch.uint8)
    assert sorted({len(system) for system in data.systems}) == [3, 4]
    for item, path in enumerate(whole):
        with Image.open(tmp_path / path) as picture:
            assert numpy.array_equal(numpy.array(picture), data[item][0][0].numpy())
    (tmp_path / "metrics.json").unlink()  # as if the run had been killed while writing the last picture
    last = tmp_path / list(whole)[-1]
    last.rename(last.with_name(f".fractalops-abcd1234-{last.name}"))
    assert experiments.run("pretrain", tmp_path, dataclasses.replace(FOLDERS, workers=1)).rows[0]["drawn now"] == 1
    assert images(tmp_path) == whole


def test_folders_of_a_run_that_is_overwritten_are_gone(tmp_path: Path) -> None:
    experiments.run("pretrain", tmp_path, FOLDERS)
    experiments.run("pretrain", tmp_path, dataclasses.replace(FOLDERS, classes=2), overwrite=True)
    assert [path.name for path in sorted((tmp_path / "images").iterdir())] == ["00000", "00001"]
    assert len(images(tmp_path)) == 8


def test_classes_may_be_searched_by_their_filling_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = dataclasses.replace(FOLDERS, search="filling-rate", density=0.05, maps=3)
    calls = []

    def search(*arguments: object, **options: object) -> object:
        calls.append(options)
        return search_classes(*arguments, **options, size=32, points=1000)  # type: ignore[arg-type]

    monkeypatch.setattr(pretrain, "search_classes", search)
    experiments.run("pretrain", tmp_path, settings)
    whole = images(tmp_path)
    (tmp_path / "metrics.json").unlink()
    (tmp_path / next(iter(whole))).unlink()
    experiments.run("pretrain", tmp_path, settings)  # reuses the classes that were found
    assert images(tmp_path) == whole
    assert calls == [{"rate": 0.05, "maps": 3, "seed": 0, "progress": False}]


def test_pictures_may_be_drawn_by_fractaldbs_rules(tmp_path: Path) -> None:
    system = System([[[0.5, 0.0], [0.0, 0.5]]] * 3, [[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]], [1.0, 1.0, 1.0])
    data = FractalDataset([system], 100, 16, rules="fractaldb", points=300, dtype=torch.uint8)
    write_systems(tmp_path / "one.csv", system)
    settings = pretrain.PretrainSettings(
        systems=str(tmp_path / "one.csv"), instances=100, size=16, rules="fractaldb", points=300, layout="folders"
    )
    outcome = experiments.run("pretrain", tmp_path / "run", settings)
    assert (outcome.rows[0]["rendering"], outcome.rows[0]["drawn now"]) == ("patch_gray", 100)
    for item, path in enumerate(images(tmp_path / "run")):
        with Image.open(tmp_path / "run" / path) as picture:
            assert numpy.array_equal(numpy.array(picture), data[item][0][0].numpy())


def random_systems(*names: str) -> list[System]:
    """Return contractive systems of 2, 3, ... maps, whose numbers need float64."""
    random = numpy.random.default_rng(0)
    return [
        System(
            random.uniform(-0.5, 0.5, (maps, 2, 2)),
            random.uniform(-1, 1, (maps, 2)),
            numpy.full(maps, 1 / maps),
            name=name,
        )
        for maps, name in enumerate(names, 2)
    ]


def equal(one: System, other: System) -> bool:
    return one.name == other.name and all(
        torch.equal(getattr(one, part), getattr(other, part)) for part in ("matrix", "offset", "probabilities")
    )


@pytest.mark.parametrize("file", ["classes", "classes.json", "classes.npz", "classes.ifs", "classes.safetensors"])
@pytest.mark.parametrize(
    ("names", "folders"),
    [(("00003", "00017"), ["00003", "00017"]), (("fern", "00017"), ["00000", "00001"])],
    ids=["of FractalDB", "others"],
)
def test_classes_may_be_systems_of_any_file(
    tmp_path: Path, file: str, names: tuple[str, ...], folders: list[str]
) -> None:
    given = sorted(random_systems(*names), key=lambda system: system.name)
    write_systems(tmp_path / file, given)
    if file == "classes.npz":  # contains only maps: probabilities differ
        given = list(read_systems(tmp_path / file).values())
    settings = pretrain.PretrainSettings(
        systems=str(tmp_path / file), rules="one-parameter", size=16, points=100, layout="folders"
    )
    outcome = experiments.run("pretrain", tmp_path / "run", settings)
    assert (outcome.rows[0]["classes"], outcome.rows[0]["images"]) == (2, 2)
    assert list(images(tmp_path / "run")) == [f"images/{name}/{name}_0000.png" for name in folders]
    kept = list(read_systems(tmp_path / "run" / "systems.safetensors").values())
    assert {system.matrix.dtype for system in kept} == {torch.float64}
    assert [equal(*pair) for pair in zip(given, kept, strict=True)] == [True, True]


def test_systems_under_another_name_are_others(tmp_path: Path) -> None:
    write_systems(tmp_path / "classes.json", random_systems("00003"))
    settings = pretrain.PretrainSettings(
        systems=str(tmp_path / "classes.json"), rules="one-parameter", size=16, points=100, layout="folders"
    )
    experiments.run("pretrain", tmp_path / "run", settings)
    (tmp_path / "run" / "metrics.json").unlink()
    write_systems(tmp_path / "classes.json", random_systems("00004"))
    with pytest.raises(InputError, match=r"^cannot resume in .*: the systems differ from those of its pictures; "):
        experiments.run("pretrain", tmp_path / "run", settings)


@pytest.mark.parametrize("content", ["", "0.5,0,0,0.5,0,0\n", "0.5,0,0,0.5,0,0,2\n"], ids=["empty", "six", "sum"])
def test_a_file_that_is_wrong_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "one.csv").write_text(content)
    settings = dataclasses.replace(SHARDS, systems=str(tmp_path / "one.csv"))
    with pytest.raises(InputError, match=r"^cannot read .*one\.csv: ") as raised:
        experiments.run("pretrain", tmp_path / "run", settings)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rules", ["own", "fractal-pretraining", "one-parameter"])
def test_random_systems_are_kept_and_are_the_same_classes_again(tmp_path: Path, rules: Any) -> None:
    density = None if rules == "fractal-pretraining" else 0.0
    settings = pretrain.PretrainSettings(
        classes=3, instances=2, rules=rules, size=16, points=500, density=density, layout="folders"
    )
    experiments.run("pretrain", tmp_path / "run", settings)
    kept = tmp_path / "run" / "systems.safetensors"
    assert len(read_systems(kept)) == 3
    assert not (tmp_path / "run" / "state.safetensors").exists()
    assert command("render", kept, "--system", "0001", "-o", tmp_path / "one.png", "--size", "32") == 0
    assert command("convert", kept, tmp_path / "kept.json") == 0
    for number, file in enumerate((kept, tmp_path / "kept.json")):
        again = tmp_path / str(number)
        experiments.run("pretrain", again, dataclasses.replace(settings, systems=str(file)))
        assert images(again) == images(tmp_path / "run")


def test_the_small_preset_has_the_instances_of_the_rules(tmp_path: Path) -> None:
    small = dataclasses.replace(experiments.preset("pretrain", "small"), classes=2, size=16, points=200, density=0.0)
    for number, (changes, expected) in enumerate(
        [({}, 200), ({"rules": "one-parameter"}, 2), ({"rules": "one-parameter", "instances": 3}, 6)]
    ):
        outcome = experiments.run("pretrain", tmp_path / str(number), dataclasses.replace(small, **changes))
        assert outcome.rows[0]["images"] == expected


def test_folders_and_files_of_others_stay(tmp_path: Path) -> None:
    experiments.run("pretrain", tmp_path, FOLDERS)
    (tmp_path / "images" / "mine").mkdir()
    (tmp_path / "images" / "2024").mkdir()
    (tmp_path / "images" / "00001" / "1.png").write_bytes(b"mine")
    experiments.run("pretrain", tmp_path, SHARDS, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["00001", "2024", "mine"]
    assert list(images(tmp_path)) == ["images/00001/1.png"]
    experiments.run("pretrain", tmp_path, dataclasses.replace(FOLDERS, classes=1), overwrite=True)
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["00000", "00001", "2024", "mine"]
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize(
    ("name", "settings"),
    [("systems.safetensors", SHARDS), ("shards/00001.tar", SHARDS), ("images/00001/00001_0002.png", FOLDERS)],
)
def test_files_of_others_that_bear_a_name_of_the_run_are_neither_kept_nor_removed(
    name: str, settings: pretrain.PretrainSettings, tmp_path: Path
) -> None:
    ExperimentFolder(tmp_path, "pretrain", settings, {}).open()  # interrupted here
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(
        InputError, match=f"^cannot write to .*: its {name} was not written by a run; use another folder$"
    ):
        experiments.run("pretrain", tmp_path, settings, overwrite=True)
    assert (tmp_path / name).read_bytes() == b"mine"


def test_overwriting_folders_by_shards_leaves_no_folder(tmp_path: Path) -> None:
    experiments.run("pretrain", tmp_path, FOLDERS)
    experiments.run("pretrain", tmp_path, SHARDS, overwrite=True)
    assert not (tmp_path / "images").exists()


def test_pictures_that_a_finished_run_has_lost_are_drawn_again(tmp_path: Path, whole: dict[str, bytes]) -> None:
    experiments.run("pretrain", tmp_path / "shards", SHARDS)
    experiments.run("pretrain", tmp_path / "folders", FOLDERS)
    pictures = images(tmp_path / "folders")
    (tmp_path / "shards" / "shards" / "00002.tar").unlink()
    (tmp_path / "folders" / list(pictures)[5]).unlink()
    shutil.rmtree(tmp_path / "folders" / "images" / "00002")
    assert experiments.run("pretrain", tmp_path / "shards", SHARDS).rows[0]["drawn now"] == 2
    assert experiments.run("pretrain", tmp_path / "folders", FOLDERS).rows[0]["drawn now"] == 5
    assert shards(tmp_path / "shards") == whole
    assert images(tmp_path / "folders") == pictures
    assert experiments.run("pretrain", tmp_path / "folders", FOLDERS).rows[0]["drawn now"] == 5  # the stored outcome


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": (3, 2)}, "maps must be (smallest, largest) with smallest <= largest, got (3, 2)"),
        ({"maps": 0}, "maps must be at least 1, got 0"),
        ({"systems": "runs/mine", "search": "filling-rate"}, "search must be left out if systems are given, got"),
        (
            {"rules": "one-parameter", "search": "filling-rate"},
            "search must be left out if rules is 'one-parameter', whose classes perturb one system, got",
        ),
        ({"instances": 0}, "instances must be at least 1, got 0"),
        ({"background": "white"}, "background must be one of black, random, got 'white'"),
        ({"density": 1.0}, "density must lie in [0, 1) or be None, got 1.0"),
        ({"layout": "tar"}, "layout must be one of shards, folders, got 'tar'"),
    ],
    ids=str,
)
def test_errors_of_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^PretrainSettings: {re.escape(message)}"):
        pretrain.PretrainSettings(**changes)
