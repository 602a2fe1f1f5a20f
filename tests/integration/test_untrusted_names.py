"""Names and hosts in files of others: each command refuses them in one line, and writes and runs nothing."""

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from distdl.cli.__main__ import main
from jobs import QUIET

NAMES = {
    "a line of a script": "x\ntouch pwned\n#",
    "a path": "../../outside",
    "an absolute path": "/tmp/outside",
    "a parent": "..",
    "a command": "$(touch pwned)",
    "a quote": "x'; touch pwned; '",
    "a blank": "my run",
    "an escape": "\x1b]0;OWNED\x07",
    "a zero byte": "a\0b",
    "nothing": "",
    "too long": "x" * 81,
}
COMMANDS = {
    "train": ("train", "--epochs", "1", *QUIET, "--profile", "evil.toml"),
    "submit": ("submit", "--dry-run", "--profile", "evil.toml"),
    "launch": ("launch", "--dry-run", "--", "--profile", "evil.toml"),
    "verify-resume": ("verify-resume", "--profile", "evil.toml"),
    "a run's configuration": ("train", "--epochs", "1", *QUIET, "--profile", "sent/config.toml"),
}


def profile(**fields: Any) -> None:
    for file in (Path("evil.toml"), Path("sent/config.toml")):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(tomli_w.dumps({"extends": "digits", **fields}).encode())


def refused(argv: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused without a change of the test's folder or its parent. Returns the error."""
    places = (Path(), Path(".."))
    previous = [sorted(place.rglob("*")) for place in places]
    assert main(list(argv)) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("error: ") and err.endswith("\n") and err[:-1].isprintable()
    assert [sorted(place.rglob("*")) for place in places] == previous
    return err


@pytest.fixture(autouse=True)
def inner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", NAMES)
def test_the_name_of_a_run(kind: str, command: str, capfd: pytest.CaptureFixture[str]) -> None:
    profile(name=NAMES[kind])
    err = refused(COMMANDS[command], capfd)
    assert "zero byte" in err if "\0" in NAMES[kind] else "is not a valid name: letters A to Z, digits and" in err


@pytest.mark.parametrize("name", ["-x", "--out=elsewhere", "a.b_c+d-e=f", "...x"])
def test_a_name_that_looks_like_an_option_is_none(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--dry-run", "--", f"--name={name}"]) == 0
    script = capfd.readouterr().out
    assert f"--job-name={name} " in script.replace("\n", " ")
    assert f"--name={name}" in script or f"--name {name}" in script
    assert "elsewhere/" not in script


@pytest.mark.parametrize("out", ["a\nb", "a\n#SBATCH --wrap=id", "a\x1b[31m", "a\\b"])
def test_the_folder_of_a_job(out: str, capfd: pytest.CaptureFixture[str]) -> None:
    refused(("submit", "--dry-run", "--out", out), capfd)


@pytest.mark.parametrize("fields", [{"model": {"freeze": ["--out=x"]}}, {"optim": {"lr_factors": [["-x", 0.1]]}}])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_pattern_that_would_be_an_option(fields: Any, command: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A launcher passes the items of a list as arguments of their own."""
    profile(**fields)
    assert "begins with a hyphen" in refused(COMMANDS[command], capfd)


HOSTS = [
    "-oProxyCommand=touch x;false,h2",
    "a slots=9\nroot@evil,h2",
    "h1,$(id)",
    "fe80::1%$(id),h2",
    "h1;id,h2",
    "h1,h2:2",
]


@pytest.mark.parametrize("hosts", HOSTS)
@pytest.mark.parametrize("place", ["option", "setting", "profile of the study"])
def test_the_hosts_of_a_job(place: str, hosts: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("study.toml").write_bytes(tomli_w.dumps({"hosts": hosts}).encode())
    argv = {
        "option": ("launch", f"--hosts={hosts}", "--dry-run", "--", "--profile", "digits"),
        "setting": ("study", "run", "scaling", "--quick", f"--hosts={hosts}"),
        "profile of the study": ("study", "run", "scaling", "--quick", "--profile", "./study.toml"),
    }
    refused(argv[place], capfd)
