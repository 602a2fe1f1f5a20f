"""The training loop, composed of the parts in the other modules of this package."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from distdl.core.config import Config
from distdl.core.errors import reading
from distdl.core.manifest import STATE, Progress
from distdl.core.profiles import as_table
from distdl.core.rundir import RunDir
from distdl.data.dataset import Batch, DataSet
from distdl.models.freezing import set_train
from distdl.optim import losses, optimizers, schedules
from distdl.optim.ema import EMA
from distdl.strategies.base import Strategy
from distdl.telemetry.clock import Clock
from distdl.training import building, metrics, numerics, results, resumption
from distdl.training.best import BestWeights
from distdl.training.checkpoint import Checkpoints
from distdl.training.consensus import Consensus
from distdl.training.evaluation import Evaluator
from distdl.training.events import Callback, Events
from distdl.training.nonfinite import NonFiniteGuard
from distdl.training.saving import CheckpointPolicy, Saver
from distdl.training.state import TrainState
from distdl.training.step import TrainStep
from distdl.training.stop import StopSignal
from distdl.training.unreadable import UnreadableFiles


class Trainer:
    """One rank's part of one training.

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
        # The shares of a host's ranks sum to 1, so their total is the number of hosts.
        share = torch.tensor([1 / self.world.local_size], dtype=torch.float64)
        self.nodes = round(strategy.all_reduce(share).item())
        self.clock = Clock(self.world.device)
        self.clock.excluded_s |= {"evaluate": 0.0, "checkpoint": 0.0}
        self.changes: dict[str, list[Any]] = {}
        """Configuration fields that differ from the checkpoint's, since `resume`: old and new value."""
        self.messages: list[str] = []
        """Warnings that are shown when the training begins."""
        self.events = Events(callbacks)
        self.checkpoints = Checkpoints(run.checkpoints, keep=config.checkpoint.keep, kind=config.checkpoint.best)
        numerics.configure(config)
        self.loaders = building.loaders(config, dataset, self.world)
        self.loaders["train"].clock = self.clock
        self._build_model()
        building.check_batches(config, dataset, self.world, self.model, start=0)
        spec = building.training_spec(config, dataset, self.world)
        if config.data.global_batch and not spec.divides_as_one_rank():
            self.messages.append(
                "the last steps of an epoch are divided so that each rank's micro-batch has two samples: the weights "
                "will differ from those of a run on one rank. With at least 8 samples per micro-batch they do not"
            )
        self._build_parts()

    def _build_model(self) -> None:
        config = self.config
        model, optimizer = building.network_and_optimizer(config, self.dataset, self.world)
        self.global_batch = config.data.step_samples(self.world.size)
        self.parameters = optimizers.names(optimizer, model)
        self.forward = self.strategy.prepare(model, optimizer, self.clock)
        ema = EMA(model, config.optim.ema) if config.optim.ema else None
        self.samples = len(self.dataset.train)
        self.state = TrainState(model=model, optimizer=optimizer, ema=ema, samples=self.samples)
        self.epochs = float(config.epochs)
        if config.max_steps:
            self.epochs = min(self.epochs, config.max_steps * self.global_batch / self.samples)

    def _build_parts(self) -> None:
        config, strategy, state = self.config, self.strategy, self.state
        autocast = numerics.autocast(config, self.world.device)
        self.guard = NonFiniteGuard(self.world.device)
        self.step = TrainStep(
            config,
            strategy,
            state,
            forward=self.forward,
            criterion=losses.build(config),
            schedule=schedules.build(config.schedule, self.epochs, config.options.get("schedule", {})),
            autocast=autocast,
            clock=self.clock,
            guard=self.guard,
        )
        make_metrics = partial(metrics.build, config)
        metrics.try_out(config, len(self.dataset.classes), self.world.device)
        self.evaluator = Evaluator(
            state,
            self.loaders,
            strategy,
            self.dataset,
            loss_sum=losses.build_sum(config),
            make_metrics=make_metrics,
            autocast=autocast,
        )
        kind, folder = config.checkpoint.best, self.run.checkpoints
        self.best_weights = BestWeights(state, strategy, kind=kind, folder=folder, warn=self.warn)
        self.policy = CheckpointPolicy(config=config.checkpoint)
        self.saver = Saver(strategy, self.checkpoints, self.warn)
        self.unreadable = UnreadableFiles(strategy, self.loaders.values(), self.warn)
        # Last: from here on the signals are handled until `stop.close`.
        self.stop = StopSignal(max_time=config.max_time)
        self.consensus = Consensus(strategy, self.stop, self.guard)
        for loader in self.loaders.values():
            loader.stop_requested = lambda: bool(self.stop.reason)

    @property
    def model(self) -> torch.nn.Module:
        return self.state.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.state.optimizer

    @property
    def progress(self) -> Progress:
        return self.state.progress

    @property
    def position(self) -> float:
        return self.state.position

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        return self.state.metrics

    @property
    def seconds(self) -> dict[str, float]:
        return self.clock.excluded_s

    def warn(self, message: str) -> None:
        """Show a message to the user."""
        self.events.warn(self, message)

    def fit(self) -> str:
        """Train to the end, or until a stop is requested. Returns the status: "completed" or "stopped"."""
        self.events.begin(self)
        while self.messages:
            self.warn(self.messages.pop(0))
        while self.progress.epoch < self.config.epochs and not self._max_steps_done():
            if not self.train_epoch():
                self.save()
                self._require_written()
                return "stopped"
            self.end_epoch()
            self._evaluate_and_save()
        self._test_best()
        self._require_written()
        return "completed"

    def train_epoch(self, batches: Iterable[Batch] | None = None) -> bool:
        """Train the rest of the epoch. Returns False if it was stopped before its end; nothing is saved then.

        Args:
            batches: default: the batches of the current epoch from the current position on.
        """
        progress, clock = self.progress, self.clock
        if batches is None:
            batches = self.loaders["train"].epoch(progress.epoch, start=progress.samples)
        set_train(self.model)
        clock.lap()
        for batch in clock.over("data", batches):
            loss = self.step.run(batch)
            self.state.advance(batch.total)
            progress.elapsed_s += clock.lap()
            self.events.step_end(self, loss)
            if self.consensus.should_check(progress.step):
                while self.strategy.warnings:
                    self.warn(self.strategy.warnings.popleft())
                if self.consensus.should_stop(progress.step):  # all ranks get the same result
                    return False
            if self._max_steps_done():
                break
            if (
                self.policy.is_due_by_steps(progress) and not self._epoch_is_over()
            ):  # otherwise saved after the evaluation
                self.save()
        if self.world.device.type == "cuda":
            torch.cuda.synchronize()  # count queued kernels as training, not as the evaluation that would wait for them
            progress.elapsed_s += clock.lap()
        return True

    def _max_steps_done(self) -> bool:
        return 0 < self.config.max_steps <= self.progress.step

    def _epoch_is_over(self) -> bool:
        remaining = self.samples - self.progress.samples
        return remaining <= 0 or (self.config.data.drop_last and remaining < self.global_batch)

    def end_epoch(self) -> None:
        """Count the epoch, unless max_steps ended it early, and call the callbacks."""
        if self.progress.samples >= self.samples or self.config.data.drop_last:
            self.state.end_epoch()
        self.unreadable.gather()
        self.events.epoch_end(self)

    def _evaluate_and_save(self) -> None:
        progress, config = self.progress, self.config
        is_last = progress.epoch >= config.epochs or self._max_steps_done()
        metric, improved = None, False
        if not self.strategy.replayed and (is_last or progress.epoch % config.evaluate_every == 0):
            split = "validation" if "validation" in self.loaders else "test"
            metric = self.evaluate(split)[config.checkpoint.best]
            improved = split == "validation" and self.best_weights.update()
        if is_last or improved or self.policy.is_due_after_epoch(progress):
            self.save(metric)

    def _test_best(self) -> None:
        """If there is a validation split: test the weights of the best checkpoint, once."""
        if "validation" in self.loaders and not self.strategy.replayed:
            self._wait_for_checkpoints()
            self.evaluate("test", best=self.best_weights.restore(self.state_dict()))

    def evaluate(self, split: str, best: dict[str, Any] | None = None) -> dict[str, Any]:
        """Evaluate a split and call the callbacks. Arguments and result are those of `Evaluator.run`."""
        with self.clock.excluded("evaluate"):
            evaluated = self.evaluator.run(split, best)
            if "left_out" in evaluated:
                self.unreadable.gather()
        self.events.evaluate_end(self, split, evaluated)
        return evaluated

    def save(self, metric: float | None = None) -> None:
        """Copy the complete state; a thread writes it. A failed write is reported, and training continues."""
        with self.clock.excluded("checkpoint"):
            self.consensus.check_health()  # a non-finite loss must not reach a checkpoint
            self.strategy.sync_parameters()
            self.saver.save(self.state_dict, self.progress, metric)
        self.events.checkpoint(self)

    def _require_written(self) -> None:
        with self.clock.excluded("checkpoint"):
            self.saver.require_written()

    def _wait_for_checkpoints(self) -> None:
        with self.clock.excluded("checkpoint"):
            self.checkpoints.wait()

    def state_dict(self) -> dict[str, Any]:
        """The complete state except the position: tensors, numbers, strings, lists and dicts."""
        return {
            "model": self.strategy.model_state(),
            "strategy": self.strategy.state_dict(),
            **self.state.state_dict(),
            "seconds": self.seconds,
            "phases": self.clock.read(),
            "seed": self.config.seed,
            "world_size": self.world.size,
            "config": as_table(self.config, self.strategy.name),
            "parameters": self.parameters,
            "data": {"classes": [*self.dataset.classes], "samples": building.samples_by_split(self.dataset)},
        }

    def resume(self, folder: Path) -> None:
        """Continue from a checkpoint, at any world size.

        Raises:
            UserError: on every rank, if the checkpoint is damaged or its network, optimizer, seed or classes differ.
        """
        state, progress = resumption.read(self, folder)
        self.strategy.load_model_state(state["model"])
        with reading(folder / STATE, "the state of this optimizer"):
            self.strategy.load_state_dict(state["strategy"])
        with reading(folder, "shards of this strategy"):
            self.strategy.load_shards(folder)
        self.state.load_state_dict(state, progress)
        if folder.resolve().parent != self.run.checkpoints.resolve():
            self.state.best = None  # the best of another run folder cannot be restored at the end
        self.clock.excluded_s = state["seconds"]
        self.clock.seconds |= state["phases"]
        progress.resumes += 1
        building.check_batches(self.config, self.dataset, self.world, self.model, start=progress.samples)
        self.guard.reset()
        self.changes, messages = resumption.differences(self, state, folder)
        self.messages += messages

    def identity(self) -> dict[str, Any]:
        """The part of result.json that is known before the first step."""
        return results.identity(self)

    def result(self, status: str) -> dict[str, Any]:
        """The content of result.json at the end."""
        return results.result(self, self.state, status, self.unreadable.messages)

    def close(self) -> None:
        """End the checkpoint thread, the callbacks and the loaders' processes."""
        self._wait_for_checkpoints()
        self.events.close(self)
        self.close_loaders()

    def close_loaders(self) -> None:
        """End the loaders' processes. Sufficient for a trainer whose `fit` was never called."""
        for loader in self.loaders.values():
            loader.close()
