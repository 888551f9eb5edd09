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
# - draw who sees what when a model is sold by the query, and look up what
#   each attack of this book knows beforehand;
# - put the victim of the later chapters behind an API;
# - read a ledger and a bill, and see which calls are refused;
# - tell **accuracy**, **fidelity** and **relative accuracy** apart;
# - measure the copies that every attack has to beat, and how far the recipe
#   of their training moves them.
#
# <!-- minutes -->
# You need to have fitted a classifier before; the symbols are in
# [the notation](notation.md).
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError as error:  # the site's notebooks install it here
    raise RuntimeError("run make book first, or pip install .") from error

# %% tags=["hide-input"]
from functools import partial

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
    load_chapter,
    metrics,
    models,
    plotting,
    training,
    victims,
)
from mexutils.metrics import scores
from mexutils.notebook import Markdown
from mexutils.runs import column, spread_of

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
# ## At a glance
#
# A theft in nine lines: put a victim behind a prediction API, buy answers to
# 500 digits, train a network on them, and compare the two on digits that
# nobody has sent.

# %%
setting = load_chapter("setting")
victim, digits = victims.mnist_lenet(), datasets.mnist()
api = PredictionAPI(victim.predict_proba, price_per_1000=1.50)
bought = digits.train.x[:500]
answers = api.query(bought, client="thief")
copy = setting.copy_from(bought, answers, steps, seed)
guess = training.predict_proba(copy, digits.test.x)
at_a_glance = metrics.fidelity(guess, victim.predict_proba(digits.test.x))
api.ledger.table()

# %% tags=["remove-input"]
Markdown(
    f"For {api.ledger.cost:.2f} dollars the copy gives the victim's label to "
    f"**{at_a_glance:.1%}** of the 10,000 test digits."
)

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


# %% tags=["remove-input"]
def box(ax, x, y, text, colour):
    """One actor of the market."""
    style = dict(boxstyle="round,pad=0.45", fc="white", ec=colour, lw=1.8)
    ax.text(x, y, text, ha="center", va="center", bbox=style, color="black")


def arrow(ax, start, end, text="", shift=0.22, heads="-|>"):
    """What goes from one actor to another."""
    look = dict(arrowstyle=heads, color="0.35", shrinkA=2, shrinkB=2)
    ax.annotate("", end, start, arrowprops=look)
    middle = (np.add(start, end) / 2) + [0, shift]
    ax.text(*middle, text, ha="center", fontsize=8.5, color="0.25")


# %% tags=["remove-input"] mystnb={"figure": {"caption": "The market. Left of the dashed line everything is the owner's; the attacker is a client like the others, and keeps the answers. Drawn after Fig. 1 of the survey."}, "image": {"alt": "Diagram: on the owner's side training data feed training, which yields the victim f behind the prediction API with its ledger; on the other side benign clients and the attacker send queries x and receive answers f(x) and a bill; the attacker trains a substitute on the pairs."}}
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
both = "queries, answers, bill"
arrow(ax, (7.2, 4.2), (4.55, 3.1), both, 0.62, heads="<|-|>")
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

# %% tags=["remove-input"]
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
# shifted anew in every pass (`victims.jitter`): every later chapter loads the
# same model.

# %%
test = digits.test
owner_view = victim.predict_proba(test.x)
victim_accuracy = metrics.accuracy(owner_view, test.y)
weights = sum(p.numel() for p in victim.model.parameters())

# %% tags=["remove-input"]
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

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Digits that the victim gets wrong, as truth → answer."}, "image": {"alt": "A row of twelve handwritten test digits that are hard to read, each titled with its true class and the victim's wrong answer."}}
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
# Alice sends one digit, Bob forty, twice.

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

# %% tags=["remove-input"]
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
# The owner has everything: the training data, the weights and the
# architecture, every answer, and for every client what it asked and when.
# An attacker has what was paid for, and what it knows or holds beforehand.
# That differs from attack to attack, and a price can only be compared with
# another if this column is read as well.
#
# :::{list-table}
# :header-rows: 1
# :widths: 22 24 26 28
#
# * - Attack
#   - Sees
#   - Knows beforehand
#   - Holds
# * - [StealML](attacks/stealml.ipynb)
#   - probabilities, or labels alone
#   - the kind of model, the range of each input
#   - nothing
# * - [Steal&shy;Hyper&shy;parameters](attacks/steal_hyperparameters.ipynb)
#   - the learned parameters
#   - the learning algorithm
#   - the training rows and their labels
# * - [StealNN](attacks/steal_nn.ipynb)
#   - answers, and when they arrive
#   - kind and width of the network, machine and software
#   - such a machine; rows of the victim's kind, half of them from its training
# * - [PRADA's attack](attacks/prada_attack.ipynb)
#   - probabilities, or labels alone
#   - the size of the input, roughly the architecture
#   - ten samples of each class
# * - [KnockoffNets](attacks/knockoff_nets.ipynb)
#   - probabilities, or less
#   - the size of the input
#   - pictures of other things
# * - [Steal&shy;Classifier](attacks/steal_classifier.ipynb)
#   - labels alone
#   - in what form a document travels
#   - documents of the victim's kind, without labels
# :::
#
# An attack that holds nothing can be made by anybody, one that needs the
# training rows by few: what is cheap in queries may be dear in what it takes
# for granted.
# Each chapter begins with its line of this table, in more words.
# The test digits and their truth are in no column: they are ours, who judge
# all of them.
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
# Three imaginary copies show it: one repeats the victim's answers, one errs
# just as often but elsewhere, and one is always right.

