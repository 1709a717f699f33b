"""Words that every protocol uses for the same thing: what became of a trust, and text as old wires can carry it.

An edge composes them into the headers or comments of its protocol. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from typing import assert_never

from gateway.model.imaging import SourceState

_TEXT_CHARS_MAX = 200
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


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
