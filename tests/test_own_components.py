"""Invalid user components of every kind: a one-line error that names the setting and the component, exit code 2."""

from pathlib import Path

import numpy as np
import pytest

from distdl.cli.__main__ import main
from distdl.core.kinds import KINDS
from distdl.data.dataset import ResidentSplit
from distdl.data.sets.contract import problem
from invalid_components import small_set
from relay import register

PARTS = "invalid_components"
QUICK = ("--max-steps", "3", "--progress", "none", "--telemetry.hz", "0", "--compute.device", "cpu", "--out", "run")


def argv(group: str, name: str) -> list[str]:
    """A command that uses a component."""
    if group == "launchers":
        return ["launch", "--with", name, "--dry-run", "--", "--epochs", "1"]
    if group == "studies":
        return ["study", "run", name]
    return ["train", f"--{KINDS[group].where.replace('_', '-')}", name, *QUICK]


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command and return its one-line error, without a warning about other programs on this machine."""
    code = main(arguments)
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("warning: other programs use ")]
    assert (code, captured.out, len(lines)) == (2, "", 1), captured.err
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


@pytest.mark.parametrize("group", sorted(KINDS))
def test_a_value_that_is_not_callable_is_refused(
    group: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if group == "studies":  # a value, not a callable
        register(tmp_path / "site", f"thing = {PARTS}:THING")
        monkeypatch.syspath_prepend(tmp_path / "site")
        for name in ("thing", f"{PARTS}:THING"):
            expected = f'study "{name}": {PARTS}:THING is an int (3); expected a distdl.studies.base.Study'
            assert error(capsys, *argv(group, name)) == expected
        return
    expected = f"{KINDS[group].where}: {PARTS}:THING is not callable: it is an int (3)"
    assert error(capsys, *argv(group, f"{PARTS}:THING")) == expected
    assert not Path("run").exists()


@pytest.mark.parametrize("group", sorted(KINDS))
def test_a_component_that_cannot_be_imported_is_refused(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    where = KINDS[group].where
    message = error(capsys, *argv(group, "no_such_module:part"))
    assert message.startswith(f"{where}: cannot import no_such_module:part: ")
    message = error(capsys, *argv(group, f"{PARTS}:THINK"))
    assert message == f"{where}: cannot import {PARTS}:THINK: there is no 'THINK' in {PARTS}"  # THING is a number
    if group != "datasets":  # which may be paths
        message = error(capsys, *argv(group, "json/decoder.py:part"))
        assert message.startswith(
            f"{where}: 'json/decoder.py:part' is not package.module:callable; did you mean \"json.decoder:"
        )


WRONG = [
    ("losses", "float_loss", "returned a float (0.5); expected a tensor of shape [] or [64]"),
    ("losses", "LossClass", "is the class LossClass; expected a function of (logits, labels) or an instance"),
    ("losses", "matrix_loss", "returned a Tensor of shape [64, 10] and type torch.float32; expected"),
    ("losses", "integer_loss", "returned a Tensor of shape [64] and type torch.int64; expected"),
    ("losses", "detached_loss", "returned a tensor that carries no gradient, so that nothing can be trained: compute"),
    ("losses", "no_grad_loss", "returned a tensor that carries no gradient, so that nothing can be trained: compute"),
    ("models", "DetachedModel", "returned a tensor that carries no gradient, so that nothing can be trained: compute"),
    ("losses", "raising_loss", "failed: ValueError: no such label (--debug shows the traceback)"),
    ("losses", "short_loss", "cannot be called with (logits, labels): too many positional arguments"),
    ("models", "text_model", "returned a str ('a network'); expected a Module"),
    ("models", "PairInTraining", "returned a tuple in training; expected logits of shape [64, classes]"),
    ("schedules", "text_schedule", "returned a str ('0.1'); expected a finite number"),
    ("schedules", "ending_schedule", "returned None; expected a finite number"),
    ("schedules", "nan_schedule", "returned a float (nan); expected a finite number"),
    ("metrics", "NumberMetric", "has sums of a float (0.0); expected a tensor"),
    ("metrics", "TextMetric", "computed a str ('0.5'); expected a number"),
    ("metrics", "RaisingMetric", "failed: IndexError: no such class"),
    ("metrics", "NoMetric", "is the class NoMetric, which has no update or compute"),
    ("optimizers", "no_optimizer", "returned None; expected an Optimizer"),
    ("optimizers", "optimizer_class", "returned the class SGD; expected an Optimizer"),
    ("strategies", "text_strategy", "returned a str ('ddp'); expected a Strategy"),
    ("strategies", "EmptyStrategy", "does not define setup, all_reduce, broadcast or barrier"),
    ("strategies", "NamelessStrategy", "has no attribute `name`"),
    (
        "loaders",
        "no_loader",
        "returned an object; it has no name, spec, reason, clock, stop_requested, skipped, __len__",
    ),
    ("loaders", "TextLoader", "yielded a str ('a'); expected a distdl.data.dataset.Batch"),
    ("augmentations", "no_augmentation", "returned None; expected a Callable"),
    (
        "augmentations",
        "smaller_augmentation",
        "returned a Tensor of shape [64, 1, 4, 8] and type torch.float32; expected",
    ),
    (
        "augmentations",
        "double_augmentation",
        "returned a Tensor of shape [64, 1, 8, 8] and type torch.float64; expected",
    ),
    ("augmentations", "raising_augmentation", "failed: TypeError: "),
    ("trackers", "NoTracker", "is the class NoTracker, which has no log_config, log_metrics, log_result or close"),
    ("trackers", "object_tracker", "returned an object; it has no log_config, log_metrics, log_result or close"),
    ("launchers", "text_launcher", "returned a str ('python'); expected a list of distdl.launchers.job.Command"),
    ("launchers", "empty_launcher", "returned a list; expected a list of distdl.launchers.job.Command"),
    ("launchers", "texts_launcher", "returned a str ('python'); expected a list of distdl.launchers.job.Command"),
    ("datasets", "no_data_set", "returned a dict; expected a DataSet"),
    (
        "datasets",
        "set_without_train",
        "returned a DataSet with train = None; expected a ResidentSplit or an EncodedSplit",
    ),
]


def test_the_table_has_every_kind() -> None:
    assert {group for group, *_ in WRONG} == KINDS.keys() - {
        "studies"
    }  # see test_a_value_that_is_not_callable_is_refused


@pytest.mark.parametrize(("group", "name", "message"), WRONG, ids=[name for _, name, _ in WRONG])
def test_a_wrong_return_value_is_refused(
    group: str, name: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """No file is written, even if the error is detected at the first step."""
    start = "TextMetric" if name == "TextMetric" else f"{PARTS}:{name}"
    assert error(capsys, *argv(group, f"{PARTS}:{name}")).startswith(f"{KINDS[group].where}: {start} {message}")
    assert not list(tmp_path.iterdir())


def test_an_option_that_a_component_refuses_is_a_one_line_error(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*argv("optimizers", "torch.optim:NAdam"), "--options", "optimizer.eps=-1"]
    assert error(capsys, *arguments).startswith("optim.name: torch.optim:NAdam failed: ValueError: Invalid epsilon")


SPLIT = small_set().train
MEMBERS = {
    "classes = an int (2)": {"classes": 2},
    "classes = a list; expected the names": {"classes": [0, 1]},
    "classes = a tuple; expected the names": {"classes": ()},
    "image_size = a float (4.5)": {"image_size": 4.5},
    "channels = an int (0)": {"channels": 0},
    "central = an int (2)": {"central": 2},
    "mean = a float (0.5); expected numbers": {"mean": 0.5},
    "2 values of std for 1 channels": {"std": (0.1, 0.2)},
    "test = None": {"test": None},
    "validation = an ndarray of shape [8]": {"validation": np.zeros(8)},
    "train.labels = a list": {"train": ResidentSplit(labels=[0, 1], images=SPLIT.images[:2])},
    "train.labels = an ndarray of shape [8] and type float64": {
        "train": ResidentSplit(labels=np.zeros(8), images=SPLIT.images)
    },
    "train.labels = an empty array": {"train": SPLIT[np.arange(0)]},
    "train.labels from 0 to 2; expected 0 to 1": {"train": ResidentSplit(labels=np.arange(8) % 3, images=SPLIT.images)},
    "test.images = an ndarray of shape [7, 4, 4, 1]": {
        "test": ResidentSplit(labels=SPLIT.labels, images=SPLIT.images[:7])
    },
    "test.images = an ndarray of shape [8, 4, 4, 1] and type float32": {
        "test": ResidentSplit(labels=SPLIT.labels, images=SPLIT.images.astype(np.float32))
    },
}


@pytest.mark.parametrize(("message", "changes"), MEMBERS.items())
def test_the_first_invalid_field_of_a_data_set_is_named(message: str, changes: dict[str, object]) -> None:
    assert problem(small_set(**changes)).startswith(message)
    assert problem(small_set()) == ""


STUDY = """
from distdl.report.content import Finding, Section
from distdl.studies.base import Study, Trial
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True)
class Settings:
    numbers: tuple[int, ...] = (1, 2)

