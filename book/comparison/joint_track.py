# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Theft and proof: does a mark survive the attack?
#
# A defense is judged by the copy that it leaves to a thief, and a mark by
# whether it is found in a copy.
# Both are questions about one and the same copy, and are seldom put to it
# together.
# This chapter lets the attackers of the book steal from owners who mark their
# answers, and lets the owners look for their marks in what was stolen.
#
# :::{admonition} In this chapter
# :class: tip
# You will
# - put two marks on top of any defense, and keep a fingerprint beside them;
# - follow one theft to the owner's p-values;
# - cross ways of asking and of reading with proofs;
# - accuse innocent models, of the copy's kind and of another.
#
# <!-- minutes -->
# The proofs are those of [Ownership](../frontier/ownership.ipynb), the
# attackers those of [Contestants](contestants.ipynb).
# [The arena](arena.ipynb) runs the whole of this grid.
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError as error:  # the site's notebooks install it here
    raise RuntimeError("run make book first, or pip install .") from error

# %% tags=["hide-input"]
import time
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from itertools import product
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.tree import DecisionTreeClassifier

from mexutils import (
    BudgetExceeded,
    Claims,
    ClientBlocked,
    Ledger,
    PredictionAPI,
    datasets,
    load_chapter,
    metrics,
    plotting,
)
from mexutils.memo import kept
from mexutils.runs import interval
from mexutils.sweep import Cell, sweep

CONTEST = load_chapter("comparison/contestants")
STEALML = load_chapter("attacks/stealml")
BYLABEL = load_chapter("attacks/stealml_labels")
KNOCKOFF = load_chapter("attacks/knockoff_nets")
PROOF = load_chapter("frontier/ownership")
plotting.use_style()
claims = Claims()

# %% [markdown]
# The knobs: the first secret, how many owners, and the queries of a thief on
# a table and on pictures.

# %% tags=["parameters"]
seed = 0
n_seeds = 5
table_budget = 600
image_budget = 1000
workers = 2
price_per_1000 = 1.50

# %% [markdown]
# ## At a glance
#
# An owner of a softmax regression sells marked probabilities.
# One thief solves equations with them, another learns from them as they are,
# and the third believes the labels alone.

# %%
joint = load_chapter("comparison/joint_track")
digits = partial(joint.CONTEST.table_owner, name="digits", kind="softmax")
for name in ("equation solving", "pool rows", "pool rows, label alone"):
    cell = joint.meeting(digits, "none", name, seed, table_budget)
    found = cell.function(**cell.parameters)
    p = ", ".join(f"{way} {found[way]:.1g}" for way in joint.WAYS)
    print(f"{name}: {found['fidelity']:.1f} %; p: {p}")

# %% [markdown]
# ## The question
#
# | | |
# |---|---|
# | **owner sells** | answers with a wave and with DAWN's wrong labels |
# | **owner keeps** | every row that was asked, its keys, a fingerprint |
# | **thief knows** | which marks there are, and how they are set, no key |
# | **thief sells** | its copy: probabilities, or labels where it has no more |
# | **owner wants** | $p \le 0.01$ for a copy, and for nobody else |
#
# A thief whose copy is good and whose owner can show nothing has won; so has
# an owner, in a way, whose mark survives in every copy worth having.
#
# ## The idea
#
# Both marks are perturbations, so that they stand *behind* any other defense
# in the API, and one theft is judged three times.
# With $F$ the fidelity of the copy and $p_m$ the evidence of proof $m$, each
# attacker is a point
#
# $$
# \bigl(F, \; -\log_{10} p_m \bigr), \qquad
# m \in \{\text{DAWN}, \text{wave}, \text{fingerprint}\},
# $$
#
# and the thief wants to be at the bottom right.
# Of three claims the best is in part the luckiest: a verdict over all three
# multiplies the smallest $p$ by three.
#
# ## From scratch
#
# ### Marks on top of a defense
#
# DAWN may lie in as many labels as the arena's other defenses of labels do,
# and the wave moves a sure answer by as much as tables may be moved.
# A wave of size $\epsilon$ moves a sure answer by
# $2 \epsilon / (1 + 2 \epsilon)$ in the mean, in L1; solved for $\epsilon$:

# %%
RATE = CONTEST.DISTANCE["labels"] / 2
EPSILON = 0.5 * CONTEST.DISTANCE["tables"] / (1 - CONTEST.DISTANCE["tables"])
RATE, EPSILON


# %% [markdown]
# The keys are drawn by the owner's secret seed.


# %%
def waves_of(owner, seed, n=1):
    """`Waves` of n directions; the first is the key of this seed."""
    shape = n, owner.mine[0].size
    directions = np.random.default_rng([seed, 7]).normal(size=shape)
    return PROOF.Waves(directions, owner.mine[:1000])


# %% [markdown]
# Wave and DAWN, in this order, so that DAWN's label is the one that is sold:


# %%
def marks(owner, seed):
    """The two marks of an owner, as perturbations: the wave, then DAWN."""
    key = np.random.default_rng([seed, 8]).bytes(32)
    wave = PROOF.CosineMark(waves_of(owner, seed), EPSILON)
    return wave, PROOF.Dawn(key, RATE)


def with_marks(make, owner, seed):
    """Settings of a defense, with the marks behind it."""
    settings = make(owner, seed)
    lies = *settings.get("defenses", ()), *marks(owner, seed)
    return settings | {"defenses": list(lies)}


