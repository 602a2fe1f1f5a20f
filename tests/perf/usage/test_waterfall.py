"""The waterfall of runs with made-up times."""

import itertools

import pytest

from distdl.perf.usage.waterfall import DESCRIPTIONS, mfu, remedy, waterfall
from example_result import KNOWN, PHASES, RUN


def seconds(result: dict) -> dict[str, float]:
    return {part.name: round(part.seconds, 9) for part in waterfall(result).parts}


def test_all_levels_are_computed():
    assert seconds(RUN | KNOWN) == {
        "peak": 20,
        "layers": 15,
        "kernels": 25,
        "gaps": 10,
        "loop": 2,
        "input": 5,
        "exchange": 5,
        "evaluate": 6,
        "checkpoint": 1,
        "start": 11,
    }


@pytest.mark.parametrize("known", [set(names) for n in range(5) for names in itertools.combinations(KNOWN, n)])
def test_parts_add_up_with_any_missing_value(known):
    parts = waterfall(RUN | {name: KNOWN[name] for name in known})
    assert sum(part.seconds for part in parts.parts) == pytest.approx(100)
    assert sum(part.share for part in parts.parts) == pytest.approx(1)
    assert parts.unaccounted == pytest.approx(0)
    assert all(part.seconds >= 0 for part in parts.parts)


def test_an_unknown_device_has_no_mfu():
    parts = waterfall(RUN | {"flops_per_step": 1e12})
    assert parts.mfu is None
    assert parts.parts[0].name == "compute"
    assert parts.parts[0].seconds == 70


def test_without_a_profile_kernels_and_gaps_are_one_part():
    parts = seconds(RUN | {name: KNOWN[name] for name in ("flops_per_step", "peak_flops_per_s", "best_step_s")})
    assert (parts["peak"], parts["layers"], parts["kernels and gaps"]) == (20, 15, 35)


def test_kernels_are_shown_without_a_peak():
    parts = seconds(RUN | {"kernel_step_s": 0.6})
    assert (parts["compute"], parts["gaps"]) == (60, 10)


def test_a_bound_above_the_next_level_has_no_loss():
    parts = seconds(RUN | KNOWN | {"best_step_s": 0.9})
    assert (parts["peak"], parts["layers"], parts["kernels"], parts["gaps"]) == (20, 40, 0, 10)


def test_mfu_excludes_warm_up():
    assert mfu(RUN | KNOWN) == pytest.approx(100 * 1e12 / (5e12 * 82))
    assert mfu(RUN | KNOWN | {"warm_s": 42.0}) == pytest.approx(100 * 1e12 / (5e12 * 40))


def test_warm_up_counts_as_start():
    parts = seconds(RUN | KNOWN | {"warm_s": 7.0})
    assert (parts["gaps"], parts["start"]) == (3, 18)


def test_data_waits_hidden_by_gpu_work_are_not_a_loss():
    # 76 s on the timeline of the device, 82 of training: 6 are idle, of which the loader explains 4
    parts = seconds(RUN | {"device": "cuda"})
    assert (parts["input"], parts["loop"]) == (4 + 1, 2)
    # the loader took longer than the device was idle: the rest of its time is hidden by compute
    parts = seconds(RUN | {"device": "cuda", "phases_s": PHASES | {"data": 70.0}})
    assert (parts["input"], parts["loop"]) == (6 + 1, 0)


def test_remaining_time_is_unaccounted():
    parts = waterfall(RUN | {"held_s": 110.0})
    assert parts.unaccounted == pytest.approx(10 / 110)


def test_the_largest_loss_is_not_useful_work():
    assert waterfall(RUN | KNOWN).largest == "kernels"
    assert waterfall(RUN).largest == "start"
    assert waterfall(RUN | {"phases_s": PHASES | {"data": 30.0}, "held_s": 126.0, "train_s": 108.0}).largest == "input"


def test_remedies_omit_enabled_options():
    assert remedy("kernels", {}) == "--compute.precision bf16 --compute.channels-last --compute.compile"
    on = {"compute": {"precision": "bf16", "channels_last": True}}
    assert remedy("kernels", on) == "--compute.compile"
    assert "batch-size" in remedy("kernels", {"compute": {**on["compute"], "compile": True}})
    assert remedy("gaps", {"compute": {"compile": True, "cuda_graphs": True}}).startswith("a larger")
    assert "resident" not in remedy("input", {"data": {"loader": "resident"}})


def test_every_loss_has_a_remedy():
    for name in DESCRIPTIONS:
        if name not in ("peak", "compute"):
            assert remedy(name, {})
