"""The durable ledger: what a gateway that is killed still knows."""

import signal
import sqlite3
import threading
import time

import numpy as np
import pytest
from _wire import (
    KEYS,
    ROWS,
    ThirdCall,
    command,
    free_port,
    until,
    victim,
)

from mexutils import (
    Alarm,
    BudgetExceeded,
    ClientBlocked,
    PredictionAPI,
    load_chapter,
)
from mexutils.wire import (
    DurableLedger,
    LedgerError,
    RemoteAPI,
    RemoteError,
    serve,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def book(path):
    """Call it for the ledger as a new process would find it."""
    opened = []

    def reopen(**settings):
        for old in opened:
            old.close()
        opened.append(DurableLedger(path, **settings))
        return opened[-1]

    yield reopen
    for old in opened:
        old.close()


# --- the books ------------------------------------------------------------


@pytest.mark.parametrize("sync", [False, True])
def test_bills_and_budget_go_on(book, sync):
    api = PredictionAPI(victim, ledger=book(sync=sync), budget=100)
    api.query(ROWS[:20], "ann")
    api.query(ROWS[:30], "eve")
    api.query(ROWS[:1], "eve")
    before = api.ledger.table()
    api = PredictionAPI(victim, ledger=book(), budget=100, price_per_1000=1.50)
    assert api.ledger.table().equals(before)
    assert api.remaining == 49 and api.ledger.calls == 3
    with pytest.raises(BudgetExceeded, match="49 of 100 left"):
        api.query(ROWS)
    api.query(ROWS[:49])
    assert PredictionAPI(victim, ledger=book(), budget=100).remaining == 0


def test_the_file_is_written_before_the_answer(path, book):
    """Another connection reads each bill as soon as the call returns."""
    api = PredictionAPI(victim, ledger=book(), monitors=[ThirdCall()])
    reader = sqlite3.connect(path)
    for n in range(1, 6):
        api.query(ROWS[:3], "eve")
        sql = "SELECT queries, calls FROM accounts"
        assert reader.execute(sql).fetchall() == [(3 * n, n)]
        (seen,) = reader.execute("SELECT count(*) FROM seen").fetchone()
        (alarms,) = reader.execute("SELECT count(*) FROM alarms").fetchone()
        assert seen == n and alarms == (n >= 3)
    reader.close()


def test_what_was_refused_is_in_no_book(book):
    calls = []

    def sometimes(x):
        calls.append(1)
        if len(calls) % 2:
            raise RuntimeError("down")
        return victim(x)

    api = PredictionAPI(sometimes, ledger=book(), budget=50)
    for _ in range(4):
        try:
            api.query(ROWS[:10], "eve")
        except RuntimeError:
            continue
    assert book().accounts["eve"].queries == 20


@pytest.mark.parametrize("on_alarm", ["flag", "block"])
def test_alarms_and_blocked_names_go_on(book, on_alarm):
    settings = {"on_alarm": on_alarm, "budget": 1000}
    api = PredictionAPI(
        victim, ledger=book(), monitors=[ThirdCall()], **settings
    )
    for _ in range(5):
        try:
            api.query(ROWS[:2], "eve")
        except ClientBlocked:
            continue
    api = PredictionAPI(victim, ledger=book(), **settings)  # no monitor now
    assert api.alarms == {"eve": Alarm(3, "third call")}
    assert api.ledger.alarms is api.alarms
    if on_alarm == "block":
        assert api.ledger.queries == 4
        with pytest.raises(ClientBlocked, match="since its query 3: third"):
            api.query(ROWS[:2], "eve")
    else:
        api.query(ROWS[:2], "eve")
        assert api.ledger.queries == 12


def test_a_monitor_comes_back_as_it_was(book):
    """Every stop between two calls leaves the verdicts as without one."""
    chapter = load_chapter("defenses/prada_detection")
    rng = np.random.default_rng(0)
    calls = [
        (str(rng.choice(["ann", "eve"])), rng.normal(size=(8, 4)))
        for _ in range(30)
    ]
    whole = chapter.Prada(0.96)
    api = PredictionAPI(victim, monitors=[whole])
    for client, x in calls:
        api.query(x, client)
    assert api.alarms  # or the test would show nothing
    for stop in range(0, 30, 7):
        for part in (calls[:stop], calls[stop:]):
            monitor = chapter.Prada(0.96)
            stopped = PredictionAPI(victim, monitors=[monitor], ledger=book())
            for client, x in part:
                stopped.query(x, client)
        assert str(monitor.state()) == str(whole.state())
        assert stopped.alarms == api.alarms
        book().close()
        book().path.unlink()


def test_what_monitors_saw_keeps_type_shape_and_order(book):
    pictures = np.random.default_rng(0).random((6, 1, 2, 2), np.float32)

    def bright(x):
        p = x.reshape(len(x), -1).mean(1)
        return np.column_stack([p, 1 - p]).astype(np.float64)

    first, second = ThirdCall(), ThirdCall()
    api = PredictionAPI(bright, monitors=[first], ledger=book())
    for n in (1, 2, 3):
        api.query(pictures[:n], f"client {n}")
    PredictionAPI(bright, monitors=[second], ledger=book())
    for (a, x, p), (b, y, q) in zip(first.rows, second.rows, strict=True):
        assert a == b and x.dtype == y.dtype == np.float32
        assert (x == y).all() and (p == q).all()


def test_a_monitor_that_raises_refuses_and_leaves_no_trace(book):
    class Picky(ThirdCall):
        def observe(self, client, x, probabilities):
            if len(x) == 7:
                raise ValueError("seven rows")
            return super().observe(client, x, probabilities)

    api = PredictionAPI(victim, monitors=[Picky()], ledger=book(), budget=99)
    with pytest.raises(ValueError, match="seven rows"):
        api.query(ROWS[:7], "eve")
    api.query(ROWS[:2], "eve")
    again = Picky()
    api = PredictionAPI(victim, monitors=[again], ledger=book(), budget=99)
    assert api.remaining == 97 and again.calls == {"eve": 1}


def test_a_monitor_that_cannot_take_in_the_past_does_not_start(book):
    class Broken:
        def observe(self, client, x, probabilities):
            raise RuntimeError("broken since the last version")

    api = PredictionAPI(victim, monitors=[ThirdCall()], ledger=book())
    api.query(ROWS)
    with pytest.raises(RuntimeError, match="broken since"):
        PredictionAPI(victim, monitors=[Broken()], ledger=book())


def test_an_alarm_that_was_not_written_any_more_is_raised_anew(path, book):
    """As where the process is killed right after the monitor spoke."""
    api = PredictionAPI(victim, monitors=[ThirdCall()], ledger=book())
    for _ in range(4):
        api.query(ROWS, "eve")
    api.ledger.close()
    with sqlite3.connect(path) as file:
        file.execute("DELETE FROM alarms")
    file.close()
    PredictionAPI(victim, monitors=[ThirdCall()], ledger=book())
    assert book().alarms == {"eve": Alarm(3, "third call")}


def test_a_ledger_is_held_by_one_process(path, book):
    book()
    with pytest.raises(LedgerError, match="in use by another process"):
        DurableLedger(path)
    book().close()
    DurableLedger(path).close()


def test_a_file_that_is_no_ledger_says_so(path):
    path.write_text("no database, and longer than a header " * 50)
    for _ in range(2):  # the second finds it unlocked
        with pytest.raises(LedgerError, match="no ledger that can be read"):
            DurableLedger(path)


def test_a_disk_that_fails_ends_the_sale(book, shop):
    ledger = book()
    api = PredictionAPI(victim, ledger=ledger, budget=100)
    remote = shop(api)
    remote._retries = 0
    remote.query(ROWS[:10])

    class Full:
        def __init__(self, db):
            self.db = db

        def execute(self, *_):
            raise sqlite3.OperationalError("disk full")

        def __getattr__(self, name):
            return getattr(self.db, name)

    ledger._db = Full(ledger._db)
    with pytest.raises(RemoteError, match="503.*books cannot be written"):
        remote.query(ROWS[:10])
    ledger._db = ledger._db.db  # the disk has room again, the books are shut
    with pytest.raises(RemoteError, match="503"):
        remote.query(ROWS[:10])
    import httpx

    ready = httpx.get(f"{remote.base}/v2/health/ready", trust_env=False)
    assert ready.status_code == 503 and "disk full" in ready.json()["error"]
    assert api.ledger.queries == 10
    assert book().queries == 10


# --- the gateway in a process of its own, killed ---------------------------


@pytest.fixture
def upstream():
    """A server of ours as the model behind; its key is k-ann."""
    with serve(PredictionAPI(victim, input_shape=(4,)), KEYS) as url:
        yield url


def arguments(upstream, tmp_path, port, keys, *more):
    place = tmp_path / "keys.toml"
    place.write_text("\n".join(f'"{k}" = "{n}"' for k, n in keys.items()))
    return [
        *("--upstream", upstream, "--model", "model", "--keys", place),
        *("--upstream-key", "UPSTREAM_KEY", "--port", port),
        *("--ledger", tmp_path / "ledger.db", *more),
    ]


@pytest.mark.slow
def test_the_command_sells_what_it_is_told_to(upstream, tmp_path):
    port = free_port()
    given = arguments(
        *(upstream, tmp_path, port, KEYS, "--returns", "label"),
        *("--classes", '["a", "b", "c"]', "--budget", "20"),
        *("--monitor", "_wire:ThirdCall", "--on-alarm", "block"),
    )
    url = f"http://127.0.0.1:{port}"
    with command(*given) as process:
        eve = RemoteAPI(url, "model", key="k-eve")
        names = np.array(["a", "b", "c"])
        assert (eve.query(ROWS[:9]) == names[victim(ROWS[:9]).argmax(1)]).all()
        with pytest.raises(BudgetExceeded, match="12 rows asked, 11 of 20"):
            eve.query(ROWS[:12])
        eve.query(ROWS[:1])
        with pytest.raises(ClientBlocked, match="third call"):
            eve.query(ROWS[:1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    # What is left of a graceful stop is one file, without SQLite's journal.
    assert not (tmp_path / "ledger.db-wal").exists()
    with command(*given) as process:
        told = process.stdout.readline()
        assert "ledger.db has 10 rows of 1 clients and 1 alarms" in told
        with pytest.raises(ClientBlocked, match="third call"):
            RemoteAPI(url, "model", key="k-eve").query(ROWS[:1])
        ann = RemoteAPI(url, "model", key="k-ann")
        assert ann.remaining == 10
        assert len(ann.query(ROWS[:10])) == 10


@pytest.mark.slow
def test_a_gateway_that_is_killed_has_billed_all_that_it_answered(
    upstream, tmp_path
):
    keys = {f"k-{i}": f"client {i}" for i in range(8)}
    port, budget, kills = free_port(), 20_000, 3
    given = arguments(
        *(upstream, tmp_path, port, keys, "--budget", budget),
        *("--monitor", "_wire:Regular", "--on-alarm", "block"),
    )
    answered, lost = dict.fromkeys(keys.values(), 0), []
    refused = {}

    def ask(key, name):
        remote = RemoteAPI(f"http://127.0.0.1:{port}", key=key, retries=0)
        while name not in refused:
            try:
                answered[name] += len(remote.query(ROWS))
            except (BudgetExceeded, ClientBlocked) as error:
                refused[name] = error
            except RemoteError as error:
                lost.append(error)
                time.sleep(0.1)

    threads = [
        threading.Thread(target=ask, args=pair, daemon=True)
        for pair in keys.items()
    ]
    for thread in threads:
        thread.start()
    for number in range(kills):
        goal = budget * (number + 1) // (kills + 1)
        with command(*given) as process:
            until(lambda goal=goal: sum(answered.values()) > goal)
            process.send_signal(signal.SIGKILL)
            process.wait()
    with command(*given):
        for thread in threads:
            thread.join()
    ledger = DurableLedger(tmp_path / "ledger.db")
    for name, rows in answered.items():
        assert rows <= ledger.accounts[name].queries
    assert sum(answered.values()) <= ledger.queries == budget
    # What was billed and not answered was on its way at one of the kills.
    unheard = ledger.queries - sum(answered.values())
    assert unheard <= kills * len(keys) * len(ROWS)
    assert list(ledger.alarms) == ["client 5"]
    assert isinstance(refused["client 5"], ClientBlocked)
    assert answered["client 5"] <= 2 * len(ROWS)
    seen = sum(len(x) for _, x, _ in ledger.seen())
    assert seen >= ledger.queries
    ledger.close()
