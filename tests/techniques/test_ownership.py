"""Ownership: p-values, marks, crowds, fingerprints, walks; bad input."""

import hashlib
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from mexutils import PredictionAPI, load_chapter

chapter = load_chapter("frontier/ownership")
KEY = b"0123456789abcdef"


def answers(n=300, c=5, seed=0, sharp=2.0):
    z = sharp * np.random.default_rng(seed).normal(size=(n, c))
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def rows(n=300, d=6, seed=0):
    x = np.random.default_rng([seed, 1]).normal(size=(n, d))
    return x.astype(np.float32)


def looked_up(x, said, **sold):
    """An API that answers each of the rows x as the table says."""
    where = {row.tobytes(): i for i, row in enumerate(np.asarray(x))}

    def ask(asked):
        asked = np.asarray(asked, np.float32)
        return said[[where[row.tobytes()] for row in asked]]

    return PredictionAPI(ask, input_shape=x.shape[1:], **sold)


# --- p-values -------------------------------------------------------------


def test_the_p_of_hits_is_a_sum_of_binomial_terms():
    def term(k):
        return math.comb(7, k) * 0.2**k * 0.8 ** (7 - k)

    tail = sum(map(term, range(4, 8)))
    for u in (0.0, 0.3, 1.0):
        p = chapter.p_of_hits(3, 7, 0.2, u)
        assert p == pytest.approx(tail + u * term(3))
    assert chapter.p_of_hits(0, 0, 0.2) == 1
    assert chapter.p_of_hits(0, 0, 0.2, 0.4) == pytest.approx(0.4)


def test_the_p_of_a_rank_by_counting():
    others = np.array([1, 2, 2, 3, 5])
    assert chapter.p_of_rank(2, others) == (2 + 3) / 6
    assert chapter.p_of_rank(2, others, 0.5) == (2 + 1.5) / 6
    assert chapter.p_of_rank(6, others) == 1 / 6
    assert chapter.p_of_rank(0, others) == 1
    for found, law in ((np.nan, others), (2, [1, np.nan])):
        with pytest.raises(ValueError, match="a rank needs numbers"):
            chapter.p_of_rank(found, law)


def test_what_does_not_vary_has_no_correlation_and_is_no_evidence():
    waves = np.random.default_rng(0).normal(size=(50, 9))
    flat = np.vstack([np.full(50, 0.3), waves[:, 2], -waves[:, 2]])
    found = chapter.correlations(flat, waves)
    assert not found[0].any()
    assert found[1:, 2] == pytest.approx([1, -1])
    assert found[1] == pytest.approx(np.corrcoef(flat[1], waves.T)[0, 1:])
    assert chapter.p_of_rank(found[0, 0], found[0, 1:]) == 1


def test_ties_at_random_make_p_uniform_and_counted_ones_make_it_larger():
    rng = np.random.default_rng(0)
    hits = rng.binomial(9, 1 / 4, 2000)
    drawn = [chapter.p_of_hits(k, 9, 1 / 4, rng.random()) for k in hits]
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    counted = np.array([chapter.p_of_hits(k, 9, 1 / 4) for k in hits])
    assert stats.kstest(counted, "uniform").pvalue < 1e-6
    for level in (0.05, 0.3, 0.7):
        assert np.mean(counted <= level) < level + 0.03


# --- DAWN -----------------------------------------------------------------


