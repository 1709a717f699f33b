"""Error Comments: what can be said in 64 characters of the default repertoire (LO, PS3.7 C).

Whoever reads one may have to ring somebody, so a phone number is whole or not there, and a list that does not fit ends
with how many are left out. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.model.imaging import Source
from gateway.model.wording import ascii_text

CHARS_MAX = 64


@dataclass(frozen=True, slots=True)
class Listing:
    """Several things of one kind, behind what is said of all of them."""

    opening: str
    items: Sequence[str]


def fitted(text: str, chars_max: int = CHARS_MAX) -> str:
    """Text as LO holds it: no backslash, one space between words, cut between words where it is too long."""
    plain = " ".join(ascii_text(text).replace("\\", "/").split())
    if len(plain) <= chars_max:
        return plain
    whole_words = plain[: chars_max + 1].rpartition(" ")[0]
    return (whole_words or plain[:chars_max]).rstrip(" ,;:")


def with_phone(text: str, phone: str, chars_max: int = CHARS_MAX) -> str:
    """Text, and the number to ring whole behind it if there is one; the text gives way."""
    ring = fitted(f"ring {phone}") if phone.strip() else ""
    room = chars_max - len(ring) - len("; ")
    if not ring or ring.removeprefix("ring ") != " ".join(ascii_text(phone).split()) or room <= 0:
        return fitted(text, chars_max)
    return f"{fitted(text, room)}; {ring}"


def listed(listings: Sequence[Listing], chars_max: int = CHARS_MAX) -> str:
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
