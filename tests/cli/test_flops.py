"""Output of `distdl flops`: tables, JSON and CSV."""

import csv
import io
import json

import pytest

from distdl.cli.__main__ import main
from distdl.cli.flops import _amount, parse_inputs


def test_json_has_the_fields_for_scripts(capsys):
    assert main(["flops", "alexnet", "--json", "--batch", "2"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["model"], printed["input"], printed["batch"]) == ("alexnet", [3, 224, 224], 2)
    assert printed["parameters"] == 61_100_840
    assert printed["forward_flops"] == 2 * 2 * 714_188_480
    assert printed["training_flops"] == 2 * 4_144_577_280
    assert sum(layer["forward_flops"] for layer in printed["layers"]) == printed["forward_flops"]
    first = printed["layers"][0]
    assert (first["name"], first["kind"], first["output_shape"]) == ("features.0", "conv", [2, 64, 55, 55])
    assert first["input_grad_flops"] == 0 and first["weight_grad_flops"] == first["forward_flops"]
    assert first["intensity"] == first["forward_flops"] / (first["read_bytes"] + first["write_bytes"])
    assert printed["forward_share"]["conv"] == pytest.approx(0.918, abs=1e-3) and printed["warnings"] == []


def test_csv_rows_add_up_by_layer_and_by_kind(capsys):
    totals = []
    for by in ("layer", "kind"):
        assert main(["flops", "resnet20", "--csv", "--by", by]) == 0
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        totals.append([sum(int(row[field]) for row in rows) for field in ("parameters", "forward_flops", "read_bytes")])
    assert totals[0] == totals[1]
    assert totals[0][:2] == [269_722, 2 * 40_551_040]


def test_the_share_by_kind_of_vgg19(capsys):
    assert main(["flops", "vgg19", "--by", "kind"]) == 0
    table = capsys.readouterr().out
    conv = next(line for line in table.splitlines() if line.startswith("conv"))
    assert conv.split()[:5] == ["conv", "16", "99.37%", "20M", "39G"]
    assert "143,667,240 parameters" in table and "19,632,062,464 multiply-adds" in table


@pytest.mark.parametrize("by", ["layer", "kind", "module"])
@pytest.mark.parametrize("training", [False, True])
def test_tables_fit_80_columns(capsys, monkeypatch, by, training):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["flops", "mobilenet_v2", "--by", by, "--batch", "32", *(["--training"] if training else [])]) == 0
    table = capsys.readouterr().out
    assert max(map(len, table.splitlines())) <= 80
    assert ("dgrad" in table) == training
    assert table.splitlines()[0].split()[0] == by
    if by == "layer":
        assert any(line.split()[:3] == ["classifier.1", "dense", "1000"] for line in table.splitlines())
    if by == "module":
        assert "features.18" in table


def test_the_convention_of_lu_et_al_is_counted(capsys):
    network = "distdl.profiling.published_networks:alexnet_caffe"
    assert main(["flops", network, "--input", "3x227x227", "--convention", "lu2017"]) == 0
    assert "729 million operations" in " ".join(capsys.readouterr().out.split())


def test_token_numbers_and_several_inputs_are_counted(capsys, tmp_path):
    (tmp_path / "tokens.py").write_text(
        "from torch import nn\n"
        "embed = nn.Sequential(nn.Embedding(100, 8), nn.Linear(8, 4))\n"
        "bilinear = nn.Bilinear(4, 5, 6, bias=False)\n"
    )
    assert main(["flops", "tokens:embed", "--input", "12:int", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["forward_flops"] == 2 * 12 * 8 * 4
    assert main(["flops", "tokens:bilinear", "--input", "4,5", "--batch", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["forward_flops"] == 2 * 7 * 6 * (20 + 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alexnt"], 'did you mean "alexnet"?'),
        (["alexnet", "--input", "3xfoo"], '--input "3xfoo" is not a shape'),
        (["alexnet", "--input", "3x0x4"], '--input "3x0x4" is not a shape'),
        (["alexnet", "--input", "3x20x20"], "AlexNet cannot be counted at input 1x3x20x20"),
        (["alexnet", "--batch", "-1"], "--batch = -1: must be at least 0"),
        (["alexnet", "--json", "--csv"], "choose one"),
        (["alexnet", "--training", "--convention", "lu2017"], "remove --training"),
        (["shufflenet_v2_x0_5", "--training", "--input", "3x32x32"], "a batch of 2 or more"),
    ],
)
def test_invalid_arguments_are_a_one_line_error(capsys, arguments, message):
    assert main(["flops", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def test_warnings_are_printed_on_stderr(capsys, tmp_path):
    (tmp_path / "unused.py").write_text(
        "from torch import nn\n"
        "class Unused(nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(4, 3)\n"
        "        self.other = nn.Linear(2, 2)\n"
    )
    assert main(["flops", "unused:Unused", "--input", "4", "--csv", "--by", "kind"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("warning: 6 parameters are not used")
    assert "warning" not in captured.out


def test_shapes_of_inputs_are_parsed():
    assert parse_inputs("") == []
    assert parse_inputs("3x224x224") == [((3, 224, 224), False)]
    assert parse_inputs("128:int,10X4") == [((128,), True), ((10, 4), False)]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "·"), (7, "7"), (0.4987, "0.499"), (999, "999"), (999.6, "1k"), (1790, "1.79k"), (39264124928, "39.3G"),
     (999_600_000, "1G"), (2.5e15, "2.5P")],
)  # fmt: skip
def test_amounts_are_formatted(value, text):
    assert _amount(value) == text


@pytest.mark.parametrize("verb", ["flops", "paleo"])
def test_a_users_network_receives_settings(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    device = ["--device", "k80"] if verb == "paleo" else []
    argv = [verb, "user_networks:Tiny", "--input", "3x8x8", *device, "--json"]
    counts = []
    for width in (4, 8):
        assert main([*argv, "--options", f"model.width={width}"]) == 0
        counts.append(json.loads(capsys.readouterr().out))
    assert counts[0] != counts[1]
    assert main([*argv, "--options", "model.widths=4"]) == 2
    expected = "error: options.model.widths: user_networks:Tiny has no setting 'widths'; did you mean \"width\"?"
    assert capsys.readouterr().err.startswith(expected)
    assert main([*argv, "--options", "loss.gamma=4"]) == 2
    assert capsys.readouterr().err == "error: options.loss: no component here has this key (keys: model)\n"
