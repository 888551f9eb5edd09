# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The arena: every attack against every defense
#
# All attackers of this book meet all of its defenses, on the same victims,
# with the same budget, judged by the same scores and billed by the same
# ledger.
# The survey had to leave this open: no code, and every paper with a measure
# of its own.
# This chapter lets all of them meet, races the best attackers of each defense
# on draws that chose nobody, ranks the defenses as far as that decides, and
# looks for the owner's marks in what was stolen.
#
# :::{admonition} In this chapter
# :class: tip
# You will
# - run a grid of independent cells, on two processes here or on a cluster;
# - read the matrix of attacks and defenses, for images and for tables;
# - see what each defense costs its owner: accuracy, distance, false alarms,
#   time;
# - rank the defenses by the best attacker against them, with the pairs that
#   this run decides and those that it leaves open;
# - see which thefts an owner could prove afterwards, and who is accused that
#   stole nothing;
# - take the whole table with you.
#
# <!-- minutes -->
# [Contestants](contestants.ipynb) says who is who, and shows one meeting from
# end to end; the symbols are in [the notation](../notation.md).
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError as error:  # the site's notebooks install it here
    raise RuntimeError("run make book first, or pip install .") from error

# %% tags=["hide-input"]
import base64
import time
from functools import partial
from itertools import combinations, product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from mexutils import (
    Claims,
    PredictionAPI,
    load_chapter,
    metrics,
    plotting,
)
from mexutils.notebook import HTML, Markdown, display
from mexutils.runs import Interval
from mexutils.sweep import Cell, sweep

plotting.use_style()
claims = Claims()

CONTEST = load_chapter("comparison/contestants")
JOINT = load_chapter("comparison/joint_track")
GUARDS, CONTESTANTS = CONTEST.GUARDS, CONTEST.CONTESTANTS
KINDS = CONTEST.KINDS

# %% [markdown]
# The knobs.
# `papermill -f larger.yml` replaces any of them: more seeds, other budgets, a
# second victim, another machine's scheduler.
# Everybody meets everybody on the first `n_seeds` draws; then the best
# attacker of each defense meets it on new ones, so many for each kind of
# victims.

# %% tags=["parameters"]
seed = 0
n_seeds = 2
n_more = {"image": 9, "softmax": 8, "tree": 6}
image_victims = ["mnist"]  # "fashion_mnist" needs its one download
image_budgets = [1000]
table_budget = 600  # softmax regressions
tree_budget = 10_000  # path finding needs thousands
tables = ["digits", "breast_cancer", "red_wine"]
n_proofs = 5  # owners who mark their answers, of pictures and these tables
proof_tables = ["digits", "breast_cancer"]
scheduler = None  # "tcp://host:8786": a Dask cluster instead of two processes
workers = 2

# %% [markdown]
# ## At a glance
#
# All meetings are run, and the figure shows those on the classifier of
# digits.
# A number is a fidelity: how often, in percent, the copy answers as the
# undefended victim does.
# A row is what was asked; of the ways to read the answers and of the names to
# ask under, the best counts.

# %% mystnb={"figure": {"caption": "Pictures: fidelity of the copy in percent, for each defense and each way of asking, by the best reading; means over draws. A dash is a pair that does not meet."}, "image": {"alt": "Heat map: ways of asking in rows, defenses in columns, a number in every cell; dark is a high fidelity."}}
arena = load_chapter("comparison/arena")
owners = arena.owners_of(image_victims, image_budgets)
owners |= arena.table_owners_of(tables, table_budget, tree_budget)
seeds = range(seed, seed + n_seeds)
how = {"scheduler": scheduler, "workers": workers}
meetings, absent = arena.grid(owners, seeds)
met, failed = arena.fought(meetings, **how)
kinds = arena.of_kinds(met)
arena.heat(kinds["image"], "asks", least=40)
plt.show()

# %% tags=["remove-input"]
for line in sorted(set(failed)):
    print(f"failed: {line}")
close = arena.contenders(met, arena.CLOSE)
near = {arena.ASKS[CONTESTANTS[key[-1]].run] for key in close}
far = [name for name in CONTEST.ASKING if name not in near]
Markdown(
    f"{len(CONTESTANTS)} attackers, {len(GUARDS)} defenses and {len(owners)} "
    f"victims make {len(meetings):,} meetings, of which {len(failed)} failed. "
    f"{len(absent):,} more pairs do not meet. The meetings took "
    f"{arena.minutes(met):.0f} minutes of processor time when they were "
    f"computed. Within {arena.CLOSE} point of the best came, somewhere, all "
    f"ways of asking but: {', '.join(far) or 'none'}."
)

# %% [markdown]
# ## The question
#
# Which defense leaves the best attacker least, at what price to its owner, and
# which of these orders are more than chance?
#
# The rules are those of [the contestants](contestants.ipynb): every
# perturbation that can be set so lies at one distance, every monitor has one
# rate of false alarms, the attacker knows how a defense is set and not its
# secret, and pays for every row out of one budget.
#
# ## The grid
#
# A victim is a function of a seed, which draws what is random in it.


# %%
def owners_of(names, budgets):
    """(kind, name, budget) to a function of a seed, for pictures."""
    return {
        ("image", name, budget): partial(
            CONTEST.image_owner, name=name, letters=max(4000, budget)
        )
        for name in names
        for budget in budgets
    }


# %% [markdown]
# The same for tables:


