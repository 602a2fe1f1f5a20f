"""Addresses on which a job listens, and ports that are open to everybody."""

import socket

import psutil
import pytest

from distdl.core.errors import UserError
from distdl.runtime import addresses
from distdl.runtime.addresses import is_open, is_own, listening_addresses, own_addresses, resolve


def test_ranks_on_one_host_use_the_loopback_address_whatever_its_name() -> None:
    assert listening_addresses("localhost", alone=True) == ["127.0.0.1"]
    assert listening_addresses("no-such-host.invalid", "eth7", alone=True) == ["127.0.0.1"]


def test_the_addresses_of_the_name_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "resolve", lambda host: ["10.1.2.3", "fd00::1"])
    assert listening_addresses("node01", alone=False) == ["10.1.2.3", "fd00::1"]


@pytest.mark.parametrize("alias", [["127.0.1.1"], ["127.0.0.1", "::1"]])
def test_a_name_for_the_loopback_address_is_extended_by_the_interfaces(
    monkeypatch: pytest.MonkeyPatch, alias: list[str]
) -> None:
    monkeypatch.setattr(addresses, "resolve", lambda host: alias)
    chosen = {"ib0": ["10.1.2.3"], "": ["10.9.9.9"]}
    monkeypatch.setattr(addresses, "own_addresses", chosen.__getitem__)
    assert listening_addresses("node01", "ib0", alone=False) == [*alias, "10.1.2.3"]
    assert listening_addresses("node01", alone=False) == [*alias, "10.9.9.9"]


def test_a_host_that_others_cannot_reach_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "own_addresses", lambda interface: [])
    with pytest.raises(UserError, match=r"^eth7 has no address that other hosts can reach$"):
        listening_addresses("localhost", "eth7", alone=False)
    with pytest.raises(UserError, match=r"^localhost has no address"):
        listening_addresses("localhost", alone=False)


def test_the_wildcard_address_is_never_used() -> None:
    for chosen in (own_addresses(), own_addresses("lo"), own_addresses("no-such-interface")):
        assert not {"0.0.0.0", "::", "127.0.0.1", "::1"} & set(chosen)
    assert own_addresses("lo") == own_addresses("no-such-interface") == []
    known = {row.address for rows in psutil.net_if_addrs().values() for row in rows}
    assert set(own_addresses()) <= known


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 300, "\ud800"])
def test_a_name_without_an_address_is_one_line(host: str) -> None:
    with pytest.raises(UserError, match="cannot be found"):
        resolve(host)


def test_this_machine_is_recognized() -> None:
    assert is_own("localhost") and is_own("127.0.0.1")
    assert not is_own("192.0.2.1")  # reserved for documentation


@pytest.mark.parametrize(("address", "expected"), [("127.0.0.1", False), ("0.0.0.0", True), ("::", True)])
def test_a_port_that_is_open_to_all_interfaces_is_found(address: str, expected: bool) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        port = listener.getsockname()[1]
        assert is_open(port) is expected
    assert not is_open(port)
