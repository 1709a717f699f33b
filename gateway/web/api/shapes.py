"""One shape for a value in both directions: dataclasses to JSON Schema, and JSON into dataclasses, strictly.

What the description promises is what the parser takes, because both are read off the same annotations. Unknown members,
wrong types, instants without a zone and characters that no name or reason has are refused with their place; what was
sent is never repeated. Knows no route.
"""

from __future__ import annotations

import contextlib
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, TypeVar, Union, get_args, get_origin, get_type_hints

from gateway.model.errors import InvalidRequest
from gateway.model.imaging import JsonValue

T = TypeVar("T")

_CONTROL = r"\u0000-\u001f\u007f-\u009f"
PLAIN = rf"^[^{_CONTROL}]*$"
"""Text of one line: no control characters."""
WORDS = rf"^[^ {_CONTROL}]([^{_CONTROL}]*[^ {_CONTROL}])?$"
"""Such a text that says something, without spaces around it."""


@dataclass(frozen=True, slots=True)
class Chars:
    """Bounds of a text."""

    most: int
    least: int = 0
    pattern: str = PLAIN


@dataclass(frozen=True, slots=True)
class Whole:
    """Bounds of a whole number."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Items:
    """Bounds of a list."""

    most: int
    least: int = 0


Bound = Chars | Whole | Items


def schema_of(annotation: object, parts: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The schema of an annotation; dataclasses and enumerations go to `parts` by their names, and are referred to."""
    bare, bound = _unwrapped(annotation)
    origin = get_origin(bare)
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(present(bare), parts), {"type": "null"}]}
    if origin is tuple:
        listed: dict[str, JsonValue] = {"type": "array", "items": schema_of(get_args(bare)[0], parts)}
        return listed | ({"maxItems": bound.most, "minItems": bound.least} if isinstance(bound, Items) else {})
    assert isinstance(bare, type)
    if is_dataclass(bare) or issubclass(bare, StrEnum):
        if bare.__name__ not in parts:
            parts[bare.__name__] = {}
            parts[bare.__name__] = _named(bare, parts)
        return {"$ref": f"#/components/schemas/{bare.__name__}"}
    return _plain(bare, bound)


def parsed(kind: type[T], value: object) -> T:
    """The value as `kind`, a dataclass; raises `InvalidRequest` with the place of what is wrong."""
    made = _read(kind, value, "")
    assert isinstance(made, kind)
    return made


def parsed_words(kind: type[T], words: Mapping[str, str]) -> T:
    """Parameters of a query, which are all text, as `kind`; raises `InvalidRequest`."""
    hints = _hints(kind)
    value: dict[str, object] = {}
    for name, word in words.items():
        inner, _ = _unwrapped(present(hints.get(name, str)))
        value[name] = int(word) if inner is int and re.fullmatch(r"-?[0-9]{1,9}", word) else word
    return parsed(kind, value)


def text_of(annotation: object, text: str) -> str:
    """A text within the bounds of an annotation; raises `InvalidRequest`."""
    return _read_text(text, _unwrapped(annotation)[1], "the text")


def members(kind: type[object]) -> list[tuple[str, object, bool]]:
    """The members of a dataclass: name, annotation, and whether it must be given."""
    hints = _hints(kind)
    return [(field.name, hints[field.name], _is_needed(field)) for field in _fields(kind)]


def present(annotation: object) -> object:
    """The annotation without its None."""
    if get_origin(annotation) in (Union, types.UnionType):
        (inner,) = (part for part in get_args(annotation) if part is not type(None))
        return inner
    return annotation


def json_of(value: object) -> JsonValue:
    """A view as JSON."""
    match value:
        case None | bool() | int() | float():
            return value
        case StrEnum():
            return value.value
        case str():
            return value
        case datetime() | date():
            return value.isoformat()
        case tuple() | list():
            return [json_of(each) for each in value]
        case _ if is_dataclass(value):
            return {field.name: json_of(getattr(value, field.name)) for field in fields(value)}
        case _:
            raise TypeError(f"{type(value).__name__} has no form in JSON")


def _named(kind: type[object], parts: dict[str, JsonValue]) -> dict[str, JsonValue]:
    words = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    if issubclass(kind, StrEnum):
        return {"type": "string", "enum": [each.value for each in kind], "description": words}
    hints = _hints(kind)
    members = _fields(kind)
    return {
        "type": "object",
        "description": words,
        "properties": {field.name: schema_of(hints[field.name], parts) for field in members},
        "required": [field.name for field in members if _is_needed(field)],
        "additionalProperties": False,
    }


