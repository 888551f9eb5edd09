"""Deceptive perturbations, from its chapter, by vectors and brute force."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax

from mexutils import PredictionAPI, load_chapter

rs = load_chapter("defenses/deceptive_perturbations")

PUBLISHED = [
    *(0.12109935, 0.0498215, 0.0993958, 0.06410096, 0.11366928),
    *(0.04645343, 0.06419807, 0.30685693, 0.07616714, 0.05823757),
]
SHAPES = [(1.0, 0.1), (1.0, 0.2), (0.5, 0.2), (1.0, 0.4), (0.3, 0.9)]


def simplex(c, n=3000, seed=0):
    """Random answers, from one-hot over flat to exact ties."""
    rng = np.random.default_rng(seed)
    flat = rng.dirichlet(np.full(c, 0.3), n)
    sharp = rng.dirichlet(np.full(c, 0.02), n)
    return np.concatenate([flat, sharp, np.eye(c), np.full((1, c), 1 / c)])


def by_powers(p, beta, gamma):
    """The formula one number at a time, with powers instead of logits."""
    bent = []
    for t in p:
        inside = min(max(t, 1e-9), 1 - 1e-9)
        up, down = inside**gamma, (1 - inside) ** gamma
        bent.append(t - beta * (up / (up + down) - 0.5))
    return [value / math.fsum(bent) for value in bent]


@pytest.mark.parametrize("guard", [True, False])
@pytest.mark.parametrize(
    ("p", "beta", "gamma", "expected"),
    [
        (
            PUBLISHED,
            1.0,
            0.1,
            [
                *(0.107337, 0.077437, 0.097127, 0.082304, 0.103777),
                *(0.076448, 0.082340, 0.206009, 0.087030, 0.080191),
            ],
        ),
        (
            PUBLISHED,
            0.75,
            0.1,
            [
                *(0.109724, 0.072647, 0.097521, 0.079147, 0.105492),
                *(0.071245, 0.079193, 0.223502, 0.085146, 0.076383),
            ],
        ),
        ([0.7, 0.2, 0.1], 1.0, 0.2, [0.579638, 0.236948, 0.183414]),
        ([0.7, 0.2, 0.1], 0.5, 0.4, [0.582888, 0.237032, 0.180080]),
        ([0.9, 0.1], 1.0, 0.2, [0.791873, 0.208127]),
    ],
)
def test_known_vectors(p, beta, gamma, expected, guard):
    p = np.array([p])
    answer = rs.ReverseSigmoid(beta, gamma, keep_top1=guard)(p, p)
    np.testing.assert_allclose(answer[0], expected, atol=1e-6)


@pytest.mark.parametrize(("beta", "gamma"), SHAPES)
@pytest.mark.parametrize("c", [2, 3, 10])
def test_the_answer_is_the_formula_with_powers(c, beta, gamma):
    p = simplex(c, n=40)
    answer = rs.ReverseSigmoid(beta, gamma, keep_top1=False)(p, p)
    expected = [by_powers(row, beta, gamma) for row in p]
    np.testing.assert_allclose(answer, expected, atol=1e-12)


@pytest.mark.parametrize(("beta", "gamma"), SHAPES)
def test_point_symmetry_and_no_normaliser_for_two_classes(beta, gamma):
    t = np.linspace(0, 1, 1001)
    pair = rs.bend(t, beta, gamma) + rs.bend(1 - t, beta, gamma)
    np.testing.assert_allclose(pair, 1, atol=1e-12)
    p = np.stack([t, 1 - t], axis=1)
    answer = rs.ReverseSigmoid(beta, gamma)(p, p)
    np.testing.assert_allclose(answer[:, 0], rs.bend(t, beta, gamma))


@pytest.mark.parametrize(("beta", "gamma"), SHAPES)
def test_slope_by_finite_differences(beta, gamma):
    t, step = np.linspace(0.001, 0.999, 200), 1e-7
    ahead = rs.bend(t + step, beta, gamma) - rs.bend(t - step, beta, gamma)
    slope = rs.bend_slope(t, beta, gamma)
    np.testing.assert_allclose(slope, ahead / (2 * step), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("beta", "gamma", "expected"),
    [
        (1.0, 0.1, 0.0248),
        (1.0, 0.2, 0.0481),
        (1.0, 0.4, 0.0891),
        (1.0, 0.6, 0.1232),
        (0.5, 0.1, 0.0121),
        (0.5, 0.2, 0.0222),
        (0.5, 0.4, 0.0341),
        (0.5, 0.6, 0.0308),
    ],
)
def test_turning_points(beta, gamma, expected):
    turn = rs.turning_point(beta, gamma)
    assert turn == pytest.approx(expected, abs=6e-5)
    t = np.linspace(1e-4, 0.5, 100_001)
    lowest = t[rs.bend(t, beta, gamma).argmin()]
    assert turn == pytest.approx(lowest, abs=1e-5)


@pytest.mark.parametrize(("beta", "gamma"), [(0, 0.2), (1, 1), (0.5, 2)])
def test_where_nothing_turns_says_so(beta, gamma):
    with pytest.raises(ValueError, match="no turning point"):
        rs.turning_point(beta, gamma)


def test_two_classes_keep_the_label_without_a_guard():
    p = simplex(2)
    for beta, gamma in SHAPES:
        answer = rs.ReverseSigmoid(beta, gamma, keep_top1=False)(p, p)
        assert (answer.argmax(1) == p.argmax(1)).all()


def test_above_one_half_the_label_is_safe():
    p = simplex(10)
    p = p[p.max(1) > 0.5]
    answer = rs.ReverseSigmoid(1.0, 0.4, keep_top1=False)(p, p)
    assert len(p) > 1000 and (answer.argmax(1) == p.argmax(1)).all()


def test_the_counter_example_flips_and_the_guard_repairs_it():
    p = np.full((1, 100), 0.97 / 99)
    p[0, 7] = 0.03
    flipped = rs.ReverseSigmoid(1.0, 0.2, keep_top1=False)(p, p)
    assert flipped[0, 7] == pytest.approx(0.00875, abs=5e-6)
    assert flipped[0, 8] == pytest.approx(0.01001, abs=5e-6)
    assert rs.ReverseSigmoid(1.0, 0.2)(p, p).argmax() == 7


@pytest.mark.parametrize("c", [2, 10, 100])
@pytest.mark.parametrize(("beta", "gamma"), [*SHAPES, (1.0, 1.0), (1.0, 3.0)])
def test_the_guard_keeps_the_label_and_the_simplex(c, beta, gamma):
    p = simplex(c)
    answer = rs.ReverseSigmoid(beta, gamma)(p, p)
    assert (answer.argmax(1) == p.argmax(1)).all()
    assert np.isfinite(answer).all() and answer.min() >= 0
    np.testing.assert_allclose(answer.sum(1), 1, atol=1e-12)


def test_the_guard_takes_the_largest_half_that_keeps_the_label():
    """Strength, row by row: the first of beta, beta / 2, ... that does."""
    p = simplex(100, n=300)
    guarded = rs.ReverseSigmoid(1.0, 0.4)(p, p)
    expected, halvings = np.full_like(p, np.nan), np.full(len(p), -1)
    for k in range(28):
        free = rs.ReverseSigmoid(0.5**k, 0.4, keep_top1=False)(p, p)
        new = (halvings < 0) & (free.argmax(1) == p.argmax(1))
        halvings[new], expected[new] = k, free[new]
    np.testing.assert_array_equal(guarded, expected)
    assert len(np.unique(halvings)) >= 4
    bent = halvings > 0
    assert np.abs(guarded - p)[bent].sum(1).mean() > 0.1


TIED = [
    *(0.19837222073245064, 0.19837222073245067, 0.1320485065788188),
    *(0.1688504862338369, 0.005240843637145398, 0.027092508585783544),
    *(0.02771828358544087, 0.08790482996628805, 0.05318904092533284),
    0.10125448364042826,
]


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_a_lead_that_rescaling_rounds_away_is_kept(beta):
    """The two largest are one bit apart, and the row sums to 1 + 4e-5."""
    p = np.array([TIED])
    assert p.argmax() == 1 and (p / p.sum()).argmax() == 0
    answer = rs.ReverseSigmoid(beta, 0.4)(p, p)
    assert answer.argmax() == 1
    np.testing.assert_allclose(answer.sum(), 1, atol=1e-4)


def near_ties(n, c, seed=0):
    """Rows whose two largest are up to two bits apart, not summing to 1."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(c, 0.5), n)
    first, second = rng.permuted(np.tile(np.arange(c), (n, 1)), axis=1)[
        :, :2
    ].T
    rows = np.arange(n)
    p[rows, first] = p.max(axis=1)
    p /= p.sum(axis=1, keepdims=True)
    p *= 1 + rng.uniform(-5e-5, 5e-5, (n, 1))
    near = p[rows, first]
    for _ in range(2):
        near = np.where(rng.random(n) < 0.7, np.nextafter(near, 0), near)
    p[rows, second] = near
    return p[np.abs(p.sum(axis=1) - 1) <= 1e-4]


