"""History of a board: progress of the best score, parents of each slot, number of simultaneous processes."""

from collections.abc import Sequence
from dataclasses import dataclass

from distdl.studies.leaderboard.event_log import EventRow


@dataclass(frozen=True, kw_only=True)
class Node:
    """A slot that was published, on the board or replaced."""

    name: int
    parent: int | None
    score: float
    epoch: int
    settings: str
    process: str
    order: int
    """Number of epochs, over all processes, that the attempt had trained when it was published."""


def nodes(rows: Sequence[EventRow]) -> dict[int, Node]:
    """Return all slots that were ever published, by name."""
    parents = {row["take"]: row["slot"] for row in rows if row["kind"] == "take"}
    trained = [row for row in rows if row["kind"] in ("publish", "drop")]
    return {
        row["take"]: Node(
            name=row["take"],
            parent=parents[row["take"]],
            score=row["score"],
            epoch=row["epoch"],
            settings=row["settings"].get("name") or "",
            process=row["process"].split("@")[0].rsplit("-", 1)[-1],
            order=order,
        )
        for order, row in enumerate(trained, start=1)
        if row["kind"] == "publish"
    }


def ancestry(published: dict[int, Node], descendants: Sequence[int]) -> dict[int, Node]:
    """Return `descendants` and all their ancestors."""
    ancestors: dict[int, Node] = {}
    for name in descendants:
        step: int | None = name
        while step is not None and step not in ancestors:
            ancestors[step] = published[step]
            step = published[step].parent
    return dict(sorted(ancestors.items()))


def best_so_far(rows: Sequence[EventRow]) -> tuple[list[float], list[float]]:
    """Return two lists with an item per epoch: device time in seconds, summed over processes, and the best score."""
    seconds, best, spent, now = [], [], 0.0, 0.0
    scores: dict[int, float] = {}
    for row in rows:
        if row["kind"] not in ("publish", "drop"):
            continue
        spent += row["epoch_s"]
        if row["kind"] == "publish":
            scores.pop(row["replaced"], None)
            scores[row["take"]] = row["score"]
            now = max(scores.values())
        seconds.append(round(spent, 3))
        best.append(now)
    return seconds, best


def max_simultaneous(rows: Sequence[EventRow]) -> int:
    """Largest number of processes that shared the board at the same time."""
    changes = sorted(
        (row["at"], 1 if row["kind"] == "begin" else -1) for row in rows if row["kind"] in ("begin", "end")
    )
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most
