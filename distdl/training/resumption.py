"""Comparison of a checkpoint with the training that resumes it: what must be equal, what changed, and the effect.

A state is compared before it is loaded, with the names, types and shapes of the running training's state.
"""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from distdl.core.config import DEFAULT_BATCH, Config
from distdl.core.errors import UserError, as_literal
from distdl.core.manifest import STATE, Progress
from distdl.core.profiles import as_table, validate
from distdl.core.run_files import CONFIG
from distdl.core.userfiles import read_toml
from distdl.optim import schedules
from distdl.runtime.tensors import load, network_state
from distdl.strategies.text import gather_text
from distdl.training.events import Training

GROUPING = (
    *("model.freeze", "model.train_only", "model.trainable_features", "model.trainable_classifier"),
    *("optim.lr_factors", "optim.decay_norm_and_bias"),
)
"""Fields that select the parameters to train, or their groups in the optimizer."""
EVALUATION = {"accuracy": math.nan, "loss": math.nan}
"""Evaluation of one split: numbers that need not be finite."""
SECONDS = ("evaluate", "checkpoint")
UNSET = "(not set)"


class Resumable(Training, Protocol):
    """A training whose state can be compared with a checkpoint's."""

    samples: int
    """Samples per epoch."""

    def state_dict(self) -> dict[str, Any]: ...


def read(trainer: Resumable, folder: Path) -> tuple[dict[str, Any], Progress]:
    """Read and check a checkpoint. All ranks succeed, or all raise the error of the first rank that failed.

    Raises:
        UserError: on every rank, if the checkpoint is damaged, or if its network, optimizer, seed or classes differ.
    """
    state, progress, message = {}, Progress(), ""
    try:
        state, progress = load(folder, trainer.world.device)
        check(trainer, state, folder)
    except UserError as error:
        message = str(error)
    messages = gather_text(trainer.strategy, message)
    failed = [rank for rank, text in enumerate(messages) if text]
    if failed:
        raise UserError(("" if 0 in failed else f"rank {failed[0]}: ") + messages[failed[0]])
    return state, progress


def check(trainer: Resumable, saved: Mapping[str, Any], folder: Path) -> None:
    """Raise a UserError if a training cannot resume a checkpoint's state."""
    running = trainer.state_dict()
    if mismatch := _first_mismatch(saved, running):
        raise UserError(f"{folder / STATE} is not the state of a training: {mismatch} is missing or of another type")
    _check_classes(saved, running, folder)
    check_network(saved, running, folder)
    if saved["seed"] != running["seed"]:
        raise UserError(
            f"checkpoint {folder} was trained with --seed {saved['seed']}: use the same seed or another --out"
        )
    weights = f"start from its weights (--model.weights {folder / STATE} --out OTHER)"
    previous, current = _optimizer(saved), _optimizer(running)
    if previous and previous != current:
        raise UserError(
            f"checkpoint {folder} was trained with --optim.name {previous}, not {current}: use {previous}, or {weights}"
        )
    changed = [name for name in _changed(trainer, saved, folder) if name in GROUPING]
    # Checkpoints of older versions do not name the parameters.
    if saved["parameters"] != running["parameters"] if "parameters" in saved else changed:
        raise UserError(
            f"checkpoint {folder} trained other parameters, or grouped them in another way for the optimizer: use the "
            f"same {', '.join(changed or GROUPING)}, or {weights}"
        )


def check_network(saved: Mapping[str, Any], running: Mapping[str, Any], folder: Path) -> None:
    """Raise a UserError if a checkpoint's weights or evaluations do not fit the network."""
    stored, _ = network_state(saved, folder)
    expected, average = running["model"], saved.get("ema") or {}
    mismatch = sorted(set(stored) ^ set(expected), key=str) or [
        name for name, value in expected.items() if not _is_like(stored[name], value)
    ]
    if mismatch:
        raise UserError(
            f'checkpoint {folder} is of another network: "{mismatch[0]}" differs; use the same model and data'
        )
    if mismatch := _mismatch(average, running["ema"] if average else {}, "ema.") or _evaluation_mismatch(saved):
        raise UserError(f"{folder / STATE} is not the state of a training: {mismatch} is missing or of another type")


