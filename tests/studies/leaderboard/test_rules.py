"""The leaderboard's rules, profiles and lineage, as pure functions and on files."""

import itertools
import json
from pathlib import Path

import pytest

from distdl.core.errors import UserError
from distdl.core.files import write_atomic
from distdl.core.manifest import STATE, Progress
from distdl.studies.leaderboard.board import Board, Session
from distdl.studies.leaderboard.event_log import BoardState, Lineage, replay
from distdl.studies.leaderboard.history import ancestry, best_so_far, nodes
from distdl.studies.leaderboard.profiles import PUBLISHED, profile_at
from distdl.studies.leaderboard.rules import PopulationBased, ReplaceWorst, Rule
from distdl.studies.leaderboard.tree import figure, outline, table
from distdl.studies.leaderboard.trials import LeaderboardSettings, trials


def play(session: Session, score: float, epochs: int = 0) -> tuple[int | None, bool]:
    """Lease a slot and submit a score. Returns the leased slot, and whether the result was published."""
    lease = session.lease()
    return lease.slot, submit(session, lease, score, epochs)


def submit(session: Session, lease, score: float, epochs: int = 0) -> bool:
    parent = session.lineage.state.slots.get(lease.slot)
    epoch = (parent.epoch if parent else epochs) + 1
    return session.submit(
        lease,
        score,
        progress=vars(Progress(step=epoch, epoch=epoch)),
        write=lambda staging: write_atomic(staging / STATE, lambda sink: sink.write(str(score).encode())),
        epoch_s=1.0,
        settings=lease.settings or {"name": "alex", "lr": 0.1},
    )


@pytest.fixture
def session(tmp_path: Path):
    return Session(tmp_path / "board", ReplaceWorst(slots=2))


def test_a_better_score_replaces_the_worst_slot_and_the_least_trained_slot_is_next(session: Session) -> None:
    assert play(session, 0.1) == (None, True)
    assert play(session, 0.3) == (None, True)  # as many initial leases as slots
    assert play(session, 0.05) == (1, False)  # none was trained further: the better one is leased; its child beats none
    assert play(session, 0.2) == (0, True)  # the other slot is leased; its child beats it
    assert sorted(session.lineage.state.slots) == [1, 3]
    assert play(session, 0.3) == (3, True)  # 3 is new and was never trained further; it is the worst and is replaced
    assert play(session, 0.3) == (4, False)  # an equal score replaces none
    assert [slot.score for slot in session.lineage.state.slots.values()] == [0.3, 0.3]
    assert session.inconsistencies() == []


def test_a_nan_score_is_dropped_even_on_an_empty_board(session: Session) -> None:
    assert play(session, float("nan")) == (None, False)
    assert [json.loads(line)["kind"] for line in session.lineage.file.read_text().splitlines()][-1] == "drop"


def test_concurrent_processes_lease_different_slots(tmp_path: Path, session: Session) -> None:
    play(session, 0.1), play(session, 0.2)
    first, second = session.lease(), session.lease()
    assert {first.slot, second.slot} == {0, 1}
    assert session.lease().tries == 1
    session.release(first)
    assert (
        session.lineage.state.slots[first.slot].lease_count + session.lineage.state.slots[second.slot].lease_count == 2
    )


def test_a_replaced_slot_stays_on_disk_while_it_is_leased(session: Session) -> None:
    play(session, 0.1), play(session, 0.2)
    holder, other = session.lease(), session.lease()
    bottom = next(lease for lease in (holder, other) if lease.slot == 0)
    assert submit(session, next(lease for lease in (holder, other) if lease.slot == 1), 0.5)
    assert 0 not in session.lineage.state.slots
    assert session.slot(0).is_dir()
    session.release(bottom)
    session.refresh()
    assert not session.slot(0).exists()


def test_two_submissions_for_one_slot_are_compared_with_the_current_board(session: Session) -> None:
    play(session, 0.1), play(session, 0.2)
    first, second = session.lease(), session.lease()
    other = Session(session.folder, session.rule)
    third = other.lease()

    def write(staging: Path) -> None:  # during this write, another process raises the worst score above it
        assert submit(other, third, 0.9) and submit(session, second, 0.8)
        write_atomic(staging / STATE, lambda sink: sink.write(b"late"))

    assert not session.submit(
        first, 0.3, progress=vars(Progress(step=2, epoch=2)), write=write, epoch_s=1.0, settings={"name": "", "lr": 1.0}
    )
    assert sorted(slot.score for slot in session.refresh().slots.values()) == [0.8, 0.9]
    assert session.inconsistencies() == []
    assert {path.name for path in (session.folder / "slots").iterdir()} == {
        session.slot(name).name for name in session.lineage.state.slots
    }


