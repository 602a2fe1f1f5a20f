"""Settings of a study: defaults, quick version, profile and assignments."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest
import tomli_w

from distdl.cli.study import own_options
from distdl.core.errors import UserError
from distdl.core.files import write_json
from distdl.core.profiles import Recipe
from distdl.core.profiles import resolve as resolve_recipe
from distdl.studies.base import Overrides, Study, Trial
from distdl.studies.runner import catalog
from distdl.studies.runner import trial_lock as claim
from distdl.studies.runner.folder import StudyFolder, read_study
from distdl.studies.runner.settings import as_table, resolve, validate
from invalid_values import as_arguments, fields, invalid, out_of_range


@dataclass(frozen=True, kw_only=True)
class Settings:
    rates: tuple[float, ...] = (0.1,)
    seeds: int = 5
    kinds: tuple[Literal["a", "b"], ...] = ("a",)
    exercises: tuple[Literal[1, 2], ...] = (1, 2)
    target: float | None = None
    folder: Path = Path("here")
    deep: bool = False
    profile: str = "digits"
    overrides: Overrides = field(default_factory=dict)


def study(trials=lambda settings: []) -> Study:
    return Study(name="made", summary="", settings=Settings, quick={"seeds": 2}, trials=trials, findings=lambda *_: [])


def test_assignments_override_profile_quick_and_defaults(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("seeds = 3\nrates = [0.5, 1.0]\n", encoding="utf-8")
    assert resolve(study()) == Settings()
    assert resolve(study(), quick=True).seeds == 2
    both = resolve(study(), quick=True, profile=str(file))
    assert (both.seeds, both.rates) == (3, (0.5, 1.0))
    assert resolve(study(), quick=True, profile=str(file), assignments=("seeds=4",)).seeds == 4


def test_text_is_converted_to_the_type_of_the_field() -> None:
    assignments = ("rates=1e-3,0.5", "kinds=b,a", "exercises=2", "target=0.9", "folder=/data", "deep=true")
    settings = resolve(study(), assignments=assignments)
    assert settings == Settings(
        rates=(0.001, 0.5), kinds=("b", "a"), exercises=(2,), target=0.9, folder=Path("/data"), deep=True
    )
    assert resolve(study(), assignments=("target=0.9", "target=none")).target is None
    assert resolve(study(), assignments=("rates=",)).rates == ()
    with pytest.raises(UserError, match="kinds"):
        resolve(study(), assignments=("kinds=a,c",))


@pytest.mark.parametrize("name", ["rates", "seeds", "target", "folder"])
def test_settings_of_another_package_have_the_ranges_of_distdl(name: str) -> None:
    """The classes of a study's settings state no ranges here."""
    kind = dict(fields(Settings))[name]
    for value in invalid(kind):
        Path("mine.toml").write_bytes(tomli_w.dumps({name: value}).encode())
        with pytest.raises(UserError, match=f"{name}"):
            resolve(study(), profile="./mine.toml")
    for value in out_of_range(kind):
        texts = as_arguments(value)
        if texts is not None and (texts != [""] or not isinstance(value, list)):
            with pytest.raises(UserError, match=f"{name}"):
                resolve(study(), assignments=[f"{name}={','.join(texts)}"])


def test_a_training_profile_sets_the_field_profile() -> None:
    assert resolve(study(), profile="mnist-cnn").profile == "mnist-cnn"


def test_settings_are_restored_from_their_table() -> None:
    settings = Settings(rates=(0.5,), folder=Path("/data"), target=0.5)
    assert validate(study(), as_table(settings), "there") == settings
    assert "target" not in as_table(Settings())


def test_options_of_a_study_are_short_for_set() -> None:
    argv = ["made", "--seeds", "3", "--jobs", "2", "--set", "deep=true", "rates=1", "--kinds=a,b", "--quick"]
    assert own_options(argv, study()) == [
        *("made", "--jobs", "2", "--quick", "--set"),
        *("seeds=3", "deep=true", "rates=1", "kinds=a,b"),
    ]


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        ([Trial(name="a/b")], "is not a valid name: letters"),
        ([Trial(name="..")], "is not a valid name: letters"),
        ([Trial(name="a" * 81)], "is not a valid name: letters"),
        ([Trial(name="a"), Trial(name="a")], 'two trials have the name "a"'),
        ([Trial(name="a", after=("b",))], 'depends on "b", which does not exist'),
        ([Trial(name="a", after=("b",)), Trial(name="b", after=("a",))], "depend on each other"),
    ],
)
def test_invalid_trials_are_refused(trials: list[Trial], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        StudyFolder.create(tmp_path / "study", study(lambda settings: trials), Settings())


def test_a_changed_trial_does_not_count_as_completed(tmp_path: Path) -> None:
    def of(seed: int) -> Study:
        return study(lambda settings: [Trial(name="a", recipe=Recipe(overrides={"seed": seed}))])

    created = StudyFolder.create(tmp_path / "study", of(1), Settings())
    folder = created.folder(created.trials[0])
    folder.mkdir(parents=True)
    claim.write(folder, created.trials[0], claim.Record(status="completed", attempts=1))
    assert StudyFolder.create(tmp_path / "study", of(1), Settings()).outcomes()["a"].completed
    with pytest.raises(UserError, match="created with other overrides than trial a has now"):
        StudyFolder.create(tmp_path / "study", of(2), Settings())


@pytest.mark.parametrize(("seed", "same"), [("1", True), ("2", False)])
def test_a_record_of_version_0_1_is_compared_by_its_configuration(tmp_path: Path, seed: str, same: bool) -> None:
    trial = Trial(name="a", recipe=Recipe(overrides={"seed": 1}))
    claim.write(tmp_path, trial, claim.Record(status="completed"))
    table = json.loads((tmp_path / claim.RECORD).read_text(encoding="utf-8"))
    del table["profile"], table["overrides"]
    write_json(tmp_path / claim.RECORD, table | {claim.V01_ARGV: ["--profile", "digits", "--seed", seed]})
    if same:
        claim.check_same(tmp_path, trial)
    else:
        with pytest.raises(UserError, match="created with other overrides than trial a has now"):
            claim.check_same(tmp_path, trial)


def test_arguments_of_a_training_make_a_recipe_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="use recipe=Recipe") as caught:
        trial = Trial(name="a", words=("--profile", "mnist-cnn", "--optim.lr", "0.5"))
    assert caught[0].filename == __file__
    config = resolve_recipe(trial.recipe, strategy="single")
    assert (config.optim.lr, config.model.name) == (0.5, "mnist-cnn")
    assert replace(trial, name="b").recipe == trial.recipe


