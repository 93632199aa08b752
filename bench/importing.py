"""What `import fractalops` costs after `import torch`, in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys

_PROGRAM = """
import json, sys, time
for module in {modules!r}:
    began = time.perf_counter()
    __import__(module)
print(json.dumps([time.perf_counter() - began, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""


def import_modules(*modules: str) -> tuple[float, set[str]]:
    """The seconds of importing the last of `modules`, after the others, in a fresh process; all packages pulled in."""
    program = _PROGRAM.format(modules=modules)
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    seconds, packages = json.loads(done.stdout)
    return seconds, set(packages)
