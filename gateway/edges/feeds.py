"""What stands behind the doors for reports: which feed each sender is, as of this moment's configuration.

A sender is told by its certificate, or, where the configuration says so, by coming from this machine; nothing that it
says of itself counts. Opens no socket: `gateway.doors` listens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from ipaddress import ip_address
from ssl import SSLObject

from aiohttp import web

from gateway.config.configuration import Configuration
from gateway.config.release.feeds import Hl7Listener, ReportFeedEntry
from gateway.config.release.senders import feeds_of
from gateway.feeds.fhir.door import FhirDoor
from gateway.feeds.hl7.mllp import Mllp, MllpLimits, Shown, Speaker
from gateway.feeds.hl7.receiving import CountsMessages, Reports
from gateway.feeds.profile import Feed, FeedKind
from gateway.model.evidence import evidence_of_tls
from gateway.model.reporting.seams import ReportIntake
from gateway.model.seams import Clock
from policy.identity import Channel

CountsOne = Callable[[], AbstractContextManager[None]]
"""Counts something as under way while its context is open."""


class Feeds:
    """The feeds of reports. `follow` each reload; `stop` and `close` at the end."""

    def __init__(
        self,
        configuration: Configuration,
        intake: ReportIntake,
        clock: Clock,
        figures: CountsMessages,
        counts_one: CountsOne,
        *,
        new_id: Callable[[], str],
    ) -> None:
        self._configuration = configuration
        self._intake = intake
        self._clock = clock
        self._figures = figures
        self._counts_one = counts_one
        self._new_id = new_id
        where = configuration.listen.hl7
        self.mllp = Mllp(self, limits_of(where) if where is not None else MllpLimits())
        self.fhir = FhirDoor(self._sender_of, intake, clock, figures)

    def admit(self, shown: Shown) -> Speaker | None:
        """Who answers an HL7 sender; None: it is no feed's."""
        feed = self._feed(FeedKind.HL7, shown)
        if feed is None:
            return None
        reports = Reports(feed, self._intake, self._clock, self._figures, new_id=self._new_id)
        return _Counted(reports, self._counts_one)

    async def follow(self, configuration: Configuration) -> None:
        """Take a new configuration. Where feeds changed, their connections end once at work is answered."""
        is_changed = configuration.report_feed != self._configuration.report_feed
        self._configuration = configuration
        if is_changed:
            await self.mllp.stop()

    def _feed(self, kind: FeedKind, shown: Shown) -> Feed | None:
        entry = sender(self._configuration.report_feed, kind, shown)
        if entry is None:
            return None
        return next(each for each in feeds_of(self._configuration) if each.name == entry.name)

    def _sender_of(self, request: web.Request) -> Feed | None:
        secure = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
        address = request.remote or ""
        proven = evidence_of_tls(secure, address, Channel.HTTPS) if isinstance(secure, SSLObject) else None
        return self._feed(FeedKind.FHIR, Shown(address, proven.certificate_sha256 if proven is not None else ""))


class _Counted:
    """A speaker whose work holds a drain."""

    def __init__(self, speaker: Speaker, counts_one: CountsOne) -> None:
        self._speaker = speaker
        self._counts_one = counts_one

    async def answer(self, raw: bytes) -> Sequence[bytes]:
        with self._counts_one():
            return await self._speaker.answer(raw)

    async def refuse(self, raw: bytes, why: str) -> Sequence[bytes]:
        with self._counts_one():
            return await self._speaker.refuse(raw, why)


def limits_of(where: Hl7Listener) -> MllpLimits:
    """How much and how long, by `[listen.hl7]`."""
    return MllpLimits(where.message_bytes_max, where.message_timeout_s, where.idle_timeout_s)


def sender(entries: Iterable[ReportFeedEntry], kind: FeedKind, shown: Shown) -> ReportFeedEntry | None:
    """The feed that the evidence proves; None: none, or more than one."""
    try:
        address = ip_address(shown.address.partition("%")[0])
    except ValueError:
        return None
    found = [
        entry
        for entry in entries
        if entry.kind is kind
        and (entry.certificate_sha256 is not None or entry.loopback_only)
        and entry.certificate_sha256 in (None, shown.certificate_sha256)
        and (not entry.loopback_only or address.is_loopback)
        and (not entry.addresses or any(address in network for network in entry.addresses))
    ]
    return found[0] if len(found) == 1 else None
