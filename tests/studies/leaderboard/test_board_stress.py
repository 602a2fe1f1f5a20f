"""Concurrent processes on one board, killed at random: no acknowledged checkpoint is lost or damaged."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distdl.core.manifest import damaged
from distdl.studies.leaderboard.board import Board
from distdl.studies.leaderboard.event_log import BoardState, apply
from jobs import wait_for
from repository import SUPPORT

STRESS = SUPPORT / "board_stress.py"
SLOTS = 5


def start(board: Path, index: int) -> subprocess.Popen[str]:
    argv = [sys.executable, str(STRESS), str(board), str(board.parent / f"log-{index}"), str(index)]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)


def best_score(board: Board) -> float:
    """The current best score, after a check of its checkpoint, which may only be missing if its slot is gone too."""
    while True:
        best = board.state().best
        if best is None:
            return -1e9
        damage = damaged(board.slot(best.name))
        if damage is None:
            return best.score
        assert best.name not in board.state().slots, f"slot {best.name}: {damage}"


@pytest.mark.parametrize(
    ("kills", "count"), [pytest.param(15, 6, id="short"), pytest.param(200, 8, id="long", marks=pytest.mark.slow)]
)
def test_random_kills_lose_or_damage_no_slot_and_never_lower_the_best_score(
    tmp_path: Path, kills: int, count: int
) -> None:
    folder, rng = tmp_path / "board", random.Random(count)
    processes = [start(folder, index) for index in range(count)]
    killed, best, checks = 0, -1e9, 0
    while killed < kills or len(Board(folder).state().slots) < SLOTS:
        events = len(Board(folder).rows())
        wait_for(lambda events=events: len(Board(folder).rows()) > events, 120, "an event on the board")
        time.sleep(rng.uniform(0, 0.4))
        index = rng.randrange(count)
        assert processes[index].poll() is None, processes[index].communicate()[1]
        os.kill(processes[index].pid, signal.SIGKILL)
        processes[index].communicate()
        killed += 1
        processes[index] = start(folder, index)
        if (folder / "slots").is_dir():
            now = best_score(Board(folder))
            assert now >= best, "the best score fell"
            best, checks = now, checks + 1
    for process in processes:  # half of them are killed, the others are terminated
        process.send_signal(signal.SIGKILL if process is processes[0] else signal.SIGTERM)
    exits = [(process.communicate()[1], process.returncode) for process in processes]
    # A process that has not set its handler yet ends by SIGTERM.
    assert {code for _, code in exits} <= {0, -signal.SIGKILL, -signal.SIGTERM}, exits

    board = Board(folder)
    assert board.inconsistencies() == []
    state, best_so_far, fewest = BoardState(), -1e9, 0
    rows = board.rows()
    for row in rows:
        apply(state, row)
        if state.slots:
            assert state.best.score >= best_so_far and len(state.slots) >= fewest
            best_so_far, fewest = state.best.score, len(state.slots)
    assert len(state.slots) == SLOTS
    published = {row["take"]: row["score"] for row in rows if row["kind"] == "publish"}
    for log in tmp_path.glob("log-*"):
        for line in log.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                number, score = line.split()
                assert published[int(number)] == float(score), "an acknowledged checkpoint is not in the lineage"
    assert {folder.name for folder in (folder / "slots").glob("take-*")} >= {
        board.slot(name).name for name in state.slots
    }
    print(f"{len(rows)} events, {state.epochs} epochs, {killed} kills, {state.cut} takes cut, {checks} checks")


def test_the_next_process_cleans_up_after_a_killed_one(tmp_path: Path) -> None:
    from distdl.studies.leaderboard.board import Session
    from distdl.studies.leaderboard.rules import ReplaceWorst

    folder = tmp_path / "board"
    process = start(folder, 0)
    deadline = time.monotonic() + 60
    while Board(folder).state().published < 8:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert len(Board(folder).state().processes) == 1
    session = Session(folder, ReplaceWorst(slots=5))
    lease = session.lease()
    session.release(lease)
    session.leave("completed")
    state = Board(folder).state()
    assert not state.open and not state.processes
    assert [each.ended for each in state.slices] == ["lost", "completed"]
    assert {path.name for path in (folder / "slots").iterdir()} == {session.slot(name).name for name in state.slots}
    assert not list((folder / "processes").iterdir())
