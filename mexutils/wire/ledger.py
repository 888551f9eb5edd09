"""The books of a prediction API in a file, which outlive the process."""

import io
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import numpy as np
from filelock import FileLock, Timeout

from mexutils.api import Alarm, Bill, Ledger

__all__ = ["DurableLedger", "LedgerError"]

_TABLES = """
CREATE TABLE IF NOT EXISTS accounts (
    client TEXT PRIMARY KEY, queries INTEGER NOT NULL, calls INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alarms (
    client TEXT PRIMARY KEY, query INTEGER NOT NULL, reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (
    call INTEGER PRIMARY KEY, client TEXT NOT NULL,
    x BLOB NOT NULL, probabilities BLOB NOT NULL
);
"""


class LedgerError(RuntimeError):
    """The file cannot be written; nothing is answered any more."""


class DurableLedger(Ledger):
    """A ledger in a SQLite file: bills, alarms, and what monitors saw.

    path: the file, made where there is none. One process at a time has it;
        others may read it meanwhile, with any SQLite.
    sync: whether each entry waits until the disk has it. Without, what was
        entered survives a process that is killed, and not a power cut.

    What a monitor saw takes eight bytes a number, or four where the rows came
    as float32: a million pictures of 784 pixels are 3 GB. After an error in
    writing, kept in `failure`, every further call is refused, since what was
    entered last is not known; a new process reads what the file holds.
    """

    def __init__(self, path, *, sync: bool = False):
        super().__init__(price_per_1000=1.50)  # the API sets its own
        self.path = Path(path)
        self._room, self.failure = Lock(), ""
        self._held = FileLock(f"{self.path}.lock", thread_local=False)
        try:
            self._held.acquire(timeout=0)
        except Timeout:
            raise LedgerError(
                f"{self.path} is in use by another process or API, and two "
                "would sell the same budget twice: stop that one first, or "
                "call its close()"
            ) from None
        try:
            self._open(sync)
        except sqlite3.Error as error:
            self._held.release()
            raise LedgerError(
                f"{self.path} is no ledger that can be read ({error}): give "
                "another path, or restore the file"
            ) from error

    def _open(self, sync: bool) -> None:
        self._db = sqlite3.connect(self.path, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(
            f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}"
        )
        self._db.executescript(_TABLES)
        rows = self._db.execute("SELECT client, queries, calls FROM accounts")
        self.accounts.update((name, Bill(*bill)) for name, *bill in rows)
        rows = self._db.execute("SELECT client, query, reason FROM alarms")
        self.alarms.update((name, Alarm(*alarm)) for name, *alarm in rows)

    def bill(self, client: str, queries: int) -> None:
        """Write down one answered call of that many rows, then enter it."""
        self._write(
            "INSERT INTO accounts VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET "
            "queries = queries + excluded.queries, calls = calls + 1",
            (client, queries),
        )
        super().bill(client, queries)

    def warn(self, client: str, alarm: Alarm) -> None:
        """Write down an alarm on the client, unless there is one already."""
        if client not in self.alarms:
            entry = (client, int(alarm.query), str(alarm.reason))
            self._write("INSERT OR IGNORE INTO alarms VALUES (?, ?, ?)", entry)
        super().warn(client, alarm)

    def saw(self, client: str, x: np.ndarray, own: np.ndarray) -> None:
        """Keep what the monitors have taken in, written with the next bill."""
        # A bill that is entered later writes all that was seen before it.
        entry = (client, _packed(x), _packed(own))
        sql = "INSERT INTO seen (client, x, probabilities) VALUES (?, ?, ?)"
        self._write(sql, entry, now=False)

    def seen(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """What monitors took in, call by call, in order."""
        sql = "SELECT client, x, probabilities FROM seen ORDER BY call"
        for client, x, own in self._db.execute(sql):
            yield client, _unpacked(x), _unpacked(own)

    def _write(self, sql: str, entry: tuple, now: bool = True) -> None:
        with self._room:
            if self.failure:
                raise LedgerError(self.failure)
            try:
                self._db.execute(sql, entry)
                if now:
                    self._db.commit()
            except sqlite3.Error as error:
                self.failure = (
                    f"{self.path} could not be written ({error}): nothing "
                    "more is answered; see to the disk, then start again"
                )
                raise LedgerError(self.failure) from error

    def close(self) -> None:
        """Write what is open and let others have the file."""
        with self._room:
            if self._held.is_locked:
                if not self.failure:
                    self._db.commit()
                self.failure = self.failure or f"{self.path} is closed"
                self._db.close()
                self._held.release()


def _packed(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _unpacked(data: bytes) -> np.ndarray:
    return np.load(io.BytesIO(data), allow_pickle=False)
