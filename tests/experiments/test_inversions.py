"""Tests of reconstruct, transformations and optimizers: variants are learned, compared, and reused on resuming."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fractalops import IFS, FitConfig, FitResult, InputError, experiments, fit
from fractalops.experiments import inverse_encoder, optimizers, recipe, reconstruct, transformations
from fractalops.experiments.fractals import random_fractals
from fractalops.experiments.inversions import Learned, beats, explodes, learn_variant
from fractalops.experiments.targets import read_targets
from tests.support.command_line import run
from tests.support.experiment_data import SETTINGS, TINY, TINY_OPTIONS, open_folder, write_mnist
from tests.support.learning import Interruption, disc
from tests.support.requirements import need_matplotlib
from tests.support.tolerances import assert_same_bits


def test_reconstruct_learns_every_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need_matplotlib()
    write_mnist(tmp_path / "data" / "MNIST" / "raw", 3)
    command = ("experiment", "reconstruct", "--data", tmp_path / "data", "-o", tmp_path / "out", "--quiet")
    command += tuple(TINY_OPTIONS)
    assert run(*command) == 0
    printed = capsys.readouterr().out
    assert "expectation, clamp, noise" in printed
    assert "left out: cannot read kmnist" in printed
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert len(metrics["rows"]) == 2 * 12
    assert {row["data"] for row in metrics["rows"]} == {"fractaldb", "mnist"}
    assert len(metrics["findings"]) == 2 * 7
    assert len(list((tmp_path / "out" / "learned").glob("*/*.safetensors"))) == 2 * 12
    for picture in ("reconstructions.png", "loss-mnist.png", "loss-fractaldb.png"):
        with Image.open(tmp_path / "out" / picture) as image:
            assert min(image.size) > 20
    assert (tmp_path / "out" / "metrics.csv").read_text().startswith("step,name,value\n0,")
    assert run(*command) == 0  # a finished run is reported without learning
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
    assert [row["variant"] for row in outcome.rows] == ["Adam at 0.1", "SGD at 0.1", "SGD at 1.0"]
    best = min(outcome.rows[1:], key=lambda row: row["mean MSE"])["variant"]
    assert [finding.claim for finding in outcome.findings] == [f"fractaldb: Adam at 0.1 beats {best}, the best of each"]
    assert outcome.notes == [f"fractaldb: {best} is the best; it is the first or the last of the rates"]
    assert (tmp_path / "two" / "reconstructions.png").exists()


@pytest.mark.parametrize("held_out", [False, True])
def test_recipe_compares_the_defaults_part_by_part(tmp_path: Path, held_out: bool) -> None:
    write_mnist(tmp_path / "data" / "MNIST" / "raw", 4)
    settings = recipe.RecipeSettings(**TINY, data=("mnist",), held_out=held_out)
    outcome = experiments.run("recipe", tmp_path / "run", settings, data=tmp_path / "data")
    rows = {row["variant"]: row for row in outcome.rows}
    assert len(rows) == (4 if held_out else 15)
    assert rows["paper"]["to paper"] == 1
    assert rows["default"]["sequences"] == 2 * rows["paper"]["sequences"] / TINY["sequences"]
    assert rows["default"]["mean, independent sequences"] >= 0
    assert [finding.claim for finding in outcome.findings] == ["mnist: the default settings beat the published ones"]
    assert (tmp_path / "run" / "reconstructions.png").exists()


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


def test_studies_do_not_go_on_with_what_was_learned_from_something_else(tmp_path: Path) -> None:
    output = open_folder(tmp_path / "run")
    images, start = disc(8).expand(2, -1, -1), reconstruct.uniform_start(SETTINGS)
    config = reconstruct.variants(SETTINGS)["raw matrices, noise"]

    def learn(name: str, **changes: Any) -> Learned:
        same = {"images": images, "config": config, "start": start, "origin": None}
        return learn_variant(name, "mnist", **(same | changes), output=output, device="cpu", progress=False)

    learned, again = learn("raw"), learn("raw")
    assert_same_bits(again.result.losses, learned.result.losses)
    assert again.row() == learned.row()
    refusal = r"^cannot resume in .*: mnist/{}.safetensors is of another start, other settings "
    for change in ({"images": 1 - images}, {"config": dataclasses.replace(config, steps=4)}, {"start": None}):
        with pytest.raises(InputError, match=refusal.format("raw")):
            learn("raw", **change)
    # If `origin` is given, it replaces the start in the comparison, because the start's last bits may change.
    learn("made", origin={"weight": torch.ones(3)})
    with torch.no_grad():
        start.offset += 1e-6
    learn("made", origin={"weight": torch.ones(3)})
    with pytest.raises(InputError, match=refusal.format("made")):
        learn("made", origin={"weight": torch.zeros(3)})


def test_uniform_starts_are_drawn_separately() -> None:
    """They use other random numbers than the starts of `fit` with the same seed."""
    start = reconstruct.uniform_start(SETTINGS)
    assert all(((parameter >= -1) & (parameter <= 1)).all() for parameter in start.parameters())
    generator = torch.Generator().manual_seed(SETTINGS.seed)
    system = IFS(SETTINGS.images, SETTINGS.maps, parametrization="matrix", generator=generator)
    assert not torch.equal(start.matrix, torch.empty_like(system.matrix).uniform_(-1, 1, generator=generator))


def test_targets_are_none_of_the_systems_that_others_start_from() -> None:
    """Targets differ from the encoder's examples (100 of each), and one target from the system drawn from the seed."""
    settings = inverse_encoder.InverseEncoderSettings(fractals=100)
    examples, _ = inverse_encoder.random_examples(settings)
    targets = read_targets("fractaldb", None, 100, size=32, points=300, seed=0).images
    assert (targets[:, None] != examples[:, 0]).flatten(2).any(dim=2).all()
    of_the_seed, _, _ = random_fractals(1, 10, 32, 300, torch.Generator().manual_seed(0))
    assert not torch.equal(read_targets("fractaldb", None, 1, size=32, points=300, seed=0).images, of_the_seed)


