"""CUDA sources built for the CPU with the emulation of tests/cuda_emulation, and loaded into torch.

In a process that runs under a sanitizer (see `sanitized_environment`) `load` takes the build for it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from filelock import FileLock

from fractalops import backends
from fractalops.op_table import SCHEMAS
from tests.support.requirements import need_gpu, skip_or_fail

Order = Literal["ascending", "descending", "random"]
ORDERS: tuple[Order, ...] = ("ascending", "descending", "random")

ROOT = Path(__file__).parents[2]
EMULATION = ROOT / "tests" / "cuda_emulation"
BUILD = ROOT / "build" / "cuda_emulation"
TORCH = Path(torch.__file__).parent

FLAGS = [
    "-std=c++20",
    "-O2",
    "-g1",
    "-fPIC",
    "-Wno-psabi",
    # Two emulated libraries in one process share no variables.
    "-fvisibility=hidden",
    "-fno-gnu-unique",
    # nvcc takes it for granted that shared memory holds one type now and another later.
    "-fno-strict-aliasing",
]
Sanitizer = Literal["address", "thread"]
# -O1 halves the time that the compiler takes.
SANITIZERS: dict[Sanitizer, list[str]] = {
    "address": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"],
    "thread": ["-O1", "-fsanitize=thread"],
}
TORCH_FLAGS = ["-DTORCH_TARGET_VERSION=0x020b000000000000", "-DUSE_CUDA", "-isystem", str(TORCH / "include")]
# -Bsymbolic: the wrapper's stand-ins for functions of torch come before torch's own.
LINK = [
    "-Wl,-Bsymbolic",
    f"-L{TORCH / 'lib'}",
    "-Wl,--no-as-needed",
    "-ltorch",
    "-Wl,--as-needed",
    "-ltorch_cpu",
    "-lc10",
]


def compiler() -> str:
    """g++; without it the test skips or fails."""
    found = shutil.which("g++")
    if found is None:
        skip_or_fail("compiler", "g++ was not found")
    return found


@functools.cache
def sources_hash() -> str:
    """Of all that an emulated library is made of, whichever it is."""
    files = [*EMULATION.iterdir(), *(ROOT / "csrc").glob("*.h"), *(ROOT / "csrc" / "cuda").iterdir()]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def build(source: Path, *options: str) -> Path:
    """Compile a source with the emulation; a build of the same sources, options and compiler is taken as it is."""
    command = [compiler(), f"-I{EMULATION}", *FLAGS, "-x", "c++", str(source), "-x", "none", *options]
    version = subprocess.run([compiler(), "--version"], check=True, capture_output=True, text=True).stdout
    key = hashlib.sha256("\0".join([sources_hash(), version, torch.__version__, *command]).encode()).hexdigest()[:16]
    output = BUILD / key / (f"{source.stem}.so" if "-shared" in options else source.stem)
    output.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(output.parent / "lock"):  # pytest may have several workers, which all need it
        if not output.exists():
            unfinished = output.with_suffix(".unfinished")
            result = subprocess.run([*command, "-o", str(unfinished)], capture_output=True, text=True)
            if result.returncode != 0:
                raise RuntimeError(f"{source.name} did not compile with the emulation:\n{result.stderr}")
            unfinished.rename(output)
    return output


def build_library(source: Path, sanitizer: Sanitizer | None = None) -> Path:
    """A library of ops; `source` is a wrapper in tests/cuda_emulation."""
    return build(source, "-shared", *TORCH_FLAGS, *LINK, *(SANITIZERS[sanitizer] if sanitizer else []))


def running_sanitizer() -> Sanitizer | None:
    """The one under which this process runs."""
    process = ctypes.CDLL(None)
    return "address" if hasattr(process, "__asan_init") else "thread" if hasattr(process, "__tsan_init") else None


@functools.cache
def library(name: str) -> Path:
    return build_library(EMULATION / f"{name}.cpp", running_sanitizer())


@functools.cache
def namespace() -> torch.library.Library:
    """The ops' schemas, defined once more for the emulated ones."""
    fragment = torch.library.Library("fractalops_emulated", "FRAGMENT")
    for schema in SCHEMAS:
        fragment.define(schema)
    return fragment


