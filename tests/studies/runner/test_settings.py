"""A study's settings from its defaults, quick, a profile and words."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest

from distdl.cli.study import own_options
from distdl.core.errors import UserError
from distdl.studies.base import Study, Trial
from distdl.studies.runner import catalog as catalogue
from distdl.studies.runner.folder import StudyFolder
from distdl.studies.runner.settings import as_table, resolve, validate


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


def study(trials=lambda settings: []) -> Study:
    return Study(name="made", summary="", settings=Settings, quick={"seeds": 2}, trials=trials, findings=lambda *_: [])


def test_words_go_over_the_profile_over_quick_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("seeds = 3\nrates = [0.5, 1.0]\n", encoding="utf-8")
    assert resolve(study()) == Settings()
    assert resolve(study(), quick=True).seeds == 2
    both = resolve(study(), quick=True, profile=str(file))
    assert (both.seeds, both.rates) == (3, (0.5, 1.0))
    assert resolve(study(), quick=True, profile=str(file), said=("seeds=4",)).seeds == 4


def test_text_becomes_what_the_field_holds() -> None:
    said = ("rates=1e-3,0.5", "kinds=b,a", "exercises=2", "target=0.9", "folder=/data", "deep=true")
    found = resolve(study(), said=said)
    assert found == Settings(
        rates=(0.001, 0.5), kinds=("b", "a"), exercises=(2,), target=0.9, folder=Path("/data"), deep=True
    )
    assert resolve(study(), said=("target=0.9", "target=none")).target is None
    assert resolve(study(), said=("rates=",)).rates == ()
    with pytest.raises(UserError, match="kinds"):
        resolve(study(), said=("kinds=a,c",))


def test_a_training_profile_is_the_field_of_that_name() -> None:
    assert resolve(study(), profile="mnist-cnn").profile == "mnist-cnn"


def test_settings_come_back_from_their_table() -> None:
    settings = Settings(rates=(0.5,), folder=Path("/data"), target=0.5)
    assert validate(study(), as_table(settings), "there") == settings
    assert "target" not in as_table(Settings())


def test_own_options_are_short_for_set() -> None:
    words = ["made", "--seeds", "3", "--jobs", "2", "--set", "deep=true", "rates=1", "--kinds=a,b", "--quick"]
    assert own_options(words, study()) == [
        *("made", "--jobs", "2", "--quick", "--set"),
        *("seeds=3", "deep=true", "rates=1", "kinds=a,b"),
    ]


@pytest.mark.parametrize(
    ("trials", "complaint"),
    [
        ([Trial(name="a/b")], "not fit for a folder"),
        ([Trial(name="..")], "not fit for a folder"),
        ([Trial(name="a" * 201)], "not fit for a folder"),
        ([Trial(name="a"), Trial(name="a")], 'two trials have the name "a"'),
        ([Trial(name="a", after=("b",))], 'waits for "b", which there is not'),
        ([Trial(name="a", after=("b",)), Trial(name="b", after=("a",))], "wait for each other"),
    ],
)
def test_trials_that_cannot_be_done_are_refused(trials: list[Trial], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=complaint):
        StudyFolder.create(tmp_path / "study", study(lambda settings: trials), Settings())


def test_a_trial_that_became_another_is_not_taken_for_done(tmp_path: Path) -> None:
    from distdl.studies.runner import trial_lock as claim

    def of(words: tuple[str, ...]) -> Study:
        return study(lambda settings: [Trial(name="a", words=words)])

    made = StudyFolder.create(tmp_path / "study", of(("--seed", "1")), Settings())
    folder = made.folder(made.trials[0])
    folder.mkdir(parents=True)
    claim.write(folder, made.trials[0], claim.Record(status="completed", attempts=1))
    assert StudyFolder.create(tmp_path / "study", of(("--seed", "1")), Settings()).outcomes()["a"].completed
    with pytest.raises(UserError, match="made by other words than trial a has now"):
        StudyFolder.create(tmp_path / "study", of(("--seed", "2")), Settings())


def test_the_studys_folder_stands_for_itself_in_words(tmp_path: Path) -> None:
    words = ("--data.labels", "{study}/trials/teacher/labels.npz")
    made = StudyFolder.create(tmp_path / "study", study(lambda settings: [Trial(name="a", words=words)]), Settings())
    assert made.trials[0].words[1] == str((tmp_path / "study").resolve() / "trials/teacher/labels.npz")


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
        resolve(catalogue.find(name), said=[f"{key}=1000000000"])


def test_results_that_are_not_what_the_study_looks_for_are_one_line(tmp_path: Path) -> None:
    one = replace(study(lambda settings: [Trial(name="a")]), findings=lambda settings, outcomes: outcomes["b"])
    with pytest.raises(UserError, match=r"trials cannot be read as results of study \S+: KeyError: 'b'$"):
        StudyFolder(tmp_path, one, Settings()).sections()