def test_the_study_folder_is_inserted_into_text(tmp_path: Path) -> None:
    recipe = Recipe(
        profile="{study}/p.toml",
        overrides={"data.labels": "{study}/trials/teacher/labels.npz", "model.freeze": ("{study}", "a")},
    )
    folder = StudyFolder(tmp_path / "study", study(lambda settings: [Trial(name="a", recipe=recipe)]), Settings())
    path = str((tmp_path / "study").resolve())
    assert folder.trials[0].recipe == Recipe(
        profile=f"{path}/p.toml",
        overrides={"data.labels": f"{path}/trials/teacher/labels.npz", "model.freeze": (path, "a")},
    )


def test_the_former_name_of_a_setting_works_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    renamed = replace(study(), renamed={"repetitions": "seeds"})
    assert resolve(renamed, assignments=("repetitions=4",)).seeds == 4
    assert capsys.readouterr().err == "warning: --set: repetitions is deprecated, use seeds\n"
    file = tmp_path / "mine.toml"
    file.write_text("repetitions = 3\n", encoding="utf-8")
    assert resolve(renamed, profile=str(file)).seeds == 3
    assert own_options(["made", "--repetitions", "4"], renamed) == ["made", "--set", "repetitions=4"]


class TestOverrides:
    def test_overrides_are_set_by_name_with_their_types(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.toml"
        file.write_text("[overrides]\nepochs = 3\noptim.lr = 0.5\n", encoding="utf-8")
        texts = ("overrides.data.batch-size=64", "overrides.schedule.milestones=1,2.5", "overrides.optim.lr=0.1")
        settings = resolve(study(), profile=str(file), assignments=(*texts, "overrides.data.drop_last=true"))
        assert settings.overrides == {
            "epochs": 3,
            "optim.lr": 0.1,
            "data.batch_size": 64,
            "schedule.milestones": (1, 2.5),
            "data.drop_last": True,
        }

    def test_overrides_are_restored_from_the_study_folder(self, tmp_path: Path) -> None:
        settings = resolve(study(), assignments=("overrides.schedule.milestones=1,2", "overrides.data.limit=5"))
        one_trial = study(lambda settings: [Trial(name="a")])
        StudyFolder.create(tmp_path / "study", one_trial, settings)
        StudyFolder.create(tmp_path / "study", one_trial, settings)
        table = read_study(tmp_path / "study")["settings"]
        assert validate(study(), table, "there").overrides == {"schedule.milestones": [1, 2], "data.limit": 5}

    def test_an_option_of_the_study_may_set_an_override(self) -> None:
        argv = ["made", "--overrides.optim.lr", "0.1", "--overrides.data.limit=5"]
        assert own_options(argv, study()) == ["made", "--set", "overrides.optim.lr=0.1", "overrides.data.limit=5"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("overrides.optim.lrr=0.1", 'overrides.optim.lrr: "optim.lrr" is not a key of distdl; did you mean'),
            ("overrides.epochs=many", "overrides.epochs: 'many' is not a whole number"),
            ("overrides.epochs=-1", "overrides.epochs = -1: must be"),
            ("overrides=3", "--set overrides. has no field: write overrides.optim.lr=0.1"),
            ("seeds.x=3", "seeds is a value, not a section"),
            (f"{claim.V01_ARGV}=--seed,1", 'of version 0.1 is now "overrides"'),
        ],
    )
    def test_invalid_overrides_are_one_line_errors(self, text: str, message: str) -> None:
        with pytest.raises(UserError) as error:
            resolve(study(), assignments=(text,))
        assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "setting",
    [
        *("scaling repeats", "paleo repeats", "optimus seeds", "decathlon seeds", "transfer seeds", "weak seeds"),
        *("semisupervised seeds", "optimizers softmax_seeds", "optimizers cnn_seeds", "leaderboard processes"),
    ],
)
def test_more_trials_than_fit_in_memory_are_refused(setting: str) -> None:
    name, key = setting.split()
    with pytest.raises(UserError, match=rf"^study {name}: {key} = 1000000000: must be at most 1000$"):
        resolve(catalog.find(name), assignments=[f"{key}=1000000000"])


def test_unexpected_results_are_a_one_line_error(tmp_path: Path) -> None:
    unusable = replace(study(lambda settings: [Trial(name="a")]), findings=lambda settings, outcomes: outcomes["b"])
    with pytest.raises(UserError, match=r"study made: findings failed: KeyError: 'b'"):
        StudyFolder(tmp_path, unusable, Settings()).sections()
