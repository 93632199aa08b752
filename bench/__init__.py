"""Measurements, each against the baselines of `bench.baselines`. Installed as `fractalops.bench`.

- `fractalops bench`: the suites, and a report of what they found.
- `pytest bench`: the same contests one by one by pytest-benchmark; with `-m slow` those that take long.
- `python -m bench TOOL`, in a folder of the source: `sweep` (the rasterizer's block sizes on a GPU), `instructions` (of
  the CPU kernels, against a record), `threads` (how one large image splits), `readme` (its figures).
"""
