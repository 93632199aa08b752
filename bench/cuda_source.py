"""Constants of the CUDA kernels, read from their headers, so that the estimate has none of its own."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "csrc" / "cuda"
OPERATORS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.floordiv,
    ast.LShift: operator.lshift,
}


class CudaSource:
    """The headers of a folder."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._text = "\n".join(re.sub(r"//.*", "", file.read_text()) for file in sorted(folder.glob("*.h")))

    def constant(self, name: str, function: str = "", **known: int) -> int:
        """The value of a `constexpr`: of a function's body, else of a namespace or class.

        `known` gives what the value depends on beside other constants: `sizeof=4` for `128 / sizeof(T)`.
        """
        found = self._declared(name, self._body(function)) if function else None
        if found is None:
            outside = re.findall(r"^(?:inline|\s+static) constexpr [^;]*;", self._text, re.M)
            found = self._declared(name, "\n".join(outside))
        if found is None:
            raise self._missing(f"constant {name}" + (f" in {function}" if function else ""))
        return self._value(found, function, known)

    def _body(self, function: str) -> str:
        body = r"(?:\n(?P<lines>.*?)^\}| (?P<line>[^\n]*) \}$)"
        found = re.search(rf"^[^\n]*\b{function}\([^)]*\) \{{{body}", self._text, re.M | re.S)
        if found is None:
            raise self._missing(f"function {function}")
        return found["lines"] or found["line"]

    @staticmethod
    def _declared(name: str, scope: str) -> str | None:
        for declaration in re.findall(r"constexpr \w+ ([^;]*);", scope):
            found = re.search(rf"\b{name} = ([^,]*)", declaration)
            if found:
                return str(found[1])
        return None

    def _value(self, expression: str, function: str, known: dict[str, int]) -> int:
        def value(node: ast.expr) -> int:
            if isinstance(node, ast.Constant) and isinstance(node.value, int):
                return node.value
            if isinstance(node, ast.Name):
                return known[node.id] if node.id in known else self.constant(node.id, function, **known)
            if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
                return OPERATORS[type(node.op)](value(node.left), value(node.right))
            raise ValueError(f"{self._folder.name}: can't evaluate {expression!r}; {HINT}")

        return value(ast.parse(expression.replace("sizeof(T)", "sizeof").strip(), mode="eval").body)

    def _missing(self, what: str) -> ValueError:
        return ValueError(f"{self._folder.name}: there is no {what} any more; {HINT}")


HINT = "bench/cuda_plan.py and bench/affine_chain_work.py mirror the kernels and must follow them"
