"""Performance models: FLOP counts, times, fits and predictions, as pure functions of arrays and tables.

They need only numpy and scipy, so that fits and predictions run on a laptop.
"""
