"""A QIDO-RS query string becomes a `Query` (PS3.18 8.3.4 and 10.6.1), or a refusal in safe words.

Tolerant of how real viewers ask: keywords in any case, empty members in lists, doubled backslashes between UIDs,
fields to include that nobody knows. Strict about values (`gateway.model.keys`): what cannot be meant and two answers to
one question are refused, never cut or guessed. No text that a caller sent stands in any refusal. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from gateway.model.attributes import MATCHING, tag_of, vr_of
from gateway.model.errors import InvalidRequest, RequestTooLarge
from gateway.model.imaging import Key, Level, Query
from gateway.model.keys import alternatives, has_control_character, is_uid
from gateway.model.settings import Limits
from policy.parties import TrustId

_COUNT = re.compile(r"[0-9]+")
_OTHER_PARAMETERS_MAX = 16
_TAG_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Question:
    """What a query string asks: the query, the parameters that were ignored, and the `accept` override."""

    query: Query
    unsupported: tuple[str, ...] = ()
    accept: str | None = None


def uid_from_path(text: str) -> str:
    """A UID that stands in a path; raises `InvalidRequest`."""
    if not is_uid(text):
        raise InvalidRequest("a UID in the path must be 1 to 64 digits and full stops")
    return text


def parse_question(
    query_string: str,
    level: Level,
    limits: Limits,
    *,
    path_keys: Sequence[Key] = (),
    only_trust: TrustId | None = None,
) -> Question:
    """Read an undecoded query string; raises `InvalidRequest` or `RequestTooLarge`.

    `path_keys` are the UIDs that the path names; a parameter that contradicts them is refused.
    """
    reading = _Reading(level, limits, path_keys)
    for name, value in _fields(query_string, limits):
        reading.take(name, value)
    return reading.question(only_trust)


class _Reading:
    """One query string while it is read."""

    def __init__(self, level: Level, limits: Limits, path_keys: Sequence[Key]) -> None:
        self._level = level
        self._limits = limits
        self._path_keys = {key.path: key for key in path_keys}
        self._keys: dict[tuple[str, ...], Key] = {}
        self._universal: set[tuple[str, ...]] = set()
        self._include: set[str] = set()
        self._includes_all = False
        self._fields_asked = 0
        self._unsupported: dict[str, None] = {}
        self._single: dict[str, str] = {}

    def take(self, name: str, value: str) -> None:
        lower = name.lower()
        if lower == "includefield":
            self._take_include(value)
        elif lower in ("limit", "offset", "fuzzymatching", "accept", "charset"):
            if self._single.setdefault(lower, value) != value:
                raise InvalidRequest(f"{lower} is given twice with different values")
        else:
            self._take_key(name, value)

    def question(self, only_trust: TrustId | None) -> Question:
        keys = {**self._path_keys, **{path: key for path, key in self._keys.items() if path not in self._path_keys}}
        if len(keys) > self._limits.query_keys_max:
            raise RequestTooLarge(f"more than {self._limits.query_keys_max} matching keys")
        query = Query(
            level=self._level,
            keys=tuple(keys.values()),
            include=frozenset(self._include),
            include_all=self._includes_all,
            fuzzy=_truth("fuzzymatching", self._single.get("fuzzymatching", "")),
            limit=self._limit(),
            offset=_count("offset", self._single.get("offset", "")) or 0,
            only_trust=only_trust,
        )
        return Question(query, tuple(self._unsupported), self._single.get("accept"))

    def _limit(self) -> int | None:
        limit = _count("limit", self._single.get("limit", ""))
        return None if limit is None else min(limit, self._limits.matches_max)

    def _take_include(self, value: str) -> None:
        for name in value.split(","):
            self._fields_asked += 1
            if self._fields_asked > self._limits.include_fields_max:
                raise RequestTooLarge(f"more than {self._limits.include_fields_max} fields to include")
            if name.strip().lower() == "all":
                self._includes_all = True
            # An unknown field is passed over without a word: viewers ask for what only their own archive knows.
            elif (tag := tag_of(name.strip().partition(".")[0])) is not None:
                self._include.add(tag)

    def _take_key(self, name: str, value: str) -> None:
        path = _path(name)
        if path is None or path not in MATCHING[self._level]:
            if value:
                self._unsupported[name] = None
            if path is not None:
                self._include.add(path[0])
            return
        vr = vr_of(path[-1])
        values = alternatives(vr, value, self._limits)
        self._include.add(path[0])
        if (values is None) != (path in self._universal) and (path in self._universal or path in self._keys):
            raise InvalidRequest("a matching key is given twice with different values")
        if values is None:
            self._universal.add(path)
            return
        key = Key(path, vr, values)
        if self._keys.setdefault(path, key) != key:
            raise InvalidRequest("a matching key is given twice with different values")
        fixed = self._path_keys.get(path)
        if fixed is not None and not set(fixed.values) <= set(values):
            raise InvalidRequest("a matching key contradicts the path")


def _fields(query_string: str, limits: Limits) -> list[tuple[str, str]]:
    fields_max = limits.query_keys_max + limits.include_fields_max + _OTHER_PARAMETERS_MAX
    try:
        fields = parse_qsl(query_string, keep_blank_values=True, errors="strict", max_num_fields=fields_max)
    except UnicodeDecodeError as error:
        raise InvalidRequest("a parameter is not UTF-8") from error
    except ValueError as error:
        raise RequestTooLarge(f"more than {fields_max} parameters") from error
    for name, value in fields:
        if has_control_character(name) or has_control_character(value):
            raise InvalidRequest("a parameter contains a control character")
    return fields


def _path(name: str) -> tuple[str, ...] | None:
    if len(name) > _TAG_CHARS_MAX:
        return None
    tags = [tag_of(part) for part in name.split(".")]
    return tuple(tag for tag in tags if tag is not None) if None not in tags else None


def _count(name: str, text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and _COUNT.fullmatch(text)) or len(text) > 400:
        raise InvalidRequest(f"{name} must be a whole number, 0 or more")
    return min(int(text), 2**31 - 1)


def _truth(name: str, text: str) -> bool:
    match text.lower():
        case "" | "false":
            return False
        case "true":
            return True
        case _:
            raise InvalidRequest(f"{name} must be true or false")
