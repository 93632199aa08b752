"""`setup.py`: what it builds by FRACTALOPS_BUILD, what it says when it can't, and the wheels that come out."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import setuptools

ROOT = Path(__file__).parent.parent
NO_COMPILER = r"no C\+\+ compiler was found \(set CXX, or install g\+\+ or clang\+\+\)"


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The functions of setup.py, which builds nothing here, with nothing of the caller's in the environment."""
    for name in ("FRACTALOPS_BUILD", "CXX"):
        monkeypatch.delenv(name, raising=False)
    with monkeypatch.context() as context:
        context.setattr(setuptools, "setup", lambda **arguments: None)
        context.setenv("FRACTALOPS_BUILD", "none")
        return runpy.run_path(str(ROOT / "setup.py"))


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which something called c++ is the only thing on the path."""
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


@pytest.mark.usefixtures("linux", "compiler")
@pytest.mark.parametrize(("choice", "expected"), [(None, ["cpu"]), ("", ["cpu"]), ("cpu", ["cpu"]), ("none", [])])
def test_what_is_built_where_there_is_a_compiler(
    choice: str | None, expected: list[str], build: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if choice is not None:
        monkeypatch.setenv("FRACTALOPS_BUILD", choice)
    assert build["chosen_libraries"]() == expected


@pytest.mark.usefixtures("linux", "no_compiler")
def test_without_a_compiler_the_package_is_pure_and_says_so(
    build: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build["chosen_libraries"]() == []
    assert "installing without native kernels: no C++ compiler was found" in capsys.readouterr().err
    monkeypatch.setenv("FRACTALOPS_BUILD", "none")
    assert build["chosen_libraries"]() == []
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FRACTALOPS_BUILD", "cpu")
    with pytest.raises(build["BuildError"], match=rf"^FRACTALOPS_BUILD=cpu: {NO_COMPILER}$"):
        build["chosen_libraries"]()


@pytest.mark.usefixtures("compiler")
def test_other_systems_and_a_missing_torch_are_named(
    build: dict[str, Any], monkeypatch: pytest.MonkeyPatch, linux: None
) -> None:
    monkeypatch.setenv("FRACTALOPS_BUILD", "cpu")
    monkeypatch.setitem(build["missing_for_cpu"].__globals__, "find_spec", lambda name: None)
    with pytest.raises(build["BuildError"], match=r"^FRACTALOPS_BUILD=cpu: torch is not installed in the build's"):
        build["chosen_libraries"]()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(build["BuildError"], match=r"^FRACTALOPS_BUILD=cpu: .* on Linux only so far, not on darwin$"):
        build["chosen_libraries"]()
    monkeypatch.delenv("FRACTALOPS_BUILD")
    assert build["chosen_libraries"]() == []


@pytest.mark.parametrize("choice", ["cuda", "all"])
def test_cuda_is_refused(choice: str, build: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRACTALOPS_BUILD", choice)
    with pytest.raises(build["BuildError"], match=rf"^FRACTALOPS_BUILD={choice}: there is no CUDA source"):
        build["chosen_libraries"]()


@pytest.mark.parametrize("choice", ["gpu", "CPU", "cpu,cuda", "1"])
def test_an_unknown_choice_is_named(choice: str, build: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRACTALOPS_BUILD", choice)
    with pytest.raises(build["BuildError"], match=rf"^FRACTALOPS_BUILD must be one of .+, got '{choice}'$"):
        build["chosen_libraries"]()


def test_the_compiler_is_cxx_with_its_options_or_the_first_on_the_path(
    build: dict[str, Any], compiler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build["find_compiler"]() == [str(compiler)]
    monkeypatch.setenv("CXX", "c++ -m64 '-DNAME=two words'")
    assert build["find_compiler"]() == ["c++", "-m64", "-DNAME=two words"]
    monkeypatch.setenv("CXX", "ccache c++")
    assert build["find_compiler"]() is None


def test_every_source_is_there_and_is_built(build: dict[str, Any], compiler: Path, tmp_path: Path) -> None:
    sources = build["SOURCES"]["cpu"]
    assert sorted(sources) == sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc" / "cpu").glob("*.cpp"))
    text = build["ninja_file"]("cpu", tmp_path / "_cpu.so", tmp_path)
    assert all(f"{source}\n" in text for source in sources)
    assert "-DTORCH_TARGET_VERSION=0x020b" in text


# Wheels


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what is built, in a folder whose name has a space; a build leaves nothing in the working tree."""
    folder = tmp_path / "source tree"
    folder.mkdir()
    skipped = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
    for name in ("csrc", "fractalops", "kernels"):
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def wheel(source: Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[Path]]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("FRACTALOPS_BUILD", "CXX")}
    out = source.parent / "wheels"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", str(out), str(source)],
        env=inherited | environment,
        capture_output=True,
        text=True,
    )
    return done, list(out.glob("*.whl"))


