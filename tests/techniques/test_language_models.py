"""Language models: the door, the bias, the layer, against constructed ones."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from mexutils import BudgetExceeded, load_chapter, training

chapter = load_chapter("frontier/language_models")
V, T = 60, 4
EVERY = np.arange(V)


class Constructed:
    """A layer (V, d) that is known, on states that a hash of the prompt draws.

    norm: "layer", "rms", or None for states of no kind at all.
    """

    def __init__(self, d=6, norm="rms", seed=0, size=V, spread=2.0):
        rng = np.random.default_rng(seed)
        self.w = rng.normal(0, spread, (size, d))
        self.gain, self.shift = rng.uniform(0.5, 1.5, d), rng.normal(size=d)
        self.norm, self.size = norm, size

    def states(self, prompts):
        draws = [
            np.random.default_rng(list(p)).normal(size=self.w.shape[1])
            for p in np.asarray(prompts)
        ]
        h = np.array(draws)
        if self.norm == "layer":
            h = h - h.mean(axis=1, keepdims=True)
            return h / h.std(axis=1, keepdims=True) * self.gain + self.shift
        if self.norm == "rms":
            h = h / np.sqrt((h**2).mean(axis=1, keepdims=True))
        return h * self.gain

    def __call__(self, prompts):
        return self.states(prompts) @ self.w.T

    def sell(self, kind=chapter.CompletionAPI, **options):
        return kind(self, self.size, 16, **options)


@pytest.fixture
def victim():
    return Constructed()


def prompts(n, seed=1, size=V):
    return np.random.default_rng(seed).integers(0, size, (n, T))


# --- the door --------------------------------------------------------------


@pytest.mark.parametrize("top", [1, 3, 5])
def test_what_is_listed_is_the_top_of_the_softmax(victim, top):
    (prompt,) = prompts(1)
    tokens, lp = victim.sell(top=top).ask(prompt)
    truth = log_softmax(victim([prompt])[0])
    np.testing.assert_array_equal(tokens[0], (-truth).argsort()[:top])
    np.testing.assert_allclose(lp[0], truth[tokens[0]], atol=1e-13)


def test_a_bias_is_added_to_its_tokens_in_each_call(victim):
    (prompt,) = prompts(1)
    tokens, bias = np.array([[3, 7], [8, 9]]), np.array([[1.0, -2], [30, 29]])
    said, lp = victim.sell(top=V).ask(prompt, tokens, bias)
    for i in range(2):
        z = victim([prompt])[0].copy()
        z[tokens[i]] += bias[i]
        np.testing.assert_allclose(lp[i], log_softmax(z)[said[i]], atol=1e-12)


def test_calls_and_tokens_are_billed(victim):
    api = victim.sell(price_per_1000=10.0)
    (prompt,) = prompts(1)
    api.ask(prompt)
    api.ask(prompt, EVERY[:6].reshape(3, 2), 5.0, client="b")
    assert api.calls == 4 and api.ledger.queries == 4 * (T + 1)
    assert api.ledger.accounts["b"].queries == 3 * (T + 1)
    assert api.ledger.cost == pytest.approx(0.2)


def test_the_likeliest_token_alone_comes_without_numbers(victim):
    (prompt,) = prompts(1)
    tokens, lp = victim.sell(top=0).ask(prompt, EVERY[:3, None], 0.0)
    assert lp.shape == (3, 0)
    assert (tokens == victim([prompt])[0].argmax()).all()


def test_the_owner_rounds_what_leaves(victim):
    (prompt,) = prompts(1)
    _, fine = victim.sell().ask(prompt)
    _, coarse = victim.sell(rounding=partial(np.round, decimals=2)).ask(prompt)
    np.testing.assert_array_equal(coarse, fine.round(2))
    half = chapter.in_16_bits(fine)
    assert half.dtype == float
    np.testing.assert_array_equal(half.astype(np.float16), half)


BAD_CALLS = {
    "no array of tokens": ((5,), "1 dimensions"),
    "an empty prompt": (([],), "1 dimensions"),
    "floats": (([0.5, 1.0],), "whole ones"),
    "another vocabulary": (([0, V],), "another model"),
    "below 0": (([-1],), "another model"),
    "too long": ((np.zeros(17, int),), "1 to 16 tokens"),
    "bias on no token": (([1], [[V]], 1.0), "another model"),
    "a flat list": (([1], [1, 2], 1.0), "2 dimensions"),
    "too large a bias": (([1], [[2]], 100.5), "-100 to 100"),
    "too small a bias": (([1], [[2]], -100.5), "-100 to 100"),
    "NaN": (([1], [[2]], np.nan), "-100 to 100"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_calls_are_refused_and_not_billed(victim, case):
    what, words = BAD_CALLS[case]
    api = victim.sell()
    with pytest.raises(ValueError, match=words):
        api.ask(*what)
    assert api.calls == api.ledger.queries == 0


@pytest.mark.parametrize(
    "options",
    [
        {"top": -1},
        {"top": V + 1},
        {"top": 2.5},
        {"most_bias": -1},
        {"most_bias": np.inf},
        {"budget": -1},
    ],
)
def test_bad_owners_are_refused(victim, options):
    with pytest.raises(ValueError, match="must be|above the most"):
        victim.sell(**options)


def test_the_budget_holds_and_a_refused_call_costs_nothing(victim):
    api = victim.sell(budget=3 * (T + 1))
    (prompt,) = prompts(1)
    api.ask(prompt)
    with pytest.raises(BudgetExceeded, match="15 tokens.*10 are left"):
        api.ask(prompt, EVERY[:3, None], 1.0)
    assert api.calls == 1
    api.ask(prompt, EVERY[:2, None], 1.0)
    with pytest.raises(BudgetExceeded):
        api.ask(prompt)


def test_writing_follows_the_victim_s_probabilities():
    victim = Constructed(d=2, size=5, spread=1.0)
    api = victim.sell(chapter.WritingAPI, top=2)
    start = np.tile([[1, 2]], (20_000, 1))
    text, listed, lp = api.write(start, 1, seed=3)
    truth = np.exp(log_softmax(victim([[1, 2]])[0]))
    seen = np.bincount(text[:, 2], minlength=5) / len(text)
    assert np.abs(seen - truth).max() < 0.02
    np.testing.assert_allclose(np.exp(lp[0, 0]), np.sort(truth)[:-3:-1])
    assert listed.shape == (20_000, 1, 2)


def test_writing_is_billed_by_the_token_and_answers_for_each_prefix(victim):
    api = victim.sell(chapter.WritingAPI)
    start = prompts(3)
    text, listed, lp = api.write(start, 5, seed=1)
    np.testing.assert_array_equal(text[:, :T], start)
    assert api.ledger.queries == 3 * (T + 5) and api.calls == 3
    for i in range(5):
        said, values = victim.sell().ask(text[1, : T + i])
        np.testing.assert_array_equal(said[0], listed[1, i])
        np.testing.assert_allclose(values[0], lp[1, i])
    again, *_ = victim.sell(chapter.WritingAPI).write(start, 5, seed=1)
    other, *_ = victim.sell(chapter.WritingAPI).write(start, 5, seed=2)
    np.testing.assert_array_equal(text, again)
    assert (text != other).any()
    with pytest.raises(ValueError, match="1 to 3 tokens"):
        api.write(start, 14)
    poor = victim.sell(chapter.WritingAPI, budget=26)
    with pytest.raises(BudgetExceeded):
        poor.write(start, 5)
    assert poor.calls == 0


# --- logits through a bias -------------------------------------------------


@pytest.mark.parametrize("top", [2, 3, 5, 7])
def test_all_logits_through_a_bias(victim, top):
    api = victim.sell(top=top)
    (prompt,) = prompts(1)
    z = victim([prompt])[0]
    found = chapter.logits_by_bias(api, prompt, EVERY)
    np.testing.assert_allclose(found, z - z.max(), atol=1e-11)
    assert api.calls == 1 + -(-(V - 1) // (top - 1))


def test_tokens_come_back_in_the_order_that_was_asked(victim):
    (prompt,) = prompts(1)
    z = victim([prompt])[0]
    r = z.argmax()
    tokens = np.array([9, 4, r, 4, 31])
    found = chapter.logits_by_bias(victim.sell(), prompt, tokens)
    np.testing.assert_allclose(found, (z - z.max())[tokens], atol=1e-11)
    found = chapter.logits_by_likeliest(victim.sell(), prompt, tokens, 1e-6)
    np.testing.assert_allclose(found, (z - z.max())[tokens], atol=1e-6)
    only = chapter.logits_by_bias(victim.sell(), prompt, [r])
    assert only == [0]


def test_a_token_that_is_listed_without_a_bias_is_not_read():
    """With a small bias others stay above the raised ones."""

    def logits(prompts):
        z = np.linspace(0, -30, V)
        return np.tile(z, (len(prompts), 1))

    api = chapter.CompletionAPI(logits, V, most_bias=10.0)
    near = np.flatnonzero(np.linspace(0, -30, V) > -9.5)
    found = chapter.logits_by_bias(api, [0], near)
    np.testing.assert_allclose(found, logits([0])[0, near], atol=1e-12)
    with pytest.raises(ValueError, match="do not reach the top"):
        chapter.logits_by_bias(api, [0], EVERY)
    with pytest.raises(ValueError, match="do not reach the top"):
        chapter.logits_by_likeliest(api, [0], EVERY)


def test_the_likeliest_token_tells_any_logit(victim):
    api = victim.sell(top=0)
    (prompt,) = prompts(1)
    z = victim([prompt])[0]
    found = chapter.logits_by_likeliest(api, prompt, EVERY)
    assert np.abs(found - (z - z.max())).max() <= 1e-3
    # one call for the reference, one at 100, and 100 / 2^16 <= 2e-3
    assert api.calls == 1 + (V - 1) * 17
    fine = chapter.logits_by_likeliest(api, prompt, EVERY, 1e-9)
    assert np.abs(fine - (z - z.max())).max() <= 1e-9


@pytest.mark.parametrize(
    ("sold", "read", "words"),
    [
        ({"most_bias": 0}, chapter.logits_by_bias, "takes no bias"),
        ({"most_bias": 0}, chapter.logits_by_likeliest, "takes no bias"),
        ({"top": 1}, chapter.logits_by_bias, "use logits_by_likeliest"),
        ({"top": 0}, chapter.logits_by_bias, "use logits_by_likeliest"),
    ],
)
def test_too_little_in_an_answer_is_said_before_it_is_paid(
    victim, sold, read, words
):
    api = victim.sell(**sold)
    with pytest.raises(ValueError, match=words):
        read(api, prompts(1)[0], EVERY)
    with pytest.raises(ValueError, match=words):
        chapter.steal_size(api, read=read)
    assert api.calls == 0


# --- size, norm, layer -----------------------------------------------------


@pytest.mark.parametrize("d", [3, 6, 11])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_size_and_norm_of_a_constructed_layer(d, norm):
    victim = Constructed(d, norm, seed=d)
    api = victim.sell()
    theft = chapter.steal_size(api)
    assert (theft.d, theft.norm.lower()) == (d, norm)
    assert theft.ratio > 1e8
    own = victim.w[theft.tokens]
    layer = chapter.layer_of(theft.answers, d)
    assert chapter.layer_error(layer, own) < 1e-11
    assert chapter.layer_error(layer[:, :-1], own) > 1e-3


def test_the_number_of_prompts_grows_until_a_fall_is_seen():
    victim = Constructed(40, size=200)
    api = victim.sell()
    theft = chapter.steal_size(api)
    assert theft.d == 40 and theft.answers.shape == (64, 80)
    with pytest.raises(ValueError, match="32 answers show no size"):
        chapter.steal_size(victim.sell(), most=32)


@pytest.mark.parametrize("n", [20, 40, 60])
def test_too_few_answers_or_noise_alone_show_no_size(n):
    for seed in range(20):
        q = np.random.default_rng(seed).normal(size=(n, n + n // 4))
        for affine in (False, True):
            with pytest.raises(ValueError, match="show no size"):
                chapter.size_of(q, affine)


def test_size_is_the_rank_of_logits_and_log_probabilities_alike(victim):
    z = victim(prompts(30))
    for answers in (z, log_softmax(z, axis=1), z - z[:, :1], 3 * z + 7):
        assert chapter.size_of(answers).d == 6 == np.linalg.matrix_rank(z)
    assert chapter.size_of(z, affine=True).d == 6
    flat = Constructed(6, "layer")(prompts(30))
    assert chapter.size_of(flat).d == 6
    assert chapter.size_of(flat, affine=True).d == 5


def test_a_size_needs_numbers(victim):
    z = victim(prompts(30))
    z[3, 4] = np.nan
    for attack in (chapter.size_of, partial(chapter.layer_of, d=6)):
        with pytest.raises(ValueError, match="NaN"):
            attack(z)


def test_the_error_of_a_layer_by_its_definition():
    rng = np.random.default_rng(2)
    truth, g = rng.normal(size=(50, 4)), rng.normal(size=(4, 4))
    centred = truth - truth.mean(axis=0)
    assert chapter.layer_error(centred @ g, truth) < 1e-14
    assert chapter.layer_error(centred @ g, truth + 5) < 1e-14
    noise = np.linalg.qr(np.hstack([centred, rng.normal(size=(50, 1))]))[0]
    off = centred + 0.01 * noise[:, 4:]  # a part that no column explains
    rms = np.sqrt((0.01 * noise[:, 4:]) ** 2 * 4).sum()  # not what is wanted
    found = chapter.layer_error(centred, off)
    wanted = 0.01 * np.std(noise[:, 4]) / off.std()
    assert rms > 0 and found == pytest.approx(wanted, rel=0.05)
    with pytest.raises(np.linalg.LinAlgError):
        chapter.layer_error(centred[:40], truth)  # of another vocabulary


def test_the_layer_spans_the_true_one_by_angles_too(victim):
    from scipy.linalg import subspace_angles

    layer = chapter.layer_of(victim(prompts(20)), 6)
    truth = victim.w - victim.w.mean(axis=0)
    assert subspace_angles(layer, truth).max() < 1e-11


# --- the image -------------------------------------------------------------


@pytest.fixture
def layer(victim):
    return chapter.layer_of(victim(prompts(20)), 6)


@pytest.mark.parametrize("m", [7, 9, 30])
def test_a_vector_is_completed(victim, layer, m):
    z = victim(prompts(1, seed=9))[0]
    some = np.random.default_rng(m).permutation(V)[:m]
    whole = chapter.complete(layer, some, z[some] - z.max())
    np.testing.assert_allclose(whole, z - z.max(), atol=1e-9)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (np.arange(6), "7 numbers are unknown"),
        (np.zeros(30, int), "7 numbers are unknown"),
        (np.arange(54, 64), "tokens 0 to 59"),
        (np.arange(-1, 9), "tokens 0 to 59"),
    ],
)
def test_too_few_or_foreign_tokens_complete_nothing(layer, tokens, words):
    with pytest.raises(ValueError, match=words):
        chapter.complete(layer, tokens, np.zeros(len(tokens)))


def test_values_that_are_too_many_complete_nothing(layer):
    with pytest.raises(ValueError, match="different tokens"):
        chapter.complete(layer, np.arange(10), np.zeros(11))


def test_the_image_knows_its_model(victim, layer):
    some = np.arange(5, 35)
    own, other = (v(prompts(1, 5))[0] for v in (victim, Constructed(seed=1)))
    assert chapter.distance_to(layer, some, own[some]) < 1e-12
    assert chapter.distance_to(layer, some, own[some] + 9) < 1e-12
    assert 0.3 < chapter.distance_to(layer, some, other[some]) <= 1


# --- what the owner can do -------------------------------------------------


def test_a_wider_layer_adds_dimensions_and_keeps_the_old_ones():
    model = chapter.random_model(8, "rms", 0, size=300)
    plain = chapter.next_logits(model, prompts(60, size=300))
    wide = chapter.widened(model, 0.1, more=5)(prompts(60, size=300))
    assert np.linalg.matrix_rank(plain, tol=1e-8) == 8
    assert np.linalg.matrix_rank(wide, tol=1e-8) == 13
    assert chapter.size_of(wide).d == 13
    own = model.out.weight.detach().cpu().numpy()
    assert chapter.layer_error(chapter.layer_of(wide, 13), own) < 1e-9
    assert 0 < chapter.divergence(plain, wide) < 1
    assert chapter.divergence(plain, plain + 4) == pytest.approx(0, abs=1e-14)


def test_the_divergence_by_hand():
    p, q = np.array([[0.5, 0.5]]), np.array([[0.9, 0.1]])
    wanted = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    found = chapter.divergence(np.log(p), np.log(q))
    assert found == pytest.approx(wanted)


def test_random_models_have_the_norm_that_they_are_named_after():
    for norm, size in (("layer", 8), ("rms", 8)):
        model = chapter.random_model(8, norm, 3, size=120)
        theft = chapter.steal_size(chapter.sell(model))
        assert (theft.d, theft.norm.lower()) == (size, norm)


def test_next_logits_are_those_of_the_last_place():
    model = chapter.random_model(8, "layer", 1, size=30)
    rows = prompts(5, size=30)
    with torch.no_grad():
        whole = model(torch.as_tensor(rows, device=training.DEVICE))
    found = chapter.next_logits(model, rows)
    assert found.dtype == float
    np.testing.assert_allclose(found, whole[:, -1].cpu().numpy(), atol=1e-12)


# --- the text --------------------------------------------------------------


def test_the_listed_loss_is_the_full_cross_entropy_on_average():
    rng = np.random.default_rng(4)
    z, own = rng.normal(size=V) * 2, rng.normal(size=V)
    p, lq = np.exp(log_softmax(z)), log_softmax(own)
    best = (-p).argsort()[:5]
    losses, slopes = [], []
    for y in range(V):
        text = np.array([[0, y]])
        listed, lp = best[None, None], np.log(p[best])[None, None]
        loss = chapter.listed_loss(text, listed, lp)
        for at, found in ((own, losses), (z, slopes)):
            logits = torch.tensor(at, requires_grad=True)
            door = logits[None, None].to(training.DEVICE)
            value = loss(door, torch.tensor([0]))
            value.backward()
            found.append(value.item() if at is own else logits.grad.numpy())
    assert p @ losses == pytest.approx(-p @ lq, rel=1e-6)
    # at the truth both gradients are 0 on average; this one moves less
    slopes = np.array(slopes)
    np.testing.assert_allclose(p @ slopes, 0, atol=1e-7)
    plain = np.eye(V) - p
    assert p @ (slopes**2).sum(1) < 0.8 * p @ (plain**2).sum(1)


def test_the_loss_picks_the_windows_of_the_batch():
    text = np.array([[0, 1], [0, 2], [0, 3]])
    listed = np.array([[[1]], [[5]], [[6]]])
    lp = np.log([[[1.0]], [[0.5]], [[0.25]]])
    loss = chapter.listed_loss(text, listed, lp)
    own = torch.zeros(2, 1, 8, device=training.DEVICE)
    one = 0.5 * np.log(8) + 0.5 * np.log(8 / 7) + np.log(7)
    two = 0.25 * np.log(8) + 0.75 * np.log(8 / 7) + np.log(7)
    wanted = (one + two) / 2
    assert float(loss(own, torch.tensor([1, 2]))) == pytest.approx(wanted)


def test_an_exam_by_hand():
    model = chapter.random_model(8, "rms", 0, size=30)
    other = chapter.random_model(8, "rms", 1, size=30)
    windows = np.random.default_rng(5).integers(0, 30, (7, 6))
    assert chapter.exam(model, model, windows)["divergence"] == 0
    found = chapter.exam(model, other, windows)
    apart, surprise = [], []
    for row in windows:
        for i in range(5):
            ours, theirs = (
                log_softmax(chapter.next_logits(m, [row[: i + 1]])[0])
                for m in (model, other)
            )
            apart.append(np.exp(ours) @ (ours - theirs))
            surprise.append(-theirs[row[i + 1]])
    assert found["divergence"] == pytest.approx(np.mean(apart))
    assert found["perplexity"] == pytest.approx(np.exp(np.mean(surprise)))


def test_first_words_follow_zipf():
    api = Constructed(size=100).sell(chapter.WritingAPI)
    text, *_ = chapter.written(api, 3000, 0)
    assert text.shape == (3000, 17)
    share = np.bincount(text[:, 0], minlength=100) / 3000
    wanted = 1 / np.arange(1, 101)
    np.testing.assert_allclose(share, wanted / wanted.sum(), atol=0.03)


def test_students_of_one_seed_begin_alike_and_learn():
    windows = np.tile(np.arange(17) % 3 + 5, (64, 1))
    one, again = (chapter.student_of(windows, None, 30, 4) for _ in range(2))
    for a, b in zip(one.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert chapter.exam(one, one, windows)["perplexity"] < 3
    state = torch.get_rng_state()
    chapter.student_of(windows, None, 1, 0)
    assert torch.equal(state, torch.get_rng_state())
