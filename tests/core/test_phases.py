"""Mean times of the phases of a step."""

import pytest

from distdl.core.phases import EXPLAIN, PHASES, per_step
from example_result import RUN


def test_phases_and_rest_add_up_to_the_step() -> None:
    phases = per_step(RUN)
    assert [phase.name for phase in phases] == [*PHASES, "rest"] == list(EXPLAIN)
    assert [phase.step_s for phase in phases] == pytest.approx([0.04, 0.01, 0.2, 0.4, 0.05, 0.1, 0.02])
    assert sum(phase.share for phase in phases) == pytest.approx(1)


def test_the_rest_of_overlapping_phases_is_not_negative() -> None:
    phases = per_step({"phases_s": {"data": 3.0, "forward": 1.0}, "steps": 2, "train_s": 3.0})
    assert [phase.step_s for phase in phases] == [1.5, 0, 0.5, 0, 0, 0, 0]
    assert [phase.share for phase in phases] == [0.75, 0, 0.25, 0, 0, 0, 0]


def test_the_phases_of_one_step_are_its_times() -> None:
    phases = per_step({"phases_s": {"data": 3.0, "forward": 1.0}, "steps": 1, "train_s": 5.0})
    assert [phase.step_s for phase in phases] == [3.0, 0, 1.0, 0, 0, 0, 1.0]


def test_all_phases_are_zero_before_the_first_step() -> None:
    assert all(phase[1:] == (0, 0) for phase in per_step({"phases_s": {}, "steps": 0, "train_s": 0.0}))
