"""Distributed training of image classifiers, with time and cost predicted before you start."""

__version__ = "0.2.0"
