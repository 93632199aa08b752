"""Fractals as the generator of a GAN, evaluated by pre-training on them (paper section 5.3, Figure 5)."""

from __future__ import annotations

import copy
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import softplus

from fractalops._checks import Bounds, Count, Natural, Several, check_choice, check_fields
from fractalops.drawing.plots import Line, plot
from fractalops.drawing.sheets import contact_sheet, enlarge
from fractalops.errors import InputError, MissingExtra
from fractalops.experiments import states
from fractalops.experiments.folder import ExperimentFolder
from fractalops.experiments.lenet import lenet, probe, train_classifier
from fractalops.experiments.outcome import Finding, Outcome, Row, differs, mean_and_error
from fractalops.experiments.targets import FOLDERS, find_files, missing, read_split
from fractalops.fitting.config import LEARNING_VIEWPORT
from fractalops.fitting.learning import clip_gradients
from fractalops.ifs import IFS
from fractalops.io.images import save_image
from fractalops.io.progress import progress_bar

NAME = "gan"
SUMMARY = "Figure 5: fractals learned with a GAN loss, evaluated by pre-training on them"
_SIZE = 32
_HELD_OUT = 0.2  # share of the images for the test, if only one split is found
_LIMIT = 1.0  # largest gradient norm of a fractal
_SHOWN = 50  # fractals in a picture

_Rate = Annotated[float, Bounds(above=0, below=1)]


@dataclass(frozen=True)
class GanSettings:
    """Settings of the experiment."""

    data: str = "mnist"
    fractals: Several = 100
    maps: Count = 10
    points: Count = 300
    steps: Count = 20_000
    """Steps of the generator."""
    batch: Several = 100
    """Real images in a step of the discriminator. The generator draws one image of each fractal."""
    discriminator_every: Count = 1
    """Steps of the generator for each step of the discriminator."""
    rate: _Rate = 0.01
    """Learning rate of the fractals (Adam)."""
    discriminator_rate: _Rate = 1e-4
    probe_every: Count = 1000
    """Steps between evaluations. A run can be resumed after each evaluation."""
    drawn: Count = 500
    """Images of each fractal for pre-training."""
    epochs: Count = 10
    """Epochs of pre-training."""
    probe_epochs: Count = 100
    repeats: Several = 3
    """Networks that are pre-trained for an evaluation, each with other first weights and on other images."""
    real: Annotated[int, Bounds(least=10)] = 60_000
    """The largest number of real images, for training and for the probe."""
    seed: Natural = 0

    def __post_init__(self) -> None:
        check_choice("GanSettings", "data", self.data, tuple(FOLDERS))
        check_fields(self)


PRESETS = {
    "small": GanSettings(steps=1500, probe_every=500, drawn=40, epochs=4, probe_epochs=20, real=10_000),
    "paper": GanSettings(),
}


@dataclass(frozen=True)
class Real:
    """Labeled images for the discriminator and the probe, (S, 1, 32, 32) and (S,), on the device of the experiment."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    note: str


def read_real(settings: GanSettings, folder: Path | None, device: str) -> Real:
    """Return the images of the data set. Raise `InputError` if its files or their labels are missing."""
    files = find_files(settings.data, folder)
    if not files:
        raise missing(settings.data, folder)
    generator = torch.Generator().manual_seed(settings.seed)
    parts = {split: _labeled(path, settings.real, generator, device) for split, path in files.items()}
    if len(parts) == 2:
        return Real(parts["train"], parts["test"], "")
    (split,) = parts
    images, labels = parts[split]
    held = max(1, round(_HELD_OUT * len(images)))
    note = f"only the {split} images were found: {len(images) - held} are used for training, {held} for testing"
    return Real((images[held:], labels[held:]), (images[:held], labels[:held]), note)


def _labeled(path: Path, most: int, generator: torch.Generator, device: str) -> tuple[Tensor, Tensor]:
    found = read_split(path, most, size=_SIZE, generator=generator)
    if not all(label.isdigit() for label in found.labels):
        raise InputError(f"cannot read {path}: its labels are missing, and the linear probe needs them")
    labels = torch.tensor([int(label) for label in found.labels])
    return found.images[:, None].to(device), labels.to(device)


class Learning:
    """The training of the fractals and the discriminator."""

    def __init__(self, settings: GanSettings, device: str) -> None:
        generator = torch.Generator().manual_seed(settings.seed)
        self.settings = settings
        self.system = IFS(
            settings.fractals, settings.maps, viewport=LEARNING_VIEWPORT, generator=generator, device=device
        )
        self.first = copy.deepcopy(self.system)
        self.discriminator = lenet(1, settings.seed).to(device)
        self.generator = torch.Generator(device).manual_seed(settings.seed)
        # As is usual for GANs, both moments of Adam use fewer past steps than by default.
        betas = (0.5, 0.99)
        self.optimizer = torch.optim.Adam(self.system.parameters(), settings.rate, betas)
        self.opposing = torch.optim.Adam(self.discriminator.parameters(), settings.discriminator_rate, betas)
        self._parts: states.Parts = {
            "system": self.system,
            "first": self.first,
            "discriminator": self.discriminator,
            "optimizer.fractals": self.optimizer,
            "optimizer.discriminator": self.opposing,
        }
        self.step = 0

    def draw(self, system: IFS, images: int = 1) -> Tensor:
        """Return images (S * K, 1, 32, 32), K of each fractal."""
        drawn: Tensor = system(_SIZE, sequences=images, points=self.settings.points, generator=self.generator)
        return drawn.flatten(0, 1)[:, None]

    def advance(self, real: Tensor) -> tuple[float, float]:
        """Take a step of the fractals, and a step of the discriminator if it is due.

        Return their non-saturating losses, 0 for a discriminator without a step.
        """
        judged = self.discriminator(self.draw(self.system))
        loss = softplus(-judged).mean()
        self.optimizer.zero_grad()
        loss.backward()
        clip_gradients(self.system.parameters(), _LIMIT)
        self.optimizer.step()
        opposing = torch.zeros(())
        if self.step % self.settings.discriminator_every == 0:
            number = torch.randint(
                len(real), (self.settings.batch,), generator=self.generator, device=self.generator.device
            )
            with torch.no_grad():
                fake = self.draw(self.system)
            opposing = softplus(-self.discriminator(real[number])).mean() + softplus(self.discriminator(fake)).mean()
            self.opposing.zero_grad()
            opposing.backward()
            self.opposing.step()
        self.step += 1
        return float(loss.detach()), float(opposing.detach())

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that the next steps depend on, by name."""
        return states.state_of(self._parts) | {"generator": self.generator.get_state()}

    def restore(self, state: dict[str, Tensor], step: int) -> None:
        """Restore a `state` after `step` steps."""
        states.restore(self._parts, state)
        self.generator.set_state(state["generator"])
        self.step = step


