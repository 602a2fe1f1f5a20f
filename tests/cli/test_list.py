"""`distdl list` and `distdl models list`: names, parameters and summaries."""

import pytest

from distdl.cli.__main__ import main
from distdl.core.components import COMPONENTS
from distdl.core.registry import KINDS


def listed(capsys: pytest.CaptureFixture[str], *argv: str) -> list[list[str]]:
    assert main(list(argv)) == 0
    return [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()]


def test_models_have_parameters_in_millions_and_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    rows = listed(capsys, "models", "list", "resnet[12]*")
    assert rows == listed(capsys, "list", "models", "resnet[12]*")
    assert [row[0] for row in rows] == ["resnet20", "resnet110", "resnet101", "resnet152", "resnet18"]
    assert [row[1:3] for row in rows][::4] == [["0.27", "M"], ["11.69", "M"]]
    assert rows[0][3] == "ResNet of 20 layers for CIFAR (He et al. 2015)"
    assert rows[4][3] == "torchvision: Deep Residual Learning for Image Recognition"


def test_the_kinds_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    rows = listed(capsys, "list")
    assert [row[0] for row in rows] == list(KINDS)
    assert rows[2][1:] == ["for", "loss"]


@pytest.mark.parametrize(("kind", "hint"), [("nope", ""), ("model", '; did you mean "models"?'), ("", "")])
def test_an_unknown_kind_is_answered_with_all(kind: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind]) == 2
    expected = f"error: KIND: {kind!r} is not one of {', '.join(map(repr, KINDS))}{hint}\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("group", sorted(KINDS.keys() - {"models"}))
def test_every_kind_lists_its_rows(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not COMPONENTS[group] and not KINDS[group].open:
        assert main(["list", group]) == 2
        assert capsys.readouterr().err.startswith("error: no ")
        return
    assert main(["list", group]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, row in COMPONENTS[group].items():
        assert any(line.split()[0] == name and line.endswith(row.summary) for line in lines), name
        assert not row.summary or len(line_of(lines, name)) <= 80


def line_of(lines: list[str], name: str) -> str:
    return next(line for line in lines if line.split()[0] == name)


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("argv", [["list", "models"], ["list", "studies"], ["study", "list"], ["train", "--list"]])
def test_lines_are_wrapped_to_the_width_of_the_terminal(
    argv: list[str], width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(argv) == 0
    unwrapped = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert " ".join(lines).split() == unwrapped.split()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["models", "list", "resnt*"], "error: no model matches 'resnt*' (distdl list models shows all)"),
        (["list", "optimizers", "x"], "error: no optimizer matches 'x' (distdl list optimizers shows all)"),
        (["list", "optimisers"], 'did you mean "optimizers"'),
    ],
)
def test_unknown_names_are_a_one_line_error(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