def test_a_damaged_slot_is_detected_and_removed(session: Session) -> None:
    play(session, 0.1), play(session, 0.2)
    (session.slot(1) / STATE).write_bytes(b"other")
    assert "does not match its checksum" in session.inconsistencies()[0]
    session.retire(1, "damaged")
    assert list(session.lineage.state.slots) == [0] and session.inconsistencies() == []
    assert play(session, 0.05) == (None, True)  # its place is free: a new initial lease


def test_an_incomplete_last_line_is_ignored_and_removed(session: Session) -> None:
    play(session, 0.1), play(session, 0.2)
    previous = replay(session.rows())
    with session.lineage.file.open("a") as sink:
        sink.write('{"kind": "publish", "take": 77, "sc')
    assert replay(session.rows()) == previous
    assert play(session, 0.3)[1]
    rows = [json.loads(line) for line in session.lineage.file.read_text().splitlines()]
    assert all(rows) and 77 not in [row.get("take") for row in rows]
    assert Lineage(session.lineage.file).catch_up() == session.lineage.state


def test_replaying_the_lineage_gives_the_board_at_every_line(session: Session) -> None:
    for score in (0.1, 0.2, 0.3, 0.15, 0.4, 0.5):
        play(session, score)
    rows = session.rows()
    states = [replay(rows[:count]) for count in range(len(rows) + 1)]
    assert states[0] == BoardState() and states[-1] == session.lineage.state
    best = [state.best.score for state in states if state.best]
    assert best == sorted(best)
    assert all(set(row) >= {"time_s", "step", "epoch", "kind"} for row in rows)


@pytest.mark.parametrize("line", ["nonsense\n", '{"kind": "publish", "take": 99}\n', "[]\n"])
def test_an_invalid_lineage_is_refused_with_its_line(session: Session, line: str) -> None:
    play(session, 0.1)
    with session.lineage.file.open("a") as sink:
        sink.write(line)
    with pytest.raises(UserError, match=r"lineage.jsonl: line 4 is not a valid event"):
        Session(session.folder, session.rule)


@pytest.mark.parametrize("rule", [ReplaceWorst(slots=3), PopulationBased(slots=2)])
def test_a_board_of_another_rule_is_refused(session: Session, rule: Rule) -> None:
    with pytest.raises(UserError, match="use the same settings"):
        Session(session.folder, rule)


def test_slices_are_summed_over_processes_and_restarts(tmp_path: Path) -> None:
    folder = tmp_path / "board"
    for ended in ("stopped", "completed"):
        session = Session(folder, ReplaceWorst(slots=2), job="17", waited_s=3.0)
        play(session, 0.1)
        session.leave(ended)
    state = Board(folder).state()
    assert [(each.ended, each.job, each.waited_s) for each in state.slices] == [
        ("stopped", "17", 3.0),
        ("completed", "17", 3.0),
    ]
    rows = Board(folder).rows()
    spent = sum(row["at"] * {"begin": -1, "end": 1}.get(row["kind"], 0) for row in rows)
    assert state.compute_s(now=0.0) == pytest.approx(spent)


def test_profiles_alternate_by_the_checkpoints_counter_only() -> None:
    names = [profile_at(PUBLISHED, epoch, 0).name for epoch in range(7)]
    assert names == ["alex", "1e-3", "1e-4", "1e-5", "walter", "alex", "1e-3"]
    assert [profile_at(PUBLISHED, 4, tries).name for tries in range(3)] == ["walter", "alex", "1e-3"]
    assert {(p.lr, p.momentum, p.weight_decay) for p in (PUBLISHED[0], PUBLISHED[-1])} == {
        (1e-2, 0.9, 5e-4),
        (1e-6, 0.1, 5e-4),
    }