@pytest.mark.parametrize("beta", [0.0, 5e-324, 1e-12, 1e-3, 0.5, 1.0])
@pytest.mark.parametrize("c", [2, 3, 10])
def test_the_guard_ends_for_leads_of_a_bit_or_none(c, beta):
    p = near_ties(20_000, c)
    assert len(p) > 50
    for kind in (np.float64, np.float32):
        rows = p.astype(kind)
        rows = rows[np.abs(rows.sum(axis=1, dtype=float) - 1) <= 1e-4]
        answer = rs.ReverseSigmoid(beta, 0.4)(rows, rows)
        assert (answer.argmax(1) == rows.argmax(1)).all()


@pytest.mark.parametrize("guard", [True, False])
def test_strength_zero_is_the_truth_to_the_last_bit(guard):
    p = np.array([TIED])
    answer = rs.ReverseSigmoid(0, 0.4, keep_top1=guard)(p, p)
    np.testing.assert_array_equal(answer, p)


def test_the_guard_leaves_every_other_row_as_published():
    p = simplex(10)
    free = rs.ReverseSigmoid(1.0, 0.4, keep_top1=False)(p, p)
    kept = free.argmax(1) == p.argmax(1)
    assert 0.5 < kept.mean() < 1
    guarded = rs.ReverseSigmoid(1.0, 0.4)(p, p)
    np.testing.assert_array_equal(guarded[kept], free[kept])


