"""A server and its workers: updates by mode, staleness, files, and the end of a job."""

import json
import math
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distdl.core.config import Config, OptimConfig, PSConfig
from distdl.core.errors import EXIT_FAILED, Failure
from distdl.core.files import read_rows
from distdl.runtime.tensors import read_tensors, write_tensors
from distdl.strategies.paramserver import server as module
from distdl.strategies.paramserver.exchange import Exchange
from distdl.strategies.paramserver.protocol import MessageType, Peer
from distdl.strategies.paramserver.requests import use_folder
from distdl.strategies.paramserver.server import Server
from server_job import GROUP, exchange_of, run_job, set_on
from simulated_time import simulate_time


@pytest.fixture(autouse=True)
def exits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Exit codes. A server that ends its job ends only its thread."""
    codes: list[int] = []

    def exit_thread(code: int) -> None:
        codes.append(code)
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", exit_thread)
    yield codes


def config(mode: str = "sync", staleness: int = 1, tolerate: bool = False, **optim: Any) -> Config:
    return Config(
        optim=OptimConfig(**optim),
        ps=PSConfig(mode=mode, staleness=staleness, tolerate_worker_loss=tolerate),
    )


def push(exchange: Exchange, parameters: list[nn.Parameter], gradient: float, step: int, factor: float = 1.0) -> Any:
    """Push the same gradient for every element. Returns the values and the times."""
    for parameter in parameters:
        parameter.grad.fill_(gradient)
    times = exchange.finish(step, factor, 0.0)
    return [parameter.tolist() for parameter in parameters], times


def test_a_synchronous_step_is_sgd_with_the_mean_of_all_workers() -> None:
    """Expected: 1 - 0.5 x 3 = -0.5; then momentum 0.9 x 3 + 3 = 5.7 at half the rate: -0.5 - 0.25 x 5.7 = -1.925."""

    def work(rank: int, peer: Peer) -> list[Any]:
        parameters, exchange = exchange_of(peer)
        if rank == 0:
            set_on(peer, exchange)
        barrier(peer, rank)
        return [push(exchange, parameters, (2.0, 4.0)[rank], step, factor)[0] for step, factor in ((1, 1.0), (2, 0.5))]

    results, server = run_job(config(momentum=0.9), 2, work)
    for first, second in results:
        assert first == [[-0.5, -0.5]]
        torch.testing.assert_close(torch.tensor(second), torch.full((1, 2), -1.925))
    assert server.version == 2


def barrier(peer: Peer, rank: int) -> None:
    from distdl.strategies.paramserver.collectives import ServerCollectives

    ServerCollectives(peer, rank).barrier()


def test_gradients_are_summed_in_the_order_of_workers() -> None:
    """1e8 + 1 - 1e8 is 0 in float32, and 1 in the order of arrival."""

    def serve(server: Server) -> None:
        message, numbers = server.workers[0].receive_header()
        server._handlers[message](0, server.workers[0], numbers)
        for worker, gradient in enumerate((1e8, 1.0, -1e8)):
            server.inbox[worker].fill_(gradient)
        server._update_with_mean({2: 1.0, 0: 1.0, 1: 1.0})

    def work(rank: int, peer: Peer) -> None:
        if rank == 0:
            set_on(peer, exchange_of(peer)[1])

    _, server = run_job(config(), 3, work, serve=serve)
    assert server.values.tolist() == [1.0, 1.0]


def test_each_part_has_its_own_settings() -> None:
    """Expected with gradient 0: 1 - 0.5 x 0.2 x 1 with weight decay, and 1 without."""

    def work(rank: int, peer: Peer) -> list[list[float]]:
        parameters, exchange = exchange_of(peer, (2, 2))
        set_on(peer, exchange, {**GROUP, "weight_decay": 0.2}, {**GROUP, "penalised": False})
        return push(exchange, parameters, 0.0, 1)[0]

    (values,), server = run_job(config(), 1, work)
    torch.testing.assert_close(torch.tensor(values), torch.tensor([[0.9, 0.9], [1.0, 1.0]]))
    assert [group["penalised"] for group in server.optimizer.param_groups] == [True, False]


@pytest.mark.parametrize("mode", ["async", "ssp"])
def test_without_a_barrier_each_push_is_an_update_with_its_staleness(mode: str) -> None:
    """Worker 1 computes with version 0 while worker 0 makes two updates."""
    turn = threading.Event()

    def work(rank: int, peer: Peer) -> list[Any]:
        parameters, exchange = exchange_of(peer)
        if rank == 0:
            set_on(peer, exchange)
        barrier(peer, rank)
        if rank == 1:
            turn.wait(30)
        steps = [push(exchange, parameters, (1.0, 2.0)[rank], step) for step in ((1, 2), (1,))[rank]]
        turn.set()
        exchange.pull()
        return [*[(values[0][0], times.staleness) for values, times in steps], parameters[0].tolist()]

    (fast, slow), server = run_job(config(mode, staleness=2), 2, work)
    assert fast[:2] == [(0.5, 0), (0.0, 0)]
    assert slow == [(-1.0, 2), [-1.0, -1.0]]
    assert server.version == 3


def update_in_thread(server: Server, worker: int, step: int) -> threading.Thread:
    """Start an update by this worker in a thread, because it may have to wait."""
    thread = threading.Thread(target=server._update_at_once, args=(worker, step, 1.0), daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("staleness", [0, 2])
def test_the_fastest_worker_waits_at_the_bound(staleness: int) -> None:
    def serve(server: Server) -> None:
        message, numbers = server.workers[0].receive_header()
        server._handlers[message](0, server.workers[0], numbers)
        for step in range(1, staleness + 1):
            update_in_thread(server, 0, step).join(30)
        assert server.steps == {0: staleness, 1: 0}
        ahead = update_in_thread(server, 0, staleness + 1)
        ahead.join(0.2)
        assert ahead.is_alive(), "one step beyond the bound"
        update_in_thread(server, 1, 1).join(0 if staleness == 0 else 30)
        ahead.join(30)
        assert not ahead.is_alive()
        last = update_in_thread(server, 0, staleness + 2)
        last.join(0.2)
        assert last.is_alive()
        server._remove(1)
        last.join(30)
        assert not last.is_alive(), "no one waits for a worker that has left"

    def work(rank: int, peer: Peer) -> None:
        if rank == 0:
            set_on(peer, exchange_of(peer)[1])

    run_job(config("ssp", staleness=staleness), 2, work, serve=serve)


def test_bfloat16_rounds_sent_but_not_stored_values() -> None:
    def work(rank: int, peer: Peer) -> list[float]:
        parameters, exchange = exchange_of(peer, wire=torch.bfloat16)
        set_on(peer, exchange)
        return push(exchange, parameters, 2**-9, 1)[0][0]

    for mode in ("sync", "async"):
        (values,), server = run_job(config(mode), 1, work, wire=torch.bfloat16)
        assert values == [1.0, 1.0]
        assert server.values.tolist() == [1 - 2**-10] * 2


def test_steps_are_recorded_and_state_is_saved_and_restored(tmp_path: Path) -> None:
    def work(rank: int, peer: Peer) -> Any:
        parameters, exchange = exchange_of(peer)
        set_on(peer, exchange)
        assert use_folder([peer], MessageType.OPEN, "out/ps", 0)
        push(exchange, parameters, 1.0, 1)
        assert use_folder([peer], MessageType.SAVE, "out/.")
        uncut = push(exchange, parameters, 1.0, 2)[0]
        assert use_folder([peer], MessageType.LOAD, "out/.")
        exchange.pull()
        return parameters[0].tolist(), uncut, push(exchange, parameters, 1.0, 2)[0]

    ((loaded, uncut, resumed),), _ = run_job(replace(config(momentum=0.9), out=tmp_path), 1, work)
    assert loaded == [0.5, 0.5]
    assert uncut == resumed != [[0.0, 0.0]]  # momentum is restored too
    rows = list(read_rows(tmp_path / "ps" / "server-0.jsonl"))
    assert [(row["step"], row["worker"], row["staleness"]) for row in rows] == [(1, 0, 0), (2, 0, 0), (2, 0, 0)]
    state = read_tensors(tmp_path / "server-0.pt")
    assert state["values"].tolist() == [0.5, 0.5] and state["optimizer"]["state"]


def test_a_delay_of_a_server_appears_in_its_own_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The server receives in 1 s of a simulated clock, updates in 2 s and sends in 4 s."""
    clock = simulate_time(monkeypatch, module)

    def delayed(function: Any, seconds: float) -> Any:
        def call(*arguments: Any) -> Any:
            # In the server's thread for this worker; headers have a tag.
            if threading.current_thread().name == "worker-0" and len(arguments) < 3:
                clock.advance(seconds)
            return function(*arguments)

        return call

    def work(rank: int, peer: Peer) -> Any:
        parameters, exchange = exchange_of(peer)
        set_on(peer, exchange)
        assert use_folder([peer], MessageType.OPEN, "out/ps", 0)
        return push(exchange, parameters, 1.0, 1)[1].update_s

    monkeypatch.setattr(torch.optim.SGD, "step", delayed(torch.optim.SGD.step, 2))
    monkeypatch.setattr(Peer, "receive", delayed(Peer.receive, 1))
    monkeypatch.setattr(Peer, "send", delayed(Peer.send, 4))
    assert run_job(replace(config(), out=tmp_path), 1, work)[0] == [2]
    (row,) = read_rows(tmp_path / "ps" / "server-0.jsonl")
    assert {name: value for name, value in row.items() if name.endswith("_s")} == {
        "receive_s": 1,
        "wait_s": 0,
        "update_s": 2,
        "send_s": 4,
    }


