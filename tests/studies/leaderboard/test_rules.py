"""The leaderboard's rules, profiles and lineage, as pure functions and on files."""

import itertools
import json
from pathlib import Path

import pytest

from distdl.core.errors import UserError
from distdl.core.files import write_atomic
from distdl.core.manifest import STATE, Progress
from distdl.studies.leaderboard.board import Board, Seat
from distdl.studies.leaderboard.event_log import Lineage, State, replay
from distdl.studies.leaderboard.history import ancestry, best_so_far, nodes
from distdl.studies.leaderboard.profiles import DOCUMENT, profile_at
from distdl.studies.leaderboard.rules import Population, Ratchet, Rule
from distdl.studies.leaderboard.tree import figure, outline, table
from distdl.studies.leaderboard.trials import Settings, trials


def play(seat: Seat, score: float, epochs: int = 0) -> tuple[int | None, bool]:
    """One take and its offer. Returns the slot it came from, and whether it was published."""
    take = seat.take()
    return take.slot, offer(seat, take, score, epochs)


def offer(seat: Seat, take, score: float, epochs: int = 0) -> bool:
    parent = seat.lineage.state.slots.get(take.slot)
    epoch = (parent.epoch if parent else epochs) + 1
    return seat.offer(
        take,
        score,
        progress=vars(Progress(step=epoch, epoch=epoch)),
        write=lambda beside: write_atomic(beside / STATE, lambda sink: sink.write(str(score).encode())),
        epoch_s=1.0,
        settings=take.settings or {"name": "alex", "lr": 0.1},
    )


@pytest.fixture
def seat(tmp_path: Path):
    return Seat(tmp_path / "board", Ratchet(slots=2))


def test_what_beats_any_slot_goes_over_the_bottom_one_and_the_least_worked_on_is_next(seat: Seat) -> None:
    assert play(seat, 0.1) == (None, True)
    assert play(seat, 0.3) == (None, True)  # as many beginnings as slots
    assert play(seat, 0.05) == (1, False)  # both not worked on: the better one; its child beats none
    assert play(seat, 0.2) == (0, True)  # the other one; its child beats it
    assert sorted(seat.lineage.state.slots) == [1, 3]
    assert play(seat, 0.3) == (3, True)  # 3 is new: never worked on; it is the bottom, and gone
    assert play(seat, 0.3) == (4, False)  # a draw beats nobody
    assert [slot.score for slot in seat.lineage.state.slots.values()] == [0.3, 0.3]
    assert seat.complaints() == []


def test_not_a_number_is_dropped_even_from_an_empty_board(seat: Seat) -> None:
    assert play(seat, float("nan")) == (None, False)
    assert [json.loads(line)["kind"] for line in seat.lineage.file.read_text().splitlines()][-1] == "drop"


def test_processes_at_the_same_time_take_different_slots(tmp_path: Path, seat: Seat) -> None:
    play(seat, 0.1), play(seat, 0.2)
    first, second = seat.take(), seat.take()
    assert {first.slot, second.slot} == {0, 1}
    assert seat.take().tries == 1
    seat.give_back(first)
    assert seat.lineage.state.slots[first.slot].worked + seat.lineage.state.slots[second.slot].worked == 2


def test_a_replaced_slot_stays_on_disk_while_someone_trains_from_it(seat: Seat) -> None:
    play(seat, 0.1), play(seat, 0.2)
    holder, other = seat.take(), seat.take()
    bottom = next(take for take in (holder, other) if take.slot == 0)
    assert offer(seat, next(take for take in (holder, other) if take.slot == 1), 0.5)
    assert 0 not in seat.lineage.state.slots
    assert seat.slot(0).is_dir()
    seat.give_back(bottom)
    seat.look()
    assert not seat.slot(0).exists()


def test_two_offers_for_one_place_are_decided_by_the_board_as_it_is_then(seat: Seat) -> None:
    play(seat, 0.1), play(seat, 0.2)
    first, second = seat.take(), seat.take()
    other = Seat(seat.folder, seat.rule)
    third = other.take()

    def write(beside: Path) -> None:  # while this one writes, another raises the bottom above it
        assert offer(other, third, 0.9) and offer(seat, second, 0.8)
        write_atomic(beside / STATE, lambda sink: sink.write(b"late"))

    assert not seat.offer(
        first, 0.3, progress=vars(Progress(step=2, epoch=2)), write=write, epoch_s=1.0, settings={"name": "", "lr": 1.0}
    )
    assert sorted(slot.score for slot in seat.look().slots.values()) == [0.8, 0.9]
    assert seat.complaints() == []
    assert {path.name for path in (seat.folder / "slots").iterdir()} == {
        seat.slot(name).name for name in seat.lineage.state.slots
    }


