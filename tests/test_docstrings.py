"""Docstrings of the names in the API reference: each argument is described, and the examples run."""

from __future__ import annotations

import dataclasses
import doctest
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.requirements import ROOT

PAGES = ("backends.md", "files.md", "rendering.md", "systems.md")
NAMES = [
    name for page in PAGES for name in re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api" / page).read_text(), re.M)
]


def documented(name: str) -> dict[str, Any]:
    """Return a function, or a class and its public methods, by their names."""
    found = pkgutil.resolve_name(name)
    members = inspect.getmembers(found, callable) if inspect.isclass(found) else []
    own = {each: member for each, member in members if "fractalops." in str(getattr(member, "__module__", ""))}
    return {name: found} | {f"{name}.{each}": member for each, member in own.items() if not each.startswith("_")}


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_is_described(name: str) -> None:
    missing = [
        f"{each}({argument})"
        for each, found in documented(name).items()
        for argument in inspect.signature(found.__init__ if inspect.isclass(found) else found).parameters
        if not dataclasses.is_dataclass(found)  # whose fields have docstrings of their own
        and argument not in ("self", "args", "kwargs")
        and not re.search(rf"^ +(\*\*)?{argument}: ", inspect.getdoc(found) or "", re.M)
    ]
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some write files
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(pkgutil.resolve_name(name), name):
        runner.run(test)
    assert runner.summarize().failed == 0
