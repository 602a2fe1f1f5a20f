"""A process that leases slots from a board and submits results as fast as possible, until it is killed or stopped.

    python board_stress.py BOARD LOG SEED

For each checkpoint that the board has acknowledged, a line is written to LOG, on disk before the next lease.
"""

import os
import random
import signal
import sys
from pathlib import Path

from distdl.core.files import write_atomic
from distdl.core.manifest import STATE, Progress, damaged, read_manifest
from distdl.studies.leaderboard.board import Session
from distdl.studies.leaderboard.rules import ReplaceWorst


def main(board: Path, log: Path, seed: int) -> None:
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    rng = random.Random(f"{seed} {os.getpid()}")
    session = Session(board, ReplaceWorst(slots=5))
    with log.open("a", encoding="utf-8") as acknowledged:
        while not stop:
            lease = session.lease()
            score, epoch = 0.0, 0
            if lease.slot is not None:
                folder = session.slot(lease.slot)
                if damage := damaged(folder):  # it is pinned: complete and present while this process holds it
                    print(f"{folder}: {damage}", file=sys.stderr)
                    sys.exit(3)
                manifest = read_manifest(folder)
                score, epoch = manifest["metric"], manifest["progress"]["epoch"]
            score += rng.gauss(0, 1)
            content = rng.randbytes(rng.randint(1, 200_000))
            submission = session.submit(
                lease,
                score,
                progress=vars(Progress(step=10 * (epoch + 1), epoch=epoch + 1)),
                write=lambda staging, content=content: write_atomic(staging / STATE, lambda sink: sink.write(content)),
                epoch_s=0.0,
                settings={"lr": 0.1},
            )
            if submission:
                acknowledged.write(f"{lease.number} {score!r}\n")
                acknowledged.flush()
                os.fsync(acknowledged.fileno())
    session.leave("stopped")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