def test_a_damaged_slot_is_seen_and_taken_off(seat: Seat) -> None:
    play(seat, 0.1), play(seat, 0.2)
    (seat.slot(1) / STATE).write_bytes(b"other")
    assert "does not match its checksum" in seat.complaints()[0]
    seat.retire(1, "damaged")
    assert list(seat.lineage.state.slots) == [0] and seat.complaints() == []
    assert play(seat, 0.05) == (None, True)  # its place is free: a new beginning


def test_a_torn_last_line_never_happened_and_is_cut_off(seat: Seat) -> None:
    play(seat, 0.1), play(seat, 0.2)
    before = replay(seat.rows())
    with seat.lineage.file.open("a") as sink:
        sink.write('{"kind": "publish", "take": 77, "sc')
    assert replay(seat.rows()) == before
    assert play(seat, 0.3)[1]
    rows = [json.loads(line) for line in seat.lineage.file.read_text().splitlines()]
    assert all(rows) and 77 not in [row.get("take") for row in rows]
    assert Lineage(seat.lineage.file).catch_up() == seat.lineage.state


def test_the_lineage_replays_to_the_board_at_every_line(seat: Seat) -> None:
    for score in (0.1, 0.2, 0.3, 0.15, 0.4, 0.5):
        play(seat, score)
    rows = seat.rows()
    states = [replay(rows[:count]) for count in range(len(rows) + 1)]
    assert states[0] == State() and states[-1] == seat.lineage.state
    best = [state.best.score for state in states if state.best]
    assert best == sorted(best)
    assert all(set(row) >= {"time_s", "step", "epoch", "kind"} for row in rows)


@pytest.mark.parametrize("line", ["nonsense\n", '{"kind": "publish", "take": 99}\n', "[]\n"])
def test_a_lineage_that_is_none_is_refused_by_line(seat: Seat, line: str) -> None:
    play(seat, 0.1)
    with seat.lineage.file.open("a") as sink:
        sink.write(line)
    with pytest.raises(UserError, match=r"lineage.jsonl: line 4 is not an event"):
        Seat(seat.folder, seat.rule)


@pytest.mark.parametrize("rule", [Ratchet(slots=3), Population(slots=2)])
def test_a_board_of_another_rule_is_refused(seat: Seat, rule: Rule) -> None:
    with pytest.raises(UserError, match="give the same settings"):
        Seat(seat.folder, rule)


def test_slices_are_counted_over_processes_and_restarts(tmp_path: Path) -> None:
    folder = tmp_path / "board"
    for ended in ("stopped", "completed"):
        seat = Seat(folder, Ratchet(slots=2), job="17", waited_s=3.0)
        play(seat, 0.1)
        seat.leave(ended)
    state = Board(folder).state()
    assert [(one.ended, one.job, one.waited_s) for one in state.slices] == [
        ("stopped", "17", 3.0),
        ("completed", "17", 3.0),
    ]
    rows = Board(folder).rows()
    spent = sum(row["at"] * {"begin": -1, "end": 1}.get(row["kind"], 0) for row in rows)
    assert state.compute_s(now=0.0) == pytest.approx(spent)


def test_profiles_alternate_by_the_checkpoints_counter_and_nothing_else() -> None:
    names = [profile_at(DOCUMENT, epoch, 0).name for epoch in range(7)]
    assert names == ["alex", "1e-3", "1e-4", "1e-5", "walter", "alex", "1e-3"]
    assert [profile_at(DOCUMENT, 4, tries).name for tries in range(3)] == ["walter", "alex", "1e-3"]
    assert {(p.lr, p.momentum, p.weight_decay) for p in (DOCUMENT[0], DOCUMENT[-1])} == {
        (1e-2, 0.9, 5e-4),
        (1e-6, 0.1, 5e-4),
    }


