"""Signals that stop a training."""

import signal

SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
"""Launchers and schedulers send SIGTERM; SIGUSR2 is Slurm's early warning (NCCL takes SIGUSR1); SIGINT is Ctrl-C."""
