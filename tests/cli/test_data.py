"""Output of the subcommands of `distdl data`."""

import importlib
import re
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distdl.cli.__main__ import main
from distdl.core import registry
from layouts import make


def test_list_shows_every_set_and_which_are_available(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--root", str(data_root)]) == 0
    rows = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if "│" in line}
    assert "yes" in rows["mnist"] and "yes" in rows["digits"] and "yes" in rows["caltech101"]
    assert "no" in rows["fashion-mnist"] and "yes" not in rows["fashion-mnist"]


@pytest.mark.parametrize("name", ["digits", "gtsrb"])
def test_describe_prints_counts_and_draws_a_figure(
    name: str, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "new" / "figure.png"
    argv = ["data", "describe", name, "--root", str(data_root), "--validation", "0.1", "--figure", str(figure)]
    assert main(argv) == 0
    output = capsys.readouterr().out
    expected = {"digits": ["1,295 images", "360 images", "8 x 8"], "gtsrb": ["1,161 images", "and 23 more", "note:"]}
    assert all(text in output for text in expected[name])
    pixels = np.asarray(Image.open(figure).convert("RGB"))
    assert pixels.shape[1] > 1000 and pixels.std() > 20


def test_errors_of_describe_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "describe", "digitz"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["data", "describe", "digits", "--figure", str(tmp_path / "figure.nothing")]) == 2
    assert "is not one of .png, .svg, .pdf" in capsys.readouterr().err


HOSTILE = [
    "[red]",
    "[bold] :smile:",
    "a\x1b]0;OWNED\x07\x1b[2J",
    "b\nc",
    "caf\udce9",
    "\u202egnp",
    "$x$",
    "d" * 255,
]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Write a set with names that are markup, escape sequences, not UTF-8, formulas, or long."""
    folder = make(tmp_path / "se[t]\x1b[31m", [])
    for label in HOSTILE:
        for part in ("train", "test"):
            (folder / part / label).mkdir(parents=True)
            Image.new("RGB", (8, 8), (len(label), 0, 0)).save(folder / part / label / "1.png")
        (folder / "train" / label / f"[{label[:50]}.txt").write_text("")
    return folder


def plain(text: str) -> str:
    assert not set(text) & {*"\x1b\x07\u202e\udce9"}, "an escape sequence reaches the terminal"
    text.encode()
    return text


def test_describe_escapes_names(
    hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["data", "describe", str(hostile), "--figure", str(tmp_path / "figure.svg")]) == 0
    output = plain(capsys.readouterr().out)
    rows = [line.split("│")[1].strip() for line in output.splitlines() if line.startswith("│")]
    # In the order of the names; the long one is truncated to 200 characters.
    expected = {
        "[red]",
        "[bold] :smile:",
        r"a\x1b]0;OWNED\x07\x1b[2J",
        r"b\nc",
        r"caf\xe9",
        r"\u202egnp",
        "$x$",
    }
    assert set(rows) == expected | {"d" * 197 + "..."}
    assert output.splitlines()[0].startswith(rf"{tmp_path}/se[t]\x1b[31m: images of")
    assert "are left out, because they are not named like images" in output


@pytest.mark.parametrize(
    "name", ["no/\x1b[31m[red]", "no/caf\udce9", "no/\nerror: x", "no/" + "x" * 5000, "~unknown-user/x", "a\0/b"]
)
@pytest.mark.parametrize("verb", [["describe"], ["verify"], ["pack", "--format", "shards", "--out", "o"]])
def test_a_name_in_an_error_is_escaped(verb: list[str], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", verb[0], name, *verb[1:]]) == 2
    message = capsys.readouterr().err
    assert plain(message).startswith("error: ") and message.count("\n") == 1


def test_list_escapes_the_data_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--root", str(tmp_path / "[red]\x1b[31m")]) == 0
    assert "[red]" in plain(capsys.readouterr().out)


COUNTED = """
import user_datasets
calls = []
def stripes(*, count: int):
    calls.append(count)
    return user_datasets.stripes(count=count)
"""


@pytest.mark.parametrize("verb", ["describe", "verify", "export", "pack"])
def test_a_users_data_set_receives_settings_and_is_built_once(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"counted_{verb}.py").write_text(COUNTED)
    monkeypatch.syspath_prepend(tmp_path)
    outputs = {"export": ["--format", "folder", "--out", "out"], "pack": ["--format", "shards", "--out", "out"]}
    argv = ["data", verb, f"counted_{verb}:stripes", *outputs.get(verb, [])]
    assert main([*argv, "--options", "dataset.count=40"]) == 0
    assert importlib.import_module(f"counted_{verb}").calls == [40]
    capsys.readouterr()
    for options, message in (
        ([], "options.dataset.count is missing: "),
        (["--options"], "options needs a value: "),
        (["--options", "dataset.cuont=3"], f"options.dataset.cuont: counted_{verb}:stripes has no setting 'cuont'"),
        (["--options", "model.count=3"], "options.model: no component here has this key (keys: dataset)"),
    ):
        assert main([*argv, *options]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {message}") and error.count("\n") == 1
    assert main(["data", "describe", "digits", "--options", "dataset.count=3"]) == 2
    assert capsys.readouterr().err == "error: options.dataset: data set digits has no settings\n"


def test_data_sets_of_other_packages_are_listed_without_building_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = EntryPoint(name="of-a-user", value="no_such_module:stripes", group="distdl.datasets")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == entry.group else [])
    assert main(["data", "list"]) == 0
    assert re.search(r"of-a-user .* installed .* from another package", capsys.readouterr().out)
