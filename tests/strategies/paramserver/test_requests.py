"""Settings of the optimizer and names of folders that a worker sends to the servers."""

import pytest

from distdl.strategies.paramserver.partition import Piece
from distdl.strategies.paramserver.protocol import MessageType
from distdl.strategies.paramserver.requests import _group_rows, use_folder


def group(lr: float = 0.1, weight_decay: float = 0.01, penalised: bool = True) -> dict[str, object]:
    return {"peak_lr": lr, "weight_decay": weight_decay, "penalised": penalised}


def rows(*groups: dict[str, object]) -> list[list[float]]:
    return _group_rows([Piece(tensor=index, start=0, stop=10 + index) for index in range(len(groups))], groups)


def test_consecutive_tensors_with_equal_settings_share_a_row() -> None:
    assert rows(group(), group(), group(lr=0.2)) == [[21, 0.1, 0.01, 1], [12, 0.2, 0.01, 1]]
    assert rows(group(), group(lr=0.2), group()) == [[10, 0.1, 0.01, 1], [11, 0.2, 0.01, 1], [12, 0.1, 0.01, 1]]


def test_weight_decay_and_whether_it_applies_are_sent_separately() -> None:
    no_decay = {"weight_decay": 0.0}
    assert rows(group(**no_decay), group(**no_decay, penalised=False)) == [[10, 0.1, 0, 1], [11, 0.1, 0, 0]]


class Answering:
    """A server whose reply to each message is a number: 1 if it failed."""

    def __init__(self, failed: int) -> None:
        self.failed = failed

    def send_header(self, *_: object) -> None: ...

    def send(self, *_: object) -> None: ...

    def finish(self, *_: object) -> None: ...

    def receive_reply(self, _: MessageType) -> list[float]:
        return [self.failed]


@pytest.mark.parametrize(("failed", "all_succeed"), [((0, 0), True), ((0, 1), False), ((1, 0), False), ((1, 1), False)])
def test_a_folder_was_used_if_no_server_failed(failed: tuple[int, ...], all_succeed: bool) -> None:
    servers = [Answering(each) for each in failed]
    assert use_folder(servers, MessageType.SAVE, "step-1") is all_succeed
