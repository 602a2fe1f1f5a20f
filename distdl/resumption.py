"""The difference between a checkpoint's training and the one that resumes it: fields that changed, and their effect."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distdl.checkpoint import STATE
from distdl.config import DEFAULT_BATCH, Config
from distdl.errors import UserError, reading
from distdl.optim import schedules
from distdl.resolve import as_table, validate
from distdl.rundir import CONFIG

if TYPE_CHECKING:
    from distdl.trainer import Trainer

FIELDS = {"model": dict, "strategy": dict, "ema": dict, "metrics": dict, "seconds": dict, "phases": dict, "seed": int}
"""What a resume needs of a checkpoint's state, with types."""
SECONDS = ("evaluate", "checkpoint")
UNSET = "(not set)"


def check_fields(state: Mapping[str, Any], folder: Path) -> None:
    """Raise a UserError if a checkpoint's state lacks a field that a resume needs."""
    odd = [name for name, kind in FIELDS.items() if not isinstance(state.get(name), kind)]
    odd += [f"seconds.{name}" for name in SECONDS if not odd and not isinstance(state["seconds"].get(name), float)]
    if not odd and not _is_best(state.get("best")):
        odd = ["best"]
    if odd:
        raise UserError(f"{folder / STATE} is not the state of a training: {odd[0]} is missing or of another type")


def _is_best(best: Any) -> bool:
    validation = best.get("validation") if isinstance(best, Mapping) else None
    return best is None or (isinstance(validation, Mapping) and {"accuracy", "loss"} <= validation.keys())


def differences(trainer: "Trainer", state: Mapping[str, Any], folder: Path) -> tuple[dict[str, list[Any]], list[str]]:
    """Fields whose value differs from that of the checkpoint's training, and a sentence for each.

    Returns:
        Old and new value by dotted name, and the sentences; the last one states a learning rate that changed with them.
    """
    previous = _configuration(state, folder)
    if previous is None:
        return {}, []
    old, new = _complete(previous, trainer), _flat(as_table(trainer.config, trainer.strategy.name))
    for table in (old, new):
        if not table.get("data.global_batch"):
            table.setdefault("data.batch_size", DEFAULT_BATCH)
            table["data.global_batch"] = 0
    changed = {
        name: [old.get(name, UNSET), new.get(name, UNSET)]
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }
    ranks = state.get("world_size")
    if isinstance(ranks, int) and ranks != trainer.world.size:
        changed["ranks"] = [ranks, trainer.world.size]
    sentences = [
        f"changed since the checkpoint: {name} {_text(was)} -> {_text(now)}" for name, (was, now) in changed.items()
    ]
    rate = _rate(trainer, previous, ranks if isinstance(ranks, int) else trainer.world.size)
    return changed, sentences + ([rate] if rate else [])


def _complete(previous: Mapping[str, Any], trainer: "Trainer") -> dict[str, Any]:
    """The table of a former configuration with the defaults of fields that its version did not have."""
    try:
        return _flat(as_table(validate(previous, where="the checkpoint"), trainer.strategy.name))
    except UserError:  # of a version with other fields
        return _flat(previous)


def _configuration(state: Mapping[str, Any], folder: Path) -> Mapping[str, Any] | None:
    """The configuration of a checkpoint's training; of version 1's checkpoints, that of the run folder."""
    config = state.get("config")
    if isinstance(config, Mapping):
        return config
    file = folder.parent.parent / CONFIG
    try:
        with reading(file, "TOML"):
            return tomllib.loads(file.read_text(encoding="utf-8"))
    except UserError:
        return None


def _rate(trainer: "Trainer", previous: Mapping[str, Any], ranks: int) -> str:
    """A sentence if the learning rate at this position is another than the checkpoint's training would have had."""
    try:
        config = validate(previous, where="the checkpoint")
    except UserError:  # of a version with other fields
        return ""
    new = _rate_at(trainer, trainer.config, trainer.global_batch, trainer.epochs)
    batch = config.data.step_samples(ranks)
    epochs = min(config.epochs, config.max_steps * batch / trainer.samples) if config.max_steps else config.epochs
    old = _rate_at(trainer, config, batch, epochs)
    if abs(new - old) <= 1e-9 * max(abs(new), abs(old)):
        return ""
    name = trainer.config.schedule.name
    return (
        f"schedule {name} is laid over {trainer.epochs:g} epochs (before: {config.schedule.name} over {epochs:g}): "
        f"the learning rate at epoch {trainer.position:.2f} is {new:.3g} (before: {old:.3g})"
    )


def _rate_at(trainer: "Trainer", config: Config, global_batch: int, epochs: float) -> float:
    scale = global_batch / config.optim.lr_batch if config.optim.lr_batch else 1.0
    return config.optim.lr * scale * schedules.factor(config.schedule, trainer.position, epochs)


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
