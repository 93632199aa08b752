"""Measurements, each against the baselines of `bench.baselines`; run from the repository's root.

- `python -m bench [--quick] [--json FILE] [NAME...]`: the table of figures, baselines, ratios and targets.
- `python -m bench estimate`: what the GPU ops and a step of `fit` must take on named cards, by arithmetic.
- `pytest bench`: each op, a step and `fit` by themselves; with `-m slow` what takes minutes.
"""
