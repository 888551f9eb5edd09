# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A model behind a paid prediction API
#
# Somebody trains a model, keeps it on a server, and sells its answers one by
# one.
# Somebody else buys answers until they can do without the seller.
# This chapter sets up that market: the victim that most of the book steals,
# the interface through which it is stolen, the bill, and the scores that say
# how good a stolen copy is.
#
# :::{admonition} In this chapter
# :class: tip
# You will
# - draw who sees what when a model is sold by the query;
# - train the victim of the later chapters and put it behind an API;
# - read a ledger and a bill, and see which calls are refused;
# - tell **accuracy**, **fidelity** and **relative accuracy** apart;
# - measure the three baselines that every attack has to beat.
#
# <!-- minutes -->
# You need to have fitted a classifier before; the symbols are in
# [the notation](notation.md).
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError:  # on Colab: leave its torch and numpy alone
    get_ipython().run_line_magic(
        "pip",
        "install -q --no-deps "
        "git+https://github.com/model-extraction-hands-on/book",
    )

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.metrics import confusion_matrix

from mexutils import (
    BudgetExceeded,
    Claims,
    Ledger,
    PredictionAPI,
    datasets,
    metrics,
    models,
    plotting,
    training,
    victims,
)
from mexutils.notebook import Markdown
from mexutils.runs import interval

plotting.use_style()
claims = Claims()

# %% [markdown]
# The knobs of this chapter.
# `budget` is the number of queries that each baseline may spend, `n_seeds`
# how often each is repeated, `steps` how long its network is trained.

# %% tags=["parameters"]
seed = 0
n_seeds = 5
budget = 1000
steps = 200

# %% [markdown]
# ## The market
#
# Machine learning as a service means: the owner trains a model on data that
# nobody else has, and puts it on a server.
# Clients send an input over a prediction API and get an answer, and every
# input is billed.
# {cite:t}`gong2020survey` put the usual price of image classification at 1
# to 10 dollars for 1,000 queries.
# The next figure shows the two sides, and where the thief stands.


# %% tags=["hide-input"]
def box(ax, x, y, text, colour):
    """One actor of the market."""
    style = dict(boxstyle="round,pad=0.45", fc="white", ec=colour, lw=1.8)
    ax.text(x, y, text, ha="center", va="center", bbox=style, color="black")


def arrow(ax, start, end, text="", shift=0.22):
    """What goes from one actor to another."""
    look = dict(arrowstyle="-|>", color="0.35", shrinkA=2, shrinkB=2)
    ax.annotate("", end, start, arrowprops=look)
    middle = (np.add(start, end) / 2) + [0, shift]
    ax.text(*middle, text, ha="center", fontsize=8.5, color="0.25")


# %% tags=["hide-input"] mystnb={"figure": {"caption": "The market. Left of the dashed line everything is the owner's; the attacker is a client like the others, and keeps the answers. Drawn after Fig. 1 of the survey."}, "image": {"alt": "Diagram: on the owner's side training data feed training, which yields the victim f behind the prediction API with its ledger; on the other side benign clients and the attacker send queries x and receive answers f(x) and a bill; the attacker trains a substitute on the pairs."}}
blue, orange, green = (
    plotting.COLOURS[name] for name in ("blue", "orange", "green")
)
fig, ax = plt.subplots(figsize=(7.6, 3.6), facecolor="white")
ax.set(xlim=(0, 10), ylim=(0, 5))
ax.axis("off")
box(ax, 1.1, 4.2, "private\ntraining data", blue)
box(ax, 1.1, 2.5, "training", blue)
box(ax, 1.1, 0.8, "victim $f$", blue)
box(ax, 3.7, 2.5, "prediction\nAPI\n+ ledger", blue)
box(ax, 8.3, 4.2, "benign clients", green)
box(ax, 8.3, 2.5, "attacker", orange)
box(ax, 8.3, 0.8, "substitute $\\hat f$", orange)
arrow(ax, (1.1, 3.7), (1.1, 2.9))
arrow(ax, (1.1, 2.1), (1.1, 1.2))
arrow(ax, (1.75, 0.95), (3.3, 1.75))
arrow(ax, (7.2, 4.2), (4.55, 3.1), "queries, answers, bill", 0.62)
arrow(ax, (7.55, 2.75), (4.6, 2.75), "queries $x$", 0.12)
arrow(ax, (4.6, 2.25), (7.55, 2.25), "answers $f(x)$, and the bill", -0.35)
arrow(ax, (8.3, 2.1), (8.3, 1.2))
ax.text(8.45, 1.62, "trains on $(x, f(x))$", fontsize=8.5, color="0.25")
ax.axvline(5.35, ls="--", color="0.6", lw=1)
ax.text(5.25, 0.1, "owner", ha="right", color="0.4")
ax.text(5.45, 0.1, "everybody else", color="0.4")
plt.show()

