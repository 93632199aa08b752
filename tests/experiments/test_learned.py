"""Tests of the experiments that learn networks (gan, inverse-encoder), at tiny sizes. Resuming is bit-exact."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fractalops import IFS, InputError, MissingExtra, affine_chain, experiments
from fractalops.experiments import gan, inverse_encoder
from fractalops.experiments.folder import ExperimentFolder
from fractalops.experiments.fractals import place_in_picture
from fractalops.experiments.lenet import FEATURES, features_of, lenet, probe, train_classifier
from tests.support.experiment_data import write_mnist
from tests.support.learning import at_call
from tests.support.runs import Stop
from tests.support.tolerances import assert_same_bits

GAN = gan.GanSettings(
    fractals=3, maps=3, points=20, steps=6, batch=4, discriminator_every=2, probe_every=2, drawn=3, epochs=1,
    probe_epochs=2, repeats=2, real=30,
)  # fmt: skip
ENCODER = inverse_encoder.InverseEncoderSettings(
    data=("fractaldb",), images=2, steps=3, sequences=2, points=20, maps=3, fractals=5, epochs=3, batch=2, fit_steps=2
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_mnist(tmp_path / "data" / "MNIST" / "raw", 20)
    write_mnist(tmp_path / "data" / "MNIST" / "raw", 40, split="train")
    return tmp_path / "data"


def test_lenet_depends_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second, other = lenet(7, 0), lenet(7, 0), lenet(7, 1)
    assert torch.equal(torch.get_rng_state(), state)
    images = torch.rand(3, 1, 32, 32)
    assert first(images).shape == (3, 7)
    assert features_of(first, images).shape == (3, FEATURES)
    assert_same_bits(first(images), second(images))
    assert not torch.equal(first(images), other(images))


def test_a_probe_sees_what_features_tell_apart() -> None:
    """After training on bright left or right halves, the network's features suffice for a linear classifier."""
    generator = torch.Generator().manual_seed(0)
    images = 0.3 * torch.rand(200, 1, 32, 32, generator=generator)
    labels = torch.arange(200) % 2
    images[labels == 0, :, :, :16] += 0.7
    images[labels == 1, :, :, 16:] += 0.7
    network = lenet(2, 0)
    state = torch.get_rng_state()
    train_classifier(network, images[:100], labels[:100], 3, 0)
    halves = (images[:100], labels[:100]), (images[100:], labels[100:])
    assert probe(network, *halves, 5, 0) > 0.95
    assert torch.equal(torch.get_rng_state(), state)
    shuffled = labels[torch.randperm(200, generator=generator)]
    chance = probe(network, (images[:100], shuffled[:100]), (images[100:], shuffled[100:]), 5, 0)
    assert 0.3 < chance < 0.7


def test_gan_writes_its_curve_and_pictures(data: Path, tmp_path: Path) -> None:
    outcome = experiments.run("gan", tmp_path / "run", GAN, data=data)
    assert [row["step"] for row in outcome.rows] == [0, 2, 4, 6]
    assert all(0 <= float(row[name]) <= 1 for row in outcome.rows for name in ("learned", "random"))
    assert outcome.rows[0]["difference"] == outcome.rows[0]["standard error"] == 0  # before learning
    for name in ("fractals-000000.png", "fractals-000006.png", "accuracy.png"):
        with Image.open(tmp_path / "run" / name) as picture:
            assert min(picture.size) > 60
    assert "accuracy_learned" in (tmp_path / "run" / "metrics.csv").read_text()
    (note,) = outcome.notes
    assert note.startswith("accuracy of a LeNet without pre-training: 0.")


@pytest.mark.parametrize(
    ("learned", "verdict"),
    [
        ([0.80, 0.82, 0.84], "holds"),  # always 0.1 above
        ([0.70, 0.72, 0.74], "not shown at this size"),  # no difference
        ([0.60, 0.62, 0.64], "does not hold"),
        ([0.71, 0.72, 0.76], "not shown at this size"),  # 0.01 above, with a standard error of 0.0058
        ([0.72, 0.73, 0.77], "holds"),  # 0.02 above, with the same
    ],
)
def test_gan_is_not_judged_by_chance(learned: list[float], verdict: str) -> None:
    """A difference counts only if it is larger than the variation between pre-trainings."""
    finding = gan.beyond_chance(gan.compared(5, learned, [0.70, 0.72, 0.74]))
    assert finding.verdict == verdict