def by_hand(key, message):
    """HMAC-SHA256 from its definition."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()


def test_the_draws_are_those_of_the_definition():
    x = rows(4)
    draws = chapter.Dawn(KEY).draws(x)
    for row, found in zip(x, draws, strict=True):
        hashed = by_hand(KEY, row.tobytes())
        for k in range(2):
            piece = hashed[8 * k : 8 * k + 8]
            assert int(found[k]) == int.from_bytes(piece, "little")


def test_a_row_has_one_name_whatever_its_type_order_and_zeros():
    x = rows(20).reshape(20, 1, 2, 3)
    x[3, 0, 0] = 0
    signed = x.copy()
    signed[3, 0, 0] = -0.0
    mark = chapter.Dawn(KEY)
    expected = mark.draws(x)
    for same in (
        x.astype(float),
        np.asfortranarray(x),
        x[::-1][::-1],
        signed,
        x.astype(">f4"),
        np.concatenate([x, x], axis=3)[..., :3],
    ):
        np.testing.assert_array_equal(mark.draws(same), expected)
    last = x.copy()
    last[:, -1, -1, -1] += 1e-3
    assert (mark.draws(last) != expected).all()
    assert (chapter.Dawn(KEY + b"!").draws(x) != expected).all()


def test_dawn_marks_its_rate_and_spreads_over_the_wrong_labels():
    own, x = answers(20_000), rows(20_000)
    mark = chapter.Dawn(KEY, rate=0.2)
    marked, told = mark.told(x, own)
    assert abs(marked.mean() - 0.2) < 0.012
    labels = own.argmax(axis=1)
    assert (told[~marked] == labels[~marked]).all()
    shift = (told - labels)[marked] % 5
    counts = np.bincount(shift, minlength=5)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > 1e-4


def test_dawn_swaps_two_probabilities_and_keeps_its_input():
    own, x = answers(), rows()
    kept = own.copy()
    mark = chapter.Dawn(KEY, rate=0.3)
    marked, told = mark.told(x, own)
    sent = mark(x, own)
    np.testing.assert_array_equal(own, kept)
    np.testing.assert_array_equal(sent[~marked], own[~marked])
    np.testing.assert_array_equal(np.sort(sent, 1), np.sort(own, 1))
    np.testing.assert_array_equal(sent.argmax(axis=1), told)
    assert ((sent != own).sum(axis=1) == 2 * marked).all()


def test_a_claim_asks_the_marked_rows_and_counts_disagreements():
    own, x = answers(), rows()
    mark = chapter.Dawn(KEY, rate=0.3)
    marked, told = mark.told(x, own)
    said = np.eye(5)[told]
    api = looked_up(x, said, returns="label")
    found = chapter.dawn_claim(mark, own, api, x)
    n = int(marked.sum())
    assert found == (pytest.approx(0.25**n), 1.0, n)
    assert api.ledger.queries == n
    # A third of them as the owner, a third other wrong labels.
    where = np.flatnonzero(marked)
    said[where[::3]] = np.eye(5)[own.argmax(axis=1)[where[::3]]]
    other = (own.argmax(axis=1) + 1) % 5
    other = np.where(other == told, (other + 1) % 5, other)
    other = np.where(other == own.argmax(axis=1), (other + 1) % 5, other)
    said[where[1::3]] = np.eye(5)[other[where[1::3]]]
    found = chapter.dawn_claim(mark, own, looked_up(x, said), x)
    differ = len(where) - len(where[::3])
    hits = len(where[2::3])
    law = stats.binom(differ, 0.25)
    assert found.p == pytest.approx(law.sf(hits - 1))
    assert found.score == pytest.approx(hits / n)


@pytest.mark.parametrize("kind", ["agrees", "disagrees", "constant"])
def test_innocent_suspects_of_any_kind_get_uniform_p(kind):
    own, x = answers(), rows()
    said = {
        "agrees": np.where(
            np.random.default_rng(0).random(300)[:, None] < 0.8,
            own,
            answers(seed=9),
        ),
        "disagrees": answers(seed=9),
        "constant": np.tile([0.0, 0, 1, 0, 0], (300, 1)),
    }[kind]
    api, rng = looked_up(x, said), np.random.default_rng(1)
    p = [
        chapter.dawn_claim(
            chapter.Dawn(f"a key of this test, {k}".encode(), 0.1),
            own,
            api,
            x,
            rng.random(),
        ).p
        for k in range(400)
    ]
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_a_row_that_was_sold_often_is_one_draw():
    own, x = answers(60), rows(60)
    often = np.tile(np.arange(60), 10)
    said = answers(60, seed=9)
    p = []
    for k in range(200):
        mark = chapter.Dawn(f"a key of this test, {k}".encode(), 0.3)
        api = looked_up(x, said)
        found = chapter.dawn_claim(mark, own[often], api, x[often])
        assert found == chapter.dawn_claim(mark, own, looked_up(x, said), x)
        assert api.ledger.queries == mark.told(x, own)[0].sum()
        p.append(found.p)
    assert np.mean(np.array(p) <= 0.05) <= 0.1


def test_names_of_classes_are_refused_and_not_held_for_innocence():
    own, x = answers(), rows()
    mark = chapter.Dawn(KEY, 0.3)
    names = np.array(["a", "b", "c", "d", "e"])
    api = looked_up(x, own, returns="label", classes=names)
    usual = np.linspace(0, 1, 9)

    class Other:
        def query(self, asked):
            return names[np.zeros(len(asked), int)]

    for suspect in (api, Other()):
        with pytest.raises(ValueError, match="map its names"):
            chapter.dawn_claim(mark, own, suspect, x)
        with pytest.raises(ValueError, match="map its names"):
            chapter.fingerprint_claim(x, own.argmax(axis=1), suspect, usual)
    assert api.ledger.queries == 0
    # names of columns are no names in the answers where these are shares
    shares = looked_up(x, own, classes=names)
    found = chapter.dawn_claim(mark, own, shares, x)
    assert found == chapter.dawn_claim(mark, own, looked_up(x, own), x)


@pytest.mark.parametrize("size", [0, 1, -0.1, np.nan, "half"])
def test_sizes_of_marks_lie_inside(size):
    with pytest.raises(ValueError, match="rate must be a number above 0"):
        chapter.Dawn(KEY, size)
    with pytest.raises(ValueError, match="epsilon must be a number above 0"):
        chapter.CosineMark(None, size)


def test_dawn_refuses_before_anything_is_asked():
    own, x = answers(), rows()
    api = looked_up(x, own)
    with pytest.raises(ValueError, match="none of these rows is marked"):
        chapter.dawn_claim(chapter.Dawn(KEY, 1e-9), own, api, x)
    with pytest.raises(ValueError, match="300 rows need as many"):
        chapter.dawn_claim(chapter.Dawn(KEY), own[:9], api, x)
    assert api.ledger.queries == 0
    for key in ("0123456789abcdef", b"short", None):
        with pytest.raises(ValueError, match="16 bytes or more"):
            chapter.Dawn(key)
    with pytest.raises(ValueError, match="rate must be"):
        chapter.Dawn(KEY, 1.5)


# --- the wave -------------------------------------------------------------


def test_heights_and_waves_by_a_loop():
    x, usual = rows(7), rows(50, seed=3)
    keys = np.random.default_rng(0).normal(size=(3, 6))
    waves = chapter.Waves(keys, usual, frequency=9.0)
    for k, v in enumerate(keys):
        along = np.array([row @ v for row in usual.astype(float)])
        for i, row in enumerate(x.astype(float)):
            z = (row @ v - along.mean()) / along.std()
            height = stats.norm.cdf(z)
            assert waves.heights(x)[i, k] == pytest.approx(height, abs=1e-5)
            cosine = math.cos(9 * height)
            assert waves(x)[i, k] == pytest.approx(cosine, abs=1e-4)
    with pytest.raises(ValueError, match="rows that differ"):
        chapter.Waves(keys, np.ones((5, 6)))


def test_the_mark_is_the_formula_and_keeps_sums():
    x, own = rows(), answers()
    keys = np.random.default_rng(0).normal(size=(1, 6))
    waves = chapter.Waves(keys, x)
    sent = chapter.CosineMark(waves, 0.2)(x, own)
    np.testing.assert_allclose(sent.sum(axis=1), 1)
    assert sent.min() >= 0
    for i in range(20):
        for j in range(5):
            label = own[i].argmax() == j
            e, s = (0.2, 1) if label else (0.2 / 4, -1)
            expected = (own[i, j] + e * (1 + s * waves(x)[i, 0])) / 1.4
            assert sent[i, j] == pytest.approx(expected)


def test_the_wave_is_computed_back_where_the_smallest_was_nothing():
    x, own = rows(), answers(sharp=4.0)
    own[own < np.sort(own, axis=1)[:, 1:2]] = 0
    own /= own.sum(axis=1, keepdims=True)
    keys = np.random.default_rng(0).normal(size=(1, 6))
    mark = chapter.CosineMark(chapter.Waves(keys, x), 0.2)
    sent = mark(x, own)
    same = sent.argmax(axis=1) == own.argmax(axis=1)
    back = chapter.unwaved(sent, 0.2)
    np.testing.assert_allclose(back[same], own[same], atol=1e-9)
    assert same.mean() > 0.9
    assert np.abs(sent - own).max() > 0.05


def test_correlations_are_numpy_s():
    rng = np.random.default_rng(0)
    left, waves = rng.normal(size=(3, 40)), rng.normal(size=(40, 4))
    found = chapter.correlations(left, waves)
    for i in range(3):
        for k in range(4):
            expected = np.corrcoef(left[i], waves[:, k])[0, 1]
            assert found[i, k] == pytest.approx(expected)
    np.testing.assert_allclose(chapter.correlations(left[0], waves), found[:1])


def test_a_claim_finds_the_marked_answers_and_not_others():
    x, own = rows(2000), answers(2000)
    keys = np.random.default_rng(0).normal(size=(200, 6))
    waves = chapter.Waves(keys, x)(x)
    mark = chapter.CosineMark(chapter.Waves(keys[:1], x))
    api = looked_up(x, mark(x, own))
    found = chapter.cosine_claim(own, api, x, waves)
    assert found.p == 1 / 200
    assert found.score > 0.5
    assert found.queries == api.ledger.queries == 2000
    other = looked_up(x, answers(2000, seed=5))
    assert chapter.cosine_claim(own, other, x, waves).score < 0.1


def test_the_wave_s_claim_refuses_before_anything_is_asked():
    x, own = rows(), answers()
    waves = np.random.default_rng(0).normal(size=(300, 9))
    labels = looked_up(x, own, returns="label")
    with pytest.raises(ValueError, match="reads probabilities"):
        chapter.cosine_claim(own, labels, x, waves)
    api = looked_up(x, own)
    for bad in (waves[:, :1], waves[:9]):
        with pytest.raises(ValueError, match="waves must be"):
            chapter.cosine_claim(own, api, x, bad)
    assert api.ledger.queries == labels.ledger.queries == 0
    for epsilon in (-0.1, 1.1):
        with pytest.raises(ValueError, match="epsilon must be"):
            chapter.CosineMark(None, epsilon)


# --- crowds ---------------------------------------------------------------


def pictures(n=64, seed=0):
    return np.random.default_rng(seed).random((n, 1, 28, 28), np.float32)


def test_a_member_is_the_network_of_its_weights():
    x, y = pictures(), np.arange(64) % 10
    each = np.tile(np.arange(64), (3, 1))
    crowd = chapter.train_crowd(x, y, each, 0, steps=3, hidden=8)
    said = crowd.predict_proba(x)
    assert said.shape == (3, 64, 10)
    for i in range(3):
        w, a, v, b = (part[i] for part in crowd.weights)
        net = nn.Sequential(
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(196, 8),
            nn.ReLU(),
            nn.Linear(8, 10),
        )
        with torch.no_grad():
            net[2].weight.copy_(w.T)
            net[2].bias.copy_(a[0])
            net[4].weight.copy_(v.T)
            net[4].bias.copy_(b[0])
            expected = net(torch.from_numpy(x)).softmax(dim=1)
        np.testing.assert_allclose(said[i], expected, atol=1e-5)
        np.testing.assert_allclose(crowd.member(i)(x), said[i], atol=1e-6)


def test_the_members_learn_apart_and_each_its_own_rows():
    x = pictures(120)
    y = np.arange(120) % 10
    each = np.arange(120).reshape(2, 60)
    crowd = chapter.train_crowd(x, y, each, 0, steps=300)
    said = crowd.predict_proba(x).argmax(axis=2) == y
    assert said[0, :60].mean() > 0.95 and said[1, 60:].mean() > 0.95
    assert said[0, 60:].mean() < 0.5 and said[1, :60].mean() < 0.5
    other = np.where(np.arange(120) < 60, (y + 1) % 10, y)
    again = chapter.train_crowd(x, other, each, 0, steps=300)
    np.testing.assert_allclose(
        again.predict_proba(x)[1], crowd.predict_proba(x)[1], atol=1e-4
    )
    soft = np.eye(10, dtype=np.float32)[y]
    soft = chapter.train_crowd(x, soft, each, 0, steps=300)
    np.testing.assert_allclose(
        soft.predict_proba(x), crowd.predict_proba(x), atol=1e-3
    )


# --- fingerprints ---------------------------------------------------------


def test_the_best_points_are_shared_by_copies_and_by_nobody_else():
    own = np.eye(3)[[0, 1, 2, 0]]
    copies = [np.eye(3)[[0, 1, 1, 0]], np.eye(3)[[0, 1, 1, 2]]]
    strangers = [np.eye(3)[[0, 2, 1, 1]]]
    found = chapter.best_points(own, copies, strangers, n=2)
    assert list(found) == [1, 3]


def test_a_fingerprint_is_ranked_among_innocent_agreements():
    points, labels = rows(10), np.arange(10) % 5
    said = np.eye(5)[np.where(np.arange(10) < 8, labels, (labels + 1) % 5)]
    api = looked_up(points, said, returns="label")
    usual = np.array([0.1, 0.2, 0.8, 0.9])
    found = chapter.fingerprint_claim(points, labels, api, usual)
    assert found == (3 / 5, 0.8, 10)
    assert api.ledger.queries == 10


# --- walks ----------------------------------------------------------------


def test_a_walk_ends_with_the_first_change():
    def ask(x):
        band = (x[:, 0] > 0.3) & (x[:, 0] < 0.6)  # and back again behind it
        return np.stack([~band, band], axis=-1).astype(float)

    x = np.random.default_rng(0).random((12, 2))
    found = chapter.blind_walks(ask, x, seed=4, most=8, scale=0.1)
    assert found.shape == (12, 3)
    draws = np.random.default_rng(4)
    steps = [
        draws.laplace(0, 1, x.shape),
        draws.normal(0, 1, x.shape),
        draws.uniform(-1, 1, x.shape),
    ]
    for kind, step in enumerate(steps):
        for i, row in enumerate(x):
            expected = 8
            for k in range(1, 9):
                at = np.clip(row + k * 0.1 * step[i], 0, 1)
                if ask(at[None]).argmax() != ask(row[None]).argmax():
                    expected = k
                    break
            assert found[i, kind] == expected
    many = chapter.blind_walks(lambda x: np.stack([ask(x)] * 2), x, 4, 8, 0.1)
    np.testing.assert_array_equal(many, np.stack([found, found]))


def test_dataset_inference_by_a_made_up_gap():
    rng = np.random.default_rng(0)
    near, far = rng.poisson(3, (60, 3)), rng.poisson(6, (60, 3))
    claim = chapter.inference_claim
    assert claim(far[:30], near[:30], far[30:], near[30:]) < 1e-4
    assert claim(far[:30], near[:30], near[30:], far[30:]) > 0.99
    same = np.full((30, 3), 8)
    assert claim(far[:30], near[:30], same, same) == 1.0
    flat = [
        claim(far[:30], near[:30], *rng.poisson(4, (2, 30, 3)))
        for _ in range(300)
    ]
    assert stats.kstest(flat, "uniform").pvalue > 1e-3


# --- the opponent ---------------------------------------------------------


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def test_pruning_zeroes_the_smaller_half_of_a_copy():
    model = small()
    before = model[1].weight.clone()
    found = chapter.pruned(model)
    np.testing.assert_array_equal(model[1].weight.detach(), before.detach())
    zero = (found[1].weight == 0).numpy()
    assert abs(zero.mean() - 0.5) < 0.01
    size = before.detach().abs().numpy()
    assert size[zero].max() <= size[~zero].min()
    assert (found[1].bias == model[1].bias).all()


def test_tuning_leaves_the_model_as_it_was():
    model, x = small(), pictures(40)
    before = model[1].weight.clone()
    found = chapter.tuned(model, x, np.arange(40) % 10, 0)
    assert (model[1].weight == before).all()
    assert (found[1].weight != before).any()


def test_near_duplicates_are_billed_and_averaged():
    x = pictures(8)
    seen = []

    def ask(asked):
        seen.append(asked)
        return np.tile([0.25, 0.75], (len(asked), 1))

    api = PredictionAPI(ask, input_shape=(1, 28, 28), try_out=False)
    said = chapter.averaged(api, x, 0)
    assert api.ledger.queries == 24
    np.testing.assert_allclose(said, [[0.25, 0.75]] * 8)
    for near in seen:
        assert 0 < np.abs(near - x).max() <= 1 / 255 + 1e-6
        assert near.min() >= 0 and near.max() <= 1


def test_distances_from_uniform_by_hand():
    distance, p = chapter.uniformity([0.1, 0.2, 0.9, 0.95])
    assert distance == pytest.approx(2 * 0.4)
    assert 0 < p < 1
    distance, _ = chapter.alike([1, 2, 3, 4], [3.5, 4.5, 5, 6])
    assert distance == pytest.approx(np.sqrt(16 / 8) * 0.75)
