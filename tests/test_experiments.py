"""The paper's experiments: what each command writes and says, at tiny sizes, on data that the tests make."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from fractalops import FitConfig, FitResult, InputError, experiments, fit
from fractalops.experiments import optimizers, reconstruct, transformations
from fractalops.experiments.inversions import Learned
from fractalops.experiments.outcome import Outcome, less
from fractalops.experiments.pictures import labelled_rows
from fractalops.experiments.record import Record
from fractalops.experiments.settings import changed
from fractalops.experiments.targets import available, random_fractals, read_targets
from fractalops.images import contact_sheet, enlarge
from tests.command_line import run
from tests.learning import disc
from tests.requirements import need_matplotlib
from tests.source_files import write_idx
from tests.tolerances import assert_same_bits

TINY: dict[str, Any] = {"images": 2, "steps": 3, "sequences": 2, "points": 20, "maps": 3, "size": 8}


def write_mnist(folder: Path, images: int, split: str = "t10k", packed: bool = True) -> None:
    """Blobs with labels, as MNIST's files."""
    pixels = numpy.zeros((images, 28, 28), numpy.uint8)
    for number in range(images):
        pixels[number, 4 + number % 9 : 16, 8:20] = 255
    suffix = ".gz" if packed else ""
    write_idx(folder / f"{split}-images-idx3-ubyte{suffix}", pixels)
    write_idx(folder / f"{split}-labels-idx1-ubyte{suffix}", numpy.arange(images, dtype=numpy.uint8) % 10)


# Outcomes


def test_a_table_has_columns_and_empty_cells() -> None:
    outcome = Outcome([{"name": "a", "error": 0.012345}, {"name": "long", "error": math.nan}])
    assert outcome.table().splitlines() == [
        "| name | error   |",
        "| ---- | ------- |",
        "| a    | 0.01235 |",
        "| long |         |",
    ]


@pytest.mark.parametrize(("a", "b", "holds"), [(1, 2, True), (2, 1, False), (1, 1, False), (math.inf, math.inf, False)])
def test_findings_are_judged_by_numbers(a: float, b: float, holds: bool) -> None:
    finding = less("a beats b", a, b)
    assert finding.holds is holds
    assert str(finding).startswith("holds: " if holds else "does not hold at this size: ")
    assert not less("", math.nan, 1.0).holds


# Targets


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("place", "name"),
    [("MNIST/raw", "mnist"), ("mnist", "mnist"), ("KMNIST/raw", "kmnist"), ("FashionMNIST/raw", "fashion-mnist")],
)
def test_data_sets_are_found_where_torchvision_puts_them(place: str, name: str, packed: bool, tmp_path: Path) -> None:
    write_mnist(tmp_path / place, 10, packed=packed)
    assert available(tmp_path) == ["fractaldb", name]
    targets = read_targets(name, tmp_path, 5, seed=1)
    assert targets.images.shape == (5, 32, 32)
    assert set(targets.images.unique().tolist()) == {0.0, 1.0}
    assert len(set(targets.labels)) == 5
    again = read_targets(name, tmp_path, 5, seed=1)
    assert torch.equal(again.images, targets.images)


def test_a_folder_of_one_data_set(tmp_path: Path) -> None:
    write_mnist(tmp_path / "kmnist", 3)
    assert available(tmp_path / "kmnist") == ["fractaldb", "kmnist"]


def test_missing_files_are_named(tmp_path: Path) -> None:
    for folder, where in ((None, r"no folder was given \(--data\)"), (tmp_path, "has none of its files")):
        with pytest.raises(InputError, match=rf"^cannot read kmnist: .*{where}; wanted are KMNIST/raw/t10k-images"):
            read_targets("kmnist", folder, 3)
    write_mnist(tmp_path / "MNIST" / "raw", 3)
    with pytest.raises(InputError, match=r"^cannot read 4 images of .*: it has 3$"):
        read_targets("mnist", tmp_path, 4)


@pytest.mark.parametrize("count", [1, 3, 30])
def test_random_fractals_are_neither_empty_nor_full(count: int) -> None:
    images = random_fractals(count, 32, 300, 0)
    assert images.shape == (count, 32, 32)
    assert set(images.unique().tolist()) == {0.0, 1.0}
    lit = images.mean(dim=(1, 2))
    assert ((lit >= 0.1) & (lit <= 0.8)).all()
    # Moved and scaled into the picture: they reach all its sides.
    for side in (images[:, :2], images[:, -2:], images[:, :, :2], images[:, :, -2:]):
        assert (side.amax(dim=(1, 2)) == 1).all()


