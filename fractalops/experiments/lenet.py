"""LeNet (LeCun et al. 1998) for images of 32 x 32 pixels: its training, and a linear probe of its features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

FEATURES = 84
_BATCH = 128


def lenet(outputs: int, seed: int) -> nn.Sequential:
    """Return a LeNet: images (B, 1, 32, 32) to (B, outputs). Its weights depend only on the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, FEATURES), nn.ReLU(), nn.Linear(FEATURES, outputs),
        )  # fmt: skip


def train_classifier(network: nn.Module, images: Tensor, labels: Tensor, epochs: int, seed: int) -> None:
    """Train the network on images (S, 1, 32, 32) with classes (S,), by Adam with a cosine schedule."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    steps = epochs * -(-len(images) // _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for part in torch.randperm(len(images), generator=generator).split(_BATCH):
            optimizer.zero_grad()
            cross_entropy(network(images[part]), labels[part]).backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def features_of(network: nn.Sequential, images: Tensor) -> Tensor:
    """Return the outputs (S, FEATURES) of the second-to-last layer for images (S, 1, 32, 32)."""
    return torch.cat([network[:-1](part) for part in images.split(1024)])


def probe(
    network: nn.Sequential,
    train: tuple[Tensor, Tensor],  # images (S, 1, 32, 32) and classes (S,)
    test: tuple[Tensor, Tensor],
    epochs: int,
    seed: int,
) -> float:
    """Return the accuracy on `test` of a linear classifier that SGD trains on the frozen features of `train`."""
    features, held_out = features_of(network, train[0]), features_of(network, test[0])
    mean, deviation = features.mean(dim=0), features.std(dim=0) + 1e-3  # each (FEATURES,)
    features, held_out = (features - mean) / deviation, (held_out - mean) / deviation
    # torch's random initialization would draw numbers from the global generator.
    classes = int(torch.cat([train[1], test[1]]).max()) + 1
    linear = torch.nn.utils.skip_init(nn.Linear, FEATURES, classes, device=features.device)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for part in torch.randperm(len(features), generator=generator).split(_BATCH):
            optimizer.zero_grad()
            cross_entropy(linear(features[part]), train[1][part]).backward()
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        return float((linear(held_out).argmax(dim=1) == test[1]).float().mean())
