"""FHIR R4 resources as they came, and what their references mean (R4 2.3, 3.1): in a bundle, contained, or by name.

Nothing is fetched: a reference that leads out of what came is a name at best. Values are lines of plain characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import orjson

from gateway.feeds.hl7.escapes import line
from gateway.model.imaging import JsonValue

Resource = Mapping[str, JsonValue]

ENTRIES_MAX = 2_000
REPORTS_MAX = 200
"""In one bundle: they are filed together, and everybody else who writes waits for as long."""
ITEMS_MAX = 1_000
VALUE_CHARS_MAX = 200
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
NOTHING: Resource = {}


class NotAReport(Exception):
    """What came cannot be read as a report; the words never repeat it. `code` is one of R4's issue types."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Received:
    """All that came in one request."""

    resources: tuple[Resource, ...]
    by_reference: Mapping[str, Resource] = field(repr=False)
    timestamp: str = ""
    """When a bundle was made."""

    @property
    def reports(self) -> tuple[Resource, ...]:
        """The reports among them."""
        return tuple(each for each in self.resources if each.get("resourceType") == "DiagnosticReport")

    def resolve(self, reference: Resource, within: Resource) -> Resource:
        """What a reference leads to, contained in `within` or beside it; an empty resource where it leads out."""
        target = text(reference, "reference")
        if target.startswith("#"):
            return next((each for each in items(within, "contained") if text(each, "id") == target[1:]), NOTHING)
        return self.by_reference.get(target.split("/_history/")[0], NOTHING) if target else NOTHING


def read(raw: bytes) -> Received:
    """A report or a bundle of resources; raises `NotAReport`."""
    try:
        whole = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise NotAReport("structure", "what came is not JSON") from error
    if not isinstance(whole, dict):
        raise NotAReport("structure", "what came is no resource")
    match whole.get("resourceType"):
        case "DiagnosticReport":
            return Received((whole,), {})
        case "Bundle":
            return _bundle(whole)
        case _:
            raise NotAReport("not-supported", "what came is neither a DiagnosticReport nor a Bundle")


def child(resource: Resource, name: str) -> Resource:
    """An element; empty where there is none, or it is no element."""
    value = resource.get(name)
    return value if isinstance(value, dict) else NOTHING


def items(resource: Resource, name: str) -> tuple[Resource, ...]:
    """The elements of a list; raises `NotAReport` where there are more than anybody needs."""
    value = resource.get(name)
    if not isinstance(value, list):
        return ()
    if len(value) > ITEMS_MAX:
        raise NotAReport("too-costly", f"an element stands more than {ITEMS_MAX} times")
    return tuple(each for each in value if isinstance(each, dict))


def text(resource: Resource, name: str) -> str:
    """A value as one line; empty where there is none, or it is no string."""
    value = resource.get(name)
    return line(value, "\0", {}, "utf-8")[:VALUE_CHARS_MAX] if isinstance(value, str) else ""


def long_text(resource: Resource, name: str) -> str:
    """A value of many lines or of great length, as it came."""
    value = resource.get(name)
    return value if isinstance(value, str) else ""


def identifiers(resource: Resource, kind: str) -> Iterator[str]:
    """Values of the identifiers of a kind (table 0203: FILL, PLAC, ACSN)."""
    for each in items(resource, "identifier"):
        if kind in codes(child(each, "type")) and (value := text(each, "value")):
            yield value


def codes(concept: Resource) -> tuple[str, ...]:
    """The codes of a CodeableConcept."""
    return tuple(filter(None, (text(coding, "code") for coding in items(concept, "coding"))))


def id_of(resource: Resource) -> str:
    """Its id; empty where it has none that is one."""
    found = text(resource, "id")
    return found if _ID.fullmatch(found) else ""


def _bundle(bundle: Resource) -> Received:
    entries = bundle.get("entry")
    if not isinstance(entries, list) or len(entries) > ENTRIES_MAX:
        raise NotAReport("structure", f"the bundle has no entries, or more than {ENTRIES_MAX}")
    resources: list[Resource] = []
    by_reference: dict[str, Resource] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not (resource := child(entry, "resource")):
            raise NotAReport("structure", "an entry of the bundle has no resource")
        names = {text(entry, "fullUrl"), f"{text(resource, 'resourceType')}/{id_of(resource) or '?'}"} - {""}
        for name in names:
            if not name.endswith("/?") and by_reference.setdefault(name, resource) is not resource:
                raise NotAReport("duplicate", "two entries of the bundle have one name")
        resources.append(resource)
    received = Received(tuple(resources), by_reference, text(bundle, "timestamp"))
    if not received.reports:
        raise NotAReport("not-supported", "the bundle holds no DiagnosticReport")
    if len(received.reports) > REPORTS_MAX:
        raise NotAReport("too-costly", f"the bundle holds more than {REPORTS_MAX} reports")
    return received