def test_profiles_continue_to_alternate_across_restarts(tmp_path: Path) -> None:
    """One slot that each epoch improves, with a new process per epoch: the profiles alternate."""
    used = []
    for score in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        session = Session(tmp_path / "board", ReplaceWorst(slots=1))
        lease = session.lease()
        parent = session.lineage.state.slots.get(lease.slot)
        used.append(profile_at(PUBLISHED, parent.epoch if parent else 0, lease.tries).name)
        assert submit(session, lease, score)
        session.leave("stopped")
    assert used == ["alex", "1e-3", "1e-4", "1e-5", "walter", "alex"]


def test_the_worst_member_of_a_population_copies_the_best(tmp_path: Path) -> None:
    members = tuple(
        {"name": str(index), "lr": 10.0**-index, "momentum": 0.9, "weight_decay": 0.0} for index in range(5)
    )
    session = Session(tmp_path / "board", PopulationBased(slots=5, beginnings=members))
    takes = [session.lease() for _ in range(5)]
    assert [(lease.member, lease.settings["lr"]) for lease in takes] == [(index, 10.0**-index) for index in range(5)]
    for lease in takes:
        assert submit(session, lease, 0.1 * (lease.member + 1))
    worst = session.lease()
    assert worst.member == 0 and worst.slot == 4  # member 0 continues from member 4's weights...
    assert worst.settings["lr"] / 1e-4 in (
        pytest.approx(0.8),
        pytest.approx(1.2),
    )  # ...with a learning rate near that of member 4
    assert submit(session, worst, 0.01)  # replaced even by a lower score
    assert {slot.member: round(slot.score, 2) for slot in session.lineage.state.slots.values()}[0] == 0.01
    second = session.lease()
    assert (second.member, second.slot, second.settings["lr"]) == (1, 1, 0.1)
    assert [session.lease().member for _ in range(3)] == [2, 3, 4]


def test_of_two_submissions_for_one_member_the_first_counts(tmp_path: Path) -> None:
    session = Session(tmp_path / "board", PopulationBased(slots=1))
    assert submit(session, session.lease(), 0.5)
    first, second = session.lease(), session.lease()
    assert first.member == second.member == 0
    assert submit(session, second, 0.4) and not submit(session, first, 0.9)


def test_the_tree_has_every_slot_and_its_ancestors(session: Session) -> None:
    for score in (0.1, 0.3, 0.2, 0.25, 0.4, 0.5, 0.6, 0.05):
        play(session, score)
    rows, state = session.rows(), session.lineage.state
    published = nodes(rows)
    ancestors = ancestry(published, list(state.slots))
    lineage = table("b", rows, state)
    assert {node.name for _, node in outline(ancestors, set(state.slots), compress=False)} == set(ancestors)
    assert sum(row[-1] == "on the board" for row in lineage.rows) == len(state.slots) == 2
    for node in ancestors.values():
        assert node.parent is None or node.parent in ancestors
    seconds, best = best_so_far(rows)
    assert seconds[-1] == 8.0 and best == sorted(best) and best[-1] == 0.6
    points = [layer for layer in figure("b", rows, state).layers if layer.mark == "points"]
    assert sum(len(layer.data["x"]) for layer in points) == len(published)


def test_a_long_chain_is_drawn_in_few_lines(tmp_path: Path) -> None:
    session = Session(tmp_path / "board", ReplaceWorst(slots=1))
    for index in range(60):
        play(session, float(index))
    lineage = table("b", session.rows(), session.lineage.state)
    assert [row[0] for row in lineage.rows] == ["└─ 0", "   ┊ 58 more", "   59"]


def test_the_trials_are_the_processes_and_the_final_test_of_each_board() -> None:
    listed = trials(LeaderboardSettings())
    names = [trial.name for trial in listed]
    assert len(set(names)) == len(names) == 6 * (2 + 1)
    for trial in listed:
        assert json.loads(json.dumps(dict(trial.settings))) == trial.settings
    top = next(trial for trial in listed if trial.name == "frozen-ratchet-seed0-top")
    assert top.after == ("frozen-ratchet-seed0-process0", "frozen-ratchet-seed0-process1")
    boards = [trial.settings["board"] for trial in listed if trial.labels["part"] != "top"]
    assert [len(list(group)) for _, group in itertools.groupby(boards)] == [2] * 6
    assert (top.settings["total_lifetime_s"], top.settings["slice_s"], top.settings["slots"]) == (
        259200,
        2400,
        5,
    )
    assert top.settings["recipe"]["overrides"]["model.trainable_features"] == [False]
