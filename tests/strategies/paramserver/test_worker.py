"""The parameter server: the same training as ddp's, true records, and what happens when somebody dies."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from distdl.core.checkpoints import find
from distdl.core.config import Config
from distdl.core.files import read_rows
from distdl.runtime.tensors import load
from distdl.strategies.paramserver.partition import ASSIGNMENTS, SIZE_THRESHOLD, balance
from distdl.strategies.paramserver.protocol import Peer
from distdl.strategies.paramserver.server import STRAGGLER_WINDOW, Server
from jobs import QUIET, Ranks, step_of, train, wait_for
from run_folders import tree
from same_checkpoint import assert_same_checkpoint

PLAIN = ("--optim.name", "sgd", "--optim.momentum", "0.9", "--optim.lr", "0.02", "--optim.weight-decay", "1e-3")
SHORT = (*PLAIN, "--max-steps", "50", "--data.batch-size", "16")
SERVED = ("--strategy", "ps", "--ps.servers", "2")


def weights(run: Path) -> dict[str, torch.Tensor]:
    state, _ = load(find(run, warn=pytest.fail))
    return state["model"]


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


def result(run: Path) -> dict:
    return json.loads((run / "result.json").read_text())


SIZES = [9, 4_000_000, 64, 2_359_296, 10, 512_000, 1, 36_864]


@pytest.mark.parametrize("how", ASSIGNMENTS)
@pytest.mark.parametrize("servers", [1, 2, 3, 8])
def test_every_element_lies_on_exactly_one_server(how: str, servers: int) -> None:
    assignment = ASSIGNMENTS[how](SIZES, servers)
    assert len(assignment) == servers
    covered = sorted((piece.tensor, piece.start, piece.stop) for pieces in assignment for piece in pieces)
    for tensor, size in enumerate(SIZES):
        ends = [(start, stop) for owner, start, stop in covered if owner == tensor]
        assert ends[0][0] == 0
        assert ends[-1][1] == size
        assert all(one[1] == other[0] for one, other in itertools.pairwise(ends))


def test_balance_is_what_each_assignment_promises() -> None:
    def worst(how: str) -> float:
        return max(row["imbalance"] for row in balance(ASSIGNMENTS[how](SIZES, 4), 4))

    assert worst("balanced") < 1.34  # a list schedule is within 4/3 of the best
    assert worst("balanced") <= worst("size-threshold") <= worst("round-robin")
    assert SIZE_THRESHOLD == 1_000_000
    rows = balance(ASSIGNMENTS["round-robin"]([10, 20, 30], 2), 4)
    assert rows == [
        {"bytes": 160, "requests": 2, "imbalance": 160 / 120},
        {"bytes": 80, "requests": 1, "imbalance": 80 / 120},
    ]


@pytest.fixture(scope="module")
def ddp_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    run = tmp_path_factory.mktemp("ddp") / "run"
    train([*SHORT, "--out", str(run)], ranks=2)
    return weights(run)


VARIANTS = {
    "balanced": (),
    "round-robin": ("--ps.assign", "round-robin"),
    "overlap": ("--ps.overlap",),
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_sync_is_ddp(tmp_path: Path, ddp_weights: dict[str, torch.Tensor], options: tuple[str, ...]) -> None:
    train([*SHORT, *SERVED, *options, "--out", str(tmp_path / "run")], ranks=4)
    assert apart(weights(tmp_path / "run"), ddp_weights) < 1e-5
    found = result(tmp_path / "run")
    assert (found["world_size"], found["strategy"]) == (2, "ps")
    assert [row["bytes"] > 0 for row in found["ps"]["servers"]] == [True, True]


def test_per_part_rates_and_penalties_reach_the_servers(tmp_path: Path) -> None:
    words = [*SHORT, "--optim.lr-factors", "features.*", "0.1", "--optim.no-decay-norm-and-bias"]
    train([*words, "--out", str(tmp_path / "ddp")], ranks=2)
    train([*words, *SERVED, "--out", str(tmp_path / "ps")], ranks=4)
    assert apart(weights(tmp_path / "ps"), weights(tmp_path / "ddp")) < 1e-5


def test_bf16_on_the_wire_stays_near(tmp_path: Path, ddp_weights: dict[str, torch.Tensor]) -> None:
    train([*SHORT, *SERVED, "--ps.wire", "bf16", "--out", str(tmp_path / "run")], ranks=4)
    assert 0 < apart(weights(tmp_path / "run"), ddp_weights) < 0.05


def test_every_step_of_everybody_is_recorded(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train([*SHORT, *SERVED, "--max-steps", "10", "--out", str(run)], ranks=4)
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
    words = [*PLAIN, "--epochs", "4", "--optim.momentum", "0", *SERVED, *options]
    train([*words, "--out", str(tmp_path / "run")], ranks=4)
    found = result(tmp_path / "run")
    assert found["test"]["accuracy"] > 0.6  # how stale gradients are is the machine's doing: it learns all the same
    staleness = {int(updates): steps for updates, steps in found["ps"]["staleness"].items()}
    assert sum(staleness.values()) == found["steps"]
    assert max(staleness) >= 1
    if mode == "ssp":
        # Between a worker's pull and its next push another may be so many steps ahead, and as many behind.
        assert max(staleness) <= 2 * 2 + 1


def test_a_resumed_sync_run_is_exact(tmp_path: Path) -> None:
    words = [*PLAIN, *SERVED, "--epochs", "8", "--data.batch-size", "24", "--data.limit", "600", "--log-every-s", "0"]
    words += ["--checkpoint.every-steps", "5", "--evaluate-every", "8"]
    train([*words, "--out", str(tmp_path / "uncut")], ranks=4)
    cut = tmp_path / "cut"
    job = Ranks([*words, *QUIET, "--out", str(cut), "--resume", "auto"], ranks=4)
    wait_for(lambda: step_of(cut) >= 12, what="step 12")
    job.kill()
    assert result(cut)["status"] == "running", "it was over before it could be cut"
    train([*words, "--out", str(cut), "--resume", "auto"], ranks=4)
    assert_same_checkpoint(tmp_path / "uncut", cut)
    assert result(cut)["resumes"] == 1


def test_other_servers_cannot_take_the_state(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    train([*SHORT, *SERVED, "--max-steps", "4", "--out", run], ranks=3)
    words = [*SHORT, "--strategy", "ps", "--max-steps", "8", "--out", run, "--resume", "auto", *QUIET]
    job = Ranks(words, ranks=3)
    assert 2 in job.wait()
    assert "on other servers than this run" in job.text


OTHER_STATE = {
    "parameters": (["--model.freeze", "classifier.2.*"], "give the same model.freeze"),
    "memory format": (["--compute.channels-last"], "compute.channels_last"),
    "segments": (["--optim.weight-decay", "0"], "a server could not load its part"),
}


@pytest.mark.parametrize(("words", "says"), OTHER_STATE.values(), ids=OTHER_STATE)
def test_a_state_of_another_layout_is_refused(tmp_path: Path, words: list[str], says: str) -> None:
    run = tmp_path / "run"
    base = [*SHORT, "--strategy", "ps", "--model.name", "digits-cnn", "--optim.no-decay-norm-and-bias"]
    base += ["--out", str(run), *QUIET]
    assert Ranks([*base, "--max-steps", "3"], ranks=2).wait() == [0, 0]
    before = tree(run)
    job = Ranks([*base, "--max-steps", "6", "--resume", "auto", *words], ranks=2)
    assert job.wait()[0] == 2, job.text
    assert says in job.text
    assert "Traceback" not in job.text
    assert tree(run) == before


def test_servers_take_this_runs_rate_and_not_the_checkpoints(tmp_path: Path) -> None:
    run = tmp_path / "run"
    base = [*SHORT, "--strategy", "ps", "--schedule.name", "constant", "--out", str(run)]
    train([*base, "--max-steps", "3"], ranks=2)
    trained = weights(run)
    train([*base, "--max-steps", "6", "--resume", "auto", "--optim.lr", "0"], ranks=2)
    assert apart(trained, weights(run)) == 0


@pytest.mark.parametrize(("victim", "name"), [(0, "worker 0"), (1, "worker 1"), (3, "server 1")])
def test_a_death_ends_the_job_with_its_name(tmp_path: Path, victim: int, name: str) -> None:
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
    # 30 s are asked for, and it takes one or two; a machine busy with other things gets more before it is called hung.
    codes = job.wait(timeout=90)
    assert None not in codes
    assert codes[0 if victim else 1] != 0
    assert name in job.text


def test_async_goes_on_without_a_dead_worker_if_told_so(tmp_path: Path) -> None:
    words = [*PLAIN, *SERVED, "--ps.mode", "async", "--ps.survive", "--epochs", "60", "--log-every-s", "0"]
    job = Ranks([*words, "--out", str(tmp_path), *QUIET], ranks=5)
    wait_for(lambda: step_of(tmp_path) >= 5, what="step 5")
    os.kill(job.processes[2].pid, signal.SIGKILL)
    codes = job.wait()
    assert [codes[rank] for rank in (0, 1, 3, 4)] == [0, 0, 0, 0], job.text
    assert "worker 2" in job.text
    assert result(tmp_path)["status"] == "completed"


def straggler(compute_s: dict[int, list[float]]) -> int:
    """The worker that a server names, given the workers' compute times."""
    server = Server(Config(), 0, [Peer(worker, f"worker {worker}", 1.0) for worker in compute_s], torch.float32)
    for worker, seconds in compute_s.items():
        server.compute_s[worker].extend(seconds)
    return server._straggler()


