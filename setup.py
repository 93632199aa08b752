"""Build fractalops and, if their compilers are found, its native libraries.

A native library is a plain shared library that uses LibTorch's stable ABI. It has no Python symbols. So one build works
with every version of Python and every torch from 2.11 on, both CPU and CUDA builds of torch. The environment variable
FRACTALOPS_BUILD chooses the libraries:

- unset: the CPU library if a C++ compiler and torch are found, and the CUDA library if nvcc is also found and torch is
  a CUDA build. The build prints which library it leaves out, with the reason.
- `cpu`, `cuda`, `all`: the CPU library, the CUDA library, or both. The build fails if one of them can't be built.
- `none`: the pure-PyTorch package.

TORCH_CUDA_ARCH_LIST, for example "8.6;9.0+PTX", names the GPU architectures to compile for. The build needs no GPU.
"""

from __future__ import annotations

import os
import re
import runpy
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
OP_TABLE = runpy.run_path(str(ROOT / "fractalops" / "op_table.py"))
SOURCES = {
    "cpu": ["csrc/cpu/instruction_set.cpp", *(f"csrc/cpu/{op}.cpp" for op in OP_TABLE["compiled_ops"]("cpu"))],
    "cuda": [f"csrc/cuda/{op}.cu" for op in OP_TABLE["compiled_ops"]("cuda")],
}
CHOICES = {"": ("cpu", "cuda"), "cpu": ("cpu",), "cuda": ("cuda",), "all": ("cpu", "cuda"), "none": ()}

LANGUAGE = "-std=c++20 -O3 -DTORCH_TARGET_VERSION=0x020b000000000000"  # the stable ABI of torch 2.11
HOST = "-fPIC -fvisibility=hidden -Wall -Wextra -Wno-psabi -g0"
CPU = "-fno-math-errno -fno-trapping-math"  # they allow more vectorization and do not change results
OF_SOURCE = {"csrc/cpu/rasterize_orbit.cpp": "-ffp-contract=off"}  # its arithmetic must be that of a published program
# When a library is loaded, its entry for libtorch is matched by name with the torch that is already loaded. This works
# for any build of torch. --no-as-needed keeps this entry. The symbol of the schemas identifies the version of the
# source. The build on macOS has not been run.
LINK = {
    "linux": "-shared -s -Wl,--defsym={symbol}=1 -Wl,--no-as-needed -ltorch -Wl,--as-needed",
    "darwin": "-dynamiclib -Wl,-undefined,dynamic_lookup -Wl,-alias,_kernel_instruction_set,_{symbol} -ltorch",
}
ARCHITECTURES = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0")  # and PTX of the newest, for later ones
OLDEST_CUDA = 12
TOOLKIT = Path("/usr/local/cuda")
NVCC_MISSING = (
    "nvcc was not found (set CUDA_HOME to the folder of the CUDA toolkit, put nvcc on the path, "
    "or: pip install --requirement requirements-nvcc.txt, and build with --no-build-isolation)"
)


class BuildError(SystemExit):
    """Exception that ends a build. Its message says why something can't be built and how to fix it."""


def find_compiler() -> list[str] | None:
    """Return the command of the C++ compiler: $CXX, or the first of c++, g++ and clang++ on the path, or None."""
    named = shlex.split(os.environ.get("CXX", ""))
    if named:
        return named if shutil.which(named[0]) else None
    found = next((path for path in map(shutil.which, ("c++", "g++", "clang++")) if path), None)
    return [found] if found else None


def find_nvcc() -> str | None:
    """Return the path of nvcc, or None.

    If $CUDA_HOME or $CUDA_PATH is set, only its folder is searched. Otherwise the path, the usual folder of the toolkit
    and the packages of pip are searched.
    """
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    packages = [f"{folder}/nvidia/cu13/bin" for folder in sys.path]
    folders = [f"{home}/bin"] if home else [os.environ.get("PATH", ""), f"{TOOLKIT}/bin", *packages]
    return shutil.which("nvcc", path=os.pathsep.join(folders))


def torch_folder() -> Path | None:
    """Return the folder where torch is installed, or None, without importing torch."""
    spec = find_spec("torch")
    return Path(spec.origin).parent if spec and spec.origin else None


def is_cuda_build(torch: Path) -> bool:
    """Return whether the torch in this folder is a CUDA build, without importing torch."""
    return re.search(r"^cuda\b.*= *['\"]", (torch / "version.py").read_text(), re.MULTILINE) is not None


