"""The grammar of a matching key's value, the same for every protocol: text becomes alternatives, or a refusal.

Strict, because a value that is cut or guessed at is a question about another patient: a control character, half a UID
or a date outside the calendar is refused, in words that never repeat what was sent. `*` alone and nothing at all ask
for any value (PS3.4 C.2.2.2.3). Pure.
"""

from __future__ import annotations

import re
from datetime import date

from gateway.model.errors import InvalidRequest, RequestTooLarge
from gateway.model.settings import Limits

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UID = re.compile(r"[0-9.]{1,64}")
_UID_SEPARATOR = re.compile(r"[,\\]+")
_CODE_SEPARATOR = re.compile(r"[,\\]")
_DATE_RANGE = re.compile(r"([0-9]{8})?(-)?([0-9]{8})?")
_TIME = r"(?:[01][0-9]|2[0-3])(?:[0-5][0-9](?:(?:[0-5][0-9]|60)(?:\.[0-9]{1,6})?)?)?"
_TIME_RANGE = re.compile(rf"({_TIME})?(-)?({_TIME})?")
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,12}")
_MATCHED_AS_TEXT = frozenset({"LT", "ST", "UT"})


def has_control_character(text: str) -> bool:
    """Whether a text holds what no name, number or description holds."""
    return _CONTROL.search(text) is not None


def is_uid(text: str) -> bool:
    """Whether a text is a whole UID: 1 to 64 digits and full stops."""
    return _UID.fullmatch(text) is not None


def alternatives(vr: str, text: str, limits: Limits) -> tuple[str, ...] | None:
    """The values that a key of this VR matches, any of them; None: universal matching.

    Raises `InvalidRequest` or `RequestTooLarge`.
    """
    if vr not in ("UI", "CS") and len(text) > limits.key_value_chars_max:
        raise RequestTooLarge(f"a value is longer than {limits.key_value_chars_max} characters")
    text = text.strip(" ")
    # `*` means "any" wherever a viewer puts it, be its VR one with wildcards or not.
    if not text.strip("*"):
        return None
    match vr:
        case "UI":
            return _uids(text, limits)
        case "CS":
            return _codes(text, limits)
        case "DA":
            _check_range(_DATE_RANGE, text, "a date is YYYYMMDD or a range of such")
            _check_dates(text)
        case "TM":
            _check_range(_TIME_RANGE, text, "a time is HHMMSS or a range of such")
        case "IS":
            if not _WHOLE_NUMBER.fullmatch(text):
                raise InvalidRequest("a number must be a whole number of at most 12 digits")
        case _:
            if "\\" in text and vr not in _MATCHED_AS_TEXT:
                raise InvalidRequest("only UIDs and code strings may be given as a list")
    return (text,)


def _uids(text: str, limits: Limits) -> tuple[str, ...] | None:
    uids = dict.fromkeys(part for part in map(str.strip, _UID_SEPARATOR.split(text)) if part)
    if len(uids) > limits.uid_list_max:
        raise RequestTooLarge(f"more than {limits.uid_list_max} UIDs in a list")
    if not all(map(is_uid, uids)):
        raise InvalidRequest("a UID must be 1 to 64 digits and full stops")
    return tuple(uids) or None


def _codes(text: str, limits: Limits) -> tuple[str, ...] | None:
    if len(text) > limits.key_value_chars_max:
        raise RequestTooLarge(f"a value is longer than {limits.key_value_chars_max} characters")
    codes = tuple(dict.fromkeys(part for part in map(str.strip, _CODE_SEPARATOR.split(text)) if part))
    return codes if codes and "*" not in codes else None


def _check_range(grammar: re.Pattern[str], text: str, refusal: str) -> None:
    matched = grammar.fullmatch(text)
    if matched is None:
        raise InvalidRequest(refusal)
    first, dash, last = matched.groups()
    if not (first or last) or (first and last and not dash):
        raise InvalidRequest(refusal)


def _check_dates(text: str) -> None:
    for digits in filter(None, text.split("-")):
        try:
            date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
        except ValueError as error:
            raise InvalidRequest("a date is not in the calendar") from error
