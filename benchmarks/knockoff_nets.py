"""KnockoffNets side by side with plain loops, in one run, as ratios.

1. The adaptive policy at 600 queries, in batches of eight as the chapter
   sends them, against the same code with one query for each forward pass.
2. The random policy's whole run (queries and training) against an equal loop
   in plain PyTorch: same pictures, network, batches, steps, optimiser.
3. The adaptive policy against that of the Adversarial Robustness Toolbox,
   where that is installed (`pip install adversarial-robustness-toolbox`).
4. The random policy against the toolbox's: the same 600 letters, network and
   ten passes, with labels and with probabilities, and the fidelity of both
   copies to the victim on the 10,000 test digits. The toolbox's batches are
   of 64, as the chapter's, and then of one, its default.

usage: python benchmarks/knockoff_nets.py [PART]        (OMP_NUM_THREADS=1)
PART: "toolbox" for 3 and 4 alone.
"""

import os
import sys
import time
from functools import partial

os.environ.setdefault("CI", "1")  # no progress bars

import numpy as np
import torch
from torch import nn

from mexutils import (
    PredictionAPI,
    datasets,
    load_chapter,
    metrics,
    training,
    victims,
)

chapter = load_chapter("attacks/knockoff_nets")
REPEATS = 5
PASSES = 10  # over the 600 answers
ART_RATE = 0.001  # of Adam


def main() -> None:
    """Print a line for each comparison."""
    torch.set_num_threads(1)
    victim = victims.mnist_lenet()
    pool = datasets.letters(6000)
    leaves = {str(k): np.flatnonzero(pool.y == k) for k in range(52)}

    def adaptive(batch):
        api = PredictionAPI(victim.predict_proba)
        chapter.adaptive_policy(api, pool.x, leaves, 600, seed=0, batch=batch)

    def random_run():
        api = PredictionAPI(victim.predict_proba)
        chapter.knockoff(api, pool.x, 3000, seed=0)

    if "toolbox" not in sys.argv:
        compare(
            "adaptive, 600 queries: one at a time / in batches of 8",
            lambda: adaptive(1),
            lambda: adaptive(8),
        )
        compare(
            "random policy, 3,000 queries: plain PyTorch / chapter",
            lambda: plain_run(victim.model, pool.x, 3000),
            random_run,
        )
    try:
        art_run = art_adaptive(victim.model, pool)
    except ModuleNotFoundError:
        print("Adversarial Robustness Toolbox: not installed, left out")
        return
    compare(
        "adaptive, 600 queries: Adversarial Robustness Toolbox / chapter",
        art_run,
        lambda: adaptive(8),
    )
    for whole, theirs, ours in (
        (whole, *batches)
        for whole in (False, True)
        for batches in ((64, 64), (1, 64))
    ):
        answers = "probabilities" if whole else "labels"
        compare(
            f"random policy, 600 queries, 10 passes, {answers}, batches of "
            f"{theirs} / {ours}: Adversarial Robustness Toolbox / chapter",
            art_random(victim.model, pool.x[:600], whole, theirs),
            chapter_random(victim, pool.x[:600], whole, ours),
            victim,
        )


def plain_run(victim, pool, budget):
    """The random policy as one would write it without this book."""
    torch.manual_seed(0)
    images = torch.from_numpy(pool)[torch.randperm(len(pool))[:budget]]
    with torch.no_grad():
        answers = torch.cat(
            [victim(rows).softmax(1) for rows in images.split(500)]
        )
    model = chapter.default_substitute()
    steps = chapter.training_steps(budget)
    optimizer = torch.optim.AdamW(model.parameters(), 1.2e-2, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.2e-2, steps)
    for _ in range(steps):
        rows = torch.randint(budget, (64,))
        loss = nn.functional.cross_entropy(model(images[rows]), answers[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def art_classifier(model, optimizer):
    """The network as the toolbox wants it. optimizer: of its parameters."""
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=(1, 28, 28),
        nb_classes=10,
        optimizer=optimizer(model.parameters()),
        device_type="cpu",
    )


def art_adaptive(victim, pool):
    """The toolbox's adaptive attack with its defaults, as a function."""
    from art.attacks.extraction import KnockoffNets

    classifier = partial(
        art_classifier, optimizer=partial(torch.optim.SGD, lr=0.02)
    )

    def run():
        model = nn.Sequential(victim, nn.Softmax(1)).eval()
        attack = KnockoffNets(
            classifier(model),
            nb_epochs=1,
            nb_stolen=600,
            sampling_strategy="adaptive",
            verbose=False,
        )
        thief = classifier(chapter.default_substitute())
        attack.extract(pool.x, np.eye(52)[pool.y], thieved_classifier=thief)

    return run


def art_random(victim, images, whole, batch):
    """The toolbox's random attack, ten passes, as a function of a seed.

    whole: whether it learns probabilities. batch: of queries and of pictures
    in a step.
    """
    from art.attacks.extraction import KnockoffNets

    classifier = partial(
        art_classifier, optimizer=partial(torch.optim.Adam, lr=ART_RATE)
    )

    def run(seed):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (the toolbox draws with it)
        copy = chapter.default_substitute()
        KnockoffNets(
            classifier(nn.Sequential(victim, nn.Softmax(1)).eval()),
            batch_size_fit=batch,
            batch_size_query=batch,
            nb_epochs=PASSES,
            nb_stolen=len(images),
            use_probability=whole,
            verbose=False,
        ).extract(images, thieved_classifier=classifier(copy))
        return copy

    return run


def chapter_random(victim, images, whole, batch):
    """The chapter's random attack, ten passes, as a function of a seed."""
    returns = "probabilities" if whole else "label"
    steps = PASSES * len(images) // batch
    settings = {"steps": steps, "batch_size": batch}

    def run(seed):
        api = PredictionAPI(victim.predict_proba, returns=returns)
        return chapter.knockoff(api, images, len(images), seed, **settings)

    return run


def compare(what, first, second, victim=None) -> None:
    """Run both in turn, several times; print the median ratio and spread.

    victim: where given, both runs are functions of a seed and return a copy,
    and the mean fidelity of each side's copies is printed as well.
    """
    ratios, seconds, copies = [], [], []
    for seed in range(REPEATS):
        times = []
        for run in (first, second):
            start = time.perf_counter()
            copies.append(run(seed) if victim else run())
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
        seconds.append(times)
    a, b = np.median(seconds, axis=0)
    print(
        f"{what}: {np.median(ratios):.2f} times "
        f"({min(ratios):.2f} to {max(ratios):.2f}; {a:.2f} s and {b:.2f} s)",
        flush=True,
    )
    if victim:
        test = datasets.mnist().test.x
        truth = victim.predict_proba(test)
        same = [
            100 * metrics.fidelity(training.predict_proba(copy, test), truth)
            for copy in copies
        ]
        print(
            f"    fidelity {np.mean(same[::2]):.1f} % and "
            f"{np.mean(same[1::2]):.1f} %, of one seed "
            f"{np.min(np.subtract(same[1::2], same[::2])):+.1f} to "
            f"{np.max(np.subtract(same[1::2], same[::2])):+.1f} points",
            flush=True,
        )


if __name__ == "__main__":
    main()