# %%
def table_owners_of(names, softmax_budget, tree_budget):
    """Tables, with a budget for each kind of model."""
    budgets = {"softmax": softmax_budget, "tree": tree_budget}
    return {
        (kind, name, budget): partial(
            CONTEST.table_owner, name=name, kind=kind
        )
        for kind, budget in budgets.items()
        for name in names
    }


# %% [markdown]
# A meeting is a cell, and knows nothing of the others.
# Facets say who meets whom; and who takes the care to read answers otherwise
# than as told takes many names, too, where somebody watches.


# %%
def careful(who):
    """Whether a contestant has the names that it needs at a monitor."""
    plain = who.read is CONTEST.as_they_are
    return plain or who.accounts > 1 or not JOINT.has_many(who)


# %% [markdown]
# All meetings, and who stays away for which reason:

# %%
COLUMNS = ["kind", "victim", "budget", "attack", "defense", "seed"]


def grid(owners, seeds):
    """All meetings, and who does not meet.

    owners: (kind, name, budget) to a function of a seed. Returns cells by
    `COLUMNS`, and reasons by kind, name, attack and defense.
    """
    meetings, absent = {}, {}
    for (kind, name, budget), owner in owners.items():
        classes = owner(0).classes
        for s, (a, who) in product(seeds, CONTESTANTS.items()):
            for d, guard in GUARDS.items():
                why = CONTEST.why_not(who, guard, kind, classes)
                if guard.watches and not careful(who):
                    why = why or "it also comes under many names"
                if why:
                    absent[kind, name, a, d] = why
                else:
                    meetings[kind, name, budget, a, d, s] = CONTEST.meeting(
                        owner, guard, who, s, budget
                    )
    return meetings, absent


len(meetings), len(absent)

# %% [markdown]
# So many meet, and so many pairs do not.
# A scheduler gives the cells to any process that is free: two here, or all of
# a cluster's {cite:p}`rocklin2015dask`.
# What is finished is kept under a key of its parameters and of the code that
# it ran, so that a run that was killed goes on where it stopped, and after a
# change in one technique only its cells run again.


# %%
def fought(meetings, what="meetings", **how):
    """A table of all meetings, one a row, and the errors of those that failed.

    meetings: cells by `COLUMNS`. how: of `sweep`.
    """
    outcomes = sweep(list(meetings.values()), what=what, **how)
    rows = [
        dict(zip(COLUMNS, key, strict=True)) | (outcome.value or {})
        for key, outcome in zip(meetings, outcomes, strict=True)
    ]
    table = pd.DataFrame(rows)
    whos = [CONTESTANTS[key[3]] for key in meetings]
    table["asks"] = [ASKS[who.run] for who in whos]
    table["reads"] = [READS[who.read] for who in whos]
    table["accounts"] = [who.accounts for who in whos]
    return table, [o.error for o in outcomes if o.error]


ASKS, READS = JOINT.ASKS, JOINT.READS

# %% [markdown]
# Where time goes: seconds of a processor by what is asked, the dearest first;
# a cell that several meetings share counts once.


# %%
def different(table):
    """The meetings without those that share another's cell."""
    return table.drop_duplicates(["kind", "victim", "seed", "seconds"])


def minutes(table):
    """Processor time of all cells, in minutes."""
    return different(table).seconds.sum() / 60


dearest = different(met).groupby(["kind", "asks"]).seconds
dearest = dearest.agg(["mean", "max", "sum"])
dearest.sort_values("sum", ascending=False).head(6).round(1)

# %% [markdown]
# ## The matrix
#
# Of the attacks that share a row, the best counts for each victim, by its mean
# over draws.


# %%
def of_kinds(table):
    """Kind to its part of a table of meetings, at the largest budget."""
    most = table.groupby("kind").budget.transform("max")
    table = table[table.budget == most]
    return {kind: table[table.kind == kind] for kind in KINDS}


def matrix(met, by):
    """The best mean fidelity of every row: `by` ("asks" or "reads") by guard.

    The mean over the victims that are met; NaN where none is.
    """
    means = met.groupby([by, "victim", "attack", "defense"]).fidelity.mean()
    best = means.groupby([by, "victim", "defense"]).max()
    best = best.groupby([by, "defense"], sort=False).mean().unstack()
    return best.reindex(columns=[d for d in GUARDS if d in best])


# %% [markdown]
# Drawn as numbers on colours, by reading for pictures, and then for tables by
# both:


# %% tags=["hide-input"] mystnb={"figure": {"caption": "Pictures: fidelity in percent, for each defense and each reading of its answers, by the best way of asking."}, "image": {"alt": "Heat map: readings of the answers in rows, defenses in columns, a number in every cell where the reading means something, a dash elsewhere."}}
def heat(met, by, least=0, ax=None):
    """Draw the matrix with its numbers."""
    table = matrix(met, by)
    if ax is None:
        size = 8, 1.6 + 0.32 * len(table)
        _, ax = plt.subplots(figsize=size, layout="constrained")
    ax.imshow(table, cmap="cividis_r", vmin=least, vmax=100, aspect="auto")
    ax.set_xticks(range(table.shape[1]), table.columns, rotation=45)
    plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(table)), table.index)
    ax.grid(False)
    for (i, j), value in np.ndenumerate(table.to_numpy()):
        text = "–" if np.isnan(value) else f"{value:.0f}"
        dark = value > (least + 100) / 2
        ax.text(j, i, text, ha="center", va="center", fontsize=8,
                color="white" if dark else "black")  # fmt: skip


