"""Host lists: Slurm's client expands them to the same hosts, and errors name the invalid host name."""

import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from debian import needs
from distdl.core.errors import UserError
from distdl.core.hosts import MAX_HOSTS, HostList, count, expand, is_loopback, is_number, parse
from distdl.core.validation import check
from repository import ROOT

LETTERS = st.text("abcxyzABC", min_size=1, max_size=4)


@st.composite
def ranges(draw: st.DrawFn) -> str:
    """Text between brackets."""
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        low = draw(st.integers(0, 120))
        text = f"{low:0{draw(st.integers(1, 4))}d}"
        parts.append(f"{text}-{low + draw(st.integers(0, 12))}" if draw(st.booleans()) else text)
    return f"[{','.join(parts)}]"


@st.composite
def nodelists(draw: st.DrawFn) -> str:
    """Names with up to two brackets, the last at the end of the name, as Slurm 22.05 accepts."""
    names = [
        draw(LETTERS) + draw(st.sampled_from(["", draw(ranges()), f"{draw(ranges())}n{draw(ranges())}"]))
        for _ in range(draw(st.integers(1, 4)))
    ]
    return ",".join(names)


@pytest.fixture(scope="module")
def scontrol(tmp_path_factory: pytest.TempPathFactory):
    """Slurm's expansion of many lists at once."""
    needs("slurm-client", program="scontrol")
    configuration = tmp_path_factory.mktemp("slurm") / "slurm.conf"
    configuration.write_text("ClusterName=x\nSlurmctldHost=h0\nNodeName=h0\n", encoding="utf-8")

    def hostnames(nodelist: str) -> list[str]:
        command = ["scontrol", "show", "hostnames", nodelist]
        environment = {"SLURM_CONF": str(configuration), "PATH": "/usr/bin:/bin"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()

    return hostnames


@settings(max_examples=60, deadline=None)
@given(nodelists())
def test_slurm_expands_a_list_to_the_same_hosts(scontrol, nodelist: str) -> None:
    assert expand(nodelist) == scontrol(nodelist)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("node[01-03]", ["node01", "node02", "node03"]),
        ("node[01-02,05]-ib", ["node01-ib", "node02-ib", "node05-ib"]),
        ("node[01-02,05],x", ["node01", "node02", "node05", "x"]),
        ("r[1-2]n[3-4].cluster", ["r1n3.cluster", "r1n4.cluster", "r2n3.cluster", "r2n4.cluster"]),
        ("n[8-11]", ["n8", "n9", "n10", "n11"]),
        ("n[098-101]", ["n098", "n099", "n100", "n101"]),
        (" a , b,", ["a", "b"]),
        ("10.0.0.1,fe80::1", ["10.0.0.1", "fe80::1"]),
        ("fe80::1%eth0,fe80::1%ib0.8001", ["fe80::1%eth0", "fe80::1%ib0.8001"]),
        ("", []),
    ],
)
def test_lists_are_expanded(text: str, hosts: list[str]) -> None:
    assert parse(text) == tuple(hosts)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,a", '"a"'),
        ("node[1-3],node2", '"node2"'),
        ("Node1,node1", '"node1"'),
        ("a b", '"a b"'),
        ("a:4", "--nproc"),
        ("-oProxyCommand=touch x;false,h2", '"-oProxyCommand=touch x;false"'),
        ("a slots=9\nroot@evil,h2", r'"a slots=9\nroot@evil"'),
        ("a$(id)", '"a$(id)"'),
        ("user@host", '"user@host"'),
        ("fe80::1%$(id)", '"fe80::1%$(id)"'),
        ("fe80::1%-x", '"fe80::1%-x"'),
        ("fe80::1%", '"fe80::1%"'),
        ("10.0.0.1%a b", '"10.0.0.1%a b"'),
        ("a.", '"a."'),
        ("a_b", '"a_b"'),
        ("grün", '"grün"'),
        ("n٣", '"n٣"'),
        ("x" * 300, '"xxx'),
        ("node[01-04", "node[01-04"),
        ("node01-04]", "node01-04]"),
        ("node[[1-2]]", "node[[1-2]]"),
        ("node[]", '""'),
        ("node[a-c]", '"a-c"'),
        ("node[4-1]", '"4-1"'),
        ("node[1-]", '"1-"'),
        ("node[-oX]", '"-oX"'),
        ("node[1-99999999]", f"more than {MAX_HOSTS:,} hosts"),
        ("n[1-999]x[1-999]x[1-999]", f"more than {MAX_HOSTS:,} hosts"),
        ("n[1-40000],m[1-40000]", f"more than {MAX_HOSTS:,} hosts"),
    ],
)
def test_errors_name_the_invalid_host(text: str, names: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(text)
    assert names in str(refused.value)
    assert "\n" not in str(refused.value)


PARTS = [
    "a",
    "h1",
    "-",
    "-o",
    "$(id)",
    "`id`",
    "'",
    '"',
    ";",
    "&",
    "\n",
    "\r",
    "\t",
    "\x1b",
    "%",
    "::1",
    ".",
    "_",
    " ",
    "=",
]


@given(st.text(st.characters(codec="utf-8"), max_size=40) | st.lists(st.sampled_from(PARTS), max_size=6).map("".join))
def test_any_text_gives_host_names_or_a_one_line_error(text: str) -> None:
    try:
        hosts = parse(text)
    except UserError as error:
        assert str(error).isprintable()
    else:
        assert all(re.fullmatch(r"[A-Za-z0-9:][A-Za-z0-9.:%-]*", host) for host in hosts)
        assert len({host.casefold() for host in hosts}) == len(hosts)


@pytest.mark.parametrize(("text", "number"), [("", 0), ("3", 3), ("999", 999), ("a", 1), ("a,b", 2), ("n[1-3],x", 4)])
def test_a_list_in_settings_is_a_number_or_names(text: str, number: int) -> None:
    assert TypeAdapter(HostList).validate_python(text) == text
    assert count(text) == number
    assert is_number(text) == (text.isdigit())


@pytest.mark.parametrize("text", ["-1", "a b", "$(id)", "a,a", "a;b", "\u0663,a", "3\n", "h1,-oX"])
def test_an_invalid_list_in_settings_is_one_line(text: str) -> None:
    with pytest.raises(UserError) as refused:
        check(HostList, text, "hosts")
    assert str(refused.value).startswith("hosts: ") and str(refused.value).isprintable()


def test_loopback_names_are_recognized() -> None:
    assert all(map(is_loopback, ["localhost", "LOCALHOST", "localhost.localdomain", "127.0.0.1", "127.1.2.3", "::1"]))
    assert not any(map(is_loopback, ["node1", "10.0.0.1", "localhost2"]))


def test_the_hostfile_in_launch_is_a_host_list() -> None:
    file = ROOT / "launch" / "hostfile"
    lines = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert len(parse(",".join(lines))) == 2
