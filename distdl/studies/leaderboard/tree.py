"""A board's lineage drawn as a tree: for the terminal as lines, for a page as a figure."""

from collections.abc import Sequence

from distdl.report.content import Axis, Figure, Layer, Table
from distdl.studies.leaderboard.event_log import Row, State
from distdl.studies.leaderboard.history import Node, ancestry, nodes

MOST_LINES = 40
"""Of a tree in the terminal; in a longer one slots that only handed on are counted, not listed."""


def table(name: str, rows: Sequence[Row], state: State) -> Table:
    """The slots on the board and those that led to them, one a line, children under their parents."""
    published = nodes(rows)
    kept = ancestry(published, list(state.slots))
    lines = []
    for text, node in outline(kept, set(state.slots), compress=len(kept) > MOST_LINES):
        if node is None:
            lines.append((text, None, None, "", "", ""))
            continue
        place = "on the board" if node.name in state.slots else ""
        lines.append((text, round(100 * node.score, 2), node.epoch, node.settings, node.process, place))
    dead = len(published) - len(kept)
    return Table(
        name=f"{name}-tree",
        title=f"{name}: lineage",
        columns=("slot", "score (%)", "epochs", "profile", "process", ""),
        rows=tuple(lines),
        note=f"{len(published)} slots were published; {dead} of them, which led to none on the board, are left out.",
    )


def outline(kept: dict[int, Node], board: set[int], *, compress: bool) -> list[tuple[str, Node | None]]:
    """Lines of a tree. A slot with one child hands on in the same column; only where it branches lines move right.

    Returns:
        The line's text and its slot; None for a line that stands for several slots left out.
    """
    children: dict[int | None, list[Node]] = {}
    for node in kept.values():
        children.setdefault(node.parent, []).append(node)
    lines: list[tuple[str, Node | None]] = []
    roots = children.get(None, [])
    # Depth first with a stack of our own: a chain is as deep as the run was long.
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


def figure(name: str, rows: Sequence[Row], state: State) -> Figure:
    """Score over the epochs behind the weights: lines from parent to child, the board's slots at their ends."""
    published = nodes(rows)
    kept = ancestry(published, list(state.slots))
    x: list[float | None] = []
    y: list[float | None] = []
    for node in kept.values():
        if node.parent is not None:
            parent = published[node.parent]
            x += [parent.epoch, node.epoch, None]
            y += [100 * parent.score, 100 * node.score, None]
    dead = [node for node in published.values() if node.name not in kept]
    layers = [Layer(mark="line", data={"x": x, "y": y, "what": ["came from"] * len(x)}, series="what")] if x else []
    for what, some in (
        ("died out", dead),
        ("led to the board", [node for node in kept.values() if node.name not in state.slots]),
        ("on the board", [kept[slot] for slot in sorted(state.slots)]),
    ):
        if some:
            columns = {
                "x": [node.epoch for node in some],
                "y": [100 * node.score for node in some],
                "slot": [node.name for node in some],
                "what": [what] * len(some),
            }
            layers.append(Layer(mark="points", data=columns, series="what"))
    return Figure(
        name=f"{name}-lineage",
        title=f"{name}: lineage",
        x=Axis(title="epochs behind the weights"),
        y=Axis(title="score (%)"),
        layers=tuple(layers),
        caption="Each point is a checkpoint that was published; lines go from the one that it was trained from.",
    )
