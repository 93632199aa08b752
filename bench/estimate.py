"""`python -m bench estimate`: what the GPU ops, and a step of `fit`, must cost on named cards, by arithmetic.

An estimate, not a measurement: bytes, operations and exponentials come from the kernels' own shapes, rates from data
sheets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from . import affine_chain_work, rbf_rasterize_work
from .cards import CARDS, GRAPH_LAUNCH, LAUNCH, Card, Floor, Kernel, floor_of, occupied
from .cuda_plan import Plan, Shape
from .cuda_timing import Gpu
from .rbf_rasterize_work import Picture
from .step_work import other_launches, step_kernels
from .table import aligned, figure

HEAD = f"""\
An estimate, not a measurement: the least time that the kernels' arithmetic and memory take on each card.

floor = for each kernel max(bytes / bandwidth, operations / float32 rate, exponentials / exponential rate)
        + launches x {LAUNCH:g} us ({GRAPH_LAUNCH:g} us between the kernels of a CUDA graph); both are assumed.
- bytes: of global memory, each array once by each kernel that touches it. Caches may serve them where they still are.
- operations: float32, a multiply-add being two, any other one; idle lanes count. Where a plan puts the rasterizer's
  product on tensor cores (tf32x3), it takes three of their products instead, at their rate.
- A kernel with fewer threads than a card has float32 units gets that share of its rates.
- Exponentials: 16 a multiprocessor and cycle. The sort of `bins` is assumed to take 4 passes and 5 launches.
- The rasterizer's points lie evenly over the image.
- Left out: waiting for memory and for dependent steps, and Python's own time, which small shapes show most."""
DIRECTIONS = ("forward", "backward")
MEASURED = (*affine_chain_work.SHAPES, *rbf_rasterize_work.SHAPES)


@dataclass(frozen=True)
class Estimate:
    """One op, shape and direction: what it does, and its floor by the card's name."""

    op: str
    shape: str
    direction: str
    notes: tuple[str, ...]  # lines about the shape
    kernels: dict[str, list[Kernel]]  # by the card's name: a plan may depend on the architecture
    launch: float = LAUNCH

    def floors(self) -> dict[str, Floor]:
        return {card.name: floor_of(self.kernels[card.name], card, self.launch) for card in CARDS}

    def figures(self) -> dict[str, Any]:
        """For JSON; times in microseconds."""
        return {
            "op": self.op,
            "shape": self.shape,
            "direction": self.direction,
            "notes": self.notes,
            "kernels": {name: [asdict(kernel) for kernel in kernels] for name, kernels in self.kernels.items()},
            "floors": {name: asdict(floor) | {"largest": floor.largest} for name, floor in self.floors().items()},
        }


def _on_each(kernels: Callable[[Card], list[Kernel]]) -> dict[str, list[Kernel]]:
    return {card.name: kernels(card) for card in CARDS}


def chain_estimates() -> Iterator[Estimate]:
    """In the form that the op's rule takes."""
    for shape in affine_chain_work.SHAPES:
        work = affine_chain_work.Work(shape, Plan())
        for direction in DIRECTIONS:
            kernels = work.kernels(direction)
            notes = (f"{direction}: {work.form(direction).name}; {_totals(kernels, shape.points)}",)
            yield Estimate("affine_chain", shape.name, direction, notes, dict.fromkeys(_names(), kernels))


def rasterizer_estimates() -> Iterator[Estimate]:
    for shape in rbf_rasterize_work.SHAPES:
        works = {card.name: rbf_rasterize_work.Work(shape, card.capability) for card in CARDS}
        for direction in DIRECTIONS:
            kernels = {name: getattr(work, direction)() for name, work in works.items()}
            work = works[CARDS[0].name]  # the routes and block sizes are the same on all of them
            notes = [f"{direction}: {_totals(kernels[CARDS[0].name], shape.points)}"]
            if direction == "forward":
                notes = [
                    f"{'bins' if work.plan.binned else 'walk'}, {work.plan.tiles} tiles of {work.plan.tile.rows} x "
                    f"{work.plan.tile.columns} pixels, of which a window of {2 * shape.radius + 1} x "
                    f"{2 * shape.radius + 1} reaches {work.tiles_reached():.2f}; "
                    f"workspace: {work.workspace(direction):,} bytes",
                    f"the dense formula, each way: {shape.pixels:,} exponentials and as many multiply-adds a point",
                    *notes,
                ]
            yield Estimate("rbf_rasterize", shape.name, direction, tuple(notes), kernels)


