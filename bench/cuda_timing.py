"""Timing on the GPU: ops are replayed as CUDA graphs between CUDA events, on a cold cache."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import cycle, islice

import torch
from torch import Tensor

from fractalops.backends import choose
from fractalops.errors import BackendError

from .machine import copy_rate
from .rows import LEAST_ROUNDS, Rates
from .timing import Call

PROGRAMS_OF_MULTIPROCESSOR = 32  # in the loop of multiply-adds
WARM_UP = 3  # calls before timing, of which the first compiles
GRAPH_TOLERANCE = 1e-3  # relative to the maximum: a baseline's sums may change their order; wrong graphs differ more


class CudaClock:
    """CUDA events around calls, with a read of a large buffer before each call. Calls take several inputs in turn.

    The buffer is larger than the second-level cache, so that a call finds none of its data there. The read lasts until
    the host has enqueued the call, so that the host's time is not measured.
    """

    device, threads, pinned, copies = "cuda", 0, "", 4

    def __init__(self, repetitions: int = 20, seconds: float = 2.0) -> None:
        self.repetitions, self.seconds = repetitions, seconds  # limits of a round
        self._stream = torch.cuda.Stream()
        # 1.5 times the cache, and at least 256 MiB, which a GPU reads in about 0.2 ms.
        size = max(torch.cuda.get_device_properties().L2_cache_size * 3 // 2, 256 << 20)
        self._memory = torch.zeros(size, dtype=torch.uint8, device="cuda")
        self._entered = ExitStack()

    def __enter__(self) -> CudaClock:
        # A separate stream: the default stream can't be captured, and a backward runs on the stream of its forward.
        self._stream.wait_stream(torch.cuda.current_stream())
        # Nothing uses the results of a graph later, so that all graphs can share their memory. A pool can't be used
        # again if all its graphs are deleted.
        self._pool = torch.cuda.graph_pool_handle()
        self._entered.enter_context(torch.cuda.stream(self._stream))
        return self

    def __exit__(self, *exception: object) -> None:
        self._entered.close()
        torch.cuda.synchronize()

    def ready(self, call: Call, *, as_graph: bool) -> Call:
        """Warm up the call, and return it or a CUDA graph of it. Raises `AssertionError` if the graph is wrong."""
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
        for got, expected in zip(_tensors(replayed), _tensors(made), strict=True):
            allowed = GRAPH_TOLERANCE * (float(expected.abs().max()) if expected.numel() else 0.0)
            torch.testing.assert_close(got, expected, rtol=GRAPH_TOLERANCE, atol=allowed)
        return graph.replay

    def time(self, calls: Mapping[str, Sequence[Call]], rounds: int) -> dict[str, list[float]]:
        """Return the seconds of one call in each round: the median of at most `repetitions` calls.

        A round of one name takes at most about `seconds`. If this is enough for one call only, there are at most
        `LEAST_ROUNDS` rounds.
        """
        taken: dict[str, list[float]] = {name: [] for name in calls}
        counts = {name: self._repetitions(each[0]) for name, each in calls.items()}
        for _ in range(rounds):
            for name, each in calls.items():
                if counts[name] > 1 or len(taken[name]) < LEAST_ROUNDS:
                    taken[name].append(self._median(each, counts[name]))
        return taken

    def peak_bytes(self, call: Call) -> int:
        """Return by how much a call raises the peak of the GPU memory."""
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
    """Yield the tensors among the results of a call."""
    for each in value if isinstance(value, (tuple, list)) else [value]:
        if isinstance(each, Tensor):
            yield each


def gpu_rates() -> Rates:
    """Measure the limits of the GPU with a copy and a loop of multiply-adds."""
    from .multiply_adds import BLOCK, CHAINS, ROUNDS, multiply_adds  # imports Triton

    clock = CudaClock()
    programs = torch.cuda.get_device_properties().multi_processor_count * PROGRAMS_OF_MULTIPROCESSOR
    result = torch.empty(programs * BLOCK, device="cuda")
    bandwidth = copy_rate(clock)
    with clock:
        seconds = min(clock.time({"it": [lambda: multiply_adds(result, ROUNDS)]}, 3)["it"])
    return Rates("cuda", 0, bandwidth, 2 * CHAINS * ROUNDS * result.numel() / seconds)


def missing_gpu() -> str:
    """Return why nothing can be measured on a GPU, or an empty string."""
    if not torch.cuda.is_available():
        return "torch finds no NVIDIA GPU"
    try:
        for op in ("affine_chain", "rbf_rasterize"):
            choose(op, torch.device("cuda"), "native")
    except BackendError as error:
        return str(error)
    return ""