def heats(parts):
    """Both matrices of each kind of victims, one above the other."""
    panels = list(product(parts, ("asks", "reads")))
    n = len(panels)
    fig, axes = plt.subplots(n, 1, figsize=(8, 3 * n), layout="constrained")
    for ax, (name, by) in zip(axes, panels, strict=True):
        heat(parts[name], by, 40, ax)
        ax.set_title(name)


heat(kinds["image"], "reads", least=40)
plt.show()

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Tables: fidelity in percent, by what is asked and by how it is read; above softmax regressions, below decision trees; means over draws and the tables that a way of asking meets: those that tell two classes apart, two tables."}, "image": {"alt": "Four heat maps one above the other, two for softmax regressions and two for decision trees: ways of asking and readings in rows, defenses in columns, a number in every cell where they meet, a dash elsewhere."}}
heats({KINDS[kind]: kinds[kind] for kind in CONTEST.TABLES})
plt.show()

# %% [markdown]
# What the columns of the tuned perturbations of probabilities say, in words,
# for pictures and trees: how good the best copy is by each reading.


# %% tags=["remove-input"]
def told(part, d):
    """The readings of one defense, best first, as text."""
    values = matrix(part, "reads")[d].dropna().sort_values(ascending=False)
    return f"behind {d} " + ", ".join(
        f"{name} {value:.0f} %" for name, value in values.items()
    )


soft = [d for d, g in GUARDS.items() if g.tuned and g.answers != "label"]
Markdown(
    "  \n".join(
        f"**{KINDS[kind].capitalize()}:** "
        + "; ".join(told(kinds[kind], d) for d in soft)
        + "."
        for kind in ("image", "tree")
    )
)

# %% [markdown]
# ## What a defense costs
#
# A cell of the other kind is what a defense costs its owner.


# %%
def keep(owner, defense, seed, watches, clients=20):
    """What one defense costs one owner, as a dictionary.

    owner: a function of the seed. defense: owner and seed to settings.
    watches: whether benign clients have to be sent.
    """
    owner, rng = owner(seed), np.random.default_rng(seed)
    settings = defense(owner, seed)
    api = PredictionAPI(owner.predict, **settings)
    false = accused(api, owner, rng, clients if watches else 0)
    drawn = rng.permutation(len(owner.exam))[:1000]
    x, truth, own = owner.exam[drawn], owner.truth[drawn], owner.own[drawn]
    told, shares = api.query(x, "judge"), owner.predict(x)
    answers = metrics.as_probabilities(told, shares.shape[1])
    gap = metrics.accuracy(own, truth) - metrics.accuracy(told, truth)
    return {
        "lost": 100 * gap,
        "labels changed": 100 * (1 - metrics.fidelity(told, own)),
        "L1": float(np.abs(answers - shares).sum(axis=1).mean()),
        "false alarms": false,
        "clients": clients,
        "ms a query": milliseconds(owner, settings) - milliseconds(owner, {}),
    }


# %% [markdown]
# Accused clients, processor time, and the table of it all are folded away.


# %% tags=["hide-input"]
def accused(api, owner, rng, clients):
    """How many of so many benign clients raise an alarm."""
    for n in range(clients):
        api.query(CONTEST.benign_rows(owner.benign, rng), f"client {n}")
    return sum(name.startswith("client") for name in api.alarms)


def milliseconds(owner, settings, rounds=3):
    """CPU time of one query in a call of 100, the best of three rounds."""
    rows, best = owner.benign[:100], np.inf
    api = PredictionAPI(owner.predict, **settings)
    for n in range(rounds):
        start = time.process_time()
        api.query(rows, f"clock {n}")
        best = min(best, time.process_time() - start)
    return 1000 * best / len(rows)


def spread(values, digits=1):
    """Mean, least and most as text; the number alone where all agree."""
    low, high = (f"{v:.{digits}f}" for v in (values.min(), values.max()))
    mean = f"{values.mean():.{digits}f}"
    return mean if low == high else f"{mean} ({low} to {high})"


def owners_table(cost):
    """One row a defense: what it costs, over victims and seeds."""
    rows = []
    for d, part in cost.groupby("defense", sort=False):
        accused, clients = part[["false alarms", "clients"]].sum()
        rows.append(
            {
                "defense": d,
                "accuracy lost (points)": spread(part["lost"]),
                "L1": spread(part["L1"], 2),
                "benign clients accused": f"{accused} of {clients}"
                if GUARDS[d].watches
                else "–",
                "ms a query": f"{max(0, part['ms a query'].median()):.2f}",
            }
        )
    return plotting.table(rows)


def named(met, defense):
    """The best attackers as text, with the number of their victims."""
    best = [key[-1] for key in contenders(met[met.defense == defense], n=1)]
    counts = pd.Series(best).value_counts(sort=False)
    return "; ".join(f"{a} ({n})" if n > 1 else a for a, n in counts.items())


def ranking(met, best, table, caught):
    """One row a defense: best attackers, fidelity, ranks, thefts proved.

    caught: marked thefts by the best attackers of this kind of victims.
    """
    rows, possible = [], ranks(table, list(best))
    for d in sorted(best, key=lambda d: best[d].mean()):
        low, high = possible[d]
        ends, _ = difference(best[d], 0 * best[d])
        rows.append(
            {
                "defense": d,
                "best attackers (first draws)": named(met, d),
                "fidelity (%)": f"{ends:.1f}",
                "rank": f"{low} to {high}" if low < high else f"{low}",
                "can the owner prove it?": JOINT.proofs(
                    caught[caught.defense == d]
                ),
            }
        )
    return plotting.table(rows)


