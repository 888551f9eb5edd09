"""On the wire: the servers, the three ways of a theft, the clock, the race."""

import json
import math
import threading
import time

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mexutils import (
    BudgetExceeded,
    ClientBlocked,
    PredictionAPI,
    datasets,
    load_chapter,
    victims,
)
from mexutils.wire import RemoteAPI, RemoteError, Upstream
from mexutils.wire.mlserver import environment

chapter = load_chapter("practice/on_the_wire")
HERE = (environment() / "bin" / "mlserver").exists()


@pytest.fixture(scope="module")
def models():
    return chapter.estimators(0)


@pytest.fixture(scope="module")
def lenet():
    return chapter.PlainLeNet()


@pytest.fixture(scope="module")
def rows():
    return datasets.tabular("breast_cancer").test.x


def stand_in(models, lenet, monkeypatch, tmp_path):
    monkeypatch.setattr(chapter, "environment", lambda: tmp_path)
    return chapter.model_server(models, lenet)


@pytest.fixture(
    params=[
        "stand-in",
        pytest.param("MLServer", marks=pytest.mark.slow),
    ],
    scope="module",
)
def url(request, models, lenet, tmp_path_factory):
    """A server of either kind with all models."""
    if request.param == "MLServer" and not HERE:
        pytest.skip("MLServer is not installed: run make wire")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "MLServer":
            server = chapter.model_server(models, lenet)
        else:
            folder = tmp_path_factory.mktemp("nothing")
            server = stand_in(models, lenet, patch, folder)
        with server as url:
            yield url


# --- the models ------------------------------------------------------------


def test_the_plain_network_answers_as_the_victim(lenet):
    x = datasets.mnist().test.x[:300]
    own = victims.mnist_lenet().predict_proba(x)
    np.testing.assert_allclose(lenet.predict_proba(x), own, atol=1e-5)
    np.testing.assert_array_equal(lenet.predict(x), own.argmax(axis=1))
    assert lenet.predict_proba(x[:1].astype(float)).dtype == np.float64


def test_networks_have_the_depths_that_they_are_named_by(models):
    for depth in chapter.KNOWN + chapter.HIDDEN:
        net = models[f"net-{depth}"]
        assert len(net.coefs_) == depth + 1
        assert net.coefs_[0].shape == (64, chapter.WIDTH)
    again = chapter.estimators(0)["net-4"]
    np.testing.assert_array_equal(again.coefs_[0], models["net-4"].coefs_[0])


def test_the_folder_of_the_network_is_what_the_server_reads(tmp_path, lenet):
    chapter.write_lenet(place := tmp_path / "digits", lenet)
    settings = json.loads((place / "model-settings.json").read_text())
    assert settings["name"] == "digits"
    assert (place / settings["parameters"]["uri"]).is_file()
    module, _, name = settings["implementation"].partition(".")
    source = (place / f"{module}.py").read_text()
    assert f"class {name}(MLModel)" in source
    assert "def lenet_proba(" in source
    compile(source, "runtime.py", "exec")
    with np.load(place / "weights.npz") as kept:
        assert all((kept[k] == w).all() for k, w in lenet.weights.items())


# --- either server ---------------------------------------------------------


def test_a_server_gives_what_the_models_say(url, models, lenet, rows):
    model = models["breast_cancer"]
    said = Upstream(url, "breast_cancer").predict_proba(rows)
    np.testing.assert_allclose(said, model.predict_proba(rows), atol=1e-12)
    labels = RemoteAPI(url, "breast_cancer").query(rows)
    np.testing.assert_array_equal(labels, model.predict(rows))
    x = datasets.mnist().test.x[:20]
    said = Upstream(url, "digits").predict_proba(x)
    np.testing.assert_allclose(said, lenet.predict_proba(x), atol=1e-6)
    assert (RemoteAPI(url, "digits").query(x) == lenet.predict(x)).all()


def test_a_call_by_hand_asks_for_the_output_that_it_names(url, models, rows):
    def said(*output):
        _, text = chapter.infer(url, "breast_cancer", rows[:2], *output)
        (found,) = json.loads(text)["outputs"]
        return found["name"], np.ravel(found["data"])

    name, labels = said()
    assert name == "predict" and labels.shape == (2,)
    name, p = said("predict_proba")
    assert name == "predict_proba"
    own = models["breast_cancer"].predict_proba(rows[:2])
    np.testing.assert_allclose(p, own.ravel(), atol=1e-12)


def test_a_server_grants_everything_to_a_stranger(url, rows):
    assert chapter.outsider(url, "breast_cancer", rows[:1]) == {
        "a label": 200,
        "probabilities": 200,
        "a row too short": 500,
        "a list of all models": 200,
        "unload the model": 200,
        "a label, after that": 404,
    }
    # what was unloaded is there again
    assert chapter.infer(url, "breast_cancer", rows[:1])[0] == 200


def test_a_server_lists_its_models_and_says_who_it_is(url, models):
    _, text = chapter.post(url, "/v2/repository/index")
    listed = {entry["name"] for entry in json.loads(text)}
    assert listed == {*models, "digits"}
    name = httpx.get(f"{url}/v2", trust_env=False).json()["name"]
    assert name in ("mlserver", "the stand-in")


