"""The benchmarks measure what they say: baselines agree with the reference, and the comparisons run on tiny shapes."""

from __future__ import annotations

import ctypes
import itertools
import json
import math
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import pytest
import torch

import fractalops
from bench import agreement, baselines, comparisons, point_counting
from bench.__main__ import main, table
from bench.cases import Case
from bench.comparisons import COMPARISONS, Row, exponent
from bench.cuda_plan import Form, Plan, Shape
from bench.cuda_source import FOLDER, CudaSource
from bench.cuda_timing import Gpu
from bench.cuda_work import Kernel, Work
from bench.estimate import CARDS, SHAPES, estimates, floor_of, report
from bench.subjects import PIPELINES
from bench.timing import Spread, interleaved, ratios
from tests import emulation

TINY = Case("tiny", sequences=3, points=7, maps=3, side=9)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.usefixtures("native")
def test_pipelines_agree_in_float64(name: str) -> None:
    assert agreement.pipeline_error(name, TINY, torch.float64) < 1e-12


@pytest.mark.parametrize("name", ["raw op", "separable"])
@pytest.mark.usefixtures("native")
def test_single_ops_agree_in_float64(name: str) -> None:
    assert agreement.chain_error(name, TINY, torch.float64) < 1e-12
    assert agreement.rasterizer_error(name, TINY, torch.float64) < 1e-12


@pytest.mark.parametrize(
    ("compare", "rows"),
    [(comparisons.affine_chain, 6), (comparisons.rbf_rasterize, 6), (comparisons.render, 2), (comparisons.step, 1)],
)
@pytest.mark.usefixtures("native", "fast")
def test_comparisons_give_figures(compare, rows: int) -> None:  # type: ignore[no-untyped-def]
    found = list(compare(1, TINY))
    assert len(found) == rows
    assert all(row.measured is not None and row.measured.median > 0 and not row.problem for row in found)


@pytest.mark.usefixtures("native", "fast")
def test_slow_comparisons_on_little() -> None:
    (row,) = comparisons.fit(1, config=fractalops.FitConfig(steps=2, points=20, sequences=2))
    assert row.measured is not None
    assert row.target == "at most 3"
    rows = list(comparisons.large(2, [TINY, Case("more", 1, 30, 3, 9)]))
    assert [row.unit for row in rows] == ["ms", "ms", ""]
    (row,) = comparisons.memory(1, Case("little", 1, 100, 10, 32), TINY)
    assert row.measured is not None
    assert row.measured.median >= 0


@pytest.mark.usefixtures("native", "fast")
def test_no_figure_for_what_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments) -> torch.Tensor:  # type: ignore[no-untyped-def]
        return 1.001 * baselines.separable(*arguments)

    monkeypatch.setitem(PIPELINES, "separable", wrong)
    agreement.pipeline_error.cache_clear()
    dense, separable = comparisons.render(1, TINY)
    agreement.pipeline_error.cache_clear()
    assert dense.measured is not None
    assert separable.measured is None
    assert separable.met is False
    assert "disagrees with the reference by 0.001" in separable.problem
    assert separable.problem in table([dense, separable])


