# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Few labels: choosing what to ask
#
# An API that answers labels alone says little with each answer, and charges
# for it all the same.
# This chapter is about the attacker who wants more from fewer labels: by
# choosing which pictures to ask about (ActiveThief, with five strategies), and
# by learning from the pictures that it never asks about (FixMatch).
# Both are set against the same training without them, seed by seed.
#
# :::{admonition} In this chapter
# :class: tip
# You will
# - train a copy on labels, with augmentation and rows that are held back;
# - choose queries by entropy, by greedy k-center and by DeepFool;
# - count the labels that each strategy needs, against the random one;
# - learn from the unasked pool with FixMatch, and tell its gain from that of
#   augmentation;
# - see what is chosen, and measure where choosing hurts.
#
# <!-- minutes -->
# Read [KnockoffNets](../attacks/knockoff_nets.ipynb) first, whose judge and
# textures are used here.
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError as error:  # the site's notebooks install it here
    raise RuntimeError("run make book first, or pip install .") from error

# %% tags=["hide-input"]
import time
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import nn
from torch.nn import functional as F

from mexutils import (
    Claims,
    PredictionAPI,
    checks,
    datasets,
    load_chapter,
    metrics,
    plotting,
    training,
    victims,
)
from mexutils.clients import affordable
from mexutils.metrics import classes_in
from mexutils.notebook import display
from mexutils.runs import column, interval, paired_difference, spread_of

KNOCKOFF = load_chapter("attacks/knockoff_nets")
plotting.use_style()
claims = Claims()

# %% [markdown]
# ## At a glance
#
# The victim sells labels of digits; the attacker has 2,000 letters, and asks
# about 400 of them in two purchases.

# %%
chapter = load_chapter("frontier/few_labels")
victim, test = victims.mnist_lenet(), datasets.mnist().test
api = PredictionAPI(victim.predict_proba, returns="label", budget=400)
letters = datasets.letters(2000).x
said = victim.predict_proba(test.x)
for leg in chapter.active_thief(api, letters, 400, 0, "k-center", legs=2):
    same = metrics.fidelity(training.predict_proba(leg.model, test.x), said)
    print(f"{len(leg.asked)} labels: {same:.1%} of the digits as the victim")

# %% [markdown]
# The knobs of this page.
# The budgets are those of one attack in three legs.

# %% tags=["parameters"]
seed = 0
n_seeds = 8
n_mixed = 5  # seeds on the pool with rubbish
pool_size = 2000
budgets = [250, 500, 1000]
levels = [80, 95]  # percent of the victim's accuracy
exam_size = 2000
price_per_1000 = 1.50

# %% [markdown]
# ## The question
#
# | | the attacker … |
# |---|---|
# | sees | one label for each picture |
# | has | a pool of letters without labels, and time to compute |
# | does not have | digits, probabilities, the victim's structure |
# | pays | for every picture, those for its own checks included |
# | wants | the victim's skill for as few labels as can be |
#
# {cite:t}`gong2020survey` expect attacks to weaken where the answer holds
# less.
# {cite:t}`pal2020activethief` ask back: which pictures are worth a label?
# Their abstract reports copies from labels alone with 30,000 queries drawn
# from public pictures, 4.70 times as good as those of uniform noise.
#
# ## The idea
#
# The attacker buys in *legs*.
# After each leg it trains a copy $\hat f$ from scratch on all that it has
# heard, and lets the copy say which pictures to buy next.
# With $P$ the pictures that can still be asked and $S$ those that the copy has
# learnt, the strategies are:
#
# - *random*: any of $P$;
# - *uncertainty*: the largest entropy
#   $-\sum_j \hat f_j(x) \ln \hat f_j(x)$;
# - *k-center*: again and again the picture that is farthest from all that are
#   taken, $\arg\max_{x \in P} \min_{s \in S} \lVert \hat f(x) - \hat f(s)
#   \rVert$, which then belongs to $S$;
# - *DeepFool*: the smallest change $\lVert r(x) \rVert$ that makes the copy
#   change its mind;
# - *DeepFool + k-center*: a wide choice by DeepFool, thinned by k-center.
#
# What is left in $P$ has no labels, but the copy has guesses.
# FixMatch {cite:p}`sohn2020fixmatch` believes a guess on a slightly changed
# picture where it is sure, and teaches it to the copy on a strongly changed
# one.
# That costs no query.

# %% [markdown]
# ## From scratch
#
# ### A copy from labels
#
# The copy looks at half the resolution, which makes it quick.
# The cell ends with the number of its weights.


# %%
def small_network(classes=10):
    """Two convolutions at half the resolution, with batch normalisation."""
    return nn.Sequential(
        *(nn.AvgPool2d(2), nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16)),
        *(nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3)),
        *(nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, classes)),
    )


print(f"{sum(p.numel() for p in small_network().parameters()):,} weights")

# %% [markdown]
# Each picture of a batch is turned, slanted and shifted a little before it is
# learnt: *weak* augmentation, which everybody on this page has.
# FixMatch needs a *strong* one as well: twice the weak one, and a square of 8
# pixels blacked out.


# %%
CUT = 8


def strong(images, rng):
    """Images (n, 1, h, w), each distorted twice and with a square cut out.

    rng: a torch.Generator. Source: Sohn et al. (2020), with the distortions
    of `victims.jitter` for those of photographs.
    """
    images = victims.jitter(victims.jitter(images, rng), rng)
    inside = []
    for side in images.shape[2:]:
        first = torch.randint(side - CUT + 1, (len(images), 1), generator=rng)
        place = torch.arange(side) - first
        inside.append((place >= 0) & (place < CUT))
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    return images.masked_fill(hole[:, None].to(images.device), 0)


