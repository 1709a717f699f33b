"""What a lying PACS makes of its answers: rows that are not true, and bodies that are not what they claim.

Rows are falsified before either door encodes them, bodies only for HTTP. Every lie is the same each time, so that a
failing test can be run again. Pure.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import count
from typing import Final

from pydicom.valuerep import PersonName

from gateway.demo.pacs.behaviour import Lie
from gateway.demo.pacs.index import UNIQUE_KEYS, Level, Row, make_row

HUGE_BYTES: Final = 64 * 1024 * 1024
HUGE_ROWS: Final = 20_000
NESTING_LEVELS: Final = 5_000

_IDENTITY: Final = (
    "PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientIDsSequence", "PatientBirthDate", "PatientSex",
)  # fmt: skip
_NOT_STRINGS: Final[tuple[object, ...]] = (0, -1.5e300, None, True, {"Value": {}}, [[["deep"]]], {"vr": 7}, "")


def falsify(lies: frozenset[Lie], level: Level, matched: Sequence[Row], held: Sequence[Row]) -> list[Row]:
    """The rows to answer with, where `matched` are the true ones and `held` all that exist at this level."""
    rows = list(matched)
    if Lie.IGNORES_KEYS in lies:
        rows = list(held)
    if Lie.WRONG_PATIENT in lies:
        true_patients = {_patient(row) for row in matched}
        rows = [row for row in held if _patient(row) not in true_patients]
    if Lie.SAME_UID_OTHER_PATIENT in lies:
        rows = [_with_identity_of(row, held) for row in rows]
    if Lie.IDENTITY_DIFFERS in lies:
        rows = [_changed(row, PatientName="IMPOSTOR^Ian", PatientBirthDate="19010101") for row in rows]
    if Lie.NO_NHS_NUMBER in lies:
        rows = [_without(row, "OtherPatientIDsSequence") for row in rows]
    if Lie.WRONG_COUNTS in lies:
        rows = [_with_wrong_counts(row) for row in rows]
    if Lie.MISSING_UIDS in lies:
        rows = [_without(row, *(UNIQUE_KEYS[each] for each in Level if each > Level.PATIENT)) for row in rows]
    if Lie.BAD_UIDS in lies:
        bad = {UNIQUE_KEYS[each]: "../../etc/passwd" for each in Level if Level.PATIENT < each <= level}
        rows = [_changed(row, **bad) for row in rows]
    if Lie.DUPLICATES in lies:
        rows = [row for row in rows for _ in range(2)]
    return [] if Lie.NOTHING in lies else rows


def many_rows(rows: Sequence[Row], rows_max: int | None) -> Iterator[Row]:
    """The same rows over and over under new UIDs, without end if there is no maximum; nothing for no rows."""
    if not rows:
        return
    for number in count() if rows_max is None else range(rows_max):
        row = rows[number % len(rows)]
        yield _changed(row, **{UNIQUE_KEYS[row.level]: f"2.25.{number + 1}"})


def many_pieces(rows: Sequence[Mapping[str, object]], bytes_max: int | None) -> Iterator[bytes]:
    """A JSON list of the same rows over and over: well-formed to its end, or never ending."""
    block = b",".join(json.dumps(row).encode() for row in rows) or b"{}"
    piece = b",".join([block] * max(1, 65536 // len(block)))
    written = 0
    yield b"["
    while bytes_max is None or written < bytes_max:
        yield piece + b","
        written += len(piece) + 1
    yield block + b"]"


def wrong_types(rows: Iterable[Mapping[str, object]]) -> list[object]:
    """Rows whose values are numbers, objects, lists and nulls where DICOM JSON has strings; one is no object at all."""
    spoiled: list[object] = [
        {
            tag: {"vr": "UI", "Value": _NOT_STRINGS[number % len(_NOT_STRINGS)]}
            if number % 3
            else {"vr": number, "Value": [_NOT_STRINGS[number % len(_NOT_STRINGS)]]}
            for number, tag in enumerate(row)
        }
        for row in rows
    ]
    return [*spoiled, "not a row"]


def deep_nesting(body: bytes) -> bytes:
    """A list whose last row holds sequences in sequences, far deeper than any honest object."""
    opening = b'{"00081199":{"vr":"SQ","Value":['
    nested = opening * NESTING_LEVELS + b"{}" + b"]}}" * NESTING_LEVELS
    separator = b"" if body == b"[]" else b","
    return body[:-1] + separator + nested + b"]"


def garbled(piece: bytes) -> bytes:
    """The piece with every seventh byte replaced, so that it is neither text nor JSON."""
    spoiled = bytearray(piece)
    spoiled[3::7] = b"\xff" * len(spoiled[3::7])
    return bytes(spoiled)


def _patient(row: Row) -> tuple[str, str]:
    return str(row.attributes.get("PatientID", "")), str(row.attributes.get("IssuerOfPatientID", ""))


def _with_identity_of(row: Row, held: Sequence[Row]) -> Row:
    """The row as another patient's, the next one held in the list."""
    others = [other for other in held if _patient(other) != _patient(row)]
    if not others:
        return _changed(row, PatientID="0", PatientName=PersonName("SOMEBODY^Else"))
    other = others[0].attributes
    return _changed(row, **{keyword: other[keyword].value for keyword in _IDENTITY if keyword in other})


def _with_wrong_counts(row: Row) -> Row:
    counts = [element.keyword for element in row.attributes if element.keyword.startswith("NumberOf")]
    return _changed(row, **{keyword: int(row.attributes[keyword].value or 0) + 7 for keyword in counts})


def _changed(row: Row, **values: object) -> Row:
    attributes = deepcopy(row.attributes)
    for keyword, value in values.items():
        setattr(attributes, keyword, value)
    return make_row(row.level, attributes)


def _without(row: Row, *keywords: str) -> Row:
    attributes = deepcopy(row.attributes)
    for keyword in keywords:
        if keyword in attributes:
            del attributes[keyword]
    return make_row(row.level, attributes)
