"""Notices: log messages about changes that were made while a file was read or written."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fractalops.errors import in_message

_logger = logging.getLogger("fractalops.io")


def log_notices(name: str | Path, notices: Iterable[str], level: int = logging.WARNING) -> None:
    """Log each notice as one record of the logger "fractalops.io": "NAME: NOTICE".

    The notices of a single file are warnings, which Python prints to standard error by default. The notices of the
    pictures of a data set have the level INFO, as there may be thousands of pictures, each read many times.
    """
    for notice in map(in_message, notices):
        _logger.log(level, "%s: %s", in_message(str(name)), notice, extra={"file": str(name), "notice": notice})


@contextmanager
def collect_notices() -> Iterator[dict[str, list[str]]]:
    """Collect the notices that are logged within the block, including those of data sets.

    Yields a dictionary that is filled as files are read. It maps a file's name to its notices in order, without
    duplicates. Python does not print the notices then. Other handlers that a program has set also get them.
    """
    collected: dict[str, list[str]] = {}
    with records_sent(_logger, _Collector(collected)):
        yield collected


@contextmanager
def records_sent(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    """Add a handler to a logger within the block, and lower the logger's level to INFO."""
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
