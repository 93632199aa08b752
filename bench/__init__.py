"""Benchmarks of the ops against the baselines in `bench.baselines`. Installed as `fractalops.bench`.

- `fractalops bench` runs the suites and writes a report.
- `pytest bench` runs the same contests one by one with pytest-benchmark; `pytest bench -m slow` runs the slow ones.
- `python -m bench TOOL` runs a tool in a clone of the repository: `sweep` (choices of the GPU kernels),
  `instructions` (instruction counts of the CPU kernels against a record), `threads` (how one large image is divided
  among threads), `documents` (the figures in README.md and docs/) or `gpu` (all checks and measurements on a GPU).
"""