def _check_classes(saved: Mapping[str, Any], running: Mapping[str, Any], folder: Path) -> None:
    previous, current = saved.get("data", running["data"])["classes"], running["data"]["classes"]
    if previous == current:
        return
    pairs = itertools.zip_longest(previous, current, fillvalue=UNSET)
    number, (old, new) = next((number, pair) for number, pair in enumerate(pairs) if pair[0] != pair[1])
    raise UserError(
        f"checkpoint {folder} was trained on other classes ({len(previous)}, now {len(current)}): class {number} was "
        f"{as_literal(old)} and is {as_literal(new)}; use the same data, or start from its weights "
        f"(--model.weights {folder / STATE} --out OTHER)"
    )


def _first_mismatch(saved: Mapping[str, Any], running: Mapping[str, Any]) -> str:
    """Dotted name of the first value that is missing or of another type than in the running training, or empty."""
    like = {"seed": running["seed"], "strategy": {}, "metrics": {}, "ema": {}}
    like |= {name: _numbers(saved.get(name)) for name in ("seconds", "phases")}
    like["seconds"] |= _numbers(SECONDS)
    added = {"world_size": 1, "config": {}, "data": {"classes": [], "samples": {"train": 0}}}  # not in version 1
    like |= {name: value for name, value in added.items() if name in saved}
    if mismatch := _mismatch(saved, like) or _evaluation_mismatch(saved):
        return mismatch
    if saved.get("world_size", 1) < 1:
        return "world_size"
    return next((name for name in ("config", "data") if not _is_table(saved.get(name))), "")


def _numbers(names: Any) -> dict[Any, float]:
    return dict.fromkeys(names, 0.0) if isinstance(names, Mapping | tuple) else {}


def _evaluation_mismatch(saved: Mapping[str, Any]) -> str:
    metrics, best = saved.get("metrics"), saved.get("best")  # version 1 has no best
    if not isinstance(metrics, Mapping):
        return "metrics"
    if mismatch := _mismatch(metrics, dict.fromkeys(metrics, EVALUATION), "metrics."):
        return mismatch
    if best is not None and (mismatch := _mismatch(best, {"epoch": 0.0, "step": 0, "validation": EVALUATION}, "best.")):
        return mismatch
    numbers = [value for split in (*metrics.values(), best["validation"] if best else {}) for value in split.values()]
    return "" if all(type(number) in (int, float, bool) for number in numbers) else "metrics"


def _mismatch(saved: Any, like: Mapping[str, Any], prefix: str = "") -> str:
    """Dotted name of the first value of `like` that `saved` lacks or has with another type; empty if there is none."""
    if not isinstance(saved, Mapping):
        return prefix.removesuffix(".") or "it"
    for name, value in like.items():
        if isinstance(value, Mapping):
            if mismatch := _mismatch(saved.get(name), value, f"{prefix}{name}."):
                return mismatch
        elif not _is_like(saved.get(name), value):
            return f"{prefix}{name}"
    return ""


def _is_like(value: Any, like: Any) -> bool:
    if isinstance(like, torch.Tensor):
        return isinstance(value, torch.Tensor) and (value.shape, value.dtype) == (like.shape, like.dtype)
    if isinstance(like, float):
        return type(value) in (int, float) and (math.isfinite(value) or math.isnan(like))
    return type(value) is type(like)


