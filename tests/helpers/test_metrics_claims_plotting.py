"""Scores, claims, figures and tables."""

import json
import math

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mexutils import Claims, claims, metrics, plotting
from mexutils.runs import (
    Interval,
    interval,
    of_shares,
    paired_difference,
    proportion_interval,
)

# --- scores ---------------------------------------------------------------

TRUTH = [0, 1, 2, 1]
VICTIM = [0, 1, 2, 2]  # three of four right
COPY = np.array(  # 0, 1, 1, 2: two of four right, three as the victim says
    [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.5, 0.4], [0.1, 0.2, 0.7]]
)


def test_scores_have_their_hand_values():
    assert metrics.accuracy(COPY, TRUTH) == 0.5
    assert metrics.fidelity(COPY, VICTIM) == 0.75
    assert metrics.relative_accuracy(COPY, VICTIM, TRUTH) == 0.5 / 0.75
    assert metrics.accuracy(VICTIM, TRUTH) == 0.75


def test_labels_and_scores_say_the_same():
    labels = metrics.labels_of(COPY)
    assert labels.tolist() == [0, 1, 1, 2]
    assert metrics.labels_of(labels).tolist() == labels.tolist()
    assert metrics.fidelity(COPY, COPY) == metrics.fidelity(labels, COPY) == 1


def test_relative_accuracy_can_exceed_one():
    assert metrics.relative_accuracy([0, 1], [0, 0], [0, 1]) == 2


def test_total_variation_has_its_hand_value():
    p, q = [[1, 0, 0], [0.5, 0.5, 0]], [[0, 0, 1], [0.5, 0.25, 0.25]]
    assert metrics.total_variation(p, q) == (1 + 0.25) / 2
    assert metrics.total_variation(p, p) == 0


def test_total_variation_is_the_largest_difference_of_any_event():
    p, q = np.random.default_rng(0).dirichlet(np.ones(4), (2, 1))
    events = np.array(np.meshgrid(*[[0, 1]] * 4)).reshape(4, -1)
    largest = np.abs((p - q) @ events).max()
    assert metrics.total_variation(p, q) == pytest.approx(largest)


NAN = math.nan
BAD_SCORES = {
    "other lengths": lambda: metrics.accuracy([0, 1], [0, 1, 1]),
    "nothing": lambda: metrics.accuracy([], []),
    "three axes": lambda: metrics.fidelity(np.zeros((2, 2, 2)), [0, 1]),
    "NaN scores": lambda: metrics.accuracy([[NAN, 1], [1, 0]], [0, 0]),
    "a victim never right": lambda: metrics.relative_accuracy([0], [0], [1]),
    "distances of other shapes": lambda: metrics.total_variation(
        [[1, 0]], [[1, 0, 0]]
    ),
    "distances of vectors": lambda: metrics.total_variation([1, 0], [1, 0]),
    "distances of NaN": lambda: metrics.total_variation([[NAN, 1]], [[0, 1]]),
    "interval of one": lambda: interval([1.0]),
    "interval of a table": lambda: interval(np.zeros((3, 2))),
    "interval of NaN": lambda: interval([1.0, NAN, 2.0]),
    "pairs of other lengths": lambda: paired_difference([1], [1, 2]),
    "shares in percent": lambda: of_shares([0.5, 97.0]),
    "shares below 0": lambda: of_shares([0.5, -0.1]),
    "a share alone": lambda: of_shares([0.5]),
    "a table of shares": lambda: of_shares(np.zeros((3, 2))),
    "shares with NaN": lambda: of_shares([0.5, NAN, 1.0]),
    "more successes than trials": lambda: proportion_interval(3, 2),
    "no trial": lambda: proportion_interval(0, 0),
}


