"""Communication schemes compared with hand calculations: bytes, seconds, latency, groups."""

import pytest

from distdl.core.errors import UserError
from distdl.perf.comm.collectives import (
    SCHEMES,
    Load,
    all_gather,
    all_gather_s,
    all_reduce_s,
    butterfly,
    one_to_all,
    parameter_server,
    ring,
    tree,
)
from distdl.perf.hardware import NetworkLink

FAST = NetworkLink(name="8 Gbit/s", bandwidth_gbit_per_s=8)  # 1 GB/s
SLOW = NetworkLink(name="with latency", bandwidth_gbit_per_s=8, latency_us=100)
GB = 1e9

BY_HAND = [
    # scheme, workers, seconds per GB at 1 GB/s, messages
    ("one-to-all", 8, 14.0, 14), ("tree", 8, 6.0, 6), ("tree", 5, 6.0, 6), ("butterfly", 8, 3.0, 3),
    ("butterfly", 1024, 10.0, 10), ("ring", 8, 1.75, 14), ("ring", 2, 1.0, 2), ("ps", 8, 16.0, 2),
]  # fmt: skip


@pytest.mark.parametrize(("scheme", "workers", "seconds", "messages"), BY_HAND)
def test_formulas_match_hand_calculations(scheme, workers, seconds, messages):
    assert all_reduce_s(scheme, GB, workers, FAST) == pytest.approx(seconds)
    assert all_reduce_s(scheme, 0, workers, SLOW) == pytest.approx(messages * 100e-6)


def test_servers_divide_the_load_until_the_workers_links_limit_it():
    assert all_reduce_s("ps", GB, 8, FAST, servers=4) == pytest.approx(4.0)
    assert all_reduce_s("ps", GB, 8, FAST, servers=16) == pytest.approx(2.0)


@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "ps"])
def test_one_worker_exchanges_nothing(scheme):
    assert all_reduce_s(scheme, GB, 1, SLOW) == 0


def test_ppp_scales_the_bandwidth_of_a_network():
    assert all_reduce_s("ring", GB, 2, FAST, ppp=0.5) == pytest.approx(2.0)


def test_links_between_groups_are_slower():
    halves = NetworkLink(name="two groups of four", bandwidth_gbit_per_s=8, group=4, between=0.5)
    assert all_reduce_s("tree", GB, 4, halves) == pytest.approx(4.0)
    assert all_reduce_s("tree", GB, 8, halves) == pytest.approx(4.0 + 2 * 2.0)  # one round of three crosses
    assert all_reduce_s("ring", GB, 8, halves) == pytest.approx(2 * 1.75)
    assert all_gather_s(GB, 8, halves) == pytest.approx(3 + 4 * 2)


IN_GROUPS = {
    one_to_all: Load(2 * 3, 2 * 4, 14), tree: Load(4, 2, 6), butterfly: Load(2, 1, 3), ring: Load(0, 1.75, 14),
    all_gather: Load(3, 4, 7), parameter_server: Load(8.0, 8.0, 2),
}  # fmt: skip


@pytest.mark.parametrize("scheme", IN_GROUPS)
def test_loads_of_eight_workers_in_two_groups(scheme):
    assert scheme(8, 4) == IN_GROUPS[scheme]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scheme": "rng"}, 'did you mean "ring"'), ({"workers": 0}, "at least 1"), ({"ppp": 1.5}, "between 0 and 1"),
        ({"servers": 0}, "at least 1"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(wrong, message):
    options = {"scheme": "ring", "size_bytes": GB, "workers": 2, "link": FAST} | wrong
    with pytest.raises(UserError, match=message):
        all_reduce_s(**options)
