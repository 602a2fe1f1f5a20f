"""DeepSpeed's configuration: derived from distdl's, and merged with a file of the user."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distdl.core.config import Config
from distdl.core.errors import UserError
from distdl.core.userfiles import read_json
from distdl.runtime.world import World

_DECIDED = {
    "optimizer": "optim",
    "scheduler": "schedule",
    "fp16": "compute.precision",
    "bf16": "compute.precision",
    "amp": "compute.precision",
}
"""Sections of DeepSpeed's configuration that distdl sets, and the fields of distdl that decide them."""


def settings(config: Config, world: World) -> dict[str, Any]:
    """Return DeepSpeed's configuration for distdl's, merged with the file `deepspeed.config`.

    Reduced precision is autocast over fp32 weights, as in every other strategy, so that the strategy does not change
    the numerics.

    Raises:
        UserError: if the file cannot be read, or contradicts distdl's configuration.
    """
    zero: dict[str, Any] = {"stage": config.deepspeed.stage}
    if config.deepspeed.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": world.device.type == "cuda"}
    micro_batch = -(-config.data.rank_samples(world.size) // config.optim.accumulate)
    derived: dict[str, Any] = {
        # DeepSpeed checks that these numbers are consistent, but uses them only for its logs.
        "train_batch_size": micro_batch * config.optim.accumulate * world.size,
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": config.optim.accumulate,
        "gradient_clipping": config.optim.clip_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    autocast = {"bf16": "bfloat16", "fp16": "float16"}.get(config.compute.precision)
    if autocast and not scales_itself(config):
        derived["torch_autocast"] = {"enabled": True, "dtype": autocast}
    file = config.deepspeed.config
    return {"steps_per_print": None} | (derived if file is None else merge(derived, _read(file), file))


def _read(file: Path) -> dict[str, Any]:
    try:
        table = read_json(file)
    except UserError as error:
        raise UserError(f"deepspeed.config {error}") from None
    for section in sorted(_DECIDED.keys() & table.keys()):
        if table[section] not in ("auto", {"enabled": False}):
            raise UserError(f"{file} sets {section}, which distdl decides: remove it, and use {_DECIDED[section]}")
        del table[section]
    return table


def merge(derived: Mapping[str, Any], table: Mapping[str, Any], file: Path, prefix: str = "") -> dict[str, Any]:
    """Merge the file's table into the derived one; "auto" in the table keeps the derived value.

    Raises:
        UserError: naming the first key to which the two give different values.
    """
    merged = dict(derived)
    for key, value in table.items():
        if key not in derived:
            merged[key] = value
        elif isinstance(value, Mapping) and isinstance(derived[key], Mapping):
            merged[key] = merge(derived[key], value, file, f"{prefix}{key}.")
        elif value not in (derived[key], "auto"):
            raise UserError(
                f"{file} sets {prefix}{key} = {json.dumps(value)}, but distdl's configuration results in "
                f"{json.dumps(derived[key])}: remove it from the file, or change distdl's configuration"
            )
    return merged


def scales_itself(config: Config) -> bool:
    """Whether the loss scale is distdl's `ZeroLossScale`.

    DeepSpeed's scaler for torch_autocast (0.19.8) checks each rank's shard of each parameter group separately for
    overflow, clips gradients that are still scaled, and keeps its scale when the norm of the gradients has overflowed,
    so that every later step is skipped. At stage 0 gradients are not sharded, and it is correct.
    """
    return config.compute.precision == "fp16" and config.deepspeed.stage > 0
