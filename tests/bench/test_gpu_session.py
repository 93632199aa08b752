"""Tests of `python -m bench gpu` with other commands as its parts, and of its real parts as far as a CPU allows."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import fractalops
from bench.__main__ import main
from bench.gpu import build, check_ops, run_kernels, session, step_graphs
from bench.gpu.runner import Part, Runner, python
from bench.records import Record, emit, parse, run_all
from tests.support.requirements import ROOT

CPU = torch.device("cpu")


def part(name: str, code: str, seconds: float = 30, **options: Any) -> Part:
    return Part(name, python("-c", code), seconds, **options)


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())["parts"]
    return found


# The runner


def test_each_part_says_how_it_ended_and_the_next_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.gpu.runner.GRACE", 0.5)
    parts = [
        part("good", 'print(\'{"check": "a", "passed": true}\'); print(\'text\')'),
        part("wrong", 'print(\'{"check": "b", "passed": false}\'); raise SystemExit(1)'),
        part("slow", "import time; print('{\"found\": 1}', flush=True); time.sleep(60)", 0.5),
        part("deaf", "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)", 0.5),
        Part("missing", ("/nonexistent/program",), 30),
        Part("without its program", ("true",), 30, program="no-such-program"),
        part("crash", "import os; os.abort()"),
        part("last", "print('{\"found\": 2}')"),
    ]
    assert Runner(tmp_path, 60, parts, {"device": "none"}).run() == 1
    found = results(tmp_path)
    assert {name: found[name]["state"] for name in found} == {
        "good": "passed",
        "wrong": "failed",
        "slow": "cut off",
        "deaf": "cut off",
        "missing": "failed",
        "without its program": "left out",
        "crash": "failed",
        "last": "passed",
    }
    assert found["good"]["records"] == [{"check": "a", "passed": True}]
    assert found["wrong"]["detail"] == "exit code 1; 0 checks passed, 1 failed, the first: b"
    assert found["slow"]["records"] == [{"found": 1}]
    assert found["without its program"]["detail"] == "no-such-program was not found"
    summary = (tmp_path / "summary.txt").read_text()
    assert re.search(
        r"^wrong +failed +\d+ s +exit code 1; 0 checks passed, 1 failed, the first: b$", summary, re.MULTILINE
    )
    assert summary.endswith("\n2 passed, 3 failed, 2 cut off, 1 left out\n")
    assert re.search(r"^ *[\d.]+ s  good: text$", (tmp_path / "log.txt").read_text(), re.MULTILINE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt", "results.json", "summary.txt"]


def test_parts_that_have_no_time_left_fail_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.gpu.runner.GRACE", 0.1)
    assert Runner(tmp_path, 5.3, [part("first", "import time; time.sleep(0.5)"), part("second", "")], {}).run() == 1
    assert {name: each["state"] for name, each in results(tmp_path).items()} == {
        "first": "passed",
        "second": "no time left",
    }


def test_the_time_of_a_run_includes_the_end_of_its_last_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.gpu.runner.LEAST", 0.0)
    monkeypatch.setattr("bench.gpu.runner.GRACE", 1.0)
    Runner(tmp_path, 2, [Part("long", ("sleep", "60"), 60)], {}).run()
    assert results(tmp_path)["long"]["detail"] == "after 1 s; 0 results"


def test_endless_output_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.gpu.runner.MOST_OUTPUT", 1000)
    code = "for i in range(100_000): print('{\"line\": %d}' % i)"
    assert Runner(tmp_path, 60, [part("talkative", code)], {}).run() == 0
    assert 50 < len(results(tmp_path)["talkative"]["records"]) < 100
    assert (tmp_path / "log.txt").read_text().endswith("talkative: ... the rest of the output is left out\n")


def test_a_process_in_a_session_of_its_own_does_not_hold_the_run(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bench.gpu.runner import Part, Runner\n"
        "part = Part('parent', ('sh', '-c', 'setsid sleep 30 & echo $!'), 30)\n"
        "sys.exit(Runner(Path(sys.argv[1]), 60, [part], {}).run())"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < 25
    left = re.search(r"parent: (\d+)$", (tmp_path / "log.txt").read_text(), re.MULTILINE)
    assert left is not None
    os.kill(int(left[1]), signal.SIGKILL)


def test_a_run_is_good_where_a_program_is_missing(tmp_path: Path) -> None:
    parts = [part("good", ""), Part("sanitizer", ("true",), 30, program="no-such-program")]
    assert Runner(tmp_path, 60, parts, {}).run() == 0


def test_a_part_in_the_background_runs_beside_others_but_not_beside_timings(tmp_path: Path) -> None:
    mark = f"import time; time.sleep({{}}); open({str(tmp_path / 'order')!r}, 'a').write('{{}} ')"
    parts = [
        part("behind", mark.format(3, "behind"), background=True),
        part("beside", mark.format(0, "beside")),
        part("timing", mark.format(0, "timing"), alone=True),
    ]
    (tmp_path / "out").mkdir()
    assert Runner(tmp_path / "out", 60, parts, {}).run() == 0
    assert (tmp_path / "order").read_text() == "beside behind timing "


def test_what_a_part_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.gpu.runner.GRACE", 0.5)
    file = tmp_path / "child"
    code = f"import subprocess; c = subprocess.Popen(['sleep', '60']); open({str(file)!r}, 'w').write(str(c.pid))"
    assert Runner(tmp_path, 60, [part("parent", code)], {}).run() == 0
    with pytest.raises(ProcessLookupError):
        _wait_for_end(int(file.read_text()))


def _wait_for_end(process: int) -> None:
    for _ in range(100):
        os.kill(process, 0)
        if "\nState:\tZ" in Path(f"/proc/{process}/status").read_text():
            raise ProcessLookupError
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_run_keeps_its_results(number: signal.Signals, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from bench.gpu import session; from bench.gpu.runner import Part, python\n"
        "parts = [Part('done', python('-c', 'print(1)'), 30), Part('long', ('sleep', '60'), 60)]\n"
        "parts[1:1] = [Part('behind', ('sleep', '60'), 60, background=True)]\n"
        "sys.exit(session.run(Path(sys.argv[1]), 100, parts))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "done: passed, exit code 0; 0 results\n"
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "")
    assert {name: each["state"] for name, each in results(tmp_path).items()} == {
        "done": "passed",
        "behind": "cut off",
        "long": "cut off",
    }


# The session


def test_without_a_gpu_nothing_is_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["gpu", "--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == "gpu: torch finds no NVIDIA GPU\n"
    assert not (tmp_path / "out").exists()


def test_a_source_folder_without_an_installation_can_run_it() -> None:
    code = (
        "import sys; sys.modules['fractalops.kernels'] = sys.modules['fractalops.bench'] = None\n"
        "from bench.__main__ import main; main(['gpu', '--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m bench gpu ")


def test_every_file_with_tests_for_gpus_is_run() -> None:
    marked = re.compile(r"^@pytest\.mark\.gpu|^open_device = ", re.MULTILINE)
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("test_*.py")
        if marked.search(path.read_text(encoding="utf-8"))
    }
    assert set(session.TEST_FILES) == found


def test_the_parts_leave_few_files_and_name_modules_that_exist(tmp_path: Path) -> None:
    parts = session.parts(tmp_path)
    assert len({each.name for each in parts}) == len(parts)
    written = {word for each in parts for word in each.command if str(tmp_path) in word}
    assert len(written) + 1 + 3 <= 8  # the benchmark writes two, the runner three
    for each in parts:
        if "-m" in each.command and each.command[each.command.index("-m") + 1].startswith("bench.gpu."):
            module = each.command[each.command.index("-m") + 1]
            assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()


# The parts


def test_every_part_is_documented(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "verification.md").read_text(encoding="utf-8")
    first, *names = re.findall(r"^\| ([^|]+) \|", page.partition("| part | what it does |\n")[2], re.MULTILINE)
    assert first == "---"
    assert ", ".join(names).split(", ") == [part.name for part in session.parts(tmp_path)]


def test_a_check_that_fails_or_raises_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Record:
        raise RuntimeError("no kernel image")

    checks = {"right": lambda: {"passed": True}, "broken": broken, "wrong": lambda: {"passed": False}}
    assert run_all(checks) == 1
    records = [parse(line) for line in capsys.readouterr().out.splitlines()]
    assert records == [
        {"check": "right", "passed": True},
        {"check": "broken", "passed": False, "error": "RuntimeError: no kernel image"},
        {"check": "wrong", "passed": False},
    ]
    assert run_all({"right": lambda: {"passed": True}}) == 0


def test_records_are_json_that_any_reader_takes(capsys: pytest.CaptureFixture[str]) -> None:
    emit(errors=[1.0, float("nan"), float("-inf")], inner={"ratio": float("inf")})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "errors": [1.0, "nan", "-inf"],
        "inner": {"ratio": "inf"},
    }


@pytest.mark.parametrize("line", ["text", "{not json", "[1]", "{}garbage", ""])
def test_other_lines_are_no_records(line: str) -> None:
    assert parse(line) is None


SMALL_RASTERS = (
    (2, 20, 9, 12, 0, 1.0, 1e-6, None, False),
    (2, 40, 17, 33, 3, 4.0, 1e-3, check_ops.SMALL, True),
    (1, 1, 1, 1, 0, 1.0, 1e-6, None, False),
)


@pytest.mark.slow
@pytest.mark.usefixtures("native")
def test_the_ops_agree_with_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_ops, "RASTERS", SMALL_RASTERS)
    monkeypatch.setattr(check_ops, "CHAINS", check_ops.CHAINS[1:2] + check_ops.CHAINS[-1:])
    monkeypatch.setattr(check_ops, "REPEATS", 2)
    checks = dict(check_ops.checks(CPU))
    del checks["IFS under torch.compile"]  # compiling it takes long, and the tests of the rendering do it, too
    failed = {name: record for name, check in checks.items() if not (record := check())["passed"]}
    assert failed == {}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("fault", ["wrong", "not a number", "other bits"])
def test_a_wrong_op_fails_its_check(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def run() -> tuple[torch.Tensor, ...]:
        nonlocal calls
        calls += 1
        value = torch.ones(3)
        if fault == "other bits":
            value[1] += 1e-6 * (calls > 3)
        else:
            value[1] = 1.01 if fault == "wrong" else torch.nan
        return (value,)

    assert not check_ops._compare(run, (torch.ones(3).double(),), 1e-5)["passed"]


@pytest.mark.slow
@pytest.mark.usefixtures("native")
def test_every_kernel_is_run_for_the_sanitizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_kernels, "HEIGHT", 17)
    run_kernels.run(CPU)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("name", step_graphs.SETTINGS)
def test_a_fit_as_a_graph_is_compared_with_one_without(name: str) -> None:
    record = step_graphs.compare(step_graphs.SETTINGS[name], 2, CPU, warm_up=1, timed=200)
    assert record["passed"]
    assert record["warnings"] == []
    assert record["microseconds of a step as a graph"] > 0
    assert json.loads(json.dumps(record)) == record


def test_a_step_that_is_not_captured_fails_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    def measure(*arguments: Any) -> tuple[float, torch.Tensor]:
        warnings.warn("fit: the step is not captured in a CUDA graph: why", stacklevel=1)
        return 1.0, torch.zeros(1)

    monkeypatch.setattr(step_graphs, "measure", measure)
    record = step_graphs.compare(fractalops.FitConfig(), 1, CPU)
    assert not record["passed"]
    assert record["warnings"] == ["fit: the step is not captured in a CUDA graph: why"]


def test_the_rates_of_the_compared_steps_are_exact_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A captured step takes the rate as a float32. With other rates it gives other bits than a plain step."""
    rates: list[float] = []

    def measure(targets: torch.Tensor, config: fractalops.FitConfig, *rest: Any) -> tuple[float, torch.Tensor]:
        rates.extend(config.learning_rate_at(step) for step in range(config.steps))
        return 1.0, torch.zeros(1)

    monkeypatch.setattr(step_graphs, "measure", measure)
    for config in step_graphs.SETTINGS.values():
        assert step_graphs.compare(config, 1, CPU)["passed"]
    assert torch.tensor(rates).tolist() == rates


def test_both_libraries_are_built_for_this_gpu_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built: dict[str, Path] = {}

    class BuildError(SystemExit):
        pass

    def compile_library(name: str, output: Path, folder: Path) -> None:
        built[name] = output
        if name == "cpu":
            raise subprocess.CalledProcessError(1, "ninja")

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(build, "link_folders", lambda root: None)
    monkeypatch.setattr(
        build.runpy, "run_path", lambda path: {"compile_library": compile_library, "BuildError": BuildError}
    )
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.6")
    assert build.main() == 1
    assert os.environ["TORCH_CUDA_ARCH_LIST"] == "9.0"
    assert built == {name: ROOT / "fractalops" / f"_{name}.so" for name in ("cpu", "cuda")}


def test_folders_of_a_package_that_is_not_installed_are_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("fractalops", "kernels", "bench"):
        (tmp_path / folder).mkdir()
    (tmp_path / "kernels" / "one.py").touch()
    monkeypatch.setattr(build, "find_spec", lambda name: None if name.endswith("kernels") else object())
    build.link_folders(tmp_path)
    assert (tmp_path / "fractalops" / "kernels" / "one.py").is_file()
    assert not (tmp_path / "fractalops" / "bench").exists()