@pytest.mark.parametrize(("size", "points"), [(2, 1), (224, 300), (8, 20)])
def test_random_fractals_of_few_points_are_drawn(size: int, points: int) -> None:
    """A tenth of the picture would be out of their reach."""
    assert random_fractals(3, size, points, 0).shape == (3, size, size)


# Pictures


def test_rows_stand_beside_their_names() -> None:
    rows = [
        ("one", torch.full((3, 8, 8), 0.5)),
        ("a longer name", torch.ones(2, 8, 8)),
        ("three", torch.zeros(5, 8, 8)),
    ]
    picture = labelled_rows(rows)
    sheet = contact_sheet(enlarge(torch.cat([row[:2] for _, row in rows]), 8), columns=2)  # as many as all rows have
    names = picture[:, : -sheet.shape[1]]
    assert torch.equal(picture[:, -sheet.shape[1] :], sheet)
    for row in range(3):  # each name within its row, the longest widest
        part = names[4 + 68 * row : 68 * (row + 1)]
        assert 0 < int((part > 0.5).sum()) < part.numel() / 4
    written = [int((names[68 * row : 68 * (row + 1)] > 0).any(dim=0).sum()) for row in range(3)]
    assert max(written) == written[1]


# Settings


def test_settings_are_changed_by_text() -> None:
    settings = changed(transformations.TransformationsSettings(), ["images=3", "counts=2,5", "data=mnist,kmnist"])
    assert (settings.images, settings.counts, settings.data) == (3, (2, 5), ("mnist", "kmnist"))
    assert changed(optimizers.OptimizersSettings(), ["sgd_rates=0.5,2"]).sgd_rates == (0.5, 2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("images", "--set wants NAME=VALUE with a NAME of data, images, "),
        ("width=3", "--set wants NAME=VALUE with a NAME of data, images, "),
        ("images=many", "--set images must be of type int, got 'many'"),
        ("images=0", "TransformationsSettings: images must be at least 1, got 0"),
        ("data=imagenet", "TransformationsSettings: data must be some of fractaldb, mnist, "),
        ("data=", "TransformationsSettings: data must be some of fractaldb, mnist, "),
        ("counts=5,2", "TransformationsSettings: counts must be two ascending numbers or more, got (5, 2)"),
    ],
)
def test_wrong_settings_are_named(change: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^{re.escape(message)}"):
        changed(transformations.TransformationsSettings(), [change])


@pytest.mark.parametrize("rates", ["", "0.0,1", "1,0.5", "0.5,0.5"])
def test_rates_ascend(rates: str) -> None:
    with pytest.raises(InputError, match=r"^OptimizersSettings: sgd_rates must be ascending numbers above 0, got "):
        changed(optimizers.OptimizersSettings(), [f"sgd_rates={rates}"])


# The folder


def test_scalars_and_state_are_read_back(tmp_path: Path) -> None:
    settings = reconstruct.ReconstructSettings(**TINY)
    record = Record(tmp_path / "run", "reconstruct", settings, {})
    record.open()
    record.log(1, loss=0.5)
    record.save_state({"weight": torch.ones(3)}, {"step": 1})
    other = Record(tmp_path / "run", "reconstruct", settings, {})
    other.open()
    state = other.load_state()
    assert state is not None
    assert torch.equal(state[0]["weight"], torch.ones(3))
    assert state[1] == {"step": 1}
    other.log(2, loss=0.25)
    other.write_scalars()
    assert (tmp_path / "run" / "metrics.csv").read_text() == "step,name,value\n1,loss,0.5\n2,loss,0.25\n"
    (tmp_path / "run" / "state.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"^cannot read .*state.safetensors: "):
        other.load_state()


def test_a_folder_with_anything_else_is_refused(tmp_path: Path) -> None:
    settings = reconstruct.ReconstructSettings(**TINY)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"there are files already"):
            Record(tmp_path / "full", "reconstruct", settings, {}).open(overwrite=overwrite)
    (tmp_path / "full" / "config.json").write_text('{"format": "mine"}')
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"its config.json is of something else$"):
            Record(tmp_path / "full", "reconstruct", settings, {}).open(overwrite=overwrite)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"it is not a folder$"):
        Record(tmp_path / "file", "reconstruct", settings, {}).open()
    Record(tmp_path / "run", "reconstruct", settings, {}).open()
    other = dataclasses.replace(settings, seed=1)
    with pytest.raises(InputError, match=r"^cannot go on in .*: settings.seed was 0, is 1; "):
        Record(tmp_path / "run", "reconstruct", other, {}).open()
    Record(tmp_path / "run", "reconstruct", other, {}).open(overwrite=True)