def step_estimates() -> Iterator[Estimate]:
    """The small ops by PyTorch, as on a GPU now, and native, as on the CPU; launched one by one, and as a graph."""
    for native in (False, True):
        others = other_launches(native)
        kernels = _on_each(lambda card, others=others: step_kernels(card, others))  # type: ignore[misc]
        launches = sum(kernel.launches for kernel in kernels[CARDS[0].name])
        small = "small ops native" if native else "small ops by PyTorch, as on a GPU so far"
        for launch, how in ((LAUNCH, "one by one"), (GRAPH_LAUNCH, "one graph")):
            notes = (f"launches: {launches}; of {others} of them nothing else is counted",) if launch == LAUNCH else ()
            yield Estimate("step of fit", f"the paper's setting, {small}", how, notes, kernels, launch)


def estimates() -> list[Estimate]:
    return [*chain_estimates(), *rasterizer_estimates(), *step_estimates()]


def _op_of(shape: Shape | Picture) -> str:
    return "affine_chain" if isinstance(shape, Shape) else "rbf_rasterize"


def _names() -> list[str]:
    return [card.name for card in CARDS]


def _totals(kernels: Sequence[Kernel], points: int) -> str:
    """What a point costs, in all kernels together."""
    bytes_, operations, exponentials = (
        sum(getattr(kernel, field) for kernel in kernels) / points for field in ("bytes", "operations", "exponentials")
    )
    multiply_adds = operations / 2 + sum(kernel.product for kernel in kernels) / 2 / points
    launches = sum(kernel.launches for kernel in kernels)
    parts = [f"{bytes_:.4g} bytes", f"{multiply_adds:.4g} multiply-adds"]
    if exponentials:
        parts.append(f"{exponentials:.4g} exponentials")
    return f"{', '.join(parts)} a point; launches: {launches}"


def report(found: Sequence[Estimate], gpu: Gpu | None, why_not_measured: str) -> str:
    """All of it as text: how it is reckoned, then a block for each op and shape, with what was measured here."""
    where = f"on {gpu.name}; elsewhere and for a whole step: nothing" if gpu else f"nothing, because {why_not_measured}"
    lines = [HEAD, f"Measured: {where}.", f"For example, {worked(found[0], CARDS[0])}"]
    for first, second in zip(found[::2], found[1::2], strict=True):
        lines += ["", f"{first.op}: {first.shape}", *(f"  {note}" for note in (*first.notes, *second.notes))]
        header = ["card"]
        for estimate in (first, second):
            header += [f"{estimate.direction}, us", "mostly", "measured"]
        lines += aligned([header, *_cards(first, second, gpu)])
    return "\n".join(lines)


def _cards(first: Estimate, second: Estimate, gpu: Gpu | None) -> Iterator[list[str]]:
    """A row for each card, and one more for a GPU that is none of them."""
    shape = next((shape for shape in MEASURED if (_op_of(shape), shape.name) == (first.op, first.shape)), None)
    times = gpu.measure(shape) if gpu and shape else {}
    floors = (first, first.floors()), (second, second.floors())
    for card in CARDS:
        row = [card.name]
        for estimate, floor in floors:
            here = gpu is not None and gpu.name == card.device
            time = figure(times.get(estimate.direction) if here else None, "")
            row += [f"{floor[card.name].total:.4g}", floor[card.name].largest, time]
        yield row
    if gpu and gpu.name not in [card.device for card in CARDS]:
        row = [gpu.name]
        for estimate, _ in floors:
            row += ["-", "-", figure(times.get(estimate.direction), "")]
        yield row


def worked(estimate: Estimate, card: Card) -> str:
    """The arithmetic of one floor, written out."""
    kernels = estimate.kernels[card.name]
    lines = [f"{estimate.op}, {estimate.shape}, {estimate.direction}, {card.name}:"]
    for kernel in kernels:
        floor, share = floor_of([kernel], card, estimate.launch), occupied(kernel, card)
        lines += [
            f"  {kernel.name}: {kernel.bytes:,} bytes / {card.bandwidth:g} GB/s = {floor.memory:.3f} us;",
            f"  {kernel.threads:,} threads for {card.multiprocessors * card.cores:,} units: {share:.3g} of the rates;",
            f"  {kernel.operations:,} operations / ({share:.3g} x {card.rate:g} TFLOP/s) = {floor.arithmetic:.3f} us;",
            f"  max({floor.memory:.3f}, {floor.arithmetic:.3f}, {floor.exponentials:.3f}) + "
            f"{kernel.launches} x {estimate.launch:g} = {floor.total:.2f} us",
        ]
    return "\n".join(lines)
