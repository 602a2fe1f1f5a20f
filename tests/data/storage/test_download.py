"""Download of files with known checksums."""

from pathlib import Path

import pytest

from distdl.core.config import DataConfig
from distdl.core.errors import UserError
from distdl.data.sets.load import load
from distdl.data.storage import download as places


def test_a_failed_download_names_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("distdl.data.sets.load.download", unreachable)
    with pytest.raises(UserError, match=r"no network.*download cifar-10-binary\.tar\.gz from https://www\.cs\.toronto"):
        load(DataConfig(name="cifar10", root=tmp_path))
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "cache"])


def test_a_download_is_checked_and_unpacked(tmp_path: Path) -> None:
    # A local server: a real download, except for the host's name.
    import functools
    import hashlib
    import http.server
    import tarfile
    import threading

    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / "set.tar.gz", "w:gz") as tar:
        for name in ("fine_label_names.txt", "test.bin", "train.bin"):
            (tmp_path / name).write_bytes(name.encode() * 1000)
            tar.add(tmp_path / name, f"cifar-100-binary/{name}")
    digest = hashlib.md5((served / "set.tar.gz").read_bytes(), usedforsecurity=False).hexdigest()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/set.tar.gz"
        good = places.build(tmp_path / "good", lambda scratch: places.download([(url, digest)], scratch))
        assert sorted(file.name for file in good.iterdir()) == ["fine_label_names.txt", "test.bin", "train.bin"]
        assert (good / "test.bin").read_bytes() == b"test.bin" * 1000
        with pytest.raises((OSError, RuntimeError)):
            places.build(tmp_path / "bad", lambda scratch: places.download([(url, "0" * 32)], scratch))
        server.shutdown()
    assert not (tmp_path / "bad").exists()