# %% [markdown]
# Every guard's owners, and what they pay: accuracy that the protected answers
# lose, their distance from the true ones (0 to 2), benign clients accused, and
# the time of a query on top.


# %% tags=["hide-input"]
def owners_cells(owners, seeds):
    """One cell for each owner, defense and seed, by `COLUMNS`."""
    return {
        (kind, name, budget, "", d, s): Cell(
            keep,
            {"owner": owner, "defense": guard.make, "seed": s}
            | {"watches": guard.watches},
        )
        for (kind, name, budget), owner in owners.items()
        for d, guard in GUARDS.items()
        for s in seeds
        if kind in guard.kinds
    }


# %% [markdown]
# They are swept as the meetings were.

# %%
costs = owners_cells(owners, seeds)
outcomes = sweep(list(costs.values()), what="owners", **how)
cost = pd.DataFrame(
    [
        dict(zip(COLUMNS, key, strict=True)) | (outcome.value or {})
        for key, outcome in zip(costs, outcomes, strict=True)
    ]
)
failed += [o.error for o in outcomes if o.error]

# %% [markdown]
# One table for each kind of victims: the mean over victims and draws, with the
# least and the most of them.

# %% tags=["remove-input"]
for kind, title in KINDS.items():
    display(Markdown(f"**{title.capitalize()}**"))
    display(owners_table(cost[cost.kind == kind]))

# %% [markdown]
# Milliseconds are processor time on the machine that built this page.
#
# ## The race
#
# A defense is as good as its best attacker lets it be; an owner cannot choose
# who comes.
# But the best of many attackers on a few draws is in part the luckiest.
# So the best of each defense and victim meets it again on new draws, which had
# no say in who it is, and these alone judge.
# Who asks and reads alike under one name and under many has the same copy as
# long as nobody is stopped; of these the one with more names goes on.

# %%
CLOSE = 1
"""Points behind the best within which an attacker came near it."""
PLACES = ["kind", "victim", "budget", "defense"]


def contenders(met, within=np.inf, n=None):
    """Keys of the n best attackers by mean, for each victim and defense.

    within: points behind the best. Of those who ask and read alike, and have
    the same fidelity, the one with the most accounts counts.
    """
    alike, by = [*PLACES, "asks", "reads"], {"kind": "stable"}
    rows = met.sort_values("accounts", ascending=False, **by)
    means = rows.groupby([*alike, "attack"], sort=False).fidelity.mean()
    means = means.reset_index().drop_duplicates([*alike, "fidelity"])
    best = means.groupby(PLACES).fidelity.transform("max")
    means = means[means.fidelity >= best - within]
    means = means.sort_values("fidelity", ascending=False, **by)
    means = means.groupby(PLACES, sort=False).head(n or len(means))
    return list(means[[*PLACES, "attack"]].itertuples(index=False, name=None))


# %% [markdown]
# Their meetings on new draws:


# %%
def rematch(owners, keys, start, n_more):
    """Their meetings with n_more[kind] new seeds, as `grid` gives them."""
    return {
        (kind, name, budget, a, d, s): CONTEST.meeting(
            *(owners[kind, name, budget], GUARDS[d], CONTESTANTS[a]),
            *(s, budget),
        )
        for kind, name, budget, d, a in keys
        for s in range(start, start + n_more[kind])
    }


# %% [markdown]
# The new draws:

# %%
more = rematch(owners, contenders(met, n=1), seed + n_seeds, n_more)
final, lost = fought(more, "the race", **how)
failed += lost
print(f"{len(final):,} more meetings, {minutes(final):.0f} minutes")

# %% [markdown]
# What they judge:


# %%
def best_of(final):
    """Defense to fidelities (victims, new draws) of its best attackers."""
    found = {}
    for d in GUARDS:
        new = final[final.defense == d]
        if len(new):
            new = new.pivot(index="victim", columns="seed", values="fidelity")
            found[d] = new.to_numpy()
    return found


# %% [markdown]
# The victims are fixed: the page does not speak of other tables.
# So the variance $s^2$ of a difference is that between draws within a victim,
# and over $V$ victims of $n$ draws each, if it is alike in all, it has
# $d = V (n - 1)$ degrees of freedom.
# Of few draws it is a guess, sometimes far too small or too large.
# But there are many pairs, and their guesses can help each other
# {cite:p}`smyth2004linear`: each is drawn towards a common $s_0^2$,
#
# $$
# \tilde s^2 = \frac{d_0 s_0^2 + d s^2}{d_0 + d},
# $$
#
# with $d_0 + d$ degrees of freedom.


# %%
def difference(first, second, d_0=0.0, s_0=0.0):
    """Mean of first - second as an `Interval`, and its p-value.

    first, second: (V, n), paired over victims and draws. d_0, s_0: of `prior`;
    without them the pair stands alone.
    """
    gap = np.asarray(first) - np.asarray(second)
    d, own = gap.size - len(gap), gap.var(axis=1, ddof=1).mean()
    error = np.sqrt((d_0 * s_0**2 + d * own) / (d_0 + d) / gap.size)
    mean = float(gap.mean())
    half = stats.t.ppf(0.975, d_0 + d) * error
    if error == 0:
        return Interval(mean, mean, mean), float(mean == 0)
    p = 2 * stats.t.sf(abs(mean) / error, d_0 + d)
    return Interval(mean, mean - half, mean + half), float(p)