def test_profiles_go_on_in_turn_across_restarts(tmp_path: Path) -> None:
    """One slot that every epoch improves, each epoch by a process of its own: the profiles come in turn."""
    used = []
    for score in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        seat = Seat(tmp_path / "board", Ratchet(slots=1))
        take = seat.take()
        parent = seat.lineage.state.slots.get(take.slot)
        used.append(profile_at(DOCUMENT, parent.epoch if parent else 0, take.tries).name)
        assert offer(seat, take, score)
        seat.leave("stopped")
    assert used == ["alex", "1e-3", "1e-4", "1e-5", "walter", "alex"]


def test_a_population_keeps_its_members_and_the_worst_takes_over_from_the_best(tmp_path: Path) -> None:
    beginnings = tuple(
        {"name": str(index), "lr": 10.0**-index, "momentum": 0.9, "weight_decay": 0.0} for index in range(5)
    )
    seat = Seat(tmp_path / "board", Population(slots=5, beginnings=beginnings))
    takes = [seat.take() for _ in range(5)]
    assert [(take.member, take.settings["lr"]) for take in takes] == [(index, 10.0**-index) for index in range(5)]
    for take in takes:
        assert offer(seat, take, 0.1 * (take.member + 1))
    worst = seat.take()
    assert worst.member == 0 and worst.slot == 4  # member 0 goes on from member 4's weights...
    assert worst.settings["lr"] / 1e-4 in (pytest.approx(0.8), pytest.approx(1.2))  # ...at a rate near to its
    assert offer(seat, worst, 0.01)  # replaced by what is worse
    assert {slot.member: round(slot.score, 2) for slot in seat.lineage.state.slots.values()}[0] == 0.01
    second = seat.take()
    assert (second.member, second.slot, second.settings["lr"]) == (1, 1, 0.1)
    assert [seat.take().member for _ in range(3)] == [2, 3, 4]


def test_of_two_that_brought_one_member_further_the_first_counts(tmp_path: Path) -> None:
    seat = Seat(tmp_path / "board", Population(slots=1))
    assert offer(seat, seat.take(), 0.5)
    first, second = seat.take(), seat.take()
    assert first.member == second.member == 0
    assert offer(seat, second, 0.4) and not offer(seat, first, 0.9)


def test_the_tree_has_every_slot_of_the_board_and_those_that_led_there(seat: Seat) -> None:
    for score in (0.1, 0.3, 0.2, 0.25, 0.4, 0.5, 0.6, 0.05):
        play(seat, score)
    rows, state = seat.rows(), seat.lineage.state
    published = nodes(rows)
    kept = ancestry(published, list(state.slots))
    drawn = table("b", rows, state)
    assert {node.name for _, node in outline(kept, set(state.slots), compress=False)} == set(kept)
    assert sum(row[-1] == "on the board" for row in drawn.rows) == len(state.slots) == 2
    for node in kept.values():
        assert node.parent is None or node.parent in kept
    seconds, best = best_so_far(rows)
    assert seconds[-1] == 8.0 and best == sorted(best) and best[-1] == 0.6
    points = [layer for layer in figure("b", rows, state).layers if layer.mark == "points"]
    assert sum(len(layer.data["x"]) for layer in points) == len(published)


def test_a_long_chain_is_drawn_in_few_lines(tmp_path: Path) -> None:
    seat = Seat(tmp_path / "board", Ratchet(slots=1))
    for index in range(60):
        play(seat, float(index))
    drawn = table("b", seat.rows(), seat.lineage.state)
    assert [row[0] for row in drawn.rows] == ["└─ 0", "   ┊ 58 more", "   59"]


def test_the_trials_are_the_processes_of_each_board_and_its_top() -> None:
    listed = trials(Settings())
    names = [trial.name for trial in listed]
    assert len(set(names)) == len(names) == 6 * (2 + 1)
    for trial in listed:
        assert json.loads(json.dumps(dict(trial.settings))) == trial.settings
    top = next(trial for trial in listed if trial.name == "frozen-ratchet-seed0-top")
    assert top.after == ("frozen-ratchet-seed0-process0", "frozen-ratchet-seed0-process1")
    boards = [trial.settings["board"] for trial in listed if trial.labels["part"] != "top"]
    assert [len(list(group)) for _, group in itertools.groupby(boards)] == [2] * 6
    assert (top.settings["total_lifetime_s"], top.settings["eon_lifetime_s"], top.settings["slots"]) == (
        259200,
        2400,
        5,
    )
    assert top.settings["recipe"]["overrides"]["model.trainable_features"] == [False]
