"""Profiles, overrides, and their errors."""

import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

from distdl.cli.recipe import from_command_line
from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.profiles import as_table, field_names, profiles, read_profile, validate


def resolve(arguments: str, strategy: str = "single") -> Config:
    return from_command_line(arguments.split(), strategy=strategy)


def test_the_command_line_overrides_the_profile(tmp_path: Path) -> None:
    Path("mine.toml").write_text('extends = "digits"\nepochs = 3\n[optim]\nlr = 0.5\n')
    config = resolve("--profile mine.toml --optim.lr 0.25 --data.batch-size=16")
    assert (config.epochs, config.optim.lr, config.data.batch_size) == (3, 0.25, 16)
    assert config.model.name == "digits-cnn"


def test_a_profile_extends_a_file_in_its_folder() -> None:
    Path("deep").mkdir()
    Path("deep/base.toml").write_text('extends = "digits"\nseed = 7\n')
    Path("deep/mine.toml").write_text('extends = "base.toml"\nepochs = 2\n')
    config = resolve("--profile deep/mine.toml")
    assert (config.seed, config.epochs, config.name) == (7, 2, "digits")


@pytest.mark.parametrize(
    ("argv", "batch_size", "global_batch"),
    [
        ("", None, 64),
        ("--seed 1", None, 64),
        ("--data.global-batch 64", None, 64),
        ("--data.global-batch 18", None, 18),
        ("--data.batch-size 64", 64, 0),
        ("--profile per-rank.toml", 16, 0),
        ("--profile per-rank.toml --seed 1 --optim.accumulate 2", 16, 0),
        ("--profile per-rank.toml --data.global-batch 16", None, 16),
    ],
)
def test_a_batch_size_replaces_the_profiles_local_or_global_one(
    argv: str, batch_size: int | None, global_batch: int
) -> None:
    Path("per-rank.toml").write_text('extends = "digits"\n[data]\nbatch_size = 16\n')  # digits sets a global batch size
    config = resolve(argv)
    assert (config.data.batch_size, config.data.global_batch) == (batch_size, global_batch)
    assert resolve_again(config) == config


def resolve_again(config: Config) -> Config:
    Path("again.toml").write_bytes(tomli_w.dumps(as_table(config, "single")).encode())
    return resolve("--profile again.toml")


@pytest.mark.parametrize("name", profiles())
def test_every_included_profile_is_valid(name: str) -> None:
    config = from_command_line(["--profile", name], strategy="ddp")
    assert config.name == name


def test_a_resolved_configuration_can_be_used_as_a_profile() -> None:
    config = resolve("--optim.lr-factors features.* 0.1 --data.augment.crop 2 --max-time 9 --out somewhere")
    Path("again.toml").write_bytes(tomli_w.dumps(as_table(config, "single")).encode())
    again = resolve("--profile again.toml --out somewhere")
    assert again == config


WRONG = {
    "an unknown key": ("--optim.lrr 1", "did you mean --optim.lr?"),
    "an unknown section": ("--optimizer.lr 1", "--optimizer.lr"),
    "a word for a number": ("--epochs x", "epochs: 'x' is not a whole number"),
    "a number out of range": ("--optim.lr -1", "optim.lr = -1: must be at least 0"),
    "an infinite rate": ("--optim.lr inf", "finite"),
    "an unknown choice": ("--strategy dpd", "'ddp'"),
    "an unknown profile": ("--profile digitz", 'did you mean "digits"?'),
    "a profile without a name": ("--profile", "--profile needs a value"),
    "a missing file": ("--profile none.toml", "no profile file none.toml"),
    "an option without its value": ("--epochs", "--epochs"),
    "uneven micro-batches": ("--data.batch-size 64 --optim.accumulate 3", "equal micro-batches"),
    "two batch sizes": ("--data.batch-size 64 --data.global-batch 64", "give one of the two"),
    "a resume without a folder": ("--resume auto", "--out DIR"),
    "momentum for adam": ("--optim.momentum 0.9", "optim.momentum has no effect: optim.name is adamw"),
    "an option of another strategy": ("--ps.servers 2", "ps.servers has no effect: the strategy is single"),
    "a warm-up longer than the run": ("--schedule.warmup-epochs 20", "is not less than epochs = 20"),
    "a schedule without its milestones": ("--schedule.name multistep", "milestones"),
}


@pytest.mark.parametrize(("argv", "message"), WRONG.values(), ids=WRONG)
def test_an_invalid_command_line_is_a_one_line_error_with_a_hint(argv: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        resolve(argv)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


WRONG_FILES = {
    "an unknown key": ("epocs = 3", '"epocs" is not a key of distdl; did you mean "epochs"?'),
    "an unknown section": ("[optimm]\nlr = 1", 'did you mean "optim.lr"?'),
    "a wrong type": ('epochs = "many"', "epochs: 'many' is not a whole number"),
    "a value for a section": ("optim = 3", "it is a section, not a value"),
    "invalid TOML": ("epochs = = 3", "is not TOML"),
    "a profile that extends itself": ('extends = "mine.toml"', "extends itself"),
    "a section of another strategy": ("[horovod]\ncycle_ms = 5.0", "horovod.cycle_ms has no effect"),
}


@pytest.mark.parametrize(("text", "message"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_an_error_in_a_profile_names_the_file_and_the_key(text: str, message: str) -> None:
    Path("mine.toml").write_text(text)
    with pytest.raises(UserError) as error:
        resolve("--profile mine.toml")
    assert message in str(error.value)


def test_read_profile_returns_the_keys_that_the_file_sets() -> None:
    Path("mine.toml").write_text('extends = "digits"\n[data.augment]\nflip = 0.5\n')
    table, keys = read_profile("mine.toml")
    assert keys == {"data.augment.flip"}
    assert table["data"]["name"] == "digits"


def test_every_field_has_help() -> None:
    done = subprocess.run([sys.executable, "-m", "distdl.train", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(list(field_names(Config))) > 80
    for name in field_names(Config):
        assert f"--{name.replace('_', '-')}" in done.stdout, name


def test_the_defaults_are_valid() -> None:
    assert validate({}, where="nothing") == Config()
