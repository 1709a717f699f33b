"""What a caller accepts, read with patience: media types, parameters, weights, and the `accept` query parameter.

Viewers send unquoted types with slashes, the same parameter twice, and several ranges in one line (a corpus of
real headers stands in the tests). Whatever cannot be read is passed over; only a list in which nothing can be made is
refused (PS3.18 8.7.5, RFC 9110 12.5). Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.model.errors import NotAcceptable

DICOM_JSON = "application/dicom+json"
JSON = "application/json"

_PART = re.compile(r'((?:[^,;"]|"(?:[^"\\]|\\.)*"?)*)([,;]?)', re.DOTALL)
_TYPE = re.compile(r"([a-z0-9!#$&^_.+*-]+)/([a-z0-9!#$&^_.+*-]+)")
_WEIGHT = re.compile(r"(?:0(?:\.[0-9]*)?|\.[0-9]+|1(?:\.0*)?)")
_RANGES_MAX = 64


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One range of an Accept header, in lower case; `weight` 0 means "not this"."""

    type: str
    subtype: str
    weight: float
    parameters: tuple[tuple[str, str], ...] = ()

    def specificity(self, media_type: str) -> int:
        """How closely this range names `media_type`: 3 exactly, 2 its type, 1 anything, 0 not at all."""
        if f"{self.type}/{self.subtype}" == media_type:
            return 3
        if self.subtype != "*":
            return 0
        if self.type == "*":
            return 1
        return 2 if media_type.startswith(self.type + "/") else 0


def media_ranges(header: str) -> list[MediaRange]:
    """Read an Accept header (or the `accept` parameter) as far as it can be read; raises nothing."""
    ranges: list[MediaRange] = []
    parts: list[str] = []
    for match in _PART.finditer(header):
        parts.append(match.group(1).strip())
        if match.group(2) == ";":
            continue
        if (media_range := _media_range(parts)) is not None:
            ranges.append(media_range)
        parts = []
        if match.group(2) == "" or len(ranges) == _RANGES_MAX:
            break
    return ranges


def json_type(header: str | None, parameter: str | None = None) -> str:
    """The JSON media type to answer with: what is preferred most, DICOM JSON where there is a choice.

    The `accept` query parameter overrides the header (PS3.18 8.3.3.1). Raises `NotAcceptable`.
    """
    # A bare plus sign in a query string arrives as a space.
    wanted = parameter.replace(" ", "+") if parameter else header
    ranges = media_ranges(wanted or "")
    if not ranges:
        return DICOM_JSON
    weights = {media_type: _weight(ranges, media_type) for media_type in (DICOM_JSON, JSON)}
    best = max(weights, key=lambda media_type: weights[media_type])
    if weights[best] == 0:
        raise NotAcceptable(f"only {DICOM_JSON} and {JSON} can be made here")
    return best


def accepts_gzip(header: str | None) -> bool:
    """Whether an Accept-Encoding header names gzip, itself or by `*`, with a weight above nothing."""
    by_name: dict[str, float] = {}
    for item in (header or "").lower().split(",")[:_RANGES_MAX]:
        name, _, rest = item.partition(";")
        key, _, weight = rest.partition("=")
        by_name[name.strip()] = _number(weight.strip()) if key.strip() == "q" else 1.0
    return by_name.get("gzip", by_name.get("x-gzip", by_name.get("*", 0.0))) > 0


def _media_range(parts: list[str]) -> MediaRange | None:
    matched = _TYPE.fullmatch(parts[0].lower())
    if matched is None:
        return None
    weight = 1.0
    parameters = []
    for part in parts[1:]:
        name, _, value = part.partition("=")
        name, value = name.strip().lower(), value.strip().strip('"')
        if name == "q":
            weight = _number(value)
        elif name:
            parameters.append((name, value))
    return MediaRange(matched.group(1), matched.group(2), weight, tuple(parameters))


def _weight(ranges: list[MediaRange], media_type: str) -> float:
    """The weight of the range that names the type most closely (RFC 9110 12.5.1)."""
    closest = max(ranges, key=lambda each: (each.specificity(media_type), each.weight))
    return closest.weight if closest.specificity(media_type) else 0.0


def _number(text: str) -> float:
    """A weight; one that cannot be read counts as full, for the range itself was readable."""
    return float(text) if _WEIGHT.fullmatch(text) else 1.0