# %% [markdown]
# How far the logarithms of the guesses lie apart says how much help is good.
# By chance alone they have the variance $\psi'(d / 2)$; if the true variances
# differ, they have $\psi'(d_0 / 2)$ more, and the more that is, the smaller
# is $d_0$.
# The two are found in the folded cell.


# %% tags=["hide-input"]
MOST_ALIKE = 1000
"""Degrees of freedom from which on all variances count as one."""


def prior(variances, d):
    """d_0 and s_0 of many variances (m,) of d degrees of freedom each."""
    logs = np.log(variances[variances > 0])
    if len(logs) < 3:
        return 0.0, 0.0
    more = logs.var(ddof=1) - polygamma(1, d / 2)
    if more <= polygamma(1, MOST_ALIKE / 2):
        d_0 = MOST_ALIKE
    else:
        d_0 = 2 * brentq(lambda x: polygamma(1, x) - more, 1e-6, MOST_ALIKE)
    bias = digamma(d / 2) - np.log(d / 2) - digamma(d_0 / 2) + np.log(d_0 / 2)
    return d_0, np.exp((logs.mean() - bias) / 2)


# %% [markdown]
# A hundred guesses at one true variance, 1, from six draws each; the first
# number says for how many degrees of freedom the common variance counts, the
# second is its root:

# %%
prior(np.random.default_rng(seed).chisquare(5, 100) / 5, 5)

# %% [markdown]
# Many pairs are compared.
# Holm's rule keeps the chance of even one wrong order, among the pairs of one
# kind of victims, at 5 %: the smallest of $m$ p-values is multiplied by $m$,
# the next by $m - 1$, and so on.


# %%
def holm(p):
    """p-values (m,) adjusted for all m being looked at."""
    order, m = np.argsort(p), len(p)
    steps = np.maximum.accumulate(np.asarray(p)[order] * np.arange(m, 0, -1))
    adjusted = np.empty(m)
    adjusted[order] = steps.clip(max=1)
    return adjusted


holm([0.01, 0.04, 0.03])

# %% [markdown]
# All pairs of defenses:


# %%
def compared(best):
    """One row a pair: the difference, its ends, whether it is decided."""
    pairs = list(combinations(best, 2))
    gaps = np.array([best[d] - best[e] for d, e in pairs])
    own = gaps.var(axis=2, ddof=1).mean(axis=1)
    alike = prior(own, gaps[0].size - len(gaps[0]))
    tests = [difference(gap, 0 * gap, *alike) for gap in gaps]
    sure = holm([p for _, p in tests]) < 0.05
    return pd.DataFrame(
        [
            {"first": d, "second": e, **gap._asdict(), "decided": bool(yes)}
            for (d, e), (gap, _), yes in zip(pairs, tests, sure, strict=True)
        ]
    )


# %% [markdown]
# For each kind of victims:

# %%
finals = {kind: best_of(part) for kind, part in of_kinds(final).items()}
pairs = {kind: compared(best) for kind, best in finals.items()}

# %% [markdown]
# ## After the theft
#
# An owner who cannot prevent a theft may want to prove it.
# In [Theft and proof](joint_track.ipynb) every defense also carries two marks,
# DAWN and a wave, a fingerprint stands beside them, and the attackers come
# again: all of them to an owner with the marks alone, with a perturbation, and
# with a monitor, and the best of each defense to that.
# The models that were stolen are accused, and so are models that never saw an
# answer.
# The track has tables of the thefts by all and by the best, $p$ of innocent
# models, and what failed.

# %%
marked = {
    key: owner
    for key, owner in owners.items()
    if key[0] == "image" or key[1] in proof_tables
}
proof_seeds = range(seed, seed + n_proofs)
track = JOINT.track(marked, contenders(met), proof_seeds, **how)
thefts, caught, innocent, lost = track
failed += lost
print(f"{len(thefts) + len(caught):,} thefts, {len(lost)} cells failed")

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Pictures with marks: fidelity of the copy, and the median over owners of -log10 p by each proof. 2 is p = 0.01; the wave cannot pass 3, the fingerprint hardly 2. A dash: the pair does not meet, or nothing can be claimed."}, "image": {"alt": "Four heat maps side by side with a number in every cell: fidelity, DAWN, wave and fingerprint; ways of asking and reading in rows, three defenses in columns."}}
JOINT.heat(thefts[thefts.kind == "image"])
plt.show()

# %% tags=["remove-input"] mystnb={"figure": {"caption": "The same for softmax regressions and trees."}, "image": {"alt": "Four heat maps side by side with a number in every cell: fidelity, DAWN, wave and fingerprint; ways of asking and reading of two kinds of victims in rows, three defenses in columns."}}
of_tables = thefts[thefts.kind != "image"]
JOINT.heat(of_tables.assign(row=of_tables.kind + ": " + of_tables.row))
plt.show()
display(JOINT.escape_table(thefts))
JOINT.false_table(innocent)

# %% [markdown]
# The first table names, of the attackers within two points of the best copy,
# the one whose thefts are proved least often, with the shares of them that a
# mark and that the fingerprint proves; then come the best fidelities that no
# mark, and that nothing, proves.
# The second says how often models are accused that stole nothing.
# With two classes DAWN has no claim.
#
# ## The ranking
#
# The ranks that are left to each defense by the pairs that are decided, 1 the
# best.
# The attackers named are those that the first draws chose, with the number of
# their victims where there are several; the fidelity is that of the race.
# The last column counts thefts that each proof shows at one percent, where
# the same defense also carries the marks and its best attacker comes.


