"""The prediction API under load, and what its copies cost.

1. 32 threads ask for a million rows of a budget of 10,000, in batches of 10,
   25 and 100: rows answered, rows billed, and seconds.
2. The same with a victim that raises at every third call: what failed is
   given back, so that the budget is used up to the last row all the same.
3. The time of a call through the API as a ratio to the victim alone, on one,
   ten and a thousand pictures.

usage: python benchmarks/api_threads.py        (OMP_NUM_THREADS=1)
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

os.environ.setdefault("CI", "1")  # no progress bars

import numpy as np
import torch

from mexutils import BudgetExceeded, PredictionAPI, datasets, victims

THREADS, BUDGET, ROWS, REPEATS = 32, 10_000, 1_000_000, 5


def main() -> None:
    """Print a line for each measurement."""
    torch.set_num_threads(1)
    for batch in (10, 25, 100):
        start = time.perf_counter()
        report = under_load(batch, fails_every=None)
        seconds = time.perf_counter() - start
        print(f"batches of {batch}: {report}, {seconds:.1f} s")
    print(f"every third call raises: {under_load(25, fails_every=3)}")
    victim = victims.mnist_lenet()
    pictures = datasets.mnist().test.x
    for n in (1, 10, 1000):
        shown = pictures[:n]
        ratios = [cost_of_the_door(victim, shown) for _ in range(REPEATS)]
        low, middle, high = np.quantile(ratios, [0, 0.5, 1])
        print(f"{n} pictures: {middle:.2f} [{low:.2f}, {high:.2f}]")


def under_load(batch: int, fails_every: int | None) -> str:
    """What became of a million rows that all threads asked for together."""
    turn = count(1)

    def victim(x):
        if fails_every and next(turn) % fails_every == 0:
            raise OSError("the victim is down")
        return np.full((len(x), 2), 0.5)

    api = PredictionAPI(victim, budget=BUDGET, input_shape=(3,), try_out=False)
    rows = np.zeros((batch, 3))

    def customer(k: int) -> tuple[int, int]:
        got = failed = 0
        for _ in range(ROWS // THREADS // batch):
            try:
                got += len(api.query(rows, client=f"customer {k}"))
            except BudgetExceeded:
                pass
            except OSError:
                failed += 1
        return got, failed

    with ThreadPoolExecutor(THREADS) as pool:
        got, failed = np.sum(list(pool.map(customer, range(THREADS))), axis=0)
    return (
        f"answered {got:,}, billed {api.ledger.queries:,} of {BUDGET:,}, "
        f"{api.remaining} left, {failed:,} calls failed"
    )


def cost_of_the_door(victim, x: np.ndarray) -> float:
    """Time through the API divided by the time of the victim alone."""
    api = PredictionAPI(victim.predict_proba)
    repeats = max(REPEATS, 300 // len(x))
    seconds = []
    for ask in (api.query, victim.predict_proba):
        ask(x)
        start = time.perf_counter()
        for _ in range(repeats):
            ask(x)
        seconds.append(time.perf_counter() - start)
    return seconds[0] / seconds[1]


if __name__ == "__main__":
    main()
