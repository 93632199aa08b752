"""Run the parts of `python -m bench gpu`, each for a limited time, and write results immediately."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from fractalops.io.files import atomic_path

from ..records import Record, parse
from ..table import aligned

GRACE = 12.0
"""Seconds that a part may take to end after an interruption. pytest-xdist waits up to ten for its workers."""
DRAIN = 2.0
"""Seconds to wait for the last output of a part that has ended."""
LEAST = 5.0
"""Seconds that must remain to start a part, in addition to `GRACE`."""
MOST_OUTPUT = 1 << 20
"""Characters of a part's output that are kept."""


@dataclass(frozen=True)
class Part:
    """A command and how to run it."""

    name: str
    command: tuple[str, ...]
    seconds: float
    """Time after which the command is interrupted."""
    background: bool = False
    """Whether the next parts start while this part runs."""
    alone: bool = False
    """Whether the part starts only after all background parts have ended, because it measures times."""
    program: str = ""
    """Program that the part needs. Without the program, the part is left out."""


@dataclass
class Outcome:
    """The state and the results of a part."""

    part: Part
    state: str = "not run yet"
    """One of: "not run yet", "running", "passed", "failed", "cut off" (after its time), "left out" (without its
    program), "no time left"."""
    detail: str = ""
    seconds: float = 0.0
    records: list[Record] = field(default_factory=list)

    @property
    def bad(self) -> bool:
        """Whether the whole run has failed because of this part."""
        return self.state not in ("passed", "left out")


class Runner:
    """Run parts until the time is over. The files in the folder are up to date after each part.

    - log.txt: all lines of output, each written as soon as it is printed.
    - summary.txt: a line for each part.
    - results.json: the states and records of the parts.
    """

    def __init__(self, folder: Path, seconds: float, parts: Sequence[Part], about: Record) -> None:
        self.outcomes = [Outcome(part) for part in parts]
        self._folder, self._about = folder, about
        self._began = time.monotonic()
        self._end = self._began + seconds
        self._lock = threading.Lock()  # for the log and the files, which threads of background parts write too
        self._interrupted = False
        self._background: list[threading.Thread] = []
        self._processes: list[subprocess.Popen[str]] = []

    def run(self) -> int:
        """Run all parts. Return 1 if a part failed, was cut off or had no time left, else 0.

        Ctrl-C ends the running parts and raises `KeyboardInterrupt`. The files then have the results until that time.
        """
        with open(self._folder / "log.txt", "w", encoding="utf-8") as log:
            try:
                for outcome in self.outcomes:
                    if outcome.part.alone:
                        self._wait_for_background()
                    self._start(outcome, log)
                self._wait_for_background()
            except BaseException:
                self._interrupted = True
                for process in self._processes:
                    if process.poll() is None:  # the id of a process that has ended may be in use again
                        _signal_group(process, signal.SIGKILL)
                for outcome in self.outcomes:
                    if outcome.state == "running":
                        self._finish(outcome, "cut off", "the run was interrupted")
                raise
        print(f"\n{self.summary()}", end="")
        return int(any(outcome.bad for outcome in self.outcomes))

    def summary(self) -> str:
        """Return a table of the parts, followed by a line with the number of parts in each state."""
        rows = [
            [each.part.name, each.state, f"{each.seconds:.0f} s" if each.seconds else "", each.detail]
            for each in self.outcomes
        ]
        states = [outcome.state for outcome in self.outcomes]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        return "\n".join([*(line.rstrip() for line in aligned(rows)), "", counts, ""])

    def _start(self, outcome: Outcome, log: TextIO) -> None:
        part = outcome.part
        if part.program and shutil.which(part.program) is None:
            self._finish(outcome, "left out", f"{part.program} was not found")
        elif self._end - time.monotonic() < GRACE + LEAST:
            self._finish(outcome, "no time left")
        elif part.background:
            thread = threading.Thread(target=self._run, args=(outcome, log), daemon=True)
            self._background.append(thread)
            thread.start()
        else:
            self._run(outcome, log)

    def _run(self, outcome: Outcome, log: TextIO) -> None:
        part, began = outcome.part, time.monotonic()
        outcome.state = "running"
        allowed = min(part.seconds, self._end - GRACE - began)
        try:
            process = subprocess.Popen(
                part.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # so that processes that it starts can be ended with it
            )
        except OSError as error:
            self._finish(outcome, "failed", f"it can't be started: {error.strerror}")
            return
        self._processes.append(process)
        # A process in a session of its own can outlive the part and keep the pipe open.
        reader = threading.Thread(target=self._read, args=(process, outcome, log), daemon=True)
        reader.start()
        code = _wait(process, allowed)
        reader.join(DRAIN)
        if self._interrupted:
            return
        outcome.seconds = time.monotonic() - began
        if code is None:
            self._finish(outcome, "cut off", f"after {allowed:.0f} s; {_counted(outcome.records)}")
        else:
            state = "passed" if code == 0 else "failed"
            self._finish(outcome, state, f"exit code {code}; {_counted(outcome.records)}")

    def _read(self, process: subprocess.Popen[str], outcome: Outcome, log: TextIO) -> None:
        left = MOST_OUTPUT
        for line in process.stdout or ():
            if left < 0:
                continue  # a program whose pipe is full would wait
            left -= len(line)
            record = parse(line)
            line = "... the rest of the output is left out" if left < 0 else line.rstrip()
            with self._lock:
                if log.closed:
                    return
                if record is not None:
                    outcome.records.append(record)
                log.write(f"{time.monotonic() - self._began:6.1f} s  {outcome.part.name}: {line}\n")
                log.flush()

    def _wait_for_background(self) -> None:
        for thread in self._background:
            thread.join()
        self._background.clear()

    def _finish(self, outcome: Outcome, state: str, detail: str = "") -> None:
        outcome.state, outcome.detail = state, detail
        with self._lock:
            print(f"{outcome.part.name}: {state}, {detail}" if detail else f"{outcome.part.name}: {state}", flush=True)
            parts = {
                each.part.name: {
                    "state": each.state,
                    "detail": each.detail,
                    "seconds": round(each.seconds, 1),
                    "records": list(each.records),
                }
                for each in self.outcomes
            }
            self._write("results.json", json.dumps({**self._about, "parts": parts}, indent=1) + "\n")
            self._write("summary.txt", self.summary())

    def _write(self, name: str, text: str) -> None:
        with atomic_path(self._folder / name) as path:
            path.write_text(text, encoding="utf-8")


def _wait(process: subprocess.Popen[str], allowed: float) -> int | None:
    """Wait for a process and return its exit code, or end it after the allowed seconds and return None."""
    code: int | None = None
    try:
        code = process.wait(allowed)
    except subprocess.TimeoutExpired:
        _signal_group(process, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    _signal_group(process, signal.SIGKILL)  # also ends processes that it started and that still run
    process.wait()
    return code


def _counted(records: Sequence[Record]) -> str:
    checked = [record for record in records if "passed" in record]
    if not checked:
        return f"{len(records)} results"
    failed = [str(record.get("check", "")) for record in checked if not record["passed"]]
    first = f", the first: {failed[0]}" if failed else ""
    return f"{len(checked) - len(failed)} checks passed, {len(failed)} failed{first}"


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def python(*arguments: str) -> tuple[str, ...]:
    """Return the command that runs this Python interpreter with arguments."""
    return (sys.executable, *arguments)
