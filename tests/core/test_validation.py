"""Values that are invalid in every file and command line."""

from pathlib import Path

import pytest
import tomli_w

from distdl.cli.recipe import from_command_line
from distdl.core.errors import UserError
from distdl.core.validation import check
from distdl.studies.runner.catalog import find
from distdl.studies.runner.settings import resolve


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ({"out": "a\0b"}, "out"),
        ({"name": "a\0b"}, "name"),
        ({"resume": "\0"}, "resume"),
        ({"data": {"root": "a\0b"}}, "data.root"),
        ({"data": {"name": "a\0b"}}, "data.name"),
        ({"data": {"labels": "a\0b"}}, "data.labels"),
        ({"model": {"weights": "a\0b"}}, "model.weights"),
        ({"model": {"freeze": ["a", "\0"]}}, "model.freeze"),
        ({"deepspeed": {"config": "a\0b"}}, "deepspeed.config"),
        ({"ps": {"compute": "replay:a\0b"}}, "ps.compute"),
    ],
)
def test_no_text_of_a_profile_contains_a_zero_byte(tmp_path, table, name):
    file = tmp_path / "mine.toml"
    file.write_text(tomli_w.dumps({"extends": "digits"} | table))
    with pytest.raises(UserError, match=rf"^profile \S+: {name}: '.*\\x00.*' contains a zero byte$"):
        from_command_line(["--profile", str(file)], strategy="single")


def test_a_zero_byte_in_a_name_of_a_setting_is_an_error():
    with pytest.raises(UserError, match=r"^options: 'a\\x00b' contains a zero byte$"):
        check(dict[str, dict[str, int]], {"a\0b": {"c": 1}}, "options")
    with pytest.raises(UserError, match=r"^options.a: '\\x00' contains a zero byte$"):
        check(dict[str, dict[str, int]], {"a": {"\0": 1}}, "options")


def test_other_control_characters_in_a_path_are_accepted(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(tomli_w.dumps({"extends": "digits", "out": "a\x01\nb"}))
    assert from_command_line(["--profile", str(file)], strategy="single").out == Path("a\x01\nb")


def test_a_zero_byte_in_an_argument_or_study_setting_is_an_error():
    with pytest.raises(UserError, match=r"^--out: 'a\\x00b' contains a zero byte$"):
        check(Path, "a\0b", "--out")
    with pytest.raises(UserError, match=r"^study scaling: profile: 'a\\x00b' contains a zero byte$"):
        resolve(find("scaling"), assignments=["profile=a\0b"])


def test_deeply_nested_lists_are_a_one_line_error():
    deep = "a"
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(UserError, match=r"^mean: "):
        check(tuple[float, ...], deep, "mean", strict=True)
