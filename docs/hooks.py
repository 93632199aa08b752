"""Hooks of MkDocs: the pages' parts that are generated from the package."""

from __future__ import annotations

import contextlib
import io
import os
import re
from typing import Any

COMMANDS = (
    "fit",
    "fit-points",
    "render",
    "view",
    "morph",
    "convert",
    "random",
    "systems",
    "experiment",
    "bench",
    "info",
)
_HELP = re.compile(r"<!-- help:(?: (?P<command>[a-z-]+))? -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each `<!-- help: COMMAND -->` by what `fractalops COMMAND --help` prints."""
    return _HELP.sub(lambda match: f"```text\n{help_text(match['command'] or '')}\n```", markdown)


def help_text(command: str) -> str:
    """Return what `fractalops COMMAND --help` prints at 100 columns."""
    from fractalops.cli import main

    os.environ["COLUMNS"] = "100"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([command, "--help"] if command else ["--help"])
    return printed.getvalue().rstrip()