def learned_with(errors: list[float], exploded: int = 0) -> Learned:
    """Return one variant with these errors, of which the first `exploded` systems are NaN."""
    config = FitConfig(maps=2, points=9, sequences=1, steps=1)
    learned = Learned("", "", fit(disc(8).expand(len(errors), -1, -1), config))
    learned.result.minimum_mse = torch.tensor(errors)
    with torch.no_grad():
        learned.result.system.offset[:exploded, 0, 0] = math.nan
    return learned


@pytest.mark.parametrize(
    ("lower", "verdict", "detail"),
    [
        # The differences from 0.3, 0.2, 0.5 are 0.2, 0.0, 0.3 with a standard error of 0.0882, then +-(0.1, 0.1, 0.2)
        # with 0.0333.
        ([0.1, 0.2, 0.2], "not shown at this size", "0.1667 against 0.3333, a difference of 0.1667 +- 0.0882"),
        ([0.2, 0.1, 0.3], "holds", "0.2 against 0.3333, a difference of 0.1333 +- 0.0333"),
        ([0.4, 0.3, 0.7], "does not hold", "0.4667 against 0.3333, a difference of -0.1333 +- 0.0333"),
    ],
)
def test_variants_are_compared_image_by_image(lower: list[float], verdict: str, detail: str) -> None:
    finding = beats("it is better", learned_with(lower), learned_with([0.3, 0.2, 0.5]))
    assert str(finding) == f"{verdict}: it is better ({detail})"


@pytest.mark.parametrize(("exploded", "chance", "verdict"), [(1, "1", "not shown at this size"), (6, "0.031", "holds")])
def test_systems_that_exploded_lose_their_pair(exploded: int, chance: str, verdict: str) -> None:
    one, other = learned_with([0.1] * 12), learned_with([0.1] * 12, exploded)
    assert (one.exploded, one.mean) == (0, pytest.approx(0.1))
    assert (other.exploded, other.mean) == (exploded, math.inf)
    counted = f"{exploded} for it, 0 against it, p = {chance}"
    finding = beats("it is better", one, other)
    assert str(finding) == f"{verdict}: it is better (0.1 against inf: {counted})"
    finding = explodes("it explodes", other, one)
    assert str(finding) == f"{verdict}: it explodes ({exploded} of 12 exploded against 0: {counted})"
    assert beats("", other, one).verdict == explodes("", one, other).verdict.replace("holds", "does not hold")
    # Pairs of which both exploded do not count.
    assert beats("", other, other).detail == "inf against inf: 0 for it, 0 against it, p = 1"


@pytest.mark.parametrize(
    ("exploded", "verdict"), [(0, "not shown at this size"), (5, "not shown at this size"), (6, "holds")]
)
def test_reconstruct_counts_explosions_of_each_start(exploded: int, verdict: str) -> None:
    learned = {(variant, "mnist"): learned_with([0.1] * 7) for variant in reconstruct.variants(SETTINGS)}
    learned["raw matrices from [-1, 1], noise", "mnist"] = learned_with([0.1] * 7, exploded)
    uniform, contracting = (one for one in reconstruct._findings("mnist", learned) if "explode" in one.detail)
    assert uniform.claim == "mnist: raw matrices from [-1, 1] explode more often than the SVD parametrization"
    assert uniform.verdict == verdict
    assert uniform.detail.startswith(f"{exploded} of 7 exploded against 0: ")
    assert contracting.verdict == "not shown at this size"
    assert contracting.detail.startswith("0 of 7 exploded against 0: ")


def test_ctrl_c_ends_a_study_and_what_is_half_learned_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(SETTINGS, data=("fractaldb",))
    Interruption(TINY["steps"] + 1).install(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        experiments.run("reconstruct", tmp_path / "run", settings)
    assert len(list((tmp_path / "run" / "learned").rglob("*.safetensors"))) == 1  # only the first variant was finished
    monkeypatch.undo()
    experiments.run("reconstruct", tmp_path / "run", settings)
    assert (tmp_path / "run" / "metrics.json").exists()
