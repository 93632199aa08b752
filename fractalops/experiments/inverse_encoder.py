"""The paper's baseline: a network that predicts a fractal's parameters from its image (section 5.2, appendix A.1).

The method is that of Graham and Demers 2019. The network is evaluated alone, and as the start of `fit`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from fractalops._checks import Bounds, Count, Several
from fractalops.data.generators import generator_of
from fractalops.errors import MissingExtra
from fractalops.experiments import states
from fractalops.experiments.folder import ExperimentFolder
from fractalops.experiments.fractals import REACH, random_fractals
from fractalops.experiments.inversions import (
    InversionSettings,
    Learned,
    beats,
    draw_reconstructions,
    learn_variant,
    load_data,
)
from fractalops.experiments.outcome import Finding, Outcome
from fractalops.fitting.schedules import cosine_schedule
from fractalops.ifs import IFS
from fractalops.io.progress import progress_bar

if TYPE_CHECKING:
    from torch import nn

NAME = "inverse-encoder"
SUMMARY = "Table 1, the baseline: a ResNet-18 that predicts parameters, alone and as the start of fit"
_PARAMETERS = 6  # parameters of a map: its matrix and its offset
_LARGEST = 0.999  # the largest singular value of a predicted map, so that no system explodes
_SIGN = 0.5  # the absolute value of the latent signs of predicted reflections
ALONE, FROM_IT, FROM_OTHER = "encoder", "encoder, then fit", "encoder for another image, then fit"
FROM_RANDOM, LEARNED = "fit, as few steps", "fit"
VARIANTS = [ALONE, FROM_IT, FROM_OTHER, FROM_RANDOM, LEARNED]


@dataclass(frozen=True)
class InverseEncoderSettings(InversionSettings):
    """Settings of the experiment."""

    maps: Several = 10
    fractals: Several = 20_000
    """Random fractals on which the encoder is trained."""
    epochs: Count = 100
    batch: Several = 128
    rate: Annotated[float, Bounds(above=0, below=10)] = 0.05
    """First learning rate of the encoder, for SGD with momentum 0.9 and a cosine schedule over the epochs."""
    fit_steps: Count = 100
    """Steps of `fit` from the systems that the encoder predicts."""


PRESETS = {
    "small": InverseEncoderSettings(images=32, steps=600, sequences=20, fractals=4000, epochs=6),
    "paper": InverseEncoderSettings(),
}


def run(
    settings: InverseEncoderSettings, output: ExperimentFolder, *, data: Path | None, device: str, progress: bool
) -> Outcome:
    """Train the encoder, and compare it with `fit` on the same targets.

    Raises `MissingExtra` if transformers is not installed, and `InputError` if no data set is found.
    """
    targets, notes = load_data(settings, data)
    network = _resnet18(_PARAMETERS * settings.maps, settings.seed).to(device)
    train(network, settings, output, device, progress)
    learned: dict[tuple[str, str], Learned] = {}
    for name, images in targets.items():
        guess = predict(network, images.to(device), settings.maps)
        for variant, config, start in (
            (ALONE, settings.config(steps=0), guess),
            (FROM_IT, settings.config(steps=settings.fit_steps), guess),
            (FROM_OTHER, settings.config(steps=settings.fit_steps), of_the_next_image(guess)),
            (FROM_RANDOM, settings.config(steps=settings.fit_steps), None),
            (LEARNED, settings.config(), None),
        ):
            learned[variant, name] = learn_variant(
                variant, name, images, config, output,
                start=start, origin=network.state_dict(), device=device, progress=progress,
            )  # fmt: skip
    draw_reconstructions(output, targets, learned, dict.fromkeys(targets, VARIANTS))
    findings: list[Finding] = []
    for name in targets:
        of = {variant: learned[variant, name] for variant in VARIANTS}
        claim = f"{name}: {settings.fit_steps} steps of fit from the encoder's systems beat as many steps from"
        findings += [
            beats(f"{name}: learning by gradient beats the encoder", of[LEARNED], of[ALONE]),
            beats(f"{claim} random systems", of[FROM_IT], of[FROM_RANDOM]),
            beats(f"{claim} its systems for another image", of[FROM_IT], of[FROM_OTHER]),
        ]
    return Outcome([one.row() for one in learned.values()], findings, notes)


def of_the_next_image(systems: IFS) -> IFS:
    """Return the same systems, each moved to the previous image, as a start of the same kind for another target."""
    moved = copy.deepcopy(systems)
    moved.load_state_dict({name: tensor.roll(-1, dims=0) for name, tensor in systems.state_dict().items()})
    return moved


# Training data


def random_examples(settings: InverseEncoderSettings) -> tuple[Tensor, Tensor]:
    """Return images (S, 1, H, W) of random systems and their labels (S, 6 N), see `to_labels`."""
    images, matrix, offset = random_fractals(
        settings.fractals, settings.maps, settings.size, settings.points, generator_of(settings.seed, "examples", 0)
    )
    return images[:, None], to_labels(matrix, offset)


def to_labels(matrix: Tensor, offset: Tensor) -> Tensor:
    """Return matrix (S, N, 2, 2) and offset (S, N, 2) as labels (S, 6 N), the maps in a unique order.

    The maps are sorted by their largest singular value, in descending order. Offsets are divided by `REACH`, so that
    they do not outweigh the matrices in the loss.
    """
    order = torch.linalg.matrix_norm(matrix, 2).argsort(dim=1, descending=True)  # (S, N)
    parameters = torch.cat([matrix.flatten(2), offset / REACH], dim=2)  # (S, N, 6)
    return parameters.gather(1, order[..., None].expand_as(parameters)).flatten(1)


def to_system(labels: Tensor, maps: int) -> IFS:
    """Return the systems of labels (S, 6 N), with singular values clamped below 1."""
    parameters = labels.detach().unflatten(1, (maps, _PARAMETERS))  # (S, N, 6)
    left, values, right = torch.linalg.svd(parameters[..., :4].unflatten(2, (2, 2)).cpu().double())
    # R(theta) has determinant 1. If that of `left` is -1, flip its second column and the second row of `right`.
    flip = left.det().sign()  # (S, N)
    left, right = left.clone(), right.clone()
    left[..., 1] *= flip[..., None]
    right[..., 1, :] *= flip[..., None]
    mirrored = right.det().sign()  # (S, N): right = R(phi) diag(1, mirrored)
    theta = torch.atan2(left[..., 1, 0], left[..., 0, 0])
    phi = torch.atan2(right[..., 1, 0], right[..., 0, 0])
    logits = values.clamp(1e-3, _LARGEST).logit()  # (S, N, 2)
    signs = torch.stack([torch.ones_like(mirrored), mirrored], -1) * _SIGN  # (S, N, 2)
    system = IFS(len(labels), maps, generator=torch.Generator()).to(labels.device)
    svd = torch.cat([theta[..., None], phi[..., None], logits, signs], -1).float()  # (S, N, 6)
    system.load_state_dict({"svd": svd, "offset": REACH * parameters[..., 4:]})
    return system


# The encoder


def _resnet18(outputs: int, seed: int) -> nn.Module:
    """Return a ResNet-18 (He et al. 2016) of Hugging Face's transformers: images (B, 1, H, W) to (B, outputs)."""
    try:
        from transformers import ResNetConfig, ResNetForImageClassification
    except ImportError as error:
        raise MissingExtra("experiment inverse-encoder", "transformers", "train") from error
    layers: dict[str, Any] = {
        "num_channels": 1, "embedding_size": 64, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2],
        "layer_type": "basic", "num_labels": outputs,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = ResNetForImageClassification(ResNetConfig(**layers))
    return network


