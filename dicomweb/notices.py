"""What an answer says beside its rows: what may be missing and whom to ring, never that something was withheld.

In words for people (`Warning: 299`, PS3.18 8.3.4 and 10.6.3; SAF-03, SAF-04, SAF-07 to SAF-09) and as fields for
machines (RFC 9651). Every header here is a function of the question, the caller's coverage and the state of the trusts:
with and without matches, and with matches withheld, they are the same (SAF-02); only what is shown says that this
gateway holds it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from gateway.model.attributes import keyword_of
from gateway.model.imaging import Matches, Source, SourceState
from gateway.model.wording import SENTENCE as SENTENCE
from gateway.model.wording import ascii_text, words_of

FUZZY_NOT_SUPPORTED = "The fuzzymatching parameter is not supported. Only literal matching has been performed."
"""PS3.18 8.3.4.2, to the letter."""

NOTICE_HEADER = "Gateway-Notice"
SOURCES_HEADER = "Gateway-Sources"
SNAPSHOT_HEADER = "Gateway-Snapshot"

SINGLE_WARNINGS_MAX = 20
"""Trusts with a warning line of their own; beyond it lines are shared, for clients take at most 100 headers."""
SOURCES_A_LINE = 20
"""Members of one `Gateway-Sources` line: a list may go on in the next one (RFC 9651 3.1), and lines have limits."""
_TRUSTS_A_LINE = 10
_NAMES_SHOWN_MAX = 10

MISSING_OPENING = "Imaging may be missing: "
COVERAGE_OPENING = "The agreement, not this patient, decides: "
CONFLICT_OPENING = "An item at "
HELD_OPENING = "Some imaging is held by this gateway for the archive of "
CHECKED_OPENING = "Images given from the cache were last compared with the archive of "
"""With which the warnings begin that name trusts; machines read them in `Gateway-Sources`."""

_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*")
_PARAMETER_NAME = re.compile(r"[A-Za-z0-9.]{1,64}")


def headers(
    matches: Matches, *, service: str, unsupported: Sequence[str] = (), is_fuzzy: bool = False
) -> list[tuple[str, str]]:
    """Every header that speaks of completeness, in a fixed order. `service` is the base address of the service."""
    named: list[tuple[str, str]] = [(NOTICE_HEADER, SENTENCE)]
    lines = [matches.sources[at : at + SOURCES_A_LINE] for at in range(0, len(matches.sources), SOURCES_A_LINE)]
    named.extend((SOURCES_HEADER, sources_field(line)) for line in lines)
    if matches.snapshot:
        named.append((SNAPSHOT_HEADER, matches.snapshot))
    texts = _warnings(matches, [*unsupported, *map(keyword_of, matches.unsupported_keys)], is_fuzzy)
    named.extend(("Warning", f"299 {service}: {text}") for text in texts)
    return named


def sources_field(sources: Iterable[Source]) -> str:
    """Every trust's part as an RFC 9651 list: `RJ1;state=timed-out;phone="020 7946 0000", RYJ;state=answered`."""
    return ", ".join(map(_source_member, sources))


def _warnings(matches: Matches, unsupported: Sequence[str], is_fuzzy: bool) -> Iterator[str]:
    if matches.remaining > 0:
        yield f"There are {matches.remaining} additional results that can be requested"
    if matches.truncated_at is not None:
        yield f"The answer was cut at {matches.truncated_at} results: ask a narrower question to see others"
    yield from _missing([source for source in matches.sources if source.state.is_missing])
    yield from _in_groups(
        [_coverage(source) for source in matches.sources if _is_covered_in_part(source)],
        COVERAGE_OPENING,
    )
    conflicting = [source for source in matches.sources if source.has_identity_conflict]
    yield from _in_groups([f"{_conflict(source)}: {_ring(source)}" for source in conflicting], "")
    yield from _in_groups([_name(source) for source in matches.sources if source.is_held_here], HELD_OPENING)
    aged = [f"{_name(source)} {_instant(at)}" for source in matches.sources if (at := source.checked_at) is not None]
    yield from _in_groups(aged, CHECKED_OPENING)
    if unsupported:
        names = sorted({name if _PARAMETER_NAME.fullmatch(name) else "(unreadable)" for name in unsupported})
        more = f" and {len(names) - _NAMES_SHOWN_MAX} more" if len(names) > _NAMES_SHOWN_MAX else ""
        yield f"These parameters are not supported and were ignored: {', '.join(names[:_NAMES_SHOWN_MAX])}{more}"
    if is_fuzzy:
        yield FUZZY_NOT_SUPPORTED


def _missing(missing: Sequence[Source]) -> Iterator[str]:
    texts = [f"{_name(source)} {words_of(source)}: {_ring(source)}" for source in missing]
    return _in_groups(texts, MISSING_OPENING)


def _in_groups(texts: Sequence[str], opening: str) -> Iterator[str]:
    size = 1 if len(texts) <= SINGLE_WARNINGS_MAX else _TRUSTS_A_LINE
    for start in range(0, len(texts), size):
        yield opening + "; ".join(texts[start : start + size])


def _is_covered_in_part(source: Source) -> bool:
    return source.state is SourceState.NOT_SHARED or source.shared_modalities is not None


def _coverage(source: Source) -> str:
    if source.state is SourceState.NOT_SHARED or not source.shared_modalities:
        return f"{_name(source)} shares no imaging with you: {_ring(source)}"
    return f"{_name(source)} shares only {ascii_text(' '.join(source.shared_modalities))} with you: {_ring(source)}"


def _conflict(source: Source) -> str:
    return f"{CONFLICT_OPENING}{_name(source)} could not be shared because identity details differ"


def _name(source: Source) -> str:
    return ascii_text(f"{source.trust.code} {source.name}".rstrip())


def _ring(source: Source) -> str:
    return f"ring {ascii_text(source.desk_phone)}" if source.desk_phone else "ring its PACS desk"


def _source_member(source: Source) -> str:
    member = f"{_item(source.trust.code)};state={source.state.value}"
    if source.desk_phone and not _is_whole(source):
        member += f";phone={_string(source.desk_phone)}"
    if source.shared_modalities:
        member += f";only={_string(' '.join(source.shared_modalities))}"
    if source.has_identity_conflict:
        member += ";conflict"
    if source.not_asked_because is not None:
        member += f";reason={source.not_asked_because.value}"
    if source.is_held_here:
        member += ";held"
    if source.checked_at is not None:
        member += f";checked={_string(_instant(source.checked_at))}"
    return member


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _is_whole(source: Source) -> bool:
    """Whether nobody need be rung: with a hundred trusts, headers stay below what clients and proxies take."""
    return (
        source.state is SourceState.ANSWERED and source.shared_modalities is None and not source.has_identity_conflict
    )


def _item(text: str) -> str:
    """A token where the grammar allows one; codes that begin with a digit are strings (RFC 9651 3.3.4)."""
    return text if _TOKEN.fullmatch(text) else _string(text)


def _string(text: str) -> str:
    escaped = ascii_text(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
