"""Builds fractalops and, where a C++ compiler is found, its native library.

The native library is a plain shared library on LibTorch's stable ABI: it holds no Python symbols, so one build serves
every Python and every torch from 2.11 on. FRACTALOPS_BUILD chooses what is built:

- unset: the CPU library where a C++ compiler and torch are found, else the pure-PyTorch package;
- `cpu`: the CPU library, or the build fails;
- `none`: the pure-PyTorch package;
- `cuda`, `all`: refused, as there is no CUDA source yet.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
OPS = ("affine_chain", "rbf_rasterize", "svd_matrix", "draw_index", "fixed_point", "clamped_squared_error")
SOURCES = {"cpu": [f"csrc/cpu/{op}.cpp" for op in OPS]}
# Release flags; -fno-math-errno and -fno-trapping-math free the vectoriser and change no result.
FLAGS = "-std=c++20 -O3 -fPIC -fvisibility=hidden -fno-math-errno -fno-trapping-math -Wall -Wextra -Wno-psabi -g0"
STABLE_ABI = "-DTORCH_TARGET_VERSION=0x020b000000000000"  # torch 2.11


class BuildError(RuntimeError):
    """What was asked for can't be built; the message says why and what mends it."""


def find_compiler() -> list[str] | None:
    """The C++ compiler's command: $CXX, or the first of c++, g++ and clang++ on the path."""
    named = shlex.split(os.environ.get("CXX", ""))
    if named:
        return named if shutil.which(named[0]) else None
    found = next((path for path in map(shutil.which, ("c++", "g++", "clang++")) if path), None)
    return [found] if found else None


def torch_folder() -> Path | None:
    """Where torch is installed, found without importing it."""
    spec = find_spec("torch")
    return Path(spec.origin).parent if spec and spec.origin else None


def missing_for_cpu() -> str | None:
    """Why the CPU library can't be built here, or None."""
    if sys.platform != "linux":
        return f"the native library is built on Linux only so far, not on {sys.platform}"
    if find_compiler() is None:
        return "no C++ compiler was found (set CXX, or install g++ or clang++)"
    if torch_folder() is None:
        return "torch is not installed in the build's environment"
    return None


def chosen_libraries() -> list[str]:
    """The native libraries to build, by FRACTALOPS_BUILD."""
    choice = os.environ.get("FRACTALOPS_BUILD", "")
    if choice == "none":
        return []
    if choice in ("cuda", "all"):
        raise BuildError(f"FRACTALOPS_BUILD={choice}: there is no CUDA source in this version; use cpu or none")
    if choice not in ("", "cpu"):
        raise BuildError(f"FRACTALOPS_BUILD must be one of cpu, cuda, all, none, got {choice!r}")
    missing = missing_for_cpu()
    if missing is None:
        return ["cpu"]
    if choice == "cpu":
        raise BuildError(f"FRACTALOPS_BUILD=cpu: {missing}")
    print(f"fractalops: installing without native kernels: {missing}", file=sys.stderr)
    return []


def ninja_path(path: Path) -> str:
    """A path as a build line of ninja has it."""
    return re.sub(r"([$: ])", r"$\1", str(path))


def ninja_command(words: list[str]) -> str:
    """Words of a shell command as a rule of ninja has them."""
    return shlex.join(words).replace("$", "$$")


def ninja_file(name: str, output: Path, folder: Path) -> str:
    """The text of the build file of one library."""
    compiler, torch = find_compiler(), torch_folder()
    if compiler is None or torch is None:
        raise BuildError(f"the {name} library can't be built: {missing_for_cpu()}")
    command = ninja_command(compiler)
    include, libraries = (ninja_command([f"{torch / name}"]) for name in ("include", "lib"))
    lines = [
        "rule compile",
        f"  command = {command} {FLAGS} {STABLE_ABI} -isystem {include} -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        # A loaded torch is found by name whatever its build; --no-as-needed keeps the entry that does so.
        f"  command = {command} -shared -s $in -o $out -L{libraries} -Wl,--no-as-needed -ltorch -Wl,--as-needed "
        "-ltorch_cpu -lc10",
    ]
    objects = []
    for source in SOURCES[name]:
        objects.append(ninja_path(folder / Path(source).with_suffix(".o").name))
        lines.append(f"build {objects[-1]}: compile {ninja_path(ROOT.resolve() / source)}")
    lines.append(f"build {ninja_path(output)}: link {' '.join(objects)}")
    return "\n".join(lines) + "\n"


class BuildNative(build_ext):
    """Compiles each native library with ninja."""

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + ".so"

    def build_extension(self, ext: Extension) -> None:
        name = ext.name.rpartition("_")[2]
        folder = Path(self.build_temp).resolve() / name
        folder.mkdir(parents=True, exist_ok=True)
        output = Path(self.get_ext_fullpath(ext.name)).resolve()
        output.parent.mkdir(parents=True, exist_ok=True)
        (folder / "build.ninja").write_text(ninja_file(name, output, folder))
        ninja = shutil.which("ninja") or shutil.which("ninja", path=sysconfig.get_path("scripts"))
        if ninja is None:
            raise BuildError("ninja was not found; install it with: pip install ninja")
        try:
            subprocess.run([ninja, "-C", str(folder)], check=True)
        except subprocess.CalledProcessError as error:
            raise BuildError(
                f"the {name} library did not compile (see above); FRACTALOPS_BUILD=none installs without it"
            ) from error


class NativeWheel(bdist_wheel):
    """A wheel for any Python: the libraries hold no Python symbols."""

    def get_tag(self) -> tuple[str, str, str]:
        _, _, platform = super().get_tag()
        return "py3", "none", platform


setup(
    ext_modules=[Extension(f"fractalops._{name}", SOURCES[name]) for name in chosen_libraries()],
    cmdclass={"build_ext": BuildNative, "bdist_wheel": NativeWheel},
)
