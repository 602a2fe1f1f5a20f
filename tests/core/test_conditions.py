"""Fields without effect: derived from the rows of the components, and from conditions on other fields."""

from collections.abc import Mapping
from typing import Any

import pytest

from distdl.core import registry
from distdl.core.components import COMPONENTS
from distdl.core.conditions import CONDITIONS, check_options, unused
from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.profiles import Recipe, field_names, resolve

REQUIRED = {"multistep": {"schedule.milestones": (3,)}}
"""Fields that a component requires."""


def configured(strategy: str = "single", **fields: Any) -> Config:
    """A configuration; `__` in a name stands for a dot."""
    overrides: Mapping[str, Any] = {name.replace("__", "."): value for name, value in fields.items()}
    return resolve(Recipe(overrides=overrides), strategy=strategy)


@pytest.mark.parametrize("group", ["optimizers", "schedules", "strategies", "losses"])
def test_a_field_that_only_other_components_use_is_an_error(group: str) -> None:
    """Fields that only other rows use have no effect."""
    kind, rows = registry.KINDS[group], COMPONENTS[group]
    used = {name for row in rows.values() for name in row.uses}
    for name, row in rows.items():
        config = resolve(Recipe(overrides={kind.where: name, **REQUIRED.get(name, {})}), strategy="single")
        unused_fields = unused(config, name if group == "strategies" else "single")
        assert not set(row.uses) & unused_fields.keys()
        for field in used - set(row.uses):
            section = field.split(".")[0]
            assert (
                field in unused_fields
                or section in row.uses
                or any(key.startswith(f"{field}.") for key in unused_fields)
            ), field


def test_the_reason_names_the_choice() -> None:
    reasons = unused(Config(), "ddp")
    assert reasons["ps"] == reasons["horovod"] == reasons["deepspeed"] == "the strategy is ddp"
    assert reasons["optim.betas"] == "optim.name is sgd"
    assert reasons["schedule.final_lr"] == "schedule.name is constant"
    assert not reasons.keys() & {"ddp", "ddp.timeout_s", "optim.label_smoothing"}


def test_one_field_of_a_section_may_be_used_by_another_strategy() -> None:
    """DeepSpeed uses ddp.timeout_s, and nothing else of the section."""
    reasons = unused(Config(), "deepspeed")
    assert "ddp" not in reasons and "ddp.timeout_s" not in reasons
    assert {name for name in field_names(Config) if name.startswith("ddp.")} - reasons.keys() == {"ddp.timeout_s"}


CASES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "model.weights_part": ({}, "model.weights is none", {"model__weights": "weights.pt"}),
    "data.normalize": (
        {"data__mean": (0.5,), "data__std": (0.5,)},
        "data.mean and data.std are given",
        {},
    ),
    "data.augment.rotation_probability": ({}, "data.augment.rotation is 0", {"data__augment__rotation": 5.0}),
    "ps.staleness": ({"ps__mode": "async"}, "ps.mode is async", {"ps__mode": "ssp"}),
}
"""By field: a configuration in which it has no effect, the reason, and one in which it has an effect."""


def test_every_condition_is_tested() -> None:
    assert CASES.keys() == {condition.field for condition in CONDITIONS} <= set(field_names(Config))


@pytest.mark.parametrize("field", CASES)
def test_a_field_has_no_effect_only_under_its_condition(field: str) -> None:
    useless, reason, useful = CASES[field]
    strategy = "ps" if field.startswith("ps.") else "single"
    assert unused(configured(strategy, **useless), strategy)[field] == reason
    assert field not in unused(configured(strategy, **useful), strategy)


def test_options_of_the_chosen_components_are_accepted() -> None:
    names = ("model", "dataset", "loss", "strategy", "loader", "optimizer", "schedule", "top-k", "json:dumps")
    options = {name: {"x": "1"} for name in names}
    check_options(Config(metrics=("top-k",), trackers=("json:dumps",), options=options))


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("modelx", '; did you mean "model"?'),
        ("top-k", ""),  # not chosen
        ("metric", ""),  # a metric's options are under its own name
        ("launcher", ""),
        ("study", ""),
    ],
)
def test_options_of_no_component_are_an_error(key: str, suggestion: str) -> None:
    with pytest.raises(UserError) as error:
        resolve(Recipe(overrides={"options": [f"{key}.depth=3"]}), strategy="single")
    keys = "model, dataset, loss, strategy, loader, optimizer, schedule"
    assert str(error.value) == f"options.{key}: no component here has this key{suggestion} (keys: {keys})"
