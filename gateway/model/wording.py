"""Words that every protocol uses for the same thing: what became of a trust, and text as old wires can carry it.

An edge composes them into the headers or comments of its protocol. Some have 64 characters for all (LO, PS3.5 6.2), and
whoever reads them may have to ring somebody: a phone number is whole or not there, and a list that does not fit ends
with how many are left out. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from gateway.model.imaging import NotAskedReason, Source, SourceState

SENTENCE = "Not all imaging is shared here. An empty or short list does not mean none exists."
"""SAF-03: stands in every answer, whatever it holds."""
LO_CHARS_MAX = 64

_TEXT_CHARS_MAX = 200
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class Listing:
    """Several things of one kind, behind what is said of all of them."""

    opening: str
    items: Sequence[str]


def ascii_text(text: str) -> str:
    """Text in ASCII and of bounded length: accents stripped, what is left outside replaced, never a line break."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return _UNPRINTABLE.sub("?", plain)[:_TEXT_CHARS_MAX]


def words_for(state: SourceState) -> str:
    """What a trust did, to follow its name."""
    match state:
        case SourceState.ANSWERED:
            return "answered"
        case SourceState.TRUNCATED:
            return "answered in part"
        case SourceState.UNREACHABLE:
            return "cannot be reached"
        case SourceState.TIMED_OUT:
            return "did not answer in time"
        case SourceState.REFUSED:
            return "refused to answer"
        case SourceState.INVALID_ANSWER:
            return "gave an answer that cannot be believed"
        case SourceState.BACKING_OFF:
            return "has failed repeatedly and was not asked"
        case SourceState.NOT_ASKED:
            return "was not asked"
        case SourceState.NOT_SHARED:
            return "shares no imaging with you"
    assert_never(state)


def why_not_asked(reason: NotAskedReason) -> str:
    """Why a trust was not asked; true whether anything is withheld or not (SAF-06), and short (see `LO_CHARS_MAX`)."""
    match reason:
        case NotAskedReason.RECENTLY_CHECKED:
            return "checked a short while ago"
        case NotAskedReason.NO_ARCHIVE:
            return "no archive connected here"
        case NotAskedReason.PLANNED_DOWNTIME:
            return "down by plan"
        case NotAskedReason.NO_LINKED_NUMBER:
            # Of a withheld patient there may well be a number: that there is none is not said.
            return "found by linked numbers only"
        case NotAskedReason.BEHIND_GATEWAY:
            return "behind another gateway"
        case NotAskedReason.BUSY:
            return "too many questions under way"
    assert_never(reason)


def words_of(source: Source) -> str:
    """What a trust did, and what it announced or why it was not asked, to follow its name."""
    words, why = words_for(source.state), why_of(source)
    return f"{words}, {why}" if why else words


def why_of(source: Source) -> str:
    """What stands behind a trust's state: its announcement, else why it was not asked; empty if neither."""
    if source.note or source.not_asked_because is None:
        return ascii_text(source.note)
    return why_not_asked(source.not_asked_because)


def fitted(text: str, chars_max: int = LO_CHARS_MAX) -> str:
    """Text as LO holds it: no backslash, one space between words, cut between words where it is too long."""
    plain = " ".join(ascii_text(text).replace("\\", "/").split())
    if len(plain) <= chars_max:
        return plain
    whole_words = plain[: chars_max + 1].rpartition(" ")[0]
    return (whole_words or plain[:chars_max]).rstrip(" ,;:")


def with_phone(text: str, phone: str, chars_max: int = LO_CHARS_MAX) -> str:
    """Text, and the number to ring whole behind it if there is one; the text gives way."""
    ring = fitted(f"ring {phone}") if phone.strip() else ""
    room = chars_max - len(ring) - len("; ")
    if not ring or ring.removeprefix("ring ") != " ".join(ascii_text(phone).split()) or room <= 0:
        return fitted(text, chars_max)
    return f"{fitted(text, room)}; {ring}"


def listed(listings: Sequence[Listing], chars_max: int = LO_CHARS_MAX) -> str:
    """The listings one after the other, as many whole items as fit, and the number of the others: `+3`."""
    parts = [
        (listing.opening if at == 0 else "", fitted(item))
        for listing in listings
        for at, item in enumerate(listing.items)
    ]
    for shown in range(len(parts), 0, -1):
        text = ""
        for opening, item in parts[:shown]:
            text += f"{'; ' if text else ''}{opening}: {item}" if opening else f", {item}"
        left_out = len(parts) - shown
        text += f" +{left_out}" if left_out else ""
        if len(text) <= chars_max:
            return text
    return fitted(f"{parts[0][0]}: {len(parts)} in all", chars_max) if parts else ""


def desk(source: Source) -> str:
    """A trust in a listing: its code and its PACS desk's phone."""
    return f"{source.trust.code} {ascii_text(source.desk_phone)}".rstrip()
