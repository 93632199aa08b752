"""Timing on the GPU that is there: ops replayed as CUDA graphs between events, on a cold cache."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor

from fractalops.backends import choose
from fractalops.errors import BackendError

from .cuda_plan import Shape
from .machine import copy_rate
from .rbf_rasterize_work import Picture
from .rows import LEAST_ROUNDS, Rates
from .timing import Call, Spread

Timer = Callable[[Callable[[], object]], Spread]  # microseconds of one call

INDEX_DTYPES = {1: torch.uint8, 4: torch.int32, 8: torch.int64}
WARM_UP = 3  # calls, which compile what is compiled at a first one
GRAPH_TOLERANCE = 1e-3  # of the largest: a baseline's sums may take another order; a graph that is wrong is far off


class CudaClock:
    """CUDA events around calls, each on the next of several inputs, with the second-level cache read over in between.

    What reads it over is larger than the cache, and still at work when the host has enqueued the next call: neither
    what the last call left there nor the host's own time is measured.
    """

    device, threads, pinned, copies = "cuda", 0, "", 4

    def __init__(self, repetitions: int = 20, seconds: float = 2.0) -> None:
        self.repetitions, self.seconds = repetitions, seconds  # of a round, at most
        self._stream = torch.cuda.Stream()
        # Graphs give what they make to nobody, so that all may work in the same memory.
        self._pool = torch.cuda.graph_pool_handle()
        # Half as much again as the cache, and at least what a GPU takes some 0.2 ms to read.
        size = max(torch.cuda.get_device_properties().L2_cache_size * 3 // 2, 256 << 20)
        self._memory = torch.zeros(size, dtype=torch.uint8, device="cuda")
        self._entered = ExitStack()

    def __enter__(self) -> CudaClock:
        # A stream of its own: a backward runs on the stream of its forward, and the default one can't be captured.
        self._stream.wait_stream(torch.cuda.current_stream())
        self._entered.enter_context(torch.cuda.stream(self._stream))
        return self

    def __exit__(self, *exception: object) -> None:
        self._entered.close()
        torch.cuda.synchronize()

    def ready(self, call: Call, *, as_graph: bool) -> Call:
        """Warmed up; as a CUDA graph, which must give what the call gives."""
        for _ in range(WARM_UP if as_graph else 1):
            made = call()
        torch.cuda.synchronize()
        if not as_graph:
            return call
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            replayed = call()
        graph.replay()
        torch.cuda.synchronize()
        for got, wanted in zip(_tensors(replayed), _tensors(made), strict=True):
            allowed = GRAPH_TOLERANCE * float(wanted.abs().max())
            torch.testing.assert_close(got, wanted, rtol=GRAPH_TOLERANCE, atol=allowed)
        return graph.replay

    def time(self, calls: Mapping[str, Sequence[Call]], rounds: int) -> dict[str, list[float]]:
        """Seconds of one call, in each round the median of `repetitions`, or fewer where they would take long."""
        taken: dict[str, list[float]] = {name: [] for name in calls}
        counts = {name: self._repetitions(each[0]) for name, each in calls.items()}
        for _ in range(rounds):
            for name, each in calls.items():
                if counts[name] > 1 or len(taken[name]) < LEAST_ROUNDS:
                    taken[name].append(self._median(each, counts[name]))
        return taken

    def peak_bytes(self, call: Call) -> int:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated()) - before

    def _repetitions(self, call: Call) -> int:
        return max(1, min(self.repetitions, int(self.seconds / self._median([call], 1))))

    def _median(self, calls: Sequence[Call], repetitions: int) -> float:
        pairs = []
        for call in islice(cycle(calls), repetitions):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self._memory.amax()
            begin.record()
            call()
            end.record()
            pairs.append((begin, end))
        torch.cuda.synchronize()
        return float(statistics.median(begin.elapsed_time(end) for begin, end in pairs)) / 1e3


def _tensors(value: object) -> Iterator[Tensor]:
    """The tensors that a call gave, one or several."""
    for each in value if isinstance(value, (tuple, list)) else [value]:
        if isinstance(each, Tensor):
            yield each


def gpu_rates() -> Rates:
    """The most that the GPU can do, by a copy and a loop of multiply-adds."""
    from .multiply_adds import multiply_add_rate  # imports Triton

    clock = CudaClock()
    return Rates("cuda", 0, copy_rate(clock), multiply_add_rate(clock))


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


def missing_gpu() -> str:
    """Why nothing can be measured on a GPU; empty where it can."""
    if not torch.cuda.is_available():
        return "torch finds no NVIDIA GPU"
    try:
        for op in ("affine_chain", "rbf_rasterize"):
            choose(op, torch.device("cuda"), "native")
    except BackendError as error:
        return str(error)
    return ""


def find_gpu(rounds: int) -> tuple[Gpu | None, str]:
    """The current CUDA device, or why there is none to measure on."""
    missing = missing_gpu()
    if missing:
        return None, missing
    clock = CudaClock()

    def timer(function: Call) -> Spread:
        with clock:
            return Spread.of(clock.time({"it": [function]}, rounds)["it"]).scaled(1e6)

    return Gpu(torch.cuda.get_device_name(), torch.device("cuda"), timer), ""


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