# %%
def ranks(table, names):
    """Defense to its (lowest, highest) possible rank."""
    sure = table[table.decided]
    worse = pd.concat(
        [sure["first"][sure["mean"] > 0], sure["second"][sure["mean"] < 0]]
    ).value_counts()
    better = pd.concat(
        [sure["first"][sure["mean"] < 0], sure["second"][sure["mean"] > 0]]
    ).value_counts()
    return {
        d: (1 + worse.get(d, 0), len(names) - better.get(d, 0)) for d in names
    }


# %% tags=["remove-input"]
lines = []
for kind, table in pairs.items():
    left = table[~table.decided]
    widest = np.abs(left[["low", "high"]].to_numpy()).max(initial=0)
    lines.append(
        f"**{KINDS[kind]}**: {table.decided.sum()} of {len(table)} pairs are "
        f"decided; the 95 % intervals of the others reach "
        f"{widest:.1f} points from zero at most"
    )
display(Markdown("; ".join(lines) + "."))
for kind, best in finals.items():
    display(Markdown(f"**{KINDS[kind].capitalize()}**"))
    part = caught[caught.kind == kind]
    display(ranking(kinds[kind], best, pairs[kind], part))

# %% [markdown]
# ### What is a perturbation worth?
#
# Whoever sells nothing but labels leaves an attacker the labels.
# A perturbation has to be better than that, or the owner could save itself
# the trouble.
# Below zero it protects better than *labels only* does, both against their
# best attackers.
# Each interval stands alone, with the variance of its own pair; which orders
# hold among all pairs is in the ranks above.

# %% tags=["remove-input"]
LIES = [d for d, g in GUARDS.items() if not (g.exact or g.watches)]
against_labels = {
    (kind, d): difference(best[d], best["labels only"])[0]
    for kind, best in finals.items()
    for d in LIES
    if d in best
}
plotting.table(
    [
        {"perturbation": d}
        | {
            f"{KINDS[kind]} (points)": format(
                against_labels.get((kind, d), "–"),
                "+.1f" if (kind, d) in against_labels else "",
            )
            for kind in finals
        }
        for d in LIES
    ]
)

# %% [markdown]
# A defense that keeps every label can never be better than that, since its
# attacker may look at the label alone.
# In the grid this must show: over the same set of attackers and the same
# draws, the best one behind such a defense is at least as good as behind
# labels only.


# %%
def dominance(met, defense):
    """Least lead of the best attacker over that behind labels only."""
    best = met.groupby(["victim", "defense", "attack"]).fidelity.mean()
    best = best.groupby(level=["victim", "defense"]).max().unstack()
    return (best[defense] - best["labels only"]).min()


# %% [markdown]
# Over all such defenses and kinds of victims:

# %%
FAITHFUL = [d for d, g in GUARDS.items() if g.keeps_labels and not g.watches]
leads = {
    (kind, d): dominance(part, d)
    for kind, part in kinds.items()
    for d in FAITHFUL
}
print(f"the least of {len(leads)} leads: {min(leads.values()):.2f} points")

# %% [markdown]
# ### Utility against theft
#
# One point a defense: to the right the owner's answers stay what they were,
# at the bottom the best thief gets little.
# The line joins the defenses for which no other is as good in both and better
# in one.


# %% tags=["hide-input"] mystnb={"figure": {"caption": "What benign clients keep of their answers (100 - 50 L1) against what the best attacker gets, with 95 % intervals over draws; points at one place stand side by side. The line joins the defenses for which no other is as good in both and better in one."}, "image": {"alt": "Panels of numbered points, one for each kind of victims: the share of the answer kept on the horizontal and the best attacker's fidelity on the vertical axis, a line that joins some of them, and a key of the numbers to the right."}}
def frontier(points):
    """The points for which no other is as good in both, left to right."""
    return sorted(
        p
        for p in points
        if not any(q != p and q[0] >= p[0] and q[1] <= p[1] for q in points)
    )


def side_by_side(places, step):
    """The same numbers, those closer than `step` set apart by it."""
    order, shown = np.argsort(places, kind="stable"), np.array(places, float)
    breaks = np.flatnonzero(np.diff(shown[order]) >= step) + 1
    for group in np.split(order, breaks):
        apart = np.arange(len(group)) - (len(group) - 1) / 2
        shown[group] = shown[group].mean() + step * apart
    return shown


def plane(ax, best, cost):
    """Draw what is kept against what the best attacker takes."""
    kept = [100 - 50 * cost[cost.defense == d]["L1"].mean() for d in best]
    ends = [difference(part, 0 * part)[0] for part in best.values()]
    truly = [(x, end.mean) for x, end in zip(kept, ends, strict=True)]
    shown = side_by_side(kept, 0.045 * np.ptp(kept))
    line = [shown[truly.index(point)] for point in frontier(truly)]
    ax.plot(line, [y for _, y in frontier(truly)], "-", marker="", c="0.4")
    for x, end, d in zip(shown, ends, best, strict=True):
        ax.plot([x, x], [end.low, end.high], "-", marker="", color="0.8")
        ax.plot(x, end.mean, "o", ms=13, mfc="white", mec="C0")
        number = list(GUARDS).index(d) + 1
        ax.text(x, end.mean, number, ha="center", va="center", fontsize=8)
    ax.margins(0.06, 0.1)


fig, axes = plt.subplots(3, 1, figsize=(7.4, 9.2), layout="constrained")
for ax, (kind, best) in zip(axes, finals.items(), strict=True):
    plane(ax, best, cost[cost.kind == kind])
    ax.set(title=KINDS[kind], ylabel="best fidelity (%)")
    ax.set_xlabel("answer kept (%)")
