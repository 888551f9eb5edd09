"""The few helpers that the chapters share.

What only one chapter needs stays in that chapter, and no technique lives
here: `load_chapter` uses techniques where they are written.
"""

from mexutils.api import (
    Alarm,
    BudgetExceeded,
    ClientBlocked,
    Ledger,
    PredictionAPI,
)
from mexutils.chapters import load_chapter
from mexutils.claims import Claims
from mexutils.clients import Accounts

__all__ = [
    "Alarm",
    "BudgetExceeded",
    "Claims",
    "Accounts",
    "ClientBlocked",
    "Ledger",
    "PredictionAPI",
    "load_chapter",
]