WINE = np.repeat([3, 4, 5, 6, 7, 8], 5)  # classes that are no places
PLACES = WINE - 3
SHAKY = np.where(np.arange(30) % 5 < 4, PLACES, 0)
WORDS = np.array(["low", "high"])
BAD_SCORES |= {
    "numbers and words": lambda: metrics.accuracy([0, 1], WORDS),
    "words and numbers": lambda: metrics.fidelity(WORDS, [0, 1]),
    "scores and words": lambda: metrics.accuracy(np.eye(2), WORDS),
    "objects and numbers": lambda: metrics.accuracy(WORDS.astype("O"), [0, 1]),
    "a mix": lambda: metrics.accuracy(np.array(["a", 1], "O"), WORDS),
    "bytes and words": lambda: metrics.accuracy(WORDS.astype("S"), WORDS),
    "scores and classes": lambda: metrics.accuracy(np.eye(6)[PLACES], WINE),
    "classes and scores": lambda: metrics.accuracy(WINE, np.eye(6)[PLACES]),
    "scores and signs": lambda: metrics.accuracy(np.eye(2), [-1, 1]),
    "scores and fractions": lambda: metrics.accuracy(np.eye(2), [0, 0.5]),
    "scores of one class": lambda: metrics.accuracy([0.2, 0.9], [0, 1]),
    "more columns than theirs": lambda: metrics.fidelity(
        np.eye(3), np.eye(2)[[0, 1, 1]]
    ),
    "places and classes": lambda: metrics.accuracy(PLACES, WINE),
    "classes and places": lambda: metrics.fidelity(WINE, PLACES),
    "poor places": lambda: metrics.accuracy(SHAKY, WINE),
    "relative to places": lambda: metrics.relative_accuracy(
        WINE, PLACES, WINE
    ),
    "places and signs": lambda: metrics.accuracy(
        np.arange(30) % 2, np.arange(30) % 2 * 2 - 1
    ),
    "places as booleans": lambda: metrics.accuracy(
        np.arange(30) % 2 == 1, np.arange(30) % 2 * 2 - 1
    ),
}


@pytest.mark.parametrize("case", BAD_SCORES)
def test_bad_scores_are_refused(case):
    with pytest.raises(ValueError):
        BAD_SCORES[case]()


@pytest.mark.parametrize(
    ("answers", "truth"),
    [(PLACES, WINE), (np.eye(6)[PLACES], WINE), ([0, 1], WORDS)],
    ids=["places", "scores", "words"],
)
def test_what_is_no_class_is_refused_with_the_remedy(answers, truth):
    with pytest.raises(ValueError, match=r"classes=model\.classes_"):
        metrics.accuracy(answers, truth)


DIGITS = np.arange(30) % 10
CONFUSED = np.repeat([0, 1, 2, 4, 5, 6, 7, 8, 9], 10)  # class 3 is missing
HONEST = {  # answers, truth, score: nothing here is a mix-up
    "scores of a poor copy, a class missing": (
        np.eye(10)[np.searchsorted(np.unique(CONFUSED), CONFUSED)],
        CONFUSED,
        1 / 3,
    ),
    "never right": ([1, 0, 1], [0, 1, 0], 0),
    "never right on a handful": ([0, 1, 0, 1], [1, 2, 1, 2], 0),
    "never right on many": (1 - DIGITS % 2, DIGITS % 2, 0),
    "one label for all": (np.full(30, 4), DIGITS, 0.1),
    "one label, which never occurs": (
        np.full(27, 0),
        np.arange(27) % 9 + 1,
        0,
    ),
    "rows without some classes": (np.full(30, 1), np.full(30, 7), 0),
    "every answer shifted": ((DIGITS + 1) % 10, DIGITS, 0),
    "named numbers": (WINE, np.where(WINE == 8, 7, WINE), 25 / 30),
    "signs": (np.sign(DIGITS - 4.5), -np.sign(DIGITS - 4.5), 0),
    "words": (WORDS[DIGITS % 2], WORDS[DIGITS % 2].astype("O"), 1),
    "booleans": (DIGITS > 4, (DIGITS > 4).astype(int), 1),
    "whole numbers as floats": (DIGITS.astype(float), DIGITS, 1),
    "steps of a half": ([0.5, 1.0], [0.5, 1.5], 0.5),
    "scores of more classes": (np.eye(12)[DIGITS], DIGITS, 1),
}


@pytest.mark.parametrize("case", HONEST)
def test_honest_comparisons_are_not_refused(case):
    answers, truth, score = HONEST[case]
    assert metrics.accuracy(answers, truth) == score
    assert metrics.fidelity(truth, answers) == score


def test_labels_become_one_hot():
    rows = [[0, 0, 1], [1, 0, 0]]
    np.testing.assert_array_equal(metrics.one_hot([2, 0], 3), rows)
    np.testing.assert_array_equal(
        metrics.as_probabilities(np.array([2, 0]), 3), rows
    )
    assert metrics.as_probabilities(np.array(rows), 3).tolist() == rows