# %% [markdown]
# The same six letters as they are, weakly and strongly changed:

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Six letters as they are, weakly changed, strongly changed."}, "image": {"alt": "Three rows of six white letters on black: the letters as they are in the first, slightly turned and shifted in the second, turned more and with a black square in the third."}}
rng, shown = torch.Generator().manual_seed(0), torch.from_numpy(letters[:6])
changed = [shown, victims.jitter(shown, rng), strong(shown, rng)]
plotting.images(torch.cat(changed).numpy(), columns=6, size=0.8)
plt.show()

# %% [markdown]
# With $q$ the copy's answer to the weakly changed picture, taken as given,
# FixMatch's part of the loss is
#
# $$
# \frac1n \sum_x [\max_j q_j(x) \ge \tau]\,
#   \bigl(-\ln \hat f_{\arg\max q(x)}(\text{strong}(x))\bigr), \qquad
# \tau = 0.95 .
# $$
#
# A mean over all $n$ rows: those that are not sure count as zeros.


# %%
def fixmatch_loss(weak, strong, threshold=0.95):
    """The loss of unlabelled rows, from two sets of logits (n, c).

    weak: of the weakly changed rows, through which no gradient flows. strong:
    of the same rows strongly changed. Source: Sohn et al. (2020).
    """
    sure, guess = weak.detach().softmax(1).max(1)
    each = F.cross_entropy(strong, guess, reduction="none")
    return (each * (sure >= threshold)).mean()


two = torch.tensor([[5.0, 0.0], [1.0, 0.0]])  # sure to 0.993 and to 0.731
fixmatch_loss(two, torch.zeros(2, 2)).item()  # (ln 2 + 0) / 2

# %% [markdown]
# The loss of a step asks the copy in evaluation mode for its guesses, and
# teaches labelled and free pictures in one pass.


# %%
def loss_of(model, x, y, free, rng, how):
    """The loss of a batch x with labels y, and of a batch of free pictures."""
    if free is None:
        return F.cross_entropy(model(x), y)
    rows = torch.randint(len(free), (how.ratio * len(x),), generator=rng)
    with torch.no_grad():
        weak = model.eval()(victims.jitter(free[rows], rng))
    logits = model.train()(torch.cat([x, strong(free[rows], rng)]))
    extra = fixmatch_loss(weak, logits[len(x) :], how.threshold)
    return F.cross_entropy(logits[: len(x)], y) + how.weight * extra


# %% [markdown]
# Folded: the settings of a training, the look at held rows, the optimiser, and
# what is refused.


# %% tags=["hide-input"]
class Recipe(NamedTuple):
    """How a copy is trained; ratio, weight, threshold are FixMatch's."""

    batch: int = 32  # labelled pictures a step
    rate: float = 6e-3  # peak of a one-cycle schedule
    looks: int = 4  # states from which the held rows choose
    ratio: int = 2  # unlabelled pictures for a labelled one
    weight: float = 1.0  # of the loss of unlabelled pictures
    threshold: float = 0.95  # how sure a guess must be


def training_steps(n):
    """Steps of `taught` for n labelled pictures."""
    return 120 + n // 4


def begun(make_model, classes, seed):
    """A model with the first weights of a seed, to be trained."""
    torch.manual_seed(seed)
    model = make_model(classes).to(training.DEVICE)
    return model.to(memory_format=torch.channels_last).train()


def descending(model, rate, steps):
    """What makes a step of AdamW from a loss, `steps` times."""
    optimizer = torch.optim.AdamW(model.parameters(), rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)

    def descend(loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    return descend


def looked_at(model, images, labels):
    """Agreement with held rows, 0 to 1, and a copy of the model's state."""
    guesses = training.predict_proba(model, images).argmax(axis=1)
    model.train()
    state = {name: w.clone() for name, w in model.state_dict().items()}
    return float((guesses == labels).mean()), state


def tensors(images, labels, free=None):
    """Pictures, labels and free pictures as tensors where the model is.

    Raises `ValueError` for no pictures, an empty set of free ones, another
    number of labels, and values that are not finite.
    """
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(
            f"{len(images)} pictures and {len(labels)} labels: give one label "
            "to each picture, and at least one picture"
        )
    if free is not None and len(free) == 0:
        raise ValueError(
            "there are no unlabelled pictures: enlarge the pool, buy fewer "
            "labels, or leave free=None to train without FixMatch"
        )
    x, u = (
        None
        if rows is None
        else torch.tensor(checks.finite(rows), dtype=torch.float32)
        .to(training.DEVICE)
        .contiguous(memory_format=torch.channels_last)
        for rows in (images, free)
    )
    return x, torch.as_tensor(np.asarray(labels)).long().to(x.device), u


# %% [markdown]
# One function trains all copies of this page, so that a copy with FixMatch and
# one without differ by FixMatch alone: the same first weights, the same
# batches of labelled pictures, distorted in the same way, and as many steps.
# Of four states on the way it keeps the one that agrees best with the rows
# that were held back.


# %%
def taught(images, labels, seed, *, held=None, free=None, classes=None,
           make_model=small_network, steps=None, **recipe):  # fmt: skip
    """A copy from labels, trained from scratch, in evaluation mode.

    images (n, 1, h, w), labels (n,) places. held: such a pair, to choose a
    state by. free: (m, 1, h, w), for FixMatch. classes: of make_model.
    recipe: fields of `Recipe`. Raises `ValueError` for what is empty.
    """
    x, y, free = tensors(images, labels, free)
    how, steps = Recipe(**recipe), steps or training_steps(len(images))
    model = begun(make_model, classes or classes_in(labels), seed)
    descend, best = descending(model, how.rate, steps), (-1.0, None)
    rng, its_own = (torch.Generator().manual_seed(s) for s in (seed, seed + 1))
    for step in range(1, steps + 1):
        rows = torch.randint(len(x), (how.batch,), generator=rng)
        batch = victims.jitter(x[rows], rng)
        descend(loss_of(model, batch, y[rows], free, its_own, how))
        if held is not None and step * how.looks % steps < how.looks:
            best = max(looked_at(model, *held), best, key=itemgetter(0))
    model.load_state_dict(best[1] or model.state_dict())
    return model.eval()


# %% [markdown]
# A first copy, of 160 letters and 40 that are held back:

# %%
heard = victim.predict_proba(letters[:200]).argmax(axis=1)
first = taught(letters[:160], heard[:160], seed,
               held=(letters[160:200], heard[160:]))  # fmt: skip
guesses = training.predict_proba(first, letters[200:])
said = victim.predict_proba(letters[200:])
print(f"agrees on {metrics.fidelity(guesses, said):.1%} of other letters")

# %% [markdown]
# ### Scores
#
# *Uncertainty* is one line.
# *k-center* keeps for every point the distance to its nearest centre; a new
# centre can only lower it, so that $k$ choices among $n$ points cost $k n$
# distances.


# %%
def entropy(p):
    """Entropy (n,) of probabilities (n, c), in nats."""
    return -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)


