"""Frozen pages: the one exception to "no answer is kept" (DEC-34, DEC-35).

A token names the rows of one question of one caller for at most a minute, so that page two continues page one. The rows
are decided again for every page; only the asking of peers is spared. Bounded in number, rows and time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from gateway.model.settings import Limits
from gateway.sharing.identity.conflicts import Judgement
from gateway.sharing.locate import LeftOut
from gateway.sharing.merge import Part
from policy.parties import TrustId


@dataclass(frozen=True, slots=True)
class Heard:
    """What the peers answered to one question, as judged, before any rule has looked at it."""

    judgement: Judgement
    parts: tuple[Part, ...]
    has_lacking_rows: bool
    """Whether some row did not carry a key of the question."""
    left_out: LeftOut
    """The trusts that need not have been asked."""
    at: datetime
    conflicts_told: frozenset[TrustId] = frozenset()
    """The trusts of which another gateway says that an item could not be shown there (SAF-08)."""
    unread: frozenset[TrustId] = frozenset()
    """The trusts of which this gateway held something that it could not look at, whoever was asked for."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was heard for one caller and one question (`fingerprint`)."""

    fingerprint: str
    heard: Heard
    expires_at: float

    @property
    def rows(self) -> int:
        """How many rows it keeps, those in conflict too: every page tells of them again."""
        return _rows(self.heard)


class Snapshots:
    """The snapshots that are alive; the oldest go first when there are too many of them or of their rows."""

    def __init__(self, limits: Limits, new_token: Callable[[], str]) -> None:
        self._limits = limits
        self._new_token = new_token
        self._kept: OrderedDict[str, Snapshot] = OrderedDict()
        self._rows = 0

    def find(self, token: str, fingerprint: str, now: float) -> Snapshot | None:
        """The snapshot of this token if it is alive and belongs to this caller and question."""
        self._forget_expired(now)
        snapshot = self._kept.get(token)
        return snapshot if snapshot is not None and snapshot.fingerprint == fingerprint else None

    def keep(self, snapshot: Snapshot, now: float) -> str:
        """Keep a snapshot; its new token."""
        self._forget_expired(now)
        token = self._new_token()
        self._kept[token] = snapshot
        self._rows += snapshot.rows
        while len(self._kept) > self._limits.snapshots_max or self._rows > self._limits.snapshot_rows_max:
            self._forget(next(iter(self._kept)))
        return token

    def _forget_expired(self, now: float) -> None:
        for token in [token for token, kept in self._kept.items() if kept.expires_at <= now]:
            self._forget(token)

    def _forget(self, token: str) -> None:
        self._rows -= self._kept.pop(token).rows


class Recent:
    """What was lately heard of studies whose images somebody is having: asked again only when it is no longer fresh.

    A viewer asks for one study image by image; each time it is decided anew, and only the asking of peers is spared.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: OrderedDict[str, tuple[float, Heard]] = OrderedDict()
        self._rows = 0

    def find(self, fingerprint: str, now: float) -> Heard | None:
        """What was heard for this caller and question, if it is fresh."""
        expires_at, heard = self._kept.get(fingerprint, (now, None))
        return heard if expires_at > now else None

    def keep(self, fingerprint: str, heard: Heard, now: float) -> None:
        """Keep what was heard just now, if there is room for it."""
        self._forget(fingerprint)
        self._kept[fingerprint] = (now + self._limits.listing_fresh_s, heard)
        self._rows += _rows(heard)
        while self._rows > self._limits.listing_rows_max:
            self._forget(next(iter(self._kept)))

    def _forget(self, fingerprint: str) -> None:
        if fingerprint in self._kept:
            self._rows -= _rows(self._kept.pop(fingerprint)[1])


def _rows(heard: Heard) -> int:
    judgement = heard.judgement
    return len(judgement.accepted) + sum(len(conflict.rows) for conflict in judgement.conflicts)
