"""Priced queries: votes, what an answer tells, prices, and the ledger."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.neighbors import NearestNeighbors
from torch import nn

from mexutils import Accounts, BudgetExceeded, PredictionAPI, load_chapter
from mexutils.victims import Victim

chapter = load_chapter("frontier/priced_queries")
ORDERS, SIGMA = chapter.ORDERS, chapter.SIGMA
getcontext().prec = 60


def a_victim(seed=0):
    """A network of rows (n, 4): six features, three classes."""
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    return Victim(body.eval(), (4,))


def rows(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


def voters(k=7, victim=None):
    x = rows(60, 5)
    return chapter.Neighbours(victim or a_victim(), x, np.arange(60) % 3, k)


def costs(leads, k=50):
    """Costs of rows that two classes dispute, by their leads."""
    leads = np.asarray(leads, float)
    pairs = np.column_stack([(k + leads) / 2, (k - leads) / 2])
    return chapter.renyi_costs(chapter.log_other(pairs))


# --- votes ----------------------------------------------------------------


def test_the_votes_are_those_of_a_library_s_neighbours():
    victim, x = a_victim(), rows(60, 5)
    body = victim.model[:-1].double()
    with torch.no_grad():
        known, asked = (
            body(torch.as_tensor(r).double()).numpy() for r in (x, rows(25))
        )
    near = NearestNeighbors(n_neighbors=7).fit(known)
    y = np.arange(60) % 3
    wanted = [
        np.bincount(y[row], minlength=3)
        for row in near.kneighbors(asked, return_distance=False)
    ]
    np.testing.assert_array_equal(voters()(rows(25)), wanted)


def test_a_known_row_votes_for_itself():
    votes = voters(k=1)(rows(60, 5))
    np.testing.assert_array_equal(votes.argmax(axis=1), np.arange(60) % 3)


@pytest.mark.parametrize(
    ("x", "y", "k", "fault"),
    [
        (rows(5), [0, 1, 2, 0], 2, "5 training rows"),
        (rows(5), [0.0, 1, 2, 0, 1], 2, "whole numbers"),
        (rows(5), [0, -1, 2, 0, 1], 2, "whole numbers from 0"),
        (rows(5), [0, 1, 2, 0, 1], 6, "above the most"),
        (rows(5), [0, 1, 2, 0, 1], 0, "1 or more"),
    ],
)
def test_other_voters_are_refused(x, y, k, fault):
    with pytest.raises(ValueError, match=fault):
        chapter.Neighbours(a_victim(), x, y, k)


# --- what a row tells -----------------------------------------------------


def test_q_is_exact_for_two_classes_and_a_bound_for_more():
    rng = np.random.default_rng(0)
    for votes in ([30, 20], [26, 24, 0], [20, 18, 12], [17, 17, 16]):
        blurred = votes + rng.normal(0, SIGMA, (400_000, len(votes)))
        other = (blurred.argmax(axis=1) != np.argmax(votes)).mean()
        q = np.exp(chapter.log_other([votes])[0])
        assert q > other - 0.003
        if len(votes) == 2:
            assert abs(q - other) < 0.003
    even = chapter.log_other([[10, 10, 10, 10]])[0]
    assert np.exp(even) == pytest.approx(3 / 4)


def by_decimals(log_q, sigma, order):
    """The bound of the theorem, with sixty digits, or None."""
    q, e = Decimal(float(log_q)).exp(), Decimal(1).exp()
    mu2 = Decimal(sigma) * (-Decimal(float(log_q))).sqrt()
    mu1, variance = mu2 + 1, Decimal(sigma) ** 2
    eps1, eps2 = mu1 / variance, mu2 / variance
    if mu2 <= 1 or order > mu2:
        return None
    ends = (mu1 / (mu1 - 1)) * (mu2 / (mu2 - 1))
    if q > e ** ((mu2 - 1) * eps2) / ends**mu2:
        return None
    up, low = Decimal(order) - 1, (q * e**eps2) ** ((mu2 - 1) / mu2)
    if low >= 1:
        return None
    a, b = (1 - q) / (1 - low), e**eps1 / q ** (1 / (mu1 - 1))
    return float(((1 - q) * a**up + q * b**up).ln() / up)


@pytest.mark.parametrize("sigma", [2, 5, 20])
def test_the_costs_are_the_theorem_s_in_sixty_digits(sigma):
    log_q, orders = -np.geomspace(0.1, 300, 40), np.array([2.0, 5, 30, 400])
    found = chapter.renyi_costs(log_q, sigma, orders)
    used = 0
    for value, row in zip(log_q, found, strict=True):
        for order, cost in zip(orders, row, strict=True):
            bound = by_decimals(value, sigma, int(order))
            plain = order / sigma**2
            used += bound is not None and bound < plain
            wanted = plain if bound is None else min(bound, plain)
            assert cost == pytest.approx(wanted, rel=1e-9, abs=1e-15)
    assert used > 10  # the bound is met, and so is its condition
    assert used < found.size - 10


def divergence(p, r, order):
    """Renyi divergence of two coins with heads p and r."""
    terms = [
        order * np.log(a) + (1 - order) * np.log(b)
        for a, b in ((p, r), (1 - p, 1 - r))
    ]
    return np.logaddexp(*terms) / (order - 1)


@pytest.mark.parametrize("lead", [0, 4, 10, 20, 30, 40])
@pytest.mark.parametrize("step", [-2, -1, 1, 2])
def test_no_coin_tells_more_than_its_cost(lead, step):
    """Exact: two classes, and one training row that votes otherwise."""
    win, moved = (
        stats.norm.cdf(n / (np.sqrt(2) * SIGMA)) for n in (lead, lead + step)
    )
    found = costs([lead])[0]
    for order, cost in zip(ORDERS[:20], found, strict=False):
        assert divergence(win, moved, order) <= cost * (1 + 1e-9)
        assert cost <= order / SIGMA**2 * (1 + 1e-12)


def test_agreement_tells_less_and_certainty_nothing():
    lead = costs(np.arange(0, 51, 2))
    assert (np.diff(lead, axis=0) <= 1e-12).all()
    np.testing.assert_allclose(lead[0], ORDERS / SIGMA**2)
    assert lead[-1, 0] < lead[0, 0] / 1000
    assert (chapter.renyi_costs([-np.inf]) == 0).all()
    assert np.isfinite(chapter.renyi_costs([-1e-9, -1e6])).all()


@pytest.mark.parametrize(
    "votes", [[[5]], [[3, -1]], [[np.nan, 1]], [], [1, 2]]
)
def test_other_votes_are_refused(votes):
    with pytest.raises(ValueError, match=r"votes|NaN"):
        chapter.log_other(votes)


def test_epsilon_is_the_best_order_s():
    spent = 7 * costs([10])[0]
    each = [s + np.log(1e5) / (o - 1) for o, s in zip(ORDERS, spent, strict=1)]
    assert chapter.epsilon(spent) == pytest.approx(min(each))
    many = np.repeat(costs([10]), 7, axis=0)
    assert chapter.taken(many)[-1] == pytest.approx(min(each))
    assert (np.diff(chapter.taken(many)) > 0).all()


# --- prices ---------------------------------------------------------------


def surcharge(base=1.3, usual=(0.5, 0.01)):
    return chapter.Surcharge(voters(), usual, base)


def test_the_first_rows_are_at_the_list_price_and_the_next_by_the_formula():
    pricing, stream = surcharge(), costs(np.zeros(40))
    assert pricing.price("a") == 1
    taken = chapter.taken(stream)
    wanted = [1.0] + [
        np.clip(1.3 ** (taken[n - 1] - 0.5 - 0.01 * n), 1, chapter.MOST)
        for n in (10, 20, 30)
    ]
    assert pricing.take("a", stream) == pytest.approx(np.mean(wanted))
    assert pricing.price("b") == 1
    assert wanted[-1] > 1


def test_a_large_call_costs_what_its_parts_cost():
    whole, parts, stream = surcharge(), surcharge(), costs(np.arange(45) % 30)
    paid = [parts.take("a", p) * len(p)
            for p in np.split(stream, range(10, 45, 10))]  # fmt: skip
    assert whole.take("a", stream) == pytest.approx(sum(paid) / 45)


def test_the_price_has_a_floor_and_a_ceiling():
    pricing = surcharge(base=50.0)
    pricing.take("a", costs(np.zeros(500)))
    assert pricing.price("a") == pytest.approx(chapter.MOST)
    cheap = surcharge(usual=(0.0, 10.0))
    cheap.take("a", costs(np.zeros(50)))
    assert cheap.price("a") == 1


@pytest.mark.parametrize(
    ("usual", "base", "fault"),
    [
        ((0, np.nan), 1.2, "NaN"),
        ((0, 1), 0.9, "base must be"),
        ((0, 1), np.inf, "base must be"),
    ],
)
def test_other_surcharges_are_refused(usual, base, fault):
    with pytest.raises(ValueError, match=fault):
        chapter.Surcharge(voters(), usual, base)


def clients(n=12, seed=0):
    rng = np.random.default_rng(seed)
    return [costs(rng.choice([20, 30, 50], 60)) for _ in range(n)]


def test_the_line_is_a_library_s_and_the_base_is_the_least_fair_one():
    them = clients()
    usual = chapter.usual_line(them)
    paths = np.array([chapter.taken(c) for c in them])
    line = stats.linregress(np.tile(np.arange(1, 61), 12), paths.ravel())
    np.testing.assert_allclose(usual, (line.intercept, line.slope))
    base = chapter.fair_base(them, usual)
    above = [
        (base ** (path - usual[0] - usual[1] * np.arange(1, 61))).max()
        for path in paths
    ]
    assert np.sum(np.array(above) > chapter.FAIR * (1 + 1e-9)) <= 1
    assert np.sort(above)[-2] == pytest.approx(chapter.FAIR) or np.sort(above)[
        -1
    ] == pytest.approx(chapter.FAIR)


def test_clients_who_are_all_usual_set_no_base():
    with pytest.raises(ValueError, match="calibrate on clients that differ"):
        chapter.fair_base(clients(), (100.0, 0.0))


def test_a_tariff_cannot_be_divided_and_a_surcharge_can():
    stream = costs(np.random.default_rng(1).choice([0, 10, 40], 200))
    tariff = chapter.Tariff(voters(), 0.01, 0.5)
    whole = chapter.multiple(tariff, stream)
    mean = stream[:, ORDERS == chapter.ORDER].mean()
    assert whole == pytest.approx(1 + 0.5 * (mean / 0.01 - 1))
    for k in (2, 7, 16):
        assert chapter.multiple(tariff, stream, k) == pytest.approx(whole)
    bills = [chapter.multiple(surcharge(), stream, k) for k in (1, 4, 20)]
    assert bills[0] > bills[1] > bills[2] == 1


@pytest.mark.parametrize(
    ("usual", "share", "fault"),
    [(0.0, 0.5, "usual must be"), (0.1, 1.5, "share must be")],
)
def test_other_tariffs_are_refused(usual, share, fault):
    with pytest.raises(ValueError, match=fault):
        chapter.Tariff(voters(), usual, share)


def test_a_purse_buys_whole_calls_and_no_more():
    stream, pricing = costs(np.zeros(300)), surcharge()
    spent = np.cumsum(chapter.charges(pricing, stream))
    for budget in (5, 10, 60, 300):
        n = chapter.bought(pricing, stream, budget=budget)
        assert n % 10 == 0
        assert n == 0 or spent[n // 10 - 1] <= budget * (1 + 1e-9)
        assert n == 300 or spent[n // 10] > budget
    flat = chapter.Tariff(voters(), 1.0, 0.0)
    assert chapter.bought(flat, stream) == 300


def test_dummies_are_paid_and_give_credit():
    pricing, stream = surcharge(usual=(0.0, 0.02)), costs(np.zeros(100))
    dummy = costs([50])[0]
    bills = [chapter.on_credit(pricing, stream, dummy, n) for n in (0, 400)]
    assert bills[0] == pytest.approx(100 * chapter.multiple(pricing, stream))
    assert bills[1] >= 500 and bills[1] - 400 < bills[0]


def test_turns_are_ten_rows_of_each():
    groups = [np.full((30, 2), i) for i in range(3)]
    found = chapter.taking_turns(groups)[:, 0]
    np.testing.assert_array_equal(found, np.tile(np.repeat(range(3), 10), 3))


# --- the ledger -----------------------------------------------------------


@pytest.mark.parametrize("accounts", [1, 3])
def test_the_ledger_bills_what_is_reckoned(accounts):
    victim = a_victim()
    pricing = chapter.Surcharge(voters(victim=victim), (0.5, 0.01), 1.3)
    api = chapter.priced_api(victim.predict_proba, pricing, 2.0)
    names = [f"account {i}" for i in range(accounts)]
    Accounts(api, names, rows=chapter.PART).query(rows(90))
    stream = chapter.costs_of(pricing.votes, rows(90))
    times = chapter.multiple(pricing, stream, accounts)
    assert api.ledger.cost == pytest.approx(times * 90 * 2.0 / 1000)
    table = api.ledger.table()
    assert list(table.index) == names and table["queries"].sum() == 90
    assert table["cost ($)"].sum() == pytest.approx(api.ledger.cost)
    assert (table["times"] >= 1).all()


def test_two_calls_of_a_client_at_once_are_billed_each_at_its_price():
    def bills(both_first):
        votes = voters(victim=a_victim())
        pricing = chapter.Surcharge(votes, (0.5, 0.01), 1.3)
        ledger, calls = chapter.PricedLedger(pricing), (rows(1), rows(200))
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
            steps = [
                (thread, x, act)
                for thread, x in zip((one, two), calls, strict=True)
                for act in ("observe", "bill")
            ]
            if both_first:
                steps = [steps[0], steps[2], steps[1], steps[3]]
            for thread, x, act in steps:
                case = ("a", x, None) if act == "observe" else ("a", len(x))
                owner = pricing if act == "observe" else ledger
                thread.submit(getattr(owner, act), *case).result()
        return ledger.cost

    assert bills(both_first=True) == pytest.approx(bills(both_first=False))


def test_a_refused_call_is_on_no_bill():
    victim = a_victim()
    pricing = chapter.Surcharge(voters(victim=victim), (0.5, 0.01), 1.3)
    api = chapter.priced_api(victim.predict_proba, pricing, budget=20)
    api.query(rows(20), "a")
    for bad in (rows(1), np.full((1, 4), np.nan)):
        with pytest.raises((BudgetExceeded, ValueError)):
            api.query(bad, "a")
    assert api.ledger.queries == 20 and pricing.account("a")[0] == 20


def test_answers_are_those_of_an_api_that_charges_all_alike():
    victim = a_victim()
    pricing = chapter.Surcharge(voters(victim=victim), (0.5, 0.01), 1.3)
    api = chapter.priced_api(victim.predict_proba, pricing)
    np.testing.assert_array_equal(
        api.query(rows(30)),
        PredictionAPI(victim.predict_proba).query(rows(30)),
    )
