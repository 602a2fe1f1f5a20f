"""The table of distdl's components: existing fields, and traits that other parts use."""

import re
from typing import Any

import pytest

from distdl.core import registry, targets
from distdl.core.components import COMPONENTS
from distdl.core.config import Config
from distdl.core.profiles import field_names

ROWS = {f"{group} {name}": (name, row) for group, rows in COMPONENTS.items() for name, row in rows.items()}
FIELDS = [*field_names(Config)]


def traits(key: str) -> list[tuple[str, Any]]:
    """Names of the rows with this trait, and the values of the trait."""
    return [(name, row.traits[key]) for name, row in ROWS.values() if key in row.traits]


def test_every_kind_has_rows() -> None:
    assert COMPONENTS.keys() == registry.KINDS.keys()
    assert [group for group, rows in COMPONENTS.items() if not rows] == ["datasets"]  # they have a separate catalog


@pytest.mark.parametrize(("name", "row"), ROWS.values(), ids=ROWS)
def test_a_row_has_a_summary_a_factory_and_existing_fields(name: str, row: registry.Row) -> None:
    assert targets.TARGET.fullmatch(row.factory) and row.factory.startswith("distdl.")
    assert row.summary and row.summary.isprintable() and not row.summary.endswith(".")
    sections = {field.split(".")[0] for field in FIELDS if "." in field}
    assert set(row.uses) <= {*FIELDS, *sections}
    assert row.traits.keys() <= {"package", "install", "field", "arguments", "strategy"}
    assert ("package" in row.traits) is ("install" in row.traits)


def test_each_study_package_has_a_row() -> None:
    assert all(row.factory == f"distdl.studies.{name}:STUDY" for name, row in COMPONENTS["studies"].items())


def test_an_augmentation_names_its_field() -> None:
    assert [(name, f"data.augment.{name}") for name in COMPONENTS["augmentations"]] == traits("field")
    assert {value for _, value in traits("field")} <= set(FIELDS)


def test_a_launcher_for_one_strategy_names_it() -> None:
    assert traits("strategy") == [("horovodrun", "horovod"), ("deepspeed", "deepspeed")]


def test_the_depth_of_a_residual_network_is_in_its_name() -> None:
    for name, arguments in traits("arguments"):
        assert arguments == {"depth": int(re.sub(r"\D", "", name))}
        assert f"of {arguments['depth']} layers" in COMPONENTS["models"][name].summary


@pytest.mark.parametrize(
    ("group", "name", "uses"),
    [
        ("optimizers", "sgd", {"optim.momentum", "optim.nesterov"}),
        ("optimizers", "adam", {"optim.betas", "optim.eps"}),
        ("optimizers", "adamw", {"optim.betas", "optim.eps"}),
        ("optimizers", "adagrad", {"optim.eps"}),
        ("optimizers", "rmsprop", {"optim.momentum", "optim.alpha", "optim.eps"}),
        ("optimizers", "lars", {"optim.momentum"}),
        ("optimizers", "lamb", {"optim.betas", "optim.eps"}),
        ("schedules", "constant", set()),
        ("schedules", "step", {"schedule.step_epochs", "schedule.gamma"}),
        ("schedules", "multistep", {"schedule.milestones", "schedule.gamma"}),
        ("schedules", "cosine", {"schedule.final_lr"}),
        ("schedules", "onecycle", {"schedule.warmup_fraction"}),
        ("strategies", "single", set()),
        ("strategies", "ddp", {"ddp"}),
        ("strategies", "horovod", {"horovod"}),
        ("strategies", "deepspeed", {"deepspeed", "ddp.timeout_s"}),
        ("strategies", "ps", {"ps"}),
    ],
)
def test_fields_that_a_component_uses(group: str, name: str, uses: set[str]) -> None:
    assert set(COMPONENTS[group][name].uses) == uses
