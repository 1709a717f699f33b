"""Attribute matching of PS3.4 C.2.2.2, written apart from the gateway's matcher so that each can check the other.

Keys come from a C-FIND identifier or from QIDO parameters. A patient is found by any of their identifiers: the local
number, or one of Other Patient IDs Sequence, each with its issuer, as hospitals do that hold the NHS number. Pure.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

_WILDCARD_VRS: Final = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
_PATIENT_ID: Final = Tag("PatientID")
_ISSUER_OF_PATIENT_ID: Final = Tag("IssuerOfPatientID")


@dataclass(frozen=True, slots=True)
class Key:
    """One attribute to match: several values mean any of them, none means universal; `item` is a sequence's item."""

    tag: int
    vr: str
    values: tuple[str, ...]
    item: tuple["Key", ...] = ()


def keys_of(identifier: Dataset) -> list[Key]:
    """The keys of a C-FIND identifier; of a sequence its first item counts."""
    keys = []
    for element in identifier:
        if element.VR == "SQ":
            item = tuple(keys_of(element.value[0])) if element.value else ()
            keys.append(Key(element.tag, "SQ", (), item))
        else:
            keys.append(Key(element.tag, element.VR, texts(element)))
    return keys


def texts(element: DataElement) -> tuple[str, ...]:
    """The element's values as text; empty if it has none."""
    if element.VM == 0 or element.VR == "SQ":
        return ()
    values: Iterable[object] = element.value if element.VM > 1 else (element.value,)
    return tuple(str(value).strip(" \0") for value in values)


def matches(row: Dataset, keys: Sequence[Key]) -> bool:
    """True if the row satisfies every key."""
    identity = [key for key in keys if key.tag in (_PATIENT_ID, _ISSUER_OF_PATIENT_ID)]
    others = (key for key in keys if key.tag not in (_PATIENT_ID, _ISSUER_OF_PATIENT_ID))
    return all(_satisfies(row, key) for key in others) and _is_known_as(row, identity)


def _is_known_as(row: Dataset, keys: Sequence[Key]) -> bool:
    """One identifier must satisfy number and issuer together: a local `1234` is nobody's NHS number."""
    return any(all(_satisfies(identifier, key) for key in keys) for identifier in (row, *_other_identifiers(row)))


def _other_identifiers(row: Dataset) -> Iterable[Dataset]:
    for item in row.get("OtherPatientIDsSequence") or ():
        yield item
        # The issuer may also be asked by its universal identifier (PS3.3 C.7.1.1, Table 10-18).
        for qualifiers in item.get("IssuerOfPatientIDQualifiersSequence") or ():
            universal = Dataset()
            universal.PatientID = item.get("PatientID", "")
            universal.IssuerOfPatientID = qualifiers.get("UniversalEntityID", "")
            yield universal


def _satisfies(row: Dataset, key: Key) -> bool:
    if key.vr == "SQ":
        if not any(part.values or part.item for part in key.item):
            return True
        return any(all(_satisfies(item, part) for part in key.item) for item in row.get(key.tag, _NOTHING).value or ())
    wanted = [value for value in key.values if value]
    if not wanted or (key.vr in _WILDCARD_VRS and "*" in wanted):
        return True
    present = texts(row[key.tag]) if key.tag in row else ()
    return any(_value_matches(key.vr, pattern, value) for pattern in wanted for value in present if value)


_NOTHING: Final = DataElement(Tag("OtherPatientIDsSequence"), "SQ", [])


def _value_matches(vr: str, pattern: str, value: str) -> bool:
    match vr:
        case "DA" | "TM" | "DT" if "-" in pattern:
            low, _, high = pattern.partition("-")
            low_reached = not low or low.ljust(6, "0") <= value.ljust(6, "0")
            return low_reached and (not high or value.ljust(6, "0") <= high.ljust(6, "9"))
        case "IS" | "DS" | "US" | "UL" | "SS" | "SL":
            try:
                return float(pattern) == float(value)
            except ValueError:
                return False
        case "PN":
            return _like(_comparable_name(pattern), _comparable_name(value))
        case _ if vr in _WILDCARD_VRS:
            return _like(pattern, value)
        case _:
            return pattern == value


def _comparable_name(name: str) -> str:
    return "=".join(group.rstrip("^ ").casefold() for group in name.rstrip("=").split("="))


def _like(pattern: str, value: str) -> bool:
    """Wild card matching: `*` is any text, `?` any one character, everything else itself."""
    parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern)
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None