def _is_table(value: Any) -> bool:
    """Whether a value consists of JSON types only."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_table(inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return all(_is_table(inner) for inner in value)
    return value is None or type(value) in (str, int, float, bool)


def _optimizer(state: Mapping[str, Any]) -> Any:
    section = state.get("config", {}).get("optim")
    return section.get("name") if isinstance(section, Mapping) else None


def check_remaining(trainer: Resumable, folder: Path) -> None:
    """Raise a UserError if a checkpoint is beyond the end of the training. One at the end is allowed."""
    config, progress = trainer.config, trainer.progress
    for field, reached, end in (
        ("epochs", progress.epoch + (progress.samples > 0), config.epochs),
        ("max_steps", progress.step, config.max_steps or progress.step),
    ):
        if reached > end:
            place = f"epoch {trainer.position:.2f}" if field == "epochs" else f"step {progress.step}"
            raise UserError(f"nothing is left to train: checkpoint {folder} is at {place} of {end}; increase {field}")


def differences(trainer: Resumable, state: Mapping[str, Any], folder: Path) -> tuple[dict[str, list[Any]], list[str]]:
    """Return the values that differ from those of the checkpoint's training, and a sentence for each.

    Returns:
        Old and new value by dotted name, and the sentences; the last one states the learning rate if it changed.
    """
    changed = _changed(trainer, state, folder)
    samples = trainer.state_dict()["data"]["samples"]
    previous_samples = state["data"]["samples"] if "data" in state else samples
    changed |= {
        f"samples in {split}": [previous_samples.get(split, 0), samples.get(split, 0)]
        for split in sorted(previous_samples.keys() | samples.keys())
        if previous_samples.get(split, 0) != samples.get(split, 0)
    }
    ranks = state.get("world_size", trainer.world.size)
    if ranks != trainer.world.size:
        changed["ranks"] = [ranks, trainer.world.size]
    sentences = [
        f"changed since the checkpoint: {name} {_text(old)} -> {_text(new)}" for name, (old, new) in changed.items()
    ]
    previous = _configuration(state, folder)
    rate = "" if previous is None else _rate(trainer, previous, ranks)
    return changed, sentences + ([rate] if rate else [])


def _changed(trainer: Resumable, saved: Mapping[str, Any], folder: Path) -> dict[str, list[Any]]:
    """Old and new value of the configuration's fields that differ, by dotted name."""
    previous = _configuration(saved, folder)
    if previous is None:
        return {}
    strategy = trainer.strategy.name
    old, new = _complete(previous, strategy), _flat(as_table(trainer.config, strategy))
    for table in (old, new):
        if not table.get("data.global_batch"):
            table.setdefault("data.batch_size", DEFAULT_BATCH)
            table["data.global_batch"] = 0
    return {
        name: [old.get(name, UNSET), new.get(name, UNSET)]
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }


def _complete(previous: Mapping[str, Any], strategy: str) -> dict[str, Any]:
    """The table of an earlier configuration, with defaults for the fields that its version did not have."""
    try:
        return _flat(as_table(_validated(previous), strategy)) | {"name": previous.get("name", Config.name)}
    except UserError:  # from a version with other fields
        return _flat(as_table(Config(), strategy)) | _flat(previous)


def _validated(previous: Mapping[str, Any]) -> Config:
    """An earlier configuration, except for its name: older versions accepted any text."""
    return validate({**previous, "name": Config.name}, where="the checkpoint")


def _configuration(state: Mapping[str, Any], folder: Path) -> Mapping[str, Any] | None:
    """The configuration of a checkpoint's training; for checkpoints of version 1, the one in the run folder."""
    config = state.get("config")
    if isinstance(config, Mapping):
        return config
    file = folder.parent.parent / CONFIG
    try:
        return read_toml(file)
    except UserError:
        return None


def _rate(trainer: Resumable, previous: Mapping[str, Any], ranks: int) -> str:
    """A sentence if the learning rate at this position differs from that of the checkpoint's training; else empty."""
    try:
        config = _validated(previous)
    except UserError:  # from a version with other fields
        return ""
    new = _rate_at(trainer, trainer.config, trainer.global_batch, trainer.epochs)
    batch = config.data.step_samples(ranks)
    epochs = min(config.epochs, config.max_steps * batch / trainer.samples) if config.max_steps else config.epochs
    old = _rate_at(trainer, config, batch, epochs)
    if abs(new - old) <= 1e-9 * max(abs(new), abs(old)):
        return ""
    name = trainer.config.schedule.name
    return (
        f"schedule {name} now spans {trainer.epochs:g} epochs (before: {config.schedule.name}, {epochs:g} epochs): "
        f"the learning rate at epoch {trainer.position:.2f} is {new:.3g} (before: {old:.3g})"
    )


def _rate_at(trainer: Resumable, config: Config, global_batch: int, epochs: float) -> float:
    scale = global_batch / config.optim.lr_reference_batch if config.optim.lr_reference_batch else 1.0
    schedule = schedules.build(config.schedule, epochs, config.options.get("schedule", {}))
    return config.optim.lr * scale * schedule(trainer.position)


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
