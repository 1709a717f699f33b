"""What a version of a report says and what a message held, sealed and opened: whole, in memory, bound to its name.

The format is that of every sealed object here (`storage.cache.sealed`), so what is cut, altered or put under another
name does not open (SAF-41). Knows neither keys nor tables.
"""

from __future__ import annotations

from collections.abc import Callable

from storage.cache.sealed import HEAD_BYTES, Opener, Sealer


def seal(name: str, plain: bytes, key_id: bytes, key: bytes, random: Callable[[int], bytes]) -> bytes:
    """The sealed form of `plain`, which opens under this name alone."""
    sealer = Sealer(key_id, key, name.encode(), random)
    pieces = sealer.add(plain)
    return b"".join((sealer.head, *pieces, sealer.finish()))


def unseal(name: str, sealed: bytes, key: bytes) -> bytes:
    """What was sealed under this name; raises `Damaged`."""
    opener = Opener(key, name.encode(), sealed[:HEAD_BYTES], len(sealed))
    spans = [opener.span(number) for number in range(opener.segments)]
    return b"".join(
        opener.open(span.number, sealed[span.sealed_at : span.sealed_at + span.sealed_bytes]) for span in spans
    )
