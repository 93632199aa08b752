"""Tests of the CUDA emulation with the kernels of selftest.cu: correct results, and errors that it must find."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support import emulation

SELFTEST = emulation.EMULATION / "selftest.cu"
DTYPES = [torch.float32, torch.float64, torch.int32, torch.int64]


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    return ctypes.CDLL(str(emulation.build(SELFTEST, "-shared")))


@pytest.fixture
def run(library: ctypes.CDLL) -> Iterator[Callable[..., str]]:
    """Return a function that calls run_<name> of selftest.cu and returns the launch's error, "" for none."""

    def call(name: str, *arguments: Any) -> str:
        def converted(argument: Any) -> Any:
            if isinstance(argument, Tensor):
                return ctypes.c_void_p(argument.data_ptr())
            if isinstance(argument, tuple):
                return (ctypes.c_uint * len(argument))(*argument)
            return argument.encode() if isinstance(argument, str) else argument

        function = library[f"run_{name}"]
        function.restype = ctypes.c_char_p
        return str(function(*map(converted, arguments)).decode())

    yield call
    emulation.set_order(library, "ascending", "ascending")


# Correct results


def shuffled(values: Tensor, how: int, argument: int, width: int) -> Tensor:
    """Return each lane's value: of lane `argument` of its segment (how 0), `argument` lanes below (1) or above (2)."""
    lane = torch.arange(len(values))
    first = lane // width * width
    source = (first + argument % width, lane - argument, lane + argument)[how]
    return values[torch.where((source >= first) & (source < first + width), source, lane)]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("how", [0, 1, 2], ids=["index", "up", "down"])