@pytest.mark.parametrize("labels", [[3], [-1], [0.5], ["a"], [True]])
def test_labels_that_are_no_places_are_refused(labels):
    with pytest.raises(ValueError, match="places from 0 to 2"):
        metrics.one_hot(np.array(labels), 3)


def test_the_three_scores_are_percent_of_the_same_rows():
    found = metrics.scores([0, 1, 1, 0], [0, 1, 0, 1], [0, 1, 1, 1])
    assert found == {
        "accuracy": 75,
        "fidelity": 50,
        "relative": pytest.approx(100),
    }


def test_copies_of_any_quality_are_not_refused():
    rng = np.random.default_rng(0)
    for _ in range(500):
        classes = rng.choice(12, rng.integers(2, 9), replace=False)
        n = int(rng.integers(1, 200))
        truth = rng.choice(classes, n)
        right = rng.random(n) < rng.random()
        answers = np.where(right, truth, rng.choice(classes, n))
        assert metrics.accuracy(answers, truth) == (answers == truth).mean()


def test_copies_that_know_few_classes_are_not_refused():
    rng = np.random.default_rng(0)
    for _ in range(4000):
        c, n = rng.integers(3, 11), rng.choice([20, 25, 30])
        truth = rng.integers(0, c, n)
        truth[truth == rng.integers(c)] = rng.integers(c)
        known = rng.choice(c, rng.integers(1, c + 1), replace=False)
        right = rng.random(n) < rng.random() / 2
        answers = np.where(right, truth, rng.choice(known, n))
        assert metrics.fidelity(answers, truth) == (answers == truth).mean()


# --- intervals ------------------------------------------------------------


def test_interval_is_students():
    values = np.random.default_rng(0).normal(3, 2, 7)
    ends = interval(values)
    second = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert ends.mean == pytest.approx(values.mean())
    np.testing.assert_allclose(ends[1:], [second.low, second.high])


def test_interval_has_its_hand_value():
    # Mean 2, standard error 1 / sqrt(3), t(0.975; 2) = 4.302653.
    half = 4.302653 / math.sqrt(3)
    np.testing.assert_allclose(
        interval([1, 2, 3]), [2, 2 - half, 2 + half], rtol=1e-6
    )


def test_interval_holds_the_true_mean_in_95_of_100_cases():
    draws = np.random.default_rng(0).normal(1.5, 1, (3000, 5))
    ends = [interval(draw) for draw in draws]
    share = np.mean([end.low <= 1.5 <= end.high for end in ends])
    assert share == pytest.approx(0.95, abs=0.012)


def test_shares_are_an_interval_within_0_and_1():
    middle = [0.4, 0.5, 0.6]
    assert of_shares(middle) == interval(middle)
    for values in ([0.9, 1.0, 1.0], [0.0, 0.0, 0.1]):
        plain, cut = interval(values), of_shares(values)
        assert plain.low < 0 or plain.high > 1
        assert cut.mean == plain.mean
        assert cut[1:] == (max(plain.low, 0), min(plain.high, 1))
    assert of_shares([1.0, 1.0 + 1e-12]).high == 1
    assert of_shares([True, False, True]).mean == pytest.approx(2 / 3)


def test_paired_difference_cancels_what_pairs_share():
    shared = np.random.default_rng(0).normal(0, 100, 6)
    ends = paired_difference(shared + [2, 3, 2, 3, 2, 3], shared)
    assert ends.mean == pytest.approx(2.5)
    assert 1.9 < ends.low < 2.5 < ends.high < 3.1


def test_proportion_interval_is_wilsons():
    k, n, z = 7, 20, stats.norm.ppf(0.975)
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    np.testing.assert_allclose(
        proportion_interval(k, n),
        [k / n, centre - half, centre + half],
        rtol=1e-10,
    )


def test_proportion_interval_holds_the_share_in_95_of_100_cases():
    counts = np.random.default_rng(0).binomial(50, 0.3, 2000)
    ends = [proportion_interval(k, 50) for k in range(51)]
    share = np.mean([ends[k].low <= 0.3 <= ends[k].high for k in counts])
    assert 0.93 < share < 0.98


