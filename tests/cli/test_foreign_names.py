"""Foreign text in every name, through every command: the terminal gets neither control characters nor invalid UTF-8.

The names are those of files and folders, of profiles, classes, runs, studies, figures, hosts and components. A command
ends with 0, 1 or 2, in particular `report`, whose drawing library aborts the process at a control character.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from distdl.cli.__main__ import VERBS
from distdl.core.files import as_json
from fuzz.targets import odd_values
from run_folders import write_run
from shard_files import png

ESCAPES = "\x1b]0;T\x07\x1b[31m\x9b2J\x7f"
NAME = f"={ESCAPES}[bold]x[link=y]:smile:\u202e\u2028\udce9\nz"
"""A file name: OSC and CSI sequences, rich's markup, a direction mark, a byte that is not UTF-8, and line breaks."""
LONG = "=" + "\x1b[8m" * 2500
"""10 kB, as a value."""
TEXT = f"={ESCAPES}[bold]x[/x]\u202e\u2028\ud800\uffff\0\n</text><script>alert(1)</script>"
"""A text in a JSON file."""

# NAME stands for the name; the others are made by `places`.
COMMANDS: dict[str, list[str]] = {
    "train": [
        "--profile NAME",
        "--profile ./NAME.toml",
        "--profile digits --out NAME --max-steps 1 --data.limit 64 --progress plain",
        "--profile digits --name NAME --out named --max-steps 1 --data.limit 64 --progress plain",
        "--profile RUN/config.toml --resume auto --out RUN --progress plain",
        "--data.name ./NAME --max-steps 1",
        "--model.name NAME",
        "--optim.name NAME",
        "--trackers NAME",
        "--options NAME=1",
        "--optim.lr NAME",
        "--NAME 3",
        "--model.weights ./NAME.pth",
        "--data.labels NAME.npz",
    ],
    "flops": ["NAME", "./NAME.toml", "resnet18 --input NAME"],
    "paleo": [
        "NAME --device k80",
        "softmax --device NAME",
        "softmax --device ./NAME.toml",
        "softmax --device k80 --network NAME",
    ],
    "calibrate": ["x.toml --rounds NAME", "/dev/null/NAME"],
    "profile": ["NAME", "resnet18 --device NAME"],
    "fit speed": ["NAME", "SPEEDS", "SPEEDS --form NAME"],
    "fit loss": ["NAME", "RUN", "LOSSES"],
    "predict speed": ["NAME", "NAME --workers NAME"],
    "explain": ["NAME", "RUN", "RUN --json", "RUN --device NAME"],
    "launch": [
        "--dry-run --hosts NAME,b -- --profile digits",
        "--dry-run --interface NAME -- --profile digits",
        "--dry-run -- --profile digits --out NAME",
        "--dry-run -- --profile digits --name NAME",
        "--with NAME -- --profile digits",
    ],
    "hosts": ["--count NAME -- true"],
    "export": ["NAME out.safetensors", "RUN NAME", "RUN NAME.safetensors"],
    "submit": [
        "--dry-run --profile digits --out NAME",
        "--dry-run --profile digits --name NAME",
        "--sbatch NAME -- --out x",
    ],
    "slurm begin": [
        "-- --profile digits --resume auto --out NAME",
        "--queued NAME -- --profile digits --resume auto --out x",
    ],
    "slurm end": ["--code 1 --log NAME --state NAME -- --resume auto --out NAME"],
    "verify-resume": ["--kills NAME", "-- --profile NAME"],
    "probe network": ["--with NAME", "--hosts NAME"],
    "list": ["NAME", "models NAME"],
    "models list": ["NAME"],
    "data list": ["--root NAME"],
    "data describe": ["NAME", "./NAME", "SET"],
    "data verify": ["./NAME", "SET"],
    "study list": ["NAME"],
    "study run": [
        "NAME",
        "scaling --profile NAME",
        "scaling --set NAME=1",
        "scaling --workers NAME",
        "scaling --gpus NAME",
    ],
    "study show": ["NAME", "STUDY"],
    "report": ["NAME", "RUN NAME", "RUN", "RUN OTHER --out NAME.html", "STUDY"],
    "data pack": ["./NAME --out x --format shards", "SET --out NAME-packed --format shards"],
    "data export": ["./NAME --out x --format files", "SET --out NAME-files --format files"],
    "data bench": ["./NAME", "digits --run NAME"],
    "doctor": ["NAME"],
}
"""Arguments by verb."""
CASES = [(verb, arguments) for verb, rows in COMMANDS.items() for arguments in rows]
LONG_CASES = [(verb, arguments) for verb, arguments in CASES if "/NAME" not in arguments and "NAME" in arguments]
IN_ONE_PROCESS = """
import json, os, sys
from distdl.cli.__main__ import main
for number, argv in enumerate(json.loads(sys.stdin.read())):
    try:
        code = main(argv)
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        code = f"{type(error).__name__}: {ascii(str(error))[:300]}"
    print(f"==== {number} {code}", flush=True)
    print(f"==== {number} {code}", file=sys.stderr, flush=True)
"""


