"""Graphics cards by their data sheets, and the least time that a kernel takes on one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LAUNCH = 2.5  # microseconds from one launch by the host to the next, at least; assumed
GRAPH_LAUNCH = 1.0  # microseconds from one kernel of a CUDA graph to the next, at least; assumed

# Exponentials that a multiprocessor begins in a cycle: the CUDA C++ Programming Guide's table of arithmetic throughput,
# the same for compute capability 7.5 to 12.0.
EXPONENTIALS = 16


@dataclass(frozen=True)
class Kernel:
    """What a kernel does, by its source and shapes: all of its launches together, where there are several.

    An array in global memory counts once for each kernel that touches it; caches may serve what is touched again.
    Operations are on float32, a multiply-add being two, as in the data sheets. Lanes without work count: they take
    their turn all the same. `product` are those of a product that runs on tensor cores where the plan says so.
    """

    name: str
    bytes: int = 0
    operations: int = 0
    exponentials: int = 0
    product: int = 0
    threads: int = 0
    launches: int = 1


@dataclass(frozen=True)
class Card:
    name: str
    device: str  # torch's name for it
    capability: tuple[int, int]
    bandwidth: float  # of global memory, GB/s
    rate: float  # float32, TFLOP/s
    multiprocessors: int
    cores: int  # float32 units of a multiprocessor
    tensor_rate: float = 0  # TF32 on tensor cores, dense, TFLOP/s; where a plan makes use of it

    @property
    def exponential_rate(self) -> float:
        """Exponentials, 10^12/s, at the clock that the float32 rate is stated for."""
        return self.rate / 2 / self.cores * EXPONENTIALS


# As the vendor states them. RTX 3090, 4090 and 5090: the white papers of Ampere GA102, Ada and RTX Blackwell. RTX 3060
# and 4060: their product pages, which give cores, 128 a multiprocessor. A100 and H100: their white papers and data
# sheets; the H100's 989 TF32 TFLOP/s are with sparsity. L4: its data sheet and product brief (7424 cores).
CARDS = (
    Card("GeForce RTX 3060 (12 GB)", "NVIDIA GeForce RTX 3060", (8, 6), 360, 12.7, 28, 128),
    Card("GeForce RTX 3090", "NVIDIA GeForce RTX 3090", (8, 6), 936, 35.6, 82, 128),
    Card("GeForce RTX 4060", "NVIDIA GeForce RTX 4060", (8, 9), 272, 15.1, 24, 128),
    Card("GeForce RTX 4090", "NVIDIA GeForce RTX 4090", (8, 9), 1008, 82.6, 128, 128),
    Card("GeForce RTX 5090", "NVIDIA GeForce RTX 5090", (12, 0), 1792, 104.8, 170, 128),
    Card("A100 (SXM, 40 GB)", "NVIDIA A100-SXM4-40GB", (8, 0), 1555, 19.5, 108, 64, 156),
    Card("H100 SXM", "NVIDIA H100 80GB HBM3", (9, 0), 3350, 67, 132, 128, 494),
    Card("L4", "NVIDIA L4", (8, 9), 300, 30.3, 58, 128),
)


@dataclass(frozen=True)
class Floor:
    """The least time of one kernel, or of several after each other, in microseconds: what each part takes alone."""

    memory: float
    arithmetic: float
    exponentials: float
    launches: float
    total: float

    @property
    def largest(self) -> str:
        """Which part takes longest."""
        parts = ("memory", "arithmetic", "exponentials", "launches")
        return max(parts, key=lambda name: float(getattr(self, name)))


def occupied(kernel: Kernel, card: Card) -> float:
    """The share of the card's units that the kernel's threads can keep busy."""
    return min(1.0, kernel.threads / (card.multiprocessors * card.cores)) if kernel.threads else 1.0


def floor_of(kernels: Sequence[Kernel], card: Card, launch: float = LAUNCH) -> Floor:
    """The largest part of each kernel, one kernel after the other, and their launches."""
    memory = arithmetic = exponentials = launches = total = 0.0
    for kernel in kernels:
        share = occupied(kernel, card)
        parts = (
            kernel.bytes / card.bandwidth / 1e3,
            _arithmetic(kernel, card, share),
            kernel.exponentials / (card.exponential_rate * share) / 1e6,
        )
        memory, arithmetic, exponentials = memory + parts[0], arithmetic + parts[1], exponentials + parts[2]
        launches += kernel.launches * launch
        total += max(parts) + kernel.launches * launch
    return Floor(memory, arithmetic, exponentials, launches, total)


def _arithmetic(kernel: Kernel, card: Card, share: float) -> float:
    """tf32x3 takes three products on the tensor cores, which work beside the other units."""
    if card.tensor_rate:
        return max(kernel.operations / (card.rate * share), 3 * kernel.product / (card.tensor_rate * share)) / 1e6
    return (kernel.operations + kernel.product) / (card.rate * share) / 1e6