def test_an_interval_prints_with_its_ends():
    ends = Interval(0.98765, 0.98, 0.99)
    assert f"{ends:.1%}" == "98.8% [98.0%, 99.0%]"
    assert f"{ends}" == "0.988 [0.98, 0.99]"


# --- claims ---------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """What `check` displays."""
    outputs = []
    monkeypatch.setattr(
        "IPython.display.display", lambda data, raw: outputs.append(data)
    )
    if hasattr(claims, "display"):
        monkeypatch.setattr(
            claims, "display", lambda data, raw: outputs.append(data)
        )
    return outputs


@pytest.mark.parametrize(
    "ends",
    [
        {},
        {"low": -math.inf, "high": math.inf},
        {"low": 2, "high": 1},
        {"low": NAN, "high": 1},
        {"low": 0, "high": NAN},
    ],
    ids=["none", "open", "empty", "NaN low", "NaN high"],
)
def test_a_claim_that_cannot_fail_or_hold_is_refused(ends):
    with pytest.raises(ValueError, match="'queries' accepts.*give a low"):
        Claims().add("queries", 1, **ends)


def test_a_claim_stated_twice_is_refused():
    chapter = Claims()
    chapter.add("queries", 1, low=0)
    with pytest.raises(ValueError, match="'queries' is stated twice"):
        chapter.add("queries", 2, low=0)


def test_a_chapter_without_claims_is_refused(shown):
    with pytest.raises(ValueError, match="claims nothing"):
        Claims().check()
    assert shown == []


def test_claims_that_hold_are_shown(shown):
    chapter = Claims()
    chapter.add("queries", 31, low=31, high=31, paper="41")
    chapter.add("accuracy", 0.5, low=0.5)
    chapter.check()
    (output,) = shown
    assert "queries" in output["text/plain"]
    assert "<table" in output["text/html"]
    assert [c["name"] for c in output[claims.MIME]] == ["queries", "accuracy"]


def test_missed_claims_are_shown_and_named(shown, capsys):
    chapter = Claims()
    chapter.add("accuracy", 0.42, low=0.5)
    chapter.add("queries", 30, high=31)
    chapter.add("error", 2e-3, high=1e-10)
    chapter.check()
    assert capsys.readouterr().out == (
        "2 of 3 claims are missed in this run: accuracy: 0.42 is not in "
        "≥ 0.5; error: 0.002 is not in ≤ 1.00e-10\n"
    )
    assert [claim.name for claim in chapter.missed] == ["accuracy", "error"]
    (output,) = shown
    assert output["text/html"].count('<tr class="missed"') == 2


def test_what_a_busy_machine_cannot_measure_is_neither_held_nor_missed(shown):
    chapter = Claims()
    chapter.add("ratio of times", 1.2, low=4, noisy=True)
    chapter.add("at peace", 5, low=4, noisy=False)
    chapter.check()
    assert chapter.missed == []
    (output,) = shown
    assert "too noisy here" in output["text/html"]
    assert 'class="missed"' not in output["text/html"]
    kept = [claims.Claim.from_json(c) for c in output[claims.MIME]]
    assert [claim.verdict for claim in kept] == ["too noisy here", "yes"]


@pytest.mark.parametrize(
    ("value", "holds"), [(1, True), (2, True), (0.999, False), (NAN, False)]
)
def test_a_claim_holds_within_its_ends_alone(value, holds):
    assert claims.Claim("x", value, 1, 2).holds is holds


def test_what_a_notebook_keeps_of_the_claims_is_strict_json(shown):
    chapter = Claims()
    chapter.add("low end", 1, low=0)
    chapter.add("high end", 1, high=2)
    chapter.check()
    json.dumps(shown[0][claims.MIME], allow_nan=False)


def test_the_table_of_claims_reads_as_text():
    frame = claims.claims_table(
        [
            claims.Claim("a", 31.0, 31, 31, "41"),
            claims.Claim("b", 0.97654, 0.95, math.inf),
            claims.Claim("c", 3.2e-14, -math.inf, 1e-10),
            claims.Claim("d", 12345.0, 1000, 2000),
            claims.Claim("e", NAN, 0.5, 1.5),
        ]
    )
    assert list(frame.columns) == [
        *("claim", "paper", "this run", "accepted", "holds")
    ]
    assert frame.to_numpy().tolist() == [
        ["a", "41", "31", "= 31", "yes"],
        ["b", "–", "0.9765", "≥ 0.95", "yes"],
        ["c", "–", "3.20e-14", "≤ 1.00e-10", "yes"],
        ["d", "–", "12,345", "1,000 to 2,000", "NO"],
        ["e", "–", "nan", "0.5 to 1.5", "NO"],
    ]