@pytest.mark.usefixtures("native", "fast")
def test_points_against_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop uncompiled, as numba need not be there; then a loop that is wrong, and none."""
    monkeypatch.setattr(point_counting, "by_numba", lambda size: point_counting.by_loop(size, lambda loop: loop))
    rows = list(comparisons.rasterize_points(1, 2, 40, 9))
    assert [row.what.rpartition(", ")[2] for row in rows] == ["binary", "density"] * 2
    assert all(row.ratio and row.ratio.median > 0 and not row.problem for row in rows)
    monkeypatch.setattr(point_counting, "by_numba", lambda size: lambda points, patch, mode: torch.zeros(()))
    assert all(row.problem == "numba differs from the reference" for row in comparisons.rasterize_points(1, 2, 40, 9))


@pytest.mark.usefixtures("native", "fast")
def test_without_numba_there_is_a_figure_and_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    for row in comparisons.rasterize_points(1, 2, 40, 9):
        assert row.measured is not None
        assert row.met is None
        assert row.problem.endswith("needs numba; install it with: pip install 'fractalops[bench]'")


def test_targets() -> None:
    fast, slow = Spread(1, 2, 3), Spread(100, 200, 300)
    assert Row("", 1, measured=fast, target="at most 40").met
    assert Row("", 1, measured=slow, target="at most 40").met is False
    assert Row("", 1, measured=fast, baseline=slow, ratio=slow, target="at least 150").met
    assert Row("", 1, measured=fast).met is None
    assert Row("", 1, target="at most 40").met is False


def test_measuring() -> None:
    calls = []
    taken = interleaved({"one": lambda: calls.append(1), "two": lambda: calls.append(2)}, 3, seconds=0)
    assert [len(times) for times in taken.values()] == [3, 3]
    assert calls[-6:] == [1, 2] * 3
    assert Spread.of([5, 1, 4, 2, 3, 6]) == Spread(2, 3.5, 5)
    assert ratios([2, 9, 4], [1, 3, 1]) == Spread(2, 3, 4)
    assert math.isclose(exponent([10, 100, 1000], [3, 30, 300]), 1)


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    row = Row("a figure", 1, measured=Spread(1, 2, 3), target="at most 1")
    monkeypatch.setattr("bench.__main__.describe", lambda: {"processor": "some"})
    monkeypatch.setitem(COMPARISONS, "step", lambda rounds: iter([row]))
    assert main(["step", "--quick", "--json", str(tmp_path / "figures.json")]) == 1
    assert "a figure  1        2 [1, 3] ms  -         -      at most 1  NO" in capsys.readouterr().out
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["rows"][0]["measured"] == {"low": 1, "median": 2, "high": 3}
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "NAME must be one of affine_chain," in capsys.readouterr().err


def test_work_of_the_paper_shape() -> None:
    """By hand: 2 warps a sequence, 5 steps a thread; 24 operations a composition, 8 a step."""
    paper = SHAPES[0]
    work = Work(paper, Plan())
    assert Plan().choose_form(50, 300, "forward") is Plan().choose_form(50, 300, "backward") is Form.scan
    maps, starts = 10 * 6 * 4, 50 * 2 * 4
    run, scan, states, walk = 4 * 24, 5 * 24, 3 * 8, 5 * 8
    assert work.forward(Form.scan) == [
        Kernel(
            "affine_chain_forward_scan",
            blocks=50,
            threads=64,
            bytes=15_000 * (1 + 8) + starts + maps,
            again=49 * maps,
            operations=50 * 64 * (run + scan + states + walk),
            shuffles=50 * 64 * 6 * 6,
        )
    ]
    matrices, slots = 10 * 4 * 4, 50 * 2 * 60 * 8
    adjoint_maps, upstream, adds = 5 * 8, 5 * 2, 50 * 10 * 32  # a call of add for 32 points or the rest
    assert work.backward(Form.scan) == [
        Kernel(
            "affine_chain_backward_scan",
            blocks=50,
            threads=64,
            bytes=15_000 * (1 + 8 + 8) + 2 * starts + matrices + slots,
            workspace=slots,
            again=49 * matrices + 2 * slots,  # one flush, at the end
            operations=50 * 64 * (adjoint_maps + run + scan + states + upstream + walk) + adds * (4 + 2 * 6 + 6),
            shuffles=50 * 64 * 6 * 6 + adds * 2 * 6,  # 4 points of a map in 32: 2 rounds
        ),
        Kernel("sum_slots", blocks=2, threads=512, bytes=slots + maps, workspace=slots),
    ]
    (forward,) = work.forward(Form.sequential)
    assert (forward.blocks, forward.operations, forward.shuffles) == (2, 64 * 300 * 8, 0)


def test_floor() -> None:
    """135,640 bytes and 896,000 operations on the RTX 3090: 936 GB/s, 35.6 TFLOP/s."""
    card = CARDS[1]
    floor = floor_of(Work(SHAPES[0], Plan()).forward(Form.scan), card)
    assert card.name == "GeForce RTX 3090"
    assert astuple(floor) == pytest.approx((0.144915, 0.025169, 2.5), abs=1e-6)
    assert floor.total == pytest.approx(2.644915, abs=1e-6)
    assert floor.largest == "launches"


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
  const bool table = plan_table<T, D>(chain, chunks.length, shared);
  const int64_t forms[] = {static_cast<int64_t>(choose_form(sequences, length, false)),
                           static_cast<int64_t>(choose_form(sequences, length, true))};
  std::printf("%ld %ld %ld %ld %d %ld %d %d %ld %d %ld\\n", forms[0], forms[1], chunks.count, chunks.length,
              choose_scan_threads(length), largest_slots(maps, sequences * length, D), sums.adders, sums.in_shared,
              sums.blocks, table, shared.bytes);
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
                plan.plan_table(shape, False, chunks.length, shared),
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
    work = Work(Shape("", sequences, length, maps, index_bytes=8), Plan())
    before = launches()
    points = ops.affine_chain_fwd(matrix, offset, index, start, form.value)
    assert launches() - before == len(work.forward(form))
    before = launches()
    ops.affine_chain_bwd(points, matrix, index, start, points, form.value)
    assert launches() - before == len(work.backward(form))


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


def test_estimate_measures_nothing_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("bench.__main__.describe", dict)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["estimate", "--json", str(tmp_path / "figures.json")]) == 0
    printed = capsys.readouterr().out
    assert "Estimate of the affine chain's CUDA op. Nothing here is measured on a GPU" in printed
    assert "(torch finds no NVIDIA GPU)." in printed
    assert "135,640 bytes / 360 GB/s = 0.377 us" in printed
    assert "GeForce RTX 3090          2.645      launches  -  " in printed
    written = json.loads((tmp_path / "figures.json").read_text())["estimates"]
    assert len(written) == len(SHAPES) * len(Form) * 2
    assert all(card["measured"] is None and card["floor"] for each in written for card in each["cards"])


def test_estimate_beside_what_is_measured() -> None:
    """A stand-in for the timer runs the op on tensors without values."""
    results = []

    def timer(function) -> Spread:  # type: ignore[no-untyped-def]
        results.append(function())
        return Spread(1, 2, 3)

    paper, large = SHAPES[:2]
    found = list(estimates(Gpu("NVIDIA L4", torch.device("meta"), timer), [paper, large]))
    assert [each.measured for each in found] == [{"L4": Spread(1, 2, 3)}] * 8
    assert results[0].shape == (50, 300, 2)
    assert [each.shape for each in results[1]] == [(10, 2, 2), (10, 2), (50, 2)]
    assert "L4                        2.952      launches  2 [1, 3]      " in report(found, "")
    unknown = list(estimates(Gpu("some card", torch.device("meta"), timer), [paper]))
    assert "some card                 -          -         2 [1, 3]      -          -         2 [1, 3]" in report(
        unknown, ""
    )


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call a round, one thread count."""
    monkeypatch.setattr(comparisons, "THREADS", [1])
    monkeypatch.setattr(comparisons, "interleaved", lambda functions, rounds: interleaved(functions, rounds, 0))
