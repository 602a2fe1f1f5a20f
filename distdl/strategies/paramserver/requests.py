"""Requests of one worker to all servers: set parameters, and use a folder."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from distdl.strategies.paramserver.layout import Layout
from distdl.strategies.paramserver.partition import Assignment, Piece
from distdl.strategies.paramserver.protocol import GROUP_FIELDS, MessageType, Peer
from distdl.strategies.text import encode


def set_parameters(
    servers: Sequence[Peer], layout: Layout, assignment: Assignment, groups: Sequence[Mapping[str, Any]]
) -> None:
    """Send each server its parameters, and the settings of the optimizer for them.

    Args:
        groups: parameter group of each tensor of the assignment.
    """
    for server, pieces, values in zip(servers, assignment, layout.values, strict=True):
        rows = torch.tensor(_group_rows(pieces, groups), dtype=torch.float64).reshape(-1, GROUP_FIELDS)
        host_values = values.cpu()
        header = server.send_header(MessageType.SET, len(host_values), len(rows))
        server.finish(header, server.send(rows), server.send(host_values))
        server.receive_reply(MessageType.SET)


def _group_rows(pieces: Sequence[Piece], groups: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Rows [elements, peak_lr, weight_decay, penalised]; consecutive pieces with equal settings share a row."""
    rows: list[list[float]] = []
    for piece in pieces:
        group = groups[piece.tensor]
        settings = [group["peak_lr"], group["weight_decay"], float(group["penalised"])]
        if rows and rows[-1][1:] == settings:
            rows[-1][0] += piece.size
        else:
            rows.append([piece.size, *settings])
    return rows


def use_folder(servers: Sequence[Peer], message: MessageType, name: str, *numbers: float) -> bool:
    """Let all servers save to, load from or record in a folder. Returns whether all of them succeeded.

    Args:
        name: of the folder, from `folders`.
    """
    data = encode(name)
    for server in servers:
        server.finish(server.send_header(message, len(data), *numbers), server.send(data))
    failures = [server.receive_reply(message)[0] for server in servers]
    return not any(failures)
