"""Tests of `setup.py`: what it builds for each FRACTALOPS_BUILD, its messages if it cannot, and its build files."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.requirements import ROOT, find_nvcc, setup_functions

# Environment variables that affect a build.
SETTINGS = ("FRACTALOPS_BUILD", "CXX", "CUDA_HOME", "CUDA_PATH", "TORCH_CUDA_ARCH_LIST")
NO_COMPILER = r"no C\+\+ compiler was found \(set CXX, or install g\+\+ or clang\+\+\)"


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the functions of setup.py, with these variables unset."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return setup_functions()


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the path to a folder that contains only a `c++` command, and return the command."""
    path = tmp_path / "bin" / "c++"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent))
    return path


@pytest.fixture(params=["an empty path", "a CXX that isn't there"])
def no_compiler(request: pytest.FixtureRequest, build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "an empty path":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setenv("CXX", "/nonexistent/c++ -m64")


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")


KNOWN = "75 80 86 90 120"


def stand_in_nvcc(folder: Path, architectures: str = KNOWN, release: str = "13.0") -> Path:
    """Write a fake nvcc to `folder` that answers the queries of setup.py."""
    path = folder / "nvcc"
    folder.mkdir(parents=True, exist_ok=True)
    codes = "".join(f"sm_{each}\\n" for each in architectures.split())
    answers = f"--dryrun) echo '#$ TOP=/the toolkit' >&2 ;;\n--version) echo 'Cuda tools, release {release}' ;;"
    path.write_text(f"#!/bin/sh\ncase $1 in\n{answers}\n*) printf '{codes}' ;;\nesac\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = stand_in_nvcc(tmp_path / "toolkit" / "bin")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "toolkit"))
    return path


def use_torch(build: dict[str, Any], folder: Path, cuda: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a build environment whose torch has this version of CUDA, or no CUDA."""
    (folder / "version.py").write_text(f"__version__ = '2.11.0'\ncuda: Optional[str] = {cuda!r}\nhip = '6.0'\n")
    monkeypatch.setitem(build["missing_for"].__globals__, "torch_folder", lambda: folder)


def assert_refused(build: dict[str, Any], monkeypatch: pytest.MonkeyPatch, choice: str, reason: str) -> None:
    monkeypatch.setenv("FRACTALOPS_BUILD", choice)
    with pytest.raises(build["BuildError"], match=f"^{reason}"):
        build["chosen_libraries"]()


WITHOUT_CUDA = "leaving out the native CUDA library: torch was built without CUDA"
WITHOUT_NVCC = "leaving out the native CUDA library: nvcc was not found"


@pytest.mark.usefixtures("linux", "compiler", "nvcc")
@pytest.mark.parametrize(
    ("choice", "cuda", "has_nvcc", "expected", "said"),
    [
        (None, None, True, ["cpu"], WITHOUT_CUDA),
        ("", None, False, ["cpu"], WITHOUT_CUDA),
        (None, "13.0", True, ["cpu", "cuda"], ""),
        (None, "13.0", False, ["cpu"], WITHOUT_NVCC),
        ("cpu", "13.0", True, ["cpu"], ""),
        ("cuda", None, True, ["cuda"], ""),
        ("all", None, True, ["cpu", "cuda"], ""),
        ("all", "13.0", True, ["cpu", "cuda"], ""),
        ("none", "13.0", True, [], ""),
    ],
)
def test_what_is_built_where_there_is_a_compiler(
    choice: str | None,
    cuda: str | None,
    has_nvcc: bool,
    expected: list[str],
    said: str,
    build: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use_torch(build, tmp_path, cuda, monkeypatch)
    if choice is not None:
        monkeypatch.setenv("FRACTALOPS_BUILD", choice)
    if not has_nvcc:
        monkeypatch.setenv("CUDA_HOME", "/nonexistent")
    assert build["chosen_libraries"]() == expected
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == bool(said)


@pytest.mark.usefixtures("linux", "compiler")
@pytest.mark.parametrize(
    ("release", "listed", "reason"),
    [
        ("11.8", "", r"/\S+/nvcc has CUDA version 11.8, but C\+\+20 needs 12.0 or newer"),
        ("12.0", "7.0 8.0", r"TORCH_CUDA_ARCH_LIST must list only 7.5, .*, got '7.0'"),
        ("13.0", "Ampere", r"TORCH_CUDA_ARCH_LIST must list only 7.5, .*, got 'Ampere'"),
    ],
)
def test_what_nvcc_can_not_compile_is_left_out_unless_it_is_asked_for(
    release: str,
    listed: str,
    reason: str,
    build: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use_torch(build, tmp_path, "13.0", monkeypatch)
    stand_in_nvcc(tmp_path / "bin", release=release)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", listed)
    assert build["chosen_libraries"]() == ["cpu"]
    assert re.search(rf"^fractalops: leaving out the native CUDA library: {reason}", capsys.readouterr().err)
    assert_refused(build, monkeypatch, "all", rf"FRACTALOPS_BUILD=all: {reason}")


@pytest.mark.usefixtures("linux", "no_compiler")
def test_without_a_compiler_the_package_is_pure_and_says_so(
    build: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build["chosen_libraries"]() == []
    assert "leaving out the native CPU library: no C++ compiler was found" in capsys.readouterr().err
    monkeypatch.setenv("FRACTALOPS_BUILD", "none")
    assert build["chosen_libraries"]() == []
    assert capsys.readouterr() == ("", "")
    for choice in ("cpu", "cuda", "all"):
        assert_refused(build, monkeypatch, choice, rf"FRACTALOPS_BUILD={choice}: {NO_COMPILER}$")


@pytest.mark.usefixtures("compiler")
def test_other_systems_and_a_missing_torch_are_named(
    build: dict[str, Any], monkeypatch: pytest.MonkeyPatch, linux: None
) -> None:
    monkeypatch.setitem(build["missing_for"].__globals__, "find_spec", lambda name: None)
    assert_refused(build, monkeypatch, "cpu", "FRACTALOPS_BUILD=cpu: torch is not installed in the build's")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert_refused(build, monkeypatch, "cuda", "FRACTALOPS_BUILD=cuda: the native CUDA library is not built on darwin$")
    monkeypatch.setattr(sys, "platform", "win32")
    assert_refused(build, monkeypatch, "cpu", "FRACTALOPS_BUILD=cpu: the native CPU library is not built on win32$")
    monkeypatch.delenv("FRACTALOPS_BUILD")
    assert build["chosen_libraries"]() == []


@pytest.mark.usefixtures("linux", "compiler")
def test_without_nvcc_what_asks_for_it_is_refused(build: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_HOME", "/nonexistent")
    for choice in ("cuda", "all"):
        assert_refused(build, monkeypatch, choice, rf"FRACTALOPS_BUILD={choice}: nvcc was not found \(set CUDA_HOME")


def test_the_build_of_torch_is_read_from_its_version_file(build: dict[str, Any]) -> None:
    assert build["is_cuda_build"](Path(torch.__file__).parent) == (torch.version.cuda is not None)


@pytest.mark.parametrize("choice", ["gpu", "CPU", "cpu,cuda", "1"])
def test_an_unknown_choice_is_named(choice: str, build: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert_refused(build, monkeypatch, choice, rf"FRACTALOPS_BUILD must be one of .+, got '{choice}'$")


def test_the_compiler_is_cxx_with_its_options_or_the_first_on_the_path(
    build: dict[str, Any], compiler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build["find_compiler"]() == [str(compiler)]
    monkeypatch.setenv("CXX", "c++ -m64 '-DNAME=two words'")
    assert build["find_compiler"]() == ["c++", "-m64", "-DNAME=two words"]
    monkeypatch.setenv("CXX", "ccache c++")
    assert build["find_compiler"]() is None


def test_nvcc_is_that_of_cuda_home_or_the_first_that_is_found(
    build: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = build["find_nvcc"]
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setitem(find.__globals__, "TOOLKIT", tmp_path / "usual")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site-packages")])
    assert find() is None
    for folder in ("site-packages/nvidia/cu13/bin", "usual/bin", "path"):
        assert find() != (found := str(stand_in_nvcc(tmp_path / folder)))
        assert find() == found
    for variable in ("CUDA_PATH", "CUDA_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
        assert find() is None
        assert str(stand_in_nvcc(tmp_path / variable / "bin")) == find()


def gencode(*pairs: str) -> list[str]:
    """Return nvcc's options: `86/sm_86` is machine code for 8.6, `86/compute_86` its PTX."""
    return ["-gencode=arch=compute_{},code={}".format(*pair.split("/")) for pair in pairs]


@pytest.mark.parametrize(
    ("known", "listed", "expected"),
    [
        (KNOWN, "8.6;9.0+PTX", gencode("86/sm_86", "90/sm_90", "90/compute_90")),
        (KNOWN, " 8.6  12.0; ", gencode("86/sm_86", "120/sm_120")),
        (KNOWN, "7.5,9.0a", gencode("75/sm_75", "90a/sm_90a")),
        (KNOWN, "", gencode("75/sm_75", "80/sm_80", "86/sm_86", "90/sm_90", "120/sm_120", "120/compute_120")),
        # An older nvcc gets PTX of the newest architecture that it supports.
        (
            "50 70 75 80 86 89 90",
            "",
            gencode("75/sm_75", "80/sm_80", "86/sm_86", "89/sm_89", "90/sm_90", "90/compute_90"),
        ),
    ],
)
def test_the_architectures_are_those_listed_or_ours_that_nvcc_knows(
    known: str, listed: str, expected: list[str], build: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", listed)
    assert build["architecture_flags"](str(stand_in_nvcc(tmp_path, known))) == expected


@pytest.mark.parametrize("entry", ["8.8", "sm_86", "86", "Ampere", "8.6+ptx", "7.0", "+PTX", "8.6b"])
def test_an_unknown_architecture_is_named(
    entry: str, build: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvcc = stand_in_nvcc(tmp_path, "70 75 80 86")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", f"8.0;{entry}")
    expected = f"TORCH_CUDA_ARCH_LIST must list only 7.5, 8.0, 8.6 for {nvcc}, got {entry!r}"
    with pytest.raises(build["BuildError"], match=f"^{re.escape(expected)}$"):
        build["architecture_flags"](str(nvcc))


def test_an_nvcc_that_does_not_answer_is_named(build: dict[str, Any], tmp_path: Path) -> None:
    nvcc = stand_in_nvcc(tmp_path)
    nvcc.write_text("#!/bin/sh\necho no license >&2\nexit 1\n")
    with pytest.raises(build["BuildError"], match=rf"^{nvcc} can't be run: no license"):
        build["toolkit_folder"](str(nvcc))
    nvcc.write_text("#!/bin/sh\n")
    with pytest.raises(build["BuildError"], match=rf"^{nvcc} doesn't print where its toolkit is; set CUDA_HOME"):
        build["toolkit_folder"](str(nvcc))


@pytest.mark.parametrize(("name", "suffix"), [("cpu", "cpp"), ("cuda", "cu")])
def test_every_source_is_there_and_is_built(
    name: str, suffix: str, build: dict[str, Any], compiler: Path, nvcc: Path, tmp_path: Path
) -> None:
    sources = build["SOURCES"][name]
    assert sorted(sources) == sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc" / name).glob(f"*.{suffix}"))
    text = build["ninja_file"](name, tmp_path / f"_{name}.so", tmp_path)
    assert all(f"{source}\n" in text for source in sources)
    assert "-DTORCH_TARGET_VERSION=0x020b" in text
    assert (str(nvcc) in text) == (name == "cuda")


def test_the_cuda_library_is_compiled_by_nvcc_and_linked_with_the_static_runtime(
    build: dict[str, Any], compiler: Path, nvcc: Path, tmp_path: Path
) -> None:
    text = build["ninja_file"]("cuda", tmp_path / "_cuda.so", tmp_path)
    compile_command, link_command = re.findall(r"command = (.+)", text)
    assert compile_command.startswith(f"{nvcc} -ccbin {compiler} --threads ")
    assert """-DUSE_CUDA -Xcompiler '"-fPIC"' -Xcompiler '"-fvisibility=hidden"' """ in compile_command
    assert " -MMD -MF $out.d " in compile_command
    assert link_command.startswith(f"{compiler} $in -o $out ")
    assert "'-L/the toolkit/lib64' '-L/the toolkit/lib' -lcudart_static -ldl -lrt -lpthread" in link_command
    assert "-Wl,--no-as-needed -ltorch -Wl,--as-needed -ltorch_cpu -lc10" in link_command


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_the_folders_of_the_source_and_of_torch_are_not_compiled_in(
    name: str, build: dict[str, Any], compiler: Path, nvcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source tree").mkdir()
    monkeypatch.setitem(build["ninja_file"].__globals__, "ROOT", tmp_path / "source tree")
    command = re.findall(r"command = (.+)", build["ninja_file"](name, tmp_path / f"_{name}.so", tmp_path))[0]
    words = [word.strip('"') for word in shlex.split(command)]
    assert f"-ffile-prefix-map={tmp_path}/source tree=." in words
    assert f"-ffile-prefix-map={Path(torch.__file__).parent}=torch" in words


def test_what_can_not_be_built_is_one_line(build: dict[str, Any]) -> None:
    command = [sys.executable, str(ROOT / "setup.py"), "--name"]
    environment = {**os.environ, "FRACTALOPS_BUILD": "gpu"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "FRACTALOPS_BUILD must be one of cpu, cuda, all, none, got 'gpu'\n"


@pytest.mark.slow
def test_a_changed_header_compiles_a_cuda_source_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_nvcc()
    setup_py = setup_functions()
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "header.h").write_text("constexpr int number = 1;\n")
    (folder / "source.cu").write_text('#include "header.h"\n__global__ void kernel(int* out) { *out = number; }\n')
    monkeypatch.setitem(setup_py["SOURCES"], "cuda", [str(folder / "source.cu")])
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.6;9.0")
    (folder / "build.ninja").write_text(setup_py["ninja_file"]("cuda", folder / "_cuda.so", folder))

    def ninja(*options: str) -> str:
        command = [sys.executable, "-m", "ninja", "-C", str(folder), *options]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    ninja()
    assert "no work to do" in ninja()
    (folder / "header.h").write_text("constexpr int number = 2;\n")
    assert "[2/2]" in ninja()


def test_make_finds_what_its_targets_are_made_from() -> None:
    """Run the README's commands as a dry run, which fails if a file is missing."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "demo", "test", "test-slow", "check", "bench"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("compiler")
def test_macos_links_as_its_linker_does(build: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a Mac, only the options can be tested: they are those of its linker, and none is GNU's."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert build["missing_for"]("cpu") is None
    (link,) = re.findall(r"command = (.+ \$in .+)", build["ninja_file"]("cpu", tmp_path / "_cpu.so", tmp_path))[1:]
    assert "-dynamiclib -Wl,-undefined,dynamic_lookup" in link
    assert f"-Wl,-alias,_kernel_instruction_set,_{build['OP_TABLE']['SCHEMAS_SYMBOL']} " in link
    assert not re.search(r"-shared|--defsym|as-needed| -s ", link)
