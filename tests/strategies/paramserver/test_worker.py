"""The parameter server: equality with ddp, records, and the end of a job after a lost rank."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from compare_checkpoints import assert_equal_checkpoints
from distdl.core.checkpoints import find
from distdl.core.config import ComputeConfig, Config, OptimConfig, PSConfig
from distdl.core.errors import Failure, UserError
from distdl.core.files import read_rows
from distdl.runtime.launch_env import Placement
from distdl.runtime.tensors import load, write_tensors
from distdl.strategies import replay
from distdl.strategies.paramserver import exchange, step_records
from distdl.strategies.paramserver import worker as module
from distdl.strategies.paramserver.server import Server
from distdl.strategies.paramserver.step_records import ComputeTimes
from distdl.strategies.paramserver.stragglers import WINDOW
from distdl.strategies.paramserver.worker import Worker
from distdl.strategies.single import Single
from distdl.telemetry import clock as telemetry_clock
from jobs import QUIET, Ranks, step_of, torchrun_places, train, wait_for
from rank_threads import run_ranks
from run_folders import tree
from simulated_time import simulate_time
from small_steps import IMAGES, max_difference, network, prepared, trained
from thread_strategies import worker_of

PLAIN = ("--optim.name", "sgd", "--optim.momentum", "0.9", "--optim.lr", "0.02", "--optim.weight-decay", "1e-3")
SHORT = (*PLAIN, "--max-steps", "50", "--data.batch-size", "16")
SERVED = ("--strategy", "ps", "--ps.servers", "2")


def weights(run: Path) -> dict[str, torch.Tensor]:
    state, _ = load(find(run, warn=pytest.fail))
    return state["model"]


def distance(weights_a: dict[str, torch.Tensor], weights_b: dict[str, torch.Tensor]) -> float:
    """Largest absolute difference of the weights."""
    return max((weights_a[name].double() - weights_b[name].double()).abs().max().item() for name in weights_a)


def result(run: Path) -> dict:
    return json.loads((run / "result.json").read_text())


@pytest.fixture(scope="module")
def ddp_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    run = tmp_path_factory.mktemp("ddp") / "run"
    train([*SHORT, "--out", str(run)], ranks=2)
    return weights(run)


def test_sync_mode_equals_ddp(tmp_path: Path, ddp_weights: dict[str, torch.Tensor]) -> None:
    train([*SHORT, *SERVED, "--out", str(tmp_path / "run")], ranks=4)
    assert distance(weights(tmp_path / "run"), ddp_weights) < 1e-5
    ended = result(tmp_path / "run")
    assert (ended["world_size"], ended["strategy"]) == (2, "ps")
    assert [row["bytes"] > 0 for row in ended["ps"]["servers"]] == [True, True]


def run_threads(config: Config, workers: int) -> list[dict[str, torch.Tensor]]:
    """Weights of each worker after a few steps; ranks are threads."""

    def work(rank: int) -> dict[str, torch.Tensor]:
        strategy = worker_of(rank, workers, config)
        if rank >= workers:
            Server(config, strategy.world.rank, strategy.peers, strategy.wire).serve()
            return {}
        values = trained(strategy)
        strategy.close()
        return values

    return run_ranks(workers + config.ps.servers, work)[:workers]


OPTIM = OptimConfig(lr=0.1, momentum=0.9, weight_decay=0.01)
PARTS = replace(OPTIM, lr_factors=(("0.*", 0.1),), decay_norm_and_bias=False)
VARIANTS: dict[str, tuple[OptimConfig, dict[str, Any]]] = {
    "balanced": (OPTIM, {}),
    "round-robin": (OPTIM, {"assign": "round-robin"}),
    "size-threshold": (OPTIM, {"assign": "size-threshold"}),
    "overlap": (OPTIM, {"overlap": True}),
    "three servers": (OPTIM, {"servers": 3}),
    "one server": (OPTIM, {"servers": 1, "overlap": True}),
    "learning rates and weight decay by part": (PARTS, {}),
    "adam": (OptimConfig(name="adam", lr=0.01, weight_decay=0.01), {}),
}


@pytest.mark.parametrize(("optim", "ps"), VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_synchronous_workers_equal_one_rank_with_the_same_global_batch(
    optim: OptimConfig, ps: dict[str, Any], workers: int
) -> None:
    expected = trained(Single(Config(optim=optim)), parts=1)
    results = run_threads(Config(optim=optim, ps=PSConfig(**{"servers": 2, **ps})), workers)
    assert all(max_difference(values, results[0]) == 0 for values in results)
    assert max_difference(results[0], expected) < 1e-6


def first_steps(config: Config, act: Callable[[Worker], Any]) -> Any:
    """Result of `act` for the one worker, which then disconnects."""

    def work(rank: int) -> Any:
        strategy = worker_of(rank, 1, config)
        if rank:
            return Server(config, strategy.world.rank, strategy.peers, strategy.wire).serve()
        outcome = act(strategy)
        strategy.close()
        return outcome

    return run_ranks(1 + config.ps.servers, work)[0]


@pytest.mark.parametrize(
    ("assign", "elements"), [("balanced", [147, 146]), ("round-robin", [282, 11]), ("size-threshold", [282, 11])]
)
def test_servers_have_the_tensors_of_the_assignment(assign: str, elements: list[int]) -> None:
    """Tensors of 162, 6, 120 and 5 elements: in turn, or none larger than half of all 293."""

    def sizes(strategy: Worker) -> list[int]:
        prepared(strategy, network())
        return [row["bytes"] // 4 for row in strategy.report()["ps"]["servers"]]

    assert first_steps(Config(ps=PSConfig(servers=2, assign=assign)), sizes) == elements


@pytest.mark.parametrize("overlap", [False, True])
def test_gradients_are_pushed_during_backward_if_pushes_overlap_with_it(overlap: bool) -> None:
    def pushes(strategy: Worker) -> list[int]:
        forward, counts = prepared(strategy, network()), []
        push = strategy._exchange.push
        strategy._exchange.push = lambda server, *rest: push(server, *rest) or counts.append(server)
        strategy.backward(forward(IMAGES).sum())
        before_step = sorted(counts)
        strategy.step()
        assert sorted(counts) == [0, 1]
        return before_step

    assert first_steps(Config(ps=PSConfig(servers=2, overlap=overlap)), pushes) == ([0, 1] if overlap else [])


def test_recorded_times_are_waited_for_instead_of_computing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(replay, "wait", waits.append)
    (tmp_path / "record.jsonl").write_text('{"forward_s": 0.25, "backward_s": 0.5}\n' * 5)

    def steps(strategy: Worker) -> dict[str, torch.Tensor]:
        forward = prepared(strategy, network())
        for _ in range(2):
            strategy.backward(forward(IMAGES).sum())
            strategy.step()
        return strategy.model_state()

    weights = first_steps(Config(optim=OPTIM, ps=PSConfig(compute=f"replay:{tmp_path / 'record.jsonl'}")), steps)
    assert waits == [0.25, 0.5] * 2
    assert weights.keys() == network().state_dict().keys()


def test_replayed_times_are_drawn_with_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f'{{"forward_s": {step}, "backward_s": 0}}\n' for step in range(100)]
    (tmp_path / "record.jsonl").write_text("".join(rows))

    def waits(seed: int) -> list[float]:
        seconds: list[float] = []
        monkeypatch.setattr(replay, "wait", seconds.append)
        config = Config(seed=seed, ps=PSConfig(compute=f"replay:{tmp_path / 'record.jsonl'}"))
        first_steps(config, lambda strategy: prepared(strategy, network())(IMAGES))
        return seconds

    assert waits(0) == waits(0) != waits(1)


def test_setup_divides_the_ranks_and_sets_timeout_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is silent for longer than the timeout is named."""
    threads: list[int] = []
    ended, local = threading.Event(), threading.local()
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(module, "launched", lambda name: Placement(rank=local.rank, size=3, local_size=3))
    monkeypatch.setattr(module, "init_process_group", lambda *args: None)  # the threads have a group
    ps = PSConfig(servers=2, timeout_s=0.05, wire="bf16")
    config = Config(strategy="ps", ps=ps, compute=ComputeConfig(device="cpu", threads=2))

    def work(rank: int) -> tuple[Any, ...]:
        local.rank = rank
        strategy = Worker(config)
        world = strategy.setup()
        if rank == 0:
            try:
                with pytest.raises(Failure, match=r"^server 0 \(rank 1, .*\) did not respond in time \(ps.timeout_s\)"):
                    strategy.peers[0].receive_header()
            finally:
                ended.set()
        ended.wait(10)  # half of the default timeout
        return world.role, world.rank, world.size, len(strategy.peers), strategy.wire

    monkeypatch.setattr(Worker, "_agree_on_device", lambda self: None)  # needs a serving server
    results = run_ranks(3, work)
    assert results == [("train", 0, 1, 2, torch.bfloat16), *(("serve", n, 1, 1, torch.bfloat16) for n in (0, 1))]
    assert threads == [2, 2, 2]


