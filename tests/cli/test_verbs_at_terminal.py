"""Mistakes in a command line on a terminal: a one-line error with the nearest option, and exit code 2."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from distdl.cli.__main__ import VERBS
from distdl.cli.arguments import parse, take_flag
from distdl.core.errors import UserError
from terminal import run

MISTAKES: dict[str, list[tuple[str, str]]] = {
    "train": [
        ("--nope 3", "Unrecognized options: --nope, 3 (distdl train --help shows all)"),
        ("--modle.name resnet18", "did you mean --model.name?"),
        ("--model resnet18", "did you mean --model.name?"),
        ("--lr 0.1", "did you mean --optim.lr?"),
        ("--optim.lr fast", "optim.lr: 'fast' is not a number"),
        (
            "--telemetry.tensorboard True",
            "--telemetry.tensorboard takes no value: write --telemetry.tensorboard or --telemetry.no-tensorboard",
        ),
        (
            "--deterministic=yes --epochs 1",
            "--deterministic takes no value: write --deterministic or --no-deterministic",
        ),
        ("--data.no-drop-last false", "--data.drop-last takes no value"),
        ("--epochs=-1", "epochs = -1: must be greater than 0"),
        ("--data.batch-size 0", "data.batch_size = 0: must be greater than 0"),
        ("--strategy dpd", "strategy: 'dpd' is not one of"),
        ("--optim.betas 0.9", "--optim.betas needs 2 values"),
        ("--optim.lr-factors a b", "optim.lr_factors: 'b' is not a number"),
        ("--epochs 1 --name --list", "--name needs a value"),
        ("--profile digitz", 'did you mean "digits"?'),
    ],
    "flops": [
        ("resnet18 --batchsize 3", "did you mean --batch?"),
        ("resnet18 --batch", "--batch needs a value"),
        ("resnet18 --training yes", "--training takes no value: write --training or --no-training"),
        ("resnet18 --batch few", "--batch: 'few' is not a whole number"),
        ("", "missing: MODEL (distdl flops --help shows all)"),
    ],
    "paleo": [
        ("vgg16 --devise k80", "did you mean --device?"),
        ("vgg16 --device h100 --batch 16", 'did you mean "h100-pcie" or "h100-sxm"?'),
        ("vgg16 --device k80 --batch x", "--batch: 'x' is not a whole number"),
        ("vgg16 --device k80 --ppp nan", "--ppp = nan: must be"),
        ("vgg16", "missing: --device"),
    ],
    "calibrate": [
        ("file.toml --round 3", "did you mean --rounds?"),
        ("file.toml --batches 4 -1", "--batches = -1: must be greater than 0"),
        ("", "missing: FILE"),
    ],
    "profile": [("resnet18 --bach 3", "did you mean --batch?"), ("resnet18 --batch x", "--batch: 'x' is not a")],
    "fit speed": [
        ("speeds.csv --forn auto", "did you mean --form?"),
        ("no-such-file.csv --form optimus", 'form "optimus" is not known'),
        ("speeds.csv --bytes-per-s many", "--bytes-per-s: 'many' is not a number"),
    ],
    "fit loss": [("loss.csv --jsn", "did you mean --json?"), ("", "missing: FILE")],
    "predict speed": [
        ("no-such-fit.json --workers x", '--workers "x"'),
        ("fit.json --worker 3", "did you mean --workers?"),
        ("fit.json --workers", "needs a value"),
    ],
    "explain": [
        ("", "missing: RUN (distdl explain --help shows all)"),
        ("--devise k80", "did you mean --device?"),
        ("run --figure", "--figure needs a value"),
    ],
    "slurm begin": [
        ("--queed 2026-01-01 -- --epochs 1", "did you mean --queued?"),
        ("-- --epochs 1", "give --out DIR --resume auto"),
    ],
    "slurm end": [
        ("--code x -- --epochs 1", "--code: 'x' is not a whole number"),
        ("-- --epochs 1", "missing: --code"),
    ],
    "launch": [
        ("--whith torchrun -- --epochs 1", "did you mean --with?"),
        ("--with torchrunn -- --epochs 1", "--with: 'torchrunn' is not one of"),
        ("--nproc two -- --epochs 1", "--nproc: 'two' is not a whole number"),
        ("--nproc 2 -- --epoch 1", "did you mean --epochs?"),
        ("--interface eth0;ls -- --epochs 1", "--interface 'eth0;ls' is not the name of a network interface"),
        ("--hosts a,,b:2 -- --epochs 1", '--hosts: "b:2" is not a host name'),
        ("--nproc 2 -- --telemetry.tensorboard True", "--telemetry.tensorboard takes no value"),
        ("--ranks 4 -- --epochs 1", "Unrecognized options: --ranks, 4; did you mean --nproc?"),
        ("--epoch 3", "Unrecognized options: --epoch, 3; did you mean --epochs?"),
        (
            "--epochs 3 --nproc 2 -- --profile digits",
            "--epochs is an option of the training, which follows after --: distdl launch --nproc 2 -- --epochs 3 --p",
        ),
        ("--profile digits -- --nproc 2", "after --: distdl launch --nproc 2 -- --profile digits"),
        ("--nproc 2 3 -- --profile digits", "--nproc takes one value: '3' is too many (distdl launch --help"),
        ("2 -- --profile digits", "Unrecognized arguments: 2 (distdl launch --help"),
        ("2 --nproc 2 -- --profile digits", "Unrecognized arguments: 2 (distdl launch --help"),
        ("-- --profile digits --loss.name mse", "did you mean --loss?"),
        ("--model.name resnet18", "after --: distdl launch -- --model.name resnet18"),
    ],
    "hosts": [
        ("--epochs 3 -- true", "Unrecognized options: --epochs, 3"),
        ("--coun 3 -- true", "did you mean --count?"),
        ("--count x -- true", "--count: 'x' is not a whole"),
    ],
    "export": [("run file --fort x", "Unrecognized options: --fort, x"), ("run", "missing: FILE")],
    "submit": [
        ("--gpu x digits", "did you mean --gpus"),
        ("--nodes x digits", "--nodes: 'x' is not a whole number"),
        ("--epochs 3 --time 40", "after --: distdl submit --time 40 -- --epochs 3"),
    ],
    "verify-resume": [
        ("--rank 2", "did you mean --ranks?"),
        ("--kills many", "--kills: 'many' is not a whole number"),
        ("-- --epoch 1", "did you mean --epochs?"),
        ("--epochs 1", "after --: distdl verify-resume -- --epochs 1"),
    ],
    "probe network": [("--wiht srun", "did you mean --with?"), ("--nproc x", "--nproc: 'x' is not a whole number")],
    "data list": [("--rooot x", "did you mean --root?"), ("--root", "--root needs a value")],
    "data describe": [("digits --figur x", "did you mean --figure?"), ("", "missing: NAME")],
    "data verify": [("digits --jsn", "did you mean --json?"), ("", "missing: NAME")],
    "data pack": [("digits --shard-mb 3", "did you mean --shard-mib?"), ("digits", "missing: --out, --format")],
    "data export": [
        ("digits --formt jpeg", "did you mean --format?"),
        ("digits --out a --format png", "--format: "),
        ("digits --out= --format jpeg", "--out is empty"),
    ],
    "list": [
        ("optimizer", 'did you mean "optimizers"?'),
        ("models zzz", "no model matches 'zzz'"),
    ],
    "models list": [("zzz", "no model matches 'zzz'"), ("--al", "Unrecognized options: --al")],
    "data bench": [("digits --batc 3", "did you mean --batch"), ("digits --batch-size x", "'x' is not a whole")],
    "study list": [("--all", "Unrecognized options: --all"), ("zzz", "no study matches 'zzz'")],
    "study run": [
        ("scaling --worker 1,2", "did you mean --workers?"),
        ("scaling --workers x", "workers: 'x' is not a whole number"),
        ("scaling --workers", "--workers needs a value"),
        ("scaling --strategies dpd", "strategies: 'dpd' is not one of"),
        ("scaling --set wokers=1", 'did you mean "workers"?'),
        ("scaling --job 2", "did you mean --jobs?"),
        ("scaling --hosts 0", 'hosts: "0" names no host'),
        ("weak --lr nan", "lr = nan: must be"),
        ("decathlon --set profile=nope", 'study decathlon: profile: profile "nope" is not known'),
        ("scalin", 'did you mean "scaling"?'),
        ("", "missing: NAME"),
    ],
    "study show": [("--al folder", "Unrecognized options: --al"), ("", "missing: STUDY")],
    "report": [("run --ot x", "did you mean --out?"), ("run --out", "--out needs a value")],
    "doctor": [("--jsn", "Unrecognized options: --jsn"), ("x", "Unrecognized arguments: x")],
}
"""Arguments and expected part of the error, by subcommand."""
CASES = [([*verb.split(), *argv.split()], message) for verb, rows in MISTAKES.items() for argv, message in rows]
IN_ONE_PROCESS = """
import json, sys
from distdl.cli.__main__ import main
for argv in json.loads(sys.argv[1]):
    code = main(argv)
    print(f"exit {code}", flush=True)
