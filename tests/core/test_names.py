"""Names of runs, trials and files: one component of a path, without a character that a shell or Slurm interprets."""

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from distdl.core.errors import UserError
from distdl.core.names import MAX_LENGTH, Name, as_name, check_name, is_name
from distdl.core.profiles import profiles, read_profile, validate

VALID = ["digits", "a", "A.b_c+d-e=f", "..x", "x..", "2026", "-x", "a" * MAX_LENGTH]
INVALID = [
    "", ".", "..", "...", "a/b", "/a", "../a", "a\\b", "a b", " a", "a\n", "\na", "a\r", "a\tb", "a\0b", "a\x1b[31m",
    "a\x7f",
    "a\u2028b", "$(id)", "`id`", "a;b", "a&b", "a|b", "a'b", 'a"b', "a*b", "a#b", "a%j", "a:b", "~", "a,b", "gr\u00fcn",
    "\u0661", "\uff0e\uff0e", "\ud800", "a" * (MAX_LENGTH + 1), "a\nb" * 10_000,
]  # fmt: skip
ANY_TEXT = st.text(st.characters() | st.sampled_from("./\\$`'\"\n\r\0\x1b -;&|*")) | st.text("ab.-=+_", max_size=100)


@pytest.mark.parametrize("name", VALID)
def test_a_valid_name_is_unchanged(name: str) -> None:
    assert check_name(name, "trial") == as_name(name) if name not in ("..x", "x..", "-x") else is_name(name)
    assert TypeAdapter(Name).validate_python(name) == name


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_name_is_one_line_that_states_what_is_allowed(name: str) -> None:
    with pytest.raises(UserError, match=r"^trial .* is not a valid name: letters A to Z, digits and . _ ") as error:
        check_name(name, "trial")
    assert str(error.value).isprintable() and len(str(error.value)) < 600
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


@given(ANY_TEXT)
def test_a_name_is_one_path_component_and_one_shell_word(text: str) -> None:
    if is_name(text):
        assert Path(text).parts == (text,) and text not in (".", "..")
        assert shlex.split(text) == [text] == [shlex.quote(text)] and text.isascii() and text.isprintable()
    assert is_name(as_name(text))


@given(st.text("abcXYZ019_.+=-", min_size=1, max_size=MAX_LENGTH))
def test_a_name_that_starts_and_ends_with_a_letter_is_unchanged(text: str) -> None:
    assert as_name(f"a{text[:-2]}z") == f"a{text[:-2]}z"


def test_other_characters_become_hyphens() -> None:
    assert as_name("../../etc/passwd") == "etc-passwd"
    assert as_name("a b:c") == "a-b-c"
    assert as_name("\x1b[31m") == "31m"
    assert as_name("...", "part") == "part"
    assert as_name("x" * 200) == "x" * MAX_LENGTH


def test_an_old_profile_with_another_name_gets_one_line() -> None:
    with pytest.raises(UserError, match=r'^old.toml: name: "my run" is not a valid name: letters A to Z') as error:
        validate({"name": "my run"}, where="old.toml")
    assert "\n" not in str(error.value)


def test_the_profiles_of_distdl_have_valid_names() -> None:
    for profile in profiles():
        assert is_name(profile) and is_name(read_profile(profile)[0].get("name", profile))
