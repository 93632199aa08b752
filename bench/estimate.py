"""`python -m bench estimate`: what the affine chain's CUDA op must cost on named cards, by arithmetic.

An estimate, not a measurement: bytes and operations come from the kernels' own shapes (`bench.cuda_work`), bandwidths
and rates from data sheets. Only the column `measured` is measured, and only where there is a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.cuda_plan import Form, Plan, Shape
from bench.cuda_timing import Gpu
from bench.cuda_work import DIRECTIONS, Kernel, Work
from bench.table import aligned, figure
from bench.timing import Spread

LAUNCH = 2.5  # microseconds that a launch takes at least; an assumption
CLOCK = 2.0  # GHz, to read cycles by; the cards' are 1.4 to 2.5

SHAPES = (
    Shape("50 x 300 points, 10 maps", 50, 300, 10, index_bytes=1),
    Shape("100 images: 5000 x 300 points, 1000 maps", 5000, 300, 1000, index_bytes=4, images=100),
    Shape("one sequence of 10^6 points, 10 maps", 1, 10**6, 10, index_bytes=1),
    Shape("10^6 sequences of 30 points, 10 maps", 10**6, 30, 10, index_bytes=1),
)


@dataclass(frozen=True)
class Card:
    """A graphics card and the name that torch gives it."""

    name: str
    bandwidth: float  # of global memory, GB/s
    rate: float  # float32, TFLOP/s, a multiply-add being two
    device: str


# Source: the vendor's data sheets and architecture white papers.
CARDS = (
    Card("GeForce RTX 3060 (12 GB)", 360, 12.7, "NVIDIA GeForce RTX 3060"),
    Card("GeForce RTX 3090", 936, 35.6, "NVIDIA GeForce RTX 3090"),
    Card("GeForce RTX 4060", 272, 15.1, "NVIDIA GeForce RTX 4060"),
    Card("GeForce RTX 4090", 1008, 82.6, "NVIDIA GeForce RTX 4090"),
    Card("GeForce RTX 5090", 1792, 104.8, "NVIDIA GeForce RTX 5090"),
    Card("A100 (SXM, 40 GB)", 1555, 19.5, "NVIDIA A100-SXM4-40GB"),
    Card("H100 SXM", 3350, 67, "NVIDIA H100 80GB HBM3"),
    Card("L4", 300, 30.3, "NVIDIA L4"),
)


@dataclass(frozen=True)
class Floor:
    """The least time on one card, in microseconds."""

    memory: float
    arithmetic: float
    launches: float

    @property
    def total(self) -> float:
        return max(self.memory, self.arithmetic) + self.launches

    @property
    def largest(self) -> str:
        """Which of the three takes longest."""
        parts = {"memory": self.memory, "arithmetic": self.arithmetic, "launches": self.launches}
        return max(parts, key=lambda name: parts[name])


@dataclass(frozen=True)
class Estimate:
    """One shape in one form and direction: its kernels, and their floor and measured time by the card's name."""

    shape: Shape
    form: Form
    chosen: bool  # whether the op takes this form
    direction: str
    cycles: int  # by the op's own rule
    kernels: list[Kernel]
    floors: dict[str, Floor]
    measured: dict[str, Spread]

    def sum(self, field: str) -> int:
        """Of a field of the kernels."""
        return sum(getattr(kernel, field) for kernel in self.kernels)

    def figures(self) -> dict[str, Any]:
        """For JSON; times in microseconds."""
        return {
            "shape": asdict(self.shape),
            "form": self.form.name,
            "chosen": self.chosen,
            "direction": self.direction,
            "cycles_by_the_rule": self.cycles,
            "kernels": [asdict(kernel) for kernel in self.kernels],
            "cards": [
                {
                    "card": name,
                    "floor": asdict(floor) | {"total": floor.total, "largest": floor.largest} if floor else None,
                    "measured": asdict(self.measured[name]) if name in self.measured else None,
                }
                for name in dict.fromkeys([*self.floors, *self.measured])
                for floor in [self.floors.get(name)]
            ],
        }


def floor_of(kernels: Sequence[Kernel], card: Card) -> Floor:
    """From the sums over all kernels."""
    return Floor(
        memory=sum(kernel.bytes for kernel in kernels) / card.bandwidth / 1e3,
        arithmetic=sum(kernel.operations for kernel in kernels) / card.rate / 1e6,
        launches=len(kernels) * LAUNCH,
    )


