"""Notices: changes that reading a file made and that a user may want to know of. They go through `logging`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fractalops.errors import in_message

_logger = logging.getLogger("fractalops.io")


def log_notices(name: str | Path, notices: Iterable[str], level: int = logging.WARNING) -> None:
    """Log each notice as one record of the logger "fractalops.io": "NAME: NOTICE".

    A file that is read by itself logs warnings, which Python prints to standard error by default. A picture
    of a data set logs at the level INFO: there may be thousands of them, and each may be read many times.
    """
    for notice in map(in_message, notices):
        _logger.log(level, "%s: %s", in_message(str(name)), notice, extra={"file": str(name), "notice": notice})


@contextmanager
def collect_notices() -> Iterator[dict[str, list[str]]]:
    """Collect the notices that are logged within the block, those of data sets, too, instead of printing them.

    Yields a dictionary that fills as files are read: from a file's name to its notices, each once, in their order.
    Handlers that a program has set for these records get them as well.
    """
    collected: dict[str, list[str]] = {}
    with records_sent(_logger, _Collector(collected)):
        yield collected


@contextmanager
def records_sent(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    """Send the records of a logger, from the level INFO on, to one more handler within the block."""
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class _Collector(logging.Handler):
    def __init__(self, collected: dict[str, list[str]]) -> None:
        super().__init__(logging.INFO)
        self._collected = collected

    def emit(self, record: logging.LogRecord) -> None:
        notice = getattr(record, "notice", None)
        if notice is None:
            return
        notices = self._collected.setdefault(record.__dict__["file"], [])
        if notice not in notices:
            notices.append(notice)