def test_shuffles(how: int, dtype: torch.dtype, run: Callable[..., str]) -> None:
    values = (torch.randn(96, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2**30).to(dtype)
    if dtype == torch.int64:
        values *= 2**32 + 1
    for width in (1, 2, 8, 32):
        for argument in (0, 1, 5, 31):
            got = torch.empty_like(values)
            assert run("shuffle", 96, str(dtype)[6:], values, got, how, argument, width) == ""
            assert torch.equal(got, shuffled(values, how, argument, width))


def test_a_shuffle_from_any_index_stays_in_its_segment(run: Callable[..., str]) -> None:
    values, got = torch.arange(64, dtype=torch.int32), torch.empty(64, dtype=torch.int32)
    for index in (-1, 32, 77):
        assert run("shuffle", 64, "int32", values, got, 0, index, 16) == ""
        assert torch.equal(got, shuffled(values, 0, index, 16))


@pytest.mark.parametrize("threads", [32, 64, 45, 7])
def test_votes_and_matches(threads: int, run: Callable[..., str]) -> None:
    values = torch.randint(3, (threads,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    got = torch.empty(5, threads, dtype=torch.int32)
    assert run("vote", threads, values, got) == ""

    def bits(lanes: list[bool]) -> int:
        return sum(set_ << lane for lane, set_ in enumerate(lanes))

    expected = []
    for thread in range(threads):
        warp = values[thread // 32 * 32 :][:32].tolist()
        true = [value != 0 for value in warp]
        odd = [value != 0 and lane % 2 == 1 for lane, value in enumerate(warp)] if thread % 2 else [False]
        equal = [value == values[thread] for value in warp]
        expected.append([bits(true), any(true), all(true), bits(equal), bits(odd)])
    assert torch.equal(got.long() % 2**32, torch.tensor(expected).T)


@pytest.mark.parametrize("threads", [1, 7, 31, 32, 33, 64, 100, 257, 1000, 1024])
@pytest.mark.parametrize("order", emulation.ORDERS)
def test_block_sums(threads: int, order: emulation.Order, library: ctypes.CDLL, run: Callable[..., str]) -> None:
    emulation.set_order(library, order, order, seed=1)
    values = torch.randint(100, (5, threads), generator=torch.Generator().manual_seed(0)).double()
    sums = torch.full((5,), torch.nan, dtype=torch.float64)
    assert run("block_sum", 5, threads, values, sums) == ""
    assert torch.equal(sums, values.sum(1))


@pytest.mark.parametrize(("grid", "block"), [((1, 1, 1), (1, 1, 1)), ((3, 2, 4), (5, 3, 2)), ((2, 1, 3), (4, 4, 64))])
def test_every_thread_of_a_grid_runs_once(
    grid: tuple[int, ...], block: tuple[int, ...], run: Callable[..., str]
) -> None:
    count = int(torch.tensor([*grid, *block]).prod())
    got = torch.zeros(count, dtype=torch.int64)
    assert run("number_grid", grid, block, got) == ""
    assert torch.equal(got, torch.arange(1, count + 1))


def test_orders(library: ctypes.CDLL, run: Callable[..., str]) -> None:
    def noted(*order: Any) -> Tensor:
        emulation.set_order(library, *order)
        got = torch.empty(4, 40, dtype=torch.int32)
        assert run("note_order", 4, 40, got) == ""
        return got

    ascending = torch.arange(160, dtype=torch.int32).view(4, 40)
    assert torch.equal(noted("ascending", "ascending"), ascending)
    assert torch.equal(noted("descending", "ascending"), ascending.flip(1))
    assert torch.equal(noted("ascending", "descending"), ascending.flip(0))
    random = noted("random", "random", 1)
    assert torch.equal(random.flatten().sort().values, ascending.flatten())
    assert not torch.equal(random, ascending)
    assert not torch.equal(random, noted("random", "random", 2))
    assert torch.equal(random, noted("random", "random", 1))


# Errors that must be found

FOUND = {
    "lane_outside_its_mask": "lane 0 is not in its mask",
    "absent_lane": "lane 5 of its mask never arrives: thread (5, 0, 0) has exited",
    "lane_at_barrier": "lane 5 of its mask never arrives: thread (5, 0, 0) is at __syncthreads",
    "source_outside_the_mask": "lane 15 reads from lane 16, which doesn't take part",
    "source_that_does_not_exist": "lane 0 reads from lane 1, which doesn't take part",
    "different_masks": "is at __syncwarp with the mask 0x",
    "different_lines": "is at __any_sync with the mask 0xffffffff",
    "different_operations": "__any_sync",
    "width_of_12": "width must be a power of two of at most 32, got 12",
    "delta_of_32": "delta must be less than 32",
    "divergent_barrier": "is at __syncthreads at ",
    "exit_before_barrier": "__syncthreads",
}


@pytest.mark.parametrize("name", FOUND)
def test_misuse_is_found_where_it_is(name: str, library: ctypes.CDLL, run: Callable[..., str]) -> None:
    """Misuse is found in every order of the threads, and the next launch works."""
    lines = SELFTEST.read_text().splitlines()
    begin = next(number for number, line in enumerate(lines, 1) if f"void {name}()" in line)
    for order in emulation.ORDERS:
        emulation.set_order(library, order, order, seed=3)
        error = run("misuse", name, 33)
        assert "block (0, 0, 0), thread (" in error
        assert any(f"selftest.cu:{begin + offset} in " in error for offset in range(6)), error
        assert f"{name}()" in error
        if order == "ascending":
            assert FOUND[name] in error
        got = torch.zeros(64, dtype=torch.int64)
        assert run("number_grid", (1, 1, 1), (64, 1, 1), got) == ""
        assert torch.equal(got, torch.arange(1, 65))


@pytest.mark.parametrize("name", ["shared_overrun", "shared_overrun_by_one"])
def test_an_overrun_of_shared_memory_is_found(name: str, run: Callable[..., str]) -> None:
    for threads in (1, 33):
        error = run("misuse", name, threads)
        assert f"block (0, 0, 0): wrote beyond the {4 * threads} bytes of dynamic shared memory" in error


def test_shared_memory_begins_as_nan_in_every_block(run: Callable[..., str]) -> None:
    got = torch.zeros(40)
    assert run("read_unwritten", 40, got) == ""
    assert got.isnan().all()


def test_a_forgotten_barrier_shows(library: ctypes.CDLL, run: Callable[..., str]) -> None:
    def neighbors(forgotten: bool, *order: Any) -> Tensor:
        emulation.set_order(library, *order)
        got = torch.zeros(64)
        assert run("neighbor", 64, ctypes.c_bool(forgotten), got) == ""
        return got

    orders = [("ascending", "ascending"), ("descending", "ascending"), ("random", "ascending", 1)]
    for order in orders:
        assert torch.equal(neighbors(False, *order), torch.arange(64.0).roll(-1))
    bad = [neighbors(True, *order).isnan().sum() for order in orders]
    assert len(set(map(int, bad))) == 3


@pytest.mark.parametrize(
    ("grid", "block", "shared_bytes", "reason"),
    [
        ((1, 1, 1), (1025, 1, 1), 0, "blockDim.x must lie in [1, 1024], got 1025"),
        ((1, 1, 1), (32, 33, 1), 0, "threads in a block must lie in [1, 1024], got 1056"),
        ((1, 1, 1), (1, 1, 65), 0, "blockDim.z must lie in [1, 64], got 65"),
        ((1, 1, 1), (32, 0, 1), 0, "blockDim.y must lie in [1, 1024], got 0"),
        ((0, 1, 1), (32, 1, 1), 0, "gridDim.x must lie in [1, 2147483647], got 0"),
        ((2**31, 1, 1), (32, 1, 1), 0, "gridDim.x must lie in [1, 2147483647], got 2147483648"),
        ((1, 65536, 1), (32, 1, 1), 0, "gridDim.y must lie in [1, 65535], got 65536"),
        ((1, 1, 1), (32, 1, 1), 49153, "dynamicSmemBytes must be at most 49152, got 49153"),
    ],
)
def test_launches_that_the_hardware_refuses(
    grid: tuple[int, ...], block: tuple[int, ...], shared_bytes: int, reason: str, run: Callable[..., str]
) -> None:
    assert run("with", grid, block, ctypes.c_int64(shared_bytes)) == f"invalid configuration argument: {reason}"
    assert run("with", (1, 65535, 1), (1, 1, 1), ctypes.c_int64(0)) == ""
    assert run("with", (1, 1, 1), (1024, 1, 1), ctypes.c_int64(49152)) == ""


def test_source_that_does_not_compile_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(emulation, "BUILD", tmp_path)
    (tmp_path / "broken.cu").write_text("__global__ void kernel() { missing(); }\n")
    with pytest.raises(RuntimeError, match=r"broken.cu did not compile(.|\n)*missing"):
        emulation.build(tmp_path / "broken.cu", "-shared")
    assert not list(tmp_path.rglob("*.so"))


@pytest.mark.slow
def test_address_sanitizer_finds_what_is_out_of_bounds() -> None:
    emulation.sanitizer_library("address")
    program = emulation.build(SELFTEST, *emulation.SANITIZERS["address"])

    def output(name: str) -> tuple[int, str]:
        result = subprocess.run([str(program), name], capture_output=True, text=True)
        return result.returncode, result.stdout + result.stderr

    assert output("correct") == (0, "\n")
    for name, finding in (
        ("heap_overrun", "heap-buffer-overflow"),
        ("shared_overrun", "use-after-poison"),
        ("shared_overrun_by_one", "use-after-poison"),
        ("misaligned", "misaligned address"),
    ):
        status, report = output(name)
        assert status != 0
        assert finding in report
        assert "selftest.cu:" in report
    for name in FOUND:
        status, report = output(name)  # The emulation abandons its fibers, but leaks no memory.
        assert status == 1
        assert "selftest.cu:" in report
        assert "Sanitizer" not in report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("threads", "between", "race"),
    [
        (64, "both_barriers", False),
        (64, "warp_barriers", True),
        (32, "warp_barriers", False),
        (32, "shuffle_instead", True),
        (32, "vote_instead", True),
        (32, "match_instead", True),
        (64, "no_barrier_after", True),
    ],
)
def test_thread_sanitizer_finds_races_that_no_order_shows(threads: int, between: str, race: bool) -> None:
    """As on the hardware, barriers order memory, but other warp operations do not."""
    emulation.sanitizer_library("thread")
    program = emulation.build(SELFTEST, *emulation.SANITIZERS["thread"])
    names = re.search(r"enum Between \{(.*?)\}", SELFTEST.read_text())
    assert names
    place = [name.strip() for name in names[1].split(",")].index(between)
    result = subprocess.run([str(program), "neighbors", str(threads), str(place)], capture_output=True, text=True)
    assert ("data race" in result.stderr) == (result.returncode != 0) == race, result.stderr
    assert not race or re.search(r"selftest\.cu:\d+ in .*neighbors_twice", result.stderr)
