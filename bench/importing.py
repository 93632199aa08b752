"""What `import fractalops` costs after `import torch`, in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys

_PROGRAM = """
import json, sys, time
began = time.perf_counter()
import {modules}
print(json.dumps([time.perf_counter() - began, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""

UNWANTED = {"matplotlib", "triton"}


def import_modules(*modules: str) -> tuple[float, set[str]]:
    """The seconds of importing `modules` in a fresh process, and all the packages it pulled in."""
    program = _PROGRAM.format(modules=", ".join(modules))
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    seconds, packages = json.loads(done.stdout)
    return seconds, set(packages)