def train(
    network: nn.Module, settings: InverseEncoderSettings, output: ExperimentFolder, device: str, progress: bool
) -> None:
    """Train the network to predict the labels of random fractals. Resume after the last epoch that the output saved."""
    optimizer = torch.optim.SGD(network.parameters(), settings.rate, momentum=0.9, weight_decay=1e-4)
    parts: states.Parts = {"network": network, "optimizer": optimizer}
    done = 0
    if (state := output.load_state()) is not None:
        states.restore(parts, state[0])
        done = state[1]["epoch"]
    if done == settings.epochs:
        return
    images, labels = (tensor.to(device) for tensor in random_examples(settings))
    bar = progress_bar(settings.epochs, "epoch", NAME, shown=progress, initial=done)
    network.train()
    for epoch in range(done, settings.epochs):
        for group in optimizer.param_groups:
            group["lr"] = cosine_schedule(settings.rate, epoch, settings.epochs)
        generator = torch.Generator().manual_seed(settings.seed * 100_003 + epoch)
        total = 0.0
        for part in torch.randperm(len(images), generator=generator).split(settings.batch):
            if len(part) < 2:
                continue  # batch normalization needs two images
            optimizer.zero_grad()
            loss = mse_loss(network(images[part]).logits, labels[part])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            total += float(loss.detach()) * len(part)
        output.log(epoch + 1, encoder_loss=total / len(images))
        output.save_state(states.state_of(parts), {"epoch": epoch + 1})
        bar.update()
    bar.close()


@torch.no_grad()
def predict(network: nn.Module, images: Tensor, maps: int) -> IFS:
    """Return the systems that the encoder predicts for images (S, H, W)."""
    network.eval()
    return to_system(torch.cat([network(part[:, None]).logits for part in images.split(256)]), maps)
