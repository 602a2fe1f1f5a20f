"""A process that takes from a board and offers to it, as fast as it can, until it is killed or told to stop.

    python hammer.py BOARD LOG SEED

LOG gets a line for each checkpoint that the board has acknowledged, on disk before the next is taken.
"""

import os
import random
import signal
import sys
from pathlib import Path

from distdl.core.files import write_atomic
from distdl.core.manifest import STATE, Progress, damaged, read_manifest
from distdl.studies.leaderboard.board import Seat
from distdl.studies.leaderboard.rules import Ratchet


def main(board: Path, log: Path, seed: int) -> None:
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    dice = random.Random(f"{seed} {os.getpid()}")
    seat = Seat(board, Ratchet(slots=5))
    with log.open("a", encoding="utf-8") as acknowledged:
        while not stop:
            take = seat.take()
            score, epoch = 0.0, 0
            if take.slot is not None:
                folder = seat.slot(take.slot)
                if why := damaged(folder):  # it is pinned: neither torn nor gone while this process has it
                    print(f"{folder}: {why}", file=sys.stderr)
                    sys.exit(3)
                manifest = read_manifest(folder)
                score, epoch = manifest["metric"], manifest["progress"]["epoch"]
            score += dice.gauss(0, 1)
            content = dice.randbytes(dice.randint(1, 200_000))
            taken = seat.offer(
                take,
                score,
                progress=vars(Progress(step=10 * (epoch + 1), epoch=epoch + 1)),
                write=lambda beside, content=content: write_atomic(beside / STATE, lambda sink: sink.write(content)),
                epoch_s=0.0,
                settings={"lr": 0.1},
            )
            if taken:
                acknowledged.write(f"{take.number} {score!r}\n")
                acknowledged.flush()
                os.fsync(acknowledged.fileno())
    seat.leave("stopped")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
