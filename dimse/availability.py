"""An Instance Availability Notification becomes a `Notice`: which study, and whether it can be had (PS3.4 R.3.2).

Strict about what the notice is for, and about what Table R.3.2-1 demands of it; every other attribute is passed over
unread, for the standard forbids additional ones so that no patient is named here. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import IntEnum

from gateway.instances.encoding.structure import DatasetError, Raw, Walk, inflated, syntax_of
from gateway.model.attributes import keyword_of
from gateway.model.imaging import SERIES_UID, STUDY_UID
from gateway.model.keys import has_control_character, is_uid
from gateway.model.locations import Notice

_REFERENCED_SERIES, _REFERENCED_SOPS = "00081115", "00081199"
_SOP_CLASS, _SOP_INSTANCE = "00081150", "00081155"
_AVAILABILITY, _RETRIEVE_AE_TITLE = "00080056", "00080054"
_AVAILABILITIES = frozenset({"ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE"})
_AE_TITLE_CHARS_MAX = 16
_ELEMENT_BYTES_MIN = 8
_Elements = dict[int, Raw]


class NoticeStatus(IntEnum):
    """The statuses that we give to N-CREATE (PS3.7 10.1.5.1.8 and C)."""

    SUCCESS = 0x0000
    INVALID_VALUE = 0x0106
    PROCESSING_FAILURE = 0x0110
    MISSING_ATTRIBUTE = 0x0120
    MISSING_VALUE = 0x0121
    NOT_AUTHORISED = 0x0124
    RESOURCE_LIMITATION = 0x0213


class UnreadableNotice(ValueError):
    """Why a notice was not taken, in words that repeat nothing of it, and the status that says so."""

    def __init__(self, status: NoticeStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def parse_notice(body: bytes, transfer_syntax: str, bytes_max: int) -> Notice:
    """Read the attributes of a notice; raises `UnreadableNotice` and nothing else.

    `bytes_max` is how long it may be once it is inflated. Takes some 20 ms for a thousand instances.
    """
    try:
        syntax = syntax_of(transfer_syntax)
        if syntax.is_deflated:
            body = inflated(body, bytes_max)
        elements = _by_tag(Walk(syntax, body, elements_max=bytes_max // _ELEMENT_BYTES_MIN).elements())
    except DatasetError as error:
        raise UnreadableNotice(NoticeStatus.PROCESSING_FAILURE, str(error)) from None
    study_uid = _uid(elements, STUDY_UID)
    availabilities: Counter[str] = Counter()
    for series in _items(elements, _REFERENCED_SERIES):
        _uid(series, SERIES_UID)
        for instance in _items(series, _REFERENCED_SOPS):
            _uid(instance, _SOP_CLASS)
            _uid(instance, _SOP_INSTANCE)
            _check_titles(_text(instance, _RETRIEVE_AE_TITLE))
            availabilities[_text(instance, _AVAILABILITY)] += 1
    if not availabilities.keys() <= _AVAILABILITIES:
        raise _invalid(_AVAILABILITY)
    return Notice(study_uid, availabilities.total(), any(each != "UNAVAILABLE" for each in availabilities))


def _by_tag(elements: Iterable[Raw]) -> _Elements:
    found: _Elements = {}
    for element in elements:
        if element.tag in found:
            raise UnreadableNotice(NoticeStatus.INVALID_VALUE, "an attribute is given twice")
        found[element.tag] = element
    return found


def _items(elements: _Elements, tag: str) -> Iterator[_Elements]:
    """The items of a sequence that has to have one."""
    items = _one(elements, tag).items
    if not items:
        raise UnreadableNotice(NoticeStatus.MISSING_VALUE, f"{keyword_of(tag)} is empty")
    return map(_by_tag, items)


def _check_titles(text: str) -> None:
    for title in text.split("\\"):
        if not 0 < len(title.strip(" ")) <= _AE_TITLE_CHARS_MAX or has_control_character(title):
            raise _invalid(_RETRIEVE_AE_TITLE)


def _uid(elements: _Elements, tag: str) -> str:
    uid = _text(elements, tag)
    if not is_uid(uid):
        raise _invalid(tag)
    return uid


def _text(elements: _Elements, tag: str) -> str:
    element = _one(elements, tag)
    if element.items is not None:
        raise _invalid(tag)
    text = element.value.decode("ascii", errors="replace").strip(" \0")
    if not text:
        raise UnreadableNotice(NoticeStatus.MISSING_VALUE, f"{keyword_of(tag)} is empty")
    return text


def _one(elements: _Elements, tag: str) -> Raw:
    found = elements.get(int(tag, 16))
    if found is None:
        raise UnreadableNotice(NoticeStatus.MISSING_ATTRIBUTE, f"{keyword_of(tag)} is missing")
    return found


def _invalid(tag: str) -> UnreadableNotice:
    return UnreadableNotice(NoticeStatus.INVALID_VALUE, f"{keyword_of(tag)} is not valid")
