"""Ten thousand labels by every strategy, beside the public figures.

usage: few_labels.py [SEEDS [LABELS]]    (default: 3 seeds, 10,000 labels)

The chapter's own attack, in legs that double up to LABELS, from a pool of
twice as many rendered letters. Prints, for each leg and strategy, accuracy
and relative accuracy on the 10,000 test digits, the difference to the random
strategy paired over seeds, the labels that 95 % of the victim's accuracy
takes, and the same for FixMatch on the last leg.
"""

import sys
import time

import numpy as np

from mexutils import PredictionAPI, datasets, load_chapter, victims
from mexutils.runs import interval, paired_difference

LEGS = 4
LEVEL = 95  # percent of the victim's accuracy


def main() -> None:
    """Run all strategies over the seeds, and print what they reach."""
    n_seeds, budget = (
        int(given)
        for given in (*sys.argv[1:], *("3", "10000")[len(sys.argv) - 1 :])
    )
    chapter = load_chapter("frontier/few_labels")
    judge = load_chapter("attacks/knockoff_nets")
    victim, test = victims.mnist_lenet(), datasets.mnist().test
    said = victim.predict_proba(test.x).argmax(axis=1)
    exam = judge.Exam(test.x, test.y, said)
    totals = [budget >> leg for leg in reversed(range(LEGS))]
    found = {name: [] for name in (*chapter.STRATEGIES, "random, FixMatch")}
    for seed in range(n_seeds):
        pool, start = datasets.letters(2 * budget, seed).x, None
        for name in chapter.STRATEGIES:
            began = time.process_time()
            api = PredictionAPI(victim.predict_proba, returns="label")
            legs = chapter.active_thief(
                api, pool, budget, seed, name, legs=LEGS, start=start
            )
            start = legs[0]
            scores = [judge.judge(leg.model, exam) for leg in legs]
            found[name].append(scores)
            spent = time.process_time() - began
            print(f"seed {seed}, {name}: {spent:.0f} s", flush=True)
            if name == "random":
                model = chapter.learnt_again(pool, legs[-1], seed, True)
                found["random, FixMatch"].append([judge.judge(model, exam)])
    for name, of_seeds in found.items():
        print_strategy(chapter, name, of_seeds, found["random"], totals)


def print_strategy(chapter, name, of_seeds, random, totals) -> None:
    """The lines of one strategy, one for each leg."""
    for leg in range(1, len(of_seeds[0]) + 1):
        mine, theirs = (
            {
                score: np.array([scores[-leg][score] for scores in some])
                for score in ("accuracy", "relative")
            }
            for some in (of_seeds, random)
        )
        gap = paired_difference(mine["relative"], theirs["relative"])
        print(
            f"{name}, {totals[-leg]:,}: accuracy "
            f"{interval(mine['accuracy']):.1f}, relative "
            f"{interval(mine['relative']):.1f}, over random {gap:.1f}"
        )
    if len(of_seeds[0]) == len(totals):
        needed = [
            chapter.labels_needed(totals, [s["relative"] for s in row], LEVEL)
            for row in of_seeds
        ]
        print(f"{name}: labels for {LEVEL} %: {np.round(needed)}")


if __name__ == "__main__":
    main()
