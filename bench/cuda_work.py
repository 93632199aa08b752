"""What the affine chain's CUDA kernels do for a shape: csrc/cuda/affine_chain.cu, launch by launch, in numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.cuda_plan import DOUBLE, Form, Plan, Shape, SharedMemory, divide_up, map_elements, odd_pitch, sum_elements


@dataclass(frozen=True)
class Kernel:
    """One launch.

    A kernel touches each element of its arrays in global memory at least once: `bytes`, `workspace` of them in what
    the op allocates for itself. What it touches again - the maps, copied by each block, and the slots, added to by each
    flush - is `again`; caches may serve it.

    Operations are on float32, a multiply-add being two, as in the data sheets. Lanes without work count: they take
    their turn all the same. Shuffles are counted by lane too.
    """

    name: str
    blocks: int
    threads: int
    bytes: int
    workspace: int = 0
    again: int = 0
    operations: int = 0
    shuffles: int = 0


class Work:
    """The kernels of both directions for one shape."""

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
        self.group_points = plan.lanes * shape.length
        self.chunk_points = self.chunks.length

    def forward(self, form: Form) -> list[Kernel]:
        return self._forward_sequential() if form is Form.sequential else self._forward_scan()

    def backward(self, form: Form) -> list[Kernel]:
        return self._backward_sequential() if form is Form.sequential else self._backward_scan()

    def _forward_sequential(self) -> list[Kernel]:
        lanes, steps = self.plan.lanes, self.plan.source.constant("forward_steps", sizeof=self.element)
        shared = self.plan.shared_memory(self.shape, lanes * odd_pitch(steps * self.D), lanes * odd_pitch(steps))
        blocks = self.plan.grid(self.groups)
        maps, again = self._maps(blocks, True, self.group_points, shared)
        return [
            Kernel(
                "affine_chain_forward_sequential",
                blocks,
                lanes,
                self.index_bytes + self.point_bytes + self.start_bytes + maps,
                again=again,
                operations=self.groups * lanes * self.shape.length * self.step,
            )
        ]

    def _forward_scan(self) -> list[Kernel]:
        threads, tile, tiles = self._tiles(self.plan.choose_scan_threads(self.shape.length))
        shared = self.plan.shared_memory(self.shape, self.plan.scan_warps * self.map_size + tile * self.D, tile)
        blocks = self.plan.grid(self.items)
        maps, again = self._maps(blocks, True, self.chunk_points, shared)
        states = self._states()
        return [
            *self._chunk_states(adjoint=False),
            Kernel(
                "affine_chain_forward_scan",
                blocks,
                threads,
                self.index_bytes + self.point_bytes + (states or self.start_bytes) + maps,
                workspace=states,
                again=again,
                operations=tiles * threads * (self._scan_states(threads) + self.plan.scan_run * self.step),
                shuffles=tiles * threads * self._scan_shuffles(),
            ),
        ]

    def _backward_sequential(self) -> list[Kernel]:
        lanes, steps = self.plan.lanes, self.plan.source.constant("backward_steps", sizeof=self.element)
        shared = self.plan.shared_memory(self.shape, 2 * lanes * odd_pitch(steps * self.D), lanes * odd_pitch(steps))
        calls = self.groups * self.shape.length
        return self._with_sums(
            "affine_chain_backward_sequential",
            lanes,
            shared,
            self.group_points,
            self.groups,
            calls,
            states=0,
            operations=calls * lanes * (self.D + self.step),
        )

    def _backward_scan(self) -> list[Kernel]:
        threads, tile, tiles = self._tiles(self.plan.choose_scan_threads(self.shape.length))
        shared = self.plan.shared_memory(self.shape, self.plan.scan_warps * self.map_size + 2 * tile * self.D, tile)
        whole, rest = divmod(self.shape.length, tile)
        calls = self.shape.sequences * (whole * divide_up(tile, self.plan.lanes) + divide_up(rest, self.plan.lanes))
        # The step's map, found anew for each composition, then the walk.
        thread = self._scan_states(threads) + self.plan.scan_run * (2 * self.step + self.D)
        return [
            *self._chunk_states(adjoint=True),
            *self._with_sums(
                "affine_chain_backward_scan",
                threads,
                shared,
                self.chunk_points,
                self.items,
                calls,
                states=self._states(),
                operations=tiles * threads * thread,
                shuffles=tiles * threads * self._scan_shuffles(),
            ),
        ]

    def _with_sums(
        self,
        name: str,
        threads: int,
        shared: SharedMemory,
        points: int,  # of an item
        items: int,
        calls: int,  # of MapSums::add, by a warp each
        states: int,  # bytes
        operations: int,
        shuffles: int = 0,
    ) -> list[Kernel]:
        """A backward kernel and the sum of its slots."""
        sums = self.plan.plan_sums(self.shape, threads // self.plan.lanes, items, shared)
        maps, again = self._maps(sums.blocks, False, points, shared)
        elements = sum_elements(self.D)
        entries = self.shape.maps * elements
        slot_bytes = sums.slots * entries * DOUBLE
        if sums.in_shared:
            # Of a slot, by its mean calls; each adds up the rows of the maps that its warp has met.
            flushes = calls // sums.slots // self.plan.calls_between_flushes + 1
            again += 2 * flushes * slot_bytes // self.shape.images
        else:
            again += 2 * calls * elements * DOUBLE  # of at least one map a call
        # 32 lanes hold at least so many points of one map; they add up pair by pair.
        together = divide_up(self.plan.lanes, self.shape.maps_of_image)
        rounds = (together - 1).bit_length()
        result_bytes = entries * self.element
        return [
            Kernel(
                name,
                sums.blocks,
                threads,
                self.index_bytes + 2 * self.point_bytes + 2 * self.start_bytes + states + maps + slot_bytes,
                workspace=states + slot_bytes,
                again=again,
                operations=operations + calls * self.plan.lanes * (self.D**2 + (rounds + 1) * elements),
                shuffles=shuffles + calls * self.plan.lanes * rounds * elements,
            ),
            Kernel(
                "sum_slots",
                divide_up(entries, self.plan.lanes),
                self.plan.lanes * self.plan.slot_parts,
                slot_bytes + result_bytes,
                workspace=slot_bytes,
            ),
        ]

    def _chunk_states(self, adjoint: bool) -> list[Kernel]:
        """The two kernels that find the state before each chunk; none where a chunk is a sequence."""
        if self.chunks.count == 1:
            return []
        threads, tile, tiles = self._tiles(self.plan.scan_threads)
        warp_maps = self.plan.scan_warps * self.map_size
        shared = self.plan.shared_memory(self.shape, warp_maps + (tile * self.D if adjoint else 0), tile)
        maps, again = self._maps(self.items, not adjoint, self.chunk_points, shared)
        totals = self.items * self.map_size * self.element
        step_maps = self.plan.scan_run * self.step if adjoint else 0
        thread = step_maps + self._compositions() + self.plan.scan_warps * self.compose
        linked = self.shape.sequences * divide_up(self.chunks.count, threads) * threads
        link = self.plan.scan_rounds * self.compose + (self.plan.scan_warps + 1) * self.step
        return [
            Kernel(
                "affine_chain_scan_compose",
                self.items,
                threads,
                self.index_bytes + (self.point_bytes if adjoint else 0) + maps + totals,
                workspace=totals,
                again=again,
                operations=tiles * threads * thread,
                shuffles=tiles * threads * self.plan.scan_rounds * self.map_size,
            ),
            Kernel(
                "affine_chain_scan_link",
                self.shape.sequences,
                threads,
                totals + (0 if adjoint else self.start_bytes) + self._states(),
                workspace=totals + self._states(),
                operations=linked * link,
                shuffles=linked * self._scan_shuffles(),
            ),
        ]

    def _tiles(self, threads: int) -> tuple[int, int, int]:
        """The threads of a block, the steps of its tile, and the tiles of all sequences."""
        tile = threads * self.plan.scan_run
        return threads, tile, self.shape.sequences * divide_up(self.shape.length, tile)

    def _states(self) -> int:
        """Bytes of the state before each chunk; none where a chunk is a sequence."""
        return self.items * self.D * self.element if self.chunks.count > 1 else 0

    def _compositions(self) -> int:
        """Operations of a thread that composes its run, then takes part in its warp's scan."""
        return (self.plan.scan_run - 1 + self.plan.scan_rounds) * self.compose

    def _scan_states(self, threads: int) -> int:
        """Operations of a thread to the state before its run."""
        return self._compositions() + (threads // self.plan.lanes + 1) * self.step

    def _scan_shuffles(self) -> int:
        """Of a thread, in scan_states."""
        return (self.plan.scan_rounds + 1) * self.map_size

    def _maps(self, blocks: int, with_offset: bool, points: int, shared: SharedMemory) -> tuple[int, int]:
        """Bytes of the maps, and those that are read again: by all blocks but the first, or by all steps."""
        size = map_elements(self.D, with_offset) * self.element
        once = self.shape.maps * size
        in_shared = self.plan.plan_table(self.shape, with_offset, points, shared)
        return once, (blocks - 1) * once if in_shared else max(self.shape.points * size - once, 0)


DIRECTIONS: dict[str, Callable[[Work, Form], list[Kernel]]] = {"forward": Work.forward, "backward": Work.backward}