# %% [markdown]
# What a provider lets its clients see differs.
# The survey's Table 1 compares five services as they were when it was
# written; they have changed since, the columns have not lost their meaning.
# *Black box* means that the model can only be queried, *white box* that it
# can be downloaded; *monetisation* that a client may sell access to a model
# of its own.

# %% tags=["hide-input"]
plotting.table(
    [
        ("Google", "black box", "yes", "yes"),
        ("Amazon", "black box", "yes", "no"),
        ("BigML", "white box", "yes", "yes"),
        ("Microsoft", "black box", "yes", "no"),
        ("PredictionIO", "white box", "no", "no"),
    ],
    columns=["provider", "model", "confidences", "monetisation"],
)

# %% [markdown]
# Four of the five send the *confidences* along: the probability of every
# class and not the label alone.
# How much that gives away is one of the book's recurring questions.
#
# ## The victim
#
# The victim is a LeNet {cite:p}`lecun1998gradient`: two convolutions with
# pooling and two dense layers, trained on the 60,000 digits of MNIST.
# The survey's experiments use the same structure and report an accuracy of
# 99.47 %.
# Ours was trained once, on digits that are slightly turned, slanted and
# shifted anew in every pass: every later chapter loads the same model.

# %%
victim = victims.mnist_lenet()
test = datasets.mnist().test
owner_view = victim.predict_proba(test.x)
victim_accuracy = metrics.accuracy(owner_view, test.y)
weights = sum(p.numel() for p in victim.model.parameters())

# %% tags=["hide-input"]
Markdown(
    f"The victim has {weights:,} weights and is right on "
    f"**{victim_accuracy:.2%}** of the 10,000 test digits: it errs on "
    f"{(owner_view.argmax(1) != test.y).sum()} of them."
)

# %% [markdown]
# These are digits on which it errs, each with the truth and the victim's
# answer.
# Remember them: whether a copy repeats these very errors is what separates
# the scores below.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Digits that the victim gets wrong, as truth → answer."}, "image": {"alt": "A row of twelve handwritten test digits that are hard to read, each titled with its true class and the victim's wrong answer."}}
wrong = np.flatnonzero(owner_view.argmax(1) != test.y)[:12]
plotting.images(
    test.x[wrong],
    titles=[f"{test.y[i]} → {owner_view[i].argmax()}" for i in wrong],
)
plt.show()

# %% [markdown]
# ## The prediction API
#
# The victim goes behind a `PredictionAPI`.
# From here on, an attacker holds the object `api` and calls `api.query`:
# rows in, answers out, as with a web service.
# One row is one query, whether it is sent alone or in a batch, and one that
# is repeated is billed again.

# %%
api = PredictionAPI(victim.predict_proba, budget=100, price_per_1000=1.50)
answer = api.query(test.x[:1], client="Alice")
api.query(test.x[:40], client="Bob")
api.query(test.x[:40], client="Bob")  # the same rows, and billed again
api.ledger.table()

# %% [markdown]
# The ledger knows every client, every row and what it cost, and every table
# of this book that shows a budget reads it.
# A call that cannot be answered whole is refused whole.
# Bob has used 80 and Alice 1 of the 100 queries; the next 40 do not fit, so
# none of them is answered and none is billed.

