"""Tests of the choice of backends: reports, forced backends, and missing native libraries."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fractalops
from fractalops import BackendError, backends
from fractalops.ops import affine_chain

CPU, CUDA, META = (torch.device(kind) for kind in ("cpu", "cuda", "meta"))
PACKAGE = Path(fractalops.__file__).parent
INPUTS = (torch.eye(2)[None], torch.zeros(1, 2), torch.zeros(1, 3, dtype=torch.uint8), torch.zeros(2))
# Unexpected warnings are errors.
pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def take_away(device: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> OSError:
    """Make the native library of `device` look missing. Return the error of loading it."""
    error = OSError(f"_{device}.so: cannot open shared object file: No such file or directory")
    monkeypatch.setitem(backends.STATE.load_errors, device, error)
    monkeypatch.setitem(backends.STATE.libraries, device, folder / f"_{device}.so")
    return error


@pytest.fixture
def no_cuda_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OSError:
    """Simulate a CUDA build of torch without the native CUDA library, and with no forced backend."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(backends.STATE, "forced", None)
    monkeypatch.setattr(backends.STATE, "warned", set())
    return take_away("cuda", monkeypatch, tmp_path)


@pytest.fixture
def no_library(no_cuda_library: OSError, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OSError:
    return take_away("cpu", monkeypatch, tmp_path)


@pytest.fixture
def library(native: str, no_cuda_library: OSError) -> None:
    """Require the native CPU library, without the CUDA library."""


@pytest.fixture
def cuda_library(library: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate that both native libraries are present."""
    monkeypatch.delitem(backends.STATE.load_errors, "cuda")


@pytest.fixture
def no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a CUDA build of torch without Triton."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    # With None, the import fails as if the module were missing.
    monkeypatch.setitem(sys.modules, "triton", None)
    for op in backends.OPS:
        monkeypatch.delitem(sys.modules, f"fractalops.kernels.{op}", raising=False)
    monkeypatch.setattr(backends.STATE, "import_errors", {})


def assert_reference_stands_in(op: str) -> tuple[backends.BackendStatus, BaseException | None]:
    """Check that `op` uses the reference on GPUs with one warning, and refuses native for the same reason.

    Returns:
        The op's row for GPUs in `list_backends`, and the cause of the refusal.
    """
    (row,) = (row for row in fractalops.list_backends() if (row.op, row.device) == (op, "cuda"))
    warning = f"{op}: using the slow reference on cuda: {row.reason}; {row.remedy}"
    with pytest.warns(UserWarning, match=f"^{re.escape(warning)}$"):
        assert backends.choose(op, CUDA, None) == "reference"
    assert backends.choose(op, CUDA, None) == "reference"
    with pytest.raises(BackendError) as refused:
        backends.choose(op, CUDA, "native")
    assert str(refused.value) == f"{op}: backend 'native' can't run: {row.reason}; {row.remedy}"
    return row, refused.value.__cause__


# What is reported


@pytest.mark.usefixtures("library", "no_triton")
def test_backends_has_a_row_for_each_op_and_kind_of_device() -> None:
    rows = fractalops.list_backends()
    assert [(row.op, row.device) for row in rows] == [
        (op, device) for op in backends.OPS for device in backends.DEVICES
    ]
    for row in rows:
        assert row.backend == ("native" if row.device == "cpu" else "reference")
        assert bool(row.reason) == (row.device != "cpu")
        assert bool(row.remedy) == (row.device != "cpu")


@pytest.mark.usefixtures("cuda_library")
def test_with_the_cuda_library_four_ops_are_native_on_both_kinds_of_device() -> None:
    native = [(row.op, row.device) for row in fractalops.list_backends() if row.backend == "native"]
    on_gpu = [(op, "cuda") for op in ("affine_chain", "rbf_rasterize", "rasterize_points", "draw_balanced_index")]
    assert native == sorted([*((op, "cpu") for op in backends.OPS), *on_gpu], key=native.index)
    assert "native CUDA library: built and loaded\n" in backends.report()
    for op, _ in on_gpu:
        assert backends.choose(op, CUDA, None) == "native"
        assert backends.choose(op, CUDA, "native") == "native"
        assert backends.choose(op, CUDA, "reference") == "reference"
    with pytest.raises(BackendError, match=r"can't run: this version has no native svd_matrix for") as caught:
        backends.choose("svd_matrix", CUDA, "native")
    assert caught.value.__cause__ is None


@pytest.mark.usefixtures("cuda_library", "no_triton")
@pytest.mark.parametrize("op", ["rbf_rasterize", "rasterize_points"])
def test_missing_triton_is_named_with_its_fix(op: str) -> None:
    row, cause = assert_reference_stands_in(op)
    assert row.reason.startswith("Triton's kernels can't be imported (import of triton halted")
    assert row.remedy == "pip install triton"
    assert isinstance(cause, ImportError)
    assert backends.choose("affine_chain", CUDA, None) == "native"


CANNOT_LOAD = "can't be loaded (_cuda.so: cannot"
NO_CUDA = "this torch was built without CUDA"
TAKE_CUDA = "for NVIDIA GPUs: install a CUDA build of torch"


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("cuda", "built", "status", "reason", "remedy"),
    [
        (
            "13.0",
            False,
            "not built",
            "the native CUDA library was not built",
            "with nvcc: FRACTALOPS_BUILD=all pip inst",
        ),
        (
            "13.0",
            True,
            f"built, but it {CANNOT_LOAD}",
            f"the native CUDA library {CANNOT_LOAD}",
            "FRACTALOPS_BUILD=all ",
        ),
        (None, False, "not built", NO_CUDA, f"{TAKE_CUDA}, then fractalops"),
        (None, True, "built, but it can't be loaded (", NO_CUDA, TAKE_CUDA),
    ],
)
def test_a_missing_cuda_library_is_named_with_its_fix(
    cuda: str | None,
    built: bool,
    status: str,
    reason: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    if built:
        (tmp_path / "_cuda.so").write_text("")
    row, cause = assert_reference_stands_in("affine_chain")
    assert row.reason.startswith(reason)
    assert row.remedy.startswith(remedy)
    assert f"native CUDA library: {status}" in backends.report()
    assert cause is backends.STATE.load_errors["cuda"]


@pytest.mark.usefixtures("no_library", "no_triton")
def test_rows_without_the_library_say_why_and_how_to_fix_it() -> None:
    for row in fractalops.list_backends():
        assert row.backend == "reference"
        if row.device == "cpu":
            assert row.reason == "the native CPU library was not built"
            assert "pip install" in row.remedy


def test_a_forced_reference_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.STATE, "forced", "reference")
    for row in fractalops.list_backends():
        assert row[2:] == ("reference", "FRACTALOPS_BACKEND=reference", "unset FRACTALOPS_BACKEND")


@pytest.mark.usefixtures("library")
def test_the_report_names_versions_ops_and_what_is_built(capsys: pytest.CaptureFixture[str]) -> None:
    report = backends.report()
    assert f"torch {torch.__version__}" in report
    assert "native CPU library: built and loaded\n" in report
    assert "FRACTALOPS_BACKEND: not set\n" in report
    lines = [line.split() for line in report.splitlines()]
    for op in backends.OPS:
        assert [op, "cpu", "native"] in lines
    fractalops.show_backends()
    assert capsys.readouterr().out == report + "\n"


def test_the_report_says_what_is_missing_and_how_to_fix_it(
    no_library: OSError, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "native CPU library: not built\nnative CUDA library: not built\n" in backends.report()
    monkeypatch.setattr(backends.STATE, "instruction_sets", [])
    expected = "instruction set of the CPU kernels: none, because the native CPU library isn't loaded\n"
    assert expected in backends.report()
    for remedy in ("with a C++ compiler: ", "with nvcc: FRACTALOPS_BUILD=all "):
        assert backends.report().splitlines().count(f"  {remedy}{backends._REBUILD}") == 1
    (tmp_path / "_cpu.so").write_text("")  # the file exists, but it can't be loaded
    assert f"native CPU library: built, but it can't be loaded ({no_library})\n" in backends.report()


@pytest.mark.usefixtures("library")
def test_the_report_of_a_torch_without_cuda_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    on_gpu = [line for line in backends.report().splitlines() if line[23:].startswith("cuda")]
    assert [line.split(maxsplit=4) for line in on_gpu] == [
        ["every", "op", "cuda", "reference", "this torch was built without CUDA"]
    ]
    assert backends.report().endswith(
        "\n\nto use more native kernels:\n  for NVIDIA GPUs: install a CUDA build of torch, then fractalops"
    )


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", [None, "baseline"])
def test_the_report_says_which_instruction_set_the_kernels_take_and_why(name: str | None) -> None:
    """Use a new process, because the library reads the environment once."""
    best = backends.STATE.instruction_sets[-1]
    expected = f"{best}, the best that this processor has"
    environment = {key: value for key, value in os.environ.items() if key != "FRACTALOPS_INSTRUCTION_SET"}
    if name is not None:
        environment["FRACTALOPS_INSTRUCTION_SET"] = name
        expected = f"{name}, set by FRACTALOPS_INSTRUCTION_SET; the best that this processor has is {best}"
    command = [sys.executable, "-m", "fractalops", "info"]
    shown = subprocess.run(command, check=True, env=environment, cwd=PACKAGE.parent, capture_output=True, text=True)
    assert f"instruction set of the CPU kernels: {expected}\n" in shown.stdout


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", ["sse9", "AVX2", "avx512"])
def test_an_instruction_set_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.STATE, "instruction_sets", ["baseline", "avx2"])
    monkeypatch.setattr(backends.STATE, "asked_for_set", name)
    problem = f"FRACTALOPS_INSTRUCTION_SET must be one of baseline, avx2 on this processor, got '{name}'"
    for backend in (None, "native"):
        with pytest.raises(ValueError, match=f"^affine_chain: {problem}$"):
            fractalops.affine_chain(*INPUTS, backend=backend)
    fractalops.affine_chain(*INPUTS, backend="reference")
    assert f"instruction set of the CPU kernels: {problem}\n" in backends.report()
    assert "\n  unset FRACTALOPS_INSTRUCTION_SET" in backends.report()


@pytest.mark.usefixtures("cuda_library")
def test_the_report_does_not_ask_for_what_this_version_does_not_have() -> None:
    assert "this version has no native svd_matrix for NVIDIA GPUs\n" in backends.report()
    assert "move the tensors" not in backends.report()


# What is chosen


@pytest.mark.usefixtures("library", "no_triton")
@pytest.mark.parametrize("op", ["affine_chain", "rbf_rasterize", "rasterize_points"])
def test_the_choice(op: str) -> None:
    assert backends.choose(op, CPU, None) == "native"
    assert backends.choose(op, CPU, "native") == "native"
    assert backends.choose(op, CPU, "reference") == "reference"
    assert backends.choose(op, CUDA, "reference") == "reference"
    assert backends.choose(op, META, None) == "reference"
    with pytest.raises(BackendError, match=rf"^{op}: backend 'native' can't run: (the native|Triton's)"):
        backends.choose(op, CUDA, "native")
    with pytest.raises(BackendError, match=rf"this version has no native {op} for mps devices"):
        backends.choose(op, torch.device("mps"), "native")


@pytest.mark.parametrize("name", ["no such backend", "", "Native", "cpu"])
def test_an_unknown_backend_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^affine_chain: backend must be one of reference, native, got '{name}'$"):
        backends.choose("affine_chain", CPU, name)


def test_use_backend_stands_between_the_argument_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.STATE, "forced", "fast")  # an error only when it is used
    with fractalops.use_backend("reference"):
        assert backends.choose("affine_chain", CPU) == "reference"
        assert backends.choose("affine_chain", CPU, "native") == "native"
        assert {row[2:] for row in fractalops.list_backends()} == {("reference", "requested", "")}
        with fractalops.use_backend("native"):
            assert backends.choose("affine_chain", CPU) == "native"
            assert backends.choose("affine_chain", CPU, "reference") == "reference"
            with fractalops.use_backend(None), pytest.raises(ValueError, match="FRACTALOPS_BACKEND must be one of"):
                backends.choose("affine_chain", CPU)
        assert backends.choose("affine_chain", CPU) == "reference"
    with pytest.raises(ValueError, match=r"^affine_chain: FRACTALOPS_BACKEND must be one of .+, got 'fast'$"):
        backends.choose("affine_chain", CPU)
    assert backends.choose("affine_chain", CPU, "reference") == "reference"


@pytest.mark.usefixtures("no_library")
def test_use_backend_refuses_what_can_not_run() -> None:
    with fractalops.use_backend("native"), pytest.raises(BackendError, match=r"^\w+: backend 'native' can't run: "):
        fractalops.IFS(1, 3)(8)


@pytest.mark.parametrize("name", ["no such backend", "", "Native", 3])
def test_use_backend_refuses_another_name(name: object) -> None:
    with pytest.raises(ValueError, match=r"^use_backend: name must be one of reference, native or None, got "):
        fractalops.use_backend(name)  # type: ignore[arg-type]


@pytest.mark.usefixtures("library")
def test_use_backend_ends_with_an_exception_and_may_be_entered_again() -> None:
    reference = fractalops.use_backend("reference")
    for _ in range(2):
        with pytest.raises(KeyError), reference, reference:
            raise KeyError
        assert backends.choose("affine_chain", CPU) == "native"


@pytest.mark.usefixtures("library")
def test_use_backend_holds_for_its_thread_alone() -> None:
    with fractalops.use_backend("reference"), ThreadPoolExecutor(1) as other:
        assert other.submit(backends.choose, "affine_chain", CPU).result() == "native"


@pytest.fixture
def traced(library: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Tensor]:
    """Return a call of `affine_chain` that shows its backend: 2 for native, 1 for the reference."""
    monkeypatch.setattr(affine_chain, "_native", lambda matrix, *_: matrix.new_full((), 2.0))
    monkeypatch.setattr(affine_chain.reference, "affine_chain", lambda matrix, *_: matrix.new_full((), 1.0))
    torch._dynamo.reset()
    return lambda: fractalops.affine_chain(*INPUTS)


def test_a_compiled_function_follows_the_backend_around_it(traced: Callable[[], Tensor]) -> None:
    compiled = torch.compile(traced, fullgraph=True, backend="eager")
    assert compiled() == 2
    with fractalops.use_backend("reference"):
        assert compiled() == 1
        with ThreadPoolExecutor(1) as other:
            assert other.submit(compiled).result() == 2
    with fractalops.use_backend("native"):
        assert compiled() == 2
    assert compiled() == 2


def test_a_compiled_function_may_use_a_backend_within(traced: Callable[[], Tensor]) -> None:
    @torch.compile(fullgraph=True, backend="eager")
    def compiled() -> Tensor:
        with fractalops.use_backend("reference"):
            inner = traced()
            with fractalops.use_backend("native"):
                inner = inner + 10 * traced()
        return inner + 100 * traced()

    assert compiled() == 221
    with fractalops.use_backend("reference"):
        assert compiled() == 121


@pytest.mark.usefixtures("no_library")
@pytest.mark.parametrize("fullgraph", [False, True])
def test_a_compiled_function_falls_back_with_the_same_warning(fullgraph: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(fractalops.affine_chain, fullgraph=fullgraph, backend="eager")
    with pytest.warns(UserWarning, match=r"^affine_chain: using the slow reference on cpu: .*pip install"):
        points = compiled(*INPUTS)
    assert points.shape == (1, 3, 2)


def test_native_without_the_library_is_refused_and_chains_the_reason(no_library: OSError) -> None:
    with pytest.raises(BackendError, match=r"can't run: the native CPU library was not built; .*pip install") as caught:
        fractalops.affine_chain(*INPUTS, backend="native")
    assert caught.value.__cause__ is no_library


@pytest.mark.usefixtures("no_library")
def test_the_missing_library_is_warned_of_once_for_each_op_and_device() -> None:
    for op, device in (
        ("affine_chain", CPU),
        ("rbf_rasterize", CPU),
        ("rasterize_points", CPU),
        ("affine_chain", CUDA),
    ):
        with pytest.warns(UserWarning, match=rf"^{op}: using the slow reference on {device}: .* was not built; "):
            assert backends.choose(op, device, None) == "reference"
        assert backends.choose(op, device, None) == "reference"
    backends.choose("affine_chain", META, None)
    backends.choose("rbf_rasterize", CUDA, "reference")


@pytest.mark.parametrize(("forced", "text"), [("abacus", "must be one of"), ("native", "can't run")])
def test_the_rows_say_what_can_not_run(forced: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.STATE, "forced", forced)
    rows = [row for row in fractalops.list_backends() if forced != "native" or row[:2] == ("rbf_rasterize", "cuda")]
    assert rows
    for row in rows:
        assert row.backend == "none"
        assert text in row.reason


@pytest.mark.parametrize("op", backends.OPS)
@pytest.mark.usefixtures("no_cuda_library", "no_triton")
def test_native_is_refused_where_there_is_none(op: str) -> None:
    for device in ("cuda", "meta"):
        with pytest.raises(fractalops.BackendError, match=f"^{op}: backend 'native' can't run: "):
            backends.choose(op, torch.device(device), "native")