@functools.cache
def load(name: str) -> Any:
    """Build and load the op's CUDA source; its raw functions, for CPU tensors."""
    namespace()
    torch.ops.load_library(library(name))
    return torch.ops.fractalops_emulated


@dataclass(frozen=True)
class Device:
    """Where an op runs: its raw functions and the tensors' device."""

    op: ClassVar[str]
    ops: Any
    name: str

    @classmethod
    def open(cls, name: str) -> Any:
        """The op of the emulation, or that of a GPU: by the name "cpu" or "gpu"."""
        if name == "cpu":
            return cls(load(cls.op), "cpu")
        need_gpu()
        assert backends.choose(cls.op, torch.device("cuda"), "native") == "native"
        return cls(torch.ops.fractalops, "cuda")


def set_order(emulated: ctypes.CDLL, threads: Order, blocks: Order, seed: int = 0) -> None:
    """The order in which the threads of a block, and the blocks of a grid, run from now on."""
    emulated.emulation_set_order(ORDERS.index(threads), ORDERS.index(blocks), ctypes.c_uint(seed))


def in_several_orders(name: str, call: Callable[[], Any]) -> list[Any]:
    """What `call` returns when the op's threads and blocks run in ascending order, in descending and in random ones."""
    emulated = ctypes.CDLL(str(library(name)))
    results = []
    for seed, order in enumerate((*ORDERS, "random")):
        set_order(emulated, order, order, seed)
        results.append(call())
    set_order(emulated, "ascending", "ascending")
    return results


def shared_bytes(name: str, call: Callable[[], Any]) -> list[int]:
    """The dynamic shared memory that each launch of the op asks for while `call` runs."""
    emulated = ctypes.CDLL(str(library(name)))
    emulated.emulation_launches.restype = emulated.emulation_shared_bytes.restype = ctypes.c_int64
    before = emulated.emulation_launches()
    call()
    launches = range(before, emulated.emulation_launches())
    return [emulated.emulation_shared_bytes(ctypes.c_int64(launch)) for launch in launches]


def runtime(name: str) -> str:
    """The path of a library of the compiler's; without it the test skips or fails."""
    command = [compiler(), f"-print-file-name={name}"]
    path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    if not Path(path).is_absolute():
        skip_or_fail("sanitizers", f"{name} was not found")
    return path


@functools.cache
def sanitizer_library(sanitizer: Sanitizer) -> str:
    """The path of a sanitizer's library; the test skips or fails where programs don't start with it."""
    name = {"address": "libasan.so", "thread": "libtsan.so"}[sanitizer]
    path = runtime(name)
    # More than once: where addresses are drawn from all that there are, those that libtsan keeps are hit most times.
    for _ in range(5):
        done = subprocess.run(["true"], env={**os.environ, "LD_PRELOAD": path}, capture_output=True, text=True)
        if done.returncode != 0:
            skip_or_fail("sanitizers", f"{name} doesn't run here: {done.stderr.strip()}")
    return path


def sanitized_environment(sanitizer: Sanitizer) -> dict[str, str]:
    """The environment of a Python process that runs under a sanitizer, which ends it at the first finding."""
    return {
        **os.environ,
        # libstdc++ too: AddressSanitizer looks for its functions before torch loads it.
        "LD_PRELOAD": f"{sanitizer_library(sanitizer)} {runtime('libstdc++.so')}",
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's are many
        "TSAN_OPTIONS": "halt_on_error=1 ignore_noninstrumented_modules=1",  # Python's and torch's threads are theirs
    }


def run_sanitized(sanitizer: Sanitizer, files: Sequence[str | Path], selection: str) -> None:
    """Some tests of these files once more, in a process that ends at the first finding."""
    command = [sys.executable, "-m", "pytest", *map(str, files), "-q", "-p", "no:cacheprovider"]
    command += ["--capture=sys"]  # a finding ends the process, and its report with it
    command += ["-m", "not gpu", "-k", f"({selection}) and not sanitizer"]
    environment = sanitized_environment(sanitizer)
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d{2,} passed", done.stdout, re.M), done.stdout
