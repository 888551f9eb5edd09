# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Nearest answer: a chapter to copy
#
# The attacker asks rows, keeps the answers, and answers as the nearest row
# that it has asked.
# This page shows the parts of a chapter, each as short as can be; it is no
# page of the book.
#
# :::{admonition} In this chapter
# :class: tip
# You will
# - copy a model by remembering its answers;
# - see how the copy grows with the queries, and pay for them.
#
# <!-- minutes -->
# Read [the setting](setting.ipynb) first; the symbols are in
# [the notation](notation.md).
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError as error:  # the site's notebooks install it here
    raise RuntimeError("run make book first, or pip install .") from error

# %% [markdown]
# What the chapter needs.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from mexutils import (
    Claims,
    PredictionAPI,
    checks,
    datasets,
    load_chapter,
    metrics,
    plotting,
)
from mexutils.notebook import Markdown
from mexutils.runs import interval

plotting.use_style()
claims = Claims()

# %% [markdown]
# Its knobs, which papermill can set.

# %% tags=["parameters"]
seed = 0
n_seeds = 5
budgets = [50, 100, 200, 400]
price_per_1000 = 1.50

# %% [markdown]
# ## At a glance
#
# The finished technique, as any script would use it: 200 queries, and how
# often the copy then answers as the victim does.

# %%
chapter = load_chapter("_template")
glance, _, _ = datasets.tabular("digits", seed=seed, test_size=0.3)
victim = LogisticRegression(max_iter=1000).fit(glance.x, glance.y)
api = PredictionAPI(victim.predict_proba, budget=200)
copy = chapter.nearest_answer(api, glance.x[:200])
metrics.fidelity(copy(glance.x[200:]), victim.predict(glance.x[200:]))

# %% [markdown]
# ## The question
#
# | | |
# |---|---|
# | **sees** | an answer for each row |
# | **has** | rows of the victim's kind, without labels |
# | **pays** | for every row |
# | **wants** | a copy that answers as the victim does |
#
# ## The idea
#
# With answers $f(x_1), \dots, f(x_N)$ the copy says
#
# $$
# \hat f(x) = f(x_j), \qquad j = \arg\min_i \lVert x - x_i \rVert .
# $$
#
# ## From scratch
#
# The formula is a library's classifier of one neighbour.
# Bad rows are refused before anything is paid.


# %%
def nearest_answer(api, rows):
    """A copy that answers as the nearest row that was asked.

    api: answers rows (n, d). rows: (n, d), all of them are asked. Returns a
    function of rows (m, d) to labels (m,). Raises `ValueError` for rows that
    are no finite numbers, with nothing billed.
    """
    rows = checks.rows(rows, None, name="rows")
    answers = metrics.labels_of(api.query(rows))
    # the label of x_j, j = arg min |x - x_i|
    return KNeighborsClassifier(n_neighbors=1).fit(rows, answers).predict


# %% [markdown]
# On two rows: the copy repeats the answer of the nearer one.

# %%
on_a_line = PredictionAPI(lambda x: np.hstack([1 - x, x]), input_shape=(1,))
nearest_answer(on_a_line, [[0.0], [1.0]])([[0.2], [0.7]])

# %% [markdown]
# ## Does it work?
#
# The next cell measures the copy's fidelity for each budget and seed.


# %%
def fidelity_of(budget, seed):
    """Fidelity of one copy, 0 to 1."""
    mine, rest, _ = datasets.tabular("digits", seed=seed, test_size=0.5)
    victim = LogisticRegression(max_iter=1000).fit(mine.x, mine.y)
    pool, exam = np.array_split(rest.x, 2)
    copy = nearest_answer(PredictionAPI(victim.predict_proba), pool[:budget])
    return metrics.fidelity(copy(exam), victim.predict(exam))


seeds = range(seed, seed + n_seeds)
found = {n: [fidelity_of(n, s) for s in seeds] for n in budgets}

# %% [markdown]
# The figure shows it, with the spread over seeds.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Fidelity of the copy against queries; mean over seeds with 95 % intervals."}, "image": {"alt": "Fidelity from 0 to 1 against the number of queries, one line with a band."}}
fig, ax = plt.subplots()
plotting.band(ax, budgets, list(found.values()), "nearest answer")
ax.set(xlabel="queries", ylabel="fidelity (share of the exam)")
ax.set_xticks(budgets)
ax.legend()
plt.show()

# %% tags=["remove-input"]
Markdown(
    f"With {budgets[-1]} queries the copy answers as the victim does on "
    f"**{interval(100 * np.array(found[budgets[-1]])):.1f} %** of the exam."
)

# %% [markdown]
# ## How it breaks
#
# Say what the technique cannot do, try the opponent who adapts, and show what
# came of it.
# This copy stores all rows that it asked, and knows nothing between them.
#
# ## The bill
#
# What the attack costs at the price of the knobs.

# %%
f"${price_per_1000 * budgets[-1] / 1000:.2f} for {budgets[-1]} queries"

# %% [markdown]
# ## Paper and this run
#
# A claim is what a working technique keeps to and a broken one misses.

# %% tags=["hide-input"]
claims.add(
    f"fidelity with {budgets[-1]} queries",
    np.mean(found[budgets[-1]]),
    low=0.75,
)
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise 1 (short)
# :class: attention
# Ask the same rows of an API that answers labels.
# What changes?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
both = [
    nearest_answer(
        PredictionAPI(victim.predict_proba, returns=reply), glance.x[:100]
    )(glance.x[100:])
    for reply in ("probabilities", "label")
]
(both[0] == both[1]).all()

# %% [markdown]
# Nothing: the copy keeps the labels alone.
#
# ## Recap
#
# - The copy is the list of its answers.
# - What it knows ends where it has asked.
#
# ## References
#
# - {cite:t}`gong2020survey` lists the attacks and defenses of this book.