"""


def check(output: str, code: int, message: str) -> None:
    """Assert that the terminal shows one line without control characters."""
    line, end, more = output.partition("\n")
    assert line.startswith("error: ") and message in line and (end, more) == ("\n", ""), output
    assert line.isprintable(), repr(line)
    assert code == 2


def test_the_table_has_a_mistake_for_every_verb() -> None:
    assert MISTAKES.keys() == VERBS.keys()
    assert all(len(rows) > 1 for rows in MISTAKES.values())


@pytest.fixture(scope="module")
def outputs() -> dict[str, tuple[int, str]]:
    """Output of each mistake. All calls run in one process, which imports torch once."""
    code, text = run([sys.executable, "-c", IN_ONE_PROCESS, json.dumps([argv for argv, _ in CASES])])
    assert code == 0, text
    parts = iter(text.splitlines(keepends=True))
    return {" ".join(argv): _next(parts) for argv, _ in CASES}


def _next(lines: Iterator[str]) -> tuple[int, str]:
    text = ""
    for line in lines:
        if line.startswith("exit "):
            return int(line.split()[1]), text
        text += line
    raise AssertionError(f"the process ended after: {text}")


@pytest.mark.parametrize(("argv", "message"), CASES, ids=[" ".join(argv) for argv, _ in CASES])
def test_a_mistake_is_a_one_line_error_on_a_terminal(
    argv: list[str], message: str, outputs: dict[str, tuple[int, str]]
) -> None:
    code, text = outputs[" ".join(argv)]
    check(text, code, message)


@pytest.mark.parametrize("columns", [24, 200])
def test_values_are_not_wrapped_at_the_width_of_the_terminal(columns: int) -> None:
    path = "/scratch/users/someone/experiments/november/resnet50/imagenet/config-final-version-2.toml"
    code, text = run([sys.executable, "-m", "distdl.train", "--profile", "digits", path], columns)
    check(text, code, f"--profile takes one value: '{path}' is too many")
    code, text = run([sys.executable, "-m", "distdl.cli", "study", "run", "scaling", "--worker", "1,2"], columns)
    check(text, code, "did you mean --workers?")


@pytest.mark.slow
@pytest.mark.parametrize(("argv", "message"), CASES, ids=[" ".join(argv) for argv, _ in CASES])
def test_a_mistake_is_a_one_line_error_in_a_separate_process(argv: list[str], message: str) -> None:
    code, text = run([sys.executable, "-m", "distdl.cli", *argv])
    check(text, code, message)


@pytest.mark.slow
@pytest.mark.parametrize("argv", ["--nope 3", "--optim.lr fast", "--profile digitz", "--epochs=-1"])
def test_one_of_two_ranks_reports_the_mistake(argv: str) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    code, text = run([*torchrun, "-m", "distdl.train", *argv.split()])
    assert code != 0
    assert text.count("error: ") == 1 and text.count("\nerror: ") + text.startswith("error: ") == 1, text


def test_a_mistake_is_reported_before_torch_is_imported() -> None:
    code = "import sys; from distdl.cli.train import main; main(['--nope']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_flags_after_two_dashes_belong_to_the_inner_command() -> None:
    assert take_flag(["--count", "1", "--", "echo", "--debug"], "--debug") == (
        False,
        ["--count", "1", "--", "echo", "--debug"],
    )
    assert take_flag(["--debug", "x", "--", "--debug"], "--debug") == (True, ["x", "--", "--debug"])


def test_parse_converts_every_kind_of_value() -> None:
    from pathlib import Path
    from typing import Annotated, Literal

    import tyro

    def verb(
        model: tyro.conf.Positional[str],
        files: tyro.conf.Positional[tuple[Path, ...]] = (),
        *,
        count: int = 3,
        rate: float | None = None,
        kind: Literal["a", "b"] = "a",
        as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
        shape: tuple[int, int] = (1, 2),
        numbers: tuple[float, ...] = (),
    ) -> dict:
        """A verb."""
        return dict(locals())

    argv = "m a b --count 4 --rate 1e-3 --kind b --json --shape 3 4 --numbers 1 -2 -1e3"
    values = parse(verb, argv.split())
    assert values == {
        "model": "m",
        "files": (Path("a"), Path("b")),
        "count": 4,
        "rate": 0.001,
        "kind": "b",
        "as_json": True,
        "shape": (3, 4),
        "numbers": (1.0, -2.0, -1000.0),
    }
    assert parse(verb, ["m", "--rate", "None"])["rate"] is None
    assert parse(verb, ["m"]) == verb("m")
    with pytest.raises(UserError, match=r"^--shape: 'x' is not a whole number$"):
        parse(verb, ["m", "--shape", "3", "x"])
