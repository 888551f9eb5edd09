# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Language models: the last layer, and the text
#
# A language model answers with a few likely words, and lets its clients make
# words likelier.
# That is enough to read off how wide the model is inside, and its last layer
# up to a change of coordinates.
# This chapter does so with a small transformer, then copies the text itself,
# and prices both.
#
# :::{admonition} In this chapter
# :class: tip
# You will
# - get all logits from an API that lists five words, and from one that names
#   only the likeliest;
# - read the hidden size and the kind of normalisation off singular values,
#   and steal the last layer;
# - complete a vector of 2,000 logits from a few of them, and know a model by
#   its answers;
# - see what rounding, 16 bits, a wider layer and no bias do;
# - train students on the victim's text, and price everything in tokens.
#
# <!-- minutes -->
# Read [StealML](../attacks/stealml.ipynb) first; the symbols are in
# [the notation](../notation.md).
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError as error:  # the site's notebooks install it here
    raise RuntimeError("run make book first, or pip install .") from error

# %% tags=["hide-input"]
import copy
from functools import partial
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch

from mexutils import (
    BudgetExceeded,
    Claims,
    Ledger,
    checks,
    datasets,
    load_chapter,
    plotting,
    training,
    victims,
)
from mexutils.models import Transformer
from mexutils.notebook import Markdown, display
from mexutils.runs import column, interval, paired_difference

plotting.use_style()
claims = Claims()

# %% [markdown]
# ## At a glance
#
# A language model of Reuters stories behind a paid API, which lists the five
# likeliest next words with their log-probabilities and takes a bias.
# The attacker is told nothing about the model:

# %%
chapter = load_chapter("frontier/language_models")
model = victims.reuters_text()
api = chapter.sell(model, top=5)
glance = chapter.steal_size(api)
print(f"hidden size {glance.d}, {glance.norm} norm; {api.calls:,} calls")
print(f"the singular values fall by a factor of {glance.ratio:.0e} there")

# %% [markdown]
# The knobs of this page.

# %% tags=["parameters"]
seed = 0
n_seeds = 5  # students of each kind
n_windows = 1500  # of 16 words, which a student learns from
steps = 280
price_per_1000 = 0.002  # dollars for 1,000 tokens, sent or received

# %% [markdown]
# ## The question
#
# | | |
# |---|---|
# | **sees** | five likely next tokens with log-probabilities, or one token |
# | **sends** | a prompt, and a bias for tokens of its choice |
# | **knows** | the vocabulary; nothing of the model |
# | **pays** | for every token, sent or received |
# | **wants** | the last layer; or a model that writes alike |
#
# No exact copy of a large language model is known.
# {cite:t}`carlini2024stealing` and {cite:t}`finlayson2024logits` found that
# the answers of an API give away a part of one, exactly.
#
# The victim is a transformer of one block, trained on 12,000 stories.
# It tells 2,000 *tokens* apart, which are frequent words and signs; all
# other words are token 0.
# Its weights are embedded in 16 bits; it answers in float64.


# %%
def next_logits(model, prompts):
    """Logits (n, V) of what follows the prompts (n, t), in float64."""
    with torch.no_grad():
        tokens = torch.as_tensor(np.array(prompts), device=training.DEVICE)
        z = model.out(model.states(tokens)[:, -1])
    return z.double().cpu().numpy()


words = np.array(datasets.reuters_tokens().words)
prompt = [list(words).index(w) for w in ("the", "company", "said", "it")]
z = next_logits(model, [prompt])[0]
print("the company said it", *words[(-z).argsort()[:5]], sep=" | ")

# %% [markdown]
# The door is a class that checks, answers and bills.
# A call costs the tokens of its prompt and the one that is answered.


