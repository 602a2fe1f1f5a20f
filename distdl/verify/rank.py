"""`python -m distdl.verify.rank ...`: distdl.train, with the samples of every step written down."""

from collections.abc import Sequence

from distdl import train
from distdl.errors import leave, recorded


def main(argv: Sequence[str] | None = None) -> int:
    """Train as distdl.train does. Returns its exit code."""
    from distdl.verify.samples import from_environment

    return train.main(argv, callbacks=(from_environment(),))


if __name__ == "__main__":
    leave(recorded(main)())