def test_a_straggler_is_named_when_it_leaves_the_others_spread() -> None:
    dice = np.random.default_rng(0)
    alike = {worker: dice.normal(0.1, 0.005, STRAGGLER_WINDOW).tolist() for worker in range(4)}
    assert straggler(alike) == -1
    assert straggler(alike | {2: [0.15] * STRAGGLER_WINDOW}) == 2
    assert straggler(alike | {2: [0.11] * STRAGGLER_WINDOW}) == -1, "a tenth is no straggler on a quiet machine"
    apart = {0: 0.1, 1: 0.14, 2: 0.06, 3: 0.18}
    assert straggler({worker: [s] * STRAGGLER_WINDOW for worker, s in apart.items()}) == -1, "within the spread"
    assert straggler(alike | {2: [0.15] * (STRAGGLER_WINDOW - 1)}) == -1, "too few steps to tell"
    assert straggler({0: [0.1] * STRAGGLER_WINDOW, 1: [0.2] * STRAGGLER_WINDOW}) == -1, "of two, which is the slow one"


def test_the_table_of_servers_is_shown(tmp_path: Path) -> None:
    job = Ranks(
        [*SHORT, *SERVED, "--max-steps", "4", "--out", str(tmp_path / "run"), *QUIET, "--progress", "plain"], ranks=4
    )
    assert job.wait() == [0] * 4, job.text
    for row in result(tmp_path / "run")["ps"]["servers"]:
        assert f"{row['bytes']:,}" in job.text
    assert "imbalance" in job.text and "ms a step: push" in job.text


