"""A barrier of threads that also reduces."""

import threading
from concurrent.futures import ThreadPoolExecutor

from distdl.strategies.paramserver.reducing_barrier import ReducingBarrier


def test_every_worker_receives_the_result_of_its_round() -> None:
    alive = set(range(4))
    barrier = ReducingBarrier(threading.Condition(), alive)

    def worker(number: int) -> list[int]:
        return [barrier.reduce(number, number * step, lambda values: sum(values.values())) for step in range(50)]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(worker, range(4)))
    assert results == [[6 * step for step in range(50)]] * 4


def test_the_others_continue_when_a_worker_leaves() -> None:
    alive, condition = {0, 1, 2}, threading.Condition()
    barrier = ReducingBarrier(condition, alive)
    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(barrier.reduce, worker, worker + 1, lambda values: sorted(values)) for worker in (0, 1)]
        with condition:
            alive.discard(2)
            barrier.complete_if_all_arrived()
        assert [result.result(30) for result in results] == [[0, 1], [0, 1]]
