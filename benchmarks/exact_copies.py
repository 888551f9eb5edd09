"""Exact copies of ReLU networks beside the toolbox's, in one run.

The Adversarial Robustness Toolbox has the attack of Jagielski et al. (2020),
which it calls functionally equivalent extraction.
Both attack the same twelve random networks in float64, four each of three
sizes: the toolbox is given logits and the number of hidden units, as it must
be, and the chapter a softmax and neither.
A network counts as solved where its logits, up to a number that is the same
for all classes, are met within 1e-6 on 5,000 rows of N(0, 9); the toolbox's
copy also within 1e-2, since it stops at tolerances of its own.
A minute is the most that either gets for a network.

usage: python benchmarks/exact_copies.py             (OMP_NUM_THREADS=1)
How to install the toolbox: README.md beside this file.
"""

import signal
import time
import warnings

import numpy as np
from art.attacks.extraction import FunctionallyEquivalentExtraction
from art.estimators.classification.blackbox import (
    BlackBoxClassifierNeuralNetwork,
)

from mexutils import PredictionAPI, load_chapter

CHAPTER = load_chapter("frontier/exact_copies")
SIZES = [(10, 4, 3), (10, 8, 10), (30, 16, 10)]
SEEDS = range(4)
MINUTE = 60
EXACT, NEARLY = 1e-6, 1e-2


class Logits(BlackBoxClassifierNeuralNetwork):
    """A victim as the toolbox wants it: logits, in float64, counted.

    Its own black box answers in float32, in which no kink can be found.
    """

    def __init__(self, net, d, c):
        super().__init__(net.logits, input_shape=(d,), nb_classes=c)
        self.net, self.asked = net, 0

    def predict(self, x, batch_size=128, **kwargs):
        """Logits (n, c) of rows (n, d)."""
        self.asked += len(x)
        return self.net.logits(x)


def toolbox(net, d, h, c, seed):
    """The toolbox's copy, from rows to logits, and its queries."""
    np.random.seed(seed)  # noqa: NPY002 (what the toolbox draws from)
    victim = Logits(net, d, c)
    # As many rows for the last layer as it has unknowns for one class, twice.
    rows = np.random.default_rng(seed).normal(0, 3, (2 * (h + 1) + 20, d))
    attack = FunctionallyEquivalentExtraction(victim, num_neurons=h)
    try:
        copy = attack.extract(rows)
    except (AssertionError, TimeoutError) as error:
        return None, victim.asked, f"{type(error).__name__}: {error}"
    return copy.predict, victim.asked, ""


def chapter(net, d, h, c, seed):
    """The chapter's copy, from rows to log ratios, and its queries."""
    api = PredictionAPI(net.predict_proba, input_shape=(d,))
    try:
        theft = CHAPTER.steal_network(api, d, seed)
    except TimeoutError as error:
        return None, api.ledger.queries, str(error)
    said = "" if theft.complete else "says that it is not complete"
    copy = theft.copy.log_ratios

    def logits(x):
        f = copy(x)
        return np.hstack([np.zeros((len(f), 1)), f])

    return logits, api.ledger.queries, said


def limited(run):
    """What a function returns, with its seconds; a minute at most."""

    def late(*_):
        raise TimeoutError("a minute was not enough")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(MINUTE)
    begin = time.process_time()
    try:
        return *run(), time.process_time() - begin
    finally:
        signal.alarm(0)


def largest_error(logits, net, d):
    """The largest error of log ratios on 5,000 rows."""
    rows = np.random.default_rng(9).normal(0, 3, (5000, d))
    said, true = logits(rows), net.logits(rows)
    return np.abs((said - said[:, :1]) - (true - true[:, :1])).max()


def main() -> None:
    """A line for each network and attack, then the sums."""
    warnings.simplefilter("ignore")
    found = {toolbox: [], chapter: []}
    for d, h, c in SIZES:
        for seed in SEEDS:
            net = CHAPTER.Random(d, h, c, seed)
            for attack, results in found.items():
                logits, asked, said, spent = limited(
                    lambda a=attack, s=seed: a(net, d, h, c, s)  # noqa: B023
                )
                error = np.inf
                if logits is not None:
                    error = largest_error(logits, net, d)
                results.append((error, asked, spent))
                print(
                    f"{d}-{h}-{c} seed {seed} {attack.__name__:8}"
                    f" {error:8.0e} {asked:9,} queries {spent:6.2f} s {said}"
                )
    for attack, results in found.items():
        error, asked, spent = np.array(results).T
        print(
            f"{attack.__name__}: {(error <= EXACT).sum()} of {len(error)}"
            f" within {EXACT:g}, {(error <= NEARLY).sum()} within {NEARLY:g};"
            f" {asked.min():,.0f} to {asked.max():,.0f} queries, median"
            f" {np.median(asked):,.0f}; {spent.sum():.1f} s in all"
        )


if __name__ == "__main__":
    main()