def test_a_row_is_answered_alike_alone_and_in_a_batch():
    p = simplex(10, n=30)
    defense = rs.ReverseSigmoid(1.0, 0.4)
    alone = [defense(row[None], row[None])[0] for row in p]
    np.testing.assert_allclose(defense(p, p), alone, atol=1e-15)


def test_strength_zero_is_the_truth_and_the_input_is_left_alone():
    p = simplex(10)
    before = p.copy()
    np.testing.assert_allclose(rs.ReverseSigmoid(0, 0.2)(p, p), p, atol=1e-15)
    rs.ReverseSigmoid(1, 0.2)(p, p)
    np.testing.assert_array_equal(p, before)


@pytest.mark.parametrize(
    ("beta", "gamma"),
    [(1, 0), (1, -1), (-0.1, 0.2), (1.1, 0.2), (math.nan, 0.2)]
    + [(1, math.nan), (1, math.inf), ("1", 0.2), (True, 0.2), (1, None)],
)
def test_bad_parameters(beta, gamma):
    with pytest.raises(ValueError, match=r"beta|gamma"):
        rs.ReverseSigmoid(beta, gamma)


@pytest.mark.parametrize("defense", [rs.ReverseSigmoid(), rs.GaussianNoise(1)])
@pytest.mark.parametrize(
    ("p", "fault"),
    [
        ([[2.0, -1.0, 0.0]], "logits"),
        ([[0.5, math.nan, 0.5]], "row 0"),
        ([[0.5, 0.5], [0.5, 0.6]], "row 1"),
        ([0.5, 0.5], "shape"),
        ([[1.0]], "two classes"),
        ([["a", "b"]], "numbers"),
        ([[0.5, 0.5], [1.0]], "numbers"),
    ],
)
def test_bad_rows_are_named(defense, p, fault):
    with pytest.raises(ValueError, match=fault):
        defense(np.zeros((len(p), 1)), p)


def test_rows_of_another_number_are_refused():
    with pytest.raises(ValueError, match="one row for each row of x"):
        rs.ReverseSigmoid()(np.zeros((2, 1)), [[0.5, 0.5]])


