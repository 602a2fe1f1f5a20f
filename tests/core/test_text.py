"""Foreign text on a terminal: control characters are escaped."""

import pytest

from distdl.core.text import name, printable


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