def test_gan_judges_each_repeat_by_itself(data: Path) -> None:
    learning = gan.Learning(GAN, "cpu")
    real = gan.read_real(GAN, data, "cpu")
    state = learning.generator.get_state()
    two = gan.judge(learning, learning.system, real)
    learning.settings = dataclasses.replace(GAN, repeats=3)
    learning.generator.set_state(state)
    three = gan.judge(learning, learning.system, real)
    assert three[:2] == two
    assert len(three) == 3


def test_gan_killed_goes_on_with_the_same_bits(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = experiments.run("gan", tmp_path / "whole", GAN, data=data)
    advance = gan.Learning.advance
    with monkeypatch.context() as patched:
        patched.setattr(gan.Learning, "advance", at_call(6, advance, Stop()))  # after five steps
        with pytest.raises(Stop):
            experiments.run("gan", tmp_path / "run", GAN, data=data)
    steps = []
    monkeypatch.setattr(
        gan.Learning, "advance", lambda learning, real: (steps.append(learning.step), advance(learning, real))[1]
    )
    assert experiments.run("gan", tmp_path / "run", GAN, data=data).rows == whole.rows
    assert steps == [4, 5]
    for name in ("state.safetensors", "metrics.csv", "table.csv", "fractals-000006.png"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_gan_moves_its_fractals_and_keeps_the_control(data: Path) -> None:
    learning = gan.Learning(GAN, "cpu")
    first = [parameter.detach().clone() for parameter in learning.first.parameters()]
    judge = [parameter.detach().clone() for parameter in learning.discriminator.parameters()]
    real = gan.read_real(GAN, data, "cpu").train[0]
    for _ in range(2):
        learning.advance(real)
    for moved, kept, before in zip(learning.system.parameters(), learning.first.parameters(), first, strict=True):
        assert torch.equal(kept, before)
        assert not torch.equal(moved, before)
    assert not all(torch.equal(a, b) for a, b in zip(learning.discriminator.parameters(), judge, strict=True))


def test_gan_wants_labeled_images(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^cannot read fashion-mnist: .*; expected are FashionMNIST/raw/"):
        experiments.run("gan", tmp_path / "one", dataclasses.replace(GAN, data="fashion-mnist"), data=data)
    for path in (data / "MNIST" / "raw").glob("*labels*"):
        path.unlink()
    with pytest.raises(InputError, match=r"its labels are missing, and the linear probe needs them$"):
        experiments.run("gan", tmp_path / "two", GAN, data=data)


def test_gan_parts_the_images_where_training_images_are_missing(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", 20)
    real = gan.read_real(GAN, tmp_path, "cpu")
    assert (len(real.train[0]), len(real.test[0])) == (16, 4)
    assert real.note == "only the test images were found: 16 are used for training, 4 for testing"
    assert real.train[0].shape[1:] == (1, 32, 32)


@pytest.mark.parametrize("maps", [1, 3, 10])
def test_labels_become_the_systems_they_were_made_of(maps: int) -> None:
    system = IFS(4, maps, generator=torch.Generator().manual_seed(3))
    labels = inverse_encoder.to_labels(*system.maps())
    assert labels.shape == (4, 6 * maps)
    largest = torch.linalg.matrix_norm(labels.unflatten(1, (maps, 6))[..., :4].unflatten(2, (2, 2)), 2)
    assert (largest.diff(dim=1) <= 1e-6).all()
    back = inverse_encoder.to_system(labels, maps)
    difference = inverse_encoder.to_labels(*back.maps()) - labels
    assert difference.abs().max() < 2e-3  # singular values are clamped to [0.001, 0.999]


@pytest.mark.parametrize(("maps", "points"), [(1, 1), (2, 2), (3, 50), (10, 300)])
def test_fractals_are_placed_in_the_picture(maps: int, points: int) -> None:
    """The points are shifted and scaled by one factor per system. The matrices do not change."""
    generator = torch.Generator().manual_seed(5)
    system = IFS(7, maps, generator=generator)
    index = system.sample(1, points, generator=generator)
    before = affine_chain(*system.concatenated(index)).detach()  # (S, T, 2)
    matrix = system.maps()[0].detach().clone()
    place_in_picture(system, index, generator)
    after = affine_chain(*system.concatenated(index)).detach()
    assert_same_bits(system.maps()[0].detach(), matrix)
    low, high = after.amin(dim=1), after.amax(dim=1)
    # Centered, except for the rounding of fixed points, which singular values up to 0.999 multiply by 1000.
    rounding = 2 * torch.finfo(torch.float32).eps * 1000 * (1 + before.abs().amax(dim=(1, 2)))  # (S,)
    assert ((low + high).abs().amax(dim=1) / 2 < rounding).all()
    extent = (before.amax(dim=1) - before.amin(dim=1)).amax(dim=1)  # (S,)
    size = (high - low).amax(dim=1)
    if maps == 1 or points == 1:  # all points of a sequence coincide
        assert (size < rounding).all()
        return
    spread = extent > 1e-2
    assert spread.any()
    assert (size[spread] > 5.99).all()
    assert (size[spread] < 10.01).all()
    centered = before - (before.amin(dim=1, keepdim=True) + before.amax(dim=1, keepdim=True)) / 2
    expected = centered * (size / extent)[:, None, None]
    assert (after - expected)[spread].abs().max() < 0.02


def test_examples_show_what_their_labels_say() -> None:
    settings = dataclasses.replace(ENCODER, points=300, maps=10, fractals=7)
    images, labels = inverse_encoder.random_examples(settings)
    assert images.shape == (7, 1, 32, 32)
    assert labels.shape == (7, 60)
    system = inverse_encoder.to_system(labels, 10)
    drawn = system(32, sequences=20, points=300, generator=torch.Generator().manual_seed(0)).mean(dim=1)  # (7, 32, 32)
    errors = (drawn[:, None] - images[:, 0]).square().mean(dim=(2, 3))  # (7, 7): each system against each image
    assert errors.argmin(dim=0).tolist() == list(range(7))


def test_expansive_predictions_are_held_below_one() -> None:
    system = inverse_encoder.to_system(torch.full((1, 6), 5.0), 1)
    assert torch.linalg.matrix_norm(system.maps()[0], 2).max() < 1
    assert all(parameter.isfinite().all() for parameter in system.parameters())


def test_starts_of_other_images_are_the_same_systems() -> None:
    systems = IFS(3, 4, generator=torch.Generator().manual_seed(0))
    moved = inverse_encoder.of_the_next_image(systems)
    for name, tensor in systems.state_dict().items():
        assert_same_bits(moved.state_dict()[name], tensor[[1, 2, 0]])
        assert not torch.equal(moved.state_dict()[name], tensor)


@pytest.mark.slow
def test_inverse_encoder_compares_itself_with_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed (extra: train)")
    whole = experiments.run("inverse-encoder", tmp_path / "whole", ENCODER)
    assert [row["variant"] for row in whole.rows] == inverse_encoder.VARIANTS
    steps = f"fractaldb: {ENCODER.fit_steps} steps of fit from the encoder's systems beat as many steps from "
    assert [finding.claim for finding in whole.findings] == [
        "fractaldb: learning by gradient beats the encoder",
        f"{steps}random systems",
        f"{steps}its systems for another image",
    ]
    assert all(re.search(r", a difference of -?\d\.\d{4} \+- \d\.\d{4}$", one.detail) for one in whole.findings)
    assert (tmp_path / "whole" / "reconstructions.png").exists()
    with monkeypatch.context() as patched:  # stop after the encoder's third epoch
        patched.setattr(ExperimentFolder, "log", at_call(3, ExperimentFolder.log, Stop(), after=True))
        with pytest.raises(Stop):
            experiments.run("inverse-encoder", tmp_path / "run", ENCODER)
    again = experiments.run("inverse-encoder", tmp_path / "run", ENCODER)
    states = [(tmp_path / name / "state.safetensors").read_bytes() for name in ("run", "whole")]
    assert states[0] == states[1]

    def without_time(rows: Any) -> Any:
        return [{name: cell for name, cell in row.items() if name != "seconds an image"} for row in rows]

    assert without_time(again.rows) == without_time(whole.rows)
    (tmp_path / "run" / "metrics.json").unlink()
    (tmp_path / "run" / "learned" / "fractaldb" / "encoder-then-fit.safetensors").unlink()
    once_more = experiments.run("inverse-encoder", tmp_path / "run", ENCODER)
    assert without_time(once_more.rows) == without_time(whole.rows)


def test_without_transformers_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"needs transformers; install it with: pip install 'fractalops\[train\]'$"):
        experiments.run("inverse-encoder", tmp_path / "run", ENCODER)
