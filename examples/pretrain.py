"""Train a small network to classify fractals, which the workers of a `DataLoader` draw during the training.

    python examples/pretrain.py [WORKERS]

Prints how many images per second the network processes, and which share of the time it waits for the next batch. The
share is near 0 if the workers draw faster than the network learns. The losses do not depend on the number of workers,
because an item is bitwise identical in every worker.
"""

from __future__ import annotations

import sys
import time
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

import fractalops

CLASSES, INSTANCES, BATCH, EPOCHS = 20, 100, 50, 5


class Report(NamedTuple):
    """The results of a training run."""

    losses: list[float]  # one per batch
    accuracy: float  # in the last epoch, for each batch before its optimization step
    seconds: float
    waiting: float  # seconds in which the network waited for a batch
    images: int


def network(classes: int) -> nn.Module:
    """Return a small convolutional network: images (B, 3, H, W) to a score for each class (B, classes)."""
    layers: list[nn.Module] = []
    for channels, wider in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.BatchNorm2d(wider), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


def train(data: fractalops.FractalDataset, *, batch: int, epochs: int, workers: int) -> Report:
    """Train a network on a data set, in a new order in each epoch."""
    torch.manual_seed(0)
    model = network(data.num_classes).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    # The sampler has a separate generator. From the loader's generator, seeds for the workers are drawn as well.
    order = RandomSampler(data, generator=torch.Generator().manual_seed(0))
    loader: DataLoader[Any] = DataLoader(
        data, batch, sampler=order, num_workers=workers, persistent_workers=workers > 0
    )
    losses, waiting, right = [], 0.0, 0
    began = asked = time.perf_counter()
    for _ in range(epochs):
        right = 0
        for images, labels in loader:  # uint8 (B, 3, H, W), a quarter of the bytes to transfer; (B,)
            waiting += time.perf_counter() - asked
            scores = model(images / 255)  # (B, classes)
            loss: Tensor = nn.functional.cross_entropy(scores, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            right += int((scores.argmax(1) == labels).sum())
            asked = time.perf_counter()
    return Report(losses, right / len(data), time.perf_counter() - began, waiting, epochs * len(data))


def main(
    workers: int, *, classes: int = CLASSES, instances: int = INSTANCES, size: int = 64, epochs: int = EPOCHS
) -> Report:
    """Train a network, print a report, and return it."""
    data = fractalops.FractalDataset(
        classes, instances, size, rendering="color", background="random", points=10_000, dtype=torch.uint8
    )
    print(data)
    report = train(data, batch=BATCH, epochs=epochs, workers=workers)
    print(f"loss {report.losses[0]:.3f} -> {report.losses[-1]:.3f}, accuracy {report.accuracy:.0%} in the last epoch")
    print(
        f"{report.images / report.seconds:.0f} images per second with {workers} workers; the network waits for data "
        f"{report.waiting / report.seconds:.0%} of the time"
    )
    return report


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
