"""An invalid value for any field of `Config`, in a profile or on the command line, is one line that names it."""

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from distdl.cli.recipe import from_command_line
from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.profiles import read_profile, validate
from distdl.core.validation import check
from invalid_values import as_arguments, fields, invalid, out_of_range

FIELDS = dict(fields(Config))


def table(name: str, value: Any) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def test_every_field_has_invalid_values() -> None:
    values = {name: list(invalid(kind)) for name, kind in FIELDS.items()}
    assert len(FIELDS) > 100 and all(values.values())
    assert sum(map(len, values.values())) > 1300


def check_message(message: str, name: str) -> None:
    assert name in message.replace("-", "_") and message.isprintable(), message
    assert "nput should" not in message and " has no effect" not in message, message


@pytest.mark.parametrize("name", FIELDS)
def test_an_invalid_value_in_a_profile_names_the_field(name: str) -> None:
    for value in invalid(FIELDS[name]):
        Path("wrong.toml").write_bytes(tomli_w.dumps(table(name, value)).encode())
        with pytest.raises(UserError) as error:
            validate(read_profile("wrong.toml")[0], where="wrong.toml")
        check_message(str(error.value), name)


@pytest.mark.parametrize("name", FIELDS)
def test_an_invalid_text_names_the_field(name: str) -> None:
    """The validation receives text from a command line."""
    for value in out_of_range(FIELDS[name]):
        if (texts := as_arguments(value)) is not None:
            with pytest.raises(UserError) as error:
                check(Config, table(name, texts if isinstance(value, list) else texts[0]))
            check_message(str(error.value), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, kind in FIELDS.items() if kind is not bool])
def test_an_invalid_value_on_the_command_line_names_the_field(name: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    for value in out_of_range(FIELDS[name]):
        if (texts := as_arguments(value)) is not None:
            argv = [f"{flag}={texts[0]}"] if len(texts) == 1 else [flag, *texts]
            with pytest.raises(UserError) as error:
                from_command_line(argv, strategy="ps")
            check_message(str(error.value), name)