def test_a_server_is_gone_after_its_block(lenet, monkeypatch, tmp_path):
    before = set(threading.enumerate())
    for _ in range(2):
        server = stand_in({}, lenet, monkeypatch, tmp_path)
        with pytest.raises(KeyError, match="a cell"), server as url:
            assert url.startswith("http://127.0.0.1:")
            raise KeyError("a cell")  # as a cell may
        assert set(threading.enumerate()) <= before
        with pytest.raises(RemoteError, match="cannot be reached"):
            RemoteAPI(url, "digits", retries=0).query(np.zeros((1, 2)))


# --- three ways of one theft -----------------------------------------------


def test_thefts_are_the_same_on_both_ways(url, models, lenet):
    for name, theft in chapter.thefts(3).items():
        if name == "KnockoffNets":
            continue  # the chapter has it; it takes seconds
        answers = Upstream(url, theft.model).predict_proba
        near, bill = chapter.in_process(theft, answers)
        far, far_bill = chapter.over_http(theft, answers)
        assert chapter.apart(theft, near, far) == (0, 0.0), name
        assert bill.queries == far_bill.queries > 0
        assert bill.calls == far_bill.calls


def test_what_differs_is_counted():
    theft = chapter.Theft("m", "label", None)
    one = np.array([1.0, 2.0, 3.0])
    assert chapter.apart(theft, one, one) == (0, 0.0)
    assert chapter.apart(theft, one, one + [0, 1e-9, -2]) == (2, 2.0)
    assert chapter.apart(theft, one, one[:2]) == (3, math.inf)


def test_three_ways_sets_the_wire_beside_process_and_model():
    model = LogisticRegression().fit([[0.0], [1.0], [2.0]], [0, 0, 1])
    x = np.array([[0.3], [0.9]])
    theft = chapter.Theft("m", "probabilities", lambda api: api.query(x))
    off = lambda x: model.predict_proba(x) @ [[0.9, 0.1], [0.1, 0.9]]  # noqa: E731
    run = chapter.three_ways(theft, model.predict_proba, off)
    assert (run["rows"], run["rows over HTTP"], run["calls"]) == (2, 2, 1)
    assert (run["differ"], run["largest"], run["numbers"]) == (0, 0.0, 4)
    assert run["largest, from the model here"] == pytest.approx(
        np.abs(off(x) - model.predict_proba(x)).max()
    )


def test_corners_and_weights_are_all_there(models):
    trees = load_chapter("attacks/stealml_trees")
    boxes = [trees.Box(np.zeros(2), np.ones(2), (1.0, 0.5))]
    assert chapter.corners_of(boxes).tolist() == [0, 0, 1, 1, 1, 0.5]
    net = victims.mnist_lenet().model
    count = sum(p.numel() for p in net.parameters())
    assert chapter.weights_of(net).shape == (count,)


def test_ten_digits_of_each_class():
    digits = chapter.ten_of_each(1)
    found = victims.mnist_lenet().predict_proba(digits).argmax(axis=1)
    assert digits.shape == (100, 1, 28, 28)
    assert (np.bincount(found, minlength=10) >= 8).all()


# --- the gateway -----------------------------------------------------------


def test_an_angle_is_between_boundaries(models):
    victim = models["breast_cancer"]
    theta = load_chapter("attacks/stealml").theta_of(victim)[0]
    assert chapter.angle_of(theta, victim) < 1e-7
    assert chapter.angle_of(-3 * theta, victim) < 1e-7
    across = np.zeros_like(theta)
    across[:2] = theta[1], -theta[0]
    assert chapter.angle_of(across, victim) == pytest.approx(math.pi / 2)
    mixed = theta / np.linalg.norm(theta) + across / np.linalg.norm(across)
    assert chapter.angle_of(mixed, victim) == pytest.approx(math.pi / 4)


def test_an_attempt_is_a_copy_or_the_refusal_and_its_bill(models, rows):
    answers = models["breast_cancer"].predict_proba
    ask = lambda api: api.query(rows[:7])  # noqa: E731
    end, n, cost = chapter.attempt(ask, answers, price_per_1000=2.0)
    np.testing.assert_array_equal(end, answers(rows[:7]))
    assert (n, cost) == (7, 0.014)
    end, n, _ = chapter.attempt(ask, answers, budget=6)
    assert isinstance(end, BudgetExceeded) and n == 0
    plan = chapter.thefts(0)["equations"].attack
    end, n, _ = chapter.attempt(plan, answers, returns="label")
    assert isinstance(end, ValueError) and n == 0