def _plain(kind: type[object], bound: Bound | None) -> dict[str, JsonValue]:
    if issubclass(kind, str):
        limits: dict[str, JsonValue] = {}
        if isinstance(bound, Chars):
            limits = {"minLength": bound.least, "maxLength": bound.most, "pattern": bound.pattern}
        return {"type": "string", **limits}
    if issubclass(kind, bool):
        return {"type": "boolean"}
    if issubclass(kind, int):
        return {
            "type": "integer",
            **({"minimum": bound.least, "maximum": bound.most} if isinstance(bound, Whole) else {}),
        }
    if issubclass(kind, float):
        return {"type": "number"}
    if issubclass(kind, datetime):
        return {"type": "string", "format": "date-time"}
    if issubclass(kind, date):
        return {"type": "string", "format": "date"}
    raise TypeError(f"{kind.__name__} has no schema")


def _read(annotation: object, value: object, place: str) -> object:
    bare, bound = _unwrapped(annotation)
    origin = get_origin(bare)
    if origin in (Union, types.UnionType):
        return None if value is None else _read(present(bare), value, place)
    if origin is tuple:
        return _read_list(get_args(bare)[0], value, bound, place)
    assert isinstance(bare, type)
    if is_dataclass(bare):
        return _read_object(bare, value, place)
    if issubclass(bare, StrEnum):
        if isinstance(value, str) and value in {each.value for each in bare}:
            return bare(value)
        raise InvalidRequest(f"{place}: none of the words that it may be")
    if issubclass(bare, bool):
        return _kind_of(bool, value, place, "true or false")
    if issubclass(bare, int):
        return _read_whole(value, bound, place)
    text = _kind_of(str, value, place, "text")
    if issubclass(bare, datetime):
        return _read_instant(text, place)
    if issubclass(bare, date):
        return _read_day(text, place)
    return _read_text(text, bound, place)


def _read_object(kind: type[object], value: object, place: str) -> object:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{place or 'the body'}: an object is expected")
    hints = _hints(kind)
    members = _fields(kind)
    if value.keys() - {field.name for field in members}:
        raise InvalidRequest(f"{place or 'the body'}: has a member that is not known")
    for field in members:
        if field.name not in value and _is_needed(field):
            raise InvalidRequest(f"{_inside(place, field.name)}: must be given")
    read = {
        field.name: _read(hints[field.name], value[field.name], _inside(place, field.name))
        for field in members
        if field.name in value
    }
    return kind(**read)


def _read_list(inner: object, value: object, bound: Bound | None, place: str) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise InvalidRequest(f"{place}: a list is expected")
    if isinstance(bound, Items) and not bound.least <= len(value) <= bound.most:
        raise InvalidRequest(f"{place}: from {bound.least} to {bound.most} items")
    return tuple(_read(inner, each, f"{place}.{number}") for number, each in enumerate(value))


def _read_whole(value: object, bound: Bound | None, place: str) -> int:
    if isinstance(value, float) and value.is_integer():
        # To JSON Schema 5.0 is a whole number.
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"{place}: a whole number is expected")
    if isinstance(bound, Whole) and not bound.least <= value <= bound.most:
        raise InvalidRequest(f"{place}: must lie between {bound.least} and {bound.most}")
    return value


def _read_text(text: str, bound: Bound | None, place: str) -> str:
    if isinstance(bound, Chars):
        if not bound.least <= len(text) <= bound.most:
            raise InvalidRequest(f"{place}: from {bound.least} to {bound.most} characters")
        if not re.search(bound.pattern, text) or text.endswith("\n"):
            raise InvalidRequest(f"{place}: holds a character that it may not")
    return text


def _read_instant(text: str, place: str) -> datetime:
    # RFC 3339, of which fromisoformat takes more forms than one.
    if re.fullmatch(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", text, re.ASCII):
        with contextlib.suppress(ValueError, OverflowError):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    raise InvalidRequest(f"{place}: an instant with its zone is expected, as RFC 3339 writes it")


def _read_day(text: str, place: str) -> date:
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        with contextlib.suppress(ValueError):
            return date.fromisoformat(text)
    raise InvalidRequest(f"{place}: a day is expected, as 2026-05-03")


def _kind_of(kind: type[T], value: object, place: str, words: str) -> T:
    if not isinstance(value, kind):
        raise InvalidRequest(f"{place}: {words} is expected")
    return value


def _unwrapped(annotation: object) -> tuple[object, Bound | None]:
    if get_origin(annotation) is Annotated:
        bare, *notes = get_args(annotation)
        return bare, next((note for note in notes if isinstance(note, Chars | Whole | Items)), None)
    return annotation, None


def _hints(kind: type[object]) -> Mapping[str, object]:
    return get_type_hints(kind, include_extras=True)


def _fields(kind: type[object]) -> tuple[Field[object], ...]:
    assert is_dataclass(kind)
    return fields(kind)


def _is_needed(field: Field[object]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _inside(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