def estimates(gpu: Gpu | None, shapes: Sequence[Shape] = SHAPES, plan: Plan | None = None) -> Iterator[Estimate]:
    """Both directions of both forms, first the one that the forward takes; measured where there is a GPU."""
    plan = plan or Plan()
    for shape in shapes:
        work = Work(shape, plan)
        cycles = {each: plan.cycles(shape.sequences, shape.length, each) for each in DIRECTIONS}
        chosen = {each: plan.choose_form(shape.sequences, shape.length, each) for each in DIRECTIONS}
        for form in sorted(Form, key=lambda form: form is not chosen["forward"]):
            measured = gpu.measure(shape, form) if gpu else {}
            for direction, count in DIRECTIONS.items():
                kernels = count(work, form)
                floors = {card.name: floor_of(kernels, card) for card in CARDS}
                figures = {card_name(gpu): measured[direction]} if gpu else {}
                taken, by_rule = form is chosen[direction], cycles[direction][form]
                yield Estimate(shape, form, taken, direction, by_rule, kernels, floors, figures)


def card_name(gpu: Gpu) -> str:
    """The card's, or the device's own where it is not among them."""
    return next((card.name for card in CARDS if card.device == gpu.name), gpu.name)


def report(found: Sequence[Estimate], why_not_measured: str) -> str:
    """All of it as text: how it is reckoned, then a block for each shape and form."""
    lines = [
        "Estimate of the affine chain's CUDA op. Nothing here is measured on a GPU but the column 'measured'",
        f"({why_not_measured})." if why_not_measured else "(medians, with the 20th and 80th percentiles in brackets).",
        "",
        f"floor = max(bytes / bandwidth, operations / float32 rate) + launches x {LAUNCH} us, which is an assumption.",
        "- bytes: of global memory, each array once by each kernel that touches it; workspace: those of them in what",
        "  the op allocates for itself. again: what is touched more than once (each block's copy of the maps, the",
        "  slots at each flush), which caches may serve; not in the floor.",
        "- operations: float32, a multiply-add being two; idle lanes count. shuffles: by lane; not in the floor.",
        f"- cycles: what the op's rule compares when it chooses a form, in brackets as microseconds at {CLOCK:g} GHz.",
        "  They alone hold the waiting for dependent steps, which the floor leaves out.",
        "- The additions in double, of the slots, are left out: each comes with 8 or 16 bytes of slots, which take",
        "  longer on all of these cards, also at 1/64 of the float32 rate.",
        "- A shape whose arrays fit a card's second-level cache can be faster when they are still there.",
        f"For example, {worked(found[0], CARDS[0])}",
    ]
    for forward, backward in zip(found[::2], found[1::2], strict=True):
        taken = " and ".join(each.direction for each in (forward, backward) if each.chosen)
        chosen = f"which the op takes {taken}" if taken else "which the op does not take"
        dtype = {1: "uint8", 4: "int32", 8: "int64"}[forward.shape.index_bytes]
        lines += ["", f"{forward.shape.name}, float32, {dtype} index: {forward.form.name}, {chosen}"]
        lines += aligned([WORK_COLUMNS, *(_work(each) for each in (forward, backward))])
        lines += aligned([("card", *FLOOR_COLUMNS, *FLOOR_COLUMNS), *_cards(forward, backward)])
    return "\n".join(lines)


WORK_COLUMNS = ("a point", "bytes", "workspace", "again", "operations", "shuffles", "", "launches", "blocks", "cycles")
FLOOR_COLUMNS = ("floor, us", "mostly", "measured, us")


def worked(estimate: Estimate, card: Card) -> str:
    """The arithmetic of one floor, written out."""
    floor = estimate.floors[card.name]
    return (
        f"{estimate.shape.name}, {estimate.form.name}, {estimate.direction}, {card.name}:\n"
        f"  {estimate.sum('bytes'):,} bytes / {card.bandwidth:g} GB/s = {floor.memory:.3f} us; "
        f"{estimate.sum('operations'):,} operations / {card.rate:g} TFLOP/s = {floor.arithmetic:.3f} us;\n"
        f"  max({floor.memory:.3f}, {floor.arithmetic:.3f}) + {len(estimate.kernels)} x {LAUNCH} = {floor.total:.2f} us"
    )


def _work(estimate: Estimate) -> tuple[str, ...]:
    fields = ("bytes", "workspace", "again", "operations", "shuffles")
    return (
        estimate.direction,
        *(f"{estimate.sum(field) / estimate.shape.points:.4g}" for field in fields),
        "",
        str(len(estimate.kernels)),
        " + ".join(str(kernel.blocks) for kernel in estimate.kernels),
        f"{estimate.cycles:,} ({estimate.cycles / CLOCK / 1e3:.3g} us)",
    )


def _cards(forward: Estimate, backward: Estimate) -> Iterator[tuple[str, ...]]:
    for name in dict.fromkeys([*forward.floors, *forward.measured]):
        columns = [name]
        for estimate in (forward, backward):
            floor = estimate.floors.get(name)
            columns += [f"{floor.total:.4g}", floor.largest] if floor else ["-", "-"]
            columns.append(figure(estimate.measured.get(name), ""))
        yield tuple(columns)