def test_behind_the_api_labels_are_the_victims():
    p = simplex(10, n=200)
    ask = {"predict_proba": lambda x: p[: len(x)]}
    x = np.zeros((len(p), 3))
    plain = PredictionAPI(**ask, returns="label").query(x)
    bent = PredictionAPI(
        **ask, returns="label", defenses=[rs.ReverseSigmoid(1.0, 0.4)]
    ).query(x)
    np.testing.assert_array_equal(plain, bent)


@pytest.mark.parametrize(("beta", "gamma"), SHAPES[:4])
def test_two_class_truths_are_all_of_them(beta, gamma):
    t = np.linspace(0.5, 1 - 1e-6, 400_001)
    curve = rs.bend(t, beta, gamma)
    for answer in np.linspace(0.501, 0.95, 12):
        crossings = np.flatnonzero(np.diff(np.sign(curve - answer)))
        truths = rs.two_class_truths(answer, beta, gamma)
        truths = [v for v in truths if v < t[-1]]
        np.testing.assert_allclose(truths, t[crossings], atol=2e-6)
    top = 1 - rs.turning_point(beta, gamma)
    highest = float(rs.bend(top, beta, gamma))
    assert rs.two_class_truths(highest, beta, gamma) == pytest.approx([top])
    assert rs.two_class_truths(0.5, beta, gamma)[0] == pytest.approx(0.5)
    assert rs.two_class_truths(highest + 1e-6, beta, gamma) == []
    with pytest.raises(ValueError, match="take the top"):
        rs.two_class_truths(0.4, beta, gamma)


def test_inversion_is_a_round_trip_where_nothing_is_ambiguous():
    """With shape 1 the bend is a line: the table must find the truth."""
    rng = np.random.default_rng(3)
    truth = rs.random_truths(400, 3, rng)
    defense = rs.ReverseSigmoid(0.8, 1.0)
    answers = defense(truth, truth)
    found = rs.invert_by_table(answers, defense, rng, size=20_000)
    assert rs.distance(truth, answers) > 0.3
    assert rs.distance(truth, found) < 0.02
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-12)


def test_inversion_brings_bent_answers_most_of_the_way_back():
    rng = np.random.default_rng(4)
    truth = rs.random_truths(500, 10, rng)
    defense = rs.ReverseSigmoid(1.0, 0.4)
    answers = defense(truth, truth)
    found = rs.invert_by_table(answers, defense, rng, size=10_000)
    assert rs.distance(truth, found) < 0.4 * rs.distance(truth, answers)
    assert (found.argmax(1) == truth.argmax(1)).mean() > 0.97


def test_a_table_drawn_around_the_first_one_is_closer():
    """The truths of one victim are few, and a blind table spreads over all."""
    rng = np.random.default_rng(8)
    truth = rng.dirichlet(np.full(10, 0.08), 400)
    defense = rs.ReverseSigmoid(1.0, 0.4)
    answers, off = defense(truth, truth), {}
    for name, how in {"blind": {"rounds": 0}, "as it is": {}}.items():
        rng = np.random.default_rng(9)
        found = rs.invert_by_table(answers, defense, rng, size=8000, **how)
        off[name] = rs.distance(truth, found)
    assert off["as it is"] < 0.8 * off["blind"]


def test_lookup_by_brute_force():
    rng = np.random.default_rng(5)
    truths = rng.dirichlet([0.5] * 3, 50)
    bent = np.sqrt(truths) / np.sqrt(truths).sum(1, keepdims=True)
    answers = rng.dirichlet([0.5] * 3, 20)
    found = rs.lookup(answers, truths, bent, k=2)
    for answer, guess in zip(answers, found, strict=True):
        place = np.argsort(-answer)
        far = np.linalg.norm(np.sort(bent)[:, ::-1] - answer[place], axis=1)
        two = np.sort(truths)[:, ::-1][np.argsort(far)[:2]]
        np.testing.assert_allclose(guess[place], two.mean(0), atol=1e-12)
    with pytest.raises(ValueError, match="enlarge"):
        rs.lookup(answers, truths, bent, k=51)
    with pytest.raises(ValueError, match="classes"):
        rs.lookup(np.full((1, 4), 0.25), truths, bent, k=1)


def test_strength_for_one_distance():
    for c in (5, 100):
        p = np.full((1, c), 0.01 / (c - 1))
        p[0, 0] = 0.99
        answer = rs.ReverseSigmoid(rs.strength_for(c), 0.2)(p, p)
        assert np.abs(p - answer).sum() == pytest.approx(1)