def test_a_gateway_in_a_process_grants_a_key_its_labels_alone(url, rows):
    said = ("--returns", "label", "--budget", 5)
    x = rows[:1]
    start = chapter.gateway_process(url, "breast_cancer", 30, *said)
    with start as door:
        stranger = chapter.outsider(door, "breast_cancer", x)
        customer = chapter.outsider(door, "breast_cancer", x, "k-eve")
    assert set(stranger.values()) == {401, 404}
    granted = [name for name, code in customer.items() if code == 200]
    assert granted == ["a label", "a label, after that"]
    assert customer["probabilities"] == customer["a row too short"] == 400
    with pytest.raises(httpx.ConnectError):
        chapter.infer(door, "breast_cancer", x, None, "k-eve")


def test_a_gateway_that_does_not_start_says_so(url):
    bad = chapter.gateway_process(url, "breast_cancer", 30, "--returns", "no")
    with pytest.raises(RuntimeError, match="did not start"), bad:
        pass


def test_the_alarm_blocks_over_the_wire_as_in_process(lenet):
    digits = chapter.ten_of_each(0)
    here, there = (chapter.watched(lenet.predict_proba) for _ in range(2))
    assert chapter.until_blocked(here, digits, 0)
    with chapter.serve(there, {"k": "anonymous", "l": "ann"}) as door:
        eve, ann = RemoteAPI(door, key="k"), RemoteAPI(door, key="l")
        assert chapter.until_blocked(eve, digits, 0)
        with pytest.raises(ClientBlocked):
            eve.query(digits[:1])
        assert len(ann.query(digits[:1])) == 1
    assert here.alarms == there.alarms
    mine, its = (api.ledger.accounts["anonymous"] for api in (here, there))
    assert mine == its
    assert its.queries < here.alarms["anonymous"].query <= 400


def test_an_attack_that_is_not_watched_ends(lenet):
    api = PredictionAPI(lenet.predict_proba, returns="label")
    assert not chapter.until_blocked(api, chapter.ten_of_each(0), 0)
    assert api.ledger.queries == 400


# --- the clock and the race ------------------------------------------------


def clock(monkeypatch, depths, tau=20e-6, noise=0.0, seed=0):
    """Put times a + tau L + noise in the place of the stopwatch."""

    def latencies(calls, rows, repeats, s):
        rng = np.random.default_rng([seed, s])
        late = rng.exponential(noise or 1e-12, (len(calls), repeats))
        return 1e-3 + tau * np.array(depths)[:, None] + late

    monkeypatch.setattr(chapter.STEALNN, "latencies", latencies)


def test_exact_times_give_the_depths(monkeypatch):
    depths = chapter.KNOWN + chapter.HIDDEN
    clock(monkeypatch, depths)
    errors, times = chapter.depth_errors([None] * 5, None, [3, 10], 2)
    assert errors.shape == (2, 2) and times.shape == (2, 5, 10)
    assert errors.max() < 1e-3


def test_repeats_take_the_noise_away(monkeypatch):
    depths = chapter.KNOWN + chapter.HIDDEN
    clock(monkeypatch, depths, noise=200e-6)
    errors, _ = chapter.depth_errors([None] * 5, None, [3, 30, 300], 10)
    few, some, many = errors.mean(axis=1)
    assert few > some > many


def test_a_wrong_depth_is_an_error_of_so_many_layers(monkeypatch):
    depths = np.array(chapter.KNOWN + chapter.HIDDEN, dtype=float)
    depths[2:] += 2
    clock(monkeypatch, depths)
    errors, _ = chapter.depth_errors([None] * 5, None, [3], 1)
    assert errors.item() == pytest.approx(2, abs=1e-3)


def test_a_reading_stays_between_the_known_depths(monkeypatch):
    depths = np.array(chapter.KNOWN + chapter.HIDDEN, dtype=float)
    depths[2:] = 99
    clock(monkeypatch, depths)
    errors, _ = chapter.depth_errors([None] * 5, None, [3], 1)
    assert errors.item() == pytest.approx(16 - np.mean(chapter.HIDDEN))


class Door:
    """A door that takes so long a call; who asked at once is counted."""

    def __init__(self, seconds):
        self.seconds, self.sizes, self.now, self.most = seconds, [], 0, 0
        self.room = threading.Lock()

    def query(self, x):
        with self.room:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self.room:
            self.now -= 1
            self.sizes.append(len(x))


def test_a_rate_is_rows_a_second_of_two_clients():
    door = Door(0.02)
    rate = chapter.batch_rate(door, np.zeros((100, 2)), calls=8)
    assert door.sizes == [100] * 8 and door.most == 2
    assert 100 * 2 / 0.02 * 0.3 < rate <= 100 * 2 / 0.02


def test_a_race_tells_a_slow_door_from_a_quick_one():
    doors = {"quick": Door(0.001), "slow": Door(0.006)}
    slow, fast = chapter.race(doors, np.zeros((9, 2)), 3, 0)
    assert slow.shape == fast.shape == (2, 3)
    assert (np.median(slow, axis=1) >= [0.001, 0.006]).all()
    assert np.median(slow[1] / slow[0]) > 2
    assert np.median(fast[1] / fast[0]) < 0.5
    assert doors["quick"].sizes.count(100) == 3 * 10


def test_two_busy_processes_get_a_share_of_a_core():
    assert 0 < chapter.two_cores() < 1.2