# %%
labels = metrics.labels_of(owner_view)
errs = labels != test.y
rng = np.random.default_rng(seed)
elsewhere = rng.choice(np.flatnonzero(~errs), errs.sum(), replace=False)
other_errors = test.y.copy()
other_errors[elsewhere] = (test.y[elsewhere] + 1) % 10
imaginary = {
    "repeats the victim": scores(labels, labels, test.y),
    "errs elsewhere": scores(other_errors, labels, test.y),
    "always right": scores(test.y, labels, test.y),
}

# %% [markdown]
# Their scores, in percent:

# %% tags=["remove-input"]
percent = {key: "{:.2f}" for key in imaginary["always right"]}
plotting.table(
    [{"copy": name, **row} for name, row in imaginary.items()], percent
)

# %% [markdown]
# The first two have the same accuracy, and only one of them is a faithful
# copy.
# The third is better than the victim, with a relative accuracy above 100 %,
# and is less faithful than the first.
# So a chapter always says which of the three it reports.
#
# ## Five baselines
#
# A score means little until one knows what no effort at all would reach, and
# what an attacker would who has the right pictures.
#
# - **Majority.** Ask images of uniform noise, and answer everything with the
#   label that came back most often.
# - **Prior.** Ask digits, and draw every answer at random, each label as
#   often as it came back.
# - **Random-query.** Ask images of uniform noise, and train a network on
#   them and their answers.
# - **In-distribution, plain.** Ask pictures of the victim's own kind, here
#   MNIST training digits, and train the same network on them as they are.
# - **In-distribution.** The same digits and the same answers, but in every
#   step each digit is slightly turned, slanted and shifted, as the owner did.
#   What the victim says of a digit is taken for what it says of the turned
#   one; that costs no query.
#
# Most attackers have no pictures of the victim's own kind.
# The last two show what one recipe makes of such pictures, and that the
# recipe is part of the baseline; neither is the most that could be made of
# them.
#
# The network is a LeNet with batch normalisation, trained on the answered
# probabilities $f(x)$ by the soft cross-entropy
# $-\sum_j f_j(x) \log \hat f_j(x)$.


# %%
def copy_from(images, answers, steps, seed, augment=victims.jitter):
    """A network trained on images and the probabilities they got.

    images: (n, 1, 28, 28). answers: (n, c). augment: changes the images of
    a batch anew in each step, as the owner's recipe does; None leaves them.
    """
    torch.manual_seed(seed)
    model = models.lenet(normalise=True, classes=answers.shape[1])
    return training.fit(
        model,
        images,
        answers,
        steps=steps,
        lr=8e-3,
        seed=seed,
        augment=augment,
    )


# %% [markdown]
# One trial asks noise once and digits once, and makes all five.


# %%
def baselines(api, own, x, steps, seed):
    """The labels (n,) that each baseline gives the rows x, by name.

    own: images (q, ...) of the victim's own kind; as many of noise are asked.
    """
    noise = datasets.noise(len(own), api.input_shape, seed=seed)
    on_noise, on_own = api.query(noise), api.query(own)
    majority = np.bincount(on_noise.argmax(axis=1)).argmax()
    prior = np.random.default_rng(seed).choice(on_own.argmax(axis=1), len(x))
    found = {"majority": np.full(len(x), majority), "prior": prior}
    for name, *lesson, augment in (
        ("random-query", noise, on_noise, None),
        ("in-distribution, plain", own, on_own, None),
        ("in-distribution", own, on_own, victims.jitter),
    ):
        model = copy_from(*lesson, steps, seed, augment)
        found[name] = metrics.labels_of(training.predict_proba(model, x))
    return found


# %% [markdown]
# The victim's side notes each image that it is asked: a copy that had learnt
# from the judges' own digits would look better than it is, and no score would
# give it away.


# %%
def noted(predict_proba, asked, x):
    """The answers to the rows x, which are written down in `asked`."""
    asked.extend(image.tobytes() for image in x)
    return predict_proba(x)


asked = []
noting = partial(noted, victim.predict_proba, asked)


# %% [markdown]
# Five trials, each with digits, noise and first weights of its own:

# %%
sell = {"budget": 2 * budget, "input_shape": test.x.shape[1:]}
trials, bills = [], []
for trial in range(seed, seed + n_seeds):
    rng = np.random.default_rng(trial)
    own = digits.train.x[rng.choice(60_000, budget, replace=False)]
    api = PredictionAPI(noting, try_out=False, **sell)
    trials.append(baselines(api, own, test.x, steps, trial))
    bills.append(api.ledger)
