"""Files given by the user: every reader reports an error in one line that names the file."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from distdl.core.errors import UserError
from distdl.core.files import read_rows
from distdl.core.profiles import read_profile, validate
from distdl.core.userfiles import read_json, read_toml
from distdl.perf import hardware
from distdl.perf.learning.read_losses import read_losses
from distdl.perf.speed import predict
from distdl.perf.speed.read_speeds import read_csv
from distdl.studies.runner import catalog, settings
from distdl.studies.runner.folder import StudyFolder


def study_folder(file: Path) -> object:
    file.parent.joinpath("study").mkdir()
    file.rename(file.parent / "study/study.toml")
    return StudyFolder.open(file.parent / "study")


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "profile": ("a.toml", lambda file: validate(read_profile(str(file))[0], where=str(file))),
    "study profile": ("a.toml", lambda file: settings.resolve(catalog.find("scaling"), profile=str(file))),
    "study.toml": ("study.toml", study_folder),
    "device": ("a.toml", lambda file: hardware.device(str(file))),
    "network": ("a.toml", lambda file: hardware.network(str(file))),
    "speeds": ("a.csv", read_csv),
    "losses": ("a.csv", read_losses),
    "metrics": ("a.jsonl", read_losses),
    "fit": ("a.json", predict.load),
}
CONTENTS: dict[str, bytes] = {
    "nothing": b"",
    "zero bytes": b"a = 1\n" + bytes(100),
    "UTF-16": "a = 1\nstep,loss\n1,2\n".encode("utf-16"),
    "not UTF-8": b"a = '\xe9'\nstep,loss\xe9\n",
    "nested brackets": b"a = " + b"[" * 5000,
    "nested objects": b'{"a":' * 100_000,
    "nested keys": b".".join([b"a"] * 5000) + b" = 1",
    "a huge key": b"a" * 200_000 + b" = 1",
    "a huge number": b"epochs = " + b"9" * 10_000,
    "a huge cell": b"step,loss,servers\n" + b"x" * 1_000_000 + b",1,2\n",
    "duplicate keys": b"a = 1\na = 2\n",
    "duplicate columns": b"step,step,loss\n1,2,3\n",
    "ragged rows": b"step,loss\n1,2,3\n",
    "a quote without end": b'step,loss\n"1,2\n3,4\n',
    "a date": b"epochs = 1979-05-27\n",
    "a list of sections": b"[[data]]\nname = 'x'\n",
    "a section for a value": b"[epochs]\nx = 1\n",
    "control characters": b"\x1b[31m = 1\n",
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", CONTENTS)
def test_an_invalid_file_is_a_short_one_line_error_that_names_it(content: str, reader: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    (tmp_path / name).write_bytes(CONTENTS[content])
    if reader == "profile" and content == "nothing":
        assert read(tmp_path / name)  # every field has a default
        return
    if reader == "study profile" and content in ("nothing", "a list of sections"):
        assert read(tmp_path / name)  # valid as a profile; [[data]] makes it a training of the study
        return
    with pytest.raises(UserError) as error:
        read(tmp_path / name)
    message = str(error.value)
    assert name in message or "study.toml" in message, message
    assert "\n" not in message and len(message) < 1000, message[:2000]


@pytest.mark.parametrize("reader", READERS)
def test_a_folder_or_pipe_is_refused_without_waiting(reader: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    if reader != "study.toml":
        with pytest.raises(UserError, match=name):
            read(tmp_path / name)
    for kind, make in (("a folder", os.mkdir), ("a pipe", os.mkfifo)):
        folder = tmp_path / kind
        folder.mkdir()
        make(folder / name)
        if (reader, kind) == ("losses", "a folder") or (reader, kind) == ("metrics", "a folder"):
            continue  # a run folder
        with pytest.raises(UserError, match=kind):
            read(folder / name)


@pytest.mark.parametrize("reader", ["speeds", "losses"])
def test_a_byte_order_mark_is_not_part_of_a_name(reader: str, tmp_path: Path) -> None:
    columns = {"speeds": "servers,workers,batch_size,step_s\n1,1,1,1\n", "losses": "step,loss\n1,2\n"}[reader]
    (tmp_path / "a.csv").write_text("\ufeff" + columns, encoding="utf-8")
    assert READERS[reader][1](tmp_path / "a.csv")


def test_the_error_for_an_empty_fit_states_that_the_fit_was_refused(tmp_path: Path) -> None:
    (tmp_path / "speed.json").touch()
    with pytest.raises(UserError, match=r"speed.json is empty: the fit was refused"):
        predict.load(tmp_path / "speed.json")


@pytest.mark.parametrize("number", ["0x" + "f" * 100_000, "0b" + "1" * 9000, "-0o7"[1:] + "7" * 3000])
def test_an_integer_that_python_cannot_print_is_refused(number: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(f"a = [1, {{b = {number}}}]\n")
    with pytest.raises(UserError, match=r"a\.toml is not TOML: ValueError: an integer has more than 8,192 bits"):
        read_toml(tmp_path / "a.toml")


def test_a_large_toml_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    with (tmp_path / "a.toml").open("wb") as sink:
        sink.truncate(2**24 + 1)
    with pytest.raises(UserError, match=r"a\.toml has 16,777,217 bytes: it may have at most 16,777,216"):
        read_toml(tmp_path / "a.toml")


JSON = {
    "not JSON": ("{", "JSONDecodeError"),
    "a list": ("[1]", "not a JSON object"),
    "a key twice": ('{"a": {"b": 1, "b": 2}}', 'key "b" occurs twice'),
    "deep": ('{"a":' * 100_000, "RecursionError"),
    "a huge number": ('{"a": ' + "9" * 5000 + "}", "ValueError"),
}


@pytest.mark.parametrize(("content", "message"), JSON.values(), ids=JSON)
def test_a_file_that_is_no_json_object_is_a_one_line_error(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=r"a\.json is not a fit: ") as error:
        read_json(tmp_path / "a.json", "a fit")
    assert message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_json_file_without_a_kind_is_called_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(UserError, match=r"a\.json is not JSON: not a JSON object"):
        read_json(tmp_path / "a.json")


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    """The file takes no space on the disk, but a line of it would take all memory."""
    file = tmp_path / "metrics.jsonl"
    with file.open("wb") as sink:
        sink.truncate(2**40)
    with pytest.raises(UserError, match="it has a line of more than 16,777,216 bytes"):
        list(read_rows(file))
