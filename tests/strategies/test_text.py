"""Exchange of text between ranks: any bytes and lengths, without pickle."""

import os
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distdl.strategies.single import Single
from distdl.strategies.text import broadcast_text, decode, encode, gather_text
from thread_strategies import ddp_of


@given(st.binary().map(os.fsdecode).filter(lambda text: not text.endswith("\0")), st.integers(0, 5))
def test_any_file_name_is_decoded_with_padding(name: str, padding: int) -> None:
    data = encode(name)
    assert data.dtype == torch.uint8 and len(data) == len(os.fsencode(name))
    assert decode(torch.cat([data, torch.zeros(padding, dtype=torch.uint8)])) == name


@pytest.mark.parametrize("text", ["é one line", ""])
def test_a_single_rank_gets_its_own_text(single: Single, text: str) -> None:
    assert gather_text(single, text) == [text]
    assert broadcast_text(single, text) == text


@pytest.mark.world_size(3)
def test_all_ranks_receive_the_same_texts(in_ranks: Callable) -> None:
    texts = ["", "x" * 300 + "é", os.fsdecode(b"\xe9 b")]

    def exchange(rank: int) -> tuple[list[str], list[str]]:
        strategy = ddp_of(rank, 3)
        broadcasts = [broadcast_text(strategy, texts[rank], source) for source in range(3)]
        return gather_text(strategy, texts[rank]), broadcasts

    assert in_ranks(exchange) == [(texts, texts)] * 3
    assert in_ranks(lambda rank: gather_text(ddp_of(rank, 3), "")) == [[""] * 3] * 3
