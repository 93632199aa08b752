"""Calling a `torch.autograd.Function` without what its `apply` spends on default arguments."""

from __future__ import annotations

from typing import Any

import torch


def apply_function(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """`function.apply(*arguments)`, for all of its arguments.

    `apply` of a Function with `setup_context` asks `inspect` for the signature and binds the arguments on every call,
    which costs more than a small op. Where nothing traces or transforms, what follows is the rest of it.
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return function.apply(*arguments)
    arguments = torch._functorch.utils.unwrap_dead_wrappers(arguments)
    return super(torch.autograd.Function, function).apply(*arguments)  # type: ignore[misc]