# %% [markdown]
# A marked guard is a guard, so that the facets of
# [Contestants](contestants.ipynb) say who meets it: rows that are nearly one
# are lied to independently (DAWN), what is sold as probabilities can be
# computed back (the wave), and a wrong label is one that a first copy finds
# odd, so that it may be sifted.


# %%
def both_back(undo, heard, settings):
    """Answers before the wave, and before the defense by its inverse."""
    *lies, wave, _ = settings["defenses"]
    told = PROOF.unwaved(CONTEST.normalised(heard), wave.epsilon)
    return undo(told, settings | {"defenses": lies}) if undo else told


# %% [markdown]
# The facets of a marked guard:


# %%
def marked(guard):
    """The guard with both marks, as another `Guard`."""
    soft = guard.answers == "probabilities"
    back = partial(both_back, guard.inverse) if soft else None
    facets = dict.fromkeys(("exact", "keeps_labels", "blind", "tuned"), False)
    make = partial(with_marks, guard.make)
    facets |= {"noisy": True, "estranged": True, "inverse": back}
    return replace(guard, make=make, **facets)


MARKED = {name: marked(guard) for name, guard in CONTEST.GUARDS.items()}
len(MARKED)

# %% [markdown]
# Averages remove one mark and algebra the other, so that the thief who knows
# of both does both: it computes back each of the answers to rows that are
# nearly one, and takes their mean.


# %%
def washed(rehearse, seed, inverse):
    """The mean of answers that were each computed back."""
    back = CONTEST.computed_back(rehearse, seed, inverse)
    mean = CONTEST.averaged(rehearse, seed, inverse)
    return lambda heard: mean(back(heard))


THIEVES = CONTEST.CONTESTANTS | {
    name.replace("averaged", "washed"): replace(
        who, read=washed, only_if=(*who.only_if, "invertible")
    )
    for name, who in CONTEST.CONTESTANTS.items()
    if who.read is CONTEST.averaged and who.needs != "labels"
}
"""The contestants, and those who wash; by name."""
print(f"{len(THIEVES) - len(CONTEST.CONTESTANTS)} wash")

# %% [markdown]
# What the marks cost the owner of the softmax regression, behind nothing and
# behind the reverse sigmoid:

# %%
owner = digits(seed)
for name in ("none", "reverse sigmoid"):
    sold = PredictionAPI(owner.predict, **MARKED[name].make(owner, seed))
    told, own = sold.query(owner.exam), owner.predict(owner.exam)
    moved = np.abs(told - own).sum(axis=1).mean()
    right = metrics.accuracy(told, owner.truth)
    print(f"{name}: moved by {moved:.2f}, right on {right:.3f}")
print(f"unmarked: right on {metrics.accuracy(own, owner.truth):.3f}")

# %% [markdown]
# ### A copy that is sold
#
# The arena's learners give a copy that says labels, which is all that a
# fidelity needs.
# Whoever looks for a wave needs the copy's probabilities, and a thief who
# sells them shows them.
# A copy that has none, such as a plane from labels, is sold by its labels.


# %%
def shop(copy, classes):
    """The thief's API; certain answers where a copy knows labels alone."""
    if hasattr(copy, "predict_proba"):
        return PredictionAPI(copy.predict_proba)
    return PredictionAPI(lambda x: np.eye(classes)[copy(x)])


# %% [markdown]
# ### A fingerprint for any victim
#
# As in its chapter: of many candidates, the points on which the owner's own
# copies agree with it and innocent models do not.
# The law is that of a hundred innocent models of the copy's kind and of a
# hundred of another kind; $p$ is the larger of the two ranks, so that it
# holds for suspects of either.


# %%
class Print(NamedTuple):
    """points: (n, ...) with the owner's labels (n,). usual: (2, m) agreements
    of innocent models, of the same kind and of another.
    """

    points: np.ndarray
    labels: np.ndarray
    usual: np.ndarray


# %% [markdown]
# An innocent model:


