"""Measurements, each against the baselines of `bench.baselines`; run from the repository's root.

- `python -m bench [--quick] [--json FILE] [NAME...]`: the table of figures, baselines, ratios and targets.
- `python -m bench estimate`: what the CUDA op must cost on named GPUs, by arithmetic; measured where there is one.
- `pytest bench`: each op, a step and `fit` by themselves; with `-m slow` what takes minutes.
"""