def test_rows_after_the_step_of_a_resume_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "server-0.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 2, 3)))

    def work(rank: int, peer: Peer) -> None:
        assert use_folder([peer], MessageType.OPEN, "out/.", 2)

    run_job(replace(config(), out=tmp_path), 1, work)
    assert [row["step"] for row in read_rows(tmp_path / "server-0.jsonl")] == [1, 2]


def test_a_folder_error_is_reported_to_the_worker_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_tensors(tmp_path / "server-0.pt", {"optimizer": {}, "values": torch.zeros(3)})
    (tmp_path / "file").touch()

    def work(rank: int, peer: Peer) -> list[bool]:
        set_on(peer, exchange_of(peer)[1])
        folders = {MessageType.SAVE: "out/file/x", MessageType.LOAD: "out/.", MessageType.OPEN: "out/file/x"}
        return [use_folder([peer], message, folder, 0) for message, folder in folders.items()]

    assert run_job(replace(config(), out=tmp_path), 1, work)[0] == [[False, False, False]]
    save, load, record = capfd.readouterr().err.splitlines()
    assert save.startswith("error: server 0 cannot save: ") and "Not a directory" in save
    saved = f"{tmp_path / 'server-0.pt'} was saved with another number of servers or another --ps.assign"
    assert load == f"error: server 0 cannot load: {saved}"
    assert record.startswith("error: server 0 cannot record: ")