# %% tags=["hide-input"]
class CompletionAPI:
    """A language model as its clients meet it.

    logits: the victim, prompts (n, t) to logits (n, size). size: the number
    of tokens that it knows. context: the longest prompt. top: how many next
    tokens are listed with their log-probabilities; 0 names the likeliest
    alone. most_bias: the largest bias, of either sign; 0 takes none.
    rounding: what is done to log-probabilities before they leave, a function
    of arrays. budget: tokens that are sold in all.
    `ledger` counts tokens as a prediction API's counts queries.
    """

    def __init__(
        self,
        logits,
        size,
        context=16,
        *,
        top=5,
        most_bias=100.0,
        rounding=None,
        budget=None,
        price_per_1000=0.002,
    ):
        self.size = checks.whole("size", size, 2)
        self.context = checks.whole("context", context, 1)
        self.top = checks.whole("top", top, 0, size)
        self.most_bias = checks.share("most_bias", most_bias, 0.0, 1e6)
        if budget is not None:
            budget = checks.whole("budget", budget, 0)
        self._logits, self._rounding, self.budget = logits, rounding, budget
        self.ledger = Ledger(price_per_1000)

    @property
    def calls(self):
        """Calls answered so far."""
        return self.ledger.calls

    def ask(self, prompt, tokens=None, bias=0.0, client="anonymous"):
        """What follows one prompt (t,): as many calls as rows of `tokens`.

        tokens: (n, m), they get the bias, a number or (n, m). Returns the
        listed tokens (n, k) and log-probabilities (n, k), falling; (n, 1)
        and (n, 0) if `top` is 0. What it raises bills nothing.
        """
        prompt = self._tokens("prompt", prompt, 1)
        tokens = np.empty((1, 0), int) if tokens is None else tokens
        tokens = self._tokens("tokens", tokens, 2)
        bias = np.broadcast_to(np.asarray(bias, float), tokens.shape)
        if not (np.abs(bias) <= self.most_bias).all():
            raise ValueError(
                f"this API takes biases from {-self.most_bias:g} to "
                f"{self.most_bias:g}: nothing was billed"
            )
        cost = len(prompt) + 1
        self.afford(len(tokens) * cost)
        z = np.repeat(self._logits(prompt[None]), len(tokens), axis=0)
        biased = np.take_along_axis(z, tokens, axis=1) + bias
        np.put_along_axis(z, tokens, biased, axis=1)
        answer = self._listed(_log_softmax(z))
        for _ in tokens:
            self.ledger.bill(client, cost)
        return answer

    def _tokens(self, name, values, ndim, more=0):
        return _checked(name, values, ndim, self.size, self.context - more)

    def _listed(self, lp):
        k = max(self.top, 1)
        best = np.argpartition(lp, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(lp, best, 1), axis=1)
        best = np.take_along_axis(best, order, axis=1)
        lp = np.take_along_axis(lp, best, axis=1)[:, : self.top]
        return best, lp if self._rounding is None else self._rounding(lp)

    def afford(self, tokens):
        """Raise `BudgetExceeded` where fewer tokens are left."""
        left = np.inf if self.budget is None else self.budget
        left -= self.ledger.queries
        if tokens > left:
            raise BudgetExceeded(
                f"{tokens:,} tokens are asked for and {left:,} are left: "
                "nothing was answered or billed; ask for fewer"
            )


def sell(model, **options):
    """A `CompletionAPI` around a `Transformer`."""
    logits = partial(next_logits, model)
    return CompletionAPI(logits, model.size, model.context, **options)


# %% [markdown]
# What the attacks of this page return, and what is refused, before it is paid
# where that can be known:


# %% tags=["hide-input"]
class Size(NamedTuple):
    """Where the singular values fall steepest, and by how much."""

    d: int
    ratio: float
    values: np.ndarray


class Theft(NamedTuple):
    """A hidden size and a norm, with the answers that tell them."""

    d: int
    norm: str
    ratio: float
    tokens: np.ndarray
    answers: np.ndarray


def _checked(name, values, ndim, size, longest):
    """The values as an array of tokens; prompts no longer than that."""
    values = np.array(values)
    if values.ndim != ndim or not len(values):
        raise ValueError(f"{name} must be an array of {ndim} dimensions")
    if values.size and values.dtype.kind not in "iu":
        raise ValueError(f"{name} must be token numbers, whole ones")
    if values.size and not 0 <= values.min() <= values.max() < size:
        raise ValueError(
            f"{name} must be tokens 0 to {size - 1}, not {values.min()} to "
            f"{values.max()}: is that the vocabulary of another model?"
        )
    if name != "tokens" and not 1 <= values.shape[-1] <= longest:
        raise ValueError(
            f"a prompt must have 1 to {longest} tokens here, not "
            f"{values.shape[-1]}"
        )
    return values


def _refuse_unbiased(api, least):
    if not api.most_bias:
        raise ValueError(
            "this API takes no bias, without which it tells the listed "
            "tokens alone: steal text instead"
        )
    if api.top < least:
        raise ValueError(
            f"this API lists {api.top} tokens, and a reference needs "
            f"{least}: use logits_by_likeliest"
        )


def _refuse_missing(api, missing):
    if missing.any():
        raise ValueError(
            f"{missing.sum()} of {len(missing)} tokens do not reach the top "
            f"with the largest bias, {api.most_bias:g}: leave them out"
        )


def _log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


# %% [markdown]
# What a client sees of the same prompt, and what it pays:

# %%
shop = sell(model, price_per_1000=price_per_1000)
tokens, lp = shop.ask(prompt)
print(*words[tokens[0]], lp[0].round(2), f"${shop.ledger.cost:.6f}")

# %% [markdown]
# ## The idea
#
# A transformer ends with a matrix: a state $h$ of $d$ numbers becomes $V$
# logits,
#
# $$
# z = W h, \qquad W \in \mathbb{R}^{V \times d}, \quad d \ll V .
# $$
#
# So all vectors of logits that the model can ever answer lie in a space of
# $d$ dimensions, the *image* of its last layer.
# Write $n > d$ of them as rows of a matrix $Q = H W^\top$: its rank is $d$,
# and $W$ is what its singular vectors span.
#
# The API shows no logits, but it takes a bias.
# Raise four tokens and a reference $r$ by the same $B$, so that these five
# are listed: $B$ and the softmax cancel,
#
# $$
# z_i - z_r = \ln p_i - \ln p_r .
# $$
#
# ## From scratch: logits through a bias
#
# ### From five log-probabilities
#
# One call finds the likeliest token, which becomes the reference; each
# further call tells four logits.
# A token that stays off the list would be missing, so that is looked for.