def k_center(points, centres, k):
    """Numbers (k,) of the points that are taken, farthest first.

    points: (n, c). centres: (m, c); without any, the first point is taken.
    Raises `ValueError` for fewer points than k. Source: Sener and Savarese.
    """
    points = checks.rows(points, None, name="points")
    nearest, taken = np.full(len(points), np.inf), []
    for start in range(0, len(centres), 100):
        away = cdist(points, centres[start : start + 100], "sqeuclidean")
        nearest = np.minimum(nearest, away.min(axis=1))
    for _ in range(checks.whole("k", k, 0, len(points))):
        taken.append(nearest.argmax())
        gap = points - points[taken[-1]]
        nearest = np.minimum(nearest, np.einsum("ij,ij->i", gap, gap))
        nearest[taken] = -1  # once only
    return np.array(taken, dtype=int)


# %% [markdown]
# Of the points 0, 1, 2, 10 and 11 on a line with one centre at 0, three:

# %%
line = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]])
print(line[k_center(line, line[:1], 3)].ravel())

# %% [markdown]
# *DeepFool* {cite:p}`moosavi2016deepfool` walks to the boundary.
# With the copy's logits $z$ and its label $y$, let $f_j = z_j - z_y$ and
# $w_j = \nabla f_j$.
# Were the logits linear, the nearest boundary would be that of
#
# $$
# l = \arg\min_{j \ne y} \frac{|f_j|}{\lVert w_j \rVert}, \qquad
# \text{and the way there} \quad
# \frac{|f_l|}{\lVert w_l \rVert^2}\, w_l .
# $$
#
# The walk goes on until the label turns.
# It is judged 2 % beyond its end, since the end itself lies on the boundary.


# %%
def logits_and_slopes(model, x):
    """Logits (n, c) of x (n, ...) and their gradients (n, c, d)."""
    x = x.detach().requires_grad_(True)
    z = model(x)
    slopes = [
        torch.autograd.grad(z[:, j].sum(), x, retain_graph=True)[0].flatten(1)
        for j in range(z.shape[1])
    ]
    return z.detach(), torch.stack(slopes, dim=1)


def way_out(z, slopes, label):
    """The way (n, d) over the nearest boundary, were the logits linear."""
    rows = torch.arange(len(z), device=z.device)
    f = z - z[rows, label][:, None]
    w = slopes - slopes[rows, label][:, None]
    length = w.norm(dim=2)
    away = (f.abs() / length).nan_to_num(torch.inf)
    away[rows, label] = torch.inf
    away, nearest = away.min(dim=1)
    unit = w[rows, nearest] / length[rows, nearest][:, None]
    return torch.where(away.isfinite(), away, 0)[:, None] * unit.nan_to_num()


# %% [markdown]
# The walk, for a batch at once; rows whose label has turned stay where they
# are.


# %%
def walk_out(model, x, steps, overshoot):
    """Ways (n, ...) over the boundary, and the rows that are not over it."""
    with torch.no_grad():
        label = model(x).argmax(1)
    walk, left = torch.zeros_like(x), torch.arange(len(x), device=x.device)
    for _ in range(steps):
        here = x[left] + (1 + overshoot) * walk[left]
        way = way_out(*logits_and_slopes(model, here), label[left])
        walk[left] += way.view_as(here)
        with torch.no_grad():
            z = model(x[left] + (1 + overshoot) * walk[left])
        left = left[z.argmax(1) == label[left]]
        if not len(left):
            break
    return walk, left


# %% [markdown]
# Its length is the distance, batch after batch:


# %%
def deepfool(model, images, steps=8, overshoot=0.02, batch=250):
    """How far (n,) each picture is from the model's boundary.

    model: of logits, in evaluation mode. images: (n, ...). The Euclidean
    length of the whole way, `inf` for a label that does not turn in so many
    steps. Pixels may leave the range 0 to 1. Source: Moosavi-Dezfooli et al.
    (2016), with all classes.
    """
    steps, found = checks.whole("steps", steps, 1), []
    rows = torch.tensor(np.asarray(images), dtype=torch.float32)
    for x in rows.to(training.DEVICE).split(batch):
        walk, left = walk_out(model, x, steps, overshoot)
        far = walk.flatten(1).norm(dim=1)
        far[left] = torch.inf
        found.append(far.cpu().numpy())
    return np.concatenate(found)


# %% [markdown]
# On a linear model the distance is known, $|f_l| / \lVert w_l \rVert$:

# %%
linear = nn.Linear(5, 3)
x = torch.randn(200, 5, generator=torch.Generator().manual_seed(seed))
z, weights = linear(x).detach().numpy(), linear.weight.detach().numpy()
gaps = np.abs(z[:, :, None] - z[:, None]), cdist(weights, weights)
exact = gaps[0] / np.where(gaps[1] > 0, gaps[1], np.nan)
exact = np.nanmin(exact[np.arange(200), z.argmax(1)], axis=1)
off_linear = np.abs(deepfool(linear, x.numpy()) / exact - 1).max()
print(f"largest relative error of 200 distances: {off_linear:.0e}")

