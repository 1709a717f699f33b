"""Storage commitment as it stands on the wire: requests and reports, to bytes and back (PS3.4 J.3.2 and J.3.3).

Strict about what a transaction is and of which instances, for whoever reads it deletes files by it; every other
attribute is passed over unread. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum

from dimse.elements import encode_dataset
from gateway.instances.encoding.structure import DatasetError, Raw, Walk, inflated, syntax_of
from gateway.model.attributes import keyword_of
from gateway.model.imaging import Element, JsonValue
from gateway.model.keys import is_uid
from gateway.model.work.commitments import CommitmentReport, CommitmentRequest, Reference

REQUEST_ACTION = 1
ALL_COMMITTED, SOME_FAILED = 1, 2
"""Event types."""

_TRANSACTION = "00081195"
_REFERENCED, _FAILED = "00081199", "00081198"
_CLASS, _INSTANCE, _REASON = "00081150", "00081155", "00081197"
_ELEMENT_BYTES_MIN, _REASON_BYTES = 8, 2
_ASCII = ("ISO_IR 6",)
_Elements = dict[int, Raw]


class CommitmentStatus(IntEnum):
    """The statuses that we give to N-ACTION and N-EVENT-REPORT (PS3.7 C)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    INVALID_ARGUMENT = 0x0115
    NO_SUCH_ACTION = 0x0123
    NOT_AUTHORISED = 0x0124
    RESOURCE_LIMITATION = 0x0213


class UnreadableCommitment(ValueError):
    """Why a request or a report cannot be read, in words that repeat nothing of it."""


def parse_request(body: bytes, transfer_syntax: str, bytes_max: int) -> CommitmentRequest:
    """Read the argument of an N-ACTION; raises `UnreadableCommitment` and nothing else."""
    elements = _elements(body, transfer_syntax, bytes_max)
    references = [_reference(item) for item in _items(elements, _REFERENCED)]
    if not references:
        raise UnreadableCommitment(f"{keyword_of(_REFERENCED)} is missing or empty")
    if len({each.sop_uid for each in references}) < len(references):
        raise UnreadableCommitment("an instance is named twice")
    return CommitmentRequest(_uid(elements, _TRANSACTION), tuple(references))


def parse_report(body: bytes, transfer_syntax: str, bytes_max: int) -> CommitmentReport:
    """Read the argument of an N-EVENT-REPORT; raises `UnreadableCommitment` and nothing else.

    An instance that is named both as committed and as failed has failed.
    """
    elements = _elements(body, transfer_syntax, bytes_max)
    is_little = syntax_of(transfer_syntax).is_little
    failed = tuple((_reference(item), _reason(item, is_little=is_little)) for item in _items(elements, _FAILED))
    not_committed = {reference.sop_uid for reference, _ in failed}
    named = (_reference(item) for item in _items(elements, _REFERENCED))
    committed = tuple(each for each in named if each.sop_uid not in not_committed)
    return CommitmentReport(_uid(elements, _TRANSACTION), committed, failed)


def encode_request(request: CommitmentRequest, transfer_syntax: str) -> bytes:
    """The argument of an N-ACTION."""
    return encode_dataset(
        {_TRANSACTION: _element("UI", request.transaction_uid), _REFERENCED: _sequence(map(_item, request.instances))},
        transfer_syntax,
        _ASCII,
    )


def encode_report(report: CommitmentReport, transfer_syntax: str) -> bytes:
    """The argument of an N-EVENT-REPORT: no empty list, as its event type wants it."""
    elements = {_TRANSACTION: _element("UI", report.transaction_uid)}
    if report.committed:
        elements[_REFERENCED] = _sequence(map(_item, report.committed))
    if report.failed:
        elements[_FAILED] = _sequence(_failed_item(reference, reason) for reference, reason in report.failed)
    return encode_dataset(elements, transfer_syntax, _ASCII)


def event_type_of(report: CommitmentReport) -> int:
    """Whether anything failed, as the event says it."""
    return SOME_FAILED if report.failed else ALL_COMMITTED


def _item(reference: Reference) -> dict[str, JsonValue]:
    return {
        _CLASS: {"vr": "UI", "Value": [reference.sop_class_uid]},
        _INSTANCE: {"vr": "UI", "Value": [reference.sop_uid]},
    }


def _failed_item(reference: Reference, reason: int) -> dict[str, JsonValue]:
    return {**_item(reference), _REASON: {"vr": "US", "Value": [reason]}}


def _element(vr: str, value: JsonValue) -> Element:
    return {"vr": vr, "Value": [value]}


def _sequence(items: Iterable[JsonValue]) -> Element:
    return {"vr": "SQ", "Value": [*items]}


def _elements(body: bytes, transfer_syntax: str, bytes_max: int) -> _Elements:
    try:
        syntax = syntax_of(transfer_syntax)
        if syntax.is_deflated:
            body = inflated(body, bytes_max)
        return _by_tag(Walk(syntax, body, elements_max=bytes_max // _ELEMENT_BYTES_MIN).elements())
    except DatasetError as error:
        raise UnreadableCommitment(str(error)) from None


def _by_tag(elements: Iterable[Raw]) -> _Elements:
    found: _Elements = {}
    for element in elements:
        if element.tag in found:
            raise UnreadableCommitment("an attribute is given twice")
        found[element.tag] = element
    return found


def _items(elements: _Elements, tag: str) -> Iterator[_Elements]:
    found = elements.get(int(tag, 16))
    if found is None:
        return iter(())
    if found.items is None:
        if found.value:
            raise UnreadableCommitment(f"{keyword_of(tag)} is no sequence")
        return iter(())
    return map(_by_tag, found.items)


def _reference(item: _Elements) -> Reference:
    return Reference(_uid(item, _CLASS), _uid(item, _INSTANCE))


def _uid(elements: _Elements, tag: str) -> str:
    found = elements.get(int(tag, 16))
    if found is None or found.items is not None:
        raise UnreadableCommitment(f"{keyword_of(tag)} is missing")
    uid = found.value.decode("ascii", errors="replace").strip(" \0")
    if not is_uid(uid):
        raise UnreadableCommitment(f"{keyword_of(tag)} is not a UID")
    return uid


def _reason(item: _Elements, *, is_little: bool) -> int:
    """What an archive gives as its reason; one that it leaves out, or writes wrongly, is a failure all the same."""
    found = item.get(int(_REASON, 16))
    if found is None or len(found.value) != _REASON_BYTES:
        return 0
    return int.from_bytes(found.value, "little" if is_little else "big")
