"""Tests of the packages that `setup.py` builds: wheels with and without native libraries, the source archive."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from tests.support.requirements import ROOT, find_nvcc, quick_compilers


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a copy of the sources, in a folder with a space in its name. A build leaves the working tree clean."""
    folder = tmp_path / "source tree"
    folder.mkdir()
    skipped = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
    for name in ("bench", "csrc", "fractalops", "kernels"):
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "requirements-nvcc.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def quick(tmp_path: Path) -> dict[str, str]:
    return quick_compilers(tmp_path)


def wheel(source: Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[Path]]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("FRACTALOPS_BUILD", "CXX")}
    inherited["TORCH_CUDA_ARCH_LIST"] = "8.6"
    out = source.parent / "wheels"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", str(out), str(source)],
        env=inherited | environment,
        capture_output=True,
        text=True,
    )
    return done, list(out.glob("*.whl"))


def built(source: Path, **environment: str) -> Path:
    """Return the only wheel of a build that succeeds."""
    done, wheels = wheel(source, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = wheels
    return file


def installed(file: Path) -> list[subprocess.CompletedProcess[str]]:
    """Return the runs of `info`, an image and `bench --list`, with the unpacked wheel first on Python's path."""
    site = file.parent.parent / "site"
    with zipfile.ZipFile(file) as archive:
        archive.extractall(site)
    environment = {name: value for name, value in os.environ.items() if name != "FRACTALOPS_BACKEND"}
    environment["PYTHONPATH"] = str(site)
    drawing = "import fractalops; print(fractalops.__file__, tuple(fractalops.IFS(2, 3)(8).shape))"
    return [
        subprocess.run([sys.executable, *arguments], env=environment, cwd=site, capture_output=True, text=True)
        for arguments in (("-m", "fractalops", "info"), ("-c", drawing), ("-m", "fractalops", "bench", "--list"))
    ]


def assert_no_folder_of_this_machine(file: Path, library: str, source: Path) -> None:
    """Check that the library's error texts name no folder of this machine. Compilers may store folders of their own."""
    with zipfile.ZipFile(file) as archive:
        content = archive.read(f"fractalops/{library}")
    assert b"./csrc/" in content
    for folder in (source.parent, Path(torch.__file__).parent):
        assert bytes(folder) not in content


@pytest.fixture
def distributed(source: Path) -> Path:
    """Return the folder of the unpacked source distribution."""
    environment = {**os.environ, "FRACTALOPS_BUILD": "none"}
    subprocess.run([sys.executable, "setup.py", "--quiet", "sdist"], cwd=source, check=True, env=environment)
    (archive,) = (source / "dist").glob("*.tar.gz")
    folder = source.parent / "distributed"
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    (content,) = folder.iterdir()
    return content


@pytest.mark.slow
def test_the_source_distribution_has_all_sources(distributed: Path) -> None:
    names = {path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").rglob("*.*")}
    names |= {"csrc/cuda/affine_chain.cu", "requirements-nvcc.txt", "LICENSE"}
    assert names <= {path.relative_to(distributed).as_posix() for path in distributed.rglob("*")}


@pytest.mark.slow
def test_a_wheel_of_the_source_distribution_suits_any_python(distributed: Path, quick: dict[str, str]) -> None:
    source = distributed
    file = built(source, FRACTALOPS_BUILD="cpu", **quick)
    assert "-py3-none-linux_" in file.name
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    expected = ["_cpu.so", "kernels/__init__.py", "cli/__init__.py", "ops/affine_chain.py", "fitting/result.py"]
    expected += ["py.typed", "bench/command.py", "bench/report.html", "bench/multiply_adds.cpp"]
    assert {f"fractalops/{name}" for name in expected} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "bench", "csrc", "kernels"))]
    assert_no_folder_of_this_machine(file, "_cpu.so", source)
    info, drawing, suites = installed(file)
    assert "native CPU library: built and loaded\nnative CUDA library: not built\n" in info.stdout
    assert drawing.returncode == 0, drawing.stderr
    assert drawing.stdout.endswith("site/fractalops/__init__.py (2, 1, 8, 8)\n")
    assert drawing.stderr == ""
    assert "affine_chain" in suites.stdout, suites.stderr


@pytest.mark.slow
def test_a_wheel_with_the_cuda_library_alone(source: Path, quick: dict[str, str]) -> None:
    find_nvcc()
    file = built(source, FRACTALOPS_BUILD="cuda", **quick)
    assert_no_folder_of_this_machine(file, "_cuda.so", source)
    info, drawing, _ = installed(file)
    status = "built and loaded" if torch.version.cuda else "built, but it can't be loaded (this torch was built without"
    assert f"native CPU library: not built\nnative CUDA library: {status}" in info.stdout
    assert drawing.returncode == 0, drawing.stderr


@pytest.mark.slow
def test_without_a_compiler_the_wheel_is_pure_and_works(source: Path) -> None:
    file = built(source, CXX="/nonexistent/c++")
    assert file.name.endswith("-py3-none-any.whl")
    info, drawing, _ = installed(file)
    assert "native CPU library: not built\n" in info.stdout
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