# %% [markdown]
# ### Strategies
#
# A strategy is given the pictures that can still be asked, in random order,
# those that the copy has learnt, and how many to take.


# %%
def at_random(model, rest, learnt, k, wide):
    """The first k, for they come in random order."""
    return np.arange(k)


def uncertain(model, rest, learnt, k, wide):
    """The k pictures whose answers have the largest entropy."""
    spread = entropy(training.predict_proba(model, rest))
    return np.argsort(-spread, kind="stable")[:k]


def far_apart(model, rest, learnt, k, wide):
    """k pictures by k-center, in the space of the copy's answers."""
    answers = [training.predict_proba(model, x) for x in (rest, learnt)]
    return k_center(*answers, k)


def near_boundary(model, rest, learnt, k, wide):
    """The k pictures that DeepFool brings over the boundary soonest."""
    return np.argsort(deepfool(model, rest), kind="stable")[:k]


def near_and_apart(model, rest, learnt, k, wide):
    """The `wide` pictures nearest to the boundary, thinned by k-center."""
    near = near_boundary(model, rest, learnt, max(k, wide), wide)
    return near[far_apart(model, rest[near], learnt, k, wide)]


# %% [markdown]
# Each by its name, and the first five letters that it would take of 400:

# %%
STRATEGIES = {
    "random": at_random,
    "uncertainty": uncertain,
    "k-center": far_apart,
    "DeepFool": near_boundary,
    "DeepFool + k-center": near_and_apart,
}
for name, choose in STRATEGIES.items():
    print(name, choose(first, letters[200:600], letters[:160], 5, 100) + 200)

# %% [markdown]
# ### The attack
#
# ActiveThief adds equally many in each round; here what is bought doubles from
# leg to leg, so that one attack serves three budgets.
# **A row that is held back is a query like any other**: of each purchase a
# share is drawn at random and kept for the choice among states, and it is in
# the bill.


# %%
class Leg(NamedTuple):
    """All that was bought so far, and the copy that was made of it.

    asked: (n,) numbers of pictures in the pool. labels: (n,) answers. held:
    (n,) whether a picture was held back. model: in evaluation mode.
    """

    asked: np.ndarray = np.zeros(0, int)
    labels: np.ndarray = np.zeros(0, int)
    held: np.ndarray = np.zeros(0, bool)
    model: nn.Module | None = None


# %% [markdown]
# The attack itself:


# %%
def active_thief(api, pool, budget, seed, strategy="k-center", *, legs=3,
                 validation=0.2, unlabelled=False, start=None,
                 **recipe):  # fmt: skip
    """ActiveThief: a `Leg` for each purchase, the last one of the budget.

    api: answers labels, or what has one. pool: (n, 1, h, w). budget: queries,
    doubled from leg to leg. strategy: a name in `STRATEGIES`, or such a
    function. validation: share held back, 0 for none. unlabelled: FixMatch on
    the rest of the pool. start: a first leg that was paid for before, with
    this pool, budget and seed. recipe: of `taught`. Raises, with nothing
    billed, `ValueError` for an empty pool, one smaller than the budget, and
    other bad input. Source: Pal et al. (2020).
    """
    choose = STRATEGIES.get(strategy, strategy)
    plan = planned(api, pool, budget, legs, validation, start)
    rehearse(choose, pool, budget, seed, unlabelled, recipe)
    order = np.random.default_rng(seed).permutation(len(pool))
    back, others = np.split(order, [plan[-1][1]])
    done = [] if start is None else [start]
    for total, n_held in plan[len(done) :]:
        leg = done[-1] if done else Leg()
        rest = others[~np.isin(others, leg.asked)]
        k = total - n_held - np.sum(~leg.held)
        new = np.arange(k)
        if done:
            learnt = pool[leg.asked[~leg.held]]
            new = choose(leg.model, pool[rest], learnt, k, budget)
        done.append(bought(api, pool, leg, rest[new], back[:n_held]))
        model = learnt_again(pool, done[-1], seed, unlabelled, **recipe)
        done[-1] = done[-1]._replace(model=model)
    return done


# %% [markdown]
# Folded: the purchase, the copy of a leg, the sizes of the legs, and what is
# refused before anything is paid, an empty pool among it.


# %% tags=["hide-input"]
def bought(api, pool, leg, new, back):
    """The leg with new pictures to learn and those of `back` it lacks."""
    back = back[leg.held.sum() :]
    asked = np.concatenate([new, back])
    labels = metrics.labels_of(api.query(pool[asked]))
    return Leg(
        np.concatenate([leg.asked, asked]),
        np.concatenate([leg.labels, labels]) if len(leg.labels) else labels,
        np.concatenate([leg.held, np.arange(len(asked)) >= len(new)]),
    )


def learnt_again(pool, leg, seed, unlabelled=False, **recipe):
    """A copy from what a leg has bought; nothing is asked.

    unlabelled: whether FixMatch learns from the rest of the pool. recipe: of
    `taught`. Of answers in words, the copy's `classes_` names its outputs.
    """
    names, labels = None, leg.labels
    if not metrics.are_places(labels):
        names, labels = np.unique(labels, return_inverse=True)
    x, held = pool[leg.asked], leg.held
    model = taught(
        x[~held],
        labels[~held],
        seed,
        held=(x[held], labels[held]) if held.any() else None,
        free=np.delete(pool, leg.asked, axis=0) if unlabelled else None,
        **{"classes": labels.max() + 1} | recipe,
    )
    model.classes_ = names
    return model


