"""Host lists: comma-separated names, and Slurm's notation node[01-04,07]."""

import ipaddress
import itertools
import math
import re
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from distdl.core.errors import UserError
from distdl.core.text import printable

MAX_HOSTS = 2**16
"""Maximum number of hosts in a list (Slurm's limit for a bracket): node[1-99999999] must not fill the memory."""
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", re.ASCII)
_RANGE = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?", re.ASCII)
_ENTRY = re.compile(r"(?:[^][,]|\[[^][]*\])+")


def parse(text: str) -> tuple[str, ...]:
    """Host names of a user's list such as "node[01-04,07], login".

    Spaces around a name and empty entries are dropped.

    Raises:
        UserError: naming the entry, if it is not a host name or an IP address, or if a host is listed twice.
    """
    hosts = expand(text)
    for host in hosts:
        check_host(host)
    folded = [host.casefold() for host in hosts]
    for index, host in enumerate(hosts):
        if folded.index(host.casefold()) != index:
            raise UserError(f'host "{host}" is listed twice: ranks per host are given by --nproc')
    return tuple(hosts)


def count(text: str) -> int:
    """Number of hosts in a `HostList`."""
    return int(text) if is_number(text) else len(parse(text))


def is_number(text: str) -> bool:
    """Whether a `HostList` is a number of hosts to emulate, up to 999."""
    return re.fullmatch("[0-9]{1,3}", text) is not None


def expand(text: str) -> list[str]:
    """Entries of a host list with brackets expanded, in Slurm's order. Names are not checked.

    Raises:
        UserError: for brackets that do not match or are not ranges, and for more than `MAX_HOSTS` hosts.
    """
    if _ENTRY.sub("", text).strip(","):
        raise UserError(f'host list "{printable(text, 80)}": brackets do not match; write node[01-04,07]')
    hosts: list[str] = []
    for entry in map(str.strip, _ENTRY.findall(text)):
        if entry:
            hosts += _expand_entry(entry, MAX_HOSTS - len(hosts))
    return hosts


def is_loopback(host: str) -> bool:
    """Whether a name or address is a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.casefold().split(".")[0] == "localhost"


def _expand_entry(entry: str, most: int) -> list[str]:
    texts = re.split(r"\[[^]]*\]", entry)
    brackets = [[_bounds(part, entry) for part in inner.split(",")] for inner in re.findall(r"\[([^]]*)\]", entry)]
    if math.prod(sum(high - low + 1 for low, high, _ in ranges) for ranges in brackets) > most:
        raise UserError(f'host list "{printable(entry, 80)}" has more than {MAX_HOSTS:,} hosts')
    numbers = [
        [f"{number:0{width}d}" for low, high, width in ranges for number in range(low, high + 1)] for ranges in brackets
    ]
    return [
        "".join(itertools.chain.from_iterable(zip(texts, (*chosen, ""), strict=True)))
        for chosen in itertools.product(*numbers)
    ]


def _bounds(part: str, entry: str) -> tuple[int, int, int]:
    """Lowest and highest number of a range, and the width that numbers are padded to: that of the lowest."""
    match = _RANGE.fullmatch(part)
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise UserError(
            f'host list "{printable(entry, 80)}": "{printable(part, 80)}" is not a range; write node[01-04,07]'
        )
    return int(match[1]), int(match[2] or match[1]), len(match[1])


def check_host(host: str) -> str:
    """Return a host name or an IP address. It never begins with a hyphen, so that no program reads it as an option.

    Raises:
        UserError: it is neither.
    """
    if _NAME.fullmatch(host):
        return host
    address, percent, zone = host.partition("%")  # ipaddress accepts any characters in the zone of fe80::1%eth0
    try:
        ipaddress.ip_address(address)
        is_address = not percent or _NAME.fullmatch(zone) is not None
    except ValueError:
        is_address = False
    if not is_address:
        slots = re.fullmatch(r"[^:]+:\d+", host)
        hint = "give the ranks per host by --nproc" if slots else "write names or addresses with commas between them"
        raise UserError(f'"{printable(host, 80)}" is not a host name: {hint}')
    return host


def check_host_list(text: str) -> str:
    """Return a `HostList`.

    Raises:
        UserError: as `parse`.
    """
    if not text.isprintable():
        raise UserError(f'host list "{printable(text, 80)}" has a line break or control character')
    if not is_number(text):
        parse(text)
    return text


def _validated_list(text: str) -> str:
    try:
        return check_host_list(text)
    except UserError as error:
        raise PydanticCustomError("component", "{reason}", {"reason": str(error)}) from None


HostList = Annotated[str, AfterValidator(_validated_list)]
"""Type of a field with hosts: names as for `parse`, or the number of hosts to emulate; empty: this machine."""
