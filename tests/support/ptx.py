"""Run a compiled Triton kernel on the CPU: an interpreter of PTX that runs the threads of a program in lockstep.

It runs the instructions of the compiled `rbf_rasterize_bwd_kernel`. It raises `NotImplementedError` for others, and
`ValueError` if threads store different bits to one address. All threads must take the same branches. Instructions with
`.approx` or `.full` are computed as accurately as the others, and `.ftz` does not flush denormal numbers.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # (threads,), a number per thread

KINDS = {"b": "u", "s": "i", "u": "u", "f": "f"}
TYPES = {f"{kind}{bits}": np.dtype(f"{name}{bits // 8}") for kind, name in KINDS.items() for bits in (16, 32, 64)}
TYPES |= {"pred": np.dtype(bool), "b8": np.dtype("u1")}
TYPES["f32x2"] = TYPES["f32"]  # two numbers in a register of 64 bits: arrays are (2 * threads,)
SHARED = 1 << 16  # bytes
BUFFER = 1 << 32  # addresses per buffer: the first buffer starts at BUFFER
ROUND = {"rmi": np.floor, "rpi": np.ceil, "rni": np.rint, "rzi": np.trunc}
COMPARE = {"eq": operator.eq, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge}
MODIFIERS = {"approx", "bfly", "cta", "ftz", "full", "lo", "rn", "sync", "uni", "wide", "global", "param", "shared"}
MODIFIERS |= {"v2", "v4", "ne", "neu", *TYPES, *ROUND, *COMPARE, *(f"{how}u" for how in COMPARE)}
UNARY: dict[str, Callable[[Array], Array]] = {
    "mov": lambda a: a, "abs": np.abs, "neg": np.negative, "not": np.invert, "sqrt": np.sqrt, "ex2": np.exp2,
    "rcp": np.reciprocal,
}  # fmt: skip
BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add, "sub": np.subtract, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "min": np.fmin, "max": np.fmax,
}  # fmt: skip


def divide(a: Array, b: Array) -> Array:
    """Return a / b, for integers rounded toward zero."""
    if a.dtype.kind == "f":
        return a / b
    return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)


class Program:
    """A program of a launch: its code, registers, shared memory, and the buffers in global memory."""

    def __init__(self, ptx: str, buffers: Sequence[Array]) -> None:
        self.threads = int(re.search(r"\.reqntid (\d+)", ptx)[1])  # type: ignore[index]
        self.buffers = [buffer.reshape(-1).view(np.uint8) for buffer in buffers]
        self.parameters = re.findall(r"\w+_param_\d+", ptx[: ptx.index(".reqntid")])
        text = re.sub(r"//[^\n]*", "", ptx[ptx.index(".maxnreg") :])
        self.code: list[tuple[str, str, list[str]]] = []  # guard, operation, operands
        self.labels: dict[str, int] = {}
        for statement in re.split(r"[;\n]", text):
            statement = statement.strip()
            if label := re.fullmatch(r"(\$\w+):", statement):
                self.labels[label[1]] = len(self.code)
            elif found := re.fullmatch(r"(?:\{\s*)?(?:@(!?%\w+)\s+)?([a-z][\w.]*(?:::\w+[\w.]*)?)\s*(.*)", statement):
                operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", found[3])
                self.code.append((found[1] or "", found[2], operands))
            elif not re.fullmatch(r"|[{}]|(\{\s*)?\.[^{}]*(\{\s*\})?", statement):  # nothing, a brace, a directive
                raise NotImplementedError(statement)

    def run(self, program: int, values: Sequence[Array]) -> None:
        """Run the program with this number. `values` are the parameters: BUFFER points to the first buffer."""
        self.shared = np.zeros(SHARED, np.uint8)
        self.values = dict(zip(self.parameters, values, strict=True))
        thread = np.arange(self.threads, dtype=np.uint32)
        self.registers: dict[str, Array] = {"%tid.x": thread, "%ctaid.x": np.full_like(thread, program)}
        position = 0
        with np.errstate(all="ignore"):
            while (result := self.step(*self.code[position])) != "ret":
                position = position + 1 if result is None else self.labels[result]

    def get(self, operand: str, kind: str) -> Array:
        """Return the numbers of a register or a constant."""
        dtype = TYPES[kind]
        if operand in self.registers:
            return self.registers[operand].view(dtype)
        if operand.startswith(("0f", "0d")):
            number = int(operand[2:], 16)
            return np.full(self.threads, number, f"u{len(operand[2:]) // 2}").view(dtype)
        if operand == "global_smem":
            return np.zeros(self.threads, dtype)
        return np.full(self.threads, int(operand, 0) % (1 << 8 * dtype.itemsize), f"u{dtype.itemsize}").view(dtype)

    def put(self, name: str, value: Array, mask: Array) -> None:
        """Write to a register, for the threads of a mask."""
        if name == "_":
            return
        value = np.ascontiguousarray(value)
        value = value if value.dtype == bool else value.view(f"u{value.dtype.itemsize}")
        self.registers[name] = np.where(mask, value, self.registers.get(name, np.zeros_like(value)))

    def access(self, operand: str) -> tuple[Array, int]:
        """Return the addresses and the offset of an operand such as [%rd1+4]."""
        name, _, offset = operand.strip("[] ").replace(" ", "").partition("+")
        return self.get(name, "b64" if name.startswith("%rd") else "b32").astype(np.int64), int(offset or "0")

    def memory(self, address: int, size: int, space: str) -> Array:
        """Return the bytes at an address."""
        number, start = divmod(address, BUFFER)
        assert number in ([0] if space == "shared" else range(1, len(self.buffers) + 1)), f"no buffer at {address}"
        buffer = self.buffers[number - 1] if number else self.shared
        assert start + size <= len(buffer), f"an access outside of buffer {number}"
        return buffer[start : start + size]

    def load(self, space: str, names: list[str], kind: str, operand: str, mask: Array) -> None:
        addresses, offset = self.access(operand)
        dtype = TYPES[kind]
        for k, name in enumerate(names):
            value = np.zeros(self.threads, f"u{dtype.itemsize}")
            for thread in np.flatnonzero(mask):
                address = int(addresses[thread]) + offset + k * dtype.itemsize
                value[thread] = self.memory(address, dtype.itemsize, space).view(value.dtype)[0]
            self.put(name, value, mask)

    def store(self, space: str, operand: str, names: list[str], kind: str, mask: Array) -> None:
        addresses, offset = self.access(operand)
        written: dict[int, bytes] = {}
        for k, name in enumerate(names):
            value = self.get(name, kind)
            for thread in np.flatnonzero(mask):
                address = int(addresses[thread]) + offset + k * value.dtype.itemsize
                bits = value[thread].tobytes()
                if written.setdefault(address, bits) != bits:
                    raise ValueError("several threads store different bits to one address")
                self.memory(address, len(bits), space)[:] = np.frombuffer(bits, np.uint8)

    def step(self, guard: str, operation: str, operands: list[str]) -> str | None:
        """Run an instruction. Return the label to jump to, "ret" at the end, or None."""
        name, *rest = operation.replace("::", ".").split(".")
        if not MODIFIERS.issuperset(rest):
            raise NotImplementedError(operation)
        mask = np.ones(self.threads, bool)
        if guard:
            mask = self.registers[guard.lstrip("!")] ^ guard.startswith("!")
        if name in ("bra", "ret"):
            if not mask.any():
                return None
            assert mask.all(), "threads must take the same branches"
            return operands[0] if name == "bra" else "ret"
        if name == "bar":
            return None
        kind = rest[-1] if rest else ""
        if name in ("ld", "st"):
            if rest[0] == "param":
                value = np.full(self.threads, self.values[operands[1].strip("[]")])
                self.put(operands[0], value.view(TYPES[kind]), mask)
                return None
            names = [re.findall(r"[%\w.]+", each) for each in operands]
            if name == "ld":
                self.load(rest[0], names[0], kind, operands[1], mask)
            else:
                self.store(rest[0], operands[0], names[1], kind, mask)
            return None
        target, *sources = operands
        if target.startswith("{"):  # the halves of a 64-bit number
            halves = self.get(sources[0], "b64").view(np.uint32).reshape(-1, 2)
            for k, half in enumerate(re.findall(r"[%\w]+", target)):
                self.put(half, halves[:, k], mask)
        elif sources[0].startswith("{"):
            halves = [self.get(half, "b32") for half in re.findall(r"[%\w]+", sources[0])]
            self.put(target, np.stack(halves, 1).view(np.uint64)[:, 0], mask)
        elif name == "shfl":
            self.put(target.split("|")[0], self.get(sources[0], "b32")[np.arange(self.threads) ^ int(sources[1])], mask)
        elif name == "setp":
            self.put(target, self.compare(rest[0], *(self.get(each, kind) for each in sources)), mask)
        else:
            result = self.compute(name, rest, kind, sources)
            self.put(target, result.view(np.uint64) if kind == "f32x2" else result, mask)
        return None

    def compare(self, how: str, a: Array, b: Array) -> Array:
        """Return the result of a comparison. An unordered one, such as "neu", is true if a number is NaN."""
        unordered = np.isnan(a) | np.isnan(b) if a.dtype.kind == "f" else np.zeros(self.threads, bool)
        if how in ("ne", "neu"):
            return (a != b) & ~unordered if how == "ne" else (a != b) | unordered
        return COMPARE[how[:2]](a, b) | (unordered & how.endswith("u") & (a.dtype.kind == "f"))

    def compute(self, name: str, rest: list[str], kind: str, sources: list[str]) -> Array:
        """Return the result of an arithmetic instruction."""
        if name == "selp":
            a, b = (self.get(each, kind) for each in sources[:2])
            return np.where(self.registers[sources[2]], a, b)
        if name == "cvt":
            value = self.get(sources[0], kind)
            target = TYPES[rest[-2]]
            value = next((ROUND[each](value) for each in rest if each in ROUND), value)
            if value.dtype.kind == "f" and target.kind != "f":  # PTX saturates, and converts NaN to 0
                limits = np.iinfo(target)
                above, below = value >= float(limits.max), value <= float(limits.min)
                whole = np.where(above | below | np.isnan(value), 0, value).astype(target)
                return np.select([above, below], [limits.max, limits.min], whole).astype(target)
            return value.astype(target)
        if name in ("shl", "shr"):
            value, by = self.get(sources[0], kind), self.get(sources[1], "u32").astype(TYPES[kind])
            return value << by if name == "shl" else value >> by
        numbers = [self.get(each, kind) for each in sources]
        if name == "bfe" and kind == "u32":
            value, start, length = numbers
            return (value >> start) & ((1 << length) - 1).astype(value.dtype)
        if name in ("mul", "mad") and "wide" in rest:
            wide = TYPES[kind[0] + "64"]
            product = numbers[0].astype(wide) * numbers[1].astype(wide)
            return product + self.get(sources[2], kind[0] + "64") if name == "mad" else product
        if name in ("mul", "mad", "fma"):
            exact = np.longdouble if kind == "f64" else np.float64 if kind.startswith("f32") else numbers[0].dtype
            result = numbers[0].astype(exact) * numbers[1].astype(exact)
            return (result + numbers[2].astype(exact) if len(numbers) > 2 else result).astype(TYPES[kind])
        if name in ("div", "rem"):
            quotient = divide(*numbers)
            return quotient if name == "div" else numbers[0] - quotient * numbers[1]
        if name in UNARY:
            return UNARY[name](numbers[0])
        if name in BINARY:
            return BINARY[name](*numbers)
        raise NotImplementedError(name)
