"""The host's decisions for the affine chain's CUDA kernels: csrc/cuda/affine_chain_plan.h in Python.

The constants are read from the headers; that the rules are the same is tested against the header itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from .cuda_source import CudaSource

DOUBLE = 8  # bytes, of an entry of a slot


class Form(Enum):
    """The values are those of the op's private argument."""

    sequential = 1
    scan = 2


@dataclass(frozen=True)
class Shape:
    """What the plan depends on."""

    name: str
    sequences: int  # B
    length: int  # T
    maps: int  # N, of all images
    index_bytes: int
    images: int = 1  # each with as many sequences, and maps of its own
    dimensions: int = 2
    element_bytes: int = 4

    @property
    def points(self) -> int:
        return self.sequences * self.length

    @property
    def maps_of_image(self) -> int:
        return self.maps // self.images


@dataclass(frozen=True)
class Chunks:
    """How a sequence is cut for the scan."""

    count: int
    length: int  # steps


@dataclass(frozen=True)
class Sums:
    """How a backward sums by map: `adders` warps of each block have a slot each."""

    adders: int
    in_shared: bool
    blocks: int

    @property
    def slots(self) -> int:
        return self.blocks * self.adders


def divide_up(count: int, by: int) -> int:
    return -(-count // by)


def odd_pitch(elements: int) -> int:
    return elements | 1


def map_elements(dimensions: int, with_offset: bool) -> int:
    """The elements that a kernel reads of a map."""
    return dimensions * dimensions + (dimensions if with_offset else 0)


def sum_elements(dimensions: int) -> int:
    """The entries of a slot for one map."""
    return dimensions * (dimensions + 1)


class SharedMemory:
    """A kernel's shared memory: what it always needs, and the tables that are there when they fit."""

    def __init__(self, limit: int, element_bytes: int, elements: int, integers: int) -> None:
        self.limit, self.element_bytes = limit, element_bytes
        self.bytes = elements * element_bytes + integers * 4

    def add_if_it_fits(self, elements: int) -> bool:
        more = elements * self.element_bytes
        if self.bytes + more > self.limit:
            return False
        self.bytes += more
        return True


class Plan:
    """The constants, and the rules by the names that they have in the header."""

    def __init__(self, source: CudaSource | None = None) -> None:
        self.source = source = source or CudaSource()
        self.lanes = source.constant("lanes")
        self.scan_run = source.constant("scan_run")
        self.scan_warps = source.constant("scan_warps")
        self.scan_threads = source.constant("scan_threads")
        self.slot_parts = source.constant("slot_parts")
        self.shared_limit = source.constant("shared_limit")
        self.largest_grid = source.constant("largest_grid")
        self._form = {
            name: source.constant(name, "choose_form")
            for name in ("forward_step", "backward_step", "forward_tile", "backward_tile", "warps", "blocks")
        }
        self._chunks = {
            name: source.constant(name, "choose_chunks") for name in ("tile", "tiles_of_one_block", "blocks")
        }
        self._slots = {name: source.constant(name, "largest_slots") for name in ("most", "bytes", "points_of_map")}

    def choose_form(self, sequences: int, length: int, direction: str) -> Form:
        """For "forward" or "backward"."""
        tiles = sequences * divide_up(length, self.scan_threads * self.scan_run)
        walkers, blocks = self._form["warps"] * self.lanes, self._form["blocks"]
        sequential = self._form[f"{direction}_step"] * length * max(sequences, walkers) // walkers
        scan = self._form[f"{direction}_tile"] * max(tiles, blocks) // blocks
        return Form.scan if scan < sequential else Form.sequential

    def choose_chunks(self, sequences: int, length: int) -> Chunks:
        tile = self._chunks["tile"]
        tiles = divide_up(length, tile)
        if tiles <= self._chunks["tiles_of_one_block"]:
            return Chunks(1, length)
        wanted = min(max(self._chunks["blocks"] // sequences, 1), tiles)
        chunk = divide_up(tiles, wanted) * tile
        return Chunks(divide_up(length, chunk), chunk)

    def choose_scan_threads(self, length: int) -> int:
        return self.lanes * min(divide_up(length, self.lanes * self.scan_run), self.scan_warps)

    def largest_slots(self, maps: int, points: int, dimensions: int) -> int:
        slot_bytes = maps * sum_elements(dimensions) * DOUBLE
        return max(
            1,
            min(
                self._slots["most"], self._slots["bytes"] // slot_bytes, points // (self._slots["points_of_map"] * maps)
            ),
        )

    def plan_sums(self, shape: Shape, warps: int, items: int, shared: SharedMemory) -> Sums:
        table = shape.maps * odd_pitch(sum_elements(shape.dimensions))
        slots = self.largest_slots(shape.maps, shape.points, shape.dimensions)
        most = min(warps, slots)
        adders = next((count for count in range(most, 0, -1) if shared.add_if_it_fits(count * table)), 0)
        in_shared = adders > 0
        adders = adders or most
        return Sums(adders, in_shared, min(items, max(1, slots // adders)))

    def shared_memory(self, shape: Shape, elements: int, integers: int) -> SharedMemory:
        return SharedMemory(self.shared_limit, shape.element_bytes, elements, integers)

    def grid(self, items: int) -> int:
        return min(items, self.largest_grid)

    @property
    def scan_rounds(self) -> int:
        """Of a warp's scan, each twice as far as the last."""
        return int(math.log2(self.lanes))
