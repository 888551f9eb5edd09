"""In front of MLServer, a server of other authors."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import MinMaxScaler

from mexutils import BudgetExceeded, PredictionAPI, load_chapter
from mexutils.wire import RemoteAPI, RemoteError, Upstream
from mexutils.wire.mlserver import environment, mlserver

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows():
    x, _ = load_breast_cancer(return_X_y=True)
    return MinMaxScaler((-1, 1)).fit_transform(x)


@pytest.fixture(scope="module")
def model(rows):
    _, y = load_breast_cancer(return_X_y=True)
    return LogisticRegression(max_iter=1000).fit(rows, y)


@pytest.fixture(scope="module")
def url(model):
    if not (environment() / "bin" / "mlserver").exists():
        pytest.skip("MLServer is not installed: run make wire")
    with mlserver({"cancer": model}) as url:
        yield url


def test_its_answers_are_the_models_own(url, model, rows):
    assert (RemoteAPI(url, "cancer").query(rows) == model.predict(rows)).all()
    found = Upstream(url, "cancer").predict_proba(rows)
    assert np.allclose(found, model.predict_proba(rows), rtol=0, atol=1e-15)
    found = RemoteAPI(url, "cancer")
    found.query(rows[:1])
    assert found.queries_used is None and found.input_shape is None
    assert not hasattr(found, "returns") and found.remaining is None


def test_it_gives_probabilities_to_whoever_asks_and_the_gateway_does_not(
    url, model, rows, shop
):
    stealml = load_chapter("attacks/stealml")
    x = stealml.uniform_rows(31, 30, 0)
    theta = stealml.theta_of(model)
    open_door = RemoteAPI(url, "cancer", output="predict_proba")
    found = stealml.solve_binary(open_door, x)
    assert np.allclose(np.ravel(found), np.ravel(theta), rtol=0, atol=1e-9)

    api = PredictionAPI(
        Upstream(url, "cancer").predict_proba,
        input_shape=(30,),
        returns="label",
        budget=40,
    )
    sold = shop(api)
    assert (sold.query(rows[:31]) == model.predict(rows[:31])).all()
    asking = RemoteAPI(sold.base, key="k-eve", output="predict_proba")
    with pytest.raises(ValueError, match="'predict' is the only output"):
        asking.query(x)
    with pytest.raises(BudgetExceeded, match="31 rows asked, 9 of 40 left"):
        sold.query(x)
    with pytest.raises(LookupError, match="404"):
        RemoteAPI(sold.base, "other", key="k-eve").query(x)
    assert api.ledger.queries == 31


def test_what_it_cannot_answer_is_billed_to_nobody(url, shop):
    source = Upstream(url, "cancer", retries=0)
    api = PredictionAPI(source.predict_proba, input_shape=(7,), budget=9)
    with pytest.raises(RemoteError, match="502"):
        shop(api).query(np.zeros((2, 7)))
    assert api.remaining == 9
