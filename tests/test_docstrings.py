"""Tests of docstrings in the API reference: all arguments are described, and the examples run."""

from __future__ import annotations

import doctest
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import fractalops
from tests.support.requirements import ROOT

PAGES = sorted(path.name for path in (ROOT / "docs" / "api").glob("*.md"))
NAMES = [
    name for page in PAGES for name in re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api" / page).read_text(), re.M)
]


def documented(name: str) -> dict[str, Any]:
    """Return a function, or a class and its public methods, by their names."""
    found = pkgutil.resolve_name(name)
    members = inspect.getmembers(found, callable) if inspect.isclass(found) else []
    own = {each: member for each, member in members if "fractalops." in str(getattr(member, "__module__", ""))}
    return {name: found} | {f"{name}.{each}": member for each, member in own.items() if not each.startswith("_")}


def describes(text: str, argument: str, alone: bool) -> bool:
    """Return whether a docstring has an item for an argument, or, if it is the only one of a method, a sentence."""
    item = re.search(rf"^ +(\*\*)?{argument}( \(.*\))?: ", text, re.MULTILINE)
    return item is not None or (alone and re.search(rf"\b{argument}\b", text) is not None)


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_is_described(name: str) -> None:
    missing = []
    for each, found in documented(name).items():
        signature = inspect.signature(found.__init__ if inspect.isclass(found) else found)
        arguments = [argument for argument in signature.parameters if argument not in ("self", "args", "kwargs")]
        alone = each != name and len(arguments) == 1
        text = inspect.getdoc(found) or ""
        missing += [f"{each}({argument})" for argument in arguments if not describes(text, argument, alone)]
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples may use `torch` and `fractalops` without importing them, and write files."""
    monkeypatch.chdir(tmp_path)
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for test in finder.find(pkgutil.resolve_name(name), name, globs={"torch": torch, "fractalops": fractalops}):
        runner.run(test)
    assert runner.summarize().failed == 0
