"""`python -m bench estimate`: what it counts is what the sources do, and its arithmetic is as it says."""

from __future__ import annotations

import ctypes
import itertools
import json
import re
import subprocess
from dataclasses import astuple
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench import affine_chain_work, rbf_rasterize_work
from bench.__main__ import TOOLS, main
from bench.cards import CARDS, GRAPH_LAUNCH, Card, Floor, Kernel, floor_of
from bench.cuda_plan import Form, Plan, Shape
from bench.cuda_source import FOLDER, CudaSource
from bench.cuda_timing import Gpu
from bench.estimate import chain_estimates, estimates, rasterizer_estimates, report
from bench.rbf_rasterize_work import Picture, mean_tiles
from bench.step_work import Launches, other_launches, step_kernels
from bench.timing import Spread
from tests.support import emulation

GEFORCE, DATA_CENTER = (8, 6), (8, 0)


def test_the_floor_is_the_largest_part_of_each_kernel_and_its_launches() -> None:
    card = Card("any", "any", GEFORCE, bandwidth=1000, rate=2, multiprocessors=10, cores=100)
    assert card.exponential_rate == 0.16
    full = Kernel("full", bytes=3 * 10**6, operations=4 * 10**6, exponentials=160_000, threads=1000)
    assert floor_of([full], card) == Floor(3, 2, 1, 2.5, 3 + 2.5)
    half = Kernel("half", bytes=10**6, operations=4 * 10**6, threads=500, launches=2)
    assert floor_of([half], card) == Floor(1, 4, 0, 5, 4 + 5)
    both = floor_of([full, half], card, GRAPH_LAUNCH)
    assert both == Floor(4, 6, 1, 3, 3 + 4 + 3)
    assert both.largest == "arithmetic"


def test_a_product_runs_on_tensor_cores_where_a_card_has_them() -> None:
    kernel = Kernel("product", operations=2 * 10**6, product=4 * 10**6)
    without = Card("any", "any", GEFORCE, bandwidth=1, rate=2, multiprocessors=1, cores=1)
    beside = Card("any", "any", DATA_CENTER, bandwidth=1, rate=2, multiprocessors=1, cores=1, tensor_rate=6)
    assert floor_of([kernel], without).arithmetic == 3
    assert floor_of([kernel], beside).arithmetic == 2  # three products of 4 at a rate of 6, beside the rest


def test_cards_use_tensor_cores_where_the_plan_does() -> None:
    for card in CARDS:
        work = rbf_rasterize_work.Work(rbf_rasterize_work.SHAPES[0], card.capability)
        assert (work.plan.tile.precision == "tf32x3") == (card.tensor_rate > 0)


# The chain


def test_work_of_the_paper_shape() -> None:
    """By hand: 2 warps a sequence, 5 steps a thread; 24 operations a composition, 8 a step."""
    work = affine_chain_work.Work(affine_chain_work.SHAPES[0], Plan())
    assert work.form("forward") is work.form("backward") is Form.scan
    maps, starts = 10 * 6 * 4, 50 * 2 * 4
    run, scan, states, walk = 4 * 24, 5 * 24, 3 * 8, 5 * 8
    assert work.kernels("forward") == [
        Kernel(
            "affine_chain_forward_scan",
            bytes=15_000 * (1 + 8) + starts + maps,
            operations=50 * 64 * (run + scan + states + walk),
            threads=50 * 64,
        )
    ]
    matrices, slots = 10 * 4 * 4, 50 * 2 * 60 * 8
    adjoint_maps, upstream, adds = 5 * 8, 5 * 2, 50 * 10 * 32  # a call of add for 32 points or the rest
    assert work.kernels("backward") == [
        Kernel(
            "affine_chain_backward_scan",
            bytes=15_000 * (1 + 8 + 8) + 2 * starts + matrices + slots,
            # 4 points of a map in 32: 2 rounds
            operations=50 * 64 * (adjoint_maps + run + scan + states + upstream + walk) + adds * (4 + 2 * 6 + 6),
            threads=50 * 64,
        ),
        Kernel("sum_slots", bytes=slots + maps, threads=2 * 512),
    ]
    (forward,) = work.kernels("forward", Form.sequential)
    assert (forward.threads, forward.operations) == (64, 64 * 300 * 8)