def test_numbers_that_are_not_finite_are_null_and_read_back(tmp_path: Path) -> None:
    record = Record(tmp_path / "run", "reconstruct", reconstruct.ReconstructSettings(**TINY), {})
    record.open()
    outcome = Outcome([{"name": "a", "error": math.nan, "rate": math.inf}], [less("", math.nan, 1.0)], ["note"])
    record.finish(outcome)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(), parse_constant=refuse)
    assert metrics["rows"] == [{"name": "a", "error": None, "rate": None}]
    again = record.finished()
    assert again is not None
    assert math.isnan(float(again.rows[0]["error"]))
    assert (again.findings, again.notes) == (outcome.findings, outcome.notes)


def test_another_python_goes_on_and_other_versions_do_not(tmp_path: Path) -> None:
    settings = reconstruct.ReconstructSettings(**TINY)
    for changed_version, refused in (("python", False), ("torch", True)):
        record = Record(tmp_path / changed_version, "reconstruct", settings, {})
        record.open()
        other = Record(tmp_path / changed_version, "reconstruct", settings, {})
        other.description["versions"][changed_version] = "0.1"
        if refused:
            with pytest.raises(InputError, match=r"^cannot go on in .*: versions.torch was "):
                other.open()
        else:
            other.open()


def test_what_could_not_begin_leaves_no_folder(tmp_path: Path) -> None:
    settings = reconstruct.ReconstructSettings(**TINY, data=("mnist",))
    with pytest.raises(InputError, match=r"^cannot read mnist: "):
        experiments.run("reconstruct", tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


# Inversions


def test_reconstruct_learns_every_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need_matplotlib()
    write_mnist(tmp_path / "data" / "MNIST" / "raw", 3)
    changes = [part for name, value in TINY.items() for part in ("--set", f"{name}={value}")]
    command = ("experiment", "reconstruct", "--data", tmp_path / "data", "-o", tmp_path / "out", "--quiet", *changes)
    assert run(*command) == 0
    printed = capsys.readouterr().out
    assert "expectation, clamp, noise" in printed
    assert "left out: cannot read kmnist" in printed
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert len(metrics["rows"]) == 2 * 12
    assert {row["data"] for row in metrics["rows"]} == {"fractaldb", "mnist"}
    assert len(metrics["findings"]) == 2 * 6
    for picture in ("reconstructions.png", "loss-mnist.png", "loss-fractaldb.png"):
        with Image.open(tmp_path / "out" / picture) as image:
            assert min(image.size) > 20
    assert (tmp_path / "out" / "metrics.csv").read_text().startswith("step,name,value\n0,")
    assert run(*command) == 0  # a finished run is told again, and not learned again
    assert capsys.readouterr().out == printed


def test_other_studies_learn_every_variant(tmp_path: Path) -> None:
    settings: Any = transformations.TransformationsSettings(**TINY, data=("fractaldb",), counts=(1, 2, 3))
    outcome = experiments.run("transformations", tmp_path / "one", settings)
    assert [row["variant"] for row in outcome.rows] == ["1 maps", "2 maps", "3 maps"]
    assert [finding.claim for finding in outcome.findings] == [
        "fractaldb: 2 maps beat 1 maps",
        "fractaldb: 3 maps beat 2 maps",
    ]
    settings = optimizers.OptimizersSettings(**TINY, data=("fractaldb",), adam_rates=(0.1,), sgd_rates=(0.1, 1.0))
    outcome = experiments.run("optimizers", tmp_path / "two", settings)
    assert [row["variant"] for row in outcome.rows] == ["Adam at 0.1", "SGD at 0.1", "SGD at 1"]
    best = min(outcome.rows[1:], key=lambda row: row["mean MSE"])["variant"]
    assert [finding.claim for finding in outcome.findings] == [
        f"fractaldb: Adam at 0.1 beats {best}, the best of each",
        "fractaldb: Adam beats SGD at the rate 0.1",
    ]
    assert outcome.notes == [f"fractaldb: {best} is the best, at the edge of the rates that were tried"]
    assert (tmp_path / "two" / "reconstructions.png").exists()


def test_studies_that_were_killed_go_on_with_the_variants_that_are_missing(tmp_path: Path) -> None:
    settings: Any = transformations.TransformationsSettings(**TINY, data=("fractaldb",), counts=(1, 2, 3))
    whole = experiments.run("transformations", tmp_path / "run", settings)
    files = {path.name: path for path in (tmp_path / "run" / "learned" / "fractaldb").iterdir()}
    assert set(files) == {"1-maps.safetensors", "2-maps.safetensors", "3-maps.safetensors"}
    before = {name: FitResult.load(path) for name, path in files.items()}
    (tmp_path / "run" / "metrics.json").unlink()
    files["3-maps.safetensors"].unlink()
    kept = files["1-maps.safetensors"].stat().st_mtime_ns
    again = experiments.run("transformations", tmp_path / "run", settings)
    assert files["1-maps.safetensors"].stat().st_mtime_ns == kept
    assert again.rows[:2] == whole.rows[:2]
    learned = FitResult.load(files["3-maps.safetensors"])
    assert_same_bits(learned.losses, before["3-maps.safetensors"].losses)
    assert_same_bits(learned.best_image, before["3-maps.safetensors"].best_image)
    files["2-maps.safetensors"].write_bytes(b"damaged")
    (tmp_path / "run" / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"^cannot read .*2-maps.safetensors: "):
        experiments.run("transformations", tmp_path / "run", settings)
    other = dataclasses.replace(settings, counts=(1, 2))
    experiments.run("transformations", tmp_path / "run", other, overwrite=True)
    assert not files["3-maps.safetensors"].exists()


@pytest.mark.parametrize("exploded", [False, True])
def test_raw_matrices_explode_only_where_some_did(exploded: bool) -> None:
    settings = reconstruct.ReconstructSettings(**TINY)
    learned = {
        (variant, "mnist"): Learned(variant, "mnist", fit(disc(8).expand(2, -1, -1), config))
        for variant, config in reconstruct.variants(settings).items()
    }
    if exploded:
        with torch.no_grad():
            learned["raw matrices from [-1, 1], noise", "mnist"].result.system.offset[1, 0, 0] = math.nan
    (finding,) = [one for one in reconstruct._findings("mnist", learned) if "explode" in one.claim]
    assert finding.holds is exploded
    assert finding.detail == (
        f"0 of 2 exploded; from [-1, 1] {int(exploded)} with noise and 0 without, from contractions 0 and 0"
    )


def test_systems_that_explode_are_counted_and_never_win() -> None:
    result = fit(disc(8).expand(2, -1, -1), FitConfig.paper(maps=2, points=9, sequences=1, steps=2))
    learned = Learned("", "", result)
    assert learned.exploded == 0
    assert learned.mean == pytest.approx(float(result.minimum_mse.mean()))
    with torch.no_grad():
        result.system.offset[1, 0, 0] = math.nan
    assert learned.exploded == 1
    assert learned.mean == math.inf
    assert not less("", learned.mean, 1.0).holds


# The command


def test_without_a_name_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("experiment") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(experiments.EXPERIMENTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["imagine"], "imagine is none of the experiments: reconstruct, "),
        (["reconstruct", "--preset", "huge"], "reconstruct has no preset huge, but small, paper"),
        (["reconstruct", "--set", "images=0"], "ReconstructSettings: images must be at least 1, got 0"),
        (["reconstruct", "--data", "nowhere"], "cannot read nowhere: it is not a folder"),
        (["reconstruct", "--set", "data=mnist"], "cannot read mnist: no folder was given (--data); wanted are "),
        (["pretrain", "--set", "density=0.99"], "FractalDataset: density must be reached by random systems, got "),
    ],
    ids=str,
)
def test_errors_are_one_line(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = ["--set", "classes=1", "--set", "size=8"] if options[0] == "pretrain" else []
    assert run("experiment", *options, *changes) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fractalops experiment: {message}")
    assert len(error.splitlines()) == 1


def test_presets_are_of_their_type() -> None:
    for experiment in experiments.EXPERIMENTS.values():
        assert set(experiment.PRESETS) == {"small", "paper"}