def missing_for(name: str) -> str | None:
    """Return the reason why a library can't be built on this machine, or None."""
    if sys.platform not in LINK or (name == "cuda" and sys.platform != "linux"):
        return f"the native {name.upper()} library is not built on {sys.platform}"
    if find_compiler() is None:
        return "no C++ compiler was found (set CXX, or install g++ or clang++)"
    if torch_folder() is None:
        return "torch is not installed in the build's environment"
    return missing_nvcc() if name == "cuda" else None


def missing_nvcc() -> str | None:
    """Return the reason why CUDA sources can't be compiled on this machine, or None."""
    nvcc = find_nvcc()
    if nvcc is None:
        return NVCC_MISSING
    try:
        release = re.search(r"release (\d+)\.(\d+)", ask_nvcc(nvcc, "--version"))
        if release and int(release[1]) < OLDEST_CUDA:
            return f"{nvcc} has CUDA version {release[1]}.{release[2]}, but C++20 needs {OLDEST_CUDA}.0 or newer"
        architecture_flags(nvcc)
    except BuildError as error:
        return str(error)
    return None


def chosen_libraries() -> list[str]:
    """Return the native libraries to build. Raise `BuildError` if FRACTALOPS_BUILD requests one that can't be built."""
    choice = os.environ.get("FRACTALOPS_BUILD", "")
    if choice not in CHOICES:
        raise BuildError(f"FRACTALOPS_BUILD must be one of cpu, cuda, all, none, got {choice!r}")
    chosen = []
    for name in CHOICES[choice]:
        missing = missing_for(name)
        torch = torch_folder()
        if name == "cuda" and not choice and torch and not is_cuda_build(torch):
            missing = "torch was built without CUDA (FRACTALOPS_BUILD=all builds it anyway)"
        if missing is None:
            chosen.append(name)
        elif choice:
            raise BuildError(f"FRACTALOPS_BUILD={choice}: {missing}")
        else:
            print(f"fractalops: leaving out the native {name.upper()} library: {missing}", file=sys.stderr)
    return chosen


