"""Foreign text on a terminal: control characters are escaped."""

import ast
import io
import re
import sys

import pytest

from distdl.core.text import csv_cell, name, print_line, printable
from repository import ROOT


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain [red] text", "plain [red] text"),
        ("日本 é e\u0301 😀", "日本 é e\u0301 😀"),
        ("a\x1b[31mb\x07\x00\x7f\x9b", r"a\x1b[31mb\x07\x00\x7f\x9b"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\u2028\u2029\u202e\u2066\u200b\ufeff", r"\u2028\u2029\u202e\u2066\u200b\ufeff"),
        ("caf\udce9", r"caf\xe9"),
        ("\ud800\U000e0001", r"\ud800\U000e0001"),
    ],
)
def test_control_characters_are_escaped(text: str, escaped: str) -> None:
    assert printable(text) == escaped
    printable(text).encode()


def test_no_character_of_unicode_ends_a_line_or_starts_an_escape() -> None:
    text = printable("".join(map(chr, range(0x110000))))
    assert len(text.splitlines()) == 1
    assert not set(text) & {*"\x1b\x9b\x07\x00\u2028\u202e\u2066\ud800"}
    text.encode()


def test_a_long_name_is_truncated() -> None:
    assert len(name("x" * 10_000)) == 200 and name("x" * 10_000).endswith("x...")
    assert len(name("\x1b" * 10_000)) < 1000


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("to_stderr", [False, True])
def test_a_line_is_printed_escaped_in_the_encoding_of_the_stream(
    encoding: str, to_stderr: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = io.BytesIO()
    monkeypatch.setattr(sys, "stderr" if to_stderr else "stdout", io.TextIOWrapper(sink, encoding=encoding))
    print_line("a\x1b[31m\nb \udce9é", to_stderr=to_stderr)
    assert sink.getvalue() == rb"a\x1b[31m\nb \xe9" + "é".encode(encoding, "backslashreplace") + b"\n"


@pytest.mark.parametrize(
    "text", ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("x")', "-", "+-1"]
)
def test_a_formula_is_text_in_a_spreadsheet(text: str) -> None:
    assert csv_cell(text) == "'" + text


@pytest.mark.parametrize("value", ["", "a=1", "-1", "-1.5e-3", "+7", "\u2013", 1, -1.5, None, True])
def test_numbers_and_other_texts_are_cells_unchanged(value: object) -> None:
    assert csv_cell(value) == value


PRINTS = {
    "core/text.py": "print_line",
    "cli/__main__.py": "names of commands",
    "cli/help.py": "help of functions and docstrings",
    "cli/study.py": "names of settings",
    "cli/submit.py": "the batch script, whose names were checked",
    "studies/runner/trial_process.py": "usage",
    "strategies/deepspeed.py": "a name of DeepSpeed and the user's cache folder",
    "strategies/paramserver/server.py": "addresses of peers, and errors of files of the run folder",
    "launchers/ledger.py": "the path of the run folder, which the launcher has checked",
    "launchers/remote.py": "usage",
}
"""Modules with calls of print, and what they print; JSON, which is ASCII, may be printed anywhere."""


def test_foreign_text_is_printed_through_one_function() -> None:
    package = ROOT / "distdl"
    printing = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        for call in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("print", "sys.stdout.write", "sys.stderr.write")
        if not (call.args and re.match(r"(json|json_\w+)\.dumps\(|_as_json\(|text$", ast.unparse(call.args[0])))
    }
    assert printing - PRINTS.keys() == set(), "use distdl.core.text.print_line or PlainConsole"
    assert PRINTS.keys() - printing == set(), "no longer needed"