def test_a_distance_that_no_strength_reaches_is_named():
    with pytest.raises(ValueError, match="too far for 2 classes"):
        rs.strength_for(2)


SECRETS = [(1.0, 0.4), (0.57, 0.23), (0.81, 0.66)]


@pytest.mark.parametrize("guard", [True, False])
@pytest.mark.parametrize(("c", "n"), [(10, 300), (5, 600)])
@pytest.mark.parametrize("secret", SECRETS)
def test_parameters_are_read_off_the_answers_alone(secret, c, n, guard):
    """Truths with classes of unequal frequency, which a table has not."""
    rng = np.random.default_rng(11)
    logits = rng.normal(scale=4, size=(n, c)) + rng.normal(size=c)
    truth = softmax(logits, axis=1)
    answers = rs.ReverseSigmoid(*secret, keep_top1=guard)(truth, truth)
    read = rs.read_parameters(answers, np.random.default_rng(12))
    assert np.abs(np.subtract(read, secret)).max() < 0.05


def test_no_supposition_fits_better_than_the_truth():
    rng = np.random.default_rng(13)
    truth = rng.dirichlet(np.full(10, 0.1), 200)
    answers = rs.ReverseSigmoid(0.7, 0.3)(truth, truth)
    truths = rs.random_truths(3000, 10, rng)
    misfit = {
        (b, g): rs.misfit((b, g), answers, truths)
        for b in (0.5, 0.7, 0.9)
        for g in (0.2, 0.3, 0.4)
    }
    assert min(misfit, key=misfit.get) == (0.7, 0.3)


def test_the_nearest_entry_by_brute_force():
    rng = np.random.default_rng(14)
    answers, truths = rng.dirichlet([1, 1, 1], 9), rng.dirichlet([1, 1, 1], 30)
    bent = np.sort(rs.ReverseSigmoid(0.5, 0.3)(truths, truths))
    far = [np.linalg.norm(bent - np.sort(a), axis=1).min() for a in answers]
    assert rs.misfit((0.5, 0.3), answers, truths) == pytest.approx(
        np.mean(far)
    )


def test_what_is_read_must_be_answers():
    with pytest.raises(ValueError, match="logits"):
        rs.read_parameters([[3.0, -1.0]], np.random.default_rng(0))


def test_a_table_by_what_was_read_off_is_the_table_by_what_is_true():
    truth = np.random.default_rng(15).dirichlet(np.full(10, 0.1), 400)
    answers = rs.ReverseSigmoid(0.9, 0.4)(truth, truth)
    off = {
        name: rs.distance(truth, rs.with_table(answers, 0, parameters))
        for name, parameters in {
            "known": (0.9, 0.4),
            "read off": None,
            "guessed": (0.9, 0.2),
        }.items()
    }
    assert off["read off"] < 1.2 * off["known"]
    assert off["guessed"] > 1.5 * off["known"]


def test_queries_for_a_fidelity_by_hand():
    ask = rs.queries_for
    assert ask(70, [100, 1000], [60, 80]) == pytest.approx(1e5**0.5)
    assert ask(50, [100, 1000], [60, 80]) == pytest.approx(100)
    assert ask(80, [100, 1000], [60, 80]) == pytest.approx(1000)
    assert ask(81, [100, 1000], [60, 80]) == math.inf
    assert ask(75, [1, 10, 100], [70, 60, 80]) == pytest.approx(10**1.5)


class Recorder:
    """Trains nothing and keeps what it was given."""

    def __init__(self):
        self.given = []

    def __call__(self, images, heard, seed):
        self.given.append((images, heard, seed))
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))


def test_each_seed_buys_reads_and_trains_on_its_own():
    rng = np.random.default_rng(16)
    pool = rng.random((20, 1, 2, 2))
    answers = rng.dirichlet([1, 1, 1], 20)
    train, label = Recorder(), np.zeros(20, int)
    exam = rs.KNOCKOFF.Exam(pool, label, label)
    scores = rs.copies(
        pool, answers, 5, [7, 8], exam, lambda a, s: a[:, ::-1] * s, train
    )
    assert scores.shape == (2,)
    assert ((scores >= 0) & (scores <= 100)).all()
    for (images, heard, seed), wanted in zip(train.given, [7, 8], strict=True):
        assert seed == wanted
        rows = [np.flatnonzero((pool == i).all((1, 2, 3)))[0] for i in images]
        assert len(set(rows)) == 5
        np.testing.assert_array_equal(heard, answers[rows][:, ::-1] * seed)
    assert (train.given[0][0] != train.given[1][0]).any()


