"""Errors that a caller may want to tell apart."""


class InputError(ValueError):
    """A user's file or option can't be used; the message is one line that says what is wrong with which."""


class MissingExtra(ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, function: str, package: str, extra: str) -> None:
        super().__init__(function, package, extra)  # with which copies are made, as by a worker of a `DataLoader`

    def __str__(self) -> str:
        function, package, extra = self.args
        return f"{function}: needs {package}; install it with: pip install 'fractalops[{extra}]'"


class BackendError(RuntimeError):
    """A backend was asked for that can't run here; the message says why and what mends it."""


class RankError(RuntimeError):
    """The processes that share a run can't begin it together; the message says why."""
