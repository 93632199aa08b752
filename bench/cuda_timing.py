"""Timing the two ops' kernels on the GPU that is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.cuda_plan import Shape
from bench.rbf_rasterize_work import Picture
from bench.timing import Spread
from fractalops.dispatch import choose
from fractalops.errors import BackendError

Timer = Callable[[Callable[[], object]], Spread]  # microseconds of one call

INDEX_DTYPES = {1: torch.uint8, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Gpu:
    """What figures are measured on, and how."""

    name: str
    device: torch.device
    timer: Timer

    def measure(self, shape: Shape | Picture) -> dict[str, Spread]:
        """Both directions of the op whose shape it is, by name."""
        calls = chain_calls if isinstance(shape, Shape) else rasterizer_calls
        return {direction: self.timer(call) for direction, call in calls(shape, self.device).items()}  # type: ignore[arg-type]


def find_gpu(repetitions: int) -> tuple[Gpu | None, str]:
    """The current CUDA device, or why there is none to measure on."""
    if not torch.cuda.is_available():
        return None, "torch finds no NVIDIA GPU"
    device = torch.device("cuda")
    try:
        for op in ("affine_chain", "rbf_rasterize"):
            choose(op, device, "native")
    except BackendError as error:
        return None, str(error)
    name = torch.cuda.get_device_name(device)
    return Gpu(name, device, lambda function: events_time(function, repetitions)), ""


def events_time(function: Callable[[], object], repetitions: int) -> Spread:
    """By CUDA events around each call.

    Between the calls, memory larger than any second-level cache is cleared: it pushes out what the last call left
    there, and the device is still at it when the host has enqueued the next call, so the host's time isn't measured.
    """
    memory = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repetitions)]
    for _ in range(10):
        function()
    for begin, end in events:
        memory.zero_()
        begin.record()
        function()
        end.record()
    torch.cuda.synchronize()
    return Spread.of([begin.elapsed_time(end) for begin, end in events]).scaled(1e3)


def chain_calls(shape: Shape, device: torch.device) -> dict[str, Callable[[], object]]:
    """The raw op's two directions, on contracting maps and an index drawn from each image's own."""
    dtype = {4: torch.float32, 8: torch.float64}[shape.element_bytes]
    drawn = torch.randint(shape.maps_of_image, (shape.sequences, shape.length), device=device)
    image = torch.arange(shape.sequences, device=device) * shape.images // shape.sequences  # (B)
    index = (drawn + image[:, None] * shape.maps_of_image).to(INDEX_DTYPES[shape.index_bytes])
    dimensions = shape.dimensions
    matrix = torch.rand(shape.maps, dimensions, dimensions, dtype=dtype, device=device) / dimensions
    offset = torch.rand(shape.maps, dimensions, dtype=dtype, device=device)
    start = torch.zeros(shape.sequences, dimensions, dtype=dtype, device=device)
    points = torch.rand(shape.sequences, shape.length, dimensions, dtype=dtype, device=device)
    grad = torch.rand_like(points)
    ops = torch.ops.fractalops
    return {
        "forward": lambda: ops.affine_chain_fwd(matrix, offset, index, start),
        "backward": lambda: ops.affine_chain_bwd(grad, matrix, index, start, points),
    }


def rasterizer_calls(shape: Picture, device: torch.device) -> dict[str, Callable[[], object]]:
    """The raw op's two directions, on points that lie evenly over the image."""
    points = torch.rand(shape.images, shape.length, 2, device=device) * (shape.side - 1)
    bandwidth = torch.full((shape.images,), shape.bandwidth, device=device)
    grad = torch.rand(shape.images, 1, shape.side, shape.side, device=device)
    ops = torch.ops.fractalops
    return {
        "forward": lambda: ops.rbf_rasterize_fwd(points, None, bandwidth, shape.side, shape.side, shape.cutoff),
        "backward": lambda: ops.rbf_rasterize_bwd(grad, points, None, bandwidth, shape.cutoff, False),
    }
