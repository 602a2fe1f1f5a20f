"""Requirements that are checked before the first trial: packages, imports and settings of all components."""

from pathlib import Path

import pytest

from distdl.core import registry
from distdl.core.components import COMPONENTS
from distdl.core.errors import UserError
from distdl.core.kinds import KINDS, Row
from distdl.core.profiles import Recipe
from distdl.studies.base import Study, Trial
from distdl.studies.runner import needs
from distdl.studies.runner.folder import StudyFolder
from relay import Settings


def folder(tmp_path: Path, overrides: dict[str, object]) -> StudyFolder:
    """A study with one training."""
    trial = Trial(name="only", recipe=Recipe(overrides=overrides))
    study = Study(
        name="one", settings=Settings, quick={}, trials=lambda settings: [trial], findings=lambda settings, outcomes: []
    )
    return StudyFolder(tmp_path / "study", study, Settings())


def overrides(group: str, name: str) -> dict[str, object]:
    kind = KINDS[group]
    return {kind.where: [name] if kind.several else name}


CHECKED = sorted(group for group, kind in KINDS.items() if kind.is_field and not kind.open)


def test_a_study_with_all_components_passes(tmp_path: Path) -> None:
    needs.check(folder(tmp_path, {"trackers": ["user_trackers:JsonLines"], "optim.name": "adam"}))


@pytest.mark.parametrize("group", CHECKED)
def test_a_component_that_requires_a_missing_package_is_named(
    group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row(factory="no_such_package:part", requires="no_such_package", install="pip install no-such-package")
    monkeypatch.setitem(COMPONENTS, group, {**COMPONENTS[group], "needy": row})
    message = (
        f"study one, trial only: {KINDS[group].where}: needy needs no_such_package, which is not installed; it comes "
        "with: pip install no-such-package"
    )
    with pytest.raises(UserError) as caught:
        needs.check(folder(tmp_path, overrides(group, "needy")))
    assert str(caught.value) == message


@pytest.mark.parametrize("group", CHECKED)
def test_an_invalid_user_component_is_named(group: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^study one, trial only: {KINDS[group].where}: .*THING is not callable"):
        needs.check(folder(tmp_path, overrides(group, "invalid_components:THING")))


def test_the_older_option_for_a_tracker_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row(factory="no_such_package:part", requires="no_such_package")
    monkeypatch.setitem(COMPONENTS, "trackers", {"tensorboard": row})
    with pytest.raises(UserError, match="trackers: tensorboard needs no_such_package"):
        needs.check(folder(tmp_path, {"telemetry.tensorboard": True}))


def test_the_settings_of_a_users_data_set_are_checked(tmp_path: Path) -> None:
    fields = {"data.name": "user_datasets:stripes", "options": {"dataset": {"count": 12}}}
    needs.check(folder(tmp_path, fields))
    with pytest.raises(UserError, match=r"options\.dataset\.cont: .* has no setting 'cont'"):
        needs.check(folder(tmp_path, {**fields, "options": {"dataset": {"cont": 12}}}))


def test_an_unknown_network_is_named_before_the_first_trial(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'^study one, trial only: model\.name.*resnett18.*did you mean "resnet18"'):
        needs.check(folder(tmp_path, {"model.name": "resnett18"}))


def test_every_row_that_requires_a_package_states_how_to_install_it() -> None:
    rows = [row for group in COMPONENTS for row in registry.rows(group).values() if row.requires]
    assert rows
    assert all(row.install for row in rows)