def test_bf16_on_the_wire_is_rounded() -> None:
    expected = trained(Single(Config(optim=OPTIM)), parts=1)
    (values, _) = run_threads(Config(optim=OPTIM, ps=PSConfig(servers=2, wire="bf16")), 2)
    assert 1e-5 < max_difference(values, expected) < 0.02


@pytest.mark.parametrize("mode", ["async", "ssp"])
def test_asynchronous_workers_have_the_same_weights_after_they_were_synchronized(mode: str) -> None:
    results = run_threads(Config(optim=OPTIM, ps=PSConfig(servers=2, mode=mode)), 3)
    assert all(max_difference(values, results[0]) == 0 for values in results)
    assert max_difference(results[0], network().state_dict()) > 1e-3


def test_every_step_of_workers_and_servers_is_recorded_and_summarized(tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = Ranks([*SHORT, *SERVED, "--max-steps", "10", "--out", str(run), *QUIET, "--progress", "plain"], ranks=4)
    assert job.wait() == [0] * 4, job.text
    assert "imbalance" in job.text and "step: push" in job.text
    assert all(f"{row['bytes']:,}" in job.text for row in result(run)["ps"]["servers"])
    for worker in range(2):
        rows = list(read_rows(run / "ps" / f"worker-{worker}.jsonl"))
        assert [row["step"] for row in rows] == list(range(1, 11))
        assert all(row[part] > 0 for row in rows for part in ("forward_s", "backward_s", "push_s", "wait_s", "pull_s"))
    for server in range(2):
        rows = list(read_rows(run / "ps" / f"server-{server}.jsonl"))
        assert sorted((row["step"], row["worker"]) for row in rows) == [(s, w) for s in range(1, 11) for w in range(2)]
        assert all(row[part] >= 0 for row in rows for part in ("receive_s", "update_s", "send_s"))
    phases, seconds = result(run)["phases_s"], result(run)["train_s"]
    assert phases["exchange"] > 0
    assert sum(phases.values()) <= seconds


@pytest.mark.parametrize("mode", ["async", "ssp"])
def test_asynchronous_modes_learn_and_record_staleness(tmp_path: Path, mode: str) -> None:
    options = ["--ps.mode", mode, *(("--ps.staleness", "2") if mode == "ssp" else ())]
    argv = [*PLAIN, "--epochs", "4", "--evaluate-every", "4", "--optim.momentum", "0", *SERVED, *options]
    train([*argv, "--out", str(tmp_path / "run")], ranks=4)
    ended = result(tmp_path / "run")
    assert ended["test"]["accuracy"] > 0.6  # staleness depends on the machine; training must still learn
    staleness = {int(updates): steps for updates, steps in ended["ps"]["staleness"].items()}
    assert sum(staleness.values()) == ended["steps"]
    assert max(staleness) >= 1
    if mode == "ssp":
        # Between a worker's pull and its next push, another one may go from `staleness` steps behind to as many ahead.
        assert max(staleness) <= 2 * 2 + 1


def test_a_resumed_sync_run_is_exact(tmp_path: Path) -> None:
    argv = [*PLAIN, *SERVED, "--epochs", "4", "--data.batch-size", "24", "--data.limit", "600", "--log-every-s", "0"]
    argv += ["--checkpoint.every-steps", "5", "--evaluate-every", "4"]
    train([*argv, "--out", str(tmp_path / "uncut")], ranks=4)
    cut = tmp_path / "cut"
    job = Ranks([*argv, *QUIET, "--out", str(cut), "--resume", "auto"], ranks=4)
    wait_for(lambda: step_of(cut) >= 12, what="step 12")
    job.kill()
    assert result(cut)["status"] == "running", "the run ended before it was killed"
    train([*argv, "--out", str(cut), "--resume", "auto"], ranks=4)
    assert_equal_checkpoints(tmp_path / "uncut", cut)
    assert result(cut)["resumes"] == 1


def test_a_delay_of_a_worker_appears_in_its_own_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps, each with a forward pass of 1 s of a simulated clock, backward of 2 s, and gathering of 4 s."""
    clock = simulate_time(monkeypatch, module, exchange, step_records, telemetry_clock)
    config = Config(optim=OPTIM, ps=PSConfig(servers=1))

    def work(rank: int) -> Any:
        strategy = worker_of(rank, 1, config)
        if rank == 1:
            Server(config, 0, strategy.peers, strategy.wire).serve()
            return None
        model, rows = network(), []
        forward = prepared(strategy, model)
        model.register_forward_hook(lambda *_: clock.advance(1))
        model[2].bias.register_hook(lambda _: clock.advance(2))
        gather = strategy.layout.gather_gradients
        strategy.layout.gather_gradients = lambda server: (clock.advance(4), gather(server))
        strategy.records._write = rows.append
        for _ in range(2):
            with strategy.micro_batch(last=True):
                with strategy.clock("forward"):
                    loss = forward(IMAGES).sum()
                with strategy.clock("backward"):
                    strategy.backward(loss)
            with strategy.clock("update"):
                strategy.step()
        strategy.close()
        return [[row[name] for name in ("forward_s", "backward_s", "push_s")] for row in rows], strategy.clock.read()

    rows, phases = run_ranks(2, work)[0]
    assert rows == [[1, 2, 4]] * 2
    assert {name: seconds for name, seconds in phases.items() if seconds} == {
        "forward": 2,
        "backward": 4,
        "exchange": 8,
    }


SAVED = Config(ps=PSConfig(servers=2))
OTHER_PLACEMENT = {
    "servers": Config(ps=PSConfig(servers=3)),
    "assignment": Config(ps=PSConfig(servers=2, assign="round-robin")),
    "memory format": Config(ps=PSConfig(servers=2), compute=ComputeConfig(channels_last=True)),
}
REFUSED = r"divided among servers in another way than in this run: .* ps.assign and compute.channels_last"


@pytest.mark.parametrize("config", OTHER_PLACEMENT.values(), ids=OTHER_PLACEMENT)
def test_a_state_on_other_servers_is_refused(config: Config) -> None:
    """The buffers of servers have no names, so that the same bytes could be other parameters."""
    state = {"ps": worker_of(0, 2, SAVED)._placement() | {"step": 7}}
    with pytest.raises(UserError, match=REFUSED):
        worker_of(0, 2, config).load_state_dict(state)
    worker = worker_of(0, 2, SAVED)
    worker.load_state_dict(state)
    assert worker._step == 7


def test_a_state_of_another_strategy_is_refused() -> None:
    with pytest.raises(UserError, match=r"the checkpoint has none$"):
        worker_of(0, 2, SAVED).load_state_dict({"optimizer": {}})


@pytest.mark.world_size(2)
def test_a_resume_in_another_memory_format_changes_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    base = [*SHORT, "--strategy", "ps", "--model.name", "digits-cnn", "--out", str(run), *QUIET]
    assert Ranks([*base, "--max-steps", "3"], ranks=2).wait() == [0, 0]
    files = tree(run)
    job = Ranks([*base, "--max-steps", "6", "--resume", "auto", "--compute.channels-last"], ranks=2)
    assert job.wait()[0] == 2, job.text
    assert "compute.channels_last" in job.text
    assert "Traceback" not in job.text
    assert tree(run) == files


@pytest.mark.world_size(3)
def test_every_worker_refuses_a_state_that_a_server_cannot_load(in_ranks: Callable, tmp_path: Path) -> None:
    config = Config(optim=OPTIM, ps=PSConfig(), out=tmp_path)
    write_tensors(tmp_path / "server-0.pt", {"optimizer": {}, "values": torch.zeros(3)})

    def load_shards(rank: int) -> str:
        strategy = worker_of(rank, 2, config)
        if rank == 2:
            Server(config, 0, strategy.peers, strategy.wire).serve()
            return ""
        prepared(strategy, network())
        with pytest.raises(UserError) as error:
            strategy.load_shards(tmp_path)
        strategy.close()
        return str(error.value)

    message = f"a server could not load its part of {tmp_path}: see its error message"
    assert in_ranks(load_shards) == [message, message, ""]


@pytest.mark.world_size(2)
def test_servers_use_the_settings_of_this_run_not_of_the_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    base = [*SHORT, "--strategy", "ps", "--schedule.name", "constant", "--optim.no-decay-norm-and-bias"]
    base += ["--out", str(run)]
    train([*base, "--max-steps", "3"], ranks=2)
    begun = weights(run)
    train([*base, "--max-steps", "6", "--resume", "auto", "--optim.lr", "0", "--optim.weight-decay", "0"], ranks=2)
    assert distance(begun, weights(run)) == 0
    assert result(run)["steps"] == 6


@pytest.mark.parametrize(("victim", "name"), [(0, "worker 0"), (1, "worker 1"), (3, "server 1")])
def test_a_killed_rank_ends_the_job_and_is_named(tmp_path: Path, victim: int, name: str) -> None:
    job = Ranks(
        [
            *PLAIN,
            *SERVED,
            "--epochs",
            "9999",
            "--log-every-s",
            "0",
            "--out",
            str(tmp_path),
            *QUIET,
            "--progress",
            "plain",
        ],
        ranks=4,
    )
    wait_for(lambda: step_of(tmp_path) >= 5, what="step 5")
    os.kill(job.processes[victim].pid, signal.SIGKILL)
    # It takes a second or two; the limit is for a busy machine.
    codes = job.wait(timeout=90)
    assert None not in codes
    assert codes[0 if victim else 1] != 0
    assert name in job.text


def test_async_continues_without_a_killed_worker_if_tolerated(tmp_path: Path) -> None:
    argv = [*PLAIN, *SERVED, "--ps.mode", "async", "--ps.tolerate-worker-loss", "--log-every-s", "0"]
    argv += ["--epochs", "30", "--evaluate-every", "30", "--checkpoint.every-epochs", "30"]
    job = Ranks([*argv, "--out", str(tmp_path), *QUIET], ranks=5)
    wait_for(lambda: step_of(tmp_path) >= 5, what="step 5")
    os.kill(job.processes[2].pid, signal.SIGKILL)
    codes = job.wait()
    assert [codes[rank] for rank in (0, 1, 3, 4)] == [0, 0, 0, 0], job.text
    assert "worker 2" in job.text
    assert result(tmp_path)["status"] == "completed"


def test_a_resumed_run_records_each_step_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    argv = [*SHORT, *SERVED, "--max-steps", "10", "--checkpoint.every-steps", "6", "--out", str(run)]
    train(argv, ranks=4)
    for checkpoint in (run / "checkpoints").glob("step-*10"):
        shutil.rmtree(checkpoint)
    train([*argv, "--resume", "auto"], ranks=4)
    assert result(run)["legs"][1]["from_step"] == 6
    for worker in range(2):
        rows = read_rows(run / "ps" / f"worker-{worker}.jsonl")
        assert [row["step"] for row in rows] == list(range(1, 11))
    for server in range(2):
        rows = read_rows(run / "ps" / f"server-{server}.jsonl")
        assert sorted((row["step"], row["worker"]) for row in rows) == [(s, w) for s in range(1, 11) for w in range(2)]


def test_replayed_compute_waits_exchanges_and_is_reported(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    record.write_text("".join(json.dumps({"forward_s": 0.004, "backward_s": 0.008}) + "\n" for _ in range(10)))
    argv = [*SHORT, *SERVED, "--max-steps", "12", "--ps.compute", f"replay:{record}", "--out", str(tmp_path / "run")]
    train(argv, ranks=4)
    rows = list(read_rows(tmp_path / "run" / "ps" / "worker-0.jsonl"))
    assert all(row["replayed"] for row in rows)
    assert all(row["forward_s"] >= 0.004 and row["backward_s"] >= 0.008 for row in rows)
    ended = result(tmp_path / "run")
    assert ended["ps"]["replayed"] is True
    assert "test" not in ended


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no worker": ({"ps": PSConfig(servers=2)}, "ps.servers is 2 of 2 ranks: at least one rank must train"),
    "fewer ranks than servers": ({"ps": PSConfig(servers=4)}, "ps.servers is 4 of 2 ranks"),
    "clipping": ({"optim": OptimConfig(clip_norm=1.0)}, "optim.clip_norm needs the complete gradient"),
    "a layer-wise optimizer": (
        {"optim": OptimConfig(name="lars")},
        "flattens layers, but optim.name lars needs",
    ),
    "fp16": ({"compute": ComputeConfig(precision="fp16")}, "has no gradient scaler for fp16"),
    "a lost worker in sync mode": (
        {"ps": PSConfig(tolerate_worker_loss=True)},
        "ps.tolerate_worker_loss is for async and ssp",
    ),
}


@pytest.mark.parametrize(("fields", "message"), WRONG.values(), ids=WRONG)
def test_unsupported_settings_are_refused_before_ranks_connect(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], message: str
) -> None:
    for name, value in torchrun_places(2)[1].items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        Worker(Config(**fields)).setup()


WRONG_RUNS = {
    "no worker": (["--ps.servers", "4"], "at least one rank must train"),
    "a missing replay": (["--ps.compute", "replay:nothing.jsonl"], "nothing.jsonl"),
}


@pytest.mark.parametrize(("argv", "message"), WRONG_RUNS.values(), ids=WRONG_RUNS)
def test_unsupported_settings_end_the_ranks(tmp_path: Path, argv: list[str], message: str) -> None:
    base = ["--strategy", "ps", "--optim.name", "sgd", "--optim.weight-decay", "0", "--out", str(tmp_path / "run")]
    job = Ranks([*base, *argv, *QUIET], ranks=2)
    assert 2 in job.wait()
    assert message in job.text


@pytest.mark.world_size(4)
def test_a_straggler_is_a_warning_once_and_counted(in_ranks: Callable) -> None:
    """With set compute times; those of worker 1 are five times as long."""
    config = Config(optim=OPTIM, ps=PSConfig())

    def work(rank: int) -> tuple[list[str], dict[str, int]]:
        strategy = worker_of(rank, 3, config)
        if rank == 3:
            Server(config, 0, strategy.peers, strategy.wire).serve()
            return [], {}
        prepared(strategy, network())
        for _ in range(WINDOW + 5):
            strategy._previous = ComputeTimes(backward_s=0.5 if rank == 1 else 0.1)
            strategy.step()
        strategy.close()
        return [*strategy.warnings], strategy.report()["ps"]["stragglers"]

    warning = "worker 1 is a straggler: its compute time is an outlier among the workers"
    for warnings, stragglers in in_ranks(work)[:3]:
        assert warnings == [warning]
        assert stragglers.keys() == {"worker 1"} and 5 <= stragglers["worker 1"] <= 6


@pytest.mark.slow
def test_a_slow_worker_is_reported(tmp_path: Path) -> None:
    """Worker 1 shares its core with a program of higher priority; the others use the other cores."""
    argv = [*PLAIN, "--strategy", "ps", "--epochs", "9999", "--max-steps", "45", "--data.batch-size", "16"]
    argv += ["--model.name", "mnist-cnn", "--data.loader", "synthetic", "--data.image-size", "28"]
    job = Ranks([*argv, "--log-every-s", "0", "--evaluate-every", "9999", "--out", str(tmp_path), *QUIET], ranks=4)
    wait_for(lambda: step_of(tmp_path) >= 5, what="step 5")
    core = max(os.sched_getaffinity(0))
    busy = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", busy]) as other:
        for thread in Path(f"/proc/{job.processes[1].pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})
            os.setpriority(os.PRIO_PROCESS, int(thread.name), 5)
        codes = job.wait(240)
        other.kill()
    assert codes == [0] * 4, job.text
    stragglers = result(tmp_path)["ps"]["stragglers"]
    assert stragglers.get("worker 1", 0) == max(stragglers.values(), default=1) >= 5
    assert "warning: worker 1 is a straggler" in job.text