PLAN = """
#include "affine_chain_plan.h"
#include <cstdio>
using namespace fractalops::cuda;

template <typename T, int D>
void print_plan(int64_t sequences, int64_t length, int maps) {
  AffineChain<T> chain{};
  chain.sequences = sequences, chain.length = length, chain.maps = maps;
  const Chunks chunks = choose_chunks(sequences, length);
  SharedPlan<T> shared(1304, 320);
  const SumPlan sums = plan_sums<T, D>(chain, choose_scan_threads(length) / lanes, sequences * chunks.count, shared);
  const int64_t forms[] = {static_cast<int64_t>(choose_form(sequences, length, false)),
                           static_cast<int64_t>(choose_form(sequences, length, true))};
  std::printf("%ld %ld %ld %ld %d %ld %d %d %ld %ld\\n", forms[0], forms[1], chunks.count, chunks.length,
              choose_scan_threads(length), largest_slots(maps, sequences * length, D), sums.adders, sums.in_shared,
              sums.blocks, shared.bytes);
}

int main() {
  long sequences, length, maps;
  while (std::scanf("%ld %ld %ld", &sequences, &length, &maps) == 3) {
    print_plan<float, 2>(sequences, length, maps);
    print_plan<double, 3>(sequences, length, maps);
  }
}
"""


