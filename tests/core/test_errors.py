"""Parser errors as one line."""

import struct
import zipfile

import pytest

from distdl.core.errors import UserError, reading


@pytest.mark.parametrize(
    "error",
    [ValueError("odd\nvalue"), RecursionError(), zipfile.BadZipFile("bad CRC"), struct.error("unpack"), MemoryError()],
)
def test_any_error_of_a_parser_is_one_line_that_names_the_file(error: Exception) -> None:
    with pytest.raises(UserError, match=r"^photos\.tar cannot be read as a tar archive: ") as raised:
        with reading("photos.tar", "a tar archive"):
            raise error
    assert "\n" not in str(raised.value)
    assert type(error).__name__ in str(raised.value)


def test_a_user_error_passes_a_reading_block_unchanged() -> None:
    with pytest.raises(UserError, match=r"^unchanged$"), reading("file"):
        raise UserError("unchanged")
