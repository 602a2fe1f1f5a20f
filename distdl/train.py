"""`python -m distdl.train ...`, which every launcher can start: the same as `distdl train ...`."""

from distdl.runtime.interrupts import Importing

with Importing():
    from distdl.cli.train import main

__all__ = ["main"]

if __name__ == "__main__":
    from distdl.runtime.process import escape_tracebacks, exit_process, with_torchelastic_record

    escape_tracebacks()
    exit_process(with_torchelastic_record(main)())
