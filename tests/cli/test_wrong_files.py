"""A file that is not what a verb reads: one line that names it, and exit code 2."""

from pathlib import Path

import pytest

from distdl.cli.__main__ import main

SPEEDS = "servers,workers,batch_size,steps_per_s\n1,1,64,9\n1,2,64,7\n"
PROFILE = 'extends = "digits"\nepochs = 3\n'
FILES: dict[str, bytes | None] = {
    "missing": None,
    "empty": b"",
    "binary": bytes(range(256)),
    "speeds": SPEEDS.encode(),
    "profile": PROFILE.encode(),
    "an object": b'{"a": {"b": 1}}',
    "a list": b"[1, [2]]",
    "a number": b"3",
    "cut off": b'{"data": {"points": [[1, 2',
}
FIT = "is not a fit written by distdl{why}: distdl fit speed MEASUREMENTS --json > FIT.json writes one"
VERBS: dict[str, tuple[list[str], str, list[str]]] = {
    "predict speed": (["predict", "speed", "FILE", "--servers", "1", "--workers", "1"], "fit.json", []),
    "fit speed": (["fit", "speed", "FILE"], "speeds.csv", ["speeds"]),
    "fit loss": (["fit", "loss", "FILE"], "metrics.csv", []),
    "fit loss of rows": (["fit", "loss", "FILE"], "metrics.jsonl", []),
    "explain": (["explain", "FILE"], "run", []),
    "report": (["report", "FILE"], "run", []),
    "study show": (["study", "show", "FILE"], "study", []),
    "export": (["export", "FILE", "out.safetensors"], "run", []),
    "paleo device": (["paleo", "softmax", "--device", "FILE"], "./device.toml", []),
    "paleo network": (["paleo", "softmax", "--device", "k80", "--network", "FILE"], "./network.toml", []),
    "train profile": (["train", "--profile", "FILE"], "./mine.toml", ["empty", "profile"]),
    "train labels": (["train", "--data.labels", "FILE"], "labels.npz", []),
    "train weights": (["train", "--model.weights", "FILE"], "./weights.pth", []),
    "train resume": (["train", "--resume", "FILE", "--out", "other"], "./run", []),
    "study profile": (["study", "run", "optimus", "--profile", "FILE"], "./mine.toml", ["empty", "profile"]),
}
"""By verb: its arguments, the name of the file, and the files that it can read."""
CASES = [(verb, file) for verb, (_, _, valid) in VERBS.items() for file in (*FILES, "folder") if file not in valid]


def message_of(capsys: pytest.CaptureFixture[str], verb: str, file: str) -> str:
    argv, name, _ = VERBS[verb]
    place = Path(name)
    if file == "folder":
        place.mkdir()
    elif (content := FILES[file]) is not None:
        place.write_bytes(content)
    assert main([name if each == "FILE" else each for each in argv]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(("verb", "file"), CASES, ids=[f"{verb}, {file}" for verb, file in CASES])
def test_a_wrong_file_is_one_line_that_names_it(
    verb: str, file: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    previous = {*tmp_path.iterdir(), tmp_path / Path(VERBS[verb][1])}
    message = message_of(capsys, verb, file)
    assert message.startswith("error: ") and message.count("\n") == 1 and message.strip().isprintable(), message
    assert Path(VERBS[verb][1]).name in message
    for text in ("JSONDecodeError", "Expecting", "KeyError", "TypeError", "NotADirectory", "Traceback"):
        assert text not in message, message
    assert {*tmp_path.iterdir()} <= previous


@pytest.mark.parametrize("file", ["speeds", "profile", "a list", "a number", "cut off"])
def test_what_is_no_fit_is_answered_with_the_command_that_writes_one(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message_of(capsys, "predict speed", file) == f"error: fit.json {FIT.format(why='')}\n"


def test_a_missing_key_of_a_fit_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert message_of(capsys, "predict speed", "an object").startswith(
        "error: fit.json is not a fit written by distdl ("
    )
