"""Read a kept message anew, by what its feed's profile says now: what a person does with a dead letter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from gateway.feeds.fhir import reading as fhir
from gateway.feeds.hl7.receiving import read_message
from gateway.feeds.profile import Feed, FeedKind
from gateway.model.errors import InvalidRequest
from gateway.model.reporting.seams import FeedMessage
from policy.parties import TrustId


def reader(feeds: Callable[[], Iterable[Feed]]) -> Callable[[TrustId, str, bytes, datetime], FeedMessage]:
    """What reads a message of a trust's feed, by its bytes and the time at which they came.

    Raises `InvalidRequest` where no feed of this name is configured any more, or its kind is read elsewhere.
    """

    def read(trust: TrustId, name: str, raw: bytes, received_at: datetime) -> FeedMessage:
        feed = next((each for each in feeds() if (each.trust, each.name) == (trust, name)), None)
        match feed.kind if feed is not None else None:
            case FeedKind.HL7:
                assert feed is not None
                return read_message(raw, feed, received_at).message
            case FeedKind.FHIR:
                assert feed is not None
                return fhir.read_message(raw, feed, received_at)[0]
            case _:
                raise InvalidRequest("no feed of this name reads such messages here")

    return read
