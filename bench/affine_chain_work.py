"""What the affine chain's CUDA kernels do for a shape: csrc/cuda/affine_chain.cu, launch by launch, in numbers."""

from __future__ import annotations

from .cards import Kernel
from .cuda_plan import DOUBLE, Form, Plan, Shape, SharedMemory, divide_up, map_elements, odd_pitch, sum_elements

SHAPES = (
    Shape("50 x 300 points, 10 maps", 50, 300, 10, index_bytes=1),
    Shape("100 images: 5000 x 300 points, 1000 maps", 5000, 300, 1000, index_bytes=4, images=100),
    Shape("one sequence of 10^6 points, 10 maps", 1, 10**6, 10, index_bytes=1),
    Shape("10^6 sequences of 30 points, 10 maps", 10**6, 30, 10, index_bytes=1),
)


class Work:
    """The kernels of both directions for one shape, in the form that the op's rule takes unless another is named."""

    def __init__(self, shape: Shape, plan: Plan) -> None:
        self.shape, self.plan = shape, plan
        self.D, self.element = shape.dimensions, shape.element_bytes
        self.point_bytes = shape.points * self.D * self.element
        self.index_bytes = shape.points * shape.index_bytes
        self.start_bytes = shape.sequences * self.D * self.element
        self.map_size = self.D * self.D + self.D  # elements of an affine map
        self.step = 2 * self.D**2  # operations of affine_step, and of affine_adjoint_step
        self.compose = 2 * self.D**3 + 2 * self.D**2
        self.groups = divide_up(shape.sequences, plan.lanes)  # of sequences, a warp each
        self.chunks = plan.choose_chunks(shape.sequences, shape.length)
        self.items = shape.sequences * self.chunks.count

    def form(self, direction: str) -> Form:
        return self.plan.choose_form(self.shape.sequences, self.shape.length, direction)

    def kernels(self, direction: str, form: Form | None = None) -> list[Kernel]:
        """Of "forward" or "backward"."""
        sequential = (form or self.form(direction)) is Form.sequential
        if direction == "forward":
            return self._forward_sequential() if sequential else self._forward_scan()
        return self._backward_sequential() if sequential else self._backward_scan()

    def _forward_sequential(self) -> list[Kernel]:
        lanes = self.plan.lanes
        return [
            Kernel(
                "affine_chain_forward_sequential",
                self.index_bytes + self.point_bytes + self.start_bytes + self._map_bytes(with_offset=True),
                operations=self.groups * lanes * self.shape.length * self.step,
                threads=self.plan.grid(self.groups) * lanes,
            )
        ]

    def _forward_scan(self) -> list[Kernel]:
        threads, _, tiles = self._tiles(self.plan.choose_scan_threads(self.shape.length))
        start = self._state_bytes() or self.start_bytes
        return [
            *self._chunk_states(adjoint=False),
            Kernel(
                "affine_chain_forward_scan",
                self.index_bytes + self.point_bytes + start + self._map_bytes(with_offset=True),
                operations=tiles * threads * (self._scan_states(threads) + self.plan.scan_run * self.step),
                threads=self.plan.grid(self.items) * threads,
            ),
        ]

    def _backward_sequential(self) -> list[Kernel]:
        lanes, steps = self.plan.lanes, self.plan.source.constant("backward_steps", sizeof=self.element)
        shared = self.plan.shared_memory(self.shape, 2 * lanes * odd_pitch(steps * self.D), lanes * odd_pitch(steps))
        calls = self.groups * self.shape.length
        operations = calls * lanes * (self.D + self.step)
        return self._with_sums("affine_chain_backward_sequential", lanes, shared, self.groups, calls, 0, operations)

    def _backward_scan(self) -> list[Kernel]:
        threads, tile, tiles = self._tiles(self.plan.choose_scan_threads(self.shape.length))
        shared = self.plan.shared_memory(self.shape, self.plan.scan_warps * self.map_size + 2 * tile * self.D, tile)
        whole, rest = divmod(self.shape.length, tile)
        calls = self.shape.sequences * (whole * divide_up(tile, self.plan.lanes) + divide_up(rest, self.plan.lanes))
        # The step's map, found anew for each composition, then the walk.
        operations = tiles * threads * (self._scan_states(threads) + self.plan.scan_run * (2 * self.step + self.D))
        states = self._state_bytes()
        return [
            *self._chunk_states(adjoint=True),
            *self._with_sums("affine_chain_backward_scan", threads, shared, self.items, calls, states, operations),
        ]

    def _with_sums(
        self,
        name: str,
        threads: int,
        shared: SharedMemory,
        items: int,
        calls: int,  # of MapSums::add, by a warp each
        states: int,  # bytes
        operations: int,
    ) -> list[Kernel]:
        """A backward kernel and the sum of its slots, whose additions in double take less time than its bytes."""
        sums = self.plan.plan_sums(self.shape, threads // self.plan.lanes, items, shared)
        elements = sum_elements(self.D)
        entries = self.shape.maps * elements
        slot_bytes = sums.slots * entries * DOUBLE
        # 32 lanes hold at least so many points of one map; they add up pair by pair.
        together = divide_up(self.plan.lanes, self.shape.maps_of_image)
        rounds = (together - 1).bit_length()
        maps = self._map_bytes(with_offset=False)
        return [
            Kernel(
                name,
                self.index_bytes + 2 * self.point_bytes + 2 * self.start_bytes + states + maps + slot_bytes,
                operations=operations + calls * self.plan.lanes * (self.D**2 + (rounds + 1) * elements),
                threads=sums.blocks * threads,
            ),
            Kernel(
                "sum_slots",
                slot_bytes + entries * self.element,
                threads=divide_up(entries, self.plan.lanes) * self.plan.lanes * self.plan.slot_parts,
            ),
        ]

    def _chunk_states(self, adjoint: bool) -> list[Kernel]:
        """The two kernels that find the state before each chunk; none where a chunk is a sequence."""
        if self.chunks.count == 1:
            return []
        threads, _, tiles = self._tiles(self.plan.scan_threads)
        totals = self.items * self.map_size * self.element
        step_maps = self.plan.scan_run * self.step if adjoint else 0
        thread = step_maps + self._compositions() + self.plan.scan_warps * self.compose
        linked = self.shape.sequences * divide_up(self.chunks.count, threads) * threads
        link = self.plan.scan_rounds * self.compose + (self.plan.scan_warps + 1) * self.step
        grad = self.point_bytes if adjoint else 0
        return [
            Kernel(
                "affine_chain_scan_compose",
                self.index_bytes + grad + self._map_bytes(with_offset=not adjoint) + totals,
                operations=tiles * threads * thread,
                threads=self.items * threads,
            ),
            Kernel(
                "affine_chain_scan_link",
                totals + (0 if adjoint else self.start_bytes) + self._state_bytes(),
                operations=linked * link,
                threads=self.shape.sequences * threads,
            ),
        ]

    def _tiles(self, threads: int) -> tuple[int, int, int]:
        """The threads of a block, the steps of its tile, and the tiles of all sequences."""
        tile = threads * self.plan.scan_run
        return threads, tile, self.shape.sequences * divide_up(self.shape.length, tile)

    def _state_bytes(self) -> int:
        """Of the state before each chunk; none where a chunk is a sequence."""
        return self.items * self.D * self.element if self.chunks.count > 1 else 0

    def _map_bytes(self, with_offset: bool) -> int:
        return self.shape.maps * map_elements(self.D, with_offset) * self.element

    def _compositions(self) -> int:
        """Operations of a thread that composes its run, then takes part in its warp's scan."""
        return (self.plan.scan_run - 1 + self.plan.scan_rounds) * self.compose

    def _scan_states(self, threads: int) -> int:
        """Operations of a thread to the state before its run."""
        return self._compositions() + (threads // self.plan.lanes + 1) * self.step