def test_long_words_of_a_claim_are_shown_whole(shown):
    name = "accuracy of the copy that is trained on " + "many " * 20 + "rows"
    chapter = Claims()
    chapter.add(name, 1, low=0, paper=name[::-1])
    chapter.check()
    assert name in shown[0]["text/html"]
    assert name[::-1] in shown[0]["text/html"]
    assert name in shown[0]["text/plain"]


# --- figures and tables ---------------------------------------------------


@pytest.fixture(autouse=True)
def usual_style():
    """Every test leaves matplotlib as it found it."""
    with matplotlib.rc_context():
        yield
    plt.close("all")


def test_the_style_is_used_by_later_figures():
    plotting.use_style()
    figure, ax = plt.subplots()
    first, second = (ax.plot([0, 1])[0] for _ in range(2))
    assert not ax.spines["top"].get_visible()
    assert figure.get_constrained_layout()
    colours = list(plotting.COLOURS.values())
    assert [first.get_color(), second.get_color()] == colours[:2]
    assert first.get_marker() != second.get_marker()


def test_a_band_is_the_mean_and_its_interval():
    _, ax = plt.subplots()
    values = np.random.default_rng(0).normal(size=(3, 5))
    plotting.band(ax, [1, 2, 4], values, "copy")
    (line,), (band,) = ax.lines, ax.collections
    assert line.get_label() == "copy"
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 4])
    np.testing.assert_allclose(line.get_ydata(), values.mean(1))
    corners = band.get_paths()[0].vertices
    for x, row in zip([1, 2, 4], values, strict=True):
        ends = corners[corners[:, 0] == x, 1]
        wanted = interval(row)
        np.testing.assert_allclose(
            [ends.min(), ends.max()], [wanted.low, wanted.high]
        )
    colour = matplotlib.colors.to_rgb(line.get_color())
    np.testing.assert_allclose(band.get_facecolor()[0, :3], colour)


@pytest.mark.parametrize("shape", [(14, 1, 5, 6), (14, 5, 6)])
def test_images_stand_in_rows(shape):
    x = np.random.default_rng(0).uniform(size=shape)
    figure = plotting.images(x, columns=6, titles=list(range(14)))
    assert len(figure.axes) == 18
    drawn = [ax for ax in figure.axes if ax.images]
    assert len(drawn) == 14
    assert [ax.get_title() for ax in drawn] == list(map(str, range(14)))
    np.testing.assert_array_equal(
        drawn[13].images[0].get_array(), x[13].reshape(5, 6)
    )
    assert drawn[0].images[0].get_clim() == (0, 1)


def test_a_table_is_formatted_and_has_no_row_numbers():
    html = plotting.table(
        [
            {"attack": "a", "queries": 1000, "cost ($)": 1.5},
            {"attack": "b", "queries": 31, "cost ($)": np.nan},
        ],
        formats={"queries": "{:,}", "cost ($)": "{:.2f}"},
    ).data
    text = " ".join(html.replace("<", " <").replace(">", "> ").split())
    assert "<td> a </td> <td> 1,000 </td> <td> 1.50 </td>" in text
    assert "<td> b </td> <td> 31 </td> <td> – </td>" in text
    assert "<th> 0 </th>" not in text


def test_a_table_keeps_its_named_index():
    index = pd.Index(["eve", "ann"], name="client")
    html = plotting.table(pd.DataFrame({"n": [1, 2]}, index=index)).data
    assert "<th>eve</th>" in html and "<th>ann</th>" in html


def test_a_table_is_made_of_tuples_and_columns():
    html = plotting.table([("eve", 31)], columns=["client", "rows"]).data
    assert "<th>client</th>" in html and "<td>31</td>" in html


def test_a_table_shows_long_words_whole():
    words = "one " * 40 + "end"
    assert words in plotting.table([{"what": words}]).data