def installed(file: Path) -> tuple[subprocess.CompletedProcess[str], subprocess.CompletedProcess[str]]:
    """What `info` and one image print where the wheel, unpacked, comes before anything else."""
    site = file.parent.parent / "site"
    with zipfile.ZipFile(file) as archive:
        archive.extractall(site)
    environment = {name: value for name, value in os.environ.items() if name != "FRACTALOPS_BACKEND"}
    environment["PYTHONPATH"] = str(site)

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment, cwd=site, capture_output=True, text=True)

    drawing = "import fractalops; print(fractalops.__file__, tuple(fractalops.IFS(2, 3)(8).shape))"
    return python("-m", "fractalops", "info"), python("-c", drawing)


@pytest.mark.slow
def test_a_wheel_holds_the_library_and_suits_any_python(source: Path) -> None:
    done, wheels = wheel(source, FRACTALOPS_BUILD="cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = wheels
    assert "-py3-none-linux_" in file.name
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    wanted = ["_cpu.so", "kernels/__init__.py", "cli/__init__.py", "ops/affine_chain.py", "inversion/result.py"]
    assert {f"fractalops/{name}" for name in wanted} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "bench", "csrc", "kernels"))]
    info, drawing = installed(file)
    assert "native CPU library: built and loaded" in info.stdout
    assert drawing.returncode == 0, drawing.stderr
    assert drawing.stdout.endswith("site/fractalops/__init__.py (2, 1, 8, 8)\n")
    assert drawing.stderr == ""


@pytest.mark.slow
def test_without_a_compiler_the_wheel_is_pure_and_works(source: Path) -> None:
    done, wheels = wheel(source, CXX="/nonexistent/c++")
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = wheels
    assert file.name.endswith("-py3-none-any.whl")
    info, drawing = installed(file)
    assert "native CPU library: the native CPU library was not built\n" in info.stdout
    assert "with a C++ compiler: pip install" in info.stdout
    assert drawing.stdout.endswith("site/fractalops/__init__.py (2, 1, 8, 8)\n")
    assert "using the slow reference on cpu: the native CPU library was not built" in drawing.stderr


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["cpu", "cuda"])
def test_what_is_forced_and_can_not_be_built_fails_the_installation(choice: str, source: Path) -> None:
    done, wheels = wheel(source, CXX="/nonexistent/c++", FRACTALOPS_BUILD=choice)
    assert done.returncode != 0
    assert f"FRACTALOPS_BUILD={choice}: " in done.stdout + done.stderr
    assert wheels == []


@pytest.mark.slow
def test_the_source_distribution_holds_all_that_is_compiled(source: Path) -> None:
    environment = {**os.environ, "FRACTALOPS_BUILD": "none"}
    subprocess.run([sys.executable, "setup.py", "--quiet", "sdist"], cwd=source, check=True, env=environment)
    (archive,) = (source / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        held = {name.partition("/")[2] for name in file.getnames()}
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").rglob("*.*")}
    assert sources <= held
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "kernels/__init__.py"} <= held