key = "\n".join(f"{n}  {d}" for n, d in enumerate(GUARDS, 1))
axes[0].text(1.03, 1, key, transform=axes[0].transAxes, va="top", fontsize=9)
plt.show()

# %% [markdown]
# ## Take it with you
#
# The link below holds the full table as CSV, one row a meeting, with what the
# defense costs the owner beside it; marked owners have the p-values of their
# claims there.


# %% tags=["remove-input"]
def download(table, name):
    """A link that saves a table as a CSV file; the page itself carries it."""
    text = base64.b64encode(table.to_csv(index=False).encode()).decode()
    return HTML(
        f'<a download="{name}" href="data:text/csv;base64,{text}">{name}</a> '
        f"({len(table):,} rows)"
    )


shared = ["kind", "victim", "budget", "defense", "seed"]
full = pd.concat([met, final]).merge(
    cost.drop(columns="attack"), on=shared, how="left", validate="many_to_one"
)
both = {False: full, True: pd.concat([thefts, caught]).drop_duplicates()}
full = pd.concat(both, names=["marked"]).reset_index(0)
download(full.round(3), "arena.csv")

# %% [markdown]
# ### A larger arena
#
# `make arena parameters=FILE.yml` runs this chapter with other knobs, on two
# processes or on the Dask scheduler that the file names.
# The file `benchmarks/arena_larger.yml` asks for more draws, for budgets from
# 500 to 60,000 and for Fashion-MNIST as a second victim.
# Cells that were computed before are not computed again.
#
# ## How it breaks
#
# - **A matrix is not a proof.**
#   The best attacker here is the best of those that were tried; the next
#   idea may be better.
#   A new row can only add to what the best attacker gets.
# - **One distance.**
#   The perturbations were compared at one L1 distance; their own chapters
#   have larger ones, which cost what the distance says.
#   Labels alone and rounding stand at the distance that they have,
#   ModelGuard-S may stay nearer than it might, and a layer of labels and
#   misinformation lie to few benign rows.
# - **Benign clients ask little.**
#   False alarms are those of streams of 300 rows, and attackers send more; a
#   monitor that adds up what a client has learnt would in time accuse an
#   honest client who asks as much.
# - **L1 is one measure of utility.**
#   Clients who only want the label lose nothing by a perturbation that keeps
#   it, and the planes above call it costly.
# - **Variances of one family.**
#   The race lets them help each other, and supposes for that that they are
#   scattered about a common one.
#   The book's tests draw equal defenses of very different variances and count
#   wrong orders; with fewer draws than here, such orders become more frequent.
# - **These victims.**
#   The pairs are decided for the victims of this page; other tables could
#   order them differently.
# - **Rows that are left out.**
#   Uniform noise as pictures, letters without natural ones, dummies beside
#   PRADA's queries: each would be one line of
#   [the contestants](contestants.ipynb), and costs the time of all its
#   meetings.
#   PRADA's attack, its random step and easy rows meet those alone who watch,
#   $k$-center letters and drawn queries those alone whose labels are true and
#   who do not.
#   Where somebody watches, who reads otherwise than as told has many names, if
#   a row has both.
#   Behind ModelGuard-S nobody uses the list of answers that it shows, and no
#   reading is learnt from shadows, as [its
#   chapter](../frontier/model_guard.ipynb) tries both.
#   Exact copies of small networks have no row: their victims are of another
#   kind, and need answers to the last digit.
#
# ## Where the chapters come in
#
# <!-- techniques: arena attacks defenses frontier comparison -->
#
# ## Paper and this run
#
# The survey compares no two defenses under the same attack, so nothing here
# has a published number beside it.
# What is claimed is what the chapters lead one to expect; of pictures it is
# claimed of MNIST at 1,000 queries, whatever else a larger grid holds.


# %% tags=["hide-input"]
def claimed(table):
    """The rows that are claimed of: all tables, and the usual pictures."""
    usual = (table.victim == "mnist") & (table.budget == 1000)
    return table[(table.kind != "image") | usual]


usual, paid = claimed(met), claimed(cost)
seen = usual[usual.kind == "image"]


def mean_of(part, attack, defense):
    """Mean fidelity of one attack on one defense."""
    rows = part[(part.attack == attack) & (part.defense == defense)]
    return rows.fidelity.mean()


def gain(part, defense, attack, other):
    """Mean fidelity of one attack less that of another."""
    return mean_of(part, attack, defense) - mean_of(part, other, defense)


claims.add("cells that failed", len(failed), low=0, high=0)
tables_of_all = met, final, thefts, caught
empty = sum(int(table.fidelity.isna().sum()) for table in tables_of_all)
claims.add("cells without a value or a reason", empty, low=0, high=0)
claims.add(
    "labels kept: least lead of the best attacker over labels only",
    min(leads.values()),
    low=-1e-9,
)
claims.add(
    "defenses that keep labels: labels that they change (%), most",
    paid[paid.defense.isin(FAITHFUL)]["labels changed"].max(),
    low=0,
    high=0,
)
for d in LIES:
    part = paid[(paid.defense == d)]
    if GUARDS[d].answers == "label" or not GUARDS[d].tuned:
        continue
    for kind in kinds:
        meant = CONTEST.DISTANCE["pictures" if kind == "image" else "tables"]
        far = part[part.kind == kind]["L1"].mean()
        claims.add(
            f"{d}, {KINDS[kind]}: L1 on the exam, off the allowed",
            abs(far - meant),
            high=0.05,
        )