# %%
try:
    api.query(test.x[:40], client="Bob")
except BudgetExceeded as refusal:
    print(refusal)
api.ledger.queries, api.remaining

# %% [markdown]
# Faulty rows are refused in the same way, before they are counted.

# %%
for rows in (test.x[0], test.x[:2, :, :20], np.full((1, 1, 28, 28), np.nan)):
    try:
        api.query(rows, client="Bob")
    except ValueError as refusal:
        print(refusal)
api.ledger.queries

# %% [markdown]
# What an answer looks like is the owner's choice.
# The same digit is asked four times, of four APIs that differ in `returns`
# and `decimals` alone; the figures are the answers that the client gets.

# %%
modes = {
    "probabilities": dict(),
    "rounded to 2 decimals": dict(decimals=2),
    "top-3": dict(returns="top-3"),
    "label only": dict(returns="label"),
}
hard = test.x[wrong[:1]]
answers = {
    name: PredictionAPI(victim.predict_proba, **mode).query(hard)[0]
    for name, mode in modes.items()
}

# %% tags=["hide-input"]
plotting.table(
    [
        (
            name,
            " ".join(f"{value:.4g}" for value in np.atleast_1d(given)),
        )
        for name, given in answers.items()
    ],
    columns=["the API returns", "answer to one hard digit"],
)

# %% [markdown]
# Read the first line against the last: the probabilities tell which class
# comes second and by how much, the label hides it.
# An answer of $c$ probabilities carries $c - 1$ real numbers, a label at
# most $\log_2 c$ bits.
#
# ## What the owner sees and what the attacker sees
#
# | | owner | attacker |
# |---|---|---|
# | training data | yes | no |
# | weights, architecture | yes | no |
# | test digits and their truth | yes | no |
# | answers of the API | yes | those that were paid for |
# | who asks, how often, what | yes, per client | own queries |
#
# An attack that has more than its column says so: each chapter starts with a
# table of what its attacker sees, knows and pays.
# The one of [StealHyperparameters](attacks/steal_hyperparameters.ipynb), for
# example, holds the training data.
# The test digits are ours, who judge both.
#
# ## Three scores
#
# Let $D$ be the test set with $n$ inputs $x$ and true classes $y$, let
# $f(x)$ be the label that the victim answers and $\hat f(x)$ that of the
# substitute.
#
# $$
# \text{accuracy}(\hat f) = \frac1n \sum_{(x, y) \in D}
#     \mathbf 1[\hat f(x) = y],
# \qquad
# \text{fidelity}(\hat f) = \frac1n \sum_{(x, y) \in D}
#     \mathbf 1[\hat f(x) = f(x)],
# $$
#
# $$
# \text{relative accuracy}(\hat f) =
#     \frac{\text{accuracy}(\hat f)}{\text{accuracy}(f)}.
# $$
#
# Accuracy is what a user of the copy cares about, fidelity what somebody
# cares about who wants to know how the *victim* will answer (to prepare an
# adversarial example, say), and relative accuracy is what the survey and the
# KnockoffNets paper plot.
# They are three numbers because a copy may be right where the victim is
# wrong, and the other way round.
# Three imaginary copies show it.
# One repeats the victim's answers, errors included.
# One errs just as often, but elsewhere.
# One is always right.

# %%
labels = metrics.labels_of(owner_view)
errs = labels != test.y
rng = np.random.default_rng(seed)
elsewhere = rng.choice(np.flatnonzero(~errs), errs.sum(), replace=False)
other_errors = test.y.copy()
other_errors[elsewhere] = (test.y[elsewhere] + 1) % 10
copies = {
    "repeats the victim": labels,
    "errs elsewhere": other_errors,
    "always right": test.y,
}


# %%
def scores(answers, labels, truth):
    """Accuracy, fidelity and relative accuracy of a copy's answers."""
    return {
        "accuracy": metrics.accuracy(answers, truth),
        "fidelity": metrics.fidelity(answers, labels),
        "relative accuracy": metrics.relative_accuracy(answers, labels, truth),
    }


