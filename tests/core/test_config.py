"""Rules of fields: an invalid value or combination, in a profile or on the command line, is a one-line error."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from distdl.cli.recipe import from_command_line
from distdl.core.config import Config, DataConfig
from distdl.core.errors import UserError
from distdl.core.profiles import read_profile, validate
from distdl.core.validation import check
from invalid_values import as_arguments, fields, invalid, out_of_range

FIELDS = dict(fields(Config))


def table(name: str, value: Any) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def test_every_field_has_invalid_values() -> None:
    values = {name: list(invalid(kind)) for name, kind in FIELDS.items()}
    assert len(FIELDS) > 100 and all(values.values())
    assert sum(map(len, values.values())) > 1300


def check_message(message: str, name: str) -> None:
    assert name in message.replace("-", "_") and message.isprintable(), message
    assert "nput should" not in message and " has no effect" not in message, message


@pytest.mark.parametrize("name", FIELDS)
def test_an_invalid_value_in_a_profile_names_the_field(name: str) -> None:
    for value in invalid(FIELDS[name]):
        Path("wrong.toml").write_bytes(tomli_w.dumps(table(name, value)).encode())
        with pytest.raises(UserError) as error:
            validate(read_profile("wrong.toml")[0], where="wrong.toml")
        check_message(str(error.value), name)


@pytest.mark.parametrize("value", [1e9, 0.0])
def test_limits_of_seconds_are_inclusive(value: float) -> None:
    assert check(Config, {"max_time": value}).max_time == value
    with pytest.raises(UserError, match="max_time"):
        check(Config, {"max_time": value + 0.5 if value else -0.5})


@pytest.mark.parametrize("name", FIELDS)
def test_an_invalid_text_names_the_field(name: str) -> None:
    """The values are text, as on a command line."""
    for value in out_of_range(FIELDS[name]):
        if (texts := as_arguments(value)) is not None:
            with pytest.raises(UserError) as error:
                check(Config, table(name, texts if isinstance(value, list) else texts[0]))
            check_message(str(error.value), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, kind in FIELDS.items() if kind is not bool])
def test_an_invalid_value_on_the_command_line_names_the_field(name: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    for value in out_of_range(FIELDS[name]):
        if (texts := as_arguments(value)) is not None:
            argv = [f"{flag}={texts[0]}"] if len(texts) == 1 else [flag, *texts]
            with pytest.raises(UserError) as error:
                from_command_line(argv, strategy="ps")
            if not (len(texts) > 1 and re.match("-+[a-z]", texts[0])):  # it is another option
                check_message(str(error.value), name)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two batch sizes": ({"data.batch_size": 8, "data.global_batch": 8}, "give one of the two, not both"),
    "two batch sizes of 1": ({"data.batch_size": 1, "data.global_batch": 1}, "give one of the two, not both"),
    "a mean without a standard deviation": ({"data.mean": [0.5]}, "data.mean and data.std must be given together"),
    "a standard deviation without a mean": ({"data.std": [0.5]}, "data.mean and data.std must be given together"),
    "another number of channels": ({"data.mean": [0.5, 0.5], "data.std": [0.5]}, "with one value per channel"),
    "labels and a limit": ({"data.labels": "x.npz", "data.limit": 5}, "data.labels selects the training samples"),
    "labels and a validation": ({"data.labels": "x.npz", "data.validation": 0.1}, "remove data.limit and data.valid"),
    "uneven micro-batches": ({"data.batch_size": 9, "optim.accumulate": 2}, "data.batch_size 9 cannot be divided into"),
    "Nesterov without momentum": ({"optim.nesterov": True}, "optim.nesterov needs optim.momentum above 0"),
    "drops without epochs": ({"schedule.name": "multistep"}, "multistep needs schedule.milestones"),
    "a resume without a folder": ({"resume": "auto"}, "--resume auto needs the run folder: add --out DIR"),
    "warmup to the end": ({"schedule.warmup_epochs": 3.0, "epochs": 3}, "warmup_epochs 3 is not less than epochs = 3"),
    "PowerSGD with fp16": (
        {"compute.precision": "fp16", "ddp.compress": "powersgd"},
        "ddp.compress powersgd cannot be used with compute.precision fp16",
    ),
    "DDP's fp16 with fp16": ({"compute.precision": "fp16", "ddp.compress": "fp16"}, "scales gradients, which then"),
    "Horovod's fp16 with fp16": ({"compute.precision": "fp16", "horovod.compress": "fp16"}, "scales gradients, which"),
    "graphs of uneven steps": ({"compute.cuda_graphs": True}, "compute.cuda_graphs needs steps of equal shape"),
}
ACCEPTED: dict[str, dict[str, Any]] = {
    "one value per channel": {"data.mean": [0.5, 0.5], "data.std": [0.5, 1.0]},
    "labels alone": {"data.labels": "x.npz"},
    "even micro-batches": {"data.batch_size": 8, "optim.accumulate": 2},
    "micro-batches of a global batch": {"data.global_batch": 9, "optim.accumulate": 2},
    "Nesterov": {"optim.nesterov": True, "optim.momentum": 0.1},
    "drops": {"schedule.name": "multistep", "schedule.milestones": [1.0]},
    "a resume": {"resume": "auto", "out": "run"},
    "a resume from a path": {"resume": "other"},
    "warmup": {"schedule.warmup_epochs": 2.9, "epochs": 3},
    "PowerSGD with bf16": {"compute.precision": "bf16", "ddp.compress": "powersgd"},
    "bf16 with fp16": {"compute.precision": "fp16", "ddp.compress": "bf16"},
    "graphs": {"compute.cuda_graphs": True, "data.drop_last": True},
}


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A table of sections from dotted names."""
    result: dict[str, Any] = {}
    for name, value in fields.items():
        *sections, last = name.split(".")
        inner = result
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return result


@pytest.mark.parametrize(("fields", "message"), REFUSED.values(), ids=REFUSED)
def test_fields_that_contradict_each_other_are_an_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        check(Config, nested(fields))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("fields", ACCEPTED.values(), ids=ACCEPTED)
def test_valid_combinations_are_accepted(fields: dict[str, Any]) -> None:
    assert isinstance(check(Config, nested(fields)), Config)


@pytest.mark.parametrize(
    ("batch_size", "global_batch", "ranks", "step", "rank"),
    [(None, 0, 1, 64, 64), (None, 0, 3, 192, 64), (8, 0, 3, 24, 8), (None, 64, 3, 64, 22), (None, 3, 4, 3, 1)],
)
def test_samples_per_step_and_on_the_largest_rank(
    batch_size: int | None, global_batch: int, ranks: int, step: int, rank: int
) -> None:
    data = DataConfig(batch_size=batch_size, global_batch=global_batch)
    assert (data.step_samples(ranks), data.rank_samples(ranks)) == (step, rank)


def test_options_are_parsed_into_a_table() -> None:
    texts = ["model.depth=3", "model.width=1=2", "user.trackers:JsonLines.file=x.y", "loss.empty="]
    assert check(Config, {"options": texts}).options == {
        "model": {"depth": "3", "width": "1=2"},
        "user.trackers:JsonLines": {"file": "x.y"},
        "loss": {"empty": ""},
    }


@pytest.mark.parametrize("text", ["depth=3", "model.depth", ".depth=3", "model.=3", "=3", ""])
def test_an_invalid_option_text_is_an_error(text: str) -> None:
    with pytest.raises(UserError) as error:
        check(Config, {"options": [text]})
    assert f"options: {text!r} is not KEY.NAME=VALUE, such as model.depth=3" in str(error.value)
