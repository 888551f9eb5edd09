"""KnockoffNets, from its chapter, against hand values and second routes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mexutils import (
    BudgetExceeded,
    PredictionAPI,
    datasets,
    load_chapter,
    metrics,
    training,
)

knockoff_nets = load_chapter("attacks/knockoff_nets")


class OnlyQuery:
    """What an attacker meets: `query` and nothing else."""

    __slots__ = ("query",)

    def __init__(self, query):
        self.query = query


def brightness(x):
    """A victim whose class says in which fifth of the width the ink is."""
    columns = x.reshape(len(x), 28, 28)[:, :, :25].reshape(len(x), 28, 5, 5)
    ink = columns.sum((1, 3)) + 1e-3
    both = np.concatenate([ink, ink[:, ::-1] * 0.5], axis=1)
    return both / both.sum(axis=1, keepdims=True)


def twenty_six(x):
    """A victim of 26 classes, the last of which are rare: darker is later."""
    ink = x.reshape(len(x), -1).mean(axis=1, keepdims=True)
    scores = -((np.arange(26) - 26 * (1 - 4 * ink)) ** 2) / 2
    both = np.exp(scores - scores.max(axis=1, keepdims=True))
    return both / both.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def pool():
    return datasets.letters(400, seed=3)


@pytest.fixture
def groups(pool):
    return {
        "low": {str(k): np.flatnonzero(pool.y == k) for k in range(26)},
        "high": {str(k): np.flatnonzero(pool.y == k) for k in range(26, 52)},
    }


def test_the_random_policy_repeats_no_picture():
    rng = np.random.default_rng(0)
    assert sorted(knockoff_nets.random_policy(50, 50, rng)) == list(range(50))
    with pytest.raises(ValueError, match="enlarge the pool"):
        knockoff_nets.random_policy(50, 51, rng)


def test_knockoff_learns_the_victim_and_spends_its_budget(pool):
    api = PredictionAPI(brightness, budget=400)
    model = knockoff_nets.knockoff(api, pool.x, 400, seed=0)
    guess = model(torch.tensor(datasets.letters(300, seed=9).x)).argmax(1)
    truth = brightness(datasets.letters(300, seed=9).x).argmax(1)
    assert (guess.numpy() == truth).mean() > 0.8
    assert api.ledger.queries == 400


def test_the_whole_answer_is_learnt_not_its_label(pool, monkeypatch):
    learnt = {}
    monkeypatch.setattr(
        knockoff_nets.training,
        "fit",
        lambda model, x, y, **settings: learnt.update(x=x, y=y) or model,
    )
    knockoff_nets.knockoff(OnlyQuery(brightness), pool.x, 30, seed=0)
    np.testing.assert_array_equal(learnt["y"], brightness(learnt["x"]))


def test_the_recipe_is_the_callers_to_change(pool, monkeypatch):
    used = {}
    monkeypatch.setattr(
        knockoff_nets.training,
        "fit",
        lambda model, x, y, **settings: used.update(settings) or model,
    )
    answers = brightness(pool.x[:54])
    knockoff_nets.train_substitute(pool.x[:54], answers, seed=3)
    assert used == {"steps": 52, "lr": 1.2e-2, "seed": 3}
    patiently = knockoff_nets.patiently(54, times=2)
    knockoff_nets.train_substitute(pool.x[:54], answers, seed=3, **patiently)
    assert used == {"steps": 210, "batch_size": 32, "lr": 6e-3, "seed": 3}


def test_held_out_answers_are_not_learnt(pool, monkeypatch):
    learnt = {}

    def fit(model, x, y, **settings):
        learnt.update(x=x, y=y)
        return model

    monkeypatch.setattr(knockoff_nets.training, "fit", fit)
    answers = brightness(pool.x[:50])
    agreed, model = knockoff_nets.held_out(pool.x[:50], answers, seed=0)
    np.testing.assert_array_equal(learnt["x"], pool.x[:40])
    np.testing.assert_array_equal(learnt["y"], answers[:40])
    with torch.no_grad():
        guess = model.eval()(torch.tensor(pool.x[40:50])).argmax(1).numpy()
    assert agreed == 100 * (guess == answers[40:].argmax(1)).mean()


@pytest.mark.parametrize("returns", ["probabilities", "label"])
def test_the_copy_has_as_many_classes_as_the_answers(pool, groups, returns):
    api = PredictionAPI(twenty_six, returns=returns)
    model = knockoff_nets.knockoff(api, pool.x, 300, seed=0)
    top = twenty_six(pool.x).argmax(axis=1).max()
    assert model[-1].out_features >= top + 1 > 10
    images, answers, _ = knockoff_nets.adaptive_policy(
        api, pool.x, groups, 80, seed=0
    )
    heard = twenty_six(images)
    if returns == "label":
        heard = np.eye(answers.shape[1])[heard.argmax(axis=1)]
    np.testing.assert_allclose(answers, heard)


def few_outputs():
    return torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(784, 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 4),
    )


def many_outputs():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 40))


@pytest.mark.parametrize(
    ("returns", "classes"), [("probabilities", 10), ("label", 5)]
)
def test_a_network_with_few_outputs_gets_a_layer_for_the_rest(
    pool, returns, classes
):
    api = PredictionAPI(brightness, returns=returns)
    with pytest.warns(UserWarning, match=f"4 outputs.*{classes} classes"):
        model = knockoff_nets.knockoff(api, pool.x, 300, 0, few_outputs)
    guess = training.predict_proba(model, pool.x)
    assert guess.shape == (400, classes)
    assert metrics.fidelity(guess, brightness(pool.x)) > 0.6
    assert api.ledger.queries == 300


@pytest.mark.parametrize("returns", ["probabilities", "label"])
def test_outputs_beyond_the_classes_stay_unlikely(pool, returns):
    api = PredictionAPI(brightness, returns=returns)
    model = knockoff_nets.knockoff(api, pool.x, 300, 0, many_outputs)
    guess = training.predict_proba(model, pool.x)
    assert guess.shape == (400, 40)
    assert guess[:, 10:].sum(axis=1).mean() < 0.05
    assert metrics.fidelity(guess[:, :10], brightness(pool.x)) > 0.6


WORDS = np.array([f"class {letter}" for letter in "jihgfedcba"])


def test_labels_in_words_are_learnt_under_their_names(pool):
    api = PredictionAPI(brightness, returns="label", classes=WORDS)
    model = knockoff_nets.knockoff(api, pool.x, 400, seed=0)
    assert set(model.classes_) <= set(WORDS)
    guess = training.predict_proba(model, pool.x)
    named = model.classes_[guess.argmax(axis=1)]
    assert metrics.fidelity(named, api.query(pool.x)) > 0.8


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("classes", [WORDS, np.arange(10) - 2, None])
def test_the_adaptive_policy_takes_labels_of_any_name(
    pool, groups, batch, classes
):
    plain = PredictionAPI(brightness, returns="label")
    arguments = pool.x, groups, 60, 0, ("certainty",), batch
    same, _, _ = knockoff_nets.adaptive_policy(plain, *arguments)
    api = PredictionAPI(brightness, returns="label", classes=classes)
    images, answers, _ = knockoff_nets.adaptive_policy(api, *arguments)
    np.testing.assert_array_equal(images, same)
    if classes is None:
        answers = answers.argmax(axis=1)
    np.testing.assert_array_equal(answers, api.query(images))
    if classes is WORDS:
        model = knockoff_nets.train_substitute(images, answers, 0, steps=3)
        assert set(model.classes_) == set(answers)


def test_a_first_batch_of_one_class_is_no_reason_to_stop(pool, groups):
    api = PredictionAPI(
        lambda x: np.tile([1.0, 0.0, 0.0], (len(x), 1)), returns="label"
    )
    _, answers, _ = knockoff_nets.adaptive_policy(
        api, pool.x, groups, 20, seed=0
    )
    np.testing.assert_array_equal(answers, np.tile([1.0, 0.0], (20, 1)))


class Bag(torch.nn.Module):
    """A network over token numbers, (n, length) whole numbers below 30."""

    def __init__(self, words=30):
        super().__init__()
        self.words = torch.nn.EmbeddingBag(words, 8)
        self.out = torch.nn.Linear(8, 3)

    def forward(self, tokens):
        return self.out(self.words(tokens))


def third_of_the_words(tokens):
    """A victim whose class says which third most of the tokens are from."""
    thirds = np.stack([(np.asarray(tokens) // 10 == k) for k in range(3)], 2)
    return (thirds.sum(axis=1) + 0.01) / (tokens.shape[1] + 0.03)


@pytest.mark.parametrize("kind", [np.int64, np.float64])
def test_rows_of_token_numbers_are_learnt_by_an_embedding(kind):
    tokens = np.random.default_rng(0).integers(0, 30, (600, 12)).astype(kind)
    api = PredictionAPI(third_of_the_words)
    model = knockoff_nets.knockoff(api, tokens, 400, 0, Bag, steps=300)
    guess = training.predict_proba(model, tokens)
    assert metrics.fidelity(guess, third_of_the_words(tokens)) > 0.8


@pytest.mark.parametrize(
    ("pool", "make_model", "error", "words"),
    [
        (np.full((20, 12), 0.5), Bag, ValueError, "whole numbers"),
        (np.full((20, 12), 40), Bag, RuntimeError, "range"),
        (np.ones((20, 1, 5, 5)), few_outputs, RuntimeError, "shapes"),
    ],
    ids=["fractions for an embedding", "unknown word", "another size"],
)
def test_what_the_network_cannot_read_is_never_paid(
    pool, make_model, error, words
):
    api = PredictionAPI(lambda x: np.full((len(x), 3), 1 / 3))
    with pytest.raises(error, match=words):
        knockoff_nets.knockoff(api, pool, 10, 0, make_model)
    assert api.ledger.queries == 0


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be"),
        ({"steps": 0}, ValueError, "steps must be"),
        ({"stepps": 3}, TypeError, "stepps"),
        ({"make_model": torch.nn.Sequential}, RuntimeError, "shapes cannot"),
    ],
)
def test_what_the_training_cannot_do_is_never_paid(
    pool, settings, error, words
):
    api = PredictionAPI(brightness)
    with pytest.raises(error, match=words):
        knockoff_nets.knockoff(api, pool.x, 10, 0, **settings)
    assert api.ledger.queries == 0


def test_a_rehearsal_leaves_no_trace(pool, monkeypatch):
    copies = []
    for rehearse in (knockoff_nets._rehearse, lambda *_: None):
        monkeypatch.setattr(knockoff_nets, "_rehearse", rehearse)
        api = PredictionAPI(brightness)
        model = knockoff_nets.knockoff(api, pool.x, 60, 0, steps=4)
        copies.append(training.predict_proba(model, pool.x))
    np.testing.assert_array_equal(*copies)


def test_a_label_heard_late_leaves_what_was_learnt(pool):
    online = knockoff_nets.OnlineSubstitute(seed=0, classes=2)
    x = torch.tensor(pool.x[:5])
    before = online.model(x).detach()
    knockoff_nets._widen(online, 4)
    after = online.model(x).detach()
    assert after.shape == (5, 4)
    torch.testing.assert_close(after[:, :2], before)
    guess = online.guess_then_learn(pool.x[:4], np.eye(4))
    assert guess.shape == (4, 4)


@pytest.mark.parametrize("shape", [(20, 1, 32, 32), (20, 784)])
def test_pictures_of_another_size_are_refused_before_a_query(shape):
    api = PredictionAPI(lambda x: brightness(np.ones((len(x), 784))))
    other = np.full(shape, 0.5, np.float32)
    with pytest.raises(ValueError, match="pool must be rows"):
        knockoff_nets.knockoff(api, other, 10, seed=0)
    with pytest.raises(ValueError, match="pool must be rows"):
        knockoff_nets.adaptive_policy(
            api, other, {"a": np.arange(20)}, 10, seed=0
        )
    assert api.ledger.queries == 0


def test_a_budget_that_is_too_small_costs_nothing(pool):
    api = PredictionAPI(brightness, budget=99)
    with pytest.raises(BudgetExceeded):
        knockoff_nets.knockoff(api, pool.x, 100, seed=0)
    assert api.ledger.queries == 0


def test_the_adaptive_policy_asks_for_no_more_than_is_left(pool, groups):
    api = PredictionAPI(brightness, budget=20)
    with pytest.raises(BudgetExceeded, match="20 queries left"):
        knockoff_nets.adaptive_policy(api, pool.x, groups, 21, seed=0)
    assert api.ledger.queries == 0
    knockoff_nets.adaptive_policy(api, pool.x, groups, 20.0, 0, batch=8.0)
    assert api.ledger.queries == 20


def test_large_numbers_of_labels_are_names(pool):
    ids = np.array([104_233, 7, 5_000_000_000])

    def answers(x):
        return ids[np.arange(len(x)) % 3]

    api = SimpleNamespace(query=answers)
    model = knockoff_nets.knockoff(api, pool.x, 30, seed=0, steps=2)
    np.testing.assert_array_equal(model.classes_, np.sort(ids))
    assert training.predict_proba(model, pool.x[:2]).shape == (2, 3)


def test_bandit_step_is_the_published_formula():
    node = knockoff_nets.Node({name: [0] for name in "abcd"})
    node.preferences[:] = [0.3, -0.2, 0.0, 1.1]
    node.counts[:] = [0, 0, 4, 0]
    before = node.preferences.copy()
    pi = np.exp(before) / np.exp(before).sum()
    node.learn(2, advantage=0.6)
    expected = before - 0.6 / 5 * pi
    expected[2] = before[2] + 0.6 / 5 * (1 - pi[2])
    np.testing.assert_allclose(node.preferences, expected, atol=1e-15)


def test_bandit_step_climbs_the_expected_reward():
    """Averaged over the policy, the step is the gradient of E[reward]."""
    values = np.array([0.1, 0.9, 0.4])

    def expected_reward(preferences):
        weights = np.exp(preferences)
        return (weights / weights.sum()) @ values

    start = np.array([0.2, -0.1, 0.3])
    steps = []
    for action in range(3):
        node = knockoff_nets.Node({name: [0] for name in "abc"})
        node.preferences[:] = start
        node.learn(action, values[action] - values.mean())
        steps.append(node.preferences - start)
    pi = np.exp(start) / np.exp(start).sum()
    numeric = [
        (expected_reward(start + h) - expected_reward(start - h)) / 2e-6
        for h in 1e-6 * np.eye(3)
    ]
    np.testing.assert_allclose(pi @ np.array(steps), numeric, atol=1e-8)


def test_a_used_up_child_is_drawn_no_more():
    rng = np.random.default_rng(0)
    root = knockoff_nets.label_tree({"a": [0, 1], "b": {"c": [2]}}, rng)
    numbers = [knockoff_nets.draw(root, rng)[0] for _ in range(3)]
    assert sorted(numbers) == [0, 1, 2]
    assert len(root) == 0


def test_rewards_on_hand_values():
    answers = np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]])
    recent = np.array([0.5, 0.3, 0.2])
    guesses = np.array([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]])
    np.testing.assert_allclose(
        knockoff_nets.certainty(answers, recent, guesses), [0.5, 0.25]
    )
    np.testing.assert_allclose(
        knockoff_nets.diversity(answers, recent, guesses), [0.2, 0.3]
    )
    by_torch = torch.nn.functional.cross_entropy(
        torch.tensor(guesses).log(), torch.tensor(answers), reduction="none"
    )
    np.testing.assert_allclose(
        knockoff_nets.loss(answers, recent, guesses), by_torch.numpy()
    )


def test_rewards_are_rescaled_by_their_range_so_far():
    scale = knockoff_nets.RewardScale()
    np.testing.assert_allclose(scale(np.array([2.0, 4.0, 3.0])), [0, 1, 0.5])
    np.testing.assert_allclose(scale(np.array([6.0, 3.0])), [1, 0.25])
    np.testing.assert_allclose(scale(np.array([2.0])), [0])


def replayed(images, trace, branches, batch, window):
    """Rewards and root policies once more, from the answers alone.

    Certainty and diversity, of running ranges; then the bandit at the root.
    """
    answers = brightness(images)
    ranges = np.array([[np.inf, -np.inf]] * 2)
    rewards, policies = [], []
    h, n = np.zeros(len(branches)), np.zeros(len(branches))
    for start in range(0, len(images), batch):
        now = answers[start : start + batch]
        before = answers[max(0, start - window) : start]
        recent = (before if start else now).mean(axis=0)
        ordered = np.sort(now, axis=1)
        raw = np.stack(
            [
                ordered[:, -1] - ordered[:, -2],
                np.clip(now - recent, 0, None).sum(axis=1),
            ]
        )
        ranges[:, 0] = np.minimum(ranges[:, 0], raw.min(axis=1))
        ranges[:, 1] = np.maximum(ranges[:, 1], raw.max(axis=1))
        width = ranges[:, 1] - ranges[:, 0]
        scaled = (raw - ranges[:, :1]) / np.maximum(width, 1e-12)[:, None]
        policies += [np.exp(h) / np.exp(h).sum()] * len(now)
        for r in scaled.mean(axis=0):
            baseline = np.mean(rewards[-window:]) if rewards else r
            action = branches.index(trace[len(rewards)]["names"][0])
            n[action] += 1
            pi = np.exp(h) / np.exp(h).sum()
            h += (r - baseline) / n[action] * (np.eye(len(h))[action] - pi)
            rewards.append(r)
    return np.array(rewards), np.array(policies)


def test_the_adaptive_policy_by_a_second_route(pool, groups):
    images, _, trace = knockoff_nets.adaptive_policy(
        *(OnlyQuery(brightness), pool.x, groups, 120),
        seed=2,
        rewards=("certainty", "diversity"),
    )
    rewards, policies = replayed(images, trace, list(groups), 8, window=25)
    noted = {key: [t[key] for t in trace] for key in ("reward", "policy")}
    np.testing.assert_allclose(noted["reward"], rewards, atol=1e-5)
    np.testing.assert_allclose(noted["policy"], policies, atol=1e-5)
    assert np.ptp(policies[:, 0]) > 0.05  # there was something to replay


def test_without_learning_the_tree_stays_as_it_was_made(pool, groups):
    arguments = OnlyQuery(brightness), pool.x, groups, 80
    *_, off = knockoff_nets.adaptive_policy(*arguments, seed=2, rate=0)
    assert all((step["policy"] == 0.5).all() for step in off)
    *_, on = knockoff_nets.adaptive_policy(*arguments, seed=2)
    assert not (on[-1]["policy"] == 0.5).any()


def test_the_rate_multiplies_each_step(pool, groups):
    moved = {}
    for rate in (1, 3):
        state = knockoff_nets._State(("certainty",), rate)
        state.trace = [{}, {}]
        node = knockoff_nets.Node({"a": [0], "b": [1]})
        state.teach([(node, 0)], 0.2)
        state.teach([(node, 0)], 0.6)
        moved[rate] = node.preferences
    np.testing.assert_allclose(moved[1], [0.1, -0.1])
    np.testing.assert_allclose(moved[3], 3 * moved[1])


def test_inner_nodes_learn_as_the_root_does():
    """Both branches hold the same two kinds; one kind is rewarded."""
    bright = np.zeros((400, 1, 28, 28), np.float32)
    bright[:, :, :, :5] = np.linspace(0.5, 1, 400)[:, None, None, None]
    flat = np.full((400, 1, 28, 28), 0.5, np.float32)
    numbers = np.arange(800).reshape(4, 200)
    groups = {
        "first": {"sure": numbers[0], "unsure": numbers[2]},
        "second": {"sure": numbers[1], "unsure": numbers[3]},
    }
    ends = []
    for seed in range(5):
        *_, trace = knockoff_nets.adaptive_policy(
            OnlyQuery(brightness),
            np.concatenate([bright, flat]),
            groups,
            240,
            seed,
            rewards=("certainty",),
        )
        ends += [step["names"][1] == "sure" for step in trace[-120:]]
    assert np.mean(ends) > 0.65


@pytest.mark.parametrize("batch", [1, 8, 50])
def test_adaptive_spends_exactly_its_budget(pool, groups, batch):
    api = PredictionAPI(brightness)
    images, answers, trace = knockoff_nets.adaptive_policy(
        api, pool.x, groups, 50, seed=1, batch=batch
    )
    assert api.ledger.queries == len(images) == len(trace) == 50
    np.testing.assert_allclose(answers, brightness(images))
    assert len(np.unique(images, axis=0)) == 50  # nothing is paid twice
    assert all(0 <= step["reward"] <= 1 for step in trace)


def test_adaptive_prefers_the_branch_that_is_rewarded(pool):
    """Pictures of the first branch get certain answers, the others none."""
    bright = np.zeros((200, 1, 28, 28), np.float32)
    bright[:, :, :, :5] = np.linspace(0.5, 1, 200)[:, None, None, None]
    flat = np.full((200, 1, 28, 28), 0.5, np.float32)
    groups = {"sure": np.arange(200), "unsure": np.arange(200, 400)}
    ends = []
    for seed in range(5):
        _, _, trace = knockoff_nets.adaptive_policy(
            OnlyQuery(brightness),
            np.concatenate([bright, flat]),
            groups,
            150,
            seed,
            rewards=("certainty",),
        )
        np.testing.assert_allclose(trace[0]["policy"], 0.5)
        ends.append(trace[-1]["policy"][0])
    assert np.mean(ends) > 0.7


def test_the_online_guess_is_read_before_the_step(pool):
    online = knockoff_nets.OnlineSubstitute(seed=0)
    with torch.no_grad():
        logits = online.model(torch.tensor(pool.x[:8]))
    before = logits.double().softmax(1).numpy()
    guess = online.guess_then_learn(pool.x[:8], brightness(pool.x[:8]))
    np.testing.assert_allclose(guess, before, atol=1e-6)
    again = online.guess_then_learn(pool.x[:8], brightness(pool.x[:8]))
    assert np.abs(again - before).max() > 1e-6


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_attacks_use_the_query_alone(pool, groups, kind):
    api, x = OnlyQuery(brightness), pool.x.astype(kind)
    knockoff_nets.knockoff(api, x, 20, seed=0)
    knockoff_nets.adaptive_policy(api, x, groups, 20, seed=0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rewards": ("luck",)}, "luck"),
        ({"rewards": ()}, "some of"),
        ({"budget": 401}, "enlarge"),
        ({"budget": 0}, "budget must be a whole number, 1 or more"),
        ({"batch": 0}, "batch must be a whole number, 1 or more"),
        ({"rate": -1}, "rate must be a number from 0"),
        ({"groups": [1, 2]}, "dictionary"),
        ({"groups": {"a": np.arange(401)}}, "0 to 399"),
        ({"groups": {"a": np.arange(9), "b": np.arange(9)}}, "name each once"),
        ({"groups": {}}, "enlarge"),
    ],
)
def test_bad_input_is_refused_before_a_query(pool, groups, change, word):
    api = PredictionAPI(brightness)
    arguments = {"groups": groups, "budget": 10, "seed": 0} | change
    with pytest.raises(ValueError, match=word):
        knockoff_nets.adaptive_policy(api, pool.x, **arguments)
    assert api.ledger.queries == 0


def test_a_pool_with_nan_is_refused_before_a_query(pool, groups):
    api = PredictionAPI(brightness)
    broken = pool.x.copy()
    broken[7] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        knockoff_nets.adaptive_policy(api, broken, groups, 10, seed=0)
    assert api.ledger.queries == 0


def test_blots_repeat_with_their_seed():
    first = knockoff_nets.blots(5, seed=1)
    assert first.shape == (5, 1, 28, 28)
    assert first.min() >= 0 and first.max() <= 1
    np.testing.assert_array_equal(first, knockoff_nets.blots(5, seed=1))
    assert not np.array_equal(first, knockoff_nets.blots(5, seed=2))
