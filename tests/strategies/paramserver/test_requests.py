"""Settings of the optimizer that a worker sends to the servers."""

from distdl.strategies.paramserver.partition import Piece
from distdl.strategies.paramserver.requests import _group_rows


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