def test_a_resumed_run_records_each_step_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*SHORT, *SERVED, "--max-steps", "10", "--checkpoint.every-steps", "6", "--out", str(run)]
    train(words, ranks=4)
    for checkpoint in (run / "checkpoints").glob("step-*10"):
        shutil.rmtree(checkpoint)
    train([*words, "--resume", "auto"], ranks=4)
    assert result(run)["legs"][1]["from_step"] == 6
    for worker in range(2):
        rows = read_rows(run / "ps" / f"worker-{worker}.jsonl")
        assert [row["step"] for row in rows] == list(range(1, 11))
    for server in range(2):
        rows = read_rows(run / "ps" / f"server-{server}.jsonl")
        assert sorted((row["step"], row["worker"]) for row in rows) == [(s, w) for s in range(1, 11) for w in range(2)]


def test_replayed_compute_waits_moves_bytes_and_says_so(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    record.write_text("".join(json.dumps({"forward_s": 0.004, "backward_s": 0.008}) + "\n" for _ in range(10)))
    words = [*SHORT, *SERVED, "--max-steps", "12", "--ps.compute", f"replay:{record}", "--out", str(tmp_path / "run")]
    train(words, ranks=4)
    rows = list(read_rows(tmp_path / "run" / "ps" / "worker-0.jsonl"))
    assert all(row["replayed"] for row in rows)
    assert all(row["forward_s"] >= 0.004 and row["backward_s"] >= 0.008 for row in rows)
    found = result(tmp_path / "run")
    assert found["ps"]["replayed"] is True
    assert "test" not in found


WRONG = {
    "nobody left to train": (["--ps.servers", "4"], "at least one must be left to train"),
    "clipping": (["--optim.clip-norm", "1"], "optim.clip_norm"),
    "a layer-wise optimizer": (["--optim.name", "lars"], "needs layers"),
    "a replay of nothing": (["--ps.compute", "replay:nothing.jsonl"], "nothing.jsonl"),
    "a replay of what is no record": (["--ps.compute", "replay:config.toml"], "forward_s"),
    "survival of a sync run": (["--ps.survive"], "ps.survive is for async"),
}


@pytest.mark.parametrize(("words", "says"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_said(tmp_path: Path, words: list[str], says: str) -> None:
    Path("config.toml").write_text("name = 1\n")
    base = ["--strategy", "ps", "--optim.name", "sgd", "--optim.weight-decay", "0", "--out", str(tmp_path / "run")]
    job = Ranks([*base, *words, *QUIET], ranks=2)
    assert 2 in job.wait()
    assert says in job.text


def test_a_worker_that_others_hold_up_is_named(tmp_path: Path) -> None:
    """Worker 1 computes on a core with a program that leaves it a quarter; the others have the rest."""
    words = [*PLAIN, "--strategy", "ps", "--epochs", "9999", "--max-steps", "45", "--data.batch-size", "16"]
    words += ["--model.name", "mnist-cnn", "--data.loader", "synthetic", "--data.image-size", "28"]
    job = Ranks([*words, "--log-every-s", "0", "--evaluate-every", "9999", "--out", str(tmp_path), *QUIET], ranks=4)
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
    named = result(tmp_path)["ps"]["stragglers"]
    assert named.get("worker 1", 0) == max(named.values(), default=1) >= 5
    assert "warning: worker 1 is a straggler" in job.text
