"""Lineage of a board as a tree: as lines for the terminal, as a figure for a page."""

from collections.abc import Sequence

from distdl.report.content import Axis, Figure, PlotLayer, Table
from distdl.studies.leaderboard.event_log import BoardState, EventRow
from distdl.studies.leaderboard.history import Node, ancestry, nodes

MOST_LINES = 40
"""Lines of a tree in the terminal; a longer tree counts slots with one child instead of listing them."""


def table(name: str, rows: Sequence[EventRow], state: BoardState) -> Table:
    """The slots on the board and their ancestors, one per line, children under their parents."""
    published = nodes(rows)
    ancestors = ancestry(published, list(state.slots))
    lines = []
    for text, node in outline(ancestors, set(state.slots), compress=len(ancestors) > MOST_LINES):
        if node is None:
            lines.append((text, None, None, "", "", ""))
            continue
        place = "on the board" if node.name in state.slots else ""
        lines.append((text, round(100 * node.score, 2), node.epoch, node.settings, node.process, place))
    dead = len(published) - len(ancestors)
    return Table(
        name=f"{name}-tree",
        title=f"{name}: lineage",
        columns=("slot", "score (%)", "epochs", "profile", "process", ""),
        rows=tuple(lines),
        note=f"{len(published)} slots were published; {dead} of them have no descendant on the board and are omitted.",
    )


def outline(ancestors: dict[int, Node], board: set[int], *, compress: bool) -> list[tuple[str, Node | None]]:
    """Lines of a tree. An only child is in its parent's column; lines are indented at branches only.

    Returns:
        The line's text and its slot; None for a line that replaces several omitted slots.
    """
    children: dict[int | None, list[Node]] = {}
    for node in ancestors.values():
        children.setdefault(node.parent, []).append(node)
    lines: list[tuple[str, Node | None]] = []
    roots = children.get(None, [])
    # Depth first with an explicit stack: a chain is as deep as the run was long.
    stack = [(node, "", index == len(roots) - 1) for index, node in reversed(list(enumerate(roots)))]
    hidden = 0
    while stack:
        node, indent, last = stack.pop()
        branches = children.get(node.name, [])
        only = len(branches) == 1
        siblings = len(children.get(node.parent, []))
        chained = node.parent is not None and siblings == 1
        if compress and chained and only and node.name not in board:
            hidden += 1
        else:
            if hidden:
                lines.append((f"{indent}┊ {hidden} more", None))
                hidden = 0
            sign = "" if chained else "└─ " if last else "├─ "
            lines.append((f"{indent}{sign}{node.name}", node))
        deeper = indent if chained else indent + ("   " if last else "│  ")
        for index, child in reversed(list(enumerate(branches))):
            stack.append((child, deeper, index == len(branches) - 1))
    return lines


def figure(name: str, rows: Sequence[EventRow], state: BoardState) -> Figure:
    """Score over epochs of training, with a line from each parent to each child."""
    published = nodes(rows)
    ancestors = ancestry(published, list(state.slots))
    x: list[float | None] = []
    y: list[float | None] = []
    for node in ancestors.values():
        if node.parent is not None:
            parent = published[node.parent]
            x += [parent.epoch, node.epoch, None]
            y += [100 * parent.score, 100 * node.score, None]
    dead = [node for node in published.values() if node.name not in ancestors]
    layers = (
        [PlotLayer(mark="line", data={"x": x, "y": y, "what": ["trained from"] * len(x)}, series="what")] if x else []
    )
    for what, some in (
        ("no descendant on the board", dead),
        ("ancestor of a slot on the board", [node for node in ancestors.values() if node.name not in state.slots]),
        ("on the board", [ancestors[slot] for slot in sorted(state.slots)]),
    ):
        if some:
            columns = {
                "x": [node.epoch for node in some],
                "y": [100 * node.score for node in some],
                "slot": [node.name for node in some],
                "what": [what] * len(some),
            }
            layers.append(PlotLayer(mark="points", data=columns, series="what"))
    return Figure(
        name=f"{name}-lineage",
        title=f"{name}: lineage",
        x=Axis(title="epochs of training"),
        y=Axis(title="score (%)"),
        layers=tuple(layers),
        caption="Each point is a published checkpoint; a line connects it with the checkpoint it was trained from.",
    )