imaginary = {
    name: scores(copy, labels, test.y) for name, copy in copies.items()
}

# %% tags=["hide-input"]
percent = {key: "{:.2%}" for key in imaginary["always right"]}
plotting.table(
    [{"copy": name, **row} for name, row in imaginary.items()], percent
)

# %% [markdown]
# The first two have the same accuracy, and only one of them is a faithful
# copy.
# The third is better than the victim, with a relative accuracy above one,
# and is less faithful than the first.
# So a chapter always says which of the three it reports.
#
# ## Three baselines
#
# A score means little until one knows what no effort at all would reach, and
# what an attacker would who has the right pictures.
#
# - **Majority copy.** Ask images of uniform noise, and answer everything with
#   the label that came back most often.
# - **Random-query copy.** Ask images of uniform noise, and train a network on
#   them and their answers.
# - **In-distribution copy.** Ask pictures of the victim's own kind, here
#   MNIST training digits, and train the same network on them.
#   Most attackers have nothing of the sort.
#   It shows what one plain recipe makes of such pictures, not the most that
#   could be made of them.
#
# The network is a LeNet with batch normalisation, trained on the answered
# probabilities $f(x)$ by the soft cross-entropy
# $-\sum_j f_j(x) \log \hat f_j(x)$.


# %%
def copy_from(images, answers, steps, seed):
    """A network trained on images and the probabilities they got."""
    torch.manual_seed(seed)
    model = models.lenet(normalise=True)
    return training.fit(
        model, images, answers, steps=steps, lr=8e-3, seed=seed
    )


# %% [markdown]
# Noise serves two of the three, so that one trial asks the API twice.


# %%
def baselines(api, own, x, steps, seed):
    """The three copies' labels (n,) for the rows x, by name.

    own: images (q, ...) of the victim's own kind; as many of noise are asked.
    """
    noise = datasets.noise(len(own), api.input_shape, seed=seed)
    on_noise, on_own = api.query(noise), api.query(own)
    majority = np.bincount(on_noise.argmax(axis=1)).argmax()
    found = {"majority": np.full(len(x), majority)}
    for name, images, given in (
        ("random-query", noise, on_noise),
        ("in-distribution", own, on_own),
    ):
        model = copy_from(images, given, steps, seed)
        found[name] = metrics.labels_of(training.predict_proba(model, x))
    return found


# %%
digits = datasets.mnist().train.x
known = {image.tobytes() for image in test.x}
trials, billed, judged = [], [], 0
for trial in range(seed, seed + n_seeds):
    api = PredictionAPI(victim.predict_proba, budget=2 * budget)
    rng = np.random.default_rng(trial)
    own = digits[rng.choice(len(digits), budget, replace=False)]
    trials.append(baselines(api, own, test.x, steps, trial))
    billed.append((api.ledger.queries, 2 * budget))
    judged += sum(image.tobytes() in known for image in own)
measured = {name: [one[name] for one in trials] for name in trials[0]}

# %% tags=["hide-input"]
rows = []
for name, copies in measured.items():
    per_seed = [scores(copy, labels, test.y) for copy in copies]
    rows.append(
        {"copy": name}
        | {
            key: f"{interval([100 * s[key] for s in per_seed]):.1f}"
            for key in per_seed[0]
        }
    )
print(f"in %, mean [95 % interval] over {n_seeds} seeds, {budget:,} queries")
plotting.table(rows)

# %% tags=["hide-input"]
noise = datasets.noise(budget, test.x.shape[1:], seed=seed)
said = np.bincount(metrics.labels_of(victim.predict_proba(noise)))
Markdown(
    f"The victim calls {said.max() / budget:.1%} of {budget:,} noise images "
    f"a **{said.argmax()}**, and uses {np.count_nonzero(said)} of its 10 "
    "labels for them."
)