def test_longer_is_the_same_recipe_with_more_steps():
    rng = np.random.default_rng(17)
    images, answers = rng.random((30, 1, 28, 28)), rng.dirichlet([1] * 10, 30)
    once, usual, twice = (
        next(train(images, answers, 3).parameters()).detach()
        for train in (
            lambda *given: rs.train_longer(*given, times=1),
            rs.KNOCKOFF.train_substitute,
            rs.train_longer,
        )
    )
    assert torch.equal(once, usual) and not torch.equal(twice, usual)


def test_gradient_descent_learns_what_is_told():
    rng = np.random.default_rng(18)
    images, label = rng.random((64, 1, 28, 28)) / 4, np.arange(64) % 2
    images[label == 1, :, 8:20] += 0.7
    model = rs.train_by_sgd(images, np.eye(10)[label], 0)
    with torch.no_grad():
        guess = model(torch.tensor(images).float()).argmax(1).numpy()
    assert (guess == label).mean() > 0.9


def test_sharpening_undoes_a_root():
    p = simplex(10, n=50)
    root = p**0.25 / (p**0.25).sum(1, keepdims=True)
    np.testing.assert_allclose(rs.sharpened(root, 4), p, atol=1e-12)


def test_sharpening_does_not_underflow():
    flat = np.linspace(1, 2, 1000)[None]
    sharp = rs.sharpened(flat / flat.sum(), 400)
    np.testing.assert_allclose(sharp.sum(), 1)
    assert sharp.argmax() == 999


def test_noise_does_not_tell_the_signs_of_zero_apart():
    p, x = np.full((2, 10), 0.1), np.zeros((2, 5))
    x[1] = -0.0
    one, other = rs.GaussianNoise(0.2)(x, p)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "alike",
    [
        lambda x: x.astype(np.float32),
        lambda x: x.astype(int),
        lambda x: x.tolist(),
        lambda x: np.asfortranarray(x),
        lambda x: np.where(x == 0, -0.0, x),
        lambda x: np.where(x == 0, -0.0, x).astype(np.float32),
        lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
        lambda x: x.astype(">f8"),
    ],
)
def test_equal_rows_get_equal_noise_however_they_are_kept(alike):
    x = np.random.default_rng(7).integers(-1, 2, (40, 3, 4)).astype(float)
    p, noise = np.full((40, 10), 0.1), rs.GaussianNoise(0.2)
    np.testing.assert_array_equal(noise(x, p), noise(alike(x), p))
    assert len(np.unique(noise(x, p), axis=0)) == 40


def test_noise_is_keyed_by_row_and_secret():
    x = np.random.default_rng(6).normal(size=(300, 2, 2))
    p = simplex(10, n=300)[:300]
    noise = rs.GaussianNoise(0.3, seed=1)
    answer = noise(x, p)
    np.testing.assert_array_equal(answer[::-1], noise(x[::-1], p[::-1]))
    assert np.abs(answer - rs.GaussianNoise(0.3, seed=2)(x, p)).max() > 0.1
    assert answer.min() >= 0
    np.testing.assert_allclose(answer.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(rs.GaussianNoise(0)(x, p), p, atol=1e-12)


def test_noise_that_leaves_nothing_is_not_a_division_by_zero():
    x = np.arange(200.0)[:, None]
    p = np.full((200, 2), 0.5)
    answer = rs.GaussianNoise(50)(x, p)
    np.testing.assert_allclose(answer.sum(1), 1)
    assert (answer == 0.5).all(axis=1).mean() == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("secret", [-1, 0.5, math.nan, "1", None, True])
def test_a_bad_secret_is_refused_before_anything_is_asked(secret):
    with pytest.raises(ValueError, match="seed"):
        rs.GaussianNoise(0.1, secret)


@pytest.mark.parametrize("sigma", [-1, math.nan, math.inf, "1", None, True])
def test_bad_noise(sigma):
    with pytest.raises(ValueError, match="sigma"):
        rs.GaussianNoise(sigma)
