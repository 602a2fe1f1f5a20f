"""Detection of stragglers from the workers' compute times."""

import numpy as np

from distdl.strategies.paramserver.stragglers import WINDOW, find_straggler


def constant(seconds: float, steps: int = WINDOW) -> list[float]:
    return [seconds] * steps


def test_a_straggler_is_beyond_the_spread_of_the_others() -> None:
    rng = np.random.default_rng(0)
    similar = {worker: rng.normal(0.1, 0.005, WINDOW).tolist() for worker in range(4)}
    assert find_straggler(similar) == -1
    assert find_straggler(similar | {2: constant(0.15)}) == 2
    assert find_straggler(similar | {2: constant(0.11)}) == -1, "10 % is within the share"
    spread = {0: 0.1, 1: 0.14, 2: 0.06, 3: 0.18}
    assert find_straggler({worker: constant(seconds) for worker, seconds in spread.items()}) == -1, "within the spread"


def test_few_steps_or_two_workers_give_no_straggler() -> None:
    similar = {worker: constant(0.1) for worker in range(3)}
    assert find_straggler(similar | {3: constant(0.2)}) == 3
    assert find_straggler(similar | {3: constant(0.2, WINDOW - 1)}) == -1
    assert find_straggler({0: constant(0.1), 1: constant(0.2)}) == -1