def trials(settings):
    return [Trial(name=f"n{each}", call="squares:square", settings={"number": each}) for each in settings.numbers]

def square(folder, table):
    return {"square": table["number"] ** 2}

def findings(settings, outcomes):
    squares = [outcome.result["square"] for outcome in outcomes.values() if outcome.completed]
    return [Section(title="Squares", parts=(Finding(text=f"The squares are {squares}.", n=len(squares)),))]

STUDY = Study(
    name="squares", summary="squares of numbers", settings=Settings, quick={}, trials=trials, findings=findings
)
"""


def test_a_study_of_the_current_folder_is_run_shown_and_resumed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Its folder names it as the command does, so that every subcommand finds it again."""
    (tmp_path / "squares.py").write_text(STUDY, encoding="utf-8")
    assert main(["study", "run", "squares:STUDY", "--numbers", "3,4"]) == 0
    assert "The squares are [9, 16]." in capsys.readouterr().out
    folder = tmp_path / "runs" / "studies" / "squares.STUDY"
    assert 'study = "squares:STUDY"' in (folder / "study.toml").read_text(encoding="utf-8")
    assert main(["study", "show", str(folder)]) == 0
    assert "squares:STUDY: 2 of 2 trials completed" in capsys.readouterr().out
    assert main(["report", str(folder)]) == 0
    assert "squares of numbers" in (folder / "report.html").read_text(encoding="utf-8")
    assert main(["study", "run", "squares:STUDY", "--out", str(folder)]) == 0
    capsys.readouterr()
    assert error(capsys, "study", "run", "squares:STUDY", "--numbers", "many").endswith("number")


def test_an_exception_in_the_trials_of_a_study_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = "    return [Trial(name="
    (tmp_path / "broken.py").write_text(STUDY.replace(line, f"    1 / 0\n{line}"), encoding="utf-8")
    message = error(capsys, "study", "run", "broken:STUDY", "--numbers", "3")
    assert message.startswith("study broken:STUDY: trials failed: ZeroDivisionError: ")


def test_an_exception_in_the_findings_of_a_study_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = "    return [Section("
    text = STUDY.replace(line, f"    {{}}['a']\n{line}").replace("squares:", "failing:")
    (tmp_path / "failing.py").write_text(text, encoding="utf-8")
    assert main(["study", "run", "failing:STUDY", "--numbers", "3"]) == 2
    printed = capsys.readouterr().err.splitlines()
    assert printed[-1].startswith("error: study failing:STUDY: findings failed: KeyError: ")


def test_a_study_without_trials_is_refused_and_leaves_no_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "squares.py").write_text(STUDY, encoding="utf-8")
    message = error(capsys, "study", "run", "squares:STUDY", "--numbers", "")
    assert message.startswith("study squares:STUDY has no trials with these settings")
    assert not (tmp_path / "runs").exists()
