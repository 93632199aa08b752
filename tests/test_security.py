"""Tests that each promise of SECURITY.md names existing tests."""

from __future__ import annotations

import ast
import re

from tests.support.requirements import ROOT

TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = re.compile(r"^- `(?P<path>tests/\S+\.py)::(?P<name>test_\w+)`$", re.MULTILINE)


def functions(path: str) -> set[str]:
    """Return the names of the functions of a test file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_promise_names_tests() -> None:
    promised = TEXT.partition("## What is promised\n")[2].partition("\n## ")[0]
    promises = re.split(r"^\*\*", promised, flags=re.MULTILINE)[1:]
    assert len(promises) == 5
    assert [promise for promise in promises if not NAMED.search(promise)] == []


def test_the_named_tests_exist() -> None:
    named = [(match["path"], match["name"]) for match in NAMED.finditer(TEXT)]
    assert len(named) == len(re.findall(r"^- ", TEXT, re.MULTILINE))
    assert [f"{path}::{name}" for path, name in named if name not in functions(path)] == []