# %%
def innocent_model(owner, same, seed):
    """A model that owes the owner nothing, as a `Copy`.

    It learns the true classes of up to 1,000 rows that judge, drawn by the
    seed. same: whether it is of the copy's kind.
    """
    rng = np.random.default_rng([seed, 9])
    drawn = rng.permutation(len(owner.exam))[: min(1000, len(owner.exam) // 2)]
    x, y = owner.exam[drawn], owner.truth[drawn]
    if same:
        return owner.known.learn(x, y, seed)
    plain, tree = LogisticRegression(max_iter=200), DecisionTreeClassifier
    if not (owner.pictures or isinstance(owner.model, tree)):
        plain = tree(min_samples_leaf=4, random_state=seed)
    plain.fit(x.reshape(len(x), -1), y)
    return CONTEST.spoken(plain, owner.classes)


# %% [markdown]
# Another kind is a tree for the owner of a softmax regression, and a softmax
# regression for everybody else.

# %%
for same in (True, False):
    models = [innocent_model(owner, same, s) for s in range(5)]
    labels = metrics.labels_of(owner.predict(owner.mine))
    equal = [metrics.fidelity(m(owner.mine), labels) for m in models]
    print(f"{'same' if same else 'another'} kind: {interval(equal):.3f}")

# %% [markdown]
# So much does an innocent model of the same table agree with the victim, on
# rows that it has not learnt; that is no sign of a theft.


# %%
@lru_cache(maxsize=16)
def fingerprint(owner, n=100):
    """The `Print` of an owner, with n points."""
    x = candidates(owner, N_CANDIDATES, FIRST)
    own, draws = owner.predict(x), range(FIRST, FIRST + STRANGERS + N_USUAL)
    copies = [said_by(owner, None, FIRST + k) for k in range(COPIES)]
    said = [[said_by(owner, kind, s) for s in draws] for kind in (True, False)]
    strangers = [p for part in said for p in part[:STRANGERS]]
    best = PROOF.best_points(own, copies, strangers, n)
    labels = own[best].argmax(axis=1)
    usual = [
        [metrics.fidelity(p[best], labels) for p in part[STRANGERS:]]
        for part in said
    ]
    return Print(x[best], labels, np.array(usual))


# %% [markdown]
# Folded: how many models there are; candidates, which are rendered letters for
# pictures and rows around the pool and in the box for tables; the owner's own
# copies; and what innocent models say of the candidates, which is kept,
# since the pictures have one victim for all seeds.


# %% tags=["hide-input"]
N_CANDIDATES, N_USUAL = 3000, 100
"""Candidates, and innocent models of each kind for the law."""
STRANGERS, COPIES = 5, 2
"""Innocent models of each kind, and own copies, to choose points by."""
FIRST = 5000
"""The seed of the first of them."""


def own_copy(owner, seed):
    """A copy that the owner makes of its own model."""
    rows = candidates(owner, 2000, seed + 1)
    return owner.known.learn(rows, owner.predict(rows), seed)


def candidates(owner, n, seed):
    """n rows of no class: letters, or rows around a pool and in the box."""
    if owner.pictures:
        return datasets.letters(n, seed).x
    return CONTEST.own_rows(owner.known, n, seed)


def said_by(owner, same, seed):
    """What one of the owner's models says of the candidates, (3000, c).

    same: whether an innocent one is of the copy's kind; None for a copy.
    """
    if not owner.made:
        return _said_by(owner, same, seed)
    make, (first, *how) = owner.made
    first = 0 if owner.pictures else first
    return kept(_made_said_by, make, (first, *how), same, seed)


def _made_said_by(make, how, *case):
    return _said_by(make(*how), *case)


def _said_by(owner, same, seed):
    if same is None:
        model = own_copy(owner, seed)
    else:
        model = innocent_model(owner, same, seed)
    return model.predict_proba(candidates(owner, N_CANDIDATES, FIRST))


def prepare(owner, same, seed):
    """One model of a fingerprint's law, so that it is kept: a cell."""
    said_by(owner(0), same, seed)
    return {"prepared": 1}


def preparations(owners):
    """Cells for the laws of all picture victims, which take long."""
    kinds = {True: STRANGERS + N_USUAL, False: STRANGERS + N_USUAL}
    kinds |= {None: COPIES}
    return [
        Cell(prepare, {"owner": owner, "same": same, "seed": FIRST + k})
        for (kind, *_), owner in owners.items()
        for same, n in kinds.items()
        for k in range(n)
        if kind == "image"
    ]


# %% [markdown]
# ### Three claims
#
# The owner goes through the rows that it has sold to anybody.
# DAWN's claim asks for the marked ones; with two classes the wrong label is
# the only other one, so that a disagreement is no evidence, and there is no
# claim.
# It starts from what the API would have said without DAWN, since the labels
# that it moves are those that a defense and the wave have left.
# The wave's claim asks up to 1,000 rows, and its law is 999 keys that nobody
# used.

# %%
WAYS = "DAWN", "wave", "fingerprint"
PROBES, KEYS = 1000, 1000


def claimed(owner, seed, asked, suspect, lies=()):
    """Way to `Evidence` of an owner's claims against a suspect's API.

    asked: the rows (n, ...) that the owner has sold answers to. lies: the
    defenses before the marks. A way that cannot say anything is left out.
    """
    own, found = owner.predict(asked), {}
    *before, dawn = *lies, *marks(owner, seed)
    told = PredictionAPI(owner.predict, defenses=before).query(asked)
    if owner.classes > 2 and dawn.told(asked, told)[0].any():
        found["DAWN"] = PROOF.dawn_claim(dawn, told, suspect, asked)
    rows, wave = asked[:PROBES], waves_of(owner, seed, KEYS)
    if len(rows) > 2:
        case = own[:PROBES], suspect, rows, wave(rows)
        found["wave"] = PROOF.cosine_claim(*case)
    points, labels, (same, other) = fingerprint(owner)
    case = PROOF.fingerprint_claim(points, labels, suspect, same)
    p = max(case.p, PROOF.p_of_rank(case.score, other))
    return found | {"fingerprint": case._replace(p=p)}


# %% [markdown]
# The victim itself, and a model that owes it nothing, before all three:

# %%
asked = CONTEST.own_rows(owner.known, table_budget, seed)
sold = PredictionAPI(owner.predict, **MARKED["none"].make(owner, seed))
for name, suspect in {
    "the marked API": sold,
    "innocent": shop(innocent_model(owner, True, seed), owner.classes),
}.items():
    found = claimed(owner, seed, asked, suspect)
    print(name, {way: f"{case.p:.2g}" for way, case in found.items()})

# %% [markdown]
# ### One meeting
#
# As in the arena, but for the end: the copy is judged, and then accused.


# %%
def copy_of(ask, reader, known, seed, budget):
    """The attack's copy, or what is learnt from all that was answered.

    None where nothing was.
    """
    with suppress(ClientBlocked, BudgetExceeded):
        if (copy := ask(reader, known, seed, budget)) is not None:
            return copy
    try:
        rows, heard = reader.transfer_set()
    except ValueError:  # not one answer
        return None
    return known.learn(rows, heard, seed)


# %% [markdown]
# The reading, the names and the rehearsal are those of `CONTEST.meet`:


# %%
def theft(owner, settings, rehearse, who, seed, budget):
    """A copy, or None where not one row was answered, its API and customer.

    who: as `CONTEST.meet`: ask, read, inverse, accounts, times.
    """
    ask, read, inverse, accounts, times = who
    api = PredictionAPI(
        owner.predict, budget=budget, on_alarm="block", **settings
    )
    customer = CONTEST.customer_of(api, accounts, "monitors" in settings)
    way = read(rehearse, seed, inverse)
    reader = CONTEST.Reader(customer, way, times, seed)
    copy = copy_of(ask, reader, owner.known, seed, budget // times)
    return copy, api, customer


# %% [markdown]
# What is not there is accused of nothing, and counts as a copy that says
# class 0.


# %%
def prove(owner, defense, who, seed, budget):
    """Fidelity of a copy from a marked owner, and the owner's p-values.

    owner: seed to `Owner`. defense: with the marks at the end, as those of
    `MARKED`. who: see `theft`.
    """
    start, owner = time.process_time(), owner(seed)
    settings = defense(owner, seed)
    rehearse = partial(defense, owner, seed + 1000)  # a secret of his own
    case = owner, settings, rehearse, who, seed, budget
    copy, api, customer = theft(*case)
    labels, found = np.zeros(len(owner.exam), int), {}
    if copy is not None:
        labels, asked = copy(owner.exam), customer.transfer_set()[0]
        suspect, lies = shop(copy, owner.classes), settings["defenses"][:-2]
        found = claimed(owner, seed, asked, suspect, lies)
    return scored(owner, labels, found, api) | {
        "seconds": time.process_time() - start
    }


# %% [markdown]
# A cell of the grid:


# %%
def meeting(owner, guard, name, seed, budget):
    """The theft by a contestant from a marked guard, both by name, a cell."""
    who, guard = THIEVES[name], MARKED[guard]
    knows = who.read in (CONTEST.computed_back, washed)
    back = guard.inverse if knows else None
    part = who.run, who.read, back, who.accounts, who.times
    how = {"owner": owner, "defense": guard.make, "who": part}
    return Cell(prove, how | {"seed": seed, "budget": budget})


# %% [markdown]
# Folded: the scores of a copy, the grid of all who meet, and the best for each
# defense, which the arena brings; a pair that does not meet has the reason
# that it has there.


# %% tags=["hide-input"]
READS = {
    part.get("read", CONTEST.as_they_are): name or "as they are"
    for name, part in CONTEST.READINGS.items()
} | {washed: "washed"}
ASKS = {part["run"]: name for name, part in CONTEST.ASKING.items()}


def scored(owner, labels, found, api):
    """Scores of labels (n,) of the exam, and of claims `found`, by name."""
    p = {way: case.p for way, case in found.items()}
    scores = {f"{way}: score": float(c.score) for way, c in found.items()}
    return {
        "fidelity": 100 * metrics.fidelity(labels, owner.own),
        "accuracy": 100 * metrics.accuracy(labels, owner.truth),
        "queries": api.ledger.queries,
        "blocked": bool(api.alarms),
        "owner's queries": sum(case.queries for case in found.values()),
    } | ({way: p.get(way) for way in WAYS} | scores)


COLUMNS = ["kind", "victim", "budget", "attack", "defense", "seed"]


def has_many(who):
    """Whether the same attack also comes under many names."""
    return any(
        (other.run, other.read) == (who.run, who.read) and other.accounts > 1
        for other in THIEVES.values()
    )


def grid(owners, guards, seeds):
    """Cells by `COLUMNS`, and reasons of those who do not meet.

    owners: (kind, name, budget) to a function of a seed. guards: names.
    """
    meetings, absent = {}, {}
    for (kind, name, budget), make in owners.items():
        classes = make(0).classes
        for (a, who), d in product(THIEVES.items(), guards):
            guard = MARKED[d]
            why = CONTEST.why_not(who, guard, kind, classes)
            if guard.watches and who.accounts == 1 and has_many(who):
                why = why or "it also comes under many names"
            if why:
                absent[kind, name, a, d] = why
                continue
            for s in seeds:
                key = kind, name, budget, a, d, s
                meetings[key] = meeting(make, d, a, s, budget)
    return meetings, absent


def best_thieves(keys, owners, seeds):
    """Cells by `COLUMNS`: each defense's best attacker that it can meet.

    keys: (kind, name, budget, defense, attack), better ones first. owners: as
    in `grid`; keys of others are left out.
    """
    meetings, seen = {}, set()
    for kind, name, budget, d, a in keys:
        place, who = (kind, name, budget), THIEVES[a]
        if place not in owners or (*place, d) in seen:
            continue
        if CONTEST.why_not(who, MARKED[d], kind, who.classes):
            continue
        seen.add((*place, d))
        for s in seeds:
            cell = meeting(owners[place], d, a, s, budget)
            meetings[*place, a, d, s] = cell
    return meetings


# %% [markdown]
# The grid of the softmax regression, alone and behind the detector of PRADA:

# %%
everyone = {("softmax", "digits", table_budget): digits}
meetings, absent = grid(everyone, ["none", "PRADA"], [seed])
print(f"{len(meetings)} meet, {len(absent)} do not, for:")
print(*sorted(set(absent.values())), sep="\n")

# %% [markdown]
# ## Does it work?
#
# The softmax regression of digits, all attackers of it, alone and behind the
# reverse sigmoid, each against so many owners as the knobs say.
# Folded: the sweep, and the two views of its table.


# %% tags=["hide-input"]
def stolen(meetings, **how):
    """A table of the cells, one a row, and the errors of those that failed.

    how: of `sweep`.
    """
    outcomes = sweep(list(meetings.values()), what="thefts", **how)
    rows = [
        dict(zip(COLUMNS, key, strict=True)) | (outcome.value or {})
        for key, outcome in zip(meetings, outcomes, strict=True)
    ]
    table = pd.DataFrame(rows)
    whos = [THIEVES[key[3]] for key in meetings]
    table["asks"] = [ASKS[who.run] for who in whos]
    table["reads"] = [READS[who.read] for who in whos]
    table["row"] = table.asks + ", " + table.reads
    for way in WAYS:
        p = pd.to_numeric(table[way])
        table[f"{way}: −log₁₀ p"] = -np.log10(p.clip(1e-300, 1)) + 0.0
    return table, [o.error for o in outcomes if o.error]


def of_rows(table):
    """Mean fidelity and evidence of each row and defense.

    Evidence: the median of -log10 p over owners and victims.
    """
    order = ["row", "defense"]
    parts = table.groupby(order, sort=False)
    shown = {"fidelity (%)": parts.fidelity.mean()}
    for way in WAYS:
        shown[way] = parts[f"{way}: −log₁₀ p"].median()
    return pd.DataFrame(shown)


def number(value):
    """A cell's text: a dash for none, digits where they say something."""
    if np.isnan(value):
        return "–"
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def heat(table):
    """Fidelity, and the evidence of each proof, by row and defense."""
    parts = of_rows(table)
    rows = list(dict.fromkeys(table.row))
    guards = list(dict.fromkeys(table.defense))
    size = 8.6, 1.9 + 0.3 * len(rows)
    fig, axes = plt.subplots(
        1, len(parts.columns), figsize=size, sharey=True, layout="constrained"
    )
    for ax, name in zip(axes, parts, strict=True):
        values = parts[name].unstack().reindex(rows)[guards].to_numpy(float)
        low, high = (40, 100) if name == "fidelity (%)" else (0, 3)
        colours = "cividis_r" if name == "fidelity (%)" else "Purples"
        ax.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            colour = "white" if value > (low + high) / 2 else "black"
            how = {"ha": "center", "va": "center", "fontsize": 8}
            ax.text(j, i, number(value), color=colour, **how)
        ax.set_xticks(range(len(guards)), guards, rotation=45)
        plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
        ax.set(title=name)
        ax.grid(False)
    axes[0].set_yticks(range(len(rows)), rows)
    return fig


def plane(table):
    """Every attacker as a point, mean fidelity and median evidence.

    The small points are single thefts.
    """
    fig, axes = plt.subplots(
        len(WAYS), 1, figsize=(6.4, 8.4), sharex=True, layout="constrained"
    )
    for ax, way in zip(axes, WAYS, strict=True):
        for reads, part in table.groupby("reads", sort=False):
            points, name = of_rows(part), f"{way}: −log₁₀ p"
            (line,) = ax.plot(
                points["fidelity (%)"], points[way], ls="", label=reads
            )
            each = {"ls": "", "ms": 3, "alpha": 0.3, "color": line.get_color()}
            ax.plot(part.fidelity, part[name], **each)
        ax.axhline(2, color="0.4", ls="--", lw=1, marker="")
        ax.set(title=way, ylabel="−log₁₀ p")
        ax.set_ylim(-0.15, 1.08 * max(3, ax.dataLim.y1))
    axes[-1].set(xlabel="fidelity (%)")
    axes[0].legend(fontsize=8)
    return fig


# %% mystnb={"figure": {"caption": "Softmax regression of digits with both marks: fidelity of the copy, and the median over owners of -log10 p by each proof, for each attacker and defense. 2 is p = 0.01; the wave cannot pass 3, the fingerprint hardly 2. A dash: the pair does not meet, or nothing can be claimed."}, "image": {"alt": "Four heat maps side by side with a number in every cell: fidelity, DAWN, wave and fingerprint; attackers in rows, two defenses in columns."}}
owners = everyone
seeds = range(seed, seed + n_seeds)
meetings, absent = joint.grid(owners, ["none", "reverse sigmoid"], seeds)
thefts, failed = joint.stolen(meetings, workers=workers)
joint.heat(thefts)
plt.show()

# %% [markdown]
# The same as points: a thief wants to be at the bottom right of all three.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Evidence against fidelity: large, the mean and median of an attacker against one defense; small, single thefts. The dashed line is p = 0.01."}, "image": {"alt": "Three scatter plots one below the other, for DAWN, the wave and the fingerprint: minus the decimal logarithm of p against fidelity in percent, large and small points, a colour for each reading, a dashed line at 2."}}
plane(thefts)
plt.show()

# %% [markdown]
# ### Who gets away?
#
# A theft is *proved* where one of the three claims stands at one percent
# after it was multiplied by their number.
# The fingerprint alone cannot reach that with a hundred models of each kind,
# so that it is counted by itself, at one percent.
# The hardest to prove is, of the attackers whose copy is as good as the best
# up to two points, the one with the fewest thefts proved, and of several the
# best copy; after its fidelity stand the shares of its thefts that a mark and
# that the fingerprint proves.
# The last two columns are the best fidelities of who gets away with every
# theft: from the marks, and from the fingerprint as well.


# %% tags=["hide-input"]
def proved(table):
    """Whether each theft is proved by DAWN or the wave, (n,) of booleans."""
    marks = table[["DAWN", "wave"]].astype(float)
    return (len(WAYS) * marks.min(axis=1) <= 0.01).to_numpy()


def proofs(table):
    """How many thefts have p at most 0.01, by each proof, as text."""
    counts = []
    for way in WAYS:
        p = table[way].astype(float).dropna()
        counts.append(f"{way} {np.sum(p <= 0.01)}/{len(p)}" if len(p) else "")
    return ", ".join(filter(None, counts))


def escapes(table, near=2.0):
    """Per victim and defense: the best copies, who of them leaves no proof.

    near: points of fidelity behind the best attacker up to which a copy is
    worth having. Returns a `DataFrame`.
    """
    table = table.assign(proved=proved(table))
    table["printed"] = table.fingerprint.astype(float) <= 0.01
    rows = []
    places = ["kind", "victim", "defense"]
    for (kind, victim, d), part in table.groupby(places, sort=False):
        means = part.groupby("row")[["fidelity", "proved", "printed"]].mean()
        good = means[means.fidelity >= means.fidelity.max() - near]
        best_first = good.sort_values("fidelity", ascending=False)
        least = best_first.proved.idxmin()
        free = means[means.proved == 0].fidelity
        nothing = means[(means.proved == 0) & (means.printed == 0)].fidelity
        rows.append(
            {
                "victim": f"{CONTEST.KINDS[kind]}, {victim}",
                "defense": d,
                "best fidelity (%)": means.fidelity.max(),
                "attackers near it": len(good),
                "hardest to prove": least,
                "its fidelity (%)": good.fidelity[least],
                "proved by a mark": good.proved[least],
                "by the fingerprint": good.printed[least],
                "best that no mark proves (%)": free.max(),
                "best that nothing proves (%)": nothing.max(),
            }
        )
    return pd.DataFrame(rows)


def escape_table(table):
    """`escapes` to look at, in fewer columns."""
    found, shown = escapes(table), []
    for row in found.to_dict("records"):
        shares = row["proved by a mark"], row["by the fingerprint"]
        free = row["best that no mark proves (%)"]
        nothing = row["best that nothing proves (%)"]
        shown.append(
            {
                "victim": row["victim"],
                "defense": row["defense"],
                "best (%)": f"{row['best fidelity (%)']:.1f}",
                "hardest to prove": row["hardest to prove"],
                "its (%)": f"{row['its fidelity (%)']:.1f}",
                "mark, print": "{:.0%}, {:.0%}".format(*shares),
                "no mark (%)": number(free),
                "nothing (%)": number(nothing),
            }
        )
    return plotting.table(shown)


escape_table(thefts)

# %% [markdown]
# ### Who is accused that stole nothing?
#
# Every owner accuses models that never saw an answer of its own, four of the
# copy's kind and four of another.


# %% tags=["hide-input"]
def accuse(owner, same, seed, n):
    """p-values of claims against n innocent models: way to a list."""
    owner = owner(seed)
    asked, found = candidates(owner, 1000, seed), {}
    for s in range(100 * seed, 100 * seed + n):
        suspect = shop(innocent_model(owner, same, s), owner.classes)
        for way, case in claimed(owner, seed, asked, suspect).items():
            found.setdefault(way, []).append(case.p)
    return found


def accusations(owners, seeds, n):
    """Cells by kind, name, whether the same architecture, and seed."""
    return {
        (kind, name, same, s): Cell(
            accuse, {"owner": owner, "same": same, "seed": s, "n": n}
        )
        for (kind, name, _), owner in owners.items()
        for same in (True, False)
        for s in seeds
    }


def false_claims(cells, outcomes):
    """Kind of victim, architecture and way, to p-values of innocent models."""
    found = {}
    for (kind, _, same, _), outcome in zip(cells, outcomes, strict=True):
        for way, p in (outcome.value or {}).items():
            found.setdefault((kind, same, way), []).extend(p)
    return found


STACKS = ["none", "reverse sigmoid", "PRADA"]
"""What stands before the marks where everybody comes."""


def track(owners, keys, seeds, **how):
    """The third axis of the arena, for owners as in `grid`.

    keys: of `best_thieves`. how: of `sweep`. Returns the thefts by all from
    the guards `STACKS`, those by the best of each guard, the p-values of
    `false_claims`, and the errors of what failed.
    """
    sweep(preparations(owners), what="fingerprints", **how)
    everybody, _ = grid(owners, STACKS, seeds)
    thefts, failed = stolen(everybody, **how)
    champions = best_thieves(keys, owners, seeds)
    caught, lost = stolen(champions, **how)
    cells = accusations(owners, seeds, 4)
    outcomes = sweep(list(cells.values()), what="claims", **how)
    lost += [o.error for o in outcomes if o.error]
    return thefts, caught, false_claims(cells, outcomes), failed + lost


def false_table(found):
    """The p-values of `false_claims` as a table."""
    return plotting.table(
        [
            {
                "victim": CONTEST.KINDS[kind],
                "suspects": "the copy's kind" if same else "another kind",
                "proof": way,
                "claims": len(p),
                "p at most 0.01": int(np.sum(np.array(p) <= 0.01)),
                "smallest p": f"{min(p):.2g}",
            }
            for (kind, same, way), p in found.items()
        ]
    )


# %%
cells = joint.accusations(owners, range(seed, seed + n_seeds), 4)
outcomes = sweep(list(cells.values()), what="claims", workers=workers)
failed += [o.error for o in outcomes if o.error]
innocent = false_claims(cells, outcomes)


# %% tags=["remove-input"]
false_table(innocent)

# %% [markdown]
# Both laws of the marks are the owner's own chance; the models of one owner
# share its key, so that their $p$ are no independent draws.
#
# ## How it breaks
#
# ### A shop that knows its own rows
#
# A claim is made with rows that the thief has asked, or with points that look
# like nothing that a customer sends.
# The thief has rows of its customers' kind: it sells true answers near them,
# and far from them an answer that has nothing to do with the copy.


# %%
class Shy:
    """A copy that answers rows like its owner's, and a constant to others.

    copy: with `predict_proba`. rows: (m, d) of the thief's own. A row is far
    whose distance to them is above a quantile `near` of theirs to each other.
    """

    def __init__(self, copy, rows, near=0.95):
        self.copy, self.seen = copy, NearestNeighbors().fit(rows)
        apart = self.seen.kneighbors(n_neighbors=1)[0]
        self.limit = np.quantile(apart, near)

    def predict_proba(self, x):
        """Probabilities (n, c); class 0 for every row that is far."""
        said = self.copy.predict_proba(x)
        far = self.seen.kneighbors(x, n_neighbors=1)[0][:, 0] > self.limit
        said[far] = np.eye(said.shape[1])[0]
        return said

    def __call__(self, x):
        """The labels (n,) of the rows x."""
        return self.predict_proba(x).argmax(axis=1)


# %% [markdown]
# The thief of pool rows, who believes labels alone, in both shops:


# %%
def shy_case(owner, seed, budget):
    """Fidelity and p-values of one copy, in an open and in a shy shop."""
    api = PredictionAPI(owner.predict, **MARKED["none"].make(owner, seed))
    asked = CONTEST.own_rows(owner.known, budget, seed)
    labels = metrics.labels_of(api.query(asked))
    copy = owner.known.learn(asked, labels, seed)
    rows = []
    for name, sold in ("open", copy), ("shy", Shy(copy, owner.known.pool)):
        found = claimed(owner, seed, asked, shop(sold, owner.classes))
        equal = 100 * metrics.fidelity(sold(owner.exam), owner.own)
        row = {"shop": name, "fidelity": equal}
        rows.append(row | {way: case.p for way, case in found.items()})
    return rows


# %% tags=["remove-input"]
shops = [row for s in seeds for row in shy_case(digits(s), s, table_budget)]
plotting.table(
    [
        {
            "shop": name,
            "fidelity (%)": f"{interval(part.fidelity):.1f}",
        }
        | {f"p of {way}, median": f"{part[way].median():.2g}" for way in WAYS}
        for name, part in pd.DataFrame(shops).groupby("shop", sort=False)
    ]
)

# %% [markdown]
# What the shy shop costs its own customers is the fidelity that it loses.
# An owner can answer by claims on rows of the customers' kind: marks among
# the rows that look like data, a fingerprint chosen among them.
# How many of these there are, and how often innocent models agree on them, has
# to be measured first.
#
# ### What else limits this page
#
# - **One owner's marks at a time.**
#   Two owners who mark the same copy, or a thief who mixes the answers of
#   several victims, are not tried.
# - **A log of everything.**
#   The owner keeps each row that it has sold, and may ask the suspect all of
#   them; whoever deletes logs can claim the fingerprint alone.
# - **Two classes.**
#   DAWN has nothing to say there by this claim; the second exercise has
#   another one.
# - **Rows that nobody chose by the marks.**
#   The keys' law is right for rows that were not chosen by marked answers; an
#   adaptive thief chooses its rows by them, and they may know the key a
#   little.
# - **A law is for its kind.**
#   The fingerprint's $p$ holds for suspects like the two hundred that it was
#   calibrated on.
#
# ## The bill
#
# What the theft cost, and what the owner pays the thief's shop for the three
# claims, at the price of the ledger:

# %%
price = Ledger(price_per_1000).price
paid = {"thief": thefts.queries, "owner": thefts["owner's queries"]}
for name, queries in paid.items():
    n = queries.mean()
    print(f"{name}: {n:,.0f} queries, ${price(n):.2f}")

# %% [markdown]
# The owner's two hundred models cost it no query, and the time to train them.
#
# ## Paper and this run
#
# {cite:t}`szyller2021dawn` and {cite:t}`zhao2022distillation` try their marks
# on copies by the attacks of their day; nothing here has a published number.
# Of copies of models of graphs, the joint track of
# [GraphIP-Bench](https://github.com/LabRAI/GraphIP-Bench) asks both questions.
# The claims are what the two chapters behind this one lead one to expect.

# %% tags=["hide-input"]
evidence = of_rows(thefts[thefts.defense == "none"]).droplevel("defense")
claims.add("cells that failed", len(failed), low=0, high=0)
claims.add(
    "DAWN, labels alone: -log10 p (median)",
    evidence["DAWN"]["pool rows, label alone"],
    low=3.5,
)
claims.add(
    "DAWN, averaged: -log10 p (median)",
    evidence["DAWN"]["pool rows, averaged"],
    high=1,
)
claims.add(
    "wave, probabilities as they are: -log10 p (median)",
    evidence["wave"]["pool rows, as they are"],
    low=2,
)
for name in ("pool rows, label alone", "pool rows, computed back"):
    claims.add(
        f"wave, {name}: -log10 p (median)", evidence["wave"][name], high=1.6
    )
for way, most in ("DAWN", 1), ("wave", 1.6):
    claims.add(
        f"{way}, pool rows, washed: -log10 p (median)",
        evidence[way]["pool rows, washed"],
        high=most,
    )
claims.add(
    "fidelity, computed back less label alone (points)",
    evidence["fidelity (%)"]["pool rows, computed back"]
    - evidence["fidelity (%)"]["pool rows, label alone"],
    low=1,
)
claims.add(
    "fingerprint: thefts with p at most 0.01 (share)",
    np.mean(thefts.fingerprint.astype(float) <= 0.01),
    low=0.8,
)
fair = [p for (*_, way), part in innocent.items() for p in part
        if way != "fingerprint"]  # fmt: skip
claims.add(
    "marks: innocent models accused at 1 % (share)",
    np.mean(np.array(fair) <= 0.01),
    high=0.15,
)
printed = [p for (*_, way), part in innocent.items() for p in part
           if way == "fingerprint"]  # fmt: skip
claims.add(
    "fingerprint: innocent models accused at 1 % (share)",
    np.mean(np.array(printed) <= 0.01),
    high=0.15,
)
claims.add(
    "shy shop: -log10 p of the fingerprint (median)",
    -np.log10(np.median([row["fingerprint"] for row in shops[1::2]])),
    high=1,
)
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise 1 (short)
# :class: attention
# A thief of pictures meets marked answers: natural digits and letters,
# believed as they are, and computed back.
# What do the claims of the two marks say?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
pictures = joint.CONTEST.image_owner
first = "natural + letters"
for name in (first, f"{first}, computed back"):
    cell = joint.meeting(pictures, "none", name, seed, image_budget)
    how, owner = cell.parameters, pictures(seed)
    rehearse = partial(how["defense"], owner, seed + 1000)
    case = how["defense"](owner, seed), rehearse, how["who"]
    copy, _, customer = theft(owner, *case, seed, image_budget)
    asked, shown = customer.transfer_set()[0], shop(copy, 10)
    own, (_, dawn) = owner.predict(asked), marks(owner, seed)
    wave = waves_of(owner, seed, KEYS)(asked)
    for case in (
        PROOF.dawn_claim(dawn, own, shown, asked),
        PROOF.cosine_claim(own, shown, asked, wave),
    ):
        print(f"{name}: p = {case.p:.2g}, score {case.score:.2f}")
# The fingerprint takes two hundred networks more: see the arena.

# %% [markdown]
# :::{admonition} Exercise 2 (medium)
# :class: attention
# With two classes a disagreement on a marked row is always the wrong label.
# But an innocent model cannot know *which* rows are marked.
# Find a claim for DAWN that holds for two classes.
# :::


# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
def fisher_claim(dawn, own, suspect, asked):
    """p that marked rows are disagreed on no more often than others."""
    marked, _ = dawn.told(asked, own)
    differ = suspect.query(asked).argmax(axis=1) != own.argmax(axis=1)
    counts = [[np.sum(differ & m), np.sum(~differ & m)] for m in
              (marked, ~marked)]  # fmt: skip
    return stats.fisher_exact(counts, alternative="greater").pvalue


table = partial(CONTEST.table_owner, name="breast_cancer", kind="softmax")
for s in seeds:
    owner, (_, dawn) = table(s), marks(table(s), s)
    api = PredictionAPI(owner.predict, defenses=[dawn], returns="label")
    asked = CONTEST.own_rows(owner.known, table_budget, s)
    stranger = innocent_model(owner, True, s)
    tree = DecisionTreeClassifier(random_state=s).fit(asked, api.query(asked))
    for name, copy in {
        "copy": CONTEST.spoken(tree, 2),
        "innocent": stranger,
    }.items():
        p = fisher_claim(dawn, owner.predict(asked), shop(copy, 2), asked)
        print(f"{name}: p = {p:.2g}")
# The marks are independent of where an innocent model differs, so that the
# test is exact; it asks all rows, where the other claim asks the marked ones.

# %% [markdown]
# ## Recap
#
# - Fidelity and evidence are two numbers of one copy; a theft is judged by
#   both.
# - Each mark has a reading that removes it: averaging for a hash, labels or
#   algebra for a wave, both for both; what a reading costs in fidelity is the
#   mark's worth.
# - A fingerprint changes no answer, and its law is that of the models that it
#   was calibrated on.
# - All three are claims on rows that the suspect may refuse to answer
#   honestly.
#
# ## References
#
# - {cite:t}`szyller2021dawn` is DAWN, {cite:t}`zhao2022distillation` the wave,
#   {cite:t}`lukas2021conferrable` the fingerprint.
# - {cite:t}`gong2020survey` asks for comparisons of all with all.
