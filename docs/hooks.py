"""Hooks of MkDocs. They generate the help texts of the page "Command line"."""

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
    """Replace each `<!-- help: COMMAND -->` with the output of `fractalops COMMAND --help`."""
    return _HELP.sub(lambda match: f"```text\n{help_text(match['command'] or '')}\n```", markdown)


def help_text(command: str) -> str:
    """Return the output of `fractalops COMMAND --help` at a width that fits the code blocks of a page."""
    from fractalops.cli import main

    os.environ["COLUMNS"] = "76"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([command, "--help"] if command else ["--help"])
    return printed.getvalue().rstrip()
