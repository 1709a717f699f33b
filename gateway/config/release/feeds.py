"""`[[report_feed]]` and `[listen.hl7]`: who sends reports, by what it is told, and where its system puts things.

Whose reports come by a feed stands here and nowhere else: what a message claims of its sender only has to agree.
"""

from __future__ import annotations

import re
from datetime import time
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator, Field

from gateway.config.values import Fingerprint, Network, Port, ReadableFile, SecretFile, Section, Text, Token, Trust
from gateway.feeds.hl7.reading import CHARACTER_SETS
from gateway.feeds.profile import DICOM_FEED, Feed, FeedKind, Place, Profile
from gateway.feeds.watching import Silence
from policy.release.reports import AlertCategory

_HOURS = re.compile(r"(?P<first>[01]?[0-9]|2[0-3])(?:-(?P<last>[01]?[0-9]|2[0-3]))?")


def _place(value: str) -> str:
    Place.parse(value)
    return value


def _character_set(value: str) -> str:
    if value not in CHARACTER_SETS:
        raise ValueError(f"there are {', '.join(sorted(CHARACTER_SETS))}")
    return value


def _hours(value: str) -> str:
    if _HOURS.fullmatch(value) is None:
        raise ValueError('hours of the day are written "7" or "20-23"')
    return value


_Place = Annotated[str, AfterValidator(_place)]
_Code = Annotated[str, Field(min_length=1, max_length=64)]
_Minutes = Annotated[int, Field(ge=5, le=20_160)]


class Hl7Listener(Section):
    """`[listen.hl7]`: the door for HL7 v2 over MLLP; a client certificate is required.

    There is none unless the section stands in the file.
    """

    host: Text = "127.0.0.1"
    port: Port = 2575
    certificate: ReadableFile | None = None
    private_key: SecretFile | None = None
    client_ca: ReadableFile | None = None
    crl: ReadableFile | None = None
    plain_on_loopback: bool = False
    message_bytes_max: Annotated[int, Field(ge=1_000, le=50_000_000)] = 10_000_000
    message_timeout_s: Annotated[float, Field(gt=0, le=600)] = 60.0
    idle_timeout_s: Annotated[float, Field(gt=0)] = 86_400.0
    connections_max: Annotated[int, Field(ge=1, le=1_000)] = 32
    connections_per_address_max: Annotated[int, Field(ge=1, le=1_000)] = 16


class FeedProfileSection(Section):
    """`[report_feed.profile]`: the habits of one sender."""

    sending_application: Annotated[str, Field(max_length=100)] = ""
    sending_facility: Annotated[str, Field(max_length=100)] = ""
    character_set: Annotated[str, AfterValidator(_character_set)] = "UNICODE UTF-8"
    processing_ids: Annotated[tuple[Annotated[str, Field(pattern=r"^[PTD]$")], ...], Field(min_length=1)] = ("P",)
    verification_from: _Place = "OBR-22"
    accession_from: _Place = "OBR-3"
    alert_from: Annotated[tuple[_Place, ...], Field(max_length=8)] = ("OBX-8",)
    alert_codes: tuple[tuple[_Code, AlertCategory], ...] = ()
    no_alert_codes: tuple[_Code, ...] = ("N",)
    alert_words: tuple[tuple[Annotated[str, Field(min_length=3, max_length=100)], AlertCategory], ...] = ()
    administrative_from: _Place | None = None
    administrative_codes: tuple[_Code, ...] = ()
    image_link_codes: tuple[_Code, ...] = ()
    patient_authorities: tuple[_Code, ...] = ()

    @property
    def profile(self) -> Profile:
        """What a feed is read by. The names of the categories are codes too, unless they are mapped otherwise."""
        codes = {each.value.upper(): each for each in AlertCategory}
        codes |= {code.upper(): category for code, category in self.alert_codes}
        return Profile(
            sending_application=self.sending_application,
            sending_facility=self.sending_facility,
            character_set=self.character_set,
            processing_ids=frozenset(self.processing_ids),
            verification_from=Place.parse(self.verification_from),
            accession_from=Place.parse(self.accession_from),
            alert_from=tuple(map(Place.parse, self.alert_from)),
            alert_codes=MappingProxyType(codes),
            no_alert_codes=frozenset(code.upper() for code in self.no_alert_codes),
            alert_words=MappingProxyType(dict(self.alert_words)),
            administrative_from=Place.parse(self.administrative_from) if self.administrative_from else None,
            administrative_codes=frozenset(self.administrative_codes),
            image_link_codes=frozenset(self.image_link_codes),
            patient_authorities=frozenset(self.patient_authorities),
        )


class ReportFeedEntry(Section):
    """`[[report_feed]]`: one sender of reports."""

    name: Token
    trust: Trust
    kind: FeedKind = FeedKind.HL7
    certificate_sha256: Fingerprint | None = None
    addresses: tuple[Network, ...] = ()
    loopback_only: bool = False
    feed_silent_minutes: _Minutes = 120
    silent_minutes_by_hour: tuple[tuple[Annotated[str, AfterValidator(_hours)], _Minutes], ...] = ()
    counted_by: time | None = None
    """London time by which the sender has told how many reports it sent the day before; None: it does not."""
    profile: FeedProfileSection = FeedProfileSection()

    @property
    def heard_as(self) -> str:
        """What its messages are kept under."""
        return DICOM_FEED if self.kind is FeedKind.DICOM else self.name

    @property
    def silence(self) -> Silence:
        """How long it may say nothing, by the hour of the day."""
        minutes = [self.feed_silent_minutes] * 24
        for hours, allowed in self.silent_minutes_by_hour:
            found = _HOURS.fullmatch(hours)
            assert found is not None
            first, last = int(found["first"]), int(found["last"] or found["first"])
            # "20-6" goes over midnight.
            for hour in range(first, last + 1 if last >= first else last + 25):
                minutes[hour % 24] = allowed
        return Silence(tuple(minutes))

    def feed(self, patient_issuer: str) -> Feed:
        """The feed as its readers know it."""
        return Feed(self.name, self.trust, self.kind, patient_issuer, self.profile.profile)
