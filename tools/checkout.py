"""Where this repository and its site are, and which commit this is.

A fork has another address, and nobody should have to write it anywhere. It is
read from `GITHUB_REPOSITORY`, which GitHub sets in every run of a workflow,
else from the remote `origin` of the checkout; where neither names a repository
on GitHub there is none, and the site does without. `BOOK_SITE` names the site
where it has a domain of its own. No other file says it.
"""

import os
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

NONE = (
    "there is no address of this repository: GITHUB_REPOSITORY is not set, "
    "and the checkout has no remote `origin` on GitHub"
)
_ON_GITHUB = re.compile(
    r"(?:https://(?:[^@/]+@)?|ssh://git@|git@)github\.com[:/]"
    r"([\w.-]+/[\w.-]+?)(?:\.git)?/?"
)


class Address(NamedTuple):
    """The addresses that pages, notebooks and settings name.

    repository: `owner/name` on GitHub. site: with a slash at its end.
    """

    repository: str
    site: str

    @property
    def url(self) -> str:
        """The address of the repository."""
        return f"https://github.com/{self.repository}"


def address(
    root: Path, environment: Mapping[str, str] = os.environ
) -> Address | None:
    """Where this checkout is published; None where nothing says so.

    Raises `ValueError` for a `GITHUB_REPOSITORY` that is no `owner/name`, and
    for a `BOOK_SITE` that is no address.
    """
    repository = environment.get("GITHUB_REPOSITORY") or _origin(root)
    if not repository:
        return None
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(
            f"GITHUB_REPOSITORY is {repository!r}: give owner/name"
        )
    site = environment.get("BOOK_SITE") or pages_of(repository)
    if not re.fullmatch(r"https?://[^\s\"'<>]+", site):
        raise ValueError(f"BOOK_SITE is {site!r}: give https://...")
    return Address(repository, site.rstrip("/") + "/")


def pages_of(repository: str) -> str:
    """Where GitHub Pages serves the site of `owner/name`."""
    owner, name = repository.split("/")
    host = f"{owner.lower()}.github.io"
    return f"https://{host}/" + ("" if name.lower() == host else f"{name}/")


def _origin(root: Path) -> str:
    """The repository of the remote `origin`; empty where it is elsewhere."""
    match = _ON_GITHUB.fullmatch(_git(root, "remote", "get-url", "origin"))
    return match[1] if match else ""


class Commit(NamedTuple):
    """A commit of this checkout.

    digest: 40 hexadecimal digits. when: its time, in UTC. changed: whether
    files that git knows differ from it.
    """

    digest: str
    when: datetime
    changed: bool

    @property
    def short(self) -> str:
        """Its first digits."""
        return self.digest[:7]

    @property
    def words(self) -> str:
        """As a page says it: `97f2c62 of 27 November 2026`."""
        changed = ", and changes since" * self.changed
        return f"{self.short} of {day(self.when)}{changed}"


def commit(root: Path) -> Commit | None:
    """The commit that this checkout shows; None where it is no checkout."""
    about = _git(root, "log", "-1", "--format=%H %ct").split()
    if len(about) != 2:
        return None
    when = datetime.fromtimestamp(int(about[1]), UTC)
    return Commit(about[0], when, bool(_git(root, "status", "-s", "-uno")))


def day(when: datetime) -> str:
    """A day in words, in every language setting: `27 November 2026`."""
    months = (
        *("January", "February", "March", "April", "May", "June", "July"),
        *("August", "September", "October", "November", "December"),
    )
    return f"{when.day} {months[when.month - 1]} {when.year}"


def _git(root: Path, *arguments: str) -> str:
    """What git says; empty where it fails or is not there."""
    if not (root / ".git").exists():  # an archive, perhaps inside another one
        return ""
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