def judge(learning: Learning, system: IFS | None, real: Real) -> list[float]:
    """Pre-train LeNets to classify the fractals, and return the accuracy of a linear probe on real images for each.

    Without a system the networks are evaluated without pre-training.
    """
    settings = learning.settings
    device = real.test[1].device
    labels = torch.arange(settings.fractals, device=device).repeat(settings.drawn)  # (drawn * S,): a class each
    accuracies = []
    for seed in range(settings.seed, settings.seed + settings.repeats):
        network = lenet(settings.fractals, seed).to(device)
        if system is not None:
            with torch.no_grad():
                images = torch.cat([learning.draw(system, 1) for _ in range(settings.drawn)])  # (drawn * S, 1, 32, 32)
            train_classifier(network, images, labels, settings.epochs, seed)
        accuracies.append(probe(network, real.train, real.test, settings.probe_epochs, seed))
    return accuracies


def compared(step: int, learned: list[float], random: list[float]) -> Row:
    """Return a row of the table. The accuracies are paired: those of a pair have the same first weights."""
    difference, error = mean_and_error([one - other for one, other in zip(learned, random, strict=True)])
    return {
        "step": step,
        "learned": statistics.fmean(learned),
        "random": statistics.fmean(random),
        "difference": difference,
        "standard error": error,
    }


def beyond_chance(row: Row) -> Finding:
    """Return the finding that learned fractals beat random ones."""
    numbers = (float(row[name]) for name in ("learned", "random", "difference", "standard error"))
    return differs("learned fractals beat random ones by the linear probe", *numbers)


def run(settings: GanSettings, output: ExperimentFolder, *, data: Path | None, device: str, progress: bool) -> Outcome:
    """Learn the fractals, and evaluate them at intervals. The fractals of the start are the control.

    Raises `InputError` if the real images or their labels are missing.
    """
    real = read_real(settings, data, device)
    learning = Learning(settings, device)
    rows: list[Row] = []
    if (state := output.load_state()) is not None:
        tensors, values = state
        learning.restore(
            {name: tensor.to(device) if name != "generator" else tensor for name, tensor in tensors.items()},
            values["step"],
        )
        rows = list(values["rows"])
    with progress_bar(settings.steps, "step", NAME, shown=progress, initial=learning.step) as bar:
        if not rows:
            rows.append(_judged(learning, real, output))
        while learning.step < settings.steps:
            losses = learning.advance(real.train[0])
            bar.update()
            if learning.step % 20 == 0:
                output.log(learning.step, generator_loss=losses[0], discriminator_loss=losses[1])
            if learning.step % settings.probe_every == 0 or learning.step == settings.steps:
                rows.append(_judged(learning, real, output))
                output.save_state(learning.state(), {"step": learning.step, "rows": rows})
    untrained = statistics.fmean(judge(learning, None, real))
    notes = [f"accuracy of a LeNet without pre-training: {untrained:.4f}", *([real.note] if real.note else [])]
    try:
        _draw_curve(output.file("accuracy.png"), rows, untrained, settings.data)
    except MissingExtra as error:
        notes.append(f"left out: {error}")
    return Outcome(rows, [beyond_chance(rows[-1])], notes)


def _judged(learning: Learning, real: Real, output: ExperimentFolder) -> Row:
    """Return a row of the table.

    Learned and random fractals are drawn with the same random numbers. The state of the generator is restored.
    """
    state = learning.generator.get_state()
    with torch.no_grad():
        sheet = learning.draw(learning.system)[:_SHOWN, 0].cpu()
    save_image(contact_sheet(enlarge(sheet, 2), columns=10), output.file(f"fractals-{learning.step:06}.png"))
    accuracies = []
    for system in (learning.system, learning.first):
        learning.generator.set_state(state)
        accuracies.append(judge(learning, system, real))
    learning.generator.set_state(state)
    row = compared(learning.step, *accuracies)
    output.log(learning.step, accuracy_learned=float(row["learned"]), accuracy_random=float(row["random"]))
    return row


def _draw_curve(path: Path, rows: list[Row], untrained: float, data: str) -> None:
    """Draw Figure 5. Raise `MissingExtra` if matplotlib is not installed."""
    steps = [float(row["step"]) for row in rows]
    lines = [
        Line("learned fractals", steps, [float(row["learned"]) for row in rows], "tab:red"),
        Line("random fractals", steps, [float(row["random"]) for row in rows], "tab:gray"),
        Line("no pre-training", steps, [untrained] * len(steps), "tab:gray", style=":"),
    ]
    plot("accuracy.png", path, lines, xlabel="step of the generator", ylabel="accuracy of the linear probe", title=data)