def planned(api, pool, budget, legs, validation, start=None):
    """(labels, labels held back) of each leg; `ValueError` for what cannot be.

    Raises `BudgetExceeded` where the API sells no more so many.
    """
    if np.size(pool) == 0:
        raise ValueError("the pool is empty: give pictures (n, 1, h, w)")
    checks.rows(pool[:1], None, None, None, name="the pool")
    checks.finite(pool)
    legs = checks.whole("legs", legs, 1)
    share = checks.share("validation", validation, 0, 0.9)
    budget = checks.whole("budget", budget, 1)
    if budget > len(pool):
        raise ValueError(
            f"{budget} of {len(pool)} pictures cannot be asked without "
            "repeats: enlarge the pool or ask for less"
        )
    plan = [budget >> leg for leg in reversed(range(legs))]
    plan = [(total, round(share * total)) for total in plan]
    if plan[0][0] - plan[0][1] < 2 or (share > 0 and plan[0][1] < 1):
        raise ValueError(
            f"a first leg of {plan[0][0]} labels, {plan[0][1]} of them held "
            "back, is too small: raise the budget, or buy in fewer legs"
        )
    if start is not None and (len(start.asked), start.held.sum()) != plan[0]:
        raise ValueError(
            f"start has {len(start.asked)} labels, {start.held.sum()} held "
            f"back, and the first leg {plan[0]}: pass the first leg of an "
            "attack with this budget, validation and number of legs"
        )
    paid = 0 if start is None else len(start.asked)
    if budget > paid:
        affordable(api, budget - paid, name="what is left to buy")
    return plan


def rehearse(choose, pool, budget, seed, unlabelled, recipe):
    """Train a step on made-up labels, and choose: what fails is unpaid."""
    if not callable(choose):
        raise ValueError(
            f"strategy must be one of {', '.join(STRATEGIES)}, or a function "
            f"as these are, not {choose!r}"
        )
    if unlabelled and len(pool) <= budget:
        raise ValueError(
            "the whole pool is bought, and no unlabelled pictures are left: "
            "enlarge the pool, buy fewer labels, or set unlabelled=False"
        )
    free = pool[-1:] if unlabelled else None
    once = recipe | {"steps": 1}
    model = taught(pool[:2], np.array([0, 1]), seed, free=free, **once)
    choose(model, pool[:2], pool[:2], 1, 1)


# %% [markdown]
# Two short legs with each strategy, the start bought once for all.
# What differs is what the second leg buys: how often did the victim give each
# answer there?

# %%
sell = partial(PredictionAPI, victim.predict_proba, returns="label")
start, rows = None, []
for name in STRATEGIES:
    told = {"legs": 2, "start": start, "steps": 30}
    legs = active_thief(sell(), letters[:600], 200, seed, name, **told)
    start = legs[0]
    rows.append((name, np.bincount(legs[1].labels[100:], minlength=10)))

# %% tags=["remove-input"]
plotting.table(
    [
        {"strategy": name}
        | {f"says {digit}": count for digit, count in enumerate(counts)}
        for name, counts in rows
    ]
)

# %% [markdown]
# ## Does it work?
#
# ### How the recipe was chosen
#
# Four networks, two batches, two rates and a few numbers of steps were tried
# with random letters of the seed 1000, one or two runs each, and judged on the
# last 3,000 of MNIST's training digits; taken was what a second of training
# brought most, and then fewer steps, so that the page stays short.
# On those digits the victim was trained, and no judge of this page uses them.
# An attacker without any digits would have to choose by its held-back letters,
# as [KnockoffNets](../attacks/knockoff_nets.ipynb) does.
# FixMatch's threshold and weight are the usual ones and were not tried out;
# two free pictures for a labelled one are few, and save time.
#
# ### Labels that each strategy needs
#
# For each seed a pool of its own is rendered, the first leg is bought once,
# and each strategy goes on from there.
# The judge owns test digits, drawn once.

# %% tags=["hide-input"]
drawn = np.random.default_rng(seed).choice(len(test.y), exam_size, False)
exam = KNOCKOFF.Exam(
    test.x[drawn],
    test.y[drawn],
    victim.predict_proba(test.x[drawn]).argmax(axis=1),
)


def thieves(api, pool, seed, totals, names, start=None):
    """The legs of each strategy; the first is bought once for all of them.

    Raises `ValueError`, with nothing asked, unless the totals double.
    """
    if any(2 * a != b for a, b in pairwise(totals)):
        raise ValueError(
            f"budgets must double from leg to leg, and {list(totals)} do not"
        )
    found = {}
    for name in names:
        found[name] = active_thief(
            api, pool, totals[-1], seed, name, legs=len(totals), start=start
        )
        start = found[name][0]
    return found


# %% [markdown]
# Each seed has an API of its own; first the strategies that look at answers:

# %%
QUICK, SLOW = tuple(STRATEGIES)[:3], tuple(STRATEGIES)[3:]
seeds = range(seed, seed + n_seeds)
pools = {s: datasets.letters(pool_size, s).x for s in seeds}
apis = {s: sell() for s in seeds}
runs = {s: thieves(apis[s], pools[s], s, budgets, QUICK) for s in seeds}

# %% [markdown]
# Then those with DeepFool, which go on from the same first legs, and the
# judge's scores:

# %%
for s in seeds:
    start = runs[s]["random"][0]
    runs[s] |= thieves(apis[s], pools[s], s, budgets, SLOW, start)
scored = {
    name: [[KNOCKOFF.judge(leg.model, exam) for leg in runs[s][name]]
           for s in seeds]
    for name in STRATEGIES
}  # fmt: skip
relative = {
    name: np.array([column(legs, "relative") for legs in of_seeds])
    for name, of_seeds in scored.items()
}

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Relative accuracy against labels paid for, held-back ones included; means over seeds with 95 % intervals."}, "image": {"alt": "Relative accuracy in percent against the number of labels on a logarithmic axis: five lines with bands, one for each strategy, which begin at one point; dotted lines at the levels that the text asks for."}}
fig, ax = plt.subplots()
for name, values in relative.items():
    plotting.band(ax, budgets, values.T, name)