@pytest.mark.parametrize("message", [MessageType.SAVE, MessageType.LOAD, MessageType.OPEN])
def test_a_folder_outside_of_the_run_is_neither_written_nor_read(message: MessageType, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    others = ["/etc", "out//etc", "out/../other", "out/a/../../other", "out/\0", "resume/.", "runs/x", "out", ""]

    def work(rank: int, peer: Peer) -> list[bool]:
        set_on(peer, exchange_of(peer)[1])
        return [use_folder([peer], message, name, 0) for name in others]

    assert run_job(replace(config(), out=run), 1, work)[0] == [[False] * len(others)]
    assert list(tmp_path.rglob("*")) == [run]


NUMBERS: dict[str, tuple[MessageType, tuple[float, ...]]] = {
    "more parameters than memory": (MessageType.SET, (1e15, 1)),
    "fewer parameters than none": (MessageType.SET, (-1, 1)),
    "half a parameter": (MessageType.SET, (0.5, 1)),
    "infinitely many parameters": (MessageType.SET, (math.inf, 1)),
    "more groups than parameters": (MessageType.SET, (10, 11)),
    "a sum of too many numbers": (MessageType.REDUCE, (0, 2**25)),
    "an unknown operation": (MessageType.REDUCE, (3, 1)),
    "a long name": (MessageType.SAVE, (4097,)),
    "a step that is not a number": (MessageType.PUSH, (math.nan, 1, 0)),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_a_message_are_bounded(name: str) -> None:
    message, numbers = NUMBERS[name]

    def serve(server: Server) -> None:
        with pytest.raises(Failure, match=r"^a message has \S+ .*, of which there can be 0 to \d+$"):
            server._handlers[message](0, server.workers[0], [*numbers, 0.0, 0.0])

    run_job(config(), 1, lambda rank, peer: None, serve=serve)


def test_groups_must_have_all_parameters() -> None:
    def serve(server: Server) -> None:
        with pytest.raises(Failure, match="sent groups that do not have its 2 parameters"):
            server._set(0, server.workers[0], [2, 1])

    def work(rank: int, peer: Peer) -> None:
        peer.finish(peer.send(torch.tensor([[1.0, 0.1, 0.0, 0.0]], dtype=torch.float64)))

    run_job(config(), 1, work, serve=serve)


def test_a_straggler_is_named_in_the_answers() -> None:
    def work(rank: int, peer: Peer) -> int:
        _, exchange = exchange_of(peer)
        if rank == 0:
            set_on(peer, exchange)
        barrier(peer, rank)
        times = [exchange.finish(step, 1.0, (0.1, 0.5, 0.1)[rank]) for step in range(1, 40)]
        return times[-1].straggler

    assert run_job(config(), 3, work)[0] == [1] * 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # SystemExit in a thread
def test_a_lost_worker_ends_the_job_and_is_named(exits: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    failures: list[str] = []

    def work(rank: int, peer: Peer) -> None:
        if rank == 1:
            peer.send_header = lambda *_: None  # disconnects without DONE
            return
        try:
            peer.receive_reply(MessageType.PUSH)
        except Failure as failure:
            failures.append(str(failure))

    run_job(config(), 2, work)
    assert failures == ["server 0 reports that worker 1 disconnected"]
    assert exits == [EXIT_FAILED]
    assert "error: worker 1 disconnected: the job ends" in capfd.readouterr().err


@pytest.mark.parametrize("mode", ["async", "ssp"])
def test_a_lost_worker_may_be_tolerated(mode: str, exits: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    def work(rank: int, peer: Peer) -> float:
        if rank == 1:
            peer.send_header = lambda *_: None
            return 0.0
        parameters, exchange = exchange_of(peer)
        set_on(peer, exchange)
        barrier(peer, rank)  # waits for the other until it is removed
        return push(exchange, parameters, 1.0, 5)[0][0][0]

    results, server = run_job(config(mode, tolerate=True), 2, work)
    assert results[0] == 0.5 and not exits and server.version == 1
    assert "warning: worker 1 disconnected: training continues without it" in capfd.readouterr().err
