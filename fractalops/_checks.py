"""Checks of arguments, shared by all functions of the package.

Each message has the form `<function>: <argument> must <property>, got <value>`. A wrong type raises `TypeError`. A
wrong shape, device, range or choice raises `ValueError`.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from fractalops.errors import InputError

T = TypeVar("T")

LARGEST_SIZE = 2**22 - 1  # float32 must represent pixel indices exactly, with room for the rounding of coordinates


# Numbers and names


def check_item(owner: str, index: int, count: int) -> int:
    """Return the index of an item, in [0, count). A negative `index` counts from the end (-1 is the last item).

    Raises `IndexError` if there is no such item, and `TypeError` if `index` is not an integer. Error messages start
    with `owner`, the name of the class.
    """
    try:
        number = operator.index(index)  # also accepts integer tensors and NumPy scalars
    except TypeError:
        raise TypeError(f"{owner}: index must be a whole number, got {type(index).__name__}") from None
    if not -count <= number < count:
        raise IndexError(f"{owner}: index must lie in [{-count}, {count}), got {number}")
    return number % count


def _whole(value: Any) -> int | None:
    """Return an integer (also a NumPy integer) as `int`, or a traced `SymInt` as it is; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, torch.SymInt)):
        return value  # type: ignore[return-value]  # a SymInt is a traced int
    return int(value) if isinstance(value, numbers.Integral) else None


def check_integer(function: str, argument: str, value: object, least: int, most: int | None = None) -> int:
    """Return `value` as an `int`; raise unless it is an integer in [least, most]."""
    number = _whole(value)
    if number is None:
        raise TypeError(f"{function}: {argument} must be an int, got {type(value).__name__}")
    if number < least:
        raise ValueError(f"{function}: {argument} must be at least {least}, got {number}")
    if most is not None and number > most:
        raise ValueError(f"{function}: {argument} must be at most {most}, got {number}")
    return number


def _pair(function: str, argument: str, value: object, kind: str) -> tuple[int, int]:
    """Return `(value, value)` for an integer, or a pair of integers as it is; raise `TypeError` for anything else.

    `kind` names the type of a number in the message.
    """
    first, *others = map(_whole, value if isinstance(value, (tuple, list)) and len(value) == 2 else (value,))
    last = others[0] if others else first
    if first is None or last is None:
        raise TypeError(f"{function}: {argument} must be {kind} or a pair of them, got {value!r}")
    return first, last


def check_range(function: str, argument: str, value: object) -> tuple[int, int]:
    """Return a range of counts as `(smallest, largest)`; raise unless `1 <= smallest <= largest`.

    `value` is an integer, which is both bounds, or a pair of integers.
    """
    bounds = _pair(function, argument, value, "an int")
    check_integer(function, argument, bounds[0], 1)
    if bounds[1] < bounds[0]:
        raise ValueError(f"{function}: {argument} must be (smallest, largest) with smallest <= largest, got {value!r}")
    return bounds


def check_count(function: str, argument: str, value: object, *, optional: bool = False) -> None:
    """Raise unless `value` is an integer of at least 1. None passes if `optional` is true."""
    if optional and value is None:
        return
    if _whole(value) is None:
        raise TypeError(f"{function}: {argument} must be a whole number, got {value!r}")
    check_integer(function, argument, value, 1)


def check_number(
    function: str,
    argument: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    optional: bool = False,
) -> float | None:
    """Return `value` as a Python number; raise unless it is finite and within the bounds.

    The bounds `above` and `below` are exclusive, `least` and `most` are inclusive. None passes if `optional` is true.
    """
    if optional and value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        expected = "a number or None" if optional else "a number"
        raise TypeError(f"{function}: {argument} must be {expected}, got {type(value).__name__}")
    number: Any = value
    if (
        -math.inf < number < math.inf
        and (above is None or number > above)
        and (least is None or number >= least)
        and (below is None or number < below)
        and (most is None or number <= most)
    ):
        return number if isinstance(number, (int, float)) else float(number)
    lower = f"({above}" if least is None else f"[{least}"
    upper = f"{below})" if most is None else f"{most}]"
    if above is None and least is None:
        expected = "be a finite number"
    elif below is None and most is None:
        expected = f"be a finite number {'above' if least is None else 'at least'} {above if least is None else least}"
    else:
        expected = f"lie in {lower}, {upper}"
    raise ValueError(f"{function}: {argument} must {expected}{' or be None' if optional else ''}, got {value!r}")


def or_default(function: str, argument: str, value: T | None, kind: type[T]) -> T:
    """Return `value`, or `kind()` if it is None; raise `TypeError` for a value of another type."""
    if value is None:
        return kind()
    if not isinstance(value, kind):
        article = "" if kind.__name__.endswith("s") else "a "  # a plural, such as PictureOptions, has no article
        raise TypeError(f"{function}: {argument} must be {article}{kind.__name__}, got {type(value).__name__}")
    return value


def check_cutoff(function: str, cutoff: object) -> None:
    """Raise unless `cutoff` is None or a number in (0, 1)."""
    check_number(function, "cutoff", cutoff, above=0, below=1, optional=True)


