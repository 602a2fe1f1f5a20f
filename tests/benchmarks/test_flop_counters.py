"""Table of FLOP counters: distdl's column equals the values derived by hand in every row."""

import sys

import pytest

from repository import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import flop_counters

from distdl.profiling.counting.meta import weightless


@pytest.mark.parametrize("name", flop_counters.CASES)
def test_the_counts_of_distdl_are_exact(name):
    case = flop_counters.CASES[name]
    with weightless():
        module = case.build()
    inputs = tuple(flop_counters.torch.empty(shape) for shape in case.inputs)
    with case.under():
        assert flop_counters.by_distdl(module, inputs) == case.macs
    if name in flop_counters.TRAINING:
        assert flop_counters.training_by_distdl(module, inputs) == flop_counters.TRAINING[name]


def test_a_figure_is_formatted_as_a_multiple_of_the_truth():
    notes: list[str] = []
    figures = (100, 150, 2000.0, 0, "E: no", "E: no")
    cells = [flop_counters.cell(figure, 100, notes) for figure in figures]
    assert cells == ["exact", "1.500", "20.0", "0", "fails [1]", "fails [1]"] and notes == ["E: no"]