# %% [markdown]
# Noise costs as much as digits.
# But the more of it gets one and the same answer, the less there is to learn
# from it than that answer, and the nearer the second line comes to the first:
# chance, on ten classes.
# The third line costs no more than a coffee, which is why the chapters that
# follow ask how near one can get *without* the victim's own kind of picture,
# and with queries that make the victim say more than one word.
# The next figure shows the same numbers with each seed as a point.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Fidelity of the three baselines, a point for each seed."}, "image": {"alt": "Three rows of points, one for each baseline and one point for each seed, along an axis of fidelity from 0 to 100 percent."}}
fig, ax = plt.subplots(figsize=(6.4, 2.4))
for place, copies in enumerate(measured.values()):
    values = [100 * metrics.fidelity(copy, labels) for copy in copies]
    ax.plot(values, [place] * len(values), "o", alpha=0.7)
ax.set_yticks(range(3), measured)
ax.set_ylim(-0.5, 2.5)
ax.set_xlabel("fidelity on the 10,000 test digits (%)")
ax.set_xlim(0, 100.5)
plt.show()

# %% [markdown]
# ## The bill
#
# What did a copy cost?
# The bill is the number of queries times the price, and an attacker compares
# it with the price of collecting and labelling data and training a model.

# %% tags=["hide-input"]
plotting.table(
    [
        {
            "queries": f"{queries:,}",
            **{
                f"at ${price} per 1,000": (
                    f"${Ledger(price).price(queries):,.2f}"
                )
                for price in (1, 1.5, 10)
            },
        }
        for queries in (100, budget, 10_000, 60_000)
    ]
)

# %% [markdown]
# ## Paper and this run
#
# What the chapter claims, with the survey's value where it gives one.
# A claim that is missed stays in the table, and is marked there.

# %%
claims.add(
    "victim accuracy on the 10,000 test digits",
    victim_accuracy,
    low=0.992,
    paper="0.9947",
)
claims.add(
    "ledger minus rows sent, largest over the seeds",
    max(abs(entered - sent) for entered, sent in billed),
    low=0,
    high=0,
)
claims.add("test digits that were asked", judged, low=0, high=0)
own_fidelity, noise_fidelity = (
    np.mean([metrics.fidelity(copy, labels) for copy in measured[name]])
    for name in ("in-distribution", "random-query")
)
claims.add("in-distribution fidelity (mean)", own_fidelity, low=0.94)
claims.add(
    "own digits minus noise, fidelity (mean)",
    own_fidelity - noise_fidelity,
    low=0.5,
)
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise 1
# :class: attention
# Two of the ten classes are confused more often than others.
# Which error does the victim make most often?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
confusion = confusion_matrix(test.y, labels)
np.fill_diagonal(confusion, 0)
truth, guess = np.unravel_index(confusion.argmax(), confusion.shape)
print(f"{confusion.max()} times a {truth} is taken for a {guess}")

# %% [markdown]
# :::{admonition} Exercise 2
# :class: attention
# An owner answers with labels only, at the same price.
# How many bits can 1,000 answers carry at most, and how many classifiers of
# ten digits could they tell apart?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
bits = 1000 * np.log2(10)
print(f"at most {bits:,.0f} bits, so at most 2^{bits:,.0f} classifiers")

# %% [markdown]
# ## Recap
#
# - A prediction API sells answers row by row; the ledger counts every row,
#   and a refused call costs nothing.
# - The attacker sees the answers that were paid for, and nothing else.
# - Accuracy, fidelity and relative accuracy are three numbers.
# - Every attack has to beat the majority and the random-query copy; the
#   in-distribution copy shows what a plain recipe makes of the right
#   pictures.
#
# Next: [StealML](attacks/stealml.ipynb) solves for a model's parameters,
# and [KnockoffNets](attacks/knockoff_nets.ipynb) copies this chapter's
# victim with pictures that are no digits at all.
#
# ## References
#
# - {cite:t}`gong2020survey` is the survey that this book makes executable.
# - {cite:t}`lecun1998gradient` introduced LeNet and MNIST.