for level in levels:
    ax.axhline(level, color="0.4", ls=":", lw=1)
ax.set_xscale("log")
ax.set_xticks(budgets, [f"{n:,}" for n in budgets])
ax.minorticks_off()
ax.set(xlabel="labels paid for", ylabel="relative accuracy (%)")
ax.legend()
plt.show()

# %% [markdown]
# How many labels bring a copy to a level is read off the line of each seed.


# %%
def labels_needed(budgets, scores, level):
    """Labels at which a line through (budget, score) first reaches a level.

    Between two budgets it is straight over the logarithm. The first budget
    where the level is reached there, `inf` where it is not reached at all.
    """
    for i, score in enumerate(scores):
        if score >= level:
            if i == 0:
                return float(budgets[0])
            part = (level - scores[i - 1]) / (score - scores[i - 1])
            ends = np.log(budgets[i - 1 : i + 1])
            return float(np.exp(ends[0] + part * (ends[1] - ends[0])))
    return np.inf


labels_needed([100, 1000], [60, 80], 70)  # half-way over the logarithm

# %% [markdown]
# The table has the upper median over seeds, and in brackets how many seeds
# reach the level at all; where no more than half do, it is not within the
# largest budget.
# The last columns say what a strategy adds to the random one at the largest
# budget, paired over seeds, and in how many seeds it needs fewer labels for
# the lower level.
# Each interval is at 95 % by itself: of eight, one may leave out 0 by chance.


