"""Arrays of a .npz file: read, or refused in one line."""

from pathlib import Path

import numpy as np
import pytest

from distdl.core.errors import UserError
from distdl.data.storage.npz import read_arrays


def test_all_arrays_are_read_by_name(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, label=np.arange(3), offset=np.zeros((2, 2)))
    arrays = read_arrays(file, "a table")
    assert arrays.keys() == {"label", "offset"}
    assert arrays["label"].tolist() == [0, 1, 2] and arrays["offset"].shape == (2, 2)


def test_the_limit_of_the_unpacked_size_is_inclusive(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez_compressed(file, label=np.zeros(1000, np.uint8))
    size = 1000 + 128  # a header of 128 bytes
    assert read_arrays(file, "a table", size)["label"].shape == (1000,)
    with pytest.raises(UserError, match=r"unpacks to 1,128 bytes, more than 1,127: it cannot be a table"):
        read_arrays(file, "a table", size - 1)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"not a zip" * 9])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npz cannot be read as a table: "):
        read_arrays(tmp_path / "a.npz", "a table")


def test_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", label=np.array([{}], object))
    with pytest.raises(UserError, match=r"a\.npz cannot be read as a table: "):
        read_arrays(tmp_path / "a.npz", "a table")
