"""The option --figure of all subcommands: checked before a measurement, written atomically, also into new folders."""

import json
from pathlib import Path

import pytest

from distdl.cli.__main__ import main
from distdl.report.figure_files import FORMATS
from example_result import KNOWN, RUN

VERBS = {
    "data describe": ["data", "describe", "digits"],
    "explain": ["explain", "run"],
    "paleo": ["paleo", "alexnet", "--device", "k80"],
}


@pytest.fixture(autouse=True)
def run() -> None:
    """Write the run that explain reads into the test's folder."""
    Path("run").mkdir()
    Path("run/result.json").write_text(json.dumps(RUN | KNOWN))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", [".", "..", "figure", "figure.gif", ".png", "is-folder.png", "figure.png.gz"])
def test_other_file_formats_are_refused(
    name: str, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("is-folder.png").mkdir()
    assert main([*VERBS[verb], "--figure", name]) == 2
    assert capsys.readouterr().err.startswith(f"error: --figure {name}")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["is-folder.png", "run"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("suffix", [*FORMATS, ".PNG"])
def test_the_figure_is_the_only_file_and_its_name_is_printed(
    suffix: str, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*VERBS[verb], "--figure", f"new/folder/figure{suffix}"]) == 0
    assert capsys.readouterr().out.endswith(f"figure: new/folder/figure{suffix}\n")
    assert [file.name for file in Path("new/folder").iterdir()] == [f"figure{suffix}"]
    head = Path(f"new/folder/figure{suffix}").read_bytes()[:5]
    assert head == {".png": b"\x89PNG\r", ".svg": b"<svg ", ".pdf": b"%PDF-"}[suffix.lower()]


@pytest.mark.parametrize("verb", ["explain", "paleo"])
def test_the_name_of_the_figure_is_not_in_the_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*VERBS[verb], "--json", "--figure", "figure.svg"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) and printed.err == "figure: figure.svg\n"


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_that_cannot_be_created_is_a_one_line_error(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    assert main([*VERBS[verb], "--figure", "file/figure.png"]) == 2
    assert "error: --figure file/figure.png cannot be written: " in capsys.readouterr().err