def test_plan_is_the_one_of_the_header(tmp_path: Path) -> None:
    (tmp_path / "plan.cpp").write_text(PLAN)
    program = tmp_path / "plan"
    command = [emulation.compiler(), "-std=c++20", "-Wno-psabi", f"-I{emulation.EMULATION}", f"-I{FOLDER}"]
    subprocess.run([*command, str(tmp_path / "plan.cpp"), "-o", str(program)], check=True)
    grid = list(
        itertools.product(
            (1, 2, 33, 50, 255, 1396, 1397, 4095, 4096, 13963, 13964, 10**6),
            (1, 30, 160, 161, 300, 640, 641, 5120, 5121, 10**5, 10**6, 10**7),
            (1, 10, 300, 1000, 2**15),
        )
    )
    text = "\n".join(" ".join(map(str, row)) for row in grid)
    done = subprocess.run([program], input=text, check=True, capture_output=True, text=True)
    plan, expected = Plan(), []
    for sequences, length, maps in grid:
        for dimensions, element_bytes in ((2, 4), (3, 8)):
            shape = Shape("", sequences, length, maps, 1, dimensions=dimensions, element_bytes=element_bytes)
            chunks, threads = plan.choose_chunks(sequences, length), plan.choose_scan_threads(length)
            shared = plan.shared_memory(shape, 1304, 320)
            sums = plan.plan_sums(shape, threads // plan.lanes, sequences * chunks.count, shared)
            row = (
                plan.choose_form(sequences, length, "forward").value,
                plan.choose_form(sequences, length, "backward").value,
                *astuple(chunks),
                threads,
                plan.largest_slots(maps, shape.points, dimensions),
                *astuple(sums),
                shared.bytes,
            )
            expected.append(" ".join(str(int(value)) for value in row))
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize(("sequences", "length", "maps"), [(50, 30, 10), (3, 5120, 300), (1, 5121, 10)])
def test_launches_are_those_of_the_source(sequences: int, length: int, maps: int, form: Form) -> None:
    """As many as the emulation counts."""
    ops, library = emulation.load("affine_chain"), ctypes.CDLL(str(emulation.library("affine_chain")))
    launches = library.emulation_launches
    launches.restype = ctypes.c_int64
    matrix, offset = 0.5 * torch.eye(2).repeat(maps, 1, 1), torch.zeros(maps, 2)
    index, start = torch.randint(maps, (sequences, length)), torch.zeros(sequences, 2)
    work = affine_chain_work.Work(Shape("", sequences, length, maps, index_bytes=8), Plan())
    before = launches()
    points = ops.affine_chain_fwd(matrix, offset, index, start, form.value)
    assert launches() - before == len(work.kernels("forward", form))
    before = launches()
    ops.affine_chain_bwd(points, matrix, index, start, points, form.value)
    assert launches() - before == len(work.kernels("backward", form))


def test_constants_that_are_gone(tmp_path: Path) -> None:
    header = tmp_path / "plan.h"
    header.write_text(
        "inline constexpr int lanes = 32;\n"
        "// inline constexpr int gone = 1;\n"
        "inline constexpr int steps = 128 / sizeof(T);\n"
        "inline int choose() {\n  constexpr int one = 1 << 4, two = one * lanes;\n  return two;\n}\n"
    )
    source = CudaSource(tmp_path)
    assert source.constant("two", "choose") == 512
    assert source.constant("steps", sizeof=8) == 16
    with pytest.raises(ValueError, match=r"there is no constant gone any more; bench/cuda_plan.py and"):
        source.constant("gone")
    with pytest.raises(ValueError, match=r"there is no constant two any more"):
        source.constant("two")
    with pytest.raises(ValueError, match=r"there is no constant three in choose any more"):
        source.constant("three", "choose")
    with pytest.raises(ValueError, match=r"there is no function grid any more"):
        source.constant("one", "grid")


# The rasterizer


def test_mean_tiles() -> None:
    assert mean_tiles(32, 32, 4) == 1
    assert mean_tiles(32, 16, 4) == 1.25  # 20 of 32 centers reach either
    assert mean_tiles(4, 2, 1) == 1.5
    assert mean_tiles(100, 32, 200) == 4


def test_work_of_one_tile_by_hand() -> None:
    """32 points, one block; a window of 9 x 9, whose columns are one block of 16."""
    work = rbf_rasterize_work.Work(Picture("", images=1, length=32, side=16), GEFORCE)
    assert (work.shape.radius, work.tiles_reached(), work.workspace("forward")) == (4, 1, 0)
    exponentials = 32 * (16 + 16)
    assert work.forward() == [
        Kernel(
            "rbf_rasterize_fwd_kernel",
            bytes=32 * 8 + 16 * 16 * 4,
            operations=4 * exponentials,
            exponentials=exponentials,
            product=2 * 32 * 16 * 16,
            threads=64,
        )
    ]
    exponentials = 32 * (16 + 9)
    assert work.backward() == [
        Kernel(
            "rbf_rasterize_bwd_kernel",
            bytes=16 * 16 * 4 + 2 * 32 * 8,
            operations=2 * 32 * 16 * (2 * 9 + 3) + 4 * exponentials,
            exponentials=exponentials,
            threads=128,
        )
    ]


def test_shares_are_added_up() -> None:
    work = rbf_rasterize_work.Work(Picture("", images=1, length=32 * 8 * 4, side=16), GEFORCE)
    assert work.plan.shares == 4
    assert work.workspace("forward") == 4 * 16 * 16 * 4
    assert work.forward()[1] == Kernel("sum of the shares", bytes=5 * 16 * 16 * 4)


@pytest.mark.parametrize(
    ("shape", "binned"),
    [(Picture("", 3, 200, 64), False), (Picture("", 1, 30_000, 256), True), (Picture("", 40, 3000, 256), True)],
)
def test_products_are_those_that_even_points_need(shape: Picture, binned: bool) -> None:
    work = rbf_rasterize_work.Work(shape, GEFORCE)
    assert work.plan.binned == binned
    centers = torch.randint(shape.side, (shape.images, shape.length, 2), generator=torch.Generator().manual_seed(0))
    count = binned_products if binned else walked_products
    counted = sum(count(each, work) for each in centers)
    assert work.products() == pytest.approx(counted, rel=0.05)


def reach(work: rbf_rasterize_work.Work, size: int) -> list[tuple[int, int]]:
    """The first and last row, or column, in reach of each tile."""
    side, radius = work.shape.side, work.shape.radius
    return [(max(top - radius, 0), min(top + size - 1 + radius, side - 1)) for top in range(0, side, size)]


def inside(centers: Tensor, span: tuple[int, int]) -> Tensor:
    return (centers >= span[0]) & (centers <= span[1])


def walked_products(centers: Tensor, work: rbf_rasterize_work.Work) -> int:
    tile = work.plan.tile
    count = 0
    for rows, columns in itertools.product(reach(work, tile.rows), reach(work, tile.columns)):
        reaches = inside(centers[:, 0], rows) & inside(centers[:, 1], columns)
        count += sum(bool(block.any()) for block in reaches.split(tile.points))
    return count


def binned_products(centers: Tensor, work: rbf_rasterize_work.Work) -> int:
    tile, cells = work.plan.tile, centers // 8
    count = 0
    for rows, columns in itertools.product(reach(work, tile.rows), reach(work, tile.columns)):
        run = inside(cells[:, 1], (columns[0] // 8, columns[1] // 8))
        for row in range(rows[0] // 8, rows[1] // 8 + 1):
            count += -(-int((run & (cells[:, 0] == row)).sum()) // tile.points)
    return count


# A step


def test_views_and_what_is_modeled_are_no_launches() -> None:
    tensor = torch.ones(2, 3)
    launches = Launches()
    with launches:
        tensor.t().reshape(-1)  # a view and a copy
        tensor.view(-1).add_(1)
        tensor.detach() + 1
    assert launches.count == 3


@pytest.mark.usefixtures("native")
def test_a_step_is_its_ops_and_the_rest() -> None:
    by_pytorch, native = other_launches(native=False), other_launches(native=True)
    assert 8 < native < by_pytorch
    names = [kernel.name for kernel in step_kernels(CARDS[0], native)]
    assert names == [
        "affine_chain_forward_scan",
        "rbf_rasterize_fwd_kernel",
        "rbf_rasterize_bwd_kernel",
        "affine_chain_backward_scan",
        "sum_slots",
        "the rest of the step",
    ]
    assert sum(kernel.launches for kernel in step_kernels(CARDS[0], native)) == 5 + native


# The command


@pytest.mark.usefixtures("native")
def test_the_command_says_that_it_estimates_and_measures_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["estimate", "--json", str(tmp_path / "figures.json")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("An estimate, not a measurement: ")
    for word in ("rounds", "Gflop", "measured on"):
        assert word not in printed
    assert "135,640 bytes / 360 GB/s = 0.377 us" in printed
    assert "Measured: nothing, because torch finds no NVIDIA GPU.\n" in printed
    row = re.search(r"^GeForce RTX 3090 .*", printed, re.MULTILINE)
    assert row
    assert row[0].split()[3:] == ["2.645", "launches", "-", "5.376", "launches", "-"]
    assert "walk, 4 tiles of 16 x 16 pixels, of which a window of 9 x 9 reaches 1.56; workspace: 0 bytes" in printed
    assert "the dense formula, each way: 1,024 exponentials and as many multiply-adds a point" in printed
    written = json.loads((tmp_path / "figures.json").read_text())
    assert len(written) == len(estimates())
    assert all(len(each["floors"]) == len(each["kernels"]) == len(CARDS) for each in written)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_takes_its_own_options_only(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([tool, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: python -m bench {tool} ")
    with pytest.raises(SystemExit):
        main([tool, "step"])
    assert "unrecognized arguments: step" in capsys.readouterr().err


def test_beside_what_is_measured() -> None:
    """A stand-in for the timer runs the op on tensors without values."""
    results = []

    def timer(function) -> Spread:  # type: ignore[no-untyped-def]
        results.append(function())
        return Spread(1, 2, 3)

    for name, op, found in [
        ("some card", "affine_chain", list(chain_estimates())[:2]),
        ("NVIDIA L4", "rbf_rasterize", list(rasterizer_estimates())[:2]),
    ]:
        text = report(found, Gpu(name, torch.device("meta"), timer), "")
        assert f"Measured: on {name}; " in text
        assert f"\n{op}: 50 x 300 points" in text
        times = {line.split("  ")[0]: line.count("2 [1, 3]") for line in text.splitlines() if "launches" in line}
        assert [card for card, count in times.items() if count] == (["L4"] if op == "rbf_rasterize" else [])
        assert text.count("2 [1, 3]") == 2
    assert results[0].shape == (50, 300, 2)
    assert [each.shape for each in results[1]] == [(10, 2, 2), (10, 2), (50, 2)]
    assert results[2].shape == (50, 1, 32, 32)
    assert [each.shape for each in results[3]] == [(50, 300, 2), (0,), (0,)]
