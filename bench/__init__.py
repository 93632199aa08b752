"""Measurements, each against the baselines of `bench.baselines`; run from the repository's root.

- `python -m bench [--quick] [--json FILE] [NAME...]`: the table of figures, baselines, ratios and targets.
- `pytest bench`: each op, a step and `fit` by themselves; with `-m slow` what takes minutes.
"""