def ask_nvcc(nvcc: str, *options: str) -> str:
    """Run nvcc with some options and return its output. Raise `BuildError` if it fails."""
    try:
        done = subprocess.run([nvcc, *options], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(f"{nvcc} can't be run: {getattr(error, 'stderr', '') or error}") from error
    return done.stdout + done.stderr


def toolkit_folder(nvcc: str) -> str:
    """Return the folder of nvcc's CUDA toolkit. nvcc itself may be a wrapper script in another folder."""
    found = re.search(r"^#\$ TOP=(.+)$", ask_nvcc(nvcc, "--dryrun", "any.cu"), re.MULTILINE)
    if found is None:
        raise BuildError(f"{nvcc} doesn't print where its toolkit is; set CUDA_HOME to the folder of the CUDA toolkit")
    return found[1]


def architecture_flags(nvcc: str) -> list[str]:
    """Return nvcc's options for TORCH_CUDA_ARCH_LIST or, if it is unset, for the default architectures it supports."""
    listed = re.findall(r"^sm_(\d+)(\d)$", ask_nvcc(nvcc, "--list-gpu-code"), re.MULTILINE)
    known = [f"{major}.{minor}" for major, minor in sorted(listed, key=lambda each: int("".join(each)))]
    known = [each for each in known if float(each) >= 7.5]
    entries = re.split(r"[;,\s]+", os.environ.get("TORCH_CUDA_ARCH_LIST", "").strip("; ,"))
    if entries == [""]:
        entries = [each for each in ARCHITECTURES if each in known]
        entries[-1:] = [f"{each}+PTX" for each in entries[-1:]]
    flags = []
    for entry in entries:
        found = re.fullmatch(r"(\d+)\.(\d)([af]?)(\+PTX)?", entry)
        if found is None or f"{found[1]}.{found[2]}" not in known:
            raise BuildError(f"TORCH_CUDA_ARCH_LIST must list only {', '.join(known)} for {nvcc}, got {entry!r}")
        number = found[1] + found[2] + found[3]
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if found[4]:
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


def ninja_path(path: Path) -> str:
    """Return a path, escaped for a build line of ninja."""
    return re.sub(r"([$: ])", r"$\1", str(path))


def ninja_command(words: list[str]) -> str:
    """Return a shell command, escaped for a rule of ninja."""
    return shlex.join(words).replace("$", "$$")


def prefix_maps(torch: Path) -> list[str]:
    """Return compiler options that keep the folders of this machine out of the libraries."""
    return [f"-ffile-prefix-map={ROOT.resolve()}=.", f"-ffile-prefix-map={torch}=torch"]


def nvcc_commands(nvcc: str, compiler: list[str], host_flags: list[str]) -> tuple[str, str]:
    """Return the command that compiles a CUDA source, and the linker's options for the library."""
    toolkit = toolkit_folder(nvcc)
    host = ["-ccbin", *compiler] if len(compiler) == 1 else []  # nvcc accepts a program here, not a command
    threads = ["--threads", str(min(4, os.cpu_count() or 1))]  # the number of architectures to compile for in parallel
    command = [nvcc, *host, *threads, *architecture_flags(nvcc), "-DUSE_CUDA"]
    # nvcc does not split options in double quotes at commas. It passes the quotes to the shell that runs the compiler.
    command += [word for flag in host_flags for word in ("-Xcompiler", f'"{flag}"')]
    # With the static runtime, the library needs no CUDA library except a driver for the toolkit's major version.
    runtime = [f"-L{toolkit}/lib64", f"-L{toolkit}/lib", "-lcudart_static", "-ldl", "-lrt", "-lpthread"]
    return ninja_command(command), ninja_command(runtime)


def ninja_file(name: str, output: Path, folder: Path) -> str:
    """Return the text of ninja's build file for one library. Raise `BuildError` if the library can't be built."""
    compiler, torch, nvcc = find_compiler(), torch_folder(), find_nvcc()
    if compiler is None or torch is None or (name == "cuda" and nvcc is None):
        raise BuildError(f"the {name} library can't be built: {missing_for(name)}")
    link = ninja_command(compiler)
    options = LINK[sys.platform].format(symbol=OP_TABLE["SCHEMAS_SYMBOL"])
    host_flags = [*HOST.split(), *prefix_maps(torch)]
    command, runtime = f"{ninja_command([*compiler, *host_flags])} {CPU}", ""
    if name == "cuda" and nvcc is not None:
        command, runtime = nvcc_commands(nvcc, compiler, host_flags)
    include, libraries = (ninja_command([f"{torch / name}"]) for name in ("include", "lib"))
    lines = [
        "rule compile",
        f"  command = {command} {LANGUAGE} $flags -isystem {include} -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {link} $in -o $out -L{libraries} {options} -ltorch_cpu -lc10 {runtime}",
    ]
    objects = []
    for source in SOURCES[name]:
        objects.append(ninja_path(folder / Path(source).with_suffix(".o").name))
        lines.append(f"build {objects[-1]}: compile {ninja_path(ROOT.resolve() / source)}")
        lines.append(f"  flags = {OF_SOURCE.get(source, '')}")
    lines.append(f"build {ninja_path(output)}: link {' '.join(objects)}")
    return "\n".join(lines) + "\n"


def compile_library(name: str, output: Path, folder: Path) -> None:
    """Compile and link one library with ninja, in a folder for its objects.

    Raise `BuildError` if a tool is missing, or `subprocess.CalledProcessError` if the library does not compile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    (folder / "build.ninja").write_text(ninja_file(name, output, folder))
    ninja = shutil.which("ninja") or shutil.which("ninja", path=sysconfig.get_path("scripts"))
    if ninja is None:
        raise BuildError("ninja was not found; install it with: pip install ninja")
    subprocess.run([ninja, "-C", str(folder)], check=True)


class BuildNative(build_ext):
    """The command that compiles each native library with ninja."""

    def get_ext_filename(self, fullname: str) -> str:
        """Return the path of a library, without Python's own suffix."""
        return fullname.replace(".", "/") + ".so"

    def build_extension(self, ext: Extension) -> None:
        """Compile and link one library. Raise `BuildError` if this fails."""
        name = ext.name.rpartition("_")[2]
        output = Path(self.get_ext_fullpath(ext.name)).resolve()
        try:
            # pip gives an editable installation a new folder each time, in which everything would be compiled again.
            folder = ROOT / "build" / "editable" if self.editable_mode else Path(self.build_temp)
            compile_library(name, output, folder.resolve() / name)
        except subprocess.CalledProcessError as error:
            without = {"cpu": "none", "cuda": "cpu"}[name]
            raise BuildError(
                f"the {name} library did not compile (see above); FRACTALOPS_BUILD={without} installs without it"
            ) from error


class NativeWheel(bdist_wheel):
    """The command that builds a wheel for any Python 3, because the libraries have no Python symbols."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tag of a wheel for any Python 3."""
        _, _, platform = super().get_tag()
        return "py3", "none", platform


if __name__ == "__main__":
    setup(
        ext_modules=[Extension(f"fractalops._{name}", SOURCES[name]) for name in chosen_libraries()],
        cmdclass={"build_ext": BuildNative, "bdist_wheel": NativeWheel},
    )