# %%
def logits_by_bias(api, prompt, tokens):
    """Logits (m,) of tokens after a prompt, less that of the likeliest.

    Takes 1 + ceil(m / (k - 1)) calls of an API that lists k tokens, one
    token less if the likeliest is among them. Raises `ValueError`: with
    nothing billed where k < 2 or no bias is taken; afterwards where the
    largest bias does not bring a token to the top.
    """
    _refuse_unbiased(api, least=2)
    (first,), _ = api.ask(prompt)
    r, tokens = first[0], np.asarray(tokens)
    rest = np.setdiff1d(tokens, r) if (tokens != r).any() else [r]
    groups = np.resize(rest, (-(-len(rest) // (api.top - 1)), api.top - 1))
    groups = np.insert(groups, 0, r, axis=1)
    said, lp = api.ask(prompt, groups, api.most_bias)
    lp = lp - np.where(said == r, lp, 0).sum(axis=1, keepdims=True)
    z = np.full(api.size, np.nan)
    z[said] = lp  # where all five raised ones are listed, no other is
    _refuse_missing(api, np.isnan(z[tokens]))
    return z[tokens]


# %% [markdown]
# All 2,000 of one prompt, against the truth that only the owner knows:

# %%
shop = sell(model)
found = logits_by_bias(shop, prompt, np.arange(model.size))
by_bias = shop.calls, np.abs(found - (z - z.max())).max()
print("{} calls, largest error {:.0e}".format(*by_bias))

# %% [markdown]
# ### From the likeliest token alone
#
# Token $i$ becomes the likeliest as soon as its bias exceeds $z_r - z_i$.
# Halving finds where: each call halves what is unknown.


# %%
def logits_by_likeliest(api, prompt, tokens, precision=1e-3):
    """The same from nothing but the likeliest token, to a precision.

    Takes 1 + log2(most_bias / (2 precision)) calls a token, rounded up, and
    one. Raises `ValueError` as `logits_by_bias` does.
    """
    _refuse_unbiased(api, least=0)
    first, tokens = api.ask(prompt)[0][0, :1], np.asarray(tokens)
    rest = np.setdiff1d(tokens, first) if (tokens != first).any() else first
    low, high = np.zeros(len(rest)), np.full(len(rest), api.most_bias)
    said, _ = api.ask(prompt, rest[:, None], api.most_bias)
    _refuse_missing(api, said[:, 0] != rest)
    while (high - low).max() > 2 * precision:
        bias = (low + high) / 2
        said, _ = api.ask(prompt, rest[:, None], bias[:, None])
        wins = said[:, 0] == rest
        low, high = np.where(wins, low, bias), np.where(wins, bias, high)
    z = np.zeros(api.size)
    z[rest] = -(low + high) / 2
    return z[tokens]


# %% [markdown]
# For 200 tokens, from an API that lists no log-probabilities:

# %%
some = np.random.default_rng(seed).permutation(model.size)[:200]
shop = sell(model, top=0)
found = logits_by_likeliest(shop, prompt, some)
by_halving = shop.calls / 200, np.abs(found - (z - z.max())[some]).max()
print("{:.1f} calls a token, largest error {:.1e}".format(*by_halving))

# %% [markdown]
# ## From scratch: the size, the norm and the layer
#
# ### The hidden size
#
# Every answer is known up to a number of its own, which taking off each row's
# mean removes.
# The singular values $s_1 \ge s_2 \ge \dots$ of what is left fall steeply
# after the $d$-th.
# Where nothing falls tenfold, there are too few prompts, or there is too much
# noise, and the function says so.

# %%
LEAST_FALL = 10
"""Singular values of too few answers fall by less from one to the next."""


def size_of(answers, affine=False):
    """The dimensions of answers (n, m), with m > n > d.

    affine: of their differences from the mean answer. Raises `ValueError`
    where no singular value is `LEAST_FALL` times the next.
    """
    q = checks.rows(answers, None, name="answers")
    q = q - q.mean(axis=1, keepdims=True)
    q = q - q.mean(axis=0) if affine else q
    # the two means that were taken off leave up to two zeros at the end
    s = np.linalg.svd(q, compute_uv=False)[: min(q.shape) - 2]
    s = np.maximum(s / s[0], 1e-14)
    falls = s[:-1] / s[1:]
    d = int(falls.argmax()) + 1
    if falls[d - 1] < LEAST_FALL:
        raise ValueError(
            f"{len(q)} answers show no size: no singular value is "
            f"{LEAST_FALL} times the next; ask more prompts and tokens"
        )
    return Size(d, falls[d - 1], s)


# %% [markdown]
# A matrix of rank 5 with noise of $10^{-6}$ on it, as a check:

# %%
rng = np.random.default_rng(seed)
q = rng.normal(size=(20, 5)) @ rng.normal(size=(5, 30))
size_of(q + 1e-6 * rng.normal(size=q.shape))[:2]

# %% [markdown]
# ### The norm
#
# Before the last layer the state is normalised.
# RMS norm divides by the length.
# Layer norm first takes off the mean, so that the state has $d - 1$ free
# dimensions around a constant: $h = \gamma \circ n + \beta$, with the entries
# of $n$ adding up to 0.
# The differences between answers then have rank $d - 1$, and the answers rank
# $d$, thanks to $\beta$.
# Where $\beta$ is 0, as before training, a layer norm looks like an RMS norm
# of size $d - 1$.
#
# The number of prompts must exceed $d$, which is not known: it is doubled
# until a fall is seen.
# And rank needs no more than $m > d$ tokens of each vector.


# %%
def steal_size(api, seed=0, most=256, read=logits_by_bias, length=8):
    """Hidden size and norm of the model behind a `CompletionAPI`.

    read: how logits are got. length: tokens in a random prompt. Raises
    `ValueError` where `most` prompts do not show a size.
    """
    rng, n = np.random.default_rng(seed), 32
    while True:
        tokens = rng.permutation(api.size)[: n + n // 4]
        prompts = rng.integers(0, api.size, (n, min(length, api.context)))
        answers = np.array([read(api, p, tokens) for p in prompts])
        try:
            size, flat = size_of(answers), size_of(answers, affine=True)
        except ValueError:
            if (n := 2 * n) > most:
                raise
        else:
            norm = {0: "RMS", 1: "layer"}.get(size.d - flat.d, "unclear")
            return Theft(size.d, norm, size.ratio, tokens, answers)


# %% [markdown]
# On a model with random weights and 32 hidden units:


# %%
def random_model(width, norm, seed, size=2000):
    """A `Transformer` with random weights, its last norm too, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Transformer(size, width, norm=norm)
        with torch.no_grad():
            model.last_norm.weight.uniform_(0.5, 1.5)
            if norm == "layer":
                model.last_norm.bias.normal_(0, 0.3)
    return model.double().to(training.DEVICE).eval()


small = random_model(32, "rms", seed)
shop = sell(small)
theft = steal_size(shop, seed)
print(theft.d, theft.norm, f"{theft.ratio:.0e}", shop.calls, "calls")

# %% [markdown]
# ### The layer
#
# From $Q^\top = U S V^\top$ the copy of the layer is $\hat W = U_d S_d$, and
# $W = \hat W G$ for a $d \times d$ matrix $G$ that the answers do not tell.
# The owner can tell how good the copy is: the best $G$ leaves a residual.


# %%
def layer_of(answers, d):
    """The last layer (m, d) up to a square matrix, from answers (n, m)."""
    q = checks.rows(answers, None, name="answers")
    u, s, _ = np.linalg.svd((q - q.mean(axis=1, keepdims=True)).T, False)
    return u[:, :d] * s[:d]


def layer_error(layer, truth):
    """Relative RMS error of a copy (m, d) of the layer (m, e), aligned.

    A part that is the same for all tokens counts for nothing, since no
    softmax shows it.
    """
    truth = truth - truth.mean(axis=0)
    g = np.linalg.lstsq(layer, truth, rcond=None)[0]
    return np.sqrt(((layer @ g - truth) ** 2).mean() / (truth**2).mean())


# %% [markdown]
# The rows of the layer for the tokens that were asked, of the small model:

# %%
own = small.out.weight.detach().cpu().numpy()[theft.tokens]
f"{layer_error(layer_of(theft.answers, theft.d), own):.0e}"

# %% [markdown]
# All rows of the victim's layer take $d + 6$ full vectors, each as above:

# %%
thief = sell(model, price_per_1000=price_per_1000)
rng = np.random.default_rng([seed, 1])
prompts = rng.integers(0, model.size, (glance.d + 6, 8))
every = np.arange(model.size)
full = np.array([logits_by_bias(thief, p, every) for p in prompts])
layer = layer_of(full, size_of(full).d)
weights = model.out.weight.detach().cpu().numpy()
whole = layer_error(layer, weights)
print(layer.shape, f"relative error {whole:.0e}, {thief.calls:,} calls")

# %% [markdown]
# ### Completing a vector
#
# With the image known, a new vector has only $d$ unknowns, and the reference
# one more.
# A few of its logits give all others.


# %%
def complete(layer, tokens, values):
    """All logits (V,) of a vector, from its values (m,) at m tokens.

    layer: (V, d). Raises `ValueError` for fewer than d + 1 tokens, and for
    tokens that the layer does not have.
    """
    basis = np.hstack([layer, np.ones((len(layer), 1))])
    tokens, (v, unknown) = np.asarray(tokens), basis.shape
    if len(np.unique(tokens)) < unknown or len(tokens) != len(values):
        raise ValueError(
            f"{unknown} numbers are unknown: give the logits of as many "
            "different tokens, or more"
        )
    if tokens.min() < 0 or tokens.max() >= v:
        raise ValueError(f"the layer is of tokens 0 to {v - 1}")
    return basis @ np.linalg.lstsq(basis[tokens], values, rcond=None)[0]


# %% [markdown]
# From $1.5\,d$ logits of each of ten new prompts:

# %%
shop = sell(model)
some = rng.permutation(model.size)[: 3 * layer.shape[1] // 2]
new = rng.integers(0, model.size, (10, 8))
guess = [complete(layer, some, logits_by_bias(shop, p, some)) for p in new]
truth = next_logits(model, new)
off = np.array(guess) - (truth - truth.max(axis=1, keepdims=True))
completed = shop.calls / 10, np.abs(off).max()
print("{:.0f} calls a vector, largest error {:.0e}".format(*completed))

# %% [markdown]
# ### The image is a fingerprint
#
# Another model has another image, so that a few logits tell whether an API
# sells this model.


# %%
def distance_to(layer, tokens, values):
    """Share of values (m,), m > d + 1, that the image cannot explain, RMS."""
    rest = values - complete(layer, tokens, values)[tokens]
    return float(np.sqrt((rest**2).mean()) / np.std(values))


# %% [markdown]
# Asked are $2\,d$ logits of three APIs: the same model, the same model after
# twenty more steps of training, and one with random weights.

# %%
stories = datasets.reuters_tokens().texts
pool = victims.windows(stories[12_000:18_000], 17)
tuned = copy.deepcopy(model).float()
training.fit_text(tuned, pool, steps=20, batch_size=32, lr=1e-4, seed=seed)
asked = rng.permutation(model.size)[: 2 * layer.shape[1]]
prints = {}
suspects = model, tuned.double(), random_model(64, "layer", seed)
for name, m in zip(("same", "tuned", "other"), suspects, strict=True):
    values = logits_by_bias(sell(m), new[0], asked)
    prints[name] = distance_to(layer, asked, values)
print({name: f"{d:.0e}" for name, d in prints.items()})

# %% [markdown]
# The distance tells the same layer from one that was trained on a little, and
# that from a stranger's.
#
# ## Does it work?
#
# Seven victims: the trained one, and random ones of two norms and three
# widths.
# Each is asked through the API, by an attacker who knows none of this.

# %%
models = {"trained, layer, 64": model}
for norm in ("layer", "rms"):
    for width in (32, 64, 96):
        name = f"random, {norm}, {width}"
        models[name] = random_model(width, norm, seed + width)
runs = []
for name, m in models.items():
    shop = sell(m)
    theft = steal_size(shop, seed)
    own = m.out.weight.detach().cpu().numpy()[theft.tokens]
    wrong = layer_error(layer_of(theft.answers, theft.d), own)
    runs.append((name, theft.d, theft.norm, theft.ratio, wrong, shop.calls))

# %% tags=["remove-input"]
plotting.table(
    runs,
    columns=["victim", "size", "norm", "fall", "error of the layer", "calls"],
    formats={
        "fall": "{:.0e}",
        "error of the layer": "{:.0e}",
        "calls": "{:,}",
    },
)

# %% [markdown]
# The size and the norm stand beside what the victims are.
# The calls grow with the square of the size, to the next power of two.
#
# ## How it breaks
#
# ### Rounding and 16 bits
#
# The owner rounds its log-probabilities, or answers in 16 bits.


# %%
def in_16_bits(lp):
    """Log-probabilities as float16 holds them."""
    return np.asarray(lp).astype(np.float16).astype(float)


ROUNDINGS = {
    "float64": None,
    "6 decimals": partial(np.round, decimals=6),
    "4 decimals": partial(np.round, decimals=4),
    "2 decimals": partial(np.round, decimals=2),
    "16 bits": in_16_bits,
}

# %% [markdown]
# The same attack on two victims, from each of these:

# %%
rounded, spectra = [], {}
for name, rounding in ROUNDINGS.items():
    for kind in ("trained, layer, 64", "random, rms, 64"):
        try:
            t = steal_size(sell(models[kind], rounding=rounding), seed)
        except ValueError:
            rounded.append((name, kind, "none seen", "–", np.nan, np.nan))
            continue
        own = models[kind].out.weight.detach().cpu().numpy()[t.tokens]
        error = layer_error(layer_of(t.answers, t.d), own)
        rounded.append((name, kind, t.d, t.norm, t.ratio, error))
        if kind.startswith("trained"):
            spectra[name] = size_of(t.answers).values

# %% [markdown]
# The table shows what the attack says, and the figure the singular values of
# the trained victim's answers.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Singular values of the trained victim's answers, from the largest down, by how the answers were rounded. The dotted line is the true hidden size."}, "image": {"alt": "Falling curves on a logarithmic axis, one for each rounding that shows a size, and a dotted vertical line at 64."}}
display(
    plotting.table(
        rounded,
        columns=["answers", "victim", "size", "norm", "fall", "layer's error"],
        formats={"fall": "{:.0e}", "layer's error": "{:.0e}"},
    )
)
fig, ax = plt.subplots()
for name, s in spectra.items():
    ax.plot(range(1, len(s) + 1), s, ms=2.5, label=name)
ax.axvline(64, color="0.4", ls=":", lw=1)
ax.set(yscale="log", xlabel="number", ylabel="singular value (largest = 1)")
ax.legend()
plt.show()

# %% [markdown]
# Rounding lays a floor, and whatever is weaker than the floor is not counted.
# The trained victim has such a direction: what $\beta$ adds to a layer norm.
# Where the floor lies above it, the attack says one less than the truth, and
# calls the norm RMS; so the true size is the one that is said or one more.
#
# ### The opponent who adapts
#
# Rounded log-probabilities do not help an owner who takes a fine bias: the
# halving reads none of them.
# From two decimals, then, with halving to $10^{-8}$ on 40 tokens of 36
# prompts:

# %%
shop = sell(models["random, layer, 32"], rounding=ROUNDINGS["2 decimals"])
some = rng.permutation(2000)[:40]
fine = partial(logits_by_likeliest, tokens=some, precision=1e-8)
halved = np.array([fine(shop, p) for p in rng.integers(0, 2000, (36, 8))])
by_halves = size_of(halved), size_of(halved, affine=True)
print([s.d for s in by_halves], f"{by_halves[0].ratio:.0e}", end=", ")
print(f"{shop.calls:,} calls, ${shop.ledger.cost:.2f}")

# %% [markdown]
# ### No bias
#
# An owner may withdraw the bias, or the log-probabilities under a bias.
# The second leaves the likeliest token, and so the halving.
# The first leaves five logits of each prompt, and a prompt's state has $d$
# unknowns of its own: no number of prompts makes up for it.

# %%
try:
    steal_size(sell(model, most_bias=0.0))
except ValueError as error:
    print(error)

# %% [markdown]
# ### A wider layer
#
# The owner appends 32 more numbers to the state, drawn through a fixed random
# network, and random columns to $W$.
# The answers change a little; the cost to the clients is the divergence of
# the answers from the true ones, in nats.


# %%
def widened(model, scale, more=32, seed=0):
    """Logits of a model with `more` random dimensions of that scale."""
    rng = np.random.default_rng(seed)
    into, out = rng.normal(size=(2, model.size, more))

    def logits(prompts):
        z = next_logits(model, prompts)
        return z + scale * np.tanh(z @ into / np.sqrt(len(into))) @ out.T

    return logits


def divergence(z, other):
    """Mean divergence (nats) of logits (n, V) from what they should be."""
    lp, lq = _log_softmax(z), _log_softmax(other)
    return (np.exp(lp) * (lp - lq)).sum(axis=1).mean()


# %% [markdown]
# Three scales of the new dimensions:

# %%
wider = []
for scale in (1e-3, 1e-2, 1e-1):
    logits = widened(model, scale)
    t = steal_size(CompletionAPI(logits, model.size), seed)
    own = weights[t.tokens]
    error = layer_error(layer_of(t.answers, t.d), own)
    loss = divergence(truth, logits(new))
    wider.append((scale, t.d, t.ratio, error, loss))

# %% tags=["remove-input"]
plotting.table(
    wider,
    columns=["scale", "size", "fall", "layer's error", "divergence (nats)"],
    formats={
        "scale": "{:g}",
        "fall": "{:.0e}",
        "layer's error": "{:.0e}",
        "divergence (nats)": "{:.0e}",
    },
)

# %% [markdown]
# The smaller the scale, the less the clients lose; the size that is said
# counts every dimension that can be told from rounding.
# So the number $d$ can be hidden.
# The layer cannot: its columns lie in the wider image, as the error shows, and
# completing and recognising go on with 32 more unknowns.
#
# ## The text itself
#
# Without logits there is still the text.
# A *student* of half the victim's width learns from one of three things, of
# the same number of tokens:
#
# - **sampled**: text that the victim wrote, from a first word on;
# - **top-5**: the same text with the five log-probabilities at each place;
# - **real**: stories of the same newswire, which cost nothing here.
#
# An API that writes bills the prompt once, and every token that it samples.


# %% tags=["hide-input"]
class WritingAPI(CompletionAPI):
    """A `CompletionAPI` that writes on, too."""

    def write(self, prompts, length, seed=0, client="anonymous"):
        """Continue each prompt (n, t) by `length` sampled tokens.

        Returns the text (n, t + length), and of each sampled place what
        `ask` lists: tokens and log-probabilities (n, length, k). Raises, with
        nothing billed, `ValueError` for prompts and lengths that cannot be,
        and `BudgetExceeded`.
        """
        length = checks.whole("length", length, 1)
        text, listed = self._tokens("prompts", prompts, 2, length - 1), []
        self.afford(text.size + len(text) * length)
        rng = np.random.default_rng(seed)
        for _ in range(length):
            lp = _log_softmax(self._logits(text))
            sums = np.exp(lp).cumsum(axis=1)
            draw = sums[:, -1:] * rng.uniform(size=(len(text), 1))
            listed.append(self._listed(lp))
            text = np.hstack([text, (sums > draw).argmax(1)[:, None]])
        for row in text:
            self.ledger.bill(client, len(row))
        tokens, lp = zip(*listed, strict=True)
        return text, np.stack(tokens, axis=1), np.stack(lp, axis=1)


# %% [markdown]
# The first words are drawn by Zipf's law, the $i$-th most frequent with a
# chance in proportion to $1/i$.


# %%
def written(api, n, seed):
    """n windows (n, 17) of the victim's text, and what was listed."""
    rank = 1 / np.arange(1, api.size + 1)
    rng = np.random.default_rng(seed)
    start = rng.choice(api.size, (n, 1), p=rank / rank.sum())
    return api.write(start, api.context, seed)


logits = partial(next_logits, model)
writer = WritingAPI(logits, model.size, price_per_1000=price_per_1000)
text, listed, lp = written(writer, 3, seed)
print(" ".join(words[text[0]]))

# %% [markdown]
# The five probabilities and what they leave for all other tokens are known, so
# that the sampled token need only teach how the others share it.
# For the sampled $y$, the listed set $T$ and its complement $\bar T$, with
# $p_{\bar T} = 1 - \sum_{i \in T} p_i$, the student's loss is
#
# $$
# -\sum_{i \in T} p_i \ln \hat p_i - p_{\bar T} \ln \hat p_{\bar T}
#     - [y \in \bar T] \ln \frac{\hat p_y}{\hat p_{\bar T}} ,
# $$
#
# whose mean over $y$ is the full cross-entropy, as that of $-\ln \hat p_y$ is,
# with less noise in its gradient.


# %%
def listed_loss(text, listed, lp):
    """That loss, for `training.fit_text` on windows `text` (n, t + 1).

    listed, lp: (n, t, k), as `WritingAPI.write` returns them.
    """
    listed = torch.as_tensor(listed, device=training.DEVICE)
    p = torch.as_tensor(lp, device=training.DEVICE).exp().float()
    y = torch.as_tensor(text[:, 1:, None], device=training.DEVICE)
    other = (listed != y).all(dim=-1).float()
    left = 1 - p.sum(dim=-1)

    def loss(logits, rows):
        lq = logits.log_softmax(dim=-1)
        known = lq.gather(-1, listed[rows])
        # a student that is sure would leave the logarithm of 0
        rest = torch.log1p(-known.exp().sum(dim=-1).clamp(max=1 - 1e-6))
        share = lq.gather(-1, y[rows])[..., 0] - rest
        value = (p[rows] * known).sum(dim=-1) + left[rows] * rest
        return -(value + other[rows] * share).mean()

    return loss


# %% [markdown]
# The exam is 500 windows of stories that nobody was taught: the divergence of
# the student from the victim, and the *perplexity*, $e$ to the mean of
# $-\ln \hat p$ of the true next token.
# The victim itself gets:


# %%
def exam(model, student, windows):
    """Divergence from the model (nats), and perplexity, on windows."""
    with torch.no_grad():
        x = torch.as_tensor(windows, device=training.DEVICE)
        lp = model(x[:, :-1]).double().log_softmax(dim=-1)
        lq = student(x[:, :-1]).double().log_softmax(dim=-1)
        apart = (lp.exp() * (lp - lq)).sum(dim=-1).mean()
        surprise = -lq.gather(-1, x[:, 1:, None]).mean()
    return {"divergence": float(apart), "perplexity": float(surprise.exp())}


last = victims.text_exam(500)
exam(model, model, last)

# %% [markdown]
# A student has random weights at first, and the recipe is the same for all.


# %%
def student_of(windows, loss, steps, seed):
    """A student of half the width, taught these windows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Transformer(2000, 32)
    how = {"steps": steps, "batch_size": 16, "lr": 1e-2, "seed": seed}
    return training.fit_text(student, windows, loss=loss, **how)


# %% [markdown]
# Each seed has text of its own, and the three students of a seed begin with
# the same weights.

# %%
students = {"sampled": [], "top-5": [], "real": []}
for s in range(seed, seed + n_seeds):
    text, listed, lp = written(writer, n_windows, s)
    real = pool[np.random.default_rng(s).permutation(len(pool))[:n_windows]]
    soft = listed_loss(text, listed, lp)
    for name, rows, loss in (
        ("sampled", text, None),
        ("top-5", text, soft),
        ("real", real, None),
    ):
        student = student_of(rows, loss, steps, s)
        students[name].append(exam(model, student, last))

# %% [markdown]
# The figure shows every student, with the mean and its interval.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Divergence of the students from the victim, in nats a token; every seed, the mean and its 95 % interval."}, "image": {"alt": "Three rows of dots, for students of sampled text, of top-5 answers and of real text, each with a mean and an interval."}}
plotting.interval_plot(
    {name: column(r, "divergence") for name, r in students.items()},
    "divergence from the victim (nats a token)",
)
plt.show()
apart = {name: column(r, "divergence") for name, r in students.items()}
surprise = {name: column(r, "perplexity") for name, r in students.items()}
order = sorted(apart, key=lambda name: apart[name].mean())
helps = paired_difference(apart["sampled"], apart["top-5"])
costs = paired_difference(apart["real"], apart["sampled"])
Markdown(
    f"From the closest to the victim to the farthest: **{', '.join(order)}**. "
    f"Top-5 answers are worth {helps:.2f} nats over the sampled text alone, "
    f"and the victim's text {costs:.2f} over real text of the same size, an "
    f"interval that {'leaves out' if costs.low * costs.high > 0 else 'holds'} "
    "0. "
    "Perplexity: "
    + ", ".join(f"{n} {interval(v):.0f}" for n, v in surprise.items())
    + f"; the victim {exam(model, model, last)['perplexity']:.0f}."
)

# %% [markdown]
# ## The bill
#
# Prices of tokens fall, so that the price is a knob.
# A call here has a prompt of eight tokens and one that is answered.

# %% tags=["remove-input"]
bill = [
    ("size and norm", api.calls, api.ledger.queries),
    ("the whole last layer", thief.calls, thief.ledger.queries),
    ("one vector, five listed", by_bias[0], by_bias[0] * 9),
    ("one vector, image known", completed[0], completed[0] * 9),
    (
        "one vector, likeliest token",
        by_halving[0] * model.size,
        by_halving[0] * model.size * 9,
    ),
    ("text for one student", n_windows, n_windows * 17),
]
plotting.table(
    [
        {
            "what": what,
            "calls": f"{n:,.0f}",
            "tokens": f"{t:,.0f}",
            f"cost ($, {price_per_1000:g} per 1,000)": (
                f"{t * price_per_1000 / 1000:.4f}"
            ),
        }
        for what, n, t in bill
    ]
)

# %% [markdown]
# The calls for the size grow as $d^2$, those for the layer as $d V$.
# {cite:t}`finlayson2024logits` put the hidden size of gpt-3.5-turbo at about
# 4,096, for less than 1,000 dollars.
#
# ## Paper and this run
#
# What is algebra is claimed as algebra, and what is trained by its means.

# %% tags=["hide-input"]
right = [
    name == f"{name.split(',')[0]}, {norm.lower()}, {d}"
    for name, d, norm, *_ in runs
]
claims.add("victims of known size and norm, of 7", sum(right), low=7, high=7)
claims.add("least fall after the size", min(r[3] for r in runs), low=1e6)
claims.add("relative error of the whole layer", whole, high=1e-10)
claims.add("errors of layers, largest", max(r[4] for r in runs), high=1e-10)
claims.add("calls for 2,000 logits, five listed", by_bias[0], high=501)
claims.add("their largest error", by_bias[1], high=1e-9)
claims.add("likeliest token: calls a token", by_halving[0], high=18)
claims.add("likeliest token: largest error", by_halving[1], high=1e-3)
claims.add("image known: calls a vector", completed[0], high=26)
claims.add("image known: largest error", completed[1], high=1e-9)
claims.add("distance of the same model", prints["same"], high=1e-10)
claims.add("distance after twenty steps", prints["tuned"], low=1e-4)
claims.add("distance of another model", prints["other"], low=0.1)
claims.add(
    "likeliest token, two decimals: size of 32 (and 31 apart)",
    by_halves[0].d * (by_halves[1].d == 31),
    low=32,
    high=32,
)
claims.add(
    "wider layer: error of the layer, largest",
    max(r[3] for r in wider),
    high=1e-6,
)
claims.add("divergence: sampled less top-5 (nats)", helps.mean, low=0.05)
claims.add(
    "divergence: real less top-5 (nats)",
    (apart["real"] - apart["top-5"]).mean(),
    low=0.04,
)
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise 1 (medium)
# :class: attention
# An API lists one token with its log-probability, and takes a bias $B$.
# There is no room for a reference.
# Find $\ln p_i$ from the biased $\ln p'_i$ alone.
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
one = sell(model, top=1)
bias = 15.0  # more would leave no digits of 1 - p'
i = int(np.argsort(-z)[4])  # the likeliest is listed without a bias
q = np.exp(one.ask(prompt, [[i]], bias)[1][0, 0])
lp = np.log(q) - np.log(np.exp(bias) * (1 - q) + q)
print(f"{lp:.10f}, in truth {_log_softmax(z[None])[0, i]:.10f}")
# p' = e^B p / (e^B p + 1 - p), solved for p.

# %% [markdown]
# :::{admonition} Exercise 2 (medium)
# :class: attention
# The likeliest token alone, and the image known: how exact is a vector that
# is completed from 128 halvings to $10^{-3}$?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
shop = sell(model, top=0)
coarse = logits_by_likeliest(shop, prompt, asked)
off = complete(layer, asked, coarse) - (z - z.max())
rms = np.sqrt((off**2).mean())
print(f"RMS {rms:.0e}, largest {np.abs(off).max():.0e}", end=", ")
print(f"{shop.calls:,} calls")

# %% [markdown]
# ## Recap
#
# - The logits of a language model lie in as many dimensions as its last state
#   has numbers; answers show how many, and the layer that spans them.
# - A bias turns five log-probabilities, or one token, into any logit.
# - The image completes vectors and recognises models.
# - Rounding hides weak directions; a fine bias brings them back; a wider
#   layer hides the number; no bias ends all of it but the text.
#
# ## References
#
# - {cite:t}`carlini2024stealing` steal the last layer of production models,
#   with log-probabilities and without.
# - {cite:t}`finlayson2024logits` have the image, its completion and its use
#   as a fingerprint.
