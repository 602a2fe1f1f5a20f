"""The loop. Everything else decides before it, measures beside it, or listens to it."""

import json
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from distdl.core import checkpoints, errors
from distdl.core.config import Config
from distdl.core.errors import Failure, UserError, reading
from distdl.core.manifest import STATE
from distdl.core.profiles import as_table
from distdl.core.rundir import RunDir
from distdl.data.dataset import Batch, DataSet
from distdl.data.loaders import make_loader
from distdl.models import build as zoo
from distdl.models import freezing as parts
from distdl.optim import optimizers, schedules
from distdl.optim.ema import EMA
from distdl.runtime import tensors
from distdl.runtime.device import REDUCED_PRECISION
from distdl.strategies.base import Strategy
from distdl.strategies.text import broadcast_text, gather_text
from distdl.telemetry.clock import Clock
from distdl.training import resumption
from distdl.training.checkpoint import Checkpoints, Progress
from distdl.training.consensus import Consensus
from distdl.training.events import Callback, Events
from distdl.training.nonfinite import NonFiniteGuard
from distdl.training.stop import StopSignal


class Trainer:
    """One rank's part of one training: a network, its data, how gradients meet, and the state that moves.

    Args:
        strategy: set up already, in the role of training.
        run: the run folder. Rank 0 writes it; the others read checkpoints and add shards. Building a trainer and
            resuming it write nothing: `run.enter` comes after both, and before `fit`.
    """

    def __init__(
        self, config: Config, strategy: Strategy, dataset: DataSet, run: RunDir, callbacks: Iterable[Callback] = ()
    ) -> None:
        self.config, self.strategy, self.dataset, self.run = config, strategy, dataset, run
        self.world = strategy.world
        # Each host's ranks add up to one, however many it has.
        share = torch.tensor([1 / self.world.local_size], dtype=torch.float64)
        self.nodes = round(strategy.all_reduce(share).item())
        self.clock = Clock(self.world.device)
        self.progress = Progress()
        self.metrics: dict[str, dict[str, float]] = {}
        """By split: accuracy and loss of its last evaluation, with the epoch and the step of the weights."""
        self.best: dict[str, Any] | None = None
        """Of the best weights by validation: epoch, step, and `validation`, their metrics."""
        self.changes: dict[str, list[Any]] = {}
        """Configuration fields that differ from the checkpoint's, since `resume`: old and new value."""
        self.remarks: list[str] = []
        """Messages for the user that wait for the training to begin."""
        self.seconds = {"evaluate": 0.0, "checkpoint": 0.0}
        self.skipped: list[str] = []
        self._skipped_before = 0
        self.events = Events(callbacks)
        self.checkpoints = Checkpoints(run.checkpoints, keep=config.checkpoint.keep, kind=config.checkpoint.best)
        self._set_numerics()
        self.loaders = {
            name: make_loader(config, dataset, split, self.world, training=name == "train")
            for name in ("train", "validation", "test")
            if (split := getattr(dataset, name)) is not None
        }
        self.loaders["train"].clock = self.clock
        self._build_model()
        self._check_smallest_piece()
        if config.data.global_batch and not self.loaders["train"].task.divides_as_one_rank():
            self.remarks.append(
                "the last steps of an epoch are divided so that each rank's micro batch has two samples: the weights "
                "will differ from those of one rank. From 8 samples per micro batch on they do not"
            )
        self.stop = StopSignal(max_time=config.max_time)
        self.guard = NonFiniteGuard(self.world.device)
        self.consensus = Consensus(strategy, self.stop, self.guard)
        for loader in self.loaders.values():
            loader.stop_asked = lambda: bool(self.stop.reason)

    def _set_numerics(self) -> None:
        tf32 = self.config.compute.precision != "fp32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = not self.config.deterministic
        if self.config.deterministic != torch.are_deterministic_algorithms_enabled():  # to say it imports inductor: 2 s
            torch.use_deterministic_algorithms(self.config.deterministic)
        dtype = REDUCED_PRECISION.get(self.config.compute.precision)
        self.autocast = torch.autocast(self.world.device.type, dtype) if dtype else nullcontext()

    def _build_model(self) -> None:
        config, dataset, compute = self.config, self.dataset, self.config.compute
        layout = torch.channels_last if compute.channels_last else torch.preserve_format
        self.model = self._network(config.seed).to(self.world.device, memory_format=layout)
        self.global_batch = config.data.step_samples(self.world.size)
        compiled = compute.compile or compute.cuda_graphs
        self.optimizer = optimizers.build(
            config.optim,
            self.model,
            global_batch=self.global_batch,
            compiled=compiled,
            options=config.options.get("optimizer", {}),
        )
        self.parameters = optimizers.names(self.optimizer, self.model)
        if compiled:
            self.model.compile(mode="reduce-overhead" if compute.cuda_graphs else None)
        self.forward = self.strategy.prepare(self.model, self.optimizer, self.clock)
        self.ema = EMA(self.model, config.optim.ema) if config.optim.ema else None
        self.samples = len(dataset.train)
        self.epochs = float(config.epochs)
        if config.max_steps:
            self.epochs = min(self.epochs, config.max_steps * self.global_batch / self.samples)
        self.schedule = schedules.build(config.schedule, self.epochs, config.options.get("schedule", {}))

    def _network(self, seed: int) -> torch.nn.Module:
        """The network with the initial weights that `seed` draws, whatever was drawn before (loaders draw, too)."""
        config, dataset = self.config, self.dataset
        torch.manual_seed(seed)
        size = config.data.image_size or dataset.image_size
        return zoo.build(
            config.model,
            classes=len(dataset.classes),
            channels=dataset.channels,
            image_size=size,
            options=config.options.get("model", {}),
        )

    def _check_smallest_piece(self) -> None:
        size, task = self.config.data.image_size or self.dataset.image_size, self.loaders["train"].task
        shape = (self.dataset.channels, size, size)
        parts.check_smallest_piece(self.model, shape, task.smallest_piece(self.progress.samples))

    def fit(self) -> str:
        """Train to the end, or until told to stop. Returns the status: "completed" or "stopped"."""
        self.events.begin(self)
        while self.remarks:
            self.events.warn(self, self.remarks.pop(0))
        while self.progress.epoch < self.config.epochs and not self._max_steps_done():
            if not self.train_epoch():
                self.save()
                self._saved()
                return "stopped"
            self.end_epoch()
            self._evaluate_and_save()
        self._choose_best()
        self._saved()
        return "completed"

    def train_epoch(self, order: int | None = None) -> bool:
        """The rest of the epoch. False when stopped on the way, with nothing saved.

        Args:
            order: whose epoch's order and augmentation to take; without it, this one's. By it those that go on from
                the same checkpoint see their samples differently.
        """
        progress, clock = self.progress, self.clock
        epoch = progress.epoch if order is None else order
        parts.set_train(self.model)
        since = time.perf_counter()
        for batch in clock.over("data", self.loaders["train"].epoch(epoch, start=progress.samples)):
            loss = self._step(batch)
            progress.step += 1
            progress.samples += batch.total
            progress.images += batch.total
            now = time.perf_counter()
            progress.elapsed_s, since = progress.elapsed_s + now - since, now
            self.events.step_end(self, loss)
            if self.consensus.should_check(progress.step):
                while self.strategy.warnings:
                    self.events.warn(self, self.strategy.warnings.popleft())
                if self.consensus.should_stop(progress.step):
                    return False
            if self._max_steps_done():
                break
            if self._due_by_steps() and not self._epoch_is_over():  # else saved once, after the evaluation
                self.save()
                since = time.perf_counter()
        if self.world.device.type == "cuda":
            torch.cuda.synchronize()  # what is still queued is training, not the evaluation that would wait for it
            progress.elapsed_s += time.perf_counter() - since
        return True

    def _step(self, batch: Batch) -> torch.Tensor:
        """Forward, backward, exchange and update on one batch. Returns this rank's mean loss, on the device."""
        config, clock = self.config, self.clock
        schedules.apply(self.optimizer, self.schedule(self.position))
        self._seed_step()
        losses = []
        # The same number on every rank: if forward itself communicates (ZeRO stage 3), all must run it equally often.
        smallest = max(batch.total // self.world.size, 1)
        chunks = _micro_batches(batch, min(config.optim.accumulate, smallest))
        for index, (images, labels) in enumerate(chunks):
            with self.strategy.micro_batch(last=index == len(chunks) - 1):
                with clock("forward"), self.autocast:
                    loss = F.cross_entropy(self.forward(images), labels, label_smoothing=config.optim.label_smoothing)
                    share = batch.weight * len(images) / len(batch.images)
                    if share != 1:
                        loss = loss * share
                with clock("backward"):
                    self.strategy.backward(loss)
            losses.append(loss.detach())
        with clock("update"):
            updated = self.strategy.step()
            if self.ema and updated:  # under fp16 this waits for the device
                self.ema.update(self.model)
        total = sum(losses[1:], start=losses[0])
        self.guard.record(total, self.progress.step + 1)
        return total

    @property
    def position(self) -> float:
        """Epochs done so far, with the part of the running one."""
        return self.progress.epoch + self.progress.samples / self.samples

    def _seed_step(self) -> None:
        """Dropout of a step follows from (seed, step, rank): to go on exactly, no generator's state is needed."""
        mixed = self.config.seed * 0x9E3779B97F4A7C15 + self.progress.step * 0xBF58476D1CE4E5B9
        seed = (mixed + self.world.rank * 0x94D049BB133111EB) % 2**63
        torch.default_generator.manual_seed(seed)
        if self.world.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _max_steps_done(self) -> bool:
        return 0 < self.config.max_steps <= self.progress.step

    def _due_by_steps(self) -> bool:
        every = self.config.checkpoint.every_steps
        return bool(every) and self.progress.step % every == 0

    def _epoch_is_over(self) -> bool:
        remaining = self.samples - self.progress.samples
        return remaining <= 0 or (self.config.data.drop_last and remaining < self.global_batch)

    def end_epoch(self) -> None:
        """Count the epoch that was trained, and call the listeners."""
        progress = self.progress
        if progress.samples >= self.samples or self.config.data.drop_last:
            progress.epoch, progress.samples = progress.epoch + 1, 0
        self._gather_skipped()
        self.events.epoch_end(self)

    def _evaluate_and_save(self) -> None:
        progress, config = self.progress, self.config
        last = progress.epoch >= config.epochs or self._max_steps_done()
        metric, improved = None, False
        if not self.strategy.replayed and (last or progress.epoch % config.evaluate_every == 0):
            split = "validation" if "validation" in self.loaders else "test"
            metric = self.evaluate(split)[config.checkpoint.best]
            improved = split == "validation" and self._is_best()
        every = config.checkpoint.every_epochs
        if last or improved or self._due_by_steps() or (every and progress.epoch % every == 0):
            self.save(metric)

    def _is_best(self) -> bool:
        """Whether the validation just done is the best so far; then it is remembered as `best`."""
        kind, reached = self.config.checkpoint.best, self.metrics["validation"]
        if self.best is not None:
            previous = self.best["validation"][kind]
            if not (reached[kind] < previous if kind == "loss" else reached[kind] > previous):
                return False
        self.best = _best(reached)
        return True

    def _gather_skipped(self) -> None:
        """Warn once about each unreadable file of any rank (data.on_error skip)."""
        mine = sum(len(loader.skipped) for loader in self.loaders.values())
        if int(self.strategy.all_reduce(torch.tensor([mine]))) > self._skipped_before:
            texts = gather_text(self.strategy, "\n".join(s for loader in self.loaders.values() for s in loader.skipped))
            found = sorted({line for text in texts for line in text.splitlines()})
            for sentence in found:
                if sentence not in self.skipped:
                    self.events.warn(self, sentence)
            self.skipped, self._skipped_before = found, sum(len(text.splitlines()) for text in texts)

    def _choose_best(self) -> None:
        """With a validation set: test the weights of the best checkpoint, once. Rank 0 chooses and sends them."""
        if "validation" not in self.loaders or self.strategy.replayed:
            return
        self._wait_for_checkpoints()
        chosen: dict[str, Any] = {}
        tensors: dict[str, torch.Tensor] = {}
        if self.world.rank == 0:
            try:
                chosen, tensors = self._best_weights()
            except (UserError, OSError) as error:  # the other ranks wait for the choice
                self.events.warn(self, f"the best checkpoint cannot be read: {errors.reason(error)}")
        kinds = [[name, str(value.dtype).removeprefix("torch."), [*value.shape]] for name, value in tensors.items()]
        chosen, kinds = json.loads(broadcast_text(self.strategy, json.dumps([chosen, kinds])))
        if not chosen:
            self.events.warn(self, "no checkpoint with a validation is left: the weights of the last step are tested")
            self.best = _best(self.metrics["validation"]) if "validation" in self.metrics else None
            self.evaluate("test")
            return
        for name, kind, shape in kinds:
            value = torch.empty(shape, dtype=getattr(torch, kind), device=self.world.device)
            if self.world.rank == 0:
                value.copy_(tensors[name])
            tensors[name] = self.strategy.broadcast(value)
        self.strategy.load_model_state(_section(tensors, "model."))
        if self.ema:
            self.ema.load_state_dict({"average": _section(tensors, "average."), "updates": self.ema.updates})
        self.best, self.metrics["validation"] = chosen, chosen["validation"]
        self.evaluate("test", of=chosen)

    def _best_weights(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Position and validation of the best whole checkpoint, and its tensors by prefixed name; empty without one."""
        kind, warn = self.config.checkpoint.best, lambda message: self.events.warn(self, message)
        folder = checkpoints.best_whole(self.run.checkpoints, kind, warn)
        if folder is None:
            return {}, {}
        state, progress = tensors.load(folder)
        resumption.check_network(state, self.state_dict(), folder)
        model, average = tensors.network_state(state, folder)
        validation = state["metrics"].get("validation", {})
        chosen = {"epoch": progress.epoch, "step": progress.step, "validation": validation}
        named = {f"model.{name}": tensor for name, tensor in model.items()}
        return chosen, named | {f"average.{name}": tensor for name, tensor in average.items()}

    @torch.no_grad()
    def evaluate(self, split: str, of: Mapping[str, Any] | None = None) -> dict[str, float]:
        """Accuracy and loss over every sample of a split exactly once, whatever the world size.

        A rank whose share is shorter gets samples that count for nothing, so that all take the same number of steps.
        Unreadable samples are left out (data.on_error skip); the metrics then have their number, as `left_out`.

        Args:
            of: epoch and step of the weights, where they are not those of the last step but the chosen best.
        Raises:
            UserError: no sample is readable.
        """
        since = time.perf_counter()
        self.strategy.sync_parameters()
        self.model.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self.world.device)  # right, loss, samples
        with self.ema.swapped(self.model) if self.ema else nullcontext():
            for buffer in self.model.buffers():
                self.strategy.broadcast(buffer)  # each rank's BatchNorm has seen other samples: rank 0's goes
            for batch in self.loaders[split].epoch(0):
                with self.autocast:
                    output = _crops_averaged(self.model, batch.images)
                output, labels = output[: batch.count].float(), batch.labels[: batch.count]
                sums[0] += (output.argmax(1) == labels).sum()
                sums[1] += F.cross_entropy(output, labels, reduction="sum")
                sums[2] += batch.count
        right, loss, count = self.strategy.all_reduce(sums).tolist()
        if not count:
            raise UserError(f"data set {self.dataset.name}: none of the samples to evaluate on can be read")
        at = {"epoch": of["epoch"], "step": of["step"], "best": True} if of else self._place()
        self.metrics[split] = {"accuracy": right / count, "loss": loss / count, **at}
        if left_out := len(getattr(self.dataset, split)) - round(count):
            self.metrics[split]["left_out"] = left_out
            self._gather_skipped()
        self.seconds["evaluate"] += time.perf_counter() - since
        self.events.evaluate_end(self, split, self.metrics[split])
        return self.metrics[split]

    def _place(self) -> dict[str, Any]:
        """Epoch and step of the weights as they are: whole epochs as an integer."""
        position = round(self.position, 6)
        return {"epoch": int(position) if position.is_integer() else position, "step": self.progress.step}

    def save(self, metric: float | None = None) -> None:
        """Copy the complete state; a thread writes it. A failed write is reported, and training continues."""
        since = time.perf_counter()
        self.consensus.check_health()  # a loss that is not a number must not reach a checkpoint
        self.strategy.sync_parameters()
        writer = self.world.rank == 0
        folder = self.checkpoints.begin(self.progress.step) if writer else None
        if self.checkpoints.failed:
            self.events.warn(self, self.checkpoints.failed)
        complete = not self.strategy.sharded or self._save_shards()
        if writer and complete:
            self.checkpoints.save(folder, self.state_dict(), self.progress, metric)
        self.seconds["checkpoint"] += time.perf_counter() - since
        self.events.checkpoint(self)

    def _save_shards(self) -> bool:
        """Every rank's shards, into the folder that rank 0 has made. Returns whether all are there, on every rank.

        If one rank fails, all give this checkpoint up, and training continues.
        """
        folder, reason = self.checkpoints.hidden(self.progress.step), ""
        ready = self.world.rank != 0 or folder.is_dir()
        if not self._all_ranks(ready):
            return False  # rank 0 has said why
        try:
            self.strategy.save_shards(folder)
        except (OSError, Failure) as error:
            reason = f"rank {self.world.rank}: {error if isinstance(error, Failure) else errors.reason(error)}"
        if self._all_ranks(not reason):
            return True
        first = next(filter(None, gather_text(self.strategy, reason)))
        if self.world.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
            step = self.progress.step
            self.checkpoints.failed = f"the checkpoint of step {step} was not written to {folder.parent}: {first}"
            self.events.warn(self, self.checkpoints.failed)
        return False

    def _all_ranks(self, ok: bool) -> bool:
        return bool(self.strategy.all_reduce(torch.tensor([int(ok)]), "min"))

    def _saved(self) -> None:
        """Wait for the last checkpoint.

        Raises:
            Failure: on every rank, if it could not be written: what was trained since the one before it is lost.
        """
        self._wait_for_checkpoints()
        if failed := broadcast_text(self.strategy, self.checkpoints.failed or ""):
            raise Failure(failed)

    def _wait_for_checkpoints(self) -> None:
        since = time.perf_counter()
        self.checkpoints.wait()
        self.seconds["checkpoint"] += time.perf_counter() - since

    def state_dict(self) -> dict[str, Any]:
        """Everything but the position: tensors, numbers, strings, lists and dicts."""
        return {
            "model": self.strategy.model_state(),
            "strategy": self.strategy.state_dict(),
            "ema": self.ema.state_dict() if self.ema else {},
            "metrics": self.metrics,
            "best": self.best,
            "seconds": self.seconds,
            "phases": self.clock.read(),
            "seed": self.config.seed,
            "world_size": self.world.size,
            "config": as_table(self.config, self.strategy.name),
            "parameters": self.parameters,
            "data": {
                "classes": [*self.dataset.classes],
                "samples": {
                    name: len(split)
                    for name in ("train", "validation", "test")
                    if (split := getattr(self.dataset, name)) is not None
                },
            },
        }

    def resume(self, folder: Path) -> None:
        """Continue from a checkpoint, at any world size.

        Raises:
            UserError: on every rank, if it is damaged or of another network, optimizer, seed or other classes.
        """
        state, progress = self._read_state(folder)
        self.strategy.load_model_state(state["model"])
        with reading(folder / STATE, "the state of this optimizer"):
            self.strategy.load_state_dict(state["strategy"])
        with reading(folder, "shards of this strategy"):
            self.strategy.load_shards(folder)
        if self.ema:
            self.ema = EMA(self.model, self.ema.decay)  # of the weights just loaded, where the checkpoint has none
            if state["ema"]:
                self.ema.load_state_dict(state["ema"])
        self.progress, self.seconds = progress, state["seconds"]
        # Version 1's metrics do not name their weights.
        self.metrics = {split: {**self._place(), **values} for split, values in state["metrics"].items()}
        # A best of another run folder is not here to be chosen at the end.
        self.best = state.get("best") if folder.resolve().parent == self.run.checkpoints.resolve() else None
        self.clock.seconds |= state["phases"]
        self.progress.resumes += 1
        self._check_smallest_piece()
        self.guard.reset()
        self.changes, remarks = resumption.differences(self, state, folder)
        self.remarks += remarks

    def _read_state(self, folder: Path) -> tuple[dict[str, Any], Progress]:
        """Read and check a checkpoint: all ranks succeed, or all raise what the first one could not read."""
        state, progress, message = {}, Progress(), ""
        try:
            state, progress = tensors.load(folder, self.world.device)
            resumption.check(self, state, folder)
        except UserError as error:
            message = str(error)
        messages = gather_text(self.strategy, message)
        failed = [rank for rank, text in enumerate(messages) if text]
        if failed:
            raise UserError(("" if 0 in failed else f"rank {failed[0]}: ") + messages[failed[0]])
        return state, progress

    def start_over(self, seed: int) -> None:
        """Begin again, with the initial weights that `seed` draws: no step is done and nothing is remembered."""
        self.strategy.load_model_state(self._network(seed).state_dict())
        self.optimizer.state.clear()
        self.ema = EMA(self.model, self.config.optim.ema) if self.config.optim.ema else None
        self.progress, self.metrics, self.best = Progress(), {}, None
        self.guard.reset()

    def identity(self) -> dict[str, Any]:
        """The part of result.json that is known before the first step."""
        return {
            "name": self.config.name,
            "world_size": self.world.size,
            "nodes": self.nodes,
            "strategy": self.strategy.name,
            "loader": self.loaders["train"].name,
            "device": str(self.world.device.type),
            "global_batch": self.global_batch,
        }

    def result(self, status: str) -> dict[str, Any]:
        """The content of result.json at the end."""
        progress = self.progress
        return {
            "status": status,
            **self.identity(),
            **self.metrics,
            **({"best": self.best} if self.best else {}),
            "epochs": progress.epoch,
            "steps": progress.step,
            "images": progress.images,
            "train_s": progress.elapsed_s,
            "evaluate_s": self.seconds["evaluate"],
            "checkpoint_s": self.seconds["checkpoint"],
            "images_per_s": progress.images / progress.elapsed_s if progress.elapsed_s else 0.0,
            "phases_s": self.clock.read(),
            "resumes": progress.resumes,
            "skipped": self.skipped,
            **self.strategy.report(),
            **self.events.result(self),
        }

    def close(self) -> None:
        """End the checkpoint's thread, the listeners and the loaders' processes."""
        self._wait_for_checkpoints()
        self.events.close(self)
        self.close_loaders()

    def close_loaders(self) -> None:
        """End the loaders' processes: all that a trainer must end that was never used."""
        for loader in self.loaders.values():
            loader.close()


def _micro_batches(batch: Batch, parts: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Images and labels in `parts` parts whose sizes differ by at most one; none is empty."""
    parts = min(parts, len(batch.images))
    return list(zip(batch.images.tensor_split(parts), batch.labels.tensor_split(parts), strict=True))


def _section(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Tensors whose name begins with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _best(validation: Mapping[str, Any]) -> dict[str, Any]:
    return {"epoch": validation["epoch"], "step": validation["step"], "validation": dict(validation)}


def _crops_averaged(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The network's output; of several crops an image, [b, crops, C, H, W], their mean."""
    if images.dim() == 4:
        return model(images)
    return model(images.flatten(0, 1)).unflatten(0, images.shape[:2]).mean(1)
