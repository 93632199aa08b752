"""Tests of the package's structure: modules do not import from higher levels or in a circle."""

from __future__ import annotations

import ast
import re
from importlib.metadata import version
from pathlib import Path

import fractalops

ROOT = Path(fractalops.__file__).parents[1]

# From the lowest level to the highest. Modules of one level may import each other, but not in a circle.
LEVELS = (
    ("errors", "interruptions", "op_table"),
    ("_checks",),
    ("reference", "backends", "kernels"),
    ("ops",),
    ("systems", "sampling", "deep_zoom"),
    ("placement", "rendering"),
    ("parameters", "ifs", "embedding"),
    ("io",),
    ("drawing",),
    ("data",),
    ("fitting",),
    ("__init__",),  # the public names
    ("experiments",),
    ("bench",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}


def modules() -> dict[str, Path]:
    """Return the files of all modules of the package by dotted name, without "fractalops."."""
    found = {}
    for folder, prefix in (("fractalops", ""), ("kernels", "kernels."), ("bench", "bench.")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            if prefix == "" and parts[0] in ("kernels", "bench"):  # links in a developer's checkout
                continue
            name = prefix + ".".join(parts)
            found[name.removesuffix(".__init__") if "." in name else name] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of the package that a module imports anywhere, also in functions."""
    found = set()
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = (
                node.module or "" if node.level == 0 else ".".join(["fractalops", *above, *filter(None, [node.module])])
            )
            targets = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            if target.split(".")[0] != "fractalops":
                continue
            local = target.removeprefix("fractalops").removeprefix(".")
            while local and local not in known:  # a name in a module: find the module
                local = local.rpartition(".")[0]
            found.add(local or "__init__")
    return found - {name}


def level(name: str) -> int:
    return LEVEL["__main__" if name == "bench.__main__" else name.split(".")[0]]


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imports(name, path, known) for name, path in known.items()}


def test_no_module_imports_upward() -> None:
    upward = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in sorted(others)
        if level(other) > level(name)
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = graph()
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    # A package's __init__ imports its modules, so these import each other directly and never the package.
    assert left == {}


def test_every_module_has_a_level() -> None:
    assert {name.split(".")[0] for name in modules()} <= LEVEL.keys()


def test_a_module_bears_no_name_of_a_public_function_beside_it() -> None:
    assert [name for name in modules() if "." not in name and name in fractalops.__all__] == []


def test_the_version_is_that_of_the_installed_package() -> None:
    assert fractalops.__version__ == version("fractalops")


def test_every_package_is_installed() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.findall(r'"(.+?)"', text.split("\npackages = [")[1].split("]")[0])
    folders = [name for name, path in modules().items() if path.stem == "__init__" and name != "__init__"]
    assert sorted(listed) == sorted(["fractalops", *(f"fractalops.{name}" for name in folders)])