measured = {
    name: [scores(one[name], labels, test.y) for one in trials]
    for name in trials[0]
}

# %% [markdown]
# Each score is the mean over the trials with its 95 % interval:

# %% tags=["remove-input"]
print(f"in %, mean [95 % interval] over {n_seeds} seeds, {budget:,} queries")
plotting.table(
    [
        {"copy": name} | {key: spread_of(runs, key) for key in percent}
        for name, runs in measured.items()
    ]
)

# %% tags=["remove-input"]
noise = datasets.noise(budget, test.x.shape[1:], seed=seed)
said = np.bincount(metrics.labels_of(victim.predict_proba(noise)))
gain = column(measured["in-distribution"], "fidelity").mean()
gain -= column(measured["in-distribution, plain"], "fidelity").mean()
Markdown(
    f"The victim calls {said.max() / budget:.1%} of {budget:,} noise images "
    f"a **{said.argmax()}**, and uses {np.count_nonzero(said)} of its 10 "
    "labels for them. On digits, the owner's way of training moves the "
    f"fidelity by {gain:+.1f} points, for the same bill."
)

# %% [markdown]
# Noise costs as much as digits.
# But the more of it gets one and the same answer, the less there is to learn
# from it than that answer, and the nearer the third line comes to the first:
# chance, on ten classes.
# The last lines cost no more than a coffee, which is why the chapters that
# follow ask how near one can get *without* the victim's own kind of picture,
# and with queries that make the victim say more than one word.
# And whoever compares an attack with digits that were paid for must train
# both copies alike.
# The next figure shows the same numbers with each seed as a point.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Fidelity of the five baselines: a pale point for each seed, and their mean with its 95 % interval."}, "image": {"alt": "Five rows of points, one row for each baseline and one point for each seed, along an axis of fidelity from 0 to 100 percent."}}
fidelities = {
    name: column(runs, "fidelity") for name, runs in measured.items()
}
ax = plotting.interval_plot(
    fidelities, "fidelity on the 10,000 test digits (%)"
)
ax.set_xlim(0, 101)
plt.show()

# %% [markdown]
# ## The bill
#
# What did a copy cost?
# The bill is the number of queries times the price, and an attacker compares
# it with the price of collecting and labelling data and training a model.

# %%
PRICES = 1, 1.5, 10  # dollars for 1,000 queries


def costs(queries):
    """Dollars for that many queries, at each of `PRICES`."""
    return {price: Ledger(price).price(queries) for price in PRICES}


# %% tags=["remove-input"]
plotting.table(
    [
        {"queries": f"{queries:,}"}
        | {
            f"at ${price} per 1,000": f"${dollars:,.2f}"
            for price, dollars in costs(queries).items()
        }
        for queries in (100, budget, 10_000, 60_000)
    ]
)

# %% [markdown]
# ## Paper and this run
#
# What the chapter claims, with the survey's value where it gives one.
# A claim that is missed stays in the table, and is marked there.

# %% tags=["hide-input"]
claims.add(
    "victim accuracy on the 10,000 test digits",
    victim_accuracy,
    low=0.992,
    paper="0.9947",
)
claims.add(
    "ledger minus rows sent, largest over the seeds",
    max(abs(ledger.queries - 2 * budget) for ledger in bills),
    low=0,
    high=0,
)
price = costs(2 * budget)[1.5]
claims.add(
    "dollars of one trial, two batches at 1.50 for 1,000",
    max(ledger.cost for ledger in bills),
    low=price,
    high=price,
)

# %% tags=["hide-input"]
known = {image.tobytes() for image in test.x}
judged = sum(image in known for image in asked)
claims.add("test digits that were asked", judged, low=0, high=0)
mean = {name: values.mean() / 100 for name, values in fidelities.items()}
claims.add("prior fidelity (mean)", mean["prior"], low=0.09, high=0.11)
claims.add(
    "in-distribution fidelity (mean)", mean["in-distribution"], low=0.97
)
claims.add(
    "own digits minus noise, fidelity (mean)",
    mean["in-distribution"] - mean["random-query"],
    low=0.5,
)
claims.add(
    "own digits, augmented minus plain, fidelity (mean)",
    mean["in-distribution"] - mean["in-distribution, plain"],
    low=0.004,
)
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise 1 (short)
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
# :::{admonition} Exercise 2 (short)
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
# - The attacker sees the answers that were paid for; what else it knows or
#   holds differs, and belongs to the price.
# - Accuracy, fidelity and relative accuracy are three numbers.
# - Every attack has to beat the copies that cost no thought: majority, prior
#   and random-query.
# - A copy from the victim's own kind of pictures says how much the pictures
#   are worth, for the recipe with which it was trained; it is no ceiling.
#
# Next: [StealML](attacks/stealml.ipynb) solves for a model's parameters,
# and [KnockoffNets](attacks/knockoff_nets.ipynb) copies this chapter's
# victim with pictures that are no digits at all.
#
# ## References
#
# - {cite:t}`gong2020survey` is the survey that this book makes executable.
# - {cite:t}`lecun1998gradient` introduced LeNet and MNIST.
