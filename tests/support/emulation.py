"""CUDA sources compiled for the CPU with the emulation of tests/cuda_emulation, and loaded into torch.

In a process under a sanitizer (see `sanitized_environment`), `load` uses the build for this sanitizer.
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
    # Two emulated libraries in one process must not share variables.
    "-fvisibility=hidden",
    "-fno-gnu-unique",
    # nvcc allows shared memory to contain different types over time.
    "-fno-strict-aliasing",
]
Sanitizer = Literal["address", "thread"]
# -O1 halves the compilation time.
SANITIZERS: dict[Sanitizer, list[str]] = {
    "address": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"],
    "thread": ["-O1", "-fsanitize=thread"],
}
TORCH_FLAGS = ["-DTORCH_TARGET_VERSION=0x020b000000000000", "-DUSE_CUDA", "-isystem", str(TORCH / "include")]
# -Bsymbolic: the wrapper's replacements for torch's functions take precedence over torch's own.
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
    """Return g++. Without it, skip or fail the test."""
    found = shutil.which("g++")
    if found is None:
        skip_or_fail("compiler", "g++ was not found")
    return found


@functools.cache
def sources_hash() -> str:
    """Return the hash of all sources that any emulated library can contain."""
    files = [*EMULATION.iterdir(), *(ROOT / "csrc").glob("*.h"), *(ROOT / "csrc" / "cuda").iterdir()]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def build(source: Path, *options: str) -> Path:
    """Compile a source with the emulation. A build of the same sources, options and compiler is reused."""
    command = [compiler(), f"-I{EMULATION}", *FLAGS, "-x", "c++", str(source), "-x", "none", *options]
    version = subprocess.run([compiler(), "--version"], check=True, capture_output=True, text=True).stdout
    key = hashlib.sha256("\0".join([sources_hash(), version, torch.__version__, *command]).encode()).hexdigest()[:16]
    output = BUILD / key / (f"{source.stem}.so" if "-shared" in options else source.stem)
    output.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(output.parent / "lock"):  # several pytest workers may need it at the same time
        if not output.exists():
            unfinished = output.with_suffix(".unfinished")
            result = subprocess.run([*command, "-o", str(unfinished)], capture_output=True, text=True)
            if result.returncode != 0:
                raise RuntimeError(f"{source.name} did not compile with the emulation:\n{result.stderr}")
            unfinished.rename(output)
    return output


def build_library(source: Path, sanitizer: Sanitizer | None = None) -> Path:
    """Build a library of ops. `source` is a wrapper in tests/cuda_emulation."""
    return build(source, "-shared", *TORCH_FLAGS, *LINK, *(SANITIZERS[sanitizer] if sanitizer else []))


def running_sanitizer() -> Sanitizer | None:
    """Return the sanitizer under which this process runs."""
    process = ctypes.CDLL(None)
    return "address" if hasattr(process, "__asan_init") else "thread" if hasattr(process, "__tsan_init") else None


@functools.cache
def library(name: str) -> Path:
    return build_library(EMULATION / f"{name}.cpp", running_sanitizer())


@functools.cache
def namespace() -> torch.library.Library:
    """Define the ops' schemas again, for the emulated ops."""
    fragment = torch.library.Library("fractalops_emulated", "FRAGMENT")
    for schema in SCHEMAS:
        fragment.define(schema)
    return fragment


@functools.cache
def load(name: str) -> Any:
    """Build and load the op's CUDA source. Return its raw functions, which take CPU tensors."""
    namespace()
    torch.ops.load_library(library(name))
    return torch.ops.fractalops_emulated


@dataclass(frozen=True)
class Device:
    """The raw functions of an op and the device of its tensors."""

    op: ClassVar[str]
    ops: Any
    name: str

    @classmethod
    def open(cls, name: str) -> Any:
        """Return the emulated op for the name "cpu", or a GPU's for "gpu"."""
        if name == "cpu":
            return cls(load(cls.op), "cpu")
        need_gpu()
        assert backends.choose(cls.op, torch.device("cuda"), "native") == "native"
        return cls(torch.ops.fractalops, "cuda")


def set_order(emulated: ctypes.CDLL, threads: Order, blocks: Order, seed: int = 0) -> None:
    """Set the order in which the threads of a block, and the blocks of a grid, run."""
    emulated.emulation_set_order(ORDERS.index(threads), ORDERS.index(blocks), ctypes.c_uint(seed))


def in_several_orders(name: str, call: Callable[[], Any]) -> list[Any]:
    """Return the results of `call` with the op's threads and blocks in ascending, descending and random orders."""
    emulated = ctypes.CDLL(str(library(name)))
    results = []
    for seed, order in enumerate((*ORDERS, "random")):
        set_order(emulated, order, order, seed)
        results.append(call())
    set_order(emulated, "ascending", "ascending")
    return results


def shared_bytes(name: str, call: Callable[[], Any]) -> list[int]:
    """Return the bytes of dynamic shared memory of each launch of the op during `call`."""
    emulated = ctypes.CDLL(str(library(name)))
    emulated.emulation_launches.restype = emulated.emulation_shared_bytes.restype = ctypes.c_int64
    before = emulated.emulation_launches()
    call()
    launches = range(before, emulated.emulation_launches())
    return [emulated.emulation_shared_bytes(ctypes.c_int64(launch)) for launch in launches]


def runtime(name: str) -> str:
    """Return the path of a library of the compiler. Without it, skip or fail the test."""
    command = [compiler(), f"-print-file-name={name}"]
    path = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    if not Path(path).is_absolute():
        skip_or_fail("sanitizers", f"{name} was not found")
    return path


@functools.cache
def sanitizer_library(sanitizer: Sanitizer) -> str:
    """Return the path of a sanitizer's library. Skip or fail the test if programs do not start with it."""
    name = {"address": "libasan.so", "thread": "libtsan.so"}[sanitizer]
    path = runtime(name)
    # Repeated: if addresses are drawn from the whole address space, most runs hit addresses that libtsan reserves.
    for _ in range(5):
        done = subprocess.run(["true"], env={**os.environ, "LD_PRELOAD": path}, capture_output=True, text=True)
        if done.returncode != 0:
            skip_or_fail("sanitizers", f"{name} doesn't run here: {done.stderr.strip()}")
    return path


def sanitized_environment(sanitizer: Sanitizer) -> dict[str, str]:
    """Return the environment of a Python process under a sanitizer, which ends it at the first finding."""
    return {
        **os.environ,
        # libstdc++, too: AddressSanitizer looks for its functions before torch loads it.
        "LD_PRELOAD": f"{sanitizer_library(sanitizer)} {runtime('libstdc++.so')}",
        "ASAN_OPTIONS": "detect_leaks=0",  # Python has many leaks
        "TSAN_OPTIONS": "halt_on_error=1 ignore_noninstrumented_modules=1",  # skips the threads of Python and torch
    }


def run_sanitized(sanitizer: Sanitizer, files: Sequence[str | Path], selection: str) -> None:
    """Run selected tests of these files in a process that ends at the first finding."""
    command = [sys.executable, "-m", "pytest", *map(str, files), "-q", "-p", "no:cacheprovider"]
    command += ["--capture=sys"]  # otherwise the report is lost when a finding ends the process
    command += ["-m", "not gpu", "-k", f"({selection}) and not sanitizer"]
    environment = sanitized_environment(sanitizer)
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d{2,} passed", done.stdout, re.M), done.stdout
