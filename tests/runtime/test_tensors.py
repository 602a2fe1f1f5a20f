"""Files of tensors: written values are read on the CPU, and other files are refused."""

import errno
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoint_folders import write_checkpoint
from distdl.core.errors import UserError
from distdl.core.manifest import MANIFEST, STATE, Progress
from distdl.runtime.tensors import load, network_state, read_tensors, write_tensors


def test_tensors_and_plain_values_are_read_as_written(tmp_path: Path) -> None:
    state = {"weights": torch.arange(4.0), "lr": [0.1, (0.9, 0.999)], "name": "é", "none": None, 3: {"deep": [True]}}
    write_tensors(tmp_path / "x.pt", state)
    again = read_tensors(tmp_path / "x.pt")
    assert torch.equal(again.pop("weights"), state.pop("weights"))
    assert again == state
    assert [type(value) for value in again["lr"]] == [float, tuple]


def test_the_state_is_copied_before_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training changes the weights during the write; parameters are stored without the autograd graph."""
    weight = torch.nn.Parameter(torch.zeros(3))
    view, saved = torch.zeros(1000)[:2], torch.save

    def changed(state: Any, sink: Any) -> None:
        with torch.no_grad():
            weight.fill_(1.0)
        saved(state, sink)

    monkeypatch.setattr(torch, "save", changed)
    write_tensors(tmp_path / "x.pt", {"a": {"b": [(weight,)]}, "view": view})
    again = read_tensors(tmp_path / "x.pt")
    assert again["a"]["b"][0][0].tolist() == [0, 0, 0] and not again["a"]["b"][0][0].requires_grad
    assert again["view"].untyped_storage().nbytes() == 8


def test_a_checkpoint_is_read_with_its_position(tmp_path: Path) -> None:
    write_tensors(tmp_path / "state", {"weights": torch.ones(2)})
    folder = write_checkpoint(tmp_path, 7, files={STATE: (tmp_path / "state").read_bytes()})
    state, progress = load(folder)
    assert state["weights"].tolist() == [1, 1]
    assert progress == Progress(step=7, samples=3, images=3)
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(UserError, match=r"manifest.json is damaged: progress is missing"):
        load(folder)
    (folder / STATE).unlink()
    with pytest.raises(UserError, match=f"^{folder / STATE} does not exist: every host must share the run"):
        load(folder)


class Evil:
    """An object whose unpickling would write a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("executed"),))


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    torch.save({"weights": Evil()}, tmp_path / "x.pt")
    with pytest.raises(UserError, match=rf"^{tmp_path}/x.pt is damaged, or has objects other than tensors"):
        read_tensors(tmp_path / "x.pt")
    assert not Path("executed").exists()


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04", b"x" * 1000])
def test_an_invalid_file_is_a_one_line_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_tensors(tmp_path / "x.pt")
    assert str(error.value).startswith(str(tmp_path / "x.pt")) and "\n" not in str(error.value)


@pytest.mark.parametrize("value", [[1], torch.ones(1), "text"])
def test_a_file_of_another_value_is_refused(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"x.pt is not a state that distdl wrote"):
        read_tensors(tmp_path / "x.pt")


def test_a_full_disk_is_reported_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's archive writer fails a second time when it closes, with a RuntimeError."""

    def fail(state: object, sink: object) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space left on device"):
        write_tensors(tmp_path / "x.pt", {})
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(RuntimeError("another")))
    with pytest.raises(RuntimeError, match="another"):
        write_tensors(tmp_path / "x.pt", {})
    assert list(tmp_path.iterdir()) == []


ONE, TWO = torch.ones(1), torch.full((1,), 2.0)


@pytest.mark.parametrize("ema", [{}, None, {"average": None}, {"updates": 3}, {"average": {"w": TWO}}])
def test_weights_and_average_of_a_state_are_read(tmp_path: Path, ema: Any) -> None:
    average = (ema or {}).get("average") or {}
    if ema and not average:  # an average without tensors is damage
        with pytest.raises(UserError, match="does not contain the network's tensors"):
            network_state({"model": {"w": ONE}, "ema": ema}, tmp_path)
    else:
        assert network_state({"model": {"w": ONE}, "ema": ema}, tmp_path) == ({"w": ONE}, average)
    assert network_state({"model": {"w": ONE}}, tmp_path) == ({"w": ONE}, {})


@pytest.mark.parametrize("state", [{}, {"model": None}, {"model": [1]}, {"model": {"w": 1}}, {"model": {}, "ema": [1]}])
def test_a_state_without_tensors_is_a_one_line_error(tmp_path: Path, state: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"^{tmp_path / STATE} is not the state of a training: it does not contain the"):
        network_state(state, tmp_path)


def test_a_compressed_file_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """torch.load would unpack it into memory; torch.save does not compress."""
    write_tensors(tmp_path / "x.pt", {"a": torch.zeros(2**20)})
    with zipfile.ZipFile(tmp_path / "x.pt") as stored, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as packed:
        for entry in stored.infolist():
            packed.writestr(entry.filename, stored.read(entry), zipfile.ZIP_DEFLATED)
    assert (tmp_path / "bomb.pt").stat().st_size < 20_000
    with pytest.raises(UserError, match=r"bomb\.pt unpacks to 4,19\d,\d+ bytes, more than it has"):
        read_tensors(tmp_path / "bomb.pt")


def test_tensors_that_repeat_their_elements_are_refused(tmp_path: Path) -> None:
    """A tensor of 4 TB takes four bytes in the file; copying it would end the process."""
    torch.save({"model": [{"w": torch.zeros(1).expand(10**6, 10**6)}]}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="has tensors of 3,999,999,999,996 bytes more than it stores"):
        read_tensors(tmp_path / "x.pt")
    torch.save({"mean": torch.zeros(3, 1, 1).expand(3, 224, 224)}, tmp_path / "y.pt")
    assert read_tensors(tmp_path / "y.pt")["mean"].shape == (3, 224, 224)