# %% tags=["remove-input"]
def in_words(needed, most):
    """The median of labels needed, and how many seeds reach the level."""
    reached = np.isfinite(needed).sum()
    middle = np.sort(needed)[len(needed) // 2]
    text = f"{middle:,.0f}"
    if not np.isfinite(middle):
        text = f"not within {most:,}"
    return f"{text} ({reached} of {len(needed)})"


needed = {
    (name, level): np.array(
        [labels_needed(budgets, row, level) for row in relative[name]]
    )
    for name in STRATEGIES
    for level in levels
}
gains = {
    (name, budget): paired_difference(
        relative[name][:, i], relative["random"][:, i]
    )
    for name in STRATEGIES
    if name != "random"
    for i, budget in enumerate(budgets)
    if i
}
first_of = {n: needed[n, levels[0]] for n in STRATEGIES}
wanted = plotting.table(
    [
        {"strategy": name}
        | {
            f"labels for {level} %": in_words(needed[name, level], budgets[-1])
            for level in levels
        }
        | {
            f"accuracy at {budgets[-1]:,} (%)": spread_of(
                [legs[-1] for legs in scored[name]], "accuracy"
            ),
            "over random (points)": ""
            if name == "random"
            else f"{gains[name, budgets[-1]]:.1f}",
            f"fewer for {levels[0]} %": ""
            if name == "random"
            else f"{np.sum(first_of[name] < first_of['random'])} of {n_seeds}",
        }
        for name in STRATEGIES
    ]
)
display(wanted)


def side_of_zero(gap):
    """In words: on which side of 0 an interval lies."""
    if gap.low > 0:
        return "more"
    return "less" if gap.high < 0 else "open"


def listed(names):
    """Names with commas, or "none"."""
    return ", ".join(names) or "none of them"


for budget in budgets[1:]:
    by = {
        word: listed(
            name
            for (name, n), gap in gains.items()
            if n == budget and side_of_zero(gap) == word
        )
        for word in ("more", "less", "open")
    }
    print(
        f"At {budget:,} labels, against random: more with {by['more']}; less "
        f"with {by['less']}; open (the interval holds 0) with {by['open']}."
    )

# %% [markdown]
# ### Beside the public figures
#
# One project has published
# [a table](https://github.com/caumin/model-extraction-benchmark/blob/91a7484ac26d04e53c69fee8b1936a06786559c8/reports/SET-A1/REPORT.md)
# of accuracies for a LeNet on MNIST copied into a LeNet.
# Its report names neither the answers nor the pool; the project's
# configuration files name probabilities, and EMNIST as the pool.
# So it is context, not a target; the last column is this page's, with labels,
# rendered letters, the held-back rows in the bill, and a copy that learns from
# augmented pictures.

# %% tags=["remove-input"]
PUBLIC = {
    "random": (23.3, 92.6),
    "uncertainty": (22.6, 92.0),
    "DeepFool": (13.3, 92.1),
    "DeepFool + k-center": (29.5, 92.8),
}
"""Accuracies (%) at 1,000 and 10,000 queries, read in the report."""
plotting.table(
    [
        {
            "strategy": name,
            "public, 1,000 (accuracy, %)": PUBLIC.get(name, ("–", "–"))[0],
            "public, 10,000 (%)": PUBLIC.get(name, ("–", "–"))[1],
            f"here, {budgets[-1]:,} (%)": spread_of(
                [legs[-1] for legs in scored[name]], "accuracy"
            ),
        }
        for name in STRATEGIES
    ]
)

# %% [markdown]
# Ten thousand labels take longer than a page may;
# `benchmarks/few_labels.py` buys them.
#
# ### FixMatch against augmentation alone
#
# The copies of the random strategy were taught with augmentation alone.
# Each is taught once more from the same labels, in as many steps, now with
# FixMatch on the pictures of the pool that nobody asked about.
# Steps are few on this page, and FixMatch is usually given many more, so that
# what follows is about this recipe; `steps=` and `ratio=` of `taught` give it
# more.

# %%
with_free, sure_of = {}, []
for place in (0, -1):
    with_free[budgets[place]] = rows = []
    for s in seeds:
        leg = runs[s]["random"][place]
        model = learnt_again(pools[s], leg, s, unlabelled=True)
        rows.append(KNOCKOFF.judge(model, exam)["relative"])
        free = np.delete(pools[s], leg.asked, axis=0)[:1000]
        sure_of.append((budgets[place], free, model))
gained = {
    budget: paired_difference(
        values, relative["random"][:, budgets.index(budget)]
    )
    for budget, values in with_free.items()
}

# %% tags=["remove-input"] mystnb={"figure": {"caption": "FixMatch minus augmentation alone, in points of relative accuracy; points are seeds, bars 95 % intervals."}, "image": {"alt": "Two rows of points, one for the smallest and one for the largest number of labels: the difference of relative accuracy between FixMatch and augmentation alone, each with its mean and interval."}}
ax = plotting.interval_plot(
    {
        f"{budget:,} labels": np.subtract(
            values, relative["random"][:, budgets.index(budget)]
        )
        for budget, values in with_free.items()
    },
    "FixMatch minus augmentation alone (points)",
)
ax.axvline(0, color="0.4", ls=":", lw=1)
plt.show()
word = {"more": "FixMatch pays", "less": "FixMatch costs accuracy"}
for budget, gap in gained.items():
    print(
        f"At {budget:,} labels FixMatch changes the relative accuracy by "
        f"{gap:.1f} points (paired over {n_seeds} seeds): "
        f"{word.get(side_of_zero(gap), 'whether it pays is open')}."
    )

# %% [markdown]
# ## How it breaks
#
# **A sure guess can be wrong.**
# Letters are no digits, and the copy may be sure of an answer that the victim
# would not give.
# The owner can look: of a thousand free pictures, how many is the copy with
# FixMatch sure of, and in how many of these is it wrong?

# %% tags=["remove-input"]
guessed = []
for budget, free, model in sure_of:
    p = training.predict_proba(model, free)
    truth, sure = victim.predict_proba(free).argmax(1), p.max(1) >= 0.95
    wrong = (p.argmax(1) != truth)[sure].mean() if sure.any() else 0.0
    guessed.append(
        {"labels": budget, "sure": 100 * sure.mean(), "wrong": 100 * wrong}
    )
plotting.table(
    [
        {
            "labels": f"{budget:,}",
            "sure of (%)": spread_of(some, "sure"),
            "wrong where sure (%)": spread_of(some, "wrong"),
        }
        for budget in with_free
        for some in [[g for g in guessed if g["labels"] == budget]]
    ]
)

# %% [markdown]
# What is wrong there is taught as if the victim had said it.
#
# **Choosing is no random sample.**
# What a strategy picks, the victim need not answer evenly.
# How much do the answers of the last purchase hold, in bits of the 3.32 that
# ten equally frequent digits have, and how large is the share of the
# commonest?


# %% tags=["remove-input"]
def spread_of_answers(labels):
    """Bits of the mean answer, and the share of the commonest in percent."""
    share = np.bincount(labels, minlength=10) / len(labels)
    return {
        "bits": entropy(share[None])[0] / np.log(2),
        "commonest": 100 * share.max(),
    }


picked = {
    name: [
        spread_of_answers(
            legs[-1].labels[len(legs[-2].asked) :][
                ~legs[-1].held[len(legs[-2].asked) :]
            ]
        )
        for legs in (runs[s][name] for s in seeds)
    ]
    for name in STRATEGIES
}
plotting.table(
    [
        {
            "strategy": name,
            "bits": f"{interval(column(rows, 'bits')):.2f}",
            "commonest answer (%)": spread_of(rows, "commonest"),
        }
        for name, rows in picked.items()
    ]
)

# %% [markdown]
# **Rubbish in the pool.**
# A strategy looks for what the copy does not know, and there is much in the
# world that it does not know.
# In this pool a third are letters, a third plain noise, and a third pairs of
# letters printed over each other.

# %% tags=["hide-input"]
MIXED = ("random", "uncertainty", "k-center")


def mixed_pool(letters, seed):
    """A third letters, a third overprinted pairs, a third noise."""
    n = len(letters) // 3
    pairs = np.maximum(letters[n : 2 * n], letters[2 * n : 3 * n])
    noise = datasets.noise(n, letters.shape[1:], seed)
    return np.concatenate([letters[:n], pairs, noise])


mixed, share = {name: [] for name in MIXED}, {name: [] for name in MIXED}
for s in seeds[:n_mixed]:
    pool = mixed_pool(pools[s], s)
    for name, legs in thieves(sell(), pool, s, budgets[:2], MIXED).items():
        last = legs[-1].asked[len(legs[0].asked) :]
        last = last[~legs[-1].held[len(legs[0].asked) :]]
        kinds = np.bincount(3 * last // len(pool), minlength=3)
        share[name].append(kinds / len(last))
        mixed[name].append(KNOCKOFF.judge(legs[-1].model, exam)["relative"])

# %% tags=["remove-input"]
plotting.table(
    [
        {"strategy": name}
        | {
            f"{kind} bought (%)": f"{interval(100 * parts):.0f}"
            for kind, parts in zip(
                ("letters", "pairs", "noise"),
                np.array(share[name]).T,
                strict=True,
            )
        }
        | {
            "relative accuracy (%)": f"{interval(mixed[name]):.1f}",
            "over random (points)": ""
            if name == "random"
            else f"{paired_difference(mixed[name], mixed['random']):.1f}",
        }
        for name in MIXED
    ]
)

# %% [markdown]
# The table counts the pictures that a strategy chose in the second leg.
#
# **Held-back rows are labels, too.**
# Is the choice among four states worth a fifth of the labels?
# Without it, all labels are learnt, in as many steps, and the last state is
# taken.

# %%
all_learnt = []
for s in seeds:
    leg = runs[s]["random"][-1]
    steps = training_steps(int(np.sum(~leg.held)))
    leg = leg._replace(held=np.zeros(len(leg.asked), bool))
    model = learnt_again(pools[s], leg, s, steps=steps)
    all_learnt.append(KNOCKOFF.judge(model, exam)["relative"])
price_of_check = paired_difference(all_learnt, relative["random"][:, -1])
print(f"all learnt, minus a fifth held back: {price_of_check:.1f} points")

# %% [markdown]
# ## The bill
#
# Every label is paid, those that were held back and those of the first leg
# included.

# %% tags=["remove-input"]
plotting.table(
    [
        {
            "labels": f"{budget:,}",
            "of them held back": f"{runs[seed]['random'][i].held.sum():,}",
            f"at ${price_per_1000:.2f} per 1,000": f"${cost:.2f}",
            "random (%)": f"{interval(relative['random'][:, i]):.1f}",
            "best strategy (%)": f"{interval(relative[best][:, i]):.1f}",
            "which": best,
        }
        for i, budget in enumerate(budgets)
        for cost in [budget * price_per_1000 / 1000]
        for best in [max(relative, key=lambda n: relative[n][:, i].mean())]
    ]
)

# %% [markdown]
# The best of five is picked from the table that shows it, which flatters it.
# Choosing costs time as well; the next cell takes the processor's seconds of
# k-center for 1,000 of 10,000 points, and of DeepFool for 500 letters.

# %%
answers = np.random.default_rng(seed).dirichlet(np.ones(10), 11_000)
clock = [time.process_time()]
k_center(answers[:10_000], answers[10_000:], 1000)
clock.append(time.process_time())
deepfool(runs[seed]["random"][-1].model, pools[seed][:500])
clock.append(time.process_time())
seconds = np.diff(clock)
print(f"k-center {seconds[0]:.2f} s, DeepFool {seconds[1]:.2f} s")

# %% [markdown]
# ## Paper and this run
#
# ActiveThief's published figures are about other victims and pools, so that
# none of them stands beside a claim.
# The claims are about what each part must do; which strategy wins is measured
# above, not required.

# %% tags=["hide-input"]
lows = dict.fromkeys(STRATEGIES, 0.70)
for name, low in lows.items():
    claims.add(
        f"{name}: relative accuracy at {budgets[-1]:,} labels",
        relative[name][:, -1].mean() / 100,
        low=low,
    )
claims.add(
    f"random: {budgets[-1]:,} labels minus {budgets[0]:,} (points)",
    (relative["random"][:, -1] - relative["random"][:, 0]).mean(),
    low=8.0,
)
claims.add(
    f"FixMatch at {budgets[-1]:,} labels: relative accuracy",
    np.mean(with_free[budgets[-1]]) / 100,
    low=0.70,
)
claims.add(
    "ledgers minus labels of all legs",
    sum(api.ledger.queries for api in apis.values())
    - sum(
        len(legs[-1].asked) - len(legs[0].asked)
        for found in runs.values()
        for legs in found.values()
    )
    - n_seeds * budgets[0],
    low=0,
    high=0,
)
claims.add(
    "DeepFool on a linear model: largest relative error",
    off_linear,
    high=1e-3,
)
claims.add(
    "FixMatch's loss by hand, error",
    abs(fixmatch_loss(two, torch.zeros(2, 2)).item() - np.log(2) / 2),
    high=1e-6,
)
for name in MIXED[1:]:
    claims.add(
        f"{name}: noise among what it buys of the mixed pool (share)",
        np.mean(share[name], axis=0)[2],
        high=0.15,
    )
claims.add(
    "k-center, 1,000 of 10,000: seconds of one core",
    seconds[0],
    high=2.0,
)
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise 1 (short)
# :class: attention
# k-center wants to leave no point far from all that are taken.
# How far is the farthest point from 50 that it takes, and from 50 at random?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
cloud = answers[:2000]
for name, taken in (
    ("k-center", k_center(cloud, cloud[:1], 50)),
    ("random", np.arange(1, 51)),
):
    print(f"{name}: {cdist(cloud, cloud[taken]).min(axis=1).max():.2f}")

# %% [markdown]
# :::{admonition} Exercise 2 (medium)
# :class: attention
# Pictures that are near the copy's boundary: are they near the victim's?
# Rank 500 letters by DeepFool on the last copy, and look at the victim's
# largest probability in each quarter.
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
some = pools[seed][-500:]
ranks = np.argsort(deepfool(runs[seed]["random"][-1].model, some))
top = victim.predict_proba(some).max(axis=1)[ranks]
print([f"{quarter.mean():.2f}" for quarter in np.array_split(top, 4)])

# %% [markdown]
# :::{admonition} Exercise 3 (medium)
# :class: attention
# Both ideas can be had at once.
# Train the last leg of k-center with FixMatch.
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
leg = runs[seed]["k-center"][-1]
for unlabelled in (False, True):
    model = learnt_again(pools[seed], leg, seed, unlabelled)
    found = KNOCKOFF.judge(model, exam)["relative"]
    print(f"FixMatch {unlabelled}: {found:.1f} %")
# One seed is one seed; the interval needs eight.

# %% [markdown]
# ## Recap
#
# - ActiveThief buys in legs and lets the copy choose: by entropy, by k-center,
#   by DeepFool, or by both; the random choice is what it must beat.
# - Held-back rows are queries; whether they are worth their price is to be
#   measured.
# - FixMatch learns from pictures that were never asked about; its gain is what
#   is left above the same steps with augmentation alone.
# - Both believe the copy, which can be wrong about what it does not know.
#
# ## References
#
# - {cite:t}`pal2020activethief` introduced ActiveThief; its k-center is that
#   of {cite:t}`sener2018active`, its use of DeepFool that of
#   {cite:t}`ducoffe2018adversarial`.
# - {cite:t}`moosavi2016deepfool` introduced DeepFool.
# - {cite:t}`sohn2020fixmatch` introduced FixMatch;
#   {cite:t}`jagielski2020high` brought semi-supervised learning to model
#   extraction, with MixMatch.
