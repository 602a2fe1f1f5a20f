"""Addresses of this machine: where a job's store listens, and which ports of it accept connections from everywhere."""

import ipaddress
import socket

from distdl.core.errors import UserError, reason

LOOPBACK = "127.0.0.1"


def own_addresses(interface: str = "") -> list[str]:
    """Return the addresses of this machine's interfaces, or of one, without loopback and link-local IPv6 addresses."""
    import psutil

    table = psutil.net_if_addrs()
    chosen = [table.get(interface, [])] if interface else list(table.values())
    texts = [row.address for rows in chosen for row in rows if row.family in (socket.AF_INET, socket.AF_INET6)]
    # A link-local address is written with its interface: fe80::1%eth0.
    return [text for text in texts if "%" not in text and not ipaddress.ip_address(text).is_loopback]


def listening_addresses(host: str, interface: str = "", *, alone: bool) -> list[str]:
    """Return the addresses on which the first host of a job listens.

    Args:
        host: its name, or one of its addresses.
        interface: network interface to use if the name is on the host itself only an alias of its loopback address,
            as on Debian; empty: all its interfaces.
        alone: whether all ranks are on this host: then only the loopback address is needed.
    Raises:
        UserError: if the name has no address, or the interface has none.
    """
    if alone:
        return [LOOPBACK]
    resolved = resolve(host)
    others = [] if not all(map(_is_loopback, resolved)) else own_addresses(interface)
    if all(map(_is_loopback, [*resolved, *others])):
        raise UserError(f"{interface or host} has no address that other hosts can reach")
    return [*resolved, *others]


def resolve(host: str) -> list[str]:
    """Return the addresses of a host name, each once.

    Raises:
        UserError: if there is none.
    """
    try:
        rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UserError(f'the address of host "{host}" cannot be found: {reason(error)}') from None
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


def is_own(host: str) -> bool:
    """Whether a host name or address is one of this machine."""
    addresses = own_addresses()
    return any(each in addresses or _is_loopback(each) for each in resolve(host))


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def is_open(port: int) -> bool:
    """Whether a program of this machine listens on a TCP port of all interfaces."""
    import psutil

    wildcard = ("0.0.0.0", "::")
    return any(
        row.status == psutil.CONN_LISTEN and row.laddr and row.laddr.port == port and row.laddr.ip in wildcard
        for row in psutil.net_connections("tcp")
    )
