"""Trackers that a user could write: one writes JSON lines, the others fail to connect."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class JsonLines:
    """Appends each call to RUN/FILE."""

    def __init__(self, run: Path, *, file: str = "calls.jsonl") -> None:
        self._file = run / file

    def _write(self, *call: Any) -> None:
        with self._file.open("a", encoding="utf-8") as sink:
            sink.write(json.dumps(call) + "\n")

    def log_config(self, config: Mapping[str, Any]) -> None:
        self._write("config", config["name"])

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        self._write("metrics", dict(values), step)

    def log_result(self, result: Mapping[str, Any]) -> None:
        self._write("result", result["steps"])

    def close(self, status: str) -> None:
        self._write("close", status)


class Unreachable(JsonLines):
    """A tracker that cannot connect at the start."""

    def __init__(self, run: Path) -> None:
        raise ConnectionError("no route to host")


class Disconnected(JsonLines):
    """A tracker that loses its connection at the first metrics."""

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        raise ConnectionError("connection reset")