def test_the_table_has_arguments_for_every_verb() -> None:
    assert COMMANDS.keys() == VERBS.keys()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, a study, a data set and tables whose content is foreign text too."""
    folder = tmp_path_factory.mktemp("foreign")
    run = write_run(folder / f"run{NAME}", rows=12, samples=2)
    _edit(run / "result.json", name=TEXT, strategy=TEXT, device=TEXT, status="completed")
    _edit(run / "environment.json", host=TEXT, platform=TEXT, gpus=[TEXT, TEXT], command=[TEXT, "--profile", TEXT])
    _edit(run / "environment.json", packages={TEXT: TEXT})
    config = {"name": TEXT.replace("\ud800", ""), "data": {"name": "digits"}, "model": {"name": LONG}}
    (run / "config.toml").write_text(tomli_w.dumps(config), encoding="utf-8")
    place = {"time_s": 1.0, "step": 12, "epoch": 1.0, "accuracy": 0.5, "loss": 1.0}
    with (run / "metrics.jsonl").open("a") as sink:
        sink.writelines(json.dumps(place | {"kind": kind, "message": TEXT}) + "\n" for kind in (TEXT, LONG, "warning"))
    shutil.copytree(run, folder / f"other{NAME}")
    study = odd_values.make_study(folder / f"study{NAME}").path
    trial = next((study / "trials").iterdir())
    _edit(trial / "trial.json", labels={TEXT: TEXT, "long": LONG}, reason=TEXT, host=TEXT)
    sections = json.loads((study / "findings.json").read_text())
    (study / "findings.json").write_bytes(as_json([_with_text(section) for section in sections]))
    for label in (f"a{NAME}", "b"):
        for number in range(6):
            file = folder / f"set{NAME}" / label / f"{number}{NAME}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(number))
    (folder / f"speeds{NAME}.csv").write_text(f"servers,workers,{'x' * 9000}\x1b[31m\n1,2,3\n")
    (folder / f"losses{NAME}.csv").write_text("step,loss\n1,\x1b[31m\n")
    return folder


def _edit(file: Path, **values: Any) -> None:
    file.write_bytes(as_json(json.loads(file.read_text()) | values))


def _with_text(value: Any) -> Any:
    """Findings with foreign text as each title, caption, name and cell."""
    if isinstance(value, dict):
        texts = {"title", "text", "caption", "name", "note"}
        changed = {
            key: TEXT if key in texts and isinstance(each, str) else _with_text(each) for key, each in value.items()
        }
        if value.get("kind") == "table":
            changed["columns"] = [f"{TEXT}{number}" for number in range(len(value["columns"]))]
        return changed
    return [_with_text(each) for each in value] if isinstance(value, list) else value


def argv(verb: str, arguments: str, name: str) -> list[str]:
    paths = {"RUN": f"run{NAME}", "OTHER": f"other{NAME}", "STUDY": f"study{NAME}", "SET": f"./set{NAME}"}
    paths |= {"SPEEDS": f"speeds{NAME}.csv", "LOSSES": f"losses{NAME}.csv"}
    rest = [paths.get(word) or word.replace("RUN/", f"run{NAME}/").replace("NAME", name) for word in arguments.split()]
    return [*verb.split(), *rest]


def outputs(cases: list[tuple[str, str]], name: str, folder: Path) -> list[tuple[str, bytes]]:
    """Exit code and output of each command. All run in one process."""
    environ = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "DISTDL_DATA": str(folder / "data")}
    code = "import sys; sys.path[:] = sys.path[1:]\n" + IN_ONE_PROCESS
    calls = json.dumps([argv(*case, name) for case in cases]).encode()
    done = subprocess.run([sys.executable, "-c", code], input=calls, capture_output=True, cwd=folder, env=environ)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    streams = [list(_parts(stream)) for stream in (done.stdout, done.stderr)]
    return [(code, out + err) for (code, out), (_, err) in zip(*streams, strict=True)]


def _parts(stream: bytes) -> Iterator[tuple[str, bytes]]:
    text = b""
    for line in stream.splitlines(keepends=True):
        if line.startswith(b"==== "):
            yield line.decode().split(maxsplit=2)[2].strip(), text
            text = b""
        else:
            text += line


def problems(results: list[tuple[str, bytes]], cases: list[tuple[str, str]]) -> list[str]:
    """A sentence per command that ended in another way, or printed something else than text."""
    problem_list = []
    for (code, output), (verb, arguments) in zip(results, cases, strict=True):
        try:
            text = output.decode()
        except UnicodeDecodeError as error:
            problem_list.append(f"{verb} {arguments}: {error}")
            continue
        if code not in ("0", "1", "2", "3"):  # 3: slurm end, no further slice
            problem_list.append(f"{verb} {arguments}: {code}")
        if odd := {char for char in text if not char.isprintable() and char not in "\n\r"}:
            problem_list.append(f"{verb} {arguments}: {odd} in {text[-300:]!r}")
        if "Traceback" in text:
            problem_list.append(f"{verb} {arguments}: {text[-300:]!r}")
        if code == "2" and not (text.startswith(("error: ", "warning: ")) or "\nerror: " in text):
            problem_list.append(f"{verb} {arguments}: no error line in {text[-300:]!r}")
    return problem_list


def test_a_name_of_a_file_is_printed_escaped(places: Path) -> None:
    assert problems(outputs(CASES, NAME, places), CASES) == []


def test_a_name_of_10_kb_with_zero_bytes_is_printed_escaped_and_cut(places: Path) -> None:
    for name in (LONG, "\0"):
        results = outputs(LONG_CASES, name, places)
        assert problems(results, LONG_CASES) == []


def test_pages_and_their_files_have_no_control_characters(places: Path) -> None:
    """The pages that the commands above have written."""
    pages = [*places.rglob("*.html")]
    assert len(pages) >= 3
    for file in [*pages, *places.rglob("*.svg"), *places.rglob("report/*.csv")]:
        text = file.read_bytes().decode()
        assert {char for char in text if not char.isprintable()} <= {"\n", "\u00a0"}, file
        if file.suffix == ".svg":
            ElementTree.fromstring(text)
        if file.suffix == ".html":
            assert "<script>alert" not in text
        if file.suffix == ".csv":
            cells = [cell for row in csv.reader(text.splitlines()) for cell in row]
            assert not [cell for cell in cells if cell.startswith(("=", "@", "+"))], file
