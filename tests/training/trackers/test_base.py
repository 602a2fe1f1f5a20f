"""Trackers by name, and the checks before a run starts."""

from pathlib import Path

import pytest

from distdl.core.config import Config, TelemetryConfig
from distdl.core.errors import UserError
from distdl.training.trackers.base import factories, names

NAME = "user_trackers:JsonLines"


def test_the_older_field_adds_tensorboard_once() -> None:
    older = TelemetryConfig(tensorboard=True)
    assert names(Config(telemetry=older)) == ("tensorboard",)
    assert names(Config(telemetry=older, trackers=("tensorboard", NAME))) == ("tensorboard", NAME)


def test_a_tracker_is_built_with_its_settings(tmp_path: Path) -> None:
    built = factories(Config(trackers=(NAME,), options={NAME: {"file": "x.jsonl"}}))
    built[NAME](tmp_path).close("stopped")
    assert (tmp_path / "x.jsonl").read_text() == '["close", "stopped"]\n'


def test_invalid_settings_and_modules_are_refused() -> None:
    with pytest.raises(UserError, match=rf'options\.{NAME}\.fil: .* did you mean "file"'):
        factories(Config(trackers=(NAME,), options={NAME: {"fil": "x"}}))
    with pytest.raises(UserError, match="cannot import user_trackers:Nothing"):
        factories(Config(trackers=("user_trackers:Nothing",)))
