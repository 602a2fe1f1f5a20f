"""Models of performance: counts, times, fits and predictions, as pure functions on arrays and tables.

Needs numpy and scipy only, so that it fits and predicts on a laptop; `flops.py` alone needs torch (on the meta device).
"""