def check_bool(function: str, argument: str, value: object) -> None:
    """Raise `TypeError` unless `value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{function}: {argument} must be True or False, got {value!r}")


def check_choice(function: str, argument: str, value: object, choices: Sequence[str]) -> None:
    """Raise `ValueError` unless `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:  # `in` would compare an array element by element
        raise ValueError(f"{function}: {argument} must be one of {', '.join(choices)}, got {value!r}")


def check_choices(function: str, argument: str, values: Sequence[str], choices: Sequence[str]) -> None:
    """Raise `ValueError` unless `values` is not empty and contains only names in `choices`."""
    if not values or set(values) - set(choices):
        raise ValueError(f"{function}: {argument} must be one or more of {', '.join(choices)}, got {values!r}")


# Settings


class Bounds(NamedTuple):
    """The range of a number in a dataclass of settings, as in `Annotated[float, Bounds(above=0)]`.

    `above` and `below` are exclusive bounds, `least` and `most` are inclusive. None means no bound.
    """

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None


Natural = Annotated[int, Bounds(least=0)]
Count = Annotated[int, Bounds(least=1)]
Several = Annotated[int, Bounds(least=2)]

# The default of a setting that is resolved later. Its type is Any, so that a setting keeps its own declared type.
AUTO: Any = "auto"


def is_auto(value: object) -> bool:
    """Return whether a setting is resolved later.

    It compares by value: a string from a file or a pickle is not the same object as `AUTO`.
    """
    return isinstance(value, str) and value == AUTO


def check_fields(settings: object) -> None:
    """Raise unless each field of a dataclass has a value of its declared type: a bool, a `Literal` or a bounded number.

    Fields of other types are not checked. A field whose default is `AUTO` may also have that value. NumPy numbers are
    replaced by Python numbers, which can be written to files.
    """
    kind: Any = type(settings)
    for name, check in _field_checks(kind).items():
        value = getattr(settings, name)
        if not (is_auto(value) and is_auto(getattr(kind, name, None))):
            number = check(kind.__name__, name, value)
            if number is not None and number is not value:
                object.__setattr__(settings, name, number)


@cache
def _field_checks(kind: type) -> dict[str, Callable[[str, str, object], float | None]]:
    """Return the checks of a dataclass by field name; fields without a check are left out."""
    checks: dict[str, Callable[[str, str, object], float | None]] = {}
    for name, declared in get_type_hints(kind, include_extras=True).items():
        parts = get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)
        part, optional = parts[0], parts[1:] == (type(None),)
        if len(parts) > 1 and not optional:
            continue
        check: Callable[[str, str, object], Any]
        if part is bool:
            check = check_bool
        elif get_origin(part) is Literal:
            check = partial(check_choice, choices=get_args(part))
        elif get_origin(part) is Annotated:
            number, bounds = get_args(part)
            whole = partial(check_integer, least=bounds.least, most=bounds.most)
            check = whole if number is int else partial(check_number, **bounds._asdict(), optional=optional)
        else:
            continue
        checks[name] = partial(_check_unless_none, check) if optional else check
    return checks


def _check_unless_none(check: Callable[[str, str, object], T], function: str, argument: str, value: object) -> T | None:
    return None if value is None else check(function, argument, value)


def check_size(function: str, size: object) -> tuple[int, int]:
    """Return `size` as (height, width); raise unless it is an integer in [1, 2^22 - 1] or a pair of them."""
    sides = _pair(function, "size", size, "a whole number")
    if not all(1 <= side <= LARGEST_SIZE for side in sides):
        raise ValueError(f"{function}: size must lie in [1, {LARGEST_SIZE}], got {size!r}")
    return sides


def check_viewport(function: str, viewport: object) -> Any:
    """Return a viewport with Python numbers; raise unless it is "stretch", "fit" or the four bounds of a rectangle."""
    if isinstance(viewport, str) and viewport in ("stretch", "fit"):
        return viewport
    if not (
        isinstance(viewport, (tuple, list))
        and len(viewport) == 4
        and all(isinstance(bound, numbers.Real) for bound in viewport)
        and all(-math.inf < bound < math.inf for bound in viewport)  # torch.compile can't trace `isfinite`
        and viewport[0] < viewport[2]
        and viewport[1] < viewport[3]
    ):
        raise ValueError(
            f"{function}: viewport must be 'stretch', 'fit' or (x_min, y_min, x_max, y_max) with x_min < x_max and "
            f"y_min < y_max, got {viewport!r}"
        )
    return tuple(bound if isinstance(bound, (int, float)) else float(bound) for bound in viewport)


# Tensors


def check_tensor(function: str, **values: object) -> None:
    """Raise `TypeError` unless all of `values` are dense tensors."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{function}: {name} must be a tensor, got {type(value).__name__}")
        if value.layout != torch.strided:
            raise TypeError(f"{function}: {name} must be a dense tensor, got a tensor of layout {value.layout}")


def check_floating(function: str, **tensors: Tensor) -> None:
    """Raise unless all of `tensors` have the same floating-point dtype and the same device."""
    (first_name, first), *others = tensors.items()
    if not first.is_floating_point():
        raise TypeError(f"{function}: {first_name} must be floating-point, got {first.dtype}")
    for name, tensor in others:
        if tensor.dtype != first.dtype:
            raise TypeError(
                f"{function}: {name} must have the dtype of {first_name} ({first.dtype}), got {tensor.dtype}"
            )
        check_device(function, name, tensor, first_name, first)


def check_precision(function: str, argument: str, tensor: Tensor, otherwise: str = "") -> None:
    """Raise `TypeError` unless `tensor` is float32 or float64. `otherwise` adds an alternative to the message."""
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{function}: {argument} must be float32 or float64{otherwise}, got {tensor.dtype}")


def check_dtype(function: str, dtype: torch.dtype) -> None:
    """Raise `TypeError` unless `dtype` is float32 or float64."""
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{function}: dtype must be torch.float32 or torch.float64, got {dtype}")


def check_device(function: str, argument: str, tensor: Tensor, first_name: str, first: Tensor) -> None:
    """Raise `ValueError` unless `tensor` is on the device of `first`."""
    if tensor.device != first.device:
        raise ValueError(
            f"{function}: {argument} must be on the device of {first_name} ({first.device}), got {tensor.device}"
        )


def check_one_device(op: str, arguments: Iterable[object]) -> None:
    """Raise `ValueError` unless all tensors in `arguments`, the arguments of a raw op, are on one device."""
    devices = {argument.device for argument in arguments if isinstance(argument, Tensor)}
    if len(devices) > 1:
        raise ValueError(f"{op}: tensors must be on one device, got {', '.join(sorted(map(str, devices)))}")


def check_shapes(op: str, **tensors: tuple[Tensor | None, str]) -> None:
    """Raise `ValueError` unless the tensors have the given shapes and are on one device.

    A shape is a string with one character for each dimension: "BT2" is (B, T, 2). A digit is a size. A letter is any
    size, but the same size in all tensors. A tensor that is None is skipped. csrc/tensors.h does the same in C++.
    """
    check_one_device(op, [tensor for tensor, _ in tensors.values()])
    sizes: dict[str, int] = {}
    for name, (tensor, shape) in tensors.items():
        if tensor is None:
            continue
        known = [int(letter) if letter.isdigit() else sizes.get(letter) for letter in shape]
        if tensor.dim() != len(shape) or any(k not in (None, own) for k, own in zip(known, tensor.shape, strict=True)):
            expected = ", ".join(letter if k is None else str(k) for k, letter in zip(known, shape, strict=True))
            raise shape_error(op, name, f"({expected})", tensor)
        sizes.update(zip(shape, tensor.shape, strict=True))


def check_generator(function: str, generator: object, device: torch.device | None = None) -> None:
    """Raise unless `generator` is None or a `torch.Generator`, on the same type of device as `device` if given."""
    if generator is None:
        return
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"{function}: generator must be a torch.Generator or None, got {type(generator).__name__}")
    if device is not None and generator.device.type != device.type != "meta":
        raise ValueError(f"{function}: generator must be for {device.type}, got one for {generator.device.type}")


def check_gpu(device: torch.device) -> None:
    """Raise `InputError` if `device` is a GPU and torch finds no GPU."""
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"cannot run on {device}: torch finds no GPU")


def shape_error(function: str, argument: str, expected: str, tensor: Tensor) -> ValueError:
    """Return the `ValueError` for a tensor whose shape is not `expected`."""
    return ValueError(f"{function}: {argument} must have shape {expected}, got {tuple(tensor.shape)}")


def check_index(function: str, index: Tensor) -> None:
    """Raise `TypeError` unless the dtype of `index` is uint8, int32 or int64."""
    if index.dtype not in (torch.uint8, torch.int32, torch.int64):
        raise TypeError(f"{function}: index must be uint8, int32 or int64, got {index.dtype}")


def can_read(tensor: Tensor, debug: bool = False) -> bool:
    """Return whether a check may read the values of a tensor. They don't exist while tracing or under `vmap`.

    On a GPU, reading waits for the device. It is done only if `debug` is true (see `backends.debugging`).
    """
    if torch.compiler.is_compiling() or not (tensor.device.type == "cpu" or (tensor.is_cuda and debug)):
        return False
    if torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None:  # make_fx, linearize
        return False
    if type(tensor) not in (Tensor, torch.nn.Parameter):  # a fake tensor has no values
        return False
    while torch._C._functorch.is_gradtrackingtensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return not torch._C._functorch.is_batchedtensor(tensor)


def check_index_range(function: str, index: Tensor, maps: int, debug: bool = False) -> None:
    """Raise `IndexError` unless all values of `index` are in [0, maps); do nothing if they can't be read."""
    if not can_read(index, debug) or index.numel() == 0:
        return
    lowest, highest = (int(bound) for bound in index.aminmax())
    if lowest < 0 or highest >= maps:
        raise IndexError(f"{function}: index must lie in [0, {maps}), got {lowest if lowest < 0 else highest}")