claims.add(
    "accuracy lost to any defense, largest mean over victims (points)",
    paid.groupby(["kind", "defense"]).lost.mean().max(),
    high=4,
)
watching = paid[[GUARDS[d].watches for d in paid.defense]]
claims.add(
    "benign clients accused by a monitor, share",
    watching["false alarms"].sum() / watching["clients"].sum(),
    high=0.2,
)

first = "natural + letters"
shown = claimed(thefts)
shown = JOINT.of_rows(shown[shown.kind == "image"]).xs("none", level=1)
for way, reads, low, high in (
    ("DAWN", "label alone", 3.5, np.inf),
    ("DAWN", "averaged", -np.inf, 1),
    ("wave", "as they are", 2, np.inf),
    ("wave", "label alone", -np.inf, 1.6),
):
    claims.add(
        f"pictures, {way}: {first}, {reads}, -log10 p (median)",
        shown[way][f"{first}, {reads}"],
        low=low,
        high=high,
    )
by_mark = [p for (*_, way), p in innocent.items() if way != "fingerprint"]
claims.add(
    "marks: innocent models accused at 1 % (share)",
    np.mean(np.concatenate(by_mark) <= 0.01),
    high=0.1,
)

# %% tags=["hide-input"]
raced = claimed(final)
raced = best_of(raced[raced.kind == "image"])
claims.add(
    "pictures, no defense: the best attacker (%)",
    raced["none"].mean(),
    low=92,
)
claims.add(
    "pictures: what labels only take from the best attacker (points)",
    raced["none"].mean() - raced["labels only"].mean(),
    low=1,
)
for d, back in (
    ("MAD", "computed back"),
    ("MAD-argmax", "computed back"),
    ("reverse sigmoid", "partial Bayes"),
):
    claims.add(
        f"pictures, {d}: {back} less undefended, {first} (points)",
        mean_of(seen, f"{first}, {back}", d) - mean_of(seen, first, "none"),
        low=-3,
        high=3,
    )
claims.add(
    f"pictures, MAD: {first}, computed back less as it is (points)",
    gain(seen, "MAD", f"{first}, computed back", first),
    low=8,
)

naive = seen[seen.attack == "PRADA's attack"]
naive = naive[naive.defense == "PRADA"]
claims.add(
    "PRADA: queries until PRADA's attack is seen, most",
    naive["queries to alarm"].max(),
    high=500,
)
spared = seen[(seen.defense == "PRADA") & (seen.attack == first)]
claims.add(
    f"PRADA: alarms on {first}",
    spared["queries to alarm"].notna().sum(),
    low=0,
    high=0,
)
solved = met[met.attack.isin(["equation solving"]) & (met.defense == "none")]
claims.add(
    "no defense: fidelity of equation solving, least (%)",
    solved.fidelity.min(),
    low=100,
    high=100,
)
found = met[(met.attack == "path finding") & (met.defense == "none")]
claims.add(
    "no defense: fidelity of path finding on trees, mean (%)",
    found.fidelity.mean(),
    low=85,
)
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise 1 (short)
# :class: attention
# Which attackers are the best against the most defenses?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
for kind, part in kinds.items():
    best = [key[-1] for key in contenders(part, n=1)]
    print(kind, pd.Series(best).value_counts().to_string(), sep="\n")

# %% [markdown]
# :::{admonition} Exercise 2 (long)
# :class: attention
# Is it worth anything to keep the reverse sigmoid's parameters secret?
# Let one attacker know them, one guess half the strength, one [read them off
# its answers](../defenses/deceptive_perturbations.ipynb), and one know of no
# defense.
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
owner = CONTEST.image_owner(seed)
(truly,) = GUARDS["reverse sigmoid"].make(owner, seed)["defenses"]
rows = owner.known.pool[:600]
answers = truly(rows, owner.predict(rows))
rng = np.random.default_rng(seed)
for name, parameters in {
    "known": (truly.beta, truly.gamma),
    "half the strength": (truly.beta / 2, truly.gamma),
    "read off": CONTEST.SIGMOID.read_parameters(answers, rng),
    "not known of": (0, truly.gamma),
}.items():
    guess = CONTEST.SIGMOID.ReverseSigmoid(*parameters)
    read = CONTEST.partial_bayes(
        partial(dict, defenses=[guess]), seed, inverse=None
    )
    copy = owner.known.learn(rows, read(answers), seed)
    same = metrics.fidelity(copy(owner.exam), owner.own)
    print(f"{name}: {same:.1%} fidelity")

# %% [markdown]
# ## Recap
#
# - A perturbation has to be held against selling labels alone, at the
#   distance that it costs, and against the best attacker; the table of worth
#   says what is left.
# - Whoever keeps the label leaves the attacker at least the label.
# - A monitor is made for one way of asking; the columns of the matrix show
#   what is got past it, by natural rows or under many names.
# - Accuracy, distance, false alarms and time are all part of the price; no
#   single number ranks defenses.
# - The best of many is chosen on some draws and judged on others; an order
#   that is not decided among all pairs is open.
#
# ## References
#
# - {cite:t}`gong2020survey` asks for such a comparison and says why it was
#   not possible.
# - {cite:t}`tang2024modelguard` compares perturbations under one bound of
#   utility, against attackers who recover.
# - {cite:t}`smyth2004linear` lets the variances of many comparisons help each
#   other.
# - {cite:t}`rocklin2015dask` introduced Dask, which runs the cells.
